"""Plans for building timm models that return feature maps of images of any size.

timm lists the maps of a model. The options and the padding for other image sizes differ from model to model.
They are found by trial on the meta device, which computes only shapes.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from ...errors import UserError
from ...runtime.near_names import nearest
from ..input_channels import RGB

_FINEST = 4  # stride of the first map used; finer maps cost more than they help
_STRIDES = (8, 16, 32)  # values of MODEL.output_stride
_SIZES = ((1, 1), (33, 97), (225, 130))  # height and width, tried without padding
_FACTORS = (1, 2, 3, 4)  # multiples of the coarsest stride to try for models that need padding
# Options that let a model take other image sizes than its own. The first that the model accepts is used.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
# Exceptions that models raise for unsupported arguments and sizes.
_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Plan(NamedTuple):
    """How to get feature maps from a timm model.

    Attributes:
        options: arguments of ``timm.create_model``.
        whole: the model has a single scale; its last map is used, after the last normalization.
        channels, strides: of the maps, finest first.
        multiple: the sides of the image are padded to a multiple of it.
        exact: the sides of a map are those of the padded image divided by the stride. If False, they are only
            close to that.
    """

    options: dict[str, Any]
    whole: bool
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1
    exact: bool = True

    def build(self, name: str, pretrained: bool = False, in_channels: int = RGB) -> nn.Module:
        """A module (image -> list of maps), with random weights or those that timm downloads."""
        # Not named for RGB, because some models do not have that option.
        options = self.options if in_channels == RGB else {**self.options, "in_chans": in_channels}
        if not self.whole:
            return timm.create_model(name, pretrained, features_only=True, **options)
        return LastMap(timm.create_model(name, pretrained, num_classes=0, **options))


class LastMap(nn.Module):
    """The last map of a single-scale model, after its last normalization. (N, 3, H, W) -> [map]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
        self.model = model
        self.pretrained_cfg = model.pretrained_cfg

    def forward(self, x: Tensor) -> list[Tensor]:
        model: Any = self.model
        return model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)


@cache
def plan(name: str, output_stride: int = 0) -> Plan:
    """The plan for a model.

    Args:
        name: name of the model in timm, with or without the tag of its weights.
        output_stride: stride of the last map; 0 for the model's own.

    Raises: UserError if timm has no such model, or the model has no feature maps, does not have that stride,
        or takes only a single image size.
    """
    _check_name(name)
    with torch.device("meta"), torch.no_grad():
        found = _maps(name)
        if output_stride not in (0, found.strides[-1]):
            found = _dilated(name, found, output_stride)
        return _sized(name, found)


def nhwc(net: nn.Module) -> bool:
    """Whether the maps of a timm model have the channels last."""
    return getattr(net, "output_fmt", "NCHW") == "NHWC"


def _check_name(name: str) -> None:
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        near = [f"timm/{other}" for other in nearest(arch, timm.list_models(), 3)]
        hint = f" Did you mean {' or '.join(filter(None, (', '.join(near[:-1]), near[-1])))}?" if near else ""
        raise UserError(
            f"MODEL.arch_encoder is 'timm/{name}', which timm {timm.__version__} does not have.{hint} "
            "timm.list_models() lists all models."
        )
    tags = [other.partition(".")[2] for other in timm.list_models(f"{arch}.*", pretrained=True)]
    if tag and tag not in tags:
        known = f"has weights {', '.join(tags)}" if tags else "has no trained weights"
        raise UserError(f"MODEL.arch_encoder is 'timm/{name}', but timm/{arch} {known}. Remove {tag!r}.")


def _maps(name: str) -> Plan:
    """The plan with the maps that timm lists, before any stride or padding is chosen."""
    reason = ""
    for options in _ANY_SIZE:
        try:
            net: Any = timm.create_model(name, features_only=True, **options)
            info = net.feature_info
            strides, channels, indices = info.reduction(), info.channels(), info.out_indices
        except _REFUSALS as error:
            reason = reason or " ".join(str(error).split())
            continue
        if len(set(strides)) == 1 and hasattr(net, "model"):  # timm's wrapper of plain transformers
            return Plan(options, True, tuple(channels[-1:]), tuple(strides[-1:]))
        chosen = [i for i, stride in enumerate(strides) if stride >= _FINEST] or [len(strides) - 1]
        options = {**options, "out_indices": tuple(indices[i] for i in chosen)}
        return Plan(options, False, tuple(channels[i] for i in chosen), tuple(strides[i] for i in chosen))
    raise UserError(
        f"MODEL.arch_encoder is 'timm/{name}', which returns no feature maps in timm {timm.__version__} "
        f"({reason}). Choose another encoder, such as timm/resnet50."
    )


def _dilated(name: str, found: Plan, output_stride: int) -> Plan:
    """The plan with another last stride."""
    with_strides = {found.strides[-1]: found, **dict(_other_strides(name, found))}
    if output_stride not in with_strides:
        *others, last = (str(stride) for stride in sorted(with_strides))
        known = f"one of {', '.join(others)} and {last}" if others else last
        raise UserError(
            f"MODEL.output_stride is {output_stride}, but timm/{name} has only {known}. "
            f"Set MODEL.output_stride {0 if not others else last}, or choose another encoder."
        )
    return with_strides[output_stride]


def _other_strides(name: str, found: Plan) -> Iterator[tuple[int, Plan]]:
    for stride in _STRIDES:
        new = found._replace(options={**found.options, "output_stride": stride})
        try:
            net: Any = new.build(name)
            strides = tuple(net.feature_info.reduction())
        except _REFUSALS:
            continue
        if strides[-1] == stride:
            yield stride, new._replace(strides=strides)


def _sized(name: str, found: Plan) -> Plan:
    """The plan with the smallest multiple with which the model takes images of any size."""
    net: Any = found.build(name).eval()
    coarsest = max(found.strides)
    height, width = net.pretrained_cfg["input_size"][-2:]
    own = -(-width // coarsest) * coarsest  # the size that its windows were designed for
    inexact = None
    for multiple in (1, *(factor * coarsest for factor in _FACTORS), own):
        sizes = _SIZES if multiple == 1 else [(multiple, multiple), (2 * multiple, 3 * multiple)]
        try:
            exact = min([_is_exact(net, found, size) for size in sizes])  # a list, to try every size
        except _REFUSALS:
            continue
        if exact:
            return found._replace(multiple=multiple)
        if multiple > 1 and inexact is None:
            inexact = found._replace(multiple=multiple, exact=False)
    if inexact is None:
        raise UserError(
            f"MODEL.arch_encoder is 'timm/{name}', which failed on images of other sizes than timm's "
            f"{height} x {width}. Choose another encoder, such as timm/resnet50."
        )
    return inexact


def _is_exact(net: nn.Module, found: Plan, size: tuple[int, int]) -> bool:
    """Whether the sides of the maps are those of the image divided by the strides, rounded up.

    Raises: ValueError if the maps do not have the planned channels.
    """
    maps: list[Tensor] = net(torch.empty(2, 3, *size))
    shapes = [tuple(x.permute(0, 3, 1, 2).shape if nhwc(net) else x.shape) for x in maps]
    if [shape[:2] for shape in shapes] != [(2, width) for width in found.channels]:
        raise ValueError(f"maps of the shapes {shapes}")
    wanted = [tuple(-(-side // stride) for side in size) for stride in found.strides]
    return [shape[2:] for shape in shapes] == wanted
