"""Learning rates that fall from the last block of an encoder towards its input.

Source: Bao et al. 2022, BEiT, section 3.2, with the last block at the full rate, as in EoMT.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import UserError


def layer_rates(encoder: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """A factor on the learning rate of each parameter of an encoder; {} if ``decay`` is 1.

    The last block has the factor 1, each block before it ``decay`` times that of the next. What is before the
    first block has the factor of that block.

    Raises: UserError if the encoder does not tell the order of its blocks.
    """
    if decay == 1:
        return {}
    found = _layers(encoder)
    if found is None:
        raise UserError(
            f"TRAIN.layer_decay is {decay:g}, but the order of this encoder's blocks is not known. "
            "Set it to 1, or choose a transformer, such as mit_b0, swin_tiny, dinov2_small, or a ViT of timm."
        )
    last = max(found.values())
    return {parameter: decay ** (last - layer) for parameter, layer in found.items()}


def _layers(encoder: Any) -> Mapping[nn.Parameter, int] | None:
    """The number of the block of each parameter, counted from 0; None if the encoder has no such order."""
    if hasattr(encoder, "layer_order"):
        layers: dict[nn.Parameter, int] = {}
        for number, parts in enumerate(encoder.layer_order()):
            for part in parts:
                own = part.parameters() if isinstance(part, nn.Module) else [part]
                layers |= {each: number for each in own if each is not None}
        return layers
    model: Any = getattr(getattr(encoder, "net", None), "model", None)
    if not hasattr(model, "group_matcher"):
        return None
    from timm.models._manipulate import group_parameters

    groups = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    known = {name: parameter for name, parameter in model.named_parameters() if name in groups}
    # timm counts the embedding as a layer of its own, and the last normalization as another one.
    numbers = [groups[name] for name in known if "blocks." in name]
    if not numbers:
        return None
    first, last = min(numbers), max(numbers)
    return {parameter: min(max(groups[name], first), last) - first for name, parameter in known.items()}
