"""Bilinear resizing along one axis: which two values each output blends, and by how much."""

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """Output i is ``(1 - fraction[i]) * x[lower[i]] + fraction[i] * x[upper[i]]``."""

    lower: Tensor  # int64, on the CPU
    upper: Tensor
    fraction: Tensor  # float32

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The range of inputs that the outputs from ``start`` to before ``stop`` read."""
        return int(self.lower[start]), int(self.upper[stop - 1]) + 1

    def blend(self, x: Tensor, first: int, start: int, stop: int) -> Tensor:
        """Outputs ``start`` to ``stop`` - 1 along the first dimension, of inputs from ``first`` on."""
        part = slice(start, stop)
        lower, upper = (index[part].to(x.device) - first for index in (self.lower, self.upper))
        fraction = self.fraction[part].to(x.device)
        return torch.lerp(x[lower], x[upper], fraction.view(-1, *[1] * (x.dim() - 1)))

    def matrix(self, start: int, stop: int) -> Tensor:
        """(outputs, inputs of their `span`), for a product along an axis that is not the first."""
        first, last = self.span(start, stop)
        rows, part = torch.arange(stop - start), slice(start, stop)
        matrix = torch.zeros(stop - start, last - first)
        matrix[rows, self.lower[part] - first] += 1 - self.fraction[part]
        matrix[rows, self.upper[part] - first] += self.fraction[part]
        return matrix


def axis(source: int, target: int) -> Axis:
    """From ``source`` values to ``target`` ones, pixel areas aligned: ``align_corners=False``."""
    centers = (torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5
    places = centers.clamp(0, source - 1)
    lower = places.floor().long()
    return Axis(lower, (lower + 1).clamp(max=source - 1), (places - lower).float())
