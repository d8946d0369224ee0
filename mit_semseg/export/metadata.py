"""What an exported file says of itself, so that it can be used without the project."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import yaml

from ..data.bands import RGB, Bands
from ..data.images import MEAN, STD
from ..errors import UserError

_TILES_OVERLAP = 15  # percent
_RESOLUTION = 10.0  # cm per pixel


@dataclass(frozen=True)
class Metadata:
    """Everything that code around the network needs.

    Attributes:
        names: of the classes.
        colors: (red, green, blue) of each class, 0 to 255.
        imgSizes: short edges in pixels at which images are scored.
        imgMaxSize: limit of the long edge, in pixels.
        padding_constant: the sides of the scaled image are rounded up to multiples of it.
        stride: of ``logits``, in pixels.
        align_corners: how ``logits`` are resized to the image, see `mit_semseg.models.layers.resize`.
        softmax: whether softmax makes probabilities of ``logits``; otherwise, they are the shares of the sum
            over the classes.
        grid: tiles must start at multiples of this number of pixels.
        outputs: names of the file's outputs.
        model: encoder and decoder, as in "resnet18dilated + ppm".
        config: all config keys of the run, as YAML.
        weights: SHA-256 of the checkpoints of encoder and decoder.
        version: of this package.
        scores: of an evaluation of these weights, by name; empty if there is none.
        bands: of the images; None for 8-bit RGB.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    imgSizes: tuple[int, ...]
    imgMaxSize: int
    padding_constant: int
    stride: int
    grid: int
    outputs: tuple[str, ...]
    model: str
    config: str
    weights: tuple[str, ...]
    version: str
    align_corners: bool = False
    softmax: bool = True
    scores: Mapping[str, float] = field(default_factory=dict)
    bands: Bands | None = None

    def with_outputs(self, outputs: tuple[str, ...]) -> "Metadata":
        return replace(self, outputs=outputs)

    def as_texts(self) -> dict[str, str]:
        """The metadata as JSON texts by key, for a file."""
        return {key: json.dumps(value) for key, value in self._values().items()}

    def _values(self) -> dict[str, Any]:
        tile = max(self.imgSizes)
        tile = -(-tile // self.grid) * self.grid
        channels = RGB if self.bands is None else self.bands.channels
        return {
            # Keys of Deepness, a plug-in of QGIS. Its documentation has tiles_size, its code tile_size.
            "model_type": "Segmentor",
            "class_names": {str(k): name for k, name in enumerate(self.names)},
            "resolution": _RESOLUTION,
            "tiles_size": tile,
            "tile_size": tile,
            "tiles_overlap": _TILES_OVERLAP,
            "standardization_mean": [0.0] * channels,  # the graph normalizes
            "standardization_std": [1.0] * channels,
            # Keys of this package.
            "colors": self.colors,
            "imgSizes": self.imgSizes,
            "imgMaxSize": self.imgMaxSize,
            "padding_constant": self.padding_constant,
            **self._input(),
            "stride": self.stride,
            "grid": self.grid,
            "align_corners": self.align_corners,
            "softmax": self.softmax,
            "outputs": self.outputs,
            "model": self.model,
            "config": self.config,
            "weights": self.weights,
            "mit_semseg": self.version,
            "evaluation": dict(self.scores),
        }

    def _input(self) -> dict[str, Any]:
        """How the graph normalizes. With bands, the numbers are in the units of the files."""
        if self.bands is None:
            return {"mean": MEAN, "std": STD}
        bands = self.bands
        return {
            "mean": bands.mean,
            "std": bands.std,
            "clip_low": bands.low,
            "clip_high": bands.high,
            "bands": bands.numbers or tuple(range(1, bands.channels + 1)),
            "nodata": bands.nodata,
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], path: object) -> "Metadata":
        """The metadata of the file ``path``.

        Raises: UserError if they are not those of an exported model.
        """
        try:
            value = {key: json.loads(text) for key, text in texts.items()}
            names = value["class_names"]
            result = cls(
                names=tuple(str(names[str(k)]) for k in range(len(names))),
                colors=tuple((int(r), int(g), int(b)) for r, g, b in value["colors"]),
                imgSizes=tuple(map(int, value["imgSizes"])),
                imgMaxSize=int(value["imgMaxSize"]),
                padding_constant=int(value["padding_constant"]),
                stride=int(value["stride"]),
                grid=int(value["grid"]),
                outputs=tuple(map(str, value["outputs"])),
                model=str(value["model"]),
                config=str(value["config"]),
                weights=tuple(map(str, value["weights"])),
                version=str(value["mit_semseg"]),
                align_corners=bool(value["align_corners"]),
                softmax=bool(value.get("softmax", True)),  # files of earlier releases lack it
                scores=dict(value["evaluation"]),
                bands=_bands_of(str(value["config"])),
            )
            result._check()
            return result
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path} is not a model that this project has exported: its metadata are missing or "
                "incomplete. Make one with: mit-semseg export --cfg CONFIG"
            ) from None

    def _check(self) -> None:
        """Raises: ValueError for values that no export writes."""
        lengths = *self.imgSizes, self.imgMaxSize, self.padding_constant, self.stride, self.grid
        if not (self.names and self.imgSizes and self.outputs) or min(lengths) < 1:
            raise ValueError
        if len(self.colors) != len(self.names):
            raise ValueError


def _bands_of(config: str) -> Bands | None:
    keys = (yaml.safe_load(config) or {}).get("DATASET", {})
    return Bands.of(SimpleNamespace(**keys))
