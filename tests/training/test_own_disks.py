"""Machines without a shared disk start a run from the same point, and each keeps the state."""

import hashlib
import io
import shutil
import socket
from unittest import mock

import pytest
import torch
from commands import ROOT
from forked import in_processes, run_torchrun

from mit_semseg.config import load_config
from mit_semseg.errors import UserError
from mit_semseg.runtime.distributed import gather_from_processes
from mit_semseg.training import resume
from mit_semseg.training.options import train_options
from mit_semseg.training.resume import agree_on_start
from mit_semseg.training.setup import build_run


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    """The folder of a run of one epoch of two, with an average of the weights."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("stopped") / "run"
    keys = tiny.overrides(DIR=folder, TRAIN__num_epoch=1, TRAIN__ema_decay=0.9, TRAIN__optim="AdamW")
    assert main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), *keys]) == 0
    return folder


def starts_of_all(process, config, scenarios):
    """For each scenario, by its name, what each process starts with or the message of its error.

    Args:
        scenarios: the words of each process's command line.
    """
    found = {}
    for name, words in scenarios.items():
        changed = name == "another version" and process.rank == 1
        with mock.patch.object(resume, "__version__", "1.0" if changed else "2.1"):
            found[name] = start_of_all(process, config, words)
    return found


def start_of_all(process, config, words):
    options = train_options(load_config(config, words[process.rank]))
    try:
        start = agree_on_start(process, options.run)
        run = build_run(process, options, start, [process.device])
    except UserError as error:
        return gather_from_processes(str(error))
    kept = io.BytesIO()
    parts = (run.module.state_dict(), run.optimizer.state_dict(), run.average and run.average.state_dict())
    torch.save(parts, kept)
    digest = hashlib.sha256(kept.getvalue()).hexdigest()
    return gather_from_processes((run.state.iteration, run.state.sub_batches, run.state.history, digest))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("disks")


@pytest.fixture(scope="module")
def starts(tiny, stopped, folder):
    """What two processes start with, each on a disk of its own; one pair of processes for all scenarios."""
    empty, other = folder / "empty", folder / "other"
    epoch = folder / "epoch"
    shutil.copytree(stopped, epoch)
    (epoch / "state.pth").unlink()
    older = shutil.copytree(stopped, folder / "older")
    state = torch.load(older / "state.pth", weights_only=True)
    state["course"]["iteration"] = 1
    torch.save(state, older / "state.pth")
    weights = ["MODEL.weights_encoder", stopped / "encoder_epoch_1.pth"]
    missing = ["MODEL.weights_encoder", folder / "not_here.pth"]
    same = shutil.copy(tiny.folder / "training.odgt", folder / "same.odgt")
    turned = folder / "turned.odgt"
    turned.write_text("".join((tiny.folder / "training.odgt").read_text().splitlines(keepends=True)[::-1]))
    auto = ["TRAIN.resume", "auto"]
    scenarios = {
        "state on the first disk": [(stopped, auto), (other, auto)],
        "epoch on the first disk": [(epoch, ["TRAIN.start_epoch", 1]), (other, ["TRAIN.start_epoch", 1])],
        "state on the other disk": [(empty, auto), (stopped, auto)],
        "older state on the first disk": [(older, auto), (stopped, auto)],
        "refused by the first": [(stopped, []), (other, [])],
        "weights on the first disk": [(empty, weights), (other, missing)],
        "weights on the other disk": [(empty, missing), (other, weights)],
        "another version": [(empty, []), (other, [])],
        "another seed": [(empty, []), (other, ["TRAIN.seed", 1])],
        "another rate": [(empty, []), (other, ["TRAIN.lr_encoder", 0.5])],
        "the same list elsewhere": [(empty, []), (other, ["DATASET.list_train", same])],
        "another list": [(empty, []), (other, ["DATASET.list_train", turned])],
        "another list of validation": [
            (empty, ["VAL.every", 1]),
            (other, ["VAL.every", 1, "DATASET.list_val", turned]),
        ],
    }
    common = tiny.overrides(TRAIN__num_epoch=2, TRAIN__ema_decay=0.9, TRAIN__optim="AdamW")
    lines = {
        name: [["DIR", str(disk), *common, *map(str, words)] for disk, words in processes]
        for name, processes in scenarios.items()
    }
    found = in_processes(2, starts_of_all, str(tiny.config), lines)
    assert not empty.exists()
    assert not other.exists()
    return found


def agreed(starts, name):
    """What both processes start with, or the message that both end with."""
    first, second = starts[name]
    assert first == second
    return first


def test_a_state_on_the_first_disk_alone_is_resumed_by_all(starts):
    assert agreed(starts, "state on the first disk")[0] == 2


def test_an_epoch_on_the_first_disk_alone_is_continued_by_all(starts):
    iteration, _, history, _ = agreed(starts, "epoch on the first disk")
    assert iteration == 2
    assert history.loss


def test_the_newest_state_counts_whichever_disk_it_is_on(starts):
    assert agreed(starts, "state on the other disk") == agreed(starts, "state on the first disk")
    assert agreed(starts, "older state on the first disk")[0] == 2


def test_the_refusal_of_the_first_process_is_that_of_all(starts, stopped):
    refusal = f"{stopped} already holds a run. Set TRAIN.resume auto to resume it"
    assert agreed(starts, "refused by the first").startswith(refusal)


def test_weights_on_the_first_disk_alone_are_given_to_all(starts):
    assert agreed(starts, "weights on the first disk")[0] == 0
    assert "not_here.pth does not exist" in agreed(starts, "weights on the other disk")


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("another version", "the version of mit_semseg is 1.0 there, 2.1 in process 0"),
        ("another seed", "TRAIN.seed is 1 there, 304 in process 0"),
        ("another rate", "TRAIN.lr_encoder is 0.5 there, 0.02 in process 0"),
        ("another list", "the content of DATASET.list_train differs"),
        ("another list of validation", "the content of DATASET.list_val differs"),
    ],
)
def test_processes_with_different_configs_or_lists_are_refused(starts, name, difference):
    host = socket.gethostname()
    assert agreed(starts, name) == (
        f"Process 1 on {host} does not train the same run as process 0 on {host}: {difference}. "
        "Start all machines with the same config and files."
    )


def test_the_same_list_at_another_path_is_fine(starts):
    assert agreed(starts, "the same list elsewhere")[0] == 0


def test_each_of_two_machines_keeps_weights_and_state_if_they_share_no_disk(tiny, tmp_path):
    words = [ROOT / "train.py", "--gpus", "cpu", "--cfg", tiny.config, "TRAIN.resume", "auto"]
    folders = [tmp_path / "first", tmp_path / "second"]
    for epochs in (1, 2):
        keys = ["TRAIN.num_epoch", epochs]
        outcomes = run_torchrun(1, *words, *keys, machines=2, own_words=lambda rank: ["DIR", folders[rank]])
        assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
        assert not (folders[1] / "log.txt").exists()
        if epochs == 1:
            shutil.rmtree(folders[0])  # the other disk has the state
    for folder in folders:
        state = torch.load(folder / "state.pth", weights_only=True)["course"]
        assert (state["iteration"], state["sub_batches"], state["epochs"]) == (4, 8, 2)
    names = ["encoder_epoch_2.pth", "decoder_epoch_2.pth", "history_epoch_2.pth"]
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)
    assert not list(tmp_path.rglob(".mit-semseg.lock"))
