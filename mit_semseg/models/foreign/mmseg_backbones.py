"""Backbones of mmsegmentation: their configs, and the names of their weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from .config import Config
from .model import ForeignPart, Rules, nearest_named, renamed
from .rules import conv_modules

BATCH_NORMS = ("BN", "BN2d", "SyncBN", "MMSyncBN", "NaiveSyncBN")
_FOR_TRAINING = (  # keys of a backbone that do not change the result
    *("type", "init_cfg", "pretrained", "norm_cfg", "act_cfg", "norm_eval", "frozen_stages", "with_cp"),
    *("zero_init_residual", "drop_rate", "attn_drop_rate", "drop_path_rate", "in_channels", "out_indices"),
)


class Backbone(NamedTuple):
    part: ForeignPart
    maps: tuple[int, ...]  # the encoder's maps that the backbone returns, by their index


def backbone(config: Config, weights: dict[str, Tensor]) -> Backbone:
    kind = config.text("type")
    if kind not in _BACKBONES:
        config.refuse("type", f"which is not supported. Supported: {', '.join(_BACKBONES)}")
    if "in_channels" in config:
        config.expect("in_channels", 3)
    return _BACKBONES[kind](config, weights)


def check_layers(config: Config) -> None:
    """Refuse other convolutions than the usual one, and other normalizations than BatchNorm."""
    if "norm_cfg" in config:
        norm = config.section("norm_cfg")
        norm.expect("type", *BATCH_NORMS)
        norm.expect("eps", 1e-5)
    if "conv_cfg" in config:
        config.section("conv_cfg").expect("type", "Conv2d", "Conv")


def _stages(config: Config, count: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """The stages whose maps a backbone returns, finest first."""
    found = config.values.get("out_indices", default)
    stages = (found,) if type(found) is int else config.integers("out_indices", default)
    if not stages or sorted(set(stages)) != list(stages) or not 0 <= stages[0] <= stages[-1] < count:
        config.refuse("out_indices", f"but must be rising numbers from 0 to {count - 1}")
    return stages


def _resnet(config: Config, weights: dict[str, Tensor]) -> Backbone:
    config.only(
        {
            *(*_FOR_TRAINING, "depth", "num_stages", "strides", "dilations", "style", "stem_channels"),
            *("base_channels", "contract_dilation", "multi_grid", "deep_stem", "avg_down", "conv_cfg", "dcn"),
            *("plugins", "stage_with_dcn"),
        }
    )
    for key in ("dcn", "plugins"):
        config.expect(key, None)
    config.expect("style", "pytorch")
    config.expect("num_stages", 4)
    config.expect("depth", 50, 18, 34, 101, 152)
    check_layers(config)
    kind = config.text("type")
    deep = kind != "ResNet" or config.switch("deep_stem", False)
    averages = kind == "ResNetV1d" or config.switch("avg_down", False)
    if averages and not deep:
        config.refuse("avg_down", "but that is supported with a deep stem only")
    variant = "v1d" if averages else "v1c" if deep else "v1b"
    values: dict[str, Any] = {
        "strides": config.integers("strides", (1, 2, 2, 2), 4),
        "dilations": config.integers("dilations", (1, 1, 1, 1), 4),
        "contract_dilation": config.switch("contract_dilation", False),
        "multi_grid": config.integers("multi_grid") if "multi_grid" in config else (),
        "stem_channels": config.integer("stem_channels", 64),
        "base_channels": config.integer("base_channels", 64),
    }
    rules: Rules = (
        (r"backbone\.conv1\.", "stem.0."),
        (r"backbone\.bn1\.", "stem.1."),
        (r"backbone\.(stem|layer[1-4])\.", r"\1."),
    )
    arch, options = nearest_named(f"resnet{config.integer('depth')}_{variant}", values)
    return Backbone(ForeignPart(arch, options, renamed(weights, rules)), _stages(config, 4, (0, 1, 2, 3)))


def _mobilenet(config: Config, weights: dict[str, Tensor]) -> Backbone:
    config.only({*_FOR_TRAINING, "widen_factor", "strides", "dilations", "conv_cfg"})
    check_layers(config)
    if "act_cfg" in config:
        config.section("act_cfg").expect("type", "ReLU6")
    stages = _stages(config, 7, (1, 2, 4, 6))
    values: dict[str, Any] = {
        "strides": config.integers("strides", (1, 2, 2, 2, 1, 2, 1), 7),
        "dilations": config.integers("dilations", (1,) * 7, 7),
        "width": config.number("widen_factor", 1.0),
        "out_stages": stages,
    }

    def of_block(index: int) -> Callable[[Any], str]:
        # A module of a convolution and a normalization, followed by its activation, is three layers here.
        return lambda match: f"stages.{int(match[1]) - 1}.{match[2]}.conv.{3 * int(match[3]) + index}."

    rules: Rules = (
        *conv_modules({r"backbone\.conv1": "stem"}, "bn"),
        (r"backbone\.layer(\d)\.(\d+)\.conv\.(\d)\.conv\.", of_block(0)),
        (r"backbone\.layer(\d)\.(\d+)\.conv\.(\d)\.bn\.", of_block(1)),
    )
    arch, options = nearest_named("mobilenetv2", values)
    return Backbone(ForeignPart(arch, options, renamed(weights, rules)), tuple(range(len(stages))))


def _hrnet(config: Config, weights: dict[str, Tensor]) -> Backbone:
    config.only({*_FOR_TRAINING, "extra", "conv_cfg", "multiscale_output"})
    config.expect("multiscale_output", True)
    check_layers(config)
    extra = config.section("extra")
    stages = [extra.section(f"stage{k}") for k in range(1, 5)]
    widths = stages[3].integers("num_channels", length=4)
    blocks = []
    for k, stage in enumerate(stages):
        stage.expect("block", "BASIC" if k else "BOTTLENECK")
        stage.expect("num_branches", k + 1)
        stage.expect("num_channels", widths[: k + 1] if k else (64,))
        counts = stage.integers("num_blocks", length=k + 1)
        stage.expect("num_blocks", counts[:1] * (k + 1))
        blocks.append(counts[0])
    stages[0].expect("num_modules", 1)
    values: dict[str, Any] = {
        "widths": widths,
        "modules": tuple(stage.integer("num_modules") for stage in stages[1:]),
        "blocks": tuple(blocks),
    }
    rules: Rules = (
        (r"backbone\.conv1\.", "stem.0."),
        (r"backbone\.bn1\.", "stem.1."),
        (r"backbone\.conv2\.", "stem.3."),
        (r"backbone\.bn2\.", "stem.4."),
        (r"backbone\.(layer1|transition[123]|stage[234])\.", r"\1."),
    )
    arch, options = nearest_named("hrnet_", values)
    return Backbone(ForeignPart(arch, options, renamed(weights, rules)), (0, 1, 2, 3))


def _mit(config: Config, weights: dict[str, Tensor]) -> Backbone:
    config.only(
        {
            *(
                *_FOR_TRAINING,
                "embed_dims",
                "num_stages",
                "num_layers",
                "num_heads",
                "patch_sizes",
                "strides",
            ),
            *("sr_ratios", "mlp_ratio", "qkv_bias"),
        }
    )
    config.expect("num_stages", 4)
    config.expect("patch_sizes", (7, 3, 3, 3))
    config.expect("strides", (4, 2, 2, 2))
    config.expect("qkv_bias", True)
    eps = 1e-6
    if "norm_cfg" in config:
        norm = config.section("norm_cfg")
        norm.expect("type", "LN")
        eps = norm.number("eps", 1e-5)
    if "act_cfg" in config:
        config.section("act_cfg").expect("type", "GELU")
    heads = config.integers("num_heads", (1, 2, 4, 8), 4)
    width = config.integer("embed_dims", 64)
    values: dict[str, Any] = {
        "depths": config.integers("num_layers", (3, 4, 6, 3), 4),
        "widths": tuple(width * count for count in heads),
        "heads": heads,
        "reductions": config.integers("sr_ratios", (8, 4, 2, 1), 4),
        "mlp_ratios": (float(config.integer("mlp_ratio", 4)),) * 4,
        "drop_path": config.number("drop_path_rate", 0.0),
        "eps": eps,
        "inner_eps": eps,
    }
    block, new = r"backbone\.layers\.(\d+)\.1\.(\d+)\.", r"stages.\1.blocks.\2."
    rules: Rules = (
        (r"backbone\.layers\.(\d+)\.0\.projection\.", r"stages.\1.patches."),
        (r"backbone\.layers\.(\d+)\.0\.norm\.", r"stages.\1.patch_norm."),
        (r"backbone\.layers\.(\d+)\.2\.", r"stages.\1.norm."),
        (rf"{block}norm([12])\.", rf"{new}norm\3."),
        (rf"{block}attn\.attn\.in_proj_", rf"{new}attention.qkv."),
        (rf"{block}attn\.attn\.out_proj\.", rf"{new}attention.out."),
        (rf"{block}attn\.sr\.", rf"{new}attention.reduce."),
        (rf"{block}attn\.norm\.", rf"{new}attention.norm."),
        (rf"{block}ffn\.layers\.0\.", rf"{new}fc1."),
        (rf"{block}ffn\.layers\.1\.", rf"{new}conv."),
        (rf"{block}ffn\.layers\.4\.", rf"{new}fc2."),
    )
    found = renamed(weights, rules)
    for name in list(found):
        value = found[name]
        if ".attention.qkv." in name:
            del found[name]
            third = len(value) // 3
            found[name.replace(".qkv.", ".q.")] = value[:third].clone()
            found[name.replace(".qkv.", ".kv.")] = value[third:].clone()
        elif (".fc1." in name or ".fc2." in name) and value.dim() == 4:  # a 1x1 convolution, here linear
            found[name] = value[..., 0, 0]
    arch, options = nearest_named("mit_", values)
    return Backbone(ForeignPart(arch, options, found), _stages(config, 4, (0, 1, 2, 3)))


_BACKBONES: dict[str, Callable[[Config, dict[str, Tensor]], Backbone]] = {
    "ResNet": _resnet,
    "ResNetV1c": _resnet,
    "ResNetV1d": _resnet,
    "MobileNetV2": _mobilenet,
    "HRNet": _hrnet,
    "MixVisionTransformer": _mit,
}
