"""The checkpoints of each epoch and of the best one, to evaluate or to train on from an earlier epoch."""

import re
from pathlib import Path
from typing import Any

from torch import nn

from ..models.weights.checkpoint import epoch_path, save_atomically
from .history import History
from .state import check_finite

# In the order of deletion: an epoch without a decoder does not count.
_PARTS = ("decoder", "encoder", "history")


def save_epoch(folder: str | Path, epoch: int, module: nn.Module, history: History) -> None:
    """Write the history, encoder and decoder of an epoch, the decoder last.

    Raises: UserError if the disk refuses, DivergenceError for weights that are not finite.
    """
    check_finite(_parts(module), f"in epoch {epoch}", "Its checkpoint was not written")
    save_atomically(history.as_dict(), epoch_path(folder, "history", epoch))
    _save(module, folder, f"epoch_{epoch}.pth")


def save_best(folder: str | Path, module: nn.Module) -> None:
    """Write ``encoder_best.pth`` and ``decoder_best.pth``. Raises: the same errors as `save_epoch`."""
    check_finite(_parts(module), "in the best epoch", "Its checkpoint was not written")
    _save(module, folder, "best.pth")


def drop_old_epochs(folder: str | Path, epoch: int, keep: int) -> None:
    """Delete the files of all but the ``keep`` newest epochs; ``epoch`` is the newest. 0 keeps all."""
    if not keep:
        return
    for part in _PARTS:
        for file in Path(folder).glob(f"{part}_epoch_*.pth"):
            match = re.fullmatch(rf"{part}_epoch_(\d+)\.pth", file.name)
            if match and int(match[1]) <= epoch - keep:
                file.unlink(missing_ok=True)


def _save(module: nn.Module, folder: str | Path, name: str) -> None:
    for part, weights in _parts(module).items():
        save_atomically(weights, Path(folder, f"{part}_{name}"))


def _parts(module: nn.Module) -> dict[str, dict[str, Any]]:
    return {part: module.get_submodule(part).state_dict() for part in ("encoder", "decoder")}
