"""Which devices a text names, and how processes agree, fail and share what one of them has."""

import pytest
import torch
from forked import in_processes

from mit_semseg.errors import UserError
from mit_semseg.runtime import distributed
from mit_semseg.runtime.distributed import (
    broadcast_bytes,
    broadcast_module,
    failing_together,
    find_devices,
    gather_from_processes,
    parse_devices,
    require_equal,
    sum_over_processes,
)


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("0", ["gpu0"]),
        ("0-3", ["gpu0", "gpu1", "gpu2", "gpu3"]),
        ("0,2", ["gpu0", "gpu2"]),
        ("2,0", ["gpu2", "gpu0"]),
        ("gpu1", ["gpu1"]),
        ("gpu1,3", ["gpu1", "gpu3"]),
        ("gpu0-gpu2", ["gpu0", "gpu1", "gpu2"]),
        ("0-gpu1", ["gpu0", "gpu1"]),
        ("GPU0 , 2", ["gpu0", "gpu2"]),
        ("3-1", ["gpu1", "gpu2", "gpu3"]),
        ("0,0-1", ["gpu0", "gpu1"]),
        ("0-1,4-5", ["gpu0", "gpu1", "gpu4", "gpu5"]),
        ("10-11", ["gpu10", "gpu11"]),
        ("cpu", ["cpu"]),
        ("CPU,cpu", ["cpu"]),
    ],
)
def test_a_text_names_devices_each_once(text, devices):
    assert parse_devices(text) == devices


@pytest.mark.parametrize("text", ["", ",", "0,", "gpu", "-1", "0-", "1.5", "all", "cuda:0", "0--1", "0-1-2"])
def test_another_text_is_refused_and_shown(text):
    with pytest.raises(
        UserError, match=f"^'{text}' names no devices. Write GPU numbers such as 0-3, 0,2 or "
    ):
        parse_devices(text)


def test_a_range_that_no_machine_has_is_refused_at_once():
    with pytest.raises(UserError, match="names no devices"):
        parse_devices("0-99999999999")


def test_the_cpu_does_not_mix_with_gpus():
    with pytest.raises(UserError, match=r"^'cpu,0' mixes the CPU with GPUs\. Use one or the other\.$"):
        parse_devices("cpu,0")


@pytest.mark.parametrize(
    ("present", "there"), [(0, "has no GPU"), (1, "has only gpu0"), (4, "has only gpu0 to gpu3")]
)
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(monkeypatch, present, there):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    with pytest.raises(UserError) as caught:
        find_devices("0-5")
    missing = ", ".join(f"gpu{i}" for i in range(present, 6))
    assert str(caught.value) == (
        f"'0-5' names {missing}, but this machine {there}. "
        "Omit the option to use all devices of the machine, or pass cpu."
    )


def test_without_a_text_it_is_all_gpus_or_else_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_devices(None) == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert find_devices("1") == [torch.device("cuda", 1)]
    assert find_devices("cpu") == [torch.device("cpu")]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_devices(None) == find_devices("cpu") == [torch.device("cpu")]


def test_the_sum_over_one_process_is_the_value():
    values = torch.arange(3)
    assert sum_over_processes(values) is values
    assert values.tolist() == [0, 1, 2]


def outcome_of(process, errors):
    """What each process raises after a block in which it met its own of ``errors``."""
    try:
        with failing_together():
            if errors[process.rank] is not None:
                raise errors[process.rank]
    except Exception as error:
        return gather_from_processes((type(error).__name__, str(error)))
    return gather_from_processes(None)


def outcomes_of_all(process):
    return [
        outcome_of(process, errors)
        for errors in (
            (None, None),
            (UserError("a.yaml is damaged."), None),
            (None, KeyError("x")),
            (UserError("one"), UserError("two")),
        )
    ]


@pytest.fixture(scope="module")
def of_two():
    """What two processes find together; one pair of processes for all."""
    return in_processes(2, all_of_it)


def all_of_it(process):
    return outcomes_of_all(process), refusal_of_different_values(process), broadcasts(process)


def test_an_error_in_one_process_ends_the_block_in_all(of_two):
    assert of_two[0] == [
        [None, None],
        [("UserError", "a.yaml is damaged.")] * 2,
        [("ProcessError", "Process 1 failed: KeyError: 'x'"), ("KeyError", "'x'")],
        [("UserError", "one\ntwo")] * 2,
    ]


def refusal_of_different_values(process):
    try:
        require_equal({"a": 1, "b": process.rank, "c": "x" * 64 * process.rank}, "do the same")
    except UserError as error:
        return gather_from_processes(str(error))
    return gather_from_processes("")


def test_processes_with_different_values_are_refused_in_all_of_them(of_two):
    first, second = of_two[1]
    assert first == second
    assert "b is 1 there, 0 in process 0; c differs. Start all machines" in first


def test_bytes_and_weights_of_the_first_process_reach_all(of_two):
    assert of_two[2] == [(True, 0.0)] * 2


def broadcasts(process):
    distributed._BROADCAST_BYTES = 1000  # several parts
    data = bytes(range(256)) * 9
    module = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(module.weight, process.rank)
    broadcast_module(module, process.device)
    received = broadcast_bytes(data if process.is_first else b"")
    return gather_from_processes(
        (received == data and broadcast_bytes(b"") == b"", module.weight.sum().item())
    )
