import os
import platform
import subprocess
import sys

import pytest

from mit_semseg.runtime import tuning

DECIDED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE", "GLIBC_TUNABLES")
GLIBC = platform.libc_ver()[0] == "glibc"


def last_line(code: str, given: dict[str, str]) -> str:
    """What a fresh process prints last, with ``given`` as the only settings of threads and memory."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in DECIDED and not key.startswith("MALLOC_")
    }
    done = subprocess.run([sys.executable, "-c", code], env=clean | given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "10000 1"),
        ({"GOMP_SPINCOUNT": "7"}, "7 1"),
        ({"OMP_WAIT_POLICY": "active"}, "None 1"),
        ({"THP_MEM_ALLOC_ENABLE": "0"}, "10000 0"),
    ],
)
def test_a_command_tunes_torch_unless_the_user_has_decided(given, wanted):
    code = (
        "import os; from mit_semseg.cli import main; main(['config', 'DIR']);"
        "print(*map(os.environ.get, ('GOMP_SPINCOUNT', 'THP_MEM_ALLOC_ENABLE')))"
    )
    assert last_line(code, given) == wanted


def test_nothing_is_set_after_torch_was_imported():
    code = (
        "import os, torch; from mit_semseg.runtime.tuning import prepare_torch; prepare_torch();"
        "print(*map(os.environ.get, ('GOMP_SPINCOUNT', 'THP_MEM_ALLOC_ENABLE')))"
    )
    assert last_line(code, {}) == "None None"


FREED = r"""
import re, torch
from pathlib import Path
from mit_semseg.runtime.tuning import keep_freed_memory

def resident():
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

keep_freed_memory()
tensor = torch.ones(2**24)  # 64 MiB
held = resident()
del tensor
print(held - resident() > 60)
"""


@pytest.mark.skipif(not GLIBC, reason="malloc of glibc")
@pytest.mark.parametrize(
    ("given", "returned"),
    [
        ({}, "False"),
        ({"MALLOC_ARENA_MAX": "2"}, "True"),
        ({"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, "True"),
    ],
)
def test_freed_memory_is_kept_unless_the_user_has_set_malloc(given, returned):
    assert last_line(FREED, given) == returned


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_keep_their_malloc(system, monkeypatch):
    monkeypatch.setattr(tuning.sys, "platform", system)
    monkeypatch.setattr(tuning.ctypes, "CDLL", lambda name: pytest.fail("opened a library"))
    # CDLL(None) raises a TypeError on Windows.
    tuning.keep_freed_memory()


def test_a_system_library_without_mallopt_keeps_its_malloc(monkeypatch):
    monkeypatch.setattr(tuning.sys, "platform", "linux")
    monkeypatch.setattr(tuning.ctypes, "CDLL", lambda name: object())
    tuning.keep_freed_memory()
