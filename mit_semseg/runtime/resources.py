"""Files that come with the project: configs and class tables, in a checkout or in the installed package."""

from pathlib import Path

from ..errors import UserError
from .near_names import did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = (_PACKAGE.parent, _PACKAGE / "shipped")  # a checkout; an installed package


def find(path: str | Path, *, suffix: str = "", folder: str = "") -> Path:
    """The file that ``path`` names: as given, or else a file that comes with the project.

    Args:
        path: relative to the working directory, or as the project's commands name it (``config/toy.yaml``).
        suffix: may be omitted from ``path`` (``.yaml``).
        folder: may be omitted from the path of a shipped file (``config``).

    Raises: UserError if there is no such file.
    """
    if not str(path):
        raise UserError(f"'' does not name a file.{_shipped_names(suffix, folder)}")
    given = Path(path)
    try:
        if given.is_file():
            return given
        if given.is_dir():
            raise UserError(f"{path} is a folder, not a file.{_shipped_names(suffix, folder)}")
        if not given.is_absolute():
            for name in (given, given.with_name(given.name + suffix)):
                for root in _SHIPPED:
                    for candidate in (root / name, root / folder / name):
                        if candidate.is_file():
                            return candidate
    except OSError as error:  # no permission for a folder of the path, or a name that is too long
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    raise UserError(f"{path} does not exist.{did_you_mean(path) or _shipped_names(suffix, folder)}")


def shipped(suffix: str, folder: str) -> list[Path]:
    """The files of one kind that come with the project, sorted: ``shipped(".yaml", "config")``."""
    for root in _SHIPPED:
        files = sorted((root / folder).glob(f"*{suffix}"))
        if files:
            return files
    return []


def _shipped_names(suffix: str, folder: str) -> str:
    """A sentence that lists the shipped files of that kind, one of which the user may have meant."""
    names = [file.stem for file in shipped(suffix, folder)] if suffix else []
    return f" The project ships: {', '.join(names)}." if names else ""
