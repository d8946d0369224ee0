"""The module path of the old package; holds no code."""

from ..batchnorm import SynchronizedBatchNorm1d, SynchronizedBatchNorm2d, SynchronizedBatchNorm3d
from ..parallel import DataParallelWithCallback, patch_replication_callback
from . import batchnorm, replicate

__all__ = [
    "DataParallelWithCallback",
    "SynchronizedBatchNorm1d",
    "SynchronizedBatchNorm2d",
    "SynchronizedBatchNorm3d",
    "batchnorm",
    "patch_replication_callback",
    "replicate",
]
