"""How much of a model's speed is left over HTTP, and does the server hold load?

1. Throughput: clients send photos of a few sizes for a while and read label PNGs, each over a connection of
   its own that stays open. "Bare" is a loop in another process that calls a `Segmenter` on the same files. It
   and the load run in turns, because other load on the machine changes with time; figures are medians over
   the rounds. CPU time (of the server and its worker) depends less on other load.
2. Memory: many requests for small images; resident memory of the server and of its worker, as it grows.
3. Hostile bodies: truncated and damaged images, bombs, other files, bodies without an end or that stop.

    python benchmarks/serve.py > benchmarks/results/serve.md
"""

import argparse
import datetime
import http.client
import io
import itertools
import multiprocessing
import os
import platform
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

MODEL = "camvid-efficientnet_lite0-upernet"
PHOTOS = sorted((Path(__file__).parents[1] / "mit_semseg/serve/page/samples").glob("*.jpg"))
BODY_TIMEOUT_S = 2
write = sys.stdout.write


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="of a load, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--requests", type=int, default=10_000, help="for small images; 0 for none")
    parser.add_argument("--hostile", type=int, default=1_000)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    write(f"OMP_NUM_THREADS: {os.environ.get('OMP_NUM_THREADS', 'not set')}, workers: {args.workers}.\n\n")
    if args.connections:
        measure_throughput(args.connections, args.seconds, args.workers, args.rounds)
    with serving("--cfg", MODEL, "DATASET.imgSizes", "64", "--body-timeout", str(BODY_TIMEOUT_S)) as server:
        if args.requests:
            measure_memory(server, args.requests)
        if args.hostile:
            measure_hostile(server, args.hostile)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "fastapi", "uvicorn", "pillow"))
    write(
        f"\n{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; load average "
    )
    write(f"{load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end; {packages}, ")
    write(f"Python {platform.python_version()}; {datetime.date.today()}.\n")
    write(f"`python benchmarks/serve.py {' '.join(sys.argv[1:])}`\n")


class Server:
    """A running server and its processes."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    def cpu_seconds(self) -> float:
        """CPU time of the server and of its workers since their start."""
        return sum(map(_cpu_seconds, (self.process.pid, *self._children())))

    def memory(self) -> tuple[float, float]:
        """Resident memory of the server and of its workers, in MB."""
        return _resident(self.process.pid), sum(map(_resident, self._children()))

    def _children(self) -> list[str]:
        folder = Path(f"/proc/{self.process.pid}/task")
        return [pid for file in folder.glob("*/children") for pid in file.read_text().split()]


def _cpu_seconds(pid: int | str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int | str) -> float:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) * 1024 / 1e6 if match else float("nan")


@contextmanager
def serving(*words: str):
    command = [sys.executable, "-m", "mit_semseg", "serve", "--port", "0", "--gpu", "cpu", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        if found is None:
            raise SystemExit("The server does not start.")
        yield Server(process, int(found[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


# ---- Throughput


def measure_throughput(connections: list[int], seconds: float, workers: int, rounds: int) -> None:
    bare = Bare()
    write(
        "| connections | requests/s | bare loop, images/s | ratio | CPU s per request | of the bare loop | "
        "ratio | p50, s | p99, s | requests | lost |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    with serving("--workers", str(workers), "--max-queue", "128", "--timeout", "600", MODEL) as server:
        Load(server.port, 2).run(5)
        for count in connections:
            rows = [measure_round(server, bare, count, seconds) for _ in range(rounds)]
            speed, base, cpu, base_cpu = (
                statistics.median(column) for column in list(zip(*rows, strict=True))[:4]
            )
            times = list(itertools.chain.from_iterable(row[4] for row in rows))
            lost = sum(row[5] for row in rows)
            ratio = statistics.median(row[0] / row[1] for row in rows)
            cpu_ratio = statistics.median(row[3] / row[2] for row in rows)
            p50, p99 = np.percentile(times, [50, 99])
            write(f"| {count} | {speed:.2f} | {base:.2f} | {ratio:.2f} | {cpu:.3f} | {base_cpu:.3f} | ")
            write(f"{cpu_ratio:.2f} | {p50:.3f} | {p99:.3f} | {len(times) + lost} | {lost} |\n")
            sys.stdout.flush()
    bare.end()


def measure_round(server: Server, bare: "Bare", count: int, seconds: float):
    """Speed and CPU time per image of a load and of the bare loop; the times and the lost requests."""
    base, base_cpu = bare.speed(seconds)
    load = Load(server.port, count)
    before = server.cpu_seconds()
    elapsed = load.run(seconds)
    cpu = (server.cpu_seconds() - before) / len(load.times)
    return len(load.times) / elapsed, base, cpu, base_cpu, load.times, load.lost


class Load:
    """Clients that each send one photo after the other."""

    def __init__(self, port: int, count: int) -> None:
        self.times: list[float] = []
        self.lost = 0
        self._port, self._count = port, count

    def run(self, seconds: float) -> float:
        """Send for that long. Returns the seconds until the last answer."""
        start = time.perf_counter()
        threads = [threading.Thread(target=self._send, args=(k, start + seconds)) for k in range(self._count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def _send(self, first: int, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=700)
        photos = [path.read_bytes() for path in PHOTOS]
        for k in itertools.count(first):
            start = time.perf_counter()
            if start >= end:
                break
            try:
                connection.request("POST", "/v1/segment?output=labels", photos[k % len(photos)])
                answer = connection.getresponse()
                whole = answer.read().endswith(b"IEND\xaeB`\x82")
                if answer.status == 200 and whole:
                    self.times.append(time.perf_counter() - start)
                else:
                    self.lost += 1
            except (OSError, http.client.HTTPException):
                self.lost += 1
                connection.close()
        connection.close()


class Bare:
    """A loop that calls a `Segmenter`, in a process of its own."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_loop, args=(other,))
        self._process.start()
        self._connection.recv()

    def speed(self, seconds: float) -> tuple[float, float]:
        """Images per second, and CPU time per image."""
        self._connection.send(seconds)
        return self._connection.recv()

    def end(self) -> None:
        self._connection.send(None)
        self._process.join()


