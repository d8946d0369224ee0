"""Encoder, decoder and loss as one module."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import resize


class SegmentationModule(nn.Module):
    """What the parallel wrappers, the training step and inference call.

    Args:
        net_enc: an encoder.
        net_dec: a decoder; ``use_softmax`` False for training, True for inference.
        crit: maps log-probabilities (N, C, h, w) and labels (N, h, w) to a loss; None for inference only.
        deep_sup_scale: weight of the auxiliary loss of a decoder with deep supervision; None leaves it out.
        at_label_size: enlarge the scores to the labels before loss and accuracy; otherwise both have to be of
            one size.
    """

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

    def forward(
        self, feed_dict: dict[str, Any] | list[dict[str, Any]], *, segSize: tuple[int, int] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Class probabilities if ``segSize`` is given, else the loss and the pixel accuracy.

        Args:
            feed_dict: ``img_data`` (N, 3, H, W) float, and for training ``seg_label`` (N, h, w) int64 with -1
                for pixels to ignore; further keys are not read. A list of one such dict is taken as the dict.
            segSize: (height, width) of the probabilities.

        Returns: probabilities (N, num_class, *segSize), or two 0-dim tensors (loss, pixel accuracy); the loss
            has the shape that ``crit`` gives it.
        """
        if isinstance(feed_dict, (list, tuple)):
            (feed_dict,) = feed_dict
        features = self.encoder(feed_dict["img_data"], return_feature_maps=True)
        if segSize is not None:
            return self.decoder(features, segSize=segSize)
        if self.crit is None:
            raise ValueError("crit is None: this SegmentationModule was built for inference, so pass segSize")
        prediction = self.decoder(features)
        auxiliary = None
        if isinstance(prediction, (tuple, list)):
            prediction, auxiliary = prediction
        label = feed_dict["seg_label"]
        prediction = self._for_labels(prediction, label)
        loss = self.crit(prediction, label)
        if auxiliary is not None and self.deep_sup_scale is not None:
            loss = loss + self.crit(self._for_labels(auxiliary, label), label) * self.deep_sup_scale
        return loss, self.pixel_acc(prediction, label)

    def _for_labels(self, log_probs: Tensor, label: Tensor) -> Tensor:
        """The log-probabilities that the enlarged scores have, (N, C, *label.shape[1:])."""
        if not self.at_label_size or log_probs.shape[-2:] == label.shape[-2:]:
            return log_probs
        # Log-probabilities are scores, less a number for each pixel, and enlarging keeps that so.
        return F.log_softmax(resize(log_probs, label.shape[-2:]), dim=1)

    def pixel_acc(self, pred: Tensor, label: Tensor) -> Tensor:
        """Share of the pixels with a label (0 or more) whose highest score is at it; 0 if there are none.

        Args:
            pred: scores (N, C, h, w).
            label: (N, h, w).
        """
        valid = label >= 0
        correct = (pred.argmax(1) == label) & valid
        return correct.sum().float() / valid.sum().float().clamp(min=1)
