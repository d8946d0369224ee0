"""What a person sees of the training: a bar on a terminal, and a line every few iterations."""

import time
from collections.abc import Iterable
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..log import get_logger


class Progress:
    """Times and means of one epoch.

    Args:
        epoch: counted from 1, of ``epochs``.
        iterations: in the epoch.
        enabled: False on processes other than the first, which stay silent.
    """

    def __init__(self, epoch: int, epochs: int, iterations: int, *, enabled: bool) -> None:
        self._epoch, self._epochs, self._iterations = epoch, epochs, iterations
        self._bar = tqdm(
            total=iterations,
            desc=f"Epoch {epoch}/{epochs}",
            unit="it",
            leave=False,
            disable=None if enabled else True,
        )
        self._redirect = logging_redirect_tqdm([get_logger()])
        self._done = 0
        self._reset()

    def __enter__(self) -> "Progress":
        self._redirect.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._redirect.__exit__(kind, error, trace)

    def _reset(self) -> None:
        self._loss = self._accuracy = self._wait = 0.0
        self._steps = self._images = 0
        self._since = self._last = time.perf_counter()

    def loaded(self) -> None:
        """A batch has arrived: the time since the last step was spent waiting for it."""
        self._wait += time.perf_counter() - self._last

    def step(self, loss: float, accuracy: float, images: int) -> None:
        """An iteration is done."""
        self._loss += loss
        self._accuracy += accuracy
        self._images += images
        self._steps += 1
        self._done += 1
        self._last = time.perf_counter()
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update()

    def show(self, rates: Iterable[float]) -> tuple[float, float]:
        """Log a line about the iterations since the last one; returns their mean loss and pixel accuracy."""
        seconds = time.perf_counter() - self._since
        loss, accuracy = self._loss / self._steps, self._accuracy / self._steps
        left = (self._epochs - self._epoch + 1) * self._iterations - self._done
        get_logger().info(
            "Epoch %d/%d  %*d/%d  loss %.4f  acc %5.2f%%  lr %s  %.1f img/s  data %.0f%%  left %s",
            self._epoch,
            self._epochs,
            len(str(self._iterations)),
            self._done,
            self._iterations,
            loss,
            100 * accuracy,
            " ".join(f"{rate:.2e}" for rate in dict.fromkeys(rates)),  # one where both networks share it
            self._images / seconds,
            100 * self._wait / seconds,
            tqdm.format_interval(left * seconds / self._steps),
        )
        self._reset()
        return loss, accuracy
