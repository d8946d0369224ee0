"""A whole model in one file: safetensors with the weights and, in its metadata, config, classes and scores.

No pickle is read or written. Checksums cover all of it, since the format has none.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...runtime.files import replacing
from ...runtime.packages import require
from .checkpoint import first_bytes
from .tensor_files import SUFFIX, opened

PARTS = ("encoder", "decoder")
_KEY = "mit_semseg"  # of the metadata: JSON with the fields of `Manifest`, and the checksums


@dataclass(frozen=True)
class Manifest:
    """What a packed model says of itself.

    Attributes:
        config: all config keys of the run, as YAML.
        names: of the classes.
        colors: (red, green, blue) of each class, 0 to 255.
        checkpoint: the end of the names of the files that were packed, such as "epoch_20.pth".
        scores: of these weights, shares by name; {} if none are known.
        history: that of the training, see `mit_semseg.training.history`; {} without one.
        evaluation: the metrics.json of an evaluation of these weights; {} without one.
        version: of this package.
    """

    config: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    checkpoint: str
    scores: Mapping[str, float]
    history: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    version: str


def is_packed(path: str | Path) -> bool:
    """Whether a file is one of `write_packed`. Raises: UserError for a .safetensors file that is damaged."""
    path = Path(path)
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    with opened(path) as file:
        return _KEY in (file.metadata() or {})


def write_packed(path: str | Path, manifest: Manifest, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a packed model, whole or not at all.

    Args:
        weights: by name, of each of `PARTS`.

    Raises: UserError if the file cannot be written.
    """
    require("safetensors", path)
    from safetensors.torch import save

    parts = {part: {"names": list(weights[part]), "crc32": _checksum(weights[part])} for part in PARTS}
    content = {**asdict(manifest), "parts": parts}  # the names, because the format sorts them
    text = json.dumps(content, sort_keys=True)
    metadata = {_KEY: json.dumps({"crc32": zlib.crc32(text.encode()), "model": content}, sort_keys=True)}
    named = {f"{part}.{name}": value for part in PARTS for name, value in weights[part].items()}
    with replacing(path) as file:
        file.write(save(_separate(named), metadata))


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a packed model.

    Raises: UserError if the file is damaged, or if it is not a packed model.
    """
    return _read(Path(path))[0]


def read_part(path: str | Path, part: str) -> dict[str, Tensor]:
    """The weights of the encoder or the decoder in a packed model, by name.

    Raises: UserError if the file is damaged, or if it is not a packed model.
    """
    path = Path(path)
    names, checksum = _read(path)[1][part]
    with opened(path) as file:
        weights = {name: file.get_tensor(f"{part}.{name}") for name in names}
    if _checksum(weights) != checksum:
        raise _damaged(path, f"the weights of the {part} do")
    return weights


def _read(path: Path) -> tuple[Manifest, dict[str, tuple[list[str], int]]]:
    """The manifest, and the names and the checksum of the weights of each part."""
    first_bytes(path)  # says whether there is a file
    with opened(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise UserError(
            f"{path} is not a file of mit-semseg pack: it holds weights, but no config of this project. "
            f"Import it: mit-semseg import {path} --out DIR"
        )
    try:
        whole = json.loads(text)
        content = whole["model"]
        if zlib.crc32(json.dumps(content, sort_keys=True).encode()) != whole["crc32"]:
            raise _damaged(path, "its config, classes or scores do")
        parts = {
            part: (list(content["parts"][part]["names"]), int(content["parts"][part]["crc32"]))
            for part in PARTS
        }
        manifest = Manifest(
            config=str(content["config"]),
            names=tuple(map(str, content["names"])),
            colors=tuple((int(r), int(g), int(b)) for r, g, b in content["colors"]),
            checkpoint=str(content["checkpoint"]),
            scores=dict(content["scores"]),
            history=dict(content["history"]),
            evaluation=dict(content["evaluation"]),
            version=str(content["version"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is a packed model whose description is damaged or of another version: {error!r:.100}. "
            "Copy it again, or pack the model again."
        ) from None
    return manifest, parts


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged: {what} not match the checksum. Copy or download the file again.")


def _checksum(weights: Mapping[str, Tensor]) -> int:
    """The CRC-32 of names, types, shapes and values."""
    result = 0
    for name, value in sorted(weights.items()):
        result = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), result)
        data: Any = value.contiguous().reshape(-1).view(torch.uint8).numpy()
        result = zlib.crc32(data, result)
    return result


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in memory of their own, as safetensors need them."""
    seen: set[int] = set()
    result = {}
    for name, value in tensors.items():
        storage = value.untyped_storage()
        shared = storage.data_ptr() in seen or storage.nbytes() != value.numel() * value.element_size()
        seen.add(storage.data_ptr())
        result[name] = value.clone(memory_format=torch.contiguous_format) if shared else value.contiguous()
    return result
