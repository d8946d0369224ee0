"""Images scored together: which ones, and that it changes nothing."""

import json

import numpy as np
import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.dataset import ValDataset
from mit_semseg.distributed import Place
from mit_semseg.engine.evaluation.batches import alike, batches_of_list, batches_of_sizes
from mit_semseg.engine.evaluation.score_list import score_list
from mit_semseg.engine.evaluation.tally import Tally
from mit_semseg.engine.setup import build_scoring, class_table, trained_weights
from mit_semseg.errors import UserError


def test_by_hand():
    landscape, portrait, unknown = (4, 3), (3, 4), (0, 0)
    sizes = [landscape, portrait, landscape, unknown, landscape, portrait, unknown, (0, 7)]
    assert batches_of_sizes(sizes, 2) == [(0, 2), (1, 5), (3,), (4,), (6,), (7,)]
    assert batches_of_sizes(sizes, 1) == [(k,) for k in range(8)]
    assert batches_of_sizes([], 3) == []


def test_every_image_is_in_one_batch_of_one_size():
    rng = np.random.Generator(np.random.Philox(5))
    sizes = [tuple(size) for size in rng.integers(0, 4, (200, 2)).tolist()]
    for most in (1, 3, 1000):
        batches = batches_of_sizes(sizes, most)
        assert sorted(index for batch in batches for index in batch) == list(range(200))
        assert max(map(len, batches)) <= most
        assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)
        assert [batch[0] for batch in batches] == sorted(batch[0] for batch in batches)


def test_what_turns_out_to_be_of_another_size_is_parted():
    assert alike([(1, 2), (3, 4), (1, 2)]) == [[0, 2], [1]]


def test_sizes_of_a_list_are_read_when_they_are_needed(tmp_path):
    file = tmp_path / "a.odgt"
    records = [{"fpath_img": f"{k}.jpg", "width": 5 * (k < 3), "height": 3} for k in range(4)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records[:3]) + '{"fpath_img": "3.jpg"}\n')
    assert batches_of_list(str(file), 2) == [(0, 1), (2,), (3,)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert batches_of_list(str(file), 1) == [(0,), (1,), (2,), (3,)]
    with pytest.raises(UserError, match=r'line 4 has 0 for "width"'):
        batches_of_list(str(file), 2)


@pytest.fixture
def scored(tiny, trained):
    """The tally of a list that names the three images of the tiny dataset, in shares of it."""
    cfg = load_config(str(tiny.config), tiny.overrides(DIR=trained))
    table = class_table(cfg)
    device = torch.device("cpu")
    network, settings = build_scoring(cfg, trained_weights(cfg, "VAL"), device)

    def run(order, batches=None, shares=1):
        records = [tiny.records("validation")[k] for k in order]
        dataset = ValDataset(cfg.DATASET.root_dataset, records, cfg.DATASET)
        tallies = [
            score_list(
                *(network, settings, dataset, table, Place(rank, shares, device)),
                workers=0,
                batches=batches,
                tally=Tally(table, boundary=True, calibration=True),
            )
            for rank in range(shares)
        ]
        for tally in tallies[1:]:
            tallies[0].merge(tally)
        return tallies[0]

    return run


def counts(tally):
    return [part.counts.tolist() for part in (tally.matrix, tally.boundary, tally.calibration)]


def test_a_batch_gives_what_its_images_give_one_by_one(scored):
    order = [0, 1, 0, 2, 1]
    alone = scored(order)
    together = scored(order, [(0, 2), (1, 4), (3,)])
    assert np.abs(together.matrix.counts - alone.matrix.counts).sum() <= 2 * 2  # two ties, each in two cells
    assert len(together.images) == together.timed == 5
    np.testing.assert_allclose(together.calibration.error(), alone.calibration.error(), atol=1e-4)


def test_shares_of_the_batches_join_to_the_same_digits(scored):
    order = [0, 1, 0, 2, 1, 0, 2]
    batches = [(0, 2), (1, 4), (3, 6), (5,)]
    whole = scored(order, batches)
    for shares in (2, 3):
        joined = scored(order, batches, shares)
        assert counts(joined) == counts(whole)
        assert joined.examples.worst() == whole.examples.worst()
        assert joined.timed == 7


def test_images_that_differ_from_the_size_in_the_list_are_scored_apart(scored):
    assert counts(scored([0, 1, 2], [(0, 1, 2)])) == counts(scored([0, 1, 2]))
