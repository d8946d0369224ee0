"""The fingerprint of results: all settings and weights that the result on an image depends on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..config import current_names
from ..config.keys import KEYS
from ..data.classes import ClassTable
from ..export.opened import is_exported, runtime_of
from ..runtime.files import sha256_of

# Keys that results do not depend on, by section: settings of the training, output folders, and names of files
# whose content counts instead. In sections that are not listed, no key counts.
_FOR_LISTS = {  # of evaluations, which also read labels
    "DATASET": (
        *("list_train", "list_val", "classes", "segm_downsampling_rate", "random_flip", "augment"),
        *("augment_strength", "augment_parts", "crop_size", "crop_max_share", "scale_range", "on_error"),
        *("cache", "cache_gb"),
    ),
    "MODEL": ("pretrained", "weights_encoder", "weights_decoder", "exported", "packed"),
    "VAL": ("checkpoint", "result", "resume"),
    "INFERENCE": (),
}
_FOR_INPUTS = {  # of predictions; the manifest records which outputs an input has
    "DATASET": (*_FOR_LISTS["DATASET"], "root_dataset", "label_offset", "ignore_label"),
    "MODEL": _FOR_LISTS["MODEL"],
    "TEST": ("checkpoint", "result", "output"),
    "INFERENCE": (),
}
_SHA256_LENGTH = 64  # in hex

Fingerprint = dict[str, Any]
"""JSON values, by the names of settings that a user knows."""


def evaluation_fingerprint(
    config: Mapping[str, Any], weights: Sequence[str], table: ClassTable, device: torch.device
) -> Fingerprint:
    """The fingerprint of an evaluation.

    The number of processes does not count, because batches depend only on the list and ``VAL.batch_size``.

    Args:
        config: the values of the keys, by section. A key counts unless the tables above exclude it.
        weights: the checkpoint files of encoder and decoder, or the files of a packed or exported model.
    """
    found = _fingerprint(_FOR_LISTS, config, weights, table, device)
    return found | {"DATASET.list_val": sha256_of(config["DATASET"]["list_val"])}


def prediction_fingerprint(
    config: Mapping[str, Any], weights: Sequence[str], table: ClassTable, device: torch.device
) -> Fingerprint:
    """The fingerprint of a prediction. Arguments as for `evaluation_fingerprint`."""
    return _fingerprint(_FOR_INPUTS, config, weights, table, device)


def difference(before: Mapping[str, Any], now: Fingerprint) -> str:
    """The first difference between two fingerprints, as the end of a sentence; "" if they are equal.

    Args:
        before: a recorded fingerprint; an earlier release may have used other names for some keys, and lacked
            others, whose default is what it did.
    """
    before = {key.name: key.default for key in KEYS} | current_names(before)
    for name, value in now.items():
        if before.get(name) != value:
            return _change(name, before.get(name), value)
    return ""


def _fingerprint(
    without_effect: Mapping[str, Sequence[str]],
    config: Mapping[str, Any],
    weights: Sequence[str],
    table: ClassTable,
    device: torch.device,
) -> Fingerprint:
    settings: Fingerprint = {
        f"{section}.{key}": value
        for section, ignored in without_effect.items()
        for key, value in config[section].items()
        if key not in ignored
    }
    for name, file in zip(_names_of(weights), weights, strict=True):
        settings[name] = sha256_of(file)
    if is_exported(weights[0]):
        settings["the version of the runtime"] = runtime_of(weights[0])
    classes = "\n".join([*table.names, table.colors.tobytes().hex()])
    settings["DATASET.classes"] = hashlib.sha256(classes.encode("utf-8", "surrogatepass")).hexdigest()
    # Rounding depends on them, and may change the class of a pixel.
    settings |= {"the kind of device": device.type, "the version of torch": torch.__version__}
    as_json: Fingerprint = json.loads(json.dumps(settings))  # tuples become lists, as in a file
    return as_json


def _names_of(weights: Sequence[str]) -> tuple[str, ...]:
    if is_exported(weights[0]):
        return ("the exported model", "the weights of the exported model")[: len(weights)]
    if len(weights) == 1:
        return ("the packed model",)
    return "the encoder's checkpoint", "the decoder's checkpoint"


def _change(name: str, before: Any, now: Any) -> str:
    if before is None or len(str(before)) == len(str(now)) == _SHA256_LENGTH:
        return f"{name} has changed"
    return f"{name} was {before} and is now {now}"
