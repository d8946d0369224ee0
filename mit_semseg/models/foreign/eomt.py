"""EoMT, by the names of Hugging Face's transformers and by those of its authors.

Sources: the models ``EomtForUniversalSegmentation`` and ``EomtDinov3ForUniversalSegmentation`` of the package
transformers, version 5, and the checkpoints of Kerssies et al. 2025.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from ..encoders.vit import hidden_width
from .config import Config
from .model import ForeignModel, ForeignPart, Rules, joined, nearest_named, renamed
from .source import Source

EOMT = "EoMT of Hugging Face"
AUTHORS = "EoMT of its authors"
DINOV3 = "DINOv3 of Hugging Face"
NO_BASE = "none"
"""In place of a base: the file holds the weights themselves, not their differences to those of a base."""

_PER_HEAD = 64  # channels of a head, in all vision transformers of DINOv2 and DINOv3
_BACKBONE = "encoder.backbone."  # of the authors' names
_MEAN = (0.485, 0.456, 0.406)

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
_DECODER: Rules = (
    (r"query\.", "q."),
    (r"class_predictor\.", "class_head."),
    (r"mask_head\.fc([123])\.", lambda match: f"mask_head.{2 * int(match[1]) - 2}."),
    (r"upscale_block\.block\.(\d+)\.layernorm2d\.", r"upscale.\1.norm."),
    (r"upscale_block\.block\.(\d+)\.", r"upscale.\1."),
    (r"criterion\.", None),
)
_ENCODER_NAMES = ("embeddings.", "layers.", "layernorm.", "rope_embeddings.")


def is_authors(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights have the authors' names."""
    return any(name.removeprefix("network.").startswith(_BACKBONE) for name in weights)


def eomt(source: Source) -> ForeignModel:
    """An EoMT of transformers. Raises: UserError for a config that is not supported."""
    config = Config(source.config, "config.json", source.config_name)
    encoder = {name: value for name, value in source.weights.items() if name.startswith(_ENCODER_NAMES)}
    decoder = {name: value for name, value in source.weights.items() if name not in encoder}
    config.expect("use_gated_mlp", False)  # its heads would have the gate's activation
    values = _vit(config)
    rotary = config.text("model_type") == "eomt_dinov3"
    if rotary:
        values |= _rotary(config)
    else:
        patch, size = config.integer("patch_size", 16), config.integer("image_size", 640)
        values["grid"] = size // max(patch, 1)
        values["gated"] = config.switch("use_swiglu_ffn", False)
        hidden = int(values["width"] * config.number("mlp_ratio", 4))
        values["hidden"] = (int(hidden * 2 / 3) + 7) // 8 * 8 if values["gated"] else hidden
    weights = _encoder_weights(encoder)
    if source.base is not None:
        weights = _added(weights, source)
    config.expect("num_channels", 3)
    return _model(
        EOMT,
        values,
        weights,
        renamed(decoder, _DECODER),
        names=_names(config),
        size=config.integer("image_size", 640),
        joint_blocks=config.integer("num_blocks", 4),
    )


