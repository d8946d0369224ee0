"""Labels and probabilities of one image, averaged over its scales and their mirror images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Block, for_each_block
from .network import ScoringNetwork
from .tiles import ScoreMap, TiledMap, WholeMap

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
    """The class of highest mean probability at each pixel, (height, width) on the CPU.

    The type is the smallest that holds all classes: uint8 up to 256 of them, else int16 or int32.

    Args:
        images: the image at each scale, (1, 3, h, w), float32 and normalized, or uint8 RGB.
        size: (height, width) of the result, in pixels.
    """
    maps = _maps(network, images, settings)
    device, num_class = maps[0].device, maps[0].num_class
    dtype = torch.uint8 if num_class <= 256 else torch.int16 if num_class <= 2**15 else torch.int32
    labels = torch.empty(size, dtype=dtype, device=device)

    def choose(block: Block) -> None:
        labels[block.rows, block.columns] = block.scores.argmax(-1)

    # Softmax keeps the order of the classes, so that of a single map it changes nothing.
    for_each_block(maps, size, choose, softmax=len(maps) > 1)
    return labels.cpu()


@torch.inference_mode()
def score_probabilities(
    network: ScoringNetwork, images: Sequence[Tensor], size: tuple[int, int], settings: Settings = DEFAULT
) -> Tensor:
    """Mean class probabilities, (num_class, height, width) float32 on the network's device.

    Arguments as for `score_labels`, which needs far less memory.
    """
    maps = _maps(network, images, settings)
    device, num_class = maps[0].device, maps[0].num_class
    result = torch.empty(num_class, *size, device=device)

    def keep(block: Block) -> None:
        result[:, block.rows, block.columns] = block.scores.div_(len(maps)).permute(2, 0, 1)

    for_each_block(maps, size, keep, softmax=True)
    return result


def _maps(network: ScoringNetwork, images: Sequence[Tensor], settings: Settings) -> list[ScoreMap]:
    if not images:
        raise ValueError("images is empty: there is no scale to score")

    def mirrored(image: Tensor) -> Tensor:
        return network(image.flip(-1)).flip(1)

    maps: list[ScoreMap] = []
    for image in images:
        tiling = settings.tile_and_overlap(*image.shape[-2:])
        for run in (network, mirrored) if settings.flip else (network,):
            if tiling is None:
                maps.append(WholeMap(run(image)))
                continue
            tile, overlap = tiling
            maps.append(
                TiledMap(run, image, stride=network.stride, grid=network.grid, tile=tile, overlap=overlap)
            )
    return maps
