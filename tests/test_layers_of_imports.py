"""Imports go down only. Read from the source, so that imports inside functions count too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mit_semseg"

# From the bottom to the top; a folder stands for all modules in it.
LAYERS = (
    ("cores", "errors", "log", "atomic", "resources", "config"),
    ("distributed", "launch", "lib", "stopping"),
    (
        "data",
        "base_dataset",
        "train_dataset",
        "dataset",
        "segmentation",
        "models",
        "ema",
        "losses",
        "lr_schedule",
        "metrics",
        "optim",
        "checkpoint",
        "visualize",
        "legend",
        "video",
        "utils",
        "per_image",
        "confidence",
        "boundary",
        "calibration",
    ),
    ("scoring", "inference", "engine", "report", "segmenter"),
    ("cli",),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
# Within the engine, whose commands are above all that they share. Training validates by parts of evaluation.
ENGINE_COMMANDS = ("train", "evaluate", "predict", "profile")
ENGINE_FOLDERS = {"evaluation": (), "prediction": (), "training": ("evaluation",)}
# Beside the layers. What computes takes plain arguments, and data and models meet in the engine only.
FORBIDDEN = {
    "models": ("config", "data", "base_dataset", "train_dataset", "dataset"),
    "data": ("config", "models"),
    **{
        name: ("config",)
        for name in (*LAYERS[1], *LAYERS[2], "scoring", "inference")
        if name not in ("models", "data")
    },
}
# What the package itself hands on, when it is first used.
FACADE = "segmenter"
# Commands, which turn a config into plain arguments for their neighbours.
COMMANDS = ((PACKAGE, "data", "check", "command"), (PACKAGE, "data", "prepare", "command"))


def modules(root):
    """The module at each path below ``root / PACKAGE``: ``mit_semseg.lib.nn`` for its ``__init__.py``."""
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield path, parts[:-1] if parts[-1] == "__init__" else parts


def imports(path, module):
    """(line, imported module) for all imports from the package, relative or not, anywhere in a file."""
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        yield from ((node.lineno, target) for target in targets if target[0] == PACKAGE)


def violations(root):
    """A sentence for each import that goes up or across."""
    found = []
    for path, module in modules(root):
        part = module[1] if len(module) > 1 else None
        where = path.relative_to(root).as_posix()
        if part is not None and part not in LAYER:
            found.append(f"{where}: {part} has no layer. Give it one in {Path(__file__).name}.")
            continue
        for line, target in imports(path, module):
            other = target[1]
            if other not in LAYER or other == part:  # such as __version__, or a neighbour in the folder
                continue
            if part is None and other == FACADE:
                continue
            if part is None or LAYER[other] > LAYER[part]:
                found.append(
                    f"{where}:{line}: {part or PACKAGE} imports {other}, which is in a higher layer."
                )
            elif other in FORBIDDEN.get(part, ()) and not (other == "config" and module in COMMANDS):
                found.append(f"{where}:{line}: {part} must not import {other}.")
    return found


def engine_violations(root):
    """A sentence for each import within the engine that goes up, or from one folder to another."""
    found = []
    for path, module in modules(root):
        if module[1:2] != ("engine",):
            continue
        part = module[2] if len(module) > 2 else None
        below = ENGINE_FOLDERS if part in ENGINE_COMMANDS else ENGINE_FOLDERS.get(part, ())
        for line, target in imports(path, module):
            if target[1] != "engine" or target[2] == part:
                continue
            other = target[2]
            if other in (*ENGINE_COMMANDS, *ENGINE_FOLDERS) and other not in below:
                found.append(f"{path.relative_to(root).as_posix()}:{line}: {part} must not import {other}.")
    return found


def package(folder, **files):
    """A package with files of one line each; ``models__x`` is models/x.py."""
    for name, line in {"__init__": "", **files}.items():
        path = folder / PACKAGE / f"{name if name == '__init__' else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n")
    return folder


def test_all_imports_of_the_package_go_down():
    assert violations(ROOT) == []
    assert len(list(modules(ROOT))) > 40


@pytest.mark.parametrize(
    "line",
    ["from .engine import train", "import mit_semseg.engine.train", "def f():\n    from . import engine"],
)
def test_an_import_that_goes_up_is_found_however_it_is_written(tmp_path, line):
    number = line.count("\n") + 1
    assert violations(package(tmp_path, metrics=line)) == [
        f"mit_semseg/metrics.py:{number}: metrics imports engine, which is in a higher layer."
    ]


def test_within_the_engine_imports_go_down():
    assert engine_violations(ROOT) == []


@pytest.mark.parametrize(
    ("part", "line", "other"),
    [
        ("setup", "from .training.step import step", "training"),
        ("loading", "from .train import train", "train"),
        ("evaluation__x", "from ..training import state", "training"),
        ("prediction__x", "from ..evaluation.tally import Tally", "evaluation"),
        ("training__x", "from ..evaluate import evaluate", "evaluate"),
        ("train", "from .evaluate import evaluate", "evaluate"),
    ],
)
def test_an_import_within_the_engine_that_should_not_be_is_found(tmp_path, part, line, other):
    (found,) = engine_violations(package(tmp_path, **{f"engine__{part}": line}))
    assert found.endswith(f": {part.removesuffix('__x')} must not import {other}.")


@pytest.mark.parametrize(
    ("part", "line", "other"),
    [
        ("models__x", "from ..config import cfg", "config"),
        ("models__x", "from mit_semseg.data.classes import load_classes", "data"),
        ("data__x", "from ..models import ModelBuilder", "models"),
        ("optim", "from .config.defaults import get_defaults", "config"),
    ],
)
def test_an_import_that_goes_across_is_found(tmp_path, part, line, other):
    (found,) = violations(package(tmp_path, **{part: line}))
    assert found.endswith(f": {part.removesuffix('__x')} must not import {other}.")


def test_imports_that_go_down_are_fine(tmp_path):
    files = {
        "cli": "from .engine import train",
        "engine__x": "from ..models.builder import ModelBuilder\nimport torch",
        "models__x": "from ..lib.nn import convert_model\nfrom .layers import resize",
    }
    assert violations(package(tmp_path, **files)) == []


def test_a_new_module_has_to_be_given_a_layer(tmp_path):
    assert violations(package(tmp_path, novelty="")) == [
        "mit_semseg/novelty.py: novelty has no layer. Give it one in test_layers_of_imports.py."
    ]


@pytest.mark.parametrize("script", ["train", "eval_multipro", "test"])
def test_a_script_imports_the_command_line_only(script):
    path = ROOT / f"{script}.py"
    assert {target[1] for _, target in imports(path, (script,))} == {"cli"}


@pytest.mark.parametrize(
    "module",
    [
        *("mit_semseg", "mit_semseg.cli", "mit_semseg.errors", "mit_semseg.resources"),
        "mit_semseg.data.check.command",
    ],
)
def test_what_answers_help_imports_nothing_that_is_slow(module):
    heavy = "torch", "torchvision", "numpy", "PIL", "cv2", "scipy", "yacs"
    code = f"import sys, {module}; sys.exit(' '.join(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""  # sys.exit writes its text there
