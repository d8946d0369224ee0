"""Machines of an elastic training: agents of torchrun on this machine, which can be killed one by one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch.distributed as dist

_SCRIPT = Path(__file__).with_name("traced_train.py")
LIMIT_S = 240  # for everything that is waited for; a loaded machine is slow


class Cluster:
    """Where agents meet: a store in this process, which outlives each of them.

    Args:
        folder: for the records of the iterations and the output of the agents.
        words: of the training's command line that all machines have.
        pause: seconds to sleep after each iteration.
    """

    def __init__(self, folder, words, *, pause=0.05, restarts=3):
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.folder, self.words, self.pause, self.restarts = Path(folder), list(words), pause, restarts
        self.trace = self.folder / "trace"
        self.trace.mkdir(parents=True)
        self.agents = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for agent in self.agents:
            agent.kill()

    def start(self, number, directory):
        """An agent. Rank 0 is on the machine with the lowest number."""
        agent = Agent(self, number, directory, self._store.port)
        self.agents.append(agent)
        return agent

    def records(self):
        """What was begun: (start of the process group, epoch, iteration, rank, size, images)."""
        lines = (line for file in self.trace.iterdir() for line in file.read_text().splitlines())
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:  # a killed process has not finished it
                continue
        return found

    def groups(self, size):
        """The starts of process groups of this size that have trained an iteration."""
        return sorted({record[0] for record in self.records() if record[4] == size})

    def wait_for_group(self, size, after=0.0):
        """Wait until a process group of this size has trained an iteration, started after another one."""
        wait_until(lambda: any(start > after for start in self.groups(size)), self.output)
        return self.groups(size)[-1]

    def output(self):
        return "\n".join(f"{agent.log}:\n{agent.log.read_text()[-3000:]}" for agent in self.agents)

    def images(self, epoch_iters):
        """The images in the order in which they have changed the weights, by sub-batch.

        An iteration that was begun again, since its process group died before it was saved, counts once. One
        that was lost at the end, when the run stopped before it was begun again, does not count.
        """
        newest = {}
        for start, epoch, number, rank, size, images in self.records():
            iteration = (epoch - 1) * epoch_iters + number
            newest.setdefault(iteration, {}).setdefault(start, {})[rank] = size, images
        # A group has trained from where it resumed up to its end. What an older one did after that is lost.
        first = {}
        for iteration, groups in newest.items():
            for start in groups:
                first[start] = min(iteration, first.get(start, iteration))
        order, lost = [], None
        for iteration in sorted(newest):
            valid = [s for s in newest[iteration] if not any(s < t and first[t] <= iteration for t in first)]
            if not valid:
                lost = iteration
                continue
            assert lost is None, (lost, newest[lost], iteration)
            assert len(valid) == 1, (iteration, newest[iteration])
            ranks = newest[iteration][valid[0]]
            assert sorted(ranks) == list(range(ranks[0][0])), (iteration, ranks)
            order += [ranks[rank][1] for rank in sorted(ranks)]
        return order


class Agent:
    """``torchrun`` for one machine."""

    def __init__(self, cluster, number, directory, port):
        self.directory = Path(directory)
        self.log = cluster.folder / f"agent{len(cluster.agents)}.log"
        conf = "is_host=0,last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=4"
        words = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1"),
            *("--max-restarts", cluster.restarts, "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "run", "--rdzv-conf", conf),
            *("--local-addr", f"127.0.0.{number}", "--monitor-interval", "0.5"),
            *(_SCRIPT, *cluster.words, "DIR", directory),
        ]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            # Otherwise, agents keep the address of a former rank 0 (docs/cluster.md).
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(LIMIT_S),
            "TRACE": str(cluster.trace),
            "TRACE_PAUSE": str(cluster.pause),
        }
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [str(word) for word in words], stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def workers(self):
        """The ids of its processes."""
        pid = self._process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def kill(self):
        """End the machine, as by a loss of power: first the agent, so that it starts nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
            workers = self.workers()
            self._process.kill()
            self._process.wait()
            for pid in workers:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def terminate(self):
        """Send SIGTERM, as a scheduler does -> the seconds that it took to end."""
        start = time.monotonic()
        self._process.terminate()
        self._process.wait(LIMIT_S)
        return time.monotonic() - start

    def wait(self):
        return self._process.wait(LIMIT_S)

    def is_running(self):
        return self._process.poll() is None


def wait_until(condition, explain):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)
