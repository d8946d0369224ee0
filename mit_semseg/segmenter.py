"""The Python interface: a trained model as a function from images to segmentations."""

import threading
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from typing import Any, NamedTuple, overload

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import with_keys
from .data.classes import ClassTable, load_classes
from .data.in_memory import AnyImage, check_kind, to_rgb
from .dataset import scaled
from .engine.pipeline import ahead
from .engine.setup import build_scoring, check_model, trained_weights
from .engine.source import Device, Source, find_classes, pick_device, read_config
from .inference import ScoringNetwork, Settings, predict_labels, predict_probabilities
from .segmentation import Segmentation

__all__ = ["Segmentation", "Segmenter"]

_AHEAD = 2  # images of a list that are decoded and scaled before their turn
_BATCH_PIXELS = (
    3_000_000  # of images that go through the network together: no more than of a single large one
)
_MOST_IN_BATCH = 16

# One computation at a time on each device: the memory that it needs is the device's, and the number of
# threads, which it changes, is the process's.
_computing: dict[torch.device, threading.Lock] = {}


class Scales(NamedTuple):
    """The sizes at which images are scored: those of the config's ``DATASET`` section."""

    short_edges: tuple[int, ...]
    max_long_edge: int
    multiple: int  # which sides are stretched to


class _Ready(NamedTuple):
    """An image that waits to be scored."""

    image: NDArray[np.uint8]
    scaled: list[Tensor]
    source: str


