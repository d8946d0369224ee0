"""What a run leaves for people who watch it: log, table of its course, curves, TensorBoard."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from yacs.config import CfgNode

from ...atomic import replacing, unwritable
from ...log import writing_log
from .board import Board
from .course import Course
from .curves import draw_curves
from .history import COLUMNS
from .progress import Line
from .validation import Scores


class Watch:
    """Writes the files of rank 0; see `watching`."""

    def __init__(self, cfg: CfgNode, course: Course) -> None:
        self._cfg = cfg
        self._course = course
        self._table = Path(cfg.DIR, "history.csv")
        self._rewrite_table()
        self._board = self._open_board() if cfg.TRAIN.tensorboard else None

    def line(self, line: Line, rates: tuple[float, float]) -> None:
        """A line of the log, which stands in the history by now."""
        self._append_to_table()
        if self._board:
            self._board.line(self._course.iteration, line, rates)

    def validated(self, epoch: int, scores: Scores) -> None:
        """A validation, which stands in the history by now."""
        self._append_to_table()
        if self._board:
            self._board.validation(
                epoch * self._cfg.TRAIN.epoch_iters, scores.mean_iou, scores.accuracy, scores.samples
            )

    def draw(self) -> None:
        cfg = self._cfg
        title = f"{cfg.MODEL.arch_encoder} + {cfg.MODEL.arch_decoder}"
        draw_curves(self._course.history, Path(cfg.DIR, "curves.png"), title)

    def flush(self) -> None:
        """Bring to the disk what is to be there when a state is saved."""
        if self._board:
            self._board.flush()

    def close(self) -> None:
        if self._board:
            self._board.close()

    def _rows(self) -> list[str]:
        rows = self._course.history.rows(self._cfg.TRAIN.epoch_iters)
        return [",".join(map(str, row)) + "\n" for row in rows]

    def _rewrite_table(self) -> None:
        """The table up to here; what an interrupted run has written beyond comes again."""
        with replacing(self._table) as file:
            file.write("".join([",".join(COLUMNS) + "\n", *self._rows()]).encode())

    def _append_to_table(self) -> None:
        try:
            with self._table.open("a", encoding="utf-8") as file:
                file.write(self._rows()[-1])
        except OSError as error:
            raise unwritable(self._table, error) from error

    def _open_board(self) -> Board:
        course, epoch_iters = self._course, self._cfg.TRAIN.epoch_iters
        # What belongs to the end of an epoch comes again if the run was interrupted there.
        at_end = course.iteration > course.epochs * epoch_iters and course.iteration % epoch_iters == 0
        first = course.iteration + (0 if at_end else 1) if course.iteration else 0
        board = Board(Path(self._cfg.DIR, "tensorboard"), first, self._cfg.dump())
        history = course.history
        if at_end and history.epoch and round(history.epoch[-1] * epoch_iters) == course.iteration:
            board.point(course.iteration, history.loss[-1], history.acc[-1])
        return board


@contextmanager
def watching(
    cfg: CfgNode, course: Course, headline: Sequence[str], *, enabled: bool
) -> Iterator[Watch | None]:
    """Inside the block, the log goes into ``DIR/log.txt`` as well, and a `Watch` writes the rest.

    Args:
        headline: lines that stand in the log before it.
        enabled: False on processes other than the first, which write nothing.

    Raises: UserError if the disk refuses.
    """
    if not enabled:
        yield None
        return
    with writing_log(Path(cfg.DIR, "log.txt")) as write:
        for text in headline:
            write(text)
        watch = Watch(cfg, course)
        try:
            yield watch
        except BaseException as error:
            write(f"Ended by {type(error).__name__}: {error}")
            raise
        finally:
            watch.close()
