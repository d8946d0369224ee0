"""The families of foreign models, and which of them a source belongs to."""

from collections.abc import Callable

from ...errors import UserError
from .dino import DINOV3, TIMM_DINOV2, dinov3, is_timm_dinov2, timm_dinov2
from .eomt import AUTHORS, EOMT, eomt, eomt_of_authors, is_authors
from .huggingface import SEGFORMER, UPERNET, segformer, upernet
from .mmsegmentation import MMSEGMENTATION, mmsegmentation
from .model import ForeignModel, Unbuildable
from .source import Source

FAMILIES: dict[str, Callable[[Source], ForeignModel]] = {
    SEGFORMER: segformer,
    UPERNET: upernet,
    MMSEGMENTATION: mmsegmentation,
    EOMT: eomt,
    AUTHORS: eomt_of_authors,
    DINOV3: dinov3,
    TIMM_DINOV2: timm_dinov2,
}
# By the key model_type of a config.json.
_BY_TYPE = {
    "segformer": SEGFORMER,
    "upernet": UPERNET,
    "eomt": EOMT,
    "eomt_dinov3": EOMT,
    "dinov3_vit": DINOV3,
}
_TAKE_BASE = (EOMT, AUTHORS)
_SHOWN = 3  # names of weights in a message


class UnknownFamily(UserError):
    """A source that no family recognizes."""


def convert(source: Source) -> ForeignModel:
    """The model of a source, with all weights checked.

    Raises: UnknownFamily; or UserError if its config is missing, or not everything in it is supported.
    """
    family = _recognize(source)
    if source.base is not None and family not in _TAKE_BASE:
        raise UserError(f"{source.name} is a {family}, which holds all its weights. Omit --base.")
    try:
        model = FAMILIES[family](source)
        model.check(source.name)
    except Unbuildable as error:
        raise UserError(f"{source.name}: {error} Name the config of this model.") from None
    return model


def _recognize(source: Source) -> str:
    kind = source.config.get("model_type")
    if isinstance(kind, str) and kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if is_authors(source.weights):
        return AUTHORS
    if is_timm_dinov2(source.weights):
        return TIMM_DINOV2
    if isinstance(source.config.get("model"), dict):
        return MMSEGMENTATION
    starts = {name.partition(".")[0] for name in source.weights}
    if not source.config:
        family, file = "", ""
        if {"query", "class_predictor"} <= starts:
            family, file = EOMT, "config.json"
        elif "segformer" in starts:
            family, file = SEGFORMER, "config.json"
        elif any(name.startswith("backbone.hidden_states_norms.") for name in source.weights):
            family, file = UPERNET, "config.json"
        elif {"backbone", "decode_head"} <= starts:
            family, file = MMSEGMENTATION, "config file (.py)"
        if family:
            raise UserError(
                f"{source.name} looks like a {family}, but holds no config, on which its result depends. "
                f"Name its {file} with --config FILE."
            )
    what = f"a model of type '{kind}'" if kind else "no config of a known kind"
    if "encoder_name" in source.config:
        what = f"a {source.config.get('_model_class')} of segmentation_models.pytorch"
    names = ", ".join(sorted(source.weights)[:_SHOWN])
    raise UnknownFamily(
        f"{source.name} is not a model that can be imported: it holds {what}, and {len(source.weights)} "
        f"weights ({names}, ...). Supported are {', '.join(FAMILIES)}; docs/models.md lists their parts."
    )
