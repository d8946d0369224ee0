"""Saving a state and taking it up, apart from any training; test_resume.py has them in one."""

import pytest
import torch
from torch import nn

from mit_semseg.checkpoint import save_atomically
from mit_semseg.config import load_config
from mit_semseg.ema import WeightAverage
from mit_semseg.engine.training.course import Course, Window
from mit_semseg.engine.training.epoch_files import drop_old_epochs, save_best, save_epoch
from mit_semseg.engine.training.history import History
from mit_semseg.engine.training.state import check_state, load_state, read_state, save_state
from mit_semseg.errors import UserError
from mit_semseg.optim import build_optimizer


class Pair(nn.Module):
    """An encoder and a decoder of one weight each."""

    def __init__(self, value=0.0):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1, 1), nn.Linear(1, 1)
        nn.init.constant_(self.encoder.weight, value)


def optimizer_of(module, name="SGD", lr=(0.1, 0.2)):
    return build_optimizer(name, module.encoder, module.decoder, lr=lr, beta1=0.9, weight_decay=0.0)


def step(module, optimizer):
    optimizer.zero_grad()
    module.decoder(module.encoder(torch.ones(1, 1))).sum().backward()
    optimizer.step()


def course():
    history = History()
    history.add(0.5, loss=1.5, accuracy=0.25, rates=(0.1, 0.2))
    history.add_validation(1, mean_iou=0.5, accuracy=0.75)
    return Course(7, 14, 1, Window(0.1, 0.2, 3), history, best=0.5, stale=2)


@pytest.fixture
def config(tmp_path):
    def build(**keys):
        words = [str(word) for key, value in keys.items() for word in (f"TRAIN.{key}", value)]
        return load_config(None, ["DIR", str(tmp_path / "run"), *words])

    return build


@pytest.fixture
def saved(config, tmp_path):
    """A module and its optimizer after a step, and the file that holds them."""
    module = Pair(1.0)
    optimizer = optimizer_of(module)
    step(module, optimizer)
    save_state(config(), "digest", course(), module, optimizer, {})
    return module, optimizer, tmp_path / "run" / "state.pth"


def test_weights_optimizer_and_course_go_on_as_if_they_had_not_stopped(saved):
    module, optimizer, file = saved
    again = Pair()
    resumed = optimizer_of(again)
    assert load_state(file, again, resumed, {}) == (course(), [])
    for net, its_optimizer in ((module, optimizer), (again, resumed)):
        step(net, its_optimizer)
    for one, other in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_rates_come_from_the_config_and_not_from_the_state(saved):
    _, _, file = saved
    again = Pair()
    resumed = optimizer_of(again, lr=(7.0, 8.0))
    load_state(file, again, resumed, {})
    assert {group["lr"] for group in resumed.param_groups} == {7.0, 8.0}


def test_an_average_of_the_weights_is_taken_up_and_told_if_it_is_new(config, saved):
    module, optimizer, file = saved
    average = WeightAverage(module, 0.5)
    step(module, optimizer)
    average.update(module)
    _, notes = load_state(file, module, optimizer, {"average of the weights": average})
    assert notes == [f"{file} holds no average of the weights: it starts afresh"]
    save_state(config(), "digest", course(), module, optimizer, {"average of the weights": average})
    again = WeightAverage(Pair(5.0), 0.5)
    assert load_state(file, module, optimizer, {"average of the weights": again})[1] == []
    assert again.state_dict() == average.state_dict()


def test_the_config_stands_beside_the_state_and_is_written_when_it_changes(config, saved, tmp_path):
    module, optimizer, _ = saved
    file = tmp_path / "run" / "config.yaml"
    assert file.read_text() == config().dump()
    before = file.stat().st_mtime_ns
    save_state(config(), "digest", course(), module, optimizer, {})
    assert file.stat().st_mtime_ns == before
    save_state(config(disp_iter=3), "digest", course(), module, optimizer, {})
    assert file.read_text() == config(disp_iter=3).dump()


def test_keys_that_give_a_state_its_meaning_have_to_agree_and_others_are_told(config, saved):
    _, _, file = saved
    state = read_state(file)
    assert check_state(file, state, config(), "digest") == []
    assert check_state(file, state, config(num_epoch=30, resume="auto"), "digest") == [
        "Changed since the state was saved: TRAIN.num_epoch was 20, is 30"
    ]
    with pytest.raises(UserError) as caught:
        check_state(file, state, config(optim="AdamW", seed=1, workers=0), "another")
    message = str(caught.value)
    assert message.startswith(f"{file} can't go on with this config: ")
    assert "TRAIN.optim was SGD, is AdamW; TRAIN.seed was 304, is 1; " in message
    assert "./data/training.odgt has another content" in message
    assert "workers" not in message


