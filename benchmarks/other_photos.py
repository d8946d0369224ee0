"""How well does a model of CamVid label streets of other cities, photographed by pedestrians?

The photos are those of LabelMeFacade, prepared as docs/results.md says. Of its classes, door and window count
as building. Classes that only CamVid has (pole, sign, fence, pedestrian, bicyclist) are errors wherever a
model finds them on a labelled pixel. So the scores rank models; they do not compare with other works.

    python benchmarks/other_photos.py data/labelmefacade camvid-efficientnet_lite0-upernet ckpt/mine
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mit_semseg import Segmenter
from mit_semseg.data.classes import load_classes
from mit_semseg.metrics.confusion import ConfusionMatrix

CLASSES = ("building", "car", "pavement", "road", "sky", "vegetation")
NAMES = {"door": "building", "window": "building", "tree": "vegetation"}
OTHER = len(CLASSES)


def numbers(names: Sequence[str]) -> np.ndarray:
    """For each class of a table, its index in CLASSES, or OTHER."""
    common = [NAMES.get(name, name) for name in names]
    return np.array([CLASSES.index(name) if name in CLASSES else OTHER for name in common])


def score(segmenter: Segmenter, folder: Path) -> ConfusionMatrix:
    # Label 0 is unlabelled, k is class k.
    truth = np.concatenate([[-1], numbers(load_classes(folder / "classes.csv", 8).names)])
    found = numbers(segmenter.names)
    matrix = ConfusionMatrix(OTHER + 1)
    for line in tqdm((folder / "validation.odgt").read_text().splitlines(), unit="photo", leave=False):
        record = json.loads(line)
        label = np.array(Image.open(folder / record["fpath_segm"]))
        result = segmenter(folder / record["fpath_img"])
        matrix.update(found[np.asarray(result.labels)], truth[label])
    return matrix


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with classes.csv and validation.odgt")
    parser.add_argument("models", nargs="+", help="of CamVid: names of configs, or folders of runs")
    parser.add_argument(
        "--sizes", type=int, nargs="+", help="short edges to score at instead of the config's"
    )
    args = parser.parse_args()
    sys.stdout.write(
        f"| | {' | '.join(CLASSES)} | mean IoU | pixel accuracy |\n|---|{'---|' * (OTHER + 2)}\n"
    )
    for model in args.models:
        matrix = score(Segmenter.load(model, device="cpu", sizes=args.sizes), args.data)
        values = 100 * matrix.iou()[:OTHER]
        cells = [f"{value:.1f}" for value in [*values, values.mean(), 100 * matrix.pixel_accuracy()]]
        sys.stdout.write(f"| {model} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
