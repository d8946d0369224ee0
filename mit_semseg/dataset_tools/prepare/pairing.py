"""Which image belongs to which label: by the release's names (`join`), or by any names (`pair_by_name`)."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...data.files import IMAGE_EXTENSIONS
from .layout import SourceFile, image_stem, label_stem, layouts
from .release import PrepareOptions, SourcePair
from .source import SourceFolder, some
from .splits import split_of_folder

Members = Mapping[tuple[str, str], str]
"""Split and name -> member."""

_Stem = Callable[[str], str]
_LOOSE = "Images and labels are in different folders, so they were matched by file name alone."


@dataclass
class Pairing:
    """Pairs; notes on what was omitted on purpose; problems with files that match nothing."""

    pairs: list[SourcePair]
    notes: list[str]
    problems: list[str]


def join(source: SourceFolder, images: Members, labels: Members, label_kind: str) -> Pairing:
    """Pairs of the same split and name, sorted by both.

    A part that has only images or only labels was not downloaded, and is omitted. A single file without its
    counterpart is a problem.
    """
    parts = {split for split, _ in images.keys() & labels.keys()}
    found = Pairing([], [], [])
    for split in sorted({split for split, _ in (*images, *labels)} - parts):
        there = sum(key[0] == split for key in (*images, *labels))
        missing = "images" if any(key[0] == split for key in labels) else f"{label_kind}s"
        found.notes.append(f"The {split} part has no {missing}, so its {there} files are omitted.")
    for key in sorted(images.keys() | labels.keys()):
        split, name = key
        if split not in parts:
            continue
        if key not in labels:
            found.problems.append(f"{source.where(images[key])} has no {label_kind}.")
        elif key not in images:
            found.problems.append(f"{source.where(labels[key])} has no image.")
        else:
            found.pairs.append(SourcePair(name, labels[key], images[key], split))
    return found


def pair_by_name(source: SourceFolder, options: PrepareOptions) -> Pairing:
    """Pairs found by file names.

    The options say which files are images and which are labels. Without options, folder names do (``images``
    and ``labels``, ``train`` and ``train_labels``), or, in a single folder, suffixes (``a.jpg`` and
    ``a_mask.png``) or extensions (``a.jpg`` and ``a.png``). An image and a label match if their folders are
    equal, and their names too, except for a suffix or prefix such as ``_mask``. If no pair matches,
    folders are ignored, provided that image names are unique. Folders called train, val or test set the
    split.

    Raises: NothingFoundError if no image has a label.
    """
    members = [name for name in source.members if name.lower().endswith(IMAGE_EXTENSIONS)]
    for images, labels in layouts(members, options):
        images = _ending(images, options.image_suffix)
        labels = _ending(labels, options.label_suffix)
        matched, alone, unused = _match(images, labels, options)
        loose = not matched and _are_distinct(images)
        if loose:
            matched, alone, unused = _match(_loosened(images), _loosened(labels), options)
        if matched:
            break
    else:
        raise source.nothing_found(_wanted(images, labels))
    pairs, tests = [], 0
    for image, label in matched:
        split, name = _split(image)
        if split == "test":
            tests += 1
        else:
            pairs.append(SourcePair(name, label.member, image.member, split))
    notes = [_LOOSE] if loose else []
    notes += _choice(members, matched, [*alone, *unused])
    notes += [f"{tests} images of the test part are omitted."] if tests else []
    return Pairing(pairs, notes, _unmatched(source, alone, unused))


def _choice(
    members: Sequence[str], matched: Sequence[tuple[SourceFile, SourceFile]], unmatched: Sequence[SourceFile]
) -> list[str]:
    """Which folders were taken, if other folders hold images, too."""
    used = {file.member for file in (*(file for pair in matched for file in pair), *unmatched)}
    others = Counter(f"{posixpath.dirname(name) or '.'}/" for name in members if name not in used)
    if not others:
        return []
    images, labels = (
        some(sorted({f"{posixpath.dirname(pair[k].member) or '.'}/" for pair in matched})) for k in range(2)
    )
    ignored = some([f"{folder} ({count} file{'s' * (count > 1)})" for folder, count in others.items()])
    return [
        f"Images are those of {images}, labels those of {labels}. Not used: {ignored}. --image-folder and "
        f"--label-folder choose others."
    ]


def _wanted(images: Sequence[SourceFile], labels: Sequence[SourceFile]) -> str:
    if images and labels:
        return (
            f"image with a label of the same name ({len(images)} images such as {images[0].member}, "
            f"{len(labels)} labels such as {labels[0].member}; with --label-suffix _x, a_x.png is the label "
            f"of a.jpg; --image-folder and --label-folder name their folders)"
        )
    return (
        f"pair of folders such as images/ and labels/ ({len(images)} images and {len(labels)} labels "
        f"found; name the folders with --image-folder and --label-folder)"
    )


def _unmatched(source: SourceFolder, images: Sequence[SourceFile], labels: Sequence[SourceFile]) -> list[str]:
    """The problems of the images and labels that are in no pair."""
    problems = []
    rivals: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for file in labels:
        rivals[file.key(label_stem(file.stem))].append(source.where(file.member))
    for file in images:
        several = rivals.pop(file.key(file.stem), [])
        if len(several) > 1:
            problems.append(
                f"{source.where(file.member)} has several labels: {some(several)}. "
                f"Choose with --label-folder or --label-suffix."
            )
        elif _split(file)[0] != "test":
            problems.append(f"{source.where(file.member)} has no label.")
    return problems + [
        f"{where} is a label without an image." for several in rivals.values() for where in several
    ]


def _ending(files: list[SourceFile], suffix: str | None) -> list[SourceFile]:
    """The files whose names end with the user's suffix; the others do not belong to the pairs."""
    return [file for file in files if file.stem.endswith(suffix)] if suffix else files


