"""Names and copies of nested tensors."""

from collections import OrderedDict

import torch

from mit_semseg.training.tensor_trees import map_tensors, named_tensors


def tree():
    state = OrderedDict(weight=torch.ones(2))
    state._metadata = {"": {"version": 2}}  # as a state dict of torch has it
    return {"encoder": state, "optimizer": {0: [torch.zeros(1), 5], "more": (torch.tensor(3.0), None)}}


def test_names_are_the_keys_that_lead_to_a_tensor():
    assert [name for name, _ in named_tensors(tree())] == [
        "encoder.weight",
        "optimizer.0.0",
        "optimizer.more.0",
    ]
    assert [name for name, _ in named_tensors(tree()["encoder"], "encoder")] == ["encoder.weight"]
    assert dict(named_tensors(torch.ones(1), "one")).keys() == {"one"}
    assert not list(named_tensors({"empty": [], "text": "x"}))


def test_a_copy_has_other_tensors_and_keeps_everything_else():
    given = tree()
    copied = map_tensors(given, lambda name, tensor: (name, tensor.tolist()))
    assert copied == {
        "encoder": {"weight": ("encoder.weight", [1, 1])},
        "optimizer": {0: [("optimizer.0.0", [0]), 5], "more": (("optimizer.more.0", 3), None)},
    }
    assert type(copied["encoder"]) is OrderedDict
    assert copied["encoder"]._metadata == {"": {"version": 2}}
    assert torch.equal(given["encoder"]["weight"], torch.ones(2))
