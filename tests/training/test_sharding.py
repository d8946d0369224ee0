"""``TRAIN.parallel fsdp``: processes that divide a model train it like processes that each have all of it."""

import errno
import json
import os
import pickle
import shutil
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from forked import in_processes
from test_fine_tuning import PARTS, changed, weights
from test_update import assert_same, module, sub_batches, updated
from test_validation import validations

from mit_semseg.config import load_config
from mit_semseg.errors import DivergenceError, UserError
from mit_semseg.optim import build_optimizer
from mit_semseg.optim.ema import WeightAverage
from mit_semseg.runtime.distributed import gather_from_processes, local_part, whole_tensor
from mit_semseg.training import shard_files, sharding, train
from mit_semseg.training.options import train_options
from mit_semseg.training.parallel import parallel
from mit_semseg.training.precision import Precision
from mit_semseg.training.shard_files import read_whole_state
from mit_semseg.training.sharding import naming_use_of_shares, shard, whole_copy
from mit_semseg.training.state import SHARDS, parts_of, read_state
from mit_semseg.training.step import step
from mit_semseg.training.tensor_trees import named_tensors

# A small rate: large ones multiply the rounding errors by which two orders of summation differ.
RUN = {
    "MODEL__arch_encoder": "dinov2_small",
    "MODEL__encoder_options": "depth: 2, width: 48, heads: 3, patch: 8, grid: 6",
    "MODEL__fc_dim": 48,
    "TRAIN__epoch_iters": 2,
    "TRAIN__num_epoch": 2,
    "TRAIN__lr_encoder": 1e-4,
    "TRAIN__lr_decoder": 1e-4,
    "TRAIN__lr_schedule": "constant",
    "TRAIN__ema_decay": 0.9,
    "TRAIN__clip_grad_norm": 0.5,
    "TRAIN__disp_iter": 1,
    "TRAIN__tensorboard": False,
}
ROUNDING = 1e-5  # of float32, after a few updates, as a share of the largest value of a tensor


# What two processes compute. One pair of them serves all tests, since starting them takes longest.


def compute(process, commands, folder):
    sharding._UNIT = 20_000  # the models here are small
    for file, *keys in commands:
        with seen_run() as seen:
            train._train(process, train_options(load_config(file, keys)))
    return gather_from_processes(
        {
            "updates": [two_updates(process, sharded) for sharded in (False, True)],
            "AdamW": [steps_of_adamw(process, sharded) for sharded in (False, True)],
            "overflow": overflow(process),
            "copy": copy_is_whole(process),
            "uncalled": message_of(use_without_a_call, process),
            "disks": message_of(train._require_shared_folder, folder, process, keeps=True),
            "saves": failing_saves(process, seen["run"]),
        }
    )


@contextmanager
def seen_run():
    """The `Run` that is built inside the block."""
    seen, build_run = {}, train.build_run

    def build(*args, **keys):
        seen["run"] = build_run(*args, **keys)
        return seen["run"]

    with mock.patch.object(train, "build_run", build):
        yield seen


