"""test.py on videos and cameras as a user sees it."""

import os
import resource
import signal
from contextlib import contextmanager
from functools import partial

import av
import numpy as np
import pytest
from PIL import Image
from video_files import cut, make_video, read_video

from mit_semseg.prediction import predict_video
from mit_semseg.prediction.video_reader import VideoReader

COLORS = np.array([[200, 60, 40], [60, 180, 60], [40, 80, 200]])


def tree(folder):
    paths = folder.rglob("*") if folder.exists() else []
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.name != ".manifest.jsonl")


def test_a_video_beside_its_classes_with_its_times_and_its_sound(segment, tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=5)
    outcome = segment(source)
    assert (outcome.code, outcome.err) == (0, "")
    frames, times, sound = read_video(source)
    segmented, new_times, new_sound = read_video(tmp_path / "out" / "a.mp4")
    assert (new_times, new_sound) == (times, sound)
    for frame, old in zip(segmented, frames, strict=True):
        left, right = np.split(frame.astype(int), 2, axis=1)
        assert np.quantile(np.abs(left - old), 0.9) <= 10
        nearest = np.abs(right[:, :, None] - COLORS).max(-1).min(-1)
        assert np.quantile(nearest, 0.8) <= 10  # the rest is edges, whose colours have half the resolution
    assert f"Predictions in [{source}]:" in outcome.out
    assert f"  -> {tmp_path / 'out' / 'a.mp4'}" in outcome.out


def test_a_frame_has_the_labels_that_an_image_of_it_has(segment, tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=1)
    Image.fromarray(read_video(source)[0][0]).save(tmp_path / "b.png")
    outcome = segment(source, tmp_path / "b.png")
    images, videos = (block.splitlines()[1:-1] for block in outcome.out.split("Predictions in")[1:])
    assert images == videos


def test_outputs_of_videos_and_images_together(segment, tmp_path):
    (tmp_path / "clips" / "sub").mkdir(parents=True)
    source = make_video(tmp_path / "clips" / "sub" / "a.mp4", frames=3)
    Image.new("RGB", (40, 30)).save(tmp_path / "clips" / "b.png")
    keys = {"TEST__output": "side_by_side,overlay,html", "TEST__legend": True}
    assert segment(f"{tmp_path}/clips/**", **keys).code == 0
    out = tmp_path / "out"
    files = [path for path in tree(out) if path != "sub"]
    assert files == ["b.png", "b_overlay.png", "predictions.html", "sub/a.mp4", "sub/a_overlay.mp4"]
    overlaid = read_video(out / "sub" / "a_overlay.mp4")[0]
    assert len(overlaid) == 3
    assert overlaid[0].shape[0] >= 48 + 18
    assert (out / "predictions.html").read_text().count('<article class="card"') == 2
    again = segment(source, tmp_path / "clips", "--resume", **keys)
    assert "Skipped 2 of 2" in again.out  # named by itself, the video is known all the same
    assert again.code == 0
    assert not (out / "a.mp4").exists()


@pytest.mark.parametrize("output", ["labels", "overlay,scores"])
def test_outputs_that_videos_do_not_have_are_refused(segment, tmp_path, output):
    source = make_video(tmp_path / "a.mp4", frames=1)
    name = output.split(",")[-1]
    problem = f"{source} is a video. Videos have no output {name}, only side_by_side"
    outcome = segment(source, TEST__output=output)
    assert outcome.code == 2
    assert outcome.err.startswith(problem)
    assert tree(tmp_path / "out") == []
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    outcome = segment(tmp_path / "b.png", source, TEST__output=output)  # the image is done all the same
    assert outcome.code == 1
    assert outcome.err.startswith(problem)
    assert f"b_{name}" in {path.split(".")[0] for path in tree(tmp_path / "out")}


