"""The checkpoints that a config names, or those that take their place."""

import warnings
from pathlib import Path
from typing import TypeAlias

from yacs.config import CfgNode

from ..config import load_config
from ..data.bands import STATISTICS
from ..errors import UserError
from ..export.opened import files_of
from ..models.weights.checkpoint import incomplete_epoch, newest_epoch
from ..models.weights.pretrained import PUBLISHED, fetch_published, released_weights
from ..runtime.log import get_logger
from ..runtime.near_names import did_you_mean
from ..runtime.paths import resolved

Weights: TypeAlias = tuple[str, ...]
"""The checkpoints of encoder and decoder, the file of a packed model, or the files of an exported one."""

CONFIG = "config.yaml"  # in the folder of a run


def model_file(cfg: CfgNode) -> str:
    """The file that a config uses in place of checkpoints; "" for none."""
    file: str = cfg.MODEL.exported or cfg.MODEL.packed
    return file


def trained_weights(cfg: CfgNode, section: str) -> Weights:
    """The checkpoints of encoder and decoder that ``VAL.checkpoint`` or ``TEST.checkpoint`` names in ``DIR``.

    If the key is empty, they are those of the newest epoch. If ``DIR`` has no checkpoint, they are the
    weights that come with the project, if it has any for this model. A published model is downloaded to
    ``DIR`` if that has no checkpoint yet. ``MODEL.exported`` and ``MODEL.packed`` are used in their place.

    Args:
        section: "VAL" or "TEST".

    Raises: UserError if the checkpoints do not exist.
    """
    folder, name = Path(cfg.DIR), cfg[section].checkpoint
    if single := model_file(cfg):
        if name:
            raise UserError(
                f"{section}.checkpoint is {name}, but {single} holds a single checkpoint. Leave "
                f"{section}.checkpoint empty."
            )
        return files_of(single) if cfg.MODEL.exported else (single,)
    newest = newest_epoch(folder)
    if newest is None:
        published = PUBLISHED.get(folder.name)
        if published is not None and name in ("", f"epoch_{published}.pth"):
            get_logger().info("%s holds no checkpoint: downloading the published one", folder)
            encoder, decoder = fetch_published(folder.name, folder)
            return str(encoder), str(decoder)
        if not name and (released := released_weights(folder.name)) is not None:
            return _released(cfg, folder, *released)
    found = _of_epoch(folder, name or _newest(folder, newest), f"{section}.checkpoint", newest)
    _warn_of_other_model(cfg, folder)
    return found


def _released(cfg: CfgNode, folder: Path, encoder: Path, decoder: Path) -> Weights:
    """The weights that come with the project, in place of those of an empty folder."""
    if resolved(folder) == resolved(encoder.parent):
        get_logger().info("Checkpoint: %s and %s", encoder, decoder.name)
    else:
        get_logger().info("%s holds no checkpoint: using %s", folder, encoder.parent)
    _warn_of_other_model(cfg, encoder.parent)
    return str(encoder), str(decoder)


def _newest(folder: Path, newest: int | None) -> str:
    """The name of the checkpoint of the newest epoch. Raises: UserError if there is none."""
    incomplete = incomplete_epoch(folder)
    if newest is None:
        if incomplete:
            raise UserError(f"{folder} holds no complete checkpoint: {incomplete}")
        raise UserError(
            f"{folder} holds no checkpoint.{did_you_mean(folder)} Train one with train.py, or set DIR to "
            "a folder with encoder_epoch_N.pth and decoder_epoch_N.pth."
        )
    if incomplete:
        get_logger().warning("Using epoch %d: %s", newest, incomplete)
    return f"epoch_{newest}.pth"


def _of_epoch(folder: Path, name: str, key: str, newest: int | None) -> Weights:
    """The checkpoints of a name such as ``epoch_20.pth``. Raises: UserError if they do not exist."""
    files = (folder / f"encoder_{name}", folder / f"decoder_{name}")
    for file in files:
        if not file.is_file():
            hint = f"{folder} has no other checkpoint"
            if newest is not None:
                hint = f"The newest there is epoch_{newest}.pth"
            elif released_weights(folder.name) is not None:
                hint = f"The weights that come with the project are used if {key} is empty"
            raise UserError(f"{file} does not exist. {hint}. Set {key}, or DIR.")
    get_logger().info("Checkpoint: %s and %s", files[0], files[1].name)
    return str(files[0]), str(files[1])


def _warn_of_other_model(cfg: CfgNode, folder: Path) -> None:
    """Log a warning if the weights are of another model. They may still fit, and give other results."""
    file = folder / CONFIG
    if not file.is_file():  # as for checkpoints of the old package
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about keys that do not matter here
            config = load_config(str(file))
    except UserError:  # of another version, or half-written: only the weights matter
        return
    trained, theirs_data, ours_data = config.MODEL, config.DATASET, cfg.DATASET
    for key in ("bands", *STATISTICS):
        if tuple(theirs_data[key]) != tuple(ours_data[key]):
            get_logger().warning(
                "The weights in %s were trained with another DATASET.%s than the config has. Results may "
                "be worse. Those of the training are in %s.",
                *(folder, key, file),
            )
    for key in ("arch_encoder", "arch_decoder", "output_stride", "encoder_options", "decoder_options"):
        theirs, ours = str(trained[key]), str(cfg.MODEL[key])
        if theirs.lower() != ours.lower():
            get_logger().warning(
                "The weights in %s are for MODEL.%s %s, but the config says %s. Results may be worse.",
                *(folder, key, theirs, ours),
            )
