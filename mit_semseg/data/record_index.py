"""The index of a long list: its records as they are in memory, in a file that is mapped instead of read.

Reading ten million lines takes minutes, and their records a gigabyte in each process. The index takes
milliseconds, and the processes of a machine share its pages. It belongs to one state of the list.
"""

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from filelock import FileLock

from ..errors import UserError
from ..runtime.files import replacing, state_of
from ..runtime.log import get_logger

LEAST_BYTES = 64 * 2**20
"""Shorter lists are read in seconds and get no index."""

_LAYOUT = 1  # of the file
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)


class Columns(NamedTuple):
    """Records in a few tensors.

    Attributes:
        text: all paths, concatenated, in UTF-8; (bytes,) uint8.
        bounds: start of the image's path, its end, end of the label's path; (N, 3) int64.
        numbers: width, height, line number; (N, 3) int32.
        places: left, top; (N, 2) int32, or (0, 2) if no record is a window.
    """

    text: torch.Tensor
    bounds: torch.Tensor
    numbers: torch.Tensor
    places: torch.Tensor


class Index:
    """`Columns` that are mapped from a file. A pickle names the file instead of holding them.

    Raises: OSError, ValueError if the file is not a whole index with this description.
    """

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self._arguments = file, about
        with file.open("rb") as stream:
            if json.loads(stream.readline(2**16)) != about:
                raise ValueError(f"{file} is not the index of this state of the list")
            self.text, self.bounds, self.numbers, self.places = (_map(file, stream) for _ in Columns._fields)

    def __reduce__(self) -> Any:
        return Index, self._arguments


def has_index(path: Path) -> bool:
    """Whether a list is so long that it gets an index."""
    return path.is_file() and path.stat().st_size >= LEAST_BYTES


def indexed(path: Path, options: Mapping[str, Any], read: Callable[[], Columns]) -> Columns | Index:
    """The records of a long list, from its index. If there is none for this state of the list, it is written.

    Where the folder cannot be written, the list is read each time, and the log says so.

    Args:
        options: what the records depend on besides the list.
        read: reads the list. Of several processes, one does so, while the others wait.
    """
    wanted = _about(path, options)
    if found := _opened(index_path(path), wanted):
        return found
    lock = index_path(path).with_suffix(".lock")
    try:
        with FileLock(lock):
            # Another process may have written it meanwhile.
            columns = _opened(index_path(path), wanted) or _build(path, wanted, options, read)
        lock.unlink(missing_ok=True)
        return columns
    except OSError as error:
        if error.errno not in _NO_ACCESS:
            raise
    get_logger().info("%s has no index, because its folder cannot be written. Reading the list.", path)
    return read()


def index_path(path: Path) -> Path:
    """The index of a list: a hidden file beside it."""
    return path.with_name(f".{path.name}.index")


def _opened(file: Path, about: Mapping[str, Any]) -> Index | None:
    try:
        return Index(file, about)
    except (OSError, ValueError):
        return None


def _about(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"layout": _LAYOUT, "list": state_of(path), **options}


def _build(
    path: Path, about: dict[str, Any], options: Mapping[str, Any], read: Callable[[], Columns]
) -> Columns | Index:
    file = index_path(path)
    get_logger().info("%s is long. An index makes the next start fast: %s", path, file)
    columns = read()
    if _about(path, options) != about:
        return columns  # the list has changed meanwhile
    try:
        with replacing(file) as stream:
            stream.write(json.dumps(about).encode() + b"\n")
            for column in columns:
                np.lib.format.write_array(stream, column.numpy(), allow_pickle=False)
    except UserError as error:
        get_logger().warning("The index was not written, so the next start reads the list again: %s", error)
        return columns
    return _opened(file, about) or columns


def _map(file: Path, stream: BinaryIO) -> torch.Tensor:
    """The array at the position of a stream, mapped into memory. Raises: ValueError if it is not whole."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(stream)
    if 0 in shape:  # which cannot be mapped
        return torch.from_numpy(np.empty(shape, dtype))
    start = stream.tell()
    # Private pages, which torch may write to, though nothing does. They stay shared until then.
    mapped = np.memmap(file, dtype, "c", start, shape)
    stream.seek(start + mapped.nbytes)
    return torch.from_numpy(mapped)
