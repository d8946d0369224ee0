"""What a person sees of an evaluation: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from tqdm import tqdm

from ..distributed import Place
from ..log import get_logger
from ..metrics import ConfusionMatrix

EVERY_S = 30.0  # seconds between two lines where there is no terminal


class ScoringProgress:
    """The images scored, their mean IoU so far and the time left.

    Args:
        place: the first process speaks, for its own share; the others stay silent.
        total: images in the end, of which ``done`` were scored before.
        matrix: of what has been scored, which goes on changing.
    """

    def __init__(self, place: Place, total: int, done: int, matrix: ConfusionMatrix) -> None:
        self._name = "Evaluating" if place.size == 1 else f"Evaluating (process 1 of {place.size})"
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=self._name,
            unit="img",
            disable=None if place.is_first else True,
        )
        self._speaks = place.is_first
        self._total, self._before, self._done = total, done, done
        self._matrix = matrix
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "ScoringProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, images: int) -> None:
        """So many more images are scored."""
        self._done += images
        if not self._bar.disable:
            self._bar.set_postfix(mean_iou=f"{self._matrix.mean_iou():.4f}", refresh=False)
            self._bar.update(images)
        elif self._speaks and time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            seconds = (self._last - self._start) / (self._done - self._before)
            get_logger().info(
                "%s  %*d/%d  mean IoU %.4f  %.1f img/s  left %s",
                self._name,
                len(str(self._total)),
                self._done,
                self._total,
                self._matrix.mean_iou(),
                1 / seconds,
                tqdm.format_interval((self._total - self._done) * seconds),
            )
