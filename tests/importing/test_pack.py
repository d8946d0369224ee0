"""``mit-semseg pack``, the commands that take its files, and ``mit-semseg import`` as the way back."""

import json
import pickle
import shutil
import struct

import numpy as np
import pytest
import torch
import yaml
from forked import run_python

from mit_semseg import Segmenter
from mit_semseg.models.weights import packed

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def run(trained, tiny, tmp_path_factory):
    """A run whose weights have been evaluated, with half-precision weights among them."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("pack") / "run"
    shutil.copytree(trained, folder)
    file = folder / "decoder_epoch_2.pth"
    state = torch.load(file, weights_only=True)
    torch.save({name: value.half() if value.dim() == 4 else value for name, value in state.items()}, file)
    keys = ["DIR", str(folder), "TRAIN.workers", "0"]
    assert main(["eval", "--gpus", "cpu", "--cfg", str(tiny.config), *keys]) == 0
    return folder


@pytest.fixture(scope="module")
def file(run):
    from mit_semseg.cli import main

    out = run.parent / "model.safetensors"
    assert main(["pack", str(run), str(out)]) == 0
    return out


def same_weights(one, other):
    one, other = (torch.load(file, weights_only=True) for file in (one, other))
    assert list(one) == list(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert value.shape == other[name].shape
        assert torch.equal(value, other[name])


def test_a_packed_model_becomes_the_same_folder_again(run, file, tmp_path, call):
    done = call("import", file, "--out", tmp_path / "back")
    assert done.code == 0, done.err
    back = tmp_path / "back"
    for name in ("encoder_epoch_2.pth", "decoder_epoch_2.pth"):
        same_weights(run / name, back / name)
    ours, theirs = (torch.load(folder / "history_epoch_2.pth", weights_only=True) for folder in (run, back))
    assert ours == theirs
    ours, theirs = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (run, back))
    assert (theirs.pop("DIR"), theirs["DATASET"].pop("classes")) == (str(back), str(back / "classes.csv"))
    del ours["DIR"], ours["DATASET"]["classes"]
    assert ours == theirs
    ours, theirs = (json.loads((folder / "result/metrics.json").read_text()) for folder in (run, back))
    sums = [weights.pop("sha256") for weights in theirs["weights"]]
    assert sums == [packed_sum(back / f"{part}_epoch_2.pth") for part in ("encoder", "decoder")]
    del ours["weights"], theirs["weights"]
    assert ours == theirs
    # And once more: the second file has the same weights and scores.
    assert call("pack", back, tmp_path / "b.safetensors").code == 0
    one, other = packed.read_manifest(file), packed.read_manifest(tmp_path / "b.safetensors")
    assert (one.scores, one.names, one.colors) == (other.scores, other.names, other.colors)
    for part in packed.PARTS:
        first, second = packed.read_part(file, part), packed.read_part(tmp_path / "b.safetensors", part)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def packed_sum(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_carries_scores_classes_and_config(run, file):
    manifest = packed.read_manifest(file)
    metrics = json.loads((run / "result/metrics.json").read_text())
    assert manifest.scores["mean_iou"] == metrics["mean_iou"]
    assert manifest.names == ("brick", "lawn", "pool")
    assert manifest.colors[2] == (40, 80, 200)
    assert yaml.safe_load(manifest.config)["MODEL"]["arch_encoder"] == "mobilenetv2dilated"


def test_a_segmenter_and_the_commands_give_the_results_of_the_folder(run, file, tiny, tmp_path, call):
    photo = tiny.folder / "validation/0.jpg"
    ours, theirs = Segmenter.load(run, device="cpu"), Segmenter.load(file, device="cpu")
    np.testing.assert_array_equal(ours(photo).probabilities, theirs(photo).probabilities)
    assert theirs.names == ours.names
    np.testing.assert_array_equal(theirs.colors, ours.colors)
    keys = ["VAL.result", tmp_path / "eval", "TRAIN.workers", 0]
    done = call("eval", "--gpus", "cpu", "--cfg", file, *keys)
    assert done.code == 0, done.err
    matrices = [np.load(folder / "confusion.npy") for folder in (run / "result", tmp_path / "eval")]
    np.testing.assert_array_equal(*matrices)
    done = call("test", "--gpu", "cpu", "--cfg", file, "--imgs", photo, "TEST.result", tmp_path / "test")
    assert done.code == 0, done.err
    assert (tmp_path / "test/0.png").is_file()


def test_it_is_exported_with_its_scores(file, tmp_path, call):
    from mit_semseg.export import read_metadata

    done = call("export", "--cfg", file, "--out", tmp_path / "model.pt2")  # written in the least time
    assert done.code == 0, done.err
    metadata = read_metadata(tmp_path / "model.pt2")
    assert metadata.scores["mean_iou"] == packed.read_manifest(file).scores["mean_iou"]
    assert metadata.names == ("brick", "lawn", "pool")


def test_no_pickle_is_read(file, tiny, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle is read")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    segmenter = Segmenter.load(file, device="cpu")
    assert segmenter(tiny.folder / "validation/0.jpg").labels.ndim == 2


def test_a_training_starts_from_it(file, tiny, tmp_path, call):
    start = ["MODEL.weights_encoder", file, "MODEL.weights_decoder", file, "DIR", tmp_path / "tuned"]
    more = ["TRAIN.num_epoch", 1, "TRAIN.epoch_iters", 1, "MODEL.reset_classifier", True]
    done = call("train", "--gpus", "cpu", "--cfg", tiny.config, *start, *more)
    assert done.code == 0, done.err
    done = call("pack", tmp_path / "tuned", tmp_path / "tuned.safetensors")
    assert done.code == 0, done.err
    Segmenter.load(tmp_path / "tuned.safetensors", device="cpu")  # although its config resets the classifier
    done = call("train", "--gpus", "cpu", "--cfg", file)
    assert done.code == 2
    assert "unpack it first: mit-semseg import" in done.err


def test_the_checkpoint_can_be_chosen(run, tmp_path, call):
    done = call("pack", run, tmp_path / "a.safetensors", "--checkpoint", "epoch_1.pth")
    assert done.code == 0, done.err
    assert call("import", tmp_path / "a.safetensors", "--out", tmp_path / "back").code == 0
    same_weights(run / "encoder_epoch_1.pth", tmp_path / "back/encoder_epoch_1.pth")
    assert not (tmp_path / "back/result").exists()  # those scores are of other weights
    for part in ("encoder", "decoder"):
        shutil.copy(run / f"{part}_epoch_1.pth", run / f"{part}_mine.pth")
    assert call("pack", run, tmp_path / "b.safetensors", "--checkpoint", "mine.pth").code == 0
    assert call("import", tmp_path / "b.safetensors", "--out", tmp_path / "mine").code == 0
    Segmenter.load(tmp_path / "mine", device="cpu")  # its config names the checkpoint
    with pytest.raises(Exception, match="holds a single checkpoint"):
        Segmenter.load(tmp_path / "b.safetensors", device="cpu", checkpoint="epoch_1.pth")


def test_a_user_packs_a_folder(run, tmp_path):
    command = ("-m", "mit_semseg", "pack", run, tmp_path / "a.safetensors")
    done = run_python(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "3 classes, mean_iou" in done.out
    assert run_python(*command, cwd=tmp_path).code == 2
    assert run_python(*command, "--force", cwd=tmp_path).code == 0


# Bad input


def refusal(call, *words):
    done = call(*words)
    assert done.code == 2, done.out
    assert done.err.count("\n") == 1, done.err
    return done.err


@pytest.mark.parametrize("share", [0, 0.0001, 0.4, 0.99999])
def test_a_truncated_file_is_refused(share, file, tmp_path, call):
    whole = file.read_bytes()
    copy = tmp_path / "a.safetensors"
    copy.write_bytes(whole[: int(len(whole) * share)])
    for words in (("eval", "--cfg", copy), ("import", copy, "--out", tmp_path / "out")):
        assert f"{copy} cannot be read" in refusal(call, *words)
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_changed_byte_is_noticed(file, tmp_path, call, tiny):
    whole = bytearray(file.read_bytes())
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    with safetensors.safe_open(file, "pt") as opened:
        names = list(opened.keys())
    offsets = json.loads(whole[8:start])
    copy = tmp_path / "a.safetensors"
    for part in packed.PARTS:
        name = next(name for name in names if name.startswith(part) and len(offsets[name]["shape"]) == 4)
        changed = whole.copy()
        changed[start + offsets[name]["data_offsets"][0]] ^= 1
        copy.write_bytes(changed)
        message = refusal(call, "import", copy, "--out", tmp_path / "out")
        assert f"the weights of the {part} do not match the checksum" in message
        done = call("test", "--gpu", "cpu", "--cfg", copy, "--imgs", tiny.folder / "validation/0.jpg")
        assert done.code == 2
        assert "checksum" in done.err
    changed = whole.copy()
    at = changed.index(b"brick")
    changed[at : at + 5] = b"trick"
    copy.write_bytes(changed)
    message = refusal(call, "import", copy, "--out", tmp_path / "out")
    assert "its config, classes or scores do not match the checksum" in message
    assert not (tmp_path / "out").exists()


def test_a_foreign_file_says_how_to_import_it(tmp_path, call):
    file = tmp_path / "a.safetensors"
    safetensors.save_file({"layer.weight": torch.ones(2)}, file, {"format": "pt"})
    message = refusal(call, "eval", "--cfg", file)
    assert f"{file} is not a file of mit-semseg pack" in message
    assert f"mit-semseg import {file} --out DIR" in message
    assert "none.safetensors does not exist" in refusal(call, "eval", "--cfg", tmp_path / "none.safetensors")
    safetensors.save_file({"layer.weight": torch.ones(2)}, file, {"mit_semseg": '{"model": 3}'})
    assert "description is damaged" in refusal(call, "eval", "--cfg", file)


def test_what_cannot_be_packed_is_refused(run, file, tmp_path, call):
    assert "must end with .safetensors" in refusal(call, "pack", run, tmp_path / "a.pth")
    assert "is one file already" in refusal(call, "pack", file, tmp_path / "a.safetensors")
    wrong = ["DATASET.num_class", 4]
    message = refusal(call, "eval", "--gpus", "cpu", "--cfg", file, *wrong)
    assert "has 3 classes, but DATASET.num_class is 4" in message
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    torch.save({"conv_last.weight": torch.ones(3, 80, 1, 1)}, folder / "decoder_epoch_2.pth")
    done = call("pack", folder, tmp_path / "a.safetensors")
    assert done.code == 2
    assert "does not fit decoder 'c1'" in done.err
    assert not (tmp_path / "a.safetensors").exists()
