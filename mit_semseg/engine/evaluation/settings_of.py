"""Everything that the result on an image depends on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from ...data.classes import ClassTable

# What only training reads, where results go, and files whose content counts instead of their name.
_WITHOUT_EFFECT = {
    "DATASET": (
        *("list_train", "list_val", "classes", "segm_downsampling_rate", "random_flip", "augment"),
        *("crop_size", "crop_max_share", "scale_range", "on_error"),
    ),
    "MODEL": ("pretrained", "weights_encoder", "weights_decoder"),
    "VAL": ("checkpoint", "result", "resume"),
}


def settings_of(
    cfg: CfgNode, weights: Sequence[str], table: ClassTable, device: torch.device
) -> dict[str, Any]:
    """The settings of an evaluation, by the names that a user knows them under, ready for JSON.

    A key that is not known to be without effect counts as one that has some. Batches depend on the list and
    ``VAL.batch_size`` alone; the number of processes is none of it.

    Args:
        weights: the checkpoint files of encoder and decoder.
    """
    settings: dict[str, Any] = {
        f"{section}.{key}": value
        for section, left_out in _WITHOUT_EFFECT.items()
        for key, value in cfg[section].items()
        if key not in left_out
    }
    for part, file in zip(("encoder", "decoder"), weights, strict=True):
        settings[f"the {part}'s checkpoint"] = sha256_of(file)
    settings["DATASET.list_val"] = sha256_of(cfg.DATASET.list_val)
    classes = "\n".join([*table.names, table.colors.tobytes().hex()])
    settings["DATASET.classes"] = hashlib.sha256(classes.encode("utf-8", "surrogatepass")).hexdigest()
    # Rounding differs between them, and with it a pixel now and then.
    settings |= {"the kind of device": device.type, "the version of torch": torch.__version__}
    as_read: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists
    return as_read


def sha256_of(file: str | Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
