"""The numbers at /metrics, in the format of Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        common: Any = {"registry": self._registry, "namespace": "semseg"}
        self.requests = Counter("requests", "Requests by path and status.", ("path", "status"), **common)
        self.latency = Histogram(
            "request_seconds", "Time from request to answer.", ("path",), buckets=_SECONDS, **common
        )
        self.images = Counter("images", "Images segmented.", **common)
        self.batch_size = Histogram("batch_images", "Images in a batch.", buckets=(1, 2, 4, 8, 16), **common)
        self.deaths = Counter("worker_deaths", "Workers that have died.", **common)
        self._ready = Gauge("workers_ready", "Workers that have loaded the models.", **common)
        self._queue = Gauge("queue_length", "Images that wait.", **common)
        self._speed = Gauge("images_per_second", "Images answered per second, over 30 s.", **common)

    def follow(
        self,
        queue_length: Callable[[], float],
        images_per_second: Callable[[], float],
        workers_ready: Callable[[], float],
    ) -> None:
        """Read these numbers from functions."""
        self._queue.set_function(queue_length)
        self._ready.set_function(workers_ready)
        self._speed.set_function(images_per_second)

    def text(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._registry)
