"""Training in several processes leaves the warning filters of the program alone."""

import warnings

import torch
from forked import in_processes
from torch import nn

from mit_semseg.runtime.distributed import gather_from_processes
from mit_semseg.training.parallel import ProcessParallel


class Sum(torch.autograd.Function):
    """The sum of a weight, whose gradient is contiguous, as cuDNN's are for depthwise weights."""

    @staticmethod
    def forward(context, weight):
        context.shape = weight.shape
        return weight.sum()

    @staticmethod
    def backward(context, gradient):
        return gradient.expand(context.shape).contiguous()


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 1, 3, 3).to(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self):
        return Sum.apply(self.weight) + self.bias.sum()


def update_twice(place):
    """The messages of all warnings, and those of the filters that remain."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        net = ProcessParallel(Depthwise(), place.device)
        filters = list(warnings.filters)
        for _ in range(2):
            net.zero_grad(set_to_none=True)
            with net.exchanging(now=True):
                net().backward()
        filters += warnings.filters
    messages = [str(warning.message) for warning in shown]
    return gather_from_processes([messages, [entry[1].pattern for entry in filters if entry[1]]])


def test_the_known_warning_about_strides_is_not_shown_and_no_filter_is_left():
    assert in_processes(2, update_twice) == [[[], []]] * 2
