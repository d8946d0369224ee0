"""Loading weights into a timm encoder, from a run's checkpoint, a timm classifier, or a package."""

from collections.abc import Container, Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from ..weights.checkpoint import read
from ..weights.fit import fit_weights, required_names
from ..weights.packaged import PREFIX, packaged_weights
from ..weights.packed import is_packed, read_part
from ..weights.unwrap import unwrap
from .timm_encoder import TimmEncoder


def load_timm_weights(net: TimmEncoder, weights: str, name: str, *, adapt: bool = False) -> None:
    """Load all weights into an encoder, or raise and change nothing.

    The file is a .pth or .safetensors checkpoint of a run or of the timm classifier of that name, see
    `unwrap`. The classifier's head is ignored. If an older file uses other names, timm translates them.

    Args:
        weights: the file, or ``package:NAME``.
        name: name of the model in timm.
        adapt: see `mit_semseg.models.weights.fit.load_weights`.

    Raises: UserError if the weights cannot be read, or if they are of another model.
    """
    with torch.device("meta"):
        classifier = timm.create_model(name).state_dict()
    prefix = ""
    if weights.startswith(PREFIX):
        shapes = [(key, tuple(value.shape)) for key, value in classifier.items()]
        state = packaged_weights(weights, f"timm/{name}", shapes)
    else:
        names = required_names(net)
        content = read_part(weights, "encoder") if is_packed(weights) else read(weights)
        found = unwrap(content, weights, names, [_original(key, classifier) for key in names])
        state, prefix = found.by_name, found.prefix
    if not any(key in net.state_dict() for key in state):  # not a run's checkpoint
        if any(key in classifier and state[key].shape != classifier[key].shape for key in state) or not (
            state.keys() <= classifier.keys()
        ):
            state = _translated(name, state) or state
        state = _renamed(net, state, classifier)
    fit_weights(net, state, weights, part="encoder", arch=f"timm/{name}", removed_prefix=prefix, adapt=adapt)


def _translated(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights as timm itself loads them into its classifier; None if it cannot."""
    try:
        source: dict[str, Any] = {"state_dict": dict(state)}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source).state_dict()
    except Exception:  # translating another model's weights can fail in any way
        return None


def _renamed(
    net: TimmEncoder, state: Mapping[str, Tensor], classifier: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A classifier's weights under the encoder's names, without those that the encoder lacks."""
    ours = {_original(key, classifier): key for key in net.state_dict()}
    return {ours.get(key, key): value for key, value in state.items() if key in ours or key not in classifier}


def _original(key: str, classifier: Container[str]) -> str:
    """The classifier's name for a weight of the encoder.

    timm wraps a model as ``body`` or ``model``, or flattens its sequences: ``stages.0.x`` to ``stages_0.x``.
    """
    key = key.removeprefix("net.")
    first, _, rest = key.partition(".")
    parts = first.split("_")
    flattened = [
        f"{'_'.join(parts[:i])}.{'_'.join(parts[i:])}.{rest}" for i in reversed(range(1, len(parts)))
    ]
    wrapped = [rest] if first in ("body", "model") else []
    return next((other for other in (key, *wrapped, *flattened) if other in classifier), key)
