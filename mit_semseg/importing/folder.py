"""From a foreign checkpoint to a folder as train.py writes it."""

from dataclasses import replace
from pathlib import Path

from ..config import get_defaults, with_keys
from ..config.allowed import Options
from ..data.classes import write_classes
from ..errors import UserError
from ..inference.foreign import foreign_classes, foreign_keys
from ..models.foreign import NO_BASE, ForeignModel, convert, located, read_source
from ..models.weights.checkpoint import epoch_path, save_atomically
from ..models.weights.packed import is_packed
from .staging import check_empty, staged
from .unpack import unpack

_EPOCH = 1


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
    check_empty(out)
    path = located(source)
    if is_packed(path):
        if config or base:
            raise UserError(f"{path} is a packed model, which is complete. Omit --config and --base.")
        return unpack(path, out)
    found = read_source(path, config)
    if base == NO_BASE:
        found = replace(found, complete=True)
    elif base:
        found = replace(found, base=read_source(located(base)))
    model = convert(found)
    text = _config(model, out) if model.decoder else ""
    with staged(out) as folder:
        if model.decoder is None:
            save_atomically(model.encoder.weights, folder / "encoder.pth")
            return _report_on_encoder(model, source, out)
        save_atomically(model.encoder.weights, epoch_path(folder, "encoder", _EPOCH))
        save_atomically(model.decoder.weights, epoch_path(folder, "decoder", _EPOCH))
        write_classes(folder / "classes.csv", foreign_classes(model))
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    return _report(model, source, out)


def _config(model: ForeignModel, out: Path) -> str:
    keys = foreign_keys(model, out, out / "classes.csv")
    return with_keys(get_defaults(), keys).dump()


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
    article = "an" if model.family[0] in "AEIOU" else "a"
    lines = [
        f"{source}: {article} {model.family} with {model.num_class} classes and {count / 1e6:.1f} million "
        f"parameters, here {model.encoder.arch} + {model.decoder.arch}.",
        *model.notes,
        f"Written to {out}. Evaluate it: mit-semseg eval --cfg {out / 'config.yaml'} "
        "DATASET.root_dataset FOLDER DATASET.list_val FILE",
    ]
    return "\n".join(lines)
