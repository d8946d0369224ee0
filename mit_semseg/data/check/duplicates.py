"""Equal digests among many, found by sorting."""

import numpy as np

Pairs = tuple[np.ndarray, np.ndarray]
"""Positions of what repeats something, and of the first that it repeats; (K,) int64 both, K may be 0."""


def repeats(digests: np.ndarray) -> Pairs:
    """What has the digest of an earlier one. A digest of 0 is none.

    >>> [positions.tolist() for positions in repeats(np.array([7, 5, 7, 0, 0, 7], np.uint64))]
    [[2, 5], [0, 0]]
    """
    known = np.flatnonzero(digests)
    order = known[np.argsort(digests[known], kind="stable")]
    if not len(order):
        return order, order
    new = np.ones(len(order), bool)
    new[1:] = digests[order[1:]] != digests[order[:-1]]
    first = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return _sorted(order[~new], first[~new])


def repeats_of_others(digests: np.ndarray, others: np.ndarray) -> Pairs:
    """What has a digest that stands among ``others``, and where it stands there first. 0 is none."""
    order = np.argsort(others, kind="stable")
    at = np.searchsorted(others[order], digests)
    found = (at < len(others)) & (digests != 0)
    found[found] = others[order[at[found]]] == digests[found]
    return np.flatnonzero(found), order[at[found]]


def _sorted(positions: np.ndarray, firsts: np.ndarray) -> Pairs:
    order = np.argsort(positions)
    return positions[order], firsts[order]
