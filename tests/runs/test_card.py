"""`mit-semseg card` and `push`: the card says what was measured, and the hub gets what loads."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from fake_hub import hub
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.runs.card import card
from mit_semseg.runs.object_sizes import object_sizes
from mit_semseg.runs.trained import find_trained


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of a trained run without its evaluations."""
    return shutil.copytree(
        trained, tmp_path / "model", ignore=shutil.ignore_patterns("result*", "tensorboard")
    )


@pytest.fixture
def evaluated(folder, call, tiny):
    keys = tiny.overrides(DIR=folder, VAL__visualize=True, VAL__calibration=True)
    assert call("eval", "--gpus", "cpu", "--cfg", tiny.config, *keys).code == 0
    return folder


def parts(text):
    """The front matter as a dict, and the rest."""
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_card_has_front_matter_scores_and_measured_limits(evaluated, call):
    words = ["--license", "cc-by-4.0", "--dataset", "me/blots", "--name", "Blots | <b>"]
    outcome = call("card", evaluated, *words)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"Card: {evaluated / 'README.md'}\n", "")
    front, body = parts((evaluated / "README.md").read_text())
    metrics = json.loads((evaluated / "result" / "metrics.json").read_text())
    assert front["license"] == "cc-by-4.0"
    assert (front["library_name"], front["pipeline_tag"]) == ("mit-semseg", "image-segmentation")
    assert front["tags"] == ["semantic-segmentation", "pytorch", "mobilenetv2dilated", "c1"]
    assert front["datasets"] == ["me/blots"]
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"] == {"name": "data", "type": "me/blots"}
    assert result["metrics"][0]["value"] == round(metrics["mean_iou"], 4)
    for entry in metrics["classes"]:
        assert f"| {entry['name']} | {entry['iou']:.4f} | {entry['accuracy']:.4f} |" in body
    assert f"Expected calibration error {metrics['calibration_error']:.4f}." in body
    assert "| 8 to 16 | 6 |" in body  # the rectangles of the labels
    assert "**Size of images.** Not measured" in body
    assert "| training (`training.odgt`) | 6 |" in body
    assert str(evaluated.parent) not in body
    assert 'checkpoint="epoch_2.pth"' in body


def test_what_hubs_check_accepts_the_front_matter(evaluated, call):
    hub_library = pytest.importorskip("huggingface_hub")
    assert call("card", evaluated).code == 0
    loaded = hub_library.ModelCard.load(evaluated / "README.md")
    assert loaded.data.eval_results[0].metric_type == "mean_iou"
    assert loaded.data.license is None


def test_evaluations_at_several_sizes_are_a_table(evaluated, call, tiny):
    keys = tiny.overrides(DIR=evaluated, DATASET__imgSizes="(64,)", VAL__result=evaluated / "at_64")
    assert call("eval", "--gpus", "cpu", "--cfg", tiny.config, *keys).code == 0
    assert call("card", evaluated).code == 0
    body = (evaluated / "README.md").read_text()
    assert "| 32, 40 | no | 3 | " in body
    assert "| 64 | no | 3 | " in body


def test_without_an_evaluation_of_these_weights_nothing_is_claimed(folder, call):
    (folder / "result").mkdir()
    other = {"weights": [{"sha256": "0"}], "classes": [], "config": {}, "images": 1, "mean_iou": 0.9}
    (folder / "result" / "metrics.json").write_text(json.dumps(other))
    outcome = call("card", folder)
    assert "has no evaluation of epoch_2.pth, so the card has no scores" in outcome.err
    front, body = parts((folder / "README.md").read_text())
    assert "model-index" not in front
    assert "license" not in front
    assert "Not evaluated. 1 evaluation(s) in the folder are of other weights." in body
    assert "0.9" not in body
    assert "Not stated." in body


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weights": [1], "classes": [], "config": {}, "images": 1}']
)
def test_a_damaged_evaluation_counts_as_none(folder, content):
    (folder / "result").mkdir()
    (folder / "result" / "metrics.json").write_text(content)
    assert "Not evaluated" in card(find_trained(folder), "x", "", ())


