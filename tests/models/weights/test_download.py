"""Downloads from a local server that sends the file, something else, a part of it, or nothing."""

import contextlib
import errno
import io
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from forked import Command

from mit_semseg.errors import UserError
from mit_semseg.models.weights import download
from mit_semseg.models.weights.download import fetch


def checkpoint(use_zip: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.arange(2500.0)}, file, _use_new_zipfile_serialization=use_zip)
    return file.getvalue()


ZIP, LEGACY = checkpoint(use_zip=True), checkpoint(use_zip=False)
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


def files_in(folder: Path) -> list[str]:
    """Names of the files in a folder. The lock file does not count, which filelock keeps."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def fails(url: str, file: Path, **options: float) -> str:
    """The message of a fetch that fails and leaves no file."""
    settings = {"timeout_s": 0.4, "retries": 0, "backoff_s": 0.01, **options}
    with pytest.raises(UserError) as error:
        fetch(url, file, **settings)  # type: ignore[arg-type]
    assert files_in(file.parent) == []
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


# The server sends the file


@pytest.mark.parametrize("body", [ZIP, LEGACY])
@pytest.mark.parametrize("tells_length", [True, False])
def test_a_file_arrives_byte_by_byte_with_a_progress_bar(
    body: bytes, tells_length: bool, server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answers = [sends(body) if tells_length else sends_slowly([body], 0, None)]
    file = tmp_path / "new" / "folder" / "model.pth"
    assert fetch(server.url, file) == file
    assert file.read_bytes() == body
    assert files_in(file.parent) == ["model.pth"]
    out, err = capfd.readouterr()
    assert out == ""
    assert ("model.pth: 100%" in err) == tells_length
    assert f"{len(body) / 1024:.1f}k" in err


def test_a_file_that_exists_is_not_downloaded_again(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(b"mine")
    assert fetch("http://127.0.0.1:9/never-asked", file) == file
    assert file.read_bytes() == b"mine"


def test_other_users_may_read_the_file_as_the_umask_says(server: Server, tmp_path: Path) -> None:
    server.answers = [sends(ZIP)]
    before = os.umask(0o022)
    try:
        file = fetch(server.url, tmp_path / "model.pth")
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_slow_download_may_take_longer_than_the_time_out(server: Server, tmp_path: Path) -> None:
    pieces = [ZIP[i : i + 1024] for i in range(0, len(ZIP), 1024)]
    server.answers = [sends_slowly(pieces, 0.08, len(ZIP))]
    assert fetch(server.url, tmp_path / "model.pth", timeout_s=0.4, retries=0).read_bytes() == ZIP


@pytest.mark.parametrize(
    "first",
    [sends(HTML), sends(HTML, status=503), sends(ZIP[:5000], length=len(ZIP)), sends(b"", status=429)],
)
def test_a_retry_succeeds_after_a_failure(
    first: Callable[[Handler], None], server: Server, tmp_path: Path
) -> None:
    server.answers = [first, sends(ZIP)]
    assert fetch(server.url, tmp_path / "model.pth", retries=1, backoff_s=0.01).read_bytes() == ZIP
    assert server.requests == 2


# The server fails


def test_a_web_page_in_place_of_the_file_is_refused_with_its_first_bytes_and_where_to_put_the_file(
    server: Server, tmp_path: Path
) -> None:
    server.answers = [sends(HTML)]
    file = tmp_path / "model.pth"
    assert fails(server.url, file, retries=2) == (
        f"{server.url} could not be downloaded: the server answered with a web page instead of a checkpoint "
        "('<!DOCTYPE html><html><head><title>Down for maintenance</title></'). "
        f"Put the file at {file} by hand."
    )
    assert server.requests == 3


@pytest.mark.parametrize(
    ("answer", "reason", "requests"),
    [
        (sends(HTML, status=503), "the server answered 503 Service Unavailable", 2),
        (sends(HTML, status=404), "the server answered 404 Not Found", 1),  # a retry would not find it either
        (sends(ZIP[:5000], length=len(ZIP)), f"cut off after 5000 of {len(ZIP)} bytes", 2),
        (sends(b"", length=100), "cut off after 0 of 100 bytes", 2),
        (sends(ZIP[:5000]), "the 5000 bytes that arrived are not a complete checkpoint", 2),
        (sends(LEGACY[:-1]), f"the {len(LEGACY) - 1} bytes that arrived are not a complete checkpoint", 2),
        (sends(b"GIF89a" + ZIP), f"the {len(ZIP) + 6} bytes that arrived are not a complete checkpoint", 2),
        (sends(b""), "the 0 bytes that arrived are not a complete checkpoint", 2),
        (sends_slowly([ZIP[:70]], 5, len(ZIP)), "no data arrived for 0.4 s", 2),
        (lambda handler: handler.wfile.write(b"what?\r\n\r\n"), "what?", 2),
        (lambda handler: time.sleep(5), "no data arrived for 0.4 s", 2),
    ],
)
def test_a_failing_server_is_named_with_the_reason(
    answer: Callable[[Handler], None], reason: str, requests: int, server: Server, tmp_path: Path
) -> None:
    server.answers = [answer]
    message = fails(server.url, tmp_path / "model.pth", retries=1)
    assert message.startswith(f"{server.url} could not be downloaded: ")
    assert reason in message
    assert message.endswith(f"Put the file at {tmp_path / 'model.pth'} by hand.")
    assert server.requests == requests


def test_a_closed_port_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/model.pth"  # bound, but nobody listens
        assert "Connection refused" in fails(url, tmp_path / "model.pth", retries=1)


@pytest.mark.parametrize(
    "url", ["not a url", "gopher://host/file", "http://bad host/file", "http://[::1/file"]
)
def test_a_malformed_url_is_refused_with_its_text(url: str, tmp_path: Path) -> None:
    assert fails(url, tmp_path / "model.pth").startswith(f"{url} could not be downloaded: ")


# The disk fails


@pytest.mark.parametrize("mode", [0o555, 0o444, 0o000])
def test_a_folder_without_permission_is_named(mode: int, server: Server) -> None:
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


def test_a_full_disk_leaves_no_file_and_is_not_retried(server: Server, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on the size of files stands for the full disk
    server.answers = [sends(ZIP)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=f"{os.strerror(errno.EFBIG)}.*Make room there"):
            fetch(server.url, tmp_path / "model.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(tmp_path) == []
    assert server.requests == 1


def test_an_interrupt_leaves_no_file(server: Server, tmp_path: Path) -> None:
    server.answers = [sends_slowly([ZIP[:3000]], 5, len(ZIP))]
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, tmp_path / "model.pth", timeout_s=5)
    timer.join()
    assert files_in(tmp_path) == []


# Several want the file at once


def test_one_thread_downloads_and_the_others_wait(server: Server, tmp_path: Path) -> None:
    server.answers = [sends_slowly([ZIP[:100], ZIP[100:]], 0.15, len(ZIP))]
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: fetch(server.url, tmp_path / "model.pth"), range(8)))
    assert [file.read_bytes() for file in files] == [ZIP] * 8
    assert server.requests == 1
    assert files_in(tmp_path) == ["model.pth"]


WAIT_AND_FETCH = """
import os, sys, time
from pathlib import Path
from mit_semseg.models.weights.download import fetch
url, file, go = sys.argv[1:]
Path(f"{go}.{os.getpid()}").touch()
while not Path(go).exists():
    time.sleep(0.01)
