"""Models of mmsegmentation: an ``EncoderDecoder`` of a backbone, a head and maybe an auxiliary head.

Source: the package mmsegmentation 1.x, and checkpoints of 0.x, whose weights have the same names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ...errors import UserError
from .config import Config
from .huggingface import auxiliary_head, conv_modules, upernet_head
from .model import ForeignModel, ForeignPart, Rules, nearest_named, renamed
from .source import Source

MMSEGMENTATION = "model of mmsegmentation"

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, for RGB from 0 to 255
_BATCH_NORMS = ("BN", "BN2d", "SyncBN", "MMSyncBN", "NaiveSyncBN")
_FOR_TRAINING = (  # keys of a backbone that do not change the result
    *("type", "init_cfg", "pretrained", "norm_cfg", "act_cfg", "norm_eval", "frozen_stages", "with_cp"),
    *("zero_init_residual", "drop_rate", "attn_drop_rate", "drop_path_rate", "in_channels", "out_indices"),
)
_OF_A_HEAD = (
    *("type", "in_channels", "in_index", "channels", "num_classes", "out_channels", "threshold"),
    *("dropout_ratio", "conv_cfg", "norm_cfg", "act_cfg", "input_transform", "loss_decode", "ignore_index"),
    *("sampler", "align_corners", "init_cfg"),
)
_SCORED = (512, 2048)


class _Backbone(NamedTuple):
    part: ForeignPart
    maps: tuple[int, ...]  # the encoder's maps that the backbone returns, by their index


class _Head(NamedTuple):
    """How a head becomes a decoder.

    Attributes:
        arch: the decoder.
        keys: keys of the head besides those of all heads, and the option of the decoder for each.
        rules: for the names of its weights.
        many: whether it reads several maps on its own.
        options: of the decoder in any case.
    """

    arch: str
    keys: Mapping[str, str]
    rules: Rules
    many: bool = False
    options: Mapping[str, Any] = {}


def _separable(layers: Mapping[str, str]) -> Rules:
    """Rules for modules of a convolution of each channel and one of each pixel."""
    return tuple(
        rule
        for pattern, new in layers.items()
        for k, name in enumerate(("depthwise_conv", "pointwise_conv"))
        for rule in conv_modules({rf"{pattern}\.{name}": f"{new}.{k}"}, "bn")
    )


_CLASSIFIER: Rules = ((r"decode_head\.conv_seg\.", "conv_last."),)
_ASPP: Rules = (
    *conv_modules(
        {
            r"decode_head\.image_pool\.1": "pool_conv",
            r"decode_head\.aspp_modules\.(\d+)": r"aspp.\1",
            r"decode_head\.bottleneck": "fuse",
        },
        "bn",
    ),
    *_CLASSIFIER,
)
_HEADS: dict[str, _Head] = {
    "FCNHead": _Head(
        "fcn",
        {name: name for name in ("kernel_size", "concat_input", "dilation")} | {"num_convs": "convs"},
        (
            *conv_modules(
                {r"decode_head\.convs\.(\d+)": r"convs.\1", r"decode_head\.conv_cat": "fuse"}, "bn"
            ),
            *_CLASSIFIER,
        ),
    ),
    "PSPHead": _Head(
        "ppm",
        {"pool_scales": "pool_scales"},
        (
            (r"decode_head\.psp_modules\.(\d+)\.1\.conv\.", r"ppm.\1.1."),
            (r"decode_head\.psp_modules\.(\d+)\.1\.bn\.", r"ppm.\1.2."),
            *conv_modules({r"decode_head\.bottleneck": "conv_last"}, "bn"),
            (r"decode_head\.conv_seg\.", "conv_last.4."),
        ),
    ),
    "UPerHead": _Head(
        "upernet",
        {"pool_scales": "pool_scales"},
        upernet_head("bn", "conv_seg"),
        many=True,
        options={"relu_first": True},
    ),
    "ASPPHead": _Head("deeplabv3", {"dilations": "dilations"}, _ASPP),
    "DepthwiseSeparableASPPHead": _Head(
        "deeplabv3plus",
        {"dilations": "dilations", "c1_channels": "low_dim", "c1_in_channels": ""},
        (
            *_separable(
                {
                    r"decode_head\.aspp_modules\.(\d+)": r"aspp.\1",
                    r"decode_head\.sep_bottleneck\.(\d+)": r"refine.\1",
                }
            ),
            *conv_modules({r"decode_head\.c1_bottleneck": "low"}, "bn"),
            *_ASPP,
        ),
    ),
    "SegformerHead": _Head(
        "segformer",
        {"interpolate_mode": ""},
        (
            *conv_modules(
                {r"decode_head\.convs\.(\d+)": r"projections.\1", r"decode_head\.fusion_conv": "fuse"}, "bn"
            ),
            *_CLASSIFIER,
        ),
        many=True,
        options={"norm_maps": True},
    ),
}
# Defaults of mmsegmentation that differ from those of the options here.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "ASPPHead": {"dilations": (1, 6, 12, 18)},
    "DepthwiseSeparableASPPHead": {"dilations": (1, 6, 12, 18)},
}


def mmsegmentation(source: Source) -> ForeignModel:
    """A model of mmsegmentation. Raises: UserError that names the first part that is not supported."""
    whole = Config(source.config, "config", source.config_name)
    model = whole.section("model")
    model.values = {**model.values}
    model.place = "model"
    model.expect("type", "EncoderDecoder")
    if "neck" in model:
        model.refuse(
            "neck", "but necks are not supported: the head must read the maps of the backbone itself"
        )
    _check_normalization(whole, model)
    weights = dict(source.weights)
    encoder = {name: value for name, value in weights.items() if name.startswith("backbone.")}
    backbone = _backbone(model.section("backbone"), encoder)
    head = model.section("decode_head")
    kind = head.text("type")
    if kind not in _HEADS:
        head.refuse("type", f"which is not supported. Supported: {', '.join(_HEADS)}")
    plan = _HEADS[kind]
    options = _head_options(head, plan, backbone.maps)
    auxiliary, notes = _auxiliary(model, backbone.maps)
    decoder = {
        name: value
        for name, value in weights.items()
        if not name.startswith("backbone.")
        and (auxiliary is not None or not name.startswith("auxiliary_head."))
        and not name.startswith("data_preprocessor.")
    }
    decoder = renamed(decoder, (*plan.rules, *auxiliary_head("bn", "conv_seg")))
    if auxiliary is not None:
        options |= auxiliary.options
    count = head.integer("num_classes")
    if "out_channels" in head and head.integer("out_channels") != count:
        head.refuse("out_channels", "but only one channel for each class is supported")
    names = source.classes if len(source.classes) in (0, count) else ()
    if source.classes and not names:
        raise UserError(
            f"{source.name}: its dataset has {len(source.classes)} classes, but decode_head.num_classes is "
            f"{count}. Name the weights and the config of one model."
        )
    return ForeignModel(
        MMSEGMENTATION,
        backbone.part,
        ForeignPart(plan.arch + ("_deepsup" if auxiliary else ""), options, decoder),
        num_class=count,
        dim=head.integer("channels"),
        dropout=head.number("dropout_ratio", 0.1),
        aux_weight=auxiliary.weight if auxiliary else None,
        names=names,
        colors=source.colors,
        short_edge=_SCORED[0],
        max_long_edge=_SCORED[1],
        notes=notes,
    )


def _head_options(head: Config, plan: _Head, maps: tuple[int, ...]) -> dict[str, Any]:
    """The options of the decoder for a head."""
    head.only({*_OF_A_HEAD, *plan.keys})
    _check_layers(head)
    options = {**plan.options, **_DEFAULTS.get(head.text("type"), {})}
    for key, option in plan.keys.items():
        if option and key in head:
            options[option] = head.values[key]
    if "interpolate_mode" in plan.keys:
        head.expect("interpolate_mode", "bilinear")
    if "c1_in_channels" in plan.keys and head.integer("c1_in_channels") == 0:
        head.refuse("c1_in_channels", "but a head without the finest map is not supported")
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    if head.switch("align_corners", False):
        options["align_corners"] = True
    transform = head.values.get("input_transform")
    if plan.many or transform == "resize_concat":
        chosen = head.integers("in_index")
    elif transform is None:
        chosen = (head.integer("in_index", -1),)
    else:
        head.refuse("input_transform", "which is not supported. Supported: 'resize_concat'")
    chosen = tuple(_of_encoder(index, maps, head) for index in chosen)
    default = tuple(range(len(maps))) if plan.many else (len(maps) - 1,)
    if chosen != default or maps != tuple(range(len(maps))):
        options["maps"] = chosen
    if plan.arch == "deeplabv3plus" and maps[0] != 0:
        head.refuse("in_index", "but the backbone must return its finest map first")
    return options


def _of_encoder(index: int, maps: tuple[int, ...], head: Config) -> int:
    """The index of an encoder's map for that of a backbone's map."""
    if not -len(maps) <= index < len(maps):
        head.refuse("in_index", f"but the backbone returns {len(maps)} maps")
    return maps[index]


class _Auxiliary(NamedTuple):
    options: dict[str, Any]
    weight: float


def _auxiliary(model: Config, maps: tuple[int, ...]) -> tuple[_Auxiliary | None, tuple[str, ...]]:
    """The auxiliary head, None if there is none that can be kept, and notes on what is omitted."""
    value = model.values.get("auxiliary_head")
    if not value:
        return None, ()
    reason = ""
    head = Config(value if isinstance(value, Mapping) else {}, "model.auxiliary_head", model.source)
    if not isinstance(value, Mapping):
        reason = "there are several"
    elif head.text("type") != "FCNHead":
        reason = f"it is a {head.text('type')}, not an FCNHead"
    elif (
        head.integer("num_convs", 2) != 1
        or head.switch("concat_input", True)
        or head.integer("kernel_size", 3) != 3
        or head.integer("dilation", 1) != 1
        or head.values.get("input_transform") is not None
    ):
        reason = "it is not a single convolution"
    if reason:
        return None, (f"The auxiliary head, which only training uses, is omitted, because {reason}.",)
    options: dict[str, Any] = {"aux_dim": head.integer("channels")}
    index = _of_encoder(head.integer("in_index", -1), maps, head)
    if index != maps[-1] - 1:
        options["aux_map"] = index
    loss = head.values.get("loss_decode")
    loss = loss[0] if isinstance(loss, Sequence) and loss and not isinstance(loss, str) else loss
    weight = loss.get("loss_weight", 1.0) if isinstance(loss, Mapping) else 1.0
    return _Auxiliary(options, float(weight) if type(weight) in (int, float) else 1.0), ()


def _check_layers(config: Config) -> None:
    """Refuse other layers than convolutions, BatchNorm with the usual epsilon, and ReLU."""
    if "conv_cfg" in config:
        config.section("conv_cfg").expect("type", "Conv2d", "Conv")
    if "norm_cfg" not in config:
        config.refuse("norm_cfg", "but a convolution without normalization is not supported")
    norm = config.section("norm_cfg")
    norm.expect("type", *_BATCH_NORMS)
    norm.expect("eps", 1e-5)
    if "act_cfg" in config:
        config.section("act_cfg").expect("type", "ReLU")


def _check_normalization(whole: Config, model: Config) -> None:
    """Refuse images that are normalized by other values than ImageNet's."""
    for place in (model, whole):
        for key in ("data_preprocessor", "img_norm_cfg"):
            if not isinstance(place.values.get(key), Mapping):
                continue
            found = place.section(key)
            if "mean" in found or "std" in found:
                found.expect("mean", _MEAN)
                found.expect("std", _STD)


