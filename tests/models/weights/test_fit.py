"""Loading a checkpoint's weights: all of them or none, and finite ones only; messages name the cause."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import refusal, same, small_decoder, trained
from torch import Tensor, nn

from mit_semseg.models.weights.fit import load_weights


def saved(path: Path, obj: object, use_zip: bool = True) -> Path:
    torch.save(obj, path, _use_new_zipfile_serialization=use_zip)
    return path


@pytest.mark.filterwarnings("ignore")  # torch's own quantized tensors are deprecated
@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "qint8"])
def test_quantized_weights_are_refused_with_their_type(kind: str, tmp_path: Path) -> None:
    weights = trained().state_dict()
    weight = weights["conv_last.weight"]
    weights["conv_last.weight"] = (
        torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
        if kind == "qint8"
        else weight.to(getattr(torch, kind))
    )
    file = saved(tmp_path / "x.pth", weights)
    other = small_decoder()
    assert refusal(lambda: load_weights(other, file, part="decoder", arch="c1")) == (
        f"{file}: conv_last.weight is of type {kind}, as in a quantized model. Name the checkpoint that was "
        "quantized, with floating-point weights."
    )
    assert same(other, small_decoder())


def test_the_extra_buffers_of_old_files_are_dropped_and_the_missing_step_count_starts_at_zero(
    tmp_path: Path,
) -> None:
    net = trained()
    old: dict[str, Tensor] = OrderedDict()
    for name, value in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            old[name] = value
        if name.endswith("running_var"):
            stem = name.removesuffix("running_var")
            old[stem + "_tmp_running_mean"] = value * 7
            old[stem + "_tmp_running_var"] = value * 7
            old[stem + "_running_iter"] = torch.ones(1)
    saved(tmp_path / "x.pth", old, use_zip=False)
    other = trained()  # has counted a step itself
    load_weights(other, tmp_path / "x.pth", part="decoder", arch="c1")
    assert other.cbr[1].num_batches_tracked.item() == 0  # type: ignore[index,union-attr,operator]
    net.cbr[1].num_batches_tracked.zero_()  # type: ignore[index,union-attr,operator]
    assert same(net, other)


def test_missing_and_unknown_weights_are_counted_and_the_first_of_each_is_named(tmp_path: Path) -> None:
    weights = trained().state_dict()
    del weights["conv_last.bias"], weights["conv_last_deepsup.bias"]
    file = saved(tmp_path / "decoder_epoch_20.pth", weights)
    net = small_decoder()
    assert refusal(lambda: load_weights(net, file, part="decoder", arch="ppm")) == (
        f"{file} does not fit decoder 'ppm': 2 weights missing (first: conv_last.bias), 0 unknown. "
        "Set MODEL.arch_decoder, decoder_dim and decoder_norm as in its training, or name another "
        "file."
    )
    del weights["conv_last.weight"]
    weights["layer1.conv.weight"] = weights["layer2.conv.weight"] = weights["conv_last.bias"] = torch.ones(11)
    saved(file, weights)
    assert refusal(lambda: load_weights(net, file, part="encoder", arch="resnet18")) == (
        f"{file} does not fit encoder 'resnet18': 2 weights missing (first: conv_last.weight), "
        "2 unknown (first: layer1.conv.weight). "
        "Set MODEL.arch_encoder as in its training, or name another file."
    )


def test_another_number_of_classes_is_reported_with_both_numbers(tmp_path: Path) -> None:
    file = saved(tmp_path / "decoder_epoch_20.pth", trained(num_class=150).state_dict())
    assert refusal(lambda: load_weights(small_decoder(), file, part="decoder", arch="c1_deepsup")) == (
        f"{file} does not fit decoder 'c1_deepsup': 0 weights missing, 0 unknown, 4 of another shape "
        "(first: conv_last.weight is (150, 6, 1, 1), the model's is (11, 6, 1, 1)). "
        "It was trained with 150 classes, this model has 11. "
        "Set DATASET.num_class 150, or MODEL.reset_classifier True to keep the rest and train a "
        "new classifier."
    )


def test_another_width_is_not_mistaken_for_another_number_of_classes(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.pth", trained(width=12).state_dict())
    message = refusal(lambda: load_weights(small_decoder(), file, part="decoder", arch="c1"))
    assert "cbr.0.weight is (12, 4, 3, 3), the model's is (6, 4, 3, 3)" in message
    assert "classes" not in message
    numbers = {"steps": torch.tensor(0.0)}
    net = nn.Module()
    net.register_buffer("steps", torch.zeros(1))
    file = saved(tmp_path / "y.pth", numbers)
    assert "steps is (), the model's is (1,)" in refusal(
        lambda: load_weights(net, file, part="decoder", arch="c1")
    )


def test_a_file_that_is_refused_changes_nothing_in_the_module(tmp_path: Path) -> None:
    weights = trained(num_class=11).state_dict()
    weights["conv_last_deepsup.bias"] = torch.zeros(12)  # the very last one
    file = saved(tmp_path / "x.pth", weights)
    net = small_decoder(num_class=11)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    refusal(lambda: load_weights(net, file, part="decoder", arch="c1"))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_only_the_classifier_after_the_encoder_is_ignored(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(features=nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))))
    weights = {name: torch.full_like(value, 3) for name, value in net.state_dict().items()}
    heads = ("fc.weight", "classifier.1.bias", "features.18.0.weight", "incre_modules.0.0.conv1.weight")
    more = ("downsamp_modules.0.0.bias", "final_layer.0.weight")
    file = saved(tmp_path / "x.pth", weights | {name: torch.ones(1) for name in (*heads, *more)})
    load_weights(net, file, part="encoder", arch="resnet18")
    assert all(torch.all(value == 3) for value in net.state_dict().values())
    saved(file, weights | {"layer9.weight": torch.ones(1)})
    assert "encoder 'resnet18': 0 weights missing, 1 unknown (first: layer9.weight)" in refusal(
        lambda: load_weights(net, file, part="encoder", arch="resnet18")
    )


# What the message blames


def test_a_prefix_does_not_hide_the_number_of_classes(tmp_path: Path) -> None:
    weights = {"module.decoder." + name: value for name, value in trained(150).state_dict().items()}
    file = saved(tmp_path / "x.pth", {"state_dict": weights})
    message = refusal(lambda: load_weights(small_decoder(), file, part="decoder", arch="c1"))
    assert message.startswith(f"{file}, without the prefix 'module.decoder.' of its names, does not fit")
    assert message.endswith(
        "Set DATASET.num_class 150, or MODEL.reset_classifier True to keep the rest and "
        "train a new classifier."
    )


def test_an_end_that_all_names_have_is_named_and_not_the_architecture(tmp_path: Path) -> None:
    weights = {f"module.{name}.ema": value for name, value in trained().state_dict().items()}
    file = saved(tmp_path / "x.pth", weights)
    assert refusal(lambda: load_weights(small_decoder(), file, part="decoder", arch="c1")) == (
        f"{file}: each name ends with '.ema', as in 'conv_last_deepsup.weight.ema'. Save the weights "
        "again under the names of the model, here 'conv_last_deepsup.weight'."
    )


# Weights that are not finite


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([float("nan")] * 6, "NaN (6 of 6 values)"),
        ([1, 2, float("inf"), 4, 5, 6], "infinity (1 of 6 values)"),
        ([float("nan"), 2, -float("inf"), 4, 5, 6], "NaN and infinity (2 of 6 values)"),
    ],
)
def test_weights_that_are_not_finite_are_refused_by_name(
    values: list[float], what: str, tmp_path: Path
) -> None:
    weights = trained().state_dict()
    weights["cbr.1.running_mean"] = torch.tensor(values)
    file = saved(tmp_path / "x.pth", weights)
    net = small_decoder()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert refusal(lambda: load_weights(net, file, part="decoder", arch="c1")) == (
        f"{file}: cbr.1.running_mean holds {what}. Its training diverged, or the file is damaged. "
        "Name another checkpoint."
    )
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    weights["conv_last.bias"] = torch.full((11,), float("nan"))
    saved(file, weights)
    assert f"{what}, as do 1 other weights" in refusal(
        lambda: load_weights(net, file, part="decoder", arch="c1")
    )
    load_weights(net, file, part="decoder", arch="c1", fresh=["cbr.1.running_mean", "conv_last.bias"])


def test_large_finite_weights_are_loaded(tmp_path: Path) -> None:
    weights = trained().half().state_dict()
    weights["conv_last.bias"] = torch.full((11,), 6e4, dtype=torch.float16)  # their sum is infinite
    load_weights(small_decoder(), saved(tmp_path / "x.pth", weights), part="decoder", arch="c1")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sparse", lambda value: value.to_sparse()),
        ("meta", lambda value: value.to("meta")),
        ("complex", lambda value: value.to(torch.complex64)),
    ],
)
def test_tensors_of_other_kinds_than_dense_real_numbers_are_refused(
    kind: str, change: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    net, weights = small_decoder(), trained().state_dict()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weights["conv_last.weight"] = change(weights["conv_last.weight"])
    torch.save(weights, tmp_path / "a.pth")
    message = refusal(lambda: load_weights(net, tmp_path / "a.pth", part="decoder", arch="small"))
    assert f"a.pth: conv_last.weight is a {kind} tensor, but weights are dense tensors" in message
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_weights_in_8_bit_floating_point_are_loaded(tmp_path: Path) -> None:
    net, weights = small_decoder(), trained().state_dict()
    weights["conv_last.bias"] = torch.full((11,), 0.5).to(torch.float8_e4m3fn)
    torch.save(weights, tmp_path / "a.pth")
    load_weights(net, tmp_path / "a.pth", part="decoder", arch="small")
    assert (net.state_dict()["conv_last.bias"] == 0.5).all()
