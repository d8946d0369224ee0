"""`Segmenter`: a trained model, to call on images."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..config import get_defaults, with_keys
from ..data.band_images import BandImage, scaled_bands
from ..data.bands import Bands
from ..data.classes import ClassTable, load_classes
from ..data.datasets import scaled
from ..data.in_memory import AnyImage, check_kind, to_bands, to_rgb
from ..data.resize import Scales
from ..errors import UserError
from ..export import Metadata, Options, write_model
from ..export.compare import Row
from ..export.write import LEAST_OPSET, checked
from ..runtime.paths import expand_argument
from ..runtime.threads import prefetch
from .checkpoints import trained_weights
from .exported import AnyNetwork
from .foreign import find_foreign, foreign_classes
from .load import (
    Device,
    Source,
    build_scoring,
    check_model,
    find_classes,
    origin_of,
    pick_device,
    read_config,
    scoring_settings,
)
from .network import ScoringNetwork
from .origin import Origin
from .pictures import Image, unlabelled
from .predict import (
    Settings,
    predict_confident_labels,
    predict_labels,
    predict_probabilities,
)
from .segmentation import Segmentation, free_lock

__all__ = ["Segmentation", "Segmenter"]

_PREFETCH = 2  # images of a list that are decoded and scaled before their turn
_BATCH_PIXELS = 3_000_000  # limit for the images that go through the network together
_MOST_IN_BATCH = 16

# One computation at a time on each device, because it uses much of the device's memory and changes the
# process's number of threads.
_computing: dict[torch.device, threading.Lock] = {}


@cache
def _expect_forks() -> None:
    """Let the processes that this one forks compute, too. Called before torch starts threads for a model."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_begin_fork)


def _begin_fork() -> None:
    # Threads are not copied: neither the holder of a lock nor those with which torch computes, for which it
    # would wait forever.
    _computing.clear()
    torch.set_num_threads(1)
    free_lock()


