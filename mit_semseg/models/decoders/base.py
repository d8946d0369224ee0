"""The base of all decoders, which turns class scores into log-probabilities or probabilities."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ..layers import channel_dropout, conv_bn_relu, in_float32, resize, resize_like


class Style(NamedTuple):
    """Options of a decoder's inner layers, by default those of the published model.

    Every decoder with inner layers reads the first three; ``Decoder.options`` names the others that it reads.

    Attributes:
        dim: channels of its inner maps; 0 for the published width.
        dropout: probability of dropping a channel before a classifier; negative for the published one.
        norm: a key of ``mit_semseg.models.layers.NORMS``.
        align_corners: align the centres of the corner pixels, not the areas of pixels, when maps are resized.
        maps: indices of the encoder maps that it reads; () for those that the decoder reads by itself.
        pool_scales: sides of the grids that a map is pooled to, in cells; () for the published ones.
        relu_first: apply BatchNorm and ReLU to pooled maps before they are enlarged, not after.
        convs, kernel_size, dilation: of the convolutions before the classifier.
        concat_input: add the input of these convolutions to their output, by one more convolution.
        dilations: of the parallel convolutions.
        low_dim: channels that the finest map is reduced to; 0 for the published 48, or fewer for a small dim.
        norm_maps: apply BatchNorm and ReLU to the projection of each map.
        aux_dim: channels of the auxiliary classifier's inner map; 0 for ``dim``.
        aux_map: index of the encoder map that the auxiliary classifier reads.
        queries: number of masks that are predicted for an image.
        joint_blocks: last blocks of the encoder, which the queries pass through.
        upscales: doublings of the map of patches, from which masks are predicted.
    """

    dim: int = 0
    dropout: float = -1.0
    norm: str = "batch"
    align_corners: bool = False
    maps: tuple[int, ...] = ()
    pool_scales: tuple[int, ...] = ()
    relu_first: bool = False
    convs: int = 2
    kernel_size: int = 3
    dilation: int = 1
    concat_input: bool = True
    dilations: tuple[int, ...] = (1, 12, 24, 36)
    low_dim: int = 0
    norm_maps: bool = False
    aux_dim: int = 0
    aux_map: int = -2
    queries: int = 100
    joint_blocks: int = 4
    upscales: int = 2


PUBLISHED_STYLE = Style()


class Decoder(nn.Module):
    """From an encoder's feature maps to class probabilities.

    A subclass implements :meth:`logits`, and :meth:`aux_logits` too if it is trained with deep supervision.
    A decoder with queries also has its own :meth:`features`, in which it runs the encoder.

    Args:
        channels: of the encoder's maps, finest first.
        num_class: number of classes.
        use_softmax: True for inference, False for training; see :meth:`forward`.
        style: of its inner layers.

    Attributes:
        min_maps: least number of encoder maps.
        output_map: index of the encoder map with the stride of the scores; see `stride_map`.
        fixed_stride: stride of the scores, if it is not that of a map; 0 if it is.
        deep_supervision: whether it has an auxiliary output.
        published_dropout: dropout of the published model.
        softmax: whether the scores are logits, of which softmax makes probabilities. Otherwise they are at
            least 0, and their shares of the sum over the classes are probabilities.
        options: fields of `Style` that the class reads besides ``dim``, ``dropout`` and ``norm``, and besides
            those of its base classes.
    """

    options: ClassVar[tuple[str, ...]] = ()
    min_maps = 1
    output_map = -1
    fixed_stride = 0
    deep_supervision = False
    published_dropout = 0.0
    softmax = True

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
        self.align_corners = style.align_corners
        self.maps = style.maps
        self.output_map = self.stride_map(style)
        for index in style.maps:
            if not -len(channels) <= index < len(channels):
                raise ValueError(f"maps contains {index}, but the encoder has {len(channels)} maps")

    @classmethod
    def stride_map(cls, style: Style) -> int:
        """Index of the encoder map with the stride of the scores: the first of ``style.maps``, if given."""
        return style.maps[0] if style.maps else cls.output_map

    @classmethod
    def stride_of(cls, strides: tuple[int, ...], style: Style = PUBLISHED_STYLE) -> int:
        """The stride of the scores, from those of the encoder's maps."""
        return cls.fixed_stride or strides[cls.stride_map(style)]

    @classmethod
    def min_batch(cls, style: Style = PUBLISHED_STYLE) -> int:
        """The least number of images over all devices that its BatchNorms need in training.

        It is 2 if one of them gets one value per channel and image: a single value has no variance.
        """
        return 1

    @classmethod
    def query_count(cls, style: Style = PUBLISHED_STYLE) -> int:
        """The number of queries; 0 for a decoder that gives each pixel its scores directly."""
        return 0

    @classmethod
    def obstacle(cls, encoder: nn.Module, style: Style = PUBLISHED_STYLE) -> str:
        """Why the decoder cannot be used with an encoder, as a predicate; "" if it can."""
        return ""

    def set_annealing(self, shares: Sequence[float]) -> None:
        """When the masks of the attention are lifted, see ``TRAIN.mask_annealing``; () for the default.

        Raises: UserError if the decoder cannot follow it.
        """
        if shares:
            raise UserError(
                "TRAIN.mask_annealing is set, but only the decoder eomt has masks of the attention. Set it "
                "to ()."
            )

    def set_progress(self, share: float) -> None:
        """Prepare for an iteration of the training, of which this share has passed."""

    def features(self, encoder: nn.Module, images: Tensor) -> Any:
        """What :meth:`logits` and :meth:`forward` take: the encoder's maps of images (N, C, H, W)."""
        return encoder(images, return_feature_maps=True)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Scores (N, num_class, H, W) as probabilities, which sum to 1 over the classes."""
        return F.softmax(scores, 1) if self.softmax else scores / scores.sum(1, keepdim=True)

    def resize(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """``x`` (N, C, H, W) resized to ``size`` in the way of this decoder."""
        return resize(x, size, self.align_corners)

    def joined(self, features: list[Tensor]) -> Tensor:
        """The map that a decoder of a single map reads.

        It is the last one, or those that the option ``maps`` names, resized to the first of them and
        concatenated.
        """
        if not self.maps:
            return features[-1]
        first, *others = (features[index] for index in self.maps)
        return torch.cat([first, *(self.resize(x, first.shape[-2:]) for x in others)], 1) if others else first

    def logits(self, features: list[Tensor]) -> Tensor:
        """Unnormalized scores (N, num_class, h, w)."""
        raise NotImplementedError

    def aux_logits(self, features: list[Tensor]) -> Tensor:
        """Scores from an earlier map, for the auxiliary loss of deep supervision."""
        raise NotImplementedError

    def forward(
        self, conv_out: list[Tensor], segSize: tuple[int, int] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Probabilities for inference, log-probabilities for training.

        Args:
            conv_out: the encoder's maps, finest first.
            segSize: (height, width) of the probabilities; None keeps the size of the scores.

        Returns: with ``use_softmax``, probabilities (N, num_class, *segSize) that sum to 1 over the classes;
            otherwise log-probabilities (N, num_class, h, w). With deep supervision, a pair (main, auxiliary)
            of the same size.
        """
        scores = in_float32(self.logits(conv_out))
        if self.use_softmax:
            return self.probabilities(scores if segSize is None else self.resize(scores, segSize))
        main = F.log_softmax(scores, dim=1)
        if not self.deep_supervision:
            return main
        # The auxiliary scores come from a finer map if the encoder has no dilation.
        aux = resize_like(in_float32(self.aux_logits(conv_out)), scores, self.align_corners)
        return main, F.log_softmax(aux, dim=1)


