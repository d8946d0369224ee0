"""Scoring one image at several scales."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.inference_mode()
def predict_probabilities(
    module: nn.Module, images: Sequence[Tensor], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Class probabilities of an image, averaged over its scales.

    Args:
        module: a SegmentationModule in evaluation mode, whose decoder has ``use_softmax``.
        images: the image at each scale, (1, 3, h, w) float32, normalized.
        size: (height, width) of the result, in pixels.

    Returns: (num_class, *size) float32 on ``device``, which sum to 1 over the classes.
    """
    total: Tensor | None = None
    for image in images:
        scores = module({"img_data": image.to(device, non_blocking=True)}, segSize=size)[0]
        total = scores if total is None else total.add_(scores)
    if total is None:
        raise ValueError("images is empty: there is no scale to score")
    return total.div_(len(images))
