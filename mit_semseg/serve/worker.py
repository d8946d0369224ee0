"""A worker process: it decodes images, segments them, and encodes the answers, each in a thread of its own.

While a batch is segmented, the next one is decoded and the answers to the last one are encoded.
"""

import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import PIL.Image

from ..errors import UserError
from ..runtime.log import ignore_decoder_warnings
from .messages import Answer, Batch, Job, Model, ModelSource, Ready, Unusable
from .upload import UPLOAD, Refusal, open_upload

HELD_BATCHES = 2
"""How many batches a worker is given: one to segment, one to decode meanwhile."""

_CLOSED = (EOFError, OSError)  # raised by a connection whose other end is closed


def run_worker(
    connection: Connection, sources: Sequence[ModelSource], device: str | None, threads: int
) -> None:
    """Load the models and answer batches until the server ends, or asks this process to end.

    Args:
        device: as torch names it; None for the first GPU, or the CPU without one.
        threads: with which torch computes on a CPU.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # which a terminal sends to all processes
        signal.signal(number, signal.SIG_IGN)  # the server decides when this one ends
    import torch  # here, because the server imports this module and does without torch

    ignore_decoder_warnings()
    torch.set_num_threads(threads)
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            segmenters = [_of_photos(source.load(device), source.name) for source in sources]
    except UserError as error:
        connection.send(Unusable(str(error)))
        return
    except Exception:
        connection.send(Unusable(f"A model cannot be loaded.\n{traceback.format_exc()}"))
        return
    finally:
        _write({str(warning.message) for warning in caught})
    models = tuple(
        Model(source.name, segmenter.title, str(segmenter.device), segmenter.names, _rows(segmenter.colors))
        for source, segmenter in zip(sources, segmenters, strict=True)
    )
    try:
        connection.send(Ready(models))
    except _CLOSED:
        os._exit(0)
    _Worker(connection, segmenters, models).run()


def _of_photos(segmenter: Any, name: str) -> Any:
    """The segmenter itself. Raises: UserError if it takes bands, which uploaded photos do not have."""
    if segmenter.bands is not None:
        raise UserError(
            f"{name} takes images with {segmenter.bands.channels} bands, but the server takes photos in "
            "8-bit RGB. Use this model with test.py or the Python interface."
        )
    return segmenter


class _Worker:
    def __init__(self, connection: Connection, segmenters: Sequence[Any], models: Sequence[Model]) -> None:
        self._connection = connection
        self._segmenters = segmenters
        self._models = models
        self._decoded: queue.Queue[Any] = queue.Queue(1)
        self._segmented: queue.Queue[Any] = queue.Queue(2)
        self._sending = threading.Lock()

    def run(self) -> None:
        """Answer batches. The process ends when the server ends, or asks it to end.

        The thread that has loaded the models segments. Torch gives each thread that computes a pool
        of threads of its own, and two pools on the same cores wait for work more slowly.
        """
        for step in (self._decode_all, self._encode_all):
            threading.Thread(target=step, daemon=True).start()
        while True:
            model, images = self._decoded.get()
            self._segment(model, images)

    def _decode_all(self) -> None:
        while True:
            try:
                batch: Batch | None = self._connection.recv()
            except _CLOSED:
                batch = None
            if batch is None:
                # The other threads may still compute, but nobody waits for the result any more.
                os._exit(0)
            images = [(job, image) for job in batch.jobs if (image := self._decode(job)) is not None]
            if images:
                self._decoded.put((batch.model, images))

    def _decode(self, job: Job) -> PIL.Image.Image | None:
        """The image of a job, upright RGB; None if it has been refused."""
        from ..data.in_memory import to_rgb

        try:
            with open_upload(job.data, decode=True) as image:
                return to_rgb(image, UPLOAD)
        except Refusal as refusal:
            self._refuse(job, refusal.status, str(refusal))
        except (UserError, ValueError) as error:
            self._refuse(job, 415, str(error))
        except MemoryError:
            self._refuse(job, 503, "The server has too little memory for this image. Scale it down.")
        return None

    def _segment(self, model: int, images: Sequence[tuple[Job, PIL.Image.Image]]) -> None:
        confidence = any(job.wanted.confidence for job, _ in images)
        try:
            found = self._segmenters[model]([image for _, image in images], confidence=confidence)
            for (job, _), segmentation in zip(images, found, strict=True):
                if job.wanted.output == "scores":
                    _ = segmentation.probabilities  # computed here, not by the thread that encodes
        except Exception as error:
            if len(images) > 1:  # find the one that it is about
                for one in images:
                    self._segment(model, [one])
                return
            job = images[0][0]
            if isinstance(error, UserError):  # such as scores that are NaN
                message = str(error)
            else:
                message = f"The image could not be segmented: {type(error).__name__}."
                _write([traceback.format_exc()])
            self._refuse(job, 500, message)
            return
        self._segmented.put((model, [job for job, _ in images], found))

    def _encode_all(self) -> None:
        from .encode import MEDIA_TYPES, encode

        while True:
            model, jobs, found = self._segmented.get()
            for job, segmentation in zip(jobs, found, strict=True):
                try:
                    body = encode(segmentation, job.wanted, self._models[model].name)
                except Exception as error:
                    _write([traceback.format_exc()])
                    self._refuse(job, 500, f"The answer could not be encoded: {type(error).__name__}.")
                else:
                    self._send(Answer(job.number, 200, body, MEDIA_TYPES[job.wanted.output]))

    def _refuse(self, job: Job, status: int, message: str) -> None:
        self._send(Answer(job.number, status, message.encode()))

    def _send(self, answer: Answer) -> None:
        try:
            with self._sending:
                self._connection.send(answer)
        except _CLOSED:
            os._exit(0)


def _rows(colors: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colors)


def _write(lines: Sequence[str] | set[str]) -> None:
    for line in lines:
        sys.stderr.write(f"{line.rstrip()}\n")
