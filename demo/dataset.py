"""The rendered dataset on disk: images, labels, two lists and a class table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mit_semseg.data.classes import ClassTable, write_classes
from mit_semseg.runtime.files import replacing, unwritable

from .canvas import COLORS, NAMES
from .scene import render_scene

NUM_TRAIN = 480
NUM_VAL = 48
SEED = 304

_MANIFEST = "toy.json"
_VERSION = 2  # increased when the same seed gives other pictures, so that old folders are rendered again
_SPLITS = ("training", "validation")


def write_dataset(
    folder: str | Path,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    seed: int = SEED,
    progress: bool = False,
) -> None:
    """Render scenes into ``folder``, unless it already holds exactly these scenes.

    Writes ``images/{training,validation}/*.jpg``, ``annotations/{training,validation}/*.png`` (values of
    ``Label``), ``training.odgt`` and ``validation.odgt`` (paths relative to ``folder``), ``classes.csv`` and
    finally ``toy.json`` with the arguments. A folder without ``toy.json`` is incomplete and rendered again.
    Scene k of a list depends only on the seed, the list and k. So a longer list starts with the scenes of a
    shorter one, and no validation scene is a training scene.

    Args:
        progress: whether to show a progress bar on stderr.

    Raises: ValueError for a count below 1 or a seed below 0; UserError if something cannot be written.
    """
    for name, value, least in (("num_train", num_train, 1), ("num_val", num_val, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be {least} or more.")
    root = Path(folder)
    counts = dict(zip(_SPLITS, (num_train, num_val), strict=True))
    manifest = {"version": _VERSION, "num_train": num_train, "num_val": num_val, "seed": seed}
    current = root
    try:
        if _is_complete(root, manifest, counts):
            return
        root.mkdir(parents=True, exist_ok=True)
        current = root / _MANIFEST
        current.unlink(missing_ok=True)
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
                        current = root / path
                        _write_image(current, pixels, options)
                    height, width = label.shape
                    line = {
                        "fpath_img": image_path,
                        "fpath_segm": label_path,
                        "width": width,
                        "height": height,
                    }
                    lines.append(json.dumps(line) + "\n")
                    bar.update()
                current = root / f"{split}.odgt"
                _write_text(current, "".join(lines))
        current = root / "classes.csv"
        write_classes(current, ClassTable(NAMES, np.array(COLORS, np.uint8)))
        current = root / _MANIFEST
        _write_text(current, json.dumps(manifest) + "\n")
    except OSError as error:
        raise unwritable(current, error) from error


def _paths(split: str, index: int) -> tuple[str, str]:
    """Image and label file of a scene, relative to the dataset's folder."""
    name = f"scene_{index:05d}"
    return f"images/{split}/{name}.jpg", f"annotations/{split}/{name}.png"


def _is_complete(root: Path, manifest: dict[str, int], counts: dict[str, int]) -> bool:
    try:
        found = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    files = [f"{split}.odgt" for split in counts] + ["classes.csv"]
    files += [
        path for split, count in counts.items() for index in range(count) for path in _paths(split, index)
    ]
    return bool(found == manifest) and all((root / file).is_file() for file in files)


def _write_image(path: Path, pixels: np.ndarray, options: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
