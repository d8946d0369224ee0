"""The trial before the first step leaves no trace, and takes what needs the most memory."""

import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.data.geometry import fit_size
from mit_semseg.distributed import Place
from mit_semseg.engine.setup import build_module
from mit_semseg.engine.training.precision import Precision
from mit_semseg.engine.training.rehearsal import _pixels, rehearse
from mit_semseg.engine.training.run import train_dataset

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny):
    return load_config(str(tiny.config), ["MODEL.arch_decoder", "ppm"])


def test_weights_statistics_and_gradients_are_as_before(config):
    module = build_module(config, ("", ""), training=True).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    seen = []
    module.encoder.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    rehearse(module, train_dataset(config), Place(0, 1, CPU), [CPU], Precision(CPU), first=0)
    assert len(seen) == 1
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training


def test_the_largest_of_the_next_sub_batches_is_taken(config):
    dataset = train_dataset(config)
    module = build_module(config, ("", ""), training=True).train()
    seen = []
    module.encoder.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    rehearse(module, dataset, Place(0, 1, CPU), [CPU], Precision(CPU), first=5)
    pixels = [dataset[i]["img_data"].shape[2:].numel() for i in range(5, 105)]
    assert seen[0][2:].numel() >= 0.9 * max(pixels)  # what padding adds is not looked at


def test_the_pixels_of_a_sub_batch_follow_from_the_list(config):
    dataset = train_dataset(config)
    drawn = dataset.schedule[0]
    sizes = [
        fit_size(record.width, record.height, drawn.short_edge, 64)
        for record in (dataset.records[row] for row in drawn.records.tolist())
    ]
    assert _pixels(dataset, 0) == sum(width * height for width, height in sizes)
