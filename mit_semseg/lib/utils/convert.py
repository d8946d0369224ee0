"""Between tensors and NumPy arrays, over whole nests of them."""

from typing import Any

import numpy as np
import torch

from .tree import map_leaves


def as_numpy(obj: Any) -> Any:
    """Tensors and numbers as NumPy arrays, inside dicts, lists and tuples too; strings and None stay.

    bfloat16, which NumPy does not have, becomes float32.

    >>> as_numpy({"a": torch.ones(2), "name": "x"})
    {'a': array([1., 1.], dtype=float32), 'name': 'x'}
    """
    return map_leaves(_leaf_as_numpy, obj)


def as_variable(obj: Any) -> Any:
    """NumPy arrays as tensors, inside dicts, lists and tuples too; the rest as it is.

    The name is from the time when a tensor had to be wrapped to have a gradient.
    """
    return map_leaves(lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, obj)


def mark_volatile(obj: Any) -> Any:
    """`as_variable`, and detached: no gradient flows from the result to where its tensors came from.

    The name is from the time when tensors were marked so. Prefer ``torch.no_grad()`` in new code.
    """
    return map_leaves(
        lambda leaf: leaf.detach() if isinstance(leaf, torch.Tensor) else leaf, as_variable(obj)
    )


def _leaf_as_numpy(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().cpu()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()
    return leaf if leaf is None or isinstance(leaf, str | bytes) else np.asarray(leaf)
