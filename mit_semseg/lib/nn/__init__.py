"""Synchronized BatchNorm and the data-parallel scatter."""

from .batchnorm import SynchronizedBatchNorm1d, SynchronizedBatchNorm2d, SynchronizedBatchNorm3d
from .convert import convert_model, freeze, freeze_batch_norm
from .parallel import DataParallelWithCallback, UserScatteredDataParallel, patch_replication_callback
from .scatter import async_copy_to, user_scattered_collate

__all__ = [
    "DataParallelWithCallback",
    "SynchronizedBatchNorm1d",
    "SynchronizedBatchNorm2d",
    "SynchronizedBatchNorm3d",
    "UserScatteredDataParallel",
    "async_copy_to",
    "convert_model",
    "freeze",
    "freeze_batch_norm",
    "patch_replication_callback",
    "user_scattered_collate",
]
