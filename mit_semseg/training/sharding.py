"""``TRAIN.parallel fsdp``: each process keeps a share of all parameters, gradients and optimizer states.

`torch.distributed.fsdp.fully_shard` makes the parameters DTensors, which are divided along their first
dimension. A unit (`_units`) collects its whole parameters before its forward pass and before its backward
pass, and drops them afterwards. Its gradients are averaged and divided at the end of its backward pass, also
in the sub-batches of ``TRAIN.accumulate``, because whole gradients would need the memory of whole parameters.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import UserError
from ..lib.nn.batchnorm import buffers_can_drift
from ..runtime.distributed import ProcessInfo, whole_tensor
from .tensor_trees import map_tensors

_UNIT = 1_000_000  # parameters; smaller exchanges cost more time than they save memory
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # a network may call their elements by itself
_OUTLINE = "unsharded_outline"

Module = TypeVar("Module", bound=nn.Module)


def shard(module: nn.Module, process: ProcessInfo) -> None:
    """Divide the parameters of ``module`` among all processes, in place, and move it to the device.

    The parameters are replaced, so build the optimizer afterwards. All processes must have the same values.

    Raises: UserError for a module that cannot be divided.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    scalar = next((name for name, value in module.named_parameters() if value.ndim == 0), None)
    if scalar is not None:
        raise UserError(
            f"TRAIN.parallel is fsdp, which cannot divide {scalar}: it is a single number. Set it to ddp."
        )
    outline = _outline(module)
    drifts = buffers_can_drift(module)
    group = dist.group.WORLD
    assert group is not None
    mesh = DeviceMesh.from_group(group, process.device.type)
    for unit in _units(module):
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    if drifts:  # as in `parallel.ProcessParallel`
        module.register_forward_pre_hook(_take_buffers_of_rank_0)
    setattr(module, _OUTLINE, (outline,))  # in a tuple: a module would become a submodule


@contextmanager
def naming_use_of_shares() -> Iterator[None]:
    """Inside the block, a network that cannot be divided ends with a UserError that says so.

    It takes the weights of a part without calling the part, which then is not collected.
    """
    try:
        yield
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        raise UserError(
            "TRAIN.parallel is fsdp, but this network uses weights of a block without calling the block "
            f"({error}). Set it to ddp."
        ) from error


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` has divided the parameters of a module."""
    return hasattr(module, _OUTLINE)


def whole_copy(module: Module) -> Module:
    """A deep copy of a module with whole parameters, on its device, whether it is sharded or not.

    If it is sharded, all processes must call this together.
    """
    if not is_sharded(module):
        return copy.deepcopy(module)
    (outline,) = getattr(module, _OUTLINE)
    copied = copy.deepcopy(cast(Module, outline))
    values = {name: _own_copy(value) for name, value in module.state_dict().items()}
    copied.load_state_dict(values, assign=True)
    device = next(module.parameters()).device
    return copied.to(device)  # the buffers outside of the state dict


def gathered(values: dict[str, Any], *, keep: bool) -> dict[str, Any]:
    """State dicts with whole tensors in host memory. All processes must call this together.

    Args:
        values: DTensors and tensors in nested dicts.
        keep: whether this process needs the result. If not, its tensors are None, and it needs memory for one
            whole tensor at a time.
    """

    def whole(_: str, value: Tensor) -> Tensor | None:
        found = _own_copy(value)
        return found.cpu() if keep else None

    found: dict[str, Any] = map_tensors(values, whole)
    return found


def _own_copy(value: Tensor) -> Tensor:
    value = value.detach()
    found = whole_tensor(value)
    return found.clone() if found is value else found


def _outline(module: Module) -> Module:
    """A copy of a module whose parameters have shapes but no values."""
    empty = {
        id(value): nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
        for value in module.parameters()
    }
    return copy.deepcopy(module, cast("dict[int, Any]", empty))


def _units(module: nn.Module) -> list[nn.Module]:
    """The parts that are collected together, inner ones first, and the module itself for the rest.

    A unit is called as a whole. Therefore it is an element of a list or a sequence, such as a block, with at
    least a million parameters that are not in a unit inside it.
    """
    elements = {
        child for part in module.modules() if isinstance(part, _CONTAINERS) for child in part.children()
    }
    found: list[nn.Module] = []
    taken: set[nn.Parameter] = set()
    for part in reversed(list(module.modules())):  # which lists a part before its own parts
        own = [value for value in part.parameters() if value not in taken]
        if part in elements and not isinstance(part, _CONTAINERS) and sum(map(Tensor.numel, own)) >= _UNIT:
            taken.update(own)
            found.append(part)
    return [*found, module]


def _take_buffers_of_rank_0(module: nn.Module, args: Any) -> None:
    if module.training:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
