"""What a run leaves behind after an epoch, and takes up again: weights, optimizer and history."""

from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from ..checkpoint import epoch_path, read, save_atomically
from ..errors import UserError
from ..log import get_logger
from .history import History


def resume_weights(cfg: CfgNode) -> tuple[str, str]:
    """The checkpoints to start from: those of ``TRAIN.start_epoch``, else what the config names.

    Raises: UserError if ``DIR`` holds no checkpoint of that epoch.
    """
    epoch = cfg.TRAIN.start_epoch
    if not epoch:
        return cfg.MODEL.weights_encoder, cfg.MODEL.weights_decoder
    files = [epoch_path(cfg.DIR, part, epoch) for part in ("encoder", "decoder")]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"TRAIN.start_epoch is {epoch}, but {file} does not exist. Set an epoch that does, or 0."
            )
    return str(files[0]), str(files[1])


def resume_state(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> History:
    """Bring the optimizer to where ``TRAIN.start_epoch`` left it, and return the history up to there.

    Checkpoints of the old scripts have no optimizer state; training then goes on with a fresh one, and says
    so.

    Raises: UserError for a file that is damaged or of another optimizer or model.
    """
    epoch = cfg.TRAIN.start_epoch
    if not epoch:
        return History()
    file = epoch_path(cfg.DIR, "state", epoch)
    if file.is_file():
        state = read(file)
        if state.get("name") != cfg.TRAIN.optim:
            raise UserError(
                f"{file} holds the state of {state.get('name')}, but TRAIN.optim is {cfg.TRAIN.optim}. "
                f"Set TRAIN.optim {state.get('name')}, or delete the file to go on with a fresh optimizer."
            )
        # The groups stay as the config has them, so that a changed learning rate counts.
        groups = optimizer.state_dict()["param_groups"]
        if [len(group["params"]) for group in groups] != state.get("groups"):
            raise UserError(f"{file} is of another model. Delete it to go on with a fresh optimizer.")
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    else:
        get_logger().warning("%s does not exist: the optimizer starts afresh", file)
    history = epoch_path(cfg.DIR, "history", epoch)
    return History.from_dict(read(history)) if history.is_file() else History()


def save_epoch(
    folder: Path, epoch: int, module: nn.Module, optimizer: torch.optim.Optimizer, name: str, history: History
) -> None:
    """Write encoder, decoder, history and optimizer state of an epoch; the decoder comes last.

    The optimizer state is only kept for the newest epoch, because it is as large as the weights.
    """
    state = {
        "name": name,
        "groups": [len(group["params"]) for group in optimizer.param_groups],
        "state": optimizer.state_dict()["state"],
    }
    save_atomically(state, epoch_path(folder, "state", epoch))
    save_atomically(history.as_dict(), epoch_path(folder, "history", epoch))
    save_atomically(module.encoder.state_dict(), epoch_path(folder, "encoder", epoch))  # type: ignore[union-attr]
    save_atomically(module.decoder.state_dict(), epoch_path(folder, "decoder", epoch))  # type: ignore[union-attr]
    epoch_path(folder, "state", epoch - 1).unlink(missing_ok=True)
