"""Processes that this program starts, with torch's elastic agent: the signals to them, their errors."""

import ctypes
import json
import logging
import multiprocessing
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

from ..errors import DivergenceError, ProcessError, UserError
from .log import ignore_decoder_warnings
from .membership import call, has_lost_a_peer, process_group
from .stopping import (
    FORWARDED_SIGTERM,
    SAME_REQUEST_S,
    STOP_SIGNALS,
    expect_forwarded_signals,
    ignores_hangup,
    watching_signals,
)

_AGENT_LOGGERS = (
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.multiprocessing.spawn",
)
_AGENT_SIGNALS = tuple(  # Windows lacks two of them
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
_START_METHOD = "spawn"  # a fork would inherit threads' locks and what CUDA has initialized
_POLL_S = 0.1  # how often the agent checks its processes
_GRACE_S = 3.0  # how long a process that has lost a peer waits, so that the agent finds the peer first
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def start_processes(
    entry: Callable[..., Any], devices: Sequence[torch.device], args: tuple[Any, ...], timeout: timedelta
) -> Any:
    """Call ``entry(process, *args)`` in a new process for each device, as `launch.run_processes` says."""
    if FORWARDED_SIGTERM is None:
        raise UserError(
            f"Starting {len(devices)} processes needs the signal SIGUSR1, which this system lacks. "
            "Use one device (such as --gpus 0), or train with TRAIN.parallel dp."
        )
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
        start_method=_START_METHOD,
        local_addr="localhost",  # the system may not know its own name
    )
    newer: dict[str, Any] = {  # options of newer PyTorch
        "shutdown_timeout": int(timeout.total_seconds()),
        "signals_to_handle": ",".join(number.name for number in _agent_signals()),
    }
    known = {field.name for field in fields(LaunchConfig)}
    config = replace(config, **{name: value for name, value in newer.items() if name in known})
    with (
        tempfile.TemporaryDirectory() as reports,
        _quiet_agent(),
        _restoring_signal_handlers(),
        _forwarding_stop_signals(Path(reports)),
    ):
        try:
            return elastic_launch(config, _start)(entry, list(devices), args, timeout, reports)[0]
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise _explain(Path(reports), rank, failure.exitcode, devices) from None
        except SignalException as error:
            raise SystemExit(128 + error.sigval) from None


def _agent_signals() -> list[signal.Signals]:
    """The signals on which the agent ends the run."""
    return [number for number in _AGENT_SIGNALS if not (ignores_hangup() and number == signal.SIGHUP)]


@contextmanager
def _forwarding_stop_signals(reports: Path) -> Iterator[None]:
    """Inside the block, a request to stop is forwarded to the processes; a second one kills them.

    The agent itself would forward any signal as SIGTERM, which it also uses to end processes. The processes
    could not tell a request from that order, see `stopping.FORWARDED_SIGTERM`.

    Args:
        reports: folder with a file for each process, named by its id.
    """

    def watch(receiver: socket.socket) -> None:
        requested_at: float | None = None
        while received := receiver.recv(1):
            number: int | None = received[0]
            if number not in (*STOP_SIGNALS, FORWARDED_SIGTERM):
                continue
            requested_at = requested_at or time.monotonic()
            if time.monotonic() - requested_at > SAME_REQUEST_S:
                number = signal.SIGKILL
            elif number == signal.SIGTERM:
                number = FORWARDED_SIGTERM
            assert number is not None
            for file in reports.glob("*.pid"):
                with suppress(ProcessLookupError):
                    os.kill(int(file.stem), number)

    if threading.current_thread() is not threading.main_thread():  # other threads can't handle signals
        yield
        return
    assert FORWARDED_SIGTERM is not None
    before = signal.signal(FORWARDED_SIGTERM, lambda number, frame: None)  # the agent does not handle it
    try:
        with watching_signals(watch):
            yield
    finally:
        signal.signal(FORWARDED_SIGTERM, before)


def _start(
    entry: Callable[..., Any],
    devices: list[torch.device],
    args: tuple[Any, ...],
    timeout: timedelta,
    reports: str,
) -> Any:
    """The main function of each process. It reports its error in the folder ``reports``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all processes; the agent reports it
    if FORWARDED_SIGTERM is not None:
        signal.signal(FORWARDED_SIGTERM, signal.SIG_DFL)  # a fork inherits the agent's handler
    expect_forwarded_signals()
    die_with_parent()
    ignore_decoder_warnings()
    Path(reports, f"{os.getpid()}.pid").touch()
    rank = int(os.environ["RANK"])
    try:
        with process_group(devices[int(os.environ["LOCAL_RANK"])], timeout) as process:
            return call(entry, process, args)
    except (Exception, SystemExit) as error:  # an early exit with 0 would leave this process idle, not ended
        if isinstance(error, SystemExit) and error.code in [128 + number for number in STOP_SIGNALS]:
            raise  # it has stopped on request
        mistake, lost_peer = isinstance(error, UserError), has_lost_a_peer(error)
        diverged = isinstance(error, DivergenceError)
        needs_no_traceback = mistake or diverged or isinstance(error, ProcessError)
        text = str(error) if needs_no_traceback else traceback.format_exc()
        report = {
            "rank": rank,
            "mistake": mistake,
            "diverged": diverged,
            "lost_peer": lost_peer,
            "text": text,
        }
        Path(reports, f"{rank}.json").write_text(json.dumps(report), encoding="utf-8")
        if lost_peer:
            time.sleep(_GRACE_S)
        raise SystemExit(2 if mistake else 1) from None


def die_with_parent() -> None:
    """Have the system kill this process when its parent ends, for whatever reason; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and parent.pid != os.getppid():  # it had ended before the line above
            os._exit(1)


def _explain(folder: Path, rank: int, exitcode: int, devices: Sequence[torch.device]) -> BaseException:
    """The error to raise for a run in which process ``rank`` was the first to end."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    mistakes = dict.fromkeys(report["text"] for report in reports if report["mistake"])
    if mistakes:  # several processes may have made the same one
        return UserError("\n".join(mistakes))
    diverged = [report["text"] for report in reports if report["diverged"]]
    if diverged:  # all processes find the same, but each waits for rank 0 to find it in a state
        return DivergenceError(diverged[0])
    if FORWARDED_SIGTERM is not None and exitcode == -FORWARDED_SIGTERM:
        exitcode = -signal.SIGTERM
    for number in STOP_SIGNALS:
        if exitcode in (-number, 128 + number):  # the signal killed it, or it stopped on the signal
            return SystemExit(128 + number)
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = " The system does this when memory runs out." if exitcode == -signal.SIGKILL else ""
        return ProcessError(f"Process {rank} on {devices[rank]} was killed by {name}.{hint}")
    reports.sort(key=lambda report: (report["lost_peer"], report["rank"] != rank))
    if not reports:
        return ProcessError(f"Process {rank} on {devices[rank]} ended with exit code {exitcode}.")
    first = reports[0]
    return ProcessError(
        f"Process {first['rank']} on {devices[first['rank']]} failed.\n{first['text'].rstrip()}"
    )


@contextmanager
def _restoring_signal_handlers() -> Iterator[None]:
    """After the block, signals have the handlers from before it; the agent does not remove its own."""
    handlers = {number: signal.getsignal(number) for number in _AGENT_SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # in other threads, the agent sets none
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """Inside the block, torch does not log how its processes ended. The exception already says so."""
    loggers = [logging.getLogger(name) for name in _AGENT_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
