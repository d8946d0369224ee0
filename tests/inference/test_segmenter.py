"""The Python interface: any image in, the labels of test.py out, in any thread."""

import doctest
import multiprocessing
import os
import pickle
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

import mit_semseg
from mit_semseg import Segmentation, Segmenter
from mit_semseg.config import load_config
from mit_semseg.data import images
from mit_semseg.data.classes import numbered_classes
from mit_semseg.data.datasets import TestDataset
from mit_semseg.errors import UserError
from mit_semseg.inference import segmenter
from mit_semseg.inference.checkpoints import trained_weights
from mit_semseg.inference.load import build_scoring, pick_device
from mit_semseg.inference.network import ScoringNetwork
from mit_semseg.inference.pictures import colorEncode
from mit_semseg.inference.predict import (
    Settings,
    predict_labels,
    predict_probabilities,
)
from mit_semseg.models import ModelBuilder, SegmentationModule
from mit_semseg.models.layers import conv_bn_relu

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
NOISE = np.random.Generator(np.random.Philox(9)).integers(0, 256, (30, 44, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def loaded(trained):
    return Segmenter.load(trained, device="cpu")


def photos(tiny):
    return sorted((tiny.folder / "training").glob("*.jpg")) + sorted(
        (tiny.folder / "validation").glob("*.jpg")
    )


def scored_as_a_list(tiny, trained, paths, device="cpu"):
    """Labels and probabilities of files, as test.py makes the former."""
    cfg = load_config(str(tiny.config), tiny.overrides(DIR=trained))
    network, settings = build_scoring(cfg, trained_weights(cfg, "TEST"), torch.device(device))
    for item in TestDataset([str(path) for path in paths], cfg.DATASET):
        size = item["img_ori"].shape[:2]
        labels = predict_labels(network, item["img_data"], size, settings)[0].numpy()
        yield labels, predict_probabilities(network, item["img_data"], size, settings)[0].cpu().numpy()


# What comes out


@pytest.mark.parametrize("device", DEVICES)
def test_labels_and_probabilities_are_those_of_a_prediction_to_the_last_bit(tiny, trained, device):
    segment = Segmenter.load(trained, device=device)
    for path, (labels, scores) in zip(
        photos(tiny), scored_as_a_list(tiny, trained, photos(tiny), device), strict=True
    ):
        segmentation = segment(path)
        np.testing.assert_array_equal(segmentation.labels, labels)
        np.testing.assert_array_equal(segmentation.probabilities, scores)


def test_the_picture_is_the_one_that_test_py_writes(call, tiny, trained, loaded, tmp_path):
    photo = tiny.folder / "validation" / "1.jpg"
    words = tiny.overrides(DIR=trained, TEST__result=tmp_path)
    assert call("test", "--imgs", photo, "--gpu", "cpu", "--cfg", tiny.config, *words).code == 0
    loaded(photo).save(tmp_path / "own.png")
    for name in ("1.png", "own.png"):
        with Image.open(tmp_path / name) as picture:
            expected = np.concatenate(
                [loaded(photo).image, colorEncode(loaded(photo).labels, loaded.colors)], axis=1
            )
            np.testing.assert_array_equal(np.asarray(picture), expected)


def test_a_list_gives_what_its_images_give_alone(tiny, loaded):
    paths = [photos(tiny)[k] for k in (0, 1, 2, 6, 0, 0, 0)]
    results = loaded(paths)
    assert [result.source for result in results] == [str(path) for path in paths]
    for result, path in zip(results, paths, strict=True):
        alone = loaded(path)
        np.testing.assert_array_equal(result.image, alone.image)
        differing = result.labels != alone.labels
        best_two = np.sort(alone.probabilities, axis=0)[-2:, differing]
        assert (best_two[1] - best_two[0] < 1e-6).all()
    assert len(loaded(tuple(paths[:2]))) == 2
    assert loaded([]) == []


def test_images_of_one_size_go_through_the_network_together_up_to_a_number_of_pixels(loaded, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        segmenter,
        "predict_labels",
        lambda network, scales, *rest: (sizes.append(len(scales[0])), predict_labels(network, scales, *rest))[
            1
        ],
    )
    one, other = NOISE, NOISE[:, :-1]
    loaded([one, one, one, other, one])
    assert sizes == [3, 1, 1]
    monkeypatch.setattr(segmenter, "_BATCH_PIXELS", 2 * 40 * 64)  # the larger of two scales is 40 x 64 pixels
    sizes.clear()
    loaded([one] * 5)
    assert sizes == [2, 2, 1]
    monkeypatch.setattr(segmenter, "_BATCH_PIXELS", 1)
    sizes.clear()
    loaded([one] * 2)
    assert sizes == [1, 1]


def test_all_forms_of_an_image_give_the_same(loaded, tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    labels = loaded(tmp_path / "a.png").labels
    tensor = torch.from_numpy(NOISE).permute(2, 0, 1)
    for image in (str(tmp_path / "a.png"), Image.fromarray(NOISE), NOISE, NOISE / 255, tensor, tensor / 255):
        np.testing.assert_array_equal(loaded(image).labels, labels)
        np.testing.assert_array_equal(loaded([image])[0].labels, labels)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_an_image_smaller_than_the_stride_of_the_network(loaded, size):
    segmentation = loaded(np.full((*size, 3), 90, np.uint8))
    assert segmentation.labels.shape == size
    np.testing.assert_allclose(segmentation.probabilities.sum(0), 1, rtol=1e-5)


class TwoConvolutions(torch.nn.Module):
    """An encoder that is done in no time, so that threads meet often."""

    channels = (8, 16)
    strides = (4, 8)

    def __init__(self):
        super().__init__()
        self.first = conv_bn_relu(3, 8, kernel_size=7, stride=4)
        self.second = conv_bn_relu(8, 16, stride=2)

    def forward(self, x, return_feature_maps=False):
        fine = self.first(x)
        return [fine, self.second(fine)]


@pytest.mark.parametrize("device", DEVICES)
def test_eight_threads_get_what_each_would_get_alone(device):
    torch.manual_seed(0)
    decoder = ModelBuilder.build_decoder("c1", channels=(8, 16), num_class=5, use_softmax=True)
    module = SegmentationModule(TwoConvolutions(), decoder, None).eval()
    network = ScoringNetwork.prepared(module, pick_device(device))
    # Two of them, which share what is the process's.
    pair = [
        Segmenter(network, numbered_classes(5), segmenter.Scales(sizes, 200, 8), Settings())
        for sizes in ((40, 60), (50,))
    ]
    calls = [(pair[k % 2], NOISE[k % 8 : 20 + k % 8, k % 8 :]) for k in range(48)]

    def both(call):
        segmentation = call[0](call[1])
        return segmentation.labels, segmentation.probabilities

    torch.set_num_threads(2)
    try:
        expected = list(map(both, calls[:8]))
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(both, calls))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert len({labels.tobytes() for labels, _ in expected}) == 8
    for k, (labels, probabilities) in enumerate(results):
        np.testing.assert_array_equal(labels, expected[k % 8][0])
        np.testing.assert_array_equal(probabilities, expected[k % 8][1])


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_segments_whatever_its_parent_is_doing(trained, tiny):
    """Torch's threads and the holders of locks do not exist there."""

    def segment():
        images.open_image(photo)
        found = segmenter_of_parent([NOISE, NOISE])[0]
        assert found.probabilities.shape[1:] == NOISE.shape[:2]
        os._exit(0 if torch.get_num_threads() == 1 and np.array_equal(found.labels, expected) else 3)

    photo = photos(tiny)[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        segmenter_of_parent = Segmenter.load(trained, device="cpu", sizes=256)
        expected = segmenter_of_parent(NOISE).labels
        own_lock = getattr(Segmentation.__dict__["probabilities"], "lock", nullcontext())
        child = multiprocessing.get_context("fork").Process(target=segment)
        with segmenter_of_parent._alone(), images._opening, own_lock:
            child.start()
            child.join(60)
            child.kill()
            child.join()
        assert child.exitcode == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_segmenter_on_a_gpu_says_how_to_use_it_in_other_processes(trained, monkeypatch):
    loaded = Segmenter.load(trained, device="cpu")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)  # as in a forked process
    loaded.device = torch.device("cuda", 0)
    with pytest.raises(RuntimeError, match=r"was forked from .* on cuda:0, .*Load the model in each process"):
        loaded(NOISE)


def test_a_segmenter_survives_pickling(loaded):
    copy = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(copy(NOISE).labels, loaded(NOISE).labels)
    assert repr(copy) == repr(loaded) == "<Segmenter mobilenetv2dilated + c1, 3 classes, on cpu>"


# Loading


def test_without_a_device_it_is_the_first_gpu_or_the_cpu(trained):
    assert (
        Segmenter.load(trained).device == torch.device("cuda", 0)
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


@pytest.mark.parametrize("kind", ["folder", "text", "file", "tree"])
def test_a_model_is_loaded_from_its_folder_or_its_config(tiny, trained, loaded, kind):
    file = trained / "config.yaml"
    source = {"folder": trained, "text": str(trained), "file": file, "tree": load_config(str(file))}[kind]
    segmentation = Segmenter.load(source, device="cpu")(NOISE)
    np.testing.assert_array_equal(segmentation.labels, loaded(NOISE).labels)
    assert segmentation.names == ("brick", "lawn", "pool")


def test_the_folder_wins_over_where_its_config_says_it_was_trained(tiny, trained, loaded, tmp_path):
    moved = shutil.copytree(trained, tmp_path / "moved")
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(re.sub(r"^DIR: .*$", "DIR: /nowhere/at/all", config, flags=re.M))
    np.testing.assert_array_equal(Segmenter.load(moved, device="cpu")(NOISE).labels, loaded(NOISE).labels)


def test_arguments_take_the_place_of_the_configs_values(trained, tiny):
    segment = Segmenter.load(
        trained, device="cpu", checkpoint="epoch_1.pth", sizes=24, amp="bf16", flip=True, tile=64
    )
    newest = Segmenter.load(trained, device="cpu", sizes=[24], flip=True)
    assert (segment._settings.flip, segment._settings.tile, segment._network.amp) == (True, 64, "bf16")
    assert segment._scales.short_edges == newest._scales.short_edges == (24,)
    assert not np.array_equal(segment(NOISE).probabilities, newest(NOISE).probabilities)


def test_a_class_table_of_its_own(trained, tmp_path):
    (tmp_path / "own.csv").write_text("index,name\n1,a\n2,b\n3,c\n")
    assert Segmenter.load(trained, device="cpu", classes=tmp_path / "own.csv").names == ("a", "b", "c")
    with pytest.raises(UserError, match=r"^no\.csv does not exist"):
        Segmenter.load(trained, device="cpu", classes="no.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"checkpoint": "epoch_9.pth"},
            "encoder_epoch_9.pth does not exist. The newest there is epoch_2.pth",
        ),
        ({"amp": "fp8"}, "INFERENCE.amp is 'fp8', but must be none or bf16."),
        ({"flip": "yes"}, "INFERENCE.flip is 'yes', but must be True or False."),
        ({"sizes": ()}, "DATASET.imgSizes is (), but must be one or more integers >= 1 and <= 65536."),
        ({"sizes": 0}, "DATASET.imgSizes is (0,), but must be one or more"),
        ({"tile": -1}, "INFERENCE.tile is -1, but must be an integer >= 0."),
    ],
)
def test_an_argument_that_makes_no_sense(trained, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Segmenter.load(trained, device="cpu", **arguments)


# Mistakes


def test_a_list_with_something_else_in_it_is_refused_before_anything_is_scored(loaded, monkeypatch):
    monkeypatch.setattr(segmenter, "predict_labels", None)
    with pytest.raises(
        TypeError, match=r"^image\[1\] is None, of type NoneType; it has to be a path, a PIL image"
    ):
        loaded([NOISE, None])
    with pytest.raises(TypeError, match=r"^image\[0\] is \[\], of type list"):
        loaded([[]])


def test_an_image_that_can_t_be_used_is_named(loaded, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"a\.png is not an image"):
        loaded(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is not an image"):
        loaded([NOISE, tmp_path / "a.png", NOISE, NOISE, NOISE, NOISE])
    with pytest.raises(ValueError, match=r"^image\[1\] holds values that are NaN or infinite\.$"):
        loaded([NOISE, np.full((3, 3), np.nan)])
    with pytest.raises(ValueError, match=r"^image is an array of shape \(0, 3, 3\): it has no pixels$"):
        loaded(np.zeros((0, 3, 3)))


# The name in the package


def test_the_package_hands_it_on_without_importing_torch():
    code = "import sys, mit_semseg; sys.exit('torch' in sys.modules or 'Segmenter' not in dir(mit_semseg))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert mit_semseg.Segmentation is Segmentation
    with pytest.raises(AttributeError, match=r"^module 'mit_semseg' has no attribute 'Segmentor'$"):
        _ = mit_semseg.Segmentor


def test_the_examples_in_the_docstring_are_true(tiny, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "ckpt" / "mine")
    shutil.copy(tiny.folder / "validation" / "0.jpg", tmp_path / "street.jpg")
    shutil.copy(tiny.folder / "validation" / "1.jpg", tmp_path / "corner.jpg")
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(segmenter)
    assert results.failed == 0
    assert results.attempted > 8
    assert (tmp_path / "street_classes.png").is_file()


def test_the_confidence_is_the_probability_of_the_label(loaded, tiny):
    plain, sure = loaded(photos(tiny)), loaded(photos(tiny), confidence=True)
    for one, other in zip(plain, sure, strict=True):
        np.testing.assert_array_equal(other.labels, one.labels)
        chosen = one.probabilities.max(axis=0)
        assert other.confidence.shape == one.labels.shape
        np.testing.assert_allclose(other.confidence, chosen, atol=1e-6)
        np.testing.assert_allclose(one.confidence, chosen, atol=1e-6)  # computed when it is read
    with pytest.raises(RuntimeError, match="no model"):
        _ = pickle.loads(pickle.dumps(loaded(photos(tiny)[0]))).confidence
