"""Labels and probabilities of images, averaged over their scales and mirror images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Block, for_each_block
from .network import ScoringNetwork
from .tiles import Network, ScoreMap, TiledMap, WholeMap

PIXEL_BUDGET = 3_000_000  # of an image that is scored whole; 2048 x 1024 is within
_TILE = 1280  # pixels a side
_OVERLAP = 256


@dataclass(frozen=True)
class Settings:
    """How an image is scored.

    Attributes:
        flip: average with the mirror image, too.
        tile: an image at any scale that is wider or higher than so many pixels is cut into tiles of this
            size; 0: only one of more than `PIXEL_BUDGET` pixels is, into tiles of a size that is chosen.
        overlap: pixels that neighbouring tiles share at least; 0: chosen, a fifth of a given tile.
    """

    flip: bool = False
    tile: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.tile < 0 or self.overlap < 0 or 0 < self.tile <= self.overlap:
            raise ValueError(
                f"tile {self.tile} and overlap {self.overlap} must not be negative, and a tile has to be "
                "larger than the overlap"
            )

    def tile_and_overlap(self, height: int, width: int) -> tuple[int, int] | None:
        """Those of an image, in pixels; None if it is scored whole."""
        tile = self.tile or _TILE
        if self.tile and max(height, width) <= tile:
            return None
        if not self.tile and height * width <= PIXEL_BUDGET:
            return None
        return tile, self.overlap or (tile // 5 if self.tile else _OVERLAP)


DEFAULT = Settings()


@torch.inference_mode()
def score_labels(
    network: ScoringNetwork, images: Sequence[Tensor], size: tuple[int, int], settings: Settings = DEFAULT
) -> Tensor:
    """The class of highest mean probability at each pixel, (B, height, width) on the CPU.

    The type is the smallest that holds all classes: uint8 up to 256 of them, else int16 or int32.

    Args:
        images: B images of one size at each scale, (B, 3, h, w), float32 and normalized, or uint8 RGB.
        size: (height, width) of the result, in pixels.
    """
    results = []
    for maps in _maps(network, images, settings):
        labels = _empty_labels(maps[0], size)

        def choose(block: Block, labels: Tensor = labels) -> None:
            labels[block.rows, block.columns] = block.scores.argmax(-1)

        # Softmax keeps the order of the classes, so that of a single map it changes nothing.
        for_each_block(maps, size, choose, softmax=len(maps) > 1)
        results.append(labels.cpu())
    return _batch(results)


@torch.inference_mode()
def score_confident_labels(
    network: ScoringNetwork, images: Sequence[Tensor], size: tuple[int, int], settings: Settings = DEFAULT
) -> tuple[Tensor, Tensor]:
    """As `score_labels`, and the mean probability of each pixel's class, (B, height, width) float32."""
    results, confidences = [], []
    for maps in _maps(network, images, settings):
        labels = _empty_labels(maps[0], size)
        confidence = torch.empty(size, device=labels.device)

        def choose(
            block: Block, labels: Tensor = labels, confidence: Tensor = confidence, count: int = len(maps)
        ) -> None:
            highest, chosen = block.scores.max(-1)
            labels[block.rows, block.columns] = chosen
            confidence[block.rows, block.columns] = highest.div_(count)

        for_each_block(maps, size, choose, softmax=True)
        results.append(labels.cpu())
        confidences.append(confidence.cpu())
    return _batch(results), _batch(confidences)


@torch.inference_mode()
def score_probabilities(
    network: ScoringNetwork, images: Sequence[Tensor], size: tuple[int, int], settings: Settings = DEFAULT
) -> Tensor:
    """Mean class probabilities, (B, num_class, height, width) float32 on the network's device.

    Arguments as for `score_labels`, which needs far less memory.
    """
    results = []
    for maps in _maps(network, images, settings):
        result = torch.empty(maps[0].num_class, *size, device=maps[0].device)

        def keep(block: Block, result: Tensor = result, count: int = len(maps)) -> None:
            result[:, block.rows, block.columns] = block.scores.div_(count).permute(2, 0, 1)

        for_each_block(maps, size, keep, softmax=True)
        results.append(result)
    return _batch(results)


def _batch(results: list[Tensor]) -> Tensor:
    """Results of images as one tensor; a single one, which may be large, is not copied."""
    return results[0][None] if len(results) == 1 else torch.stack(results)


def _empty_labels(source: ScoreMap, size: tuple[int, int]) -> Tensor:
    count = source.num_class
    dtype = torch.uint8 if count <= 256 else torch.int16 if count <= 2**15 else torch.int32
    return torch.empty(size, dtype=dtype, device=source.device)


def _single(run: Network) -> Network:
    """``run`` for one image, without the dimension of the batch."""
    return lambda image: run(image)[0]


def _maps(network: ScoringNetwork, images: Sequence[Tensor], settings: Settings) -> Iterator[list[ScoreMap]]:
    """The scores of one image after the other, a map for each scale and mirror image."""
    if not images:
        raise ValueError("images is empty: there is no scale to score")

    def mirrored(image: Tensor) -> Tensor:
        return network(image.flip(-1)).flip(2)

    runs: tuple[Network, ...] = (network, mirrored) if settings.flip else (network,)
    # Images that are scored whole go through the network together; tiles are large enough by themselves.
    whole: dict[tuple[int, int], Tensor] = {}
    tilings = [settings.tile_and_overlap(*image.shape[-2:]) for image in images]
    for scale, (image, tiling) in enumerate(zip(images, tilings, strict=True)):
        if tiling is None:
            whole |= {(scale, k): run(image) for k, run in enumerate(runs)}
    for b in range(len(images[0])):
        maps: list[ScoreMap] = []
        for scale, (image, tiling) in enumerate(zip(images, tilings, strict=True)):
            for k, run in enumerate(runs):
                if tiling is None:
                    maps.append(WholeMap(whole[scale, k][b]))
                    continue
                tile, overlap = tiling
                maps.append(
                    TiledMap(
                        _single(run),
                        image[b : b + 1],
                        stride=network.stride,
                        grid=network.grid,
                        tile=tile,
                        overlap=overlap,
                    )
                )
        yield maps
