"""All that a prediction needs of the config, as plain values."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from ..data.classes import ClassTable
from ..errors import UserError
from ..inference.checkpoints import Weights
from ..inference.fingerprint import Fingerprint
from ..inference.load import model_spec, scoring_settings
from ..inference.predict import Settings
from ..models import ModelSpec
from .collected import COLLECTED, PAGE
from .tools.outlines import opencv
from .writers import TOOLS, check_outputs


class ImageOptions(NamedTuple):
    """How images are read and at which sizes they are scored, by the names that `TestDataset` reads."""

    imgSizes: tuple[int, ...]  # short edges, in pixels
    imgMaxSize: int  # limit of the long edge
    padding_constant: int  # sides are rounded up to multiples of it
    window: int  # side of the windows of scenes that the model was trained on; 0: images
    channels: int
    # The keys of bands in the section DATASET.
    bands: tuple[int, ...]
    nodata: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip_low: tuple[float, ...]
    clip_high: tuple[float, ...]
    display_bands: tuple[int, ...]


@dataclass(frozen=True)
class PredictionOptions:
    """All that the processes of a prediction need, so that they do not read the config.

    Attributes:
        model: to build.
        weights: the checkpoint files of encoder and decoder, or the files of an exported model.
        settings: how an image is scored.
        table: names and colours of the classes.
        images: how they are read, and the sizes at which they are scored.
        folder: of the outputs.
        outputs: their names.
        legend: whether pictures have a legend.
        simplify: of polygons for labelling tools, in pixels; None for masks.
        doubt: whether to measure how unsure the model is.
        workers: loader processes.
        fingerprint: all that the outputs depend on, besides the inputs.
    """

    model: ModelSpec
    weights: Weights
    settings: Settings
    table: ClassTable
    images: ImageOptions
    folder: Path
    outputs: list[str]
    legend: bool
    simplify: float | None
    doubt: bool
    workers: int
    fingerprint: Fingerprint

    @property
    def collected(self) -> list[str]:
        """The outputs that are one file for all inputs."""
        return [name for name in self.outputs if name in COLLECTED]


def prediction_options(
    cfg: CfgNode,
    outputs: list[str],
    table: ClassTable,
    weights: Weights,
    fingerprint: Fingerprint,
    *,
    simplify: float | None,
    doubt: bool,
) -> PredictionOptions:
    """The options of a config. The other arguments are attributes of `PredictionOptions`."""
    return PredictionOptions(
        model=model_spec(cfg),
        weights=weights,
        settings=scoring_settings(cfg),
        table=table,
        images=ImageOptions(**{name: cfg.DATASET[name] for name in ImageOptions._fields}),
        folder=Path(cfg.TEST.result),
        outputs=outputs,
        legend=cfg.TEST.legend,
        simplify=simplify,
        doubt=doubt,
        workers=cfg.TRAIN.workers,
        fingerprint=fingerprint,
    )


def wanted_outputs(cfg: CfgNode, simplify: float | None, uncertain: int) -> list[str]:
    """The outputs to make. Raises: UserError for one that does not exist, or does not fit the options."""
    outputs = check_outputs(cfg.TEST.output)
    if uncertain and PAGE not in outputs:
        outputs.append(PAGE)
    if simplify is not None:
        if not set(outputs) & set(TOOLS):
            raise UserError(
                f"--simplify is for the outputs {', '.join(TOOLS)}. Set TEST.output to one of them."
            )
        opencv()  # its absence is reported before the work, not after it
    return outputs