def test_a_video_that_is_cut_off_is_segmented_up_to_there(segment, tmp_path):
    whole = make_video(tmp_path / "whole.mp4", frames=2)
    half = cut(make_video(tmp_path / "half.mkv", frames=30), 0.6)
    lost = cut(make_video(tmp_path / "lost.mp4", frames=30), 0.6)
    outcome = segment(half, lost, whole)
    assert outcome.code == 1
    first, second, last = outcome.err.splitlines()
    assert first.startswith(f"{half} is cut off after ")
    assert second == f"{lost} is not a video, or is cut off before its index."
    assert last == "2 of 3 videos could not be segmented, or only in part."
    assert tree(tmp_path / "out") == ["half.mp4", "whole.mp4"]
    assert 5 < len(read_video(tmp_path / "out" / "half.mp4")[0]) < 30
    again = segment(half, lost, whole, "--resume")
    assert "Skipped 2 of 3" in again.out
    assert (again.code, again.err) == (1, outcome.err)  # what is missing is not done
    make_video(half, frames=30)  # the rest has arrived
    again = segment(half, whole, "--resume")
    assert (again.code, again.err) == (0, "")
    assert "Segmenting 1 of 2 inputs again: they have changed since" in again.out
    assert len(read_video(tmp_path / "out" / "half.mp4")[0]) == 30


def test_a_half_written_video_does_not_count_as_done(segment, tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=3)
    segment(source)
    file = tmp_path / "out" / "a.mp4"
    before = read_video(file)[1]
    cut(file, 0.5)
    again = segment(source, "--resume")
    assert "outputs of them are missing, or have changed since" in again.out
    assert read_video(file)[1] == before
    assert tree(tmp_path / "out") == ["a.mp4"]


def test_a_name_may_begin_like_an_address(segment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "12:30.mp4", frames=2)
    for _ in range(2):
        assert segment("12:30.mp4", out=".").code == 0
    assert tree(tmp_path) == ["12:30.mp4", "12:30_segmented.mp4"]


def test_a_video_is_no_input_of_the_second_run_and_never_overwritten(segment, tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=1)
    before = source.read_bytes()
    for _ in range(2):
        assert segment(tmp_path / "*.mp4", out=tmp_path).code == 0
        assert tree(tmp_path) == ["a.mp4", "a_segmented.mp4"]
    assert source.read_bytes() == before


@contextmanager
def full_disk(room):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_one_error_and_leaves_no_half_video(segment, tmp_path):
    source = make_video(tmp_path / "a.mp4", frames=30)
    with full_disk(room=5000):
        outcome = segment(source)
    assert outcome.code == 2
    assert outcome.err.startswith(f"{tmp_path / 'out' / 'a.mp4'} cannot be written: File too large.")
    assert outcome.err.count("\n") == 1
    assert tree(tmp_path / "out") == []


def test_a_camera_that_is_not_there(segment, tmp_path):
    outcome = segment("97")
    assert outcome.code == 1
    assert outcome.err.startswith("Camera 97 (/dev/video97) cannot be used: No such file or directory.")
    assert tree(tmp_path / "out") == []


class PatternUntilInterrupt(VideoReader):
    """libav's endless test pattern for a camera, with a user who presses Ctrl-C after a while."""

    def __init__(self, number):
        source = "testsrc=size=64x48:rate=25,setpts=PTS+1000/TB"  # a camera's clock begins anywhere
        super().__init__(av.open(source, format="lavfi"), f"Camera {number}", live=True)

    def __iter__(self):
        for number, frame in enumerate(super().__iter__()):
            if number == 12:
                os.kill(os.getpid(), signal.SIGINT)
            yield frame


def test_a_camera_is_recorded_until_ctrl_c_and_a_recording_is_not_replaced(
    segment, tmp_path, monkeypatch, request
):
    monkeypatch.setattr(predict_video, "open_camera", PatternUntilInterrupt)
    # As in a terminal; what a shell starts in the background ignores Ctrl-C.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("camera_0.mp4", "camera_0_2.mp4"):
        outcome = segment("0")
        assert (outcome.code, outcome.err) == (0, "")
        assert "Camera 0 is on. Press Ctrl-C to end." in outcome.out
        assert "Predictions in [Camera 0]:" in outcome.out
        frames, times, _ = read_video(tmp_path / "out" / name)
        assert 1 <= len(frames) <= 16
        np.testing.assert_allclose(times, np.arange(len(frames)) / 25, atol=1e-3)
    assert tree(tmp_path / "out") == ["camera_0.mp4", "camera_0_2.mp4"]
