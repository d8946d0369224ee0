"""The command line of ``mit-semseg import``. Nothing slow is imported before the arguments are read."""

import argparse
import sys

from ..runtime.paths import argument

_DESCRIPTION = """\
Turn a model of another program into a folder as train.py writes it: config.yaml, encoder_epoch_1.pth,
decoder_epoch_1.pth and classes.csv. eval, test, Segmenter and fine-tuning then treat it as any other model.

SOURCE is
  a checkpoint file     .safetensors, .pth, .pt or .ckpt
  a folder              as downloaded from a hub, with config.json and model.safetensors
  hf:ORG/NAME           a model of the Hugging Face Hub, which is downloaded
"""
_EPILOG = """\
examples:
  mit-semseg import segformer-b0-finetuned-ade-512-512 --out ckpt/segformer-b0
  mit-semseg import hf:openmmlab/upernet-convnext-tiny --out ckpt/upernet-convnext
  mit-semseg import pspnet_r50-d8.pth --config pspnet_r50-d8_4xb4-80k_ade20k-512x512.py --out ckpt/pspnet
  mit-semseg import eomt-dinov3/pytorch_model.bin --base dinov3-vitl16-pretrain-lvd1689m --out ckpt/eomt
  mit-semseg eval --cfg ckpt/segformer-b0/config.yaml

docs/models.md lists the models that can be imported. Nothing that a file holds is run. DIR must not exist, or
be empty; it is written whole or not at all.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("source", metavar="SOURCE", type=argument("SOURCE"), help="the model to import")
    parser.add_argument(
        "--out", required=True, metavar="DIR", type=argument("--out"), help="folder that is written"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=argument("--config"),
        help="config of the model, .json or .py (default: that in the checkpoint or beside it)",
    )
    parser.add_argument(
        "--base",
        metavar="FOLDER",
        type=argument("--base"),
        help="model whose weights SOURCE holds differences to, as for EoMT with DINOv3: a folder or "
        "hf:ORG/NAME, or 'none' if SOURCE holds the weights themselves",
    )


def run(args: argparse.Namespace) -> int:
    """Import the model. Returns: the exit code."""
    from .folder import import_model

    sys.stdout.write(import_model(args.source, args.out, args.config, args.base) + "\n")
    return 0
