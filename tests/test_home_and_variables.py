"""`~` and variables in every place where a user writes a path."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.config import load_config
from mit_semseg.config.allowed import Paths
from mit_semseg.config.keys import KEYS
from mit_semseg.errors import UserError

PATHS = [key for key in KEYS if key.is_path]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PLACE", str(folder))
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


# Keys


def test_every_key_that_speaks_of_a_file_or_a_folder_is_marked_as_a_path():
    speaks = [
        key.name for key in KEYS if re.search(r"\b(file|folder|checkpoint|CSV|paths)\b", str(key.allowed))
    ]
    names = ("VAL.checkpoint", "TEST.checkpoint")  # ends of names
    assert [key.name for key in PATHS] == [name for name in speaks if name not in names]


@pytest.mark.parametrize("key", PATHS, ids=lambda key: key.name)
def test_a_path_is_expanded_in_yaml_and_on_the_command_line(key, home, tmp_path):
    (tmp_path / "c.yaml").write_text(
        json.dumps({key.section: {key.leaf: "~/a"}} if key.section else {key.name: "~/a"})
    )
    tree = load_config(str(tmp_path / "c.yaml"))
    other = load_config(None, [key.name, "${PLACE}/a"])
    wanted = (f"{home}/a",) if isinstance(key.allowed, Paths) else f"{home}/a"
    for each in tree, other:
        assert (each[key.section] if key.section else each)[key.leaf] == wanted
    with pytest.raises(UserError) as error:
        load_config(None, [key.name, "$NOT_SET/a"])
    assert str(error.value).startswith(
        f"{key.name} is '$NOT_SET/a', but the environment variable NOT_SET is not set. Set it, or"
    )


def test_a_list_of_paths_is_expanded_too(home):
    tree = load_config(None, ["TRAIN.teachers", "~/a, $PLACE/b, c"])
    assert tree.TRAIN.teachers == (f"{home}/a", f"{home}/b", "c")


def test_other_keys_are_not_expanded():
    assert load_config(None, ["TRAIN.loss", "$NOT_SET"]).TRAIN.loss == "$NOT_SET"


# Commands


def test_a_run_in_the_home_folder_is_trained_evaluated_and_loaded(call, tiny, home, tmp_path):
    (home / "tiny.yaml").write_text(
        tiny.config.read_text().replace(str(tiny.folder / "run"), "~/run").replace(str(tiny.folder), "$TINY")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY", str(tiny.folder))
        words = ["--gpus", "cpu", "--cfg", "~/tiny.yaml", "TRAIN.num_epoch", "1", "TRAIN.epoch_iters", "1"]
        done = call("train", *words)
        assert done.code == 0, done.err
        assert f"Saved {home / 'run' / 'encoder_epoch_1.pth'}" in done.out
        done = call("eval", *words, "VAL.result", "$PLACE/scores")
        assert done.code == 0, done.err
        assert (home / "scores" / "metrics.json").is_file()
        (home / "photos").mkdir()
        Image.new("RGB", (40, 30)).save(home / "photos" / "a b.jpg")
        done = call(
            *("test", "--gpu", "cpu", "--imgs", "~/photos/*.jpg", "$PLACE/photos", "--cfg", "~/tiny.yaml"),
            *("TEST.result", "~/out"),
        )
        assert done.code == 0, done.err
        assert [file.name for file in (home / "out").glob("*.png")] == ["a b.png"]
        segmenter = Segmenter.load("~/run", device="cpu", classes="$TINY/classes.csv")
        assert segmenter(np.zeros((30, 40, 3), np.uint8)).names == ("brick", "lawn", "pool")
    assert list(Path().iterdir()) == []  # no folder is called ~


def test_inputs_and_arguments_that_cannot_be_expanded_are_refused(call, tiny):
    for words, name in (
        (["test", "--imgs", "$NOT_SET/*.jpg", "--cfg", tiny.config], "--imgs"),
        (["train", "--cfg", "$NOT_SET/c.yaml"], "The config"),
        (["data", "check", "$NOT_SET/a.odgt"], "LIST"),
        (["data", "check", "a.odgt", "--root", "$NOT_SET"], "--root"),
        (["data", "prepare", "folders", "$NOT_SET", "out"], "SOURCE"),
        (["data", "prepare", "folders", ".", "$NOT_SET"], "OUT"),
    ):
        done = call(*words)
        assert done.code == 2
        assert re.match(
            rf"{name} is '\$NOT_SET.*', but the environment variable NOT_SET is not set\.", done.err
        )
    with pytest.raises(UserError, match=r"^source is '\$NOT_SET', but the environment variable"):
        Segmenter.load("$NOT_SET")


def test_datasets_in_the_home_folder_are_prepared_and_checked(call, tiny, home):
    for source, name in ("jpg", "images"), ("png", "labels"):
        (home / "raw" / name).mkdir(parents=True)
        for file in (tiny.folder / "training").glob(f"*.{source}"):
            (home / "raw" / name / file.name).write_bytes(file.read_bytes())
    done = call("data", "prepare", "folders", "~/raw", "$PLACE/out", "--workers", "0")
    assert done.code == 0, done.err
    done = call(
        "data", "check", "~/out/training.odgt", "--root", "~/out", "--workers", "0", "--json", "~/r.json"
    )
    assert done.code == 0, done.out + done.err
    assert (home / "r.json").is_file()
