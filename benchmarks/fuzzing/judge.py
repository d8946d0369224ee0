"""The verdict on a command that has ended: what it may not say, and what it may not leave on the disk."""

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

ALLOWED_CODES = (0, 1, 2)

_RAW_WARNING = re.compile(r"^\S+:\d+: \w*Warning: .*$", re.MULTILINE)
_UNFINISHED = re.compile(r"\.part$|\.tmp$|^tmp|^\.mit-semseg\.lock$")
_RESULTS = ("run/", "out/", "prepared/")  # complete before the command
_MAY_GROW = (".txt", ".jsonl", ".csv")  # logs, to which a failing command may append
# A training that fails later has replaced them by whole ones with what it has learned.
_MAY_ADVANCE = ("run/state.pth", "run/config.yaml")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; None if it raised an exception or hung.
        out, err: what it printed.
        problem: the first line of a failure that shows while it runs, such as a traceback; "" for none.
        trace: the text of that failure.
    """

    code: int | None
    out: str
    err: str
    problem: str = ""
    trace: str = ""


Snapshot = dict[str, str]
"""The content of each file below a folder: a hash, the target of a link, or another kind of file."""


def snapshot(folder: Path) -> Snapshot:
    """The content of a folder, by relative paths."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(mode):
            content = f"link to {path.readlink()}"
        else:
            content = "folder" if stat.S_ISDIR(mode) else "special"
        found[path.relative_to(folder).as_posix()] = content
    return found


def failures(
    ended: Ended, folder: Path, before: Snapshot, *, codes: tuple[int, ...] = ALLOWED_CODES
) -> list[str]:
    """What a command may not have done, a sentence each; the first part of each is the same for its kind.

    Args:
        folder: its working directory.
        before: the content of the folder before the command.
        codes: the exit codes that are allowed.
    """
    if ended.problem:
        return [ended.problem]
    found = []
    if ended.code not in codes:
        found.append(f"exit code {ended.code}")
    if ended.code in (1, 2) and not (ended.err.strip() or (ended.code == 1 and ended.out.strip())):
        found.append(f"exit code {ended.code} without a message")
    text = ended.out + ended.err
    if "Traceback (most recent call last)" in text:
        found.append("a traceback in the output: " + text.strip().splitlines()[-1])
    if match := _RAW_WARNING.search(text):
        found.append(f"a raw warning: {match[0]}")
    return found + _on_disk(ended, folder, before)


def _on_disk(ended: Ended, folder: Path, before: Snapshot) -> list[str]:
    after = snapshot(folder)
    found = []
    for name, content in after.items():
        if name in before and before[name] == content:
            continue
        path = folder / name
        if _UNFINISHED.search(path.name):
            found.append(f"an unfinished file is left over: {path.name}")
        elif path.is_file() and not path.is_symlink() and (broken := _broken(path)):
            found.append(f"a written file is not whole: {path.name} ({broken})")
    inputs = {name for name in before if not name.startswith((*_RESULTS, "stopped/"))}
    found += [f"an input was changed: {name}" for name in sorted(inputs) if after.get(name) != before[name]]
    if ended.code == 2:
        results = {name for name in before if name.startswith(_RESULTS) and not name.endswith(_MAY_GROW)}
        changed = [name for name in sorted(results) if after.get(name) != before[name]]
        changed = [name for name in changed if name not in _MAY_ADVANCE or name not in after]
        found += [f"a failing command has changed a result: {name}" for name in changed]
    return found


def _broken(path: Path) -> str:
    """Why a file is not whole; "" if it is."""
    try:
        if path.suffix == ".pth":
            torch.load(path, "cpu", weights_only=True)
        elif path.suffix in (".png", ".jpg", ".jpeg"):
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".yaml":
            yaml.safe_load(path.read_text())
        elif path.suffix == ".odgt":
            for line in path.read_text().splitlines():
                json.loads(line)
        elif path.suffix in (".npy", ".npz"):
            np.load(path)
        elif path.suffix == ".html" and not path.read_bytes().rstrip().endswith(b"</html>"):
            return "it does not end with </html>"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
