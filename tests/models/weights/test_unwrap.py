"""Weights are found however a training program has wrapped them, and never one of two sets in silence."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mit_semseg.errors import UserError
from mit_semseg.models.weights.fit import load_weights, required_names
from mit_semseg.models.weights.unwrap import unwrap

FILE = "x.pth"


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1)))


WEIGHTS = network().state_dict()
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}


def named(prefix: str, weights: dict[str, Tensor] = WEIGHTS) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def found(content: Any) -> dict[str, Tensor]:
    return unwrap(content, FILE, required_names(network())).by_name


def refusal(content: Any) -> str:
    with pytest.raises(UserError) as error:
        found(content)
    return str(error.value)


def inside(name: str) -> str:
    """A name as it is if blocks within the network are wrapped, too."""
    return name.replace("2.0.", "2._checkpoint_wrapped_module.0._orig_mod.")


WRAPPED: dict[str, Any] = {
    "as it is": WEIGHTS,
    "data parallel": named("module."),
    "compiled": named("_orig_mod."),
    "compiled data parallel": named("_orig_mod.module."),
    "data parallel, compiled, twice": named("module._orig_mod.module._orig_mod."),
    "inside a whole model": {
        **named("encoder."),
        "decoder.0.weight": torch.ones(1),
        "crit.weight": torch.ones(3),
    },
    "inside a compiled whole model": {
        **named("module.encoder._orig_mod."),
        "module.decoder.a": torch.ones(1),
    },
    "sharded": {"_fsdp_wrapped_module." + inside(name): value for name, value in WEIGHTS.items()},
    "blocks compiled": {inside(name): value for name, value in WEIGHTS.items()},
    "averaged": {**named("module."), "n_averaged": torch.tensor(3)},
    "with its epoch": {"state_dict": WEIGHTS, "epoch": 20, "arch": "resnet50"},
    "beside its epoch": {**WEIGHTS, "epoch": 20},
    "Lightning": {
        "state_dict": {**named("net."), "metric.total": torch.zeros(())},
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}],
        "pytorch-lightning_version": "2.0",
    },
    "with its optimizer": {
        "model_state_dict": named("model."),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(4, 3, 1, 1)}}},
    },
    "both parts": {"encoder": WEIGHTS, "decoder": named("cbr."), "encoder_opt": {"state": {}}},
    "deep": {"model": {"net": {"weights": named("module.")}}},
    "average only": {"ema": named("module."), "step": 3},
    "twice the same": {
        "model": WEIGHTS,
        "model_ema": {name: value.clone() for name, value in WEIGHTS.items()},
    },
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_the_weights_are_found_and_fit(wrapped: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[wrapped], tmp_path / FILE)
    net = network()
    nn.init.zeros_(net[0].weight)
    load_weights(net, tmp_path / FILE, part="encoder", arch="tiny")
    assert all(torch.equal(WEIGHTS[name], value) for name, value in net.state_dict().items())


def test_names_that_only_some_weights_share_are_kept() -> None:
    mixed = {**named("module."), **WEIGHTS}
    del mixed["0.weight"]
    assert found(mixed).keys() == WEIGHTS.keys()  # the complete set is that with the prefix
    del mixed["module.0.weight"]
    assert "0.weight" not in found(mixed)


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"state_dict": WEIGHTS, "state_dict_ema": OTHER}, "under 'state_dict' and under 'state_dict_ema'"),
        (
            {"model": named("a."), "ema": named("b.", OTHER)},
            "under 'model' in the names that begin with 'a.' "
            "and under 'ema' in the names that begin with 'b.'",
        ),
        (
            {**named("online_model."), **named("ema_model.", OTHER)},
            "in the names that begin with 'online_model.' and in the names that begin with 'ema_model.'",
        ),
        ({**WEIGHTS, "ema": OTHER}, "at its top and under 'ema'"),
    ],
)
def test_of_two_sets_none_is_preferred_and_the_message_shows_how_to_choose(
    content: Any, places: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(content)
    assert message.startswith(f"x.pth holds two sets of weights that fit, {places}. Save the one to use")
    torch.save(content, FILE)
    exec(message.partition("for example: ")[2], {"torch": torch})
    chosen = found(torch.load("weights.pth", weights_only=True))
    assert torch.equal(chosen["0.weight"], OTHER["0.weight"])


def test_an_average_is_named_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.Logger("test", logging.INFO)
    messages: list[str] = []
    logger.addFilter(lambda record: messages.append(record.getMessage()) or False)  # type: ignore[func-returns-value]
    monkeypatch.setattr("mit_semseg.models.weights.unwrap.get_logger", lambda: logger)
    found({"state_dict_ema": WEIGHTS})
    assert messages == ["x.pth: using the averaged weights, under 'state_dict_ema'"]
    found({"schema": WEIGHTS})
    assert len(messages) == 1


def test_weights_of_another_model_are_returned_without_the_usual_prefixes() -> None:
    content = {"state_dict": {"model.module.a": torch.ones(1), "model.module.b": torch.ones(2)}}
    assert unwrap(content, FILE, ["c", "d"]).by_name.keys() == {"a", "b"}
    assert unwrap(content, FILE).by_name.keys() == {"a", "b"}


def test_alternative_namings_are_tried_in_turn() -> None:
    content = named("module.")
    names = required_names(network())
    assert unwrap(content, FILE, [f"net.{name}" for name in names], names).prefix == "module."


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        ([torch.ones(1)], "holds a list, not a dict of weights."),
        (torch.ones(1), "holds a Tensor, not a dict of weights."),
        ({}, "holds no weights."),
        ({"net": {"lr": 1}}, "does not hold a dict of weights: its entry 'net' is a dict."),
        ({0: torch.ones(1)}, "does not hold a dict of weights: its entry 0 is a Tensor."),
    ],
)
def test_a_file_without_a_dict_of_weights_is_refused(obj: object, reason: str) -> None:
    assert refusal(obj) == f"x.pth {reason} Save a state_dict() in it."


def test_numpy_arrays_are_weights() -> None:
    arrays = {name: value.numpy() for name, value in WEIGHTS.items()}
    weights = found({"epoch": 3, "state_dict": arrays})
    assert all(torch.equal(weights[name], value) for name, value in WEIGHTS.items())
    assert "does not hold a dict of weights" in refusal({"names": np.array(["a"])})
