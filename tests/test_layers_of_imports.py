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
    ("errors",),
    ("runtime",),
    ("config", "lib"),
    ("data", "losses", "metrics", "models", "optim", "tracking"),
    ("export",),
    ("inference", "report"),
    ("dataset_tools", "evaluation", "importing", "prediction", "serve"),
    ("training",),
    ("runs",),
    ("cli",),
    ("__main__",),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
# Import paths of the old package at the top of the tree: they hand names on and hold no code.
OLD_PATHS = ("dataset", "utils")
# Beside the layers. What computes takes plain arguments, and data and models meet above both.
FORBIDDEN = {
    "lib": ("config",),
    "data": ("config", "models"),
    "losses": ("config", "data", "models"),
    "metrics": ("config", "data", "models"),
    "models": ("config", "data"),
    "optim": ("config", "data", "models"),
    "report": ("config",),
    "tracking": ("config", "data", "models"),
    "export": ("config",),
    "evaluation": ("prediction",),
    "prediction": ("evaluation",),
}
# What the package itself hands on, when it is first used.
FACADE = "inference"


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
        if part in OLD_PATHS:
            continue
        where = path.relative_to(root).as_posix()
        if part is not None and part not in LAYER:
            found.append(f"{where}: {part} has no layer. Give it one in {Path(__file__).name}.")
            continue
        for line, target in imports(path, module):
            other = target[1]
            if other in OLD_PATHS:
                found.append(f"{where}:{line}: {other} is for code outside the package.")
            if other not in LAYER or other == part:  # such as __version__, or a neighbour in the folder
                continue
            if part is None and other == FACADE:
                continue
            if part is None or LAYER[other] > LAYER[part]:
                found.append(
                    f"{where}:{line}: {part or PACKAGE} imports {other}, which is in a higher layer."
                )
            elif other in FORBIDDEN.get(part, ()):
                found.append(f"{where}:{line}: {part} must not import {other}.")
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
    [
        "from ..training import train",
        "import mit_semseg.training.train",
        "def f():\n    from .. import training",
    ],
)
def test_an_import_that_goes_up_is_found_however_it_is_written(tmp_path, line):
    number = line.count("\n") + 1
    assert violations(package(tmp_path, metrics__x=line)) == [
        f"mit_semseg/metrics/x.py:{number}: metrics imports training, which is in a higher layer."
    ]


@pytest.mark.parametrize(
    ("part", "line", "other"),
    [
        ("models__x", "from ..config import cfg", "config"),
        ("models__x", "from mit_semseg.data.classes import load_classes", "data"),
        ("optim__x", "from ..config.load import load_config", "config"),
        ("prediction__x", "from ..evaluation.tally import Tally", "evaluation"),
    ],
)
def test_an_import_that_goes_across_is_found(tmp_path, part, line, other):
    (found,) = violations(package(tmp_path, **{part: line}))
    assert found.endswith(f": {part.removesuffix('__x')} must not import {other}.")


def test_the_config_tree_is_read_near_the_top_and_goes_no_further():
    """Each command turns it into plain values; see docs/architecture.md."""
    users = {
        "/".join(module[1:])
        for path, module in modules(ROOT)
        if "CfgNode" in path.read_text(encoding="utf-8") and module[1] != "config"
    }
    assert users == {
        *(
            "cli",
            "inference/checkpoints",
            "inference/load",
            "evaluation/evaluate",
            "evaluation/export_command",
            "evaluation/smaller",
            "prediction/options",
            "prediction/predict",
        ),
        *("training/train", "training/options", "training/profile", "training/profile_command"),
    }


def test_the_import_paths_of_the_old_package_hold_no_code():
    for name in OLD_PATHS:
        tree = ast.parse((ROOT / PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        kinds = {type(node) for node in tree.body[1:]}  # the first is the docstring
        assert kinds <= {ast.ImportFrom, ast.Assign}


def test_an_import_of_an_old_path_from_inside_the_package_is_found(tmp_path):
    (found,) = violations(package(tmp_path, training__x="from ..utils import AverageMeter"))
    assert found == "mit_semseg/training/x.py:1: utils is for code outside the package."


def test_imports_that_go_down_are_fine(tmp_path):
    files = {
        "cli": "from .training import train",
        "training__x": "from ..models.builder import ModelBuilder\nimport torch",
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
        *("mit_semseg", "mit_semseg.cli", "mit_semseg.errors", "mit_semseg.runtime.resources"),
        *("mit_semseg.dataset_tools.check.command", "mit_semseg.serve.command"),
    ],
)
def test_what_answers_help_imports_nothing_that_is_slow(module):
    heavy = "torch", "torchvision", "numpy", "PIL", "cv2", "scipy", "yacs"
    code = f"import sys, {module}; sys.exit(' '.join(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""  # sys.exit writes its text there