def message_of(call, *args, **keys):
    try:
        call(*args, **keys)
    except (UserError, DivergenceError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def two_updates(process, sharded):
    """See `test_update.updated`."""

    def divided(net, process, devices):
        shard(net, process)
        return parallel(net, process, devices)

    with mock.patch("test_update.parallel", divided if sharded else parallel):
        state, shown = updated(process, devices=1, accumulate=2, clip=0.01)
    return {name: whole_tensor(value) for name, value in state.items()}, shown


def steps_of_adamw(process, sharded):
    """Weights and averages after three steps, float64. The encoder has other rates, and is frozen in part."""
    net = module()
    net.encoder.conv.bias.requires_grad_(False)
    if sharded:
        shard(net, process)
    trained = parallel(net, process, [process.device])
    rates = {net.encoder.conv.weight: 0.5}
    settings = {"lr": (0.01, 0.02), "beta1": 0.9, "weight_decay": 0.1, "encoder_rates": rates}
    optimizer = build_optimizer("AdamW", net.encoder, net.decoder, **settings)
    average = WeightAverage(net, 0.9)
    for _ in range(3):
        step(trained, optimizer, [sub_batches(2)[:1]], process, where="", clip_grad_norm=0.1)
        average.update(net)
    found = [net.state_dict(), average.state_dict()["parameters"]]
    return [{name: whole_tensor(value) for name, value in one.items()} for one in found]


def overflow(process):
    """The norm and the scale of the loss, before and after an overflow in the last process alone."""
    net = module().float()
    shard(net, process)
    precision = Precision(process.device, "fp16")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batch = {**sub_batches(2)[0]}
    batch["img_data"] = batch["img_data"].float()
    precision.backward(net(batch)[0].sum())
    if process.rank == 1:
        local_part(net.decoder.main.weight.grad).fill_(float("inf"))
    before, norm = precision.scaler.get_scale(), precision.gradient_norm(optimizer).item()
    precision.skip_update()
    return before, norm, precision.scaler.get_scale()


def copy_is_whole(process):
    net = module()
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    net.encoder.register_buffer("constant", torch.ones(2), persistent=False)
    shard(net, process)
    copied = whole_copy(net)
    kinds = {type(value) for value in copied.state_dict().values()}
    same = not changed(expected, copied.state_dict()) and torch.equal(copied.encoder.constant, torch.ones(2))
    return same, kinds == {torch.Tensor}, type(net) is not type(copied)


class Uncalled(torch.nn.Module):
    """It takes the weights of a part that it does not call."""

    def __init__(self):
        super().__init__()
        self.parts = torch.nn.ModuleList([torch.nn.Linear(200, 200)])

    def forward(self, x):
        return torch.nn.functional.linear(x, self.parts[0].weight)


def use_without_a_call(process):
    net = Uncalled()
    shard(net, process)
    with naming_use_of_shares():
        net(torch.ones(1, 200))


def failing_saves(process, run):
    """The messages of saves that fail, and whether the former state is still there after each."""
    file = run.options.folder / "state.pth"
    before = dict(named_tensors(parts_of(read_whole_state(file))))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    last = process.rank == process.size - 1
    refusing = mock.patch.object(shard_files, "save_atomically", mock.Mock(side_effect=UserError("Full.")))
    without_room = mock.patch.object(os, "fsync", full if last else os.fsync)
    messages = []
    for failure in (refusing, without_room):
        with failure:
            messages.append(message_of(run.save))
    local = local_part(next(run.module.decoder.parameters()))
    if last:
        local.detach().fill_(float("nan"))
    messages.append(message_of(run.save))
    same = not changed(before, dict(named_tensors(parts_of(read_whole_state(file)))))
    return messages, same


# Trainings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("sharding")


@pytest.fixture(scope="module")
def found(tiny, runs):
    """The results of `compute`; the folder ``runs`` holds the trainings."""
    from mit_semseg.cli import main

    def words(name, **keys):
        own = tiny.overrides(**{**RUN, **keys})
        return [str(tiny.config), "DIR", str(runs / name), *own]

    alone = ["train", "--gpus", "cpu", "--cfg", *words("one process", TRAIN__num_epoch=1)]
    assert main(alone) == 0
    sharded = {"TRAIN__parallel": "fsdp"}
    once = {"TRAIN__num_epoch": 1}
    commands = [
        words("ddp", VAL__every=2),
        words("fsdp", VAL__every=2, **sharded),
        words("stopped", **sharded, **once),
        words("stopped, then ddp", TRAIN__resume=runs / "stopped"),
        words("one process, then ddp", TRAIN__resume=runs / "one process"),
        words("one process, then fsdp", TRAIN__resume=runs / "one process", **sharded),
        words("stopped, then fsdp", TRAIN__resume=runs / "stopped", **sharded),
    ]
    return in_processes(2, compute, commands, runs)


def largest_difference(folder, other):
    """Of the weights of epoch 2, as a share of the largest value of a tensor."""
    pairs = [(weights(folder, part, 2), weights(other, part, 2)) for part in PARTS]
    assert all(a.keys() == b.keys() and a._metadata == b._metadata for a, b in pairs)
    return max(
        ((a[name].double() - b[name].double()).abs().max() / (1 + b[name].double().abs().max())).item()
        for a, b in pairs
        for name in b
    )


def losses(folder):
    history = torch.load(folder / "history_epoch_2.pth", weights_only=True)["train"]
    return history["loss"], history["acc"]


def test_updates_are_those_of_whole_weights(found):
    for rank in found:
        whole, divided = rank["updates"]
        assert_same(divided, whole)


def test_steps_of_adamw_and_averages_are_those_of_whole_weights(found):
    for rank in found:
        whole, divided = rank["AdamW"]
        torch.testing.assert_close(divided, whole, rtol=1e-9, atol=1e-12)


def test_a_training_has_the_losses_scores_and_weights_of_one_with_whole_weights(found, runs, call):
    assert largest_difference(runs / "fsdp", runs / "ddp") < ROUNDING
    torch.testing.assert_close(losses(runs / "fsdp"), losses(runs / "ddp"), rtol=ROUNDING, atol=ROUNDING)
    ((_, *scores),) = validations(runs / "fsdp")
    config = runs / "fsdp" / "config.yaml"
    assert call("eval", "--gpus", "cpu", "--cfg", config, "VAL.checkpoint", "epoch_2.pth").code == 0
    measured = json.loads((runs / "fsdp" / "result" / "metrics.json").read_text())
    assert [measured["mean_iou"], 100 * measured["pixel_accuracy"]] == scores
    assert " on 2 x cpu, sharded: " in (runs / "fsdp" / "log.txt").read_text()


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(found, runs):
    for part in PARTS:
        resumed, straight = (weights(runs / name, part, 2) for name in ("stopped, then fsdp", "fsdp"))
        assert not changed(resumed, straight)


def test_each_way_can_resume_from_the_state_of_the_other(found, runs):
    assert largest_difference(runs / "stopped, then ddp", runs / "ddp") < ROUNDING
    one_by_one = (runs / f"one process, then {way}" for way in ("fsdp", "ddp"))
    assert largest_difference(*one_by_one) < ROUNDING


def test_one_process_resumes_from_the_shares_of_two(found, runs, tiny, call):
    folder = shutil.copytree(runs / "stopped", runs / "then one process")
    state = read_whole_state(folder / "state.pth")
    average = state["extras"]["average of the weights"]["parameters"]
    for part in PARTS:
        saved = weights(folder, part)
        own = {name: average[f"{part}.{name}"] for name in saved if f"{part}.{name}" in average}
        assert own
        assert not changed(own, saved)
    keys = tiny.overrides(DIR=folder, **RUN, TRAIN__resume="auto", TRAIN__parallel="fsdp")
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, *keys)
    assert done.code == 0, done.err
    assert "on cpu: 1 epoch of 2 iterations" in done.out
    assert "shards" not in read_state(folder / "state.pth")
    assert not [name for name in SHARDS if (folder / name).exists()]


