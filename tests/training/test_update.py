"""One update: the same for sub-batches on several devices and one after the other, whatever the losses."""

import re

import pytest
import torch
from forked import in_processes
from torch import nn

from mit_semseg.errors import DivergenceError
from mit_semseg.losses import LossOptions, build_criterion
from mit_semseg.models import SegmentationModule
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.parallel import parallel
from mit_semseg.training.step import Normalizer, forward, step

CPU = torch.device("cpu")
ALONE = ProcessInfo(0, 1, CPU)
SUM = "cross_entropy + 0.5*focal + 2*dice + ohem"


class Encoder(nn.Module):
    """One map, without BatchNorm, and a layer that no forward calls."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.idle = nn.Conv2d(5, 5, 3)

    def forward(self, x, return_feature_maps=False):
        return [self.conv(x).tanh()]


class Decoder(nn.Module):
    """A main and an auxiliary output."""

    def __init__(self):
        super().__init__()
        self.main, self.aux = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)

    def forward(self, features):
        return tuple(layer(features[0]).log_softmax(1) for layer in (self.main, self.aux))


def sub_batches(count):
    """Sub-batches of several sizes; the first has one labelled pixel, the last none."""
    generator = torch.Generator().manual_seed(count)
    made = [
        {
            "img_data": torch.randn(2, 3, 3 + k, 4, generator=generator).double(),
            "seg_label": torch.randint(-1, 3, (2, 3 + k, 4), generator=generator),
            "info": [f"{k}.jpg"],
        }
        for k in range(count)
    ]
    made[0]["seg_label"].fill_(-1)[0, 0, 0] = 2
    made[-1]["seg_label"].fill_(-1)
    return made


def module(loss=SUM):
    torch.manual_seed(0)
    criterion = build_criterion(loss, LossOptions(torch.tensor([0.5, 3.0, 1.0])))
    return SegmentationModule(Encoder(), Decoder(), criterion, 0.4).double()


def updated(process, devices, accumulate, loss=SUM, clip=0.0):
    """The weights after two updates on four sub-batches, and the results of the updates."""
    net = module(loss)
    wrapped = parallel(net, process, [process.device] * devices)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    own = sub_batches(4)[process.rank :: process.size]
    batches = [own[k * devices : (k + 1) * devices] for k in range(accumulate)]
    shown = [step(wrapped, optimizer, batches, process, where="", clip_grad_norm=clip) for _ in range(2)]
    return net.state_dict(), [tuple(one) for one in shown]


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0], rtol=1e-12, atol=1e-12)
    for (loss, *counted), (expected_loss, *expected) in zip(one[1], other[1], strict=True):
        assert loss == pytest.approx(expected_loss, rel=1e-12)
        assert counted == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_four_replicas_two_replicas_and_accumulation_make_the_same_update(clip):
    expected = updated(ALONE, devices=4, accumulate=1, clip=clip)
    assert_same(updated(ALONE, devices=1, accumulate=4, clip=clip), expected)
    assert_same(updated(ALONE, devices=2, accumulate=2, clip=clip), expected)
    assert not torch.equal(expected[0]["encoder.conv.weight"], module().state_dict()["encoder.conv.weight"])


def test_an_update_on_accumulated_sub_batches_is_that_on_all_their_pixels_at_once():
    batch = sub_batches(4)
    flat = {
        "img_data": torch.cat([one["img_data"] for one in batch[1:3]], 2),
        "seg_label": torch.cat([one["seg_label"] for one in batch[1:3]], 1),
    }
    net = nn.Sequential(nn.Conv2d(3, 3, 1)).double()
    label = flat["seg_label"]
    weights = torch.tensor([0.5, 3.0, 1.0])
    net.zero_grad()
    nn.functional.cross_entropy(net(flat["img_data"]), label, weights.double(), ignore_index=-1).backward()
    expected = net[0].weight.grad.clone()

    class Map(nn.Module):
        def forward(self, x, return_feature_maps=False):
            return [x]

    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, features):
            return self.net(features[0]).log_softmax(1)

    whole = SegmentationModule(
        Map(), Scores(), build_criterion("cross_entropy", LossOptions(weights.double()))
    )
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.0)
    step(whole, optimizer, [[one] for one in batch[1:3]], ALONE, where="")
    torch.testing.assert_close(net[0].weight.grad, expected, rtol=1e-12, atol=1e-14)


def test_clipping_scales_the_whole_gradient_to_the_norm():
    lengths = []
    for clip in (0.0, 0.01, 1e9):
        net = module()
        step(
            net,
            torch.optim.SGD(net.parameters(), lr=0.0),
            [sub_batches(3)[1:2]],
            ALONE,
            where="",
            clip_grad_norm=clip,
        )
        grads = [weight.grad.flatten() for weight in net.parameters() if weight.grad is not None]
        lengths.append(torch.cat(grads).norm().item())
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)
    assert lengths[2] == lengths[0] > 0.01


def test_the_loss_shown_is_the_weighted_sum_of_the_losses():
    batch, net = sub_batches(3)[1:2], module()
    normalizer = Normalizer(net.crit, [batch[0]["seg_label"]], ALONE)
    loss, part = forward(net, batch, normalizer)
    main, aux = net.decoder(net.encoder(batch[0]["img_data"]))
    expected = 0.0
    for name, weight in (("cross_entropy", 1), ("focal", 0.5), ("dice", 2), ("ohem", 1)):
        one = build_criterion(name, LossOptions(torch.tensor([0.5, 3.0, 1.0])))
        label = batch[0]["seg_label"]
        expected += weight * ((one(main, label) + 0.4 * one(aux, label)) / one.units(label)).item()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert normalizer.means(part)[0].item() == pytest.approx(expected, rel=1e-12)


def test_without_a_labelled_pixel_anywhere_nothing_moves():
    for loss in (SUM, "lovasz"):
        net = module(loss)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        batches = [[sub_batches(2)[1]], [sub_batches(3)[2]]]
        shown = step(
            net, torch.optim.SGD(net.parameters(), lr=0.1), batches, ALONE, where="", clip_grad_norm=1.0
        )
        assert tuple(shown) == (0, 0, 0)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_loss_that_is_not_finite_in_any_sub_batch_stops_before_the_update():
    net = module()
    batches = [[one] for one in sub_batches(3)[:2]]
    batches[0][0]["img_data"][0, 0, 0, 0] = float("nan")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(DivergenceError, match=r"The loss is nan at epoch 3, .*Images: 0\.jpg\.$"):
        step(net, torch.optim.SGD(net.parameters(), lr=0.1), batches, ALONE, where="epoch 3")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(("processes", "clip"), [(1, 0.0), (1, 1.0), (2, 1.0)])
def test_a_gradient_that_is_not_finite_stops_before_the_update_though_the_loss_is_finite(processes, clip):
    alone = processes == 1
    message, unchanged = infinite_gradient(ALONE, clip) if alone else in_processes(2, infinite_gradient, clip)
    assert unchanged
    assert re.match(r"The loss is \d\.\d+, but the norm of its gradient is (inf|nan) at epoch 7, ", message)
    files = ", ".join(["0.jpg"] * processes)
    assert message.endswith(f"learning rate 0.1; the weights were not updated. Images: {files}.")


def infinite_gradient(process, clip):
    """The message of a step whose gradient overflows in the last process, and whether the weights stayed."""
    net = module()
    if process.rank == process.size - 1:
        net.decoder.main.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trained = parallel(net, process, [CPU])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    try:
        step(trained, optimizer, [sub_batches(2)[:1]], process, where="epoch 7", clip_grad_norm=clip)
    except DivergenceError as error:
        return str(error), all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    raise AssertionError("the step went through")
