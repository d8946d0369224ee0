"""Training as a user sees it: what it leaves, what it obeys, and how it goes on after an interruption."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg import optim
from mit_semseg.cli import main
from mit_semseg.config import load_config
from mit_semseg.engine import train as engine
from mit_semseg.engine.setup import build_module
from mit_semseg.lib.nn import freeze_batch_norm

PARTS = ("encoder", "decoder")


@pytest.fixture
def train(call, tiny, tmp_path):
    """``train("run", TRAIN__seed=1)`` trains in a folder of that name and returns it."""

    def run(name="run", **keys):
        folder = tmp_path / name
        outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, "DIR", folder, *tiny.overrides(**keys))
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
    """Whether two dicts of tensors agree to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def largest_change(before, after, *, of):
    changes = [(after[name] - before[name]).abs().max() for name in before if of(name)]
    return float(max(changes)) if changes else 0.0


def is_norm(name):
    """Whether a weight belongs to a BatchNorm of MobileNetV2 or C1, by the order of their layers."""
    return "running_" in name or "num_batches" in name


# What it leaves


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
        "state.pth",
    ]


def test_the_history_has_a_point_a_line_in_epochs_with_loss_and_percent(trained):
    course = history(trained, 2)
    assert course["epoch"] == [0.5, 1.0, 1.5, 2.0]
    assert len(course["loss"]) == len(course["acc"]) == 4
    assert all(0 < loss < 100 for loss in course["loss"])
    assert all(0 <= accuracy <= 100 for accuracy in course["acc"])
    assert history(trained, 1)["loss"] == course["loss"][:2]


def test_the_config_beside_the_weights_is_the_one_that_they_were_trained_with(tiny, trained):
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
    assert "validation/0.jpg is empty. It stands in line 1 of" in done.err
    assert "Epoch 1" not in done.out
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_in_its_first_epoch_leaves_its_log_and_may_be_repeated(call, tiny, tmp_path):
    words = ["--gpus", "cpu", "--cfg", str(tiny.config), "DIR", str(tmp_path / "run")]
    rates = tiny.overrides(TRAIN__lr_encoder=1e30, TRAIN__lr_decoder=1e30, TRAIN__tensorboard=False)
    with pytest.raises(FloatingPointError):
        main(["train", *words, *rates, "TRAIN.epoch_iters", "9"])
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["history.csv", "log.txt"]
    assert "Ended by FloatingPointError: The loss is " in (tmp_path / "run" / "log.txt").read_text()
    assert call("train", *words, "TRAIN.num_epoch", 1).code == 0


# What it obeys


def test_the_loss_falls(train):
    folder = train(TRAIN__epoch_iters=40, TRAIN__num_epoch=1, TRAIN__seed=1)
    loss = history(folder, 1)["loss"]
    assert np.mean(loss[-8:]) < 0.7 * np.mean(loss[:8])


def test_the_same_seed_gives_the_same_weights_and_another_seed_another_course(train):
    one, again, other = train("one"), train("again"), train("other", TRAIN__seed=1)
    assert same(weights(one, 2), weights(again, 2))
    assert history(one, 2) == history(again, 2)
    assert history(one, 2)["loss"] != history(other, 2)["loss"]


def test_another_seed_draws_another_order_of_the_data(train, tiny, tmp_path):
    """With the weights of one run, so that nothing but the data differs."""
    start = train("start", TRAIN__num_epoch=1)
    keys = {f"MODEL__weights_{part}": start / f"{part}_epoch_1.pth" for part in PARTS}
    losses = [
        history(train(name, TRAIN__lr_encoder=0, TRAIN__lr_decoder=0, TRAIN__seed=seed, **keys), 2)["loss"]
        for name, seed in (("a", 5), ("b", 6), ("c", 5))
    ]
    assert losses[0] == losses[2] != losses[1]


