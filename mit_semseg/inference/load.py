"""Loading of a trained model: its config, class table, device, checkpoints and network."""

import warnings
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import torch
from yacs.config import CfgNode

from ..config import load_config, with_keys
from ..config.allowed import parse_options
from ..config.keys import KEYS
from ..data.bands import STATISTICS
from ..data.classes import ClassTable, load_classes, numbered_classes
from ..errors import UserError
from ..export.opened import files_of, is_exported
from ..models import ModelSpec, SegmentationModule
from ..models.weights import checkpoint
from ..models.weights.checkpoint import newest_epoch
from ..models.weights.packed import is_packed, read_manifest
from ..models.weights.pretrained import PUBLISHED, fetch_published, released_weights
from ..runtime.log import get_logger
from ..runtime.near_names import did_you_mean
from ..runtime.paths import expand_argument, resolved
from ..runtime.resources import find, shipped
from .exported import AnyNetwork, ExportedNetwork
from .model_files import check_count, classes_of_file, keys_of_file
from .network import ScoringNetwork
from .origin import Origin
from .predict import Settings

Weights: TypeAlias = tuple[str, ...]
"""The checkpoints of encoder and decoder, the file of a packed model, or the files of an exported one."""

Source: TypeAlias = str | PathLike[str] | CfgNode
Device: TypeAlias = str | int | torch.device | None

_CONFIG, _CLASSES = "config.yaml", "classes.csv"  # in the folder of a run


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
    if (folder / _CONFIG).is_file():
        return folder / _CONFIG
    for config in shipped(".yaml", "config"):
        if Path(load_config(str(config)).DIR).name == resolved(folder).name:
            return config
    runs = sorted(file.parent for file in folder.glob(f"*/{_CONFIG}"))
    if runs:
        raise UserError(
            f"{folder} is not a run's folder, but contains some. Name one: {', '.join(map(str, runs))}."
        )
    raise UserError(
        f"{folder} has no {_CONFIG}, which train.py writes beside its checkpoints. Copy the config that the "
        f"model was trained with to {folder / _CONFIG}, or pass a config file whose DIR is {folder}."
    )


def find_classes(cfg: CfgNode) -> ClassTable:
    """Names and colours of the classes, even if the model has been moved away from its dataset.

    The table is the file ``DATASET.classes``, or else ``classes.csv`` in ``DIR``. If neither exists, the
    classes are numbered, and a warning says so.

    Raises: UserError if the table cannot be used.
    """
    table, count = cfg.DATASET.classes, cfg.DATASET.num_class
    if not table and (file := _model_file(cfg)):
        return classes_of_file(file, exported=bool(cfg.MODEL.exported))
    if table and not _is_there(table):
        beside = Path(cfg.DIR) / _CLASSES
        if not beside.is_file():
            warnings.warn(
                f"DATASET.classes is {table}, which does not exist here. The classes are called class 1 to "
                f"class {count}. Copy the file to {beside}, or pass its path as classes.",
                stacklevel=3,
            )
            return numbered_classes(count)
        table = beside
    return load_classes(table, count)


def _model_file(cfg: CfgNode) -> str:
    """The file that a config uses in place of checkpoints; "" for none."""
    file: str = cfg.MODEL.exported or cfg.MODEL.packed
    return file


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
    if file := _model_file(cfg):
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


def trained_weights(cfg: CfgNode, section: str) -> Weights:
    """The checkpoints of encoder and decoder that ``VAL.checkpoint`` or ``TEST.checkpoint`` names in ``DIR``.

    If the key is empty, they are those of the newest epoch. If ``DIR`` has no checkpoint, they are the
    weights that come with the project, if it has any for this model. A published model is downloaded to
    ``DIR`` if that has no checkpoint yet. ``MODEL.exported`` and ``MODEL.packed`` are used in their place.

    Args:
        section: "VAL" or "TEST".

    Raises: UserError if there are no such checkpoints.
    """
    folder, name = Path(cfg.DIR), cfg[section].checkpoint
    if single := _model_file(cfg):
        if name:
            raise UserError(
                f"{section}.checkpoint is {name}, but {single} holds a single checkpoint. Leave "
                f"{section}.checkpoint empty."
            )
        return files_of(single) if cfg.MODEL.exported else (single,)
    newest = checkpoint.newest_epoch(folder)
    if (
        newest is None
        and PUBLISHED.get(folder.name) is not None
        and name in ("", f"epoch_{PUBLISHED[folder.name]}.pth")
    ):
        get_logger().info("%s holds no checkpoint: downloading the published one", folder)
        encoder, decoder = fetch_published(folder.name, folder)
        return str(encoder), str(decoder)
    released = released_weights(folder.name) if newest is None else None
    if not name:
        if released is not None:
            get_logger().info("%s holds no checkpoint: using %s", folder, released[0].parent)
            _warn_of_other_model(cfg, released[0].parent)
            return str(released[0]), str(released[1])
        incomplete = checkpoint.incomplete_epoch(folder)
        if newest is None:
            if incomplete:
                raise UserError(f"{folder} holds no complete checkpoint: {incomplete}")
            raise UserError(
                f"{folder} holds no checkpoint.{did_you_mean(folder)} Train one with train.py, or set DIR to "
                "a folder with encoder_epoch_N.pth and decoder_epoch_N.pth."
            )
        if incomplete:
            get_logger().warning("Using epoch %d: %s", newest, incomplete)
        name = f"epoch_{newest}.pth"
    files = (folder / f"encoder_{name}", folder / f"decoder_{name}")
    for file in files:
        if not file.is_file():
            there = f"The newest there is epoch_{newest}.pth" if newest is not None else "There is no other"
            if released is not None:
                there = f"The weights that come with the project are used if {section}.checkpoint is empty"
            raise UserError(f"{file} does not exist. {there}; set {section}.checkpoint, or DIR.")
    get_logger().info("Checkpoint: %s and %s", files[0], files[1].name)
    _warn_of_other_model(cfg, folder)
    return str(files[0]), str(files[1])


def _warn_of_other_model(cfg: CfgNode, folder: Path) -> None:
    """Log a warning if the weights are of another model. They may still fit, and give other results."""
    file = folder / "config.yaml"
    if not file.is_file():  # as for checkpoints of the old package
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about keys that do not matter here
            config = load_config(str(file))
    except UserError:  # of another version, or half-written: only the weights matter
        return
    trained, theirs_data, ours_data = config.MODEL, config.DATASET, cfg.DATASET
    for key in ("bands", *STATISTICS):
        if tuple(theirs_data[key]) != tuple(ours_data[key]):
            get_logger().warning(
                "The weights in %s were trained with another DATASET.%s than the config has. Results may "
                "be worse. Those of the training are in %s.",
                *(folder, key, file),
            )
    for key in ("arch_encoder", "arch_decoder", "output_stride", "encoder_options", "decoder_options"):
        theirs, ours = str(trained[key]), str(cfg.MODEL[key])
        if theirs.lower() != ours.lower():
            get_logger().warning(
                "The weights in %s are for MODEL.%s %s, but the config says %s. Results may be worse.",
                *(folder, key, theirs, ours),
            )


def class_table(cfg: CfgNode) -> ClassTable:
    """Names and colours of the config's classes."""
    if not cfg.DATASET.classes and (file := _model_file(cfg)):
        return classes_of_file(file, exported=bool(cfg.MODEL.exported))
    return load_classes(cfg.DATASET.classes, cfg.DATASET.num_class)
