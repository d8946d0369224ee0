"""Which files of a source are images and which are labels, by their folders and the ends of their names."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .options import Options
from .splits import split_of_folder

_IMAGE_FOLDERS = {
    *("images", "image", "imgs", "img", "jpegimages", "photos", "rgb", "pictures", "input", "inputs"),
    *("leftimg8bit", "raw", "img_dir", "stillsraw"),
}
_LABEL_FOLDERS = {
    *("labels", "label", "annotations", "annotation", "annots", "annot", "ann", "masks", "mask"),
    *("gt", "gts", "groundtruth", "ground_truth", "gtfine", "labelids", "target", "targets", "seg"),
    *("segmentation", "segmentations", "segmentationclass", "segmaps", "semantic", "ann_dir"),
    *("segmentation_masks", "annotations_png"),
}
_LABEL_WORD = r"(color_mask|masks?|labels?|labelids|gt|segm?|segmentation|annot(ation)?s?|groundtruth|l)"
_IMAGE_WORD = r"(images?|img|sat|rgb|photo|leftimg8bit|raw|im)"
_LABEL_TAIL = re.compile(rf"[_\-. ]{_LABEL_WORD}$", re.IGNORECASE)
_LABEL_HEAD = re.compile(rf"^{_LABEL_WORD}[_\-. ]", re.IGNORECASE)
_IMAGE_TAIL = re.compile(rf"[_\-. ]{_IMAGE_WORD}$", re.IGNORECASE)
_IMAGE_HEAD = re.compile(rf"^{_IMAGE_WORD}[_\-. ]", re.IGNORECASE)
_LABEL_FOLDER_TAIL = re.compile(r"^(.+?)[_\- ]?(masks?|labels?|gt|segm?|annot(ation)?s?)$", re.IGNORECASE)


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


Sides = tuple[list[File], list[File]]
"""Images and labels."""


def image_stem(stem: str) -> str:
    """An image's name without a beginning or an end that says that it is one (``a_sat``)."""
    return _IMAGE_HEAD.sub("", _IMAGE_TAIL.sub("", stem, count=1), count=1)


def label_stem(stem: str) -> str:
    """A label's name without a beginning or an end that says that it is one (``a_mask``)."""
    return _LABEL_HEAD.sub("", _LABEL_TAIL.sub("", stem, count=1), count=1)


def sides_of(members: Sequence[str], options: Options) -> Iterator[Sides]:
    """What the images and the labels may be, one answer after the other until one gives pairs."""
    if options.image_folder is not None or options.label_folder is not None:
        yield (
            _named(members, options.image_folder, options.label_folder, is_label=False),
            _named(members, options.label_folder, options.image_folder, is_label=True),
        )
        return
    images: list[File] = []
    labels: list[File] = []
    for member in members:
        is_label, folder = _place(member)
        if is_label is not None:
            (labels if is_label else images).append(File(member, folder))
    if images and labels:
        yield without_common(images, labels)
        return
    beside = _by_folder_pairs(members)
    if beside is not None:
        yield beside
    yield _in_one_folder(members, options)
    chosen = {file.member for file in labels}
    if 0 < len(chosen) < len(members):
        yield [_file(member) for member in members if member not in chosen], labels


def _file(member: str) -> File:
    return File(member, tuple(member.split("/")[:-1]))


def _place(member: str) -> tuple[bool | None, tuple[str, ...]]:
    """What a member's folders say that it is, as `_role`, and its folders without the one that says so."""
    *folder, _ = member.split("/")
    # The innermost says it: "gt" in data_gt/gt/images/ is just where somebody keeps it.
    for place in reversed(range(len(folder))):
        is_label, rest = _role(folder[place])
        if is_label is not None:
            return is_label, (*folder[:place], *rest, *folder[place + 1 :])
    return None, tuple(folder)


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


def _named(members: Sequence[str], name: str | None, other: str | None, *, is_label: bool) -> list[File]:
    """The files of one side: those below its folder, else what is not below the folder of the other side.

    Of the latter, files whose folders say that they are of the other side do not count, if there are more.
    """
    if name is not None:
        return _below(members, name)
    below = {file.member for file in _below(members, other or "")}
    rest = {member: _place(member) for member in members if member not in below}
    found = [File(member, folder) for member, (said, folder) in rest.items() if said in (None, is_label)]
    return found or [_file(member) for member in rest]


def _below(members: Sequence[str], name: str) -> list[File]:
    """The files below a folder of the source, wherever it lies."""
    wanted = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    found = []
    for member in members:
        folder = tuple(member.split("/")[:-1])
        for start in range(len(folder) - len(wanted) + 1):
            if folder[start : start + len(wanted)] == wanted:
                found.append(File(member, folder[:start] + folder[start + len(wanted) :]))
                break
    return found


def without_common(images: list[File], labels: list[File]) -> Sides:
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


def _by_folder_pairs(members: Sequence[str]) -> Sides | None:
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
    return without_common(images, labels)


def _in_one_folder(members: Sequence[str], options: Options) -> Sides:
    """Images and labels beside each other."""
    files = [_file(member) for member in members]
    if options.label_suffix:
        labels = [file for file in files if file.stem.endswith(options.label_suffix)]
    else:
        labels = [file for file in files if label_stem(file.stem) != file.stem]
    if not labels:
        jpegs = {file.key(file.stem) for file in files if not file.member.lower().endswith(".png")}
        labels = [
            file for file in files if file.member.lower().endswith(".png") and file.key(file.stem) in jpegs
        ]
    chosen = {file.member for file in labels}
    return (
        without_common([file for file in files if file.member not in chosen], labels)
        if labels
        else (files, [])
    )
