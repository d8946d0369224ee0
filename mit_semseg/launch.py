"""Starting the processes of a run, one a device, and ending all of them when one fails."""

import ctypes
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .cores import count_cores
from .distributed import Place, count_processes_here
from .errors import ProcessError, UserError
from .stopping import OVER, PASSED_ON, REQUESTS, TOGETHER_S, obey_launcher, watching_signals

_AGENT_LOGGERS = (
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.multiprocessing.spawn",
)
_AGENT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_POLL_S = 0.1  # how often the agent looks after its processes
_GRACE_S = 3.0  # how long one that has lost a peer waits, so that the agent finds the peer first
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def run(entry: Callable[..., Any], devices: Sequence[torch.device], *args: Any, timeout_s: float) -> Any:
    """Call ``entry(place, *args)`` in one process a device.

    With one device it runs in this process. With several, torch's elastic agent starts a process for each and
    ends all of them when one fails. SIGTERM and SIGINT are passed on to them, and end them unless they are in
    a block of `stopping.requests`; a second one kills them. A process that torchrun has started takes the
    place that its environment gives it, whatever the number of devices.

    Args:
        entry: a function at the top level of a module, since it is sent to the processes by name.
        timeout_s: limit for one exchange between the processes, in seconds.

    Returns: what ``entry`` returned here, or in rank 0 of the processes that were started.
    Raises: UserError with the messages of the processes that ended with one, ProcessError with the first
        other error, SystemExit with 128 + its number for a signal that ended the run.
    """
    timeout = timedelta(seconds=timeout_s)
    if started_by_torchrun():
        with _process_group(_own_device(devices), timeout) as place:
            return entry(place, *args)
    if len(devices) == 1:
        return entry(Place(0, 1, devices[0]), *args)
    return _launch(entry, devices, args, timeout)


def started_by_torchrun() -> bool:
    """Whether torchrun, or another launcher that sets up the same environment, has started this process."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def count_processes(devices: Sequence[torch.device]) -> int:
    """How many processes :func:`run` works with."""
    return int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else len(devices)


def is_first_process() -> bool:
    """Whether this process speaks and writes for the run; False for all but rank 0 under torchrun."""
    return not started_by_torchrun() or os.environ.get("RANK") == "0"


def _own_device(devices: Sequence[torch.device]) -> torch.device:
    """The device of this process among those of its machine; the CPU serves any number of processes."""
    local_rank = int(os.environ["LOCAL_RANK"])
    if devices[0].type == "cpu":
        return devices[0]
    if local_rank >= len(devices):
        raise UserError(
            f"This is process {local_rank + 1} on its machine, but --gpus names {len(devices)} devices. "
            f"Start as many processes: torchrun --nproc-per-node {len(devices)}."
        )
    return devices[local_rank]


@contextmanager
def _process_group(device: torch.device, timeout: timedelta) -> Iterator[Place]:
    """This process among the others, as the environment says."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, count_cores() // count_processes_here()))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    yield Place(dist.get_rank(), dist.get_world_size(), device)
    dist.destroy_process_group()  # only after a success: after a failure it may wait for peers that are gone


def _launch(
    entry: Callable[..., Any], devices: Sequence[torch.device], args: tuple[Any, ...], timeout: timedelta
) -> Any:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=len(devices),
        run_id="mit-semseg",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=_POLL_S,
        start_method="spawn",
    )
    if "shutdown_timeout" in {field.name for field in fields(LaunchConfig)}:  # newer PyTorch
        config = replace(config, shutdown_timeout=int(timeout.total_seconds()))
    with tempfile.TemporaryDirectory() as reports, _quiet_agent(), _own_signals(), _passing_on(Path(reports)):
        try:
            return elastic_launch(config, _start)(entry, list(devices), args, timeout, reports)[0]
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise _explain(Path(reports), rank, failure.exitcode, devices) from None
        except SignalException as error:
            raise SystemExit(128 + error.sigval) from None


@contextmanager
def _passing_on(reports: Path) -> Iterator[None]:
    """Inside the block, requests to stop are passed on to the processes, which are known by their files.

    The agent does so too, but by the signal that it ends processes with. A second request kills them.
    """

    def watch(receiver: socket.socket) -> None:
        first: float | None = None
        while (received := receiver.recv(1)) != OVER:
            if received[0] not in REQUESTS:
                continue
            first = first or time.monotonic()
            again = time.monotonic() - first > TOGETHER_S
            number = signal.SIGKILL if again else PASSED_ON[signal.Signals(received[0])]
            for file in reports.glob("*.pid"):
                with suppress(ProcessLookupError):
                    os.kill(int(file.stem), number)

    if threading.current_thread() is not threading.main_thread():  # elsewhere Python takes no signals
        yield
        return
    with watching_signals(watch):
        yield


def _start(
    entry: Callable[..., Any],
    devices: list[torch.device],
    args: tuple[Any, ...],
    timeout: timedelta,
    reports: str,
) -> Any:
    """What each process begins with; its error goes into the folder ``reports``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all; the agent speaks for them
    obey_launcher()
    die_with_parent()
    Path(reports, f"{os.getpid()}.pid").touch()
    rank = int(os.environ["RANK"])
    try:
        with _process_group(devices[int(os.environ["LOCAL_RANK"])], timeout) as place:
            return entry(place, *args)
    except (Exception, SystemExit) as error:  # an early exit with 0 would leave this process idle, not ended
        if isinstance(error, SystemExit) and error.code in [128 + number for number in REQUESTS]:
            raise  # a request to stop has been answered
        mistake, lost_peer = isinstance(error, UserError), _has_lost_a_peer(error)
        told = mistake or isinstance(error, ProcessError)  # in words that need no traceback
        text = str(error) if told else traceback.format_exc()
        report = {"rank": rank, "mistake": mistake, "lost_peer": lost_peer, "text": text}
        Path(reports, f"{rank}.json").write_text(json.dumps(report), encoding="utf-8")
        if lost_peer:
            time.sleep(_GRACE_S)
        raise SystemExit(2 if mistake else 1) from None


def die_with_parent() -> None:
    """Have the system end this process when the one that started it is gone, however that came."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _has_lost_a_peer(error: BaseException) -> bool:
    """Whether the error only says that another process has gone away."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _explain(folder: Path, rank: int, exitcode: int, devices: Sequence[torch.device]) -> BaseException:
    """The error to raise for a run whose process ``rank`` was found ended first."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    mistakes = dict.fromkeys(report["text"] for report in reports if report["mistake"])
    if mistakes:  # several processes may meet the same one
        return UserError("\n".join(mistakes))
    for number in REQUESTS:
        if exitcode in (-number, 128 + number):  # as a signal, or as the exit code that stands for it
            return SystemExit(128 + number)
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " The system does that when memory runs out." if exitcode == -signal.SIGKILL else ""
        return ProcessError(f"Process {rank} on {devices[rank]} was ended by {name}.{hint}")
    reports.sort(key=lambda report: (report["lost_peer"], report["rank"] != rank))
    if not reports:
        return ProcessError(f"Process {rank} on {devices[rank]} ended with exit code {exitcode}.")
    first = reports[0]
    return ProcessError(
        f"Process {first['rank']} on {devices[first['rank']]} failed.\n{first['text'].rstrip()}"
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """The handlers of before, after the block: the agent leaves its own behind."""
    handlers = {number: signal.getsignal(number) for number in _AGENT_SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere the agent sets none
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """Inside the block torch does not log the end of its processes; the exception tells all of it."""
    loggers = [logging.getLogger(name) for name in _AGENT_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
