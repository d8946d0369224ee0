"""How far a run has come: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from ..log import get_logger

_LINE_S = 30.0  # seconds between two lines


class Counter:
    """Counts what is done, and shows it.

    Args:
        total: how much there is to do; 0 if nobody knows.
        unit: what is counted, as a word, in the plural.
        what: is being done.
        done: how much of it was done before.
        note: gives a few words on how it is going, to be shown beside the numbers.
        enabled: False keeps it silent.
        line_s: seconds between two lines.
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
        self._lines = enabled and self._bar.disable
        self._before = self._done = done
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "Counter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        if self._note is not None and not self._bar.disable:
            self._bar.set_postfix_str(self._note(), refresh=False)
        self._bar.update(count)
        now = time.monotonic()
        if self._lines and now - self._last >= self._line_s:
            self._last = now
            get_logger().info("%s: %s", self._what, self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._before) / seconds
        of = f" of {self._total}" if self._total else ""
        words = [f"{self._done}{of} {self._unit}"]
        if self._note is not None:
            words.append(self._note())
        words.append(f"{rate:.1f} a second")
        if self._total:
            words.append(f"left {tqdm.format_interval(max(0, self._total - self._done) / rate)}")
        return ", ".join(words)


def say(text: str) -> None:
    """Print lines on standard output, clear of any bar."""
    tqdm.write(text, file=sys.stdout, end="")
