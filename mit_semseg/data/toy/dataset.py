"""The rendered dataset on disk: images, labels, two lists and a table of classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...atomic import replacing, unwritable
from ..classes import ClassTable, write_classes
from . import labels
from .scene import render_scene

NUM_TRAIN = 480
NUM_VAL = 48
SEED = 304

_RECIPE = "toy.json"
_VERSION = 2  # goes up when the same seed gives other pictures, so that old folders are drawn anew
_SPLITS = ("training", "validation")


def write_dataset(
    folder: str | Path,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    seed: int = SEED,
    progress: bool = False,
) -> None:
    """Render scenes into ``folder``, or leave it as it is if these very scenes are complete there.

    Writes ``images/{training,validation}/*.jpg``, ``annotations/{training,validation}/*.png`` (k for class k
    counted from 1, 0 unlabelled), ``training.odgt`` and ``validation.odgt`` (paths relative to ``folder``),
    ``classes.csv`` and, last of all, ``toy.json`` with the arguments: without it a folder is unfinished
    and is drawn anew. Scene k of a list depends on the seed, the list and k alone, so lists of other lengths
    begin alike, and no validation scene is a training scene.

    Args:
        progress: whether to show a progress bar on stderr.

    Raises: ValueError for a count below 1 or a seed below 0; UserError if something cannot be written.
    """
    for name, value, least in (("num_train", num_train, 1), ("num_val", num_val, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be {least} or more.")
    root = Path(folder)
    counts = dict(zip(_SPLITS, (num_train, num_val), strict=True))
    recipe = {"version": _VERSION, "num_train": num_train, "num_val": num_val, "seed": seed}
    place = root
    try:
        if _is_complete(root, recipe, counts):
            return
        root.mkdir(parents=True, exist_ok=True)
        place = root / _RECIPE
        place.unlink(missing_ok=True)
        with tqdm(total=num_train + num_val, desc="rendering", unit="scene", disable=not progress) as bar:
            for number, (split, count) in enumerate(counts.items()):
                lines = []
                for index in range(count):
                    image, label = render_scene([seed, number, index])
                    image_path, label_path = _paths(split, index)
                    for path, pixels, options in (
                        (image_path, image, {"quality": 90, "subsampling": 0}),
                        (label_path, label, {}),
                    ):
                        place = root / path
                        _save(place, pixels, options)
                    height, width = label.shape
                    line = {
                        "fpath_img": image_path,
                        "fpath_segm": label_path,
                        "width": width,
                        "height": height,
                    }
                    lines.append(json.dumps(line) + "\n")
                    bar.update()
                place = root / f"{split}.odgt"
                _replace(place, "".join(lines))
        place = root / "classes.csv"
        write_classes(place, ClassTable(labels.NAMES, np.array(labels.COLORS, np.uint8)))
        place = root / _RECIPE
        _replace(place, json.dumps(recipe) + "\n")
    except OSError as error:
        raise unwritable(place, error) from error


def _paths(split: str, index: int) -> tuple[str, str]:
    """Image and label file of a scene, relative to the dataset's folder."""
    name = f"scene_{index:05d}"
    return f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png"


def _is_complete(root: Path, recipe: dict[str, int], counts: dict[str, int]) -> bool:
    try:
        found = json.loads((root / _RECIPE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    files = [f"{split}.odgt" for split in counts] + ["classes.csv"]
    files += [
        path for split, count in counts.items() for index in range(count) for path in _paths(split, index)
    ]
    return bool(found == recipe) and all((root / file).is_file() for file in files)


def _save(path: Path, pixels: np.ndarray, options: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _replace(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
