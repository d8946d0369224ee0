"""Models whose weights are a function of their names in the state dict, so that results can be compared."""

import math
import zlib
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from mit_semseg.models import ModelBuilder
from mit_semseg.models.decoders.base import Decoder

SALT = "a"  # of the recorded figures in tests/golden/models.json
IMAGE_SIZE = (64, 96)  # height, width

State = dict[str, Tensor]
Manifest = tuple[tuple[str, tuple[int, ...]], ...]


def generator(text: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(zlib.crc32((SALT + text).encode())))


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight of that name, whatever model it is in."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    values = torch.from_numpy(np.array(generator(name).standard_normal(shape).astype(np.float32)))
    if kind == "running_var":
        return values.abs_().add_(0.5)
    if kind == "running_mean":
        return values.mul_(0.1)
    if kind == "bias":
        return values.mul_(0.05)
    if values.dim() == 1:  # the scale of a BatchNorm
        return values.mul_(0.1).add_(1)
    return values.mul_(math.sqrt(1 / math.prod(shape[1:])))


def draw_all(manifest: Manifest) -> State:
    return {name: draw(name, shape) for name, shape in manifest}


def image() -> Tensor:
    """Two images of noise, (2, 3, *IMAGE_SIZE)."""
    return torch.from_numpy(generator("input").standard_normal((2, 3, *IMAGE_SIZE)).astype(np.float32))


# A ResNet and its dilated form have the same names and shapes, and follow each other.
_draw_encoder = lru_cache(maxsize=1)(draw_all)


def drawn_encoder(arch: str) -> nn.Module:
    """In evaluation mode. Its weights may belong to another encoder too: copy it before you change them."""
    with torch.device("meta"):  # the weights come from elsewhere
        encoder = ModelBuilder.build_encoder(arch, imagenet=False)
    return _fill(encoder, _draw_encoder)


@cache
def maps_of(arch: str) -> list[Tensor]:
    """What that encoder makes of the images, with drawn weights, in evaluation mode."""
    with torch.no_grad():
        return drawn_encoder(arch)(image(), return_feature_maps=True)


def drawn_decoder(arch: str, channels: tuple[int, ...], num_class: int, use_softmax: bool) -> Decoder:
    """In evaluation mode."""
    with torch.device("meta"):
        decoder = ModelBuilder.build_decoder(
            arch, channels=channels, num_class=num_class, use_softmax=use_softmax
        )
    return _fill(decoder, draw_all)


def _fill(module: nn.Module, state_for: Callable[[Manifest], State]):
    manifest = tuple((name, tuple(value.shape)) for name, value in module.state_dict().items())
    module.load_state_dict(state_for(manifest), assign=True)
    return module.eval()
