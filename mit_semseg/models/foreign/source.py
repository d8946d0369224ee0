"""The files of a foreign model: weights and config, from a file or from a folder as a hub gives it."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...runtime.log import get_logger
from ..weights import checkpoint
from ..weights.unwrap import unwrap
from .python_config import parse_config, read_config_file

_CONFIG = "config.json"
# What a folder may hold, in the order of preference. An index lists the files of a model in several parts.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_LARGEST_CONFIG = 1 << 24  # bytes


@dataclass(frozen=True)
class Source:
    """A foreign checkpoint as it was read.

    Attributes:
        name: the file or folder, for messages.
        weights: by their names in the file.
        config: the config of the model; {} if none was found.
        config_name: where the config comes from, for messages.
        classes: names of the classes, if the checkpoint has them beside the config.
        colors: their colours, RGB.
        base: the model to whose weights these are differences; None if there is none.
        complete: whether the user says that these are the weights themselves.
    """

    name: str
    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    config_name: str
    classes: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()
    base: "Source | None" = None
    complete: bool = False


def read_source(path: str | Path, config: str | Path | None = None) -> Source:
    """The weights and the config of a foreign model.

    Args:
        path: a checkpoint file, or a folder with one.
        config: the config of the model, .json or .py; by default the one in the checkpoint, or config.json
            beside it.

    Raises: UserError if a file is missing, damaged, or cannot be read safely.
    """
    path = _snapshot(Path(path))
    files, folder = files_of_source(path), path if path.is_dir() else path.parent
    content: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    for file in files:
        content = _read(file)
        state = content.get("state_dict")
        weights |= unwrap(state if isinstance(state, Mapping) else content, file).by_name
    for name, value in weights.items():
        if value.layout == torch.strided and not value.is_meta:
            _refuse_repeated(name, value, path)
    weights = {
        name: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
        for name, value in weights.items()
    }
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    found, config_name = _config(meta, folder, config, path)
    names, colors = _classes_in(meta)
    return Source(str(path), weights, found, config_name, names, colors)


def files_of_source(path: Path) -> list[Path]:
    """The checkpoints of a foreign model. Raises: UserError if a folder has none, or several models."""
    path = _snapshot(path)
    return _files_in(path) if path.is_dir() else [path]


def _snapshot(path: Path) -> Path:
    """Files of a model in the cache of huggingface_hub, if the path is its folder there, else the path."""
    found = sorted(path.glob("snapshots/*/"))
    main = path / "refs" / "main"
    if len(found) > 1 and main.is_file():
        found = [each for each in found if each.name == main.read_text(encoding="utf-8").strip()]
    return found[0] if len(found) == 1 else path


def _files_in(folder: Path) -> list[Path]:
    """The files of the weights in a folder."""
    for name in _WEIGHTS:
        file = folder / name
        if not file.is_file():
            continue
        if not name.endswith(".json"):
            return [file]
        index = _read_json(file).get("weight_map")
        if not isinstance(index, Mapping) or not all(isinstance(part, str) for part in index.values()):
            raise UserError(f"{file} is not an index of weights: it has no weight_map. Download it again.")
        parts = sorted(set(index.values()))
        if any(Path(part).name != part for part in parts):
            raise UserError(f"{file} names a file outside of its folder. Download the model again.")
        gone = [part for part in parts if not (folder / part).is_file()]
        if gone:
            raise UserError(f"{folder} lacks {gone[0]}, which {name} lists. Download it again.")
        return [folder / part for part in parts]
    found = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(file.name for file in found[:6])
        raise UserError(f"{folder} holds {len(found)} checkpoints ({names}). Name one of them.")
    raise UserError(
        f"{folder} holds no weights. It needs {_WEIGHTS[0]} or {_WEIGHTS[2]}, or one file that ends with "
        f"{', '.join(_SUFFIXES[:-1])}."
    )


def _read(file: Path) -> dict[str, Any]:
    """The content of a checkpoint, with a placeholder for each object that is not a tensor or a container.

    Training programs save objects of their own beside the weights. Their types are replaced by one that does
    nothing, so that no code of theirs runs.
    """
    first = checkpoint.first_bytes(file)
    if file.suffix != ".safetensors" and first.startswith(b"PK"):
        checkpoint.check_archive(file)
        try:
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
        except Exception:  # damaged: reading it names the problem
            foreign = []
        if foreign:
            return _read_restricted(file, foreign)
    content = checkpoint.read(file)
    return content if isinstance(content, dict) else {"content": content}


class _Placeholder:
    """An object of another program, of which nothing is read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def ignore(self, *args: Any) -> None:
        pass

    __setitem__ = append = extend = add = update = ignore  # as an unpickler fills containers

    def __hash__(self) -> int:
        return id(self)


