"""A tiny dataset with a config, and two ways to call the commands: in this process, and as a user does."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

# Threads of many small processes wait for each other. NumPy and torch read this when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
import yaml
from commands import ROOT, Outcome
from forked import run_python
from PIL import Image

NUM_CLASS = 3
COLORS = np.array([[0, 0, 0], [200, 60, 40], [60, 180, 60], [40, 80, 200]], np.uint8)
TRAINING = [(48, 36), (36, 48), (56, 40), (40, 56), (44, 33), (33, 44)]  # width, height
VALIDATION = [(48, 36), (36, 50), (41, 31)]


@dataclass(frozen=True)
class Tiny:
    """A dataset of blots in three colours, which are its classes."""

    folder: Path

    @property
    def config(self):
        return self.folder / "tiny.yaml"

    def records(self, name):
        return [json.loads(line) for line in (self.folder / f"{name}.odgt").read_text().splitlines()]

    def overrides(self, **keys):
        """``TRAIN__seed=1`` as the words ``TRAIN.seed 1``."""
        return [str(word) for key, value in keys.items() for word in (key.replace("__", "."), value)]


def blots(width, height, rng):
    """A label of 3 x 4 rectangles with the values 0 to 3, and a noisy image of it."""
    values = rng.integers(0, NUM_CLASS + 1, (3, 4)).astype(np.uint8)
    rows, columns = np.arange(height) * 3 // height, np.arange(width) * 4 // width
    label = values[rows[:, None], columns[None]]
    noise = rng.integers(-20, 21, (height, width, 3))
    return label, np.clip(COLORS[label] + noise, 0, 255).astype(np.uint8)


def write_dataset(folder):
    rng = np.random.Generator(np.random.Philox(7))
    for name, sizes in (("training", TRAINING), ("validation", VALIDATION)):
        (folder / name).mkdir(parents=True)
        records = []
        for k, (width, height) in enumerate(sizes):
            label, image = blots(width, height, rng)
            files = f"{name}/{k}.jpg", f"{name}/{k}.png"
            Image.fromarray(image).save(folder / files[0], quality=95)
            Image.fromarray(label).save(folder / files[1])
            records.append({"fpath_img": files[0], "fpath_segm": files[1], "width": width, "height": height})
        (folder / f"{name}.odgt").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "classes.csv").write_text(
        "index,name,red,green,blue\n1,brick,200,60,40\n2,lawn,60,180,60\n3,pool,40,80,200\n"
    )
    config = {
        "DATASET": {
            "root_dataset": str(folder),
            "list_train": str(folder / "training.odgt"),
            "list_val": str(folder / "validation.odgt"),
            "classes": str(folder / "classes.csv"),
            "num_class": NUM_CLASS,
            "imgSizes": [32, 40],
            "imgMaxSize": 64,
        },
        "MODEL": {
            "arch_encoder": "mobilenetv2dilated",
            "arch_decoder": "c1",
            "fc_dim": 320,
            "pretrained": False,
        },
        "TRAIN": {"epoch_iters": 2, "num_epoch": 2, "workers": 0, "disp_iter": 1},
        "DIR": str(folder / "run"),
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    return Tiny(folder)


# The longest tests. They start first, so that at the end no worker of pytest-xdist is busy alone with one.
LONGEST = (
    "training/test_elastic.py::",
    "training/test_speed.py::test_a_compiled_module",
    "importing/test_imported_export.py::",
    "test_own_data.py::",
    "export/test_eomt_export.py::",
    "test_fuzz.py::test_a_few_damaged_inputs",
    "test_cli.py::test_train_evaluate_and_predict_from_another_folder",
    "serve/test_life.py::",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONGEST))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small lose more by waiting for threads than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The dataset; tests read it and leave it as it is."""
    return write_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def own_tiny(tmp_path):
    """The same dataset for one test, which may damage it."""
    return write_dataset(tmp_path / "data")


@pytest.fixture(scope="session")
def trained(tiny):
    """The folder of a finished run of two epochs on the tiny dataset."""
    from mit_semseg.cli import main

    folder = tiny.folder.parent / "trained"
    assert main(["train", "--gpus", "cpu", "--cfg", str(tiny.config), "DIR", str(folder)]) == 0
    return folder


@pytest.fixture
def call(capsys):
    """A command of ``mit-semseg``, called in this process: ``call("train", "--cfg", ...)`` -> Outcome."""
    from mit_semseg.cli import main

    def run(*words):
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit:  # argparse's way out
            code = exit.code
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture
def script(tmp_path):
    """A script, called by a user in another folder: ``script("train.py", "--cfg", ...)`` -> Outcome."""

    def run(name, *words, cwd=tmp_path):
        return run_python(ROOT / name, *words, cwd=cwd)

    return run


@pytest.fixture
def segment(call, tiny, trained, tmp_path):
    """``segment(words..., out=...)`` -> Outcome of test.py on the CPU."""

    def run(*words, out=tmp_path / "out", **keys):
        keys = {"DIR": trained, "TEST__result": out, **keys}
        return call("test", "--imgs", *words, "--gpu", "cpu", "--cfg", tiny.config, *tiny.overrides(**keys))

    return run
