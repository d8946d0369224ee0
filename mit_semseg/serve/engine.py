"""The queue of images, and how they become batches for the workers."""

import asyncio
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from .messages import Answer, Batch, Job, Model, Wanted
from .metrics import Metrics
from .upload import Header, Refusal
from .workers import Listener, Worker

_BATCH_PIXELS = 3_000_000  # of the photos in a batch, which has at least one
# On a CPU, batches of photos were not faster (benchmarks/results/serve.md). One by one, fewer are lost with a
# worker that dies, and fewer computed for clients that have gone.
_BATCH = {"cuda": 8, "cpu": 1}
_RECENT_S = 30.0  # over which the speed is measured
_UPLOADS = 4  # uploads at a time, for each place in the queue; each holds memory
_CHECK_S = 1.0  # how often workers are checked


@dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Attributes:
        max_bytes: of an upload.
        max_pixels: of an image.
        max_scores: values in the answer ``scores``: classes times pixels.
        max_queue: images that wait; further ones are refused.
        max_batch: images of the same size that are segmented together; 0 for 8 on a GPU, and 1 on a CPU.
        wait_s: how long an idle worker waits for a batch to fill, while other uploads are arriving.
        body_s: for a body to arrive.
        answer_s: from the end of the upload to the answer.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    max_scores: int = 128_000_000
    max_queue: int = 64
    max_batch: int = 0
    wait_s: float = 0.01
    body_s: float = 30.0
    answer_s: float = 60.0


@dataclass(eq=False)
class _Waiting:
    """A job in the queue."""

    job: Job
    key: tuple[int, int, int, bool]  # jobs with the same key may share a batch
    since: float
    future: "asyncio.Future[Answer]"


class Engine(Listener):
    """Takes images, gives them to workers in batches, and returns their answers.

    Attributes:
        models: the loaded models; empty until the first worker is ready.
        draining: whether the server is about to end.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.models: tuple[Model, ...] = ()
        self.draining = False
        self._workers: list[Worker] = []
        self._queue: deque[_Waiting] = deque()
        self._sent: dict[int, _Waiting] = {}
        self._numbers = itertools.count()
        self._arriving = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answered: deque[float] = deque()
        self._started: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, starters: Sequence[Callable[[], Any]]) -> None:
        """Start a worker with each starter; return when one is ready.

        Raises: UserError if a model cannot be used.
        """
        self._started = asyncio.get_running_loop().create_future()
        self._workers = [Worker(start, self, self.limits.answer_s) for start in starters]
        for worker in self._workers:
            worker.start()
        self._watch = asyncio.create_task(self._check_workers())
        await self._started

    async def close(self) -> None:
        """End the workers."""
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*(worker.close() for worker in self._workers))

    @property
    def is_ready(self) -> bool:
        """Whether an image would be segmented now."""
        return not self.draining and self.workers_ready > 0

    @property
    def workers_ready(self) -> int:
        """Workers that take batches."""
        return sum(worker.ready for worker in self._workers)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Inside the block, an upload is arriving, for which a batch may wait."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._dispatch()

    def require_room(self) -> None:
        """Raises: Refusal (429) if the queue is full."""
        if len(self._queue) >= self.limits.max_queue or self._arriving >= _UPLOADS * self.limits.max_queue:
            raise Refusal(429, "Too many images are waiting already. Try again later.")

    def retry_after_s(self) -> int:
        """In how many seconds the images that wait now will be answered."""
        return max(1, min(math.ceil(len(self._queue) / max(self.images_per_second(), 0.1)), 60))

    def images_per_second(self) -> float:
        """Images answered per second of late."""
        self._forget_answered()
        return len(self._answered) / _RECENT_S

    def _forget_answered(self) -> None:
        """Drop the times of answers that are not recent."""
        end = time.monotonic() - _RECENT_S
        while self._answered and self._answered[0] < end:
            self._answered.popleft()

    @property
    def unanswered(self) -> int:
        """Images that wait or are segmented, and uploads that arrive."""
        sent = sum(not waiting.future.done() for waiting in self._sent.values())
        return self._arriving + len(self._queue) + sent

    @property
    def queue_length(self) -> int:
        """Images that wait."""
        return len(self._queue)

    async def segment(self, model: int, data: bytes, header: Header, wanted: Wanted) -> Answer:
        """The answer for an image. If the caller is cancelled, an image that still waits is not segmented.

        Raises: Refusal (429) if the queue is full; (503) if it takes too long, or if its worker has died.
        """
        self.require_room()
        key = (model, *header, wanted.confidence)
        job = Job(next(self._numbers), data, wanted)
        future = asyncio.get_running_loop().create_future()
        waiting = _Waiting(job, key, time.monotonic(), future)
        self._queue.append(waiting)
        self._dispatch()
        try:
            return await asyncio.wait_for(future, self.limits.answer_s)
        except asyncio.TimeoutError:
            raise Refusal(503, f"There was no answer within {self.limits.answer_s:g} s. Try again.") from None
        finally:
            with suppress(ValueError):
                self._queue.remove(waiting)

    def on_ready(self, models: Sequence[Model]) -> None:
        self.models = tuple(models)
        if self._started is not None and not self._started.done():
            self._started.set_result(None)
        self._dispatch()

    def on_unusable(self, message: str) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(UserError(message))
        elif self.models:  # a replacement
            sys.stderr.write(f"A worker cannot start: {message}\n")

    def on_answer(self, answer: Answer) -> None:
        waiting = self._sent.pop(answer.number, None)
        self._answered.append(time.monotonic())
        self._forget_answered()
        if answer.status == 200:
            self.metrics.images.inc()
        if waiting is not None and not waiting.future.done():
            waiting.future.set_result(answer)
        self._dispatch()

    def on_death(self, lost: Sequence[int], cause: str) -> None:
        self.metrics.deaths.inc()
        count = f"; its {len(lost)} images are answered with 503" if lost else ""
        sys.stderr.write(f"A worker has died ({cause}){count}. It is replaced.\n")
        for number in lost:
            waiting = self._sent.pop(number, None)
            if waiting is not None and not waiting.future.done():
                waiting.future.set_exception(Refusal(503, "The worker with this image has died. Try again."))

    async def _check_workers(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            for worker in self._workers:
                worker.check()

    def _dispatch(self) -> None:
        """Give batches to the workers that take some, idle ones first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            free = [worker for worker in self._workers if worker.has_room()]
            if not free:
                return
            worker = min(free, key=lambda worker: len(worker.held))
            batch = self._next_batch()
            remaining = self._queue[0].since + self.limits.wait_s - time.monotonic()
            may_grow = self._arriving > 0 and len(batch) < self._most(batch[0])
            if may_grow and remaining > 0:
                self._timer = asyncio.get_running_loop().call_later(remaining, self._dispatch)
                return
            for waiting in batch:
                self._queue.remove(waiting)
                self._sent[waiting.job.number] = waiting
            self.metrics.batch_size.observe(len(batch))
            worker.send(Batch(batch[0].key[0], tuple(waiting.job for waiting in batch)))

    def _next_batch(self) -> list[_Waiting]:
        """The first image in the queue, with others that may share its batch."""
        first = self._queue[0]
        same = (waiting for waiting in self._queue if waiting.key == first.key)
        return list(itertools.islice(same, self._most(first)))

    def _most(self, waiting: _Waiting) -> int:
        """How many images like this one a batch may have."""
        model, width, height, _ = waiting.key
        most = self.limits.max_batch or _BATCH[self.models[model].device.partition(":")[0]]
        return max(1, min(most, _BATCH_PIXELS // (width * height)))
