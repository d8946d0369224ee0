"""Which images are scored together."""

from collections.abc import Iterable, Sequence

from ...data.records import read_records

Batch = tuple[int, ...]
"""Indices of images in their list, ascending."""


def batches_of_list(path: str, most: int) -> list[Batch]:
    """The images of a list in batches of up to ``most`` of one size.

    Raises: UserError for a list that can't be used.
    """
    if most == 1:
        return [(index,) for index in range(len(read_records(path, required=("fpath_img",))))]
    records = read_records(path, required=("fpath_img",), optional=("width", "height"))
    return batches_of_sizes([(record.width, record.height) for record in records], most)


def batches_of_sizes(sizes: Iterable[tuple[int, int]], most: int) -> list[Batch]:
    """Batches of up to ``most`` images of one size, ordered by their first image.

    They depend on the arguments alone, so that any number of processes shares the same ones: an image may be
    rounded differently in another batch.

    Args:
        sizes: width and height of each image; one that is not known, 0, is a batch by itself.

    >>> batches_of_sizes([(4, 3), (3, 4), (4, 3), (0, 0), (0, 0), (4, 3)], most=2)
    [(0, 2), (1,), (3,), (4,), (5,)]
    """
    batches: list[list[int]] = []
    open_ones: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        batch = open_ones.get(size) if all(size) else None
        if batch is None or len(batch) == most:
            batch = open_ones[size] = []
            batches.append(batch)
        batch.append(index)
    return [tuple(batch) for batch in batches]


def alike(shapes: Sequence[object]) -> list[list[int]]:
    """The positions of equal shapes together, in the order in which each comes up first.

    >>> alike(["a", "b", "a"])
    [[0, 2], [1]]
    """
    groups: dict[object, list[int]] = {}
    for position, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(position)
    return list(groups.values())
