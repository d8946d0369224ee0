"""Models of mmsegmentation give the same scores here. The packages are optional: see docs/models.md."""

import pytest
from originals import TOLERANCE, build_mmseg, imported, largest_difference, save_like_mmengine

BN = {"type": "BN", "requires_grad": True}
SYNC = {"type": "SyncBN", "requires_grad": True}
RESNETS = {
    "v1c": {"type": "ResNetV1c", "depth": 18, "contract_dilation": True},
    "v1c 50": {
        "type": "ResNetV1c",
        "depth": 50,
        "contract_dilation": True,
        "base_channels": 8,
        "stem_channels": 16,
    },
    "v1b": {"type": "ResNet", "depth": 34, "base_channels": 8},
    "v1d": {"type": "ResNetV1d", "depth": 50, "base_channels": 8, "multi_grid": (1, 2, 4)},
}
DILATED = {"dilations": (1, 1, 2, 4), "strides": (1, 2, 1, 1)}


def resnet(name, **more):
    return {**RESNETS[name], "num_stages": 4, "out_indices": (0, 1, 2, 3), "norm_cfg": BN, **more}


def hrnet(width, blocks, modules):
    widths = [width * 2**i for i in range(4)]
    extra = {
        f"stage{k + 1}": {
            "num_modules": modules[k],
            "num_branches": k + 1,
            "block": "BASIC" if k else "BOTTLENECK",
            "num_blocks": (blocks,) * (k + 1),
            "num_channels": tuple(widths[: k + 1]) if k else (64,),
        }
        for k in range(4)
    }
    return {"type": "HRNet", "norm_cfg": BN, "extra": extra}


def head(kind, channels, **more):
    return dict(
        type=kind, channels=16, num_classes=6, norm_cfg=BN, in_channels=channels, dropout_ratio=0.1, **more
    )


def auxiliary(channels, index=2):
    loss = {"type": "CrossEntropyLoss", "loss_weight": 0.4}
    more = {"num_convs": 1, "concat_input": False, "loss_decode": loss}
    return head("FCNHead", channels, in_index=index) | more


def model(backbone, decode_head, auxiliary_head=None):
    return {
        "type": "EncoderDecoder",
        "backbone": backbone,
        "decode_head": decode_head,
        "auxiliary_head": auxiliary_head,
        "test_cfg": {"mode": "whole"},
    }


MOBILENET = {
    "type": "MobileNetV2",
    "widen_factor": 0.5,
    "strides": (1, 2, 2, 1, 1, 1, 1),
    "dilations": (1, 1, 1, 2, 2, 4, 4),
    "out_indices": (1, 2, 4, 6),
    "norm_cfg": BN,
}
MIT = {
    "type": "MixVisionTransformer",
    "embed_dims": 8,
    "num_stages": 4,
    "num_layers": [1, 2, 1, 1],
    "num_heads": [1, 2, 5, 8],
    "patch_sizes": [7, 3, 3, 3],
    "sr_ratios": [8, 4, 2, 1],
    "out_indices": (0, 1, 2, 3),
    "mlp_ratio": 3,
    "drop_path_rate": 0.1,
}
MODELS = {
    "fcn": model(resnet("v1c", **DILATED), head("FCNHead", 512, in_index=3), auxiliary(256)),
    "fcn on hrnet": model(
        hrnet(6, 2, (1, 1, 2, 1)),
        head(
            "FCNHead",
            [6, 12, 24, 48],
            in_index=(0, 1, 2, 3),
            input_transform="resize_concat",
            num_convs=1,
            kernel_size=1,
            concat_input=False,
        ),
    ),
    "pspnet": model(resnet("v1c 50", **DILATED), head("PSPHead", 256, in_index=3), auxiliary(128)),
    "pspnet with aligned corners": model(
        resnet("v1d", **DILATED), head("PSPHead", 256, in_index=3, align_corners=True, pool_scales=(1, 3))
    ),
    "pspnet of an earlier map": model(
        resnet("v1b"), head("PSPHead", 32, in_index=2, pool_scales=(1, 2)), auxiliary(16, index=1)
    ),
    "upernet": model(resnet("v1b"), head("UPerHead", [8, 16, 32, 64], in_index=[0, 1, 2, 3]), auxiliary(32)),
    "upernet of three maps": model(
        resnet("v1b", out_indices=(0, 2, 3)),
        head("UPerHead", [32, 64], in_index=[1, 2], align_corners=True),
    ),
    "deeplabv3": model(
        resnet("v1c", **DILATED), head("ASPPHead", 512, in_index=3, dilations=(1, 12, 24, 36)), auxiliary(256)
    ),
    "deeplabv3+": model(
        resnet("v1d", **DILATED),
        head(
            "DepthwiseSeparableASPPHead",
            256,
            in_index=3,
            c1_in_channels=32,
            c1_channels=5,
            align_corners=True,
        ),
        auxiliary(128),
    ),
    "deeplabv3+ on mobilenet": model(
        MOBILENET,
        head("DepthwiseSeparableASPPHead", 160, in_index=3, c1_in_channels=16, c1_channels=7),
        auxiliary(48),
    ),
    "segformer": model(MIT, head("SegformerHead", [8, 16, 40, 64], in_index=[0, 1, 2, 3]), auxiliary(40)),
}


@pytest.mark.filterwarnings("ignore:When align_corners=True")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_scores_of_the_original(name, tmp_path):
    config = MODELS[name]
    net = build_mmseg(config)
    found = imported(save_like_mmengine(net, config, tmp_path / "model.pth"))
    net.double()
    assert largest_difference(found, lambda x: net._forward(x)) <= TOLERANCE
    assert (found.aux_weight is None) is (config["auxiliary_head"] is None)
