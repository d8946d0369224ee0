"""The files of an epoch and those of the best one: for evaluation, and for whoever wants to go back."""

import re
from pathlib import Path

from torch import nn

from ...checkpoint import epoch_path, save_atomically
from .history import History

_PARTS = ("decoder", "encoder", "history")  # in the order of dropping: without a decoder it is no epoch


def save_epoch(folder: str | Path, epoch: int, module: nn.Module, history: History) -> None:
    """Write history, encoder and decoder of an epoch; the decoder comes last."""
    save_atomically(history.as_dict(), epoch_path(folder, "history", epoch))
    _save(module, folder, f"epoch_{epoch}.pth")


def save_best(folder: str | Path, module: nn.Module) -> None:
    """Write ``encoder_best.pth`` and ``decoder_best.pth``."""
    _save(module, folder, "best.pth")


def drop_old_epochs(folder: str | Path, epoch: int, keep: int) -> None:
    """Delete the files of all epochs before the newest ``keep``, of which ``epoch`` is the last; 0: none."""
    if not keep:
        return
    for part in _PARTS:
        for file in Path(folder).glob(f"{part}_epoch_*.pth"):
            match = re.fullmatch(rf"{part}_epoch_(\d+)\.pth", file.name)
            if match and int(match[1]) <= epoch - keep:
                file.unlink(missing_ok=True)


def _save(module: nn.Module, folder: str | Path, name: str) -> None:
    for part in ("encoder", "decoder"):
        save_atomically(module.get_submodule(part).state_dict(), Path(folder, f"{part}_{name}"))
