"""Videos in and out, without a network between."""

from fractions import Fraction

import numpy as np
import pytest
from video_files import cut, make_video, picture, read_video

from mit_semseg.errors import UserError
from mit_semseg.video import Frame, VideoWriter, is_own_video, open_camera, open_video


def copy(source, target):
    """A video read and written; returns what is wrong with it, and with its sound."""
    with open_video(str(source)) as video:
        writer = VideoWriter(str(target), video.time_base, video.rate, video.aspect, str(source))
        with writer:
            for frame in video:
                writer.write(frame.pixels, frame)
        return video.problem, writer.problem


def assert_close(pixels, expected):
    """Equal, save for what the coding of colours at half the resolution does at edges."""
    difference = np.abs(pixels.astype(int) - expected.astype(int)).max(-1)
    assert np.quantile(difference, 0.8) <= 8


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
def test_frames_times_and_sound_survive(tmp_path, name):
    source = make_video(tmp_path / name)
    assert copy(source, tmp_path / "out.mp4") == ("", "")
    frames, times, sound = read_video(source)
    copied, new_times, new_sound = read_video(tmp_path / "out.mp4")
    np.testing.assert_allclose(new_times, times, atol=1e-6)
    assert len(new_sound) == len(sound) > 5
    # As it is, save for the headers that a transport stream puts before each packet.
    assert all(old.endswith(new) for new, old in zip(new_sound, sound, strict=True))
    for number, frame in enumerate(copied):
        assert_close(frame, picture(number, 64, 48))
    assert len(frames) == len(copied) == 10


def test_a_variable_frame_rate_is_kept(tmp_path):
    times = [0, 1, 2, 10, 11, 40]
    source = make_video(tmp_path / "a.mp4", frames=6, times=times, sound=None)
    copy(source, tmp_path / "out.mp4")
    np.testing.assert_allclose(read_video(tmp_path / "out.mp4")[1], np.array(times) / 25, atol=1e-4)


def test_a_single_frame_is_a_video(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=1)
    assert copy(source, tmp_path / "out.mp4") == ("", "")
    assert len(read_video(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.parametrize("rotation", [-90, 90, 180])
def test_a_video_is_turned_as_its_camera_says(tmp_path, rotation):
    source = make_video(tmp_path / "a.mp4", frames=2, rotation=rotation)
    copy(source, tmp_path / "out.mp4")
    expected = np.rot90(picture(0, 64, 48), rotation // 90)
    frame = read_video(tmp_path / "out.mp4")[0][0]
    assert frame.shape == expected.shape
    assert_close(frame, expected)


def test_odd_sides_are_padded_by_their_last_row_and_column(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=2, size=(33, 21), pix_fmt="yuv444p", sound=None)
    copy(source, tmp_path / "out.mp4")
    frame = read_video(tmp_path / "out.mp4")[0][0]
    assert frame.shape == (22, 34, 3)
    assert_close(frame[:21, :33], picture(0, 33, 21))
    assert np.abs(frame[:, 33].astype(int) - frame[:, 32]).max() <= 8


def test_pictures_of_another_size_are_scaled_to_the_first(tmp_path):
    with VideoWriter(str(tmp_path / "a.mp4"), Fraction(1, 25), Fraction(25), Fraction(1)) as writer:
        for number, size in enumerate([(64, 48), (32, 24)]):
            writer.write(picture(0, *size), Frame(picture(0, *size), number, 1))
    assert {frame.shape for frame in read_video(tmp_path / "a.mp4")[0]} == {(48, 64, 3)}


def test_sound_that_mp4_does_not_take_is_left_out_and_named(tmp_path):
    source = make_video(tmp_path / "a.mkv", sound="pcm_s16le")
    problem = copy(source, tmp_path / "out.mp4")[1]
    assert problem == f"The sound of {source} (pcm_s16le) does not fit into MP4 and is left out."
    frames, _, sound = read_video(tmp_path / "out.mp4")
    assert (len(frames), sound) == (10, [])


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {})])
def test_what_is_left_of_a_video_that_ends_in_the_middle_is_a_good_video(tmp_path, name, options):
    source = cut(make_video(tmp_path / name, frames=50, options=options), 0.7)
    problem, _ = copy(source, tmp_path / "out.mp4")
    assert problem.startswith(f"{source} ends in the middle, at ")
    assert " of 2.0 s. What could be decoded is done." in problem
    frames, times, sound = read_video(tmp_path / "out.mp4")
    assert 10 < len(frames) < 45
    assert times == sorted(times)
    assert sound
    assert copy(tmp_path / "out.mp4", tmp_path / "again.mp4")[0] == ""


def test_damage_in_the_middle_is_told(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=50, sound=None)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(range(200)) * 3
    source.write_bytes(bytes(data))
    problem, _ = copy(source, tmp_path / "out.mp4")
    assert problem.startswith(f"{source} is damaged: ")
    assert len(read_video(tmp_path / "out.mp4")[0]) > 20


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty."),
        (b"hello" * 100, "is not a video, or one that ends before its index."),
        (None, "does not exist."),
    ],
)
def test_a_file_that_is_no_video(tmp_path, content, says):
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path / 'a.mp4'} {says}$"):
        open_video(str(tmp_path / "a.mp4"))


def test_a_file_that_ends_before_its_index_and_one_without_pictures(tmp_path):
    with pytest.raises(UserError, match="ends before its index"):
        open_video(str(cut(make_video(tmp_path / "a.mp4"), 0.5)))
    with pytest.raises(UserError, match=r"^.*b\.mp4 holds no video\.$"):
        open_video(str(_sound_alone(tmp_path / "b.mp4")))


def _sound_alone(path):
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_camera_that_is_not_there():
    with pytest.raises(UserError, match=r"^Camera 97 \(/dev/video97\) can't be used: No such file"):
        open_camera(97)


def test_videos_of_ones_own_are_told_from_others(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=1)
    copy(source, tmp_path / "out.mp4")
    assert is_own_video(tmp_path / "out.mp4")
    assert not is_own_video(source)
    assert not is_own_video(tmp_path / "none.mp4")


def test_an_error_while_writing_is_the_one_that_is_raised(tmp_path):
    def fail():
        with VideoWriter(str(tmp_path / "a.mp4"), Fraction(1, 25), Fraction(25), Fraction(1)) as writer:
            writer.write(picture(0, 32, 32), Frame(picture(0, 32, 32), 0, 1))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
