"""Synchronized BatchNorm equals one device that has all the data, whatever the shards."""

import pytest
import torch
from one_device import assert_same, normalize, on_replicas, step
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm1d, SynchronizedBatchNorm2d, SynchronizedBatchNorm3d

LAYERS = {1: SynchronizedBatchNorm1d, 2: SynchronizedBatchNorm2d, 3: SynchronizedBatchNorm3d}
CHANNELS = 5


def shards_of_many_sizes(number, dim, dtype, generator):
    """Batches of 0 to 3 images, each shard's of another size."""
    shards = []
    for index in range(number):
        sizes = torch.randint(1, 6, (dim,), generator=generator).tolist()
        batch = 0 if index == 2 else 1 + index % 3
        x = torch.randn(batch, CHANNELS, *sizes, generator=generator, dtype=torch.float64)
        shards.append((3 * x + torch.arange(CHANNELS).view(-1, *[1] * dim)).to(dtype))
    return shards


def randomized(layer):
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 2, generator=generator)
    return layer


def float64_copy(layer):
    twin = type(layer)(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    ).double()
    twin.load_state_dict(layer.state_dict())
    return twin


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("number", [2, 3, 4, 7])
def test_shards_of_different_sizes_equal_one_device_with_all_the_data(number, dim, affine, dtype):
    generator = torch.Generator().manual_seed(number)
    layer = randomized(LAYERS[dim](CHANNELS, affine=affine)).to(dtype)
    wanted_layer = float64_copy(layer)
    shards = shards_of_many_sizes(number, dim, dtype, generator)
    grads = [torch.randn(x.shape, generator=generator).to(dtype) for x in shards]

    found = step(on_replicas, layer, shards, grads)
    wanted = step(normalize, wanted_layer, [x.double() for x in shards], [g.double() for g in grads])
    assert_same(found, wanted, tolerance=1e-9 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_one_replica_is_pytorchs_own_batchnorm(dim):
    generator = torch.Generator().manual_seed(0)
    layer = randomized(LAYERS[dim](CHANNELS)).double()
    own = getattr(nn, f"BatchNorm{dim}d")(CHANNELS).double()
    own.load_state_dict(layer.state_dict())
    shards = shards_of_many_sizes(1, dim, torch.float64, generator)
    grads = [torch.randn_like(shards[0])]
    found = step(on_replicas, layer, shards, grads)
    assert_same(found, step(lambda own, shards: [own(shards[0])], own, shards, grads), tolerance=0)


def test_two_values_on_two_devices_by_hand():
    # Values 1 and 5: mean 3, variance 4, unbiased 8.
    layer = SynchronizedBatchNorm1d(1)
    outputs = on_replicas(layer, [torch.tensor([[1.0]]), torch.tensor([[5.0]])])
    assert [y.item() for y in outputs] == [-1, 1]
    assert layer.running_mean.item() == pytest.approx(0.1 * 3)
    assert layer.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 8)
    assert layer.num_batches_tracked.item() == 1


def test_vectors_without_a_length_are_taken_by_the_1d_layer():
    generator = torch.Generator().manual_seed(0)
    layer = randomized(SynchronizedBatchNorm1d(CHANNELS)).double()
    wanted_layer = float64_copy(layer)
    shards = [torch.randn(n, CHANNELS, generator=generator).double() for n in (4, 0, 1)]
    grads = [torch.randn(x.shape, generator=generator).double() for x in shards]
    assert_same(step(on_replicas, layer, shards, grads), step(normalize, wanted_layer, shards, grads), 1e-9)


