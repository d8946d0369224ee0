"""Does a run that is killed again and again end with the same bits as an uninterrupted one, in every tensor?

A small training on rendered scenes runs once without interruption. Then it is killed (SIGKILL) at random
moments, during the dry run, training, saving or validation, and restarted with ``TRAIN.resume auto`` until it
finishes. This is repeated from scratch until the given number of kills is reached.

    python benchmarks/resume.py --kills 20 > benchmarks/results/resume.md
"""

import argparse
import datetime
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    "DATASET.imgSizes": "(48,64)",
    "MODEL.arch_encoder": "mobilenetv2dilated",
    "MODEL.arch_decoder": "c1",
    "MODEL.decoder_dropout": 0.1,
    "MODEL.fc_dim": 320,
    "DATASET.segm_downsampling_rate": 8,
    "TRAIN.batch_size_per_gpu": 2,
    "TRAIN.epoch_iters": 10,
    "TRAIN.num_epoch": 3,
    "TRAIN.save_iters": 3,
    "TRAIN.disp_iter": 4,
    "TRAIN.ema_decay": 0.9,
    "TRAIN.resume": "auto",
    "VAL.every": 1,
    "VAL.max_images": 4,
}


def command(data: Path, folder: Path, workers: int) -> list[str]:
    lists = {f"DATASET.list_{kind}": data / f"{name}.odgt" for kind, name in _LISTS.items()}
    keys = {**KEYS, **lists, "DATASET.root_dataset": data, "DATASET.classes": data / "classes.csv"}
    keys |= {"TRAIN.workers": workers, "DIR": folder}
    words = [str(word) for pair in keys.items() for word in pair]
    return [
        sys.executable,
        str(ROOT / "train.py"),
        "--gpus",
        "cpu",
        "--cfg",
        "toy-resnet18-upernet_tiny",
        *words,
    ]


_LISTS = {"train": "training", "val": "validation"}


def trained(
    words: list[str], environment: dict[str, str], kill_after: float | None
) -> tuple[int | None, float, str]:
    """Train, and kill it so many seconds after its first line, if it has not ended by then.

    Returns: the exit code, None if it was killed; seconds from the first line on; the last line.
    """
    run = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None
    first = run.stdout.readline()
    start = time.monotonic()
    code: int | None
    try:
        output = run.communicate(timeout=kill_after)[0]
        code = run.returncode
    except subprocess.TimeoutExpired:
        run.kill()
        code, output = None, run.communicate()[0]
    return code, time.monotonic() - start, (first + output).strip().splitlines()[-1]


def differences(whole: Path, parts: Path) -> list[str]:
    """The files that do not agree, of those that hold numbers."""
    names = {path.name for folder in (whole, parts) for path in folder.iterdir() if path.suffix == ".pth"}
    found = []
    for name in sorted(names | {"history.csv"}):
        files = whole / name, parts / name
        if not all(file.is_file() for file in files):
            found.append(f"{name} is missing")
        elif name.endswith(".pth"):
            contents = [torch.load(file, weights_only=True) for file in files]
            for content in contents:
                content.pop("config", None)  # says DIR and the number of workers
            found += [] if equal(*contents) else [name]
        elif files[0].read_bytes() != files[1].read_bytes():
            found.append(name)
    return found


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as temporary:
        data, whole, parts = (Path(temporary, name) for name in ("data", "whole", "parts"))
        scenes = [sys.executable, "-m", "demo", str(data), "--train", "40", "--val", "8"]
        subprocess.run(scenes, check=True, cwd=ROOT, stdout=sys.stderr)
        seconds = trained(command(data, whole, 0), environment, None)[1]
        moments: list[str] = []
        found: list[str] = []
        runs = 0
        while runs == 0 or len(moments) < args.kills:
            runs += 1
            shutil.rmtree(parts, ignore_errors=True)
            code = None
            while code is None:
                after = rng.uniform(0, 0.5 * seconds) if len(moments) < args.kills else None
                words = command(data, parts, rng.choice([0, 1, 2]))
                code, _, last = trained(words, environment, after)
                if code is None:
                    moments.append(last[10:].replace(str(parts), "DIR")[:54])
            found += [f"exit code {code}"] if code else []
            found += differences(whole, parts)
        files = sorted(path.name for path in whole.iterdir())
    out = sys.stdout.write
    out("# A training run killed at random, compared with an uninterrupted one\n\n")
    out(
        f"`python benchmarks/resume.py --kills {args.kills}`, {datetime.date.today()}, {platform.machine()}, "
    )
    out(f"{os.cpu_count()} cores, Python {platform.python_version()}, PyTorch {torch.__version__}\n\n")
    out(f"Killed {len(moments)} times in {runs} runs, each of which finished in the end. ")
    out("Last log line before each kill:\n\n")
    out("".join(f"- `{moment}`\n" for moment in moments))
    out(f"\nCompared: {', '.join(name for name in files if name.endswith(('.pth', '.csv')))}.\n\n")
    verdict = f"Not the same: {', '.join(found)}" if found else "All tensors and numbers are the same"
    out(f"**{verdict}.**\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
