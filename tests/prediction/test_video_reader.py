"""Reading videos and cameras: frames in display order, upright, and what is wrong with a file."""

import av
import numpy as np
import pytest
from video_files import cut, make_video, picture

from mit_semseg.errors import UserError
from mit_semseg.prediction.video_reader import open_camera, open_video


def read(source):
    """All frames, and what is wrong with the file."""
    with open_video(str(source)) as video:
        return list(video), video.problem


def assert_close(pixels, expected):
    """Equal, except at edges, because the colours are coded at half the resolution."""
    difference = np.abs(pixels.astype(int) - expected.astype(int)).max(-1)
    assert np.quantile(difference, 0.8) <= 8


def test_frames_come_in_the_order_of_their_times(tmp_path):
    frames, problem = read(make_video(tmp_path / "a.mp4"))
    assert problem == ""
    assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})
    assert len(frames) == 10
    for number, frame in enumerate(frames):
        assert_close(frame.pixels, picture(number, 64, 48))


@pytest.mark.parametrize("rotation", [-90, 90, 180])
def test_a_video_is_turned_as_its_camera_says(tmp_path, rotation):
    source = make_video(tmp_path / "a.mp4", frames=2, rotation=rotation)
    expected = np.rot90(picture(0, 64, 48), rotation // 90)
    frames, _ = read(source)
    assert frames[0].pixels.shape == expected.shape
    assert_close(frames[0].pixels, expected)


def test_damage_in_the_middle_is_reported(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=50, sound=None)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(range(200)) * 3
    source.write_bytes(bytes(data))
    frames, problem = read(source)
    assert problem.startswith(f"{source} is damaged: ")
    assert len(frames) > 20


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty."),
        (b"hello" * 100, "is not a video, or is cut off before its index."),
        (None, "does not exist."),
    ],
)
def test_a_file_that_is_not_a_video(tmp_path, content, says):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path / 'a.mp4'} {says}$"):
        open_video(str(tmp_path / "a.mp4"))


def test_a_file_that_is_cut_off_before_its_index_and_one_without_frames(tmp_path):
    with pytest.raises(UserError, match="cut off before its index"):
        open_video(str(cut(make_video(tmp_path / "a.mp4"), 0.5)))
    with pytest.raises(UserError, match=r"^.*b\.mp4 holds no video\.$"):
        open_video(str(sound_alone(tmp_path / "b.mp4")))


def sound_alone(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_camera_that_does_not_exist():
    with pytest.raises(UserError, match=r"^Camera 97 \(/dev/video97\) cannot be used: No such file"):
        open_camera(97)
