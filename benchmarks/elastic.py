"""Does a training keep the order of its data while machines die, leave and return at random?

Two agents of torchrun, each with a folder of its own, train a small model. At random moments, one of these
happens: a machine dies and returns, with its disk or with an empty one; a process is killed (SIGKILL, as when
memory runs out); a machine gets SIGTERM, as before a spot machine is taken away, and returns. At the end, the
images that were trained on are compared with those of the undisturbed order. With `--parallel fsdp`, which
needs a shared disk, both have the same folder, and no disk dies.

    python benchmarks/elastic.py --minutes 60 > benchmarks/results/elastic.md
    python benchmarks/elastic.py --minutes 12 --parallel fsdp > benchmarks/results/elastic-fsdp.md
"""

import argparse
import collections
import datetime
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from agents import Agent, Cluster, wait_until

from mit_semseg.config import load_config
from mit_semseg.training.options import train_options
from mit_semseg.training.setup import train_dataset
from mit_semseg.training.state import saved_position

ROOT = Path(__file__).resolve().parent.parent
EPOCH_ITERS = 20
DISK_DIES = "machine and its disk die"
EVENTS = ("machine dies", DISK_DIES, "process is killed", "machine gets SIGTERM")
KEYS = {
    "DATASET.imgSizes": "(48,64)",
    "MODEL.arch_encoder": "mobilenetv2dilated",
    "MODEL.arch_decoder": "c1",
    "MODEL.fc_dim": 320,
    "DATASET.segm_downsampling_rate": 8,
    "TRAIN.batch_size_per_gpu": 2,
    "TRAIN.epoch_iters": EPOCH_ITERS,
    "TRAIN.num_epoch": 100_000,
    "TRAIN.save_iters": 3,
    "TRAIN.disp_iter": 5,
    "TRAIN.freeze": "bn",  # processes that share a core wait long for each other's statistics
    "TRAIN.keep_checkpoints": 1,
    "TRAIN.tensorboard": False,
    "TRAIN.workers": 0,
    "TRAIN.resume": "auto",
}


def disturb(cluster: Cluster, event: str, number: int, agents: dict[int, Agent]) -> float:
    """Let an event happen to a machine, and bring it back. Returns: the seconds that it took to stop."""
    agent, seconds = agents[number], 0.0
    if event == "process is killed":
        for pid in agent.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    elif event == "machine gets SIGTERM":
        seconds = agent.terminate()
    else:
        agent.kill()
        if event == DISK_DIES:
            shutil.rmtree(agent.directory, ignore_errors=True)
    if not agent.is_running():
        agents[number] = cluster.start(number, agent.directory)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp", help="TRAIN.parallel")
    args = parser.parse_args()
    shared = args.parallel == "fsdp"
    events = [event for event in EVENTS if not (shared and event == DISK_DIES)]
    rng = random.Random(args.seed)
    happened: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    stops: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary, "data")
        scenes = [sys.executable, "-m", "demo", str(data), "--train", "40", "--val", "2"]
        subprocess.run(scenes, check=True, cwd=ROOT, stdout=sys.stderr)
        keys = {
            **KEYS,
            "TRAIN.parallel": args.parallel,
            "DATASET.list_train": data / "training.odgt",
            "DATASET.root_dataset": data,
            "DATASET.classes": data / "classes.csv",
        }
        overrides = [str(word) for pair in keys.items() for word in pair]
        config = str(ROOT / "config/toy-resnet18-upernet_tiny.yaml")
        words = ["--gpus", "cpu", "--cfg", config, *overrides]
        folders = {number: Path(temporary, "disk" if shared else f"disk{number}") for number in (1, 2)}
        start = time.monotonic()
        with Cluster(Path(temporary, "cluster"), words, restarts=1000) as cluster:
            agents = {number: cluster.start(number, folder) for number, folder in folders.items()}
            last = 0.0
            while time.monotonic() - start < 60 * args.minutes:
                # Both machines have joined and have the state, so one of them may be lost with its disk.
                last = cluster.wait_for_group(2, after=last)
                wait_until(
                    lambda: all(saved_position(f / "state.pth")[0] > 0 for f in folders.values()),
                    cluster.output,
                )
                time.sleep(rng.uniform(0, 10))
                event, number = rng.choice(events), rng.choice((1, 2))
                happened[event] += 1
                sys.stderr.write(f"{time.monotonic() - start:.0f} s: machine {number}: {event}\n")
                stops.append(disturb(cluster, event, number, agents))
            cluster.wait_for_group(2, after=last)
            for agent in agents.values():
                agent.terminate()
            images = cluster.images(EPOCH_ITERS)
            records = cluster.records()
        dataset = train_dataset(train_options(load_config(config, overrides)))
        expected = [dataset.sub_batch(i)["info"] for i in range(len(images))]
        if images != expected:
            first = next(
                i for i, (one, other) in enumerate(zip(images, expected, strict=True)) if one != other
            )
            wrong.append(f"sub-batch {first} differs from the undisturbed order")
        newest = max(folders.values(), key=lambda folder: saved_position(folder / "state.pth")) / "state.pth"
        course = torch.load(newest, weights_only=True)["course"]
        if course["sub_batches"] != len(images):
            wrong.append(f"the state counts {course['sub_batches']} sub-batches, trained are {len(images)}")
    trained = len({(record[1], record[2]) for record in records})
    groups = len({record[0] for record in records})
    out = sys.stdout.write
    out("# Machines that die, leave and return at random, and the order of the data\n\n")
    out(
        f"`python benchmarks/elastic.py --minutes {args.minutes:g} --seed {args.seed} "
        f"--parallel {args.parallel}`, "
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}\n\n"
    )
    out(f"{happened.total()} events in {(time.monotonic() - start) / 60:.0f} minutes:\n\n")
    out("".join(f"- {event}: {happened[event]}\n" for event in events))
    out(
        f"\n{trained} iterations by {groups} groups of one or two processes, {len(images)} sub-batches. "
        f"Iterations that were trained again, since they had not been saved: "
        f"{len({(r[0], r[1], r[2]) for r in records}) - trained}. The last state is from iteration "
        f"{course['iteration']}. Longest end after SIGTERM: {max(stops, default=0):.0f} s.\n\n"
    )
    verdict = (
        "Wrong: " + "; ".join(wrong) if wrong else "Every sub-batch counts once, in the undisturbed order"
    )
    out(f"**{verdict}.**\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
