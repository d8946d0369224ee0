"""All trackers of a run, as one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from math import isnan
from pathlib import Path

from .guard import Action, BackgroundGuard, Guard
from .tracker import Ending, Picture, TrackedRun, Tracker


class Trackers:
    """Sends everything to each tracker. No method raises an error or waits for a network, except `close`."""

    def __init__(self, guards: Sequence[Guard | BackgroundGuard], patience_s: float = 0.0) -> None:
        self._guards = guards
        self._patience_s = patience_s

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Report the numbers that are not NaN, by name; ``step`` is the number of iterations done."""
        known = {name: value for name, value in values.items() if not isnan(value)}
        if known:
            self._send(lambda tracker: tracker.scalars(step, known))

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Report pictures by name."""
        if pictures:
            self._send(lambda tracker: tracker.pictures(step, pictures))

    def files(self, name: str, files: Sequence[Path]) -> None:
        """Keep copies of those of the files that exist, under a name. The trackers read them later."""
        self._send(lambda tracker: tracker.files(name, [file for file in files if file.is_file()]))

    def flush(self) -> None:
        """Write what is in memory to the disk, for trackers that only write there."""
        for guard in self._guards:
            guard.flush()

    def close(self, ending: Ending) -> None:
        """End the trackers. Waits a limited time for what is not sent yet; a second Ctrl-C ends the wait."""
        for guard in self._guards:
            guard.close(ending, self._patience_s)

    def _send(self, action: Action) -> None:
        for guard in self._guards:
            guard.send(action)


def open_trackers(names: Sequence[str], run: TrackedRun) -> Trackers:
    """The trackers of a run, by their names. Their libraries are imported when they are first used."""
    guards: list[Guard | BackgroundGuard] = [
        (Guard if name == "tensorboard" else BackgroundGuard)(name, partial(_BUILDERS[name], run))
        for name in dict.fromkeys(names)
    ]
    return Trackers(guards, run.patience_s)


def package_of(name: str) -> str:
    """The package to install for a tracker; "" if it is installed."""
    module, package = _PACKAGES[name]
    return "" if find_spec(module) else package


def _tensorboard(run: TrackedRun) -> Tracker:
    from .tensorboard import TensorBoard

    return TensorBoard(run)


def _wandb(run: TrackedRun) -> Tracker:
    from .wandb import WeightsAndBiases

    return WeightsAndBiases(run)


def _mlflow(run: TrackedRun) -> Tracker:
    from .mlflow import MLflow

    return MLflow(run)


_BUILDERS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboard"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow-skinny sqlalchemy alembic"),
}
