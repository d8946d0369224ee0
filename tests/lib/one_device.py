"""What synchronized BatchNorm must equal: one device that has all the data, derived by autograd."""

import torch
from torch import Tensor, nn

from mit_semseg.lib.nn.replicas import replicate, run_replicas


def normalize(layer: nn.Module, shards: list[Tensor]) -> list[Tensor]:
    """The formula of the docstring, written down; updates ``layer.running_mean`` and ``running_var``."""
    values = torch.cat([x.transpose(0, 1).flatten(1) for x in shards], 1)
    mean, var = values.mean(1), values.var(1, correction=0)
    if layer.running_mean is not None:
        layer.num_batches_tracked += 1
        momentum = 1 / layer.num_batches_tracked.item() if layer.momentum is None else layer.momentum
        unbiased = values.detach().var(1)
        layer.running_mean += momentum * (mean.detach() - layer.running_mean)
        layer.running_var += momentum * (unbiased - layer.running_var)
    scale = var.clamp_min(layer.eps) ** -0.5
    outputs = []
    for x in shards:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        y = (x - mean.view(shape)) * scale.view(shape)
        outputs.append(y * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else y)
    return outputs


def on_replicas(layer: nn.Module, shards: list[Tensor]) -> list[Tensor]:
    """The layer itself, with one replica on the CPU for each shard."""
    devices = [torch.device("cpu")] * len(shards)
    return run_replicas(replicate(layer, devices), [((x,), {}) for x in shards], devices)


def step(run, layer: nn.Module, shards: list[Tensor], output_grads: list[Tensor]) -> dict[str, list[Tensor]]:
    """Everything that one training step leaves behind, in float64."""
    shards = [x.detach().clone().requires_grad_() for x in shards]
    outputs = run(layer, shards)
    torch.autograd.backward(outputs, output_grads)
    return {
        "outputs": [y.detach().double() for y in outputs],
        "input gradients": [x.grad.double() for x in shards],
        "parameter gradients": [parameter.grad.double() for parameter in layer.parameters()],
        "running statistics": [b.double() for b in layer.buffers()],
    }


def assert_same(found: dict[str, list[Tensor]], wanted: dict[str, list[Tensor]], tolerance: float) -> None:
    for what, tensors in wanted.items():
        for a, b in zip(found[what], tensors, strict=True):
            torch.testing.assert_close(
                a, b, rtol=tolerance, atol=tolerance, msg=lambda m, w=what: f"{w}: {m}"
            )
