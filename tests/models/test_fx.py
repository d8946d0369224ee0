"""torch.fx traces the models, as quantization, fusion and feature extraction do it."""

import pytest
import torch
from torch import Tensor, fx, nn

from mit_semseg.models import ModelBuilder
from mit_semseg.models.builder import DECODERS
from mit_semseg.models.decoders.base import Style

SIZE = (40, 72)


class Whole(nn.Module):
    """An encoder, whose maps are counted and iterated over, and a decoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = ModelBuilder.build_decoder(
            "c1",
            channels=encoder.channels,  # type: ignore[arg-type]
            num_class=3,
            use_softmax=True,
            dim=4,
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.encoder(x, return_feature_maps=True)
        return [self.decoder(maps, segSize=x.shape[-2:]), *(each for each in maps[: len(maps)])]


def equal(given: object, wanted: object) -> bool:
    if isinstance(given, Tensor) and isinstance(wanted, Tensor):
        return torch.equal(given, wanted)
    return len(given) == len(wanted) and all(map(equal, given, wanted))  # type: ignore[arg-type,call-overload]


# The other encoders differ from one of these in the number or the type of their blocks.
@torch.no_grad()
@pytest.mark.parametrize(
    "arch",
    [
        *("mobilenetv2dilated", "resnet18", "hrnetv2", "resnet18_v1d", "mobilenetv2", "hrnet_w18_small"),
        *("mit_b0", "convnext_tiny", "swin_tiny", "dinov2_small", "dinov3_small"),
    ],
)
def test_a_traced_encoder_gives_the_same_maps_alone_and_in_a_model(arch: str) -> None:
    encoder = ModelBuilder.build_encoder(arch, imagenet=False).eval()
    model = Whole(encoder).eval()
    x = torch.randn(1, 3, *SIZE)
    traced = fx.symbolic_trace(encoder)
    wanted = model(x)
    assert equal(fx.symbolic_trace(model)(x), wanted)
    assert equal(traced(x, True), wanted[1:])
    assert equal(traced(x), wanted[-1:])


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_a_traced_decoder_gives_the_same_scores(name: str) -> None:
    channels = (4, 8, 16, 32)
    maps = [torch.randn(1, width, 18 // 2**i, 10 // 2**i) for i, width in enumerate(channels)]
    for use_softmax in (True, False):
        decoder = DECODERS[name](channels, 5, use_softmax, Style(dim=8)).eval()
        assert equal(fx.symbolic_trace(decoder)(maps, SIZE), decoder(maps, SIZE))
