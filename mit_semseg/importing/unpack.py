"""From a packed model back to the folder that it was made of."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..config import load_config
from ..data.classes import ClassTable, write_classes
from ..models.weights.checkpoint import save_atomically
from ..models.weights.packed import PARTS, Manifest, read_manifest, read_part
from ..runtime.files import sha256_of
from .staging import staged

_EPOCH = re.compile(r"epoch_\d+\.pth")


def unpack(file: Path, out: Path) -> str:
    """Write the folder of a packed model, as `mit-semseg pack` found it, whole or not at all.

    Returns: a report.
    Raises: UserError if the file is damaged, or the folder cannot be written.
    """
    manifest = read_manifest(file)
    config = _config(manifest, out)
    names = {part: f"{part}_{_checkpoint(manifest)}" for part in PARTS}
    with staged(out) as folder:
        for part, name in names.items():
            save_atomically(read_part(file, part), folder / name)
        write_classes(folder / "classes.csv", ClassTable(manifest.names, np.array(manifest.colors, np.uint8)))
        (folder / "config.yaml").write_text(config, encoding="utf-8")
        if manifest.history and _EPOCH.fullmatch(_checkpoint(manifest)):
            save_atomically(dict(manifest.history), folder / f"history_{_checkpoint(manifest)}")
        if manifest.evaluation:
            _write_evaluation(manifest.evaluation, folder, out, list(names.values()))
    return f"{file}: a packed model with {len(manifest.names)} classes. Written to {out}."


def _checkpoint(manifest: Manifest) -> str:
    """The end of the names of the checkpoints. Weights that ship with the project have none."""
    name = Path(manifest.checkpoint).name
    return "epoch_1.pth" if name in ("", "encoder.pth") else name


def _config(manifest: Manifest, out: Path) -> str:
    keys: dict[str, Any] = yaml.safe_load(manifest.config)
    keys["DIR"] = str(out)
    keys["DATASET"]["classes"] = str(out / "classes.csv")
    name = _checkpoint(manifest)
    keys["VAL"]["checkpoint"] = keys["TEST"]["checkpoint"] = "" if _EPOCH.fullmatch(name) else name
    return load_config([keys]).dump()


def _write_evaluation(metrics: Mapping[str, Any], folder: Path, out: Path, names: list[str]) -> None:
    """Write metrics.json for the new files, whose bytes may differ although their weights do not."""
    files = [{"path": str(out / name), "sha256": sha256_of(folder / name)} for name in names]
    text = json.dumps({**metrics, "weights": files}, indent=2, ensure_ascii=False)
    (folder / "result").mkdir()
    (folder / "result" / "metrics.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
