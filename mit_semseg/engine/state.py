"""What a run leaves behind after an epoch, and takes up again: weights, optimizer and history."""

from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from ..atomic import replacing
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
    if cfg.MODEL.weights_encoder or cfg.MODEL.weights_decoder:
        get_logger().warning("MODEL.weights_* have no effect, because TRAIN.start_epoch is %d", epoch)
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
        if not isinstance(state, dict) or not {"name", "groups", "state"} <= state.keys():
            raise UserError(f"{file} holds no optimizer state. Delete it to go on with a fresh optimizer.")
        if state["name"] != cfg.TRAIN.optim:
            raise UserError(
                f"{file} holds the state of {state['name']}, but TRAIN.optim is {cfg.TRAIN.optim}. "
                f"Set TRAIN.optim {state['name']}, or delete the file to go on with a fresh optimizer."
            )
        # The groups stay as the config has them, so that a changed learning rate counts.
        groups = optimizer.state_dict()["param_groups"]
        if [len(group["params"]) for group in groups] != state["groups"]:
            raise UserError(
                f"{file} is of another model, or of another TRAIN.fix_bn. "
                "Delete it to go on with a fresh optimizer."
            )
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
    else:
        get_logger().warning("%s does not exist: the optimizer starts afresh", file)
    return _read_history(epoch_path(cfg.DIR, "history", epoch))


def _read_history(file: Path) -> History:
    if not file.is_file():
        return History()
    try:
        return History.from_dict(read(file))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{file} holds no history of a training. Delete it to begin a new one.") from None


def save_epoch(
    cfg: CfgNode, epoch: int, module: nn.Module, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Write config, encoder, decoder, history and optimizer state of an epoch; the decoder comes last.

    With the first of these files ``DIR`` is made: a run that ends before leaves nothing behind.

    The optimizer state is only kept for the newest epoch, because it is as large as the weights.
    """
    folder = Path(cfg.DIR)
    with replacing(folder / "config.yaml") as file:
        file.write(cfg.dump().encode())
    state = {
        "name": cfg.TRAIN.optim,
        "groups": [len(group["params"]) for group in optimizer.param_groups],
        "state": optimizer.state_dict()["state"],
    }
    save_atomically(state, epoch_path(folder, "state", epoch))
    save_atomically(history.as_dict(), epoch_path(folder, "history", epoch))
    save_atomically(module.encoder.state_dict(), epoch_path(folder, "encoder", epoch))  # type: ignore[union-attr]
    save_atomically(module.decoder.state_dict(), epoch_path(folder, "decoder", epoch))  # type: ignore[union-attr]
    epoch_path(folder, "state", epoch - 1).unlink(missing_ok=True)
