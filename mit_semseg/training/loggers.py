"""The logs of a run for people: ``log.txt``, ``history.csv``, ``curves.png``, samples and trackers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..config import flat_config
from ..runtime.files import replacing, unwritable
from ..runtime.log import appending_log_to
from ..tracking import Ending, TrackedRun, Trackers, open_trackers, write_identity
from .counters import TrainState
from .curves import draw_curves
from .history import COLUMNS, Row
from .options import RunOptions
from .progress import Line
from .samples import write_samples
from .validation import Scores


class Loggers:
    """Writes the files of a run for people and reports to its trackers, on rank 0; see `logging_to`."""

    def __init__(self, options: RunOptions, state: TrainState) -> None:
        self._options = options
        self._state = state
        self._table = options.folder / "history.csv"
        self._rewrite_table()
        self._trackers = self._open_trackers()

    def line(self, line: Line, rates: tuple[float, float]) -> None:
        """Record a log line that is already in the history."""
        self._append_to_table(self._state.history.last_train_row(self._options.epoch_iters))
        values = {
            **_point(line.loss, 100 * line.accuracy),
            "rate/encoder": rates[0],
            "rate/decoder": rates[1],
            "speed/images_per_second": line.images_per_s,
            "speed/data_wait_percent": 100 * line.data_wait,
            "speed/memory_gb": line.memory_gb,
        }
        self._trackers.scalars(self._state.iteration, values)

    def validated(self, epoch: int, scores: Scores) -> None:
        """Record a validation that is already in the history, and write its sample predictions."""
        self._append_to_table(self._state.history.last_val_row(self._options.epoch_iters))
        step = epoch * self._options.epoch_iters
        values = {"val/mean_iou": scores.mean_iou, "val/accuracy": 100 * scores.accuracy}
        self._trackers.scalars(
            step, values | {f"val/iou/{name}": iou for name, iou in scores.classes.items()}
        )
        self._trackers.pictures(step, {f"val/{name}": picture for name, picture in scores.samples.items()})
        write_samples(self._options.folder, scores.samples)

    def saved(self, epoch: int, *, best: bool) -> None:
        """Report the checkpoint of an epoch if it is the best so far or the last one, and draw the curves."""
        folder = self._options.folder
        draw_curves(self._state.history, folder / "curves.png", self._options.title)
        if best:
            self._report_checkpoint("best", "best.pth")
        if self._has_ended():
            self._report_checkpoint("last", f"epoch_{epoch}.pth")
            self._trackers.files("curves", [folder / "curves.png", self._table])

    def flush(self) -> None:
        """Write everything to disk. Call it before a state is saved."""
        self._trackers.flush()

    def close(self, error: BaseException | None = None) -> None:
        """End the trackers, given the error that ended the run."""
        failed = error is not None and not isinstance(error, KeyboardInterrupt)
        ended = Ending.FINISHED if self._has_ended() else Ending.STOPPED
        self._trackers.close(Ending.FAILED if failed else ended)

    def _has_ended(self) -> bool:
        return self._state.has_ended(self._options.num_epoch, self._options.patience)

    def _report_checkpoint(self, which: str, name: str) -> None:
        files = [self._options.folder / f"{part}_{name}" for part in ("encoder", "decoder")]
        self._trackers.files(f"checkpoint-{which}", [*files, self._options.folder / "config.yaml"])

    def _rewrite_table(self) -> None:
        """Write the rows up to the current state, without those that an interrupted run wrote after it."""
        rows = self._state.history.rows(self._options.epoch_iters)
        with replacing(self._table) as file:
            file.write("".join(map(_csv, [COLUMNS, *rows])).encode())

    def _append_to_table(self, row: Row) -> None:
        try:
            with self._table.open("a", encoding="utf-8") as file:
                file.write(_csv(row))
        except OSError as error:
            raise unwritable(self._table, error) from error

    def _open_trackers(self) -> Trackers:
        options, state, epoch_iters = self._options, self._state, self._options.epoch_iters
        # A run that was interrupted at the end of an epoch writes that epoch's validation again.
        at_end = state.iteration > state.epochs * epoch_iters and state.iteration % epoch_iters == 0
        first = state.iteration + (0 if at_end else 1) if state.iteration else 0
        identity, known = write_identity(options.folder, options.config, resumed=state.iteration > 0)
        keys = flat_config(options.config)
        run = TrackedRun(identity, options.folder, options.config, keys, resumed=known, next_step=first)
        trackers = open_trackers(options.trackers, run)
        history = state.history
        if at_end and history.epoch and round(history.epoch[-1] * epoch_iters) == state.iteration:
            trackers.scalars(state.iteration, _point(history.loss[-1], history.acc[-1]))
        return trackers


@contextmanager
def logging_to(
    options: RunOptions, state: TrainState, headline: Sequence[str], *, enabled: bool
) -> Iterator[Loggers | None]:
    """Inside the block, the log is also written to ``DIR/log.txt``. The `Loggers` write the other files.

    Args:
        headline: the first lines of the log file.
        enabled: False on processes other than the first, which write nothing.

    Raises: UserError if the disk refuses.
    """
    if not enabled:
        yield None
        return
    with appending_log_to(options.folder / "log.txt") as write:
        for text in headline:
            write(text)
        loggers = Loggers(options, state)
        try:
            yield loggers
        except BaseException as error:
            write(f"Ended by {type(error).__name__}: {error}")
            loggers.close(error)
            raise
        loggers.close()


def _point(loss: float, accuracy: float) -> dict[str, float]:
    """Loss and accuracy, in percent, as the trackers call them."""
    return {"train/loss": loss, "train/accuracy": accuracy}


def _csv(row: Sequence[object]) -> str:
    return ",".join(map(str, row)) + "\n"
