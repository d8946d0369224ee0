import numpy as np
import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.dataset import ValDataset
from mit_semseg.distributed import Place
from mit_semseg.engine.evaluation.score_list import score_list
from mit_semseg.engine.evaluation.tally import Tally
from mit_semseg.engine.setup import build_scoring, class_table, trained_weights

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.mark.parametrize("batches", [None, [(0,), (1, 2)]])
def test_any_number_of_threads_scores_alike_and_in_order(tiny, trained, threads, batches):
    cfg = load_config(str(tiny.config), ["DIR", str(trained)])
    table = class_table(cfg)
    dataset = ValDataset(cfg.DATASET.root_dataset, cfg.DATASET.list_val, cfg.DATASET)
    found = []
    for count in (1, 2, 3):
        threads(count)
        network, settings = build_scoring(cfg, trained_weights(cfg, "VAL"), CPU)
        seen = []

        def use(index, item, label, prediction, seen=seen):
            seen.append((index, item["info"], prediction.tobytes()))
            assert prediction.shape == label.shape == item["img_ori"].shape[:2]

        tally = Tally(table, calibration=True)
        score_list(
            *(network, settings, dataset, table, Place(0, 1, CPU)),
            **{"workers": 0, "batches": batches, "tally": tally, "use": use},
        )
        assert torch.get_num_threads() == count
        assert [index for index, *_ in seen] == [0, 1, 2]
        found.append((seen, tally.matrix.counts, tally.calibration))
    for seen, counts, calibration in found[1:]:
        assert seen == found[0][0]
        np.testing.assert_array_equal(counts, found[0][1])
        assert calibration.error() == found[0][2].error()
