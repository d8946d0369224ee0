"""Staging: new files wait in a subfolder of the output folder until all of them are complete."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...runtime.files import replacing, unwritable

_FOLDER = ".prepare.part"


@dataclass(frozen=True)
class Staging:
    """The output folder, and a subfolder for new files. Paths are relative to either.

    A file is staged only if it differs from the one in the output folder.
    """

    out: Path

    @property
    def folder(self) -> Path:
        return self.out / _FOLDER

    def write(self, path: str, data: bytes) -> None:
        """Stage a file for ``path``, unless the file there already has these bytes.

        Raises: UserError if the file cannot be written.
        """
        old = self.out / path
        try:
            known = not old.is_symlink() and old.is_file() and old.stat().st_size == len(data)
            if known and old.read_bytes() == data:
                return
        except OSError:
            pass  # a file that cannot be read is written again
        with replacing(self.folder / path) as file:
            file.write(data)

    def link(self, image: Path, path: str) -> bool:
        """Stage a symbolic link to an image, unless it exists; False if the file system has no links."""
        old, new = self.out / path, self.folder / path
        try:
            if old.is_symlink() and os.readlink(old) == str(image):  # noqa: PTH115 - compared as written
                return True
            new.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            new.symlink_to(image)
        except (OSError, NotImplementedError):
            return False
        return True

    def commit(self, last: Sequence[str], gone: Sequence[str] = ()) -> None:
        """Move all staged files to the output folder.

        If another existing file is replaced, the files of ``last`` and ``gone`` are removed first, so that no
        list ever names a mixture of old and new files.

        Args:
            last: files that name other files, such as lists. They are moved after all others.
            gone: such files of an earlier run, which are deleted.

        Raises: UserError if a file cannot be moved or deleted.
        """
        staged = sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        )
        others = [path for path in staged if path not in last]
        place = self.out
        try:
            for path in (*staged, *last, *gone):  # before the first change
                place = self.out / path
                if place.is_dir() and not place.is_symlink():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if any(os.path.lexists(self.out / path) for path in others):
                for path in (*last, *gone):
                    place = self.out / path
                    if path not in staged and place.exists():
                        place.replace(self.folder / path)  # it is unchanged, and returns at the end
                    place.unlink(missing_ok=True)
            for path in (*others, *last):
                place = self.out / path
                if os.path.lexists(self.folder / path):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    (self.folder / path).replace(place)
            for path in gone:
                place = self.out / path
                place.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(place, error) from error


@contextmanager
def staging(out: Path) -> Iterator[Staging]:
    """Inside the block, files can be staged. At its end, files that were not committed are deleted."""
    existed = out.exists()
    staged = Staging(out)
    try:
        _remove(staged.folder)  # of a run that was killed
        yield staged
    finally:
        with suppress(UserError):
            _remove(staged.folder)
        if not existed:
            with suppress(OSError):
                out.rmdir()


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unwritable(folder, error) from error
