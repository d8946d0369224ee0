"""The loop of docs/labelling.md on the demo's scenes, with a script in place of the person.

Label a few photos, train, pre-label the others, correct those of which the model is least sure, train again.
"""

import base64
import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from demo.canvas import NAMES
from demo.dataset import write_dataset

LABELLED, POOL, CORRECTED = 5, 6, 3


def draw(photo, truth):
    """What a person saves in LabelMe: a mask for each class that occurs."""
    height, width = truth.shape
    shapes = []
    for k in np.unique(truth[truth > 0]).tolist():
        file = io.BytesIO()
        Image.fromarray(truth == k).save(file, format="PNG")
        mask = base64.b64encode(file.getvalue()).decode()
        points = [[0, 0], [width - 1, height - 1]]
        shapes.append({"label": NAMES[k - 1], "shape_type": "mask", "points": points, "mask": mask})
    content = {"shapes": shapes, "imagePath": photo.name, "imageData": None}
    content |= {"imageHeight": height, "imageWidth": width}
    photo.with_suffix(".json").write_text(json.dumps(content))


def prepared(folder):
    """The label of each image in both lists, by its name, as names of classes."""
    names = ["", *(line.split(",")[1] for line in (folder / "classes.csv").read_text().splitlines()[1:])]
    found = {}
    for split in ("training", "validation"):
        for line in (folder / f"{split}.odgt").read_text().splitlines():
            path = folder / json.loads(line)["fpath_segm"]
            with Image.open(path) as image:
                found[path.stem] = np.array(names)[np.array(image)]
    return found


@pytest.fixture
def photos(tmp_path):
    """A folder of labelled photos, one of photos to label, and the truth of all."""
    write_dataset(tmp_path / "demo", LABELLED + POOL, 1, seed=11)
    truth = {}
    for number, line in enumerate((tmp_path / "demo" / "training.odgt").read_text().splitlines()):
        record = json.loads(line)
        photo = tmp_path / ("labelled" if number < LABELLED else "pool") / f"{number:02}.jpg"
        photo.parent.mkdir(exist_ok=True)
        photo.write_bytes((tmp_path / "demo" / record["fpath_img"]).read_bytes())
        with Image.open(tmp_path / "demo" / record["fpath_segm"]) as label:
            truth[photo.stem] = np.array(label)
        if number < LABELLED:
            draw(photo, truth[photo.stem])
    return tmp_path / "labelled", tmp_path / "pool", truth


def test_label_train_prelabel_correct_and_train_again(call, photos, tmp_path):
    labelled, pool, truth = photos
    names = ["", *NAMES]
    classes = tmp_path / "names.txt"
    classes.write_text("\n".join(NAMES))
    recipe = tmp_path / "recipe.yaml"
    model = {"arch_encoder": "mobilenetv2dilated", "arch_decoder": "c1", "fc_dim": 320, "pretrained": False}
    train = {"epoch_iters": 2, "num_epoch": 1, "workers": 0, "batch_size_per_gpu": 1}
    data = {"imgSizes": [64], "imgMaxSize": 96}
    recipe.write_text(yaml.safe_dump({"MODEL": model, "TRAIN": train, "DATASET": data}))

    def succeed(*words):
        outcome = call(*words)
        assert outcome.code == 0, outcome.err
        return outcome.out + outcome.err

    def round_of(number):
        out = tmp_path / f"round{number}"
        succeed("data", "prepare", "labelme", labelled, out, "--names", classes)
        configs = ["--cfg", recipe, "--cfg", out / "config.yaml"]
        succeed("train", "--gpus", "cpu", *configs, "DIR", tmp_path / f"run{number}")
        return prepared(out), [*configs, "DIR", tmp_path / f"run{number}"]

    first, model = round_of(1)
    assert len(first) == LABELLED

    def prelabel():
        keys = ["TEST.result", pool, "TEST.output", "labelme"]
        return succeed("test", "--gpu", "cpu", "--imgs", pool, "--uncertain", CORRECTED, *model, *keys)

    prelabel()
    wanted = (pool / "uncertain.txt").read_text().splitlines()
    assert len(wanted) == CORRECTED
    assert len(list(pool.glob("*.json"))) == POOL

    # The person corrects the photos in the list and moves them to the labelled ones.
    for path in wanted:
        photo = pool / path.split("/")[-1]
        assert json.loads(photo.with_suffix(".json").read_text())["imagePath"] == photo.name
        draw(photo, truth[photo.stem])
        for file in (photo, photo.with_suffix(".json")):
            file.rename(labelled / file.name)

    second, model = round_of(2)
    assert len(second) == LABELLED + CORRECTED
    for name, label in second.items():
        np.testing.assert_array_equal(label, np.array(names)[truth[name]])
    prelabel()
    assert len((pool / "uncertain.txt").read_text().splitlines()) == POOL - CORRECTED
