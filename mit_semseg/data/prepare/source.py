"""Where a dataset comes from: a folder, a zip, a tar, or a folder that holds some of those. Only read."""

import bz2
import gzip
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ...atomic import unwritable
from ...errors import UserError

_ARCHIVE = re.compile(r"\.(zip|tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)
_UNPACKERS = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}


class Source(Protocol):
    """The files of a dataset, by their paths in it, with / between the parts."""

    path: Path
    linkable: bool
    """Whether `local` gives files that stay."""

    def members(self) -> list[str]:
        """All files, sorted; neither hidden ones nor what operating systems leave behind."""
        ...

    def local(self, member: str) -> Any:
        """A context manager that gives a member as a file on the disk, for the time of the block."""
        ...

    def where(self, member: str) -> str:
        """A member, for messages."""
        ...

    def close(self) -> None: ...


class Folder:
    """A folder with all below it, behind symbolic links too."""

    linkable = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> list[str]:
        found, seen = [], set()
        for folder, folders, files in os.walk(self.path, onerror=_unreadable, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back up would be followed for ever
                folders.clear()
                continue
            seen.add(real)
            below = Path(folder).relative_to(self.path).as_posix()
            found += [name if below == "." else f"{below}/{name}" for name in files]
            folders[:] = [name for name in folders if _counts(name)]
        return sorted(name for name in found if _counts(name))

    @contextmanager
    def local(self, member: str) -> Iterator[Path]:
        yield self.path / member

    def where(self, member: str) -> str:
        return str(self.path / member)

    def close(self) -> None:
        pass


class _Archive:
    """What the two kinds of archives share."""

    linkable = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, member: str) -> bytes:
        raise NotImplementedError

    @contextmanager
    def local(self, member: str) -> Iterator[Path]:
        try:
            data = self.read(member)
        except Exception as error:  # zlib, zipfile and tarfile each have errors of their own
            raise UserError(
                f"{self.where(member)} cannot be unpacked ({error}). Fetch {self.path.name} again."
            ) from None
        with tempfile.TemporaryDirectory(prefix="semseg_") as folder:
            path = Path(folder, PurePosixPath(member).name)
            path.write_bytes(data)
            try:
                yield path
            except UserError as error:
                raise UserError(str(error).replace(str(path), self.where(member))) from None

    def where(self, member: str) -> str:
        return f"{self.path}/{member}"


class Zip(_Archive):
    """A zip file. Each process opens it for itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file: zipfile.ZipFile | None = None
        self._names: dict[str, str] = {}

    def _open(self) -> zipfile.ZipFile:
        if self._file is None:
            try:
                self._file = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile as error:
                raise UserError(f"{self.path} is no complete zip file ({error}). Fetch it again.") from None
            files = [name for name in self._file.namelist() if not name.endswith(("/", "\\"))]
            self._names = {_safe(name, self.path): name for name in files}
        return self._file

    def members(self) -> list[str]:
        self._open()
        return sorted(name for name in self._names if _counts(name))

    def read(self, member: str) -> bytes:
        return self._open().read(self._names[member])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None, "_names": {}}


class Tar(_Archive):
    """A tar file, read at any place; a compressed one is unpacked to a plain one while it is used."""

    def __init__(self, path: Path, scratch: Path) -> None:
        super().__init__(path)
        self._plain = path
        self._temporary: str | None = None
        with path.open("rb") as file:
            unpack = _UNPACKERS.get(file.read(2))
        try:
            if unpack is not None:
                self._unpack(unpack, scratch)
            with tarfile.open(self._plain, "r:") as tar:
                self._places = {
                    _safe(info.name, path): (info.offset_data, info.size) for info in tar if info.isreg()
                }
        except (tarfile.TarError, EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
            self.close()
            raise UserError(f"{path} is no complete tar file ({error}). Fetch it again.") from None
        except BaseException:
            self.close()
            raise

    def _unpack(self, unpack: Any, scratch: Path) -> None:
        try:
            handle, self._temporary = tempfile.mkstemp(prefix=".unpacked_", suffix=".tar", dir=scratch)
            self._plain = Path(self._temporary)
            with unpack(self.path, "rb") as packed, os.fdopen(handle, "wb") as plain:
                shutil.copyfileobj(packed, plain, 2**20)
        except OSError as error:
            if error.errno is None:  # the decompressor's
                raise UserError(f"{self.path} is damaged ({error}). Fetch it again.") from None
            raise unwritable(self._plain, error) from error

    def members(self) -> list[str]:
        return sorted(name for name in self._places if _counts(name))

    def read(self, member: str) -> bytes:
        offset, size = self._places[member]
        with self._plain.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise EOFError(f"{len(data)} of {size} bytes")
        return data

    def close(self) -> None:
        if self._temporary is not None:
            Path(self._temporary).unlink(missing_ok=True)
            self._temporary = None


class Several:
    """A folder and the archives in it, as one. Of files at the same path, the first source's counts."""

    linkable = False

    def __init__(self, path: Path, sources: list[Source]) -> None:
        self.path = path
        self._sources = sources
        self._owners: dict[str, Source] = {}

    def members(self) -> list[str]:
        for source in reversed(self._sources):
            self._owners.update(dict.fromkeys(source.members(), source))
        return sorted(self._owners)

    def _owner(self, member: str) -> Source:
        if not self._owners:
            self.members()
        return self._owners[member]

    def local(self, member: str) -> Any:
        return self._owner(member).local(member)

    def where(self, member: str) -> str:
        return self._owner(member).where(member)

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_sources": self._sources, "_owners": {}}


def open_source(path: Path, scratch: Path) -> Source:
    """The source at a path. Raises: UserError if it does not exist or is of no known kind.

    Args:
        scratch: folder for a compressed tar's plain one.
    """
    try:
        if path.is_dir():
            return Folder(path)
        if not path.exists():
            raise UserError(f"{path} does not exist. Name the folder, zip or tar of the dataset.")
        if zipfile.is_zipfile(path):
            return Zip(path)
        if _ARCHIVE.search(path.name):
            return Zip(path) if path.suffix.lower() == ".zip" else Tar(path, scratch)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    raise UserError(f"{path} is neither a folder nor a zip or tar.")


def with_archives(folder: Folder, scratch: Path) -> Source | None:
    """A folder together with the archives that lie directly in it; None if there are none."""
    archives = sorted(path for path in folder.path.iterdir() if path.is_file() and _ARCHIVE.search(path.name))
    if not archives:
        return None
    sources: list[Source] = [folder]
    try:
        for path in archives:
            sources.append(open_source(path, scratch))
    except BaseException:
        for source in sources:
            source.close()
        raise
    return Several(folder.path, sources)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}.")


def _counts(name: str) -> bool:
    """Whether a file is the dataset's: neither hidden nor left behind by an operating system."""
    parts = name.split("/")
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts) and parts[
        -1
    ].lower() not in (
        "thumbs.db",
        "desktop.ini",
    )


def _safe(name: str, archive: Path) -> str:
    """The name of an archive's member with / between its parts. Raises: UserError if it leads outside."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise UserError(
            f'{archive} holds a file named "{name}", which leads out of the folder it is unpacked to. '
            f"Such an archive is not to be trusted; nothing was unpacked."
        )
    return "/".join(part for part in parts if part not in ("", "."))
