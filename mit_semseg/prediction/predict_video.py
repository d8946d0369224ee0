"""Prediction for a video: frames are decoded in one thread, predicted here, drawn and encoded in another."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from os import fspath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..runtime.files import replacing
from ..runtime.log import get_logger
from ..runtime.progress import ProgressCounter, say
from ..runtime.threads import BackgroundWriter, prefetch
from .jobs import Job
from .predictor import Prediction, Predictor
from .recorder import Recorder, printable
from .video_reader import Frame, VideoReader, open_camera, open_video
from .video_writer import VideoWriter
from .writers import OUTPUTS

_PREFETCH = 3  # decoded frames that wait for the network
_WRITE_DEPTH = 3  # predicted frames that wait to be written
_LEGEND_ROWS = 3  # for the largest classes; all frames of a video have the same size

Scale = Callable[[PIL.Image.Image], list[torch.Tensor]]


class _ScaledFrame(NamedTuple):
    frame: Frame
    tensors: list[torch.Tensor]


class _Means:
    """The mean class shares over all frames, and the first prediction."""

    def __init__(self, num_class: int) -> None:
        self.first: Prediction | None = None
        self._sum = np.zeros(num_class)
        self._frames = 0

    def add(self, prediction: Prediction) -> None:
        self.first = self.first or prediction
        self._sum += prediction.shares()
        self._frames += 1

    def shares(self) -> NDArray[np.float64]:
        return self._sum / max(1, self._frames)


def predict_video(
    predictor: Predictor, job: Job, scale: Scale, recorder: Recorder, *, shown: bool
) -> tuple[bool, str]:
    """Write the output videos for a video or a camera, and record them with the mean class shares.

    Ctrl-C ends the recording of a camera, and its output is complete.

    Args:
        scale: returns an image at each scale.
        shown: whether to show the progress.

    Returns: whether the outputs were written; what is wrong with the video, as a sentence, "" for nothing.
    Raises: UserError if an output cannot be written.
    """
    live = job.input.kind == "camera"
    try:
        video = open_camera(int(job.input.path)) if live else open_video(job.input.path)
    except UserError as error:
        return False, str(error)
    with video, closing(prefetch(_scaled(video, scale), _PREFETCH)) as frames:
        try:
            first = next(frames)
        except UserError as error:
            return False, str(error)
        if live:
            say(f"{video.name} is on. Press Ctrl-C to end.\n")
        means = _Means(len(predictor.table.names))
        with ExitStack() as stack:
            counter = stack.enter_context(
                ProgressCounter(video.frames, "frames", what=printable(Path(video.name).name), enabled=shown)
            )
            writers = _open_writers(stack, job, video)
            background = stack.enter_context(BackgroundWriter(_WRITE_DEPTH))
            with suppress(KeyboardInterrupt) if live else ExitStack():
                for item in itertools.chain([first], frames):
                    prediction = predictor.predict(
                        item.frame.pixels, item.tensors, _LEGEND_ROWS, name=video.name
                    )
                    background.submit(_write, prediction, item.frame, writers, means)
                    counter.add()
        assert means.first is not None
        recorder.add(job, video.name, means.first, means.shares(), problem=video.problem)
        return True, video.problem


def _scaled(video: VideoReader, scale: Scale) -> Iterator[_ScaledFrame]:
    for frame in video:
        yield _ScaledFrame(frame, scale(PIL.Image.fromarray(frame.pixels)))


def _open_writers(stack: ExitStack, job: Job, video: VideoReader) -> dict[str, VideoWriter]:
    """A writer for each output. Its file replaces an older one when ``stack`` ends without an error."""
    writers = {}
    for name, path in job.targets.items():
        file = stack.enter_context(replacing(path))
        sound_of = job.input.path if job.input.kind == "video" else ""
        writer = VideoWriter(fspath(file.name), video.time_base, video.rate, video.aspect, sound_of)
        writers[name] = stack.enter_context(writer)
        if writer.problem and len(writers) == 1:  # all writers have the same problem
            get_logger().warning(printable(writer.problem))
    return writers


def _write(prediction: Prediction, frame: Frame, writers: dict[str, VideoWriter], means: _Means) -> None:
    means.add(prediction)
    for name, writer in writers.items():
        draw = OUTPUTS[name].draw
        assert draw is not None
        writer.write(draw(prediction), frame)
