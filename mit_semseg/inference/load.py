"""Loading of a trained model: its config, class table, device and network."""

import warnings
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import torch
from yacs.config import CfgNode

from ..config import load_config, with_keys
from ..config.allowed import parse_options
from ..config.keys import KEYS
from ..data.classes import ClassTable, load_classes, numbered_classes
from ..errors import UserError
from ..export.opened import is_exported
from ..models import ModelSpec, SegmentationModule
from ..models.weights.checkpoint import newest_epoch
from ..models.weights.packed import is_packed, read_manifest
from ..runtime.paths import expand_argument, resolved
from ..runtime.resources import find, shipped
from .checkpoints import CONFIG, Weights, model_file
from .checkpoints import trained_weights as trained_weights  # programs import it from here, too
from .exported import AnyNetwork, ExportedNetwork
from .model_files import check_count, classes_of_file, keys_of_file
from .network import ScoringNetwork
from .origin import Origin
from .predict import Settings

Source: TypeAlias = str | PathLike[str] | CfgNode
Device: TypeAlias = str | int | torch.device | None

_CLASSES = "classes.csv"  # in the folder of a run


def read_config(source: Source) -> CfgNode:
    """The config of a trained model, frozen.

    Args:
        source: a folder that train.py has written, a file of `mit-semseg export` or `pack`, a config as
            `load_config` takes it, or a config tree, which is copied. The folder may have been moved since:
            ``DIR`` becomes its present path.

    Raises: UserError if there is no such config, or if it cannot be used.
    """
    if isinstance(source, CfgNode):
        return _complete(source)
    if not isinstance(source, str | PathLike):
        raise TypeError(
            f"source is {source!r:.80}, of type {type(source).__name__}; it has to be a folder with "
            "checkpoints, an exported or packed model, a config file, the name of a shipped config, or a "
            "config tree"
        )
    source = expand_argument(source, "source")
    path = Path(source)
    if path.suffix in (".pth", ".pt"):
        raise UserError(
            f"{path} is a checkpoint. Pass its folder, {path.parent}, and select the checkpoint with, for "
            "example, checkpoint='epoch_20.pth'."
        )
    if is_exported(path) or is_packed(path):
        return load_config([keys_of_file(path)])
    if not source or not path.is_dir():  # Path("") is the working directory
        cfg = load_config(source)
        if path.is_file() and newest_epoch(cfg.DIR) is None and newest_epoch(path.parent) is not None:
            raise UserError(
                f"{path} says that its checkpoints are in {cfg.DIR}, which has none. There are some beside "
                f"the config. Pass that folder: {path.parent}."
            )
        return cfg
    return with_keys(load_config(str(_config_of(path))), {"DIR": str(path)})


def _complete(tree: CfgNode) -> CfgNode:
    """A copy of a tree, which must have all keys. The caller may add others."""
    missing = [
        key.name
        for key in KEYS
        if not key.since and not any(_holds(tree, name) for name in (key.name, key.formerly) if name)
    ]
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise UserError(
            f"The config tree has no {', '.join(missing[:3])}{more}. Start from "
            "mit_semseg.config.get_defaults() and change the keys that differ."
        )
    return with_keys(tree, {})


def _holds(tree: CfgNode, name: str) -> bool:
    section, _, leaf = name.rpartition(".")
    return leaf in (tree.get(section, {}) if section else tree)


def _config_of(folder: Path) -> Path:
    """The config in a run's folder, or the shipped one for a published model, whose files come without it."""
    if (folder / CONFIG).is_file():
        return folder / CONFIG
    for config in shipped(".yaml", "config"):
        if Path(load_config(str(config)).DIR).name == resolved(folder).name:
            return config
    runs = sorted(file.parent for file in folder.glob(f"*/{CONFIG}"))
    if runs:
        raise UserError(
            f"{folder} is not a run's folder, but contains some. Name one: {', '.join(map(str, runs))}."
        )
    raise UserError(
        f"{folder} has no {CONFIG}, which train.py writes beside its checkpoints. Copy the config that the "
        f"model was trained with to {folder / CONFIG}, or pass a config file whose DIR is {folder}."
    )


