"""Does the memory of test.py grow while it segments, is a stopped run resumed, and how fast are n processes?

It segments small images with the released model on the CPU, one thread for each process. A run prints the
memory of the largest process at 10, 50 and 100 % of the images, and the images a second between 10 and 100 %,
so that the start does not count.

    python benchmarks/prediction_run.py [--images 4000] [--side 32] [--procs 1 2] [--rounds 1]
                                        [--stop SIGTERM SIGKILL] [--folder FOLDER]

With several --procs, the runs take turns. With --stop, a run is ended halfway by each signal and resumed, and
the outputs are counted.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

POLL_S = 0.05
SHARES = (0.1, 0.5, 1.0)


def resident(process: int) -> float:
    """The largest memory of a process and those below it, in MB; 0 if they have ended."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0.0
    return max([int(found[1]) * 1024 / 1e6 if found else 0.0, *(resident(int(one)) for one in below)])


class Run:
    """A run of test.py on the images of a folder."""

    def __init__(self, folder: Path, out: str, processes: int, side: int, *words: str) -> None:
        self.manifest = folder / out / ".manifest.jsonl"
        command = [
            *(sys.executable, "-m", "mit_semseg", "test", "--imgs", str(folder / "images"), *words),
            *("--cfg", "camvid-efficientnet_lite0-upernet", "--gpu", "cpu", "--procs", str(processes)),
            *("TEST.output", "labels", "TEST.result", str(folder / out), "DATASET.imgSizes", f"({side},)"),
            *("TRAIN.workers", "0"),
        ]
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._seen, self._at = 0, 0

    def done(self) -> int:
        """How many images the manifest records."""
        if self.manifest.exists():
            with self.manifest.open("rb") as file:
                file.seek(self._at)
                new = file.read()
            self._seen, self._at = self._seen + new.count(b'{"input"'), self._at + len(new)
        return self._seen

    def wait_for(self, count: int) -> float:
        """Wait until so many images are done. Returns the memory then."""
        memory = resident(self.process.pid)
        while self.done() < count:
            if self.process.poll() is not None:
                raise SystemExit(f"test.py ended early:\n{self.log.read_text()[-2000:]}")
            memory = resident(self.process.pid) or memory
            time.sleep(POLL_S)
        return resident(self.process.pid) or memory


def measure(folder: Path, count: int, processes: int, side: int) -> None:
    run = Run(folder, "out", processes, side)
    memories, times = [], []
    for share in SHARES:
        memories.append(run.wait_for(int(share * count)))
        times.append(time.perf_counter())
    run.process.wait()
    speed = (SHARES[-1] - SHARES[0]) * count / (times[-1] - times[0])
    cells = " | ".join(f"{memory:.0f}" for memory in memories)
    sys.stdout.write(f"| {processes} | {cells} | {speed:.1f} |\n")
    sys.stdout.flush()
    shutil.rmtree(folder / "out")


def stop(folder: Path, count: int, processes: int, side: int, name: str) -> None:
    run = Run(folder, "out", processes, side)
    run.wait_for(count // 2)
    run.process.send_signal(signal.Signals[name])
    code = run.process.wait()
    time.sleep(1)  # the processes below a killed one end a moment later
    done = run.done()
    resumed = Run(folder, "out", processes, side, "--resume")
    resumed.process.wait()
    said = re.search(r"Skipped \d+ of \d+", resumed.log.read_text())
    outputs = len(list((folder / "out").rglob("*_labels.png")))
    sys.stdout.write(
        f"{name}: exit code {code} after {done} images; resumed with exit code {resumed.process.returncode}: "
        f"{said and said[0]}; {outputs} outputs, {resumed.done()} records\n"
    )
    sys.stdout.flush()
    shutil.rmtree(folder / "out")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--side", type=int, default=32, help="of an image, in pixels")
    parser.add_argument("--procs", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--stop", nargs="*", default=[], metavar="SIGNAL")
    parser.add_argument("--folder", help="for images and outputs (default: one for temporary files)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        pixels = np.random.default_rng(1).integers(0, 256, (args.side, args.side, 3)).astype(np.uint8)
        for k in range(args.images):
            path = folder / "images" / f"part{k // 1000:03}" / f"{k:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        if not args.stop:
            sys.stdout.write("| processes | MB at 10 % | MB at 50 % | MB at 100 % | images a second |\n")
            sys.stdout.write("|---|---|---|---|---|\n")
        for _ in range(args.rounds):
            for processes in args.procs:
                for name in args.stop:
                    stop(folder, args.images, processes, args.side, name)
                if not args.stop:
                    measure(folder, args.images, processes, args.side)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
