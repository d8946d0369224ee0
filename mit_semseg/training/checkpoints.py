"""The checkpoints of each epoch and of the best one, to evaluate or to train on from an earlier epoch."""

import re
from pathlib import Path
from typing import Any

from ..models.weights.checkpoint import epoch_path, save_atomically
from .history import History
from .state import check_finite

# In the order of deletion: an epoch without a decoder does not count.
_PARTS = ("decoder", "encoder", "history")


Parts = dict[str, dict[str, Any]]


def save_epoch(folder: str | Path, epoch: int, weights: Parts, history: History) -> None:
    """Write the history, encoder and decoder of an epoch, the decoder last.

    Args:
        weights: the state dicts of "encoder" and "decoder".

    Raises: UserError if the disk refuses, DivergenceError for weights that are not finite.
    """
    check_finite(weights, f"in epoch {epoch}", "Its checkpoint was not written")
    save_atomically(history.as_dict(), epoch_path(folder, "history", epoch))
    _save(weights, folder, f"epoch_{epoch}.pth")


def save_best(folder: str | Path, weights: Parts) -> None:
    """Write ``encoder_best.pth`` and ``decoder_best.pth``. Raises: the same errors as `save_epoch`."""
    check_finite(weights, "in the best epoch", "Its checkpoint was not written")
    _save(weights, folder, "best.pth")


def drop_old_epochs(folder: str | Path, epoch: int, keep: int) -> None:
    """Delete the files of all but the ``keep`` newest epochs; ``epoch`` is the newest. 0 keeps all."""
    if not keep:
        return
    for part in _PARTS:
        for file in Path(folder).glob(f"{part}_epoch_*.pth"):
            match = re.fullmatch(rf"{part}_epoch_(\d+)\.pth", file.name)
            if match and int(match[1]) <= epoch - keep:
                file.unlink(missing_ok=True)


def _save(weights: Parts, folder: str | Path, name: str) -> None:
    for part, values in weights.items():
        save_atomically(values, Path(folder, f"{part}_{name}"))
