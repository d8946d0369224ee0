"""Labels and probabilities of images, scored at several scales."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .blocks import Block, for_each_block
from .exported import AnyNetwork
from .tiles import Held, Network, ScoreMap, Span, TiledMap, WholeMap

PIXEL_BUDGET = 3_000_000  # largest image to score whole; 2048 x 1024 is below it
_TILE = 1280  # side in pixels


@dataclass(frozen=True)
class Settings:
    """Settings for scoring images, in validation, evaluation, prediction and the Python interface.

    Attributes:
        amp: arithmetic of the network, a name in `AMP`; used when a `ScoringNetwork` is prepared.
        flip: average with the scores of the mirror image.
        threshold: with two classes, the probability from which a pixel belongs to the second one.
        tile: side of a tile in pixels. At each scale, an image with a longer side is cut into tiles. 0 cuts
            only images of more than `PIXEL_BUDGET` pixels, into tiles of an automatic size.
        overlap: smallest number of pixels that neighbouring tiles share; 0 is a fifth of a tile.
    """

    amp: str = "none"
    flip: bool = False
    tile: int = 0
    overlap: int = 0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.tile < 0 or self.overlap < 0 or 0 < self.tile <= self.overlap:
            raise ValueError(
                f"tile {self.tile} and overlap {self.overlap} must not be negative, and a tile has to be "
                "larger than the overlap"
            )

    def tile_and_overlap(self, height: int, width: int) -> tuple[int, int] | None:
        """The tile and overlap for an image, in pixels; None if it is scored whole."""
        tile = self.tile or _TILE
        if self.tile and max(height, width) <= tile:
            return None
        if not self.tile and height * width <= PIXEL_BUDGET:
            return None
        return tile, self.overlap or tile // 5


_DEFAULT = Settings()


@torch.inference_mode()
def predict_labels(
    network: AnyNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings = _DEFAULT,
    names: Sequence[str] = (),
) -> Tensor:
    """The class with the highest mean probability at each pixel, (B, height, width) on the CPU.

    With two classes, ``settings.threshold`` may favour one of them.

    The type is the smallest that holds all classes: uint8 for up to 256, otherwise int16 or int32.

    Args:
        images: B images of one size at each scale, (B, 3, h, w), float32 and normalized, or uint8 RGB.
        size: (height, width) of the result, in pixels.
        names: of the B images, for errors.

    Raises: UserError, with the image's name, if scores are NaN or infinite.
    """
    results = []
    for maps, require_finite in _maps(network, images, settings, names):
        labels = _empty_labels(maps[0], size)

        def keep(block: Block, chosen: Tensor, labels: Tensor = labels) -> None:
            labels[block.rows, block.columns] = chosen

        for_each_labelled_block(network, maps, size, settings, keep)
        results.append(labels.cpu())
        require_finite()
    return _batch(results)


def for_each_labelled_block(
    network: AnyNetwork,
    maps: Sequence[ScoreMap],
    size: tuple[int, int],
    settings: Settings,
    use: Callable[[Block, Tensor], None],
    within: Span | None = None,
) -> None:
    """As `for_each_block`, and ``use`` also gets the labels of the block, (rows, columns) int64."""
    threshold = _sum_threshold(maps, settings)
    # Softmax and shares keep the order of the classes, so a single map needs neither to find the highest.
    kind = _kind(network) if len(maps) > 1 or threshold is not None else {"softmax": False}

    def choose(block: Block) -> None:
        use(block, _chosen(block.scores, threshold))

    for_each_block(maps, size, choose, **kind, align_corners=network.align_corners, within=within)


@torch.inference_mode()
def predict_confident_labels(
    network: AnyNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings = _DEFAULT,
    names: Sequence[str] = (),
) -> tuple[Tensor, Tensor]:
    """The result of `predict_labels`, and each class's mean probability, (B, height, width) float32."""

    def confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
        return probabilities.gather(-1, labels[..., None])[..., 0]

    return _measured_labels(network, images, size, settings, names, confidence)


