"""One input from beginning to end: draw it, run its command in this process or in another, and judge it."""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from mit_semseg.cli import main

from . import cases, judge, world

PATIENCE = 20.0
"""Seconds that a command may take."""

_START = 100.0  # more seconds for a process of its own, which has to import torch on a busy machine
_IDLE = 0.05  # share of the time below which a process counts as waiting
_FRAMES = 3  # of a traceback, that tell failures apart
_SIGNALED = (0, 1, 2, 130, 143, -signal.SIGTERM, -signal.SIGINT)
_PROGRAM = "import sys; from mit_semseg.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Verdict:
    """The result of one input.

    Attributes:
        index: of the input.
        code: the exit code; None for an exception or a hang.
        failures: a sentence each; empty for an allowed outcome.
        report: the command, the damage, the output and the traceback, as text.
    """

    index: int
    code: int | None
    failures: list[str] = field(default_factory=list)
    report: str = ""


class _HungError(BaseException):
    """Raised in a command that takes too long."""


def run_input(seed: int, index: int, template: Path, folder: Path, *, processes: float = 0.0) -> Verdict:
    """Run input ``index`` of a seed in ``folder``, which becomes a damaged copy of ``template``.

    Args:
        processes: share of the inputs that run as processes of their own, some of which get a signal.
    """
    rng = Random(f"{seed}-{index}")
    world.copy(template, folder)
    with world.inside(folder), warnings.catch_warnings():  # warnings that were shown are shown again
        case = cases.draw(rng)
        before = judge.snapshot(folder)
        alone = rng.random() < processes
        sent = rng.choice([0, 0, signal.SIGTERM, signal.SIGINT]) if alone else 0
        if alone:
            ended = _in_own_process(case.words, sent, after=rng.uniform(1, 12))
        else:
            ended = _in_this_process(case.words, folder.with_suffix(".output"))
        failures = judge.failures(ended, folder, before, codes=_SIGNALED if sent else judge.ALLOWED_CODES)
    report = "\n".join(
        [
            f"input {index} of seed {seed}: {' '.join(map(repr, case.words))}",
            *(f"  {damage}" for damage in case.damages),
            *([f"  as a process{f', with signal {sent}' if sent else ''}"] if alone else []),
            f"exit code {ended.code}",
            *(f"  FAILURE: {failure}" for failure in failures),
            ended.trace or ended.out[-1500:] + ended.err[-3000:],
        ]
    )
    return Verdict(index, ended.code, failures, report)


def _in_this_process(words: list[str], file: Path) -> judge.Ended:
    code: int | None = None
    problem = trace = ""
    threads = set(threading.enumerate())
    with _captured(file) as read, _watched(file.with_suffix(".stacks")):
        try:
            code = main(words)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except _HungError as hung:
            problem, trace = _signature(hung, "hangs"), traceback.format_exc()
        except BaseException as error:
            problem, trace = _signature(error, type(error).__name__), traceback.format_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = read()
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
        child.join()
    if not problem and children:
        problem = f"processes are left running: {len(children)}"
    left = [each for each in threading.enumerate() if each not in threads and not each.daemon]
    if not problem and left:
        problem = f"threads are left running: {[each.name for each in left]}"
    return judge.Ended(code, out, err, problem, trace)


@contextlib.contextmanager
def _captured(file: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    """Inside the block, descriptors 1 and 2 lead into files, also for libraries in C. Yields a reader."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    names = [file.with_suffix(f".{number}") for number in (1, 2)]
    opened = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in names]
    try:
        for number, descriptor in enumerate(opened, start=1):
            os.dup2(descriptor, number)
        yield lambda: tuple(name.read_text(errors="replace") for name in names)  # type: ignore[return-value]
    finally:
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
        for descriptor in (*kept, *opened):
            os.close(descriptor)


@contextlib.contextmanager
def _watched(stacks: Path) -> Iterator[None]:
    """Inside the block, waiting or computing for too long raises an error in the main thread.

    A command in C code that no signal interrupts ends the process, after it wrote its stacks to a file.
    """
    last = [time.process_time(), 0.0]

    def alarm(number: int, frame: FrameType | None) -> None:
        used = time.process_time() - last[0]
        last[1] += used
        if last[1] > PATIENCE or used < _IDLE * PATIENCE:
            raise _HungError(f"after {last[1]:.0f} s of computing")
        last[0] = time.process_time()  # a busy machine: not yet
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    with stacks.open("w") as file:
        faulthandler.dump_traceback_later(10 * PATIENCE, exit=True, file=file)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, before)


def _in_own_process(words: list[str], sent: int, *, after: float) -> judge.Ended:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *(word.replace("\0", "") for word in words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    problem = ""
    try:
        if sent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
            process.send_signal(sent)
        out, err = process.communicate(timeout=PATIENCE + _START)
    except subprocess.TimeoutExpired:
        problem = "hangs as a process"
        process.kill()
        out, err = process.communicate()
    left = _in_session(process.pid)
    for each in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    if left and not problem:
        problem = f"processes are left running: {len(left)}"
    texts = [stream.decode(errors="replace") for stream in (out, err)]
    return judge.Ended(process.returncode, *texts, problem=problem, trace="\n".join(texts) if problem else "")


def _in_session(session: int) -> list[int]:
    """The processes of a session that are still there after a grace of some seconds (Linux)."""
    for _ in range(20):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found.append(int(stat.parent.name))
        if not found:
            return []
        time.sleep(0.5)
    return found


def _signature(error: BaseException, name: str) -> str:
    """An error and the last places in this package that it passed, so that equal ones can be counted."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "mit_semseg" in frame.filename] or frames
    places = [f"{frame.filename.rpartition('mit_semseg/')[2]}:{frame.name}" for frame in own[-_FRAMES:]]
    return f"{name} in {' > '.join(places)}"
