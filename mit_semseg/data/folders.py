"""Searching a folder and everything below it, also through links."""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

_SYSTEM_FILES = {  # files that systems and network drives create, in lower case
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "#recycle", "@eadir"),
    *("system volume information", "lost+found"),
}


@dataclass
class Tree:
    """The content of a folder and its subfolders. All paths begin with the folder as the caller named it.

    Attributes:
        files: sorted. A link to a file is a file, even if it is broken.
        folders: the folder itself and those below it, sorted.
        above: links to folders that contain the searched one. They are not followed.
        problems: a sentence for each folder that cannot be searched.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def search(root: str | PathLike[str]) -> Tree:
    """The content of a folder, without hidden entries and those of operating systems.

    Linked folders are searched, too. Each real folder is searched once: under its own path if that is
    below ``root``, else under the path of the first link to it. A link to a folder that contains it is not
    followed.
    """
    tree, searched = Tree(), set()
    # Links wait until all real folders next to them are searched under their own paths. Each link comes with
    # the real folders that lead to it.
    waiting: deque[tuple[Path, tuple[str, ...]]] = deque([(Path(root), ())])
    while waiting:
        start, chain = waiting.popleft()
        for folder, below, names in os.walk(start, onerror=lambda error: _report(tree, error)):
            real = os.path.realpath(folder)
            if real in searched:
                below.clear()
                continue
            searched.add(real)
            tree.folders.append(str(Path(folder)))
            before = str(Path(folder, "_"))[:-1]  # a Path for each of a million files would take seconds
            tree.files += [before + name for name in names if not is_ignored(name)]
            inside = []
            for name in sorted(below):
                own = str(Path(real, name))
                target = os.path.realpath(own)
                if is_ignored(name):
                    continue
                if target == own:
                    inside.append(name)
                elif not _is_above(target, (*chain, real)):
                    waiting.append((Path(folder, name), (*chain, real)))
                elif target not in searched:
                    tree.above.append(str(Path(folder, name)))
            below[:] = inside
    tree.files.sort()
    tree.folders.sort()
    return tree


def leads_up(path: str | PathLike[str]) -> bool:
    """Whether a path is a link to a folder that contains the link."""
    return _is_above(os.path.realpath(path), [os.path.realpath(Path(path).parent)])


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or was left by an operating system or a network drive."""
    return name.startswith(".") or is_left_by_system(name)


def is_left_by_system(name: str) -> bool:
    """Whether a file or folder was left by an operating system or a network drive, without being hidden."""
    return name.lower() in _SYSTEM_FILES


def _is_above(folder: str, others: Sequence[str]) -> bool:
    """Whether a real folder is one of the others or contains one of them."""
    return any(Path(other).is_relative_to(folder) for other in others)


def _report(tree: Tree, error: OSError) -> None:
    tree.problems.append(f"{error.filename} cannot be read: {error.strerror}.")
