"""Checkpoint files: their names, safe reading, and atomic saving."""

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ...errors import UserError
from ...runtime.files import replacing
from .tensor_files import SUFFIX, read_tensors

_WEIGHTS_NAME = re.compile(r"(encoder|decoder)_epoch_(0|[1-9][0-9]*)\.pth")
_ZIP = b"PK\x03\x04"
# Flag bits of a zip entry: encrypted, a patch, encrypted in other ways.
_ENCRYPTED = 0x1 | 0x20 | 0x40 | 0x2000
_FOLDER = 0x10  # an attribute of DOS
_CHUNK = 2**20  # bytes


def epoch_path(directory: str | Path, part: str, epoch: int) -> Path:
    """The file in which a run keeps a ``part`` of an epoch: "encoder", "decoder", "history" or "state"."""
    return Path(directory) / f"{part}_epoch_{epoch}.pth"


def newest_epoch(directory: str | Path) -> int | None:
    """The highest epoch with both an encoder and a decoder file in a folder; None if there is none.

    Raises: UserError if the folder cannot be read.
    """
    encoders, decoders = _epochs(directory)
    return max(encoders & decoders, default=None)


def incomplete_epoch(directory: str | Path) -> str:
    """A sentence on the newest epoch in a folder if it lacks its encoder or decoder; "" if it has both.

    Raises: UserError if the folder cannot be read.
    """
    encoders, decoders = _epochs(directory)
    epoch = max(encoders | decoders, default=0)
    if epoch in encoders & decoders or not encoders | decoders:
        return ""
    present, absent = ("encoder", "decoder") if epoch in encoders else ("decoder", "encoder")
    return (
        f"{epoch_path(directory, present, epoch)} has no {epoch_path('', absent, epoch)} beside it. "
        "Copy that too, to use this epoch."
    )


def _epochs(directory: str | Path) -> tuple[set[int], set[int]]:
    """The epochs with an encoder file and those with a decoder file."""
    epochs: dict[str, set[int]] = {"encoder": set(), "decoder": set()}
    try:
        for file in Path(directory).iterdir():
            if match := _WEIGHTS_NAME.fullmatch(file.name):
                epochs[match[1]].add(int(match[2]))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"{directory} cannot be read: {error.strerror}. Make it readable.") from error
    return epochs["encoder"], epochs["decoder"]


def read(path: str | Path) -> Any:
    """The object that ``torch.save`` wrote to a file, zip or legacy pickle, with its tensors on the CPU.

    Only tensors, NumPy arrays and plain containers are unpickled, so a file from elsewhere cannot run code.
    A zip's checksums are compared. Of a ``.safetensors`` file, the object is the dict of its tensors.

    Raises: UserError if the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    first = first_bytes(path)
    if first.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the file itself. Run in its folder: git lfs pull")
    if path.suffix.lower() == SUFFIX:
        return read_tensors(path)
    if first.startswith(_ZIP):
        check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then reads, or raises an error for
            with torch.serialization.safe_globals(_numpy_types()):
                return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise UserError(f"{path} {_diagnosis(path, first, error)}") from error


@cache
def _numpy_types() -> list[Any]:
    """What a pickle of NumPy's numbers and arrays names. Objects in an array are restricted like others."""
    core = getattr(np, "_core", None) or np.core
    functions = [
        _named(function, f"numpy.{package}.multiarray")  # NumPy 2 has renamed the package
        for function in (core.multiarray._reconstruct, core.multiarray.scalar)
        for package in ("core", "_core")
    ]
    kinds = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdFDUSOMm"}
    return [*functions, np.ndarray, np.dtype, *kinds]


def _named(function: Callable[..., Any], module: str) -> Callable[..., Any]:
    """A function under the name that a pickle has for it."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, function.__name__, function.__name__
    return call


def check_archive(path: Path) -> None:
    """Refuse a zip that is not a checkpoint, or that differs from what was written.

    ``torch.load`` does not notice a change, and fills tensors with whatever is in memory where an entry is
    compressed, or smaller than its tensor. The CRC-32 of a file of 192 MB takes 0.11 s of a CPU, and
    ``torch.load`` 0.15 s. An archive without an end is left to ``torch.load`` and its error.
    """
    name = ""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if kind := _other_archive(path, [entry.filename for entry in entries]):
                raise UserError(f"{path} is {kind}")
            size = path.stat().st_size
            if (unpacked := sum(entry.file_size for entry in entries)) > size:
                raise UserError(
                    f"{path} has {size} bytes, but its entries would have {unpacked} when unpacked. "
                    "torch.save compresses nothing, so it did not write this file. Download it again."
                )
            for entry in entries:
                name = entry.filename
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
                    raise ValueError("it is marked as compressed or encrypted, which torch.save never does")
                if entry.is_dir() or entry.external_attr & _FOLDER:
                    raise ValueError("it is marked as a folder, and torch.save writes none")
                if entry.CRC:  # torch.save can be told to write 0 instead of checksums
                    with archive.open(entry) as content:
                        while content.read(_CHUNK):  # at the end, it compares the checksum
                            pass
            name = ""
            _check_sizes(archive)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged archive makes zipfile raise almost anything
        what = f"{name} cannot be read" if name else "its list of entries cannot be read"
        if "CRC" in str(error):
            what = f"the content of {name} does not match its checksum"
        elif str(error):
            what += f" ({error})"
        raise UserError(
            f"{path} is damaged: {what}. Download or copy the file again, or use that of another epoch."
        ) from error


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuse storages whose size is not that of the pickle, which ``torch.load`` does not compare.

    Raises: ValueError that names the first one.
    """
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    pickled = next((name for name in sizes if name.partition("/")[2] == "data.pkl"), "")
    if not pickled:
        return
    entry = archive.getinfo(pickled)
    if not entry.CRC:
        del entry.CRC  # zipfile then compares none
    storages = _Storages(io.BytesIO(archive.read(entry)))
    with contextlib.suppress(Exception), warnings.catch_warnings():  # torch.load says what is wrong with it
        warnings.simplefilter("ignore")  # about the types of storages
        storages.load()
    for key, size in storages.sizes.items():
        name = f"{pickled.removesuffix('data.pkl')}data/{key}"
        if sizes.get(name, size) != size:
            raise ValueError(f"{name} has {sizes[name]} bytes, but its tensors need {size}")


