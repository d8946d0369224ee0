"""Training on several devices from one process, with BatchNorm statistics over all of them.

One process per device (DistributedDataParallel) is faster on GPUs and does not need this module, because
synchronized layers find the process group themselves. These wrappers are for notebooks, for replicas on the
CPU, and for code that already uses them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

from .. import scatter
from ..replicas import replicate, run_replicas
from ..scatter import Device, as_device, async_copy_to, user_scattered_collate

__all__ = [
    "DataParallelWithCallback",
    "UserScatteredDataParallel",
    "async_copy_to",
    "patch_replication_callback",
    "user_scattered_collate",
]

Call = tuple[Sequence[Any], Mapping[str, Any]]


class DataParallelWithCallback(nn.DataParallel):
    """`torch.nn.DataParallel` that synchronizes BatchNorm and runs on any device, the CPU included.

    If a submodule has a method ``__data_parallel_replicate__(ctx, copy_id)``, it is called on each replica of
    that submodule before every forward pass. The replicas share one object ``ctx``.

    Args:
        device_ids: numbers of GPUs, or devices; ``["cpu"] * 4`` makes four replicas on the CPU. By default
            all GPUs, or the CPU if there is none. The module must be on the first one.
        output_device: where the outputs are gathered; the first device by default.
        dim: the dimension along which tensors are split and concatenated.
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: Sequence[Device] | None = None,
        output_device: Device | None = None,
        dim: int = 0,
    ) -> None:
        # DataParallel's constructor accepts GPUs only. The class is still a DataParallel, for code that looks
        # for one to unwrap.
        nn.Module.__init__(self)
        self.module = module
        self.dim = dim
        self.devices = _devices(device_ids)
        self.device_ids = [device.index for device in self.devices if device.index is not None]
        self.gather_device = self.devices[0] if output_device is None else as_device(output_device)
        if len(self.devices) == 1:
            module.to(self.devices[0])

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        first = self.devices[0]
        calls = self.calls(inputs, kwargs)
        devices = self.devices[: len(calls)]
        calls = [scatter.copy_ahead(call, device) for call, device in zip(calls, devices, strict=True)]
        if len(self.devices) == 1:
            return self.module(*calls[0][0], **calls[0][1])
        for tensor in chain(self.module.parameters(), self.module.buffers()):
            if tensor.device != first:
                raise RuntimeError(f"The module is on {tensor.device}; move it to the first device, {first}.")
        outputs = run_replicas(replicate(self.module, devices), calls, devices)
        return scatter.gather(outputs, self.gather_device, self.dim)

    def calls(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call]:
        """The arguments of each device, not yet copied to it. A small batch may not reach all devices."""
        return scatter.split((inputs, kwargs), len(self.devices), self.dim)


class UserScatteredDataParallel(DataParallelWithCallback):
    """Data parallelism for batches that the dataset has already divided: a list with one dict per device.

    Images may differ in size between dicts, which splitting one tensor does not allow. A shorter list uses
    the first devices only. Keyword arguments such as ``segSize`` go to every replica.

    With one device the output is the module's own. With several, scalars such as a loss and an accuracy are
    stacked to (n_devices,). The mean of such losses gives each device the same weight, however few valid
    pixels it had. To train on the loss of the whole batch, let the module return the *sum* over its valid
    pixels, and divide once: ``sums.sum() / valid_pixels_of_all_devices``. With synchronized BatchNorm the
    gradients then do not depend on how several devices share the images. One device alone gives the same
    gradients except for eps: PyTorch's BatchNorm divides by sqrt(var + eps), but several devices divide by
    sqrt(max(var, eps)), as the published models were trained. The two differ in channels whose variance is
    not far above eps.
    """

    def calls(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call]:
        if len(inputs) != 1:
            raise TypeError(
                f"The batch is one list with a dict for each device, but there are {len(inputs)} arguments."
            )
        batch = [inputs[0]] if isinstance(inputs[0], Mapping) else inputs[0]
        if not 1 <= len(batch) <= len(self.devices):
            raise ValueError(
                f"The batch has {len(batch)} dicts for {len(self.devices)} devices. Give each device one."
            )
        return [((shard,), kwargs) for shard in batch]


def patch_replication_callback(data_parallel: nn.DataParallel) -> None:
    """Make a plain `torch.nn.DataParallel` work like `DataParallelWithCallback`."""
    if not isinstance(data_parallel, nn.DataParallel):
        raise TypeError(f"Only a DataParallel can be patched, not {type(data_parallel).__name__}.")
    if isinstance(data_parallel, DataParallelWithCallback):
        return
    for name, method in ("replicate", _replicate), ("parallel_apply", partial(_apply, data_parallel)):
        setattr(data_parallel, name, method)


def _replicate(module: nn.Module, device_ids: Sequence[Device]) -> list[nn.Module]:
    return replicate(module, _devices(device_ids))


def _apply(
    data_parallel: nn.DataParallel,
    replicas: Sequence[nn.Module],
    inputs: Sequence[Any],
    kwargs: Sequence[Any],
) -> list[Any]:
    devices = _devices(data_parallel.device_ids[: len(replicas)])
    return run_replicas(replicas, list(zip(inputs, kwargs, strict=True)), devices)


def _devices(device_ids: Sequence[Device] | None) -> list[torch.device]:
    if device_ids is None:
        device_ids = list(range(torch.cuda.device_count())) or ["cpu"]
    devices = [as_device(device) for device in device_ids]
    if len({device.type for device in devices}) != 1:
        raise ValueError(f"Replicas need one device, or several of one type, not {list(device_ids)}.")
    return devices
