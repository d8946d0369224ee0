"""Finding the images that annotation files name, and the split that a path stands for."""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from ...data.files import IMAGE_EXTENSIONS
from .splits import split_of_folder


class ImageFinder:
    """Finds the members that a tool's files name."""

    def __init__(self, members: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for member in members:
            if member.lower().endswith(IMAGE_EXTENSIONS):
                self._by_name[_key(posixpath.basename(member))].append(member)

    def find(self, said: str, near: str, split: str = "") -> list[str]:
        """The members that a path may mean: as it is, relative to a folder, or by as much of its end as fits.

        Among several, those in the folder of the same split are preferred.
        """
        said = _key(posixpath.normpath(said.replace("\\", "/")))
        rivals = self._by_name.get(posixpath.basename(said), [])
        exact = [member for member in rivals if _key(member) in (said, _key(posixpath.join(near, said)))]
        if len(rivals) < 2 or len(exact) == 1:
            return exact or rivals
        parts = said.split("/")
        for start in range(len(parts)):
            end = "/" + "/".join(parts[start:])
            fitting = [member for member in rivals if f"/{_key(member)}".endswith(end)]
            if fitting:
                of_split = [member for member in fitting if split and split_of_folders(member) == split]
                return of_split or fitting
        return rivals


def split_of_file(member: str) -> str:
    """The split that the folders of a file, or else words in its name, stand for; "" for none.

    >>> split_of_file("annotations/instances_val2017.json")
    'validation'
    """
    folder, name = posixpath.split(member)
    words = re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())
    return split_of_words(folder.split("/")) or split_of_words(words)


def split_of_folders(member: str) -> str:
    return split_of_words(member.split("/")[:-1])


def split_of_words(words: Iterable[str]) -> str:
    """The split that the first of some words stands for, such as train2017."""
    return next((split for word in words if (split := split_of_folder(re.sub(r"[\d_-]+$", "", word)))), "")


def _key(path: str) -> str:
    """A path whichever way the file system encodes accents."""
    return unicodedata.normalize("NFC", path)
