"""Writing a video: H.264 in MP4, with the timestamps and the sound of another video."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from ..inference.pictures import MARK, Image
from .video_reader import Frame

_OPTIONS = {"crf": "18", "preset": "veryfast"}  # 18 is hard to tell from the original
_AUDIO_CODECS = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus")  # what players expect in MP4
_BT709 = 1  # the number of the colour space in H.264


class VideoWriter:
    """Writes an MP4 file. As a context manager it completes the file, unless the block raises an error.

    The last row and column are repeated to make the sides even, because the colours of H.264 have half the
    resolution. A picture whose size differs from the first one's is scaled to that size.

    Args:
        path: of the file, with any extension. An existing file is replaced.
        time_base: unit of the frames' timestamps, in seconds.
        rate: frames a second, on average.
        aspect: width of a pixel divided by its height.
        sound_of: path of a video whose sound is copied; "" for none.

    Attributes:
        problem: why the sound could not be copied, as a sentence; "" for nothing.
    """

    def __init__(
        self, path: str, time_base: Fraction, rate: Fraction, aspect: Fraction, sound_of: str = ""
    ) -> None:
        self._out = av.open(str(Path(path).absolute()), "w", format="mp4")
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
            with suppress(OSError, ValueError):  # if there was an error, that one is raised
                self._out.close()

    def write(self, picture: Image, frame: Frame) -> None:
        """Add a picture with the time and the duration of ``frame``."""
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
        """Copy the sound up to a time in seconds; None: to its end."""
        if self._sound is None or self._sound_stream is None:
            return
        for packet in self._sound.packets(until):
            packet.stream = self._sound_stream
            self._out.mux(packet)


class _Sound:
    """The packets of a file's sound, if MP4 can hold them."""

    def __init__(self, path: str) -> None:
        self._container = av.open(str(Path(path).absolute()))
        self.stream = self._container.streams.best("audio")
        self.problem = ""
        self._waiting: Packet | None = None
        if self.stream is None:
            return
        codec = self.stream.codec_context
        if codec is None or codec.name not in _AUDIO_CODECS:
            name = "of an unknown codec" if codec is None else codec.name
            self.problem = f"The sound of {path} ({name}) cannot be stored in MP4 and is omitted."
            self.stream = None
            return
        self._packets = self._container.demux(self.stream)

    def close(self) -> None:
        self._container.close()

    def packets(self, until: Fraction | None) -> list[Packet]:
        """The next packets, up to a time in seconds; None: to the end of the readable part."""
        found = []
        try:
            while True:
                packet = self._waiting or next(self._packets)
                self._waiting = None
                if packet.dts is None or packet.time_base is None:  # marks the end
                    continue
                if until is not None and packet.dts * packet.time_base > until:
                    self._waiting = packet
                    break
                found.append(packet)
        except (StopIteration, av.FFmpegError):  # the reader of the frames reports what is wrong
            pass
        return found


def _even(picture: Image) -> Image:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)
