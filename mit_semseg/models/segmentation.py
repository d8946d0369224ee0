"""Encoder, decoder and loss as one module."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..lib.nn import async_copy_to
from .decoders.base import Decoder, features_of
from .decoders.query import QueryScores
from .layers import resize


class SegmentationModuleBase(nn.Module):
    """The base of modules that are trained on labelled images."""

    def pixel_acc(self, pred: Tensor, label: Tensor) -> Tensor:
        """Share of the labelled pixels whose highest score is that of their label; 0 if none is labelled.

        Args:
            pred: scores (N, C, h, w).
            label: (N, h, w); -1 means no label.
        """
        return _share(_correct_pixels(pred, label), label)


class SegmentationModule(SegmentationModuleBase):
    """The module that the parallel wrappers, the training step and inference call.

    Args:
        net_enc: an encoder.
        net_dec: a decoder; ``use_softmax`` False for training, True for inference.
        crit: maps log-probabilities (N, C, h, w) and labels (N, h, w) to a loss, or `QueryScores` in place of
            the former; None for inference only.
        deep_sup_scale: weight of the auxiliary loss of a decoder with deep supervision; None omits that loss.
        at_label_size: resize the scores to the labels before loss and accuracy. Without it, both must have
            the same size.

    Attributes:
        teacher: a function, not an ``nn.Module``, from ``img_data`` and a size to probabilities
            (N, C, *size). ``crit`` gets them as its third argument. If it is None, the default, ``crit`` gets
            scores and labels only. The state of the module does not contain it.
    """

    teacher: Callable[[Tensor, tuple[int, int]], Tensor] | None = None

    def __init__(
        self,
        net_enc: nn.Module,
        net_dec: nn.Module,
        crit: nn.Module | None,
        deep_sup_scale: float | None = None,
        *,
        at_label_size: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = net_enc
        self.decoder = net_dec
        self.crit = crit
        self.deep_sup_scale = deep_sup_scale
        self.at_label_size = at_label_size

    def set_annealing(self, shares: Sequence[float]) -> None:
        """See `Decoder.set_annealing`. Raises: UserError."""
        if isinstance(self.decoder, Decoder):
            self.decoder.set_annealing(shares)

    def set_progress(self, share: float) -> None:
        """Tell the decoder the share of the training that has passed, before each iteration."""
        if isinstance(self.decoder, Decoder):
            self.decoder.set_progress(share)

    def forward(
        self,
        feed_dict: dict[str, Any] | list[dict[str, Any]],
        *,
        segSize: tuple[int, int] | None = None,
        count_correct: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Class probabilities if ``segSize`` is given, else the loss and the pixel accuracy.

        Args:
            feed_dict: ``img_data`` (N, C, H, W) float, and for training ``seg_label`` (N, h, w) int64 with -1
                for pixels to ignore; other keys are not read. It may come in a list, as from a loader with
                `user_scattered_collate`; its tensors are then copied to the device of the module.
            segSize: (height, width) of the probabilities.
            count_correct: return the number of correct pixels in place of the accuracy. Numbers of several
                devices can be added, accuracies cannot.

        Returns: probabilities (N, num_class, *segSize), or the loss in the shape that ``crit`` gives it and
            the 0-dim accuracy or number.
        """
        batch = self._unpacked(feed_dict) if isinstance(feed_dict, (list, tuple)) else feed_dict
        features = features_of(self.encoder, self.decoder, batch["img_data"])
        if segSize is not None:
            return self.decoder(features, segSize=segSize)
        if self.crit is None:
            raise ValueError("crit is None: this SegmentationModule was built for inference, so pass segSize")
        prediction = self.decoder(features)
        auxiliary = None
        if isinstance(prediction, (tuple, list)):
            prediction, auxiliary = prediction
        label = batch["seg_label"]
        if isinstance(prediction, QueryScores):
            return self._of_queries(prediction, label, count_correct)
        prediction = self._for_labels(prediction, label)
        taught = () if self.teacher is None else (self.teacher(batch["img_data"], tuple(label.shape[-2:])),)
        loss = self.crit(prediction, label, *taught)
        if auxiliary is not None and self.deep_sup_scale is not None:
            loss = loss + self.crit(self._for_labels(auxiliary, label), label, *taught) * self.deep_sup_scale
        if count_correct:
            return loss, _correct_pixels(prediction, label)
        return loss, self.pixel_acc(prediction, label)

    def _of_queries(
        self, prediction: QueryScores, label: Tensor, count_correct: bool
    ) -> tuple[Tensor, Tensor]:
        assert self.crit is not None
        label = prediction.covered(label)
        correct = ((prediction.labels(label.shape[1:]) == label) & (label >= 0)).sum()
        return self.crit(prediction, label), correct if count_correct else _share(correct, label)

    def _unpacked(self, batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The dict in a list of one, on the device of the module."""
        (feed_dict,) = batch
        parameter = next(self.parameters(), None)
        return feed_dict if parameter is None else async_copy_to(feed_dict, parameter.device)

    def _for_labels(self, log_probs: Tensor, label: Tensor) -> Tensor:
        """The log-probabilities of the scores resized to the labels, (N, C, *label.shape[1:])."""
        if not self.at_label_size or log_probs.shape[-2:] == label.shape[-2:]:
            return log_probs
        # Log-probabilities are the scores minus a number for each pixel, also after both are resized.
        align_corners = getattr(self.decoder, "align_corners", False)  # a decoder of the user may lack it
        return F.log_softmax(resize(log_probs, label.shape[-2:], align_corners), dim=1)


def _share(correct: Tensor, label: Tensor) -> Tensor:
    """A number of correct pixels as a share of the labelled ones; 0 if none is labelled."""
    return correct.float() / (label >= 0).sum().float().clamp(min=1)


def _correct_pixels(pred: Tensor, label: Tensor) -> Tensor:
    """Number of labelled pixels whose highest score is that of their label, 0-dim int64."""
    # On a CPU, argmax over the classes takes six times as long as max.
    return ((pred.max(1).indices == label) & (label >= 0)).sum()
