import copy

import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d
from mit_semseg.losses.cross_entropy import CrossEntropy
from mit_semseg.optim.ema import WeightAverage


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), SynchronizedBatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))


def one_weight(value=0.0):
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, value)
    return layer


def averaged(average, layer):
    with average.weights_in(layer):
        return layer.weight.item()


def drift(module):
    """Other weights and statistics than before, as after a step of training."""
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn_like(value))
    module.train()(torch.randn(2, 3, 5, 5))


def test_three_updates_by_hand():
    # Decays of 1/10, 2/11 and then 0.2, which is below 3/12: 0.9 * 10, then 9 * 2/11 + 20 * 9/11, ...
    layer = one_weight(0)
    average = WeightAverage(layer, decay=0.2)
    expected = 0.0
    for weight, decay in ((10.0, 1 / 10), (20.0, 2 / 11), (30.0, 0.2)):
        nn.init.constant_(layer.weight, weight)
        average.update(layer)
        expected = decay * expected + (1 - decay) * weight
        assert averaged(average, layer) == pytest.approx(expected, rel=1e-12)
    assert layer.weight.item() == 30


def test_the_average_of_a_constant_is_the_constant():
    layer = one_weight(0.1)
    average = WeightAverage(layer, decay=0.999)
    for _ in range(50):
        average.update(layer)
    assert averaged(average, layer) == 0.1


def test_buffers_are_copied_whole_numbers_too():
    module = net()
    average = WeightAverage(module, decay=0.9)
    for _ in range(3):
        drift(module)
        average.update(module)
    own = {name: value.clone() for name, value in module.named_buffers()}
    assert own["1.num_batches_tracked"] == 3
    with average.weights_in(module):
        assert all(torch.equal(value, own[name]) for name, value in module.named_buffers())


def test_the_weights_come_back_bit_for_bit_even_after_an_error():
    module = net()
    average = WeightAverage(module, decay=0.9)
    drift(module)
    average.update(module)
    drift(module)
    before = copy.deepcopy(module.state_dict())
    with average.weights_in(module):
        assert not torch.equal(module[0].weight, before["0.weight"])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(RuntimeError, match="channels"), average.weights_in(module):
        module(torch.ones(1, 2, 5, 5))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_half_precision_weights_are_averaged_in_float32():
    # A step of 1e-4 of 1 is none in bfloat16.
    layer = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    nn.init.ones_(layer.weight)
    average = WeightAverage(layer, decay=0.0)
    average.decay, average.updates = 1 - 1e-4, 10**6
    nn.init.constant_(layer.weight, 2)
    average.update(layer)
    value = average.state_dict()["parameters"]["weight"]
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(1.0001, rel=1e-6)


def test_a_stored_average_goes_on_as_the_one_that_was_not_interrupted(tmp_path):
    module = net()
    average = WeightAverage(module, decay=0.99)
    drift(module)
    average.update(module)
    torch.save(average.state_dict(), tmp_path / "average.pth")
    resumed = WeightAverage(net(), decay=0.99)
    resumed.load_state_dict(torch.load(tmp_path / "average.pth", weights_only=True))
    drift(module)
    for each in (average, resumed):
        each.update(module)
    for kind in ("parameters", "buffers"):
        stored, expected = resumed.state_dict()[kind], average.state_dict()[kind]
        assert stored.keys() == expected.keys()
        assert all(torch.equal(stored[name], expected[name]) for name in expected)
    assert resumed.updates == average.updates == 2


def test_class_weights_of_a_loss_are_no_part_of_it():
    def module(weights):
        one = one_weight()
        one.crit = CrossEntropy(weights)
        return one

    weighted, plain = module(torch.tensor([1.0, 2.0])), module(None)
    average, other = WeightAverage(weighted, 0.5), WeightAverage(plain, 0.5)
    average.update(weighted)
    state = average.state_dict()
    assert state["buffers"] == {}
    other.load_state_dict(state)
    state["buffers"] = {"crit.class_weights": torch.tensor([1.0, 2.0])}  # as release 2.0 stored it
    other.load_state_dict(state)
    assert other.updates == 1
    with average.weights_in(weighted):
        assert weighted.crit.class_weights.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("updates"), "not an average of weights: it must have updates, parameters"),
        (
            lambda state: state["parameters"].pop("2.weight"),
            "another module: 2.weight is in only one of them",
        ),
        (
            lambda state: state["parameters"].update({"0.bias": torch.zeros(5)}),
            r"another module: 0.bias is \(5,\) there, \(4,\) here",
        ),
    ],
)
def test_a_foreign_state_is_refused_whole(change, message):
    average = WeightAverage(net(), decay=0.9)
    before = copy.deepcopy(average.state_dict())
    other = net()
    drift(other)
    state = WeightAverage(other, decay=0.9).state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        average.load_state_dict(state)
    assert all(
        torch.equal(value, before["parameters"][name])
        for name, value in average.state_dict()["parameters"].items()
    )


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ValueError, match=r"^decay is .*, but takes a number from 0 to below 1$"):
        WeightAverage(net(), decay)
