"""Where a trained model comes from: its config, its checkpoints, and their scores if they are known."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..metrics.confusion import METRICS
from ..runtime.files import sha256_of

_CHECKPOINT = re.compile(r"encoder_(epoch_(\d+))\.pth")


@dataclass(frozen=True)
class Origin:
    """What a model was loaded from.

    Attributes:
        config: all keys, as YAML.
        weights: the checkpoint files of encoder and decoder.
        evaluation: the metrics.json that an evaluation of the run writes.
    """

    config: str
    weights: tuple[str, ...]
    evaluation: Path

    def hashes(self) -> tuple[str, ...]:
        """The SHA-256 of each checkpoint."""
        return tuple(map(sha256_of, self.weights))

    def scores(self) -> dict[str, float]:
        """The scores of these weights: those of the run's evaluation, or else of the validation in training.

        Returns: shares by the names of `METRICS`; empty if neither is known.
        """
        return self._evaluated() or self._validated()

    def _evaluated(self) -> dict[str, float]:
        try:
            metrics = json.loads(self.evaluation.read_text(encoding="utf-8"))
            if tuple(weights["sha256"] for weights in metrics["weights"]) != self.hashes():
                return {}
            return {name: float(metrics[name]) for name in METRICS if metrics[name] is not None}
        except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
            return {}

    def _validated(self) -> dict[str, float]:
        encoder = Path(self.weights[0])
        match = _CHECKPOINT.fullmatch(encoder.name)
        if match is None:
            return {}
        try:
            stored: Any = torch.load(encoder.with_name(f"history_{match[1]}.pth"), weights_only=True)
            val = {key: list(values) for key, values in stored["val"].items()}
            k = val["epoch"].index(float(match[2]))
            return {"mean_iou": float(val["mean_iou"][k]), "pixel_accuracy": float(val["acc"][k]) / 100}
        except Exception:  # none, without a validation, or of another version: a score is not essential
            return {}
