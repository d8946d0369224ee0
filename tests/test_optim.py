import itertools

import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.optim import OPTIMIZERS, build_optimizer, set_poly_lr


def net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        SynchronizedBatchNorm2d(4),
        nn.ConvTranspose2d(4, 4, 2, bias=False),
        nn.Linear(4, 2),
    )


def build(name="SGD", encoder=None, decoder=None, lr=(0.02, 0.1), beta1=0.9, weight_decay=1e-4):
    return build_optimizer(
        name, encoder or net(), decoder or net(), lr=lr, beta1=beta1, weight_decay=weight_decay
    )


def one_step(name, gradient, **settings):
    """A decoder's weight, 1 before, after a step along a gradient."""
    decoder = nn.Linear(1, 1)
    nn.init.ones_(decoder.weight)
    optimizer = build(name, decoder=decoder, **settings)
    decoder.weight.grad = torch.full((1, 1), float(gradient))
    optimizer.step()
    return decoder.weight.item()


def test_a_step_of_each_optimizer_by_hand():
    # SGD: 1 - 0.1 (2 + 0.5). Adam: a first step has the length of the rate, whatever the gradient. AdamW: the
    # same after the weight has shrunk by 0.1 * 0.5.
    assert one_step("SGD", 2, weight_decay=0.5) == pytest.approx(0.75)
    assert one_step("Adam", 2, weight_decay=0.5) == pytest.approx(0.9)
    assert one_step("AdamW", 2, weight_decay=0.5) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)]
)
def test_the_named_optimizer_is_the_one_that_is_built(name, kind):
    # It was SGD, whatever was asked for.
    optimizer = build(name, beta1=0.8)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert (group["momentum"] if name == "SGD" else group["betas"][0]) == 0.8
    assert set(OPTIMIZERS) == {"SGD", "Adam", "AdamW"}


def test_another_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"^name is 'sgdd', but takes one of SGD, Adam, AdamW$"):
        build("sgdd")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_in_one_group_with_its_networks_rate(name):
    encoder, decoder = net(), net()
    groups = build(name, encoder, decoder).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)
    assert rates == {id(p): 0.02 for p in encoder.parameters()} | {id(p): 0.1 for p in decoder.parameters()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_of_convolutions_and_linear_layers_decay_and_nothing_else(name):
    encoder, decoder = net(), net()
    decay = {
        id(p): group["weight_decay"]
        for group in build(name, encoder, decoder).param_groups
        for p in group["params"]
    }
    for part in (encoder, decoder):
        conv, norm, transposed, linear = part
        for parameter in (conv.weight, transposed.weight, linear.weight):
            assert decay[id(parameter)] == 1e-4
        for parameter in (conv.bias, norm.weight, norm.bias, linear.bias):
            assert decay[id(parameter)] == 0


def test_frozen_parameters_are_left_out():
    encoder = net()
    for parameter in encoder[1].parameters():
        parameter.requires_grad_(False)
    inside = {id(p) for group in build(encoder=encoder).param_groups for p in group["params"]}
    assert not inside & {id(p) for p in encoder[1].parameters()}
    assert id(encoder[0].weight) in inside


def test_the_rate_falls_from_its_start_to_zero_along_a_power():
    optimizer = build()
    start = [group["lr"] for group in optimizer.param_groups]
    rates = []
    for iteration in range(101):
        set_poly_lr(optimizer, iteration, 100, power=0.9)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[0] == start
    assert rates[50] == pytest.approx([rate * 0.5**0.9 for rate in start])
    assert rates[100] == [0] * len(start)
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_the_rate_hangs_on_the_iteration_alone():
    # It used to be computed from rates that the run had kept, so that a resumed one differed.
    first, second = build(), build()
    for iteration in (3, 70, 41):
        set_poly_lr(first, iteration, 100, power=0.9)
    set_poly_lr(second, 41, 100, power=0.9)
    assert [g["lr"] for g in first.param_groups] == [g["lr"] for g in second.param_groups]
