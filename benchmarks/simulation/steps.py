"""A training step as a sequence of layers, and its time if gradients are exchanged in the backward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mit_semseg.lib.nn.batchnorm import SynchronizedBatchNorm
from mit_semseg.models import ModelBuilder

FIRST_BUCKET = 2**20  # bytes; DistributedDataParallel's sizes
BUCKET = 25 * 2**20
BYTES = 4  # of a gradient and of a statistic
SMALL_SUMS = 2  # all-reduces of a few numbers in a step: the labelled pixels before, loss and accuracy after


@dataclass(frozen=True)
class Layer:
    """A layer in the order of the forward pass.

    Attributes:
        gradient: bytes of its gradients.
        flops: of its forward pass.
        channels: of a synchronized BatchNorm, which sends two messages; 0 for all other layers.
    """

    name: str
    gradient: int
    flops: float
    channels: int


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Attributes:
        sync: messages of BatchNorm, with their wait for the link.
        exchange: of gradients, as far as the backward pass does not hide it, and of a few sums.
        data: the wait for the loader.
    """

    compute: float
    sync: float
    exchange: float
    data: float

    @property
    def total(self) -> float:
        return self.compute + self.sync + self.exchange + self.data


def layers_of(
    encoder: str, decoder: str, images: tuple[int, int, int], num_class: int = 150, **style: Any
) -> list[Layer]:
    """The layers of a model with their FLOPs for (N, height, width), counted by torch without any memory.

    A layer without weights is part of the one after it.
    """
    with torch.device("meta"):
        net_encoder = ModelBuilder.build_encoder(encoder, imagenet=False)
        net_decoder = ModelBuilder.build_decoder(
            decoder, channels=net_encoder.channels, num_class=num_class, **style
        )
        count, height, width = images
        pictures = torch.empty(count, 3, height, width)
    layers: list[Layer] = []
    counted = 0

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal counted
        flops, counted = counter.get_total_flops() - counted, counter.get_total_flops()
        gradient = BYTES * sum(weight.numel() for weight in layer.parameters(recurse=False))
        channels = layer.num_features if isinstance(layer, SynchronizedBatchNorm) else 0
        if gradient or channels or flops:
            layers.append(Layer(type(layer).__name__, gradient, flops, channels))

    leaves = [each for net in (net_encoder, net_decoder) for each in net.modules() if not [*each.children()]]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net_decoder.train()(net_encoder.train()(pictures, return_feature_maps=True))
    for hook in hooks:
        hook.remove()
    return layers


def without_messages(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with BatchNorm that is not synchronized, or whose statistics are frozen."""
    return [replace(layer, channels=0) for layer in layers]


def step_time(
    layers: Sequence[Layer],
    compute_s: float,
    ranks: int,
    all_reduce: Callable[[float], float],
    all_gather: Callable[[float], float],
    *,
    one_link: bool = True,
    passes: int = 1,
    data_s: float = 0.0,
) -> StepTime:
    """The time of one update.

    A third of the arithmetic is the forward pass, and each layer takes its share of the FLOPs. In the
    backward pass, a bucket of gradients is sent as soon as it is full; a message of BatchNorm stops the
    arithmetic until it has arrived.

    Args:
        compute_s: arithmetic of one sub-batch.
        all_reduce, all_gather: seconds for a number of bytes.
        one_link: messages wait for the buckets before them, because both use the same communicator.
        passes: sub-batches in an update; the last one exchanges gradients.
        data_s: seconds that the loader needs for the images of one update. They are loaded meanwhile.
    """
    total_flops = sum(layer.flops for layer in layers) or 1.0
    seconds = [compute_s * layer.flops / total_flops for layer in layers]
    now = sync = 0.0
    for number in range(passes):
        last = number == passes - 1
        for layer, taken in zip(layers, seconds, strict=True):
            now += taken / 3
            if layer.channels and ranks > 1:
                wait = all_gather(ranks * BYTES * (2 * layer.channels + 1))
                now, sync = now + wait, sync + wait
        free, filled, limit = now, 0, FIRST_BUCKET
        for layer, taken in zip(reversed(layers), reversed(seconds), strict=True):
            now += 2 / 3 * taken
            if layer.channels and ranks > 1:
                message = all_gather(ranks * BYTES * 2 * layer.channels)
                arrived = max(now, free if one_link else now) + message
                sync += arrived - now
                now = arrived
                free = max(free, now) if one_link else free
            filled += layer.gradient
            if last and filled >= limit and ranks > 1:
                free, filled, limit = max(now, free) + all_reduce(filled), 0, BUCKET
        if last and ranks > 1:
            free = max(now, free) + (all_reduce(filled) if filled else 0.0)
            now = max(now, free) + SMALL_SUMS * all_reduce(8 * 3)
    compute = passes * compute_s
    return StepTime(compute, sync, max(0.0, now - compute - sync), max(0.0, data_s - now))
