"""Who a layer shares its statistics with: nobody, replicas in threads of this process, or other processes.

A layer knows only `Exchange`. It hands in its shard with `meet`; the work on the shards that met may then use
`gather` to reach what other processes hold.
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
    """A layer without peers, and the interface of those that have some."""

    tracks_statistics = True
    """Whether the layer that holds this exchange updates its running statistics."""

    def meet(self, shard: Shard, work: Callable[[list[Shard]], list[Result]]) -> Result:
        """This shard's part of ``work`` done on the shards of all replicas in this process."""
        return work([shard])[0]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in one order everywhere; ``rows`` (n, k) are those of this one."""
        return rows


class ProcessExchange(Exchange):
    """Peers in the default process group. Every rank must call every layer, in the same order.

    A rank that does not come holds the others up until the group's own time-out.

    Args:
        mailbox: the faster way for rows on the CPU, if there is one.
    """

    def __init__(self, mailbox: Mailbox | None) -> None:
        self._mailbox = mailbox

    def gather(self, rows: Tensor) -> Tensor:
        if self._mailbox is not None and self._mailbox.takes(rows):
            return self._mailbox.gather(rows)
        everyone = rows.new_empty(dist.get_world_size() * rows.size(0), rows.size(1))
        dist.all_gather_into_tensor(everyone, rows.contiguous())
        return everyone


# Per group, since a program may end one and begin another.
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
    """Ends a replica because another one failed. The error to show is the other one's."""


class Meeting:
    """Where the replicas of one process meet, layer by layer, during one forward.

    The last to arrive does the work for all. So there is one autograd node over all replicas, which matters:
    autograd runs the backward of all CPU replicas in one thread, where nodes of single replicas that wait for
    each other's sums would wait for ever.

    Nor does the forward hang: a meeting fails, for everyone, as soon as a replica fails, leaves, or comes to
    another layer than the rest.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[str, Any]] = {}  # rank -> layer, shard
        self._left: set[int] = set()
        self._results: dict[int, Any] = {}
        self._round = 0
        self.failure: BaseException | None = None
        """The error of the replica that failed first, if one did."""

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
            # No peer can finish the next round, and so replace the results, before this replica comes to it.
            return self._results.pop(rank)

    def leave(self, rank: int) -> None:
        """A replica's forward is over; whoever still waits for it, or comes to, fails."""
        with self._changed:
            self._left.add(rank)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """A replica failed: releases all that wait, with `PeerFailed`."""
        with self._changed:
            if self.failure is None and not isinstance(error, PeerFailed):
                self.failure = error
            self._changed.notify_all()

    def _check(self, rank: int, layer: str) -> None:
        if self.failure is not None:
            raise PeerFailed(f"Replica {rank} stops at layer '{layer}', because another replica failed.")
        for peer in self._left:
            raise RuntimeError(
                f"Replica {rank} is at layer '{layer}', but the forward of replica {peer} is over. In "
                "training all replicas must call the same synchronized layers, in the same order and inside "
                "the forward. (Activation checkpointing calls them later: use one process a device with it.)"
            )
        for peer, (other, _) in self._waiting.items():
            if other != layer:
                raise RuntimeError(
                    f"Replica {rank} is at layer '{layer}', but replica {peer} at layer '{other}'. In "
                    "training all replicas must call the same synchronized layers in the same order."
                )


class ReplicaExchange(Exchange):
    """One layer of one replica at a `Meeting`. Replica 0 updates its buffers, which are the master's."""

    def __init__(self, meeting: Meeting, rank: int, layer: str) -> None:
        self.tracks_statistics = rank == 0
        self._meeting = meeting
        self._rank = rank
        self._layer = layer

    def meet(self, shard: Shard, work: Callable[[list[Shard]], list[Result]]) -> Result:
        return self._meeting.meet(self._rank, self._layer, shard, work)
