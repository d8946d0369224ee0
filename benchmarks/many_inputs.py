"""How much memory does test.py need for a million images, and how long does it take to start?

It makes hard links to small files, in folders of a thousand, and does what test.py does with two processes
before the first image: it finds the inputs and the jobs, and lists the images for the loader. Nothing is
segmented. Rank 0, which finds the jobs, rank 1, which receives them, and a resumed run, whose inputs are done
except for the first, are processes of their own. Their memory counts beyond that of the libraries.

    python benchmarks/many_inputs.py [--inputs 1000 1000000] [--folder FOLDER] [--flat] [--extension .png]
"""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from mit_semseg.config import cfg
from mit_semseg.data.datasets import TestDataset
from mit_semseg.data.shards import state_of_content
from mit_semseg.inference.pictures import save_picture
from mit_semseg.prediction.find_jobs import find_jobs
from mit_semseg.prediction.inputs import Inputs, find_inputs
from mit_semseg.prediction.manifest import Manifest
from mit_semseg.runtime.output_paths import plain_name
from mit_semseg.runtime.paths import Resolver

OUTPUTS = ("overlay", "labels")
LINKS = 50_000  # to one file; ext4 allows 65,000


def memory(name: str) -> float:
    """A line of /proc/self/status in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def inputs_of(folder: Path) -> Inputs:
    return find_inputs([str(folder / "images")], None).inputs


def measure(run: str, folder: Path) -> None:
    sent = folder / "jobs.pkl"
    libraries = memory("VmRSS")
    start, busy, listed = time.perf_counter(), time.process_time(), 0.0
    if run == "rank 1":
        jobs = pickle.loads(sent.read_bytes())
    else:
        inputs = inputs_of(folder)
        listed = time.perf_counter() - start
        jobs = find_jobs(inputs, OUTPUTS, folder / "out", {}, resume=run == "resumed")
        sent.write_bytes(pickle.dumps(jobs))
    share = jobs.share("image", int(run == "rank 1"), 2)
    TestDataset((jobs.inputs.paths[k] for k in share), cfg.DATASET)
    seconds = time.perf_counter() - start, time.process_time() - busy
    peak = memory("VmHWM") - libraries
    sys.stdout.write(
        f"| {len(jobs)} | {run} | {len(share)} | {listed:.1f} | {seconds[0]:.1f} | {seconds[1]:.1f} | "
        f"{memory('VmRSS') - libraries:.0f} | {peak:.0f} | {sent.stat().st_size / 1e6:.1f} |\n"
    )


class Links:
    """Hard links to a few copies of a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._count, self._copy = file, 0, file

    def make(self, path: str) -> Path:
        """Make one, and return the copy."""
        if self._count % LINKS == 0:
            self._copy = self._file.with_stem(f"{self._file.stem}{self._count // LINKS}")
            shutil.copyfile(self._file, self._copy)
        self._count += 1
        os.link(self._copy, path)
        return self._copy


def make_images(folder: Path, count: int, extension: str, *, flat: bool) -> None:
    image = folder / f"image{extension}"
    Image.new("RGB", (8, 8), (90, 120, 60)).save(image)
    links = Links(image)
    for k in range(count):
        part = folder / "images" / ("" if flat else f"part{k // 1000:04}")
        if k == 0 or (k % 1000 == 0 and not flat):
            part.mkdir(parents=True)
        links.make(f"{part}/photo_{k:08}{extension}")


def make_outputs(folder: Path) -> None:
    """The outputs of all images but the first, and the manifest that records them."""
    inputs, out = inputs_of(folder), folder / "out"
    picture = folder / "output.png"
    save_picture(np.zeros((8, 8, 3), np.uint8), picture)
    links = Links(picture)
    Manifest(out).add(inputs[0], None, {}, {})
    key = json.loads((out / ".manifest.jsonl").read_text().splitlines()[-1])["fingerprint"]
    states = cache(state_of_content)
    real, parts = Resolver(), set()
    with (out / ".manifest.jsonl").open("a") as file:
        for k in range(1, len(inputs)):
            names = {output: plain_name(inputs.relative(k), f"_{output}.png") for output in OUTPUTS}
            part = names["labels"].rpartition("/")[0]
            if part not in parts:
                parts.add(part)
                (out / part).mkdir(parents=True, exist_ok=True)
            copies = {output: links.make(f"{out}/{name}") for output, name in names.items()}
            line = {
                "input": inputs.identity(k, real),
                "state": state_of_content(inputs.paths[k]),
                "fingerprint": key,
                "outputs": names,
                "files": {output: [states(copy), "0" * 64] for output, copy in copies.items()},
                "cards": [],
                "problem": "",
            }
            file.write(f"\n{json.dumps(line)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--folder", help="for the links (default: one for temporary files)")
    parser.add_argument("--flat", action="store_true", help="all images in one folder")
    parser.add_argument("--extension", default=".jpg")
    parser.add_argument("--runs", nargs="+", default=["rank 0", "rank 1", "resumed"])
    parser.add_argument("--measure", nargs=2, metavar=("RUN", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--outputs", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return
    if args.outputs:
        make_outputs(Path(args.outputs))
        return
    sys.stdout.write(
        "| inputs | run | images | listed after, s | ready after, s | of processor time, s | MB "
        "| MB at the peak | MB sent |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for count in args.inputs:
        folder = Path(tempfile.mkdtemp(dir=args.folder))
        try:
            make_images(folder, count, args.extension, flat=args.flat)
            for run in args.runs:
                if run == "resumed":
                    subprocess.run([sys.executable, __file__, "--outputs", str(folder)], check=True)
                sys.stdout.flush()
                subprocess.run([sys.executable, __file__, "--measure", run, str(folder)], check=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
