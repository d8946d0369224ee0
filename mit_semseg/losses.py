"""Losses over log-probabilities (N, C, h, w) and labels (N, h, w), where -1 is ignored."""

from torch import nn


def pixel_loss_sum() -> nn.Module:
    """Cross-entropy summed over the pixels with a label.

    A sum, because the training step divides by the pixels of all devices: a mean of each device's mean would
    give pixels of sparsely labelled shards more weight, and a shard without a label would be 0 / 0.
    """
    return nn.NLLLoss(ignore_index=-1, reduction="sum")