def _loop(connection) -> None:
    from mit_semseg import Segmenter

    segmenter = Segmenter.load(MODEL, device="cpu")
    for path in PHOTOS:
        segmenter(path)
    connection.send("ready")
    while seconds := connection.recv():
        start, start_cpu = time.perf_counter(), time.process_time()
        for count in itertools.count(1):
            segmenter(PHOTOS[count % len(PHOTOS)])
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                connection.send((count / elapsed, (time.process_time() - start_cpu) / count))
                break


# ---- Memory


def measure_memory(server: Server, requests: int) -> None:
    file = io.BytesIO()
    Image.open(PHOTOS[0]).resize((64, 48)).save(file, "JPEG")
    statuses: Counter[int] = Counter()
    write("\n| requests for small images | server, MB | worker, MB |\n|---|---|---|\n")
    done = 0
    with ThreadPoolExecutor(8) as pool:
        for share in (0.02, 0.1, 0.25, 0.5, 0.75, 1):
            wanted = round(share * requests)
            statuses.update(pool.map(lambda _: post(server.port, file.getvalue()), range(wanted - done)))
            done = wanted
            own, worker = server.memory()
            write(f"| {done} | {own:.0f} | {worker:.0f} |\n")
            sys.stdout.flush()
    write(f"\nAnswers: {_counted(statuses)}.\n")


def post(port: int, body: bytes) -> int:
    """The status of a request; 0 if the connection was closed without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/v1/segment", body)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _counted(statuses: Counter) -> str:
    return ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(statuses.items()))


# ---- Hostile bodies


def measure_hostile(server: Server, count: int) -> None:
    kinds = {
        "truncated": truncated,
        "damaged": damaged,
        "bomb": bomb,
        "another file": another,
        "without an end": endless,
        "stops arriving": stalled,
    }
    found: dict[str, Counter[int]] = {name: Counter() for name in kinds}

    def send(k: int) -> tuple[str, int]:
        name = list(kinds)[k % len(kinds)]
        return name, kinds[name](server.port, random.Random(k))

    start = time.perf_counter()
    with ThreadPoolExecutor(32) as pool:
        for name, status in pool.map(send, range(count)):
            found[name][status] += 1
    elapsed = time.perf_counter() - start
    write(f"\n| {count} hostile bodies, in {elapsed:.0f} s | answers |\n|---|---|\n")
    for name, statuses in found.items():
        write(f"| {name} | {_counted(statuses)} |\n")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        assert post(server.port, PHOTOS[0].read_bytes()) == 200
        times.append(time.perf_counter() - start)
    write(f"\nAfter them, 20 photos are answered in {statistics.median(times):.3f} s each (median).\n")


def _photo(kind: str, rng: random.Random) -> bytearray:
    file = io.BytesIO()
    image = Image.open(PHOTOS[rng.randrange(len(PHOTOS))]).resize((320, 240))
    image.save(file, kind)
    return bytearray(file.getvalue())


def _kind(rng: random.Random) -> str:
    return rng.choice(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])


def truncated(port: int, rng: random.Random) -> int:
    data = _photo(_kind(rng), rng)
    return post(port, bytes(data[: rng.randrange(len(data))]))


def damaged(port: int, rng: random.Random) -> int:
    data = _photo(_kind(rng), rng)
    for _ in range(rng.randrange(1, 200)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return post(port, bytes(data))


def bomb(port: int, rng: random.Random) -> int:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    side = rng.choice([4000, 6000, 30_000, 2**31 - 1])
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(rng.randrange(1, 5_000_000)), 9)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000), 9))
    return post(port, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", pixels))


def another(port: int, rng: random.Random) -> int:
    return post(
        port,
        rng.choice(
            [
                b"",
                b"{}",
                b"%PDF-1.7\n",
                b"%!PS-Adobe-3.0 EPSF-3.0\n",
                b"GIF89a",
                b"\xff\xd8\xff",
                b"II*\0\xff\xff\xff\xff",
                b"<svg xmlns='http://www.w3.org/2000/svg'/>",
                b"PK\x03\x04",
                rng.randbytes(10_000),
                bytes(25_000_000),
            ]
        ),
    )


def endless(port: int, rng: random.Random) -> int:
    """Chunks until the server answers or closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        size = rng.choice([1_000, 100_000, 1_000_000])
        block = b"%x\r\n%s\r\n" % (size, rng.randbytes(size))
        with suppress(OSError):
            while True:
                connection.sendall(block)
        return _status(connection)


def stalled(port: int, rng: random.Random) -> int:
    data = bytes(_photo("JPEG", rng))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(data)
        connection.sendall(head + data[: rng.randrange(len(data))])
        return _status(connection)


def _status(connection: socket.socket) -> int:
    with suppress(OSError):
        if found := re.match(rb"HTTP/1.1 (\d+)", connection.recv(1000)):
            return int(found[1])
    return 0


if __name__ == "__main__":
    main()
