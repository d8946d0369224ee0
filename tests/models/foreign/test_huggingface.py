"""Models of transformers give the same scores here. The packages are optional: see docs/models.md."""

import pytest
import torch
from originals import (
    TOLERANCE,
    imported,
    largest_difference,
    quiet_transformers,
    randomize,
    save_like_transformers,
)

SEGFORMERS = {
    "b0": {"num_labels": 19},
    "narrow": {
        "num_labels": 7,
        "depths": [1, 2, 1, 2],
        "hidden_sizes": [8, 16, 24, 40],
        "num_attention_heads": [1, 2, 3, 5],
        "sr_ratios": [4, 2, 2, 1],
        "mlp_ratios": [2, 3, 4, 2],
        "decoder_hidden_size": 24,
    },
    "b1": {"num_labels": 150, "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 256},
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
CONVNEXTS = {
    "narrow": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]},
    "tiny": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    "unscaled": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_scale_init_value": 0.0},
}
SWINS = {
    "narrow": {"embed_dim": 8, "depths": [2, 1, 3, 2], "num_heads": [1, 2, 2, 4], "window_size": 3},
    "tiny": {},
    "no bias": {
        "embed_dim": 12,
        "depths": [1, 2, 1, 1],
        "num_heads": [1, 2, 3, 4],
        "window_size": 4,
        "qkv_bias": False,
    },
}


@pytest.mark.parametrize("name", SEGFORMERS)
def test_a_segformer_gives_the_scores_of_the_original(name, tmp_path):
    transformers = quiet_transformers()
    config = transformers.SegformerConfig(**SEGFORMERS[name])
    net = randomize(transformers.SegformerForSemanticSegmentation(config))
    model = imported(save_like_transformers(net, tmp_path))
    net.double()
    assert largest_difference(model, lambda x: net(x).logits) <= TOLERANCE
    assert model.num_class == config.num_labels
    assert model.encoder.arch == ("mit_b1" if name == "b1" else "mit_b0")


@pytest.mark.parametrize(
    ("kind", "name"), [("ConvNext", name) for name in CONVNEXTS] + [("Swin", name) for name in SWINS]
)
def test_an_upernet_gives_the_scores_of_the_original(kind, name, tmp_path):
    transformers = quiet_transformers()
    values = (CONVNEXTS if kind == "ConvNext" else SWINS)[name]
    backbone = getattr(transformers, f"{kind}Config")(**values, out_features=STAGES)
    third = backbone.hidden_sizes[2] if kind == "ConvNext" else 4 * backbone.embed_dim
    config = transformers.UperNetConfig(
        backbone_config=backbone,
        hidden_size=24,
        num_labels=11,
        auxiliary_in_channels=third,
        auxiliary_channels=10,
        pool_scales=[1, 2, 3, 6] if name != "no bias" else [1, 3],
        use_auxiliary_head=name != "unscaled",
    )
    torch.manual_seed(0)
    net = randomize(transformers.UperNetForSemanticSegmentation(config))
    model = imported(save_like_transformers(net, tmp_path))
    net.double()
    assert largest_difference(model, lambda x: net(x).logits) <= TOLERANCE
    assert model.decoder.arch == ("upernet" if name == "unscaled" else "upernet_deepsup")
