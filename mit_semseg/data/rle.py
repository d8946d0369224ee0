"""Masks as run lengths, as COCO stores them: written and read without loss.

The runs go down the columns, from the left column to the right one, and alternate between 0 and 1, beginning
with 0. A mask that begins with a 1 therefore has a first run of length 0. In JSON, the runs are a list of
numbers ("uncompressed") or a text ("compressed").
Source: common/maskApi.c of github.com/cocodataset/cocoapi, with which the values agree.
"""

from collections.abc import Iterator, Sequence

import numpy as np

_DIGIT = 5  # bits of a run in one character of the text
_MORE, _SIGN, _FIRST = 0x20, 0x10, 48  # the bit for "continued", that of the sign, and the character of 0


def encode(mask: np.ndarray) -> np.ndarray:
    """The runs of a mask, (H, W) bool -> (K,) int64.

    >>> encode(np.array([[0, 1], [1, 1]], bool)).tolist()
    [1, 3]
    """
    return runs_of(mask.ravel(order="F"))


def encode_classes(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each class that occurs in a label map (H, W), with the runs of its mask, which `encode` would give.

    >>> {k: runs.tolist() for k, runs in encode_classes(np.array([[0, 1], [0, 1]]))}
    {0: [0, 2, 2], 1: [2, 2]}
    """
    flat = labels.ravel(order="F")
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    ends = np.append(starts[1:], len(flat))
    classes = flat[starts]
    order = np.argsort(classes, kind="stable")  # the runs of a class stay in their order
    occurring, first = np.unique(classes[order], return_index=True)
    for k, own in zip(occurring.tolist(), np.split(order, first[1:]), strict=True):
        borders = np.stack([starts[own], ends[own]], axis=1).ravel()
        if borders[-1] < len(flat):
            borders = np.append(borders, len(flat))
        yield k, np.diff(borders, prepend=0)


def decode(runs: Sequence[int] | np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask of runs, (H, W) bool.

    Raises: ValueError if a run is negative, or if they do not fill the mask.

    >>> decode([1, 3], 2, 2).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    return fill(runs, height * width).reshape(width, height).T


def to_text(runs: Sequence[int] | np.ndarray) -> str:
    """The runs as COCO's compressed text. From the fourth on, a run is its difference to the last but one.

    >>> to_text([1, 3])
    '13'
    """
    lengths = np.asarray(runs, np.int64)
    numbers = lengths.copy()
    numbers[3:] -= lengths[1:-2]
    columns = []
    unfinished = np.ones(len(numbers), bool)
    while unfinished.any():
        digit = numbers & (_MORE - 1)
        numbers = numbers >> _DIGIT
        last = numbers == np.where(digit & _SIGN, -1, 0)
        columns.append(np.where(unfinished, _FIRST + digit + np.where(last, 0, _MORE), 0))
        unfinished &= ~last
    characters = np.stack(columns, axis=1).astype(np.uint8).ravel() if columns else np.empty(0, np.uint8)
    return characters[characters > 0].tobytes().decode("ascii")


def from_text(text: str) -> np.ndarray:
    """The runs of COCO's compressed text, (K,) int64. Raises: ValueError for any other text.

    >>> from_text("13").tolist()
    [1, 3]
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        digit = ord(character) - _FIRST
        if not 0 <= digit < 2 * _MORE or shift > 60:
            raise ValueError(f"{character!r} does not occur in compressed runs")
        number |= (digit & (_MORE - 1)) << shift
        shift += _DIGIT
        if digit & _MORE:
            continue
        if digit & _SIGN:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("the text ends within a number")
    return np.array(runs, np.int64)


def runs_of(pixels: np.ndarray) -> np.ndarray:
    """The lengths of the runs of 0 and 1 in turn, (N,) bool -> (K,) int64, beginning with those of 0."""
    pixels = np.asarray(pixels, bool)
    changes = np.flatnonzero(np.diff(pixels, prepend=False))  # a first 1 is a change after 0 pixels
    return np.diff(np.concatenate([[0], changes, [len(pixels)]]))


def fill(runs: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """The pixels of runs, (count,) bool. Raises: ValueError as `decode` does."""
    lengths = np.asarray(runs, np.int64)
    check(lengths, count)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def check(runs: np.ndarray, count: int) -> None:
    """Raises: ValueError if runs are negative, or are not those of ``count`` pixels."""
    if runs.ndim != 1 or (runs < 0).any():
        raise ValueError("they are not numbers of at least 0")
    if runs.sum() != count:
        raise ValueError(f"they have {runs.sum()} pixels, but the mask has {count}")
