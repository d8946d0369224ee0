"""Windows of a resized image, with Pillow's values, without the whole image in memory."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Span = tuple[int, int]  # first row or column, and the one after the last
Read = Callable[[Span, Span], np.ndarray]  # rows, columns -> (h, w, C) uint8 or float32

_BITS = 22  # of the fraction of a weight, as in Pillow for 8-bit images
_CHUNK_BYTES = 32 * 2**20  # of the image that are held at a time


class _Taps(NamedTuple):
    """The pixels that each pixel of a resized axis is a weighted sum of.

    Attributes:
        first: the first of them, (n,).
        weights: of each and its successors, fixed-point, (n, taps) int32; 0 beyond the last one.
    """

    first: np.ndarray
    weights: np.ndarray


def read_resized(read: Read, source: Span, target: Span, rows: Span, columns: Span) -> np.ndarray:
    """A window (h, w, C) of an image resized to another size, bilinear and antialiased.

    As in Pillow, the rows are resized first and, if they are uint8, rounded; then the columns.

    Args:
        read: returns a window of the image.
        source: its (height, width).
        target: its new (height, width).
        rows, columns: of the window in the resized image.
    """
    vertical = _taps(source[0], target[0], rows)
    horizontal = _taps(source[1], target[1], columns)
    top, bottom = _reach(vertical, source[0])
    left, right = _reach(horizontal, source[1])
    step = max(1, _CHUNK_BYTES // (3 * (right - left)))
    parts = []
    for start in range(top, bottom, step):
        pixels = read((start, min(start + step, bottom)), (left, right))
        parts.append(pixels if source[1] == target[1] else _blend(pixels, horizontal, left, axis=1))
    resized = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return resized if source[0] == target[0] else _blend(resized, vertical, top, axis=0)


def _reach(taps: _Taps, length: int) -> Span:
    return int(taps.first[0]), min(length, int(taps.first[-1]) + taps.weights.shape[1])


def _taps(length: int, new_length: int, span: Span) -> _Taps:
    """Those of the positions of ``span``, computed in the order of operations of Pillow."""
    if length == new_length:
        return _Taps(np.arange(*span), np.full((span[1] - span[0], 1), 1 << _BITS, np.int32))
    scale = length / new_length
    support = max(scale, 1.0)  # of the triangle filter
    centers = (np.arange(*span) + 0.5) * scale
    first = np.maximum(np.trunc(centers - support + 0.5).astype(np.int64), 0)
    last = np.minimum(np.trunc(centers + support + 0.5).astype(np.int64), length)
    count = int((last - first).max())
    places = first[:, None] + np.arange(count)
    weights = np.maximum(1 - np.abs((places - centers[:, None] + 0.5) * (1.0 / support)), 0)
    weights[places >= last[:, None]] = 0
    total = np.zeros(len(weights))
    for tap in range(count):  # one after the other, because the order decides how the sum is rounded
        total += weights[:, tap]
    return _Taps(first, (0.5 + weights / total[:, None] * (1 << _BITS)).astype(np.int32))


def _blend(pixels: np.ndarray, taps: _Taps, offset: int, *, axis: int) -> np.ndarray:
    """The resize along an axis of (H, W, C), of which ``pixels`` holds what starts at ``offset``."""
    shape = list(pixels.shape)
    shape[axis] = len(taps.first)
    rounds = pixels.dtype == np.uint8
    total: np.ndarray = np.full(shape, 1 << (_BITS - 1) if rounds else 0, np.int32 if rounds else np.float32)
    factors = taps.weights if rounds else taps.weights * np.float32(2**-_BITS)
    last = pixels.shape[axis] - 1
    for tap in range(factors.shape[1]):
        places = np.minimum(taps.first - offset + tap, last)
        total += np.take(pixels, places, axis=axis) * factors[:, tap].reshape((-1, 1) if axis else (-1, 1, 1))
    return (total >> _BITS).astype(np.uint8) if rounds else total
