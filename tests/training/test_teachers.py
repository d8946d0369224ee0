"""Training with teachers."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.config import load_config
from mit_semseg.data.images import normalize
from mit_semseg.errors import UserError
from mit_semseg.training.checks import check_recipe
from mit_semseg.training.options import train_options
from mit_semseg.training.teachers import Teachers, find_teachers

CPU = torch.device("cpu")
LOSS = {"TRAIN__loss": "cross_entropy + distillation"}


@pytest.fixture
def student(call, tiny, trained, tmp_path):
    """``student("run", TRAIN__seed=1)`` trains with ``trained`` as the teacher; returns the outcome."""

    def run(name, **keys):
        keys = {**LOSS, "TRAIN__teachers": trained, "DIR": tmp_path / name, **keys}
        return call("train", "--gpus", "cpu", "--cfg", tiny.config, *tiny.overrides(**keys))

    return run


def weights(folder, epoch=2):
    parts = [
        torch.load(folder / f"{part}_epoch_{epoch}.pth", weights_only=True) for part in ("encoder", "decoder")
    ]
    return {name: value for part in parts for name, value in part.items()}


def teachers_of(tiny, *names, **keys):
    keys = {**keys, "TRAIN__teachers": ",".join(map(str, names))}
    return find_teachers(train_options(load_config(str(tiny.config), tiny.overrides(**keys))))


def photos(tiny):
    """Two photos of 48 x 32 pixels, as bytes."""
    files = [tiny.folder / record["fpath_img"] for record in tiny.records("training")[:2]]
    return [Image.open(file).convert("RGB").resize((48, 32)) for file in files]


def batch(images):
    return normalize(torch.stack([torch.from_numpy(np.array(each)).permute(2, 0, 1) for each in images]))


def test_it_teaches_the_probabilities_that_the_segmenter_gives(tiny, trained):
    images = photos(tiny)
    taught = Teachers(teachers_of(tiny, trained), [CPU], "none")(batch(images), (32, 48))
    segmenter = Segmenter.load(trained, device="cpu", sizes=32)
    assert taught.shape == (2, 3, 32, 48)
    assert not taught.requires_grad
    for found, image in zip(taught, images, strict=True):
        expected = segmenter(image).probabilities
        assert np.abs(found.numpy() - expected).max() < 1e-5


def test_bf16_teaches_nearly_the_same(tiny, trained):
    exact, rounded = (
        Teachers(teachers_of(tiny, trained), [CPU], amp)(batch(photos(tiny)), (32, 48))
        for amp in ("none", "bf16")
    )
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.03


def test_several_teachers_teach_their_mean(tiny, trained, student, tmp_path):
    assert student("other", TRAIN__seed=5).code == 0
    both, one, other = (
        Teachers(teachers_of(tiny, *names), [CPU], "none")(batch(photos(tiny)), (16, 24))
        for names in ((trained, tmp_path / "other"), (trained,), (tmp_path / "other",))
    )
    assert not torch.allclose(one, other, atol=1e-3)
    assert torch.allclose(both, (one + other) / 2, atol=1e-6)
    assert torch.allclose(both.sum(1), torch.ones(2, 16, 24))


def test_a_teacher_sees_the_images_at_its_own_scale(tiny, trained):
    (same,) = teachers_of(tiny, trained)
    assert same.scale == 1
    assert same.size(64, 96) == (64, 96)
    (smaller,) = teachers_of(tiny, trained, DATASET__imgSizes="(72,)")
    assert smaller.scale == 0.5
    assert str(smaller) == f"Teacher: {trained}, which sees the images at 0.5 times their size"
    assert smaller.size(64, 96) == (32, 48)
    assert smaller.size(70, 90) == (40, 48)  # rounded up to padding_constant, as when images are scored
    assert smaller.size(5, 90) == (8, 48)


@pytest.mark.parametrize("decoder", ["c1", "c1_deepsup"])
def test_the_loss_of_a_step_has_the_divergence_from_the_teacher(decoder, tiny, trained):
    from mit_semseg.runtime.distributed import ProcessInfo
    from mit_semseg.training.setup import build_module, train_dataset
    from mit_semseg.training.step import Normalizer, forward, on_device

    keys = {"TRAIN__loss": "cross_entropy + 3*distillation", "TRAIN__label_resolution": "full"}
    keys |= {"MODEL__arch_decoder": decoder, "TRAIN__deep_sup_scale": 0.5}
    options = train_options(load_config(str(tiny.config), tiny.overrides(**keys)))
    torch.manual_seed(0)
    module = build_module(options.module).eval()
    shard = on_device(train_dataset(options).sub_batch(0), CPU)
    size = tuple(shard["seg_label"].shape[1:])
    module.teacher = teacher = Teachers(teachers_of(tiny, trained), [CPU], "none")

    def loss():
        normalizer = Normalizer(module.crit, [shard["seg_label"]], ProcessInfo(0, 1, CPU))
        return forward(module, [shard], normalizer)[0]

    with torch.no_grad():
        scores = module.decoder(module.encoder(shard["img_data"], return_feature_maps=True))
        taught = teacher(shard["img_data"], size)
        divergence = 0
        for weight, own in zip((1, 0.5), scores if decoder == "c1_deepsup" else [scores], strict=False):
            own = torch.nn.functional.interpolate(own, size, mode="bilinear").log_softmax(1)
            divergence += weight * (taught * (taught.log() - own)).sum(1).mean().item()
    assert copy.deepcopy(module).teacher is teacher
    complete = loss()
    complete.backward()
    assert all(weight.grad is not None for weight in module.parameters() if weight.requires_grad)
    module.teacher = None
    assert divergence > 0.05
    assert complete.item() - loss().item() == pytest.approx(3 * divergence, rel=1e-4)


def test_a_student_that_ignores_the_labels_becomes_like_its_teacher(student, tmp_path):
    keys = {"TRAIN__optim": "AdamW", "TRAIN__lr_encoder": 0.001, "TRAIN__lr_decoder": 0.01}
    outcome = student("run", TRAIN__loss="distillation", TRAIN__num_epoch=1, TRAIN__epoch_iters=30, **keys)
    assert outcome.code == 0, outcome.err
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    place = lines[0].split(",").index("loss")
    losses = [float(line.split(",")[place]) for line in lines[1:] if line.split(",")[place]]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_the_teacher_is_no_part_of_the_weights(student, trained, tmp_path):
    outcome = student("run", TRAIN__ema_decay=0.9, TRAIN__autotune=True, TRAIN__num_epoch=1)
    assert outcome.code == 0, outcome.err
    assert f"Teacher: {trained}\n" in outcome.err + outcome.out
    assert weights(tmp_path / "run", 1).keys() == weights(trained).keys()


def test_a_resumed_run_ends_with_the_same_bits(student, tmp_path):
    for name, epochs in (("whole", 2), ("parts", 1), ("parts", 2)):
        outcome = student(name, TRAIN__num_epoch=epochs, TRAIN__resume="auto", TRAIN__lr_schedule="constant")
        assert outcome.code == 0, outcome.err
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp", "dp"])
def test_two_devices_train_as_one_with_as_many_images(parallel, student, script, tiny, trained, tmp_path):
    keys = {**LOSS, "TRAIN__freeze": "bn", "TRAIN__num_epoch": 1, "DATASET__imgSizes": "(32,)"}
    words = tiny.overrides(**keys, TRAIN__teachers=trained, TRAIN__parallel=parallel, DIR=tmp_path / "two")
    outcome = script("train.py", "--gpus", "cpu", "--procs", 2, "--cfg", tiny.config, *words)
    assert outcome.code == 0, outcome.err
    assert student("one", TRAIN__accumulate=2, **keys).code == 0
    one, two = weights(tmp_path / "one", 1), weights(tmp_path / "two", 1)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_packed_and_exported_models_teach_the_same(call, tiny, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    packed, exported = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    assert call("pack", trained, packed).code == 0
    words = tiny.overrides(DIR=trained)
    outcome = call("export", "--cfg", tiny.config, "--out", exported, "--output", "scores", *words)
    assert outcome.code == 0, outcome.err
    images = batch(photos(tiny))
    expected, *others = (
        Teachers(teachers_of(tiny, name), [CPU], "none")(images, (32, 48))
        for name in (trained, packed, exported)
    )
    assert torch.equal(others[0], expected)
    assert torch.allclose(others[1], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"TRAIN__teachers": ""},
            "TRAIN.loss is 'cross_entropy + distillation', but TRAIN.teachers is empty",
        ),
        (
            {"TRAIN__teachers": "ckpt/a/encoder_epoch_2.pth"},
            "it is a checkpoint. Name its folder, ckpt/a, which stands for its newest epoch.",
        ),
        ({"TRAIN__loss": "dice"}, "but TRAIN.loss dice does not use it. Add distillation to the loss"),
        ({"TRAIN__teachers": "no/such/folder"}, "TRAIN.teachers, no/such/folder: "),
        (
            {"DATASET__num_class": 4, "DATASET__classes": ""},
            "DATASET.num_class is 3 there and 4 here. A teacher must have the classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run(student, tmp_path, keys, message):
    outcome = student("run", **keys)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_teacher_with_other_classes_is_refused(student, tiny, tmp_path):
    table = (tiny.folder / "classes.csv").read_text().replace("lawn", "moss")
    (tmp_path / "classes.csv").write_text(table)
    outcome = student("run", DATASET__classes=tmp_path / "classes.csv")
    assert outcome.code == 2
    assert "class 2 is lawn there and moss here" in outcome.err


def test_the_folder_of_the_run_is_refused(student, trained):
    outcome = student("run", DIR=trained, TRAIN__resume="auto")
    assert outcome.code == 2
    assert f"TRAIN.teachers, {trained}: it is the folder of this run." in outcome.err


def test_classes_without_names_are_those_of_any_teacher_with_as_many(tiny, trained):
    (teacher,) = teachers_of(tiny, trained, DATASET__classes="")
    assert teacher.name == str(trained)


def test_a_decoder_with_queries_cannot_be_taught(tiny):
    keys = {"MODEL__arch_decoder": "eomt", "TRAIN__loss": "mask_classification", "TRAIN__teachers": "ckpt/a"}
    options = train_options(load_config(str(tiny.config), tiny.overrides(**keys)))
    with pytest.raises(
        UserError, match=r"TRAIN\.teachers is ckpt/a, but a decoder with queries cannot learn"
    ):
        check_recipe(options)
