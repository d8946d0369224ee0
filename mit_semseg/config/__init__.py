"""The configuration: the table of keys (keys.py), and loading and checking configs (load.py, rules.py).

``cfg`` is the mutable tree that existing code imports. The commands use :func:`load_config`, which does not
change it.
"""

from .keys import get_defaults
from .load import current_names, flat_config, load_config, with_keys

cfg = get_defaults()

__all__ = ["cfg", "current_names", "flat_config", "get_defaults", "load_config", "with_keys"]
