"""From images at one scale to class scores at the network's stride."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..data.images import normalize
from .fold import folded

AMP = ("none", "bf16")
"""Kinds of arithmetic: float32 throughout, or convolutions and matrix products in bfloat16."""

_LARGEST_STRIDE = 32  # of any map inside the encoders, which may be coarser than those that they give out
_SAMPLE = 64  # pixels a side, of the image that folding is checked with


class ScoringNetwork:
    """A SegmentationModule's encoder and decoder, called on one image or on several of one size.

    Attributes:
        device: where it computes.
        stride: of its scores, in pixels of the image.
        grid: pixels that a tile's place has to be a multiple of, so that all maps inside fall on the same
            places as in the whole image.
    """

    def __init__(self, module: nn.Module, device: torch.device, *, amp: str = "none") -> None:
        """A network that computes as ``module`` does now; `prepared` makes a faster one."""
        if amp not in AMP:
            raise ValueError(f"amp is {amp!r}, but takes one of {', '.join(AMP)}")
        self.module = module
        self.device = device
        self.amp = amp
        self.channels_last = False
        parts: Any = module
        strides: tuple[int, ...] = parts.encoder.strides
        self.stride = strides[parts.decoder.output_map]
        self.grid = math.lcm(_LARGEST_STRIDE, *strides)

    @classmethod
    def prepared(cls, module: nn.Module, device: torch.device, *, amp: str = "none") -> "ScoringNetwork":
        """A copy of ``module`` on ``device``, folded and laid out for inference; ``module`` stays as it is.

        Args:
            module: a SegmentationModule in evaluation mode. Later changes of it do not reach the copy.
            amp: ``bf16`` is faster on CPUs and GPUs that have bfloat16 arithmetic, and less exact.
        """
        layer = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
        generator = torch.Generator().manual_seed(0)
        sample = torch.randn(1, 3, _SAMPLE, _SAMPLE, generator=generator)
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
            image: (B, 3, h, w), float32 and normalized, or uint8 RGB.
        """
        image = image.to(self.device, non_blocking=True)
        if image.dtype == torch.uint8:
            image = normalize(image)
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            scores = _logits(self.module, image)
        return scores.permute(0, 2, 3, 1).to(torch.float32).contiguous()


def _logits(module: Any, image: Tensor) -> Tensor:
    return module.decoder.logits(module.encoder(image, return_feature_maps=True))
