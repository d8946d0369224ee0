"""What a trained model is loaded from: a run's folder, a config file, a shipped config, a config tree."""

import warnings
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

import torch
from yacs.config import CfgNode

from ..checkpoint import newest_epoch
from ..config import get_defaults, load_config, with_keys
from ..data.classes import ClassTable, load_classes, numbered_classes
from ..errors import UserError
from ..resources import find, shipped

Source: TypeAlias = str | PathLike[str] | CfgNode
Device: TypeAlias = str | int | torch.device | None

_CONFIG, _CLASSES = "config.yaml", "classes.csv"  # in the folder of a run


def read_config(source: Source) -> CfgNode:
    """The config of a trained model, frozen.

    Args:
        source: a folder that train.py has written, which may have been moved since: ``DIR`` becomes that
            folder; or a config as `load_config` takes it; or a config tree, which is copied.

    Raises: UserError if there is no such config, or it can't be used.
    """
    if isinstance(source, CfgNode):
        return _complete(source)
    if not isinstance(source, str | PathLike):
        raise TypeError(
            f"source is {source!r:.80}, of type {type(source).__name__}; it has to be a folder with "
            "checkpoints, a config file, the name of a shipped config, or a config tree"
        )
    path = Path(source)
    if path.suffix in (".pth", ".pt"):
        raise UserError(
            f"{path} is a checkpoint. Name its folder, {path.parent}, and which of its checkpoints: "
            "checkpoint='epoch_20.pth', say."
        )
    if not fspath(source) or not path.is_dir():  # "" would be the working directory
        cfg = load_config(fspath(source))
        if path.is_file() and newest_epoch(cfg.DIR) is None and newest_epoch(path.parent) is not None:
            raise UserError(
                f"{path} says that its checkpoints are in {cfg.DIR}. There are none, but some beside the "
                f"config. Name the folder: {path.parent}."
            )
        return cfg
    return with_keys(load_config(str(_config_of(path))), {"DIR": str(path)})


def _complete(tree: CfgNode) -> CfgNode:
    """A copy of a tree, which has to have all keys; further ones are the caller's own."""
    missing = [
        f"{section}.{key}" if key else section
        for section, value in get_defaults().items()
        for key in (value if isinstance(value, CfgNode) else [""])
        if section not in tree or (key and key not in tree[section])
    ]
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise UserError(
            f"The config tree has no {', '.join(missing[:3])}{more}. Begin with "
            "mit_semseg.config.get_defaults(), and change what differs."
        )
    return with_keys(tree, {})


def _config_of(folder: Path) -> Path:
    """The config in a run's folder; of a published model, whose files come without one, the shipped one."""
    if (folder / _CONFIG).is_file():
        return folder / _CONFIG
    for config in shipped(".yaml", "config"):
        if Path(load_config(str(config)).DIR).name == folder.resolve().name:
            return config
    runs = sorted(file.parent for file in folder.glob(f"*/{_CONFIG}"))
    if runs:
        raise UserError(
            f"{folder} is no run's folder, but holds some. Name one: {', '.join(map(str, runs))}."
        )
    raise UserError(
        f"{folder} has no {_CONFIG}, which train.py writes beside its checkpoints. Put the config that the "
        f"model was trained with there under that name, or name a config file whose DIR is {folder}."
    )


def find_classes(cfg: CfgNode) -> ClassTable:
    """Names and colours of the classes, also where the model has been moved away from its dataset.

    The table is sought where ``DATASET.classes`` says, then as ``classes.csv`` in ``DIR``. Without either, a
    warning says so, and the classes are numbered.

    Raises: UserError for a table that can't be used.
    """
    table, count = cfg.DATASET.classes, cfg.DATASET.num_class
    if table and not _is_there(table):
        beside = Path(cfg.DIR) / _CLASSES
        if not beside.is_file():
            warnings.warn(
                f"DATASET.classes is {table}, which is no file here, so that the classes are called class 1 "
                f"to class {count}. Copy the file to {beside}, or pass its place as classes.",
                stacklevel=3,
            )
            return numbered_classes(count)
        table = beside
    return load_classes(table, count)


def _is_there(table: str) -> bool:
    try:
        return bool(find(table))
    except UserError:
        return False


def pick_device(device: Device) -> torch.device:
    """The device that is meant: None is the first GPU, or the CPU where there is none.

    Raises: TypeError or ValueError for what means none, UserError for a GPU that is not there.
    """
    present = torch.cuda.device_count()
    if device is None:
        return torch.device("cuda", 0) if present else torch.device("cpu")
    if isinstance(device, bool) or not isinstance(device, str | int | torch.device):
        raise TypeError(
            f"device is {device!r}, of type {type(device).__name__}; it has to be a name, a number or None"
        )
    try:
        picked = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except RuntimeError:
        picked = None
    if picked is None or picked.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}, but takes 'cpu', 'cuda', 'cuda:1', a GPU's number, or None")
    if picked.type == "cpu":
        return torch.device("cpu")
    index = picked.index or 0
    if index >= present:
        there = ("has no GPU", "has only cuda:0", f"has only cuda:0 to cuda:{present - 1}")[min(present, 2)]
        raise UserError(f"device is {device!r}, but this machine {there}. Leave it out, or pass 'cpu'.")
    return torch.device("cuda", index)
