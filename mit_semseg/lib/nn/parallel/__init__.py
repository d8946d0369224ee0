"""Training on several devices from one process."""

from ..scatter import async_copy_to, user_scattered_collate
from .data_parallel import DataParallelWithCallback, UserScatteredDataParallel, patch_replication_callback

__all__ = [
    "DataParallelWithCallback",
    "UserScatteredDataParallel",
    "async_copy_to",
    "patch_replication_callback",
    "user_scattered_collate",
]
