"""How processes agree, fail and share what one of them has."""

import pytest
import torch
from forked import in_processes

from mit_semseg.errors import UserError
from mit_semseg.runtime import distributed
from mit_semseg.runtime.distributed import (
    broadcast_bytes,
    broadcast_module,
    failing_together,
    gather_from_processes,
    require_equal,
    sum_over_processes,
)


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
