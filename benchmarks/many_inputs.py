"""How much memory does test.py need for a million images, and how long does it take to start?

It makes links to one small image in folders of a thousand, and then the jobs for their paths on standard
input, as test.py does before the first image. Nothing is segmented. Rank 0, which finds the inputs and the
jobs, and rank 1, which receives them, are processes of their own.

    python benchmarks/many_inputs.py [--inputs 1000000] [--folder FOLDER]
"""

import argparse
import io
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image


def memory(name: str) -> float:
    """A line of /proc/self/status in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def measure(rank: int, folder: Path) -> None:
    from mit_semseg.prediction.inputs import find_inputs
    from mit_semseg.prediction.jobs import find_jobs

    sent = folder / "jobs.pkl"
    libraries = memory("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    if rank == 0:
        words = io.TextIOWrapper(io.BytesIO((folder / "list.txt").read_bytes()))
        found = find_inputs(["-"], words)
        listed = time.process_time() - busy
        jobs = find_jobs(found.inputs, ["overlay", "labels"], folder / "out", {}, resume=True)
        sys.stdout.write(f"inputs after {listed:.1f} s of processor time, ")
        with sent.open("wb") as file:
            file.write(pickle.dumps(jobs))
    else:
        jobs = pickle.loads(sent.read_bytes())
    share = jobs.share("image", rank, 2)
    sys.stdout.write(
        f"{len(share)} jobs of its own after {time.perf_counter() - start:.1f} s "
        f"({time.process_time() - busy:.1f} s of processor time); beyond the libraries ({libraries:.0f} MB): "
        f"{memory('VmRSS') - libraries:.0f} MB, at the peak {memory('VmHWM') - libraries:.0f} MB; "
        f"sent: {sent.stat().st_size / 1e6:.0f} MB\n"
    )


def make_links(folder: Path, count: int) -> None:
    image = folder / "image.png"
    Image.new("RGB", (4, 3)).save(image)
    with (folder / "list.txt").open("w") as listed:
        for k in range(count):
            path = folder / "images" / f"part{k // 1000:04}" / f"photo_{k:08}.png"
            if k % 1000 == 0:
                path.parent.mkdir(parents=True)
            path.symlink_to(image)
            listed.write(f"{path}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--folder", help="for the links (default: one for temporary files)")
    parser.add_argument("--measure", nargs=2, metavar=("RANK", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(int(args.measure[0]), Path(args.measure[1]))
        return
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        make_links(folder, args.inputs)
        for rank in (0, 1):
            sys.stdout.write(f"rank {rank}: ")
            sys.stdout.flush()
            subprocess.run([sys.executable, __file__, "--measure", str(rank), str(folder)], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
