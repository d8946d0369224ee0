"""Files that the project ships: configs and class tables, in a checkout or in the installed package."""

from pathlib import Path

from .errors import UserError

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = (_PACKAGE.parent, _PACKAGE / "shipped")  # a checkout; an installed package


def find(path: str | Path, *, suffix: str = "", folder: str = "") -> Path:
    """The file that ``path`` names: as given, else among the files that the project ships.

    Args:
        path: relative to the working directory, or as the project's commands name it (``config/toy.yaml``).
        suffix: may be left out of ``path`` (``.yaml``).
        folder: may be left out of the path of a shipped file (``config``).

    Raises: UserError if there is no such file.
    """
    if not str(path):
        raise UserError(f"'' names no file.{_shipped_names(suffix, folder)}")
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
    except OSError as error:  # a folder on the way that may not be searched, a name too long
        raise UserError(f"{path} can't be read: {error.strerror}.") from error
    raise UserError(f"{path} does not exist.{_shipped_names(suffix, folder)}")


def shipped(suffix: str, folder: str) -> list[Path]:
    """The files of one kind that the project ships: ``shipped(".yaml", "config")``; sorted."""
    for root in _SHIPPED:
        files = sorted((root / folder).glob(f"*{suffix}"))
        if files:
            return files
    return []


def _shipped_names(suffix: str, folder: str) -> str:
    """What the user may have meant: the shipped files of that kind."""
    names = [file.stem for file in shipped(suffix, folder)] if suffix else []
    return f" The project ships: {', '.join(names)}." if names else ""
