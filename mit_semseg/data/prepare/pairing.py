"""Images and labels that belong together, by their paths."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..files import IMAGE_EXTENSIONS
from .options import Options
from .release import Example, nothing_found, some
from .sides import File, image_stem, label_stem, sides_of
from .source import Source
from .splits import split_of_folder

_Stem = Callable[[str], str]
_LOOSE = "Images and labels lie in different folders, so file names alone say which belong together."


@dataclass
class Pairs:
    """Examples, and sentences on what was left out on purpose, and on files that match nothing."""

    examples: list[Example]
    notes: list[str]
    problems: list[str]


def pairs_by_name(source: Source, options: Options) -> Pairs:
    """Matches images and labels.

    Which files are what is said by the options, else by folder names (``images`` and ``labels``, ``train``
    and ``train_labels``), else, in one folder, by ends of names (``a.jpg`` and ``a_mask.png``) or extensions
    (``a.jpg`` and ``a.png``). They match if their names are the same but for an end or a beginning such as
    ``_mask``; in the same folders, or, where that gives no pair, in whatever folders, if names are unique.
    Folders called train, val or test say the split.

    Raises: NothingFoundError if there is not one pair.
    """
    members = [name for name in source.members() if name.lower().endswith(IMAGE_EXTENSIONS)]
    for images, labels in sides_of(members, options):
        images = _ending(images, options.image_suffix)
        labels = _ending(labels, options.label_suffix)
        matched, alone, unused = _match(images, labels, options)
        loose = not matched and _are_distinct(images)
        if loose:
            matched, alone, unused = _match(_loosened(images), _loosened(labels), options)
        if matched:
            break
    else:
        if images and labels:
            wanted = (
                f"image with a label of its name ({len(images)} images such as {images[0].member}, "
                f"{len(labels)} labels such as {labels[0].member}; --label-suffix _x makes a_x.png a.jpg's, "
                f"--image-folder and --label-folder name their folders)"
            )
        else:
            wanted = (
                f"pair of folders such as images/ and labels/ ({len(images)} images and {len(labels)} labels "
                f"found; name the folders with --image-folder and --label-folder)"
            )
        raise nothing_found(source.path, wanted, source.members())
    examples, tests = [], 0
    for image, label in matched:
        split, name = _split(image)
        tests += split == "test"
        if split != "test":
            examples.append(Example(name, label.member, image.member, split))
    notes = [_LOOSE] if loose else []
    notes += [f"{tests} images of the test part are left out."] if tests else []
    problems = []
    rivals: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for file in unused:
        rivals[file.key(label_stem(file.stem))].append(source.where(file.member))
    for file in alone:
        several = rivals.pop(file.key(file.stem), [])
        if len(several) > 1:
            problems.append(
                f"{source.where(file.member)} has several labels: {some(several)}. "
                f"Choose with --label-folder or --label-suffix."
            )
        elif _split(file)[0] != "test":
            problems.append(f"{source.where(file.member)} has no label.")
    problems += [f"{where} is a label without an image." for several in rivals.values() for where in several]
    return Pairs(examples, notes, problems)


def _ending(files: list[File], suffix: str | None) -> list[File]:
    """The files whose names end as the user says; others belong to something else."""
    return [file for file in files if file.stem.endswith(suffix)] if suffix else files


def _are_distinct(images: Sequence[File]) -> bool:
    """Whether images are told apart by split and name alone."""
    return len({file.key(file.stem) for file in _loosened(images)}) == len(images)


def _loosened(files: Sequence[File]) -> list[File]:
    """Files as if they lay in no folder but those that say the split."""
    return [File(file.member, tuple(filter(None, map(split_of_folder, file.folder)))) for file in files]


def _split(image: File) -> tuple[str, str]:
    """The split that an image's folders say, and its name without them."""
    split, folder = "", []
    for part in image.folder:
        said = None if split else split_of_folder(part)
        split = said or split
        if said is None:
            folder.append(part)
    return split, "/".join([*folder, image.stem])


def _match(
    images: Sequence[File], labels: Sequence[File], options: Options
) -> tuple[list[tuple[File, File]], list[File], list[File]]:
    """Pairs, then the images and the labels that are left over."""
    matched: list[tuple[File, File]] = []
    alone, unused = list(images), list(labels)
    for of_image, of_label in _ways(options):
        if not alone or not unused:
            break
        by_key: dict[tuple[str, ...], list[File]] = defaultdict(list)
        for file in unused:
            by_key[file.key(of_label(file.stem))].append(file)
        asking: dict[tuple[str, ...], list[File]] = defaultdict(list)
        for file in alone:
            asking[file.key(of_image(file.stem))].append(file)
        for key, candidates in asking.items():
            # Several images of one name (a.jpg, a.png) are told apart by whoever writes them.
            if len(by_key.get(key, ())) == 1:
                matched += [(file, by_key[key][0]) for file in candidates]
        taken = {file.member for pair in matched for file in pair}
        alone = [file for file in alone if file.member not in taken]
        unused = [file for file in unused if file.member not in taken]
    order = {file.member: place for place, file in enumerate(images)}
    return sorted(matched, key=lambda pair: order[pair[0].member]), alone, unused


def _ways(options: Options) -> list[tuple[_Stem, _Stem]]:
    """What of the names has to agree: all; else all but common ends and beginnings."""

    def exact(stem: str) -> str:
        return stem

    if options.image_suffix or options.label_suffix:
        image_end, label_end = options.image_suffix or "", options.label_suffix or ""
        return [(lambda stem: stem.removesuffix(image_end), lambda stem: stem.removesuffix(label_end))]
    return [(exact, exact), (exact, label_stem), (image_stem, label_stem)]
