"""Mean, deviation and percentiles of each band of a dataset, from pixels of all its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..data.bands import BandSelection
from ..data.file_cache import FileCache
from ..data.loader import loading
from ..data.records import Records, read_records
from ..data.scene_pairs import read_bands_region, region_of
from ..data.shards import located
from ..errors import UserError
from ..runtime.machine import cpu_count
from .file_problems import FileProblems

_MOST_VALUES = 2**25  # in the sample of all images and bands; 128 MB
_LEAST_PIXELS = 256  # of an image


@dataclass(frozen=True)
class BandStatistics:
    """The statistics of each channel, in the units of the files.

    Attributes:
        mean, std: of the clipped values.
        low, high: the percentiles.
        least, greatest: of all values.
        absent: the share of values that are missing.
        images: that were read.
        pixels: in the sample that all but the last four are computed from.
        total: pixels in all images.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    greatest: np.ndarray
    absent: np.ndarray
    images: int
    pixels: int
    total: int

    def keys(self) -> dict[str, list[float]]:
        """The values of the keys in the section DATASET."""
        names = {"mean": self.mean, "std": self.std, "clip_low": self.low, "clip_high": self.high}
        return {key: values.tolist() for key, values in names.items()}


class _Sampler:
    """Reads images, and returns pixels of them. It is sent to worker processes."""

    def __init__(
        self, root: str, records: Records, selection: BandSelection, cache: FileCache | None
    ) -> None:
        self._root, self._records, self._selection, self._cache = root, records, selection, cache
        self._pixels = max(_LEAST_PIXELS, _MOST_VALUES // (len(records) * selection.channels))

    def __call__(self, row: int) -> dict[str, Any]:
        """A sample of the values of an image, (n, C) with NaN for missing ones, and its extremes."""
        record = self._records[row]
        image = located(self._root, record.fpath_img, self._cache)
        if record.is_window:
            values, absent = read_bands_region(image, region_of(record), self._selection)
        else:
            values, absent = self._selection.read(image)
        channels = values.shape[2]
        flat = values.reshape(-1, channels)
        hidden = None if absent is None else absent.reshape(-1, channels)
        least, greatest = np.full(channels, np.inf), np.full(channels, -np.inf)
        for k in range(channels):
            there = flat[:, k] if hidden is None else flat[~hidden[:, k], k]
            if len(there):
                least[k], greatest[k] = there.min(), there.max()
        rows: Any = slice(None)
        if len(flat) > self._pixels:
            rows = np.random.Generator(np.random.Philox(row)).choice(len(flat), self._pixels, replace=False)
        # In float32, 32-bit integers would be rounded.
        wide = values.dtype.itemsize > 2 and values.dtype != np.float32
        sample = flat[rows].astype(np.float64 if wide else np.float32)
        if hidden is not None:
            sample[hidden[rows]] = np.nan
        count = np.zeros(channels, np.int64) if hidden is None else hidden.sum(0)
        return {"sample": sample, "least": least, "greatest": greatest, "absent": count, "pixels": len(flat)}


def compute_statistics(
    root: str,
    path: str,
    selection: BandSelection,
    percentiles: tuple[float, float],
    *,
    workers: int | None = None,
    cache: FileCache | None = None,
) -> BandStatistics:
    """The statistics of the images of a list.

    Args:
        root: folder that the paths in the list are relative to.
        path: of the list.
        percentiles: to clip at, from 0 to 100.
        workers: loader processes; None for one a CPU.
        cache: of remote files; None for the default one.

    Raises: UserError with all images that cannot be read, and for a band without values or with a single one.
    """
    records = read_records(path, required=("fpath_img",), inside_root=True)
    read = _Sampler(root, records, selection, cache)
    rows = range(len(records))
    count = cpu_count() if workers is None else workers
    found: list[dict[str, Any]] = []
    problems, unread = FileProblems(), 0
    with loading(read, rows, workers=count, device=torch.device("cpu")) as items:
        for row, item in zip(
            rows, tqdm(items, "Reading", len(rows), unit="image", disable=None), strict=True
        ):
            if isinstance(item, UserError):
                problems.add(item, f"See {records.line(row)}.")
                unread += 1
            else:
                found.append(item)
    if problems:
        raise UserError(f"{problems.text()}\n{unread} of {len(records)} images cannot be read.")
    return _summarized(found, selection, percentiles)


def _summarized(
    found: Sequence[dict[str, Any]], selection: BandSelection, percentiles: tuple[float, float]
) -> BandStatistics:
    sample = np.concatenate([item["sample"] for item in found])
    least = np.min([item["least"] for item in found], axis=0)
    greatest = np.max([item["greatest"] for item in found], axis=0)
    total = sum(item["pixels"] for item in found)
    numbers = selection.numbers or tuple(range(1, selection.channels + 1))
    for number, low, high in zip(numbers, least, greatest, strict=True):
        if low >= high:
            what = f"holds only the value {low:g}" if low == high else "has no value in any image"
            raise UserError(f"Band {number} {what}. Omit it from DATASET.bands, or check DATASET.nodata.")
    rows = []
    for k in range(selection.channels):
        values = sample[:, k].astype(np.float64)
        values = values[~np.isnan(values)]
        low, high = np.percentile(values, percentiles) if len(values) else (least[k], greatest[k])
        if low >= high:  # almost all values are equal
            low, high = least[k], greatest[k]
        clipped = values.clip(low, high)
        rows.append((clipped.mean(), max(clipped.std(), 1e-6 * (high - low)), low, high))
    mean, std, low, high = np.array(rows).T
    absent = np.sum([item["absent"] for item in found], axis=0) / total
    return BandStatistics(mean, std, low, high, least, greatest, absent, len(found), len(sample), total)
