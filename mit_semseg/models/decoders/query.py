"""Masks with a class each, as decoders with queries predict them, and what they say about a pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import in_float32, in_graph, resize


@dataclass(frozen=True)
class QueryScores:
    """The predictions of all queries, once for each block that training supervises; the last ones count.

    Attributes:
        masks: unnormalized scores (N, queries, h, w) each, above 0 inside a mask.
        classes: unnormalized scores (N, queries, num_class + 1) each; the last class is "no object".
        padded: (height, width) in pixels of the padded image, which the masks cover.
        size: (height, width) in pixels of the image, at the top left of the padded one.
    """

    masks: list[Tensor]
    classes: list[Tensor]
    padded: tuple[Any, Any]
    size: tuple[Any, Any]

    def pixels(self) -> Tensor:
        """The scores of the classes at each pixel of the image, (N, num_class, H, W), at least 0.

        They are the sum over queries of the probability of the mask times the probability of the class. They
        do not sum to 1 over the classes.
        """
        masks = resize(in_float32(self.masks[-1]), self.padded)
        (height, width), (padded_height, padded_width) = self.size, self.padded
        if in_graph():  # torch.export would specialize a slice to cropped or to uncropped images
            masks = F.pad(masks, (0, width - padded_width, 0, height - padded_height))
        else:
            masks = masks[..., :height, :width]
        return _summed(masks, self.classes[-1])

    @torch.no_grad()
    def labels(self, size: Sequence[int]) -> Tensor:
        """The best class at each pixel of the padded image, (N, *size), from masks that are not enlarged."""
        best = _summed(in_float32(self.masks[-1]), self.classes[-1]).argmax(1)
        rows, columns = (
            torch.arange(pixels, device=best.device) * cells // pixels
            for pixels, cells in zip(size, best.shape[1:], strict=True)
        )
        return best[:, rows[:, None], columns]

    def covered(self, label: Tensor) -> Tensor:
        """Labels (N, h, w) of the image as labels of the padded one, with -1 for what was added."""
        extra = [
            -(-side * padded // own) - side
            for side, padded, own in zip(label.shape[1:], self.padded, self.size, strict=True)
        ]
        return F.pad(label, (0, extra[1], 0, extra[0]), value=-1) if any(extra) else label


def _summed(masks: Tensor, classes: Tensor) -> Tensor:
    """(N, queries, H, W) and (N, queries, num_class + 1) -> (N, num_class, H, W)."""
    shares = in_float32(classes).softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", shares.to(masks.dtype), _sigmoid(masks))


def _sigmoid(x: Tensor) -> Tensor:
    # onnxruntime's own is wrong by up to 1e-7, which changes shares by 0.5 % where all sums are small.
    return 1 / (1 + torch.exp(-x)) if in_graph() else x.sigmoid()
