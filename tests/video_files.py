"""Small videos for the tests: red and blue below a green bar, a white square that moves, and silence."""

from fractions import Fraction

import av
import numpy as np

RATE = 25
SOUND_RATE = 48000


def picture(number, width, height):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = (220, 30, 30), (30, 30, 220)
    image[: height // 4] = (30, 220, 30)
    left = number * 3 % max(1, width - 8)
    image[height // 2 : height // 2 + 8, left : left + 8] = 255
    return image


def make_video(
    path,
    frames=10,
    size=(64, 48),
    sound="aac",
    codec="libx264",
    pix_fmt="yuv420p",
    rotation=None,
    times=None,
    options=None,
):
    """A file of ``frames`` frames, in 1/25 s or at ``times`` (in the same unit), and as much of silence."""
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream(codec, rate=RATE, options={"g": "5", "qp": "10"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        if rotation is not None:
            video.set_display_rotation(rotation)
        silence = out.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = (times or range(frames))[number], Fraction(1, RATE)
            out.mux(video.encode(frame))
            if silence is not None:
                out.mux(silence.encode(_silence(number, silence.codec_context.format.name)))
        for stream in filter(None, (video, silence)):
            out.mux(stream.encode(None))
    return path


def _silence(number, kind):
    samples = SOUND_RATE // RATE
    dtype = np.int16 if kind.startswith("s16") else np.float32
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), dtype), format=kind, layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, number * samples, Fraction(1, SOUND_RATE)
    return frame


def cut(path, share):
    """The file without its end."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def read_video(path):
    """Frames as RGB, their times in seconds, and the packets of the sound as bytes."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
    with av.open(str(path)) as container:
        sound = (
            [bytes(packet) for packet in container.demux(audio=0) if packet.size]
            if container.streams.audio
            else []
        )
    return pixels, times, sound
