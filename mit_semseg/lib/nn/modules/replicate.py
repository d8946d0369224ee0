"""The module path of the old package; holds no code."""

from ..parallel import DataParallelWithCallback, patch_replication_callback

__all__ = ["DataParallelWithCallback", "patch_replication_callback"]
