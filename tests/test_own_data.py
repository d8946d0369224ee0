"""The commands of README from a folder of photos to scores, run as they are written."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from forked import run_python
from PIL import Image

COLORS = np.array([[90, 90, 90], [200, 60, 40], [60, 180, 60], [40, 80, 200]], np.uint8)
# Small photos and few iterations, to be quick; everything else is as in the recipe.
QUICK = [
    *("--gpus", "cpu", "DATASET.imgSizes", "48", "DATASET.crop_size", "(48, 64)", "TRAIN.num_epoch", "2"),
    *(
        "TRAIN.epoch_iters",
        "10",
        "TRAIN.ema_decay",
        "0.9",
        "TRAIN.workers",
        "0",
        "TRAIN.tensorboard",
        "False",
    ),
    *("TRAIN.amp", "none"),  # bf16 is slow on processors without it
]


def commands(page="README.md"):
    """The commands of the first block below the heading "Your own data"."""
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(r"^#+ Your own data\n.*?```bash\n(.*?)```", text, re.M | re.S)[1]
    return [shlex.split(line) for line in block.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def photos(tmp_path):
    """``photos`` with images and masks of three colours and what has no class, and ``names.txt``."""
    rng = np.random.Generator(np.random.Philox(3))
    for folder in ("images", "masks"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    for number in range(15):
        label = rng.integers(0, 4, (3, 4)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
        noise = rng.integers(-15, 16, (*label.shape, 3))
        image = np.clip(COLORS[label] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / "images" / f"{number}.jpg")
        Image.fromarray(label).save(tmp_path / "photos" / "masks" / f"{number}.png")
    (tmp_path / "names.txt").write_text("brick\nlawn\npool\n")
    return tmp_path / "photos"


def test_the_page_on_data_has_the_commands_of_the_readme():
    assert commands("docs/data.md") == commands()


def test_from_a_folder_of_photos_to_scores(photos):
    place = photos.parent
    outputs = []
    for words in commands():
        if words[0] == "python":
            words = [ROOT / words[1], *words[2:], *QUICK]
        else:
            words = [Path(sys.executable).with_name(words[0]), *words[1:]]
        done = run_python(*words, cwd=place)
        assert done.code == 0, f"{words}\n{done.out}\n{done.err}"
        outputs.append(done.out)
    assert len(outputs) == 4
    assert re.search(r": \d+ training and [1-9]\d* validation images, 3 classes", outputs[0])
    assert "No problems in 15 records." in outputs[1]
    metrics = json.loads((place / "ckpt" / "mine" / "result" / "metrics.json").read_text())
    assert [each["name"] for each in metrics["classes"]] == ["brick", "lawn", "pool"]
    assert metrics["mean_iou"] > 0.3, metrics["mean_iou"]
    assert len(commands()) <= 10
