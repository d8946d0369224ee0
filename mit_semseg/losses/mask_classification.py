"""The loss of decoders with queries: each class of an image is assigned to the query that fits it best.

Source: Cheng et al. 2022, Masked-attention Mask Transformer for Universal Image Segmentation, section 3.3,
with the weights of Kerssies et al. 2025, Your ViT is Secretly an Image Segmentation Model.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Loss, in_float32

_MASK, _DICE, _CLASS = 5.0, 5.0, 2.0  # weights, in the loss and in the cost of an assignment
_NO_OBJECT = 0.1  # weight of a query without a class in the loss of the classes
_POINTS = 12544  # of a mask, at which it is compared
_OVERSAMPLED = 3.0  # random points for each one that is chosen among them
_UNCERTAIN = 0.75  # share of the points that are chosen where the prediction is closest to 0


class _Scores(Protocol):
    """See `mit_semseg.models.decoders.query.QueryScores`."""

    masks: list[Tensor]
    classes: list[Tensor]


class MaskClassification(Loss):
    """Cross-entropy and dice of the assigned masks, and cross-entropy of all queries' classes.

    The target of an image is one mask for each class that occurs in it. The Hungarian algorithm assigns each
    to a query; the other queries learn to predict "no object". Masks are compared at points: at random ones
    for the assignment, and for the loss at those of many random ones where the prediction is least certain,
    plus some others. If a label has no more pixels than there are points, all pixels are compared instead.
    Pixels without a label belong to no mask. An image without any label is ignored.

    ``loss(scores, label)`` takes `QueryScores` and labels (N, h, w) of the padded image. It
    returns (2,): the sum over all masks, whose units are the masks, and the sum over all queries, whose units
    are their weights. Each of the predictions in ``scores`` adds its own.

    Args:
        queries: their number for each image.
    """

    parts = 2

    options = ("queries",)

    def __init__(self, queries: int) -> None:
        super().__init__()
        self.queries = queries

    def units(self, label: Tensor) -> Tensor:
        masks, images = 0, 0
        for classes in _classes(label):
            masks += min(len(classes), self.queries)
            images += bool(len(classes))
        others = images * self.queries - masks
        return torch.tensor([masks, masks + _NO_OBJECT * others], dtype=torch.float64, device=label.device)

    def forward(self, scores: _Scores, label: Tensor) -> Tensor:  # type: ignore[override]
        with torch.autocast(label.device.type, enabled=False):
            total = in_float32(scores.masks[0].new_zeros(2))
            present = _classes(label)
            for masks, classes in zip(scores.masks, scores.classes, strict=True):
                total = total + self._of_block(in_float32(masks), in_float32(classes), label, present)
            return total

    def _of_block(self, masks: Tensor, classes: Tensor, label: Tensor, present: Sequence[Tensor]) -> Tensor:
        """The sums (2,) of the predictions of one block."""
        # Every prediction takes part, so that each parameter has a gradient in each step.
        of_masks, of_classes = masks.sum() * 0, classes.sum() * 0
        no_object = classes.shape[-1] - 1
        for image, own in enumerate(present):
            if not len(own):
                continue
            target = (label[image] == own[:, None, None]).to(masks.dtype)
            chosen, true = _assigned(masks[image], classes[image], target, own)
            wanted = torch.full_like(classes[image, :, 0], no_object, dtype=torch.long)
            wanted[chosen] = own[true]
            weights = torch.where(wanted == no_object, _NO_OBJECT, 1.0)
            of_queries = F.cross_entropy(classes[image], wanted, reduction="none")
            of_classes = of_classes + _CLASS * (weights * of_queries).sum()
            given, truth = _compared(masks[image, chosen], target[true])
            entropy = F.binary_cross_entropy_with_logits(given, truth, reduction="none").mean(1)
            of_masks = of_masks + (_MASK * entropy + _DICE * _dice(given, truth)).sum()
        return torch.stack([of_masks, of_classes])


def _classes(label: Tensor) -> list[Tensor]:
    """The classes that occur in each image, ascending."""
    return [each[each >= 0] for each in (image.unique() for image in label)]


@torch.no_grad()
def _assigned(masks: Tensor, classes: Tensor, target: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The assignment of least cost: the queries, and the index of the target of each.

    Args:
        masks, classes: of one image, (Q, h, w) and (Q, num_class + 1).
        target: (M, H, W), 1 inside and 0 outside.
        own: the class of each target, (M,).
    """
    from scipy.optimize import linear_sum_assignment

    points = None
    if target[0].numel() > _POINTS:
        points = torch.rand(1, _POINTS, 2, device=masks.device)
    given, truth = _at(masks, points, target.shape[1:]), _at(target, points, target.shape[1:])
    pixels = given.shape[1]
    entropy = (F.softplus(-given) @ truth.T + F.softplus(given) @ (1 - truth).T) / pixels
    likely = given.sigmoid()
    overlap = 2 * likely @ truth.T
    dice = 1 - (overlap + 1) / (likely.sum(1)[:, None] + truth.sum(1) + 1)
    cost = _MASK * entropy + _DICE * dice - _CLASS * classes.softmax(1)[:, own]
    largest = torch.finfo(cost.dtype).max / 2**20  # sums of it are finite, too
    cost = cost.nan_to_num(largest, largest, -largest)
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return tuple(torch.from_numpy(each).to(masks.device) for each in (rows, columns))  # type: ignore[return-value]


def _compared(masks: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (M, h, w) and their targets (M, H, W) at the pixels or points of the loss, (M, P) each."""
    size = target.shape[1:]
    if target[0].numel() <= _POINTS:
        return _at(masks, None, size), _at(target, None, size)
    with torch.no_grad():
        count = len(masks)
        tried = torch.rand(count, int(_POINTS * _OVERSAMPLED), 2, device=masks.device)
        certain = _at(masks, tried, size).abs()
        best = certain.topk(int(_POINTS * _UNCERTAIN), 1, largest=False).indices
        chosen = tried.gather(1, best[..., None].expand(-1, -1, 2))
        others = torch.rand(count, _POINTS - chosen.shape[1], 2, device=masks.device)
        points = torch.cat([chosen, others], 1)
        truth = _at(target, points, size)
    return _at(masks, points, size), truth


def _at(masks: Tensor, points: Tensor | None, size: Sequence[int]) -> Tensor:
    """The values of masks (M, h, w) at points (1 or M, P, 2) from 0 to 1, or at all pixels of ``size``.

    Returns: (M, P), interpolated between pixels.
    """
    if points is None:
        if masks.shape[1:] == tuple(size):
            return masks.flatten(1)
        return F.interpolate(masks[None], tuple(size), mode="bilinear")[0].flatten(1)
    places = 2 * points.to(masks.dtype).expand(len(masks), -1, -1)[:, :, None] - 1
    return F.grid_sample(masks[:, None], places, align_corners=False)[:, 0, :, 0]


def _dice(masks: Tensor, target: Tensor) -> Tensor:
    """1 minus the dice coefficient of each mask, (M, P) -> (M,)."""
    likely = masks.sigmoid()
    return 1 - (2 * (likely * target).sum(1) + 1) / (likely.sum(1) + target.sum(1) + 1)
