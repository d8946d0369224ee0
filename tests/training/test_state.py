"""Saving a state and loading it, without a training; test_resume.py tests both in a training."""

import pytest
import torch
import yaml
from torch import nn

from mit_semseg.config import load_config
from mit_semseg.errors import DivergenceError, UserError
from mit_semseg.models.weights.checkpoint import save_atomically
from mit_semseg.optim.ema import WeightAverage
from mit_semseg.optim.optimizers import build_optimizer
from mit_semseg.training.checkpoints import drop_old_epochs, save_best, save_epoch
from mit_semseg.training.counters import TrainState, Window
from mit_semseg.training.history import History
from mit_semseg.training.options import train_options
from mit_semseg.training.state import read_state, state_content, write_state
from mit_semseg.training.state_fit import check_state, load_state


class Pair(nn.Module):
    """An encoder and a decoder of one weight each."""

    def __init__(self, value=0.0):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1, 1), nn.Linear(1, 1)
        nn.init.constant_(self.encoder.weight, value)


def weights(module):
    return {part: module.get_submodule(part).state_dict() for part in ("encoder", "decoder")}


def optimizer_of(module, name="SGD", lr=(0.1, 0.2)):
    return build_optimizer(name, module.encoder, module.decoder, lr=lr, beta1=0.9, weight_decay=0.0)


def step(module, optimizer):
    optimizer.zero_grad()
    module.decoder(module.encoder(torch.ones(1, 1))).sum().backward()
    optimizer.step()


def counters():
    history = History()
    history.add(0.5, loss=1.5, accuracy=0.25, rates=(0.1, 0.2))
    history.add_validation(1, mean_iou=0.5, accuracy=0.75)
    return TrainState(
        7, 14, 1, Window(0.1, 0.2, 30, 1, 3), history, best=0.5, stale=2, unlabelled=4, first_sub_batches=4
    )


def save_state(options, *content):
    write_state(options, state_content(options, *content))


@pytest.fixture
def config(tmp_path):
    def build(**keys):
        words = [str(word) for key, value in keys.items() for word in (f"TRAIN.{key}", value)]
        return train_options(load_config(None, ["DIR", str(tmp_path / "run"), *words])).run

    return build


@pytest.fixture
def saved(config, tmp_path):
    """A module and its optimizer after a step, and the file that holds them."""
    module = Pair(1.0)
    optimizer = optimizer_of(module)
    step(module, optimizer)
    save_state(config(), "digest", counters(), module, optimizer, {})
    return module, optimizer, tmp_path / "run" / "state.pth"


def test_weights_optimizer_and_counters_resume_exactly(saved):
    module, optimizer, file = saved
    again = Pair()
    resumed = optimizer_of(again)
    assert load_state(file, read_state(file), again, resumed, {}) == (counters(), [])
    for net, its_optimizer in ((module, optimizer), (again, resumed)):
        step(net, its_optimizer)
    for one, other in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_weights_that_the_loss_does_not_depend_on_need_no_state_of_the_optimizer(config, tmp_path, name):
    module = Pair(1.0)
    module.encoder.norm = nn.LayerNorm(1)  # of a map that no decoder reads
    optimizer = optimizer_of(module, name)
    step(module, optimizer)
    assert len(optimizer.state) == 4
    save_state(config(), "digest", counters(), module, optimizer, {})
    again = Pair()
    again.encoder.norm = nn.LayerNorm(1)
    resumed = optimizer_of(again, name)
    file = tmp_path / "run" / "state.pth"
    load_state(file, read_state(file), again, resumed, {})
    for net, its_optimizer in ((module, optimizer), (again, resumed)):
        step(net, its_optimizer)
    for one, other in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_state_with_a_weight_that_is_not_finite_is_refused(saved):
    _, _, file = saved
    state = read_state(file)
    name = next(iter(state["decoder"]))
    state["decoder"][name] = state["decoder"][name] * float("nan")
    again = Pair(3.0)
    with pytest.raises(UserError, match=rf"state\.pth: decoder\.{name} holds NaN \("):
        load_state(file, state, again, optimizer_of(again), {})
    assert again.encoder.weight.item() == 3


