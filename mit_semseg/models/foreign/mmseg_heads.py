"""Heads of mmsegmentation: the decoders that they become, and the names of their weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .config import Config
from .mmseg_backbones import check_layers
from .model import Rules
from .rules import conv_modules, upernet_head

_HEAD_KEYS = (
    *("type", "in_channels", "in_index", "channels", "num_classes", "out_channels", "threshold"),
    *("dropout_ratio", "conv_cfg", "norm_cfg", "act_cfg", "input_transform", "loss_decode", "ignore_index"),
    *("sampler", "align_corners", "init_cfg"),
)


class Head(NamedTuple):
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
HEADS: dict[str, Head] = {
    "FCNHead": Head(
        "fcn",
        {name: name for name in ("kernel_size", "concat_input", "dilation")} | {"num_convs": "convs"},
        (
            *conv_modules(
                {r"decode_head\.convs\.(\d+)": r"convs.\1", r"decode_head\.conv_cat": "fuse"}, "bn"
            ),
            *_CLASSIFIER,
        ),
    ),
    "PSPHead": Head(
        "ppm",
        {"pool_scales": "pool_scales"},
        (
            (r"decode_head\.psp_modules\.(\d+)\.1\.conv\.", r"ppm.\1.1."),
            (r"decode_head\.psp_modules\.(\d+)\.1\.bn\.", r"ppm.\1.2."),
            *conv_modules({r"decode_head\.bottleneck": "conv_last"}, "bn"),
            (r"decode_head\.conv_seg\.", "conv_last.4."),
        ),
    ),
    "UPerHead": Head(
        "upernet",
        {"pool_scales": "pool_scales"},
        upernet_head("bn", "conv_seg"),
        many=True,
        options={"relu_first": True},
    ),
    "ASPPHead": Head("deeplabv3", {"dilations": "dilations"}, _ASPP),
    "DepthwiseSeparableASPPHead": Head(
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
    "SegformerHead": Head(
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


def head_options(head: Config, plan: Head, maps: tuple[int, ...]) -> dict[str, Any]:
    """The options of the decoder for a head."""
    head.only({*_HEAD_KEYS, *plan.keys})
    if "norm_cfg" not in head:
        head.refuse("norm_cfg", "but a convolution without normalization is not supported")
    check_layers(head)
    if "act_cfg" in head:
        head.section("act_cfg").expect("type", "ReLU")
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
    chosen = tuple(map_of_encoder(index, maps, head) for index in chosen)
    default = tuple(range(len(maps))) if plan.many else (len(maps) - 1,)
    if chosen != default or maps != tuple(range(len(maps))):
        options["maps"] = chosen
    if plan.arch == "deeplabv3plus" and maps[0] != 0:
        head.refuse("in_index", "but the backbone must return its finest map first")
    return options


def map_of_encoder(index: int, maps: tuple[int, ...], head: Config) -> int:
    """The index of an encoder's map for that of a backbone's map."""
    if not -len(maps) <= index < len(maps):
        head.refuse("in_index", f"but the backbone returns {len(maps)} maps")
    return maps[index]
