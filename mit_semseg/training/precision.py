"""The number format of a training, and the memory layout of its feature maps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DivergenceError
from ..runtime.distributed import whole_tensor

AMP = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Number formats of convolutions and matrix products, by name."""

_AMX = "amx_bf16"
_CPU_BF16 = ("avx512_bf16", _AMX)  # without one of these instructions, bf16 is slower than float32
_LEAST_SCALE = 2.0**-10  # of the loss in fp16; a factor that small does not help
_FP16_CAPABILITY = (7, 0)  # the first GPUs with tensor cores for fp16


class Precision:
    """The format and layout of forward and backward passes. Weights, gradients and loss are always float32.

    Small gradients underflow in fp16. Therefore the loss is scaled up before the backward pass, and the
    gradients are scaled down after it. If gradients overflow, the update is skipped and the factor halved.

    Args:
        device: the device that computes.
        amp: a key of ``AMP``.
        channels_last: whether feature maps are stored pixel by pixel (NHWC) or channel by channel (NCHW). The
            layout of the weights does not change.
        adopts_amp, adopts_layout: whether `load_state_dict` takes format and layout from the state.

    Attributes:
        restored: whether a state has been loaded.

    Raises: ValueError for another ``amp``.
    """

    def __init__(
        self,
        device: torch.device,
        amp: str = "none",
        channels_last: bool = False,
        *,
        adopts_amp: bool = True,
        adopts_layout: bool = True,
    ) -> None:
        self.device = device
        self.adopts_amp = adopts_amp
        self.adopts_layout = adopts_layout
        self.restored = False
        self.choose(amp, channels_last)

    def choose(self, amp: str, channels_last: bool) -> None:
        """Use this format and layout from now on, with a fresh scaler."""
        if amp not in AMP:
            raise ValueError(f"amp is {amp!r}, but takes one of {', '.join(AMP)}")
        self.amp = amp
        self.channels_last = channels_last
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")

    def __str__(self) -> str:
        return f"{'float32' if self.amp == 'none' else self.amp}, {layout_name(self.channels_last)}"

    def autocast(self) -> torch.autocast:
        """The context in which to run a forward pass."""
        return torch.autocast(self.device.type, AMP[self.amp], enabled=self.amp != "none")

    def laid_out(self, shard: dict[str, Any]) -> dict[str, Any]:
        """A sub-batch with its images in the chosen layout. All feature maps inherit it."""
        if not self.channels_last:
            return shard
        return {**shard, "img_data": shard["img_data"].contiguous(memory_format=torch.channels_last)}

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of ``loss``. With fp16 they stay scaled until `gradient_norm`."""
        self.scaler.scale(loss).backward()

    @property
    def skips_overflows(self) -> bool:
        """Whether an update is skipped if its gradient is not finite, which fp16 expects now and then."""
        return self.scaler.is_enabled()

    def gradient_norm(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """The norm of the whole gradient, 0-dim, on its device. Call it once before `update`."""
        self.scaler.unscale_(optimizer)
        gradients = [weight.grad for weight in _weights(optimizer) if weight.grad is not None]
        return whole_tensor(torch.nn.utils.get_total_norm(gradients))

    def update(self, optimizer: torch.optim.Optimizer, norm: Tensor, clip_grad_norm: float = 0.0) -> None:
        """Make a step of the optimizer.

        Args:
            norm: the result of `gradient_norm`.
            clip_grad_norm: upper limit for the norm over all weights. A larger gradient is scaled down to it.
                0 is no limit.
        """
        if clip_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(_weights(optimizer), clip_grad_norm, norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def skip_update(self) -> None:
        """Call it instead of `update` after an overflow. It lowers the scaling factor.

        It does not call the optimizer. Torch's scaler would, with a flag to skip the step. A fused SGD that
        skips its first step leaves its momentum uninitialized.
        """
        self.scaler.update()
        if self.scaler.get_scale() < _LEAST_SCALE:
            raise DivergenceError(
                "The gradient is not finite, however little the loss is scaled up: training in fp16 fails."
            )

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the format, the layout, and the scaler's factor and its history."""
        return {"amp": self.amp, "channels_last": self.channels_last, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the format and the layout of a state, as far as they are adopted, and its scaler.

        The layout is not adopted without the format, because the faster layout depends on the format.

        Raises: KeyError or ValueError if ``state`` is not a `state_dict`.
        """
        amp, channels_last, scaler = state["amp"], bool(state["channels_last"]), state["scaler"]
        if self.adopts_amp or self.amp == amp:
            self.choose(amp, channels_last if self.adopts_layout else self.channels_last)
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(scaler)
        self.restored = True


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def layout_name(channels_last: bool) -> str:
    return "channels-last" if channels_last else "NCHW"


def fastest_amp(device: torch.device) -> str:
    """The choice of ``TRAIN.amp auto``: bf16 if the device supports it, else fp16 if a GPU does, else none.

    bf16 needs no scaling, so it comes first.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= _FP16_CAPABILITY else "none"
    return "bf16" if device.type == "cpu" and _cpu_has(*_CPU_BF16) else "none"


def _cpu_has(*instructions: str) -> bool:
    """Whether Linux lists one of these instructions. Other systems have no such list, so the answer is no."""
    file = Path("/proc/cpuinfo")
    words = set(file.read_text(encoding="utf-8").split()) if file.is_file() else set()
    return not words.isdisjoint(instructions)


def faster_layout(module: nn.Module, device: torch.device, amp: str) -> bool:
    """The choice of ``TRAIN.channels_last auto``: whether channels-last is usually faster for this module.

    On GPUs, channels-last is faster for 16-bit numbers and NCHW for float32. On CPUs, measurements in
    docs/training.md show: networks with depthwise convolutions are faster in channels-last with float32 and
    slower with bf16, except on processors with AMX. Other networks are slower in channels-last with float32
    and faster with bf16.
    """
    if device.type != "cpu":
        return amp != "none"
    depthwise = any(layer.groups == layer.in_channels for layer in _grouped(module))
    if amp == "none":
        return depthwise
    return amp == "bf16" and (not depthwise or _cpu_has(_AMX))


def trains_wrongly(module: nn.Module, device: torch.device, amp: str) -> bool:
    """Whether this module gets wrong gradients in channels-last with this format.

    It does with bf16 on CPUs if it has dilated grouped convolutions. For many sizes of feature maps, the
    gradients that torch 2.14 computes for their weights with oneDNN are entirely wrong.
    """
    return (
        device.type == "cpu" and amp == "bf16" and any(max(layer.dilation) > 1 for layer in _grouped(module))
    )


def _grouped(module: nn.Module) -> Iterator[nn.Conv2d]:
    """Convolutions in more than one group, depthwise ones among them."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            yield layer