def test_rates_come_from_the_config_and_not_from_the_state(saved):
    _, _, file = saved
    again = Pair()
    resumed = optimizer_of(again, lr=(7.0, 8.0))
    load_state(file, read_state(file), again, resumed, {})
    assert {group["lr"] for group in resumed.param_groups} == {7.0, 8.0}


def test_an_average_of_the_weights_is_loaded_and_reported_if_it_is_new(config, saved):
    module, optimizer, file = saved
    average = WeightAverage(module, 0.5)
    step(module, optimizer)
    average.update(module)
    _, notes = load_state(file, read_state(file), module, optimizer, {"average of the weights": average})
    assert notes == [f"{file} has no average of the weights: it starts from scratch"]
    save_state(config(), "digest", counters(), module, optimizer, {"average of the weights": average})
    again = WeightAverage(Pair(5.0), 0.5)
    assert load_state(file, read_state(file), module, optimizer, {"average of the weights": again})[1] == []
    assert again.state_dict() == average.state_dict()


def test_the_config_is_saved_with_the_state_and_written_only_when_it_changes(config, saved, tmp_path):
    module, optimizer, _ = saved
    file = tmp_path / "run" / "config.yaml"
    assert file.read_text() == config().config
    before = file.stat().st_mtime_ns
    save_state(config(), "digest", counters(), module, optimizer, {})
    assert file.stat().st_mtime_ns == before
    save_state(config(disp_iter=3), "digest", counters(), module, optimizer, {})
    assert file.read_text() == config(disp_iter=3).config


def test_keys_that_determine_the_state_must_agree_and_other_changes_are_reported(config, saved):
    _, _, file = saved
    state = read_state(file)
    assert check_state(file, state, config(), "digest") == []
    assert check_state(file, state, config(num_epoch=30, resume="auto"), "digest") == [
        "Changed since the state was saved: TRAIN.num_epoch was 20, is 30"
    ]
    with pytest.raises(UserError) as caught:
        check_state(file, state, config(optim="AdamW", seed=1, workers=0), "another")
    message = str(caught.value)
    assert message.startswith(f"{file} cannot be resumed with this config: ")
    assert "TRAIN.optim was SGD, is AdamW; TRAIN.seed was 304, is 1; " in message
    assert "./data/training.odgt differs from the list" in message
    assert "workers" not in message


def test_a_state_of_release_2_0_has_keys_under_their_former_names(config, saved):
    _, _, file = saved
    state = read_state(file)
    tree = yaml.safe_load(state["config"])
    del tree["VAL"]["threshold"], tree["INFERENCE"]["threshold"]  # which it does not know
    tree["VAL"].update(tree.pop("INFERENCE"))
    assert check_state(file, {**state, "config": yaml.safe_dump(tree)}, config(), "digest") == []
    tree["VAL"]["flip"] = True
    assert check_state(file, {**state, "config": yaml.safe_dump(tree)}, config(), "digest") == [
        "Changed since the state was saved: INFERENCE.flip was True, is False"
    ]


def damaged(state, path, value):
    *nodes, leaf = path
    node = state
    for name in nodes:
        node = node[name]
    node[leaf] = value


