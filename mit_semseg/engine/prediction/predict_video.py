"""Segmenting a video: frames decoded ahead, scored, then drawn and encoded behind."""

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

from ...atomic import replacing
from ...errors import UserError
from ...log import get_logger
from ...video import Frame, Video, VideoWriter, open_camera, open_video
from ..counter import Counter, say
from ..pipeline import Behind, ahead
from .made import Made
from .page import CardFile
from .plan import Job
from .segmenting import Segmenting, describe, printable
from .writers import OUTPUTS, Segmented

_AHEAD = 3  # frames that wait on either side of the network
_LEGEND_ROWS = 3  # of the largest classes; all frames of a video have the same size

Scale = Callable[[PIL.Image.Image], list[torch.Tensor]]


class _Scaled(NamedTuple):
    frame: Frame
    tensors: list[torch.Tensor]


def segment_video(
    segmenting: Segmenting, job: Job, scale: Scale, made: Made, cards: CardFile | None, *, shown: bool
) -> str:
    """Segment a video or what a camera sees, write the videos of ``job``, and print the mean class shares.

    Ctrl-C ends a camera, and its video with it.

    Args:
        scale: gives an image at each scale.
        made: gets a line, unless it is a camera, which can't be seen again.
        cards: get a card with the first frame.
        shown: whether to show how far it has come.

    Returns: what is wrong with the video, as a sentence; "" for nothing.
    Raises: UserError if the disk refuses.
    """
    live = job.input.kind == "camera"
    try:
        video = open_camera(int(job.input.path)) if live else open_video(job.input.path)
    except UserError as error:
        return str(error)
    with video, closing(ahead(_scaled(video, scale), _AHEAD)) as frames:
        try:
            first = next(frames)
        except UserError as error:
            return str(error)
        if live:
            say(f"{video.name} is on. Press Ctrl-C to end.\n")
        means = _Means(len(segmenting.table.names))
        with ExitStack() as stack:
            counter = stack.enter_context(
                Counter(video.frames, "frames", what=printable(Path(video.name).name), enabled=shown)
            )
            writers = _open_writers(stack, job, video)
            behind = stack.enter_context(Behind(_AHEAD))
            with suppress(KeyboardInterrupt) if live else ExitStack():
                for item in itertools.chain([first], frames):
                    result = segmenting.segment(item.frame.pixels, item.tensors, _LEGEND_ROWS)
                    behind.do(_write, result, item.frame, writers, means)
                    counter.add()
        shares = means.shares()
        files = list(job.targets.values())
        if not live:
            made.add(job.input.path, job.targets)
        if cards is not None:
            assert means.first is not None
            cards.add(job.input.path, means.first, shares, files)
        say(describe(video.name, shares, segmenting.table, files))
        return video.problem


def _scaled(video: Video, scale: Scale) -> Iterator[_Scaled]:
    for frame in video:
        yield _Scaled(frame, scale(PIL.Image.fromarray(frame.pixels)))


def _open_writers(stack: ExitStack, job: Job, video: Video) -> dict[str, VideoWriter]:
    """A writer for each video wanted; its file takes its place as ``stack`` ends."""
    writers = {}
    for name, path in job.targets.items():
        file = stack.enter_context(replacing(path))
        sound_of = job.input.path if job.input.kind == "video" else ""
        writer = VideoWriter(fspath(file.name), video.time_base, video.rate, video.aspect, sound_of)
        writers[name] = stack.enter_context(writer)
        if writer.problem and len(writers) == 1:  # the others have the same
            get_logger().warning(printable(writer.problem))
    return writers


class _Means:
    """The mean class shares over all frames, and the first of them."""

    def __init__(self, num_class: int) -> None:
        self.first: Segmented | None = None
        self._sum = np.zeros(num_class)
        self._frames = 0

    def add(self, result: Segmented) -> None:
        self.first = self.first or result
        self._sum += result.shares()
        self._frames += 1

    def shares(self) -> NDArray[np.float64]:
        return self._sum / max(1, self._frames)


def _write(result: Segmented, frame: Frame, writers: dict[str, VideoWriter], means: _Means) -> None:
    means.add(result)
    for name, writer in writers.items():
        draw = OUTPUTS[name].draw
        assert draw is not None
        writer.write(draw(result), frame)
