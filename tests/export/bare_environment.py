"""Environments that hold a few installed distributions and what these need, and nothing else."""

import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def bare_environment(folder: Path, *names: str) -> Path:
    """Make an environment of links to the installed distributions ``names`` and their requirements.

    Returns: its interpreter, which sees no other packages if it is called with ``-I``.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    for each in _with_requirements(names):
        for file in each.files or ():
            source = Path(str(each.locate_file(file)))
            target = packages / file
            if ".." in file.parts or file.suffix == ".pyc" or not source.is_file():  # scripts, caches
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source)
    return folder / "bin" / "python"


def _with_requirements(names: tuple[str, ...]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    missing = list(names)
    while missing:
        name = missing.pop()
        if name not in found:
            found[name] = distribution(name)
            needed = map(Requirement, found[name].requires or ())
            missing += [
                each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})
            ]
    return list(found.values())
