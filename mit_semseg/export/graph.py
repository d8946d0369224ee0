"""The exported graph: from pixels to labels and scores."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ..data.bands import Bands
from ..data.images import scale_and_shift
from ..models.decoders.base import features_of

INPUT = "image"
LABELS, LOGITS, SCORES = "labels", "logits", "scores"
_MOST_UINT8 = 255  # classes whose labels are stored in 8 bits; the value 255 stays free for "no class"


class ExportGraph(nn.Module):
    """Normalization, network, upsampling and the choice of the class.

    Shape: uint8 RGB (N, 3, H, W), or with bands float32 (N, C, H, W), the values of the selected bands as in
        the files, NaN where there is none -> a tuple in the order of `outputs`:
        ``labels`` (N, H, W), the class with the highest score (`threshold` favours one of two): uint8, or
        int32 for more than 255 classes;
        ``logits`` (N, num_class, h, w) float32, unnormalized, at the network's stride;
        with ``scores``, also probabilities (N, num_class, H, W) float32.

    Args:
        encoder, decoder: in evaluation mode and float32. They are copied.
        num_class: the number of classes.
        scores: whether probabilities are an output.
        threshold: with two classes, the probability from which a pixel belongs to the second one.
        bands: of the images; None for 8-bit RGB.
    """

    scale: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor
    mean: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        num_class: int,
        *,
        scores: bool,
        threshold: float = 0.5,
        bands: Bands | None = None,
    ) -> None:
        super().__init__()
        self.bands = bands
        self.encoder = _for_export(encoder)
        self.decoder = _for_export(decoder)
        self.label_type = torch.uint8 if num_class <= _MOST_UINT8 else torch.int32
        self.scores = scores
        self.threshold = threshold
        self.least_lead = _log_odds(threshold) if num_class == 2 and threshold != 0.5 else None
        factors = scale_and_shift(torch.device("cpu")) if bands is None else bands.scale_and_shift()
        for name, value in zip(("scale", "shift"), factors, strict=True):
            self.register_buffer(name, value.clone())
        if bands is not None:
            for name in ("low", "high", "mean"):
                self.register_buffer(name, torch.tensor(getattr(bands, name)).view(-1, 1, 1))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in their order."""
        return (LABELS, LOGITS, SCORES) if self.scores else (LABELS, LOGITS)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        decoder: Any = self.decoder
        x = image.to(torch.float32)
        if self.bands is not None:
            x = torch.where(torch.isnan(x), self.mean, x)
            x = torch.minimum(torch.maximum(x, self.low), self.high)
        x = x * self.scale - self.shift  # as `normalize`
        logits = decoder.logits(features_of(self.encoder, self.decoder, x))
        full = self.full(logits, image.shape[-2:])
        results = self._choose(full).to(self.label_type), logits
        return (*results, decoder.probabilities(full)) if self.scores else results

    def full(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        """The scores of an image of ``size`` (height, width)."""
        decoder: Any = self.decoder
        resized: Tensor = decoder.resize(logits, size)
        return resized

    def _choose(self, scores: Tensor) -> Tensor:
        if self.least_lead is None:
            return scores.argmax(1)
        return self._lead(scores) >= 0

    def _lead(self, scores: Tensor) -> Tensor:
        """How far the second of two classes is above its threshold, in units of the scores."""
        assert self.least_lead is not None
        decoder: Any = self.decoder
        first, second = scores[:, 0], scores[:, 1]
        if decoder.softmax:
            return second - first - self.least_lead
        return second - self.threshold * (first + second)

    def margin(self, scores: Tensor) -> Tensor:
        """How much scores (N, num_class, H, W) may change before another class is chosen, (N, H, W)."""
        if self.least_lead is None:
            top = scores.topk(min(2, scores.shape[1]), 1).values
            return top[:, 0] - top[:, -1]
        return self._lead(scores).abs()


def _log_odds(probability: float) -> float:
    """The lead of the second of two scores at which softmax gives it this probability."""
    return math.log(probability / (1 - probability))


def _for_export(part: nn.Module) -> nn.Module:
    """A copy on the CPU in the layout and with the operations that exporters know best."""
    new = copy.deepcopy(part).cpu().to(memory_format=torch.contiguous_format).eval()
    for layer in new.modules():
        if getattr(layer, "fused_attn", False):  # timm: the exporter fails on some shapes of the fused kernel
            layer.fused_attn = False  # type: ignore[assignment]
    return new
