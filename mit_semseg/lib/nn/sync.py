"""The peers of a layer: none, replicas in threads of this process, or other processes.

A layer only uses the interface `Exchange`. It calls `meet` with its shard. The work on the shards of all
replicas may then call `gather` to collect rows from other processes.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch import Tensor

from .mailbox import Mailbox

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Exchange:
    """The exchange of a layer without peers, and the base of the other exchanges."""

    tracks_statistics = True
    """Whether the layer that holds this exchange updates its running statistics."""

    def meet(self, shard: Shard, work: Callable[[list[Shard]], list[Result]]) -> Result:
        """The result for this shard of ``work`` on the shards of all replicas in this process."""
        return work([shard])[0]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the same order everywhere; ``rows`` (n, k) are those of this one."""
        return rows


class ProcessExchange(Exchange):
    """Peers in the default process group. Every rank must call every layer, in the same order.

    If a rank does not arrive, the others wait until the time-out of the group.

    Args:
        mailbox: shared memory for rows on the CPU, which is faster; None if there is none.
    """

    def __init__(self, mailbox: Mailbox | None) -> None:
        self._mailbox = mailbox

    def gather(self, rows: Tensor) -> Tensor:
        if self._mailbox is not None and self._mailbox.takes(rows):
            return self._mailbox.gather(rows)
        everyone = rows.new_empty(dist.get_world_size() * rows.size(0), rows.size(1))
        dist.all_gather_into_tensor(everyone, rows.contiguous())
        return everyone


# Per group, because a program may destroy one and create another.
_exchanges: WeakKeyDictionary[dist.ProcessGroup, ProcessExchange] = WeakKeyDictionary()


def process_exchange() -> ProcessExchange | None:
    """The exchange with the other processes, or None if there are none."""
    group = dist.group.WORLD if dist.is_available() else None
    if group is None or group.size() < 2:
        return None
    if group not in _exchanges:
        has_gloo = "gloo" in dist.get_backend_config()
        _exchanges[group] = ProcessExchange(Mailbox.between_ranks() if has_gloo else None)
    return _exchanges[group]


class PeerFailed(RuntimeError):
    """Ends a replica because another one failed. The other one's error is the one to show."""


class Meeting:
    """Where the replicas of one process meet, layer by layer, during one forward pass.

    The last replica to arrive does the work for all, which makes one autograd node for all replicas. One node
    per replica would deadlock: autograd runs the backward pass of all CPU replicas in one thread, where nodes
    that wait for each other's sums would wait forever.

    The forward pass cannot hang either: a meeting fails for all replicas as soon as one of them fails,
    finishes, or arrives at another layer than the rest.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[str, Any]] = {}  # rank -> layer, shard
        self._left: set[int] = set()
        self._results: dict[int, Any] = {}
        self._round = 0
        self.failure: BaseException | None = None
        """The error of the first replica that failed, or None."""

    def meet(
        self, rank: int, layer: str, shard: Shard, work: Callable[[list[Shard]], list[Result]]
    ) -> Result:
        with self._changed:
            self._check(rank, layer)
            self._waiting[rank] = layer, shard
            this_round = self._round
            if len(self._waiting) == self.size:
                results = work([self._waiting[peer][1] for peer in range(self.size)])
                self._results = dict(enumerate(results))
                self._waiting.clear()
                self._round += 1
                self._changed.notify_all()
            while self._round == this_round:
                self._changed.wait()
                if self._round == this_round:
                    self._check(rank, layer)
            # The results stay until this replica arrives at the next round, which cannot finish without it.
            return self._results.pop(rank)

    def leave(self, rank: int) -> None:
        """A replica's forward pass has ended. Peers that wait for it, now or later, fail."""
        with self._changed:
            self._left.add(rank)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """A replica failed: all waiting peers raise `PeerFailed`."""
        with self._changed:
            if self.failure is None and not isinstance(error, PeerFailed):
                self.failure = error
            self._changed.notify_all()

    def _check(self, rank: int, layer: str) -> None:
        if self.failure is not None:
            raise PeerFailed(f"Replica {rank} stopped at layer '{layer}' because another replica failed.")
        for peer in self._left:
            raise RuntimeError(
                f"Replica {rank} is at layer '{layer}', but the forward pass of replica {peer} has ended. In "
                "training all replicas must call the same synchronized layers, in the same order and during "
                "the forward pass. Activation checkpointing calls them later: use one process per device."
            )
        for peer, (other, _) in self._waiting.items():
            if other != layer:
                raise RuntimeError(
                    f"Replica {rank} is at layer '{layer}', but replica {peer} is at layer '{other}'. In "
                    "training all replicas must call the same synchronized layers in the same order."
                )


class ReplicaExchange(Exchange):
    """One layer of one replica in a `Meeting`. Replica 0 updates its buffers, which are the master's."""

    def __init__(self, meeting: Meeting, rank: int, layer: str) -> None:
        self.tracks_statistics = rank == 0
        self._meeting = meeting
        self._rank = rank
        self._layer = layer

    def meet(self, shard: Shard, work: Callable[[list[Shard]], list[Result]]) -> Result:
        return self._meeting.meet(self._rank, self._layer, shard, work)
