"""Mean and variance of data that lies in several places, without cancellation.

Each place measures its own count, mean and sum of squares about that mean (`measure`); `combine` makes one of
them. Sums of plain squares would be easier to add up, but lose the variance when the mean is large against
it.

Source: Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample
variances.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kernels


@dataclass(frozen=True)
class Moments:
    """Per channel; float32, or float64 for float64 data."""

    mean: Tensor
    squares: Tensor
    """Sum of squares about the mean, (C,)."""
    count: Tensor
    """Values per channel, at least 1, a scalar."""

    @property
    def variance(self) -> Tensor:
        return self.squares / self.count

    @property
    def unbiased_variance(self) -> Tensor:
        """The estimate for the running average; 0 for a single value."""
        return self.squares / (self.count - 1).clamp_min(1)


def measure(x: Tensor) -> Tensor:
    """One row (2 C + 1,): mean, sum of squares about it, count; zeros if ``x`` (N, C, ...) is empty."""
    channels = x.size(1)
    dtype = kernels.statistics_dtype(x)
    count = x.numel() // channels
    if count == 0:
        return torch.zeros(2 * channels + 1, dtype=dtype, device=x.device)
    mean, variance = kernels.mean_and_variance(x)
    return torch.cat([mean, variance * count, mean.new_full((1,), count)])


def combine(rows: Tensor) -> Moments:
    """The moments of all data, from the rows of `measure`, (n, 2 C + 1). Empty ones count for nothing."""
    channels = rows.size(1) // 2
    means, squares, counts = rows.split([channels, channels, 1], dim=1)
    total = counts.sum().clamp_min(1)
    # Offsets from the first mean are small numbers, so a large common mean costs them no digits.
    offsets = means - means[0]
    offset = (offsets * (counts / total)).sum(0)
    squares = torch.addcmul(squares, counts, (offsets - offset).square()).sum(0)
    return Moments(means[0] + offset, squares, total)