def _read_restricted(file: Path, foreign: list[str]) -> dict[str, Any]:
    placeholders: list[Any] = [(_placeholder_of(name), name) for name in foreign]
    try:
        with torch.serialization.safe_globals(placeholders), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever an unusual pickle makes of the placeholders
        raise UserError(
            f"{file} holds Python objects beside its weights ({', '.join(sorted(foreign)[:3])}), which are "
            "not loaded, because they could run code, and it cannot be read without them. If you trust the "
            f"file: torch.save(torch.load({str(file)!r}, 'cpu', weights_only=False)['state_dict'], "
            "'weights.pth'), and name its config with --config FILE."
        ) from error
    get_logger().info("%s: %d kinds of Python objects beside the weights are not read", file, len(foreign))
    return content if isinstance(content, dict) else {"content": content}


def _placeholder_of(name: str) -> type:
    """A type of its own for each name, since the unpickler tells types apart by their names."""
    return type("Placeholder", (_Placeholder,), {"__module__": name.rpartition(".")[0]})


def _refuse_repeated(name: str, value: Tensor, path: Path) -> None:
    """Refuse a tensor that repeats its memory, as a few bytes could then claim to be terabytes."""
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UserError(
            f"{path}: {name} has {value.numel()} values, but the file holds fewer. It is not a checkpoint "
            "that a training program wrote. Download it again."
        )


def _config(
    meta: Mapping[str, Any], folder: Path, given: str | Path | None, path: Path
) -> tuple[Mapping[str, Any], str]:
    """The config of a model and where it was found."""
    if given is not None:
        file = Path(given)
        return (_read_json(file) if file.suffix == ".json" else read_config_file(file)), str(file)
    for key in ("cfg", "config"):  # mmengine's name and that of mmcv before it
        text = meta.get(key)
        if isinstance(text, str):
            return parse_config(text, f"meta[{key!r}] of {path}"), f"meta[{key!r}] of {path}"
        if isinstance(text, Mapping):
            return text, f"meta[{key!r}] of {path}"
    file = folder / _CONFIG
    if file.is_file():
        return _read_json(file), str(file)
    scripts = sorted(folder.glob("*.py"))
    if path.is_dir() and len(scripts) == 1:
        return read_config_file(scripts[0]), str(scripts[0])
    return {}, str(path)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise UserError(f"{file} is not a config: it has {file.stat().st_size} bytes.")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not a JSON file: {error}. Download it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a config: it holds {type(content).__name__}, not keys and values.")
    return content


def _classes_in(meta: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours of the classes in mmsegmentation's meta; () if it has none that can be used."""
    found = meta.get("dataset_meta")
    found = found if isinstance(found, Mapping) else meta
    names = found.get("classes", found.get("CLASSES"))
    colors = found.get("palette", found.get("PALETTE"))
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return (), ()
    if not isinstance(colors, list | tuple) or len(colors) != len(names):
        return tuple(names), ()
    try:
        read = tuple((int(red), int(green), int(blue)) for red, green, blue in colors)
    except (TypeError, ValueError):
        return tuple(names), ()
    return tuple(names), read if all(0 <= value < 256 for color in read for value in color) else ()
