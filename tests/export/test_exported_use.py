"""Exported files in place of checkpoints: the same results, from the same commands."""

import pickle
import sys

import numpy as np
import pytest
import torch
from forked import run_python
from PIL import Image
from video_files import make_video, read_video

from mit_semseg import Segmenter
from mit_semseg.data.images import normalize
from mit_semseg.errors import UserError
from mit_semseg.inference import ExportedNetwork

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_a_segmenter_has_the_same_labels_as_with_the_checkpoint(each_format, model, tiny):
    photo = tiny.folder / "validation" / "0.jpg"
    classes = set()
    for how in ({"sizes": 72}, {"sizes": 72, "tile": 32, "flip": True}):
        ours, theirs = Segmenter.load(model, device="cpu", **how), Segmenter.load(each_format, **how)
        wanted, found = ours(photo), theirs(photo)
        classes.update(wanted.labels.flat)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-4)
    assert len(classes) > 1
    assert theirs.names == ours.names
    np.testing.assert_array_equal(theirs.colors, ours.colors)


def test_a_segmenter_of_an_exported_model_can_be_sent_to_another_process(exported, tiny):
    photo = tiny.folder / "validation" / "0.jpg"
    segmenter = Segmenter.load(exported)
    copy = pickle.loads(pickle.dumps(segmenter))
    np.testing.assert_array_equal(copy(photo).labels, segmenter(photo).labels)


def test_normalized_images_give_the_scores_of_their_pixels(exported):
    net = ExportedNetwork(exported)
    image = torch.randint(0, 256, (2, 3, 40, 48), dtype=torch.uint8)
    assert torch.equal(net(normalize(image)), net(image))


@pytest.fixture(scope="session")
def results(tiny, tmp_path_factory):
    """``results(call, *words)``: the confusion matrix and the labels of a photo that the commands give."""

    def run(call, *words):
        folder = tmp_path_factory.mktemp("results")
        outcome = call("eval", "--gpus", "cpu", *words, "VAL.result", folder, "TRAIN.workers", 0)
        assert outcome.code == 0, outcome.err
        photo = tiny.folder / "validation" / "1.jpg"
        keys = ("TEST.result", folder, "TEST.output", "labels", "TRAIN.workers", 0)
        outcome = call("test", "--gpu", "cpu", "--imgs", photo, *words, *keys)
        assert outcome.code == 0, outcome.err
        labels = np.asarray(Image.open(next(folder.glob("*_labels.png"))))
        return np.load(folder / "confusion.npy").tolist(), labels.tolist()

    return run


def test_an_evaluation_and_a_prediction_give_the_results_of_the_checkpoint(each_format, results, call, model):
    assert results(call, "--cfg", each_format) == results(call, "--cfg", model / "config.yaml")


def test_an_exported_model_is_used_with_another_config(exported, results, call, tiny):
    assert results(call, "--cfg", tiny.config, "MODEL.exported", exported) == results(call, "--cfg", exported)


def test_another_checkpoint_than_that_in_the_file_is_refused(exported, call, tmp_path):
    with pytest.raises(UserError, match="holds a single checkpoint"):
        Segmenter.load(exported, checkpoint="epoch_1.pth")
    outcome = call("eval", "--gpus", "cpu", "--cfg", exported, "VAL.checkpoint", "best.pth")
    assert outcome.code == 2
    assert f"VAL.checkpoint is best.pth, but {exported} holds a single checkpoint." in outcome.err


def test_several_processes_share_an_exported_model(exported, model, script, tmp_path):
    files = []
    for name, words in (
        ("one", ["--cfg", model / "config.yaml"]),
        ("two", ["--cfg", exported, "--procs", 2]),
    ):
        keys = ("VAL.result", tmp_path / name, "TRAIN.workers", 0)
        outcome = script("eval_multipro.py", "--gpus", "cpu", *words, *keys)
        assert outcome.code == 0, outcome.err
        files.append(np.load(tmp_path / name / "confusion.npy").tolist())
    assert files[0] == files[1]


