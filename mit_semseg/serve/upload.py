"""Uploaded bytes as an image: what is accepted, and how large it is."""

import io
from functools import cache
from typing import NamedTuple

import PIL.Image
from PIL import UnidentifiedImageError

from ..errors import UserError

_PHOTOS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")

UPLOAD = "The upload"
"""What messages call it."""

_MOST_SCANS = 200  # of a progressive JPEG file; cameras and editors write about 10
_JPEG = b"\xff\xd8"
_SCAN = b"\xff\xda"


@cache
def formats() -> tuple[str, ...]:
    """The formats of Pillow that photos come in. Others call programs, or are rarely tested."""
    PIL.Image.init()
    return tuple(name for name in _PHOTOS if name in PIL.Image.OPEN)  # Pillow may be built without some


class Refusal(UserError):
    """An upload that is refused. ``status`` is that of the HTTP response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Header(NamedTuple):
    """What an image file says of itself."""

    width: int
    height: int


def read_header(data: bytes, max_pixels: int) -> Header:
    """The size of an image, before any pixel of it is decoded.

    Raises: Refusal (415) for bytes that are not an image that is accepted; (413) for one of too many pixels.
    """
    with open_upload(data) as image:
        header = Header(*image.size)
        if header.width * header.height > max_pixels:
            raise Refusal(
                413,
                f"{UPLOAD} has {header.width} x {header.height} pixels, but the limit is {max_pixels:,}. "
                "Scale it down.",
            )
        if data.startswith(_JPEG) and data.count(_SCAN) > _MOST_SCANS:  # each is a pass over all pixels
            raise Refusal(415, f"{UPLOAD} is a JPEG image of more than {_MOST_SCANS} scans. Save it again.")
    return header


def open_upload(data: bytes, *, decode: bool = False) -> PIL.Image.Image:
    """The image as Pillow opens it. Raises: Refusal (415 or 413) if it does not.

    Args:
        decode: decode the pixels, too.
    """
    if not data:
        raise Refusal(415, f"{UPLOAD} is empty. Send the bytes of an image file.")
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=formats())
        if decode:
            image.load()
        return image
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise Refusal(413, f"{UPLOAD} claims too many pixels. Scale it down.") from None
    except UnidentifiedImageError:
        kinds = ", ".join(formats())
        raise Refusal(415, f"{UPLOAD} is not an image that can be read. Send one of {kinds}.") from None
    except Exception as error:  # for a damaged file, decoders raise more than OSError
        cause = str(error) or type(error).__name__
        raise Refusal(415, f"{UPLOAD} is a damaged image ({cause}). Send it again.") from None
