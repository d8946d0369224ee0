"""The course of a training: loss and accuracy over the epochs, as ``history_epoch_N.pth`` holds it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """Epochs as fractions (1.5 is half-way through the second), mean loss, and pixel accuracy in percent."""

    epoch: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    acc: list[float] = field(default_factory=list)

    def add(self, epoch: float, loss: float, accuracy: float) -> None:
        """Append a point; ``accuracy`` as a share."""
        self.epoch.append(epoch)
        self.loss.append(loss)
        self.acc.append(100 * accuracy)

    def as_dict(self) -> dict[str, Any]:
        return {"train": {"epoch": self.epoch, "loss": self.loss, "acc": self.acc}}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "History":
        """The history that :meth:`as_dict`, or an old script, stored, where values may be tensors."""
        return cls(
            **{key: [float(value) for value in stored["train"][key]] for key in ("epoch", "loss", "acc")}
        )
