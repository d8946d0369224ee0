"""Where a run stands: all that changes in it besides the weights and what the optimizer keeps."""

import math
from dataclasses import dataclass, field
from typing import Any

from .history import History


@dataclass
class Window:
    """Sums over the iterations since the last line of the log."""

    loss: float = 0.0
    accuracy: float = 0.0
    steps: int = 0

    def add(self, loss: float, accuracy: float) -> None:
        self.loss += loss
        self.accuracy += accuracy
        self.steps += 1


@dataclass
class Course:
    """
    Attributes:
        iteration: iterations done, of the whole run.
        sub_batches: of the schedule, used up by them on all devices. It says where to go on in the data, also
            with another number of devices.
        epochs: epochs that are done with, to their last file.
        window: the means that are to be shown next.
        best: the highest mean IoU of a validation; None before the first.
        stale: validations since then.
    """

    iteration: int = 0
    sub_batches: int = 0
    epochs: int = 0
    window: Window = field(default_factory=Window)
    history: History = field(default_factory=History)
    best: float | None = None
    stale: int = 0

    def validated(self, epoch: int, mean_iou: float, accuracy: float) -> bool:
        """Take in a validation's scores, ``accuracy`` as a share; returns whether it is the best so far."""
        self.history.add_validation(epoch, mean_iou, accuracy)
        better = not math.isnan(mean_iou) and (self.best is None or mean_iou > self.best)
        self.best, self.stale = (mean_iou, 0) if better else (self.best, self.stale + 1)
        return better

    def has_ended(self, num_epoch: int, patience: int) -> bool:
        """Whether all epochs are done, or ``patience`` validations (0: any number) have brought nothing."""
        return self.epochs >= num_epoch or bool(patience and self.stale >= patience)

    def state_dict(self) -> dict[str, Any]:
        window = {"loss": self.window.loss, "accuracy": self.window.accuracy, "steps": self.window.steps}
        return {
            "iteration": self.iteration,
            "sub_batches": self.sub_batches,
            "epochs": self.epochs,
            "window": window,
            "history": self.history.state_dict(),
            "best": self.best,
            "stale": self.stale,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Course":
        """Raises: KeyError, TypeError or ValueError if ``state`` is no `state_dict`."""
        best, window = state["best"], state["window"]
        return cls(
            iteration=int(state["iteration"]),
            sub_batches=int(state["sub_batches"]),
            epochs=int(state["epochs"]),
            window=Window(float(window["loss"]), float(window["accuracy"]), int(window["steps"])),
            history=History.from_state(state["history"]),
            best=None if best is None else float(best),
            stale=int(state["stale"]),
        )