class _Storages(pickle.Unpickler):
    """Reads from a pickle of ``torch.save`` only how large its storages are. It imports and calls nothing.

    Attributes:
        sizes: bytes by the storage's key.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.sizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> type:
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: Any) -> None:
        _, kind, key, _, count = pid
        # An untyped storage counts bytes, a storage of quantized numbers packs several into one.
        if not kind.__name__.startswith("Q"):
            dtype = getattr(getattr(torch, kind.__name__), "dtype", torch.uint8)
            self.sizes[key] = count * dtype.itemsize


class _Inert(dict[Any, Any]):
    """Takes the place of every object in a pickle, and does nothing with what it gets."""

    def __init__(self, *args: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


def _other_archive(path: Path, names: list[str]) -> str:
    """What a zip with these entries is, and what to do; "" for one that ``torch.save`` has written."""
    ends = {name.partition("/")[2] for name in names}
    weights = [name for name in names if name.endswith((".pth", ".pt", ".safetensors"))]
    load = f"(torch.jit.load({str(path)!r}, 'cpu').state_dict(), 'weights.pth')"
    if {"constants.pkl", "data.pkl"} <= ends:
        return f"a TorchScript program, not a checkpoint. Save its weights: torch.save{load}"
    if {"archive_format", "models/model.json"} <= ends or "serialized_exported_program.json" in names:
        load = f"(torch.export.load({str(path)!r}).state_dict, 'weights.pth')"
        return f"a program of torch.export, not a checkpoint. Save its weights: torch.save{load}"
    if ends & {"data.pkl", "version", ".data/serialization_id"}:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return "an .npz file of NumPy arrays, not a checkpoint. Save a dict of tensors with torch.save."
    if weights:
        return f"a zip archive that contains {weights[0]}. Unpack it, and name the unpacked file."
    first = f" (first: {names[0]})" if names else ""
    return f"a zip archive of {len(names)} other files{first}, not a PyTorch checkpoint. Name another file."


def first_bytes(path: Path) -> bytes:
    """The first 64 bytes of a checkpoint. Raises: UserError if the file is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist. {_neighbours(path)}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}. Name another file.") from error


def _neighbours(path: Path) -> str:
    names = sorted(file.name for file in path.parent.glob("*.pth")) if path.parent.is_dir() else []
    if not names:
        return f"There is no .pth file in {path.parent.absolute()}."
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"{path.parent.absolute()} holds {shown}."


def _diagnosis(path: Path, first: bytes, error: Exception) -> str:
    """What is wrong with a file that torch could not load, and what to do."""
    start = " ".join(first.decode("latin-1").split())
    size = f"{path.stat().st_size} bytes"
    again = "Delete it, and download or save it again."
    if not first:
        return f"is empty ({size}). {again}"
    if start.startswith("<"):
        return f"is a web page, not a checkpoint: it begins with {start!r}. {again}"
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    # A pickle that is truncated within the name of a type seems to ask for a type with a shorter name.
    if foreign and not path.read_bytes()[:-1].endswith(foreign[1].rpartition(".")[2].encode()):
        return (
            f"holds a Python object of type {foreign[1]}, which could run code when it is loaded. "
            "Save the state_dict() of the model instead of the model. If you trust the file: "
            f"torch.save(torch.load({str(path)!r}, 'cpu', weights_only=False).state_dict(), 'weights.pth'), "
            "or with ['NAME'] in place of .state_dict() if it holds a dict with the weights under that name, "
            "and ['NAME'].state_dict() if it holds a model there."
        )
    if first.startswith(_ZIP) and not zipfile.is_zipfile(path):
        return f"is truncated: after {size} the zip archive has no end. {again}"
    if first.startswith((_ZIP, b"\x80")):
        return f"is damaged, truncated, or not a PyTorch checkpoint ({size}). {again}"
    return f"is not a PyTorch checkpoint: it begins with {start!r}. Name another file, or download it again."


def save_atomically(obj: Any, path: str | Path) -> None:
    """Writes ``obj`` with ``torch.save``; after a failure or a crash, the old file is still there.

    Raises: UserError if the file cannot be written.
    """
    with replacing(path) as file:
        try:
            torch.save(obj, file)
        except RuntimeError as error:
            # After a failed write, the zip writer raises its own error, with the disk's error as context.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
