"""Reading labels: the values of a file, and the standard values of a label."""

from os import PathLike

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from .files import naming
from .label_coding import LabelCoding
from .label_diagnosis import diagnose
from .label_files import LabelError, count_values, nodata_of, unread_lossy_format, values_of
from .shards import content_of, opened

_START = 16  # bytes that tell the formats apart which Pillow does not open


def read_values(path: str | PathLike[str], *, convert: bool = False, one_channel: bool = False) -> np.ndarray:
    """The values of a label file, (H, W) uint8 or uint16; see `values_of` for the arguments.

    Raises: UserError, with the file's name, if it cannot be decoded; `LabelError` if it does not hold class
        numbers.
    """
    return read_with_nodata(path, convert=convert, one_channel=one_channel)[0]


def read_with_nodata(
    path: str | PathLike[str], *, convert: bool = False, one_channel: bool = False
) -> tuple[np.ndarray, int | None]:
    """As `read_values`, and the value that a TIFF names as that of no data; None if it names none."""
    with naming(path):
        try:
            with Image.open(opened(path)) as image:
                values = values_of(image, str(path), convert=convert, one_channel=one_channel)
                return values, nodata_of(image)
        except UnidentifiedImageError:
            lossy = unread_lossy_format(content_of(path)[:_START])
            if lossy:
                raise LabelError.of_lossy(str(path), lossy) from None
            raise


def read_label(path: str | PathLike[str], coding: LabelCoding) -> np.ndarray:
    """The standard values of a label file, (H, W). Where a TIFF has no data, they are 0.

    Raises: UserError as `read_values` does, and for a value that is not a class in ``coding``.
    """
    values, nodata = read_with_nodata(path)
    if nodata is None:
        return standard_values(values, path, coding)
    return standard_where(values != nodata, values, path, coding)


def standard_where(
    valid: np.ndarray, values: np.ndarray, path: str | PathLike[str], coding: LabelCoding
) -> np.ndarray:
    """The standard values of a label, 0 where it has no data.

    Args:
        valid: the pixels with data, (H, W) bool.

    Raises: UserError as `standard_values` does; pixels without data are not judged.
    """
    if valid.all():
        return standard_values(values, path, coding)
    # Any class in their place, so that only the other values are judged.
    standard = standard_values(np.where(valid, values, coding.offset), path, coding)
    return np.where(valid, standard, standard.dtype.type(0))


def standard_values(values: np.ndarray, path: str | PathLike[str], coding: LabelCoding) -> np.ndarray:
    """The standard values of a label with the values of its file, (H, W).

    Raises: UserError for a value that is not a class in ``coding``.
    """
    beyond = coding.beyond(values)
    if beyond is None:
        return coding.standard(values)
    last = coding.offset + (coding.num_class or 0) - 1
    found = diagnose(*count_values(values), coding)
    raise UserError(
        f"{path} holds the value {beyond}, but with {coding.num_class} classes (DATASET.num_class) labels go "
        f"from {coding.offset} (DATASET.label_offset) to {last}."
        + (f" {found.for_config()}" if found else "")
    )
