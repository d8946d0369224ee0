"""Files in shards: tar files that hold the images and labels of a list, each read by its place.

A list names a member of a shard as ``training-000000.tar#1536+48211/photo.jpg``: the tar file, the offset
and the size of the member in bytes, and its name. So any image is one read away, in any order, and the tar
file is never searched. `mit-semseg data shards` writes both.
"""

import re
import tarfile
from io import BytesIO, RawIOBase
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .files import missing, regular

_MEMBER = re.compile(r"(?P<shard>.*\.tar)#(?P<offset>[0-9]+)\+(?P<size>[0-9]+)[/\\](?P<name>.+)", re.DOTALL)
_BLOCK = tarfile.BLOCKSIZE
_LONGEST_NAME = tarfile.LENGTH_NAME  # bytes; of longer names, the header has only the start
_AGAIN = "Write the shards again, or fetch this one again, with its list."


class Member(NamedTuple):
    """A file in a shard. Offset and size of its content are in bytes."""

    shard: Path
    offset: int
    size: int
    name: str


class ShardError(UserError):
    """A shard that is missing or does not hold a member at its place.

    Args:
        kind: "missing", "truncated" or "unreadable".
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)  # these are pickled
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return self.text


def member_path(shard: str, offset: int, size: int, name: str) -> str:
    """The path of a member in a list.

    >>> member_path("training-000000.tar", 1536, 48211, "photo.jpg")
    'training-000000.tar#1536+48211/photo.jpg'
    """
    return f"{shard}#{offset}+{size}/{name}"


def member_of(path: str | PathLike[str]) -> Member | None:
    """The member that a path names; None for the path of a file.

    >>> member_of("training-000000.tar#1536+48211/photo.jpg")[1:]
    (1536, 48211, 'photo.jpg')
    """
    text = fspath(path)
    found = _MEMBER.fullmatch(text) if ".tar#" in text else None
    if found is None:
        return None
    return Member(Path(found["shard"]), int(found["offset"]), int(found["size"]), found["name"])


def file_on_disk(path: str | PathLike[str]) -> Path:
    """The shard of a member; the path itself for a file."""
    member = member_of(path)
    return Path(path) if member is None else member.shard


def opened(path: str | PathLike[str]) -> Path | BytesIO:
    """What decoders open: the path of a file, or the content of a member.

    Raises: UserError for a pipe or a device; otherwise as `read_member`.
    """
    member = member_of(path)
    return regular(path) if member is None else BytesIO(read_member(member))


def content_of(path: str | PathLike[str]) -> bytes:
    """The bytes of a file or of a member. Raises: OSError for a file; otherwise as `opened`."""
    member = member_of(path)
    return regular(path).read_bytes() if member is None else read_member(member)


def read_member(member: Member) -> bytes:
    """The content of a member, if its header, which precedes it, still has its name and size.

    Raises: ShardError for a shard that is missing, cut off, or has changed.
    """
    shard, offset, size, name = member
    try:
        # Not kept open: a process may use thousands of shards, and a fork must not share their positions.
        with regular(shard).open("rb", buffering=0) as file:
            file.seek(max(0, offset - _BLOCK))
            data = _read(file, _BLOCK + size)
    except FileNotFoundError:
        raise ShardError("missing", f"{missing(shard)} It is a shard of the dataset.") from None
    except OSError as error:
        raise ShardError("unreadable", f"{shard} cannot be read: {error.strerror}.") from None
    if len(data) < _BLOCK + size:
        held = shard.stat().st_size
        raise ShardError(
            "truncated",
            f"{shard} is truncated: it has {held:,} bytes, but its member {name} ends at byte "
            f"{offset + size:,}. {_AGAIN}",
        )
    if not _is_header_of(member, data[:_BLOCK]):
        raise ShardError(
            "unreadable",
            f"{shard} has changed: its member {name} of {size:,} bytes is not at byte {offset:,}. {_AGAIN}",
        )
    return data[_BLOCK:]


def _read(file: RawIOBase, count: int) -> bytes:
    """Up to ``count`` bytes: one read of the system may give fewer."""
    parts, left = [], count
    while left and (part := file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _is_header_of(member: Member, block: bytes) -> bool:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    if header.size != member.size:
        return False
    whole = member.name.isascii() and len(member.name) <= _LONGEST_NAME
    return header.name == member.name if whole else True
