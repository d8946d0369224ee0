"""Checkpoints with the names and shapes of other packages' models, and random weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RECORDED = Path(__file__).resolve().parent.parent / "models/foreign/recorded.json"


@cache
def recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text())


NAMES = tuple(recorded())


def weights(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    result = {}
    for key, shape in recorded()[name]["shapes"].items():
        value = torch.randn(shape, generator=generator)
        result[key] = value.abs_() + 0.5 if key.endswith("running_var") else value.mul_(0.2)
    return result


def config(name: str) -> dict[str, Any]:
    """A copy of the config, to change."""
    return json.loads(json.dumps(recorded()[name]["config"]))


def write(name: str, folder: Path, state: dict[str, Tensor] | None = None, values: Any = None) -> Path:
    """The source as its authors would save it: a folder, or a file for mmsegmentation.

    Args:
        state, values: its weights and config, in place of the recorded ones.
    """
    state = weights(name) if state is None else state
    values = config(name) if values is None else values
    folder.mkdir(parents=True, exist_ok=True)
    if name.startswith("mmseg"):
        file = folder / "iter_80000.pth"
        torch.save({"meta": {"cfg": f"model = {values!r}\n"}, "state_dict": state}, file)
        return file
    from safetensors.torch import save_file

    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    return folder