def test_a_variance_below_eps_is_raised_to_eps_and_gets_no_gradient():
    generator = torch.Generator().manual_seed(0)
    layer = SynchronizedBatchNorm2d(2).double()
    wanted_layer = float64_copy(layer)
    shards = [torch.randn(2, 2, 3, 4, generator=generator).double() for _ in range(2)]
    for x in shards:
        x[:, 0] *= 1e-4  # variance 1e-8, eps is 1e-5
    grads = [torch.randn(x.shape, generator=generator).double() for x in shards]
    found = step(on_replicas, layer, shards, grads)
    assert_same(found, step(normalize, wanted_layer, shards, grads), 1e-9)
    assert found["outputs"][0][:, 0].abs().max() < 0.1  # divided by sqrt(eps), not by the deviation


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_mean_of_10000_does_not_drown_a_deviation_of_1(memory_format):
    # Channels-last: PyTorch's own CPU BatchNorm returns a variance of 100 and more for this.
    generator = torch.Generator().manual_seed(0)
    shards = [torch.randn(n, 3, 90, 110, generator=generator) + 1e4 for n in (4, 2)]
    shards = [x.contiguous(memory_format=memory_format) for x in shards]
    layer = SynchronizedBatchNorm2d(3, momentum=1.0)
    outputs = on_replicas(layer, shards)
    values = torch.cat([x.double().transpose(0, 1).flatten(1) for x in shards], 1)
    torch.testing.assert_close(layer.running_var.double(), values.var(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(layer.running_mean.double(), values.mean(1), rtol=2e-7, atol=0)
    for x, y in zip(shards, outputs, strict=True):
        wanted = (x.double() - values.mean(1).view(1, 3, 1, 1)) / values.std(1).view(1, 3, 1, 1)
        torch.testing.assert_close(y.double(), wanted, rtol=0, atol=3e-3)  # float32 is 1e-3 apart at 1e4


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_is_kept_and_mixed_layouts_are_exact(memory_format):
    generator = torch.Generator().manual_seed(0)
    layer = randomized(SynchronizedBatchNorm2d(4)).double()
    wanted_layer = float64_copy(layer)
    shards = [torch.randn(2, 4, h, 7, generator=generator).double() for h in (3, 6)]
    shards[0] = shards[0].contiguous(memory_format=memory_format)
    shards.append(torch.randn(2, 8, 5, 4, generator=generator).double()[:, ::2, :, 1:])  # dense in no way
    grads = [torch.randn(x.shape, generator=generator).double() for x in shards]
    grads[1] = grads[1].contiguous(memory_format=torch.channels_last)
    assert_same(step(on_replicas, layer, shards, grads), step(normalize, wanted_layer, shards, grads), 1e-9)
    assert on_replicas(layer, shards)[0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_data_has_statistics_in_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    layer = randomized(SynchronizedBatchNorm2d(4))
    wanted_layer = float64_copy(layer)
    shards = [(torch.randn(2, 4, 30, w, generator=generator) + 10).to(dtype) for w in (20, 31)]
    grads = [torch.randn(x.shape, generator=generator).to(dtype) for x in shards]
    outputs = on_replicas(layer, shards)
    assert outputs[0].dtype == dtype
    layer.load_state_dict(wanted_layer.state_dict())
    found = step(on_replicas, layer, shards, grads)
    wanted = step(normalize, wanted_layer, [x.double() for x in shards], [g.double() for g in grads])
    for what in ("parameter gradients", "running statistics"):
        for a, b in zip(found[what], wanted[what], strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-2 if what[0] == "p" else 1e-5)
    for what in ("outputs", "input gradients"):
        assert_same({what: found[what]}, {what: wanted[what]}, tolerance=4 * torch.finfo(dtype).eps)


def test_under_autocast_the_statistics_stay_float32():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), SynchronizedBatchNorm2d(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = on_replicas(net, [torch.randn(2, 3, 5, 6), torch.randn(1, 3, 4, 4)])
    assert {y.dtype for y in outputs} == {torch.bfloat16}
    sum(y.float().square().sum() for y in outputs).backward()
    assert net[1].running_var.dtype == net[1].weight.grad.dtype == torch.float32


def test_momentum_none_is_the_average_of_all_steps():
    generator = torch.Generator().manual_seed(0)
    layer = SynchronizedBatchNorm2d(3, momentum=None).double()
    own = nn.BatchNorm2d(3, momentum=None).double()
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5, generator=generator).double()
        on_replicas(layer, list(x.split([1, 3])))
        own(x)
    torch.testing.assert_close(layer.state_dict(), own.state_dict())


def test_without_running_statistics_there_are_none_to_update():
    layer = SynchronizedBatchNorm2d(3, track_running_stats=False)
    outputs = on_replicas(layer, list(torch.randn(4, 3, 5, 5).split(2)))
    assert torch.cat(outputs).mean().abs() < 1e-6
    assert list(layer.buffers()) == []


def test_all_shards_empty_give_empty_outputs_and_finite_statistics():
    layer = SynchronizedBatchNorm2d(3)
    outputs = on_replicas(layer, [torch.empty(0, 3, 4, 4), torch.empty(0, 3, 2, 2)])
    assert [tuple(y.shape) for y in outputs] == [(0, 3, 4, 4), (0, 3, 2, 2)]
    assert all(buffer.isfinite().all() for buffer in layer.buffers())


def test_gradients_are_right_by_finite_differences():
    layer = randomized(SynchronizedBatchNorm1d(2)).double()
    a, b = torch.randn(3, 2).double().requires_grad_(), torch.randn(2, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: tuple(on_replicas(layer, [a, b])), (a, b))


def test_a_layer_whose_output_one_replica_ignores_still_has_the_right_gradients():
    generator = torch.Generator().manual_seed(0)
    layer = randomized(SynchronizedBatchNorm2d(3)).double()
    wanted_layer = float64_copy(layer)
    shards = [torch.randn(2, 3, 4, 4, generator=generator).double().requires_grad_() for _ in range(2)]
    wanted_shards = [x.detach().clone().requires_grad_() for x in shards]
    on_replicas(layer, shards)[0].square().mul(2).tanh().sum().backward()
    normalize(wanted_layer, wanted_shards)[0].square().mul(2).tanh().sum().backward()
    for x, wanted in zip(shards, wanted_shards, strict=True):
        torch.testing.assert_close(x.grad, wanted.grad)


def test_backward_keeps_no_more_than_batch_norm_does():
    def kept(run):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            run()
        return sizes

    layer, x = SynchronizedBatchNorm2d(4), torch.randn(8, 4, 10, 10, requires_grad=True)
    ours = kept(lambda: on_replicas(layer, list(x.split([3, 5]))))
    assert sorted(ours)[-2:] == [3 * 4 * 100, 5 * 4 * 100]  # the inputs, once each
    assert sum(ours) - x.numel() <= 2 * 3 * 4 + 2 * 4  # weight, mean and deviation a shard; two more numbers


@pytest.mark.parametrize(("dim", "shape"), [(1, (2, 3, 4, 5)), (2, (3, 4, 5)), (3, (2, 3, 4, 5))])
def test_an_input_of_other_dimensions_is_refused(dim, shape):
    with pytest.raises(
        ValueError, match=rf"SynchronizedBatchNorm{dim}d takes .* not \({shape[0]}, {shape[1]}"
    ):
        LAYERS[dim](3)(torch.zeros(shape))


def test_an_input_of_other_channels_is_refused():
    with pytest.raises(
        ValueError, match=r"SynchronizedBatchNorm2d has 3 channels, but its input has 4: \(2, 4, 1, 1\)"
    ):
        on_replicas(SynchronizedBatchNorm2d(3), [torch.zeros(2, 4, 1, 1)] * 2)
