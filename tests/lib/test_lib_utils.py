"""as_numpy and its kin, over nests of tensors."""

import numpy as np
import torch

from mit_semseg.lib.utils import as_numpy, as_variable, mark_volatile


def test_as_numpy_takes_nests_numbers_and_strings():
    found = as_numpy(
        {"a": [torch.ones(2, requires_grad=True), 3], "b": (torch.zeros(1).bfloat16(), "x", None)}
    )
    np.testing.assert_array_equal(found["a"][0], np.ones(2, np.float32))
    assert found["a"][1] == np.asarray(3)
    assert found["b"][0].dtype == np.float32
    assert found["b"][1:] == ("x", None)


def test_as_variable_returns_tensors_as_they_are():
    x = torch.ones(2, requires_grad=True)
    found = as_variable([x, {"a": np.zeros(3)}])
    assert found[0] is x
    assert torch.equal(found[1]["a"], torch.zeros(3, dtype=torch.float64))


def test_mark_volatile_detaches():
    x = torch.ones(2, requires_grad=True)
    (found,) = mark_volatile([x * 2])
    assert not found.requires_grad
    assert torch.equal(found, torch.full((2,), 2.0))
