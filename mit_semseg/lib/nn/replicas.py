"""Replicas of a module in threads of one process: making them, and running a forward pass on all of them."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from .batchnorm import SynchronizedBatchNorm
from .sync import Meeting, ReplicaExchange


def replicate(module: nn.Module, devices: Sequence[torch.device]) -> list[nn.Module]:
    """One replica per device, for one forward pass. The gradients of all arrive at the master's parameters.

    On GPUs the replicas hold copies of the parameters, made by a differentiable broadcast. Elsewhere they
    hold the parameters themselves. Replica 0 also holds the master's own buffers, so its updates of them
    last. The other replicas hold copies.
    """
    if devices[0].type == "cuda":
        replicas = nn.parallel.replicate(module, list(devices), detach=not torch.is_grad_enabled())
    else:
        replicas = [_shallow_copy(module, own_buffers=rank > 0, done={}) for rank in range(len(devices))]
    for copies in zip(*(replica.modules() for replica in replicas), strict=True):
        if hasattr(copies[0], "__data_parallel_replicate__"):
            context = CallbackContext()
            for rank, copy in enumerate(copies):
                copy.__data_parallel_replicate__(context, rank)
    return replicas


class CallbackContext:
    """An object that the replicas of one submodule share, for their callbacks to store things in."""


def run_replicas(
    replicas: Sequence[nn.Module],
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    devices: Sequence[torch.device],
) -> list[Any]:
    """The output of every replica for its arguments; synchronized layers share their statistics.

    Each replica runs in its own thread, the first one in the caller's. If one raises, the others stop at
    their next synchronized layer, and the first error is raised.
    """
    meeting = Meeting(len(replicas))
    if len(replicas) > 1:
        for rank, replica in enumerate(replicas):
            for name, layer in replica.named_modules():
                if isinstance(layer, SynchronizedBatchNorm):
                    layer.exchange = ReplicaExchange(meeting, rank, name)
    settings = _settings_of_this_thread(devices)
    outputs: list[Any] = [None] * len(replicas)

    def run(rank: int) -> None:
        args, kwargs = calls[rank]
        try:
            with settings(devices[rank]):
                outputs[rank] = replicas[rank](*args, **kwargs)
            meeting.leave(rank)
        except BaseException as error:
            if sys.version_info >= (3, 11):
                error.add_note(f"Raised in replica {rank} of {len(replicas)}, on {devices[rank]}.")
            meeting.fail(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(1, len(replicas))]
    try:
        for thread in threads:
            thread.start()
        run(0)
        for thread in threads:
            thread.join()
    except BaseException as error:  # a keyboard interrupt between the calls
        meeting.fail(error)
        raise
    if meeting.failure is not None:
        raise meeting.failure
    return outputs


def _shallow_copy(module: nn.Module, own_buffers: bool, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """A new tree of modules with the same parameters. ``done`` keeps shared modules shared."""
    if module not in done:
        replica = done[module] = module.__new__(type(module))
        replica.__dict__ = module.__dict__.copy()
        replica._parameters = module._parameters.copy()
        replica._buffers = {
            name: buffer.clone() if own_buffers and buffer is not None else buffer
            for name, buffer in module._buffers.items()
        }
        replica._modules = {
            name: None if child is None else _shallow_copy(child, own_buffers, done)
            for name, child in module._modules.items()
        }
    return done[module]


def _settings_of_this_thread(
    devices: Sequence[torch.device],
) -> Callable[[torch.device], AbstractContextManager[None]]:
    """PyTorch's settings of the calling thread, as a context for the thread of a device.

    These are gradient and inference mode, autocast, the current GPU, and the current stream of every GPU,
    because the last replica to arrive at a layer starts kernels on all of them.
    """
    kind = devices[0].type
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, autocast_dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    streams = [torch.cuda.current_stream(device) for device in devices] if kind == "cuda" else []

    @contextmanager
    def settings(device: torch.device) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(inference))
            stack.enter_context(torch.set_grad_enabled(grad))
            stack.enter_context(torch.autocast(kind, dtype=autocast_dtype, enabled=autocast))
            for stream in streams:
                stack.enter_context(torch.cuda.stream(stream))
            if kind == "cuda":
                stack.enter_context(torch.cuda.device(device))
            yield

    return settings
