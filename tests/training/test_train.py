"""Training as a user sees it: the files it writes, the keys it obeys, and how it resumes."""

import json
import logging
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg.cli import main
from mit_semseg.config import load_config
from mit_semseg.lib.nn import freeze_batch_norm
from mit_semseg.optim import optimizers as optim
from mit_semseg.training import train as training
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import build_module

PARTS = ("encoder", "decoder")


@pytest.fixture
def train(call, tiny, tmp_path):
    """``train("run", TRAIN__seed=1)`` trains in a folder of that name and returns it."""

    def run(name="run", **keys):
        folder = tmp_path / name
        words = tiny.overrides(DIR=folder, TRAIN__tensorboard=False, **keys)
        outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        return folder

    return run


def weights(folder, epoch):
    return {
        f"{part}.{name}": value
        for part in PARTS
        for name, value in torch.load(folder / f"{part}_epoch_{epoch}.pth", weights_only=True).items()
    }


def history(folder, epoch):
    return torch.load(folder / f"history_epoch_{epoch}.pth", weights_only=True)["train"]


def same(a, b):
    """Whether two dicts of tensors are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def largest_change(before, after, *, of):
    changes = [(after[name] - before[name]).abs().max() for name in before if of(name)]
    return float(max(changes)) if changes else 0.0


def is_norm(name):
    """Whether a weight belongs to a BatchNorm of MobileNetV2 or C1, by the order of their layers."""
    return "running_" in name or "num_batches" in name


# Files


def test_every_epoch_leaves_its_weights_and_history_and_the_newest_the_state(trained):
    # Evaluations of the same run by other tests leave a folder beside them.
    assert sorted(path.name for path in trained.iterdir() if path.is_file()) == [
        "config.yaml",
        "curves.png",
        "decoder_epoch_1.pth",
        "decoder_epoch_2.pth",
        "encoder_epoch_1.pth",
        "encoder_epoch_2.pth",
        "history.csv",
        "history_epoch_1.pth",
        "history_epoch_2.pth",
        "log.txt",
        "run.json",
        "state.pth",
    ]


def test_the_history_has_one_point_per_log_line_in_epochs_with_loss_and_percent(trained):
    course = history(trained, 2)
    assert course["epoch"] == [0.5, 1.0, 1.5, 2.0]
    assert len(course["loss"]) == len(course["acc"]) == 4
    assert all(0 < loss < 100 for loss in course["loss"])
    assert all(0 <= accuracy <= 100 for accuracy in course["acc"])
    assert history(trained, 1)["loss"] == course["loss"][:2]


def test_the_saved_config_is_the_one_that_the_weights_were_trained_with(tiny, trained):
    config = load_config(str(trained / "config.yaml"))
    assert config == load_config(str(tiny.config), ["DIR", str(trained)])


def test_the_lines_show_the_rate_fall_to_zero_by_a_power(call, tiny, tmp_path):
    words = tiny.overrides(DIR=tmp_path / "run", TRAIN__lr_encoder=0.016, TRAIN__lr_decoder=0.16)
    out = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words, "TRAIN.lr_pow", 2).out
    for rates in ("1.60e-02 1.60e-01", "9.00e-03 9.00e-02", "4.00e-03 4.00e-02", "1.00e-03 1.00e-02"):
        assert f"lr {rates} " in out
    assert "Epoch 1/2  2/2  loss " in out


def test_a_run_that_fails_before_its_first_step_leaves_nothing(call, own_tiny, tmp_path):
    (own_tiny.folder / "validation" / "0.jpg").write_bytes(b"")
    words = ["--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", "VAL.every", 9]
    done = call("train", *words)
    assert done.code == 2
    assert "validation/0.jpg is empty. See line 1 of" in done.err
    assert "Epoch 1" not in done.out
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_in_its_first_epoch_leaves_its_log_and_may_be_repeated(call, tiny, tmp_path):
    words = ["--gpus", "cpu", "--cfg", str(tiny.config), "DIR", str(tmp_path / "run")]
    rates = tiny.overrides(TRAIN__lr_encoder=1e30, TRAIN__lr_decoder=1e30, TRAIN__tensorboard=False)
    done = call("train", *words, *rates, "TRAIN.epoch_iters", "9")
    assert done.code == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "history.csv",
        "log.txt",
        "run.json",
    ]
    assert f"Ended by DivergenceError: {done.err}" in (tmp_path / "run" / "log.txt").read_text()
    assert call("train", *words, "TRAIN.num_epoch", 1).code == 0


# Config keys


def test_the_loss_falls(train):
    folder = train(TRAIN__epoch_iters=40, TRAIN__num_epoch=1, TRAIN__seed=1)
    loss = history(folder, 1)["loss"]
    assert np.mean(loss[-8:]) < 0.7 * np.mean(loss[:8])


def test_the_same_seed_gives_the_same_weights_and_another_seed_other_ones(train):
    keys = {"TRAIN__num_epoch": 1}
    one, again, other = train("one", **keys), train("again", **keys), train("other", TRAIN__seed=1, **keys)
    assert same(weights(one, 1), weights(again, 1))
    assert history(one, 1) == history(again, 1)
    assert history(one, 1)["loss"] != history(other, 1)["loss"]


def test_another_seed_draws_another_order_of_the_data(train, trained):
    """Both start from the weights of one run, so only the data differs."""
    keys = {f"MODEL__weights_{part}": trained / f"{part}_epoch_2.pth" for part in PARTS}
    keys |= {"TRAIN__lr_encoder": 0, "TRAIN__lr_decoder": 0, "TRAIN__epoch_iters": 4, "TRAIN__num_epoch": 1}
    losses = [
        history(train(name, TRAIN__seed=seed, **keys), 1)["loss"]
        for name, seed in (("a", 5), ("b", 6), ("c", 5))
    ]
    assert losses[0] == losses[2] != losses[1]


def test_random_flip_is_obeyed(train):
    """With a learning rate of 0, the losses differ only if the images do."""
    keys = {"TRAIN__lr_encoder": 0, "TRAIN__lr_decoder": 0, "TRAIN__epoch_iters": 4, "TRAIN__num_epoch": 1}
    flipped, plain = train("flipped", **keys), train("plain", DATASET__random_flip=False, **keys)
    assert history(flipped, 1)["loss"] != history(plain, 1)["loss"]


@pytest.fixture(scope="module")
def start(tiny, tmp_path_factory):
    """The weights with which a run of the tiny config starts."""
    folder = tmp_path_factory.mktemp("start")
    still = tiny.overrides(TRAIN__lr_encoder=0, TRAIN__lr_decoder=0, TRAIN__fix_bn=True)
    short = tiny.overrides(DIR=folder, TRAIN__epoch_iters=1, TRAIN__num_epoch=1, TRAIN__tensorboard=False)
    assert main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), *still, *short]) == 0
    return weights(folder, 1)


def test_the_optimizer_is_obeyed(train, start):
    """Adam's first step moves a weight by its rate, whatever the gradient; SGD's, by rate times gradient."""
    keys = {"TRAIN__epoch_iters": 1, "TRAIN__num_epoch": 1, "TRAIN__weight_decay": 0}
    rate = {"TRAIN__lr_encoder": 1e-3, "TRAIN__lr_decoder": 1e-3}
    adam = weights(train("adam", TRAIN__optim="AdamW", **rate, **keys), 1)
    sgd = weights(train("sgd", TRAIN__optim="SGD", **rate, **keys), 1)
    name = "decoder.conv_last.weight"
    steps = (adam[name] - start[name]).abs()
    assert steps.max() <= 1.01e-3
    assert steps.median() == pytest.approx(1e-3, rel=0.05)
    assert (sgd[name] - start[name]).abs().max() != pytest.approx(1e-3, rel=0.05)


def test_encoder_and_decoder_have_rates_of_their_own(train, start):
    keys = {"TRAIN__epoch_iters": 1, "TRAIN__num_epoch": 1, "TRAIN__lr_decoder": 0.1}
    after = weights(train("after", TRAIN__lr_encoder=0, **keys), 1)
    assert largest_change(start, after, of=lambda n: n.startswith("encoder") and not is_norm(n)) == 0
    assert largest_change(start, after, of=lambda n: n == "decoder.conv_last.weight") > 0


def test_fix_bn_keeps_statistics_and_parameters_of_every_norm_and_trains_the_rest(train, start):
    after = weights(train("after", TRAIN__num_epoch=1, TRAIN__fix_bn=True), 1)
    norms = {name.rpartition(".")[0] for name in start if name.endswith("running_mean")}
    assert norms
    for name in start:
        changed = not torch.equal(start[name], after[name])
        assert changed == (name.rpartition(".")[0] not in norms), name


def test_fix_bn_leaves_dropout_on(tiny):
    config = load_config(str(tiny.config), ["MODEL.arch_decoder", "ppm_deepsup"])
    module = build_module(train_options(config).module).train()
    freeze_batch_norm(module)
    modes = {
        kind: {layer.training for layer in module.modules() if isinstance(layer, kind)}
        for kind in (torch.nn.modules.batchnorm._BatchNorm, torch.nn.Dropout2d, torch.nn.Conv2d)
    }
    assert list(modes.values()) == [{False}, {True}, {True}]


# A loss that is not finite


def test_a_loss_that_is_not_finite_names_the_place_and_the_images_before_it_moves_a_weight(
    call, tiny, tmp_path, monkeypatch
):
    steps = []

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(super().step(closure))

    monkeypatch.setitem(optim.OPTIMIZERS, "Counting", lambda groups, lr, beta1: Counting(groups, lr=lr))
    words = tiny.overrides(TRAIN__lr_encoder=1e30, TRAIN__lr_decoder=1e30, TRAIN__epoch_iters=9)
    words += tiny.overrides(TRAIN__optim="Counting", DIR=tmp_path / "run")
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
    assert done.code == 1
    message = done.err.splitlines()[-1]
    assert message.startswith("The loss is ")
    assert (
        "Lower TRAIN.lr_encoder and TRAIN.lr_decoder, or set TRAIN.warmup_iters, or set TRAIN.clip" in message
    )
    assert message.endswith("/run holds no state yet: the same command starts from the same point.")
    assert f"at epoch 1, iteration {len(steps) + 1}, learning rate" in message
    assert "nan" in message or "inf" in message
    assert 1 <= len(steps) < 8
    assert f"{tiny.folder}/training/" in message
    assert message.count(".jpg") == 2


def test_a_training_that_diverges_resumes_from_its_last_state_with_a_lower_rate(call, tiny, tmp_path):
    words = ["--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / "run", "TRAIN.epoch_iters", 9]
    fast = tiny.overrides(TRAIN__lr_encoder=1e30, TRAIN__lr_decoder=1e30, TRAIN__clip_grad_norm=1)
    done = call("train", *words, *fast, "TRAIN.save_iters", 1)
    message = done.err.splitlines()[-1]
    assert done.code == 1
    assert "clip_grad_norm" not in message
    match = re.search(r"state\.pth holds the state after iteration (\d)\. TRAIN\.resume auto ", message)
    assert match
    again = call("train", *words, "TRAIN.resume", "auto", "TRAIN.num_epoch", 1)
    assert f"resumed after iteration {match[1]}" in again.out


# Labels


def unlabel(folder, numbers):
    for number in numbers:
        file = folder / "training" / f"{number}.png"
        with Image.open(file) as label:
            Image.new("L", label.size).save(file)


def test_a_training_without_a_labelled_pixel_ends_early(call, own_tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "dry_run", lambda *args: None)  # it may have seen another sub-batch
    unlabel(own_tiny.folder, range(6))
    words = ["--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", "TRAIN.num_epoch", 5]
    done = call("train", *words, "TRAIN.epoch_iters", 45, "TRAIN.batch_size_per_gpu", 1)
    assert done.code == 2
    assert "None of the first 100 iterations had a labelled pixel" in done.err
    assert "Epoch 3/5   9/45" in done.out
    assert "Epoch 3/5  10/45" not in done.out


def test_iterations_without_a_labelled_pixel_change_no_mean(call, own_tiny, tmp_path):
    unlabel(own_tiny.folder, range(0, 6, 2))
    words = ["--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", "TRAIN.num_epoch", 1]
    words += own_tiny.overrides(TRAIN__epoch_iters=12, TRAIN__batch_size_per_gpu=1, TRAIN__tensorboard=True)
    done = call("train", *words)
    assert done.code == 0
    lines = [line for line in done.out.splitlines() if "Epoch 1/1" in line]
    bare = [line for line in lines if "no labelled pixel" in line]
    assert len(lines) == 12
    assert 0 < len(bare) < 12
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()[1:]
    assert ["no labelled" in line for line in lines] == [row.split(",")[2:4] == ["", ""] for row in rows]
    together = call("train", *words, "DIR", tmp_path / "together", "TRAIN.disp_iter", 12)
    assert f"(no labelled pixel in {len(bare)} of 12 iterations)" in together.out


# Resume


def interrupted(monkeypatch, tiny, folder, after, **keys):
    """A run that its user stops with Ctrl-C once an epoch is saved."""
    drop = training.drop_old_epochs  # the first call after the state is saved

    def drop_and_stop(folder, epoch, keep):
        drop(folder, epoch, keep)
        if epoch == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "drop_old_epochs", drop_and_stop)
        words = tiny.overrides(DIR=folder, **keys)
        assert main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), *words]) == 130


@pytest.mark.parametrize(
    ("workers", "decoder", "optimizer"), [(0, "ppm_deepsup", "SGD"), (2, "c1", "AdamW"), (0, "c1", "Adam")]
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    train, tiny, tmp_path, monkeypatch, workers, decoder, optimizer
):
    keys = {
        "TRAIN__num_epoch": 2,
        "TRAIN__workers": workers,
        "TRAIN__optim": optimizer,
        "TRAIN__lr_encoder": 1e-3,
        "MODEL__arch_decoder": decoder,
        "MODEL__decoder_dim": 16,
    }
    whole = train("whole", **keys)
    interrupted(monkeypatch, tiny, tmp_path / "parts", 1, **keys)
    parts = train("parts", TRAIN__start_epoch=1, **keys)
    assert same(weights(whole, 2), weights(parts, 2))
    assert history(whole, 2) == history(parts, 2)
    states = [
        torch.load(folder / "state.pth", weights_only=True)["optimizer"]["state"] for folder in (whole, parts)
    ]
    assert all(same(states[0][i], states[1][i]) for i in states[0])
    assert states[0].keys() == states[1].keys()


def test_training_resumes_from_an_old_checkpoint_and_reports_the_missing_optimizer(call, train, tiny):
    folder = train(TRAIN__num_epoch=1)
    (folder / "state.pth").unlink()
    (folder / "history_epoch_1.pth").unlink()
    words = tiny.overrides(DIR=folder, TRAIN__start_epoch=1)
    outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
    assert outcome.code == 0
    assert "state.pth does not exist: the optimizer starts from scratch" in outcome.out
    assert history(folder, 2)["epoch"] == [1.5, 2.0]


def test_the_history_of_the_old_scripts_is_continued(train, tiny):
    folder = train(TRAIN__num_epoch=1)
    old = {"train": {"epoch": [0.5], "loss": [torch.tensor(1.25)], "acc": [np.float64(50).item()]}}
    torch.save(old, folder / "history_epoch_1.pth")
    (folder / "state.pth").unlink()
    train("run", TRAIN__start_epoch=1)
    course = history(folder, 2)
    assert course["epoch"] == [0.5, 1.5, 2.0]
    assert course["loss"][0] == 1.25


def test_an_epoch_before_the_state_starts_with_a_fresh_optimizer_and_says_where_the_state_is(
    call, trained, tiny, tmp_path
):
    folder = shutil.copytree(trained, tmp_path / "run")
    words = tiny.overrides(DIR=folder, TRAIN__start_epoch=1)
    outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
    assert outcome.code == 0
    assert (
        "state.pth is at iteration 4 (TRAIN.resume auto resumes there): the optimizer starts" in outcome.out
    )
    assert history(folder, 2)["epoch"] == [0.5, 1.0, 1.5, 2.0]


def test_keep_checkpoints_keeps_only_the_newest_epochs(train):
    folder = train(TRAIN__num_epoch=3, TRAIN__epoch_iters=1, TRAIN__keep_checkpoints=1)
    assert sorted(path.name for path in folder.glob("*_epoch_*")) == [
        f"{part}_epoch_3.pth" for part in ("decoder", "encoder", "history")
    ]


def test_a_resume_may_change_the_learning_rate(train):
    folder = train(TRAIN__num_epoch=1)
    before = weights(folder, 1)
    train("run", TRAIN__start_epoch=1, TRAIN__lr_encoder=0, TRAIN__lr_decoder=0)
    after = weights(folder, 2)
    assert all(torch.equal(before[name], after[name]) for name in before if not is_norm(name))


def test_training_prints_only_through_the_package_logger(call, tiny, tmp_path):
    before = len(logging.getLogger().handlers)
    call("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", tmp_path / "run", "TRAIN.num_epoch", 1)
    assert len(logging.getLogger().handlers) == before
    assert len(logging.getLogger("mit_semseg").handlers) == 1


def with_a_broken_image(own_tiny, times):
    """A list of ``times`` the usual images and, at its end, one more that is empty."""
    records = own_tiny.records("training") * times
    (own_tiny.folder / "broken.jpg").touch()
    records.append({**records[0], "fpath_img": "broken.jpg"})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (own_tiny.folder / "training.odgt").write_text(lines)
    keys = {"DATASET__on_error": "skip", "TRAIN__epoch_iters": 16, "TRAIN__num_epoch": 1}
    return own_tiny.overrides(**keys, TRAIN__batch_size_per_gpu=8, TRAIN__tensorboard=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_among_many_is_skipped_and_reported(call, own_tiny, tmp_path, workers):
    words = with_a_broken_image(own_tiny, times=17)  # 103 images: with 8 a step, all are seen
    run = ["--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", "TRAIN.workers", workers]
    done = call("train", *run, *words)
    assert done.code == 0, done.err
    assert done.out.count("Skipped (1 so far)") == 1
    assert "broken.jpg is empty. See line 103 of" in done.out
    assert (tmp_path / "run" / "encoder_epoch_1.pth").is_file()


def test_one_broken_image_is_skipped_in_a_short_list_and_a_second_one_ends_the_training(
    call, own_tiny, tmp_path
):
    words = with_a_broken_image(own_tiny, times=2)  # 13 images
    run = ["train", "--gpus", "cpu", "--cfg", own_tiny.config, *words, "TRAIN.epoch_iters", 14]
    done = call(*run, "DIR", tmp_path / "one")
    assert done.code == 0, done.err
    assert done.out.count("Skipped (1 so far)") == 1

    own_tiny.folder.joinpath(own_tiny.records("training")[0]["fpath_img"]).write_bytes(b"")
    done = call(*run, "DIR", tmp_path / "two")
    assert done.code == 2
    assert "2 of 13 examples cannot be used. DATASET.on_error skip allows 1: 1% of the list" in done.err
    assert "mit-semseg data check" in done.err


def test_the_crop_recipe_and_labels_from_0_train(call, own_tiny, tmp_path):
    for record in own_tiny.records("training"):
        file = own_tiny.folder / record["fpath_segm"]
        label = np.array(Image.open(file)).astype(int)
        Image.fromarray(np.where(label == 0, 255, label - 1).astype(np.uint8)).save(file)
    words = own_tiny.overrides(
        DATASET__augment="crop",
        DATASET__crop_size="(24,32)",
        DATASET__label_offset=0,
        DATASET__ignore_label=255,
    )
    done = call("train", "--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", *words)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "encoder_epoch_2.pth").is_file()
