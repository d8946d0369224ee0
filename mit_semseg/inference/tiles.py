"""Scores of an image at the network's stride, from the whole image or from overlapping tiles, row by row."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]  # (1, 3, h, w) -> (h / stride, w / stride, num_class)
Span = tuple[int, int]  # first index, and the index after the last

_MARGIN = 0.25  # share of an overlap, at each end, where the tile that ends there has no weight


class Pixels(Protocol):
    """An image of which parts are read, of any type that a `Network` takes."""

    height: int
    width: int

    def read(self, rows: Span, columns: Span) -> Tensor:
        """A part, (1, 3, h, w)."""
        ...


class Held:
    """An image in memory, (1, 3, h, w)."""

    def __init__(self, image: Tensor) -> None:
        self.height, self.width = image.shape[-2:]
        self._image = image

    def read(self, rows: Span, columns: Span) -> Tensor:
        return self._image[..., slice(*rows), slice(*columns)]


class ScoreMap(Protocol):
    """Scores (height, width, num_class) float32. They can be read once, from top to bottom.

    A map may hold only some columns, of which ``left`` is the first.
    """

    height: int
    width: int
    left: int
    num_class: int
    device: torch.device

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` - 1. ``start`` must not be less than in earlier calls."""
        ...


class WholeMap:
    """The scores of a whole image, held in memory."""

    def __init__(self, scores: Tensor) -> None:
        self.height, self.width, self.num_class = scores.shape
        self.left = 0
        self.device = scores.device
        self._scores = scores

    def rows(self, start: int, stop: int) -> Tensor:
        return self._scores[start:stop]


class TiledMap:
    """The blended scores of overlapping tiles. Only rows that may still be read are kept in memory.

    Near the border of a tile, the network lacks context. Where two tiles overlap, a tile has no weight in the
    quarter next to its own border, and full weight in the quarter next to the border of the other. Its weight
    changes linearly in between.

    Args:
        network: called on one tile at a time.
        image: its pixels.
        stride: stride of the network's scores.
        grid: tiles start at multiples of this number of pixels, which must be a multiple of ``stride``.
        tile: side of a tile in pixels; rounded down to the grid.
        overlap: smallest overlap in pixels; rounded up to the grid.
        columns: the columns of the map to hold; only the tiles that they need are scored. None for all.
    """

    def __init__(
        self,
        network: Network,
        image: Pixels,
        *,
        stride: int,
        grid: int,
        tile: int,
        overlap: int,
        columns: Span | None = None,
    ) -> None:
        self._network = network
        self._image = image
        self.height, self.width = -(-image.height // stride), -(-image.width // stride)
        self.left, self._right = columns or (0, self.width)
        self._row_spans = spans(image.height, tile, overlap, grid)
        self._row_places = [_strided(span, stride) for span in self._row_spans]
        self._row_weights = weights(self._row_places)
        column_spans = spans(image.width, tile, overlap, grid)
        places = [_strided(span, stride) for span in column_spans]
        self._columns = [
            (span, place, weight)
            for span, place, weight in zip(column_spans, places, weights(places), strict=True)
            if place[0] < self._right and place[1] > self.left
        ]
        self._first = 0  # row of the map that the buffer starts with
        self._next = 0  # row of tiles
        self._buffer = self._band(0)
        self.num_class, self.device = self._buffer.size(2), self._buffer.device

    def rows(self, start: int, stop: int) -> Tensor:
        assert start >= self._first
        while self._complete() < stop:
            kept = min(start, self._complete())  # a large step may lead past the complete rows
            self._buffer = self._buffer[kept - self._first :]
            self._first = kept
            self._buffer = self._band(self._next)
        return self._buffer[start - self._first : stop - self._first]

    def _complete(self) -> int:
        """The first row to which a later tile still adds."""
        return self._row_places[self._next][0] if self._next < len(self._row_places) else self.height

    def _band(self, number: int) -> Tensor:
        """The buffer, with a row of tiles added at its end."""
        top, bottom = self._row_places[number]
        buffer: Tensor | None = None
        for (left, right), weight, scores in self._tiles(number):
            if scores.shape[:2] != (bottom - top, right - left):
                raise ValueError(
                    f"the network returns {tuple(scores.shape[:2])} scores for a tile, but its stride needs "
                    f"{(bottom - top, right - left)}: it cannot be used with tiles"
                )
            if buffer is None:
                buffer = scores.new_zeros(bottom - self._first, self._right - self.left, scores.size(2))
                if number:
                    buffer[: len(self._buffer)] = self._buffer
            held = slice(max(self.left, left), min(self._right, right))
            part = slice(held.start - left, held.stop - left)
            scores = scores[:, part] * self._row_weights[number].to(scores.device)[:, None, None]
            target = buffer[top - self._first :, held.start - self.left : held.stop - self.left]
            target.addcmul_(scores, weight[part].to(scores.device)[:, None])
        assert buffer is not None
        self._next = number + 1
        return buffer

    def _tiles(self, number: int) -> Iterator[tuple[Span, Tensor, Tensor]]:
        """(columns, their weights, scores) of each tile in a row of tiles."""
        for span, place, weight in self._columns:
            yield place, weight, self._network(self._image.read(self._row_spans[number], span))


def spans(length: int, tile: int, overlap: int, grid: int) -> list[Span]:
    """The spans of evenly spread tiles that cover ``length`` pixels along one axis.

    Args:
        tile: largest size; rounded down to the grid, but at least ``grid``.
        overlap: smallest number of pixels that two neighbours share. It is reduced if it is not smaller than
            ``tile`` by at least ``grid``.
        grid: each tile starts at a multiple of it.

    >>> spans(100, tile=48, overlap=16, grid=16)
    [(0, 48), (32, 80), (64, 100)]
    """
    tile = max(grid, tile // grid * grid)
    if length <= tile:
        return [(0, length)]
    step = max(grid, (tile - overlap) // grid * grid)
    last = -(-(length - tile) // grid) * grid
    count = -(-last // step)
    starts = [(k * last // count) // grid * grid for k in range(count)] + [last]
    return [(start, min(start + tile, length)) for start in starts]


def weights(places: list[Span]) -> list[Tensor]:
    """The weights of each span at each of its positions. At every position, they sum to 1 over the spans."""
    stop = max(end for _, end in places)
    total = torch.zeros(stop, dtype=torch.float64)
    each = []
    for k, (start, end) in enumerate(places):
        weight = torch.ones(end - start, dtype=torch.float64)
        if k > 0:
            shared = places[k - 1][1] - start
            weight[:shared] *= _rise(shared)
        if k + 1 < len(places):
            shared = end - places[k + 1][0]
            weight[end - start - shared :] *= 1 - _rise(shared)
        each.append(weight)
        total[start:end] += weight
    return [(weight / total[start:end]).float() for (start, end), weight in zip(places, each, strict=True)]


def _rise(length: int) -> Tensor:
    """Weights that rise from 0 to 1 over an overlap."""
    place = (torch.arange(length, dtype=torch.float64) + 0.5) / max(length, 1)
    return ((place - _MARGIN) / (1 - 2 * _MARGIN)).clamp(0, 1)


def _strided(span: Span, stride: int) -> Span:
    return span[0] // stride, -(-span[1] // stride)
