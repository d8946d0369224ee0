"""Checkpoint files: their names, reading them with suspicion, loading all or nothing, saving without loss."""

import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .atomic import replacing
from .errors import UserError

# Bookkeeping of the old synchronized BatchNorm: buffers that nothing reads any more.
_OLD_BOOKKEEPING = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")
_STEPS = "num_batches_tracked"  # counted by BatchNorm since PyTorch 0.4.1, so missing in older files
# What ImageNet classifiers have behind the layers that an encoder keeps: ResNet, MobileNetV2, HRNetV2.
_CLASSIFIER = ("fc.", "classifier.", "features.18.", "incre_modules.", "downsamp_modules.", "final_layer.")

_WEIGHTS_NAME = re.compile(r"(encoder|decoder)_epoch_(0|[1-9][0-9]*)\.pth")


def epoch_path(directory: str | Path, part: str, epoch: int) -> Path:
    """Where a run keeps a ``part`` of an epoch: "encoder", "decoder", "history", "state"."""
    return Path(directory) / f"{part}_epoch_{epoch}.pth"


def newest_epoch(directory: str | Path) -> int | None:
    """The highest epoch of which both the encoder and the decoder are in a folder; None if there is none.

    Raises: UserError if the folder cannot be read.
    """
    epochs: dict[str, set[int]] = {"encoder": set(), "decoder": set()}
    try:
        for file in Path(directory).iterdir():
            if match := _WEIGHTS_NAME.fullmatch(file.name):
                epochs[match[1]].add(int(match[2]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{directory} cannot be read: {error.strerror}. Make it readable.") from error
    return max(epochs["encoder"] & epochs["decoder"], default=None)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, on the CPU, by name.

    The file is a zip or a legacy pickle, and holds a state dict itself or under the key ``state_dict`` or
    ``model``. A leading ``module.``, which a data-parallel wrapper leaves, is cut off if every name has it.

    Raises: UserError if the file is missing, damaged or something else.
    """
    content = read(path)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not weights by name. Save a state_dict() in it."
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path} does not hold weights by name: its entry {name!r} is a {type(value).__name__}. "
                "Save a state_dict() in it."
            )
    if not content:
        raise UserError(f"{path} holds no weights at all. Save it again.")
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def read(path: str | Path) -> Any:
    """What was saved in a file with ``torch.save``, zip or legacy pickle, with its tensors on the CPU.

    Only tensors and plain containers are unpickled, so a foreign file cannot run code.

    Raises: UserError if the file is missing, damaged or something else.
    """
    path = Path(path)
    first = first_bytes(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise UserError(f"{path} {_diagnosis(path, first, error)}") from error


def first_bytes(path: Path) -> bytes:
    """How a checkpoint begins. Raises: UserError if the file is missing or can't be read."""
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
    again = "Delete it, and fetch or save it again."
    if not first:
        return f"is empty ({size}). {again}"
    if start.startswith("<"):
        return f"is a web page, not a checkpoint: it begins with {start!r}. {again}"
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    # A pickle that was cut off within the name of a type seems to ask for another type, one letter shorter.
    if foreign and not path.read_bytes()[:-1].endswith(foreign[1].rpartition(".")[2].encode()):
        return (
            f"holds a Python object of type {foreign[1]}, which could run code when it is loaded. "
            "Save the state_dict() of the model instead of the model."
        )
    if first.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        return f"is truncated: after {size} the zip archive has no end. {again}"
    if first.startswith((b"PK\x03\x04", b"\x80")):
        return f"is damaged, truncated or no PyTorch checkpoint ({size}). {again}"
    return f"is not a PyTorch checkpoint: it begins with {start!r}. Name another file, or fetch it again."


def load_weights(
    module: nn.Module, path: str | Path, *, part: str, arch: str, fresh: Collection[str] = ()
) -> None:
    """Loads a checkpoint's weights into a module: all of them, or none and an error.

    Every name and shape has to agree. Left out are only the bookkeeping of old synchronized BatchNorms and,
    for an encoder, the head of the ImageNet classifier it comes from; steps that an old file did not count
    start at 0.

    Args:
        part: what the module is: "encoder" or "decoder".
        arch: its name, for the message.
        fresh: names of weights that stay as they are, whatever the file holds of them.

    Raises: UserError if the file cannot be read or does not fit. The module is as it was, then.
    """
    fit_weights(module, read_state_dict(path), path, part=part, arch=arch, fresh=fresh)


def fit_weights(
    module: nn.Module,
    given: Mapping[str, Tensor],
    source: str | Path,
    *,
    part: str,
    arch: str,
    fresh: Collection[str] = (),
) -> None:
    """As `load_weights`, from weights that were read from ``source``, which is for the message."""
    wanted = module.state_dict()
    head = _CLASSIFIER if part == "encoder" else ()
    weights = {
        name: value
        for name, value in given.items()
        if name in wanted or not (name.startswith(head) or name.rpartition(".")[2] in _OLD_BOOKKEEPING)
    }
    weights.update({name: wanted[name] for name in fresh})
    for name, value in wanted.items():
        if name.rpartition(".")[2] == _STEPS:
            weights.setdefault(name, torch.zeros_like(value, device="cpu"))
    missing = [name for name in wanted if name not in weights]
    unknown = [name for name in weights if name not in wanted]
    reshaped = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if missing or unknown or reshaped:
        found = [_count(missing, "weight missing", "weights missing"), _count(unknown, "unknown", "unknown")]
        if reshaped:
            name = reshaped[0]
            theirs, ours = tuple(weights[name].shape), tuple(wanted[name].shape)
            found.append(
                f"{len(reshaped)} of another shape (first: {name} is {theirs}, the model's is {ours})"
            )
        keys = f"MODEL.arch_{part}" + ("" if part == "encoder" else ", decoder_dim and decoder_norm")
        todo = f"Set {keys} to what it was trained as, or name another file."
        if part == "decoder" and not missing and not unknown:
            todo = _other_classes(weights, wanted, reshaped) or todo
        raise UserError(f"{source} does not fit {part} {arch!r}: {', '.join(found)}. {todo}")
    module.load_state_dict(weights)


def _count(names: list[str], one: str, many: str) -> str:
    """``2 weights missing (first: conv_last.4.bias)``"""
    return f"{len(names)} {one if len(names) == 1 else many}" + (f" (first: {names[0]})" if names else "")


def _other_classes(weights: dict[str, Tensor], wanted: dict[str, Tensor], reshaped: list[str]) -> str:
    """What to do if the shapes differ in the number of classes and nothing else; "" otherwise."""
    shapes = [(weights[name].shape, wanted[name].shape) for name in reshaped]
    if any(len(theirs) != len(ours) or theirs[1:] != ours[1:] for theirs, ours in shapes):
        return ""
    counts = {(theirs[0], ours[0]) for theirs, ours in shapes}
    if len(counts) != 1:
        return ""
    ((theirs, ours),) = counts
    return (
        f"It was trained with {theirs} classes, this model has {ours}. "
        f"Set DATASET.num_class {theirs}, or MODEL.reset_classifier True to train a new classifier on the "
        "rest."
    )


def save_atomically(obj: Any, path: str | Path) -> None:
    """Writes ``obj`` with ``torch.save``; after a failure or a crash, the file is still the old one.

    Raises: UserError if the disk refuses.
    """
    with replacing(path) as file:
        try:
            torch.save(obj, file)
        except RuntimeError as error:
            # The zip writer reports its own confusion about a failed write; the disk's error is behind it.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
