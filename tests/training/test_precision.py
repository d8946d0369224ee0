"""Number formats and memory layouts: their rules, and how little they change a step."""

import copy

import pytest
import torch
from torch import nn

from mit_semseg.errors import DivergenceError
from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.losses import pixel_loss_sum
from mit_semseg.models import SegmentationModule
from mit_semseg.models.builder import DECODERS, ENCODERS
from mit_semseg.models.decoders.base import Style
from mit_semseg.models.decoders.c1 import C1
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training import precision as precision_module
from mit_semseg.training.precision import Precision, faster_layout, fastest_amp, trains_wrongly
from mit_semseg.training.speed import choices
from mit_semseg.training.step import AsyncRead, step

CPU = torch.device("cpu")
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda", 0),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    ),
]


class OneLayer(nn.Module):
    """An encoder with a convolution and a normalization; it records its input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = SynchronizedBatchNorm2d(8)
        self.seen = {}

    def forward(self, x, return_feature_maps=False):
        map = self.norm(self.conv(x))
        channels_last = map.is_contiguous(memory_format=torch.channels_last)
        self.seen = {"map": map.dtype, "channels last": channels_last}
        return [map]


def small_module(device=CPU):
    torch.manual_seed(0)
    return SegmentationModule(OneLayer(), C1((8,), 3), pixel_loss_sum()).to(device).train()


def small_batch(device=CPU):
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "img_data": torch.randn(2, 3, 8, 8, generator=generator).to(device),
            "seg_label": torch.randint(-1, 3, (2, 8, 8), generator=generator).to(device),
            "info": ["a.jpg", "b.jpg"],
        }
    ]


def train(module, precision, steps=1, batch=None, **settings):
    process = ProcessInfo(0, 1, precision.device if precision else CPU)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, fused=True)
    batch = batch or small_batch(process.device)
    shown = [
        step(module, optimizer, [batch], process, where="epoch 1", precision=precision, **settings)
        for _ in range(steps)
    ]
    return shown[-1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_format_and_layout_takes_nearly_the_step_of_float32(device, amp, channels_last):
    plain, module = small_module(device), small_module(device)
    expected = train(plain, Precision(device))
    shown = train(module, Precision(device, amp, channels_last))
    wanted = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    assert module.encoder.seen == {"map": wanted, "channels last": channels_last}
    tolerance = {"none": 1e-5, "bf16": 2e-2, "fp16": 2e-3}[amp]
    assert shown.loss == pytest.approx(expected.loss, rel=tolerance)
    for name, value in module.state_dict().items():
        assert value.dtype == plain.state_dict()[name].dtype
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=tolerance, atol=tolerance)
        assert value.is_contiguous()


def test_a_step_without_a_format_is_the_plain_one_bit_for_bit():
    plain, module = small_module(), small_module()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, fused=True)
    (shard,) = small_batch()
    loss, _ = plain(shard)
    (loss[0] / (shard["seg_label"] >= 0).sum()).backward()
    optimizer.step()
    train(module, None)
    torch.testing.assert_close(plain.state_dict(), module.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_log_probabilities_and_statistics_are_float32_whatever_the_scores_are(amp):
    module = small_module()
    with Precision(CPU, amp).autocast():
        log_probs = module.decoder(module.encoder(small_batch()[0]["img_data"]))
    assert module.encoder.seen["map"] != torch.float32
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(2, 8, 8), rtol=1e-6, atol=1e-6)
    assert module.encoder.norm.running_mean.dtype == torch.float32


def test_scores_in_float64_stay_in_float64():
    assert C1((8,), 3).double()([torch.randn(1, 8, 4, 4).double()]).dtype == torch.float64


# The scaler of fp16


def test_a_gradient_that_overflows_at_any_scale_ends_the_training():
    module, precision = small_module(), Precision(CPU, "fp16")
    next(module.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    before = copy.deepcopy(dict(module.named_parameters()))
    with pytest.raises(DivergenceError, match=r"^The gradient is not finite, however .*fp16 fails"):
        train(module, precision, steps=50)
    torch.testing.assert_close(dict(module.named_parameters()), before, rtol=0, atol=0)


def test_a_gradient_that_overflows_skips_the_update_and_halves_the_factor():
    module, precision = small_module(), Precision(CPU, "fp16")
    precision.scaler.load_state_dict({**precision.scaler.state_dict(), "scale": 2.0**40})
    before = copy.deepcopy(dict(module.named_parameters()))
    shown = train(module, precision)
    assert shown.loss < 10
    torch.testing.assert_close(dict(module.named_parameters()), before, rtol=0, atol=0)
    assert precision.scaler.get_scale() == 2.0**39


def test_clipping_applies_to_the_unscaled_gradient():
    plain, module = small_module(), small_module()
    train(plain, Precision(CPU), clip_grad_norm=1e-2)
    train(module, Precision(CPU, "fp16"), clip_grad_norm=1e-2)
    torch.testing.assert_close(plain.state_dict(), module.state_dict(), rtol=1e-3, atol=1e-3)
    pairs = zip(module.parameters(), small_module().parameters(), strict=True)
    change = torch.cat([(after - start).detach().flatten() for after, start in pairs])
    assert change.norm().item() == pytest.approx(1e-3, rel=0.01)


def test_a_loss_that_is_not_finite_stops_before_the_update_in_every_format():
    for amp in ("none", "bf16", "fp16"):
        module = small_module()
        before = copy.deepcopy(dict(module.named_parameters()))
        batch = small_batch()
        batch[0]["img_data"][0, 0, 0, 0] = torch.inf
        with pytest.raises(DivergenceError, match=r"^The loss is nan at epoch 1.* a\.jpg, b\.jpg\.$"):
            train(module, Precision(CPU, amp), batch=batch)
        torch.testing.assert_close(dict(module.named_parameters()), before, rtol=0, atol=0)


# Resuming


def test_a_restored_precision_keeps_format_layout_and_factor():
    old = Precision(CPU, "fp16", True)
    old.scaler.load_state_dict({**old.scaler.state_dict(), "scale": 8.0, "_growth_tracker": 7})
    new = Precision(CPU)
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    assert (new.amp, new.channels_last) == ("fp16", True)
    assert new.state_dict() == old.state_dict()
    assert new.state_dict()["scaler"]["_growth_tracker"] == 7


def test_an_invalid_state_is_refused():
    with pytest.raises(ValueError, match=r"^amp is 'fp8', but takes one of none, bf16, fp16$"):
        Precision(CPU).load_state_dict({"amp": "fp8", "channels_last": True, "scaler": {}})
    with pytest.raises(KeyError):
        Precision(CPU).load_state_dict({})


# The rules behind auto


def test_bf16_is_taken_on_a_cpu_that_has_it(monkeypatch):
    for has, wanted in ((True, "bf16"), (False, "none")):
        monkeypatch.setattr(precision_module, "_cpu_has", lambda *names, has=has: has)
        assert fastest_amp(CPU) == wanted


@pytest.mark.parametrize(
    ("encoder", "kind", "amp", "channels_last"),
    [
        ("mobilenetv2dilated", "cpu", "none", True),
        ("mobilenetv2dilated", "cpu", "bf16", False),
        ("resnet18dilated", "cpu", "none", False),
        ("resnet18dilated", "cpu", "bf16", True),
        ("resnet18dilated", "cpu", "fp16", False),
        ("mobilenetv2dilated", "cuda", "none", False),
        ("resnet18dilated", "cuda", "fp16", True),
    ],
)
def test_the_layout_follows_from_depthwise_convolutions_format_and_device(
    encoder, kind, amp, channels_last, monkeypatch
):
    monkeypatch.setattr(precision_module, "_cpu_has", lambda *names: False)
    with torch.device("meta"):
        net = ENCODERS[encoder]()
    assert faster_layout(net, torch.device(kind), amp) == channels_last


@pytest.mark.parametrize("encoder", ["mobilenetv2dilated", "resnet18dilated"])
def test_with_amx_all_networks_use_channels_last_with_bf16(encoder, monkeypatch):
    monkeypatch.setattr(precision_module, "_cpu_has", lambda *names: "amx_bf16" in names)
    with torch.device("meta"):
        net = ENCODERS[encoder]()
    assert faster_layout(net, CPU, "bf16")
    assert not faster_layout(net, CPU, "fp16")


# Combinations that must not be chosen


def weight_gradient(layer, x, amp, channels_last):
    layer = copy.deepcopy(layer)
    precision = Precision(CPU, amp, channels_last)
    with precision.autocast():
        layer(precision.laid_out({"img_data": x})["img_data"]).float().square().sum().backward()
    return layer.weight.grad


@pytest.mark.parametrize(
    ("channels", "groups", "dilation"), [(384, 384, 2), (384, 384, 1), (64, 1, 2), (64, 8, 2), (48, 1, 1)]
)
def test_what_autotune_may_choose_computes_the_right_gradients(channels, groups, dilation):
    """In bf16 and channels-last, the gradients of dilated grouped weights are wrong at a size like this."""
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups)
    x = torch.randn(2, channels, 38, 50)
    right = weight_gradient(layer, x, "none", False)
    offered = list(choices(layer, CPU))
    assert ("none", True) in offered
    assert ("bf16", False) in offered
    for choice in offered:
        error = (weight_gradient(layer, x, *choice) - right).norm() / right.norm()
        assert error < 0.02, choice


@pytest.mark.parametrize(
    ("encoder", "kind", "amp", "wrongly"),
    [
        ("mobilenetv2dilated", "cpu", "bf16", True),
        ("mobilenetv2dilated", "cpu", "none", False),
        ("mobilenetv2dilated", "cuda", "bf16", False),
        ("resnet18dilated", "cpu", "bf16", False),
    ],
)
def test_bf16_in_channels_last_is_out_of_the_question_with_dilated_grouped_convolutions(
    encoder, kind, amp, wrongly
):
    with torch.device("meta"):
        net = ENCODERS[encoder]()
    assert trains_wrongly(net, torch.device(kind), amp) == wrongly


# Every model


@pytest.mark.parametrize("decoder", ["c1_deepsup", "ppm_deepsup", "upernet_tiny"])
def test_every_decoder_trains_in_bf16(decoder):
    torch.manual_seed(0)
    kind = DECODERS[decoder]
    channels = (8, 8, 8, 16)
    maps = [torch.randn(2, width, 8, 8, requires_grad=True) for width in channels]
    net = kind(channels, 3, style=Style(dim=16))
    with Precision(CPU, "bf16").autocast():
        outputs = net(maps)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert all(output.dtype == torch.float32 for output in outputs)
    sum(output[:, 0].sum() for output in outputs).backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in net.parameters())


# Waiting for a GPU


def test_an_async_read_gives_the_numbers():
    assert AsyncRead(torch.tensor([1.5, 2.0])).values() == [1.5, 2.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_waits_for_the_copy_of_the_loss_and_for_nothing_else():
    device = torch.device("cuda", 0)
    module = small_module(device)
    train(module, Precision(device, "bf16"), steps=2)  # allocates what later steps reuse
    batch = small_batch(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(module, Precision(device, "bf16"), steps=2, batch=batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
