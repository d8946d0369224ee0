"""Images of any number of bands: which bands are read, which pixels have no data, and how values are scaled.

Images are 8-bit RGB unless a key of the config asks for bands. With bands, values are clipped and scaled to
0 to 1 by the statistics of the dataset, resized, and then normalized by its mean and deviation. Missing
values become the mean of their band, which is 0 after normalization, as is the padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import UserError
from .raster import read_raster

RGB = 3
"""The number of channels without bands."""

KEYS = ("bands", "nodata", "mean", "std", "clip_low", "clip_high", "display_bands")
"""The keys in the section DATASET, besides ``channels``, of which each one asks for bands."""

STATISTICS = ("mean", "std", "clip_low", "clip_high")
"""The keys that `mit-semseg data stats` computes."""

_BLOCK = 2**15  # values scaled at a time, so that they stay in the processor's cache
_EXACT_BITS = 16  # of integers that float32 holds without rounding; larger ones are shifted in float64


class Pixels(NamedTuple):
    """The selected bands of an image.

    Attributes:
        values: (H, W, C), of the file's type.
        absent: which values are missing, (H, W, C) bool; None if all are there.
    """

    values: np.ndarray
    absent: np.ndarray | None

    @property
    def without_data(self) -> np.ndarray | None:
        """The pixels that have no data in any band, (H, W) bool; None if there are none."""
        if self.absent is None:
            return None
        found = np.asarray(self.absent.all(-1))
        return found if found.any() else None


@dataclass(frozen=True)
class BandSelection:
    """The bands to read.

    Attributes:
        channels: their number.
        numbers: of the bands in a file, counted from 1 as by GDAL, in the order of the channels; () for all
            bands of a file, which then has as many.
        nodata: values that stand for no data, besides the one that a file names, and NaN.
    """

    channels: int
    numbers: tuple[int, ...] = ()
    nodata: tuple[float, ...] = ()

    @classmethod
    def of(cls, options: Any) -> "BandSelection | None":
        """The selection of options with the keys of the section DATASET; None for 8-bit RGB."""
        given = {key: tuple(getattr(options, key, ())) for key in KEYS}
        channels: int = getattr(options, "channels", RGB)
        if channels == RGB and not any(given.values()):
            return None
        return cls(channels, given["bands"], given["nodata"])

    def read(self, path: str | PathLike[str]) -> Pixels:
        """The selected bands of a file. Raises: UserError if it cannot be read or does not have them."""
        raster = read_raster(path)
        return self.select(raster.values, str(path), raster.nodata, raster.valid)

    def select(
        self, values: np.ndarray, name: str, nodata: float | None = None, valid: np.ndarray | None = None
    ) -> Pixels:
        """The selected ones of all bands of an image.

        A pixel has no data if all selected bands hold a nodata value, as in GDAL's mask, or if one of them
        is NaN or infinite. Where only some bands hold a nodata value, only those are missing.

        Args:
            values: (H, W, bands), integers or floating point.
            name: of the image, for errors.
            nodata: the value that the file names.
            valid: where the file's mask says that there are data, (H, W) bool; None without a mask.

        Raises: UserError if the image has too few bands, or without ``numbers`` too many.
        """
        count = values.shape[2]
        numbers = self.numbers or tuple(range(1, self.channels + 1))
        if max(numbers) > count or (not self.numbers and count != self.channels):
            raise UserError(f"{name} has {_counted(count)}, but {self._wanted(count)}")
        if numbers != tuple(range(1, count + 1)):
            first, last = min(numbers), max(numbers)
            in_order = numbers == tuple(range(first, last + 1))
            # A slice is a view; another order needs a copy.
            values = values[..., first - 1 : last] if in_order else values[..., [k - 1 for k in numbers]]
        absent = _absent(values, (*self.nodata, *(() if nodata is None else (nodata,))))
        if valid is not None and not valid.all():
            hidden = np.broadcast_to(~valid[..., None], values.shape)
            absent = hidden if absent is None else absent | hidden
        return Pixels(values, absent)

    def _wanted(self, count: int) -> str:
        """The rest of the error for an image with ``count`` bands."""
        missing = [number for number in self.numbers if number > count]
        if missing:
            return (
                f"DATASET.bands asks for band {missing[0]}. Bands are counted from 1: set DATASET.bands to "
                f"numbers from 1 to {count}."
            )
        fix = f"Set DATASET.channels {count}"
        if count > self.channels:
            fix += f", or DATASET.bands to the {self.channels} bands to read"
        return f"DATASET.channels is {self.channels}. {fix}."


@dataclass(frozen=True)
class Bands(BandSelection):
    """The bands to read, and the statistics to scale them by, one number for each channel.

    Attributes:
        mean, std: of the clipped values, in the units of the files.
        low, high: values outside of these are clipped.
        display: the channels that pictures show, from 0: one in gray, or three as red, green and blue.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    display: tuple[int, ...] = ()

    @classmethod
    def of(cls, options: Any) -> "Bands | None":
        """The bands of options with the keys of the section DATASET; None for 8-bit RGB.

        Raises: UserError if the statistics are missing.
        """
        selection = BandSelection.of(options)
        if selection is None:
            return None
        mean, std, low, high = (tuple(map(float, getattr(options, key, ()))) for key in STATISTICS)
        channels = selection.channels
        if any(len(values) != channels for values in (mean, std, low, high)):
            raise UserError(
                f"With {_counted(channels)}, images are scaled by the statistics of their dataset, and "
                f"DATASET.{', '.join(STATISTICS)} do not have {channels} numbers each. Compute them once "
                "from the training images, which writes them into the config: mit-semseg data stats --cfg "
                "CONFIG"
            )
        shown = tuple(getattr(options, "display_bands", ()))
        numbers = selection.numbers or tuple(range(1, channels + 1))
        display = tuple(numbers.index(number) for number in shown)
        default = (0, 1, 2) if channels >= RGB else (0,)
        nodata = selection.nodata
        return cls(channels, selection.numbers, nodata, mean, std, low, high, display or default)

    @cached_property
    def _unit_mean(self) -> np.ndarray:
        """The mean on the scale from 0 to 1, (C,) float32."""
        mean, low, high = (np.array(values) for values in (self.mean, self.low, self.high))
        return ((mean - low) / (high - low)).clip(0, 1).astype(np.float32)

    def unit(self, pixels: Pixels) -> np.ndarray:
        """Values clipped and scaled to 0 to 1, (H, W, C) float32. Missing ones become the mean."""
        values = np.ascontiguousarray(pixels.values)
        height, width, channels = values.shape
        wide = values.dtype.itemsize * 8 > _EXACT_BITS and values.dtype != np.float32
        low, high = np.array(self.low), np.array(self.high)
        # Whole rows, because NumPy is slow on an axis as short as that of the channels.
        lows = np.tile(low.astype(np.float64 if wide else np.float32), width)
        factors = np.tile((1 / (high - low)).astype(np.float32), width)
        rows, flat = max(1, _BLOCK // (width * channels)), values.reshape(height, -1)
        out = np.empty((height, width * channels), np.float32)
        for top in range(0, height, rows):
            part = out[top : top + rows]
            with np.errstate(invalid="ignore", over="ignore"):  # missing values may be NaN or huge
                np.subtract(flat[top : top + rows], lows, out=part, casting="unsafe", dtype=lows.dtype)
                part *= factors
                np.clip(part, 0, 1, out=part)
        out = out.reshape(values.shape)
        if pixels.absent is not None:
            np.copyto(out, self._unit_mean, where=pixels.absent)
        return out

    def normalize(self, unit: torch.Tensor) -> torch.Tensor:
        """Values from 0 to 1, (..., C, h, w) float32, minus the mean and divided by the deviation."""
        scale = (np.array(self.high) - np.array(self.low)) / np.array(self.std)
        factor, mean = (
            torch.from_numpy(np.asarray(each, np.float32)).view(-1, 1, 1) for each in (scale, self._unit_mean)
        )
        return unit.sub(mean).mul_(factor)

    def scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The factor on the clipped values of files, and what is then subtracted, (C, 1, 1) float32 each."""
        mean, std = np.array(self.mean), np.array(self.std)
        scale, shift = (torch.from_numpy(each.astype(np.float32)) for each in (1 / std, mean / std))
        return scale.view(-1, 1, 1), shift.view(-1, 1, 1)

    def picture(self, unit: np.ndarray, without_data: np.ndarray | None) -> np.ndarray:
        """The display bands of values from 0 to 1, (H, W, 3) uint8. Pixels without data are black."""
        shown = np.rint(unit[..., list(self.display)] * np.float32(255)).astype(np.uint8)
        if without_data is not None:
            shown[without_data] = 0
        return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _absent(values: np.ndarray, nodata: Sequence[float]) -> np.ndarray | None:
    """Which values are missing, (H, W, C) bool; None for none."""
    found: np.ndarray | None = None  # bool
    for value in nodata:
        if (same := _as(values.dtype, value)) is not None:
            found = values == same if found is None else found | (values == same)
    if values.dtype.kind == "f" and not np.isfinite(values.sum()):  # a sum is faster, but may overflow
        invalid = ~np.isfinite(values)
        if invalid.any():
            invalid = np.repeat(invalid.any(-1, keepdims=True), values.shape[2], -1)
            found = invalid if found is None else found | invalid
    return found if found is not None and found.any() else None


def _as(dtype: np.dtype[Any], value: float) -> Any:
    """A nodata value in the type of an image; None if that type cannot hold it, or for NaN."""
    if value != value:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value)
    limits = np.iinfo(dtype)
    return dtype.type(int(value)) if float(value).is_integer() and limits.min <= value <= limits.max else None


def _counted(count: int) -> str:
    return f"{count} band{'' if count == 1 else 's'}"
