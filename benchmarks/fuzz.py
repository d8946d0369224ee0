"""Do damaged inputs always end in a message? Random configs, lists, images, labels, checkpoints and words.

Each input is a tiny dataset with a trained run, of which one to three things are damaged, and a command that
reads it. Allowed are success, a message with exit code 2, and a message with exit code 1. Not allowed are a
traceback, an empty message, a raw warning, a command that hangs, a process that is left running, a file that
is not whole, and a change of the inputs or of results by a command that fails.

    python benchmarks/fuzz.py --seed 1 --inputs 10000 > benchmarks/results/fuzz.md
    python benchmarks/fuzz.py --seed 1 --only 17        (one input again, with its output)

The summary goes to standard output, also after Ctrl-C. The exit code is 1 if an input failed.
"""

import argparse
import datetime
import multiprocessing
import os
import platform
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from fuzzing.run import Verdict

_PER_PROCESS = 500  # inputs that one process runs
_MEMORY = 3 * 2**30  # bytes that a command may take beyond what is in memory already
_PACKAGES = ("torch", "numpy", "pillow", "pyyaml", "av", "timm")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="the inputs follow from it (default: 1)")
    parser.add_argument("--inputs", type=int, default=200, metavar="N", help="how many (default: 200)")
    parser.add_argument("--first", type=int, default=0, metavar="INDEX", help="the first (default: 0)")
    parser.add_argument("--only", type=int, metavar="INDEX", help="run one input and print its output")
    parser.add_argument(
        "--processes",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="share of the inputs that run as processes of their own (default: 0.005)",
    )
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    args = parser.parse_args()
    indices = [args.only] if args.only is not None else range(args.first, args.first + args.inputs)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.monotonic()
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as temporary:
        folder = (args.folder or Path(temporary)).absolute()
        found = _verdicts(args.seed, indices, folder, args.processes)
        with (
            suppress(KeyboardInterrupt),
            closing(found),
            tqdm(found, total=len(indices), unit="input") as bar,
        ):
            for verdict in bar:
                verdicts.append(verdict)
                if verdict.failures or args.only is not None:
                    bar.write(f"{verdict.report}\n", file=sys.stderr)
    failed = sum(bool(verdict.failures) for verdict in verdicts)
    if verdicts:
        sys.stdout.write(_summary(args.seed, verdicts, time.monotonic() - start))
    return 1 if failed else 0


def _verdicts(
    seed: int, indices: Sequence[int], folder: Path, processes: float
) -> Generator["Verdict", None, None]:
    """The verdicts on inputs, from one process after another, so that one which dies costs one input only."""
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < len(indices):
        receiver, sender = context.Pipe(duplex=False)
        share = indices[done : done + _PER_PROCESS]
        process = context.Process(target=_work, args=(seed, share, folder, processes, sender))
        process.start()
        sender.close()
        count = 0
        try:
            while count < len(share):
                yield receiver.recv()
                count += 1
        except EOFError:
            process.join()
            if not (folder / "template.complete").exists():
                raise SystemExit("The tiny world could not be built.") from None
            yield _dead(seed, share[count], process.exitcode, folder)
            count += 1
        finally:
            if sys.exc_info()[0] is not None:
                process.kill()
            process.join()
        done += count


def _work(seed: int, indices: Sequence[int], folder: Path, processes: float, sender: Connection) -> None:
    """Run inputs in this process and send their verdicts."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MIT_SEMSEG_MIRROR"] = str(folder / "nowhere")  # no input reaches the network
    import torch
    from fuzzing import world
    from fuzzing.run import run_input

    torch.set_num_threads(1)
    template, complete = folder / "template", folder / "template.complete"
    if not complete.exists():
        # What the commands print is of no interest here, and standard output is for the summary.
        kept = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        world.build(template)
        sys.stdout.flush()
        os.dup2(kept, 1)
        complete.touch()
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, resource.RLIM_INFINITY))
    for index in indices:
        sender.send(run_input(seed, index, template, folder / "case", processes=processes))


def _dead(seed: int, index: int, code: int | None, folder: Path) -> "Verdict":
    from fuzzing.run import Verdict

    stacks = folder / "case.stacks"
    text = stacks.read_text() if stacks.exists() else ""
    places = re.findall(r'File ".*?mit_semseg/(\S+)", line \d+ in (\S+)', text)[:3]
    what = "hangs in code that no signal interrupts" if text else f"the process died with code {code}"
    failure = f"{what} in {' < '.join(map(':'.join, places))}"
    return Verdict(index, None, [failure], f"input {index} of seed {seed}: {failure}\n{text}")


def _summary(seed: int, verdicts: "list[Verdict]", seconds: float) -> str:
    codes = Counter(str(verdict.code) for verdict in verdicts if not verdict.failures)
    kinds = Counter(re.sub(r"\d+", "N", failure) for verdict in verdicts for failure in verdict.failures)
    first = {}
    for verdict in verdicts:
        for failure in verdict.failures:
            first.setdefault(re.sub(r"\d+", "N", failure), verdict.index)
    start, end = verdicts[0].index, verdicts[-1].index
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    lines = [
        "# Damaged inputs",
        "",
        f"{datetime.date.today()}; Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, "
        f"one of them used. Seed {seed}, inputs {start} to {end}, {seconds / 60:.0f} minutes.",
        f"`python benchmarks/fuzz.py --seed {seed} --first {start} --inputs {len(verdicts)}`",
        "",
        "| outcome | inputs |",
        "|---|---|",
        *(f"| exit code {code} | {count} |" for code, count in sorted(codes.items())),
        f"| not allowed | {sum(bool(verdict.failures) for verdict in verdicts)} |",
    ]
    if kinds:
        lines += ["", "| failure | inputs | first |", "|---|---|---|"]
        lines += [f"| {kind[:300]} | {count} | {first[kind]} |" for kind, count in kinds.most_common()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