def class_table(cfg: CfgNode) -> ClassTable:
    """Names and colours of the config's classes. Raises: UserError if the table cannot be used."""
    if not cfg.DATASET.classes and (file := model_file(cfg)):
        return classes_of_file(file, exported=bool(cfg.MODEL.exported))
    return load_classes(cfg.DATASET.classes, cfg.DATASET.num_class)


def find_classes(cfg: CfgNode) -> ClassTable:
    """`class_table`, even if the model has been moved away from its dataset.

    If the file ``DATASET.classes`` does not exist, ``classes.csv`` in ``DIR`` takes its place. If that does
    not exist either, the classes are numbered, and a warning says so.

    Raises: UserError if the table cannot be used.
    """
    table, count = cfg.DATASET.classes, cfg.DATASET.num_class
    if not table or _is_there(table):
        return class_table(cfg)
    beside = Path(cfg.DIR) / _CLASSES
    if beside.is_file():
        return load_classes(beside, count)
    warnings.warn(
        f"DATASET.classes is {table}, which does not exist here. The classes are called class 1 to "
        f"class {count}. Copy the file to {beside}, or pass its path as classes.",
        stacklevel=3,
    )
    return numbered_classes(count)


def _is_there(table: str) -> bool:
    try:
        return bool(find(table))
    except UserError:
        return False


def pick_device(device: Device) -> torch.device:
    """The device for an argument. None is the first GPU, or the CPU if there is no GPU.

    Raises: TypeError or ValueError for an argument that is not a device; UserError if the GPU does not exist.
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
        raise UserError(f"device is {device!r}, but this machine {there}. Omit it, or pass 'cpu'.")
    return torch.device("cuda", index)


def check_model(cfg: CfgNode) -> None:
    """Check that a config's model can be built, and that its file is for as many classes.

    Raises: UserError if not.
    """
    if file := model_file(cfg):
        check_count(file, cfg.DATASET.num_class, exported=bool(cfg.MODEL.exported))
    if not cfg.MODEL.exported:
        model_spec(cfg).check()


def model_spec(cfg: CfgNode) -> ModelSpec:
    """The specification of the model that a config describes."""
    model = cfg.MODEL
    return ModelSpec(
        arch_encoder=model.arch_encoder,
        arch_decoder=model.arch_decoder,
        num_class=cfg.DATASET.num_class,
        fc_dim=model.fc_dim,
        label_stride=cfg.DATASET.segm_downsampling_rate,
        output_stride=model.output_stride,
        decoder_dim=model.decoder_dim,
        decoder_dropout=model.decoder_dropout,
        decoder_norm=model.decoder_norm,
        encoder_options=parse_options(model.encoder_options),
        decoder_options=parse_options(model.decoder_options),
        in_channels=cfg.DATASET.channels,
    )


def scoring_settings(cfg: CfgNode) -> Settings:
    """The settings of a config for scoring images."""
    keys = cfg.INFERENCE
    return Settings(**{name: keys[name] for name in ("amp", "flip", "tile", "overlap", "threshold")})


def load_network(spec: ModelSpec, weights: Weights, device: torch.device, amp: str = "none") -> AnyNetwork:
    """A trained model, prepared for inference on a device.

    Args:
        weights: checkpoints of encoder and decoder, "" for random weights; or an exported or packed model.
        amp: see `Settings`.
    """
    if is_exported(weights[0]):
        return ExportedNetwork(weights[0], amp=amp)
    encoder, decoder = weights[0], weights[-1]  # which may be one file
    module = SegmentationModule(*spec.build((encoder, decoder), use_softmax=True), None).eval()
    return ScoringNetwork.prepared(module, device, amp=amp)


def build_scoring(cfg: CfgNode, weights: Weights, device: torch.device) -> tuple[AnyNetwork, Settings]:
    """The network of a config with the given checkpoints, on a device, and its settings for scoring."""
    settings = scoring_settings(cfg)
    return load_network(model_spec(cfg), weights, device, settings.amp), settings


def origin_of(cfg: CfgNode, weights: Weights) -> Origin:
    """The origin of a model with the config and the checkpoints that it was loaded from."""
    evaluation = Path(cfg.VAL.result or Path(cfg.DIR, "result"), "metrics.json")
    packed = read_manifest(cfg.MODEL.packed).scores if cfg.MODEL.packed else {}
    return Origin(cfg.dump(), weights, evaluation, packed)
