"""The schedule of training: the images of the i-th sub-batch, their size, and which of them are mirrored."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Purposes of random streams. Streams of different purposes are independent, even with the same keys.
_PERMUTATION, _ORDER, _ITEM, _SUBSTITUTE, _TRANSFORM = range(5)


@dataclass(frozen=True, slots=True)
class SubBatch:
    """The random choices for one sub-batch."""

    records: np.ndarray  # (B,) indices into the list
    short_edge: int  # pixels
    flips: np.ndarray  # (B,) bool: whether to mirror the image


class Schedule:
    """An endless sequence of sub-batches: ``schedule[i]`` is a pure function of (orientations, seed, i).

    A sub-batch holds images of one orientation, to need little padding. Each orientation is an endless
    stream: all its records in random order, then all of them in another order, and so on. Sub-batch k of an
    orientation is elements k*B to (k+1)*B of its stream. No record is lost or doubled if B does not divide
    the number of records, because the rest is carried into the next pass. Pass p holds the sub-batches that
    each orientation completes in its p-th round, with the orientations mixed at random. No sub-batch holds a
    record twice if its orientation has at least 2*B - 1 records.

    An index needs nothing from the indices before it (the permutations of the last pass are only cached), so
    workers, ranks and restarts need to agree only on the index.
    """

    def __init__(self, portrait: np.ndarray, batch: int, short_edges: Sequence[int], seed: int):
        """
        Args:
            portrait: orientation of each record; (N,) bool.
            batch: images in a sub-batch.
            short_edges: lengths in pixels; one is drawn for each sub-batch.

        Raises: ValueError if there are no records or no short edges, or if batch or seed are too small.
        """
        if batch < 1:
            raise ValueError(f"A sub-batch of {batch} images; it must be 1 or more.")
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be 0 or more.")
        if not len(portrait) or not short_edges:
            raise ValueError(
                f"{len(portrait)} records and {len(short_edges)} short edges; 1 or more are needed."
            )
        groups = (np.flatnonzero(portrait == kind).astype(np.int32) for kind in (True, False))
        self._groups = [group for group in groups if len(group)]
        self._num_records = len(portrait)
        self._batch = batch
        self._short_edges = tuple(short_edges)
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}
        self._permutations: dict[tuple[int, int], np.ndarray] = {}

    def start_of_pass(self, number: int) -> int:
        """Index of the first sub-batch of a pass. Passes are numbered from 0."""
        return sum(number * len(group) // self._batch for group in self._groups)

    def pass_of(self, index: int) -> int:
        """Number of the pass that a sub-batch belongs to."""
        # p passes hold at most p*N/B sub-batches, and fewer than that by less than one per orientation.
        low = index * self._batch // self._num_records
        high = (index + len(self._groups)) * self._batch // self._num_records + 1
        return bisect_right(range(low, high + 1), index, key=self.start_of_pass) + low - 1

    def __getitem__(self, index: int) -> SubBatch:
        """The sub-batch at an index of 0 or more. Raises: IndexError below 0."""
        if index < 0:
            raise IndexError(f"Sub-batch {index}; the schedule begins at 0.")
        number = self.pass_of(index)
        order = self._order(number)
        position = index - self.start_of_pass(number)
        kind = int(order[position])
        group = self._groups[kind]
        earlier = number * len(group) // self._batch + int(np.count_nonzero(order[:position] == kind))
        chosen = [self._element(kind, k) for k in range(earlier * self._batch, (earlier + 1) * self._batch)]
        draws = self._random(1 + self._batch, _ITEM, index)
        return SubBatch(
            records=group[chosen],
            short_edge=self._short_edges[int(draws[0] % np.uint64(len(self._short_edges)))],
            flips=draws[1:] % np.uint64(2) == 1,
        )

    def substitute(self, record: int, index: int, position: int, attempt: int) -> int:
        """A record of the same orientation that replaces an unusable one.

        Args:
            index: of the sub-batch.
            position: of the record in the sub-batch.
            attempt: 0 for the first substitute, 1 for the substitute of that substitute, ...
        """
        group = next(group for group in self._groups if record in group)
        draw = self._random(1, _SUBSTITUTE, index, position, attempt)[0]
        return int(group[int(draw % np.uint64(len(group)))])

    def transform_seed(self, index: int, position: int) -> int:
        """The 64-bit seed of an image's transform."""
        return int(self._random(1, _TRANSFORM, index, position)[0])

    def _random(self, count: int, purpose: int, *keys: int) -> np.ndarray:
        """Random bits as uint64, the same on any machine and with any version of numpy.

        NumPy guarantees that the raw bits of a bit generator never change. It does not for the methods of
        Generator.
        """
        seeds = np.random.SeedSequence(self._seed, spawn_key=(purpose, *keys))
        return np.random.Philox(seeds).random_raw(count)

    def _shuffled(self, count: int, purpose: int, *keys: int) -> np.ndarray:
        return np.argsort(self._random(count, purpose, *keys), kind="stable").astype(np.int32)

    def _order(self, number: int) -> np.ndarray:
        """The orientation of each sub-batch of a pass."""
        if number not in self._orders:
            done = [number * len(group) // self._batch for group in self._groups]
            then = [(number + 1) * len(group) // self._batch for group in self._groups]
            kinds = np.repeat(np.arange(len(done), dtype=np.int8), np.subtract(then, done))
            self._orders = {number: kinds[self._shuffled(len(kinds), _ORDER, number)]}
        return self._orders[number]

    def _element(self, kind: int, k: int) -> int:
        """Element k of an orientation's stream, as an index into its group."""
        number, position = divmod(k, len(self._groups[kind]))
        key = (kind, number)
        if key not in self._permutations:
            # A sub-batch may begin in one round of the stream and end in the next, so the last two are kept.
            for old in [old for old in self._permutations if old[0] == kind and old[1] != number - 1]:
                del self._permutations[old]
            self._permutations[key] = self._permutation(kind, number)
        return int(self._permutations[key][position])

    def _permutation(self, kind: int, number: int) -> np.ndarray:
        """The order of an orientation's records in one round of its stream."""
        count, batch = len(self._groups[kind]), self._batch
        order = self._shuffled(count, _PERMUTATION, kind, number)
        carried = number * count % batch
        if not carried or count < 2 * batch - 1:
            return order
        # The first sub-batch begins with the end of the previous round. Move the records that it already has
        # out of its remaining places. The end of this round stays as drawn, so the next can ignore this.
        before = self._shuffled(count, _PERMUTATION, kind, number - 1)[count - carried :]
        front = order[: count - (number + 1) * count % batch]
        first = np.flatnonzero(~np.isin(front, before))[: batch - carried]
        order[: len(front)] = np.concatenate([front[first], np.delete(front, first)])
        return order