fetch(url, file)
"""


@contextlib.contextmanager
def processes(count: int, server: Server, file: Path, scratch: Path) -> Iterator[list[Command]]:
    """Processes that start to download at the same moment, when the block begins; none outlives it."""
    scratch.mkdir()
    go = scratch / "go"
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(Command("-c", WAIT_AND_FETCH, server.url, file, go)) for _ in range(count)
        ]
        until(lambda: len(list(scratch.iterdir())) == count)
        go.touch()
        yield started


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_open(process: Command, file: Path) -> bool:
    for handle in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # another file that was closed in the meantime
            if handle.readlink() == file:
                return True
    return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see who has a file open")
def test_one_process_downloads_and_another_takes_over_when_it_is_killed(
    server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "cache" / "model.pth"
    server.answers = [
        sends_slowly([ZIP[:3000]], 60, len(ZIP)),
        sends_slowly([ZIP[:100], ZIP[100:]], 0.2, len(ZIP)),
    ]
    with processes(3, server, file, tmp_path / "scratch") as started:
        until(lambda: server.requests == 1)
        part = file.with_name(".model.pth.part")
        until(lambda: any(has_open(process, part) for process in started))
        (downloading,) = (process for process in started if has_open(process, part))
        downloading.send_signal(signal.SIGKILL)
        codes = [process.finish().code for process in started]
    assert sorted(codes) == [-signal.SIGKILL, 0, 0]
    assert file.read_bytes() == ZIP
    assert server.requests == 2
    assert files_in(file.parent) == ["model.pth"]


def test_a_download_waits_for_another_one_while_that_makes_progress_and_then_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_LOOK_S", 0.05)
    monkeypatch.setattr(download, "_PATIENCE_S", 1.0)
    start = time.monotonic()

    def grow():
        while time.monotonic() < start + 2:
            time.sleep(0.1)
            with (tmp_path / ".model.pth.part").open("ab") as file:
                file.write(b"more")

    growing = threading.Thread(target=grow)
    with FileLock(tmp_path / ".model.pth.lock"):
        growing.start()
        with pytest.raises(UserError) as caught:
            fetch("http://nowhere.invalid/model.pth", tmp_path / "model.pth")
    growing.join()
    assert time.monotonic() - start > 2.9
    assert str(caught.value).startswith(f"Another process holds {tmp_path}/.model.pth.lock to download ")


def test_the_lock_and_the_partial_file_of_a_killed_process_block_nobody(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / ".model.pth.lock").write_text("")
    (tmp_path / ".model.pth.part").write_bytes(b"half of it")
    server.answers = [sends(ZIP)]
    assert fetch(server.url, tmp_path / "model.pth").read_bytes() == ZIP
    assert files_in(tmp_path) == ["model.pth"]
