"""Damage to checkpoints and to the state of a run."""

import pickle
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from .damage import ODD_VALUES, changed_tree, damaged, displaced


def checkpoint(path: Path, rng: Random) -> str:
    """Damage a checkpoint; return what was done."""
    content = _loaded(path)
    kind = rng.choice(["bytes", "place", "tensor", "tensor", "names", "wrapped", "other", "tree", "file"])
    if kind == "place":
        return displaced(path, rng)
    if kind == "bytes" or not isinstance(content, dict) or not content:
        return _bytes(path, rng)
    if kind == "tensor":
        what = _change_tensor(content, rng)
    elif kind == "names":
        what = _change_names(content, rng)
    elif kind == "wrapped":
        content, what = _wrapped(content, rng)
    elif kind == "other":
        others = [None, 7, "text", [], {}, [content], torch.zeros(3), {"state_dict": {}}, {1: torch.zeros(1)}]
        content = rng.choice([*others, list(content.values()), {"epoch": 3, "model": None}, {"a": "b"}])
        what = f"holds {type(content).__name__}"
    elif kind == "tree":
        content, what = changed_tree(dict(content), rng, (*ODD_VALUES, torch.tensor(0.0), torch.zeros(2, 0)))
    else:
        what = "is written in another way"
    _save(content, path, rng)
    return what


def state(path: Path, rng: Random) -> str:
    """Damage a state; return what was done."""
    content = _loaded(path)
    if rng.random() < 0.2 or not isinstance(content, dict):
        return _bytes(path, rng) if path.is_file() else displaced(path, rng)
    part = rng.choice([None, *content, *content])
    if part in ("encoder", "decoder") and isinstance(content[part], dict) and content[part]:
        what = _change_tensor(content[part], rng)
    elif part is not None and isinstance(content[part], dict | list):
        content[part], what = changed_tree(content[part], rng, (*ODD_VALUES, torch.zeros(2)))
    elif part == "config" and isinstance(content[part], str):
        content[part], what = rng.choice(
            [
                (content[part] + "x: [", "config is not YAML"),
                ("- a\n", "config is a list"),
                ("", "config is empty"),
                (content[part].replace("seed: 304", "seed: 305"), "config has another seed"),
                (content[part].replace("TRAIN", "TRIAN"), "config has another section"),
            ]
        )
    else:
        content, what = changed_tree(content, rng, (*ODD_VALUES, torch.zeros(2)))
    torch.save(content, path)
    return f"{part}: {what}"


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, "cpu", weights_only=True)
    except Exception:  # an earlier damage has made it so
        return None


def _bytes(path: Path, rng: Random) -> str:
    if not path.is_file():
        return "was replaced already"
    data, what = damaged(path.read_bytes(), rng)
    path.write_bytes(data)
    return what


def _save(content: Any, path: Path, rng: Random) -> None:
    how = rng.choice(["zip", "zip", "zip", "zip", "legacy", "pickle"])
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")


def _change_tensor(weights: dict[str, Any], rng: Random) -> str:
    name = rng.choice(list(weights))
    value = weights[name]
    if not isinstance(value, Tensor):
        weights[name] = torch.zeros(2)
        return f"{name} is a tensor"
    kind = rng.choice(list(_TENSORS))
    try:
        weights[name] = _TENSORS[kind](value)
    except (RuntimeError, IndexError):  # its kind does not have this
        weights[name] = value[None]
        return f"{name} has one more dimension"
    return f"{name} {kind}"


_TENSORS = {
    "is NaN": lambda value: torch.full(value.shape, torch.nan),
    "is infinite": lambda value: torch.full(value.shape, torch.inf),
    "is large": lambda value: torch.full(value.shape, 3e38),
    "is zero": lambda value: torch.zeros(value.shape),
    "has one more dimension": lambda value: value[None],
    "is flat": lambda value: value.flatten(),
    "is transposed": lambda value: value.transpose(0, 1).contiguous(),
    "has one row fewer": lambda value: value[1:].clone(),
    "is empty": lambda value: torch.zeros(0),
    "is a scalar": lambda value: torch.tensor(1.0),
    "is float64": lambda value: value.double(),
    "is float16": lambda value: value.half(),
    "is bfloat16": lambda value: value.bfloat16(),
    "is int64": lambda value: value.long(),
    "is int8": lambda value: value.to(torch.int8),
    "is bool": lambda value: value.bool(),
    "is complex": lambda value: value.to(torch.complex64),
    "is sparse": lambda value: value.to_sparse(),
    "is quantized": lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
    "is float8": lambda value: value.to(torch.float8_e4m3fn),
    "is a parameter": lambda value: torch.nn.Parameter(value.float()),
    "is a view": lambda value: value.expand(2, *value.shape)[0],
    "is meta": lambda value: value.to("meta"),
    "is a list": lambda value: value.tolist(),
    "is an array": lambda value: value.numpy(),
}


def _change_names(weights: dict[str, Any], rng: Random) -> str:
    name = rng.choice(list(weights))
    kind = rng.choice(["dropped", "added", "long", "unicode", "number", "prefix", "prefix", "half prefix"])
    if kind == "dropped":
        del weights[name]
    elif kind == "added":
        weights["another.weight"] = torch.zeros(3)
    elif kind == "prefix":
        prefix = rng.choice(
            ["module.", "_orig_mod.", "encoder.", "model.module.", "a.b.c.d.", ".", "ema_model."]
        )
        for each in list(weights):
            weights[prefix + str(each)] = weights.pop(each)
        return f"names begin with {prefix}"
    else:
        new = {
            "long": name + "x" * 10**5,
            "unicode": f"ä{name}\n\0",
            "number": 7,
            "half prefix": f"module.{name}",
        }
        weights[new[kind]] = weights.pop(name)  # type: ignore[index]
    return f"{name}: {kind}"


def _wrapped(weights: dict[str, Any], rng: Random) -> tuple[Any, str]:
    kind = rng.choice(["state_dict", "deep", "two", "ema", "loop", "ordered", "with an optimizer"])
    other = {
        name: value + 1 if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in weights.items()
    }
    wrapped: Any = {"state_dict": weights, "epoch": 3}
    if kind == "deep":
        for _ in range(rng.choice([3, 10, 300])):
            wrapped = {"a": wrapped}
    elif kind == "two":
        wrapped = {"encoder": weights, "decoder": other}
    elif kind == "ema":
        wrapped = {"model": weights, "ema": other}
    elif kind == "loop":
        wrapped["self"] = wrapped
    elif kind == "ordered":
        wrapped = OrderedDict(weights)
    elif kind == "with an optimizer":
        wrapped["optimizer"] = {
            "state": {0: {"momentum_buffer": torch.zeros(2)}},
            "param_groups": [{"lr": 1.0}],
        }
    return wrapped, f"is wrapped: {kind}"
