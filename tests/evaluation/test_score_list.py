"""Batches of a list and their scores, in any number of threads and shares."""

import json

import numpy as np
import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.data.datasets import ValDataset
from mit_semseg.errors import UserError
from mit_semseg.evaluation.score_list import batches_of_list, batches_of_sizes, group_equal, score_list
from mit_semseg.evaluation.tally import Tally
from mit_semseg.inference.checkpoints import trained_weights
from mit_semseg.inference.load import build_scoring, class_table
from mit_semseg.runtime.distributed import ProcessInfo

CPU = torch.device("cpu")


def test_batches_by_hand():
    landscape, portrait, unknown = (4, 3), (3, 4), (0, 0)
    sizes = [landscape, portrait, landscape, unknown, landscape, portrait, unknown, (0, 7)]
    assert batches_of_sizes(sizes, 2) == [(0, 2), (1, 5), (3,), (4,), (6,), (7,)]
    assert batches_of_sizes(sizes, 1) == [(k,) for k in range(8)]
    assert batches_of_sizes([], 3) == []


def test_every_image_is_in_one_batch_of_one_size():
    rng = np.random.Generator(np.random.Philox(5))
    sizes = [tuple(size) for size in rng.integers(0, 4, (200, 2)).tolist()]
    for batch_size in (1, 3, 1000):
        batches = batches_of_sizes(sizes, batch_size)
        assert sorted(index for batch in batches for index in batch) == list(range(200))
        assert max(map(len, batches)) <= batch_size
        assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)
        assert [batch[0] for batch in batches] == sorted(batch[0] for batch in batches)


def test_equal_values_are_grouped_by_their_first_occurrence():
    assert group_equal([(1, 2), (3, 4), (1, 2)]) == [[0, 2], [1]]


def test_the_sizes_in_a_list_are_read_only_if_they_matter(tmp_path):
    file = tmp_path / "a.odgt"
    records = [{"fpath_img": f"{k}.jpg", "width": 5 * (k < 3), "height": 3} for k in range(4)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records[:3]) + '{"fpath_img": "3.jpg"}\n')
    assert batches_of_list(str(file), 2) == [(0, 1), (2,), (3,)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert batches_of_list(str(file), 1) == [(0,), (1,), (2,), (3,)]
    with pytest.raises(UserError, match=r'line 4 has 0 for "width"'):
        batches_of_list(str(file), 2)


@pytest.fixture
def threads():
    """Sets the number of torch's threads until the test ends."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.fixture
def scored(tiny, trained):
    """The tally of a list that names the three images of the tiny dataset, in shares of it."""
    cfg = load_config(str(tiny.config), tiny.overrides(DIR=trained))
    table = class_table(cfg)
    network, settings = build_scoring(cfg, trained_weights(cfg, "VAL"), CPU)

    def run(order, batches=None, shares=1):
        records = [tiny.records("validation")[k] for k in order]
        dataset = ValDataset(cfg.DATASET.root_dataset, records, cfg.DATASET)
        tallies = [
            score_list(
                *(network, settings, dataset, ProcessInfo(rank, shares, CPU)),
                Tally(table, boundary=True, calibration=True),
                batches=batches or alone(len(order)),
                workers=0,
            )
            for rank in range(shares)
        ]
        for tally in tallies[1:]:
            tallies[0].merge(tally)
        return tallies[0]

    return run


def alone(images):
    """Batches of one image."""
    return [(index,) for index in range(images)]


def counts(tally):
    return [part.counts.tolist() for part in (tally.matrix, tally.boundary, tally.calibration)]


def test_a_batch_scores_as_its_images_do_one_by_one(scored):
    order = [0, 1, 0, 2, 1]
    separate = scored(order)
    together = scored(order, [(0, 2), (1, 4), (3,)])
    assert (
        np.abs(together.matrix.counts - separate.matrix.counts).sum() <= 2 * 2
    )  # two ties, each in two cells
    assert len(together.images) == together.timed == 5
    np.testing.assert_allclose(together.calibration.error(), separate.calibration.error(), atol=1e-4)


def test_shares_of_the_batches_add_up_to_the_same_digits(scored):
    order = [0, 1, 0, 2, 1, 0, 2]
    batches = [(0, 2), (1, 4), (3, 6), (5,)]
    whole = scored(order, batches)
    for shares in (2, 3):
        joined = scored(order, batches, shares)
        assert counts(joined) == counts(whole)
        assert joined.examples.worst() == whole.examples.worst()
        assert joined.timed == 7


def test_images_of_a_batch_that_have_different_sizes_are_scored_separately(scored):
    assert counts(scored([0, 1, 2], [(0, 1, 2)])) == counts(scored([0, 1, 2]))


@pytest.mark.parametrize("batches", [[(0,), (1,), (2,)], [(0,), (1, 2)]])
def test_any_number_of_threads_scores_alike_and_in_order(tiny, trained, threads, batches):
    cfg = load_config(str(tiny.config), ["DIR", str(trained)])
    table = class_table(cfg)
    dataset = ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)
    found = []
    for count in (1, 2, 3):
        threads(count)
        network, settings = build_scoring(cfg, trained_weights(cfg, "VAL"), CPU)
        seen = []

        def see(index, item, label, prediction, seen=seen):
            seen.append((index, item["info"], prediction.tobytes()))
            assert prediction.shape == label.shape == item["img_ori"].shape[:2]

        tally = Tally(table, calibration=True)
        score_list(
            *(network, settings, dataset, ProcessInfo(0, 1, CPU), tally),
            **{"batches": batches, "workers": 0, "on_image": see},
        )
        assert torch.get_num_threads() == count
        assert [index for index, *_ in seen] == [0, 1, 2]
        found.append((seen, tally.matrix.counts, tally.calibration))
    for seen, counts, calibration in found[1:]:
        assert seen == found[0][0]
        np.testing.assert_array_equal(counts, found[0][1])
        assert calibration.error() == found[0][2].error()
