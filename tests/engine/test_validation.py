"""Validation while training: eval_multipro.py's scores, the best weights, an early end."""

import csv
import json
import logging

import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.data.records import read_records
from mit_semseg.distributed import Place
from mit_semseg.engine.setup import build_module
from mit_semseg.engine.training.validation import Validation
from mit_semseg.lib.nn import freeze_batch_norm

PLACE = Place(0, 1, torch.device("cpu"))
SHORT = {"TRAIN__epoch_iters": 2, "TRAIN__tensorboard": False, "TRAIN__lr_encoder": 1e-3}


@pytest.fixture
def train(call, tiny, tmp_path):
    def run(*words, **keys):
        folder = tmp_path / "run"
        own = tiny.overrides(**{**SHORT, **keys})
        done = call("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", folder, *own, *words)
        assert done.code == 0, done.err
        return folder, done.out

    return run


def validations(folder):
    """(epoch, mean IoU, accuracy in percent) of each row that has them."""
    with (folder / "history.csv").open(newline="") as file:
        return [
            (float(row["epoch"]), float(row["val_mean_iou"]), float(row["val_accuracy"]))
            for row in csv.DictReader(file)
            if row["val_mean_iou"]
        ]


def evaluated(call, tiny, folder, checkpoint):
    """What eval_multipro.py says: mean IoU, and accuracy in percent."""
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", folder, "VAL.checkpoint", checkpoint]
    assert call("eval", *words).code == 0
    scores = json.loads((folder / "result" / "metrics.json").read_text())
    return scores["mean_iou"], 100 * scores["pixel_accuracy"]


@pytest.mark.parametrize("decay", [0, 0.5])
def test_scores_are_those_of_an_evaluation_of_the_same_weights_to_the_digit(train, call, tiny, decay):
    folder, out = train(VAL__every=1, TRAIN__num_epoch=3, TRAIN__ema_decay=decay)
    scores = validations(folder)
    assert [epoch for epoch, *_ in scores] == [1, 2, 3]
    for epoch, *score in scores:
        assert evaluated(call, tiny, folder, f"epoch_{epoch:.0f}.pth") == tuple(score)
    best = max(scores, key=lambda row: row[1])
    assert evaluated(call, tiny, folder, "best.pth") == best[1:]
    assert out.count("  validation on 3 images: mean IoU ") == 3
    assert f"mean IoU {best[1]:.4f}, accuracy {best[2]:.2f}%, the best so far" in out
    stored = torch.load(folder / "history_epoch_3.pth", weights_only=True)["val"]
    assert list(zip(stored["epoch"], stored["mean_iou"], stored["acc"], strict=True)) == scores


def test_several_processes_score_alike(train, call, tiny):
    folder, _ = train("--procs", "2", VAL__every=2, TRAIN__num_epoch=2)
    ((epoch, *score),) = validations(folder)
    assert epoch == 2
    assert evaluated(call, tiny, folder, "epoch_2.pth") == tuple(score)
    assert (folder / "log.txt").read_text().count("validation on 3 images") == 1


def test_training_ends_when_validations_bring_nothing_more(train, call, tiny):
    """With rates of 0 and frozen statistics, no epoch is better than the first."""
    still = {"TRAIN__lr_encoder": 0, "TRAIN__lr_decoder": 0, "TRAIN__fix_bn": True, "TRAIN__num_epoch": 9}
    keys = {"VAL__every": 1, "TRAIN__patience": 2, "TRAIN__epoch_iters": 1, "TRAIN__resume": "auto", **still}
    folder, out = train(**keys)
    assert len(validations(folder)) == 3
    assert "Stopped early: 2 validations have not been better than 0." in out
    assert not (folder / "encoder_epoch_4.pth").exists()
    assert "is finished: 2 validations without a gain. Set TRAIN.patience higher" in train(**keys)[1]
    train(**{**keys, "TRAIN__patience": 3})
    assert len(validations(folder)) == 4


def test_a_part_of_the_list_is_the_same_each_time_and_differs_by_seed(tiny):
    def chosen(seed, count):
        words = ["VAL.every", "1", "VAL.max_images", str(count), "TRAIN.seed", str(seed)]
        validation = Validation(load_config(str(tiny.config), words))
        return [record.fpath_img for record in validation._dataset.records]

    everything = [record["fpath_img"] for record in tiny.records("validation")]
    assert chosen(1, 0) == chosen(1, 3) == chosen(1, 99) == everything
    assert chosen(1, 2) == chosen(1, 2)
    assert len({tuple(chosen(seed, 2)) for seed in range(9)}) > 1
    assert all(part in everything for part in chosen(3, 2))


def test_chosen_records_keep_the_line_they_stand_in(tiny):
    records = read_records(str(tiny.folder / "validation.odgt")).take([2, 0])
    assert [record.fpath_img for record in records] == ["validation/2.jpg", "validation/0.jpg"]
    assert records.line(0).startswith("line 3 of ")


def test_the_module_is_as_it_was_with_its_frozen_layers(tiny):
    config = load_config(str(tiny.config), ["VAL.every", "1"])
    module = build_module(config, ("", ""), training=True).train()
    freeze_batch_norm(module)
    modes = {name: layer.training for name, layer in module.named_modules()}
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    scores = Validation(config).score(module, PLACE)
    assert {name: layer.training for name, layer in module.named_modules()} == modes
    assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())
    assert set(scores.samples) == {f"validation/{k}.jpg" for k in range(3)}
    assert scores.samples["validation/0.jpg"].shape == (36, 3 * 48, 3)  # image | truth | prediction


def test_a_list_that_can_not_be_used_is_refused_before_the_training(call, tiny, tmp_path):
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / "run"]
    done = call("train", *words, "VAL.every", 1, "DATASET.list_val", tmp_path / "none.odgt")
    assert done.code == 2
    assert "none.odgt does not exist" in done.err
    assert call("train", *words, "DATASET.list_val", tmp_path / "none.odgt", "TRAIN.num_epoch", 1).code == 0
    assert logging.getLogger("mit_semseg").level == logging.INFO
