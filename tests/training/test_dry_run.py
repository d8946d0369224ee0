"""The dry run before the first step leaves no trace, and uses the sub-batch that needs the most memory."""

import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.data.resize import fit_size
from mit_semseg.runtime.distributed import ProcessInfo
from mit_semseg.training.dry_run import _pixels, dry_run
from mit_semseg.training.options import train_options
from mit_semseg.training.precision import Precision
from mit_semseg.training.setup import build_module, train_dataset

CPU = torch.device("cpu")


@pytest.fixture
def options(tiny):
    return train_options(load_config(str(tiny.config), ["MODEL.arch_decoder", "ppm"]))


def test_weights_statistics_and_gradients_are_as_before(options):
    module = build_module(options.module).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    seen = []
    module.encoder.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    dry_run(module, train_dataset(options), ProcessInfo(0, 1, CPU), [CPU], Precision(CPU), first=0)
    assert len(seen) == 1
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module.training


def test_the_largest_of_the_next_sub_batches_is_taken(options):
    dataset = train_dataset(options)
    module = build_module(options.module).train()
    seen = []
    module.encoder.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape))
    dry_run(module, dataset, ProcessInfo(0, 1, CPU), [CPU], Precision(CPU), first=5)
    pixels = [dataset[i]["img_data"].shape[2:].numel() for i in range(5, 105)]
    assert seen[0][2:].numel() >= 0.9 * max(pixels)  # the dry run ignores padding


def test_the_pixels_of_a_sub_batch_follow_from_the_list(options):
    dataset = train_dataset(options)
    drawn = dataset.schedule[0]
    sizes = [
        fit_size(record.width, record.height, drawn.short_edge, 64)
        for record in (dataset.records[row] for row in drawn.records.tolist())
    ]
    assert _pixels(dataset, 0) == sum(width * height for width, height in sizes)
