"""Writing videos with the frames, the times and the sound of others."""

from fractions import Fraction

import numpy as np
import pytest
from video_files import cut, make_video, picture, read_video

from mit_semseg.prediction.video_reader import Frame, is_own_video, open_video
from mit_semseg.prediction.video_writer import VideoWriter


def copy(source, target):
    """A video read and written; returns what is wrong with it, and with its sound."""
    with open_video(str(source)) as video:
        writer = VideoWriter(str(target), video.time_base, video.rate, video.aspect, str(source))
        with writer:
            for frame in video:
                writer.write(frame.pixels, frame)
        return video.problem, writer.problem


def assert_close(pixels, expected):
    """Equal, except at edges, because the colours are coded at half the resolution."""
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
    # Unchanged, except for the headers that a transport stream puts before each packet.
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


def test_odd_sides_are_padded_by_their_last_row_and_column(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=2, size=(65, 49), pix_fmt="yuv444p", sound=None)
    copy(source, tmp_path / "out.mp4")
    frame = read_video(tmp_path / "out.mp4")[0][0]
    assert frame.shape == (50, 66, 3)
    assert_close(frame[:49, :65], picture(0, 65, 49))
    assert np.abs(frame[:, 65].astype(int) - frame[:, 64]).max() <= 8


def test_pictures_of_another_size_are_scaled_to_the_first(tmp_path):
    with VideoWriter(str(tmp_path / "a.mp4"), Fraction(1, 25), Fraction(25), Fraction(1)) as writer:
        for number, size in enumerate([(64, 48), (32, 24)]):
            writer.write(picture(0, *size), Frame(picture(0, *size), number, 1))
    assert {frame.shape for frame in read_video(tmp_path / "a.mp4")[0]} == {(48, 64, 3)}


def test_sound_that_mp4_cannot_hold_is_omitted_with_a_message(tmp_path):
    source = make_video(tmp_path / "a.mkv", sound="pcm_s16le")
    problem = copy(source, tmp_path / "out.mp4")[1]
    assert problem == f"The sound of {source} (pcm_s16le) cannot be stored in MP4 and is omitted."
    frames, _, sound = read_video(tmp_path / "out.mp4")
    assert (len(frames), sound) == (10, [])


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {})])
def test_the_copy_of_a_video_that_is_cut_off_is_intact(tmp_path, name, options):
    source = cut(make_video(tmp_path / name, frames=50, options=options), 0.7)
    problem, _ = copy(source, tmp_path / "out.mp4")
    assert problem.startswith(f"{source} is cut off after ")
    assert " of 2.0 s. The rest is missing." in problem
    frames, times, sound = read_video(tmp_path / "out.mp4")
    assert 10 < len(frames) < 45
    assert times == sorted(times)
    assert sound
    assert copy(tmp_path / "out.mp4", tmp_path / "again.mp4")[0] == ""


def test_own_videos_are_recognized(tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=1)
    copy(source, tmp_path / "out.mp4")
    assert is_own_video(tmp_path / "out.mp4")
    assert not is_own_video(source)
    assert not is_own_video(tmp_path / "none.mp4")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "out.mp4").read_bytes()[:30])
    assert not is_own_video(tmp_path / "cut.mp4")


def test_an_error_while_writing_is_the_one_that_is_raised(tmp_path):
    def fail():
        with VideoWriter(str(tmp_path / "a.mp4"), Fraction(1, 25), Fraction(25), Fraction(1)) as writer:
            writer.write(picture(0, 32, 32), Frame(picture(0, 32, 32), 0, 1))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
