"""EoMT trains by train.py, and its models are resumed, evaluated, predicted and exported as any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mit_semseg import Segmenter
from mit_semseg.config import load_config
from mit_semseg.data.images import normalize
from mit_semseg.errors import UserError
from mit_semseg.models import ModelBuilder
from mit_semseg.models.layer_rates import layer_rates
from mit_semseg.optim import build_optimizer
from mit_semseg.training import train as training
from mit_semseg.training.options import train_options
from mit_semseg.training.step import step
from mit_semseg.training.teachers import Teachers, find_teachers

KEYS = {
    "MODEL__arch_encoder": "dinov2_small",
    "MODEL__arch_decoder": "eomt",
    "MODEL__encoder_options": "depth: 3, width: 48, heads: 3, patch: 8, grid: 6, layer_scale: 0.5",
    "MODEL__decoder_options": "queries: 8, joint_blocks: 2, upscales: 1",
    "MODEL__fc_dim": 48,
    "DATASET__segm_downsampling_rate": 1,
    "DATASET__imgSizes": 48,
    "TRAIN__loss": "mask_classification",
    "TRAIN__optim": "AdamW",
    "TRAIN__lr_encoder": 0.003,
    "TRAIN__lr_decoder": 0.003,
    "TRAIN__layer_decay": 0.8,
    "TRAIN__tensorboard": False,
    "VAL__every": 9,
}


@pytest.fixture(scope="module")
def learned(tiny, tmp_path_factory):
    """The folder of a run that has learned the tiny dataset by heart."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("eomt") / "run"
    keys = tiny.overrides(DIR=folder, **KEYS, TRAIN__epoch_iters=80, TRAIN__num_epoch=1)
    assert main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), *keys]) == 0
    return folder


def test_it_learns_a_few_images_by_heart(learned):
    course = torch.load(learned / "history_epoch_1.pth", weights_only=True)["train"]
    assert np.mean(course["acc"][:5]) < 70
    assert np.mean(course["acc"][-10:]) > 85


def test_it_ends_without_masks_of_the_attention(learned):
    state = torch.load(learned / "decoder_epoch_1.pth", weights_only=True)
    assert state["attn_mask_probs"].tolist() == [0, 0]


def test_evaluation_prediction_and_segmenter_use_it(learned, call, tiny, tmp_path):
    config = learned / "config.yaml"
    done = call("eval", "--cfg", config, "--gpus", "cpu")
    assert done.code == 0, done.err
    photo = tiny.folder / "training" / "0.jpg"
    done = call("test", "--imgs", photo, "--cfg", config, "--gpu", "cpu", "TEST.result", tmp_path / "out")
    assert done.code == 0, done.err
    assert list((tmp_path / "out").glob("*.png"))
    segmenter = Segmenter.load(learned, device="cpu")
    probabilities = segmenter(photo).probabilities
    assert torch.allclose(torch.as_tensor(probabilities).sum(0), torch.tensor(1.0), atol=1e-5)


def test_it_teaches_the_probabilities_that_the_segmenter_gives(learned, tiny):
    keys = tiny.overrides(TRAIN__teachers=learned)
    (teacher,) = find_teachers(train_options(load_config(str(tiny.config), keys)))
    image = Image.open(tiny.folder / "training" / "0.jpg").convert("RGB").resize((48, 48))
    segmenter = Segmenter.load(learned, device="cpu", sizes=48)
    teacher = replace(teacher, scale=1)
    pixels = normalize(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
    taught = Teachers([teacher], [torch.device("cpu")], "none")(pixels, (48, 48))
    assert np.abs(taught[0].numpy() - segmenter(image).probabilities).max() < 1e-5


def test_an_exported_file_gives_its_labels(learned, call, tiny, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done = call(
        "export", "--cfg", learned / "config.yaml", "--out", tmp_path / "model.onnx", "--output", "scores"
    )
    assert done.code == 0, done.err
    photo = tiny.folder / "training" / "1.jpg"
    ours, exported = (
        Segmenter.load(source, device="cpu")(photo) for source in (learned, tmp_path / "model.onnx")
    )
    assert (ours.labels != exported.labels).mean() < 1e-3
    np.testing.assert_allclose(ours.probabilities, exported.probabilities, atol=1e-4)


def test_a_resumed_run_ends_with_the_same_bits(call, tiny, tmp_path, monkeypatch):
    own = {
        **KEYS,
        "TRAIN__num_epoch": 1,
        "TRAIN__epoch_iters": 6,
        "TRAIN__save_iters": 1,
        "TRAIN__resume": "auto",
    }

    def train(name):
        keys = tiny.overrides(DIR=tmp_path / name, **own)
        return call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys)

    def weights(name):
        parts = [
            torch.load(tmp_path / name / f"{part}_epoch_1.pth", weights_only=True)
            for part in ("encoder", "decoder")
        ]
        return {(k, key): value for k, part in enumerate(parts) for key, value in part.items()}

    assert train("whole").code == 0
    calls = []

    def interrupted(*args, **keys):
        calls.append(args)
        if len(calls) == 4:  # the masks of the first block are being lifted
            raise UserError("interrupted")
        return step(*args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(training, "step", interrupted)
        assert train("parts").code == 2
    assert train("parts").code == 0
    whole, parts = weights("whole"), weights("parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"TRAIN__loss": "cross_entropy"},
            "eomt predicts masks by queries. Set TRAIN.loss mask_classification",
        ),
        ({"MODEL__arch_decoder": "c1", "DATASET__segm_downsampling_rate": 8}, "c1 has no "),
        (
            {"MODEL__arch_encoder": "resnet18", "MODEL__encoder_options": ""},
            "joins its queries to the tokens",
        ),
        ({"MODEL__decoder_options": "joint_blocks: 4"}, "has only 3 blocks"),
        (
            {"MODEL__decoder_options": "queries: 0, joint_blocks: 1"},
            "queries and joint_blocks must be above 0",
        ),
        ({"DATASET__segm_downsampling_rate": 4}, "Set DATASET.segm_downsampling_rate 1"),
        ({"TRAIN__class_weights": "enet"}, "weighs all classes alike"),
    ],
)
def test_contradictions_are_refused(keys, message, call, tiny, tmp_path):
    words = tiny.overrides(DIR=tmp_path / "run", **{**KEYS, **keys})
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, *words)
    assert done.code == 2
    assert message in done.err


