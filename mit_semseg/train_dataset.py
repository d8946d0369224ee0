"""The dataset for training: a deterministic, endless schedule of sub-batches."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from .base_dataset import BaseDataset, Source
from .data.geometry import fit_size, round_up
from .data.images import normalize, open_pair
from .data.labels import read_label
from .data.resample import pick_nearest, resize
from .data.schedule import Schedule
from .distributed import one_thread
from .errors import UserError

if TYPE_CHECKING:  # torchvision takes a second to import, and most runs do without
    from .data.augment import Transform

_SUBSTITUTES = 9  # tried in place of a file that can't be used, before its error is raised


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
        opt: as for BaseDataset, and ``segm_downsampling_rate``, the rate at which labels are compared.
            Optional, see config/defaults.py: ``random_flip``, ``augment`` and what belongs to it,
            ``on_error``.
        batch_per_gpu: images in a sub-batch.
        seed: of the order, the sizes and the augmentation; 0 or more.
        transform: augments in place of what ``opt`` says; see data/augment.py for what it gets and returns.

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
        transform: "Transform | None" = None,
    ) -> None:
        required = ("fpath_img", "fpath_segm", "width", "height")
        super().__init__(odgt, opt, required, max_sample, start_idx, end_idx)
        self.root_dataset = Path(root_dataset)
        self.segm_downsampling_rate: int = opt.segm_downsampling_rate
        self.random_flip: bool = getattr(opt, "random_flip", True)
        self.skips_errors: bool = getattr(opt, "on_error", "raise") == "skip"
        self.batch_per_gpu = batch_per_gpu
        if self.padding_constant % self.segm_downsampling_rate:
            raise ValueError(
                f"padding_constant {self.padding_constant} is no multiple of "
                f"segm_downsampling_rate {self.segm_downsampling_rate}."
            )
        augment = getattr(opt, "augment", "published")
        if transform is None and augment != "published":
            from .data.augment import build_augmentation

            transform = build_augmentation(augment, opt)
        self.transform = transform
        self.schedule = Schedule(self.records.is_portrait(), batch_per_gpu, self.imgSizes, seed)

    def __len__(self) -> int:
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
        """An item that is cheap to make and to move, for training: normalized where it is used.

        ``img_data`` is uint8, to be given to `normalize` with ``sizes``, (width, height) of each image.
        ``seg_label`` is an array, which crosses processes faster than a second tensor. ``skipped`` holds a
        message for each file that another one stands in for, because it cannot be used (``on_error`` "skip").
        Photos much larger than they will be are decoded at reduced size, so that values may differ a little
        from those of ``dataset[index]``.
        """
        with one_thread():
            return self._assemble(index, reduced=True)

    def label_counts(self, row: int) -> dict[str, Any]:
        """``counts``, (num_class,) int64: how many pixels of each class the label of record ``row`` has.

        None has any if the file cannot be used and errors are skipped. Needs ``num_class``.
        """
        num_class = self.coding.num_class
        assert num_class is not None
        try:
            with self._placing(row):
                label = read_label(self.root_dataset / self.records[row].fpath_segm, self.coding)
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
                image, label = self._scaled(example, drawn.short_edge, self.random_flip and bool(flip))
            else:
                image, label = self._transformed(example, self.schedule.transform_seed(index, position))
            images.append(image)
            labels.append(label)

        rate = self.segm_downsampling_rate
        height = round_up(max(image.size(1) for image in images), self.padding_constant)
        width = round_up(max(image.size(2) for image in images), self.padding_constant)
        pixels = torch.zeros(len(images), height, width, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        seg_label = np.full((len(labels), height // rate, width // rate), -1, np.int64)
        for b, (image, label) in enumerate(zip(images, labels, strict=True)):
            pixels[b, :, : image.size(1), : image.size(2)] = image
            np.subtract(label, 1, out=seg_label[b, : label.shape[0], : label.shape[1]], dtype=np.int64)
        return {
            "img_data": pixels,
            "seg_label": seg_label,
            "info": [str(self.root_dataset / self.records[example.row].fpath_img) for example in examples],
            "sizes": [(image.size(2), image.size(1)) for image in images],
            "skipped": [message for example in examples for message in example.skipped],
        }

    def _read(self, index: int, position: int, row: int, at_least: int | None) -> "_Example":
        """The files of a record that stands in a sub-batch, or of its substitute if errors are skipped."""
        skipped: list[str] = []
        while True:
            record = self.records[row]
            try:
                with self._placing(row):
                    pixels, label = open_pair(
                        self.root_dataset / record.fpath_img,
                        self.root_dataset / record.fpath_segm,
                        self.coding,
                        at_least,
                    )
                return _Example(row, pixels, label, skipped)
            except UserError as error:
                if not self.skips_errors or len(skipped) == _SUBSTITUTES:
                    raise
                row = self.schedule.substitute(row, index, position, len(skipped))
                skipped.append(str(error))

    def _scaled(self, example: "_Example", short_edge: int, flip: bool) -> tuple[torch.Tensor, np.ndarray]:
        """The published augmentation: the image (3, h, w) uint8, and its label at the rate of comparison."""
        label = example.label
        # The file's own size counts, not the list's, which may be that of another version of the file.
        size = fit_size(label.shape[1], label.shape[0], short_edge, self.imgMaxSize)
        values = pick_nearest(label, *size, self.segm_downsampling_rate, flip)
        return resize(example.pixels, *size, flip), values

    def _transformed(self, example: "_Example", seed: int) -> tuple[torch.Tensor, np.ndarray]:
        """As `_scaled`, by ``transform``."""
        from .data.augment import augmented

        assert self.transform is not None
        with self._placing(example.row):
            image, label = augmented(
                self.transform, example.pixels, example.label, seed, self.coding.num_class
            )
        rate = self.segm_downsampling_rate
        return image, label[rate // 2 :: rate, rate // 2 :: rate]


class _Example(NamedTuple):
    """What was read for one place of a sub-batch: the record, its files, and those that can't be used."""

    row: int
    pixels: np.ndarray  # (H, W, 3) uint8, maybe at reduced size
    label: np.ndarray  # standard values
    skipped: list[str]  # what is wrong with others that would have stood here
