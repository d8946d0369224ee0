"""The log of the commands: lines on standard output, each with its time."""

import contextlib
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .files import unwritable

LOST_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EIO)
"""Errors of an output whose reader has ended, whose disk is full, or whose terminal is gone."""

_NAME = "mit_semseg"


def setup_logger(distributed_rank: int = 0, filename: str = "log.txt") -> logging.Logger:
    """The package's logger, set up to print on standard output; on ranks other than 0, errors only.

    Args:
        distributed_rank: rank of this process.
        filename: ignored, since the scripts' output is the log; kept for existing callers.
    """
    logger = logging.getLogger(_NAME)
    logger.setLevel(logging.INFO if distributed_rank == 0 else logging.ERROR)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)  # otherwise, a second call would make it print every line twice
    handler = _Console(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    return logger


def get_logger() -> logging.Logger:
    """The package's logger, as :func:`setup_logger` has set it up."""
    return logging.getLogger(_NAME)


def ignore_decoder_warnings() -> None:
    """Ignore Pillow's warnings and logs in this process, such as about damaged EXIF data or a large image.

    Whatever makes a file unusable raises an error instead.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def discard_output() -> None:
    """Send standard output to nowhere from now on, and what is in its buffer, which could not be written."""
    with contextlib.suppress(OSError):  # a stream without a file descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Console(logging.StreamHandler[TextIO]):
    """Prints lines until the output is lost, as in ``| head``. The command continues without them."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError) or error.errno not in LOST_OUTPUT:
            super().handleError(record)
            return
        discard_output()
        if error.errno != errno.EPIPE:  # whoever closed a pipe knows it
            sys.stderr.write(f"Continuing without output, which cannot be written ({error.strerror}).\n")


class _List(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def capturing_log() -> Iterator[list[str]]:
    """Inside the block, the messages of the package's logger are also collected in a list, without times."""
    handler, logger = _List(), get_logger()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


@contextmanager
def appending_log_to(path: Path) -> Iterator[Callable[[str], None]]:
    """Inside the block, the package's logger also appends its lines to a file, with date and time.

    Yields: a function that writes a line to the file only.
    Raises: UserError if the file cannot be written.
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


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """After the block, its warnings are printed as plain lines on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if os.environ.get("RANK", "0") == "0":  # under torchrun, every process reads the config; one reports
        for warning in caught:
            sys.stderr.write(f"{warning.message}\n")
