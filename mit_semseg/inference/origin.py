"""Where a trained model comes from: its config, its checkpoints, and their scores if they are known."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..metrics.confusion import METRICS
from ..models.weights.checkpoint import read
from ..runtime.files import sha256_of

_CHECKPOINT = re.compile(r"encoder_(epoch_(\d+))\.pth")


@dataclass(frozen=True)
class Origin:
    """What a model was loaded from.

    Attributes:
        config: all keys, as YAML.
        weights: the checkpoint files of encoder and decoder, or the file of a packed model.
        evaluation: the metrics.json that an evaluation of the run writes.
        packed: the scores that a packed model carries.
    """

    config: str
    weights: tuple[str, ...]
    evaluation: Path
    packed: Mapping[str, float] = field(default_factory=dict)

    def hashes(self) -> tuple[str, ...]:
        """The SHA-256 of each checkpoint."""
        return tuple(map(sha256_of, self.weights))

    def scores(self) -> dict[str, float]:
        """The scores of these weights: those of the run's evaluation, or else of the validation in training.

        Returns: shares by the names of `METRICS`; empty if neither is known.
        """
        try:
            metrics = self.metrics()
            evaluated = {name: float(metrics[name]) for name in METRICS if metrics[name] is not None}
        except (ValueError, KeyError, TypeError):  # none, or of another version
            evaluated = {}
        return evaluated or dict(self.packed) or self._validated()

    def metrics(self) -> dict[str, Any]:
        """The content of the run's metrics.json; {} if there is none, or one of other weights."""
        try:
            metrics = json.loads(self.evaluation.read_text(encoding="utf-8"))
            same = tuple(weights["sha256"] for weights in metrics["weights"]) == self.hashes()
        except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
            return {}
        return dict(metrics) if same else {}

    def history(self) -> dict[str, Any]:
        """The history of the training up to these weights; {} without one."""
        match = _CHECKPOINT.fullmatch(Path(self.weights[0]).name)
        if match is None:
            return {}
        try:
            stored = read(Path(self.weights[0]).with_name(f"history_{match[1]}.pth"))
            return {name: {key: list(values) for key, values in stored[name].items()} for name in stored}
        except Exception:  # none, or of another version: it is not essential
            return {}

    def _validated(self) -> dict[str, float]:
        match = _CHECKPOINT.fullmatch(Path(self.weights[0]).name)
        try:
            val = self.history()["val"]
            k = val["epoch"].index(float(match[2] if match else "nan"))
            return {"mean_iou": float(val["mean_iou"][k]), "pixel_accuracy": float(val["acc"][k]) / 100}
        except (LookupError, TypeError, ValueError):  # none, or without a validation
            return {}
