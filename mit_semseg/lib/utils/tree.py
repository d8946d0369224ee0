"""Functions over the leaves of nested dicts, lists and tuples, such as batches and outputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """``tree`` with ``function`` applied to each leaf: everything that is not a dict, list or tuple.

    Strings are leaves. Mappings become dicts; lists, tuples and named tuples keep their type.

    >>> map_leaves(len, {"names": ["a", "bc"], "size": ("def",)})
    {'names': [1, 2], 'size': (3,)}
    """
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return rebuild(tree, [map_leaves(function, value) for value in tree])
    return function(tree)


def rebuild(like: Sequence[Any], values: Sequence[Any]) -> Any:
    """``values`` as a list, tuple or named tuple, like ``like``."""
    if hasattr(like, "_fields"):
        return type(like)(*values)
    return tuple(values) if isinstance(like, tuple) else list(values)


def as_numpy(obj: Any) -> Any:
    """``obj`` with its tensors and numbers as NumPy arrays. Strings and None are unchanged.

    bfloat16, which NumPy does not have, becomes float32.

    >>> as_numpy({"a": torch.ones(2), "name": "x"})
    {'a': array([1., 1.], dtype=float32), 'name': 'x'}
    """
    return map_leaves(_leaf_as_numpy, obj)


def as_variable(obj: Any) -> Any:
    """``obj`` with its NumPy arrays as tensors. The rest is unchanged.

    The name dates from when a tensor had to be wrapped in a Variable to have a gradient.
    """
    return map_leaves(lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, obj)


def mark_volatile(obj: Any) -> Any:
    """`as_variable`, with detached tensors: no gradient flows back to their origin.

    The name dates from when tensors were marked volatile. Prefer ``torch.no_grad()`` in new code.
    """
    return map_leaves(
        lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, as_variable(obj)
    )


def _leaf_as_numpy(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().cpu()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()
    return leaf if leaf is None or isinstance(leaf, str | bytes) else np.asarray(leaf)
