"""Expanding ``~`` and variables in paths that no shell has expanded: from configs and between quotes."""

import os
import re
from collections.abc import Callable
from functools import partial
from os import PathLike, fspath
from pathlib import Path

from ..errors import UserError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([^}]*)\})")


class PathError(ValueError):
    """A path that cannot be expanded. The text ends a sentence that begins with the path."""


def expand(path: str) -> str:
    """A path with ``~`` and ``~name`` at its beginning, ``$NAME`` and ``${NAME}`` replaced.

    Names that exist are not changed: in ``a/$b/c``, an existing folder ``a/$b`` keeps its name.

    Raises: PathError for a variable that is not set or empty, and for a user that the machine does not know.
    """
    kept = _existing(path)
    rest = path[len(kept) :]
    if not kept and rest.startswith("~"):
        user = rest.partition("/")[0].partition(os.sep)[0]
        home = os.path.expanduser(user)  # noqa: PTH111 - pathlib has no form for a part of a path
        if home == user:
            raise PathError(
                f"but no home folder is known for {user!r}. Write the full path, or ./{rest} for a name that "
                "begins with ~"
            )
        kept, rest = home, rest[len(user) :]
    return kept + _VARIABLE.sub(_value, rest)


def expand_argument(path: str | PathLike[str], what: str) -> str:
    """`expand` for the argument or file that ``what`` names. Raises: UserError instead of PathError."""
    try:
        return expand(fspath(path))
    except PathError as error:
        raise UserError(f"{what} is {fspath(path)!r}, {error}.") from None


def is_possible(path: str) -> bool:
    """Whether a path can exist: not an empty one, or one with a character that no name of a file has."""
    try:
        return bool(path) and "\0" not in path and bool(os.fsencode(path))
    except UnicodeEncodeError:  # such as half of a surrogate pair
        return False


def resolved(path: str | PathLike[str]) -> Path:
    """The absolute path without links. A loop of links is kept; `Path.resolve` raises RuntimeError for it."""
    return Path(os.path.realpath(path))


def length_before(folder: Path) -> int:
    """How many characters of a path are before its part relative to a folder.

    >>> "photos/sub/a.jpg"[length_before(Path("photos")) :]
    'sub/a.jpg'
    """
    return len(str(folder / "_")) - 1


class Resolver:
    """Real paths of many files, for a time in which no link changes: the links of a folder are followed once.

    `os.path.realpath` asks the system for each part of each path, which takes most of the time for a million.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}
        self._there: dict[str, bool] = {}

    def folder(self, path: str) -> str:
        """The real path of a folder."""
        known = self._folders.get(path)
        if known is None:
            known = self._folders[path] = os.path.realpath(path)
        return known

    def __call__(self, path: str | PathLike[str]) -> str:
        """The real path of a file, as `resolved` gives it."""
        folder, name = os.path.split(fspath(path))
        if name in ("", os.curdir, os.pardir):
            return os.path.realpath(path)
        real = os.path.join(self.folder(folder), name)  # noqa: PTH118 - Path takes five times as long
        if not self._is_there(folder) or not os.path.islink(real):  # noqa: PTH114
            return real
        return os.path.realpath(real)

    def exists(self, path: str) -> bool:
        """Whether there is a file, also if it is a broken link."""
        return self._is_there(os.path.dirname(path)) and os.path.lexists(path)  # noqa: PTH120

    def _is_there(self, folder: str) -> bool:
        """Whether a folder exists. The system is asked once, not for each of the files in it."""
        known = self._there.get(folder)
        if known is None:
            known = self._there[folder] = os.path.isdir(folder or os.curdir)  # noqa: PTH112
        return known


def argument(what: str) -> Callable[[str], str]:
    """A type for argparse: `expand_argument` for the argument that ``what`` names."""
    return partial(expand_argument, what=what)


def _existing(path: str) -> str:
    """The longest prefix of a path that has a ``~`` or ``$`` but exists literally; "" if there is none."""
    end = len(path)
    while end > 0:
        beginning = path[:end]
        if not (beginning.startswith("~") or "$" in beginning):
            break
        if os.path.lexists(beginning):
            return beginning
        end = max(beginning.rstrip(os.sep).rfind(os.sep), 0)
    return ""


def _value(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    if not name:
        raise PathError("but ${} names no variable. Write the full path")
    value = os.environ.get(name, "")
    if not value:
        state = "is empty" if name in os.environ else "is not set"
        raise PathError(
            f"but the environment variable {name} {state}. Set it, or write the full path. (A $ in a name is "
            "kept if the file or folder exists)"
        )
    return value