def damaged(state, path, value):
    *nodes, leaf = path
    node = state
    for name in nodes:
        node = node[name]
    node[leaf] = value


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("course", "iteration"), "x", "is damaged: its course"),
        (("course", "window"), {"loss": 1.0}, "is damaged: its course"),
        (("course", "history"), {}, "is damaged: its course has no proper 'train'"),
        (("format",), 2, "has format 2, but this version reads 1"),
        (("config",), 3, "holds no state of a training"),
        (("encoder",), [], "is damaged: it holds no encoder"),
        (("decoder", "weight"), torch.zeros(2, 1), r"decoder.weight is (2, 1) there, (1, 1) here"),
        (("decoder", "more"), torch.zeros(1), "decoder.more is (1,) there, missing here"),
        (("optimizer",), {}, "holds the optimizer of another model"),
        (("optimizer", "groups"), [1, 1], "holds the optimizer of another model"),
        (("optimizer", "state", 9), {}, "holds the optimizer of another model"),
        (("optimizer", "state", 0), {"momentum_buffer": torch.zeros(3)}, "holds the optimizer of another"),
        (("extras", "average"), {"updates": 1}, "does not fit: its average is of another model"),
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
        load_state(file, module, optimizer, {"average": WeightAverage(module, 0.5)})
    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert all(torch.equal(before[name], weight) for name, weight in module.state_dict().items())
    assert not optimizer.state


@pytest.mark.parametrize("content", [[], {}, {"state_dict": {}}, {"encoder": {}, "decoder": {}}])
def test_a_file_of_something_else_is_named(tmp_path, content):
    save_atomically(content, tmp_path / "state.pth")
    with pytest.raises(UserError, match=r"state\.pth holds no state of a training\. Name a state\.pth"):
        read_state(tmp_path / "state.pth")


# The course


def test_the_best_score_is_kept_and_validations_without_a_better_one_are_counted():
    run = Course()
    outcomes = [run.validated(epoch, score, 0.0) for epoch, score in enumerate((0.2, 0.2, 0.3, 0.1), start=1)]
    assert outcomes == [True, False, True, False]
    assert (run.best, run.stale) == (0.3, 1)
    assert not run.has_ended(num_epoch=9, patience=2)
    assert run.has_ended(num_epoch=9, patience=1)
    assert not run.has_ended(num_epoch=9, patience=0)


def test_a_score_that_is_not_a_number_is_never_the_best():
    run = Course()
    assert not run.validated(1, float("nan"), 0.0)
    assert run.validated(2, 0.0, 0.0)


# History


def test_accuracies_are_kept_in_percent():
    history = History()
    history.add(epoch=0.5, loss=2.0, accuracy=0.25)
    assert history.as_dict() == {"train": {"epoch": [0.5], "loss": [2.0], "acc": [25.0]}}
    assert History.from_dict(history.as_dict()) == history


def test_the_table_has_a_row_a_point_and_a_validation_behind_its_epoch():
    history = History([0.5], [2.0], [25.0])  # of an old script, without rates
    history.add(1.0, loss=1.0, accuracy=0.5, rates=(0.1, 0.2))
    history.add_validation(1, mean_iou=0.25, accuracy=0.75)
    history.add(1.5, loss=0.5, accuracy=0.5, rates=(0.0, 0.1))
    assert list(history.rows(epoch_iters=10)) == [
        (0.5, 5, 2.0, 25.0, "", "", "", ""),
        (1.0, 10, 1.0, 50.0, 0.1, 0.2, "", ""),
        (1.0, 10, "", "", "", "", 0.25, 75.0),
        (1.5, 15, 0.5, 50.0, 0.0, 0.1, "", ""),
    ]
    assert History.from_state(history.state_dict()) == history


# The files of an epoch


def test_old_epochs_are_dropped_and_the_best_and_later_ones_stay(tmp_path):
    for epoch in (1, 2, 3, 10):
        save_epoch(tmp_path, epoch, Pair(), History())
    save_best(tmp_path, Pair())
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
