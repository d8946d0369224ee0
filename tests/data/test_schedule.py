import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from mit_semseg.data.schedule import Schedule

EDGES = (300, 375, 450)
GOLDEN = [
    ([1, 5], 375, [1, 1]),
    ([3, 7], 375, [1, 0]),
    ([4, 0], 300, [0, 0]),
    ([6, 2], 450, [1, 1]),
    ([4, 2], 300, [0, 1]),
]


def mixed(portraits, landscapes):
    portrait = np.arange(portraits + landscapes) < portraits
    return portrait[np.random.Generator(np.random.Philox(5)).permutation(len(portrait))]


def same(a, b):
    return (
        a.records.tolist() == b.records.tolist()
        and a.short_edge == b.short_edge
        and a.flips.tolist() == b.flips.tolist()
    )


def test_passes_of_two_orientations_counted_by_hand():
    # Of 5 portraits in pairs, a pass completes 2, 3, 2, 3 sub-batches; of 3 landscapes 1, 2, 1, 2.
    schedule = Schedule(mixed(5, 3), batch=2, short_edges=EDGES, seed=0)
    assert [schedule.start_of_pass(p) for p in range(5)] == [0, 3, 8, 11, 16]
    assert [schedule.pass_of(i) for i in range(11)] == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]


def test_the_sequence_is_this_one_on_any_machine_and_with_any_numpy():
    schedule = Schedule(np.array([False, True] * 4), batch=2, short_edges=EDGES, seed=304)
    drawn = [schedule[i] for i in (0, 1, 2, 3, 1_000_000)]
    assert [(s.records.tolist(), s.short_edge, s.flips.astype(int).tolist()) for s in drawn] == GOLDEN


@pytest.mark.parametrize(
    ("portraits", "landscapes", "batch"),
    [(7, 13, 3), (16, 8, 8), (5, 100, 8), (0, 10, 5), (2, 3, 8), (1, 0, 4), (0, 1, 1), (30, 1, 2)],
)
def test_every_record_is_used_equally_often(portraits, landscapes, batch):
    portrait = mixed(portraits, landscapes)
    schedule = Schedule(portrait, batch, EDGES, seed=3)
    used = Counter()
    for p in range(2 * batch):
        for i in range(schedule.start_of_pass(p), schedule.start_of_pass(p + 1)):
            records = schedule[i].records.tolist()
            used.update(records)
            group = np.flatnonzero(portrait == portrait[records[0]])
            assert {bool(portrait[r]) for r in records} == {bool(portrait[records[0]])}
            assert max(used[r] for r in group) - min(used[r] for r in group) <= -(-batch // len(group)) + 1
            if len(group) >= 2 * batch - 1:
                assert len(set(records)) == batch
    assert set(used.values()) == {2 * batch}
    assert len(used) == len(portrait)


def test_where_the_batch_divides_each_orientation_a_pass_holds_every_record_once():
    schedule = Schedule(mixed(8, 12), batch=4, short_edges=EDGES, seed=1)
    for p in range(4):
        indices = range(schedule.start_of_pass(p), schedule.start_of_pass(p + 1))
        assert sorted(r for i in indices for r in schedule[i].records.tolist()) == list(range(20))


def test_an_index_gives_the_same_whatever_was_asked_before():
    portrait = mixed(7, 13)
    forwards = [Schedule(portrait, 3, EDGES, seed=9)[i] for i in range(60)]
    schedule = pickle.loads(pickle.dumps(Schedule(portrait, 3, EDGES, seed=9)))
    for i in [*reversed(range(60)), 0, 59, 30, 31, 1]:
        assert same(schedule[i], forwards[i])


def test_passes_and_seeds_shuffle_anew():
    portrait = mixed(0, 64)
    schedule = Schedule(portrait, 64, EDGES, seed=0)
    orders = [tuple(schedule[i].records) for i in range(5)] + [
        tuple(Schedule(portrait, 64, EDGES, seed=1)[0].records)
    ]
    assert len(set(orders)) == 6
    assert all(sorted(order) == list(range(64)) for order in orders)


def test_the_orientations_are_mixed_within_a_pass():
    portrait = mixed(40, 40)
    schedule = Schedule(portrait, 1, EDGES, seed=0)
    kinds = [bool(portrait[schedule[i].records[0]]) for i in range(80)]
    changes = sum(a != b for a, b in pairwise(kinds))
    assert 20 < changes < 60


def test_short_edges_and_flips_are_drawn_evenly():
    schedule = Schedule(mixed(3, 3), 2, EDGES, seed=0)
    drawn = [schedule[i] for i in range(3000)]
    edges = Counter(s.short_edge for s in drawn)
    assert set(edges) == set(EDGES)
    assert all(900 < count < 1100 for count in edges.values())
    flips = np.stack([s.flips for s in drawn])
    assert flips.dtype == bool
    assert 0.47 < flips[:, 0].mean() < 0.53
    assert 0.47 < (flips[:, 0] == flips[:, 1]).mean() < 0.53


def test_far_indices_of_long_lists_are_cheap():
    schedule = Schedule(np.arange(200_000) % 3 == 0, 2, EDGES, seed=0)
    far = [schedule[10**12 + k].records for k in range(200)]
    assert len({int(r) for records in far for r in records}) == 400


def test_what_cannot_be_scheduled_is_refused_with_the_number():
    portrait = mixed(1, 1)
    with pytest.raises(IndexError, match="Sub-batch -1"):
        Schedule(portrait, 1, EDGES, 0)[-1]
    with pytest.raises(ValueError, match="sub-batch of 0 images"):
        Schedule(portrait, 0, EDGES, 0)
    with pytest.raises(ValueError, match="seed is -1"):
        Schedule(portrait, 1, EDGES, -1)
    with pytest.raises(ValueError, match="0 records and 3 short edges"):
        Schedule(portrait[:0], 1, EDGES, 0)
    with pytest.raises(ValueError, match="2 records and 0 short edges"):
        Schedule(portrait, 1, (), 0)
