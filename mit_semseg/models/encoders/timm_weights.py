"""Weights for a timm encoder from a file: of a run, of a timm classifier, or of a package."""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...checkpoint import fit_weights, read_state_dict
from ...errors import UserError
from ..packaged import PREFIX, packaged_weights
from .timm_encoder import TimmEncoder


def load_timm_weights(net: TimmEncoder, weights: str, name: str) -> None:
    """Loads weights into an encoder: all of them, or none and an error.

    A file is a checkpoint of a run, or of timm's classifier of that name, as .pth or .safetensors, whose
    classifier is left out. What older files of timm call otherwise, timm translates.

    Args:
        weights: the file, or ``package:NAME``.
        name: of the model in timm.

    Raises: UserError if the weights can't be read, or are another model's. The encoder is as it was, then.
    """
    with torch.device("meta"):
        classifier = timm.create_model(name).state_dict()
    if weights.startswith(PREFIX):
        shapes = [(key, tuple(value.shape)) for key, value in classifier.items()]
        state = packaged_weights(weights, f"timm/{name}", shapes)
    else:
        state = _read(Path(weights))
    if not any(key in net.state_dict() for key in state):  # not a run's checkpoint
        if any(key in classifier and state[key].shape != classifier[key].shape for key in state) or not (
            state.keys() <= classifier.keys()
        ):
            state = _translated(name, state) or state
        state = _renamed(net, state, classifier)
    fit_weights(net, state, weights, part="encoder", arch=f"timm/{name}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist. Name another file.") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}. Fetch it again, or name another file.") from error


def _translated(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights as timm itself takes them into its classifier; None if it does not."""
    try:
        source: dict[str, Any] = {"state_dict": dict(state)}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source).state_dict()
    except Exception:  # what a translation makes of another model's weights can fail in any way
        return None


def _renamed(
    net: TimmEncoder, state: Mapping[str, Tensor], classifier: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A classifier's weights under the encoder's names, without those that the encoder does not have."""
    ours = {_original(key, classifier): key for key in net.state_dict()}
    return {ours.get(key, key): value for key, value in state.items() if key in ours or key not in classifier}


def _original(key: str, classifier: Container[str]) -> str:
    """What a weight of the encoder is called in the classifier.

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
