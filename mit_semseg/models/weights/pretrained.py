"""The published weights: which there are, and where they are downloaded from."""

import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ...errors import UserError
from ...runtime.resources import shipped
from .checkpoint import epoch_path
from .download import fetch
from .fit import load_weights

_HOST = "http://sceneparsing.csail.mit.edu/model"
_MIRROR = "MIT_SEMSEG_MIRROR"  # environment variable: base URL of a mirror with the same paths as the host

# Encoder, without "dilated" -> file with weights trained on ImageNet's 1000 classes.
_IMAGENET = {
    "mobilenetv2": "mobilenet_v2.pth.tar",
    "resnet18": "resnet18-imagenet.pth",
    "resnet50": "resnet50-imagenet.pth",
    "resnet101": "resnet101-imagenet.pth",
    "resnext101": "resnext101-imagenet.pth",
    "hrnetv2": "hrnetv2_w48-imagenet.pth",
}

# Segmentation models trained on ADE20K's 150 classes: folder -> last epoch.
PUBLISHED: dict[str, int] = {
    "ade20k-mobilenetv2dilated-c1_deepsup": 20,
    "ade20k-resnet18dilated-c1_deepsup": 20,
    "ade20k-resnet18dilated-ppm_deepsup": 20,
    "ade20k-resnet50dilated-ppm_deepsup": 20,
    "ade20k-resnet101dilated-ppm_deepsup": 25,
    "ade20k-resnet50-upernet": 30,
    "ade20k-resnet101-upernet": 50,
    "ade20k-hrnetv2-c1": 30,
}

Net = TypeVar("Net", bound=nn.Module)


def imagenet_weights(arch: str) -> Path:
    """The file with an encoder's ImageNet weights, downloaded into torch's cache unless it exists.

    The cache is ``checkpoints/`` in ``torch.hub.get_dir()``, which follows ``TORCH_HOME``.

    Args:
        arch: name of the encoder, in any case.

    Raises: UserError if no weights are published for the encoder, or the download fails.
    """
    name = _IMAGENET.get(arch.lower().removesuffix("dilated"))
    if name is None:
        raise UserError(
            f"No ImageNet weights are published for {arch!r}. Set MODEL.pretrained False to start from "
            "random weights, or MODEL.weights_encoder to a checkpoint."
        )
    return fetch(
        f"{_base_url()}/pretrained_resnet/{name}",
        Path(torch.hub.get_dir()) / "checkpoints" / name,
        otherwise=f"Or set {_MIRROR} to a mirror's URL, or MODEL.pretrained False for random weights.",
    )


def with_imagenet(net: Net, arch: str, pretrained: bool) -> Net:
    """``net`` itself; if ``pretrained``, with the ImageNet weights of ``arch`` loaded."""
    if pretrained:
        load_weights(net, imagenet_weights(arch), part="encoder", arch=arch)
    return net


def fetch_published(folder_name: str, directory: str | Path) -> tuple[Path, Path]:
    """The files of a published segmentation model, downloaded into ``directory`` unless they exist.

    Args:
        folder_name: a key of ``PUBLISHED``.
        directory: a run's folder (``DIR``).

    Returns: the files of the encoder and the decoder.
    Raises: UserError if there is no such model, or the download fails.
    """
    if folder_name not in PUBLISHED:
        raise UserError(
            f"No published model is called {folder_name!r}. The published models are "
            f"{', '.join(sorted(PUBLISHED))}."
        )
    epoch = PUBLISHED[folder_name]
    encoder, decoder = (epoch_path(directory, part, epoch) for part in ("encoder", "decoder"))
    for file in (encoder, decoder):
        fetch(
            f"{_base_url()}/pytorch/{folder_name}/{file.name}",
            file,
            otherwise=f"Or set {_MIRROR} to a mirror's URL.",
        )
    return encoder, decoder


def released_weights(folder_name: str) -> tuple[Path, Path] | None:
    """The encoder and decoder files of a model whose weights ship with the project; None for any other model.

    Args:
        folder_name: name of the model's folder (``DIR``).
    """
    files = {file.name: file for file in shipped(".pth", f"ckpt/released/{folder_name}")}
    return (files["encoder.pth"], files["decoder.pth"]) if files else None


def _base_url() -> str:
    return (os.environ.get(_MIRROR) or _HOST).rstrip("/")
