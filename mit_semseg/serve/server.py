"""The life of a server: its address, its workers, its end after a signal."""

import argparse
import asyncio
import errno
import itertools
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UserError
from ..runtime.log import ignore_decoder_warnings
from ..runtime.machine import cpu_count
from .app import build_app
from .command import DEFAULT_MODEL, TOKEN_VARIABLE
from .engine import Engine, Limits
from .messages import ModelSource
from .metrics import Metrics
from .workers import starter

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_BACKLOG = 1024
_HEADER_S = 20  # for the head of a request, and between two requests of a connection


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal arrives.

    Raises: UserError for an address or a model that cannot be used.
    """
    sources = model_sources(args.words, args.cfg or [])
    limits = Limits(
        max_bytes=args.max_bytes,
        max_pixels=args.max_pixels,
        max_queue=args.max_queue,
        max_batch=args.max_batch,
        body_s=args.body_timeout,
        answer_s=args.timeout,
    )
    token = args.token or os.environ.get(TOKEN_VARIABLE, "")
    ignore_decoder_warnings()
    with bound_socket(args.host, args.port) as listening:
        places = worker_places(args.gpus, args.workers)
        starters = [starter(sources, device, threads) for device, threads in places]
        if args.host not in _LOOPBACK:
            warning = "" if token else " without a token, so anyone who reaches this machine can use it"
            sys.stderr.write(f"Warning: listening on {args.host}{warning}. Traffic is not encrypted.\n")
        return asyncio.run(_serve(listening, starters, limits, token))


def model_sources(words: Sequence[str], files: Sequence[str]) -> list[ModelSource]:
    """The models that the command line names, each with a name of its own.

    Args:
        words: models; or KEY VALUE, if there are config files.
    """
    if files:
        return [ModelSource(_name(files[-1]), files=tuple(files), overrides=tuple(words))]
    sources: list[ModelSource] = []
    for word in words or [DEFAULT_MODEL]:
        name = _name(word)
        taken = {source.name for source in sources}
        free = (f"{name}-{k}" for k in itertools.count(2) if f"{name}-{k}" not in taken)
        sources.append(ModelSource(next(free) if name in taken else name, word))
    return sources


def _name(source: str) -> str:
    """The last part of a path, without ``.yaml``; of the folder, for its config.yaml."""
    path = Path(source).absolute()
    return path.parent.name if path.name == "config.yaml" else path.name.removesuffix(".yaml")


def worker_places(gpus: str | None, workers: int | None) -> list[tuple[str | None, int]]:
    """The device of each worker, and the number of threads that it computes with.

    None is the first GPU, or the CPU without one.

    Raises: UserError for GPUs that do not exist.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")  # torch reads it, too
    cores = min(cpu_count(), int(wanted)) if wanted.isdecimal() and int(wanted) else cpu_count()
    if gpus is None and workers is None:
        return [(None, cores)]
    if gpus == "cpu":
        return [("cpu", max(1, cores // (workers or 1)))] * (workers or 1)
    from ..runtime.devices import find_devices  # imports torch, which the server does without if it can

    devices = find_devices(gpus)
    if devices[0].type == "cpu":
        return worker_places("cpu", workers)
    if workers is not None and workers > len(devices):
        raise UserError(
            f"--workers is {workers}, but there are only {len(devices)} GPUs, each for one worker. "
            "Lower it, or add --gpu cpu."
        )
    used = devices[: workers or len(devices)]
    return [(str(device), max(1, cores // len(used))) for device in used]


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address, which does not listen yet. Raises: UserError if it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} is not an address of this machine: {error}.") from error
    # With the protocol, asyncio sends the parts of an answer at once. Without it, the second part waits 40 ms
    # for the client to acknowledge the first one.
    bound = socket.socket(family, kind, protocol)
    with bound:
        if os.name == "posix":  # elsewhere it would let two servers share the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield bound


def _unusable(host: str, port: int, error: OSError) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(f"Port {port} of {host} is in use. Stop its program, or pass another --port.")
    return UserError(f"Port {port} of {host} cannot be used: {error.strerror}.")


async def _serve(listening: socket.socket, starters: Sequence[Any], limits: Limits, token: str) -> int:
    engine = Engine(limits, Metrics())
    server = _Server(engine, token)
    try:
        with server.stopping_on_signals():
            started = asyncio.ensure_future(engine.start(starters))
            stopped = asyncio.ensure_future(server.stop.wait())
            await asyncio.wait([started, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not started.done():
                started.cancel()
                return 0
            started.result()
            host, port = listening.getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            names = ", ".join(model.name for model in engine.models)
            try:
                listening.listen(_BACKLOG)  # before the line, which tells scripts that they can connect
            except OSError as error:  # another server was bound to the port as well, and listened first
                raise _unusable(host, port, error) from error
            sys.stdout.write(f"Serving {names} at http://{address}:{port} (stop with Ctrl-C)\n")
            sys.stdout.flush()
            await server.serve([listening])
            return 0 if server.in_time else 1
    finally:
        await engine.close()


class _Protocol(H11Protocol):
    """HTTP that does not wait forever for the head of a connection's first request."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(_HEADER_S, self._close_without_request)

    def _close_without_request(self) -> None:
        if self.cycle is None:
            self.transport.close()


class _Server(uvicorn.Server):
    """A uvicorn server that stops on signals without ending by them.

    Attributes:
        stop: set by the first signal.
        in_time: whether all accepted requests have been answered.
    """

    def __init__(self, engine: Engine, token: str) -> None:
        limits = engine.limits
        super().__init__(
            uvicorn.Config(
                build_app(engine, token),
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,  # uvicorn's would close the handlers that other libraries have installed
                log_level="warning",
                access_log=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_HEADER_S,
                timeout_graceful_shutdown=int(limits.body_s + limits.answer_s) + 5,
            )
        )
        self.stop = asyncio.Event()
        self.in_time = True
        self._engine = engine
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """Inside the block, the first SIGTERM or Ctrl-C asks the server to stop, and the second ends it."""
        former = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `stopping_on_signals`; uvicorn would end the process with them."""
        yield

    def _on_signal(self, number: int, frame: Any) -> None:
        self.force_exit = self.should_exit
        self.should_exit = self._engine.draining = True
        self._loop.call_soon_threadsafe(self.stop.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = self._engine.unanswered
        if waiting:
            sys.stderr.write(f"Stopping: {waiting} requests are answered first.\n")
        await super().shutdown(sockets)
        self.in_time = not self.force_exit and not self._engine.unanswered
