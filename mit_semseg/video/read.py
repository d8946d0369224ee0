"""Frames of a video file or a camera, upright and in the order in which they are shown."""

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..data.files import regular
from ..errors import UserError
from ..visualize import MARK, Image

_NO_VIDEO = "is not a video, or one that ends before its index"
_MISSING_S = Fraction(1, 4)  # what may be missing at the end of a file that is whole
_USUAL_RATE = Fraction(30)  # frames a second, of a video that does not say


class Frame(NamedTuple):
    """A picture of a video."""

    pixels: Image  # (H, W, 3) RGB
    pts: int  # when it is shown, in units of the video's ``time_base``; each is larger than the one before
    duration: int  # how long, in the same units; 0 if unknown


class Video:
    """An open video, whose frames can be iterated over once.

    Attributes:
        name: for messages.
        time_base: the unit of timestamps, in seconds.
        rate: frames a second, on average.
        frames: how many there are, if the file is right about it; 0 if it does not say.
        aspect: width of a pixel over its height; 1 is square.
        problem: after the iteration, what is wrong with the file, as a sentence; "" for nothing.
    """

    def __init__(self, container: InputContainer, name: str, *, live: bool = False) -> None:
        """
        Args:
            live: of a camera, whose timestamps begin anywhere. They are made to begin at 0.
        """
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.time_base is None:
            streams = len(container.streams)
            container.close()
            raise UserError(f"{name} {'holds no video' if streams else _NO_VIDEO}.")
        stream.thread_type = "AUTO"
        self._container, self._stream, self._live = container, stream, live
        self.name = name
        self.time_base = stream.time_base
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or _USUAL_RATE)
        self.aspect = stream.sample_aspect_ratio or Fraction(1)
        seconds = Fraction(container.duration or 0, av.time_base)
        self.frames = stream.frames or round(seconds * self.rate)
        self.problem = ""

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames. One that can't be decoded is left out, and an end before its time is an end.

        Raises: UserError if there is no frame at all.
        """
        step = max(1, round(1 / (self.rate * self.time_base)))
        first = last = None
        for frame in self._decoded():
            pts = frame.pts
            if pts is None:
                pts = 0 if last is None else last + step
            if first is None:
                first = pts if self._live else 0
            pts -= first
            if last is not None and pts <= last:  # a file that is not whole, or a clock that was set back
                pts = last + 1
            last = pts
            yield Frame(_upright(frame), pts, frame.duration or 0)
        if last is None:
            raise UserError(f"{self.name} is damaged: no frame of it could be decoded.")

    def _decoded(self) -> Iterator[VideoFrame]:
        end, damaged = Fraction(0), 0
        cut: dict[int, bool] = {}  # whether the last packet so far is one half of one, by stream
        try:
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    cut[packet.stream_index] = packet.is_corrupt
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream is not self._stream:  # by index, the empty packets of the end would all be 0
                    continue
                try:
                    yield from self._stream.decode(packet)
                except av.FFmpegError:
                    damaged += 1
        except av.FFmpegError as error:
            cut[-1] = True
            if self._live:
                self.problem = f"{self.name} was lost ({error.strerror})."
        if self._live:
            return
        start = Fraction(self._container.start_time or 0, av.time_base)
        promised = start + Fraction(self._container.duration or 0, av.time_base)
        if any(cut.values()) or end + _MISSING_S < promised:
            self.problem = f"{self.name} ends in the middle, at {float(end - start):.1f} s"
            of = f" of {float(promised - start):.1f} s" if promised > end else ""
            self.problem += f"{of}. What could be decoded is done."
        elif damaged:
            self.problem = (
                f"{self.name} is damaged: {damaged} of its packets could not be decoded. The rest is done."
            )


def open_video(path: str) -> Video:
    """A video file. Raises: UserError if it can't be opened, or holds no video."""
    try:
        regular(path)
        return Video(av.open(path), path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except av.FFmpegError as error:
        if isinstance(error, av.InvalidDataError):
            empty = Path(path).stat().st_size == 0
            raise UserError(f"{path} {'is empty' if empty else _NO_VIDEO}.") from None
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def open_camera(number: int) -> Video:
    """Camera ``number`` of the machine. Raises: UserError if there is none, or it is in use."""
    device, kind = f"/dev/video{number}", "v4l2"
    if sys.platform == "darwin":
        device, kind = str(number), "avfoundation"
    elif sys.platform != "linux":
        raise UserError("Cameras are read on Linux and macOS only. Record a video, and name its file.")
    try:
        return Video(av.open(device, format=kind), f"Camera {number}", live=True)
    except (OSError, ValueError) as error:
        there = sorted(str(path) for path in Path("/dev").glob("video*")) if kind == "v4l2" else []
        raise UserError(
            f"Camera {number} ({device}) can't be used: {getattr(error, 'strerror', None) or error}. "
            f"{'There is ' + ', '.join(there) if there else 'No camera was found'}."
        ) from None


def is_own_video(path: Path) -> bool:
    """Whether a `VideoWriter` has written a file, as far as it is a video at all."""
    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment") == MARK
    except (OSError, ValueError):
        return False


def _upright(frame: VideoFrame) -> Image:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(pixels, np.uint8)
