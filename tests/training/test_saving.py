"""A save copies first and writes in a thread; its error reaches the training."""

import threading

import pytest
import torch

from mit_semseg.errors import UserError
from mit_semseg.training.saving import Saver, Snapshot, saving


def test_a_snapshot_keeps_its_values_and_the_next_one_takes_its_memory():
    weight, history = torch.tensor([1.0, 2.0]), [0.5]
    snapshot = Snapshot()
    first = snapshot.of({"encoder": {"weight": weight}, "history": history, "epoch": 3}, "state")
    weight.fill_(7)
    history.append(0.6)
    assert first["encoder"]["weight"].tolist() == [1, 2]
    assert (first["history"], first["epoch"]) == ([0.5], 3)
    second = snapshot.of({"encoder": {"weight": weight}}, "state")
    assert second["encoder"]["weight"].data_ptr() == first["encoder"]["weight"].data_ptr()
    other = snapshot.of({"encoder": {"weight": weight}}, "epoch")
    assert other["encoder"]["weight"].data_ptr() != second["encoder"]["weight"].data_ptr()


def test_a_snapshot_has_the_versions_of_the_layers_that_a_state_dict_carries():
    net = torch.nn.BatchNorm2d(3)
    assert Snapshot().of(net.state_dict(), "net")._metadata == net.state_dict()._metadata


def test_the_training_continues_during_a_save_and_the_next_save_waits_for_it():
    saver, may_end, order = Saver(), threading.Event(), []

    def write():
        may_end.wait()
        order.append("first")

    saver.start(write, lambda: order.append("then"))
    saver.poll()
    assert order == []
    threading.Timer(0.05, may_end.set).start()
    saver.start(lambda: order.append("second"))
    saver.wait()
    assert order == ["first", "then", "second"]


def fail():
    raise UserError("The disk is full.")


def poll_forever(saver):
    while True:
        saver.poll()


def train(saver, write, error=None):
    with saving(saver):
        saver.start(write)
        if error is not None:
            raise error


def test_an_error_of_the_thread_is_raised_once_in_the_training_and_nothing_counts_as_saved():
    saver, saved = Saver(), []
    saver.start(fail, lambda: saved.append(1))
    with pytest.raises(UserError, match=r"The disk is full\."):
        poll_forever(saver)
    saver.wait()
    assert saved == []


def test_the_end_of_a_training_waits_and_its_own_error_precedes_that_of_the_save():
    saver, saved = Saver(), []
    with saving(saver):
        saver.start(lambda: None, lambda: saved.append(1))
    assert saved == [1]
    with pytest.raises(UserError, match="full"):
        train(saver, fail)
    with pytest.raises(ZeroDivisionError):
        train(saver, fail, ZeroDivisionError())