def test_the_frames_of_a_video_have_the_pixels_of_the_checkpoint(exported, model, call, tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=3)
    for name, config in (("ours", model / "config.yaml"), ("theirs", exported)):
        keys = ("TEST.result", tmp_path / name)
        assert call("test", "--gpu", "cpu", "--imgs", source, "--cfg", config, *keys).code == 0
    ours, theirs = (read_video(tmp_path / name / "a.mp4")[0] for name in ("ours", "theirs"))
    np.testing.assert_array_equal(ours, theirs)


def test_a_prediction_is_resumed_with_the_same_file_only(exported, model, tiny, call, tmp_path, monkeypatch):
    photos = tiny.folder / "validation" / "*.jpg"

    def run(config):
        keys = ("TEST.result", tmp_path / "out", "TEST.output", "labels", "TRAIN.workers", 0)
        outcome = call("test", "--imgs", photos, "--resume", "--gpu", "cpu", "--cfg", config, *keys)
        assert outcome.code == 0, outcome.err
        return outcome.out

    run(exported)
    assert "Skipped 3 of 3" in run(exported)
    monkeypatch.setattr("mit_semseg.inference.fingerprint.runtime_of", lambda _: "onnxruntime 0")
    assert "and is now onnxruntime 0" in run(exported)
    monkeypatch.undo()
    assert "Skipped 0 of 3" in run(exported)
    assert "Skipped 0 of 3" in run(model / "config.yaml")


# What is refused


def test_a_file_of_another_program_is_refused(call, tmp_path, tiny):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [out])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])
    onnx.save(model, str(tmp_path / "other.onnx"))
    for name in ("broken.onnx", "broken.pt2", "broken.xml", "broken.bin"):
        (tmp_path / name).write_bytes(b"no model")
    (tmp_path / "alone.xml").write_bytes(b"")
    photo = tiny.folder / "validation" / "0.jpg"
    for name, message in (
        ("other.onnx", "is not a model that this project has exported"),
        ("broken.onnx", "broken.onnx cannot be opened"),
        ("broken.pt2", "broken.pt2 cannot be opened"),
        ("broken.xml", "broken.xml cannot be opened"),
        ("alone.xml", "alone.bin does not exist"),
        ("missing.onnx", "missing.onnx does not exist"),
    ):
        outcome = call("test", "--imgs", photo, "--cfg", tmp_path / name)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
        assert message in outcome.err


@pytest.mark.parametrize("command", [["eval"], ["test", "--imgs", "{photo}"]])
def test_another_number_of_classes_is_refused(call, exported, tiny, command):
    words = [word.format(photo=tiny.folder / "validation" / "0.jpg") for word in command]
    outcome = call(*words, "--cfg", exported, "DATASET.num_class", 4)
    assert outcome.code == 2
    assert "has 3 classes, but DATASET.num_class is 4" in outcome.err


@pytest.mark.parametrize(("extension", "package"), [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch, extension, package):
    for name in (f"model{extension}", "model.bin"):
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"the package {package}\. Run: pip install {package}"):
        Segmenter.load(tmp_path / f"model{extension}")


def test_an_exported_model_is_neither_trained_nor_exported_nor_run_on_a_gpu(call, exported, tmp_path, tiny):
    outcome = call("train", "--gpus", "cpu", "--cfg", exported)
    assert (outcome.code, "cannot be trained" in outcome.err) == (2, True)
    outcome = call("export", "--cfg", exported, "--out", tmp_path / "m.onnx")
    assert (outcome.code, "is an exported model" in outcome.err) == (2, True)
    outcome = call("eval", "--gpus", "0", "--cfg", exported)
    assert (outcome.code, "runs on the CPU" in outcome.err) == (2, True)


SIGNAL_AFTER_MODELS = """
import gc, signal, sys
import numpy as np
from mit_semseg.export import open_exported
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
models = [open_exported(sys.argv[1]) for _ in range(3)]
for model in models:
    model.run(["logits"], np.zeros((1, 3, 32, 32), np.uint8))
while models:
    del models[0], model
    gc.collect()
    model = models and models[0]
    signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_after_several_models_are_gone(each_format):
    outcome = run_python("-c", SIGNAL_AFTER_MODELS, each_format)
    assert (outcome.code, outcome.out) == (0, "handled\n" * 3), outcome.err
