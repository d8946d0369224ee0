"""Time, FLOPs and bytes of the operators that a function calls, by kind, and the limits of the machine."""

import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mit_semseg.runtime.machine import synchronize

# The first pattern that an operator's name contains gives its kind.
STRONG = {
    "optimizer": r"optimizer\.step|_foreach|_fused_",
    "exchange": r"exchange|c10d|gloo|nccl|all_reduce|all_gather|broadcast_$",
    "convolutions": r"conv",
    "norms": r"batch_?norm|layer_?norm|group_?norm|_normalize|normalizebackward",
    "loss": r"log_?softmax|nll_?loss|cross_entropy|loss",
    "resizing, pooling": r"upsample|pool|grid_sampl",
    "matrix products": r"\b(add|b|badd)?mm\b|(add|b)?mmbackward|::linear|attention",
}
# Parts of other operators, so they count as these if there is one around them.
WEAK = {
    "copies": r"copy|clone|contiguous|::cat\b|catbackward|pad|::to\b|stack",
    "elementwise": r"relu|threshold|hardtanh|clamp|silu|gelu|sigmoid|hardswish|::(add|sub|mul|div|sum|exp)"
    r"|(add|mul|div|sub)backward|softmax|argmax|::max|::eq|::ge",
}
OTHER = "other operators"
ORDER = (*STRONG, *WEAK, OTHER)


@dataclass(frozen=True)
class Limits:
    """FLOP/s of a matrix product in each number format, bytes/s of a large copy (read and written)."""

    flops: Mapping[str, float]
    bandwidth: float


def kind_of(name: str, kinds: Mapping[str, str]) -> str | None:
    lower = name.lower()
    return next((kind for kind, pattern in kinds.items() if re.search(pattern, lower)), None)


class Counter(TorchDispatchMode):
    """Counts FLOPs and bytes of the operators inside the block, by kind.

    The bytes of an operator are those of its tensors, each counted once: as if each were read or written in
    memory, and caches kept nothing. FLOPs are those of torch's flop counter, but that counts convolutions in
    groups wrongly in the backward pass, so these are counted here.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        super().__init__()
        self.flops: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, float] = defaultdict(float)
        self._in_optimizer = False
        if optimizer is not None:
            optimizer.register_step_pre_hook(lambda *_: self._enter(True))
            optimizer.register_step_post_hook(lambda *_: self._enter(False))

    def _enter(self, inside: bool) -> None:
        self._in_optimizer = inside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name
        kind = kind_of(name, STRONG) or kind_of(name, WEAK) or OTHER
        if self._in_optimizer:
            kind = "optimizer"
        if name in _FLOPS:
            self.flops[kind] += _FLOPS[name](result, *args)
        elif func.overloadpacket in flop_registry:
            self.flops[kind] += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result)
        if not func.is_view:
            tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, result))}
            self.bytes[kind] += sum(leaf.nbytes for leaf in tensors.values() if isinstance(leaf, Tensor))
        return result


def _backward_flops(_: Any, grad: Tensor, image: Tensor, weight: Tensor, *more: Any) -> float:
    # more: bias sizes, stride, padding, dilation, transposed, output padding, groups, output mask
    transposed, mask = more[4], more[7]
    forward = 2 * (image if transposed else grad).numel() * weight[0].numel()
    return forward * sum(bool(wanted) for wanted in mask[:2])


def _convolution_flops(result: Tensor, image: Tensor, weight: Tensor, *_: Any) -> float:
    return 2 * result.numel() * weight[0].numel()


def _product_flops(result: Tensor, first: Tensor, *_: Any) -> float:
    return 2 * result.numel() * first.shape[-1]


def _attention_flops(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *more: Any) -> float:
    return 2 * query.numel() * key.shape[-2] + 2 * query[..., 0].numel() * value.shape[-2] * value.shape[-1]


# In inference mode, torch does not divide these into the operators that its counter knows.
_FLOPS: dict[str, Callable[..., float]] = {
    "aten::convolution_backward": _backward_flops,
    "aten::conv1d": _convolution_flops,
    "aten::conv2d": _convolution_flops,
    "aten::conv3d": _convolution_flops,
    "aten::linear": _product_flops,
    "aten::matmul": _product_flops,
    "aten::scaled_dot_product_attention": _attention_flops,
}


def seconds_by_kind(run: Callable[[], object], steps: int, device: torch.device) -> dict[str, float]:
    """Mean seconds of the operators of each kind. ``total`` is the time of ``run``, with the profiler."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        for _ in range(steps):
            run()
        synchronize(device)
        total = time.perf_counter() - start
    seconds: dict[str, float] = defaultdict(float)
    for event in profiler.events():
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue  # a kernel, whose time the operator has
        taken = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        seconds[_kind_of_event(event)] += taken * 1e-6 / steps
    return {**seconds, "total": total / steps}


def _kind_of_event(event: Any) -> str:
    weak, around = None, event
    while around is not None:
        strong = kind_of(around.name, STRONG)
        if strong is not None:
            return strong
        weak = weak or kind_of(around.name, WEAK)
        around = around.cpu_parent
    return weak or OTHER


def median_seconds(run: Callable[[], object], steps: int, device: torch.device) -> float:
    times = []
    for _ in range(steps):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_limits(device: torch.device, formats: Mapping[str, torch.dtype]) -> Limits:
    """The fastest of several products of square matrices, and of several copies of 256 MiB."""
    side = 2048 if device.type == "cpu" else 8192
    flops = {}
    for name, dtype in formats.items():
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        flops[name] = 2 * side**3 / _fastest(lambda a=a, b=b: torch.mm(a, b), device)
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    return Limits(flops, 2 * source.nbytes / _fastest(lambda: target.copy_(source), device))


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    return min(median_seconds(run, 1, device) for _ in range(6))
