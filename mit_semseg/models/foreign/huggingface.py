"""SegFormer and UPerNet of Hugging Face's transformers, by their config.json and the names of their weights.

Source: the models ``SegformerForSemanticSegmentation`` and ``UperNetForSemanticSegmentation`` of the package
transformers, versions 4 and 5.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...errors import UserError
from .config import Config
from .model import ForeignModel, ForeignPart, Rules, joined, nearest_named, renamed
from .rules import upernet_head
from .source import Source

SEGFORMER = "SegFormer of Hugging Face"
UPERNET = "UPerNet of Hugging Face"
_SCORED = (512, 2048)  # short edge and limit of the long edge, as their authors score ADE20K
_EPS = 1e-5  # of torch's LayerNorm, which transformers uses whatever the config says

_MIT: Rules = (
    (r"segformer\.encoder\.patch_embeddings\.(\d+)\.proj\.", r"stages.\1.patches."),
    (r"segformer\.encoder\.patch_embeddings\.(\d+)\.layer_norm\.", r"stages.\1.patch_norm."),
    (r"segformer\.encoder\.layer_norm\.(\d+)\.", r"stages.\1.norm."),
    (r"segformer\.encoder\.block\.(\d+)\.(\d+)\.layer_norm_([12])\.", r"stages.\1.blocks.\2.norm\3."),
    (
        r"segformer\.encoder\.block\.(\d+)\.(\d+)\.attention\.self\.query\.",
        r"stages.\1.blocks.\2.attention.q.",
    ),
    (r"segformer\.encoder\.block\.(\d+)\.(\d+)\.attention\.self\.key\.", r"stages.\1.blocks.\2.attention.k."),
    (
        r"segformer\.encoder\.block\.(\d+)\.(\d+)\.attention\.self\.value\.",
        r"stages.\1.blocks.\2.attention.v.",
    ),
    (
        r"segformer\.encoder\.block\.(\d+)\.(\d+)\.attention\.self\.sr\.",
        r"stages.\1.blocks.\2.attention.reduce.",
    ),
    (
        r"segformer\.encoder\.block\.(\d+)\.(\d+)\.attention\.self\.layer_norm\.",
        r"stages.\1.blocks.\2.attention.norm.",
    ),
    (
        r"segformer\.encoder\.block\.(\d+)\.(\d+)\.attention\.output\.dense\.",
        r"stages.\1.blocks.\2.attention.out.",
    ),
    (r"segformer\.encoder\.block\.(\d+)\.(\d+)\.mlp\.dense([12])\.", r"stages.\1.blocks.\2.fc\3."),
    (r"segformer\.encoder\.block\.(\d+)\.(\d+)\.mlp\.dwconv\.dwconv\.", r"stages.\1.blocks.\2.conv."),
)
_SEGFORMER_HEAD: Rules = (
    (r"decode_head\.linear_c\.(\d+)\.proj\.", r"projections.\1."),
    (r"decode_head\.linear_fuse\.", "fuse.0."),
    (r"decode_head\.batch_norm\.", "fuse.1."),
    (r"decode_head\.classifier\.", "conv_last."),
)
_CONVNEXT: Rules = (
    (r"backbone\.embeddings\.patch_embeddings\.", "stem."),
    (r"backbone\.embeddings\.layernorm\.", "stem_norm."),
    (r"backbone\.encoder\.stages\.(\d+)\.downsampling_layer\.", r"downsample.\1."),
    (r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.", r"stages.\1.\2.conv."),
    (r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"stages.\1.\2.norm."),
    (r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv([12])\.", r"stages.\1.\2.fc\3."),
    (r"backbone\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.\2.scale"),
    (r"backbone\.hidden_states_norms\.stage(\d+)\.", lambda match: f"norms.{int(match[1]) - 1}."),
)
_SWIN: Rules = (
    (r"backbone\.embeddings\.patch_embeddings\.projection\.", "patches."),
    (r"backbone\.embeddings\.norm\.", "patch_norm."),
    (r"backbone\.encoder\.layers\.(\d+)\.downsample\.norm\.", r"merges.\1.norm."),
    (r"backbone\.encoder\.layers\.(\d+)\.downsample\.reduction\.", r"merges.\1.reduce."),
    (r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_before\.", r"stages.\1.\2.norm1."),
    (r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_after\.", r"stages.\1.\2.norm2."),
    (r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.intermediate\.dense\.", r"stages.\1.\2.fc1."),
    (r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.output\.dense\.", r"stages.\1.\2.fc2."),
    (
        r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.output\.dense\.",
        r"stages.\1.\2.attention.out.",
    ),
    (
        r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.(query|key|value)\.",
        r"stages.\1.\2.attention.\3.",
    ),
    (
        r"backbone\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.self\.relative_position_bias_table",
        r"stages.\1.\2.attention.bias",
    ),
    (r"backbone\.encoder\.layers\.\d+\.blocks\.\d+\.attention\.self\.relative_position_index", None),
    (r"backbone\.(swin\.)?layernorm\.", None),  # after the last stage, for classifiers
    (r"backbone\.hidden_states_norms\.stage(\d+)\.", lambda match: f"norms.{int(match[1]) - 1}."),
)


def segformer(source: Source) -> ForeignModel:
    """A ``SegformerForSemanticSegmentation``, or the encoder of a ``SegformerForImageClassification``.

    Raises: UserError for a config that is not supported.
    """
    config = Config(source.config, "config.json", source.config_name)
    config.expect("num_encoder_blocks", 4)
    config.expect("num_channels", 3)
    config.expect("hidden_act", "gelu")
    config.expect("patch_sizes", (7, 3, 3, 3))
    config.expect("strides", (4, 2, 2, 2))
    values = {
        "depths": config.integers("depths", (2, 2, 2, 2), 4),
        "widths": config.integers("hidden_sizes", (32, 64, 160, 256), 4),
        "heads": config.integers("num_attention_heads", (1, 2, 5, 8), 4),
        "reductions": config.integers("sr_ratios", (8, 4, 2, 1), 4),
        "mlp_ratios": config.numbers("mlp_ratios", (4.0,) * 4, 4),
        "drop_path": config.number("drop_path_rate", 0.1),
        "eps": _EPS,
    }
    encoder, decoder = _parts(source.weights, "segformer.")
    encoder = renamed(encoder, _MIT)
    joined(encoder, ("k", "v"), "kv")
    part = ForeignPart(*nearest_named("mit_", values), encoder)
    if decoder and all(name.startswith("classifier.") for name in decoder):
        return ForeignModel(SEGFORMER, part, None)
    decoder = renamed(decoder, _SEGFORMER_HEAD)
    for name in [name for name in decoder if name.startswith("projections.") and name.endswith(".weight")]:
        if decoder[name].dim() == 2:  # a linear layer, here a convolution
            decoder[name] = decoder[name][..., None, None]
    fuse = decoder.get("fuse.0.weight")
    if fuse is not None and fuse.dim() == 4 and fuse.shape[1] % 4 == 0:
        # The coarsest map is the first one there, and the last one here.
        decoder["fuse.0.weight"] = fuse.unflatten(1, (4, -1)).flip(1).flatten(1, 2)
    return ForeignModel(
        SEGFORMER,
        part,
        ForeignPart("segformer", {}, decoder),
        dim=config.integer("decoder_hidden_size", 256),
        dropout=config.number("classifier_dropout_prob", 0.1),
        **_classes(config, decoder.get("conv_last.weight")),
    )


def upernet(source: Source) -> ForeignModel:
    """A ``UperNetForSemanticSegmentation``. Raises: UserError for a config that is not supported."""
    config = Config(source.config, "config.json", source.config_name)
    if "backbone_config" not in config:
        config.refuse(
            "backbone_config", "but must describe the backbone; backbones of timm are not supported"
        )
    backbone = config.section("backbone_config")
    kind = backbone.text("model_type")
    if kind not in _BACKBONES:
        backbone.refuse("model_type", f"which is not supported. Supported: {', '.join(_BACKBONES)}")
    backbone.expect("out_features", ("stage1", "stage2", "stage3", "stage4"))
    backbone.expect("num_channels", 3)
    backbone.expect("patch_size", 4)
    backbone.expect("hidden_act", "gelu")
    encoder, decoder = _parts(source.weights, "backbone.")
    part = _BACKBONES[kind](backbone, encoder)
    decoder = renamed(decoder, upernet_head("batch_norm", "classifier"))
    options: dict[str, Any] = {"relu_first": True}
    scales = config.integers("pool_scales", (1, 2, 3, 6))
    if scales != (1, 2, 3, 6):
        options["pool_scales"] = scales
    auxiliary = config.switch("use_auxiliary_head", True)
    notes: tuple[str, ...] = ()
    if auxiliary and (
        config.integer("auxiliary_num_convs", 1) != 1 or config.switch("auxiliary_concat_input", False)
    ):
        auxiliary, notes = False, (f"{_DROPPED_AUXILIARY} it is not a single convolution.",)
    if not auxiliary:
        decoder = {name: value for name, value in decoder.items() if not _is_auxiliary(name)}
    else:
        options["aux_dim"] = config.integer("auxiliary_channels", 256)
    return ForeignModel(
        UPERNET,
        part,
        ForeignPart("upernet_deepsup" if auxiliary else "upernet", options, decoder),
        dim=config.integer("hidden_size", 512),
        dropout=0.0,
        aux_weight=config.number("auxiliary_loss_weight", 0.4) if auxiliary else None,
        notes=notes,
        **_classes(config, decoder.get("conv_last.1.weight")),
    )


_DROPPED_AUXILIARY = "The auxiliary head, which only training uses, is omitted, because"


def _is_auxiliary(name: str) -> bool:
    return name.startswith(("auxiliary_head.", "cbr_deepsup.", "conv_last_deepsup."))


def _convnext(config: Config, weights: dict[str, Tensor]) -> ForeignPart:
    config.expect("num_stages", 4)
    scale = config.number("layer_scale_init_value", 1e-6)
    values = {
        "depths": config.integers("depths", (3, 3, 9, 3), 4),
        "widths": config.integers("hidden_sizes", (96, 192, 384, 768), 4),
        "drop_path": config.number("drop_path_rate", 0.0),
        "layer_scale": scale if scale > 0 else 0.0,
    }
    return ForeignPart(*nearest_named("convnext_", values), renamed(weights, _CONVNEXT))


def _swin(config: Config, weights: dict[str, Tensor]) -> ForeignPart:
    config.expect("use_absolute_embeddings", False)
    values = {
        "depths": config.integers("depths", (2, 2, 6, 2), 4),
        "width": config.integer("embed_dim", 96),
        "heads": config.integers("num_heads", (3, 6, 12, 24), 4),
        "window": config.integer("window_size", 7),
        "mlp_ratio": config.number("mlp_ratio", 4.0),
        "qkv_bias": config.switch("qkv_bias", True),
        "eps": config.number("layer_norm_eps", 1e-5),
        "drop_path": config.number("drop_path_rate", 0.1),
    }
    weights = renamed(weights, _SWIN)
    joined(weights, ("query", "key", "value"), "qkv")
    return ForeignPart(*nearest_named("swin_", values), weights)


_BACKBONES = {"convnext": _convnext, "swin": _swin}


def _parts(weights: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights whose names begin with the prefix, and the others."""
    encoder = {name: value for name, value in weights.items() if name.startswith(prefix)}
    return encoder, {name: value for name, value in weights.items() if not name.startswith(prefix)}


def _classes(config: Config, classifier: Tensor | None) -> dict[str, Any]:
    """The number and names of the classes, and the size of images.

    Raises: UserError if the config names another number than the classifier has.
    """
    found = config.values.get("id2label") or {}
    if not isinstance(found, Mapping):
        config.refuse("id2label", "but must be a mapping")
    try:
        names = tuple(str(found[key]) for key in sorted(found, key=int))
    except (TypeError, ValueError):
        config.refuse("id2label", "whose keys must be numbers")
    if classifier is None or classifier.dim() < 2:
        return {"num_class": len(names) or config.integer("num_labels", 2), **_sizes()}
    count = len(classifier)
    if names and len(names) != count:
        raise UserError(
            f"{config.source}: id2label names {len(names)} classes, but the weights have {count}. Name the "
            "weights and the config of one model."
        )
    if all(name == f"LABEL_{k}" for k, name in enumerate(names)):  # as transformers calls unnamed classes
        names = ()
    return {"num_class": count, "names": names, **_sizes()}


def _sizes() -> dict[str, int]:
    return dict(zip(("short_edge", "max_long_edge"), _SCORED, strict=True))