class Auxiliary(Decoder):
    """Deep supervision: adds an auxiliary classifier on the last map but one, which only training uses.

    It is a mixin: list it before another decoder among the bases of a class.

    Source: Zhao et al. 2017, Pyramid Scene Parsing Network, section 3.3.

    Shape: features[-2] (N, channels[-2], H, W) -> auxiliary logits (N, num_class, H, W).
    """

    options: ClassVar[tuple[str, ...]] = ("aux_dim", "aux_map")
    min_maps = 2
    deep_supervision = True

    def __init__(
        self,
        channels: tuple[int, ...],
        num_class: int,
        use_softmax: bool = False,
        style: Style = PUBLISHED_STYLE,
    ) -> None:
        super().__init__(channels, num_class, use_softmax, style)
        if not -len(channels) <= style.aux_map < len(channels):
            raise ValueError(f"aux_map is {style.aux_map}, but the encoder has {len(channels)} maps")
        self.aux_map = style.aux_map
        width = style.aux_dim or style.dim or channels[-1] // 4
        self.cbr_deepsup = conv_bn_relu(channels[self.aux_map], width, norm=style.norm)
        self.dropout_deepsup = channel_dropout(self.drop_rate)
        self.conv_last_deepsup = nn.Conv2d(width, num_class, 1)

    def aux_logits(self, features: list[Tensor]) -> Tensor:
        return self.conv_last_deepsup(self.dropout_deepsup(self.cbr_deepsup(features[self.aux_map])))


def joined_channels(channels: tuple[int, ...], style: Style) -> int:
    """The channels of the map that `Decoder.joined` returns."""
    return sum(channels[index] for index in style.maps) if style.maps else channels[-1]


def score_stride(decoder: Any, strides: tuple[int, ...]) -> int:
    """The stride of the scores of a decoder, also of a module of the user that has only ``output_map``."""
    return getattr(decoder, "fixed_stride", 0) or strides[decoder.output_map]


def features_of(encoder: nn.Module, decoder: nn.Module, images: Tensor) -> Any:
    """What a decoder takes, see `Decoder.features`, also for a module of the user that is no `Decoder`."""
    if isinstance(decoder, Decoder):
        return decoder.features(encoder, images)
    return encoder(images, return_feature_maps=True)