def eomt_of_authors(source: Source) -> ForeignModel:
    """A checkpoint of the authors, whose differences are added to the base if it is one of DINOv3.

    Raises: UserError if the base is missing, or the number of heads is not known.
    """
    given = {name.removeprefix("network."): value for name, value in source.weights.items()}
    start = {
        name.removeprefix(_BACKBONE): value for name, value in given.items() if name.startswith(_BACKBONE)
    }
    decoder = {name: value for name, value in given.items() if not name.startswith("encoder.")}
    rotary = "pos_embed" not in start
    config = Config(source.config, "config", source.config_name)
    if rotary and source.base is None and not source.complete:
        raise UserError(
            f"{source.name} is an EoMT with DINOv3. Its authors publish the differences to the weights of "
            "DINOv3, which you must have: name their folder, with config.json and model.safetensors, by "
            f"--base FOLDER. If the file holds the weights themselves, add --base {NO_BASE}."
        )
    if not rotary and source.base is not None:
        raise UserError(f"{source.name} is an EoMT with DINOv2, which holds all its weights. Omit --base.")
    weights = _encoder_weights(start)
    width = int(weights.get("cls_token", torch.empty(0)).numel())
    depth = 1 + max((int(name.split(".")[1]) for name in weights if name.startswith("blocks.")), default=-1)
    patches = weights.get("patch_embed.proj.weight")
    if not width or not depth or patches is None or patches.dim() != 4:
        raise UserError(
            f"{source.name} is not a whole EoMT: cls_token, blocks or patch_embed.proj is missing."
        )
    registers = weights.get("reg_token")
    hidden = weights.get("blocks.0.mlp.fc2.weight")
    up = weights.get("blocks.0.mlp.fc1.weight")
    notes: list[str] = []
    values: dict[str, Any] = {
        "depth": depth,
        "width": width,
        "patch": patches.shape[-1],
        "registers": 0 if registers is None or registers.dim() != 3 else registers.shape[1],
        "hidden": 0 if hidden is None else hidden.shape[-1],
        "gated": hidden is not None and up is not None and len(up) == 2 * hidden.shape[-1],
        "eps": 1e-6,
    }
    if source.base is not None:
        base = Config(source.base.config, "config.json", source.base.config_name)
        values |= _vit(base) | _rotary(base)
        weights = _added(weights, source)
    else:
        _check_mean(given.get("encoder.pixel_mean"), source)
        values["heads"] = _heads(config, width, source, notes)
        if rotary:
            values |= {"grid": 0, "key_bias": "blocks.0.attn.qkv.bias" in weights, "eps": 1e-5}
    size = config.integer("image_size", 0)
    if not rotary:
        values |= _positions(weights, values["registers"], source)
        size = size or values["grid"] * values["patch"]
    if not size:
        notes.append(
            "The file does not tell the size of its training images. Set INFERENCE.tile and DATASET.imgSizes "
            "to it."
        )
    probabilities = decoder.get("attn_mask_probs")
    if probabilities is not None:
        decoder["attn_mask_probs"] = probabilities.clamp(0, 1)  # a difference to the initial 1 is below 0
    return _model(
        AUTHORS,
        values,
        weights,
        renamed(decoder, _DECODER),
        names=(),
        size=size,
        joint_blocks=0 if probabilities is None else len(probabilities),
        notes=tuple(notes),
    )


def dinov3(source: Source) -> ForeignModel:
    """A ``DINOv3ViTModel`` as an encoder. Raises: UserError for a config that is not supported."""
    config = Config(source.config, "config.json", source.config_name)
    values = _vit(config) | _rotary(config)
    weights = _encoder_weights({name.removeprefix("model."): value for name, value in source.weights.items()})
    if values["hidden"] == hidden_width(values["width"], values["gated"]):
        values["hidden"] = 0
    return ForeignModel(DINOV3, ForeignPart(*nearest_named("dinov3_", values), weights), None)


def _vit(config: Config) -> dict[str, Any]:
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


def _rotary(config: Config) -> dict[str, Any]:
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


def _encoder_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _added(weights: Mapping[str, Tensor], source: Source) -> dict[str, Tensor]:
    """The sums of the differences and the weights of the base. Raises: UserError if they do not fit."""
    assert source.base is not None
    base = dinov3(source.base).encoder.weights
    differing = [
        name
        for name in sorted({*weights, *base})
        if name not in weights or name not in base or weights[name].shape != base[name].shape
    ]
    if differing:
        raise UserError(
            f"{source.base.name} is not the base of {source.name}: {len(differing)} weights differ in name "
            f"or shape (first: {differing[0]}). Name the DINOv3 of the same size by --base."
        )
    return {name: base[name] + value for name, value in weights.items()}


