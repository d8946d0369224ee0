"""Numbers on their way from a device to Python, while the device goes on computing."""

import torch
from torch import Tensor


class Reading:
    """A few numbers that a device is about to compute.

    Made in the place where they are computed, it lets a GPU copy them as soon as they are there; `values`
    then waits for that copy alone, not for what the GPU was given to do after it.

    Args:
        numbers: one-dimensional.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers
        self._copied: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(numbers.device))

    def values(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        return self._numbers.tolist()
