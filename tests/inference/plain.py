"""Scoring as the published scripts do it, to compare with."""

import torch


@torch.inference_mode()
def plain_probabilities(module, images, size):
    """The mean over the scales of a SegmentationModule's probabilities, (num_class, *size)."""
    return sum(module({"img_data": image}, segSize=size)[0] for image in images) / len(images)
