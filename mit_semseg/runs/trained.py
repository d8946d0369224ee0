"""The trained weights in a folder, and the evaluations of exactly these weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..models.weights.checkpoint import newest_epoch
from ..runtime.files import sha256_of
from ..runtime.near_names import did_you_mean


@dataclass(frozen=True)
class Trained:
    """Weights that can be published.

    Attributes:
        checkpoint: the end of the files' names, as ``TEST.checkpoint`` takes it: "best.pth".
        weights: the files of encoder and decoder.
        evaluations: folder and content of metrics.json; the one in ``result`` first.
        others: how many evaluations in the folder are of other weights.
    """

    folder: Path
    checkpoint: str
    weights: tuple[Path, Path]
    evaluations: list[tuple[Path, dict[str, Any]]]
    others: int


def find_trained(folder: Path, checkpoint: str = "") -> Trained:
    """The weights in a run's folder.

    Args:
        checkpoint: "" for those of the best validation, or else of the newest epoch.

    Raises: UserError if there are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder.{did_you_mean(folder)} Name the folder of a run.")
    if not checkpoint:
        newest = newest_epoch(folder)
        checkpoint = f"epoch_{newest}.pth" if newest is not None else ""
        if all((folder / f"{part}_best.pth").is_file() for part in ("encoder", "decoder")):
            checkpoint = "best.pth"
    if not checkpoint:
        raise UserError(
            f"{folder} holds no checkpoint. Name the folder of a run that has ended an epoch; mit-semseg "
            "runs lists them."
        )
    files = folder / f"encoder_{checkpoint}", folder / f"decoder_{checkpoint}"
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} does not exist. Set --checkpoint to the end of its name.")
    sums = {sha256_of(file) for file in files}
    evaluations, others = [], 0
    found = sorted(folder.glob("*/metrics.json"), key=lambda file: (file.parent.name != "result", file))
    for file in found:
        metrics = _read(file)
        if metrics and {weight.get("sha256") for weight in metrics["weights"]} == sums:
            evaluations.append((file.parent, metrics))
        else:
            others += 1
    return Trained(folder, checkpoint, files, evaluations, others)


def _read(file: Path) -> dict[str, Any]:
    """The content of a metrics.json that this release, or an earlier one, wrote; {} for anything else."""
    try:
        metrics = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    needed = {"weights": list, "classes": list, "config": dict, "images": int}
    usable = isinstance(metrics, dict) and all(
        isinstance(metrics.get(key), kind) for key, kind in needed.items()
    )
    return metrics if usable and all(isinstance(weight, dict) for weight in metrics["weights"]) else {}
