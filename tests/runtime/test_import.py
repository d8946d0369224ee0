"""Importing the package changes nothing in the host program, and works without Unix."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from forked import run_python

ROOT = Path(__file__).resolve().parents[2]
OPTIONAL = {"mit_semseg.tracking.mlflow": "mlflow", "mit_semseg.tracking.wandb": "wandb"}
"""Modules that import a package which may be missing, and are imported only when they are used."""

# What other packages do when they are imported is theirs: they are imported first.
IMPORT_OTHERS = """
import contextlib, importlib, sys
sys.path.insert(0, {root!r})
sys.path_importer_cache.clear()
for name in {others!r}:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
"""

CHANGES = """
import atexit, faulthandler, gc, json, locale, logging, multiprocessing, os, random, signal, sys, threading
import warnings
import numpy, PIL.Image, PIL.ImageFile, torch, torch.multiprocessing


def state():
    return {{
        "exit handlers": registered,
        "signal handlers": {{str(n): str(signal.getsignal(n)) for n in signal.valid_signals()}},
        "wakeup descriptor": signal.set_wakeup_fd(-1),
        "warning filters": [str(entry) for entry in warnings.filters],
        "warnings": str(warnings.showwarning),
        "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "torch modes": str([torch.get_default_dtype(), torch.is_grad_enabled(),
                            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(),
                            torch.are_deterministic_algorithms_enabled()]),
        "random numbers": [int(torch.random.get_rng_state().sum()), hash(str(random.getstate())),
                           hash(str(numpy.random.get_state()))],
        "start method": [multiprocessing.get_start_method(allow_none=True),
                         torch.multiprocessing.get_sharing_strategy()],
        "log handlers": {{name: [str(getattr(log, "handlers", [])), getattr(log, "level", 0)]
                         for name, log in [("", logging.root), *logging.root.manager.loggerDict.items()]}},
        "log capture": str(logging.captureWarnings),
        "path": list(sys.path),
        "finders": [str(sys.meta_path), str(sys.path_hooks)],
        "hooks": str([sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook]),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "umask": (os.umask(0o22), os.umask(0o22))[0],
        "threads": [thread.name for thread in threading.enumerate()],
        "children": len(multiprocessing.active_children()),
        "numpy errors": numpy.geterr(),
        "Pillow": [PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES],
        "recursion": sys.getrecursionlimit(),
        "collector": gc.get_threshold(),
        "crash handler": faulthandler.is_enabled(),
        "streams": str([sys.stdin, sys.stdout, sys.stderr]),
    }}


registered = []
register = atexit.register
atexit.register = lambda function, *args, **kwargs: (registered.append(str(function)),
                                                     register(function, *args, **kwargs))[1] or function
warnings.resetwarnings()
warnings.simplefilter("error")
os.umask(0o22)
before = json.loads(json.dumps(state()))
{imports}
after = json.loads(json.dumps(state()))
print(json.dumps({{key: [before[key], after[key]] for key in before if before[key] != after[key]}}))
"""

# The names that Windows lacks, as far as they can be taken away from a running Python.
LESS_THAN_UNIX = """
import os, signal, socket, sys
SIGNALS = "SIGUSR1 SIGUSR2 SIGHUP SIGQUIT SIGKILL SIGCHLD SIGALRM SIGPIPE SIGSTOP SIGTSTP SIGCONT SIG_BLOCK"
FUNCTIONS = "pthread_sigmask pthread_kill setitimer alarm sigwait siginterrupt SIG_UNBLOCK"
FILES = "O_CLOEXEC O_NOFOLLOW O_DIRECTORY posix_fallocate statvfs mkfifo chown sysconf"
PROCESSES = "sched_getaffinity sched_yield fork forkpty getuid geteuid killpg getpgid setsid nice getloadavg"
for module, names in [(signal, SIGNALS), (signal, FUNCTIONS), (os, FILES), (os, PROCESSES)]:
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = {platform!r}
if sys.platform == "win32":
    for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
        sys.modules[name] = None