# Backbones


def _backbone(config: Config, weights: dict[str, Tensor]) -> _Backbone:
    kind = config.text("type")
    if kind not in _BACKBONES:
        config.refuse("type", f"which is not supported. Supported: {', '.join(_BACKBONES)}")
    if "in_channels" in config:
        config.expect("in_channels", 3)
    return _BACKBONES[kind](config, weights)


def _stages(config: Config, count: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """The stages whose maps a backbone returns, finest first."""
    found = config.values.get("out_indices", default)
    stages = (found,) if type(found) is int else config.integers("out_indices", default)
    if not stages or sorted(set(stages)) != list(stages) or not 0 <= stages[0] <= stages[-1] < count:
        config.refuse("out_indices", f"but must be rising numbers from 0 to {count - 1}")
    return stages


def _resnet(config: Config, weights: dict[str, Tensor]) -> _Backbone:
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
    _check_norm(config)
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
    return _Backbone(ForeignPart(arch, options, renamed(weights, rules)), _stages(config, 4, (0, 1, 2, 3)))


def _check_norm(config: Config) -> None:
    if "norm_cfg" in config:
        norm = config.section("norm_cfg")
        norm.expect("type", *_BATCH_NORMS)
        norm.expect("eps", 1e-5)
    if "conv_cfg" in config:
        config.section("conv_cfg").expect("type", "Conv2d", "Conv")


def _mobilenet(config: Config, weights: dict[str, Tensor]) -> _Backbone:
    config.only({*_FOR_TRAINING, "widen_factor", "strides", "dilations", "conv_cfg"})
    _check_norm(config)
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
    return _Backbone(ForeignPart(arch, options, renamed(weights, rules)), tuple(range(len(stages))))


def _hrnet(config: Config, weights: dict[str, Tensor]) -> _Backbone:
    config.only({*_FOR_TRAINING, "extra", "conv_cfg", "multiscale_output"})
    config.expect("multiscale_output", True)
    _check_norm(config)
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
    return _Backbone(ForeignPart(arch, options, renamed(weights, rules)), (0, 1, 2, 3))


def _mit(config: Config, weights: dict[str, Tensor]) -> _Backbone:
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
    return _Backbone(ForeignPart(arch, options, found), _stages(config, 4, (0, 1, 2, 3)))


_BACKBONES: dict[str, Callable[[Config, dict[str, Tensor]], _Backbone]] = {
    "ResNet": _resnet,
    "ResNetV1c": _resnet,
    "ResNetV1d": _resnet,
    "MobileNetV2": _mobilenet,
    "HRNet": _hrnet,
    "MixVisionTransformer": _mit,
}
