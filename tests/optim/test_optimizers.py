import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.optim.optimizers import OPTIMIZERS, build_optimizer, decays_weights, find_optimizer

OTHERS = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"]


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


def test_an_unknown_name_is_refused_with_the_nearest_one_and_all_there_are():
    with pytest.raises(
        ValueError,
        match=r"^name is 'sgdd', which is not an optimizer\. Did you mean SGD\? The optimizers are",
    ):
        build("sgdd")
    with pytest.raises(
        ValueError, match=r"^is not an optimizer\. Did you mean AdamW\? .*SGD, Adam, AdamW, .*RMSprop"
    ):
        find_optimizer("adamW")
    with pytest.raises(ValueError, match=r"^is not an optimizer\. The optimizers are "):
        find_optimizer("lr_scheduler")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("LBFGS", "computes the loss several times a step"),
        ("SparseAdam", "takes sparse gradients"),
        ("Muon", "takes only matrices"),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused_with_the_reason(name, reason):
    with pytest.raises(ValueError, match=f"^{reason}.*Choose one of SGD, Adam, AdamW, ") as error:
        find_optimizer(name)
    assert name not in str(error.value)


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_optimizer_of_torch_takes_a_step_with_the_rates_and_the_beta_it_is_given(name):
    decoder = nn.Linear(1, 1)
    optimizer = build(name, decoder=decoder, beta1=0.8, weight_decay=0.0)
    assert type(optimizer) is getattr(torch.optim, name)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.02, 0.1, 0.1]
    for group in optimizer.param_groups:
        assert group.get("momentum", 0.8) == 0.8
        assert group.get("betas", (0.8,))[0] == 0.8
    before = decoder.weight.item()
    for _ in range(2):
        decoder.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert decoder.weight.item() < before


def test_all_optimizers_of_torch_but_one_decay_weights():
    assert [name for name in (*OPTIMIZERS, *OTHERS) if not decays_weights(name)] == ["Rprop"]


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


class Attention(nn.Module):
    """What a transformer has beside linear layers, and what it says of that itself."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm((2, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.words = nn.Embedding(3, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 9, 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.special = nn.Parameter(torch.zeros(4, 4))
        self.gamma = nn.Parameter(torch.ones(4))
        self.projection = nn.Parameter(torch.zeros(4, 4))

    def no_weight_decay(self):
        return {"special"}


def test_of_a_transformer_only_the_projections_decay():
    encoder = nn.Sequential(Attention())
    optimizer = build("AdamW", encoder=encoder)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, parameter in encoder.named_parameters() if id(parameter) in decayed}
    assert names == {"0.attention.in_proj_weight", "0.attention.out_proj.weight", "0.projection"}
