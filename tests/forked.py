"""Processes that start at once: forks of a process that has already imported the slow packages.

A command gets its arguments, folder, environment and streams as if a user had called it, and it receives
signals. It imports our package itself; other packages are already in memory. Tests of imports start a fresh
interpreter instead. So do commands that start processes, unless a test asks for forks there, too.
"""

import atexit
import multiprocessing
import os
import pickle
import runpy
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
from commands import Outcome

FORKS = "forkserver"  # a start method for torch.multiprocessing
_TESTS = str(Path(__file__).parent)
_FORKS = multiprocessing.get_context(FORKS)
_FORKS.set_forkserver_preload(
    [
        *("numpy", "PIL.Image", "PIL.ImageDraw", "filelock", "jinja2", "simplejpeg", "tqdm", "yacs.config"),
        *("torch", "torch.distributed.launcher.api", "torch.utils.data"),
        "torch._dynamo",  # which every optimizer imports
        *("matplotlib.backends.backend_agg", "matplotlib.figure", "matplotlib.ticker", "pytest"),
    ]
)


class Command:
    """``python WORDS...`` in a session of its own. The end of a ``with`` block kills it if it still runs.

    Args:
        words: as on the command line: a script, ``-m`` and a module, or ``-c`` and code; then its arguments.
        environment: variables to add.
        core: the only processor core that it may use.
        forking: whether the processes that `run_processes` starts in it are forks, too.
    """

    def __init__(self, *words, cwd=None, environment=None, core=None, forking=False):
        reader, writer = os.pipe()
        self.out = os.fdopen(reader, encoding="utf-8")
        self._err = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        streams = Connection(writer, readable=False), Connection(os.dup(self._err.fileno()))
        place = str(cwd or Path.cwd()), {**os.environ, **(environment or {})}
        self._process = _FORKS.Process(
            target=_run_python, args=([*map(str, words)], *place, core, forking, streams)
        )
        self._process.start()
        for stream in streams:
            stream.close()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.join()
        self.out.close()
        self._err.close()

    def is_running(self):
        return self._process.is_alive()

    def ranks(self):
        """The ids of the processes that `run_processes` has started in it, by rank; on Linux only."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [int(pid) for pid in children if b"resource_tracker" not in commands[pid]]

    def send_signal(self, number):
        os.kill(self.pid, number)

    def finish(self, timeout=120):
        """Wait for its end, or kill it after ``timeout`` seconds -> Outcome with the output not yet read."""
        watchdog = threading.Timer(timeout, self._process.kill)
        watchdog.start()
        out = self.out.read()
        self._process.join()
        watchdog.cancel()
        self._err.seek(0)
        return Outcome(self._process.exitcode, out, self._err.read().decode())


def run_python(*words, **options):
    """Run a `Command` to its end -> Outcome."""
    with Command(*words, **options) as command:
        return command.finish()


def run_torchrun(processes, *words, machines=1, own_words=lambda rank: ()):
    """Run the processes that ``torchrun --nnodes MACHINES --nproc-per-node PROCESSES WORDS...`` starts.

    If there are several machines, each has one core, so that the processes compute with one thread.

    Args:
        own_words: further arguments for the process of a rank.

    Returns: an Outcome for each, by its rank.
    """
    cores = sorted(os.sched_getaffinity(0)) if machines > 1 else [None]
    with _environments(processes, machines) as environments, ExitStack() as stack:
        commands = []
        for rank, environment in enumerate(environments):
            core = cores[rank // processes % len(cores)]
            command = Command(*words, *own_words(rank), environment=environment, core=core)
            commands.append(stack.enter_context(command))
        return [command.finish() for command in commands]


def in_processes(count, entry, *args, timeout_s=60):
    """`run_processes` on the CPU in ``count`` processes that start as under torchrun."""
    with _environments(count) as environments, tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        member_args = environments, result, entry, args, timeout_s
        torch.multiprocessing.start_processes(_member, member_args, nprocs=count, start_method=FORKS)
        return pickle.loads(result.read_bytes())


def _member(rank, environments, result, entry, args, timeout_s):
    from mit_semseg.runtime.launch import run_processes

    os.environ.update(environments[rank])
    found = run_processes(entry, [torch.device("cpu")], *args, timeout_s=timeout_s)
    if rank == 0:
        result.write_bytes(pickle.dumps(found))


@contextmanager
def _environments(processes, machines=1):
    """The variables that torchrun sets, for each process; inside the block, they can find each other."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    size = processes * machines
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    yield [common | {"RANK": str(rank), "LOCAL_RANK": str(rank % processes)} for rank in range(size)]


def _run_python(words, folder, environment, core, forking, streams):
    os.setsid()
    for number, stream in enumerate(streams, 1):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    if core is not None:
        os.sched_setaffinity(0, {core})
    multiprocessing.set_start_method(None, force=True)  # the default again, as in a new interpreter
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    option = words.pop(0) if words[0] in ("-c", "-m") else None
    first = {"-c": "", "-m": folder}[option] if option else str(Path(words[0]).resolve().parent)
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [first, *added, *(path for path in sys.path if not path.startswith(_TESTS))]
    sys.argv = words
    if forking:
        from mit_semseg.runtime import agent

        agent._START_METHOD = "fork"
    try:
        if option == "-m":
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        elif option == "-c":
            sys.argv = ["-c", *words[1:]]
            exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
