"""How long does a training need for a list of millions of lines, and how much memory?

It writes such a list into a new folder, and creates the dataset in one process after another: the first one
reads the list and writes its index, the second one maps the index.

    python benchmarks/long_list.py [--lines 10000000] [--folder FOLDER]
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LINE = (
    '{{"fpath_img": "images/part{0:03}/photo_{1:08}.jpg", "fpath_segm": "labels/part{0:03}/photo_{1:08}.png"'
    ', "width": {2}, "height": 640}}\n'
)


def memory(name: str) -> float:
    """A line of /proc/self/status in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def measure(path: str) -> None:
    from mit_semseg.config import cfg
    from mit_semseg.data.datasets import TrainDataset

    libraries = memory("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    dataset = TrainDataset(".", path, cfg.DATASET, batch_per_gpu=2)
    made, made_busy = time.perf_counter() - start, time.process_time() - busy
    dataset.schedule[0]
    first = time.perf_counter() - start
    sys.stdout.write(
        f"dataset after {made:.1f} s ({made_busy:.1f} s of processor time), first sub-batch chosen after "
        f"{first:.1f} s; beyond the libraries ({libraries:.0f} MB): {memory('VmRSS') - libraries:.0f} MB, "
        f"at the peak {memory('VmHWM') - libraries:.0f} MB\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--folder", help="for the list (default: one for temporary files)")
    parser.add_argument("--measure", metavar="LIST", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder, "training.odgt")
        with path.open("w") as file:
            file.writelines(LINE.format(k % 1000, k, 500 + k % 300) for k in range(args.lines))
        sys.stdout.write(f"{args.lines} lines, {path.stat().st_size / 1e6:.0f} MB\n")
        for what in ("reading the list", "mapping the index"):
            sys.stdout.write(f"{what}: ")
            sys.stdout.flush()
            subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)


if __name__ == "__main__":
    main()