def _are_distinct(images: Sequence[SourceFile]) -> bool:
    """Whether split and name alone identify each image."""
    return len({file.key(file.stem) for file in _loosened(images)}) == len(images)


def _loosened(files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files without their folders, except for those that give the split."""
    return [SourceFile(file.member, tuple(filter(None, map(split_of_folder, file.folder)))) for file in files]


def _split(image: SourceFile) -> tuple[str, str]:
    """The split that an image's folders give, and its name without them."""
    split, folder = "", []
    for part in image.folder:
        said = None if split else split_of_folder(part)
        split = said or split
        if said is None:
            folder.append(part)
    return split, "/".join([*folder, image.stem])


def _match(
    images: Sequence[SourceFile], labels: Sequence[SourceFile], options: PrepareOptions
) -> tuple[list[tuple[SourceFile, SourceFile]], list[SourceFile], list[SourceFile]]:
    """Pairs, then the images and the labels that remain."""
    matched: list[tuple[SourceFile, SourceFile]] = []
    alone, unused = list(images), list(labels)
    for of_image, of_label in _ways(options):
        if not alone or not unused:
            break
        by_key: dict[tuple[str, ...], list[SourceFile]] = defaultdict(list)
        for file in unused:
            by_key[file.key(of_label(file.stem))].append(file)
        asking: dict[tuple[str, ...], list[SourceFile]] = defaultdict(list)
        for file in alone:
            asking[file.key(of_image(file.stem))].append(file)
        for key, candidates in asking.items():
            # Several images of one name (a.jpg, a.png) are refused later, by their common output path.
            if len(by_key.get(key, ())) == 1:
                matched += [(file, by_key[key][0]) for file in candidates]
        taken = {file.member for pair in matched for file in pair}
        alone = [file for file in alone if file.member not in taken]
        unused = [file for file in unused if file.member not in taken]
    order = {file.member: place for place, file in enumerate(images)}
    return sorted(matched, key=lambda pair: order[pair[0].member]), alone, unused


def _ways(options: PrepareOptions) -> list[tuple[_Stem, _Stem]]:
    """How names are compared: as they are, then without the usual suffixes and prefixes."""

    def exact(stem: str) -> str:
        return stem

    if options.image_suffix or options.label_suffix:
        image_end, label_end = options.image_suffix or "", options.label_suffix or ""
        return [(lambda stem: stem.removesuffix(image_end), lambda stem: stem.removesuffix(label_end))]
    return [(exact, exact), (exact, label_stem), (image_stem, label_stem)]
