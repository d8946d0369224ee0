"""Encoders for images of other than three channels, from weights that were trained on RGB.

The rule is that of timm (Wightman 2019, `timm.models._manipulate.adapt_input_conv`). The weights of the first
convolution are repeated over the channels, R G B R G B ..., and multiplied by 3 / channels, so that an image
whose channels are equal gives the same features as in RGB. For one channel they are summed, which is the
same.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

RGB = 3
"""The number of channels of the images that published weights were trained on."""


def set_input_channels(net: nn.Module, channels: int) -> None:
    """Give an encoder another number of input channels, with random weights in its first convolution."""
    if channels == RGB:
        return
    name, old = next((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    options: dict[str, Any] = {
        "stride": old.stride,
        "padding": old.padding,
        "dilation": old.dilation,
        "bias": old.bias is not None,
        "padding_mode": old.padding_mode,
    }
    net.set_submodule(name, nn.Conv2d(channels, old.out_channels, old.kernel_size, **options))  # type: ignore[arg-type]


def adapted(weight: Tensor, channels: int) -> Tensor:
    """The weights (out, 3, h, w) of a first convolution for another number of channels.

    >>> adapted(torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1), 4).flatten().tolist()
    [0.75, 1.5, 2.25, 0.75]
    """
    repeated = weight.repeat(1, -(-channels // RGB), 1, 1)[:, :channels]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return repeated * (RGB / channels)


def other_input(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """The convolutions of a checkpoint that take another number of channels than the model's: both by name.

    In models of the same architecture, only the shapes of first convolutions depend on it.
    """
    return {
        name: (given[name].shape[1], ours.shape[1])
        for name, ours in wanted.items()
        if name in given
        and given[name].dim() == ours.dim() == 4
        and given[name].shape[1] != ours.shape[1]
        and (given[name].shape[0], *given[name].shape[2:]) == (ours.shape[0], *ours.shape[2:])
    }
