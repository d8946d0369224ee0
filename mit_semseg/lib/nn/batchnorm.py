"""BatchNorm whose training statistics are those of the whole batch, over all devices."""

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm


class _SynchronizedBatchNorm(_BatchNorm):
    """What the 1d, 2d and 3d layers share."""


class SynchronizedBatchNorm1d(_SynchronizedBatchNorm):
    """Synchronized BatchNorm over (N, C) or (N, C, L)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(f"SynchronizedBatchNorm1d takes 2 or 3 dimensions, not {tuple(input.shape)}.")


class SynchronizedBatchNorm2d(_SynchronizedBatchNorm):
    """Synchronized BatchNorm over (N, C, H, W)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"SynchronizedBatchNorm2d takes 4 dimensions, not {tuple(input.shape)}.")


class SynchronizedBatchNorm3d(_SynchronizedBatchNorm):
    """Synchronized BatchNorm over (N, C, D, H, W)."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 5:
            raise ValueError(f"SynchronizedBatchNorm3d takes 5 dimensions, not {tuple(input.shape)}.")
