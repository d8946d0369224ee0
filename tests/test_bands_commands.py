"""The commands on a dataset of TIFF files with five bands of 16 bits, as a user calls them."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from mit_semseg import Segmenter
from mit_semseg.errors import UserError

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

SPECTRA = np.array([[0] * 5, [900, 700, 500, 300, 100], [400, 900, 700, 4000, 3000], [2000] * 5])


def write_scene(path, rng, width, height):
    """A scene of blots in three classes, whose first rows have no data."""
    label = rng.integers(1, 4, (3, 4)).astype(np.uint8)
    label = label[np.arange(height)[:, None] * 3 // height, np.arange(width)[None] * 4 // width]
    values = SPECTRA[label] + rng.integers(-80, 81, (height, width, 5))
    values[:4] = 0
    tifffile.imwrite(
        path.with_suffix(".tif"),
        values.clip(0, 10000).astype(np.uint16),
        planarconfig="contig",
        photometric="minisblack",
        tile=(16, 16),
        compression="lzw",
        extratags=[(42113, "s", 0, "0", True)],
    )
    Image.fromarray(label).save(path.with_suffix(".png"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a dataset whose statistics were computed and on which a model was trained."""
    from mit_semseg.cli import main

    folder = tmp_path_factory.mktemp("bands")
    rng = np.random.Generator(np.random.Philox(3))
    for name, sizes in (("training", [(48, 36), (36, 48), (40, 40)]), ("validation", [(48, 36), (40, 40)])):
        lines = []
        for k, (width, height) in enumerate(sizes):
            write_scene(folder / f"{name}{k}", rng, width, height)
            record = {"fpath_img": f"{name}{k}.tif", "fpath_segm": f"{name}{k}.png", "width": width}
            lines.append(json.dumps(record | {"height": height}) + "\n")
        (folder / f"{name}.odgt").write_text("".join(lines))
    config = {
        "DATASET": {
            "root_dataset": str(folder),
            "list_train": str(folder / "training.odgt"),
            "list_val": str(folder / "validation.odgt"),
            "num_class": 3,
            "channels": 4,
            "bands": [5, 4, 3, 1],
            "display_bands": [4, 3, 1],
            "imgSizes": [32],
            "imgMaxSize": 64,
            "augment": "photos",
            "crop_size": [32, 32],
        },
        "MODEL": {
            "arch_encoder": "mobilenetv2dilated",
            "arch_decoder": "c1",
            "fc_dim": 320,
            "pretrained": False,
        },
        "TRAIN": {"epoch_iters": 2, "num_epoch": 1, "workers": 0, "disp_iter": 1},
        "VAL": {"every": 1, "visualize": True},
        "DIR": str(folder / "run"),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--gpus", "cpu", "--cfg", str(folder / "config.yaml")]) == 2  # without statistics
    assert not (folder / "run").exists()
    assert main(["data", "stats", "--cfg", str(folder / "config.yaml"), "--workers", "0"]) == 0
    assert main(["train", "--gpus", "cpu", "--cfg", str(folder / "config.yaml")]) == 0
    return folder


def test_the_statistics_are_part_of_the_run(run):
    ours = yaml.safe_load((run / "config.yaml").read_text())["DATASET"]
    saved = yaml.safe_load((run / "run/config.yaml").read_text())["DATASET"]
    for key in ("mean", "std", "clip_low", "clip_high"):
        assert len(ours[key]) == 4
        assert list(saved[key]) == ours[key]


def test_the_log_says_which_changes_of_photos_bands_do_not_get(run):
    log = (run / "run" / "log.txt").read_text()
    assert "DATASET.augment photos changes brightness and contrast of all bands alike. It skips sat" in log
    assert "white balance and JPEG, which only photos have." in log


def test_evaluation_ignores_pixels_without_data(run, call):
    outcome = call("eval", "--gpus", "cpu", "--cfg", run / "config.yaml")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((run / "run/result/metrics.json").read_text())
    counted = np.load(run / "run/result/confusion.npy").sum()
    assert counted == 48 * 32 + 40 * 36  # of 48 x 36 and 40 x 40, without four rows
    assert metrics["images"] == 2


def test_a_model_teaches_models_of_its_own_bands_only(run, call, tmp_path):
    words = ("--gpus", "cpu", "--cfg", run / "config.yaml", "DIR", tmp_path / "run", "VAL.every", 0)
    words += ("TRAIN.loss", "cross_entropy + distillation", "TRAIN.teachers", run / "run")
    outcome = call("train", *words, "DATASET.bands", "[5,3,4,1]")
    assert outcome.code == 2
    assert "DATASET.bands is (5, 4, 3, 1) there and (5, 3, 4, 1) here" in outcome.err
    outcome = call("train", *words)
    assert outcome.code == 0, outcome.err
    assert f"Teacher: {run / 'run'}\n" in (tmp_path / "run/log.txt").read_text()


def test_prediction_gives_no_class_where_there_is_no_data(run, script, tmp_path):
    words = ("--imgs", run / "validation0.tif", "--gpu", "cpu", "--cfg", run / "config.yaml")
    outcome = script("test.py", *words, "TEST.result", tmp_path / "out", "TEST.output", "side_by_side,labels")
    assert outcome.code == 0, outcome.err
    labels = np.asarray(Image.open(tmp_path / "out/validation0_labels.png"))
    assert not labels[:4].any()
    assert labels[4:].min() >= 1
    picture = np.asarray(Image.open(tmp_path / "out/validation0.png"))
    assert picture.shape == (36, 96, 3)
    assert not picture[:4].any()
    segmentation = Segmenter.load(run / "run", device="cpu")(run / "validation0.tif")
    np.testing.assert_array_equal(segmentation.labels + 1, labels)


def test_arrays_and_tensors_are_segmented_as_files(run):
    segmenter = Segmenter.load(run / "run", device="cpu")
    of_file = segmenter(run / "validation1.tif")
    values = tifffile.imread(run / "validation1.tif").astype(np.float32)
    values[:4] = np.nan
    tensor = torch.from_numpy(values).permute(2, 0, 1)
    for found in segmenter([values, tensor]):
        np.testing.assert_array_equal(found.labels, of_file.labels)
    assert of_file.labels.dtype == np.int16
    np.testing.assert_allclose(of_file.probabilities.sum(0), 1, atol=1e-5)
    assert of_file.confidence.shape == of_file.labels.shape
    with pytest.raises(UserError, match="asks for band 5"):
        segmenter(values[..., :4])
    with pytest.raises(ValueError, match=r"\(H, W, bands\)"):
        segmenter(values[None])


def test_an_exported_model_takes_the_values_of_the_files(run, tmp_path, monkeypatch):
    # Of all sizes, which other tests compare at, one is enough for the input of the graph.
    monkeypatch.setattr("mit_semseg.export.write.shapes_for", lambda multiple: [(2, 33, 40)])
    segmenter = Segmenter.load(run / "run", device="cpu")
    assert all(row.agrees for row in segmenter.export(tmp_path / "m.pt2"))
    exported = Segmenter.load(tmp_path / "m.pt2")
    assert exported.bands == segmenter.bands
    wanted, found = segmenter(run / "validation1.tif").labels, exported(run / "validation1.tif").labels
    assert (wanted == found).mean() > 0.99


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("DATASET.bands", "(5,4,3,9)", "DATASET.display_bands", "5"), "asks for band 9"),
        (("DATASET.channels", "3", "DATASET.bands", "(1,2,3)"), "has 4 numbers, but DATASET.channels is 3"),
        (("DATASET.display_bands", "2"), "names band 2, which the model does not read"),
    ],
)
def test_wrong_bands_are_refused(run, call, keys, message):
    outcome = call("eval", "--gpus", "cpu", "--cfg", run / "config.yaml", *keys)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_model_of_other_channels_is_refused_in_one_message(run, call):
    numbers = "(1, 1, 1, 1, 1)"
    keys = {"mean": numbers, "std": numbers, "clip_low": "(0, 0, 0, 0, 0)", "clip_high": numbers}
    words = [word for key, value in keys.items() for word in (f"DATASET.{key}", value)]
    others = ("DATASET.channels", 5, "DATASET.bands", "(1,2,3,4,5)")
    outcome = call("eval", "--gpus", "cpu", "--cfg", run / "config.yaml", *others, *words)
    assert outcome.code == 2
    assert "takes images of 4 channels, this model 5. Set DATASET.channels 4" in outcome.err
    assert outcome.err.count("\n") <= 3


