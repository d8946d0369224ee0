"""Prediction for a scene, of which only windows and some of the labels are in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..data.bands import Bands
from ..data.resize import Scales, scored_sizes
from ..data.scene_pixels import ScenePixels
from ..data.scenes import INSTALL, DamagedSceneError, Scene, SceneError
from ..inference.scene import SceneScorer
from ..runtime.files import replacing
from ..runtime.log import get_logger
from ..runtime.packages import require
from ..runtime.progress import ProgressCounter
from .jobs import Job
from .label_raster import LabelRaster
from .polygons import write_polygons
from .predictor import Prediction, Predictor
from .recorder import Recorder, printable
from .writers import LABELS, OUTPUTS, POLYGONS, write

_MUCH = 2  # times; a scene that is scored at so much coarser a resolution is reported


def check_packages(outputs: Sequence[str]) -> None:
    """Raises: UserError if a package for scenes, or for these outputs of them, is missing."""
    require("rasterio", "A GeoTIFF or a very large TIFF", INSTALL)
    for name in POLYGONS:
        if name in outputs:
            require("shapely", f"TEST.output {name}", INSTALL)
            require("pyogrio", f"TEST.output {name}", INSTALL)


def predict_scene(
    predictor: Predictor,
    job: Job,
    bands: Bands | None,
    scales: Scales,
    recorder: Recorder,
    *,
    shown: bool,
) -> str:
    """Write the outputs for a scene, and record them. Pictures show it at a reduced size.

    Args:
        bands: of the scene that the model takes; None for 8-bit RGB.
        scales: at which the scene is scored.
        shown: whether to show the progress.

    Returns: why the scene cannot be used, as a sentence; "" if its outputs were written.
    Raises: UserError if an output cannot be written, or if the scores are not finite.
    """
    pictures = {name: path for name, path in job.targets.items() if OUTPUTS[name].draw is not None}
    try:
        with (
            Scene(job.input.path, bands) as scene,
            _all_damage(scene),
            replacing(job.targets[LABELS]) as file,
        ):
            part = Path(file.name)
            overview = bool(pictures) or recorder.has_page
            with LabelRaster(part, scene, predictor.table, overview=overview) as raster:
                _score(
                    predictor, scene, scored_sizes(scene.width, scene.height, *scales), raster, shown=shown
                )
            shown_pixels = scene.overview(raster.step) if overview else np.zeros((1, 1, 3), np.uint8)
            for name in POLYGONS:
                if name in job.targets:
                    with replacing(job.targets[name]) as polygons:
                        write_polygons(part, Path(polygons.name), name, predictor.table.names)
    except SceneError as error:
        return str(error)
    labels = raster.overview if overview else np.full((1, 1), -1)
    prediction = Prediction(shown_pixels, labels, predictor.table, legend=predictor.legend)
    write(prediction, pictures, recorder.shapes)
    shares = raster.counts[1:] / max(1, raster.counts[1:].sum())
    recorder.add(job, job.input.path, prediction, shares)
    return ""


@contextmanager
def _all_damage(scene: Scene) -> Iterator[None]:
    """Lets an error about a damaged tile name all those of the scene: no window of it is scored after it."""
    try:
        yield
    except DamagedSceneError as error:
        raise scene.damage(error.reason) from error


def _score(
    predictor: Predictor,
    scene: Scene,
    sizes: Sequence[tuple[int, int]],
    raster: LabelRaster,
    *,
    shown: bool,
) -> None:
    finest = max(sizes)
    if scene.height >= _MUCH * finest[1]:
        get_logger().warning(
            "%s has %d x %d pixels, but is scored at %d x %d (DATASET.imgSizes, imgMaxSize), as images are. "
            "Set DATASET.window to the side of the windows of scenes that the model was trained on, such as "
            "512, to score the scene at their resolution",
            *(printable(scene.path), scene.width, scene.height, *finest),
        )
    scorer = SceneScorer(
        predictor.network,
        [ScenePixels(scene, (height, width)) for width, height in sizes],
        (scene.height, scene.width),
        predictor.settings,
        len(predictor.table.names),
        scene.path,
    )
    name = printable(Path(scene.path).name)
    with ProgressCounter(scorer.tiles(), "tiles", what=name, enabled=shown) as counter:
        scorer.run(raster.add, counter.add)
