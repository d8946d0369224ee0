"""The frames of a video file or a camera, upright and in the order of display."""

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

from ..data.files import is_empty, missing, regular
from ..errors import UserError
from ..inference.pictures import MARK, Image

_NOT_A_VIDEO = "is not a video, or is cut off before its index"
_TOLERANCE_S = Fraction(1, 4)  # an intact file may be shorter than its header says
_DEFAULT_RATE = Fraction(30)  # frames a second, if the file does not say


class Frame(NamedTuple):
    """A frame of a video."""

    pixels: Image  # (H, W, 3) RGB
    pts: int  # time of display, in units of the video's ``time_base``; strictly increasing
    duration: int  # in the same units; 0 if unknown


class VideoReader:
    """An open video. Its frames can be iterated over once.

    Attributes:
        name: for messages.
        time_base: the unit of timestamps, in seconds.
        rate: frames a second, on average.
        frames: their number according to the file; 0 if it does not say.
        aspect: width of a pixel divided by its height.
        problem: after the iteration, what is wrong with the file, as a sentence; "" for nothing.
    """

    def __init__(self, container: InputContainer, name: str, *, live: bool = False) -> None:
        """
        Args:
            live: whether it is a camera. Its timestamps, which begin anywhere, are shifted to begin at 0.
        """
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.time_base is None:
            streams = len(container.streams)
            container.close()
            raise UserError(f"{name} {'holds no video' if streams else _NOT_A_VIDEO}.")
        stream.thread_type = "AUTO"
        self._container, self._stream, self._live = container, stream, live
        self.name = name
        self.time_base = stream.time_base
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or _DEFAULT_RATE)
        self.aspect = stream.sample_aspect_ratio or Fraction(1)
        seconds = Fraction(container.duration or 0, av.time_base)
        self.frames = stream.frames or round(seconds * self.rate)
        self.problem = ""

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames. Frames that cannot be decoded are omitted, and a file that is cut off ends earlier.

        Raises: UserError if no frame can be decoded.
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
            if last is not None and pts <= last:  # a damaged file, or a clock that was set back
                pts = last + 1
            last = pts
            yield Frame(_upright(frame), pts, frame.duration or 0)
        if last is None:
            raise UserError(f"{self.name} is damaged: no frame of it could be decoded.")

    def _decoded(self) -> Iterator[VideoFrame]:
        end, damaged = Fraction(0), 0
        cut: dict[int, bool] = {}  # for each stream, whether its latest packet is incomplete
        try:
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    cut[packet.stream_index] = packet.is_corrupt
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                # Not compared by index: that of the empty packets at the end is 0.
                if packet.stream is not self._stream:
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
        if any(cut.values()) or end + _TOLERANCE_S < promised:
            of = f" of {float(promised - start):.1f} s" if promised > end else ""
            self.problem = (
                f"{self.name} is cut off after {float(end - start):.1f} s{of}. The rest is missing."
            )
        elif damaged:
            self.problem = (
                f"{self.name} is damaged: {damaged} of its packets could not be decoded. The others are used."
            )


def open_video(path: str) -> VideoReader:
    """A video file. Raises: UserError if it cannot be opened or holds no video."""
    try:
        regular(path)
        # An absolute path, because FFmpeg takes the start of "12:30.mp4" for a protocol.
        return VideoReader(av.open(str(Path(path).absolute())), path)
    except FileNotFoundError:
        raise UserError(missing(path)) from None
    except av.FFmpegError as error:
        if isinstance(error, av.InvalidDataError):
            raise UserError(f"{path} {'is empty' if is_empty(path) else _NOT_A_VIDEO}.") from None
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def open_camera(number: int) -> VideoReader:
    """Camera ``number`` of the machine. Raises: UserError if it does not exist or is in use."""
    device, kind = f"/dev/video{number}", "v4l2"
    if sys.platform == "darwin":
        device, kind = str(number), "avfoundation"
    elif sys.platform != "linux":
        raise UserError("Cameras are supported on Linux and macOS only. Record a video, and name its file.")
    try:
        return VideoReader(av.open(device, format=kind), f"Camera {number}", live=True)
    except (av.FFmpegError, OSError, ValueError) as error:
        there = sorted(str(path) for path in Path("/dev").glob("video*")) if kind == "v4l2" else []
        raise UserError(
            f"Camera {number} ({device}) cannot be used: {getattr(error, 'strerror', None) or error}. "
            f"{'There is ' + ', '.join(there) if there else 'No camera was found'}."
        ) from None


def is_own_video(path: Path) -> bool:
    """Whether a file is a video that a `VideoWriter` has written."""
    try:
        with av.open(str(path.absolute())) as container:
            return container.metadata.get("comment") == MARK
    except (av.FFmpegError, OSError, ValueError):
        return False


def _upright(frame: VideoFrame) -> Image:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(pixels, np.uint8)
