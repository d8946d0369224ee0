"""The network at inference: images at one scale to class scores at the network's stride."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..data.images import normalize
from ..models.decoders.base import features_of, score_stride
from .fold import folded

AMP = ("none", "bf16")
"""Arithmetic of the network: float32 throughout, or convolutions and matrix products in bfloat16."""

_LARGEST_STRIDE = 32  # of any map inside the encoders; it may be coarser than the maps they return
_SAMPLE = 64  # side in pixels of the image that checks the folding


class ScoringNetwork:
    """The encoder and decoder of a SegmentationModule, called on one image or several of the same size.

    Attributes:
        device: the device that it computes on.
        stride: stride of its scores, in pixels of the image.
        softmax: whether its scores are logits; otherwise, their shares of the sum over the classes are the
            probabilities.
        align_corners: how its scores are resized to the image, see `mit_semseg.models.layers.resize`.
        grid: tiles must start at multiples of this number of pixels, to align all maps inside the network
            with those of the whole image.
    """

    align_corners = False
    softmax = True

    def __init__(self, module: nn.Module, device: torch.device, *, amp: str = "none") -> None:
        """Wrap ``module`` as it is; `prepared` makes a faster network."""
        if amp not in AMP:
            raise ValueError(f"amp is {amp!r}, but takes one of {', '.join(AMP)}")
        self.module = module
        self.device = device
        self.amp = amp
        self.channels_last = False
        parts: Any = module
        strides: tuple[int, ...] = parts.encoder.strides
        self.stride = score_stride(parts.decoder, strides)
        self.softmax = getattr(parts.decoder, "softmax", True)
        self.align_corners = parts.decoder.align_corners
        self.grid = math.lcm(_LARGEST_STRIDE, *strides)

    @classmethod
    def prepared(cls, module: nn.Module, device: torch.device, *, amp: str = "none") -> "ScoringNetwork":
        """A copy of ``module`` on ``device``, folded and laid out for inference; ``module`` is not changed.

        Args:
            module: a SegmentationModule in evaluation mode. Later changes to it do not affect the copy.
            amp: ``bf16`` is less exact, and faster on CPUs and GPUs with bfloat16 arithmetic.
        """
        layer = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        generator = torch.Generator().manual_seed(0)
        channels = input_channels(module.encoder)  # type: ignore[arg-type]
        sample = torch.randn(1, channels, _SAMPLE, _SAMPLE, generator=generator)
        sample = sample.to(layer.weight.device, layer.weight.dtype)
        new = folded(module, lambda net: _logits(net, sample)).to(device)
        network = cls(new, device, amp=amp)
        if device.type == "cpu" or amp == "bf16":
            new.to(memory_format=torch.channels_last)
            network.channels_last = True
        if amp == "bf16":
            for part in new.modules():
                if isinstance(part, (nn.Conv2d, nn.Linear)):  # autocast would convert them at each call
                    part.to(torch.bfloat16)
        return network

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Unnormalized scores, (B, h / stride, w / stride, num_class) float32, contiguous.

        Args:
            image: (B, 3, h, w), uint8 RGB; or (B, C, h, w), float32 and normalized.
        """
        image = image.to(self.device, non_blocking=True)
        if image.dtype == torch.uint8:
            image = normalize(image)
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            scores = _logits(self.module, image)
        return scores.permute(0, 2, 3, 1).to(torch.float32).contiguous()


def input_channels(encoder: nn.Module) -> int:
    """The channels of the images that an encoder takes. Encoders from outside of the package take RGB."""
    channels: int = getattr(encoder, "in_channels", 3)
    return channels


def _logits(module: Any, image: Tensor) -> Tensor:
    return module.decoder.logits(features_of(module.encoder, module.decoder, image))
