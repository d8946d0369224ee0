"""The life of a server: its start, workers that die, its end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import picture, png, serving

from mit_semseg.serve import server as life
from mit_semseg.serve.engine import Engine, Limits
from mit_semseg.serve.metrics import Metrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


def test_a_port_in_use_is_named_before_a_model_is_loaded(call):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = call("serve", "no-such-model", "--port", port)
    assert outcome.code == 2
    assert outcome.err == (f"Port {port} of 127.0.0.1 is in use. Stop its program, or pass another --port.\n")


def test_a_missing_model_is_named(call, tmp_path):
    outcome = call("serve", tmp_path / "nothing", "--port", 0, "--host", "0.0.0.0")
    assert outcome.code == 2
    assert outcome.err.startswith(
        "Warning: listening on 0.0.0.0 without a token, so anyone who reaches this machine can use it."
    )
    assert f"{tmp_path}/nothing does not exist." in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "'70000' is not a port from 0 to 65535"),
        (["--workers", "0"], "'0' is not a whole number of at least 1"),
        (["--timeout", "nan"], "'nan' is not a number of seconds of at least 0.1"),
        (["--host", "no such host"], "--host no such host is not an address of this machine"),
        (["--host", "203.0.113.1"], "of 203.0.113.1 cannot be used"),
    ],
)
def test_mistakes_on_the_command_line(call, words, message):
    outcome = call("serve", "--gpu", "cpu", *words)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_missing_package_is_named(call, monkeypatch):
    monkeypatch.delitem(sys.modules, "mit_semseg.serve.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = call("serve")
    assert outcome.code == 2
    assert outcome.err == "The package uvicorn is missing. Run: pip install '.[serve]'\n"


def test_a_connection_that_sends_no_request_is_closed(monkeypatch):
    monkeypatch.setattr(life, "_HEADER_S", 0.2)

    async def go():
        server = life._Server(Engine(Limits(), Metrics()), token="")
        with life.bound_socket("127.0.0.1", 0) as listening:
            running = asyncio.ensure_future(server.serve([listening]))
            while not server.started:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"POST /v1/segment HTTP/1.1\r\nHost: a")
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            server.should_exit = True
            await running

    asyncio.run(go())


def send_until(server, stop, image):
    """The statuses of requests, sent one after the other until an event is set."""
    statuses = []
    while not stop.is_set():
        statuses.append(server.segment(image)[0])
    return statuses


def wait_for_workers(server, count):
    deadline = time.monotonic() + 150
    while server.metric("workers_ready") != count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_worker_is_replaced_and_sigterm_loses_no_request(trained):
    image = png(picture(600, 400))
    with serving("--workers", "2", trained) as server, ThreadPoolExecutor(8) as pool:
        wait_for_workers(server, 2)
        stop = threading.Event()
        loads = [pool.submit(send_until, server, stop, image) for _ in range(8)]
        time.sleep(0.5)
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for_workers(server, 1)
        wait_for_workers(server, 2)
        assert victim not in server.worker_pids()
        time.sleep(0.5)
        stop.set()
        statuses = [status for load in loads for status in load.result()]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= 2 * 8  # what the worker held: two batches
        assert statuses.count(200) > 10

        last = [pool.submit(server.segment, image) for _ in range(8)]
        while server.metric("queue_length") == 0 and not all(request.done() for request in last):
            pass
        server.command.send_signal(signal.SIGTERM)
        accepted = [request.result() for request in last if request.exception() is None]
        outcome = server.command.finish()
        assert outcome.code == 0, outcome.err
        assert [status for status, _ in accepted] == [200] * len(accepted)
        assert accepted
        assert "A worker has died (SIGKILL)" in outcome.err


def test_a_stuck_worker_is_replaced_and_a_killed_server_leaves_no_worker(trained):
    image = png(picture())
    with serving("--timeout", "2", trained) as server:
        (stuck,) = server.worker_pids()
        os.kill(stuck, signal.SIGSTOP)
        status, answer = server.segment(image)
        assert (status, answer["detail"][:25]) in (
            (503, "There was no answer withi"),
            (503, "The worker with this imag"),
        )
        wait_for_workers(server, 0)
        wait_for_workers(server, 1)
        assert server.segment(image)[0] == 200
        (worker,) = server.worker_pids()
        assert worker != stuck
        server.command.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while os.path.exists(f"/proc/{worker}"):  # noqa: PTH110
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_parts_of_an_answer_are_sent_at_once(host):
    """asyncio sets TCP_NODELAY for sockets that name their protocol only."""
    with life.bound_socket(host, 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_log_handlers_of_other_libraries_stay_open():
    class Handler(logging.StreamHandler):
        closed = False

        def close(self):
            self.closed = True

    async def build():
        life._Server(Engine(Limits(), Metrics()), token="")

    handler = Handler()
    asyncio.run(build())
    assert not handler.closed


def test_every_model_has_a_name_of_its_own():
    words = ["ckpt/mine", "runs/mine/", "mine/config.yaml", "config/toy.yaml", "toy"]
    names = [source.name for source in life.model_sources(words, [])]
    assert names == ["mine", "mine-2", "mine-3", "toy", "toy-2"]
    (default,) = life.model_sources([], [])
    assert default.name == "camvid-efficientnet_lite0-upernet"
    (merged,) = life.model_sources(["DIR", "x"], ["recipe.yaml", "data.yaml"])
    assert (merged.name, merged.files, merged.overrides) == (
        "data",
        ("recipe.yaml", "data.yaml"),
        ("DIR", "x"),
    )


def test_workers_on_the_cpu_share_its_cores(monkeypatch):
    monkeypatch.setattr(life, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert life.worker_places(None, None) == [(None, 8)]
    assert life.worker_places("cpu", 3) == [("cpu", 2)] * 3
    assert life.worker_places("cpu", 20) == [("cpu", 1)] * 20
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert life.worker_places("cpu", 2) == [("cpu", 2)] * 2
