"""Images and labels that belong together, by their paths."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..files import IMAGE_EXTENSIONS
from .options import Options
from .release import Example, nothing_found, some
from .source import Source
from .splits import split_of_folder

_IMAGE_FOLDERS = {
    *("images", "image", "imgs", "img", "jpegimages", "photos", "rgb", "pictures", "input", "inputs"),
    *("leftimg8bit", "raw", "img_dir", "stillsraw"),
}
_LABEL_FOLDERS = {
    *(
        "labels",
        "label",
        "annotations",
        "annotation",
        "annots",
        "annot",
        "masks",
        "mask",
        "gt",
        "groundtruth",
    ),
    *("ground_truth", "segmentation", "segmentations", "segmentationclass", "segmaps", "seg", "target"),
    *("targets", "gtfine", "ann_dir", "labelids", "ann", "segmentation_masks", "annotations_png"),
}
_LABEL_WORD = r"(color_mask|masks?|labels?|labelids|gt|segm?|segmentation|annot(ation)?s?|groundtruth|l)"
_IMAGE_WORD = r"(images?|img|sat|rgb|photo|leftimg8bit|raw|im)"
_LABEL_TAIL = re.compile(rf"[_\-. ]{_LABEL_WORD}$", re.IGNORECASE)
_LABEL_HEAD = re.compile(rf"^{_LABEL_WORD}[_\-. ]", re.IGNORECASE)
_IMAGE_TAIL = re.compile(rf"[_\-. ]{_IMAGE_WORD}$", re.IGNORECASE)
_IMAGE_HEAD = re.compile(rf"^{_IMAGE_WORD}[_\-. ]", re.IGNORECASE)
_LABEL_FOLDER_TAIL = re.compile(r"^(.+?)[_\- ]?(masks?|labels?|gt|segm?|annot(ation)?s?)$", re.IGNORECASE)

_Stem = Callable[[str], str]


@dataclass(frozen=True)
class File:
    """A member of the source and where it stands among its kind."""

    member: str
    folder: tuple[str, ...]
    """Without the part that says whether it is an image or a label."""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.member).stem

    def key(self, stem: str) -> tuple[str, ...]:
        """What an image and its label share, however the file system spells accents."""
        return tuple(unicodedata.normalize("NFC", part) for part in (*self.folder, stem))


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
    ``_mask``. Folders called train, val or test say the split.

    Raises: NothingFoundError if there is not one pair.
    """
    members = [name for name in source.members() if name.lower().endswith(IMAGE_EXTENSIONS)]
    images, labels = _sides(members, options)
    matched, alone, unused = _match(images, labels, options)
    if not matched:
        if images and labels:
            wanted = (
                f"image with a label of its name ({len(images)} images such as {images[0].member}, "
                f"{len(labels)} labels such as {labels[0].member}; --label-suffix _x makes a_x.png a.jpg's)"
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
    notes = [f"{tests} images of the test part are left out."] if tests else []
    problems = []
    rivals: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for file in unused:
        rivals[file.key(_bare(file.stem, _LABEL_TAIL, _LABEL_HEAD))].append(source.where(file.member))
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


def _split(image: File) -> tuple[str, str]:
    """The split that an image's folders say, and its name without them."""
    split, folder = "", []
    for part in image.folder:
        said = None if split else split_of_folder(part)
        split = said or split
        if said is None:
            folder.append(part)
    return split, "/".join([*folder, image.stem])


def _sides(members: Sequence[str], options: Options) -> tuple[list[File], list[File]]:
    """Images and labels."""
    if options.image_folder is not None or options.label_folder is not None:
        return (
            _below(members, options.image_folder, options.label_folder),
            _below(members, options.label_folder, options.image_folder),
        )
    images: list[File] = []
    labels: list[File] = []
    for member in members:
        *folder, _ = member.split("/")
        # The innermost says it: "gt" in data_gt/gt/images/ is just where somebody keeps it.
        for place in reversed(range(len(folder))):
            is_label, rest = _role(folder[place])
            if is_label is not None:
                file = File(member, (*folder[:place], *rest, *folder[place + 1 :]))
                (labels if is_label else images).append(file)
                break
    if images and labels:
        return _without_common(images, labels)
    return _by_folder_pairs(members) or _in_one_folder(members, options)


def _role(folder: str) -> tuple[bool | None, tuple[str, ...]]:
    """Whether a folder's name speaks of labels (True), images (False) or neither, and what else it says.

    >>> _role("train_masks"), _role("images"), _role("street")
    ((True, ('train',)), (False, ()), (None, ()))
    """
    name = folder.casefold()
    words = re.split(r"[_\- ]", name)
    for part, rest in ((name, []), (words[-1], words[:-1]), (words[0], words[1:])):
        if part in _LABEL_FOLDERS or part in _IMAGE_FOLDERS:
            return part in _LABEL_FOLDERS, ("_".join(rest),) if rest else ()
    return None, ()


def _below(members: Sequence[str], name: str | None, other: str | None) -> list[File]:
    """The files below a folder of the source, wherever it lies; without a name, all not below the other."""
    if name is None:
        below = {file.member for file in _below(members, other or "", None)}
        return [File(member, tuple(member.split("/")[:-1])) for member in members if member not in below]
    wanted = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    found = []
    for member in members:
        folder = tuple(member.split("/")[:-1])
        for start in range(len(folder) - len(wanted) + 1):
            if folder[start : start + len(wanted)] == wanted:
                found.append(File(member, folder[:start] + folder[start + len(wanted) :]))
                break
    return found


def _without_common(images: list[File], labels: list[File]) -> tuple[list[File], list[File]]:
    """Without the folders that all have in common, such as the release's own."""
    folders = {file.folder for file in (*images, *labels)}
    shortest = min(map(len, folders))
    common = 0
    while common < shortest and len({folder[common] for folder in folders}) == 1:
        if split_of_folder(next(iter(folders))[common]):
            break
        common += 1
    return (
        [File(file.member, file.folder[common:]) for file in images],
        [File(file.member, file.folder[common:]) for file in labels],
    )


def _by_folder_pairs(members: Sequence[str]) -> tuple[list[File], list[File]] | None:
    """Folders such as train and train_labels (or trainannot) beside each other."""
    folders = {tuple(member.split("/")[:-1]) for member in members}
    images_of = {}
    for folder in folders:
        match = _LABEL_FOLDER_TAIL.match(folder[-1]) if folder else None
        if match and (*folder[:-1], match[1]) in folders:
            images_of[folder] = (*folder[:-1], match[1])
    if not images_of:
        return None
    images, labels = [], []
    for member in members:
        folder = tuple(member.split("/")[:-1])
        if folder in images_of:
            labels.append(File(member, images_of[folder]))
        elif folder in images_of.values():
            images.append(File(member, folder))
    return _without_common(images, labels)


def _in_one_folder(members: Sequence[str], options: Options) -> tuple[list[File], list[File]]:
    """Images and labels beside each other."""
    files = [File(member, tuple(member.split("/")[:-1])) for member in members]
    if options.label_suffix:
        labels = [file for file in files if file.stem.endswith(options.label_suffix)]
    else:
        labels = [file for file in files if _LABEL_TAIL.search(file.stem) or _LABEL_HEAD.search(file.stem)]
    if not labels:
        jpegs = {file.key(file.stem) for file in files if not file.member.lower().endswith(".png")}
        labels = [
            file for file in files if file.member.lower().endswith(".png") and file.key(file.stem) in jpegs
        ]
    chosen = {file.member for file in labels}
    return (
        _without_common([file for file in files if file.member not in chosen], labels)
        if labels
        else (files, [])
    )


def _match(
    images: Sequence[File], labels: Sequence[File], options: Options
) -> tuple[list[tuple[File, File]], list[File], list[File]]:
    """Pairs, then the images and the labels that are left over."""
    matched: list[tuple[File, File]] = []
    alone, unused = list(images), list(labels)
    for image_stem, label_stem in _ways(options):
        if not alone or not unused:
            break
        by_key: dict[tuple[str, ...], list[File]] = defaultdict(list)
        for file in unused:
            by_key[file.key(label_stem(file.stem))].append(file)
        asking: dict[tuple[str, ...], list[File]] = defaultdict(list)
        for file in alone:
            asking[file.key(image_stem(file.stem))].append(file)
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
    return [
        (exact, exact),
        (exact, lambda stem: _bare(stem, _LABEL_TAIL, _LABEL_HEAD)),
        (
            lambda stem: _bare(stem, _IMAGE_TAIL, _IMAGE_HEAD),
            lambda stem: _bare(stem, _LABEL_TAIL, _LABEL_HEAD),
        ),
    ]


def _bare(stem: str, tail: re.Pattern[str], head: re.Pattern[str]) -> str:
    return head.sub("", tail.sub("", stem, count=1), count=1)