def test_random_flip_is_obeyed(train):
    """Without a step, the losses differ by what was shown, and by nothing else."""
    keys = {"TRAIN__lr_encoder": 0, "TRAIN__lr_decoder": 0, "TRAIN__epoch_iters": 4, "TRAIN__num_epoch": 1}
    flipped, plain = train("flipped", **keys), train("plain", DATASET__random_flip=False, **keys)
    assert history(flipped, 1)["loss"] != history(plain, 1)["loss"]


def test_the_optimizer_is_obeyed(train):
    """Adam's first step moves a weight by its rate, whatever the gradient; SGD's by rate times gradient."""
    keys = {"TRAIN__epoch_iters": 1, "TRAIN__num_epoch": 1, "TRAIN__weight_decay": 0}
    rate = {"TRAIN__lr_encoder": 1e-3, "TRAIN__lr_decoder": 1e-3}
    start = weights(train("start", TRAIN__lr_encoder=0, TRAIN__lr_decoder=0, **keys), 1)
    adam = weights(train("adam", TRAIN__optim="AdamW", **rate, **keys), 1)
    sgd = weights(train("sgd", TRAIN__optim="SGD", **rate, **keys), 1)
    name = "decoder.conv_last.weight"
    steps = (adam[name] - start[name]).abs()
    assert steps.max() <= 1.01e-3
    assert steps.median() == pytest.approx(1e-3, rel=0.05)
    assert (sgd[name] - start[name]).abs().max() != pytest.approx(1e-3, rel=0.05)


def test_encoder_and_decoder_have_rates_of_their_own(train):
    keys = {"TRAIN__epoch_iters": 1, "TRAIN__num_epoch": 1, "TRAIN__lr_decoder": 0.1}
    start = weights(train("start", **{**keys, "TRAIN__lr_encoder": 0, "TRAIN__lr_decoder": 0}), 1)
    after = weights(train("after", TRAIN__lr_encoder=0, **keys), 1)
    assert largest_change(start, after, of=lambda n: n.startswith("encoder") and "running" not in n) == 0
    assert largest_change(start, after, of=lambda n: n == "decoder.conv_last.weight") > 0


def test_fix_bn_keeps_statistics_and_parameters_of_every_norm_and_trains_the_rest(train):
    keys = {"TRAIN__num_epoch": 1, "TRAIN__fix_bn": True}
    start = weights(train("start", TRAIN__lr_encoder=0, TRAIN__lr_decoder=0, **keys), 1)
    after = weights(train("after", **keys), 1)
    norms = {name.rpartition(".")[0] for name in start if name.endswith("running_mean")}
    assert norms
    for name in start:
        changed = not torch.equal(start[name], after[name])
        assert changed == (name.rpartition(".")[0] not in norms), name


def test_fix_bn_leaves_dropout_on(tiny):
    config = load_config(str(tiny.config), ["MODEL.arch_decoder", "ppm_deepsup"])
    module = build_module(config, ("", ""), training=True).train()
    freeze_batch_norm(module)
    modes = {
        kind: {layer.training for layer in module.modules() if isinstance(layer, kind)}
        for kind in (torch.nn.modules.batchnorm._BatchNorm, torch.nn.Dropout2d, torch.nn.Conv2d)
    }
    assert list(modes.values()) == [{False}, {True}, {True}]


# A loss that is not finite


def test_a_loss_that_is_not_finite_names_the_place_and_the_images_before_it_moves_a_weight(
    tiny, tmp_path, monkeypatch
):
    steps = []

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(super().step(closure))

    monkeypatch.setitem(optim.OPTIMIZERS, "Counting", lambda groups, lr, beta1: Counting(groups, lr=lr))
    words = tiny.overrides(TRAIN__lr_encoder=1e30, TRAIN__lr_decoder=1e30, TRAIN__epoch_iters=9)
    words += tiny.overrides(TRAIN__optim="Counting", DIR=tmp_path / "run")
    with pytest.raises(FloatingPointError) as caught:
        main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), *words])
    message = str(caught.value)
    assert f"at epoch 1, iteration {len(steps) + 1}, learning rate" in message
    assert "nan" in message or "inf" in message
    assert 1 <= len(steps) < 8
    assert f"{tiny.folder}/training/" in message
    assert message.count(".jpg") == 2


