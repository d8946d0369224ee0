"""Fetching from a local server that answers well, wrongly, in part, slowly, or not at all."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mit_semseg.errors import UserError
from mit_semseg.models.download import fetch

ZIP = b"PK\x03\x04" + bytes(range(256)) * 40
LEGACY = b"\x80\x02" + bytes(range(256)) * 40
HTML = b"<!DOCTYPE html><html><head><title>Down for maintenance</title></head></html>"


class Server(ThreadingHTTPServer):
    """Answers every request by the next of ``answers``, again and again by the last one."""

    daemon_threads = True
    block_on_close = False  # a handler that sleeps on purpose does not hold up the test

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Callable[[Handler], None]] = []
        self.requests = 0
        self.url = f"http://127.0.0.1:{self.server_port}/model.pth"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that give up are what these tests are about


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answers = self.server.answers
        answer = answers[min(self.server.requests, len(answers) - 1)]
        self.server.requests += 1
        answer(self)

    def log_message(self, *args: object) -> None:
        pass

    def head(
        self, status: int = 200, length: int | None = None, kind: str = "application/octet-stream"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def sends(body: bytes, status: int = 200, length: int | None = None) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        kind = "text/html" if body == HTML else "application/octet-stream"
        handler.head(status, len(body) if length is None else length, kind)
        handler.wfile.write(body)

    return answer


def sends_slowly(pieces: list[bytes], pause_s: float, length: int | None) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.head(length=length)
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause_s)

    return answer


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fails(url: str, file: Path, **options: float) -> str:
    """The message of a fetch that fails, and leaves nothing."""
    settings = {"timeout_s": 0.4, "retries": 0, "backoff_s": 0.01, **options}
    with pytest.raises(UserError) as error:
        fetch(url, file, **settings)  # type: ignore[arg-type]
    assert not file.parent.exists() or list(file.parent.iterdir()) == []
    return str(error.value)


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Without the rights of root, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root cannot become another user here")
    try:
        yield
    finally:
        os.seteuid(0)


# When all is well


@pytest.mark.parametrize("body", [ZIP, LEGACY])
def test_a_file_arrives_byte_by_byte_with_a_bar_and_nothing_beside_it(
    body: bytes, server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answers = [sends(body)]
    file = tmp_path / "new" / "folder" / "model.pth"
    assert fetch(server.url, file) == file
    assert file.read_bytes() == body
    assert list(file.parent.iterdir()) == [file]
    out, err = capfd.readouterr()
    assert out == ""
    assert "model.pth: 100%" in err
    assert "10.0k/10.0k" in err


@pytest.mark.parametrize("size", [4, 63, 64, 65, (1 << 18) + 63, (1 << 19) + 64])
@pytest.mark.parametrize("tell_length", [True, False])
def test_a_file_of_any_size_arrives(size: int, tell_length: bool, server: Server, tmp_path: Path) -> None:
    body = (ZIP * (size // len(ZIP) + 1))[:size]
    server.answers = [sends(body) if tell_length else sends_slowly([body], 0, None)]
    assert fetch(server.url, tmp_path / "model.pth").read_bytes() == body


def test_a_file_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(b"mine")
    assert fetch("http://127.0.0.1:9/never-asked", file) == file
    assert file.read_bytes() == b"mine"


def test_others_may_read_the_file_as_the_umask_says(server: Server, tmp_path: Path) -> None:
    server.answers = [sends(ZIP)]
    before = os.umask(0o022)
    try:
        file = fetch(server.url, tmp_path / "model.pth")
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_slow_server_that_goes_on_is_waited_for_beyond_the_time_out(server: Server, tmp_path: Path) -> None:
    pieces = [ZIP[i : i + 1024] for i in range(0, len(ZIP), 1024)]
    server.answers = [sends_slowly(pieces, 0.08, len(ZIP))]
    assert fetch(server.url, tmp_path / "model.pth", timeout_s=0.4, retries=0).read_bytes() == ZIP


@pytest.mark.parametrize(
    "first",
    [sends(HTML), sends(HTML, status=503), sends(ZIP[:5000], length=len(ZIP)), sends(b"", status=429)],
)
def test_another_attempt_gets_it_when_the_first_failed(
    first: Callable[[Handler], None], server: Server, tmp_path: Path
) -> None:
    server.answers = [first, sends(ZIP)]
    assert fetch(server.url, tmp_path / "model.pth", retries=1, backoff_s=0.01).read_bytes() == ZIP
    assert server.requests == 2


# When the server fails


def test_html_in_place_of_the_file_is_refused_with_what_came_and_where_to_put_it(
    server: Server, tmp_path: Path
) -> None:
    server.answers = [sends(HTML)]
    file = tmp_path / "model.pth"
    assert fails(server.url, file, retries=2) == (
        f"{server.url} could not be fetched: the server answered with HTML instead of a checkpoint "
        "('<!DOCTYPE html><html><head><title>Down for maintenance</title></'). "
        f"Put the file at {file} by hand."
    )
    assert server.requests == 3


@pytest.mark.parametrize(
    ("answer", "reason", "requests"),
    [
        (sends(HTML, status=503), "the server answered 503 Service Unavailable", 2),
        (
            sends(HTML, status=404),
            "the server answered 404 Not Found",
            1,
        ),  # it would not be there the next time
        (sends(b"GIF89a" + ZIP), "something else instead of a checkpoint ('GIF89aPK", 2),
        (sends(ZIP[:5000], length=len(ZIP)), f"cut off after 5000 of {len(ZIP)} bytes", 2),
        (sends(b"PK"), "instead of a checkpoint ('PK')", 2),
        (sends(b"", length=100), "cut off after 0 of 100 bytes", 2),
        (sends(b""), "the answer is empty", 2),
        (sends_slowly([ZIP[:70]], 5, len(ZIP)), "nothing came for 0.4 s", 2),
        (sends_slowly([b""], 5, len(ZIP)), "nothing came for 0.4 s", 2),
        (sends_slowly([ZIP[:64], *[b"x"] * 50], 0.05, len(ZIP)), "the server is stuck: 9 bytes came in", 1),
        (lambda handler: handler.wfile.write(b"what?\r\n\r\n"), "the connection broke (BadStatusLine", 2),
        (lambda handler: time.sleep(5), "nothing came for 0.4 s", 2),
    ],
)
def test_a_failing_server_is_named_with_the_reason(
    answer: Callable[[Handler], None], reason: str, requests: int, server: Server, tmp_path: Path
) -> None:
    server.answers = [answer]
    retries = 0 if "stuck" in reason else 1
    message = fails(server.url, tmp_path / "model.pth", retries=retries)
    assert reason.split("9 bytes")[0] in message
    assert server.url in message
    assert f"Put the file at {tmp_path / 'model.pth'} by hand." in message
    assert server.requests == requests


def test_a_closed_port_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/model.pth"  # bound, but nobody listens
        assert "connection refused" in fails(url, tmp_path / "model.pth", retries=1)


def test_a_server_that_accepts_and_keeps_silent_costs_the_time_out_only(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        message = fails(f"http://127.0.0.1:{silent.getsockname()[1]}/x", tmp_path / "model.pth", retries=1)
    assert "nothing came for 0.4 s" in message
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    "url", ["not a url", "gopher://host/file", "http://bad host/file", "http://[::1/file"]
)
def test_what_is_no_url_is_refused_without_another_attempt(url: str, tmp_path: Path) -> None:
    start = time.monotonic()
    assert url in fails(url, tmp_path / "model.pth", backoff_s=0.0)
    assert time.monotonic() - start < 1


def test_a_file_that_the_check_refuses_is_not_kept(server: Server, tmp_path: Path) -> None:
    def check(path: Path) -> None:
        assert path.read_bytes() == ZIP
        raise UserError("no good")

    server.answers = [sends(ZIP)]
    with pytest.raises(UserError, match=f"the {len(ZIP)} bytes that came are not a whole checkpoint. Put"):
        fetch(server.url, tmp_path / "model.pth", retries=0, check=check)
    assert list(tmp_path.iterdir()) == []


# When the disk fails


@pytest.mark.parametrize(("mode", "may"), [(0o555, "read"), (0o444, "list"), (0o000, "nothing")])
def test_a_folder_without_permission_is_named(mode: int, may: str, server: Server) -> None:
    server.answers = [sends(ZIP)]
    with tempfile.TemporaryDirectory() as name:  # not in tmp_path, which root keeps to itself
        folder = Path(name)
        folder.chmod(mode)
        with ordinary_user(), pytest.raises(UserError) as error:
            fetch(server.url, folder / "model.pth")
        folder.chmod(0o700)
        assert list(folder.iterdir()) == []
    assert str(error.value) == (
        f"{folder}/model.pth cannot be written: Permission denied. The folder is {folder}. "
        "Make it writable, or choose another folder."
    )
    assert server.requests == 0


def test_a_file_in_place_of_the_folder_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written: (File exists|Not a directory)"):
        fetch(server.url, tmp_path / "file" / "model.pth")


def test_a_full_disk_leaves_nothing_and_no_attempt_is_repeated(server: Server, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for the full disk
    server.answers = [sends(ZIP)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=f"{os.strerror(errno.EFBIG)}.*Make room there"):
            fetch(server.url, tmp_path / "model.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert server.requests == 1


def test_an_interrupt_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.answers = [sends_slowly([ZIP[:3000]], 5, len(ZIP))]
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, tmp_path / "model.pth", timeout_s=5)
    timer.join()
    assert list(tmp_path.iterdir()) == []


# When several want it at once


def test_one_fetches_and_the_others_wait(server: Server, tmp_path: Path) -> None:
    server.answers = [sends_slowly([ZIP[:100], ZIP[100:]], 0.15, len(ZIP))]
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: fetch(server.url, tmp_path / "model.pth"), range(8)))
    assert [file.read_bytes() for file in files] == [ZIP] * 8
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "model.pth"]


def test_those_who_wait_fail_with_the_one_that_fetches(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda handler: (time.sleep(0.3), sends(HTML)(handler))]  # type: ignore[list-item,return-value]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch, server.url, tmp_path / "model.pth", retries=0) for _ in range(4)]
        messages = {str(job.exception()) for job in jobs}
    assert len(messages) == 1
    assert "HTML" in messages.pop()
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


WAIT_AND_FETCH = """
import os, sys, time
from pathlib import Path
from mit_semseg.models.download import fetch
url, file, go = sys.argv[1:]
Path(f"{go}.{os.getpid()}").touch()
while not Path(go).exists():
    time.sleep(0.01)
