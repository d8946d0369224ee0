"""Nested dicts and lists of tensors, such as the state of an optimizer."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def named_tensors(tree: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a tree, with the keys that lead to each, joined by dots."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from named_tensors(value, _below(name, key))


def map_tensors(tree: Any, change: Callable[[str, Tensor], Any], name: str = "") -> Any:
    """A copy of a tree with ``change(name, tensor)`` in the place of each of its `named_tensors`."""
    if isinstance(tree, Tensor):
        return change(name, tree)
    if isinstance(tree, dict):
        copied = copy.copy(tree)  # keeps the versions of layers, which a state dict has as an attribute
        copied.update({key: map_tensors(value, change, _below(name, key)) for key, value in tree.items()})
        return copied
    if isinstance(tree, list | tuple):
        return type(tree)(map_tensors(value, change, _below(name, k)) for k, value in enumerate(tree))
    return tree


def _below(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)
