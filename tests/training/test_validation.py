"""Validation during training: the scores of eval_multipro.py, the best weights, early stopping."""

import csv
import json
import logging

import pytest
import torch
from PIL import Image

from mit_semseg.config import load_config
from mit_semseg.data.records import read_records
from mit_semseg.lib.nn import freeze_batch_norm
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import build_module, build_validation

PLACE = ProcessInfo(0, 1, torch.device("cpu"))
SHORT = {"TRAIN__epoch_iters": 2, "TRAIN__tensorboard": False, "TRAIN__lr_encoder": 1e-3}


@pytest.fixture
def train(call, tiny, tmp_path):
    def run(**keys):
        folder = tmp_path / "run"
        own = tiny.overrides(**{**SHORT, **keys})
        done = call("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", folder, *own)
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
    """The scores of eval_multipro.py: mean IoU, and accuracy in percent."""
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


def test_training_stops_early_when_validations_do_not_improve(train, call, tiny):
    """With rates of 0 and frozen statistics, no epoch is better than the first."""
    still = {"TRAIN__lr_encoder": 0, "TRAIN__lr_decoder": 0, "TRAIN__fix_bn": True, "TRAIN__num_epoch": 9}
    keys = {"VAL__every": 1, "TRAIN__patience": 2, "TRAIN__epoch_iters": 1, "TRAIN__resume": "auto", **still}
    folder, out = train(**keys)
    assert len(validations(folder)) == 3
    assert "Stopped early: 2 validations were not better than 0." in out
    assert not (folder / "encoder_epoch_4.pth").exists()
    assert "is finished: 2 validations did not improve. Set TRAIN.patience higher" in train(**keys)[1]
    train(**{**keys, "TRAIN__patience": 3})
    assert len(validations(folder)) == 4


def test_a_part_of_the_list_is_the_same_each_time_and_differs_by_seed(tiny):
    def chosen(seed, count):
        words = ["VAL.every", "1", "VAL.max_images", str(count), "TRAIN.seed", str(seed)]
        validation = build_validation(train_options(load_config(str(tiny.config), words)))
        return [record.fpath_img for record in validation._dataset.records]

    everything = [record["fpath_img"] for record in tiny.records("validation")]
    assert chosen(1, 0) == chosen(1, 3) == chosen(1, 99) == everything
    assert chosen(1, 2) == chosen(1, 2)
    assert len({tuple(chosen(seed, 2)) for seed in range(9)}) > 1
    assert all(part in everything for part in chosen(3, 2))


def test_chosen_records_keep_their_line_number(tiny):
    records = read_records(str(tiny.folder / "validation.odgt")).take([2, 0])
    assert [record.fpath_img for record in records] == ["validation/2.jpg", "validation/0.jpg"]
    assert records.line(0).startswith("line 3 of ")


def test_the_module_is_as_it_was_with_its_frozen_layers(tiny):
    options = train_options(load_config(str(tiny.config), ["VAL.every", "1"]))
    module = build_module(options.module).train()
    freeze_batch_norm(module)
    modes = {name: layer.training for name, layer in module.named_modules()}
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    scores = build_validation(options).score(module, PLACE)
    assert {name: layer.training for name, layer in module.named_modules()} == modes
    assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())
    assert set(scores.samples) == {f"validation/{k}.jpg" for k in range(3)}
    assert scores.samples["validation/0.jpg"].shape == (36, 3 * 48, 3)  # image | truth | prediction


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4, [4, 1])])
def test_the_batch_size_is_obeyed_and_changes_no_score(own_tiny, batch_size, sizes):
    """Training once ignored it."""
    file = own_tiny.folder / "validation.odgt"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[k] for k in (0, 0, 1, 0, 0)))
    words = ["VAL.every", "1", "DATASET.imgSizes", "32"]
    torch.manual_seed(3)
    options = train_options(load_config(str(own_tiny.config), words))
    module = build_module(options.module)
    found = []

    def see(encoder, args):  # the module is copied with its hooks
        batch, _, height, width = args[0].shape
        if height != width:  # the square image is not in the list; folding the layers uses it
            found.append(batch)

    expected = build_validation(options).score(module, PLACE)
    module.encoder.register_forward_pre_hook(see)
    config = load_config(str(own_tiny.config), [*words, "VAL.batch_size", str(batch_size)])
    validation = build_validation(train_options(config))
    scores = validation.score(module, PLACE)
    assert sorted(found, reverse=True) == sizes
    assert (scores.images, list(scores.samples)) == (5, list(expected.samples))
    assert scores.mean_iou == pytest.approx(expected.mean_iou, abs=0.01)  # but for ties
    found.clear()
    validation.try_out(module, PLACE)
    assert found == sizes[:1]


def test_a_list_that_cannot_be_used_is_refused_before_the_training(call, tiny, tmp_path):
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / "run"]
    done = call("train", *words, "VAL.every", 1, "DATASET.list_val", tmp_path / "none.odgt")
    assert done.code == 2
    assert "none.odgt does not exist" in done.err
    assert call("train", *words, "DATASET.list_val", tmp_path / "none.odgt", "TRAIN.num_epoch", 1).code == 0
    assert logging.getLogger("mit_semseg").level == logging.INFO


def turn(tiny, name, orientation, quarter):
    """Give an image an EXIF orientation; with a quarter turn, its label gets the size of the upright view."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(tiny.folder / f"{name}.jpg") as image:
        image.save(tiny.folder / f"{name}.jpg", exif=exif)
    if quarter:
        with Image.open(tiny.folder / f"{name}.png") as label:
            label.transpose(Image.Transpose.ROTATE_270).save(tiny.folder / f"{name}.png")


@pytest.mark.parametrize(
    ("orientation", "said"),
    [
        (6, "The label fits the upright view that EXIF orientation 6 gives."),
        (3, "and the size does not show"),
    ],
)
def test_commands_agree_on_a_validation_image_that_exif_turns(call, own_tiny, trained, orientation, said):
    """The last image, which a training would not read before the end of an epoch."""
    turn(own_tiny, "validation/2", orientation, quarter=orientation == 6)
    words = ["--gpus", "cpu", "--cfg", own_tiny.config]
    run = own_tiny.folder / "new"
    done = call("train", *words, "DIR", run, "VAL.every", 1, "TRAIN.num_epoch", 1)
    scored = call("eval", *words, "DIR", trained, "VAL.result", own_tiny.folder / "result")
    check = call("data", "check", own_tiny.folder / "validation.odgt", "--root", own_tiny.folder)
    refused = orientation == 6
    assert done.code == scored.code == (2 if refused else 0)
    for outcome in (done, scored):
        text = outcome.err if refused else outcome.out
        assert said in text
        assert "validation/2.jpg" in text
    if refused:
        assert "line 3 of" in done.err
        assert not (run / "state.pth").exists()
        assert "EXIF-rotated images whose labels fit the upright view" in check.out
    else:
        assert "orientation 3" in check.out
