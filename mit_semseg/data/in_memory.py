"""Images in memory, as 8-bit RGB or with bands: PIL images, arrays and tensors."""

from os import PathLike

import numpy as np
import torch
from PIL import Image, ImageOps

from .band_images import BandImage, read_image
from .bands import Bands
from .files import naming
from .images import as_rgb, open_image, scaled_to_8_bit

AnyImage = str | PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""A file, or an image in memory."""

_TYPES = (str, PathLike, Image.Image, np.ndarray, torch.Tensor)
_KINDS = "a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W)"


def check_kind(image: object, name: str) -> None:
    """Check that an object has one of the types of an image. Errors call it ``name``.

    Raises: TypeError if it has not.
    """
    if not isinstance(image, _TYPES):
        raise TypeError(f"{name} is {image!r:.80}, of type {type(image).__name__}; it has to be {_KINDS}")


def to_rgb(image: AnyImage, name: str) -> Image.Image:
    """An image as 8-bit RGB, in a copy that does not follow later changes of the original.

    - A path: the file is opened by `open_image`, upright.
    - A PIL image of any mode: treated as if it came from a file.
    - An array: (H, W) or (H, W, 1) gray, or (H, W, 3) RGB. A further alpha channel is dropped. The values are
      uint8; uint16, which is scaled; or floating point from 0 to 1, which is rounded to 8 bits.
    - A tensor on any device: the same with the channels first, (3, H, W).

    Args:
        name: what errors call the image, unless it is a file.

    Raises: TypeError, see `check_kind`; ValueError for an array or tensor of another shape, type or range, or
        an image without pixels; UserError for a file that can't be used.
    """
    check_kind(image, name)
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"{name} has no pixels: it is {image.width} x {image.height}")
        file = getattr(image, "filename", "") or name
        with naming(file):
            return as_rgb(ImageOps.exif_transpose(image), file)
    if isinstance(image, torch.Tensor):
        return Image.fromarray(_rgb(_channels_last(image, name), name))
    if isinstance(image, np.ndarray):
        _check_shape(image.shape, f"{name} is an array of shape {image.shape}", "(H, W, 3)", first=False)
        return Image.fromarray(_rgb(image, name))
    return open_image(image, upright=True)


def to_bands(image: AnyImage, bands: Bands, name: str) -> BandImage:
    """An image with bands, from which those of ``bands`` are selected as from a file.

    - A path: the file is read by `read_raster`.
    - A PIL image: its channels.
    - An array (H, W, bands) or (H, W), or a tensor (bands, H, W) or (H, W), with the values of the files.

    Args:
        name: what errors call the image, unless it is a file.

    Raises: TypeError, see `check_kind`; ValueError for an array or tensor of another shape or type; UserError
        for a file that can't be used, and for an image without a band that is selected.
    """
    check_kind(image, name)
    if isinstance(image, str | PathLike):
        return read_image(image, bands)
    if isinstance(image, torch.Tensor):
        tensor = image.detach().cpu()
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor  # NumPy does not have it
        values = tensor.numpy() if tensor.ndim != 3 else tensor.numpy().transpose(1, 2, 0)
    else:
        values = np.asarray(image)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(
            f"{name} has the shape {values.shape}, but an image with bands is an array (H, W, bands) or a "
            "tensor (bands, H, W)."
        )
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds values of type {values.dtype}, but takes integers or floating point.")
    pixels = bands.select(values if values.ndim == 3 else values[..., None], name)
    return BandImage(bands.unit(pixels), pixels.without_data)


def _channels_last(tensor: torch.Tensor, name: str) -> np.ndarray:
    shape = tuple(tensor.shape)
    _check_shape(shape, f"{name} is a tensor of shape {shape}", "(3, H, W)", first=True)
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # NumPy does not have it
        tensor = tensor.float()
    values = tensor.cpu().numpy()
    return values if values.ndim == 2 else values.transpose(1, 2, 0)


def _check_shape(shape: tuple[int, ...], found: str, wanted: str, *, first: bool) -> None:
    """Raise ValueError if a shape is not that of an image. ``first``: the channels come first, not last."""
    channels = {3: shape[0 if first else -1], 2: 1}.get(len(shape), 0)
    if not 1 <= channels <= 4:
        hint = ""
        if len(shape) == 4:
            hint = " Pass several images as a list."
        elif len(shape) == 3 and 1 <= shape[-1 if first else 0] <= 4:
            hint = " Put the channels first: .permute(2, 0, 1)." if first else ""
            hint = hint or " Put the channels last: .transpose(1, 2, 0)."
        raise ValueError(f"{found}, but an image is {wanted}.{hint}")
    if 0 in shape:
        raise ValueError(f"{found}: it has no pixels")


def _rgb(values: np.ndarray, name: str) -> np.ndarray:
    """An array (H, W) or (H, W, 1 to 4) as RGB, (H, W, 3) uint8, contiguous."""
    if values.ndim == 2:
        values = values[..., None]
    channels = values.shape[2]
    values = _8_bit(values[..., : channels - 1 if channels in (2, 4) else channels], name)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _8_bit(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return scaled_to_8_bit(values)
    if values.dtype.kind != "f":
        raise ValueError(
            f"{name} holds values of type {values.dtype}, but takes uint8 or uint16, or floating point from "
            "0 to 1. Convert it, for example with .astype('uint8')."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are NaN or infinite.")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"{name} holds values from {values.min():.4g} to {values.max():.4g}, but floating point must be "
            "from 0 to 1. Divide values up to 255 by 255, and do not normalize: that is done here."
        )
    return np.rint(values * np.float32(255)).astype(np.uint8)
