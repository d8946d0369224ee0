"""What the datasets of images share: the selected records, the options, an image at several scales."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .data.geometry import fit_size, round_up
from .data.labels import LabelCoding
from .data.records import Records, read_records
from .errors import UserError

Source = str | PathLike[str] | Iterable[Any]  # path of an .odgt file, or the records themselves


class BaseDataset(Dataset[dict[str, Any]]):
    """What the three share: the selected records and the options.

    Args:
        odgt: path of the list, or a list of records (dicts).
        opt: anything with the attributes ``imgSizes`` (short edges in pixels), ``imgMaxSize`` (limit of the
            long edge) and ``padding_constant`` (sides are rounded up to multiples of it). Optional:
            ``num_class``, against which labels are checked, ``label_offset`` and ``ignore_label``, see
            `LabelCoding`.
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
        ignored: int = getattr(opt, "ignore_label", -1)
        self.coding = LabelCoding(
            num_class=getattr(opt, "num_class", None),
            offset=getattr(opt, "label_offset", 1),
            ignore=ignored if ignored >= 0 else None,
        )
        records = read_records(odgt, required=required, inside_root="fpath_segm" in required)
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
        """The image at each short edge, stretched to multiples of padding_constant; uint8 (1, 3, h, w)."""
        return scaled(image, self.imgSizes, self.imgMaxSize, self.padding_constant)


def scaled(
    image: Image.Image, short_edges: Sequence[int], max_long_edge: int, multiple: int
) -> list[torch.Tensor]:
    """An image at each short edge, stretched to sides that ``multiple`` divides; (1, 3, h, w) uint8 each."""
    tensors = []
    for short_edge in short_edges:
        width, height = fit_size(*image.size, short_edge, max_long_edge)
        size = (round_up(width, multiple), round_up(height, multiple))
        # Without a copy where nothing changes: an image scored at its own size may be a large one.
        pixels = np.array(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))
        tensors.append(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2))
    return tensors
