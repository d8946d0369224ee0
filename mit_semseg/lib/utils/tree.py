"""Nested dicts, lists and tuples, as batches and outputs are made of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nest with ``function`` applied to all that is not a dict, list or tuple.

    Strings are leaves. Mappings become dicts, sequences keep their type, named tuples too.

    >>> map_leaves(len, {"names": ["a", "bc"], "size": ("def",)})
    {'names': [1, 2], 'size': (3,)}
    """
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return rebuild(tree, [map_leaves(function, value) for value in tree])
    return function(tree)


def rebuild(like: Sequence[Any], values: Sequence[Any]) -> Any:
    """``values`` in a list, tuple or named tuple, whichever ``like`` is."""
    if hasattr(like, "_fields"):
        return type(like)(*values)
    return tuple(values) if isinstance(like, tuple) else list(values)
