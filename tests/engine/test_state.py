"""Taking up a run and saving an epoch, apart from any training; test_train.py has them in one."""

import pytest
import torch
from torch import nn

from mit_semseg.checkpoint import epoch_path, save_atomically
from mit_semseg.config import load_config
from mit_semseg.engine.history import History
from mit_semseg.engine.state import resume_state, resume_weights, save_epoch
from mit_semseg.errors import UserError
from mit_semseg.optim import build_optimizer


class Pair(nn.Module):
    """An encoder and a decoder of one weight each."""

    def __init__(self, value=0.0):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1, 1), nn.Linear(1, 1)
        nn.init.constant_(self.encoder.weight, value)


def optimizer_of(module, name="SGD"):
    return build_optimizer(name, module.encoder, module.decoder, lr=(0.1, 0.2), beta1=0.9, weight_decay=0.0)


def step(module, optimizer):
    optimizer.zero_grad()
    module.decoder(module.encoder(torch.ones(1, 1))).sum().backward()
    optimizer.step()


@pytest.fixture
def config(tmp_path):
    def build(**keys):
        words = [str(word) for key, value in keys.items() for word in (f"TRAIN.{key}", value)]
        return load_config(None, ["DIR", str(tmp_path / "run"), *words])

    return build


def test_a_fresh_run_starts_from_what_the_config_names(config):
    assert resume_weights(config()) == ("", "")
    named = load_config(None, ["MODEL.weights_encoder", "a.pth", "MODEL.weights_decoder", "b.pth"])
    assert resume_weights(named) == ("a.pth", "b.pth")


def test_an_optimizer_goes_on_as_if_it_had_not_stopped(config):
    module = Pair(1.0)
    optimizer = optimizer_of(module)
    step(module, optimizer)
    history = History([1.0], [0.5], [50.0])
    save_epoch(config(), 1, module, optimizer, history)
    again = Pair()
    again.load_state_dict(module.state_dict())
    resumed = optimizer_of(again)
    assert resume_state(config(start_epoch=1), resumed) == history
    for net, its_optimizer in ((module, optimizer), (again, resumed)):
        step(net, its_optimizer)
    for one, other in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_rates_come_from_the_config_and_not_from_the_state(config):
    module = Pair()
    optimizer = optimizer_of(module)
    step(module, optimizer)
    save_epoch(config(), 1, module, optimizer, History())
    resumed = build_optimizer("SGD", module.encoder, module.decoder, lr=(7.0, 8.0), beta1=0.9, weight_decay=0)
    resume_state(config(start_epoch=1), resumed)
    assert {group["lr"] for group in resumed.param_groups} == {7.0, 8.0}


def test_the_weights_of_all_epochs_are_kept_and_the_state_of_the_newest(config, tmp_path):
    module = Pair()
    for epoch in (1, 2):
        save_epoch(config(), epoch, module, optimizer_of(module), History())
    names = {path.name for path in (tmp_path / "run").iterdir()}
    parts = ("encoder", "decoder", "history")
    assert names == {f"{part}_epoch_{epoch}.pth" for part in parts for epoch in (1, 2)} | {
        "state_epoch_2.pth",
        "config.yaml",
    }


def test_an_epoch_that_is_missing_in_part_is_named(config, tmp_path):
    module = Pair()
    save_epoch(config(), 1, module, optimizer_of(module), History())
    assert resume_weights(config(start_epoch=1)) == (
        str(tmp_path / "run" / "encoder_epoch_1.pth"),
        str(tmp_path / "run" / "decoder_epoch_1.pth"),
    )
    (tmp_path / "run" / "decoder_epoch_1.pth").unlink()
    with pytest.raises(
        UserError, match=r"^TRAIN\.start_epoch is 1, but .*decoder_epoch_1\.pth does not exist"
    ):
        resume_weights(config(start_epoch=1))


@pytest.mark.parametrize("content", [[], {}, {"name": "SGD"}, {"name": "SGD", "groups": [1], "state": {}}])
def test_a_state_that_does_not_fit_is_refused_with_its_file(config, content):
    file = epoch_path(config().DIR, "state", 1)
    save_atomically(content, file)
    with pytest.raises(
        UserError,
        match=r"state_epoch_1\.pth (holds no optimizer state\.|is of another model, or of another TRAIN)",
    ):
        resume_state(config(start_epoch=1), optimizer_of(Pair()))


def test_accuracies_are_kept_in_percent():
    history = History()
    history.add(epoch=0.5, loss=2.0, accuracy=0.25)
    assert history.as_dict() == {"train": {"epoch": [0.5], "loss": [2.0], "acc": [25.0]}}
    assert History.from_dict(history.as_dict()) == history
