"""Loading in worker processes, with the user's mistakes reported as what they are."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError


class _Outcomes(Dataset[Any]):
    """Each item of a dataset, or the UserError that reading it raised.

    An exception that crosses from a worker has the worker's traceback put into its message; a value arrives
    as it is.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except UserError as error:
            return error


def load(
    dataset: Dataset[Any], indices: Sequence[int], *, workers: int, device: torch.device
) -> Iterable[dict[str, Any] | UserError]:
    """The items of a dataset in the order of ``indices``, read ahead by worker processes.

    Args:
        workers: processes, at most one a CPU core; 0 reads in this process.
        device: where the items go; for a GPU they come in pinned memory.

    Returns: an iterable of items; an item that can't be read comes as the UserError that says why.
    """
    return DataLoader(
        _Outcomes(dataset),
        batch_size=None,
        sampler=indices,
        num_workers=min(workers, os.cpu_count() or 1, len(indices)),
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # otherwise it draws from the one that dropout draws from
    )


def raise_errors(items: Iterable[dict[str, Any] | UserError]) -> Iterator[dict[str, Any]]:
    """``items``, up to the first error, which is raised."""
    for item in items:
        if isinstance(item, UserError):
            raise item
        yield item


def _as_it_is(item: Any) -> Any:
    return item
