"""How fast is loading? Images per second, compared with bare decoding and resizing and with a plain loader.

Both are timed on the same files and in turns, so that other load on the machine affects all:

- bare: decode the image and its label with Pillow, resize the image with Pillow, and nothing else;
- plain: the usual loader, and that of the old package: Pillow, then normalized float images.

    python benchmarks/data.py data/camvid/training.odgt --root data/camvid > benchmarks/results/data.md
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image

from mit_semseg.data.datasets import TrainDataset
from mit_semseg.data.images import MEAN, STD
from mit_semseg.data.loader import loading
from mit_semseg.data.resize import fit_size, round_up

PLAIN_MEAN = torch.tensor(MEAN).view(3, 1, 1)
PLAIN_STD = torch.tensor(STD).view(3, 1, 1)
SIZES = (300, 375, 450, 525, 600)  # short edges, as published
ROUNDS = 7


def bare(dataset: TrainDataset, index: int) -> dict[str, Any]:
    drawn = dataset.schedule[index]
    for row in drawn.records.tolist():
        record = dataset.records[row]
        image = Image.open(dataset.root_dataset / record.fpath_img).convert("RGB")
        Image.open(dataset.root_dataset / record.fpath_segm).load()
        size = fit_size(*image.size, drawn.short_edge, dataset.imgMaxSize)
        image.resize(size, Image.Resampling.BILINEAR)
    return {}


def plain(dataset: TrainDataset, index: int) -> dict[str, Any]:
    drawn = dataset.schedule[index]
    images, labels = [], []
    for row, flip in zip(drawn.records.tolist(), drawn.flips, strict=True):
        record = dataset.records[row]
        image = Image.open(dataset.root_dataset / record.fpath_img).convert("RGB")
        label = Image.open(dataset.root_dataset / record.fpath_segm)
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            label = label.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        size = fit_size(*image.size, drawn.short_edge, dataset.imgMaxSize)
        values = (np.float32(image.resize(size, Image.Resampling.BILINEAR)) / 255).transpose(2, 0, 1)
        images.append((torch.from_numpy(values.copy()) - PLAIN_MEAN) / PLAIN_STD)
        label = label.resize(size, Image.Resampling.NEAREST)
        canvas = Image.new("L", tuple(round_up(side, 8) for side in size))
        canvas.paste(label, (0, 0))
        small = canvas.resize((canvas.width // 8, canvas.height // 8), Image.Resampling.NEAREST)
        labels.append(torch.from_numpy(np.array(small)).long() - 1)
    height, width = (round_up(max(image.size(axis) for image in images), 8) for axis in (1, 2))
    img_data = torch.zeros(len(images), 3, height, width)
    seg_label = torch.full((len(images), height // 8, width // 8), -1)
    for b, (image, label) in enumerate(zip(images, labels, strict=True)):
        img_data[b, :, : image.size(1), : image.size(2)] = image
        seg_label[b, : label.size(0), : label.size(1)] = label
    return {"img_data": img_data, "seg_label": seg_label}


def seconds_an_item(read, indices: range) -> float:
    """Of one worker, from its first item to its last."""
    with loading(read, indices, workers=1, device=torch.device("cpu")) as items:
        for _ in range(8):  # by then, the items that the worker read ahead are used up
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
    ways: dict[str, Callable[[int], dict[str, Any]]] = {
        "bare": partial(bare, dataset),
        "plain": partial(plain, dataset),
        "dataset[i]": dataset.__getitem__,
        "dataset.sub_batch(i)": dataset.sub_batch,
    }
    here: dict[str, list[float]] = {name: [] for name in ways}
    worker: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        indices = range(number * args.items, (number + 1) * args.items)
        for name, way in ways.items():
            start = time.perf_counter()
            for index in indices:
                way(index)
            here[name].append((time.perf_counter() - start) / len(indices))
            worker[name].append(seconds_an_item(way, indices))
    write = sys.stdout.write
    write("# Loading images for training\n\n")
    write(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; ")
    write(f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {Image.__version__}, ")
    write(f"Python {platform.python_version()}; {datetime.date.today()}; {ROUNDS} rounds of {args.items} ")
    write(f"sub-batches of {args.batch} from {Path(args.list).name}, augment {args.augment}, one thread.\n")
    write(f"`python benchmarks/data.py {' '.join(sys.argv[1:])}`\n\n")
    write("| | | images/s | times as fast as plain | time relative to bare |\n|---|---|---|---|---|\n")
    for process, times in (("in this process", here), ("one worker", worker)):
        for name, taken in times.items():
            faster = statistics.median(a / b for a, b in zip(times["plain"], taken, strict=True))
            slower = statistics.median(a / b for a, b in zip(taken, here["bare"], strict=True))
            rate = args.batch / statistics.median(taken)
            write(f"| {process} | {name} | {rate:.0f} | {faster:.2f} | {slower:.2f} |\n")
    write("\nMedians over the rounds. A worker sends its items to this process; those of bare are empty.\n")


if __name__ == "__main__":
    main()
