"""Datasets for training, validation and prediction: image and label tensors from a list of records."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..runtime.threads import one_thread
from .band_images import BandImage, read_image, read_pair, scaled_bands
from .bands import Bands
from .base_dataset import BaseDataset, select
from .file_cache import FileCache
from .images import normalize, open_image, open_pair, pages_of
from .label_coding import LabelCoding
from .labels import read_with_nodata, standard_values
from .records import Record, Records, read_records
from .remote import Address, address_of
from .resize import Scales, fit_size, pick_nearest, resize, round_up, scored_sizes
from .scene_pairs import read_region, region_of, window_values
from .schedule import Schedule
from .shards import located

if TYPE_CHECKING:  # torchvision takes a second to import, and most runs do not need it
    from .augment import Transform

Source = str | PathLike[str] | Iterable[Any]  # path of an .odgt file, or the records themselves

_ENDLESS = 10**10  # sub-batches; the length that programs written for the old package rely on
_SUBSTITUTES = 9  # records to try in place of an unusable one, before the last error is raised


class _Listed(BaseDataset):
    """The common base of the three datasets, which keep their list as `Records`.

    Args:
        odgt: path of the list, or a list of records (dicts).
        opt: as for `BaseDataset`. Optional: ``num_class``, to check labels against it; ``label_offset`` and
            ``ignore_label``, see `LabelCoding`; ``channels``, ``bands`` and so on, see docs/bands.md;
            ``window``, see `scored_sizes`; ``cache`` and ``cache_gb``, see `FileCache`.
        max_sample, start_idx, end_idx: see `BaseDataset.parse_input_list`.

    Attributes:
        bands: the bands of the images; None for 8-bit RGB. With bands, ``img_data`` of all items has
            ``channels`` instead of 3 channels, and is float32 and normalized in all forms of an item;
            ``img_ori`` shows the display bands.

    Raises: UserError for an unusable list, or for bands without statistics; ValueError if no record is left.
    """

    records: Records
    _required: tuple[str, ...] = ("fpath_img", "fpath_segm")

    def __init__(self, odgt: Source, opt: Any, max_sample: int, start_idx: int, end_idx: int) -> None:
        super().__init__(odgt, opt, max_sample=max_sample, start_idx=start_idx, end_idx=end_idx)
        ignored: int = getattr(opt, "ignore_label", -1)
        self.coding = LabelCoding(
            num_class=getattr(opt, "num_class", None),
            offset=getattr(opt, "label_offset", 1),
            ignore=ignored if ignored >= 0 else None,
        )
        self.bands = Bands.of(opt)
        self.window: int = getattr(opt, "window", 0)
        self._cache = FileCache.of(opt)

    def parse_input_list(
        self, odgt: Any, max_sample: int = -1, start_idx: int = -1, end_idx: int = -1
    ) -> None:
        inside_root = "fpath_segm" in self._required
        records = read_records(odgt, required=self._required, inside_root=inside_root)
        self.records = select(records, max_sample, start_idx, end_idx, records.name)
        self.num_sample = len(self.records)

    @cached_property
    def list_sample(self) -> list[Any]:  # type: ignore[override]
        """The records as dicts, for callers. A change of it has no effect on the items."""
        return self.records.as_dicts()

    @contextmanager
    def _placing(self, index: int) -> Iterator[None]:
        """Inside the block, errors about a file also name its line of the list, if the list is a file."""
        try:
            yield
        except UserError as error:
            place = self.records.line(index)
            if not place:
                raise
            raise UserError(f"{error} See {place}.") from error.__cause__

    def _scales(self, image: Image.Image) -> list[torch.Tensor]:
        """The image at each short edge, stretched to multiples of padding_constant; uint8 (1, 3, h, w)."""
        return scaled(image, *Scales.of(self))

    def _root(self, root: str | PathLike[str]) -> Path | Address:
        return address_of(root, self._cache) or Path(root)

    def files(self, index: int) -> tuple[Path | Address, Path | Address]:
        """The image and the label of a record."""
        return self._files(self.records[index])

    def _files(self, record: Record) -> tuple[Path | Address, Path | Address]:
        """The image and the label of a record, in the folder of the dataset."""
        root = getattr(self, "root_dataset", "")
        return located(root, record.fpath_img, self._cache), located(root, record.fpath_segm, self._cache)

    def _read_pair(self, record: Record, at_least: int | None = None) -> tuple[BandImage, np.ndarray]:
        """The pixels of a record, which are uint8 RGB without bands, and its label.

        Args:
            at_least: see `open_pair`.
        """
        files = self._files(record)
        if record.is_window:
            return read_region(*files, region_of(record), self.coding, self.bands)
        if self.bands is None:
            pixels, label = open_pair(*files, self.coding, at_least)
            return BandImage(pixels, None), label
        return read_pair(*files, self.coding, self.bands)

    def label_values(self, row: int) -> np.ndarray:
        """A record's label as its file has it, (H, W); if some pixels have no data, the others, (1, N).

        Raises: UserError if it cannot be read.
        """
        record = self.records[row]
        label = self._files(record)[1]
        if record.is_window:
            return window_values(label, region_of(record))
        values, nodata = read_with_nodata(label)
        if nodata is None:
            return values
        valid = values != nodata
        return values if valid.all() else values[valid][None]

    def _of_bands(self, image: BandImage) -> dict[str, Any]:
        """The picture of an image with bands, and the image at each short edge, as an item has them."""
        assert self.bands is not None
        return {
            "img_ori": self.bands.picture(*image),
            "img_data": scaled_bands(image, *Scales.of(self), bands=self.bands),
        }


def scaled(
    image: Image.Image, short_edges: Sequence[int], max_long_edge: int, multiple: int, window: int = 0
) -> list[torch.Tensor]:
    """An image at each of its `scored_sizes`; (1, 3, h, w) uint8 each."""
    tensors = []
    for size in scored_sizes(*image.size, short_edges, max_long_edge, multiple, window):
        # No copy if the size stays the same, because such an image may be large.
        pixels = np.array(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))
        tensors.append(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2))
    return tensors


class _Example(NamedTuple):
    """An image and its label as read for one position of a sub-batch."""

    row: int  # of the record
    pixels: np.ndarray  # (H, W, 3) uint8, maybe at reduced size; with bands (H, W, C) float32 from 0 to 1
    label: np.ndarray  # standard values
    skipped: list[str]  # why the records that it replaces cannot be used


class TrainDataset(_Listed):
    """``dataset[i]`` is the i-th sub-batch of an endless schedule, a pure function of (records, seed, i).

    Rank r of n uses i = r, r+n, r+2n, ...; data/schedule.py describes the random choices. Every index from 0
    up is valid, and ``len(dataset)`` is larger than any run, so that one iterator of a loader lasts for all
    epochs; `pass_length` is the length of a pass.

    An item has ``img_data`` (B, 3, H, W) float32, normalized and padded with 0 (the mean colour) at the right
    and the bottom; ``seg_label`` (B, H/rate, W/rate) int64, -1 where unlabelled or padded; and ``info``, the
    paths of the B images.

    Args:
        root_dataset: folder, or address, that the paths in the list are relative to.
        opt: as for BaseDataset, and ``segm_downsampling_rate``, the stride at which labels are compared with
            scores. Optional, see docs/config.md: ``random_flip``, ``augment`` and its options, ``on_error``.
        batch_per_gpu: images in a sub-batch.
        seed: seed of the order, the sizes and the augmentation; 0 or more.
        transform: replaces the augmentation of ``opt``; see data/augment.py for its arguments and results.

    Raises: ValueError if ``segm_downsampling_rate`` does not divide ``padding_constant``; otherwise as
        BaseDataset. An item that needs an unusable file raises UserError.
    """

    _required = ("fpath_img", "fpath_segm", "width", "height")

    def __init__(
        self,
        root_dataset: str | PathLike[str],
        odgt: Source,
        opt: Any,
        batch_per_gpu: int = 1,
        *,
        seed: int = 0,
        max_sample: int = -1,
        start_idx: int = -1,
        end_idx: int = -1,
        transform: "Transform | None" = None,
    ) -> None:
        super().__init__(odgt, opt, max_sample, start_idx, end_idx)
        self.root_dataset = self._root(root_dataset)
        self.segm_downsampling_rate: int = opt.segm_downsampling_rate
        self.random_flip: bool = getattr(opt, "random_flip", True)
        self.skips_errors: bool = getattr(opt, "on_error", "raise") == "skip"
        self.batch_per_gpu = batch_per_gpu
        if self.padding_constant % self.segm_downsampling_rate:
            raise ValueError(
                f"padding_constant {self.padding_constant} is not a multiple of "
                f"segm_downsampling_rate {self.segm_downsampling_rate}."
            )
        augment = getattr(opt, "augment", "published")
        if transform is None and augment != "published":
            from .augment import build_augmentation

            transform = build_augmentation(augment, opt)
        self.transform = transform
        self.schedule = Schedule(self.records.is_portrait(), batch_per_gpu, self.imgSizes, seed)

    def __len__(self) -> int:
        return _ENDLESS

    @property
    def pass_length(self) -> int:
        """Sub-batches in the first pass over the records. A later pass may have one more per orientation."""
        return max(1, self.schedule.start_of_pass(1))

    def __getitem__(self, index: int) -> dict[str, Any]:
        with one_thread():
            item = self._assemble(index, reduced=False)
            return {
                "img_data": normalize(item["img_data"], item["sizes"]),
                "seg_label": torch.from_numpy(item["seg_label"]),
                "info": item["info"],
            }

    def sub_batch(self, index: int) -> dict[str, Any]:
        """An item for training that is cheap to make and to move, because it is not normalized yet.

        ``img_data`` is uint8, or normalized float32 with bands; pass it to `normalize` with ``sizes``, the
        (width, height) of each image.
        ``seg_label`` is an array, which crosses processes faster than a second tensor. ``skipped`` holds a
        message for each unusable file that was replaced by another (``on_error`` "skip"). Photos much larger
        than the size to train on are decoded at reduced size, so values may differ slightly from those of
        ``dataset[index]``.
        """
        with one_thread():
            return self._assemble(index, reduced=True)

    def label_counts(self, row: int) -> dict[str, Any]:
        """``counts``, (num_class,) int64: the pixels of each class in the label of record ``row``.

        All are 0 if the file cannot be used and errors are skipped. Needs ``num_class``.
        """
        num_class = self.coding.num_class
        assert num_class is not None
        try:
            with self._placing(row):
                label = standard_values(self.label_values(row), str(self.files(row)[1]), self.coding)
        except UserError:
            if not self.skips_errors:
                raise
            label = np.zeros((0,), np.uint8)
        return {"counts": np.bincount(label.ravel(), minlength=num_class + 1)[1:]}

    def _assemble(self, index: int, reduced: bool) -> dict[str, Any]:
        drawn = self.schedule[index]
        at_least = drawn.short_edge if reduced and self.transform is None else None
        examples = [
            self._read(index, position, row, at_least) for position, row in enumerate(drawn.records.tolist())
        ]
        images, labels = [], []
        for position, (example, flip) in enumerate(zip(examples, drawn.flips, strict=True)):
            if self.transform is None:
                image, label = self._published(example, drawn.short_edge, self.random_flip and bool(flip))
            else:
                image, label = self._transformed(example, self.schedule.transform_seed(index, position))
            images.append(image)
            labels.append(label)

        rate = self.segm_downsampling_rate
        height = round_up(max(image.size(1) for image in images), self.padding_constant)
        width = round_up(max(image.size(2) for image in images), self.padding_constant)
        shape = (len(images), height, width, images[0].size(0))
        pixels = torch.zeros(shape, dtype=images[0].dtype).permute(0, 3, 1, 2)
        seg_label = np.full((len(labels), height // rate, width // rate), -1, np.int64)
        for b, (image, label) in enumerate(zip(images, labels, strict=True)):
            pixels[b, :, : image.size(1), : image.size(2)] = image
            np.subtract(label, 1, out=seg_label[b, : label.shape[0], : label.shape[1]], dtype=np.int64)
        return {
            "img_data": pixels,
            "seg_label": seg_label,
            "info": [str(self.files(example.row)[0]) for example in examples],
            "sizes": [(image.size(2), image.size(1)) for image in images],
            "skipped": [message for example in examples for message in example.skipped],
        }

    def _read(self, index: int, position: int, row: int, at_least: int | None) -> _Example:
        """The image and label of a record in a sub-batch, or of its substitute if errors are skipped."""
        skipped: list[str] = []
        while True:
            record = self.records[row]
            try:
                with self._placing(row):
                    (pixels, _), label = self._read_pair(record, at_least)
                return _Example(row, pixels, label, skipped)
            except UserError as error:
                if not self.skips_errors or len(skipped) == _SUBSTITUTES:
                    raise
                row = self.schedule.substitute(row, index, position, len(skipped))
                skipped.append(str(error))

    def _published(self, example: _Example, short_edge: int, flip: bool) -> tuple[torch.Tensor, np.ndarray]:
        """The image (3, h, w) uint8 and its downsampled label, augmented as for the published models.

        With bands, the image is (C, h, w) float32 and normalized.
        """
        label = example.label
        # The size comes from the file, because the list may describe another version of it.
        size = fit_size(label.shape[1], label.shape[0], short_edge, self.imgMaxSize)
        values = pick_nearest(label, *size, self.segm_downsampling_rate, flip)
        return self._normalized_bands(resize(example.pixels, *size, flip)), values

    def _normalized_bands(self, image: torch.Tensor) -> torch.Tensor:
        """An image with bands, normalized; one without bands as it is."""
        return image if self.bands is None else self.bands.normalize(image)

    def _transformed(self, example: _Example, seed: int) -> tuple[torch.Tensor, np.ndarray]:
        """The image and its downsampled label, as of `_published`, augmented by ``transform``."""
        from .augment import augmented

        assert self.transform is not None
        with self._placing(example.row):
            image, label = augmented(
                self.transform, example.pixels, example.label, seed, self.coding.num_class
            )
        rate = self.segm_downsampling_rate
        return self._normalized_bands(image), label[rate // 2 :: rate, rate // 2 :: rate]


class ValDataset(_Listed):
    """Images at all scales, with their labels at full size.

    An item has ``img_ori`` (H, W, 3) uint8 array; ``img_data``, a list of (1, 3, h, w) float32, one for each
    short edge in ``opt.imgSizes``, normalized and stretched to multiples of ``padding_constant``;
    ``seg_label`` (1, H, W) int64, -1 where unlabelled; and ``info``, the image's path in the list, for a
    window of a scene also its place.

    Arguments and errors are those of BaseDataset; ``root_dataset`` is that of TrainDataset.
    """

    def __init__(
        self,
        root_dataset: str | PathLike[str],
        odgt: Source,
        opt: Any,
        *,
        max_sample: int = -1,
        start_idx: int = -1,
        end_idx: int = -1,
    ) -> None:
        super().__init__(odgt, opt, max_sample, start_idx, end_idx)
        self.root_dataset = self._root(root_dataset)

    def only(self, rows: Sequence[int]) -> "ValDataset":
        """A dataset of only these records, in this order. Everything else is shared with this dataset."""
        chosen = copy(self)
        chosen.records = self.records.take(rows)
        chosen.num_sample = len(chosen.records)
        chosen.__dict__.pop("list_sample", None)
        return chosen

    def __len__(self) -> int:
        return self.num_sample

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _normalized(self.as_bytes(index))

    def as_bytes(self, index: int) -> dict[str, Any]:
        """An item that is cheap to move: its ``img_data`` is uint8, and a ScoringNetwork normalizes it."""
        with self._placing(index):
            image, label = self._read_pair(self.records[index])
            if self.bands is None:
                scales = self._scales(Image.fromarray(image.unit))
                images = {"img_ori": image.unit, "img_data": scales}
            else:
                images = self._of_bands(image)
        return {
            **images,
            "seg_label": torch.from_numpy(label.astype(np.int64) - 1)[None],
            "info": self._title(index),
        }

    def _title(self, index: int) -> str:
        """The image's path in the list, for a window also its place in the scene."""
        record = self.records[index]
        if not record.is_window:
            return record.fpath_img
        rows, columns = region_of(record)
        return f"{record.fpath_img}, rows {rows[0]} to {rows[1]}, columns {columns[0]} to {columns[1]}"