def socketpair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]

socket.socketpair = socketpair
"""


def modules():
    """All modules of the package that can be imported; those that are commands are not imported but run."""
    for path in sorted((ROOT / "mit_semseg").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] != "__main__" and (
            name not in OPTIONAL or importlib.util.find_spec(OPTIONAL[name]) is not None
        ):
            yield name


IMPORTS = "".join(f"import {module}\n" for module in modules())


def run(code):
    outcome = run_python("-c", code)
    assert outcome.code == 0, outcome.err
    return outcome.out


def others():
    """The modules of other packages that ours import first of all, and the names that they take from them."""
    found = set()
    for path in (ROOT / "mit_semseg").rglob("*.py"):
        nodes = [ast.parse(path.read_text(encoding="utf-8"))]
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif not isinstance(node, ast.FunctionDef):  # which imports when it is called
                nodes += ast.iter_child_nodes(node)
    return sorted(found)


@pytest.fixture(scope="module")
def import_others():
    """Code that imports what the package imports of other packages."""
    assert "torch.nn" in others()
    return IMPORT_OTHERS.format(root=str(ROOT), others=others())


def test_importing_every_module_changes_nothing_in_the_host_program(import_others):
    imports = IMPORTS + "from mit_semseg import Segmenter, Segmentation"
    code = import_others + CHANGES.format(imports=imports)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


SIDE_EFFECTS = {
    "exit handlers": "atexit.register(int)",
    "signal handlers": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "warning filters": "warnings.filterwarnings('ignore', message='x')",
    "torch threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "random numbers": "torch.manual_seed(7)",
    "start method": "multiprocessing.set_start_method('spawn')",
    "log handlers": "logging.getLogger('mit_semseg').setLevel(10)",
    "path": "sys.path.append('x')",
    "environment": "os.environ['X_Y'] = '1'",
}


def test_a_side_effect_would_be_found():
    out = run(CHANGES.format(imports="\n".join(SIDE_EFFECTS.values())))
    assert json.loads(out.splitlines()[-1]).keys() == SIDE_EFFECTS.keys()


SEGMENT_AND_STOP = """
import time
import numpy, torch
from mit_semseg import Segmenter
from mit_semseg.errors import UserError
from mit_semseg.runtime.launch import run_processes
from mit_semseg.runtime.stopping import stop_requests

segment = Segmenter.load({trained!r}, device="cpu")
print(segment(numpy.zeros((32, 40, 3), numpy.uint8)).labels.shape)
with stop_requests() as request:
    signal.raise_signal(signal.SIGTERM)
    deadline = time.monotonic() + 20
    while not request.signal and time.monotonic() < deadline:
        time.sleep(0.01)
print(int(request.signal))
run_processes(lambda process, text: print(text), [torch.device("cpu")], "one process", timeout_s=60)
try:
    run_processes(print, [torch.device("cpu")] * 2, timeout_s=60)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_without_names_of_unix_all_but_several_processes_works(import_others, trained, platform):
    less = LESS_THAN_UNIX.format(platform=platform)
    assert run(
        import_others + less + IMPORTS + SEGMENT_AND_STOP.format(trained=str(trained))
    ).splitlines() == [
        "(32, 40)",
        "15",
        "one process",
        "Starting 2 processes needs the signal SIGUSR1, which this system lacks. "
        "Use one device (such as --gpus 0), or train with TRAIN.parallel dp.",
    ]


def test_an_error_inside_the_package_is_not_reported_as_a_missing_name():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import PIL.Image; del PIL.Image.Resampling\n"
        "from mit_semseg import Segmenter"
    )
    error = "ImportError: mit_semseg.Segmenter cannot be imported: module 'PIL.Image' has no attribute"
    assert error in run_python("-c", code).err
