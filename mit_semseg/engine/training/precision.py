"""The number format in which a training computes, and how its maps lie in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

AMP = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Number formats of convolutions and matrix products by name."""

_CPU_BF16 = ("avx512_bf16", "amx_bf16")  # instructions without which bfloat16 is slower than float32
_FP16_CAPABILITY = (7, 0)  # of the first GPUs with tensor cores for fp16


class Precision:
    """How forward and backward compute. The weights, their gradients and the loss are float32 in any case.

    With fp16, whose smallest numbers are not small enough for gradients, the loss is scaled up before the
    backward pass, and the gradients down after it. An update whose gradients overflow is skipped, and the
    factor halved.

    Args:
        device: where the training computes.
        amp: a key of ``AMP``.
        channels_last: whether maps lie in memory pixel by pixel, all channels of one together (NHWC), or
            channel by channel (NCHW). The weights are left as they are.
        adopts_amp, adopts_layout: whether `load_state_dict` takes them from the state.

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
        """Compute so from now on; a scaler begins anew."""
        if amp not in AMP:
            raise ValueError(f"amp is {amp!r}, but takes one of {', '.join(AMP)}")
        self.amp = amp
        self.channels_last = channels_last
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")

    def __str__(self) -> str:
        return f"{'float32' if self.amp == 'none' else self.amp}, {layout_name(self.channels_last)}"

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, AMP[self.amp], enabled=self.amp != "none")

    def laid_out(self, shard: dict[str, Any]) -> dict[str, Any]:
        """A sub-batch with its images in the chosen layout, which all maps computed from them take over."""
        if not self.channels_last:
            return shard
        return {**shard, "img_data": shard["img_data"].contiguous(memory_format=torch.channels_last)}

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` to those that are there; with fp16 they are scaled until `update`."""
        self.scaler.scale(loss).backward()

    def update(self, optimizer: torch.optim.Optimizer, clip_grad_norm: float = 0.0) -> None:
        """A step of the optimizer; with fp16 none if a gradient has overflowed, which is no error.

        Args:
            clip_grad_norm: the gradient is scaled down to this norm, over all weights together; 0: never.
        """
        if clip_grad_norm:
            self.scaler.unscale_(optimizer)
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, clip_grad_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the format, the layout, and the scaler's factor and its history."""
        return {"amp": self.amp, "channels_last": self.channels_last, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as a saved one: with its format and layout, as far as they are adopted, and its scaler.

        The layout is not adopted without the format, since which is faster depends on that.

        Raises: KeyError or ValueError if ``state`` is no state.
        """
        amp, channels_last, scaler = state["amp"], bool(state["channels_last"]), state["scaler"]
        if self.adopts_amp or self.amp == amp:
            self.choose(amp, channels_last if self.adopts_layout else self.channels_last)
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(scaler)
        self.restored = True


def layout_name(channels_last: bool) -> str:
    return "channels-last" if channels_last else "NCHW"


def fastest_amp(device: torch.device) -> str:
    """What ``TRAIN.amp auto`` means: bf16 where the device multiplies in it, else fp16 on a GPU that does.

    Otherwise none. bf16 needs no scaling, so that it goes first.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= _FP16_CAPABILITY else "none"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "none"


def _cpu_has_bf16() -> bool:
    """Whether Linux names an instruction for it; other systems don't tell, so that it is no."""
    file = Path("/proc/cpuinfo")
    words = set(file.read_text(encoding="utf-8").split()) if file.is_file() else set()
    return not words.isdisjoint(_CPU_BF16)


def faster_layout(module: nn.Module, device: torch.device, amp: str) -> bool:
    """What ``TRAIN.channels_last auto`` means: whether channels-last is faster for this module, as a rule.

    GPUs multiply 16-bit numbers in channels-last and everything else in NCHW. On CPUs it was measured, see
    docs/training.md: networks with depthwise convolutions are faster in channels-last with float32 and slower
    with bf16, others the other way round.
    """
    if device.type != "cpu":
        return amp != "none"
    depthwise = any(layer.groups == layer.in_channels for layer in _grouped(module))
    return depthwise if amp == "none" else amp == "bf16" and not depthwise


def trains_wrongly(module: nn.Module, device: torch.device, amp: str) -> bool:
    """Whether channels-last, in this format, is out of the question for this module.

    It is for bf16 on CPUs where grouped convolutions are dilated: the gradients of their weights, as torch
    2.14 computes them by oneDNN, have nothing to do with the right ones, for many sizes of maps.
    """
    return (
        device.type == "cpu" and amp == "bf16" and any(max(layer.dilation) > 1 for layer in _grouped(module))
    )


def _grouped(module: nn.Module) -> Iterator[nn.Conv2d]:
    """Convolutions in more than one group, depthwise ones among them."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            yield layer
