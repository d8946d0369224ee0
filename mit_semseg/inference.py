"""Scoring images at several scales."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .scoring import (
    AMP,
    ScoringNetwork,
    Settings,
    score_confident_labels,
    score_labels,
    score_probabilities,
)

__all__ = [
    "AMP",
    "ScoringNetwork",
    "Settings",
    "predict_confident_labels",
    "predict_labels",
    "predict_probabilities",
]


def predict_labels(
    network: ScoringNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings | None = None,
) -> Tensor:
    """The class of highest probability, averaged over an image's scales, at each pixel of each image.

    The scores of all classes are never held at the size of the result, so that it may be large.

    Args:
        network: ``ScoringNetwork.prepared(module, device)``, to be used for many images.
        images: B images of one size at each scale, (B, 3, h, w), float32 and normalized, or uint8 RGB.
        size: (height, width) of the result, in pixels.
        settings: mirror image and tiles.

    Returns: (B, height, width) on the CPU, of the smallest integer type that holds all classes.
    Raises: ValueError if there are no ``images``.
    """
    return score_labels(network, images, size, settings or Settings())


def predict_confident_labels(
    network: ScoringNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings | None = None,
) -> tuple[Tensor, Tensor]:
    """As `predict_labels`, and the probability of each pixel's class, (B, height, width) float32."""
    return score_confident_labels(network, images, size, settings or Settings())


@torch.inference_mode()
def predict_probabilities(
    module: nn.Module | ScoringNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    device: torch.device | None = None,
    settings: Settings | None = None,
) -> Tensor:
    """Class probabilities of an image, averaged over its scales.

    Args:
        module: a ScoringNetwork; or any module that gives probabilities as a SegmentationModule in evaluation
            mode does, whose decoder has ``use_softmax``. It knows no ``settings``.
        images: the image at each scale, (1, 3, h, w) float32, normalized.
        size: (height, width) of the result, in pixels.
        device: of ``module``, unless it is a ScoringNetwork.

    Returns: (num_class, *size) float32 on ``device``, which sum to 1 over the classes.
    """
    if isinstance(module, ScoringNetwork):
        return score_probabilities(module, images, size, settings or Settings())[0]
    if settings is not None:
        raise ValueError("settings need a ScoringNetwork: pass ScoringNetwork.prepared(module, device)")
    total: Tensor | None = None
    for image in images:
        scores = module({"img_data": image.to(device, non_blocking=True)}, segSize=size)[0]
        total = scores if total is None else total.add_(scores)
    if total is None:
        raise ValueError("images is empty: there is no scale to score")
    return total.div_(len(images))