def test_the_counters_of_release_2_0_are_read_without_its_unweighted_sums():
    state = counters().state_dict()
    state["window"] = {"loss": 1.0, "accuracy": 0.5, "steps": 2}
    del state["unlabelled"]
    read = TrainState.from_state(state)
    assert (read.window, read.unlabelled) == (Window(), 0)
    assert (read.iteration, read.sub_batches, read.epochs, read.stale) == (7, 14, 1, 2)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("course", "iteration"), "x", "is damaged: its config or counters"),
        (("course", "window"), {"loss": 1.0}, "is damaged: its config or counters"),
        (("course", "history", "train", "loss"), [], "the columns of the history differ in length"),
        (("course", "history", "rates", "lr_encoder"), [1, 2], "the learning rates of the history differ"),
        (("course", "history"), {}, "is damaged: its config or counters are not usable ('train')"),
        (("format",), 2, "has format 2, but this version reads 1"),
        (("config",), 3, "does not hold the state of a training"),
        (("list",), torch.zeros(2), "does not hold the state of a training"),
        (("extras",), None, "does not hold the state of a training"),
        (("course", "iteration"), float("inf"), "is damaged: its config or counters"),
        (
            ("course", "sub_batches"),
            -1,
            "is damaged: its config or counters are not usable (sub_batches is -1)",
        ),
        (("course", "best"), torch.zeros(2), "is damaged: its config or counters"),
        (("encoder",), [], "is damaged: it has no encoder"),
        (("encoder", "weight"), 7, "encoder.weight is a int there, (1, 1) here"),
        (("encoder", "weight"), torch.zeros(1, 1).to_sparse(), "encoder.weight is a sparse tensor"),
        (("decoder", "weight"), torch.zeros(2, 1), r"decoder.weight is (2, 1) there, (1, 1) here"),
        (("decoder", "more"), torch.zeros(1), "decoder.more is (1,) there, missing here"),
        (("optimizer",), {}, "holds the optimizer of another model"),
        (("optimizer", "groups"), [1, 1], "holds the optimizer of another model"),
        (("optimizer", "state", 9), {}, "holds the optimizer of another model"),
        (("optimizer", "state", 0), {"momentum_buffer": torch.zeros(3)}, "holds the optimizer of another"),
        (("optimizer", "state", 0), {"momentum_buffer": {}}, "holds the optimizer of another"),
        (("optimizer", "state", 0), {"momentum_buffer": None}, "holds the optimizer of another"),
        (("optimizer", "state", 0, "step"), "x", "holds the optimizer of another"),
        (
            ("optimizer", "state", 0, "momentum_buffer"),
            torch.full((1, 1), torch.nan),
            "momentum_buffer holds NaN",
        ),
        (("extras", "average", "updates"), "x", "does not fit: its average is from another model"),
        (("extras", "average"), {"updates": 1}, "does not fit: its average is from another model"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_before_anything_is_loaded(saved, path, value, says):
    _, _, file = saved
    content = torch.load(file, weights_only=True)
    content["extras"]["average"] = WeightAverage(Pair(), 0.5).state_dict()
    damaged(content, path, value)
    save_atomically(content, file)
    module = Pair(3.0)
    optimizer = optimizer_of(module)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_state(file, read_state(file), module, optimizer, {"average": WeightAverage(module, 0.5)})
    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert all(torch.equal(before[name], weight) for name, weight in module.state_dict().items())
    assert not optimizer.state


@pytest.mark.parametrize("content", [[], {}, {"state_dict": {}}, {"encoder": {}, "decoder": {}}])
def test_a_file_that_is_not_a_state_is_named(tmp_path, content):
    save_atomically(content, tmp_path / "state.pth")
    with pytest.raises(UserError, match=r"state\.pth does not hold the state of a training\. Name a"):
        read_state(tmp_path / "state.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weights", "optimizer", "average"])
def test_a_state_that_is_not_finite_never_replaces_one_that_is(config, saved, value, where):
    module, optimizer, file = saved
    average = WeightAverage(module, 0.5)
    before = file.read_bytes(), (file.parent / "config.yaml").read_bytes()
    with torch.no_grad():
        if where == "weights":
            module.decoder.bias.fill_(value)
        elif where == "optimizer":
            optimizer.state_dict()["state"][0]["momentum_buffer"].fill_(value)
        else:
            average.state_dict()["parameters"]["encoder.weight"].fill_(value)
    with pytest.raises(DivergenceError) as caught:
        save_state(config(disp_iter=3), "digest", counters(), module, optimizer, {"average": average})
    message = str(caught.value)
    first = {"weights": "decoder.bias", "optimizer": "optimizer.state.0.momentum_buffer"}
    assert message.startswith(first.get(where, "extras.average.parameters.encoder.weight"))
    assert f"holds NaN or infinity after iteration 7. {file} was not replaced" in message
    assert (file.read_bytes(), (file.parent / "config.yaml").read_bytes()) == before


