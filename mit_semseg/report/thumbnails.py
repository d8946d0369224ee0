"""Small pictures of the result on one image: photo, truth, prediction, errors."""

import io
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

_LONG_EDGE = 320  # pixels; sharp on a phone, and twelve images with four pictures each stay below 2 MB
_WRONG = np.array([230, 60, 20])
_UNLABELLED = 0.45  # brightness of unlabelled pixels among the errors


class Thumbnails(NamedTuple):
    """Encoded pictures of the same size: JPEG of the photo and the errors, PNG of the label maps."""

    photo: bytes
    truth: bytes
    prediction: bytes
    errors: bytes


def thumbnails(
    photo: NDArray[np.uint8],
    label: NDArray[np.integer],
    prediction: NDArray[np.integer],
    colors: NDArray[np.uint8],
) -> Thumbnails:
    """The four pictures of an image, which is scaled down, never up.

    Args:
        photo: (H, W, 3) RGB.
        label: (H, W) true classes. Negative ones are unlabelled: black in the truth, dark among the errors.
        prediction: (H, W) classes.
        colors: (num_class, 3) RGB.
    """
    height, width = label.shape
    factor = min(1, _LONG_EDGE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    rows = (np.arange(size[1]) * 2 + 1) * height // (2 * size[1])
    columns = (np.arange(size[0]) * 2 + 1) * width // (2 * size[0])
    label, prediction = label[rows[:, None], columns], prediction[rows[:, None], columns]
    small = PIL.Image.fromarray(photo).resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2)
    errors = _errors(np.asarray(small.convert("L")), label, prediction)
    return Thumbnails(_jpeg(small), _label_map(label, colors), _label_map(prediction, colors), _jpeg(errors))


def gray_picture(values: NDArray[np.floating]) -> bytes:
    """A JPEG of values of 0 (black) to 1 (white), (H, W), as large as `thumbnails`."""
    height, width = values.shape
    factor = min(1, _LONG_EDGE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = PIL.Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))
    return _jpeg(picture.resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2))


def _errors(
    gray: NDArray[np.uint8], label: NDArray[np.integer], prediction: NDArray[np.integer]
) -> PIL.Image.Image:
    """The photo in gray, wrong pixels in red and unlabelled ones dark."""
    picture = np.repeat(gray[..., None].astype(np.float32), 3, axis=2)
    wrong = (label >= 0) & (label != prediction)
    picture[wrong] = 0.3 * picture[wrong] + 0.7 * _WRONG
    picture[label < 0] *= _UNLABELLED
    return PIL.Image.fromarray(picture.astype(np.uint8))


def _jpeg(picture: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    # Subsampled colour would blur the red of errors.
    picture.save(file, format="JPEG", quality=80, subsampling=0)
    return file.getvalue()


def _label_map(labels: NDArray[np.integer], colors: NDArray[np.uint8]) -> bytes:
    """A PNG with a palette of the classes that occur, or in RGB if a palette cannot hold them."""
    classes, positions = np.unique(labels, return_inverse=True)
    table = np.concatenate([np.zeros((1, 3), np.uint8), colors])[np.maximum(classes + 1, 0)]
    positions = positions.reshape(labels.shape)
    if len(classes) <= 256:
        picture = PIL.Image.fromarray(positions.astype(np.uint8))
        picture.putpalette(table.tobytes())
    else:
        picture = PIL.Image.fromarray(table[positions])
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()
