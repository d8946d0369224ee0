"""The progress of a run: a bar on a terminal, or a log line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from .log import get_logger

_LINE_S = 30.0  # seconds between two log lines


class ProgressCounter:
    """Counts what is done and shows it.

    Args:
        total: the count at the end; 0 if it is not known.
        unit: the plural of what is counted, such as "images".
        what: the title of the bar or the line.
        done: the count at the start. It is not part of the speed.
        note: returns a few words to show beside the numbers.
        enabled: False shows nothing.
        line_s: seconds between two log lines.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        what: str = "Segmenting",
        done: int = 0,
        note: Callable[[], str] | None = None,
        enabled: bool = True,
        line_s: float = _LINE_S,
    ) -> None:
        self._total, self._unit, self._what, self._note, self._line_s = total, unit, what, note, line_s
        self._bar = tqdm(
            total=total or None,
            initial=done,
            desc=what,
            unit=f" {unit}",
            disable=None if enabled else True,
            leave=False,
            dynamic_ncols=True,
        )
        self._logs = enabled and self._bar.disable
        self._initial = self._done = done
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "ProgressCounter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, count: int = 1) -> None:
        """Count ``count`` more."""
        self._done += count
        if self._note is not None and not self._bar.disable:
            self._bar.set_postfix_str(self._note(), refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._logs and now - self._last >= self._line_s:
            self._last = now
            get_logger().info("%s: %s", self._what, self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._initial) / seconds
        of = f" of {self._total}" if self._total else ""
        words = [f"{self._done}{of} {self._unit}"]
        if self._note is not None:
            words.append(self._note())
        words.append(f"{rate:.1f} a second")
        if self._total:
            words.append(f"left {tqdm.format_interval(max(0, self._total - self._done) / rate)}")
        return ", ".join(words)


def say(text: str) -> None:
    """Print lines on standard output without breaking a bar."""
    tqdm.write(text, file=sys.stdout, end="")
