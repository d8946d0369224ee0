"""Figures recorded from the package that this one succeeds: same weights, same images, same numbers."""

import copy
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_weights import IMAGE_SIZE, SALT, drawn_decoder, drawn_encoder, generator, image, maps_of
from torch import nn

from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.utils import accuracy, colorEncode, intersectionAndUnion, parse_devices

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "models.json").read_text())
NUM_CLASS = 150
# Relative to the gradient; a wrong derivative is off by its size. See test_a_training_step.
GRADIENT_TOLERANCE = {"resnet50+upernet": 0.3}


def samples(values):
    """Up to 64 values, evenly spread over a tensor: the places that the recorded ones are from."""
    flat = values.detach().double().numpy().reshape(-1)
    return flat[np.linspace(0, flat.size - 1, min(64, flat.size)).astype(int)]


def assert_recorded(values, recorded, tolerance, what):
    """Equal shapes, and samples that differ by less than ``tolerance`` of the largest."""
    assert list(values.shape) == recorded["shape"], what
    expected = np.array(recorded["samples"])
    error = np.abs(samples(values) - expected).max() / max(np.abs(expected).max(), 1e-12)
    assert error <= tolerance, f"{what}: relative error {error:.2e} is above {tolerance:.0e}"


def digest(module):
    lines = sorted((name, "x".join(map(str, value.shape))) for name, value in module.state_dict().items())
    return hashlib.sha256("\n".join(f"{name} {shape}" for name, shape in lines).encode()).hexdigest()


def pairs(table):
    return pytest.mark.parametrize(
        ("encoder_name", "decoder_name"), [tag.split("+") for tag in GOLDEN[table]], ids=GOLDEN[table]
    )


def test_the_comparison_finds_a_difference():
    values = torch.arange(100.0)
    recorded = {"shape": [100], "samples": samples(values).tolist()}
    assert_recorded(values, recorded, 1e-6, "x")
    with pytest.raises(AssertionError, match=r"x: relative error 1\.01e-02 is above 1e-03"):
        assert_recorded(values + 1, recorded, 1e-3, "x")
    assert GOLDEN["salt"] == SALT


@pytest.mark.parametrize("model", GOLDEN["state_dicts"])
def test_names_and_shapes_of_all_weights_are_those_of_existing_checkpoints(model):
    part, arch, fc_dim = model.split()
    with torch.device("meta"):
        if part == "encoder":
            net = ModelBuilder.build_encoder(arch, fc_dim=int(fc_dim), imagenet=False)
        else:
            net = ModelBuilder.build_decoder(arch, fc_dim=int(fc_dim), num_class=NUM_CLASS)
    assert len(net.state_dict()) == GOLDEN["state_dicts"][model]["entries"]
    assert digest(net) == GOLDEN["state_dicts"][model]["sha256"]


@pytest.mark.parametrize("arch", GOLDEN["encoders"])
def test_feature_maps(arch):
    maps, recorded = maps_of(arch), GOLDEN["encoders"][arch]
    assert len(maps) == len(recorded)
    for i, (values, expected) in enumerate(zip(maps, recorded, strict=True)):
        assert_recorded(values, expected, 2e-4, f"map {i}")


@pairs("pairs")
def test_class_probabilities(encoder_name, decoder_name):
    recorded = GOLDEN["pairs"][f"{encoder_name}+{decoder_name}"]
    maps = maps_of(encoder_name)
    decoder = drawn_decoder(decoder_name, tuple(x.size(1) for x in maps), NUM_CLASS, use_softmax=True)
    with torch.no_grad():
        scores = decoder(maps, segSize=(IMAGE_SIZE[0] + 5, IMAGE_SIZE[1] - 3))
    assert_recorded(scores, recorded["probabilities"], 2e-4, "probabilities")
    classes = samples(scores.argmax(1))
    assert np.mean(classes == recorded["classes"]["samples"]) >= 0.98


@pairs("training")
def test_a_training_step(encoder_name, decoder_name):
    # In float64, whose result does not hang on the kernels and threads of the machine. What was recorded is
    # float32: a few ReLUs within its rounding of 0 are on the other side, which the gradients of a deep net
    # with 12 pixels in its last map show. The loss and the statistics hardly do.
    tag = f"{encoder_name}+{decoder_name}"
    recorded = GOLDEN["training"][tag]
    encoder = copy.deepcopy(drawn_encoder(encoder_name))
    decoder = drawn_decoder(decoder_name, encoder.channels, NUM_CLASS, use_softmax=False)
    scale = 0.4 if decoder.deep_supervision else None
    module = SegmentationModule(encoder, decoder, nn.NLLLoss(ignore_index=-1), scale).double().train()
    for layer in module.modules():
        if isinstance(layer, nn.Dropout2d):
            layer.eval()  # the recorded step is without chance
    rate = encoder.strides[decoder.output_map]
    size = (2, IMAGE_SIZE[0] // rate, IMAGE_SIZE[1] // rate)
    label = torch.from_numpy(generator(tag).integers(-1, NUM_CLASS, size))

    loss, acc = module({"img_data": image().double(), "seg_label": label})
    loss.backward()

    assert loss.item() == pytest.approx(recorded["loss"], rel=1e-6)
    assert acc.item() == pytest.approx(recorded["accuracy"], rel=1e-6)
    buffers = dict(module.named_buffers())
    for name, expected in recorded["statistics"].items():
        assert_recorded(buffers[name], expected, 1e-3, name)
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert len(gradients) == recorded["parameters"]
    for name, expected in recorded["gradients"].items():
        assert list(gradients[name].shape) == expected["shape"], name
        values = np.array(expected["samples"])
        if np.abs(values).max() < 1e-6:
            continue  # 0 but for rounding: a bias that the BatchNorm behind it takes off again
        error = np.linalg.norm(samples(gradients[name]) - values) / np.linalg.norm(values)
        assert error <= GRADIENT_TOLERANCE.get(tag, 0.05), name


def test_metrics_and_colours():
    rng = generator("api")
    for num_class, shape in ((150, (61, 83)), (11, (40, 30)), (2, (7, 9))):
        recorded = GOLDEN["metrics"][str(num_class)]
        label = rng.integers(-1, num_class, shape)
        right = rng.random(shape) < 0.6
        pred = np.where(right, np.maximum(label, 0), rng.integers(0, num_class, shape))
        colors = rng.integers(0, 256, (num_class, 3)).astype(np.uint8)

        acc, valid = accuracy(pred, label)
        assert acc == pytest.approx(recorded["acc"], abs=1e-9)
        assert valid == recorded["valid"]
        intersection, union = intersectionAndUnion(pred, label, num_class)
        assert intersection.tolist() == recorded["inter"]
        assert union.tolist() == recorded["union"]
        assert zlib.crc32(colorEncode(pred, colors).tobytes()) == recorded["color"]
        assert zlib.crc32(colorEncode(label, colors, mode="BGR").tobytes()) == recorded["color_bgr"]


@pytest.mark.parametrize("text", GOLDEN["devices"])
def test_device_lists(text):
    assert parse_devices(text) == GOLDEN["devices"][text]
