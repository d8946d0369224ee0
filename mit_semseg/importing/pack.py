"""``mit-semseg pack``: a trained model as one file. Nothing slow is imported before the arguments."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..runtime.log import setup_logger, warnings_as_lines
from ..runtime.paths import argument

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import ModelSpec

EPILOG = """\
examples:
  mit-semseg pack ckpt/mine mine.safetensors
  mit-semseg test --cfg mine.safetensors --imgs photos
  mit-semseg import mine.safetensors --out ckpt/again   (back to a folder)

The file holds the weights, the config, names and colours of the classes, the history of the training, and the
scores of an evaluation of these weights. Segmenter.load, test, eval, export and serve take it in place of a
config. No pickle is written, so that reading it cannot run code. The config names the paths of your data.

exit code: 2 for a mistake, and for weights that do not fit the config. Nothing is written then.

"""
_SUFFIX = ".safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "model",
        metavar="DIR",
        type=argument("DIR"),
        help="the folder of a run, or a config whose DIR has the weights",
    )
    parser.add_argument("file", metavar="FILE", type=argument("FILE"), help=f"a {_SUFFIX} file, to write")
    parser.add_argument(
        "--checkpoint",
        default="",
        metavar="NAME",
        help="such as epoch_20.pth (default: TEST.checkpoint, or that of the newest epoch)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Write the file, and return the exit code.

    Raises: UserError for a model that cannot be used, or a file that cannot be written.
    """
    setup_logger(0)
    with warnings_as_lines():
        sys.stdout.write(pack(args.model, args.file, args.checkpoint, force=args.force) + "\n")
    return 0


def pack(model: str | Path, file: str | Path, checkpoint: str = "", *, force: bool = False) -> str:
    """Write a model that `mit_semseg.models.weights.packed` reads, whole or not at all.

    Args:
        model: a folder or config, as for `Segmenter.load`.
        file: ends with ``.safetensors``.
        checkpoint: such as "epoch_20.pth"; "" for ``TEST.checkpoint``, or the newest if that is empty.
        force: replace an existing file.

    Returns: a report.
    Raises: UserError if the model cannot be used, if its weights do not fit, or if the file exists or cannot
        be written.
    """
    from .. import __version__
    from ..config import with_keys
    from ..inference.checkpoints import trained_weights
    from ..inference.load import check_model, find_classes, model_spec, origin_of, read_config
    from ..models.weights.packed import PARTS, Manifest, write_packed

    file = Path(file)
    if file.suffix.lower() != _SUFFIX:
        raise UserError(f"FILE is {file}, but its name must end with {_SUFFIX}.")
    if file.is_dir() or (file.exists() and not force):
        raise UserError(f"{file} already exists. Choose another name, or pass --force to replace it.")
    cfg = read_config(model)
    if given := cfg.MODEL.exported or cfg.MODEL.packed:
        raise UserError(f"{given} is one file already. Copy it, or name the folder of the run.")
    if checkpoint:
        cfg = with_keys(cfg, {"TEST.checkpoint": checkpoint})
    check_model(cfg)
    files = trained_weights(cfg, "TEST")
    origin, table = origin_of(cfg, files), find_classes(cfg)
    manifest = Manifest(
        config=cfg.dump(),
        names=table.names,
        colors=tuple(map(tuple, table.colors.tolist())),
        checkpoint=Path(files[0]).name.removeprefix("encoder_"),
        scores=origin.scores(),
        history=origin.history(),
        evaluation=origin.metrics(),
        version=__version__,
    )
    weights = _weights(model_spec(cfg), files)
    write_packed(file, manifest, weights)
    count = sum(value.numel() for part in PARTS for value in weights[part].values())
    scores = ", ".join(f"{name} {score:.4f}" for name, score in manifest.scores.items())
    return (
        f"Packed {files[0]} and {Path(files[1]).name}: {count / 1e6:.1f} million values, "
        f"{len(table.names)} classes, {scores or 'no scores'}. Written to {file}."
    )


def _weights(spec: "ModelSpec", files: tuple[str, ...]) -> "dict[str, dict[str, Tensor]]":
    """The weights of encoder and decoder as they are in their files. Raises: UserError if they do not fit."""
    from ..models.weights.checkpoint import read
    from ..models.weights.fit import required_names
    from ..models.weights.packed import PARTS
    from ..models.weights.unwrap import unwrap

    modules = spec.build((files[0], files[1]), use_softmax=True)
    result = {}
    for part, module, file in zip(PARTS, modules, files, strict=True):
        fitted = module.state_dict()
        found = unwrap(read(file), file, required_names(module)).by_name
        kept = {name: value for name, value in found.items() if name in fitted}  # in the order of the file
        result[part] = kept | {name: value for name, value in fitted.items() if name not in kept}
    return result
