"""Vision transformers of DINOv2 and DINOv3, as encoders and inside of other models.

Sources: ``DINOv3ViTModel`` of the package transformers, version 5, and ``VisionTransformer`` of timm.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ...runtime.packages import require
from ..encoders.vit import hidden_width
from .config import Config
from .model import ForeignModel, ForeignPart, Rules, joined, nearest_named, renamed
from .source import Source

DINOV3 = "DINOv3 of Hugging Face"
TIMM_DINOV2 = "DINOv2 of timm"
PER_HEAD = 64
"""Channels of a head, in all vision transformers of DINOv2 and DINOv3."""

_DINOV2_PATCH, _PATCH = 14, 16

_BLOCK: Rules = (
    (r"(layers?|blocks)\.(\d+)\.attention\.(out|o)_proj\.", r"blocks.\2.attn.proj."),
    (r"(layers?|blocks)\.(\d+)\.attention\.", r"blocks.\2.attn."),
    (r"(layers?|blocks)\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\2.ls\3.gamma"),
    (r"(layers?|blocks)\.(\d+)\.mlp\.down_proj\.", r"blocks.\2.mlp.fc2."),
    (r"(layers?|blocks)\.(\d+)\.", r"blocks.\2."),
)
_ENCODER: Rules = (
    (r"(embeddings|patch_embed)\.mask_token", None),
    (r"(embeddings|patch_embed)\.cls_token", "cls_token"),
    (r"(embeddings|patch_embed)\.register_tokens", "reg_token"),
    (r"(embeddings|patch_embed)\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"embeddings\.position_embeddings\.weight", "pos_embed"),
    (r"(layernorm|norm)\.", "norm."),
    (r"rope_embeddings\.", None),
    *_BLOCK,
)


def dinov3(source: Source) -> ForeignModel:
    """A ``DINOv3ViTModel`` as an encoder. Raises: UserError for a config that is not supported."""
    config = Config(source.config, "config.json", source.config_name)
    values = vit_options(config) | rotary_options(config)
    weights = encoder_weights({name.removeprefix("model."): value for name, value in source.weights.items()})
    return ForeignModel(DINOV3, named_vit(values, weights), None)


def is_timm_dinov2(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names and patches of timm's DINOv2."""
    patches = weights.get("patch_embed.proj.weight")
    return (
        patches is not None
        and patches.shape[-1:] == (_DINOV2_PATCH,)
        and {"cls_token", "pos_embed", "blocks.0.ls1.gamma", "blocks.0.attn.qkv.weight"} <= weights.keys()
    )


def timm_dinov2(source: Source) -> ForeignModel:
    """A DINOv2 of timm as an encoder, with patches of 16 pixels, as the authors of EoMT use it.

    Raises: UserError if timm, which resizes the patches, is missing, or the weights are of another model.
    """
    weights = dict(source.weights)
    notes = (
        f"Its patches are resized from {_DINOV2_PATCH} to {_PATCH} pixels, so that masks have the stride 4.",
    )
    require("timm", source.name)
    from timm.layers import resample_patch_embed

    patches = weights["patch_embed.proj.weight"]
    weights["patch_embed.proj.weight"] = resample_patch_embed(patches, [_PATCH, _PATCH])
    values = sizes(weights) | {"eps": 1e-6}
    if values["width"] % PER_HEAD:
        raise UserError(
            f"{source.name} is not a DINOv2: its width {values['width']} is not a multiple of 64."
        )
    values["heads"] = values["width"] // PER_HEAD
    values |= positions(weights, values["registers"], source)
    weights.pop("mask_token", None)
    return ForeignModel(TIMM_DINOV2, named_vit(values, weights), None, notes=notes)


def sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that follow from the shapes of weights under the names of this package."""
    hidden, up = (weights.get(f"blocks.0.mlp.fc{k}.weight") for k in (2, 1))
    registers, patches = weights.get("reg_token"), weights.get("patch_embed.proj.weight")
    depths = [int(match[1]) for name in weights if (match := re.match(r"blocks\.(\d{1,4})\.", name))]
    return {
        "depth": 1 + max(depths, default=-1),
        "width": int(weights.get("cls_token", torch.empty(0)).numel()),
        "patch": 0 if patches is None or patches.dim() != 4 else patches.shape[-1],
        "registers": 0 if registers is None or registers.dim() != 3 else registers.shape[1],
        "hidden": 0 if hidden is None else hidden.shape[-1],
        "gated": hidden is not None and up is not None and len(up) == 2 * hidden.shape[-1],
    }


def named_vit(values: Mapping[str, Any], weights: dict[str, Tensor]) -> ForeignPart:
    """The encoder with these options, where those that are not given have their defaults."""
    usual = {"layer_scale": 1e-5, "theta": 100.0, "key_bias": True, "drop_path": 0.0, "class_position": False}
    values = {**usual, **values}
    if values["hidden"] == hidden_width(values["width"], values["gated"]):
        values["hidden"] = 0
    return ForeignPart(*nearest_named("dinov2_" if values["grid"] else "dinov3_", values), weights)


def vit_options(config: Config) -> dict[str, Any]:
    """The options of a `VisionTransformer` in a config of transformers. Raises: UserError."""
    gated = config.switch("use_gated_mlp", False)
    config.expect("hidden_act", "silu" if gated else "gelu")
    return {
        "depth": config.integer("num_hidden_layers", 24),
        "width": config.integer("hidden_size", 1024),
        "heads": config.integer("num_attention_heads", 16),
        "patch": config.integer("patch_size", 16),
        "registers": config.integer("num_register_tokens", 4),
        "eps": config.number("layer_norm_eps", 1e-6),
        "drop_path": config.number("drop_path_rate", 0.0),
    }


def rotary_options(config: Config) -> dict[str, Any]:
    """The options of a DINOv3, which differ from those of a DINOv2."""
    for key in ("query_bias", "value_bias", "proj_bias", "mlp_bias"):
        config.expect(key, True)
    theta = config.number("rope_theta", 100.0)
    if "rope_parameters" in config:
        rope = config.section("rope_parameters")
        rope.expect("rope_type", "default")
        theta = rope.number("rope_theta", 100.0)
    return {
        "grid": 0,
        "theta": theta,
        "key_bias": config.switch("key_bias", False),
        "gated": config.switch("use_gated_mlp", False),
        "hidden": config.integer("intermediate_size", 4096),
    }


def encoder_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the encoder under the names of this package."""
    result = renamed(weights, _ENCODER)
    joined(result, ("q_proj", "k_proj", "v_proj"), "qkv")
    joined(result, ("mlp.gate_proj", "mlp.up_proj"), "mlp.fc1")
    result = renamed(
        result,
        (
            (r"(blocks\.\d+\.mlp)\.up_proj\.", r"\1.fc1."),
            (r"(blocks\.\d+\.attn)\.([qv])_proj\.bias", r"\1.\2_bias"),
        ),
    )
    if "reg_token" in result and not result["reg_token"].numel():
        del result["reg_token"]
    if "pos_embed" in result and result["pos_embed"].dim() == 2:
        result["pos_embed"] = result["pos_embed"][None]
    return result


def positions(weights: Mapping[str, Tensor], registers: int, source: Source) -> dict[str, Any]:
    """The options of the learned positions."""
    given = weights["pos_embed"]
    count = given.shape[1] if given.dim() == 3 else 0
    of_class = not registers and count > 1 and math.isqrt(count - 1) ** 2 == count - 1
    count -= of_class
    side = math.isqrt(count)
    if not count or side**2 != count:
        raise UserError(f"{source.name} has {count} positions, but only square grids of them are supported.")
    return {"grid": side, "class_position": of_class}
