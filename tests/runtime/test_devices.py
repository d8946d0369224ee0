"""Which devices a text names."""

import pytest
import torch

from mit_semseg.errors import UserError
from mit_semseg.runtime.devices import find_devices, parse_devices


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
