"""Models of other programs: the config and the classes with which they become a model of this package."""

from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from ..data.classes import ClassTable, load_classes, numbered_classes, palette
from ..errors import UserError
from ..models import SegmentationModule
from ..models.builder import QUERY_DECODERS
from ..models.foreign import PREFIX, ForeignModel, convert, files_of_source, located, read_source
from ..models.weights.checkpoint import newest_epoch
from ..models.weights.packed import is_packed
from ..models.weights.tensor_files import SUFFIX
from ..runtime.paths import expand_argument

_MULTIPLE = 32  # the sides of images become multiples of it, as the coarsest map needs
_ADE20K = (150, ("wall", "building", "sky"))  # the number of its classes, and the first of them
_TRANSFORMERS = ("mit_", "swin_", "convnext_")
# The recipe by which these encoders were trained, for a fine-tuning with this config.
_RECIPE = {
    "TRAIN.optim": "AdamW",
    "TRAIN.lr_encoder": 6e-5,
    "TRAIN.lr_decoder": 6e-4,
    "TRAIN.weight_decay": 0.01,
    "TRAIN.lr_pow": 1.0,
    "TRAIN.warmup_iters": 1500,
    "TRAIN.warmup_factor": 1e-6,
}


# That of EoMT.
_QUERY_RECIPE = {
    "TRAIN.loss": "mask_classification",
    "TRAIN.optim": "AdamW",
    "TRAIN.lr_encoder": 1e-4,
    "TRAIN.lr_decoder": 1e-4,
    "TRAIN.layer_decay": 0.8,
    "TRAIN.weight_decay": 0.05,
    "TRAIN.clip_grad_norm": 0.01,
    "TRAIN.warmup_iters": 500,
    "TRAIN.warmup_factor": 0.0,
    "TRAIN.lr_after_warmup": True,
    "TRAIN.encoder_delay": 500,
    "TRAIN.encoder_warmup_iters": 1000,
}


class Foreign(NamedTuple):
    """A model of another program that was found in place of one of this package.

    Attributes:
        files: its checkpoints.
        keys: see `foreign_keys`.
    """

    model: ForeignModel
    files: tuple[str, ...]
    keys: dict[str, Any]

    def build(self) -> nn.Module:
        """The network for inference, on the CPU."""
        encoder, decoder = self.model.build(use_softmax=True)
        return SegmentationModule(encoder, decoder, None).eval()


def find_foreign(source: Any) -> Foreign | None:
    """The model of another program in a file or a folder, or ``hf:ORG/NAME``.

    Returns: None if the source is something else: a config, or a model of this package.
    Raises: UserError if it cannot be read, or is not supported.
    """
    if not isinstance(source, str | PathLike):
        return None
    text = fspath(source) if fspath(source).startswith(PREFIX) else expand_argument(source, "source")
    if not text or not (text.startswith(PREFIX) or _is_foreign(Path(text))):
        return None
    path = located(text)
    model = convert(read_source(path))
    if model.decoder is None:
        raise UserError(
            f"{text}: a {model.family} of a classifier, which has no decoder. Train one: mit-semseg import "
            f"{text} --out DIR says how."
        )
    folder = path if path.is_dir() else path.parent
    return Foreign(model, tuple(map(str, files_of_source(path))), foreign_keys(model, folder))


def _is_foreign(path: Path) -> bool:
    """Whether a path is one that `mit-semseg import` reads, and not a model of this package."""
    if path.is_dir():
        if (path / "config.yaml").is_file() or newest_epoch(path) is not None:
            return False
        of_mmsegmentation = any(path.glob("*.pth")) and any(path.glob("*.py"))
        return (path / "config.json").is_file() or (path / "snapshots").is_dir() or of_mmsegmentation
    if path.name.startswith(("encoder_", "decoder_")):  # of this package, one part alone
        return False
    if path.suffix.lower() == SUFFIX:
        return path.is_file() and not is_packed(path)
    return path.suffix in (".pth", ".pt", ".ckpt", ".bin") and path.is_file()


def foreign_keys(model: ForeignModel, folder: Path, classes: str | Path = "") -> dict[str, Any]:
    """The keys of a config that describes a model, as far as they differ from the defaults.

    Args:
        folder: of its checkpoints.
        classes: the file of its class table.
    """
    spec = model.spec()
    keys: dict[str, Any] = {
        "DIR": str(folder),
        "DATASET.classes": str(classes),
        "DATASET.num_class": spec.num_class,
        "DATASET.segm_downsampling_rate": spec.label_stride,
        "DATASET.padding_constant": max(_MULTIPLE, spec.label_stride),
        "MODEL.arch_encoder": spec.arch_encoder,
        "MODEL.arch_decoder": spec.arch_decoder,
        "MODEL.fc_dim": spec.fc_dim,
        "MODEL.decoder_dim": spec.decoder_dim,
        "MODEL.decoder_dropout": spec.decoder_dropout,
        "MODEL.encoder_options": spec.encoder_options,
        "MODEL.decoder_options": spec.decoder_options,
        "MODEL.pretrained": False,
    }
    if model.short_edge:
        keys |= {"DATASET.imgSizes": (model.short_edge,), "DATASET.imgMaxSize": model.max_long_edge}
    if model.aux_weight is not None:
        keys["TRAIN.deep_sup_scale"] = model.aux_weight
    if spec.arch_encoder.startswith(_TRANSFORMERS):
        keys |= _RECIPE
    if model.tile:
        keys["INFERENCE.tile"] = model.tile
    if spec.arch_decoder in QUERY_DECODERS:
        keys |= _QUERY_RECIPE
    return keys


def foreign_classes(model: ForeignModel) -> ClassTable:
    """Names and colours of the classes, as far as the source gives them."""
    count = model.num_class
    table = load_classes("", count) if count == _ADE20K[0] else numbered_classes(count)
    names, colors = model.names, np.array(model.colors, np.uint8)
    if not names:
        return table
    if len(colors) != count:
        ade20k = (count, names[: len(_ADE20K[1])]) == _ADE20K
        colors = table.colors if ade20k else palette(count)
    # A table keeps the first of several names.
    clean = [" ".join(name.split(";")[0].split()) or f"class {k}" for k, name in enumerate(names, start=1)]
    return ClassTable(tuple(clean), colors)
