"""Losses, accuracies and validation scores of a run, for ``history_epoch_N.pth`` and ``history.csv``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
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
"""Columns of ``history.csv``; accuracies are in percent."""

Row = tuple[float | int | str, ...]

_TRAIN, _RATES, _VAL = ("epoch", "loss", "acc"), ("lr_encoder", "lr_decoder"), ("epoch", "mean_iou", "acc")


@dataclass
class History:
    """Epochs as fractions (1.5 is half-way through the second), mean loss, and pixel accuracy in percent.

    Attributes:
        lr_encoder, lr_decoder: learning rates at each point. They are shorter than the rest if the history
            begins with points that an old script wrote.
        val: the validations: ``epoch``, ``mean_iou`` as a share, ``acc`` in percent.
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
        """Append a point; ``accuracy`` is a share, ``rates`` are those of encoder and decoder.

        Loss and accuracy are NaN if no pixel was labelled.
        """
        self.epoch.append(epoch)
        self.loss.append(loss)
        self.acc.append(100 * accuracy)
        if rates is not None:
            self.lr_encoder.append(rates[0])
            self.lr_decoder.append(rates[1])

    def add_validation(self, epoch: int, mean_iou: float, accuracy: float) -> None:
        """Append a validation; ``accuracy`` is a share."""
        for key, value in zip(_VAL, (float(epoch), mean_iou, 100 * accuracy), strict=True):
            self.val[key].append(value)

    def as_dict(self) -> dict[str, Any]:
        """The content of ``history_epoch_N.pth``: ``train``, and ``val`` if there are validations."""
        val = {"val": {key: list(values) for key, values in self.val.items()}} if self.val["epoch"] else {}
        return {"train": {key: list(getattr(self, key)) for key in _TRAIN}, **val}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "History":
        """The history that `as_dict`, or an old script, stored. Values may be tensors.

        Raises: ValueError, KeyError, TypeError or AttributeError for anything else.
        """
        points = {key: _floats(stored["train"][key]) for key in _TRAIN}
        val = {key: _floats(stored.get("val", {}).get(key, [])) for key in _VAL}
        if any(len({len(values) for values in columns.values()}) > 1 for columns in (points, val)):
            raise ValueError("the columns of the history differ in length")
        return cls(**points, val=val)

    def state_dict(self) -> dict[str, Any]:
        """The whole history, for `from_state`."""
        return {**self.as_dict(), "rates": {key: list(getattr(self, key)) for key in _RATES}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "History":
        history = cls.from_dict(state)
        history.lr_encoder, history.lr_decoder = (_floats(state["rates"][key]) for key in _RATES)
        if not len(history.lr_encoder) == len(history.lr_decoder) <= len(history.epoch):
            raise ValueError("the learning rates of the history differ in length")
        return history

    def rows(self, epoch_iters: int) -> Iterator[Row]:
        """The rows of ``history.csv`` in order of time; a validation follows the last point of its epoch."""
        points = [(epoch, 0, self._train_row(k, epoch_iters)) for k, epoch in enumerate(self.epoch)]
        points += [(epoch, 1, self._val_row(k, epoch_iters)) for k, epoch in enumerate(self.val["epoch"])]
        for _, _, row in sorted(points, key=lambda point: point[:2]):
            yield row

    def last_train_row(self, epoch_iters: int) -> Row:
        """The row of the latest point."""
        return self._train_row(len(self.epoch) - 1, epoch_iters)

    def last_val_row(self, epoch_iters: int) -> Row:
        """The row of the latest validation."""
        return self._val_row(len(self.val["epoch"]) - 1, epoch_iters)

    def _train_row(self, k: int, epoch_iters: int) -> Row:
        with_rates = k - (len(self.epoch) - len(self.lr_encoder))
        rates: Row = (
            (self.lr_encoder[with_rates], self.lr_decoder[with_rates]) if with_rates >= 0 else ("", "")
        )
        means = _cells(self.loss[k], self.acc[k])
        return (self.epoch[k], round(self.epoch[k] * epoch_iters), *means, *rates, "", "")

    def _val_row(self, k: int, epoch_iters: int) -> Row:
        epoch, *scores = (self.val[key][k] for key in _VAL)
        return (epoch, round(epoch * epoch_iters), "", "", "", "", *_cells(*scores))


def _cells(*values: float) -> list[float | str]:
    """Values as cells of the table. NaN becomes an empty cell."""
    return ["" if isnan(value) else value for value in values]


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]