# Layer-wise learning rates


def rates(arch, decay, **options):
    encoder = ModelBuilder.build_encoder(arch, imagenet=False, options=options)
    factors = layer_rates(encoder, decay)
    assert factors.keys() == set(encoder.parameters())
    return {name: factors[parameter] for name, parameter in encoder.named_parameters()}


def test_rates_of_a_vision_transformer_by_hand():
    found = rates("dinov2_small", 0.5, depth=3, width=16, heads=2, grid=2)
    assert {found[name] for name in ("cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight")} == {
        0.25
    }
    assert [found[f"blocks.{i}.attn.qkv.weight"] for i in range(3)] == [0.25, 0.5, 1.0]
    assert found["norm.weight"] == 1.0


@pytest.mark.parametrize(
    ("arch", "options", "first", "last"),
    [
        ("mit_b0", {}, "stages.0.patches.weight", "stages.3.norm.weight"),
        ("swin_tiny", {"width": 12}, "patches.weight", "stages.3.1.fc2.weight"),
        ("convnext_tiny", {"widths": (4, 8, 8, 8)}, "stem.weight", "norms.3.weight"),
        ("dinov3_small", {"width": 48, "heads": 3}, "cls_token", "norm.bias"),
    ],
)
def test_rates_fall_from_the_last_block_to_the_input(arch, options, first, last):
    found = rates(arch, 0.9, **options)
    count = len(set(found.values()))
    blocks = {"mit_b0": 8, "swin_tiny": 12, "convnext_tiny": 18, "dinov3_small": 12}[arch]
    assert count == blocks
    assert found[last] == 1
    assert found[first] == min(found.values()) == pytest.approx(0.9 ** (blocks - 1))


def test_rates_of_a_vision_transformer_of_timm():
    pytest.importorskip("timm")
    encoder = ModelBuilder.build_encoder("timm/test_vit", imagenet=False)
    found = {name: layer_rates(encoder, 0.5)[value] for name, value in encoder.named_parameters()}
    depth = 1 + max(int(name.split("blocks.")[1].split(".")[0]) for name in found if "blocks." in name)
    assert [found[f"net.model.blocks.{i}.attn.qkv.weight"] for i in range(depth)] == [
        0.5 ** (depth - 1 - i) for i in range(depth)
    ]
    assert found["net.model.patch_embed.proj.weight"] == 0.5 ** (depth - 1)
    assert found["net.model.norm.weight"] == 1


def test_an_encoder_without_an_order_is_refused():
    with pytest.raises(UserError, match=r"TRAIN.layer_decay is 0.8, but the order"):
        layer_rates(ModelBuilder.build_encoder("resnet18", imagenet=False), 0.8)


def test_each_weight_is_in_one_group_with_its_rate():
    encoder = ModelBuilder.build_encoder(
        "dinov2_small", imagenet=False, options={"depth": 2, "width": 16, "heads": 2, "grid": 2}
    )
    decoder = nn.Linear(2, 2)
    optimizer = build_optimizer(
        "AdamW", encoder, decoder, lr=(0.1, 0.3), beta1=0.9, weight_decay=0.01,
        encoder_rates=layer_rates(encoder, 0.5), encoder_warmup=7,
    )  # fmt: skip
    grouped = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(grouped) == sum(len(group["params"]) for group in optimizer.param_groups)
    assert grouped.keys() == {id(p) for p in [*encoder.parameters(), *decoder.parameters()]}
    rate = {name: grouped[id(p)]["initial_lr"] for name, p in encoder.named_parameters()}
    assert {grouped[id(p)]["warmup"] for p in encoder.parameters()} == {7}
    assert {grouped[id(p)]["warmup"] for p in decoder.parameters()} == {0}
    assert rate["blocks.0.mlp.fc1.weight"] == pytest.approx(0.05)
    assert rate["blocks.1.mlp.fc1.weight"] == pytest.approx(0.1)
    assert grouped[id(decoder.weight)]["initial_lr"] == 0.3
    assert grouped[id(encoder.pos_embed)]["weight_decay"] == 0
