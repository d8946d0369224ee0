"""How fast is loading? Images a second of one worker, beside those of bare decoding and resizing.

The floor is what no loader of these files can do without: decode the image and its label, and resize the
image to the size that is drawn for it, in one process and without anything else. Both ways work on the same
files in turns, so that other load on the machine hits both alike.

    python benchmarks/data.py data/camvid/training.odgt --root data/camvid > benchmarks/results/data.md
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torchvision
from PIL import Image

from mit_semseg.data.geometry import fit_size
from mit_semseg.data.resample import resize
from mit_semseg.dataset import TrainDataset
from mit_semseg.engine.loading import load

SIZES = (300, 375, 450, 525, 600)  # short edges, as published
ROUNDS = 7


def bare(dataset: TrainDataset, indices: range) -> None:
    for index in indices:
        drawn = dataset.schedule[index]
        for row in drawn.records.tolist():
            record = dataset.records[row]
            with Image.open(dataset.root_dataset / record.fpath_img) as image:
                image.load()
            with Image.open(dataset.root_dataset / record.fpath_segm) as label:
                np.array(label)
            resize(image, *fit_size(*image.size, drawn.short_edge, dataset.imgMaxSize))


def direct(dataset: TrainDataset, indices: range) -> None:
    for index in indices:
        dataset[index]


def in_bytes(dataset: TrainDataset, indices: range) -> None:
    for index in indices:
        dataset.sub_batch(index)


class Bare:
    """The floor, in a loader process."""

    def __init__(self, dataset: TrainDataset) -> None:
        self.dataset = dataset

    def __call__(self, index: int) -> dict:
        bare(self.dataset, range(index, index + 1))
        return {}


def seconds_an_item(read, indices: range) -> float:
    """Of one worker, from its first item to its last."""
    items = iter(load(read, indices, workers=1, device=torch.device("cpu")))
    for _ in range(8):  # the worker has started, and is no longer ahead
        next(items)
    start = time.perf_counter()
    count = sum(1 for _ in items)
    return (time.perf_counter() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("list")
    parser.add_argument("--root", default=".")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--augment", default="published")
    args = parser.parse_args()
    torch.set_num_threads(1)
    opt = SimpleNamespace(
        imgSizes=SIZES,
        imgMaxSize=1000,
        padding_constant=8,
        segm_downsampling_rate=8,
        augment=args.augment,
        crop_size=(512, 512),
        scale_range=(0.5, 2.0),
        crop_max_share=0.75,
        random_flip=True,
    )
    dataset = TrainDataset(args.root, args.list, opt, args.batch)
    ways = {"bare decode + resize": bare, "dataset[i]": direct, "dataset.sub_batch(i)": in_bytes}
    times: dict[str, list[float]] = {name: [] for name in (*ways, "worker, bare", "worker, sub_batch")}
    for number in range(ROUNDS):
        indices = range(number * args.items, (number + 1) * args.items)
        for name, way in ways.items():
            start = time.perf_counter()
            way(dataset, indices)
            times[name].append((time.perf_counter() - start) / len(indices))
        times["worker, bare"].append(seconds_an_item(Bare(dataset), indices))
        times["worker, sub_batch"].append(seconds_an_item(dataset.sub_batch, indices))
    floor = times["bare decode + resize"]
    write = sys.stdout.write
    write("# Loading images for training\n\n")
    write(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; ")
    write(f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {Image.__version__}, ")
    write(f"Python {platform.python_version()}; {datetime.date.today()}; {ROUNDS} rounds of {args.items} ")
    write(f"sub-batches of {args.batch} from {Path(args.list).name}, augment {args.augment}, one thread.\n")
    write(f"`python benchmarks/data.py {' '.join(sys.argv[1:])}`\n\n")
    write("| | images/s (median) | time beside the bare one (median of the rounds) |\n|---|---|---|\n")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, floor, strict=True))
        write(f"| {name} | {args.batch / statistics.median(taken):.0f} | {ratio:.2f} |\n")


if __name__ == "__main__":
    main()
