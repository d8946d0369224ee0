"""Labels of a scene, an image too large for memory, part by part."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import Block, axis, column_step
from .exported import AnyNetwork
from .predict import Settings, Sums, for_each_labelled_block, label_type, runs_of
from .tiles import Network, Pixels, ScoreMap, Span, TiledMap, WholeMap, spans

STEP = 512
"""Strips of a scene begin at multiples of this number of columns."""
TILE = 512
"""Side of a tile of a scene in pixels, unless the settings name one. docs/geo.md has the memory."""

_BUDGET = 64 * 2**20  # bytes of scores that are held at a time
_BUFFERS = 3  # of scores, while a row of tiles is added: the old, the new, and one that blocks still read

Use = Callable[[slice, slice, NDArray[np.integer]], None]
"""Takes rows and columns of a block, and its classes. It is called from several threads, in any order."""


class _Scale(NamedTuple):
    """The image at one scale, scored by one run of the network.

    Attributes:
        whole: the scores of an image that is scored whole; None for tiles.
        tiling: tile and overlap, in pixels.
    """

    image: Pixels
    run: Network
    whole: WholeMap | None
    tiling: tuple[int, int]


class SceneScorer:
    """Scores a scene with the results of `predict_labels`, in memory that does not grow with the scene.

    It is cut into tiles of `TILE` pixels, unless the settings name another side.

    The scene is divided into strips of columns, each scored from top to bottom, whose scores fit into a
    budget. Tiles are those of the whole image. The few that two strips share are scored for each.

    Args:
        images: the scene at each scale.
        size: (height, width) of the labels, in pixels.
        num_class: of the network.
        name: of the scene, for errors.
        budget: bytes of scores to hold; a strip has at least `STEP` columns.
    """

    def __init__(
        self,
        network: AnyNetwork,
        images: Sequence[Pixels],
        size: tuple[int, int],
        settings: Settings,
        num_class: int,
        name: str,
        budget: int = _BUDGET,
    ) -> None:
        settings = replace(settings, tile=settings.tile or TILE)
        self._network, self._images, self._size, self._settings = network, images, size, settings
        self._num_class = num_class
        self._sums = Sums([name], settings)
        self._strips = list(self._find_strips(budget))

    def tiles(self) -> int:
        """How many times the network will be called."""
        runs = 1 + self._settings.flip
        count = 0
        for image in self._images:
            tiling = self._settings.tile_and_overlap(image.height, image.width)
            if tiling is None:
                count += runs
                continue
            grid, stride = self._network.grid, self._network.stride
            rows = len(spans(image.height, *tiling, grid))
            for strip in self._strips:
                left, right = self._columns(image, strip)
                columns = spans(image.width, *tiling, grid)
                count += runs * rows * sum(a // stride < right and -(-b // stride) > left for a, b in columns)
        return count

    @torch.inference_mode()
    def run(self, use: Use, count: Callable[[], None]) -> None:
        """Call ``use`` on each block of labels, and ``count`` after each call of the network.

        Raises: UserError, with the scene's name, if scores are NaN or infinite.
        """

        def counted(run: Network) -> Network:
            def call(image: Tensor) -> Tensor:
                scores = self._sums.add(run(image))[0]
                count()
                return scores

            return call

        runs = [counted(run) for run in runs_of(self._network, flip=self._settings.flip)]
        scales = [self._scale(image, run) for image in self._images for run in runs]
        for strip in self._strips:
            maps = [self._map(scale, strip) for scale in scales]
            self._label(maps, strip, use)
            self._sums.require_finite(0)

    def _label(self, maps: Sequence[ScoreMap], strip: Span, use: Use) -> None:
        dtype = label_type(self._num_class)

        def convert(block: Block, labels: Tensor) -> None:
            use(block.rows, block.columns, labels.to(dtype).cpu().numpy())

        for_each_labelled_block(self._network, maps, self._size, self._settings, convert, strip)

    def _scale(self, image: Pixels, run: Network) -> _Scale:
        tiling = self._settings.tile_and_overlap(image.height, image.width)
        if tiling is not None:
            return _Scale(image, run, None, tiling)
        whole = image.read((0, image.height), (0, image.width))
        return _Scale(image, run, WholeMap(run(whole)), (0, 0))

    def _map(self, scale: _Scale, strip: Span) -> ScoreMap:
        if scale.whole is not None:
            return scale.whole
        tile, overlap = scale.tiling
        return TiledMap(
            scale.run,
            scale.image,
            stride=self._network.stride,
            grid=self._network.grid,
            tile=tile,
            overlap=overlap,
            columns=self._columns(scale.image, strip),
        )

    def _columns(self, image: Pixels, strip: Span) -> Span:
        """The columns of the image's map that the labels of a strip depend on."""
        along = axis(-(-image.width // self._network.stride), self._size[1], self._network.align_corners)
        return along.span(*strip)

    def _find_strips(self, budget: int) -> Iterator[Span]:
        width = self._size[1]
        cost = 0.0  # bytes of scores for each column of the labels
        for image in self._images:
            tiling = self._settings.tile_and_overlap(image.height, image.width)
            if tiling is not None:
                cells = min(tiling[0], image.height) * image.width / self._network.stride**2
                cost += _BUFFERS * 4 * self._num_class * cells / width
        step = math.lcm(STEP, column_step(self._network.device))
        pieces = -(-width // step)
        most = pieces if not cost else max(1, int(budget / (cost * (1 + self._settings.flip))) // step)
        count = -(-pieces // most)
        for k in range(count):
            yield k * pieces // count * step, min(width, (k + 1) * pieces // count * step)
