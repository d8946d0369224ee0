"""Images of one list that look like those of another, by a hash of their appearance (dHash).

A bit says whether a pixel of a tiny gray picture is brighter than its neighbour, so brightness, contrast,
size and compression hardly change the hash. Source: Krawetz 2013, "Kind of Like That" (dHash), here along
rows and columns.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NEAR = 14
"""Bits in which two pictures of one scene may differ. Different scenes differ in half of them."""

_SIDE = 8
_FLAT = 4.0  # gray levels of deviation; the bits of flatter pictures are noise
_BLOCK = 2**22  # comparisons at a time
_COUNTS = np.array([bin(k).count("1") for k in range(2**16)], np.uint8)


def appearance_hash(gray: NDArray[np.uint8]) -> bytes:
    """The hash of a gray picture (h, w), 16 bytes; b"" for one that is too flat."""
    if gray.std() < _FLAT:
        return b""
    picture = Image.fromarray(gray)
    wide = np.asarray(picture.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)).astype(np.int16)
    tall = np.asarray(picture.resize((_SIDE, _SIDE + 1), Image.Resampling.BOX)).astype(np.int16)
    return np.packbits([wide[:, 1:] > wide[:, :-1], tall[1:] > tall[:-1]]).tobytes()


def near_pairs(hashes: NDArray[np.uint8], others: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """For each hash that is near one of others, its position and that of the nearest.

    Args:
        hashes, others: (N, 16) and (M, 16). Hashes of zeros alone stand for none.
    """
    words, other_words = (np.ascontiguousarray(one).view(np.uint16) for one in (hashes, others))
    known = np.flatnonzero(other_words.any(1))
    if not len(known):
        return
    step = max(1, _BLOCK // len(known))
    for start in range(0, len(words), step):
        block = words[start : start + step]
        distance = np.zeros((len(block), len(known)), np.uint8)
        for column in range(words.shape[1]):
            distance += _COUNTS[block[:, column, None] ^ other_words[known, column]]
        nearest = distance.argmin(1)
        near = (distance[np.arange(len(block)), nearest] <= NEAR) & block.any(1)
        for row in np.flatnonzero(near).tolist():
            yield start + row, int(known[nearest[row]])
