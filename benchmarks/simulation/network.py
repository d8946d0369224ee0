"""How long a collective takes: on GPUs by NCCL's own model, on this machine by the ring formula.

Ring: an all-reduce of S bytes between n ranks has 2 (n - 1) steps and sends 2 (n - 1) / n S bytes over each
link; an all-gather with a result of S bytes has n - 1 steps and sends (n - 1) / n S bytes. Tree: an
all-reduce goes up and down a tree over the nodes, whose depth is log2(nodes), and sends 2 S bytes.

Sources: NVIDIA, datasheets of H100 and A100 (bf16 matrix rate without sparsity; NVLink, of whose rate half is
in each direction), user guides of DGX H100 and DGX A100 (one InfiniBand card per GPU: NDR with 400 Gb/s and
HDR with 200 Gb/s; processor cores). Latencies, the overheads of the protocols, and the rule that the fastest
combination of algorithm and protocol is used: NCCL, src/graph/tuning.cc, commit b6475625. Its limits for each
channel, and the time to launch a kernel from Python, are not modelled, so the times are lower bounds.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

US = 1e-6
NETWORK_OVERHEAD = 1 * US
"""A step inside a node takes at least this long if the ring leaves it; three times as long in Simple."""


@dataclass(frozen=True)
class Machine:
    """A node: GPUs, processor cores, FLOP/s of a GPU in bf16, bytes/s of a GPU in one direction."""

    name: str
    gpus: int
    cores: int
    flops: float
    nvlink: float
    infiniband: float


MACHINES = {
    "h100": Machine("DGX H100", 8, 112, 989e12, 450e9, 50e9),
    "a100": Machine("DGX A100", 8, 128, 312e12, 300e9, 25e9),
}


class Protocol(NamedTuple):
    """Seconds of a launch and of a step; the share of the bandwidth that carries data, for ring and tree."""

    ring: float
    tree: float
    ring_in_node: float
    ring_network: float
    tree_in_node: float
    tree_network: float
    ring_share: float
    tree_share: float
    overheads: int


LL = Protocol(6.6 * US, 6.8 * US, 0.6 * US, 2.7 * US, 0.6 * US, 5.0 * US, 1 / 4, 0.92 / 3.8, 1)
LL128 = Protocol(14 * US, 14 * US, 1.9 * US, 4.0 * US, 1.25 * US, 8.5 * US, 0.92, 0.92 * 120 / 128, 1)
SIMPLE = Protocol(8.4 * US, 8.4 * US, 3.4 * US, 14 * US, 28 * US, 28 * US, 1, 0.92, 3)
LL_LIMITS = (87.7e9, 39.0e9, 20.4e9)
"""Bytes/s of LL at most, on one, two and more nodes."""


@dataclass(frozen=True)
class Cluster:
    """The ranks of a job on whole nodes, or on a part of one node.

    Args:
        share: of the published bandwidths that is reached.
    """

    machine: Machine
    ranks: int
    share: float = 0.8

    @property
    def nodes(self) -> int:
        return max(1, math.ceil(self.ranks / self.machine.gpus))

    @property
    def bandwidth(self) -> float:
        """Bytes/s of a ring. Its channels leave a node through all cards, but pass through each GPU."""
        inside = self.machine.nvlink
        if self.nodes > 1:
            inside = min(inside, self.machine.gpus * self.machine.infiniband)
        return self.share * inside

    def all_reduce(self, size: float) -> float:
        """Seconds for ``size`` bytes, with the faster of ring and tree."""
        if self.ranks == 1:
            return 0.0
        return min(self.ring(size, 2), self.tree(size))

    def all_gather(self, size: float) -> float:
        """Seconds until all ranks have all ``size`` bytes. NCCL has only a ring for it (and PAT, which is for
        one GPU in each node)."""
        return 0.0 if self.ranks == 1 else self.ring(size, 1)

    def ring(self, size: float, rounds: int) -> float:
        """``rounds`` is 2 for an all-reduce, 1 for an all-gather."""
        steps = rounds * (self.ranks - 1)
        network = 0 if self.nodes == 1 else 2 * self.nodes if rounds == 2 else self.nodes - 1
        times = []
        for protocol in (LL, LL128, SIMPLE):
            inside = protocol.ring_in_node
            if network:
                inside = max(inside, protocol.overheads * NETWORK_OVERHEAD)
            latency = protocol.ring + (steps - network) * inside + network * protocol.ring_network
            rate = self._rate(protocol, protocol.ring_share)
            times.append(latency + size * steps / self.ranks / rate)
        return min(times)

    def tree(self, size: float) -> float:
        inside = self.ranks / self.nodes - 1
        depth = math.floor(math.log2(self.nodes))
        times = []
        for protocol in (LL, LL128, SIMPLE):
            hops = inside * protocol.tree_in_node + depth * protocol.tree_network
            times.append(protocol.tree + 2 * hops + 2 * size / self._rate(protocol, protocol.tree_share))
        return min(times)

    def _rate(self, protocol: Protocol, share: float) -> float:
        rate = self.bandwidth * share
        return min(rate, LL_LIMITS[min(self.nodes, 3) - 1]) if protocol is LL else rate


@dataclass(frozen=True)
class LocalRing:
    """Processes of one machine, as measured: seconds of a step of the ring, bytes/s, seconds of a message of
    synchronized BatchNorm. The processors copy the bytes, so more processes than cores wait for each other.

    Args:
        crowding: processes for each core, at least 1.
    """

    latency: float
    bandwidth: float
    message: float
    ranks: int
    crowding: float = 1.0

    def all_reduce(self, size: float) -> float:
        steps = 2 * (self.ranks - 1)
        return self.crowding * (steps * self.latency + steps / self.ranks * size / self.bandwidth)

    def all_gather(self, size: float) -> float:
        return self.message


def fit_ring(times: dict[int, float], ranks: int) -> tuple[float, float]:
    """Latency of a step and bandwidth from measured all-reduces: bytes -> seconds.

    The smallest size gives the latency, the largest the bandwidth.
    """
    small, large = min(times), max(times)
    steps = 2 * (ranks - 1)
    rate = steps / ranks * (large - small) / max(times[large] - times[small], 1e-9)
    latency = max(times[small] - steps / ranks * small / rate, 0.0) / steps
    return latency, rate
