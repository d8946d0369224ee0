"""Models in a file that carries its config and classes: exported ones, and packed ones."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from yacs.config import CfgNode

from ..data.classes import ClassTable
from ..errors import UserError
from ..export.opened import is_exported, read_metadata
from ..models.weights.packed import Manifest, read_manifest
from ..runtime.paths import expand_argument

KEYS_OF_FILES = ("exported", "packed")
"""Keys of the section MODEL that name such a file."""


def keys_of_file(path: str | Path) -> dict[str, Any]:
    """The config in a file of `mit-semseg export` or `pack`, changed so that the file itself is used.

    ``DIR`` becomes the folder of the file, and the class table is the one that it carries.

    Raises: UserError if the file cannot be used.
    """
    file = Path(expand_argument(path, "The model"))
    kind, text = "exported", ""
    if is_exported(file):
        text = read_metadata(file).config
    else:
        kind, text = "packed", read_manifest(file).config
    keys: dict[str, Any] = yaml.safe_load(text)
    keys["DIR"] = str(file.parent)
    keys["MODEL"] |= {**dict.fromkeys(KEYS_OF_FILES, ""), "weights_encoder": "", "weights_decoder": ""}
    keys["MODEL"][kind] = str(file)
    keys["DATASET"]["classes"] = ""
    if kind == "packed":  # it holds one checkpoint
        keys["VAL"]["checkpoint"] = keys["TEST"]["checkpoint"] = ""
    return keys


def carried_classes(cfg: CfgNode) -> ClassTable | None:
    """Names and colours of the classes in the file that a config names; None if it names none."""
    found = _description(cfg)
    return None if found is None else ClassTable(found.names, np.array(found.colors, np.uint8))


def check_count(cfg: CfgNode) -> None:
    """Check that the file that a config names has as many classes as the config. Raises: UserError if not."""
    found = _description(cfg)
    if found is None or len(found.names) == cfg.DATASET.num_class:
        return
    file = cfg.MODEL.exported or cfg.MODEL.packed
    verb = "exported" if cfg.MODEL.exported else "packed"
    raise UserError(
        f"{file} has {len(found.names)} classes, but DATASET.num_class is {cfg.DATASET.num_class}. Use the "
        f"config that it was {verb} with, or pass the file alone: --cfg {file}"
    )


def _description(cfg: CfgNode) -> Any:
    if cfg.MODEL.exported:
        return read_metadata(cfg.MODEL.exported)
    return manifest_of(cfg)


def manifest_of(cfg: CfgNode) -> Manifest | None:
    """The manifest of the packed model that a config names; None if it names none."""
    return read_manifest(cfg.MODEL.packed) if cfg.MODEL.packed else None
