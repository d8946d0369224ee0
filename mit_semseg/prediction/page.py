"""The page of predictions."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..inference.pictures import by_share
from ..report import predictions
from .predictor import Prediction


def card_of(
    name: str, prediction: Prediction, shares: np.ndarray, files: Sequence[Path], folder: Path
) -> bytes:
    """The card of an image, or of a frame of a video, as one line.

    Args:
        name: of the input.
        shares: of each class in the pixels.
        files: its outputs, inside of ``folder``.
    """
    links = []
    for file in files:
        path = file.relative_to(folder).as_posix()
        links.append((quote(path, safe="/", errors="surrogateescape"), path))
    return predictions.card(
        name,
        prediction.image,
        prediction.labels,
        prediction.table.names,
        prediction.table.colors,
        [(k, float(shares[k])) for k in by_share(shares)],
        links,
        prediction.doubt,
    )
