"""The files that answer a request: JSON, pictures, probabilities."""

import base64
import io
import json
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ..data import rle
from ..inference.pictures import add_legend, by_share, class_shares, overlay
from ..inference.segmentation import Segmentation
from .messages import Wanted

MEDIA_TYPES = {
    "json": "application/json",
    "labels": "image/png",
    "overlay": "image/png",
    "confidence": "image/png",
    "scores": "application/octet-stream",
}
"""The media type of each output."""


def encode(segmentation: Segmentation, wanted: Wanted, model: str) -> bytes:
    """The file that a request wants.

    Args:
        model: name of the model, for the JSON.
    """
    if wanted.output == "json":
        return _json(segmentation, wanted, model)
    if wanted.output == "scores":
        return _scores(segmentation)
    return _picture(segmentation, wanted.output, wanted)


def _json(segmentation: Segmentation, wanted: Wanted, model: str) -> bytes:
    height, width = segmentation.labels.shape
    shares = class_shares(segmentation.labels, len(segmentation.names))
    masks = dict(rle.encode_classes(segmentation.labels)) if "rle" in wanted.include else {}
    classes: list[dict[str, Any]] = []
    for k in by_share(shares, least=0):
        found: dict[str, Any] = {
            "index": k,
            "name": segmentation.names[k],
            "color": segmentation.colors[k].tolist(),
            "share": round(float(shares[k]), 6),
        }
        if masks:
            found["rle"] = {"size": [height, width], "counts": rle.to_text(masks[k])}
        classes.append(found)
    answer: dict[str, Any] = {"model": model, "width": width, "height": height, "classes": classes}
    for name in sorted(wanted.include - {"rle"}):
        answer[name] = base64.b64encode(_picture(segmentation, name, wanted)).decode("ascii")
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _picture(segmentation: Segmentation, kind: str, wanted: Wanted) -> bytes:
    """A PNG file: ``labels`` has the gray value k+1 for class k, ``confidence`` 255 for probability 1."""
    pixels: NDArray[Any]
    if kind == "labels":
        few = len(segmentation.names) <= 255
        pixels = segmentation.labels.astype(np.uint8 if few else np.uint16) + 1
    elif kind == "confidence":
        pixels = np.rint(segmentation.confidence * np.float32(255)).astype(np.uint8)
    else:
        pixels = overlay(segmentation.image, segmentation.labels, segmentation.colors, wanted.alpha)
        if wanted.legend:
            shares = class_shares(segmentation.labels, len(segmentation.names))
            pixels = add_legend(pixels, by_share(shares), segmentation.names, segmentation.colors)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", compress_level=3)  # half the time, a tenth more bytes
    return file.getvalue()


def _scores(segmentation: Segmentation) -> bytes:
    """As `Segmentation.save` writes it."""
    file = io.BytesIO()
    np.savez(
        file,
        allow_pickle=False,
        probabilities=segmentation.probabilities.astype(np.float16),
        names=np.array(segmentation.names),
    )
    return file.getvalue()