class Segmenter:
    """A trained model, called on images.

    >>> from mit_semseg import Segmenter
    >>> segmenter = Segmenter.load("ckpt/mine", device="cpu")
    >>> segmenter
    <Segmenter mobilenetv2dilated + c1, 3 classes, on cpu>
    >>> segmentation = segmenter("street.jpg")
    >>> segmentation.labels.shape  # height, width
    (36, 48)
    >>> segmentation.names
    ('brick', 'lawn', 'pool')
    >>> segmentation.probabilities.shape
    (3, 36, 48)
    >>> list(segmentation.shares) == sorted(segmentation.shares, key=segmentation.shares.get, reverse=True)
    True
    >>> segmentation.save("street_classes.png", legend=True)
    >>> [other.labels.shape for other in segmenter(["street.jpg", "corner.jpg"])]
    [(36, 48), (50, 36)]

    Several threads may call it at once; they compute in turn, and get what they would get alone. It can be
    pickled, and sent to other processes.

    Attributes:
        names: of the classes.
        colors: of the classes, (num_class, 3) uint8 RGB.
        device: where it computes.
    """

    def __init__(
        self, network: ScoringNetwork, table: ClassTable, scales: Scales, settings: Settings, title: str = ""
    ) -> None:
        """A segmenter of parts that are there already; `load` makes them.

        Args:
            title: what the model is called in the text form.
        """
        self.names = table.names
        self.colors = table.colors
        self.device = network.device
        self._network = network
        self._table = table
        self._scales = scales
        self._settings = settings
        self._title = title

    @classmethod
    def load(
        cls,
        source: Source,
        *,
        device: Device = None,
        checkpoint: str = "",
        classes: str | PathLike[str] = "",
        sizes: int | Sequence[int] | None = None,
        amp: str | None = None,
        flip: bool | None = None,
        tile: int | None = None,
    ) -> "Segmenter":
        """A trained model. What is left out is as its config says.

        Args:
            source: a folder that train.py has written, wherever it is now; a config file, or the name of one
                that the project ships, whose ``DIR`` holds the checkpoints (a published model is fetched);
                or a config tree.
            device: "cpu", "cuda", "cuda:1", a GPU's number; None is the first GPU, or the CPU without one.
            checkpoint: such as "epoch_20.pth"; "" is ``TEST.checkpoint``, or else the newest.
            classes: a file with the names and colours of the classes, in place of ``DATASET.classes``.
            sizes: short edges in pixels at which an image is scored (``DATASET.imgSizes``); fewer are faster.
            amp: "bf16" is faster and a little less exact, "none" float32 throughout (``VAL.amp``).
            flip: average with the mirror image, too (``VAL.flip``).
            tile: side of the tiles that larger images are cut into, in pixels; 0: chosen (``VAL.tile``).

        Raises: UserError for a folder, config, checkpoint or class table that can't be used, or a GPU that is
            not there; TypeError or ValueError for an argument that makes no sense.
        """
        keys = {"DATASET.imgSizes": sizes, "VAL.amp": amp, "VAL.flip": flip, "VAL.tile": tile}
        keys["TEST.checkpoint"] = checkpoint or None
        cfg = with_keys(read_config(source), {key: value for key, value in keys.items() if value is not None})
        check_model(cfg)
        place = pick_device(device)
        count = cfg.DATASET.num_class
        table = load_classes(classes, count) if fspath(classes) else find_classes(cfg)
        network, settings = build_scoring(cfg, trained_weights(cfg, "TEST"), place)
        data = cfg.DATASET
        scales = Scales(tuple(data.imgSizes), data.imgMaxSize, data.padding_constant)
        return cls(network, table, scales, settings, f"{cfg.MODEL.arch_encoder} + {cfg.MODEL.arch_decoder}")

    @overload
    def __call__(self, image: AnyImage) -> Segmentation: ...
    @overload
    def __call__(self, image: "list[Any] | tuple[Any, ...]") -> list[Segmentation]: ...
    def __call__(self, image: "AnyImage | list[Any] | tuple[Any, ...]") -> Segmentation | list[Segmentation]:
        """The classes of an image, or of each image in a list.

        The labels are those that test.py gives for the same file. Images of one size that follow each other
        in a list go through the network together, which is faster; where two classes are equally probable but
        for rounding, the label may then be the other one.

        Args:
            image: a path; a PIL image; an array (H, W, 3) or (H, W), uint8, uint16 or floating point from 0
                to 1; a tensor (3, H, W) of these types; see `mit_semseg.data.in_memory.to_rgb`. Or a list or
                tuple of them.

        Raises: TypeError or ValueError for what is no image, before anything of a list is scored if its type
            tells; UserError for a file that can't be used.
        """
        if not isinstance(image, list | tuple):
            return self._score([self._prepare(image, "image")])[0]
        for k, one in enumerate(image):
            check_kind(one, f"image[{k}]")
        return [segmentation for batch in self._batches(image) for segmentation in self._score(batch)]

    def __repr__(self) -> str:
        title = f"{self._title}, " if self._title else ""
        return f"<Segmenter {title}{len(self.names)} classes, on {self.device}>"

    def _prepare(self, image: AnyImage, name: str) -> _Ready:
        rgb = to_rgb(image, name)
        source = fspath(image) if isinstance(image, str | PathLike) else ""
        return _Ready(np.array(rgb), scaled(rgb, *self._scales), source)

    def _batches(self, images: Sequence[AnyImage]) -> Iterator[list[_Ready]]:
        """The images in their order; those that follow each other and have one size, together."""
        batch: list[_Ready] = []
        prepared = (self._prepare(image, f"image[{k}]") for k, image in enumerate(images))
        for ready in ahead(prepared, _AHEAD):
            pixels = max(one.shape[-2] * one.shape[-1] for one in ready.scaled)
            most = max(1, min(_BATCH_PIXELS // pixels, _MOST_IN_BATCH))
            if batch and (batch[0].image.shape != ready.image.shape or len(batch) >= most):
                yield batch
                batch = []
            batch.append(ready)
        if batch:
            yield batch

    def _score(self, batch: Sequence[_Ready]) -> list[Segmentation]:
        """The segmentations of images of one size."""
        size = batch[0].image.shape[:2]
        with self._alone():
            scales = [torch.cat(images) for images in zip(*(ready.scaled for ready in batch), strict=True)]
            labels = predict_labels(self._network, scales, size, self._settings).numpy()
        # A copy of each, so that keeping one does not keep them all.
        return [
            Segmentation(ready.image, own.copy(), self._table, self._probabilities, ready.source)
            for ready, own in zip(batch, labels, strict=True)
        ]

    def _probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        scales = scaled(PIL.Image.fromarray(image), *self._scales)
        with self._alone():
            scores = predict_probabilities(
                self._network, scales, (image.shape[0], image.shape[1]), settings=self._settings
            )
        return scores.cpu().numpy()

    def _alone(self) -> threading.Lock:
        return _computing.setdefault(self.device, threading.Lock())
