"""The three datasets: sub-batches for training, images at all scales for validation and test."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .data.geometry import fit_size, round_up
from .data.images import normalize, open_image, open_pair
from .data.records import Records, read_records
from .data.schedule import Schedule
from .errors import UserError

Source = str | PathLike[str] | Iterable[Any]  # path of an .odgt file, or the records themselves


class BaseDataset(Dataset[dict[str, Any]]):
    """What the three share: the selected records and the options.

    Args:
        odgt: path of the list, or a list of records (dicts).
        opt: anything with the attributes ``imgSizes`` (short edges in pixels), ``imgMaxSize`` (limit of the
            long edge) and ``padding_constant`` (sides are rounded up to multiples of it). With
            ``num_class``, labels are checked against it.
        max_sample: keep only the first so many records; 0 or less: all.
        start_idx, end_idx: keep only this range of them; -1: all.

    Raises: UserError for an unusable list, ValueError if no record is left.
    """

    def __init__(
        self, odgt: Source, opt: Any, required: Sequence[str], max_sample: int, start_idx: int, end_idx: int
    ) -> None:
        sizes = opt.imgSizes
        self.imgSizes: tuple[int, ...] = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        self.imgMaxSize: int = opt.imgMaxSize
        self.padding_constant: int = opt.padding_constant
        self.num_class: int | None = getattr(opt, "num_class", None)
        records = read_records(odgt, required=required)
        if max_sample > 0:
            records = records[:max_sample]
        if start_idx >= 0 and end_idx >= 0:
            records = records[start_idx:end_idx]
        if not len(records):
            raise ValueError(f"start_idx {start_idx} to end_idx {end_idx} leave no record of {records.name}.")
        self.records: Records = records
        self.num_sample = len(records)

    @contextmanager
    def _placing(self, index: int) -> Iterator[None]:
        """Adds to an error about a file which line of the list names it, if there is a list file."""
        try:
            yield
        except UserError as error:
            place = self.records.line(index)
            if not place:
                raise
            raise UserError(f"{error} It stands in {place}.") from error.__cause__

    def _scales(self, image: Image.Image) -> list[torch.Tensor]:
        """The image at each short edge, stretched to multiples of padding_constant; (1, 3, h, w) each."""
        scaled = []
        for short_edge in self.imgSizes:
            width, height = fit_size(*image.size, short_edge, self.imgMaxSize)
            size = (round_up(width, self.padding_constant), round_up(height, self.padding_constant))
            scaled.append(normalize(image.resize(size, Image.Resampling.BILINEAR))[None])
        return scaled


class TrainDataset(BaseDataset):
    """``dataset[i]`` is the i-th sub-batch of an endless schedule, a pure function of (records, seed, i).

    Rank r of n takes i = r, r+n, r+2n, ...; see data/schedule.py for what is drawn. ``len(dataset)`` is the
    number of sub-batches in the first pass over the records (a later pass may hold one more an orientation),
    but any index from 0 up is good.

    An item: ``img_data`` (B, 3, H, W) float32, normalized, padded with 0 (the mean colour) at the right and
    the bottom; ``seg_label`` (B, H/rate, W/rate) int64, -1 where unlabelled or padded; ``info``, the B image
    files.

    Args:
        root_dataset: folder that the paths in the list are relative to.
        opt: as for BaseDataset, and ``segm_downsampling_rate``, the rate at which labels are compared, and
            ``random_flip`` (True if absent), whether each image is mirrored with probability 1/2.
        batch_per_gpu: images in a sub-batch.
        seed: of the order, the sizes and the flips; 0 or more.

    Raises: ValueError if the rate does not divide ``padding_constant``; else as BaseDataset. Items: UserError
        for a file that cannot be used.
    """

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
    ) -> None:
        required = ("fpath_img", "fpath_segm", "width", "height")
        super().__init__(odgt, opt, required, max_sample, start_idx, end_idx)
        self.root_dataset = Path(root_dataset)
        self.segm_downsampling_rate: int = opt.segm_downsampling_rate
        self.random_flip: bool = getattr(opt, "random_flip", True)
        self.batch_per_gpu = batch_per_gpu
        if self.padding_constant % self.segm_downsampling_rate:
            raise ValueError(
                f"padding_constant {self.padding_constant} is no multiple of "
                f"segm_downsampling_rate {self.segm_downsampling_rate}."
            )
        self.schedule = Schedule(self.records.is_portrait(), batch_per_gpu, self.imgSizes, seed)

    def __len__(self) -> int:
        return max(1, self.schedule.start_of_pass(1))

    def __getitem__(self, index: int) -> dict[str, Any]:
        sub_batch = self.schedule[index]
        images, labels, files = [], [], []
        for row, flip in zip(sub_batch.records.tolist(), sub_batch.flips, strict=True):
            record = self.records[row]
            image_path = self.root_dataset / record.fpath_img
            with self._placing(row):
                image, label = open_pair(image_path, self.root_dataset / record.fpath_segm, self.num_class)
            if self.random_flip and flip:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                label = label.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            # The file's own size counts, not the list's, which may be that of another version of the file.
            size = fit_size(*image.size, sub_batch.short_edge, self.imgMaxSize)
            images.append(image.resize(size, Image.Resampling.BILINEAR))
            labels.append(label.resize(size, Image.Resampling.NEAREST))
            files.append(str(image_path))

        rate = self.segm_downsampling_rate
        width = round_up(max(image.width for image in images), self.padding_constant)
        height = round_up(max(image.height for image in images), self.padding_constant)
        img_data = torch.zeros(len(images), 3, height, width)
        seg_label = np.full((len(labels), height // rate, width // rate), -1, np.int64)
        for b, (image, label) in enumerate(zip(images, labels, strict=True)):
            normalize(image, out=img_data[b, :, : image.height, : image.width])
            # Nearest reduction takes the pixel in the middle of each rate x rate cell of the padded label.
            reduced = np.asarray(label)[rate // 2 :: rate, rate // 2 :: rate]
            np.subtract(reduced, 1, out=seg_label[b, : reduced.shape[0], : reduced.shape[1]], dtype=np.int64)
        return {"img_data": img_data, "seg_label": torch.from_numpy(seg_label), "info": files}


class ValDataset(BaseDataset):
    """Images at all scales, with their labels in full size.

    An item: ``img_ori`` (H, W, 3) uint8 array; ``img_data``, a list of (1, 3, h, w) float32, one a short edge
    of ``opt.imgSizes``, normalized, stretched to sides that ``padding_constant`` divides; ``seg_label``
    (1, H, W) int64, -1 where unlabelled; ``info``, the image's path in the list.

    Args and errors: as for BaseDataset and, of root_dataset, TrainDataset.
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
        super().__init__(odgt, opt, ("fpath_img", "fpath_segm"), max_sample, start_idx, end_idx)
        self.root_dataset = Path(root_dataset)

    def __len__(self) -> int:
        return self.num_sample

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        with self._placing(index):
            image, label = open_pair(
                self.root_dataset / record.fpath_img, self.root_dataset / record.fpath_segm, self.num_class
            )
        return {
            "img_ori": np.array(image),
            "img_data": self._scales(image),
            "seg_label": torch.from_numpy(np.asarray(label).astype(np.int64) - 1)[None],
            "info": record.fpath_img,
        }


class TestDataset(BaseDataset):
    """Images at all scales, turned upright as their EXIF orientation says.

    An item: as ValDataset's without ``seg_label``.

    Args: as for BaseDataset; records need ``fpath_img`` only, which is used as it is, and may be mere paths.
    """

    __test__ = False  # no test case, whatever pytest makes of the name

    def __init__(
        self, odgt: Source, opt: Any, *, max_sample: int = -1, start_idx: int = -1, end_idx: int = -1
    ) -> None:
        super().__init__(odgt, opt, ("fpath_img",), max_sample, start_idx, end_idx)

    def __len__(self) -> int:
        return self.num_sample

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        with self._placing(index):
            image = open_image(record.fpath_img, upright=True)
        return {"img_ori": np.array(image), "img_data": self._scales(image), "info": record.fpath_img}
