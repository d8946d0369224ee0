"""A tracker that fails or hangs: one warning, and the run continues."""

import threading
import time

import pytest

from mit_semseg.runtime.log import capturing_log
from mit_semseg.tracking import Ending, TrackedRun, Trackers, open_trackers
from mit_semseg.tracking.guard import BackgroundGuard, Guard

GUARDS = [Guard, BackgroundGuard]


class Recorder:
    """A tracker that keeps what it is sent."""

    def __init__(self):
        self.sent = []

    def scalars(self, step, values):
        self.sent.append((step, values))

    def pictures(self, step, pictures):
        self.sent.append((step, sorted(pictures)))

    def files(self, name, files):
        self.sent.append((name, [file.name for file in files]))

    def flush(self):
        self.sent.append("flush")

    def close(self, ending):
        self.sent.append(ending)


class Broken(Recorder):
    def scalars(self, step, values):
        super().scalars(step, values)
        raise OSError("the server\nsays no")


@pytest.mark.parametrize("guard", GUARDS)
def test_actions_arrive_in_their_order_without_nan_and_without_files_that_do_not_exist(guard, tmp_path):
    recorder = Recorder()
    (tmp_path / "a.pth").touch()
    trackers = Trackers([guard("x", lambda: recorder)], patience_s=5)
    trackers.scalars(1, {"loss": 0.5, "iou": float("nan")})
    trackers.scalars(2, {"iou": float("nan")})
    trackers.pictures(2, {})
    trackers.files("best", [tmp_path / "a.pth", tmp_path / "b.pth"])
    trackers.close(Ending.STOPPED)
    assert recorder.sent == [(1, {"loss": 0.5}), ("best", ["a.pth"]), Ending.STOPPED]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_tracker_that_fails_warns_once_and_gets_nothing_more(guard):
    broken = Broken()
    with capturing_log() as messages:
        trackers = Trackers([guard("x", lambda: broken)], patience_s=5)
        for step in range(3):
            trackers.scalars(step, {"loss": 1.0})
        trackers.flush()
        trackers.close(Ending.FINISHED)
    assert broken.sent == [(0, {"loss": 1.0})]
    assert messages == ["x failed and gets no more data; the run itself continues. the server says no"]


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("error", [OSError("no key"), SystemExit("no key")])
def test_a_tracker_that_cannot_be_opened_warns_once(guard, error):
    def build():
        raise error

    with capturing_log() as messages:
        trackers = Trackers([guard("x", build)], patience_s=5)
        trackers.scalars(1, {"loss": 1.0})
        trackers.close(Ending.FINISHED)
    assert messages == ["x failed and gets no more data; the run itself continues. no key"]


def test_a_failure_of_one_tracker_does_not_affect_another_one():
    recorder = Recorder()
    trackers = Trackers([Guard("x", Broken), Guard("y", lambda: recorder)])
    trackers.scalars(1, {"loss": 1.0})
    trackers.scalars(2, {"loss": 1.0})
    assert [step for step, _ in recorder.sent] == [1, 2]


def test_a_tracker_that_hangs_holds_up_neither_a_step_nor_the_end():
    release = threading.Event()

    class Hanging(Recorder):
        def scalars(self, step, values):
            release.wait()

    with capturing_log() as messages:
        start = time.monotonic()
        trackers = Trackers([BackgroundGuard("x", Hanging)], patience_s=0.2)
        for step in range(3000):
            trackers.scalars(step, {"loss": 1.0})
        trackers.flush()
        trackers.close(Ending.FINISHED)
    assert time.monotonic() - start < 100  # to wait for each of 3000 points would take 600 seconds
    release.set()
    assert messages == ["x is too slow, so it does not get all points."]


def test_a_tracker_that_fails_after_nobody_waits_for_it_has_warned_already():
    release = threading.Event()

    class Late(Recorder):
        def scalars(self, step, values):
            release.wait()
            raise OSError("no server")

    with capturing_log() as messages:
        guard = BackgroundGuard("x", Late)
        trackers = Trackers([guard], patience_s=0.2)
        trackers.scalars(1, {"loss": 1.0})
        trackers.close(Ending.FINISHED)
        release.set()
        guard._thread.join(5)
    assert messages == ["x has not got everything within 0 seconds."]


def test_interrupts_are_not_held_back():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guard("x", interrupt)


def test_a_tracker_named_twice_is_opened_once(tmp_path):
    run = TrackedRun("id", tmp_path, "A: 1", {"A": 1}, resumed=False)
    open_trackers(["tensorboard", "tensorboard"], run).close(Ending.FINISHED)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
