"""The state of a sharded run: each process writes its share, with `torch.distributed.checkpoint`.

``DIR/state.pth`` then has no values of tensors, and names the folder beside it that has them. There are two
folders, which take turns: a save fills the one that ``state.pth`` does not name, then replaces ``state.pth``,
then deletes the former folder. A save that is killed therefore leaves the former state.

Any number of processes can read such a state, also without sharding, and a sharded run reads any state.
"""

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import DivergenceError, UserError
from ..models.weights.checkpoint import save_atomically
from ..runtime.distributed import failing_together, gather_from_processes, local_part
from ..runtime.files import unwritable
from .options import RunOptions
from .state import (
    NAME,
    SHARDED_FORMAT,
    SHARDS,
    Stateful,
    check_finite,
    drop_shards,
    parts_of,
    read_state,
    write_config,
)
from .tensor_trees import map_tensors, named_tensors

# All that the index of a folder of shards names. Another name could run code.
_INDEX_TYPES = {
    "pathlib": {"Path", "PosixPath", "WindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "WindowsPath"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        *("ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties"),
        *("TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.serialization": {"_get_layout"},
}


def write_sharded_state(
    options: RunOptions, content: dict[str, Any], *, first: bool, before: Callable[[], None]
) -> None:
    """Replace the state by ``content``, of which each process has its share. All call this together.

    Args:
        content: a `state_content`.
        first: whether this process writes what is not divided.
        before: writes further files, in the first process.

    Raises: in all processes, UserError if the disk refuses, and DivergenceError for a number that is not
        finite. The old state then remains.
    """
    file, parts = options.folder / NAME, parts_of(content)
    _check_finite_together(parts, content["course"]["iteration"], file)
    slot = ""
    with failing_together():
        if first:
            before()
            write_config(options.folder, options.config)
            slot = next(name for name in SHARDS if name != _slot_of(file))
            drop_shards(options.folder, slot)
    slot = gather_from_processes(slot)[0]
    tensors = dict(named_tensors(parts))
    _write_shards(options.folder / slot, tensors)
    with failing_together():
        if first:
            shapes = {
                name: torch.empty(value.shape, dtype=value.dtype, device="meta")
                for name, value in tensors.items()
            }
            save_atomically({**content, **_filled(parts, shapes), **_marks(slot)}, file)
            drop_shards(options.folder, *(name for name in SHARDS if name != slot))


def read_whole_state(file: Path) -> dict[str, Any]:
    """The content of a state with all its tensors, on the CPU, wherever they are. Raises: UserError."""
    content = read_state(file)
    if "shards" not in content:
        return content
    parts = parts_of(content)
    tensors = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in named_tensors(parts)}
    _read_shards(file.parent / content["shards"], tensors)
    return {**content, **_filled(parts, tensors)}


def read_divided_state(
    file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, extras: dict[str, Stateful]
) -> dict[str, Any]:
    """The content of a state, divided as the parameters of a sharded module are. Each process reads the file.

    Raises: UserError, in all processes.
    """
    with failing_together():
        content = read_state(file)
        parts = parts_of(content)
        found = dict(named_tensors(parts))
        like = _divided_like(found, module, optimizer, extras)
        if "shards" in content:
            for name, value in found.items():
                found[name] = (
                    torch.empty_like(like[name], dtype=value.dtype, requires_grad=False)
                    if name in like
                    else torch.empty(value.shape, dtype=value.dtype)
                )
            _read_shards(file.parent / content["shards"], found)
        else:
            for name, one in like.items():
                found[name] = _share(found[name], one)
    return {**content, **_filled(parts, found)}


def _share(value: Tensor, like: Tensor) -> Tensor:
    """A tensor, which each process has as a whole, divided along its first dimension like another one."""
    from torch.distributed.tensor import DTensor

    mesh, placements = cast(Any, like).device_mesh, cast(Any, like).placements
    rows, rank = value.chunk(mesh.size()), mesh.get_local_rank()
    own = rows[rank] if rank < len(rows) else value[:0]
    own = own.to(local_part(like).device, copy=True)  # without a copy, the whole would stay in memory
    return DTensor.from_local(
        own, mesh, placements, run_check=False, shape=value.shape, stride=value.stride()
    )


def _divided_like(
    found: Mapping[str, Tensor],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    extras: dict[str, Stateful],
) -> dict[str, Tensor]:
    """For each tensor of a state that is divided in this run: the DTensor that it is divided like."""
    own = {
        **{part: module.get_submodule(part).state_dict() for part in ("encoder", "decoder")},
        "extras": {name: extra.state_dict() for name, extra in extras.items()},
    }
    like = {name: value for name, value in named_tensors(own) if hasattr(value, "full_tensor")}
    # The optimizer has no state before its first step. Its moments are divided like the parameters.
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name in found:
        if name.startswith("optimizer.state."):
            number = name.split(".")[2]
            if number.isdecimal() and int(number) < len(parameters):
                like[name] = parameters[int(number)]
    return {name: value for name, value in like.items() if name in found and found[name].shape == value.shape}


def _check_finite_together(parts: dict[str, Any], iteration: int, file: Path) -> None:
    message = ""
    try:
        check_finite(parts, f"after iteration {iteration}", f"{file} was not replaced")
    except DivergenceError as error:
        message = str(error)
    messages = [one for one in gather_from_processes(message) if one]
    if messages:
        raise DivergenceError(messages[0])


def _slot_of(file: Path) -> str:
    """The folder that a state file names; "" for none."""
    try:
        return str(torch.load(file, "cpu", weights_only=True, mmap=True)["shards"])
    except Exception:  # a missing or damaged file, or a state without shards
        return ""


def _marks(slot: str) -> dict[str, Any]:
    return {"format": SHARDED_FORMAT, "shards": slot}


def _filled(parts: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A copy of parts of a state with other tensors, by the names of `named_tensors`."""
    filled: dict[str, Any] = map_tensors(parts, lambda name, _: tensors[name])
    return filled


def _write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write the shares of all processes. Raises: UserError in all of them if the disk refuses."""
    import torch.distributed.checkpoint as dcp

    try:
        dcp.save(dict(tensors), storage_writer=dcp.FileSystemWriter(folder))
    except dcp.api.CheckpointException as error:
        first = _first_error(error)
        if isinstance(first, OSError):
            raise unwritable(folder, first) from error
        raise RuntimeError(f"{folder} could not be written: {type(first).__name__}: {first}") from error


def _read_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fill tensors, and the shares of DTensors in this process. Raises: UserError for damaged files."""
    import torch.distributed.checkpoint as dcp

    class Reader(dcp.FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            with (folder / ".metadata").open("rb") as file:
                index = _Index(file).load()
            for name in tensors:
                if type(index.state_dict_metadata.get(name)).__name__ != "TensorStorageMetadata":
                    raise pickle.UnpicklingError(f"it has no tensor {name}")
            index.storage_meta.load_id = self.load_id
            return index

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that each process reads by itself, as intended
            dcp.load(tensors, storage_reader=Reader(folder), no_dist=True)
    except dcp.api.CheckpointException as error:
        first = _first_error(error)
        raise UserError(
            f"{folder} is damaged or incomplete: {first}. {folder.parent / NAME} needs it; delete both."
        ) from error


def _first_error(error: Any) -> BaseException:
    """What ended the process of the lowest rank."""
    found: BaseException = error.failures[min(error.failures)][0]
    return found


class _Index(pickle.Unpickler):
    """Reads the index of a folder of shards. It calls nothing but what describes tensors."""

    def find_class(self, module: str, name: str) -> Any:
        is_type = module == "torch" and (
            name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)
        )
        if is_type or name in _INDEX_TYPES.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"its index names {module}.{name}, which could run code")
