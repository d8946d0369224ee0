"""A video file of pictures as they are made: H.264 in MP4, with the timestamps and the sound of another."""

from contextlib import suppress
from fractions import Fraction
from types import TracebackType

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from ..visualize import MARK, Image
from .read import Frame

_OPTIONS = {"crf": "18", "preset": "veryfast"}  # 18 is hard to tell from the original
_SOUND = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus")  # what players expect in MP4
_BT709 = 1  # the number of the colour space in H.264


class VideoWriter:
    """Writes MP4 into a file. As a context manager it ends the file, if all has gone well.

    Sides are padded to even numbers by repeating the last row and column, as H.264's colours need. Pictures
    of another size than the first are scaled to it.

    Args:
        path: of the file, which is written anew, whatever its extension.
        time_base: unit of the frames' timestamps, in seconds.
        rate: frames a second, on average.
        aspect: width of a pixel over its height.
        sound_of: path of a video whose sound is copied; "" for none.

    Attributes:
        problem: why the sound is missing, as a sentence; "" if it is not, or if there was none.
    """

    def __init__(
        self, path: str, time_base: Fraction, rate: Fraction, aspect: Fraction, sound_of: str = ""
    ) -> None:
        self._out = av.open(path, "w", format="mp4")
        self._out.metadata["comment"] = MARK
        self._stream = self._out.add_stream("libx264", rate=rate, options=_OPTIONS)
        self._aspect, self._time_base = aspect, time_base
        self._size: tuple[int, int] | None = None  # (width, height), once there is a frame
        self._sound = _Sound(sound_of) if sound_of else None
        self._sound_stream: Stream | None = None
        self.problem = self._sound.problem if self._sound else ""
        if self._sound is not None and self._sound.stream is not None:
            self._sound_stream = self._out.add_stream_from_template(self._sound.stream)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._out.mux(self._stream.encode(None))
                self._copy_sound(None)
                self._out.close()
        finally:
            if self._sound is not None:
                self._sound.close()
            with suppress(OSError, ValueError):  # the error that led here is the one to tell of
                self._out.close()

    def write(self, picture: Image, frame: Frame) -> None:
        """Add a picture, shown when and as long as ``frame`` is."""
        picture = _even(picture)
        if self._size is None:
            self._begin(picture.shape[1], picture.shape[0])
        assert self._size is not None
        encoded = VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            width=self._size[0], height=self._size[1], format="yuv420p", dst_colorspace="ITU709"
        )
        encoded.pts, encoded.duration, encoded.time_base = frame.pts, frame.duration, self._time_base
        self._out.mux(self._stream.encode(encoded))
        self._copy_sound(frame.pts * self._time_base)

    def _begin(self, width: int, height: int) -> None:
        self._size = width, height
        codec = self._stream.codec_context
        codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
        codec.time_base = self._time_base
        codec.sample_aspect_ratio = self._aspect
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709

    def _copy_sound(self, until: Fraction | None) -> None:
        """All of it up to a time in seconds, or to its end."""
        if self._sound is None or self._sound_stream is None:
            return
        for packet in self._sound.packets(until):
            packet.stream = self._sound_stream
            self._out.mux(packet)


class _Sound:
    """The packets of a file's sound, as far as MP4 can hold them."""

    def __init__(self, path: str) -> None:
        self._container = av.open(path)
        self.stream = self._container.streams.best("audio")
        self.problem = ""
        self._waiting: Packet | None = None
        if self.stream is None:
            return
        codec = self.stream.codec_context
        if codec is None or codec.name not in _SOUND:
            name = "of unknown coding" if codec is None else codec.name
            self.problem = f"The sound of {path} ({name}) does not fit into MP4 and is left out."
            self.stream = None
            return
        self._packets = self._container.demux(self.stream)

    def close(self) -> None:
        self._container.close()

    def packets(self, until: Fraction | None) -> list[Packet]:
        """The next ones, up to a time in seconds, or to the end of what can be read."""
        found = []
        try:
            while True:
                packet = self._waiting or next(self._packets)
                self._waiting = None
                if packet.dts is None or packet.time_base is None:  # the mark of the end
                    continue
                if until is not None and packet.dts * packet.time_base > until:
                    self._waiting = packet
                    break
                found.append(packet)
        except (StopIteration, av.FFmpegError):  # the reader of the pictures says what is wrong with the file
            pass
        return found


def _even(picture: Image) -> Image:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
