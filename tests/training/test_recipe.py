"""The effect of a recipe's config keys on the training."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.config import load_config
from mit_semseg.data.class_weights import ClassCounts, enet, median_frequency
from mit_semseg.errors import UserError
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import build_module, class_weights, train_dataset

CPU = torch.device("cpu")
RECIPE = {
    "TRAIN__loss": "cross_entropy + 0.5*dice + 0.1*lovasz",
    "TRAIN__class_weights": "enet",
    "TRAIN__label_smoothing": 0.1,
    "TRAIN__label_resolution": "full",
    "TRAIN__accumulate": 2,
    "TRAIN__optim": "NAdam",
    "TRAIN__lr_encoder": 1e-3,
    "TRAIN__lr_decoder": 1e-3,
    "TRAIN__lr_schedule": "cosine",
    "TRAIN__lr_min": 1e-5,
    "TRAIN__warmup_iters": 2,
    "TRAIN__clip_grad_norm": 1.0,
}


def recipe(tiny, **keys):
    """The options of the tiny config with other keys."""
    return train_options(load_config(str(tiny.config), tiny.overrides(**keys)))


def weights_of(options):
    return class_weights(options, train_dataset(options), ProcessInfo(0, 1, CPU))


def counts_of(tiny, offset=1, ignore=None):
    """The labels of the training list, counted value by value."""
    counts = ClassCounts(3)
    for record in tiny.records("training"):
        values = Counter(np.array(Image.open(tiny.folder / record["fpath_segm"])).ravel().tolist())
        counts.add(np.array([0 if k + offset == ignore else values[k + offset] for k in range(3)]))
    return counts


def test_class_weights_are_those_of_the_lists_labels(tiny):
    options = recipe(tiny, TRAIN__class_weights="median_frequency", TRAIN__label_resolution="full")
    expected = torch.from_numpy(median_frequency(counts_of(tiny), 1.02)).float()
    assert torch.equal(weights_of(options), expected)


def test_class_weights_honour_offset_ignored_value_and_constant(tiny):
    keys = {"DATASET__label_offset": 0, "DATASET__ignore_label": 3, "TRAIN__enet_constant": 1.1}
    expected = enet(counts_of(tiny, offset=0, ignore=3), 1.1)
    weights = weights_of(recipe(tiny, TRAIN__class_weights="enet", **keys))
    assert weights.tolist() == pytest.approx(expected.tolist())


def test_class_weights_may_be_a_list_in_yaml_or_on_the_command_line(tiny, tmp_path):
    file = tmp_path / "weights.yaml"
    file.write_text("DATASET: {num_class: 3}\nTRAIN: {class_weights: [1, 2.5, 0]}\n")
    in_yaml = train_options(load_config([str(tiny.config), str(file)]))
    for options in (in_yaml, recipe(tiny, TRAIN__class_weights="(1, 2.5, 0)")):
        assert weights_of(options).tolist() == [1, 2.5, 0]
    dumped = tmp_path / "dumped.yaml"
    dumped.write_text(load_config(str(file)).dump())
    assert load_config(str(dumped)).TRAIN.class_weights == "[1, 2.5, 0]"
    assert weights_of(recipe(tiny)) is None


def test_a_label_that_cannot_be_counted_is_named_or_skipped(own_tiny):
    (own_tiny.folder / "training" / "2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.png .*See line 3 of .*training\.odgt"):
        weights_of(recipe(own_tiny, TRAIN__class_weights="enet"))
    options = recipe(own_tiny, TRAIN__class_weights="enet", DATASET__on_error="skip")
    lines = (own_tiny.folder / "training.odgt").read_text().splitlines()
    skipping = weights_of(options)
    (own_tiny.folder / "training.odgt").write_text("\n".join(lines[:2] + lines[3:]) + "\n")
    assert torch.equal(weights_of(options), skipping)


def test_a_list_without_a_labelled_pixel_has_no_class_weights(own_tiny):
    for record in own_tiny.records("training"):
        file = own_tiny.folder / record["fpath_segm"]
        Image.fromarray(np.zeros_like(np.array(Image.open(file)))).save(file)
    with pytest.raises(UserError, match=r"training\.odgt has no labelled pixel, so class weights"):
        weights_of(recipe(own_tiny, TRAIN__class_weights="enet"))


def test_labels_of_full_resolution_contain_those_at_the_stride(tiny):
    at_stride, full = (
        train_dataset(recipe(tiny, TRAIN__label_resolution=name)).sub_batch(3) for name in ("stride", "full")
    )
    assert torch.equal(full["img_data"], at_stride["img_data"])
    assert full["seg_label"].shape[1:] == tuple(full["img_data"].shape[2:])
    # Cells without a middle, at the right and the bottom, have no label at the stride.
    kept = at_stride["seg_label"]
    np.testing.assert_array_equal(full["seg_label"][:, 4::8, 4::8], kept)
    for b, (width, height) in enumerate(full["sizes"]):
        assert (full["seg_label"][b, height:] == -1).all()
        assert (full["seg_label"][b, :, width:] == -1).all()


def test_the_module_takes_labels_of_the_resolution_that_the_config_names(tiny):
    for name, rate in (("stride", 8), ("full", 1)):
        module = build_module(recipe(tiny, TRAIN__label_resolution=name).module)
        label = torch.randint(-1, 3, (2, 32 // rate, 40 // rate))
        sums, accuracy = module({"img_data": torch.randn(2, 3, 32, 40), "seg_label": label})
        assert sums.shape == (1,)
        assert accuracy.shape == ()


def test_the_schedules_iterations_are_the_runs(tiny):
    keys = {"TRAIN__epoch_iters": 10, "TRAIN__num_epoch": 4, "TRAIN__lr_milestones": "(1, 2.5)"}
    course = recipe(tiny, TRAIN__lr_schedule="step", TRAIN__lr_step_factor=0.5, **keys).schedule
    rates = [course.rate(1.0, iteration) for iteration in range(40)]
    assert rates == [1.0] * 10 + [0.5] * 15 + [0.25] * 15


def test_a_run_with_all_keys_of_a_recipe_trains_and_logs_them(tiny, tmp_path, call):
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / "run", *tiny.overrides(**RECIPE)]
    done = call("train", *words)
    assert done.code == 0, done.err
    assert "Class weights enet from " in done.out
    assert "; 3 of 3 classes occur" in done.out
    assert "2 epochs of 2 iterations, 4 images each" in done.out
    assert "lr 1.00e-06" in done.out  # the first of the warm-up, a thousandth of the rate
    history = torch.load(tmp_path / "run" / "history_epoch_2.pth")["train"]
    assert len(history["loss"]) == 4
    assert json.dumps(history["loss"], allow_nan=False)
