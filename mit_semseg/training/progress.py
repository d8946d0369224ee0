"""The progress of a training: a bar on a terminal, and a log line every few iterations."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..runtime.log import get_logger
from ..runtime.machine import peak_memory
from .counters import Window
from .step import StepResult


class Line(NamedTuple):
    """The values of a log line.

    Loss and accuracy are means over the labelled pixels, NaN without any. Accuracy and the wait for data are
    shares.
    """

    loss: float
    accuracy: float
    images_per_s: float
    data_wait: float
    memory_gb: float


class Progress:
    """Measures and shows the progress of one epoch.

    Args:
        epoch: number of the epoch, from 1 to ``epochs``.
        iterations: number of iterations in the epoch.
        done: iterations of the epoch that are already done.
        window: the sums since the last line, which survive an interruption.
        device: the device whose memory is shown.
        enabled: False on processes other than the first, which show nothing.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        iterations: int,
        *,
        done: int = 0,
        window: Window,
        device: torch.device,
        enabled: bool,
    ) -> None:
        self._epoch, self._epochs, self._iterations = epoch, epochs, iterations
        self._window, self._device = window, device
        self._bar = tqdm(
            total=iterations,
            initial=done,
            desc=f"Epoch {epoch}/{epochs}",
            unit="it",
            leave=False,
            disable=None if enabled else True,
        )
        self._redirect = logging_redirect_tqdm([get_logger()])
        self._done = done
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
        self._wait = 0.0
        self._steps = self._images = 0
        self._since = self._last = time.perf_counter()

    def loaded(self) -> None:
        """Record that a batch has arrived: the time since the last step was spent waiting for it."""
        self._wait += time.perf_counter() - self._last

    def step(self, result: StepResult, images: int) -> None:
        """Record an iteration with ``images`` images."""
        self._window.add(*result)
        self._images += images
        self._steps += 1
        self._done += 1
        self._last = time.perf_counter()
        if result.pixels:
            self._bar.set_postfix(loss=f"{result.loss:.3f}", refresh=False)
        self._bar.update()

    def pause(self) -> None:
        """Exclude the time since the last step from the speed, because it was spent on something else."""
        now = time.perf_counter()
        self._since += now - self._last
        self._last = now

    def show(self, rates: Iterable[float]) -> Line:
        """Log a line about the iterations since the last one."""
        seconds = time.perf_counter() - self._since
        window = self._window
        loss, accuracy = window.means()
        line = Line(loss, accuracy, self._images / seconds, self._wait / seconds, peak_memory(self._device))
        left = (self._epochs - self._epoch + 1) * self._iterations - self._done
        get_logger().info(
            "Epoch %d/%d  %*d/%d  %s  lr %s  %.1f img/s  data %.0f%%  mem %.1f GB  left %s%s",
            self._epoch,
            self._epochs,
            len(str(self._iterations)),
            self._done,
            self._iterations,
            f"loss {loss:.4f}  acc {accuracy:6.2%}" if window.pixels else "no labelled pixel",
            " ".join(f"{rate:.2e}" for rate in dict.fromkeys(rates)),  # shown once if both networks share it
            line.images_per_s,
            100 * line.data_wait,
            line.memory_gb,
            tqdm.format_interval(left * seconds / self._steps),
            f"  (no labelled pixel in {window.unlabelled} of {window.steps} iterations)"
            if window.pixels and window.unlabelled
            else "",
        )
        window.reset()
        self._reset()
        return line
