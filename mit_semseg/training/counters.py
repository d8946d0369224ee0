"""How far a run is: the counters of its state, and the sums for the next line of its log."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from .history import History

_COUNTERS = ("iteration", "sub_batches", "epochs", "best", "stale", "unlabelled", "first_sub_batches")


@dataclass
class Window:
    """Sums over the iterations since the last line of the log.

    Attributes:
        loss, accuracy: sums over the labelled pixels.
        pixels: number of labelled pixels.
        unlabelled: number of iterations without a labelled pixel.
        steps: number of iterations.
    """

    loss: float = 0.0
    accuracy: float = 0.0
    pixels: int = 0
    unlabelled: int = 0
    steps: int = 0

    def add(self, loss: float, accuracy: float, pixels: int) -> None:
        """Add an iteration, given its means over ``pixels`` labelled pixels."""
        self.loss += loss * pixels
        self.accuracy += accuracy * pixels
        self.pixels += pixels
        self.unlabelled += not pixels
        self.steps += 1

    def reset(self) -> None:
        self.__dict__.update(Window().__dict__)

    def means(self) -> tuple[float, float]:
        """The mean loss and accuracy of a labelled pixel; NaN if there is none."""
        if not self.pixels:
            return math.nan, math.nan
        return self.loss / self.pixels, self.accuracy / self.pixels

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Window":
        if state.keys() == {"loss", "accuracy", "steps"}:
            return cls()  # sums over iterations, as release 2.0 kept them, say nothing about pixels
        return cls(
            loss=float(state["loss"]),
            accuracy=float(state["accuracy"]),
            pixels=int(state["pixels"]),
            unlabelled=int(state["unlabelled"]),
            steps=int(state["steps"]),
        )


@dataclass
class TrainState:
    """The progress of a run: everything that changes in it besides weights, optimizer and number format.

    Attributes:
        iteration: number of iterations done in the whole run.
        sub_batches: number of sub-batches of the schedule used so far on all devices. The data continues from
            there, even with another number of devices.
        epochs: number of epochs whose files are all written.
        window: the sums behind the means in the next log line.
        best: the highest mean IoU of a validation; None before the first.
        stale: validations since the best one.
        unlabelled: iterations of the whole run without a labelled pixel.
        first_sub_batches: sub-batches in the first iteration of the run, for `TRAIN.scale_rate`; 0 before it.
    """

    iteration: int = 0
    sub_batches: int = 0
    epochs: int = 0
    window: Window = field(default_factory=Window)
    history: History = field(default_factory=History)
    best: float | None = None
    stale: int = 0
    unlabelled: int = 0
    first_sub_batches: int = 0

    def validated(self, epoch: int, mean_iou: float, accuracy: float) -> bool:
        """Record a validation; ``accuracy`` is a share. Returns whether it is the best so far."""
        self.history.add_validation(epoch, mean_iou, accuracy)
        better = not math.isnan(mean_iou) and (self.best is None or mean_iou > self.best)
        self.best, self.stale = (mean_iou, 0) if better else (self.best, self.stale + 1)
        return better

    def has_ended(self, num_epoch: int, patience: int) -> bool:
        """Whether all epochs are done, or ``patience`` validations (0: no limit) brought no improvement."""
        return self.epochs >= num_epoch or bool(patience and self.stale >= patience)

    def state_dict(self) -> dict[str, Any]:
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return {**counters, "window": asdict(self.window), "history": self.history.state_dict()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TrainState":
        """Raises: KeyError, TypeError or ValueError if ``state`` is not a `state_dict`."""
        best = state["best"]
        found = cls(
            iteration=int(state["iteration"]),
            sub_batches=int(state["sub_batches"]),
            epochs=int(state["epochs"]),
            window=Window.from_state(state["window"]),
            history=History.from_state(state["history"]),
            best=None if best is None else float(best),
            stale=int(state["stale"]),
            unlabelled=int(state.get("unlabelled", 0)),  # release 2.0 did not count them
            first_sub_batches=int(state.get("first_sub_batches", 0)),
        )
        if not found.first_sub_batches and found.iteration:  # release 2.0 did not save it
            found.first_sub_batches = max(1, round(found.sub_batches / found.iteration))
        for name in _COUNTERS:
            if name != "best" and not 0 <= getattr(found, name) < 2**63:
                raise ValueError(f"{name} is {getattr(found, name)}")
        return found
