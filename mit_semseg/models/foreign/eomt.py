"""EoMT, by the names of Hugging Face's transformers and by those of its authors.

Sources: the models ``EomtForUniversalSegmentation`` and ``EomtDinov3ForUniversalSegmentation`` of the package
transformers, version 5, and the checkpoints of Kerssies et al. 2025.
"""

import shlex
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError
from .config import Config
from .dino import (
    PER_HEAD,
    dinov3,
    encoder_weights,
    named_vit,
    positions,
    rotary_options,
    sizes,
    vit_options,
)
from .model import ForeignModel, ForeignPart, Rules, renamed
from .source import Source

EOMT = "EoMT of Hugging Face"
AUTHORS = "EoMT of its authors"
NO_BASE = "none"
"""In place of a base: the file holds the weights themselves, not their differences to those of a base."""

_BACKBONE = "encoder.backbone."  # of the authors' names
_MEAN = (0.485, 0.456, 0.406)

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
    values = vit_options(config)
    rotary = config.text("model_type") == "eomt_dinov3"
    if rotary:
        values |= rotary_options(config)
    else:
        patch, size = config.integer("patch_size", 16), config.integer("image_size", 640)
        values["grid"] = size // max(patch, 1)
        values["gated"] = config.switch("use_swiglu_ffn", False)
        hidden = int(values["width"] * config.number("mlp_ratio", 4))
        values["hidden"] = (int(hidden * 2 / 3) + 7) // 8 * 8 if values["gated"] else hidden
    weights = encoder_weights(encoder)
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
            "DINOv3, which you must have in a folder with config.json and model.safetensors. Add them: "
            f"mit-semseg import {shlex.quote(source.name)} --base FOLDER --out DIR, and use DIR. If the file "
            f"holds the weights themselves: --base {NO_BASE} instead of --base FOLDER."
        )
    if not rotary and source.base is not None:
        raise UserError(f"{source.name} is an EoMT with DINOv2, which holds all its weights. Omit --base.")
    weights = encoder_weights(start)
    values = sizes(weights) | {"eps": 1e-6}
    width = values["width"]
    if not (width and values["depth"] and values["patch"]):
        raise UserError(
            f"{source.name} is not a whole EoMT: cls_token, blocks or patch_embed.proj is missing."
        )
    notes: list[str] = []
    if source.base is not None:
        base = Config(source.base.config, "config.json", source.base.config_name)
        values |= vit_options(base) | rotary_options(base)
        weights = _added(weights, source)
    else:
        _check_mean(given.get("encoder.pixel_mean"), source)
        values["heads"] = _heads(config, width, source, notes)
        if rotary:
            values |= {"grid": 0, "key_bias": "blocks.0.attn.qkv.bias" in weights, "eps": 1e-5}
    size = config.integer("image_size", 0)
    if not rotary:
        values |= positions(weights, values["registers"], source)
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
    if width % PER_HEAD:
        raise UserError(
            f"{source.name} does not tell the number of its heads, and its width {width} is not a multiple "
            f'of {PER_HEAD}. Write it to a file, as {{"num_attention_heads": 6}}, and add --config FILE.'
        )
    notes.append(
        f"The file does not tell the number of its heads: {width // PER_HEAD} are assumed, of {PER_HEAD} "
        "channels each, as in all models of its authors."
    )
    return width // PER_HEAD


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
    if shares is not None and bool(((shares > 0) & (shares < 1)).any()):
        notes = (
            *notes,
            "Its training stopped while the masks of the attention were annealed: here, a block restricts "
            "all its queries if its share is one half or more, and none otherwise. The original draws them.",
        )
    return ForeignModel(
        family,
        named_vit(values, encoder),
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
