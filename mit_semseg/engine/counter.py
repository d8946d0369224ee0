"""How far a run has come: a bar on a terminal, else a line now and then."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

from ..log import get_logger

_LINE_S = 30.0  # seconds between two lines


class Counter:
    """Counts what is done, and shows it.

    Args:
        total: how much there is to do; 0 if nobody knows.
        unit: what is counted, as a word, in the plural.
        enabled: False keeps it silent.
        line_s: seconds between two lines.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        what: str = "Segmenting",
        enabled: bool = True,
        line_s: float = _LINE_S,
    ) -> None:
        self._total, self._unit, self._what, self._line_s = total, unit, what, line_s
        self._bar = tqdm(
            total=total or None,
            desc=what,
            unit=f" {unit}",
            disable=None if enabled else True,
            leave=False,
            dynamic_ncols=True,
        )
        self._lines = enabled and self._bar.disable
        self._done = 0
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "Counter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self) -> None:
        """One more is done."""
        self._done += 1
        self._bar.update()
        now = time.monotonic()
        if self._lines and now - self._last >= self._line_s:
            self._last = now
            get_logger().info("%s: %s", self._what, self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        if not self._total:
            return f"{self._done} {self._unit}, {rate:.1f} a second"
        left = tqdm.format_interval(max(0, self._total - self._done) / rate)
        return f"{self._done} of {self._total} {self._unit}, {rate:.1f} a second, left {left}"


def say(text: str) -> None:
    """Print lines on standard output, clear of any bar."""
    tqdm.write(text, file=sys.stdout, end="")
