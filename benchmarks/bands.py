"""Loading of images with bands against tifffile alone, and of 8-bit RGB against another version of the
project.

Everything that is compared is timed in turns in one run, so that other load on the machine affects all:

- TIFF files of 16 bits and eight bands: ``tifffile.imread``, the reader of the project
  (`BandSelection.read`), and the reader with clipping and scaling to float32, as a dataset uses it.
- JPEG photos with labels: `TrainDataset.sub_batch` and `ValDataset.as_bytes` of this tree and of the tree
  that ``--before`` names, each in a process of its own.

    git worktree add /tmp/before COMMIT
    python benchmarks/bands.py --before /tmp/before > benchmarks/results/bands.md
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
SIDE, BANDS = 1024, 8
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips, not compressed": {"planarconfig": "contig"},
    "tiles, not compressed": {"planarconfig": "contig", "tile": (256, 256)},
    "tiles, deflate": {
        "planarconfig": "contig",
        "tile": (256, 256),
        "compression": "zlib",
        "predictor": True,
    },
    "tiles, LZW, planar": {"planarconfig": "separate", "tile": (256, 256), "compression": "lzw"},
    "tiles, zstd, nodata": {
        "planarconfig": "contig",
        "tile": (256, 256),
        "compression": "zstd",
        "extratags": [(42113, "s", 0, "0", True)],
    },
}
PHOTOS = 8


def compare_readers(folder: Path) -> str:
    import tifffile

    from mit_semseg.data.bands import Bands

    rng = np.random.Generator(np.random.Philox(0))
    smooth = rng.integers(0, 8000, (SIDE // 16, SIDE // 16, BANDS)).repeat(16, 0).repeat(16, 1)
    values = (smooth + rng.integers(1, 500, smooth.shape)).astype(np.uint16)
    bands = Bands(
        BANDS, mean=(4000.0,) * BANDS, std=(2000.0,) * BANDS, low=(0.0,) * BANDS, high=(8500.0,) * BANDS
    )
    lines = [
        "| file | tifffile, ms | reader, ms | ratio | reader and scaling, ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, options in LAYOUTS.items():
        path = folder / "image.tif"
        planar = options["planarconfig"] == "separate"
        written = values.transpose(2, 0, 1) if planar else values
        tifffile.imwrite(path, written, photometric="minisblack", **options)
        np.testing.assert_array_equal(bands.read(path).values, values)
        ways: list[Callable[[], object]] = [
            lambda path=path: tifffile.imread(path),
            lambda path=path: bands.read(path),
            lambda path=path: bands.unit(bands.read(path)),
        ]
        bare, read, scaled = in_turns(ways)
        # The fastest of all rounds, because some take a few milliseconds, in which other load counts most.
        fastest = [1000 * min(taken) for taken in (bare, read, scaled)]
        ratios = [taken / fastest[0] for taken in fastest[1:]]
        lines.append(
            f"| {name} | {fastest[0]:.1f} | {fastest[1]:.1f} | {ratios[0]:.2f} | {fastest[2]:.1f} | "
            f"{ratios[1]:.2f} |"
        )
    return "\n".join(lines) + "\n"


def in_turns(ways: list[Callable[[], object]]) -> list[list[float]]:
    taken: list[list[float]] = [[] for _ in ways]
    for number in range(ROUNDS + 1):
        for way, times in zip(ways, taken, strict=True):
            start = time.perf_counter()
            way()
            if number:  # the first round fills caches
                times.append(time.perf_counter() - start)
    return taken


def write_photos(folder: Path) -> None:
    from PIL import Image

    photo = Image.open(ROOT / "data/street.jpg").convert("RGB")
    rng = np.random.Generator(np.random.Philox(0))
    records = []
    for k in range(PHOTOS):
        size = (640 + 16 * k, 480 + 8 * k)
        photo.resize(size).save(folder / f"{k}.jpg", quality=90)
        label = (
            rng.integers(0, 20, (size[1] // 32 + 1, size[0] // 32 + 1), np.uint8).repeat(32, 0).repeat(32, 1)
        )
        Image.fromarray(np.ascontiguousarray(label[: size[1], : size[0]])).save(folder / f"{k}.png")
        records.append(
            {"fpath_img": f"{k}.jpg", "fpath_segm": f"{k}.png", "width": size[0], "height": size[1]}
        )
    (folder / "photos.odgt").write_text("".join(json.dumps(record) + "\n" for record in records))


def serve_photos(folder: str) -> None:
    """In a process with one version of the project: time a round for each line of standard input."""
    import torch

    from mit_semseg.data.datasets import TrainDataset, ValDataset

    torch.set_num_threads(1)
    sizes = {"imgSizes": (300, 375, 450, 525, 600), "imgMaxSize": 1000, "padding_constant": 8}
    opt = SimpleNamespace(**sizes, segm_downsampling_rate=8, random_flip=True)
    train = TrainDataset(folder, f"{folder}/photos.odgt", opt, 2)
    val = ValDataset(folder, f"{folder}/photos.odgt", opt)
    for line in sys.stdin:
        number = int(line)
        start = time.perf_counter()
        for index in range(10 * number, 10 * number + 10):
            train.sub_batch(index)
        middle = time.perf_counter()
        for index in range(PHOTOS):
            val.as_bytes(index)
        sys.stdout.write(json.dumps([middle - start, time.perf_counter() - middle]) + "\n")
        sys.stdout.flush()


def compare_photos(folder: Path, before: Path) -> str:
    write_photos(folder)
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--photos", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )
        for tree in (before, ROOT)
    ]
    taken: list[list[list[float]]] = [[], []]
    for number in range(ROUNDS + 1):
        order = (0, 1) if number % 2 else (1, 0)
        for k in order:
            child = children[k]
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{number}\n")
            child.stdin.flush()
            found = json.loads(child.stdout.readline())
            if number:
                taken[k].append(found)
    for child in children:
        child.communicate()
    lines = ["| | before, ms an item | now, ms an item | ratio |", "|---|---|---|---|"]
    for column, (name, items) in enumerate((("TrainDataset.sub_batch", 10), ("ValDataset.as_bytes", PHOTOS))):
        old, new = ([row[column] for row in rows] for rows in taken)
        ratio = statistics.median(b / a for a, b in zip(old, new, strict=True))
        medians = [1000 * statistics.median(times) / items for times in (old, new)]
        lines.append(f"| {name} | {medians[0]:.1f} | {medians[1]:.1f} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="another tree of the project")
    parser.add_argument("--photos", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.photos:
        serve_photos(args.photos)
        return
    import imagecodecs
    import tifffile

    write = sys.stdout.write
    write("# Loading images with bands\n\n")
    write(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; NumPy ")
    write(
        f"{np.__version__}, tifffile {tifffile.__version__}, imagecodecs {imagecodecs.__version__}, Python "
    )
    write(f"{platform.python_version()}; {datetime.date.today()}; {ROUNDS} rounds, in which all ways take ")
    write("turns.\n")
    write(f"`python benchmarks/bands.py{' --before TREE' if args.before else ''}`\n\n")
    with tempfile.TemporaryDirectory() as folder:
        write(f"## {SIDE} x {SIDE} pixels, {BANDS} bands of 16 bits\n\n{compare_readers(Path(folder))}\n")
        write("The fastest round. The files are in the system's cache. Ratios are to tifffile.\n")
        if args.before:
            write("\n## 8-bit RGB, JPEG\n\n" + compare_photos(Path(folder), args.before))
            write("\nMedians over the rounds.\n")


if __name__ == "__main__":
    main()
