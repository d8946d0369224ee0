"""How fast is a label map coloured? `colorEncode` and two plain ways, and the other parts of a picture.

Class by class: the sum of the mask of each class that occurs, times its colour. Indexing: `colors[labels]`.
All ways run in turns, so that other load on the machine affects all.

    python benchmarks/coloring.py > benchmarks/results/coloring.md
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import time

import numpy as np

from mit_semseg.data.classes import load_classes
from mit_semseg.inference.pictures import (
    Image,
    add_legend,
    by_share,
    class_shares,
    colorEncode,
    overlay,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--occurring", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 683), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    height, width = args.size
    rng = np.random.Generator(np.random.Philox(0))
    table = load_classes("", args.classes)
    blocks = rng.choice(args.classes, args.occurring, replace=False)[
        rng.integers(0, args.occurring, (-(-height // 16), -(-width // 16)))
    ]
    labels = np.repeat(np.repeat(blocks, 16, 0), 16, 1)[:height, :width].astype(np.uint8)
    signed = labels.astype(np.int64)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)

    def class_by_class() -> Image:
        picture = np.zeros((height, width, 3), np.uint8)
        for k in np.unique(signed):
            picture += (signed == k)[..., None] * np.tile(table.colors[k], (height, width, 1))
        return picture

    def indexing() -> Image:
        return np.asarray(table.colors[np.maximum(signed, -1)])

    def legend() -> Image:
        classes = by_share(class_shares(labels, args.classes))
        return add_legend(image, classes, table.names, table.colors)

    ways = {
        "class by class": class_by_class,
        "indexing": indexing,
        "colorEncode, int64": lambda: colorEncode(signed, table.colors),
        "colorEncode, uint8": lambda: colorEncode(labels, table.colors),
        "overlay": lambda: overlay(image, labels, table.colors),
        "shares and legend": legend,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    for name in list(ways)[1:4]:
        assert np.array_equal(ways[name](), class_by_class()), name
    write = sys.stdout.write
    write("# Colouring a label map\n\n")
    write(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; ")
    write(f"load average {os.getloadavg()[0]:.1f} at the end; numpy {np.__version__}, ")
    write(f"Python {platform.python_version()}; {datetime.date.today()}; {args.rounds} rounds. ")
    write(f"{height} x {width} pixels, {args.occurring} of {args.classes} classes occur.\n")
    write(f"`python benchmarks/coloring.py {' '.join(sys.argv[1:])}`\n\n")
    write("| | ms, median | ms, fastest | times as fast as class by class, median over the rounds |\n")
    write("|---|---|---|---|\n")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["class by class"], taken, strict=True))
        cell = f"{ratio:.0f}" if name in list(ways)[:4] else ""
        write(f"| {name} | {1e3 * statistics.median(taken):.2f} | {1e3 * min(taken):.2f} | {cell} |\n")
    write("\nThe first four draw the same picture.\n")


if __name__ == "__main__":
    main()
