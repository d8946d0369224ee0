"""The model of a config: an encoder and a decoder that fit together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .builder import ALL_DECODERS, DECODERS, ModelBuilder, decoder_style, is_timm, look_up
from .decoders.base import Decoder
from .input_channels import RGB


@dataclass(frozen=True)
class ModelSpec:
    """An encoder and a decoder by name, with all parameters of their shapes.

    Attributes:
        fc_dim: channels of the encoder's last map; ignored for an encoder of timm.
        label_stride: stride at which labels are compared with the decoder's scores.
        output_stride: see `ModelBuilder.build_encoder`.
        decoder_dim, decoder_dropout, decoder_norm: see `ModelBuilder.build_decoder`.
        encoder_options, decoder_options: see `mit_semseg.models.options`.
        in_channels: channels of the images.
    """

    arch_encoder: str
    arch_decoder: str
    num_class: int
    fc_dim: int
    label_stride: int
    output_stride: int = 0
    decoder_dim: int = 0
    decoder_dropout: float = -1.0
    decoder_norm: str = "batch"
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    decoder_options: Mapping[str, Any] = field(default_factory=dict)
    in_channels: int = RGB

    def check(self) -> None:
        """Check that the model can be built, before any weights are read.

        Raises: UserError if it cannot; see `check_pair`.
        """
        with torch.device("meta"):  # no memory, no random numbers
            encoder = ModelBuilder.build_encoder(
                self.arch_encoder,
                imagenet=False,
                output_stride=self.output_stride,
                options=self.encoder_options,
                in_channels=self.in_channels,
            )
            check_pair(
                encoder,
                self.arch_encoder,
                self.arch_decoder,
                self.fc_dim,
                self.label_stride,
                self.decoder_options,
            )
            self._decoder(encoder, "", use_softmax=True, reset_classifier=False)

    def build(
        self,
        weights: tuple[str, str] = ("", ""),
        *,
        use_softmax: bool,
        imagenet: bool = False,
        reset_classifier: bool = False,
        adapt: bool = False,
    ) -> tuple[nn.Module, Decoder]:
        """The encoder and the decoder, on the CPU.

        Args:
            weights: checkpoints of encoder and decoder; "" for random weights.
            use_softmax: True for inference, False for training.
            imagenet: start the encoder from ImageNet's weights if it has no checkpoint.
            reset_classifier: see `ModelBuilder.build_decoder`.
            adapt: see `ModelBuilder.build_encoder`.
        """
        encoder = ModelBuilder.build_encoder(
            self.arch_encoder,
            weights=weights[0],
            imagenet=imagenet,
            output_stride=self.output_stride,
            options=self.encoder_options,
            in_channels=self.in_channels,
            adapt=adapt,
        )
        return encoder, self._decoder(encoder, weights[1], use_softmax, reset_classifier)

    def _decoder(
        self, encoder: nn.Module, weights: str, use_softmax: bool, reset_classifier: bool
    ) -> Decoder:
        return ModelBuilder.build_decoder(
            self.arch_decoder,
            num_class=self.num_class,
            weights=weights,
            use_softmax=use_softmax,
            channels=encoder.channels,  # type: ignore[arg-type]
            dim=self.decoder_dim,
            dropout=self.decoder_dropout,
            norm=self.decoder_norm,
            reset_classifier=reset_classifier,
            options=self.decoder_options,
        )


def check_pair(
    encoder: nn.Module,
    arch_encoder: str,
    arch_decoder: str,
    fc_dim: int,
    rate: int,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Check that an encoder and a decoder fit together, and that the config has their channels and stride.

    Args:
        encoder: the encoder named ``arch_encoder``.
        fc_dim: channels of the encoder's last map, from the config; ignored for an encoder of timm.
        rate: stride at which labels are compared with the decoder's scores, from the config.
        options: see `ModelBuilder.build_decoder`.

    Raises: UserError, with the value to set, if they do not.
    """
    channels: tuple[int, ...] = encoder.channels  # type: ignore[assignment]
    strides: tuple[int, ...] = encoder.strides  # type: ignore[assignment]
    name, decoder = look_up(arch_decoder, ALL_DECODERS, "MODEL.arch_decoder", "decoder")
    style = decoder_style(name, options=options)
    if obstacle := decoder.obstacle(encoder, style):
        raise UserError(
            f"Decoder {name} {obstacle}. MODEL.arch_encoder is {arch_encoder}: set another one, or another "
            "MODEL.arch_decoder."
        )
    if len(channels) < decoder.min_maps:
        others = ", ".join(other for other in DECODERS if DECODERS[other].min_maps <= len(channels))
        raise UserError(
            f"Decoder {name} needs {decoder.min_maps} feature maps or more, but encoder {arch_encoder} gives "
            f"{len(channels)}. Set MODEL.arch_decoder to one of {others}, or take another encoder."
        )
    if fc_dim != channels[-1] and not is_timm(arch_encoder):
        raise UserError(
            f"MODEL.fc_dim is {fc_dim}, but {arch_encoder} ends with {channels[-1]} channels. "
            f"Set MODEL.fc_dim {channels[-1]}."
        )
    index = decoder.stride_map(style)
    if not -len(strides) <= index < len(strides):
        raise UserError(
            f"MODEL.decoder_options: maps begins with {index}, but {arch_encoder} gives {len(strides)} maps."
        )
    stride = decoder.stride_of(strides, style)
    if rate != stride:
        raise UserError(
            f"DATASET.segm_downsampling_rate is {rate}, but {name} on {arch_encoder} predicts at stride "
            f"{stride}. Set DATASET.segm_downsampling_rate {stride}."
        )
