"""Evaluations that did not end, and those that go on with what they scored."""

from collections.abc import Iterator
from contextlib import contextmanager

from ...distributed import Place, gather_from_processes
from ...errors import ProcessError, UserError
from ...log import get_logger
from .scored_log import ScoredLog
from .tally import Tally

_KEPT = "What was scored so far is kept: VAL.resume True goes on with it."


def prepare(log: ScoredLog, *, resume: bool) -> None:
    """Before any process adds to the log: see that what it holds is of this evaluation, or drop it.

    Raises: UserError for results of another evaluation.
    """
    if resume:
        log.check()
    elif log.files():
        get_logger().info(
            "Dropped what an evaluation that did not end had scored, in %s. "
            "With VAL.resume True it would have gone on.",
            log.folder,
        )
        log.drop()


def go_on(log: ScoredLog, tally: Tally, place: Place, images: int) -> tuple[int, set[int]]:
    """Add to the first process's tally what the log holds.

    Args:
        images: in the list.

    Returns: a number for this start, and the first image of each batch that is scored; in all processes.
    """
    found: tuple[int, set[int]] = 0, set()
    if place.is_first:
        done = set()
        for batch in log.batches(tally.matrix.num_class):
            done.add(min(scored.index for scored in batch))
            for scored in batch:
                tally.include(scored)
        if done:
            get_logger().info("Going on: %d of %d images are scored", len(tally.images), images)
        found = log.next_start(), done
    # The first process reads for all, and none adds to the log before it has read.
    return gather_from_processes(found)[0]


@contextmanager
def telling_of(log: ScoredLog) -> Iterator[None]:
    """An error in the block comes with the way to go on, if something was scored."""
    try:
        yield
    except (UserError, ProcessError) as error:
        if not log.files():
            raise
        gap = "\n" if "\n" in str(error) else " "
        raise type(error)(f"{error}{gap}{_KEPT}") from error
    except (KeyboardInterrupt, SystemExit):
        if log.files():
            get_logger().info(_KEPT)
        raise