class _Ready(NamedTuple):
    """An image that is ready to be scored."""

    image: NDArray[np.uint8]
    original: PIL.Image.Image | BandImage
    scaled: list[Tensor]
    source: str
    name: str  # for errors


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

    Several threads may call it at once. They compute in turn, and get the same results as alone. It can be
    pickled and sent to other processes.

    Attributes:
        names: names of the classes.
        colors: colours of the classes, (num_class, 3) uint8 RGB.
        device: the device that it computes on.
        title: encoder and decoder, for people.
        bands: the bands that the model takes; None for 8-bit RGB.
    """

    def __init__(
        self,
        network: AnyNetwork,
        table: ClassTable,
        scales: Scales,
        settings: Settings,
        title: str = "",
        origin: Origin | None = None,
        bands: Bands | None = None,
    ) -> None:
        """Combine loaded parts into a segmenter; `load` also loads them.

        Args:
            title: encoder and decoder, for people.
            origin: config and checkpoints, which `export` records.
            bands: of the images; None for 8-bit RGB.
        """
        _expect_forks()
        self.names = table.names
        self.colors = table.colors
        self.device = network.device
        self._network = network
        self._table = table
        self._scales = scales
        self._settings = settings
        self.title = title
        self._origin = origin
        self.bands = bands

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
        threshold: float | None = None,
        tile: int | None = None,
    ) -> "Segmenter":
        """A trained model. Arguments that you omit keep their value from the config.

        Args:
            source: a folder that train.py has written, even if it has been moved; a file that `export` or
                `mit-semseg export` has written, which runs on the CPU; a config file or the name
                of a shipped config, whose ``DIR`` has the checkpoints (those of a published model are
                downloaded); a config tree; a file of `mit-semseg pack`; or a model of another program as
                `mit-semseg import` reads it: a file, a folder, or ``hf:ORG/NAME``.
            device: "cpu", "cuda", "cuda:1" or a GPU's number. None is the first GPU, or the CPU without one.
            checkpoint: such as "epoch_20.pth"; "" for ``TEST.checkpoint``, or the newest if that is empty.
            classes: a file with the names and colours of the classes, in place of ``DATASET.classes``.
            sizes: short edges in pixels at which an image is scored (``DATASET.imgSizes``); fewer are faster.
            amp: "bf16" is faster and slightly less exact; "none" is float32 throughout (``INFERENCE.amp``).
            flip: average with the scores of the mirror image (``INFERENCE.flip``).
            threshold: with two classes, the probability from which a pixel belongs to the second one
                (``INFERENCE.threshold``).
            tile: side in pixels of the tiles for larger images; 0 is automatic (``INFERENCE.tile``).

        Raises: UserError if the folder, config, checkpoint or class table cannot be used, or if the GPU does
            not exist; TypeError or ValueError for any other invalid argument.
        """
        keys = {
            "DATASET.imgSizes": sizes,
            "INFERENCE.amp": amp,
            "INFERENCE.flip": flip,
            "INFERENCE.threshold": threshold,
            "INFERENCE.tile": tile,
            "TEST.checkpoint": checkpoint or None,
        }
        foreign = find_foreign(source)
        cfg = with_keys(
            with_keys(get_defaults(), foreign.keys) if foreign else read_config(source),
            {key: value for key, value in keys.items() if value is not None},
        )
        check_model(cfg)
        place = pick_device("cpu" if cfg.MODEL.exported and device is None else device)
        if cfg.MODEL.exported and place.type != "cpu":
            raise UserError(f"{cfg.MODEL.exported} runs on the CPU, not on {place}. Omit device.")
        count = cfg.DATASET.num_class
        file = expand_argument(classes, "classes")
        network: AnyNetwork
        if foreign is None:
            table = load_classes(file, count) if file else find_classes(cfg)
            weights = trained_weights(cfg, "TEST")
            network, settings = build_scoring(cfg, weights, place)
        else:
            if checkpoint:
                raise UserError(f"checkpoint is '{checkpoint}', but {source} holds a single model. Omit it.")
            table = load_classes(file, count) if file else foreign_classes(foreign.model)
            weights, settings = foreign.files, scoring_settings(cfg)
            network = ScoringNetwork.prepared(foreign.build(), place, amp=settings.amp)
        title = f"{cfg.MODEL.arch_encoder} + {cfg.MODEL.arch_decoder}"
        scales, bands = Scales.of(cfg.DATASET), Bands.of(cfg.DATASET)
        return cls(network, table, scales, settings, title, origin_of(cfg, weights), bands)

    @overload
    def __call__(self, image: AnyImage, *, confidence: bool = False) -> Segmentation: ...
    @overload
    def __call__(
        self, image: "list[Any] | tuple[Any, ...]", *, confidence: bool = False
    ) -> list[Segmentation]: ...
    def __call__(
        self, image: "AnyImage | list[Any] | tuple[Any, ...]", *, confidence: bool = False
    ) -> Segmentation | list[Segmentation]:
        """The classes of an image, or of each image in a list.

        The labels are those of test.py for the same file. Consecutive images of the same size in a list go
        through the network together; on a CPU, this was measured not to be faster than one after the other.
        Rounding may then change the label of a pixel whose two most probable classes are practically equal.

        Args:
            image: a path; a PIL image; an array (H, W, 3) or (H, W), uint8, uint16 or floating point from 0
                to 1; a tensor (3, H, W) of these types; see `mit_semseg.data.in_memory.to_rgb`. Or a list or
                tuple of them. A model of bands takes a path, an array (H, W, bands) or a tensor (bands, H,
                W) of any real type, with all bands of a file, of which it selects its own; see docs/bands.md.
            confidence: also keep the probability of each label, in `Segmentation.confidence`.

        Raises: TypeError or ValueError for an object that is not an image; UserError for a file that cannot
            be used, or if the scores of an image are NaN or infinite. The types of all images in a list are
            checked before any of them is scored.
        """
        if not isinstance(image, list | tuple):
            return self._score([self._prepare(image, "image")], confidence)[0]
        for k, one in enumerate(image):
            check_kind(one, f"image[{k}]")
        return [one for batch in self._batches(image) for one in self._score(batch, confidence)]

    def export(
        self,
        path: str | PathLike[str],
        *,
        format: str = "",
        output: str = "labels",
        opset: int = LEAST_OPSET,
        force: bool = False,
    ) -> list[Row]:
        """Write the network as a file for other runtimes, which takes images of every size.

        The file is compared with PyTorch at several sizes before it is kept. docs/export.md describes its
        inputs, outputs and metadata. `load` reads it, too.

        Args:
            path: ends with ``.onnx``, ``.xml`` for OpenVINO, or ``.pt2`` for torch.export.
            format: "onnx", "openvino" or "torch"; "" for the one that ``path`` names.
            output: "scores" adds the probabilities of all classes.
            opset: version of ONNX's operators, 18 or newer.
            force: replace an existing file.

        Returns: the comparison at each size.
        Raises: UserError if the file exists or cannot be written, if its results differ from PyTorch's, or if
            a package is missing; ValueError for another invalid argument, and for a model that was loaded
            from an exported file, in bfloat16 (``amp``), or without `load`.
        """
        options = Options(format, output, opset, force)
        target = Path(expand_argument(path, "path"))
        checked(target, options)
        if self._origin is None:
            raise ValueError("this Segmenter was not made by load(), so its config and weights are not known")
        if not isinstance(self._network, ScoringNetwork):
            raise ValueError(f"this model was loaded from an exported file, {self._network.path}: copy that")
        if self._network.amp != "none":
            raise ValueError("this model computes in bfloat16. Load it with amp='none' to export it")
        module: Any = self._network.module
        metadata = Metadata(
            names=self.names,
            colors=tuple(map(tuple, self.colors.tolist())),
            imgSizes=self._scales.short_edges,
            imgMaxSize=self._scales.max_long_edge,
            padding_constant=self._scales.multiple,
            stride=self._network.stride,
            align_corners=self._network.align_corners,
            softmax=self._network.softmax,
            grid=self._network.grid,
            outputs=(),
            model=self.title,
            config=self._origin.config,
            weights=self._origin.hashes(),
            version=__version__,
            scores=self._origin.scores(),
            bands=self.bands,
        )
        return write_model(
            module.encoder,
            module.decoder,
            metadata,
            target,
            options,
            threshold=self._settings.threshold,
        )

    def __repr__(self) -> str:
        title = f"{self.title}, " if self.title else ""
        return f"<Segmenter {title}{len(self.names)} classes, on {self.device}>"

    def _prepare(self, image: AnyImage, name: str) -> _Ready:
        source = fspath(image) if isinstance(image, str | PathLike) else ""
        original: PIL.Image.Image | BandImage
        if self.bands is None:
            original = to_rgb(image, name)
            picture = np.array(original)
        else:
            original = to_bands(image, self.bands, name)
            picture = self.bands.picture(*original)
        return _Ready(picture, original, self._scaled(original), source, source or name)

    def _scaled(self, image: PIL.Image.Image | BandImage) -> list[Tensor]:
        if isinstance(image, PIL.Image.Image):
            return scaled(image, *self._scales)
        assert self.bands is not None
        return scaled_bands(image, *self._scales, bands=self.bands)

    def _batches(self, images: Sequence[AnyImage]) -> Iterator[list[_Ready]]:
        """The images in their order, with consecutive images of the same size in one batch."""
        batch: list[_Ready] = []
        prepared = (self._prepare(image, f"image[{k}]") for k, image in enumerate(images))
        for ready in prefetch(prepared, _PREFETCH):
            pixels = max(one.shape[-2] * one.shape[-1] for one in ready.scaled)
            most = max(1, min(_BATCH_PIXELS // pixels, _MOST_IN_BATCH))
            if batch and (batch[0].image.shape != ready.image.shape or len(batch) >= most):
                yield batch
                batch = []
            batch.append(ready)
        if batch:
            yield batch

    def _score(self, batch: Sequence[_Ready], confidence: bool) -> list[Segmentation]:
        """The segmentations of images of the same size."""
        size = batch[0].image.shape[:2]
        with self._alone():
            scales = [torch.cat(images) for images in zip(*(ready.scaled for ready in batch), strict=True)]
            names = [ready.name for ready in batch]
            if confidence:
                found, highest = predict_confident_labels(self._network, scales, size, self._settings, names)
                known = [own.copy() for own in highest.numpy()]
            else:
                found = predict_labels(self._network, scales, size, self._settings, names)
                known = [None] * len(batch)
        # Copies, because a view would keep the labels of the whole batch in memory.
        return [
            Segmentation(
                ready.image,
                unlabelled(own.copy(), getattr(ready.original, "without_data", None)),
                self._table,
                self._scorer(ready.original),
                ready.source,
                sure,
            )
            for ready, own, sure in zip(batch, found.numpy(), known, strict=True)
        ]

    def _scorer(self, original: PIL.Image.Image | BandImage) -> Callable[[Image], NDArray[np.float32]]:
        """A function that computes the probabilities of an image. With bands, it keeps their values."""
        bands = original if isinstance(original, BandImage) else None

        def score(picture: Image) -> NDArray[np.float32]:
            # An image of 8-bit RGB is its own picture, so it is not kept twice.
            scales = self._scaled(PIL.Image.fromarray(picture) if bands is None else bands)
            with self._alone():
                scores = predict_probabilities(self._network, scales, picture.shape[:2], self._settings)
            return scores[0].cpu().numpy()

        return score

    def _alone(self) -> threading.Lock:
        """The lock to hold while computing. Raises: RuntimeError in a fork of a process that used the GPU."""
        _expect_forks()
        if self.device.type == "cuda" and not torch.cuda.is_initialized():
            raise RuntimeError(
                f"This process was forked from the one that loaded the model on {self.device}, and can't use "
                "that GPU. Load the model in each process, or start the processes with "
                'multiprocessing.get_context("spawn").'
            )
        return _computing.setdefault(self.device, threading.Lock())
