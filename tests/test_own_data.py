"""The README's way from a folder of photos to a trained model, walked as it is written there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

COLORS = np.array([[90, 90, 90], [200, 60, 40], [60, 180, 60], [40, 80, 200]], np.uint8)
# What makes it quick, with photos that are small; all else is as the recipe has it.
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
]


def commands():
    """The commands of the block below "Your own data"."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Your own data\n\n```bash\n(.*?)```", text, re.S)[1]
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


def test_from_a_folder_of_photos_to_scores(photos):
    place = photos.parent
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outputs = []
    for words in commands():
        if words[0] == "python":
            words = [sys.executable, str(ROOT / words[1]), *words[2:], *QUICK]
        done = subprocess.run(
            words, cwd=place, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    assert len(outputs) == 4
    assert re.search(r": \d+ training and [1-9]\d* validation images, 3 classes", outputs[0])
    assert "No problems in 15 records." in outputs[1]
    metrics = json.loads((place / "ckpt" / "mine" / "result" / "metrics.json").read_text())
    assert [each["name"] for each in metrics["classes"]] == ["brick", "lawn", "pool"]
    assert metrics["mean_iou"] > 0.3, metrics["mean_iou"]
    assert len(commands()) <= 10
