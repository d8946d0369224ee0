"""The configuration: every key with its default (defaults.py), and changing them (load.py).

``cfg`` is the mutable tree that existing code imports. The scripts use :func:`load_config`, which leaves it
alone.
"""

from .defaults import get_defaults
from .load import load_config, with_keys

cfg = get_defaults()

__all__ = ["cfg", "get_defaults", "load_config", "with_keys"]
