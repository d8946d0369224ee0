"""Which files are images and which are labels, by the names of their folders and their own names."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .release import PrepareOptions
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
class SourceFile:
    """A member of the source and its folder, by which it is matched."""

    member: str
    folder: tuple[str, ...]
    """Without the part that says whether it is an image or a label."""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.member).stem

    def key(self, stem: str) -> tuple[str, ...]:
        """What an image and its label have in common, whichever way the file system encodes accents."""
        return tuple(unicodedata.normalize("NFC", part) for part in (*self.folder, stem))


Layout = tuple[list[SourceFile], list[SourceFile]]
"""Images and labels."""


def image_stem(stem: str) -> str:
    """An image's name without a prefix or suffix that marks images (``a_sat``)."""
    return _IMAGE_HEAD.sub("", _IMAGE_TAIL.sub("", stem, count=1), count=1)


def label_stem(stem: str) -> str:
    """A label's name without a prefix or suffix that marks labels (``a_mask``)."""
    return _LABEL_HEAD.sub("", _LABEL_TAIL.sub("", stem, count=1), count=1)


def layouts(members: Sequence[str], options: PrepareOptions) -> Iterator[Layout]:
    """The possible layouts, best first. The caller takes the first one that gives pairs."""
    if options.image_folder is not None or options.label_folder is not None:
        yield (
            _of_named_folder(members, options.image_folder, options.label_folder, is_label=False),
            _of_named_folder(members, options.label_folder, options.image_folder, is_label=True),
        )
        return
    images: list[SourceFile] = []
    labels: list[SourceFile] = []
    for member in members:
        is_label, folder = _role_of_member(member)
        if is_label is not None:
            (labels if is_label else images).append(SourceFile(member, folder))
    if images and labels:
        yield _without_common_folders(images, labels)
        return
    paired = _by_paired_folders(members)
    if paired is not None:
        yield paired
    yield _in_one_folder(members, options)
    chosen = {file.member for file in labels}
    if 0 < len(chosen) < len(members):
        yield [_in_its_folder(member) for member in members if member not in chosen], labels


def _in_its_folder(member: str) -> SourceFile:
    return SourceFile(member, tuple(member.split("/")[:-1]))


def _role_of_member(member: str) -> tuple[bool | None, tuple[str, ...]]:
    """The role that a member's folders give it, as `_role_of_folder`, and its folders without that part."""
    *folder, _ = member.split("/")
    # The innermost folder decides: "gt" in data_gt/gt/images/ is only where somebody keeps the data.
    for place in reversed(range(len(folder))):
        is_label, rest = _role_of_folder(folder[place])
        if is_label is not None:
            return is_label, (*folder[:place], *rest, *folder[place + 1 :])
    return None, tuple(folder)


def _role_of_folder(folder: str) -> tuple[bool | None, tuple[str, ...]]:
    """Whether a folder's name stands for labels (True), images (False) or neither, and the rest of the name.

    >>> _role_of_folder("train_masks"), _role_of_folder("images"), _role_of_folder("street")
    ((True, ('train',)), (False, ()), (None, ()))
    """
    name = folder.casefold()
    words = re.split(r"[_\- ]", name)
    for part, rest in ((name, []), (words[-1], words[:-1]), (words[0], words[1:])):
        if part in _LABEL_FOLDERS or part in _IMAGE_FOLDERS:
            return part in _LABEL_FOLDERS, ("_".join(rest),) if rest else ()
    return None, ()


def _of_named_folder(
    members: Sequence[str], name: str | None, other: str | None, *, is_label: bool
) -> list[SourceFile]:
    """The files below the folder that the user names, or else all files that are not below the ``other`` one.

    If only the other folder is named, files in a folder of the other role are dropped, unless nothing else
    remains.
    """
    if name is not None:
        return _below(members, name)
    below = {file.member for file in _below(members, other or "")}
    rest = {member: _role_of_member(member) for member in members if member not in below}
    found = [
        SourceFile(member, folder) for member, (role, folder) in rest.items() if role in (None, is_label)
    ]
    return found or [_in_its_folder(member) for member in rest]


def _below(members: Sequence[str], name: str) -> list[SourceFile]:
    """The files below a folder of the source, at any depth."""
    wanted = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    found = []
    for member in members:
        folder = tuple(member.split("/")[:-1])
        for start in range(len(folder) - len(wanted) + 1):
            if folder[start : start + len(wanted)] == wanted:
                found.append(SourceFile(member, folder[:start] + folder[start + len(wanted) :]))
                break
    return found


def _without_common_folders(images: list[SourceFile], labels: list[SourceFile]) -> Layout:
    """Without the outer folders that all files share, such as the release's own."""
    folders = {file.folder for file in (*images, *labels)}
    shortest = min(map(len, folders))
    common = 0
    while common < shortest and len({folder[common] for folder in folders}) == 1:
        if split_of_folder(next(iter(folders))[common]):
            break
        common += 1
    return (
        [SourceFile(file.member, file.folder[common:]) for file in images],
        [SourceFile(file.member, file.folder[common:]) for file in labels],
    )


def _by_paired_folders(members: Sequence[str]) -> Layout | None:
    """Folders side by side, such as train and train_labels (or trainannot)."""
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
            labels.append(SourceFile(member, images_of[folder]))
        elif folder in images_of.values():
            images.append(SourceFile(member, folder))
    return _without_common_folders(images, labels)


def _in_one_folder(members: Sequence[str], options: PrepareOptions) -> Layout:
    """Images and labels in the same folder, told apart by suffix or by extension."""
    files = [_in_its_folder(member) for member in members]
    if options.label_suffix:
        labels = [file for file in files if file.stem.endswith(options.label_suffix)]
    else:
        labels = [file for file in files if label_stem(file.stem) != file.stem]
    if not labels:
        pngs = [file for file in files if file.member.lower().endswith(".png")]
        others = {file.key(file.stem) for file in files if not file.member.lower().endswith(".png")}
        labels = [file for file in pngs if file.key(file.stem) in others]
    if not labels:
        return files, []
    chosen = {file.member for file in labels}
    return _without_common_folders([file for file in files if file.member not in chosen], labels)
