"""The log of the commands: plain lines on standard output, times in front of them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import unwritable

_NAME = "mit_semseg"


def setup_logger(distributed_rank: int = 0, filename: str = "log.txt") -> logging.Logger:
    """The package's logger, which prints on standard output; on ranks other than 0, errors only.

    Args:
        distributed_rank: of this process among all of the run.
        filename: not read, since the scripts' output is the log; kept for existing callers.
    """
    logger = logging.getLogger(_NAME)
    logger.setLevel(logging.INFO if distributed_rank == 0 else logging.ERROR)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)  # set up twice, it must not print twice
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    return logger


def get_logger() -> logging.Logger:
    """The package's logger, as :func:`setup_logger` left it."""
    return logging.getLogger(_NAME)


class _List(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def remembering() -> Iterator[list[str]]:
    """Inside the block, the messages of the package's logger are kept in a list as well, without times."""
    handler, logger = _List(), get_logger()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


@contextmanager
def writing_log(path: Path) -> Iterator[Callable[[str], None]]:
    """Inside the block, the package's logger appends its lines to a file as well, with the date.

    Yields: what writes a line into the file alone.
    Raises: UserError if the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise unwritable(path, error) from error
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logger = get_logger()
    logger.addHandler(handler)
    try:
        yield lambda text: handler.emit(logger.makeRecord(_NAME, logging.INFO, "", 0, text, (), None))
    finally:
        logger.removeHandler(handler)
        handler.close()
