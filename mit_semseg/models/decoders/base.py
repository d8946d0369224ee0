"""What all decoders share: the way from class scores to what training and inference want."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import resize


class Style(NamedTuple):
    """What of a decoder's inner layers may differ from the published model.

    Attributes:
        dim: channels of its inner maps; 0 for the published width.
        dropout: probability of dropping a channel before a classifier; negative for the published one.
        norm: a key of ``mit_semseg.models.layers.NORMS``.
    """

    dim: int = 0
    dropout: float = -1.0
    norm: str = "batch"


PUBLISHED_STYLE = Style()


class Decoder(nn.Module):
    """From an encoder's feature maps to class probabilities.

    A subclass implements :meth:`logits`, and :meth:`aux_logits` too if it is trained with deep supervision.

    Args:
        channels: of the encoder's maps, finest first.
        num_class: classes to tell apart.
        use_softmax: True for inference, False for training; see :meth:`forward`.
        style: of its inner layers.

    Attributes:
        min_maps: how many maps of the encoder it needs at least.
        min_batch: how many images, over all devices, its BatchNorms need at least in training.
        output_map: index of the map whose stride its scores have.
        deep_supervision: whether it has an auxiliary output.
        published_dropout: of the model as it was published.
    """

    min_maps = 1
    min_batch = 1
    output_map = -1
    deep_supervision = False
    published_dropout = 0.0

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__()
        self.use_softmax = use_softmax
        self.drop_rate = style.dropout if style.dropout >= 0 else self.published_dropout

    def logits(self, features: list[Tensor]) -> Tensor:
        """Unnormalized scores (N, num_class, h, w)."""
        raise NotImplementedError

    def aux_logits(self, features: list[Tensor]) -> Tensor:
        """The same from an earlier map, for the auxiliary loss of deep supervision."""
        raise NotImplementedError

    def forward(
        self, conv_out: list[Tensor], segSize: tuple[int, int] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Probabilities for inference, log-probabilities for training.

        Args:
            conv_out: the encoder's maps, finest first.
            segSize: (height, width) of the result of inference; None keeps the size of the scores.

        Returns: with ``use_softmax``, probabilities (N, num_class, *segSize) that sum to 1 over the classes;
            otherwise log-probabilities (N, num_class, h, w), a pair of them (main, auxiliary), of the same
            size, with deep supervision.
        """
        scores = _in_float32(self.logits(conv_out))
        if self.use_softmax:
            return F.softmax(scores if segSize is None else resize(scores, segSize), dim=1)
        main = F.log_softmax(scores, dim=1)
        if not self.deep_supervision:
            return main
        aux = _in_float32(self.aux_logits(conv_out))
        if aux.shape[-2:] != scores.shape[-2:]:  # of a finer map, in an encoder without dilation
            aux = resize(aux, scores.shape[-2:])
        return main, F.log_softmax(aux, dim=1)


def _in_float32(scores: Tensor) -> Tensor:
    """Scores in float32 or more, because under autocast 16 bits would be too few for probabilities."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
