"""From a foreign checkpoint to a folder as train.py writes it."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import get_defaults, with_keys
from ..config.allowed import Options
from ..data.classes import ClassTable, load_classes, numbered_classes, palette, write_classes
from ..errors import UserError
from ..models.builder import QUERY_DECODERS
from ..models.foreign import NO_BASE, ForeignModel, convert, read_source
from ..models.weights.checkpoint import epoch_path, save_atomically
from ..runtime.files import unwritable
from .hub import PREFIX, download

_EPOCH = 1
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
_RECIPE_OF_QUERIES = {
    "TRAIN.loss": "mask_classification",
    "TRAIN.optim": "AdamW",
    "TRAIN.lr_encoder": 1e-4,
    "TRAIN.lr_decoder": 1e-4,
    "TRAIN.layer_decay": 0.8,
    "TRAIN.weight_decay": 0.05,
    "TRAIN.clip_grad_norm": 0.01,
    "TRAIN.warmup_iters": 500,
    "TRAIN.encoder_delay": 500,
}


def import_model(source: str, out: str | Path, config: str | None = None, base: str | None = None) -> str:
    """Write a foreign model to a folder, whole or not at all.

    Args:
        source: a file, a folder, or ``hf:ORG/NAME``.
        out: the folder to write, which must not exist or be empty.
        config: see `read_source`.
        base: the model to whose weights those of ``source`` are differences: a file, a folder, or
            ``hf:ORG/NAME``; "none" if they are the weights themselves.

    Returns: a report on the model.
    Raises: UserError if the source cannot be imported, or the folder cannot be written.
    """
    out = Path(out)
    _check_empty(out)
    found = read_source(_path(source), config)
    if base == NO_BASE:
        found = replace(found, complete=True)
    elif base:
        found = replace(found, base=read_source(_path(base)))
    model = convert(found)
    text = _config(model, out) if model.decoder else ""
    try:
        with _staged(out) as folder:
            if model.decoder is None:
                save_atomically(model.encoder.weights, folder / "encoder.pth")
                return _report_on_encoder(model, source, out)
            save_atomically(model.encoder.weights, epoch_path(folder, "encoder", _EPOCH))
            save_atomically(model.decoder.weights, epoch_path(folder, "decoder", _EPOCH))
            write_classes(folder / "classes.csv", _classes(model))
            (folder / "config.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from error
    return _report(model, source, out)


def _path(source: str) -> Path:
    """The file or the folder of a model. Raises: UserError if there is none."""
    path = download(source) if source.startswith(PREFIX) else Path(source)
    if not path.exists():
        raise UserError(f"{path} does not exist. Name a checkpoint, its folder, or {PREFIX}ORG/NAME.")
    return path


def _check_empty(out: Path) -> None:
    """Refuse a folder that holds files. Raises: UserError."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} already exists. Set --out to a new folder.")
    except OSError as error:
        raise unwritable(out, error) from error


@contextlib.contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A new folder beside ``out``, which it becomes when the block ends without an error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)  # a temporary folder is private
        if out.exists():
            out.rmdir()
        folder.replace(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _config(model: ForeignModel, out: Path) -> str:
    """The text of the config with which train.py would have trained the model."""
    spec = model.spec()
    keys: dict[str, Any] = {
        "DIR": str(out),
        "DATASET.classes": str(out / "classes.csv"),
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
        keys |= _RECIPE_OF_QUERIES
    return with_keys(get_defaults(), keys).dump()


def _classes(model: ForeignModel) -> ClassTable:
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


def _report_on_encoder(model: ForeignModel, source: str, out: Path) -> str:
    options = Options().read(model.encoder.options)
    options = f" MODEL.encoder_options '{options}'" if options else ""
    return (
        " ".join([f"{source}: {model.family}, whose encoder is in {out / 'encoder.pth'}.", *model.notes])
        + f" Start a training from it: MODEL.arch_encoder {model.encoder.arch}{options} "
        f"MODEL.weights_encoder {out / 'encoder.pth'}"
    )


def _report(model: ForeignModel, source: str, out: Path) -> str:
    assert model.decoder is not None
    parts = (model.encoder, model.decoder)
    count = sum(value.numel() for part in parts for value in part.weights.values())
    lines = [
        f"{source}: a {model.family} with {model.num_class} classes and {count / 1e6:.1f} million "
        f"parameters, here {model.encoder.arch} + {model.decoder.arch}.",
        *model.notes,
        f"Written to {out}. Evaluate it: mit-semseg eval --cfg {out / 'config.yaml'} "
        "DATASET.root_dataset FOLDER DATASET.list_val FILE",
    ]
    return "\n".join(lines)
