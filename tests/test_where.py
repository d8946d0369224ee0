"""What benchmarks/where.py counts: FLOPs and bytes of operators, and which kind of work they are."""

import pytest
import torch
from commands import ROOT
from torch import nn


@pytest.fixture
def operations(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import operations

    return operations


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_costs_its_forward_pass_three_times(operations, groups):
    layer = nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=False)
    image = torch.randn(2, 4, 10, 12, requires_grad=True)
    forward = 2 * (2 * 8 * 10 * 12) * (4 // groups * 9)
    with operations.Counter() as counter:
        layer(image).sum().backward()
    assert counter.flops["convolutions"] == 3 * forward
    with operations.Counter() as counter:
        layer(image.detach()).sum().backward()  # the image needs no gradient
    assert counter.flops["convolutions"] == 2 * forward


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_scoring_counts_the_same_with_and_without_inference_mode(operations, mode):
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 6 * 6, 7))
    with operations.Counter() as counter, mode():
        net(torch.randn(2, 3, 8, 8))
    assert counter.flops["convolutions"] == 2 * (2 * 5 * 6 * 6) * 27
    assert counter.flops["matrix products"] == 2 * 2 * 7 * 180


def test_the_bytes_of_an_addition_are_those_of_three_tensors(operations):
    a, b = torch.ones(1000), torch.ones(1000)
    with operations.Counter() as counter:
        _ = a + b
    assert counter.bytes == {"elementwise": 12_000}


def test_what_an_optimizer_calls_counts_as_optimizer(operations):
    weight = nn.Parameter(torch.ones(100))
    optimizer = torch.optim.SGD([weight], lr=0.1, foreach=False)
    weight.grad = torch.ones(100)
    with operations.Counter(optimizer) as counter:
        optimizer.step()
        _ = torch.ones(10) + torch.ones(10)
    assert counter.bytes["optimizer"] >= 800
    assert counter.bytes["elementwise"] == 120


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mkldnn_convolution", "convolutions"),
        ("ConvolutionBackward0", "convolutions"),
        ("aten::native_batch_norm", "norms"),
        ("aten::_log_softmax_backward_data", "loss"),
        ("aten::upsample_bilinear2d", "resizing, pooling"),
        ("aten::addmm", "matrix products"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("exchange of BatchNorm", "exchange"),
    ],
)
def test_the_name_of_an_operator_gives_its_kind(operations, name, kind):
    assert operations.kind_of(name, operations.STRONG) == kind


def test_the_profiler_attributes_the_parts_of_an_operator_to_it(operations):
    layer = nn.Conv2d(8, 8, 3)
    image = torch.randn(1, 8, 32, 32)
    seconds = operations.seconds_by_kind(lambda: layer(image), 2, torch.device("cpu"))
    assert seconds["convolutions"] > 0
    assert set(seconds) <= {"convolutions", operations.OTHER, "total"}
    assert sum(seconds.values()) <= 2 * seconds["total"]