def test_objects_are_the_connected_regions_of_the_truth_by_size(tmp_path):
    truth, prediction = np.zeros((2, 64, 64, 3), np.uint8)
    truth[0:2, 0:2] = truth[10:12, 10:12] = truth[20:52, 0:32] = (200, 0, 0)
    truth[2, 2] = (200, 0, 0)  # touches the first one at a corner
    prediction[10:12, 10:12] = prediction[20:52, 0:24] = (200, 0, 0)
    prediction[0, 0] = (200, 0, 0)  # 1 of 5 pixels
    Image.fromarray(np.concatenate([truth, truth, prediction], axis=1)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    small, large = object_sizes([tmp_path / "a.png", tmp_path / "b.png"])
    assert (small.low, small.objects, small.found, small.recall) == (0, 2, 0.5, pytest.approx(0.6))
    assert (large.low, large.objects, large.found, large.recall) == (32, 1, 1.0, 0.75)
    assert object_sizes([]) == []


def test_the_best_checkpoint_is_chosen_unless_another_one_is_named(folder):
    assert find_trained(folder).checkpoint == "epoch_2.pth"
    for part in ("encoder", "decoder"):
        shutil.copy(folder / f"{part}_epoch_1.pth", folder / f"{part}_best.pth")
    assert find_trained(folder).checkpoint == "best.pth"
    assert find_trained(folder, "epoch_1.pth").weights[0].name == "encoder_epoch_1.pth"


def test_bad_input_is_one_message_and_writes_nothing(folder, tmp_path, call):
    (folder / "README.md").write_text("# Mine\n")
    (tmp_path / "empty").mkdir()
    cases = {
        (str(folder),): "was not written by mit-semseg card. Use --force",
        (str(tmp_path / "none"),): "is not a folder.",
        (str(tmp_path / "empty"),): "holds no checkpoint.",
        (str(folder), "--checkpoint", "epoch_9.pth"): "encoder_epoch_9.pth does not exist.",
        (str(folder), "--license", "Apache 2"): "--license is 'Apache 2', but hubs take",
        (str(folder), "--dataset", "a/b/c"): "--dataset is 'a/b/c', but hubs take",
    }
    for words, message in cases.items():
        outcome = call("card", *words)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), words
        assert message in outcome.err
    assert (folder / "README.md").read_text() == "# Mine\n"
    assert call("card", folder, "--force").code == 0
    assert call("card", folder).code == 0  # now it is one of its own


def test_push_uploads_what_loads_again(evaluated, call, monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with hub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        outcome = call("push", evaluated, "me/model", "--private")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"Uploaded 8 files: {server.address}/me/model\n"
    assert True in server.repo.values() or "private" in server.repo.values()
    assert server.tokens == {"Bearer hf_test"}
    assert server.files.keys() == {
        *("encoder_epoch_2.pth", "decoder_epoch_2.pth", "config.yaml", "classes.csv", "README.md"),
        *("curves.png", "metrics.json", "report.html"),
    }
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for name, content in server.files.items():
        (downloaded / name).write_bytes(content)
    segmenter = Segmenter.load(downloaded, checkpoint="epoch_2.pth", device="cpu")
    assert list(segmenter.names) == ["brick", "lawn", "pool"]
    assert segmenter(torch.zeros(3, 40, 40)).labels.shape == (40, 40)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Log in with a token that may write: hf auth login, or set HF_TOKEN."),
        (503, "Nothing was published."),
        (0, "Check the network, and HF_ENDPOINT"),
    ],
)
def test_a_hub_that_refuses_or_cannot_be_reached_is_one_message(folder, call, monkeypatch, status, message):
    pytest.importorskip("huggingface_hub")
    with hub() as server:
        server.refusal = status
        address = server.address if status else "http://127.0.0.1:9"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        outcome = call("push", folder, "me/model")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert message in outcome.err
    assert outcome.err.startswith("me/model could not be uploaded: ")


def test_a_folder_without_config_or_class_table_is_not_pushed(folder, call, tiny):
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace("classes.csv", "gone.csv")
    )
    (folder / "run.json").unlink()
    assert "Copy the table to" in call("push", folder, "me/model").err
    (folder / "config.yaml").unlink()
    assert "has no config.yaml." in call("push", folder, "me/model").err