fetch(url, file)
"""


@contextlib.contextmanager
def processes(
    count: int, server: Server, file: Path, scratch: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that begin to fetch at the same moment, when the block begins; none outlives it."""
    scratch.mkdir()
    go = scratch / "go"
    command = [sys.executable, "-c", WAIT_AND_FETCH, server.url, str(file), str(go)]
    started = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(count)]
    try:
        until(lambda: len(list(scratch.iterdir())) == count)
        go.touch()
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_open(process: subprocess.Popen[bytes], file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file in [handle.readlink() for handle in Path(f"/proc/{process.pid}/fd").iterdir()]
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to tell who has a file open")
def test_of_several_processes_one_fetches_and_a_killed_one_is_succeeded(
    server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "cache" / "model.pth"
    server.answers = [
        sends_slowly([ZIP[:3000]], 60, len(ZIP)),
        sends_slowly([ZIP[:100], ZIP[100:]], 0.2, len(ZIP)),
    ]
    with processes(3, server, file, tmp_path / "scratch") as started:
        until(lambda: server.requests == 1)
        lock, part = file.with_name(".model.pth.lock"), file.with_name(".model.pth.part")
        until(lambda: all(has_open(process, lock) for process in started))
        until(lambda: any(has_open(process, part) for process in started))
        (fetching,) = (process for process in started if has_open(process, part))
        fetching.kill()
        codes = [process.wait(30) for process in started]
    assert sorted(codes) == [-signal.SIGKILL, 0, 0]
    assert file.read_bytes() == ZIP
    assert server.requests == 2
    assert list(file.parent.iterdir()) == [file]


def test_a_lock_file_left_behind_blocks_nobody(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".model.pth.lock").write_text("")
    (tmp_path / ".model.pth.part").write_bytes(b"half of it")
    server.answers = [sends(ZIP)]
    assert fetch(server.url, tmp_path / "model.pth").read_bytes() == ZIP
    assert list(tmp_path.iterdir()) == [tmp_path / "model.pth"]
