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

from ..errors import ContentError
from ..runtime.files import state_of
from .file_cache import FileCache
from .files import missing, regular
from .remote import Address, address_of, fetched, forget

_MEMBER = re.compile(r"(?P<shard>.*\.tar)#(?P<offset>[0-9]+)\+(?P<size>[0-9]+)[/\\](?P<name>.+)", re.DOTALL)
_BLOCK = tarfile.BLOCKSIZE
_LONGEST_NAME = tarfile.LENGTH_NAME  # bytes; of longer names, the header has only the start
_AGAIN = "Write the shards again, or fetch this one again, with its list."


class Member(NamedTuple):
    """A file in a shard. Offset and size of its content are in bytes."""

    shard: Path | Address
    offset: int
    size: int
    name: str


class ShardError(ContentError):
    """A shard that is missing or does not hold a member at its place."""


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
    cache = path.cache if isinstance(path, Address) else None
    shard = address_of(found["shard"], cache) or Path(found["shard"])
    return Member(shard, int(found["offset"]), int(found["size"]), found["name"])


def located(root: str | PathLike[str], listed: str, cache: FileCache | None = None) -> Path | Address:
    """The file, member or address that a list names.

    Args:
        root: folder or address that names in the list are relative to.
        listed: a path, which may be absolute, or an address.
        cache: of addresses; None for the default one.
    """
    if address := address_of(listed, cache):
        return address
    base = address_of(root, cache)
    if base is None or Path(listed).is_absolute():
        return Path(root, listed)
    if member := member_of(listed):
        shard = base.joined(fspath(member.shard))
        return Address(member_path(shard, member.offset, member.size, member.name), base.cache)
    return base.joined(listed)


def file_on_disk(path: str | PathLike[str]) -> Path | None:
    """The shard of a member; the path itself for a file; None for an address."""
    member = member_of(path)
    file = path if member is None else member.shard
    return None if address_of(file) else Path(file)


def state_of_content(path: str | PathLike[str]) -> list[int] | None:
    """As `state_of`, for the file or the shard that is read.

    At an address, content counts as unchanging, and asking for its state would cost a request for each file.
    """
    file = file_on_disk(path)
    return [0, 0] if file is None else state_of(file)


def opened(path: str | PathLike[str]) -> Path | BytesIO:
    """What decoders open: the path of a file, or the content of a member or an address.

    Raises: UserError for a pipe or a device; otherwise as `content_of`.
    """
    content = _content(path)
    return regular(path) if content is None else BytesIO(content)


def content_of(path: str | PathLike[str]) -> bytes:
    """The bytes of a file, a member or an address.

    Raises: OSError for a file; ContentError for an address; otherwise as `opened` and `read_member`.
    """
    content = _content(path)
    return regular(path).read_bytes() if content is None else content


def _content(path: str | PathLike[str]) -> bytes | None:
    """The bytes of a member or an address; None for a file."""
    if member := member_of(path):
        return read_member(member)
    address = address_of(path)
    return None if address is None else fetched(address)


def read_member(member: Member) -> bytes:
    """The content of a member, if its header, which precedes it, still has its name and size.

    Raises: ShardError for a shard that is missing, cut off, or has changed.
    """
    shard, offset, size, name = member
    data = _read_remote(member) if isinstance(shard, Address) else _read_local(member)
    if not _is_header_of(member, data[:_BLOCK]):
        raise ShardError(
            "unreadable",
            f"{shard} has changed: its member {name} of {size:,} bytes is not at byte {offset:,}. {_AGAIN}",
        )
    return data[_BLOCK:]


def _read_remote(member: Member) -> bytes:
    """A member and its header. Only these bytes are fetched and kept.

    A whole shard would be a thousand images for one: batches are drawn from all shards, so most of a shard
    would be removed from a bounded cache before it is read.
    """
    shard, offset, size, name = member
    assert isinstance(shard, Address)
    key = Address(member_path(shard, offset, size, name), shard.cache)
    data = fetched(key, (shard, max(0, offset - _BLOCK), _BLOCK + size))
    if not _is_header_of(member, data[:_BLOCK]):
        forget(key)
    return data


def _read_local(member: Member) -> bytes:
    """A member and its header. Raises: ShardError for a shard that is missing or cut off."""
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
        held = Path(shard).stat().st_size
        raise ShardError(
            "truncated",
            f"{shard} is truncated: it has {held:,} bytes, but its member {name} ends at byte "
            f"{offset + size:,}. {_AGAIN}",
        )
    return data


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