def test_a_video_is_refused(run, call, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    outcome = call("test", "--imgs", tmp_path / "a.mp4", "--gpu", "cpu", "--cfg", run / "config.yaml")
    assert (outcome.code, "is a video, whose images are 8-bit RGB" in outcome.err) == (2, True)


def test_the_card_lists_the_bands(run, call):
    assert call("card", run / "run").code == 0
    text = (run / "run/README.md").read_text()
    mean = yaml.safe_load((run / "config.yaml").read_text())["DATASET"]["mean"]
    assert "Images have 4 channels." in text
    assert "| 2 | 4 | " in text
    assert f"| {mean[1]:g} | " in text


def test_a_folder_of_tiff_files_is_prepared(run, call, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "source" / name).mkdir(parents=True)
    for k in range(2):
        shutil.copy(run / f"training{k}.tif", tmp_path / "source/images/")
        shutil.copy(run / f"training{k}.png", tmp_path / "source/masks/")
    outcome = call("data", "prepare", "folders", tmp_path / "source", tmp_path / "mine")
    assert outcome.code == 0, outcome.err
    lines = (tmp_path / "mine/training.odgt").read_text() + (tmp_path / "mine/validation.odgt").read_text()
    sizes = {(record["width"], record["height"]) for record in map(json.loads, lines.splitlines())}
    assert sizes == {(48, 36), (36, 48)}


def test_other_statistics_than_those_of_the_training_are_reported(run, call):
    keys = ("DATASET.std", "(1000, 1000, 1000, 1000)")
    outcome = call("eval", "--gpus", "cpu", "--cfg", run / "config.yaml", *keys, "VAL.result", run / "other")
    assert outcome.code == 0
    assert "were trained with another DATASET.std" in outcome.out + outcome.err


def test_the_server_refuses_a_model_with_bands(run):
    from mit_semseg.serve.worker import _of_photos

    with pytest.raises(UserError, match="mine takes images with 4 bands, but the server takes photos"):
        _of_photos(Segmenter.load(run / "run", device="cpu"), "mine")