@torch.inference_mode()
def predict_margins(
    network: AnyNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings = _DEFAULT,
    names: Sequence[str] = (),
) -> tuple[Tensor, Tensor]:
    """The result of `predict_labels`, and the `margin` of each pixel, (B, height, width) float32."""

    def measure(probabilities: Tensor, labels: Tensor) -> Tensor:
        return margin(probabilities, settings)

    return _measured_labels(network, images, size, settings, names, measure)


def _measured_labels(
    network: AnyNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings,
    names: Sequence[str],
    measure: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The result of `predict_labels`, and a measure of each pixel, (B, height, width) float32.

    Args:
        measure: computes it from mean probabilities (rows, columns, num_class) and labels (rows, columns).
    """
    results, measured = [], []
    for maps, require_finite in _maps(network, images, settings, names):
        labels = _empty_labels(maps[0], size)
        values = torch.empty(size, device=labels.device)
        threshold = _sum_threshold(maps, settings)

        def choose(
            block: Block,
            labels: Tensor = labels,
            values: Tensor = values,
            count: int = len(maps),
            threshold: float | None = threshold,
        ) -> None:
            chosen = _chosen(block.scores, threshold)
            labels[block.rows, block.columns] = chosen
            values[block.rows, block.columns] = measure(block.scores.div_(count), chosen)

        for_each_block(maps, size, choose, **_kind(network), align_corners=network.align_corners)
        results.append(labels.cpu())
        measured.append(values.cpu())
        require_finite()
    return _batch(results), _batch(measured)


def labels_of(probabilities: Tensor, settings: Settings = _DEFAULT) -> Tensor:
    """The class of each pixel, (..., num_class) -> (...), as `predict_labels` chooses it."""
    chooses = probabilities.shape[-1] == 2 and settings.threshold != 0.5
    return _chosen(probabilities, settings.threshold if chooses else None)


def _chosen(scores: Tensor, threshold: float | None) -> Tensor:
    """The class with the highest score; or whether that of the second class reaches a threshold."""
    return scores.argmax(-1) if threshold is None else (scores[..., 1] >= threshold).long()


def margin(probabilities: Tensor, settings: Settings = _DEFAULT) -> Tensor:
    """How sure the model is of each pixel, (..., num_class) -> (...) of 0 to 1.

    The probability of the likeliest class less that of the next one. With a threshold for the second of two
    classes, the distance to the threshold, as a share of the largest possible one.

    Source: Scheffer et al. 2001, Active Hidden Markov Models for Information Extraction, section 3.
    """
    if probabilities.shape[-1] == 2:
        excess = probabilities[..., 1] - settings.threshold
        return torch.where(excess < 0, -excess / settings.threshold, excess / (1 - settings.threshold))
    first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
    return first - second


@torch.inference_mode()
def predict_probabilities(
    network: AnyNetwork,
    images: Sequence[Tensor],
    size: tuple[int, int],
    settings: Settings = _DEFAULT,
    names: Sequence[str] = (),
) -> Tensor:
    """Mean class probabilities, (B, num_class, height, width) float32 on the network's device.

    Arguments as for `predict_labels`, which needs far less memory.
    """
    results = []
    for maps, require_finite in _maps(network, images, settings, names):
        result = torch.empty(maps[0].num_class, *size, device=maps[0].device)

        def keep(block: Block, result: Tensor = result, count: int = len(maps)) -> None:
            result[:, block.rows, block.columns] = block.scores.div_(count).permute(2, 0, 1)

        for_each_block(maps, size, keep, **_kind(network), align_corners=network.align_corners)
        results.append(result)
        require_finite()
    return _batch(results)


def _kind(network: AnyNetwork) -> dict[str, Any]:
    """The arguments with which `for_each_block` makes probabilities of a network's scores."""
    softmax = getattr(network, "softmax", True)  # a network of the user may lack it
    return {"softmax": softmax, "shares": not softmax}


def _batch(results: list[Tensor]) -> Tensor:
    """The results of all images as one tensor. A single result is not copied, because it may be large."""
    return results[0][None] if len(results) == 1 else torch.stack(results)


def _sum_threshold(maps: Sequence[ScoreMap], settings: Settings) -> float | None:
    """The sum of probabilities over ``maps`` from which a pixel belongs to the second of two classes.

    None if the class with the highest sum is chosen, as always with more classes.
    """
    if maps[0].num_class != 2 or settings.threshold == 0.5:
        return None
    return settings.threshold * len(maps)


def _empty_labels(source: ScoreMap, size: tuple[int, int]) -> Tensor:
    return torch.empty(size, dtype=label_type(source.num_class), device=source.device)


def label_type(num_class: int) -> torch.dtype:
    """The smallest type that holds all classes."""
    return torch.uint8 if num_class <= 256 else torch.int16 if num_class <= 2**15 else torch.int32


class Sums:
    """The sum of all scores of each image, which is finite only if each score is.

    They are computed where the scores are, and read after the result, so a GPU is not waited for once more.
    """

    def __init__(self, names: Sequence[str], settings: Settings) -> None:
        self._names, self._settings = names, settings
        self._sums: dict[int, Tensor] = {}

    def add(self, scores: Tensor, first: int = 0) -> Tensor:
        """Add the scores (n, h, w, num_class) of the images from ``first`` on, and return them."""
        for k, total in enumerate(scores.flatten(1).sum(1), first):
            self._sums[k] = self._sums[k] + total if k in self._sums else total
        return scores

    def require_finite(self, k: int) -> None:
        """Raises: UserError if scores of image ``k`` are not finite."""
        if math.isfinite(self._sums[k]):
            return
        image = self._names[k] if self._names else "an image"
        amp = self._settings.amp
        damaged = "the weights are damaged, or from a training that diverged: use another checkpoint."
        advice = damaged.capitalize()
        if amp != "none":
            advice = f"Set INFERENCE.amp none, not {amp}. If that does not help, {damaged}"
        raise UserError(f"The scores of {image} are NaN or infinite. {advice}")


def runs_of(network: AnyNetwork, *, flip: bool) -> tuple[Network, ...]:
    """The network, and with ``flip`` also one that scores the mirror image of what it is given."""

    def mirrored(image: Tensor) -> Tensor:
        return network(image.flip(-1)).flip(2)

    return (network, mirrored) if flip else (network,)


def _maps(
    network: AnyNetwork, images: Sequence[Tensor], settings: Settings, names: Sequence[str]
) -> Iterator[tuple[list[ScoreMap], Callable[[], None]]]:
    """The scores of each image in turn: one map for each scale and mirror image.

    The function beside them raises an error if the scores that were read from the maps are not finite.
    """
    if not images:
        raise ValueError("images is empty: there is no scale to score")

    runs = runs_of(network, flip=settings.flip)
    sums = Sums(names, settings)
    # Images that are scored whole go through the network together. A tile is large enough on its own.
    whole: dict[tuple[int, int], Tensor] = {}
    tilings = [settings.tile_and_overlap(*image.shape[-2:]) for image in images]
    for scale, (image, tiling) in enumerate(zip(images, tilings, strict=True)):
        if tiling is None:
            for k, run in enumerate(runs):
                whole[scale, k] = sums.add(run(image))

    def of_tiles(run: Network, b: int) -> Network:
        """``run`` for one tile of image ``b``, without the batch dimension in the result."""
        return lambda tile: sums.add(run(tile), b)[0]

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
                        of_tiles(run, b),
                        Held(image[b : b + 1]),
                        stride=network.stride,
                        grid=network.grid,
                        tile=tile,
                        overlap=overlap,
                    )
                )
        yield maps, partial(sums.require_finite, b)
