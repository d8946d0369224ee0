"""Training, evaluation and prediction from shards give what they give from files."""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def sharded(tiny, tmp_path_factory):
    """The folder of the lists of the tiny dataset in shards."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("sharded")
    for name in ("training", "validation"):
        assert (
            main(
                ["data", "shards", "--cfg", str(tiny.config), str(tiny.folder / f"{name}.odgt"), str(folder)]
            )
            == 0
        )
    return folder


def keys(sharded, **more):
    lists = {
        f"DATASET__list_{part}": sharded / f"{name}.odgt"
        for part, name in (("train", "training"), ("val", "validation"))
    }
    return {"DATASET__root_dataset": sharded, **lists, **more}


def test_a_training_from_shards_ends_with_the_same_weights(tiny, trained, sharded, call, tmp_path):
    words = tiny.overrides(**keys(sharded, DIR=tmp_path / "run"))
    assert call("train", "--gpus", "cpu", "--cfg", tiny.config, *words).code == 0
    for part in ("encoder", "decoder"):
        expected, found = (
            torch.load(folder / f"{part}_epoch_2.pth", weights_only=True)
            for folder in (trained, tmp_path / "run")
        )
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_evaluation_from_shards_has_the_same_scores(tiny, trained, sharded, call, tmp_path):
    matrices = []
    for name, more in (("files", {}), ("shards", keys(sharded))):
        words = tiny.overrides(DIR=trained, VAL__result=tmp_path / name, **more)
        done = call("eval", "--gpus", "cpu", "--cfg", tiny.config, *words)
        assert (done.code, done.err) == (0, "")
        matrices.append((tmp_path / name / "confusion.npy").read_bytes())
    assert matrices[0] == matrices[1]


def test_images_in_shards_are_segmented_like_files(tiny, sharded, segment, monkeypatch, tmp_path):
    record = json.loads((sharded / "validation.odgt").read_text().splitlines()[0])
    name = sharded / record["fpath_img"]
    original = tiny.folder / tiny.records("validation")[0]["fpath_img"]
    for image, out in ((original, "files"), (name, "shards")):
        monkeypatch.setattr("sys.stdin", _Input(f"{image}\n"))
        done = segment("-", out=tmp_path / out, TEST__output="labels")
        assert done.code == 0, done.err
    assert _labels(tmp_path / "files") == _labels(tmp_path / "shards")


def _labels(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*_labels.png")}


class _Input:
    """Standard input with a text."""

    def __init__(self, text):
        from io import BytesIO

        self.buffer = BytesIO(text.encode())
