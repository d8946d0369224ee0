"""Models of mmsegmentation: an ``EncoderDecoder`` of a backbone, a head and maybe an auxiliary head.

Source: the package mmsegmentation 1.x, and checkpoints of 0.x, whose weights have the same names.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import UserError
from .config import Config
from .mmseg_backbones import backbone
from .mmseg_heads import HEADS, head_options, map_of_encoder
from .model import ForeignModel, ForeignPart, renamed
from .rules import auxiliary_head
from .source import Source

MMSEGMENTATION = "model of mmsegmentation"

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, for RGB from 0 to 255
_SCORED = (512, 2048)


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
    body = backbone(model.section("backbone"), encoder)
    head = model.section("decode_head")
    kind = head.text("type")
    if kind not in HEADS:
        head.refuse("type", f"which is not supported. Supported: {', '.join(HEADS)}")
    plan = HEADS[kind]
    options = head_options(head, plan, body.maps)
    auxiliary, notes = _auxiliary(model, body.maps)
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
    found = ForeignModel(
        MMSEGMENTATION,
        body.part,
        ForeignPart(plan.arch + ("_deepsup" if auxiliary else ""), options, decoder),
        num_class=count,
        dim=head.integer("channels"),
        dropout=max(head.number("dropout_ratio", 0.1), 0.0),  # -1 is none there
        aux_weight=auxiliary.weight if auxiliary else None,
        names=names,
        colors=source.colors,
        short_edge=_SCORED[0],
        max_long_edge=_SCORED[1],
        notes=notes,
    )
    _check_channels(head, found, options.get("maps", body.maps if plan.many else body.maps[-1:]))
    return found


def _check_channels(head: Config, model: ForeignModel, maps: Sequence[int]) -> None:
    """Refuse a head for other channels than those of the maps that it reads."""
    channels = model.encoder_channels()
    read = [channels[index] for index in maps]
    given = head.values.get("in_channels", read)
    if (list(given) if isinstance(given, list | tuple) else [given]) != read:
        head.refuse("in_channels", f"but the maps of the backbone that it reads have {read} channels")


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
    index = map_of_encoder(head.integer("in_index", -1), maps, head)
    if index != maps[-1] - 1:
        options["aux_map"] = index
    loss = head.values.get("loss_decode")
    loss = loss[0] if isinstance(loss, Sequence) and loss and not isinstance(loss, str) else loss
    weight = loss.get("loss_weight", 1.0) if isinstance(loss, Mapping) else 1.0
    return _Auxiliary(options, float(weight) if type(weight) in (int, float) else 1.0), ()


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
