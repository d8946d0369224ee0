"""Guards between a run and its trackers: an error becomes one warning, and nobody waits for a network."""

import queue
import threading
from collections.abc import Callable

from ..runtime.log import get_logger
from .tracker import Ending, Tracker

Action = Callable[[Tracker], None]

_QUEUED = 1000  # actions that a slow tracker may be late
_STOPPED_S = 10.0  # patience at the end of a run that was stopped: a scheduler soon kills it


class Guard:
    """Passes actions to a tracker at once, for one that only writes to the disk.

    After the first error, the tracker is left alone.

    Args:
        name: of the tracker, for the warning.
        build: opens the tracker.
        warn: writes the warning.
    """

    def __init__(
        self, name: str, build: Callable[[], Tracker], warn: Callable[[str], None] | None = None
    ) -> None:
        self._name = name
        self._warn = warn or get_logger().warning
        self._tracker: Tracker | None = None
        self.failed = False
        with self:
            self._tracker = build()

    def send(self, action: Action) -> None:
        if self._tracker is not None and not self.failed:
            with self:
                action(self._tracker)

    def flush(self) -> None:
        self.send(lambda tracker: tracker.flush())

    def close(self, ending: Ending, patience_s: float) -> None:
        self.send(lambda tracker: tracker.close(ending))

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        # Some libraries end the process where they find no key to log in with.
        if not isinstance(error, Exception | SystemExit):
            return False
        self.failed = True
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        self._warn(f"{self._name} failed and gets no more data; the run itself continues. {reason}")
        return True


class BackgroundGuard:
    """Passes actions to a tracker in a thread, for one that may wait for a network.

    The thread starts with the first action, after the loader processes, which would inherit the locks that it
    holds. If the tracker is more than 1000 actions late, further ones are dropped. There is at most
    one warning.
    """

    def __init__(self, name: str, build: Callable[[], Tracker]) -> None:
        self._name = name
        self._build = build
        self._actions: queue.Queue[Action | None] = queue.Queue(_QUEUED)
        self._warned = False
        # A daemon, so that the process can end while a library waits for its server.
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)

    def send(self, action: Action) -> None:
        if self._thread.ident is None:
            self._thread.start()
        try:
            self._actions.put_nowait(action)
        except queue.Full:
            self._warn(f"{self._name} is too slow, so it does not get all points.")

    def flush(self) -> None:
        """Nothing: a saved state does not wait for a network."""

    def close(self, ending: Ending, patience_s: float) -> None:
        if self._thread.ident is None:
            return
        if ending is not Ending.FINISHED:
            patience_s = min(patience_s, _STOPPED_S)
        try:
            self._actions.put(lambda tracker: tracker.close(ending), timeout=patience_s)
            self._actions.put(None, timeout=patience_s)
        except queue.Full:
            pass
        else:
            self._thread.join(patience_s)
        if self._thread.is_alive():
            self._warn(f"{self._name} has not got everything within {patience_s:.0f} seconds.")

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            get_logger().warning("%s", message)

    def _work(self) -> None:
        guard = Guard(self._name, self._build, self._warn)
        while (action := self._actions.get()) is not None:
            guard.send(action)  # after a failure, this only empties the queue