def test_a_checkpoint_that_is_not_finite_is_not_written(tmp_path):
    save_best(tmp_path, weights(Pair(1.0)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for save in (
        lambda net: save_best(tmp_path, weights(net)),
        lambda net: save_epoch(tmp_path, 3, weights(net), History()),
    ):
        with pytest.raises(DivergenceError, match=r"encoder\.weight holds NaN or infinity"):
            save(Pair(float("nan")))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# The counters


def test_the_best_score_is_kept_and_validations_without_a_better_one_are_counted():
    run = TrainState()
    outcomes = [run.validated(epoch, score, 0.0) for epoch, score in enumerate((0.2, 0.2, 0.3, 0.1), start=1)]
    assert outcomes == [True, False, True, False]
    assert (run.best, run.stale) == (0.3, 1)
    assert not run.has_ended(num_epoch=9, patience=2)
    assert run.has_ended(num_epoch=9, patience=1)
    assert not run.has_ended(num_epoch=9, patience=0)


def test_a_score_that_is_not_a_number_is_never_the_best():
    run = TrainState()
    assert not run.validated(1, float("nan"), 0.0)
    assert run.validated(2, 0.0, 0.0)


# History


def test_accuracies_are_kept_in_percent():
    history = History()
    history.add(epoch=0.5, loss=2.0, accuracy=0.25)
    assert history.as_dict() == {"train": {"epoch": [0.5], "loss": [2.0], "acc": [25.0]}}
    assert History.from_dict(history.as_dict()) == history


def test_the_table_has_one_row_per_point_and_each_validation_after_its_epoch():
    history = History([0.5], [2.0], [25.0])  # as an old script wrote it, without rates
    history.add(1.0, loss=1.0, accuracy=0.5, rates=(0.1, 0.2))
    history.add_validation(1, mean_iou=0.25, accuracy=0.75)
    history.add(1.5, loss=0.5, accuracy=0.5, rates=(0.0, 0.1))
    history.add_validation(2, mean_iou=float("nan"), accuracy=float("nan"))  # without a labelled pixel
    assert list(history.rows(epoch_iters=10)) == [
        (0.5, 5, 2.0, 25.0, "", "", "", ""),
        (1.0, 10, 1.0, 50.0, 0.1, 0.2, "", ""),
        (1.0, 10, "", "", "", "", 0.25, 75.0),
        (1.5, 15, 0.5, 50.0, 0.0, 0.1, "", ""),
        (2.0, 20, "", "", "", "", "", ""),
    ]
    assert list(History.from_state(history.state_dict()).rows(10)) == list(history.rows(10))
    assert history.last_train_row(epoch_iters=10) == list(history.rows(10))[3]
    assert history.last_val_row(epoch_iters=10) == list(history.rows(10))[4]


# The files of an epoch


def test_old_epochs_are_dropped_and_the_best_and_later_ones_stay(tmp_path):
    for epoch in (1, 2, 3, 10):
        save_epoch(tmp_path, epoch, weights(Pair()), History())
    save_best(tmp_path, weights(Pair()))
    drop_old_epochs(tmp_path, 3, keep=0)
    assert len(list(tmp_path.iterdir())) == 14
    drop_old_epochs(tmp_path, 3, keep=2)
    assert {path.name for path in tmp_path.glob("*coder*")} == {
        f"{part}_{name}.pth"
        for part in ("encoder", "decoder")
        for name in ("epoch_2", "epoch_3", "epoch_10", "best")
    }
    assert {path.name for path in tmp_path.glob("history*")} == {
        f"history_epoch_{epoch}.pth" for epoch in (2, 3, 10)
    }
