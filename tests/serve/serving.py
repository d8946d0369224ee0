"""Servers of the tiny model, as processes, and a client for them."""

import http.client
import io
import json
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from commands import ROOT
from forked import Command
from PIL import Image

MAX_BYTES, MAX_PIXELS = 400_000, 1_000_000


class Server:
    """A running ``mit-semseg serve``, and requests to it."""

    def __init__(self, command, port):
        self.command, self.port = command, port

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def request(self, method, path, body=None, headers=None, timeout=60):
        """Status, headers and body of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def segment(self, image, query="", **options):
        """Status and body for the bytes of an image; JSON is parsed."""
        status, headers, body = self.request("POST", f"/v1/segment{query}", image, **options)
        return status, json.loads(body) if headers["Content-Type"] == "application/json" else body

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = self.request("GET", "/metrics")[2].decode()
        return sum(float(value) for value in re.findall(rf"^semseg_{name}(?:{{.*}})? (\S+)$", text, re.M))

    def worker_pids(self):
        children = Path(f"/proc/{self.command.pid}/task").glob("*/children")
        pids = [pid for file in children for pid in file.read_text().split()]
        return [int(pid) for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextmanager
def serving(*words):
    """A `Server` of ``mit-semseg serve WORDS``, on a free port."""
    environment = {"PYTHONPATH": str(ROOT), "MIT_SEMSEG_TOKEN": ""}
    words = ("-m", "mit_semseg", "serve", "--port", "0", "--gpu", "cpu", *words)
    with Command(*words, cwd=ROOT, environment=environment) as command:
        for line in command.out:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield Server(command, int(found[1]))
                return
        raise AssertionError(command.finish().err)


def picture(width=48, height=36, seed=0):
    """A noisy image (H, W, 3) uint8."""
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def png(pixels):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def form(image, **fields):
    """Body and headers of a form with the file ``image``."""
    parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    head = '--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + image + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}
