"""A folder of bounded size with copies of remote content. Processes and loader workers share it.

A copy is written under a lock, in one step: no process sees a part of it. It is read at once, so another
process may remove it at any time. The copies that were not read for the longest time are removed first.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ..errors import UserError

DEFAULT_GB = 20.0

# The share of the limit to which a full folder shrinks. Each time, all copies are listed.
_LEFT = 0.9
_ATTEMPTS = 5
_DELETED = (FileNotFoundError, FileExistsError)  # while somebody deletes the folder; mkdir raises both
_POLL_S = 0.002  # filelock waits 50 ms by default, but writing a photo takes less than one
_END = struct.Struct("<IQ")  # of each copy: CRC-32 and length of the content
_NAME_LENGTH = 64  # SHA-256 in hex, of which two characters are the name of a subfolder
_PART = ".part"
_TOTAL = ".bytes"
_LOCK = ".lock"


def default_folder() -> Path:
    """The folder without ``DATASET.cache``: beside the downloaded weights, so it follows ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / "mit_semseg_data"


@dataclass(frozen=True)
class FileCache:
    """The copies in a folder.

    Attributes:
        folder: created with the first copy. Other files in it are neither counted nor removed.
        limit: bytes of all copies together. It is never exceeded, and 0 keeps nothing.
    """

    folder: Path
    limit: int

    @classmethod
    def of(cls, options: Any) -> "FileCache":
        """The cache of options with the keys of the section DATASET; missing ones have their default."""
        folder = getattr(options, "cache", "")
        gigabytes: float = getattr(options, "cache_gb", DEFAULT_GB)
        return cls(Path(folder) if folder else default_folder(), int(gigabytes * 1e9))

    def get(self, name: str) -> bytes | None:
        """The content under a name; None without an intact copy: a crash or the disk may have damaged it."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[: -_END.size]
        if data[len(content) :] != _END.pack(zlib.crc32(content), len(content)):
            return None
        with contextlib.suppress(OSError):  # another process has removed it, or the folder is read-only
            os.utime(path)  # most file systems do not note each reading themselves
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a copy, unless it alone exceeds the limit.

        Raises: UserError that names DATASET.cache if the disk is full or the folder cannot be written.
        """
        size = len(content) + _END.size
        if size > self.limit:
            return
        try:
            for attempt in range(_ATTEMPTS):
                with contextlib.suppress(*(_DELETED if attempt < _ATTEMPTS - 1 else ())):
                    self._put(self._path(name), content, size)
                    return
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written: {error.strerror or error}. It is the folder for copies of "
                "remote files. Make room there, set DATASET.cache to another folder, or set DATASET.cache_gb "
                "lower; 0 keeps no copies."
            ) from error

    def _put(self, path: Path, content: bytes, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / _LOCK, poll_interval=_POLL_S):
            total = self._total()
            if total + size > self.limit:
                total = self._shrink(int(_LEFT * self.limit) - size)
            # Before the copy: a process that is killed in between must not make the sum too small.
            (self.folder / _TOTAL).write_text(str(total + size), encoding="ascii")
            part = path.with_name(path.name + _PART)
            try:
                part.write_bytes(content + _END.pack(zlib.crc32(content), len(content)))
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def remove(self, name: str) -> None:
        """Remove a copy, if there is one."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / digest[:2] / digest[2:]

    def _total(self) -> int:
        """At least the bytes of all copies."""
        try:
            total = int((self.folder / _TOTAL).read_text(encoding="ascii"))
        except (OSError, ValueError):
            total = -1
        if total >= 0:
            return total
        return sum(entry.stat().st_size for entry in self._entries())

    def _shrink(self, most: int) -> int:
        """Remove copies until ``most`` bytes are left, or none. Returns the bytes that are left.

        The caller holds the lock, so unfinished copies are those of processes that were killed.
        """
        found = []
        for entry in self._entries():
            with contextlib.suppress(OSError):  # removed meanwhile
                state = entry.stat()
                age = 0 if entry.name.endswith(_PART) else state.st_mtime_ns
                found.append((age, state.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= most:
                break
            with contextlib.suppress(OSError):  # such as on Windows, where a file that is read cannot be
                Path(path).unlink()
                total -= size
        return total

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        """All copies, also unfinished ones, and nothing else that may be in the folder."""
        for number in range(256):
            with contextlib.suppress(OSError), os.scandir(self.folder / f"{number:02x}") as entries:
                yield from (
                    entry for entry in entries if len(entry.name.removesuffix(_PART)) == _NAME_LENGTH - 2
                )
