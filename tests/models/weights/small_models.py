"""Small decoders for tests of checkpoints, and what the tests ask of them."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mit_semseg.errors import UserError


def small_decoder(num_class: int = 11, width: int = 6) -> nn.Module:
    torch.manual_seed(num_class)
    return nn.Sequential(
        OrderedDict(
            cbr=nn.Sequential(nn.Conv2d(4, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            conv_last=nn.Conv2d(width, num_class, 1),
            conv_last_deepsup=nn.Conv2d(width, num_class, 1),
        )
    )


def trained(num_class: int = 11, width: int = 6) -> nn.Module:
    """A decoder after one step, so that its statistics and its step count differ from the initial ones."""
    net = small_decoder(num_class, width)
    with torch.no_grad():
        net.cbr(torch.randn(2, 4, 5, 5))  # type: ignore[operator]
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        action()
    return str(error.value)
