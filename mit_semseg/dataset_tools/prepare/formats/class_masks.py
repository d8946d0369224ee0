"""One mask file for each class of an image.

The class is in the path of the mask, in one of these ways, for ``images/a.jpg``: ``masks/car/a.png``,
``masks/a/car.png``, or ``masks/a_car.png``. Pixels that are not 0 belong to it.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator

from ....data.files import IMAGE_EXTENSIONS
from ....errors import UserError
from ..drawn import Classes, Drawn
from ..layout import SourceFile, layouts
from ..names import read_names
from ..release import PrepareOptions, Release
from ..shape_labels import views
from ..shape_release import release_of
from ..shapes import MaskFile, Shape
from ..source import SourceFolder

_Key = tuple[str, ...]
_WORD = re.compile(r"^(mask|label|seg)[_\-. ]|[_\-. ](mask|label|seg)$", re.IGNORECASE)


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """The classes are the names in the paths, sorted, or those of --names; masks lie in that order."""
    classes = Classes(by_name=True)
    return release_of(
        source,
        options,
        _drawn(source, options),
        classes,
        wanted="images/a.jpg with masks/car/a.png, masks/a/car.png or masks/a_car.png",
    )


def masks_of_images(
    source: SourceFolder, options: PrepareOptions
) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Image -> (class, mask) pairs, and the masks of no image, by the rule that fits most masks."""
    members = [name for name in source.members if name.lower().endswith(IMAGE_EXTENSIONS)]
    images, masks = next(iter(layouts(members, options)), ([], []))
    member_of = {file.key(file.stem): file.member for file in images}
    keys = set(member_of)
    best: dict[str, tuple[str, str]] = {}
    for rule in (_by_class_folder, _by_image_folder, _by_name):
        found = {file.member: match for file in masks if (match := rule(file, keys))}
        if len(found) > len(best):
            best = {mask: (member_of[key], name) for mask, (key, name) in found.items()}
    by_image: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for mask, (image, name) in best.items():
        by_image[image].append((name, mask))
    return by_image, [file.member for file in masks if file.member not in best]


def _drawn(source: SourceFolder, options: PrepareOptions) -> Iterator[Drawn]:
    by_image, alone = masks_of_images(source, options)
    order = list(read_names(options.names).table.names) if options.names is not None else []
    for image, masks in sorted(by_image.items()):
        masks.sort(key=lambda one: (order.index(one[0]) if one[0] in order else -1, one))
        drawn = Drawn(masks[0][1], [image])
        for name, mask in masks:
            path = source.file(mask)
            if drawn.size is None:
                with contextlib.suppress(UserError):  # reported when the image is converted
                    drawn.size = views(path)[0]
            drawn.shapes.append(Shape(name, (MaskFile(mask),)))
        yield drawn
    if by_image:
        for mask in alone:
            source.file(mask)
            yield Drawn(mask, (), problems=["the mask belongs to no image"])


def _by_class_folder(mask: SourceFile, images: set[_Key]) -> tuple[_Key, str] | None:
    *folder, stem = mask.key(mask.stem)
    for place in reversed(range(len(folder))):
        key = (*folder[:place], *folder[place + 1 :], stem)
        if key in images:
            return key, folder[place]
    return None


def _by_image_folder(mask: SourceFile, images: set[_Key]) -> tuple[_Key, str] | None:
    *folder, stem = mask.key(mask.stem)
    key = tuple(folder)
    if key not in images:
        return None
    return key, _WORD.sub("", stem.removeprefix(key[-1] + "_"))


def _by_name(mask: SourceFile, images: set[_Key]) -> tuple[_Key, str] | None:
    *folder, stem = mask.key(mask.stem)
    for end in reversed([match.start() for match in re.finditer(r"[_\-. ]", stem)]):
        key = (*folder, stem[:end])
        name = _WORD.sub("", stem[end + 1 :])
        if key in images and name:
            return key, name
    return None
