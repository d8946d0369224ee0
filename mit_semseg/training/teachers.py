"""Teachers: trained models whose probabilities the network learns, by the loss `Distillation`."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import bands
from ..data.classes import load_classes, numbered_classes
from ..data.resize import round_up
from ..errors import UserError
from ..inference.checkpoints import Weights, model_file, trained_weights
from ..inference.exported import AnyNetwork
from ..inference.load import check_model, find_classes, load_network, model_spec, read_config
from ..models import ModelSpec
from ..models.layers import resize
from ..runtime.paths import resolved
from .options import Section, TrainOptions

_SAME = ("num_class", "channels", "window", *(key for key in bands.KEYS if key != "display_bands"))
"""Keys of the section DATASET that must be those of the training, because both get the same images."""


@dataclass(frozen=True)
class Teacher:
    """A trained model, not loaded yet.

    Attributes:
        name: as in ``TRAIN.teachers``.
        scale: factor on the sides of the images of the training, to the size at which it scores images.
        multiple: the sides of its images are multiples of this number of pixels.
    """

    name: str
    model: ModelSpec
    weights: Weights
    scale: float
    multiple: int

    def __str__(self) -> str:
        scale = "" if self.scale == 1 else f", which sees the images at {self.scale:.2g} times their size"
        return f"Teacher: {self.name}{scale}"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which it sees images of the training."""
        height, width = (
            round_up(max(1, round(side * self.scale)), self.multiple) for side in (height, width)
        )
        return height, width


def find_teachers(options: TrainOptions) -> list[Teacher]:
    """The models that ``TRAIN.teachers`` names.

    Each is a folder of train.py, a packed or exported model, a config file, or the name of a shipped config.

    Raises: UserError for a model that cannot be loaded, that has other classes or images, or that this run
        would replace.
    """
    found = []
    for name in options.teachers:
        try:
            found.append(_find(name, options.data, options.run.folder))
        except UserError as error:
            raise UserError(f"TRAIN.teachers, {name}: {error}") from error
    return found


def _find(name: str, data: Section, folder: Path) -> Teacher:
    if Path(name).suffix in (".pth", ".pt"):
        raise UserError(
            f"it is a checkpoint. Name its folder, {Path(name).parent}, which stands for its newest epoch. "
            "For another epoch, name a file of mit-semseg pack."
        )
    cfg = read_config(name)
    if not model_file(cfg) and resolved(Path(cfg.DIR)) == resolved(folder):
        raise UserError("it is the folder of this run. Set DIR to another folder, or name another teacher.")
    theirs: Any = cfg.DATASET
    for key in _SAME:
        if theirs[key] != data[key]:
            raise UserError(
                f"DATASET.{key} is {theirs[key]!r} there and {data[key]!r} here. A teacher must have the "
                "classes and the kind of images of the training."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a table that is not there; then the classes have numbers
        given = find_classes(cfg).names
    wanted = load_classes(data.classes, data.num_class).names
    if given != wanted and numbered_classes(data.num_class).names not in (given, wanted):
        number = next(k for k, (its, ours) in enumerate(zip(given, wanted, strict=True)) if its != ours)
        raise UserError(
            f"class {number + 1} is {given[number]} there and {wanted[number]} here. A teacher must have the "
            "classes of the training."
        )
    check_model(cfg)
    return Teacher(
        name,
        model_spec(cfg),
        trained_weights(cfg, "VAL"),
        scale=fmean(theirs.imgSizes) / fmean(data.imgSizes),
        multiple=theirs.padding_constant,
    )


class Teachers:
    """Loaded teachers: the mean of their probabilities.

    They are called like ``SegmentationModule.teacher``.
    """

    def __init__(self, teachers: Sequence[Teacher], devices: Sequence[torch.device], amp: str) -> None:
        """Load each teacher on each device.

        Args:
            amp: arithmetic of the networks, see `mit_semseg.inference.predict.Settings`.

        Raises: UserError for weights that do not fit.
        """
        self._networks: dict[torch.device, list[tuple[Teacher, AnyNetwork]]] = {
            device: [(one, load_network(one.model, one.weights, device, amp)) for one in teachers]
            for device in devices
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teachers":
        # They do not change, so a copy of the network that learns, such as that of a validation, shares them.
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """The mean probabilities, (N, C, *size) float32.

        Args:
            images: normalized, (N, channels, H, W) float32, on one of the devices.
            size: (height, width) of the probabilities.
        """
        networks = self._networks[images.device]
        mean = None
        for teacher, network in networks:
            seen = _resized(images, teacher.size(*images.shape[-2:]))
            scores = network(seen).to(images.device).permute(0, 3, 1, 2)
            scores = resize(scores, size, network.align_corners)
            shares = scores.softmax(1) if network.softmax else scores / scores.sum(1, keepdim=True)
            mean = shares if mean is None else mean.add_(shares)
        assert mean is not None
        return mean.div_(len(networks))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)
