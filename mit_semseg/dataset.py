"""The three datasets: sub-batches for training, images at all scales for validation and test."""

from collections.abc import Sequence
from copy import copy
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .base_dataset import BaseDataset, Source, scaled
from .data.images import normalize, open_image, open_pair
from .train_dataset import TrainDataset

__all__ = ["BaseDataset", "TestDataset", "TrainDataset", "ValDataset", "scaled"]


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

    def only(self, rows: Sequence[int]) -> "ValDataset":
        """A dataset of these records of it, in this order; everything else is shared."""
        chosen = copy(self)
        chosen.records = self.records.take(rows)
        chosen.num_sample = len(chosen.records)
        return chosen

    def __len__(self) -> int:
        return self.num_sample

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _normalized(self.as_bytes(index))

    def as_bytes(self, index: int) -> dict[str, Any]:
        """An item that is cheap to move: its ``img_data`` is uint8, which a ScoringNetwork normalizes."""
        record = self.records[index]
        with self._placing(index):
            pixels, label = open_pair(
                self.root_dataset / record.fpath_img, self.root_dataset / record.fpath_segm, self.coding
            )
        return {
            "img_ori": pixels,
            "img_data": self._scales(Image.fromarray(pixels)),
            "seg_label": torch.from_numpy(label.astype(np.int64) - 1)[None],
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
        return _normalized(self.as_bytes(index))

    def as_bytes(self, index: int) -> dict[str, Any]:
        """An item that is cheap to move: its ``img_data`` is uint8, which a ScoringNetwork normalizes."""
        record = self.records[index]
        with self._placing(index):
            image = open_image(record.fpath_img, upright=True)
        return {"img_ori": np.array(image), "img_data": self._scales(image), "info": record.fpath_img}


def _normalized(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "img_data": [normalize(pixels) for pixels in item["img_data"]]}
