"""Models in a file that carries its config and classes: exported ones, and packed ones."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.classes import ClassTable
from ..errors import UserError
from ..export.opened import is_exported, read_metadata
from ..models.weights.packed import read_manifest
from ..runtime.paths import expand_argument

# Keys of the section MODEL for other weights than those in the file.
_NO_START = {
    **dict.fromkeys(("exported", "packed", "weights_encoder", "weights_decoder"), ""),
    "reset_classifier": False,
}


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
    keys["MODEL"] |= {**_NO_START, kind: str(file)}
    keys["DATASET"]["classes"] = ""
    keys["VAL"]["checkpoint"] = keys["TEST"]["checkpoint"] = ""  # the file holds one
    return keys


def classes_of_file(path: str | Path, *, exported: bool) -> ClassTable:
    """Names and colours of the classes in a file of `mit-semseg export`, or else of `pack`.

    Raises: UserError if the file cannot be used.
    """
    found = read_metadata(path) if exported else read_manifest(path)
    return ClassTable(found.names, np.array(found.colors, np.uint8))


def check_count(path: str | Path, num_class: int, *, exported: bool) -> None:
    """Check the number of classes in a file of `mit-semseg export`, or else of `pack`.

    Raises: UserError if it is not ``num_class``.
    """
    found = len(classes_of_file(path, exported=exported).names)
    if found != num_class:
        raise UserError(
            f"{path} has {found} classes, but DATASET.num_class is {num_class}. Use the config that it was "
            f"{'exported' if exported else 'packed'} with, or pass the file alone: --cfg {path}"
        )
