"""Frozen layers do not change, whatever the mode of the module around them."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mit_semseg.lib.nn import SynchronizedBatchNorm2d, convert_model, freeze, freeze_batch_norm


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 1), SynchronizedBatchNorm2d(2), nn.Dropout2d(0.5), nn.Conv2d(2, 1, 1)
    )


def test_a_frozen_norm_stays_frozen_through_train_on_any_level():
    module = net().train()
    freeze_batch_norm(module)
    for layer in (module, module[1]):
        layer.train()
        assert not module[1].training
    assert module[2].training
    before = copy.deepcopy(module[1].state_dict())
    module(torch.randn(4, 1, 3, 3) + 5).sum().backward()
    torch.testing.assert_close(module[1].state_dict(), before, rtol=0, atol=0)
    assert module[1].weight.grad is None
    assert module[0].weight.grad is not None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_is_frozen_too_and_a_new_layer_is_not(duplicate):
    module = net()
    freeze_batch_norm(module)
    assert not duplicate(module).train()[1].training
    assert net().train()[1].training


def test_a_frozen_module_has_no_gradients_and_keeps_its_dropout():
    module = net()
    freeze(module)
    module.train()
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert (module[1].training, module[2].training) == (False, True)


def test_a_norm_that_cannot_stay_frozen_is_refused_until_it_is_converted():
    module = nn.Sequential(nn.BatchNorm2d(2))
    with pytest.raises(
        TypeError, match=r"^Layer '0' is a BatchNorm2d, which train\(\) would unfreeze\. Convert"
    ):
        freeze_batch_norm(module)
    freeze_batch_norm(convert_model(module))
    assert not module.train()[0].training