def _heads(config: Config, width: int, source: Source, notes: list[str]) -> int:
    if "num_attention_heads" in config:
        return config.integer("num_attention_heads")
    if width % _PER_HEAD:
        raise UserError(
            f"{source.name} does not tell the number of its heads, and its width {width} is not a multiple "
            f'of {_PER_HEAD}. Write it to a file, as {{"num_attention_heads": 6}}, and add --config FILE.'
        )
    notes.append(
        f"The file does not tell the number of its heads: {width // _PER_HEAD} are assumed, of {_PER_HEAD} "
        "channels each, as in all models of its authors."
    )
    return width // _PER_HEAD


def _check_mean(mean: Tensor | None, source: Source) -> None:
    if (
        mean is not None
        and mean.numel() == 3
        and not torch.allclose(mean.flatten().float(), torch.tensor(_MEAN))
    ):
        raise UserError(
            f"{source.name} normalizes images by the mean {mean.flatten().tolist()}, but only ImageNet's "
            f"{list(_MEAN)} is supported."
        )


def _positions(weights: Mapping[str, Tensor], registers: int, source: Source) -> dict[str, Any]:
    """The options of the learned positions."""
    positions = weights["pos_embed"]
    count = positions.shape[1] if positions.dim() == 3 else 0
    of_class = not registers and count > 1 and math.isqrt(count - 1) ** 2 == count - 1
    count -= of_class
    side = math.isqrt(count)
    if not count or side**2 != count:
        raise UserError(f"{source.name} has {count} positions, but only square grids of them are supported.")
    return {"grid": side, "class_position": of_class}


def _model(
    family: str,
    values: Mapping[str, Any],
    encoder: dict[str, Tensor],
    decoder: dict[str, Tensor],
    *,
    names: tuple[str, ...],
    size: int,
    joint_blocks: int,
    notes: tuple[str, ...] = (),
) -> ForeignModel:
    classes, queries = decoder.get("class_head.weight"), decoder.get("q.weight")
    if classes is None or queries is None or min(classes.dim(), queries.dim()) != 2 or len(classes) < 2:
        raise UserError(f"This {family} has no queries or no classifier, so it cannot be imported.")
    count = len(classes) - 1
    if names and len(names) != count:
        raise UserError(
            f"id2label names {len(names)} classes, but the weights have {count}. Name the weights and the "
            "config of one model."
        )
    options: dict[str, Any] = {"queries": len(queries)}
    upscales = len({name.split(".")[1] for name in decoder if name.startswith("upscale.")})
    options |= {"joint_blocks": joint_blocks, "upscales": upscales}
    shares = decoder.get("attn_mask_probs")
    usual = {"layer_scale": 1e-5, "theta": 100.0, "key_bias": True, "drop_path": 0.0, "class_position": False}
    values = {**usual, **values}
    if values["hidden"] == hidden_width(values["width"], values["gated"]):
        values["hidden"] = 0
    if shares is not None and bool(((shares > 0) & (shares < 1)).any()):
        notes = (
            *notes,
            "Its training stopped while the masks of the attention were annealed: here, a block restricts "
            "all its queries if its share is one half or more, and none otherwise. The original draws them.",
        )
    kind = "dinov2_" if values["grid"] else "dinov3_"
    return ForeignModel(
        family,
        ForeignPart(*nearest_named(kind, values), encoder),
        ForeignPart(
            "eomt", {key: value for key, value in options.items() if value != _DEFAULTS[key]}, decoder
        ),
        num_class=count,
        names=names,
        short_edge=size,
        max_long_edge=4 * size,
        tile=size,
        notes=notes,
    )


_DEFAULTS = {"queries": 100, "joint_blocks": 4, "upscales": 2}


def _names(config: Config) -> tuple[str, ...]:
    found = config.values.get("id2label") or {}
    try:
        names = tuple(str(found[key]) for key in sorted(found, key=int))
    except (TypeError, ValueError, AttributeError):
        config.refuse("id2label", "whose keys must be numbers")
    return () if all(name == f"LABEL_{k}" for k, name in enumerate(names)) else names
