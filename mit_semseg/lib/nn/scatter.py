"""Move batches to devices, and gather outputs from them."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..utils.tree import map_leaves, rebuild

Device = int | str | torch.device
"""The number of a GPU, or any device."""


def user_scattered_collate(batch: list[Any]) -> list[Any]:
    """The batch itself, for datasets whose items are already the sub-batches of single devices."""
    return batch


def as_device(device: Device) -> torch.device:
    """The device as tensors report it: a GPU with its number, the CPU without one."""
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if device.type == "cpu" else device


def async_copy_to(obj: Any, dev: Device, main_stream: torch.cuda.Stream | None = None) -> Any:
    """``obj`` with its tensors on the device, also those in dicts, lists and tuples. The rest is unchanged.

    Args:
        main_stream: the stream that will use the tensors, if the copies are made on another stream.
    """
    device = as_device(dev)

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        # Copies from pinned memory to a GPU are ordered by the stream, so the caller does not wait.
        leaf = leaf.to(device, non_blocking=device.type == "cuda")
        if main_stream is not None and leaf.is_cuda:
            leaf.record_stream(main_stream)
        return leaf

    return map_leaves(copy, obj)


def copy_ahead(obj: Any, device: torch.device) -> Any:
    """`async_copy_to` on a separate stream, so that a GPU copies while it computes."""
    if device.type != "cuda":
        return async_copy_to(obj, device)
    main, side = torch.cuda.current_stream(device), _copy_stream(device)
    with torch.cuda.stream(side):
        copied = async_copy_to(obj, device, main)
    main.wait_stream(side)
    return copied


def split(tree: Any, parts: int, dim: int) -> list[Any]:
    """``tree`` in up to ``parts`` parts of nearly equal size. Only tensors are split, along ``dim``.

    Raises: ValueError if the tensors differ in size along ``dim``.
    """
    sizes: set[int] = set()

    def note_size(leaf: Any) -> None:
        if _can_be_cut(leaf, dim):
            sizes.add(leaf.size(dim))

    map_leaves(note_size, tree)
    if len(sizes) > 1:
        raise ValueError(
            f"Tensors of sizes {sorted(sizes)} along dimension {dim} cannot be split into equal parts."
        )

    # Only Tensor.chunk knows how many parts a size gives.
    count = len(torch.empty(sizes.pop()).chunk(parts)) if sizes else parts

    def part(number: int) -> Any:
        return map_leaves(
            lambda leaf: leaf.chunk(parts, dim)[number] if _can_be_cut(leaf, dim) else leaf, tree
        )

    return [part(number) for number in range(count)]


def gather(outputs: Sequence[Any], device: torch.device, dim: int = 0) -> Any:
    """The outputs of all devices, tensors or nested tensors, as one output. It is differentiable.

    Scalars are stacked to (n_devices,), other tensors are concatenated along ``dim``, None stays None, and
    all other values are collected in a list.
    """
    first = outputs[0]
    if isinstance(first, Tensor):
        tensors = [output.to(device) for output in outputs]
        return torch.stack(tensors) if first.dim() == 0 else torch.cat(tensors, dim)
    if isinstance(first, Mapping):
        return {key: gather([output[key] for output in outputs], device, dim) for key in first}
    if isinstance(first, list | tuple):
        return rebuild(first, [gather(values, device, dim) for values in zip(*outputs, strict=True)])
    return None if first is None else list(outputs)


def _can_be_cut(leaf: Any, dim: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > dim


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
