"""What the fingerprints of evaluations and predictions depend on."""

import hashlib

import pytest
import torch

from mit_semseg.config import load_config
from mit_semseg.inference.checkpoints import trained_weights
from mit_semseg.inference.fingerprint import difference, evaluation_fingerprint, prediction_fingerprint
from mit_semseg.inference.load import class_table
from mit_semseg.runtime.files import sha256_of


@pytest.fixture
def of(tiny, trained):
    def compute(device="cpu", **keys):
        cfg = load_config(str(tiny.config), tiny.overrides(DIR=trained, **keys))
        return evaluation_fingerprint(
            cfg, trained_weights(cfg, "VAL"), class_table(cfg), torch.device(device)
        )

    return compute


def test_the_sha256_of_a_file(tmp_path):
    content = bytes(range(256)) * 5000  # more than is read at once
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("keys", "change"),
    [
        ({"VAL__checkpoint": "epoch_2.pth", "TEST__checkpoint": "epoch_2.pth"}, ""),
        ({"TEST__result": "elsewhere", "TEST__output": "labels", "VAL__batch_size": 4}, ""),
        ({"DATASET__list_val": "gone", "DATASET__label_offset": 0, "DATASET__root_dataset": "gone"}, ""),
        ({"TEST__legend": True}, "TEST.legend was False and is now True"),
        ({"DATASET__padding_constant": 16}, "DATASET.padding_constant was 8 and is now 16"),
        ({"TEST__checkpoint": "epoch_1.pth"}, "the encoder's checkpoint has changed"),
        ({"device": "cuda"}, "the kind of device was cpu and is now cuda"),
    ],
)
def test_a_prediction_depends_on_its_own_keys(tiny, trained, keys, change):
    def compute(device="cpu", **keys):
        cfg = load_config(str(tiny.config), tiny.overrides(DIR=trained, **keys))
        table, weights = class_table(cfg), trained_weights(cfg, "TEST")
        return prediction_fingerprint(cfg, weights, table, torch.device(device))

    assert difference(compute(), compute(**keys)) == change


def test_a_key_that_an_earlier_release_called_otherwise_is_the_same(of):
    before = of()
    before["VAL.flip"] = before.pop("INFERENCE.flip")
    assert difference(before, of()) == ""
    assert difference(before, of(INFERENCE__flip=True)) == "INFERENCE.flip was False and is now True"


@pytest.mark.parametrize(
    "keys",
    [
        {"TRAIN__seed": 5, "TRAIN__loss": "focal"},
        {"DATASET__augment": "photometric", "DATASET__list_train": "other.odgt"},
        {"VAL__result": "elsewhere", "VAL__resume": True, "TEST__legend": True},
        {"VAL__checkpoint": "epoch_2.pth"},  # the newest, by its name
    ],
)
def test_keys_that_results_do_not_depend_on_do_not_count(of, keys):
    assert of(**keys) == of()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("INFERENCE.flip", {"INFERENCE__flip": True}),
        ("VAL.batch_size", {"VAL__batch_size": 2}),
        ("MODEL.output_stride", {"MODEL__output_stride": 16}),
        ("DATASET.imgMaxSize", {"DATASET__imgMaxSize": 48}),
        ("the kind of device", {"device": "cuda"}),
        ("the encoder's checkpoint", {"VAL__checkpoint": "epoch_1.pth"}),
    ],
)
def test_what_results_depend_on_counts_under_its_name(of, name, keys):
    before, after = of(), of(**keys)
    assert name in [key for key in before if before[key] != after[key]]


def test_a_key_of_the_config_counts_unless_it_is_known_to_have_no_effect(of, tiny, trained):
    cfg = load_config(str(tiny.config), tiny.overrides(DIR=trained))
    cfg.defrost()
    cfg.INFERENCE.new_key = 1
    found = evaluation_fingerprint(cfg, trained_weights(cfg, "VAL"), class_table(cfg), torch.device("cpu"))
    assert found == of() | {"INFERENCE.new_key": 1}
