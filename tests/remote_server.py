"""An HTTP server on this machine that sends the files of a folder, and fails in the ways of real ones."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class FileServer(ThreadingHTTPServer):
    """The files of a folder.

    Attributes:
        fault: called with the number of each request, from 1; returns "" or one of: a status such as "503",
            "drop" (half of the body, then the connection ends), "short" and "long" (a Content-Length that
            is not that of the part), "whole" (the header Range is ignored), "other" (another part), "slow"
            (a tenth of a second later), "hang", "loop" (a redirect to the same place).
        requests: the path and the header Range of each.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.fault: Callable[[int], str] = lambda number: ""
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """A client that left is not an error."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body in one packet: two would wait 40 ms for an acknowledgement

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        with self.server.lock:
            self.server.requests.append((self.path, wanted))
            fault = self.server.fault(len(self.server.requests))
        file = self.server.folder / unquote(self.path.partition("?")[0]).lstrip("/")
        if fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault.isdecimal():
            self._send(int(fault), b"an error page")
            return
        if not file.is_file():
            self._send(404, b"an error page")
            return
        if fault == "slow":
            time.sleep(0.1)
        if fault == "hang":
            self.server.ended.wait(60)
        data = file.read_bytes()
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if part is None or fault == "whole":
            self._send(200, data, fault)
            return
        first, last = int(part[1]), int(part[2])
        if first >= len(data):
            self._send(416, b"")
            return
        if fault == "other":
            first += 1
        body = data[first : last + 1]
        self._send(206, body, fault, f"bytes {first}-{first + len(body) - 1}/{len(data)}")

    def _send(self, status: int, body: bytes, fault: str = "", place: str = "") -> None:
        if fault == "short":
            body = body[: len(body) // 2]
        if fault == "long":
            body += b"more"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()
        if fault == "drop":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test looks at the requests."""


@contextmanager
def serving(folder: Path):
    """A server in the block, which sends the files of a folder."""
    server = FileServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
