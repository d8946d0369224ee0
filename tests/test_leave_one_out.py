"""benchmarks/leave_one_out.py: each group is scored by a model that was not trained on it."""

import json
import re
import sys

import pytest
import yaml
from commands import ROOT


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import leave_one_out

    yield leave_one_out
    del sys.modules["leave_one_out"]


def test_each_group_is_scored_by_a_model_that_has_not_seen_it(tiny, tmp_path, program, capsys):
    out = tmp_path / "folds"
    words = [
        *("--list", tiny.folder / "training.odgt", "--known", tiny.folder / "validation.odgt"),
        *("--by", "[0-2](?=[.]jpg)|[3-5](?=[.]jpg)", "--folds", "2", "--out", out, "--cfg", tiny.config),
        *("TRAIN.num_epoch", "1", "TRAIN.epoch_iters", "1"),
    ]
    program.main([str(word) for word in words])
    printed = capsys.readouterr().out
    scores = yaml.safe_load((out / "scores.yaml").read_text())
    for fold in (out / "fold_1", out / "fold_2"):
        lists = [
            {json.loads(line)["fpath_img"] for line in (fold / f"{name}.odgt").read_text().splitlines()}
            for name in ("training", "validation")
        ]
        assert lists[0].isdisjoint(lists[1])
        metrics = json.loads((fold / "run" / "unknown" / "metrics.json").read_text())
        assert metrics["images"] == len(lists[1])
    assert {"mean, unknown", "mean, known"} < set(scores)
    assert re.search(r"^\| brick \|.*\n.*\n.*\n\| mean IoU \|", printed, re.M)
    log = (out / "fold_1" / "run" / "log.txt").read_text()
    program.main([str(word) for word in words])
    assert (out / "fold_1" / "run" / "log.txt").read_text() == log  # not trained again: it has scores


def test_the_mean_of_a_class_is_that_of_the_folds_where_it_occurs(program):
    text = program.table(
        {
            "a, unknown": {"sky": 80.0, "road": 60.0, "mean IoU": 70.0},
            "b, unknown": {"sky": 90.0, "mean IoU": 90.0},
        }
    )
    assert text.splitlines() == [
        "| class | a, unknown | b, unknown | mean, unknown |",
        "|---|---|---|---|",
        "| sky | 80.0 | 90.0 | 85.0 |",
        "| road | 60.0 |  | 60.0 |",
        "| mean IoU | 70.0 | 90.0 | 80.0 |",
    ]