def test_there_is_one_folder_of_shares_with_a_file_of_each_process(found, runs):
    folder = runs / "stopped"
    (shards,) = [folder / name for name in SHARDS if (folder / name).exists()]
    assert sorted(file.name for file in shards.iterdir()) == [".metadata", "__0_0.distcp", "__1_0.distcp"]
    assert all(value.is_meta for _, value in named_tensors(parts_of(read_state(folder / "state.pth"))))


def test_a_save_that_fails_in_one_process_ends_all_and_leaves_the_former_state(found):
    for rank in found:
        (refused, no_room, not_finite), same = rank["saves"]
        assert same
        assert refused == "UserError: Full."
        assert "cannot be written: No space left on device" in no_room
        assert not_finite.startswith("DivergenceError: decoder.")
        assert not_finite.endswith("state.pth was not replaced.")


def test_all_processes_notice_an_overflow_in_one(found):
    (before, *first), second = found[0]["overflow"], found[1]["overflow"]
    assert second == (before, *first)
    assert first == [float("inf"), before / 2]


def test_a_copy_is_whole_and_not_sharded(found):
    assert [rank["copy"] for rank in found] == [(True, True, True)] * 2


def test_a_network_that_uses_weights_of_a_part_without_calling_it_is_refused(found):
    for rank in found:
        assert rank["uncalled"].startswith(
            "UserError: TRAIN.parallel is fsdp, but this network uses weights of a block without calling the "
        )
        assert rank["uncalled"].endswith(" Set it to ddp.")


def test_machines_without_a_shared_folder_are_refused(found, runs):
    for rank in found:
        assert rank["disks"].startswith(f"UserError: TRAIN.parallel is fsdp, but DIR {runs} is not the same")


# Without a training


def test_units_are_large_elements_of_lists_and_the_module_itself():
    block = torch.nn.Sequential(torch.nn.Linear(1000, 1000), torch.nn.ReLU())
    net = torch.nn.ModuleDict(
        {"blocks": torch.nn.ModuleList([block, torch.nn.Linear(5, 5)]), "head": torch.nn.Linear(1000, 1001)}
    )
    assert sharding._units(net) == [net["head"], block[0], net]


def test_a_parameter_without_dimensions_is_refused():
    net = torch.nn.Module()
    net.scale = torch.nn.Parameter(torch.ones(()))
    with pytest.raises(UserError, match=r"^TRAIN\.parallel is fsdp, which cannot divide scale: "):
        shard(net, None)


@pytest.fixture
def stopped(found, runs, tmp_path):
    """A copy of a sharded state: the file, and the folder of its tensors."""
    folder = shutil.copytree(runs / "stopped", tmp_path / "copy")
    return folder / "state.pth", folder / read_state(folder / "state.pth")["shards"]


def test_a_state_without_its_folder_is_refused(stopped):
    file, shards = stopped
    shutil.rmtree(shards)
    with pytest.raises(UserError, match=rf"the folder {shards.name} beside it, .* Copy that, too"):
        read_state(file)


def test_a_truncated_share_is_refused(stopped):
    file, shards = stopped
    with (shards / "__1_0.distcp").open("r+b") as share:
        share.truncate(1000)
    with pytest.raises(UserError, match=r"is damaged or incomplete: "):
        read_whole_state(file)


def test_an_index_runs_no_code(stopped):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(file.parent / "harm"),)

    file, shards = stopped
    (shards / ".metadata").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(UserError, match=r"its index names posix\.mkdir, which could run code"):
        read_whole_state(file)
    assert not (file.parent / "harm").exists()