# Resume


def interrupted(monkeypatch, tiny, folder, after, **keys):
    """A run that its user stops with Ctrl-C once an epoch is saved."""
    drop = engine.drop_old_epochs  # the first thing that is done once the state is saved

    def drop_and_stop(folder, epoch, keep):
        drop(folder, epoch, keep)
        if epoch == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine, "drop_old_epochs", drop_and_stop)
        words = tiny.overrides(DIR=folder, **keys)
        assert main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), *words]) == 130


@pytest.mark.parametrize(
    ("workers", "decoder", "optimizer"), [(0, "ppm_deepsup", "SGD"), (2, "c1", "AdamW"), (0, "c1", "Adam")]
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    train, tiny, tmp_path, monkeypatch, workers, decoder, optimizer
):
    keys = {
        "TRAIN__num_epoch": 3,
        "TRAIN__workers": workers,
        "TRAIN__optim": optimizer,
        "TRAIN__lr_encoder": 1e-3,
        "MODEL__arch_decoder": decoder,
    }
    whole = train("whole", **keys)
    interrupted(monkeypatch, tiny, tmp_path / "parts", 1, **keys)
    parts = train("parts", TRAIN__start_epoch=1, **keys)
    assert same(weights(whole, 3), weights(parts, 3))
    assert history(whole, 3) == history(parts, 3)
    states = [
        torch.load(folder / "state.pth", weights_only=True)["optimizer"]["state"] for folder in (whole, parts)
    ]
    assert all(same(states[0][i], states[1][i]) for i in states[0])
    assert states[0].keys() == states[1].keys()


def test_an_old_checkpoint_has_no_optimizer_and_training_goes_on_and_says_so(call, train, tiny):
    folder = train(TRAIN__num_epoch=1)
    (folder / "state.pth").unlink()
    (folder / "history_epoch_1.pth").unlink()
    words = tiny.overrides(DIR=folder, TRAIN__start_epoch=1)
    outcome = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
    assert outcome.code == 0
    assert "state.pth does not exist: the optimizer starts afresh" in outcome.out
    assert history(folder, 2)["epoch"] == [1.5, 2.0]


def test_the_history_of_the_old_scripts_is_taken_up(train, tiny):
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
        "state.pth is of iteration 4 (TRAIN.resume auto goes on there): the optimizer starts" in outcome.out
    )
    assert history(folder, 2)["epoch"] == [0.5, 1.0, 1.5, 2.0]


def test_only_the_newest_epochs_are_kept_if_so_wished(train):
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


def test_training_speaks_through_the_package_logger_alone(call, tiny, tmp_path):
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
    return own_tiny.overrides(DATASET__on_error="skip", TRAIN__epoch_iters=160, TRAIN__num_epoch=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_among_many_is_skipped_and_told(call, own_tiny, tmp_path, workers):
    words = with_a_broken_image(own_tiny, times=50)  # 301 images: with 2 a step, all are seen
    run = ["--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", "TRAIN.workers", workers]
    done = call("train", *run, *words)
    assert done.code == 0, done.err
    assert done.out.count("Skipped (1 so far)") == 1
    assert "broken.jpg is empty. It stands in line 301 of" in done.out
    assert (tmp_path / "run" / "encoder_epoch_1.pth").is_file()


def test_more_than_one_broken_image_in_a_hundred_ends_the_training(call, own_tiny, tmp_path):
    words = with_a_broken_image(own_tiny, times=15)  # 91 images
    done = call("train", "--gpus", "cpu", "--cfg", own_tiny.config, "DIR", tmp_path / "run", *words)
    assert done.code == 2
    assert "1 of 91 examples can't be used" in done.err
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