class TestDataset(_Listed):
    """Images at all scales, turned upright as their EXIF orientation says.

    An item is that of ValDataset without ``seg_label``.

    Arguments are those of BaseDataset. A record needs only ``fpath_img``, which is used unchanged. It may
    also be a plain path.
    """

    __test__ = False  # tells pytest that this is not a test case
    _required = ("fpath_img",)

    def __init__(
        self, odgt: Source, opt: Any, *, max_sample: int = -1, start_idx: int = -1, end_idx: int = -1
    ) -> None:
        super().__init__(odgt, opt, max_sample, start_idx, end_idx)

    def __len__(self) -> int:
        return self.num_sample

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.as_bytes(index)
        return _normalized({key: item[key] for key in ("img_ori", "img_data", "info")})

    def as_bytes(self, index: int) -> dict[str, Any]:
        """An item that is cheap to move: its ``img_data`` is uint8, and a ScoringNetwork normalizes it.

        Its ``pages`` is the number of pages, or frames, in the file. The first one is in the item. With
        bands, ``without_data`` marks the pixels without data, (H, W) bool; it is None if there are none.
        """
        name = self.records[index].fpath_img
        file = address_of(name, self._cache) or name
        if self.bands is not None:
            with self._placing(index):
                found = read_image(file, self.bands)
            item = self._of_bands(found)
            return {**item, "info": name, "pages": 1, "without_data": found.without_data}
        with self._placing(index):
            image = open_image(file, upright=True)
        return {
            "img_ori": np.array(image),
            "img_data": self._scales(image),
            "info": name,
            "pages": pages_of(image),
        }


def _normalized(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "img_data": [normalize(pixels) for pixels in item["img_data"]]}
