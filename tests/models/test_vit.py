"""Vision transformers with class and register tokens as encoders."""

import pytest
import torch

from mit_semseg.models import ModelBuilder
from mit_semseg.models.encoders import vit
from mit_semseg.models.encoders.vit import VisionTransformer

TINY = {"depth": 3, "width": 32, "heads": 4}
SIZES = ((64, 64), (65, 97), (16, 160), (127, 33), (1, 1), (48, 80))


def drawn(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("registers", "gated", "of_class"),
    [(4, False, False), (0, False, True), (0, False, False), (2, True, False)],
)
def test_a_learned_grid_gives_the_features_of_timm_at_every_size(registers, gated, of_class):
    timm = pytest.importorskip("timm")
    from timm.layers import SwiGLUPacked

    net = drawn(VisionTransformer(**TINY, grid=4, registers=registers, gated=gated, class_position=of_class))
    more = {"mlp_layer": SwiGLUPacked, "mlp_ratio": 2 * vit.hidden_width(32, gated) / 32} if gated else {}
    more |= {"act_layer": torch.nn.SiLU} if gated else {}
    theirs = timm.models.VisionTransformer(
        img_size=64, embed_dim=32, depth=3, num_heads=4, reg_tokens=registers, no_embed_class=not of_class,
        num_classes=0,
        init_values=1e-5, dynamic_img_size=True, dynamic_img_pad=True, **more,
    ).eval()  # fmt: skip
    theirs.load_state_dict(net.state_dict())
    net.double(), theirs.double()
    for height, width in SIZES:
        x = torch.randn(2, 3, height, width, dtype=torch.float64)
        (ours,) = net(x, return_feature_maps=True)
        assert ours.shape[-2:] == (-(-height // 16), -(-width // 16))
        wanted = theirs.forward_features(x)[:, 1 + registers :]
        difference = (ours.flatten(2).transpose(1, 2) - wanted).abs().max()
        assert difference <= 1e-12 * wanted.abs().max()


def test_rotary_positions_by_hand():
    """Two rows and one column: the centres are at -0.5 and 0.5, and at 0."""
    cosines, sines = vit._rotations(100.0, 4, 2, 1, torch.zeros(1))
    half_turn = torch.tensor([-torch.pi, torch.pi])
    assert torch.allclose(cosines, torch.stack([half_turn.cos(), torch.ones(2)] * 2, 1))
    assert torch.allclose(sines, torch.stack([half_turn.sin(), torch.zeros(2)] * 2, 1), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(4, 4), (1, 1), (3, 7), (9, 2), (40, 5)])
def test_exported_graphs_interpolate_positions_as_torch_does(shape, monkeypatch):
    positions = torch.randn(1, 16, 5)
    wanted = vit._resampled(positions, 4, *shape)
    monkeypatch.setattr(vit, "in_graph", lambda: True)
    assert torch.allclose(vit._resampled(positions, 4, *shape), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30, "heads": 4}, "the width 30 is not a multiple of the 4 heads"),
        (
            {"width": 24, "heads": 4, "grid": 0},
            "rotary positions need a multiple of 4 channels per head, not 6",
        ),
        ({"depth": 0}, "depth, width, heads, patch and theta must be above 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    from mit_semseg.errors import UserError

    with pytest.raises(UserError, match=message):
        ModelBuilder.build_encoder("dinov2_small", imagenet=False, options={**TINY, **options})


def test_other_decoders_read_its_map():
    encoder = ModelBuilder.build_encoder("dinov3_small", imagenet=False, options=TINY)
    decoder = ModelBuilder.build_decoder(
        "c1", channels=encoder.channels, num_class=3, use_softmax=True, dim=8
    )
    scores = decoder(encoder(torch.randn(1, 3, 40, 72), return_feature_maps=True), segSize=(40, 72))
    assert scores.shape == (1, 3, 40, 72)
