"""What a person sees of the training: a bar on a terminal, and a line every few iterations."""

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ...log import get_logger
from .course import Window


class Line(NamedTuple):
    """What a line shows: mean loss and accuracy; accuracy and the time spent waiting for data as shares."""

    loss: float
    accuracy: float
    images_per_s: float
    data_wait: float
    memory_gb: float


class Progress:
    """Times and means of one epoch.

    Args:
        epoch: counted from 1, of ``epochs``.
        iterations: in the epoch.
        done: of them, where it goes on.
        window: the sums since the last line, which outlast an interruption.
        device: whose memory is shown.
        enabled: False on processes other than the first, which stay silent.
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
        """A batch has arrived: the time since the last step was spent waiting for it."""
        self._wait += time.perf_counter() - self._last

    def step(self, loss: float, accuracy: float, images: int) -> None:
        """An iteration is done."""
        self._window.add(loss, accuracy)
        self._images += images
        self._steps += 1
        self._done += 1
        self._last = time.perf_counter()
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update()

    def leave_out(self) -> None:
        """The time since the last step was spent on something else, and counts for nothing."""
        now = time.perf_counter()
        self._since += now - self._last
        self._last = now

    def show(self, rates: Iterable[float]) -> "Line":
        """Log a line about the iterations since the last one."""
        seconds = time.perf_counter() - self._since
        window = self._window
        loss, accuracy = window.loss / window.steps, window.accuracy / window.steps
        line = Line(loss, accuracy, self._images / seconds, self._wait / seconds, peak_memory(self._device))
        left = (self._epochs - self._epoch + 1) * self._iterations - self._done
        get_logger().info(
            "Epoch %d/%d  %*d/%d  loss %.4f  acc %5.2f%%  lr %s  "
            "%.1f img/s  data %.0f%%  mem %.1f GB  left %s",
            self._epoch,
            self._epochs,
            len(str(self._iterations)),
            self._done,
            self._iterations,
            loss,
            100 * accuracy,
            " ".join(f"{rate:.2e}" for rate in dict.fromkeys(rates)),  # one where both networks share it
            line.images_per_s,
            100 * line.data_wait,
            line.memory_gb,
            tqdm.format_interval(left * seconds / self._steps),
        )
        window.loss, window.accuracy, window.steps = 0.0, 0.0, 0
        self._reset()
        return line


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has taken so far, of its GPU or else of the machine; 10^9 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return float("nan")
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
