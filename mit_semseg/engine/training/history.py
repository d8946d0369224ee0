"""The course of a training, as ``history_epoch_N.pth`` and ``history.csv`` hold it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

COLUMNS = (
    "epoch",
    "iteration",
    "loss",
    "accuracy",
    "lr_encoder",
    "lr_decoder",
    "val_mean_iou",
    "val_accuracy",
)
"""Of ``history.csv``; accuracies are percent."""

_TRAIN, _RATES, _VAL = ("epoch", "loss", "acc"), ("lr_encoder", "lr_decoder"), ("epoch", "mean_iou", "acc")


@dataclass
class History:
    """Epochs as fractions (1.5 is half-way through the second), mean loss, and pixel accuracy in percent.

    Attributes:
        lr_encoder, lr_decoder: rates at each point; shorter than the rest by the points of an old script,
            which come first.
        val: the points of the validations: ``epoch``, ``mean_iou`` as a share, ``acc`` in percent.
    """

    epoch: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    acc: list[float] = field(default_factory=list)
    lr_encoder: list[float] = field(default_factory=list)
    lr_decoder: list[float] = field(default_factory=list)
    val: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in _VAL})

    def add(
        self, epoch: float, loss: float, accuracy: float, rates: tuple[float, float] | None = None
    ) -> None:
        """Append a point; ``accuracy`` as a share, ``rates`` of encoder and decoder."""
        self.epoch.append(epoch)
        self.loss.append(loss)
        self.acc.append(100 * accuracy)
        if rates is not None:
            self.lr_encoder.append(rates[0])
            self.lr_decoder.append(rates[1])

    def add_validation(self, epoch: int, mean_iou: float, accuracy: float) -> None:
        """Append a validation's point; ``accuracy`` as a share."""
        for key, value in zip(_VAL, (float(epoch), mean_iou, 100 * accuracy), strict=True):
            self.val[key].append(value)

    def as_dict(self) -> dict[str, Any]:
        """What ``history_epoch_N.pth`` holds: ``train`` as ever, and ``val`` if there are validations."""
        val = {"val": {key: list(values) for key, values in self.val.items()}} if self.val["epoch"] else {}
        return {"train": {key: list(getattr(self, key)) for key in _TRAIN}, **val}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "History":
        """The history that :meth:`as_dict`, or an old script, stored, where values may be tensors."""
        points = {key: _floats(stored["train"][key]) for key in _TRAIN}
        val = {key: _floats(stored.get("val", {}).get(key, [])) for key in _VAL}
        return cls(**points, val=val)

    def state_dict(self) -> dict[str, Any]:
        """All of it, for :meth:`from_state`."""
        return {**self.as_dict(), "rates": {key: list(getattr(self, key)) for key in _RATES}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "History":
        history = cls.from_dict(state)
        history.lr_encoder, history.lr_decoder = (_floats(state["rates"][key]) for key in _RATES)
        return history

    def rows(self, epoch_iters: int) -> Iterator[tuple[float | int | str, ...]]:
        """The lines of ``history.csv`` in the order of time, a validation behind its epoch's last point."""
        without = len(self.epoch) - len(self.lr_encoder)
        rates = [("", "")] * without + list(zip(self.lr_encoder, self.lr_decoder, strict=True))
        points = [
            (epoch, 0, (epoch, round(epoch * epoch_iters), loss, acc, *lr, "", ""))
            for epoch, loss, acc, lr in zip(self.epoch, self.loss, self.acc, rates, strict=True)
        ]
        points += [
            (epoch, 1, (epoch, round(epoch * epoch_iters), "", "", "", "", mean_iou, acc))
            for epoch, mean_iou, acc in zip(*(self.val[key] for key in _VAL), strict=True)
        ]
        for _, _, row in sorted(points, key=lambda point: point[:2]):
            yield row


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]
