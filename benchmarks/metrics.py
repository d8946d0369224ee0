"""What do the metrics of an image cost? Everything that an evaluation counts, and a plain confusion matrix.

Plain: select the labelled pixels, and count the true class times the number of classes plus the predicted
class. "Everything in an evaluation" also has the mean IoU of the image, its counts for the confidence
interval and its rank among the worst and the best. All ways run in turns, so that other load affects all.

    python benchmarks/metrics.py > benchmarks/results/metrics.md
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time

import numpy as np
import torch

from mit_semseg.data.classes import ClassTable, palette
from mit_semseg.evaluation.tally import Tally
from mit_semseg.metrics.confusion import ConfusionMatrix


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 683), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    height, width = args.size
    torch.set_num_threads(1)
    label, prediction, confidence = scene(height, width, args.classes)
    table = ClassTable(tuple(map(str, range(args.classes))), palette(args.classes))
    item = {"info": "a.jpg", "img_ori": np.zeros((height, width, 3), np.uint8)}

    def plain() -> None:
        known = label >= 0
        cells = label[known] * args.classes + prediction[known]
        np.bincount(cells, minlength=args.classes**2).reshape(args.classes, args.classes)

    def filled(**asked: bool) -> Tally:
        """A tally that has seen better and worse, and so draws no pictures of the image."""
        tally = Tally(table, **asked)
        for index in range(12):
            other = label if index % 2 else (label + 1) % args.classes
            tally.include(tally.score(index, item, label, other, confidence))
        return tally

    def counted(tally: Tally) -> None:
        tally.include(tally.score(12, item, label, prediction, confidence))

    default, boundary, calibration = filled(), filled(boundary=True), filled(calibration=True)
    matrix = ConfusionMatrix(args.classes)
    ways = {
        "plain confusion matrix": plain,
        "`ConfusionMatrix.update`": lambda: matrix.update(prediction, label),
        "everything in an evaluation": lambda: counted(default),
        "... with `VAL.boundary_iou`": lambda: counted(boundary),
        "... with `VAL.calibration`": lambda: counted(calibration),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:  # the first one warms up
                times[name].append(1000 * (time.perf_counter() - start))
    write = sys.stdout.write
    write("# Metrics of an image\n\n")
    write(f"1 thread of {len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; ")
    write(f"load average {os.getloadavg()[0]:.1f} at the end; numpy {np.__version__}, ")
    write(f"Python {platform.python_version()}; {datetime.date.today()}; {args.rounds} rounds. ")
    write(f"{args.classes} classes, {height} x {width} pixels.\n")
    write(f"`{' '.join(['python benchmarks/metrics.py', *sys.argv[1:]])}`\n\n")
    write("| | ms, median | ms, fastest | time relative to plain, median over the rounds |\n")
    write("|---|---|---|---|\n")
    for name, taken in times.items():
        base = times["plain confusion matrix"]
        ratio = statistics.median(b / a for a, b in zip(base, taken, strict=True))
        write(f"| {name} | {statistics.median(taken):.2f} | {min(taken):.2f} | {ratio:.2f} |\n")


def scene(height: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, prediction and its probabilities: blocks of 30 pixels, and a tenth of the pixels wrong."""
    rng = np.random.Generator(np.random.Philox(0))
    blocks = rng.integers(-1, classes, (height // 30 + 1, width // 30 + 1))
    label = np.repeat(np.repeat(blocks, 30, 0), 30, 1)[:height, :width].copy()
    prediction = np.where(
        rng.random(label.shape) < 0.9, np.maximum(label, 0), rng.integers(0, classes, label.shape)
    )
    return label, prediction.astype(np.uint8), rng.random(label.shape, np.float32)


if __name__ == "__main__":
    main()
