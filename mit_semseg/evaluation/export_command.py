"""The command ``mit-semseg export``. Nothing slow is imported before the arguments are read."""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..runtime.arguments import number
from ..runtime.log import setup_logger, warnings_as_lines

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from ..export.write import Options

EPILOG = """\
examples:
  mit-semseg export --cfg ckpt/mine/config.yaml --out model.onnx
  mit-semseg export --cfg ckpt/mine/config.yaml --format openvino --output scores
  mit-semseg export --cfg ckpt/mine/config.yaml --int8 --calibrate mine/training.odgt --out int8.onnx
  mit-semseg export --cfg model.onnx --web page         (makes a page of the file)
  test.py --cfg model.onnx --imgs photos                (the same outputs as with the checkpoint)

The weights are those that test.py uses; TEST.checkpoint selects others. The file takes uint8 RGB images
(N, 3, H, W) of every size. Before it is kept, its labels are compared with those of PyTorch.

exit code: 2 for a mistake, and if the file is refused: it differs from PyTorch, or --int8 costs more than
--max-drop. Nothing is written then.

"""
EXTENSIONS = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torch": ".pt2",
}
"""Those of export/write.py, without an import of torch."""
_OPSET = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command, without those of the config."""
    parser.add_argument(
        "--format",
        choices=list(EXTENSIONS),
        help="onnx for onnxruntime and most others, openvino, or torch for torch.export (default: the one "
        "that --out names, or onnx)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="a .onnx, .xml (openvino) or .pt2 (torch) file (default: DIR/model.onnx)",
    )
    parser.add_argument(
        "--output",
        choices=("labels", "scores"),
        default="labels",
        help="scores adds the probabilities of all classes to the outputs of the file (default: labels)",
    )
    parser.add_argument(
        "--opset", type=int, default=_OPSET, metavar="N", help="version of ONNX's operators, from 18"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--int8", action="store_true", help="compute in 8-bit integers; needs --calibrate")
    parser.add_argument(
        "--calibrate",
        metavar="LIST",
        help="for --int8: an .odgt list, such as that of the training, whose images (at most 128, from all "
        "over it) determine the ranges of values",
    )
    parser.add_argument("--float16", action="store_true", help="store weights in 16 bits: half the size")
    parser.add_argument(
        "--max-drop",
        type=number(0, what="a number of points"),
        default=0.5,
        metavar="POINTS",
        help="for --int8 and --float16: nothing is written if the mean IoU on DATASET.list_val drops by more "
        "percentage points (default: 0.5)",
    )
    parser.add_argument(
        "--web",
        metavar="FOLDER",
        help="write a page that segments photos in a browser, with the model and onnxruntime-web",
    )
    parser.add_argument(
        "--runtime",
        metavar="FOLDER",
        help="for --web: the unpacked npm package onnxruntime-web (default: node_modules/onnxruntime-web)",
    )


def run(cfg: "CfgNode", args: argparse.Namespace) -> int:
    """Export the model of a config, or make a smaller file or a page, and return the exit code.

    Raises: UserError for a mistake, and for a file that is refused; nothing is written then.
    """
    _check(args)
    smaller = args.int8 or args.float16
    from ..export.smaller import check_smaller
    from ..export.web import check_page, write_page
    from ..export.write import Options, checked, save_copy
    from ..inference.load import check_model
    from .smaller import as_table, find_lists, make_smaller

    setup_logger(0)
    format = args.format or ("" if args.out else "onnx")
    options = Options(format, args.output, args.opset, args.force)
    out = args.out or str(Path(cfg.DIR, f"model{EXTENSIONS[format]}"))
    # All checks before the weights are loaded.
    if args.web:
        check_page(args.web, args.runtime or "", force=args.force)
        format = "onnx"
    else:
        format = checked(out, options)
    if cfg.MODEL.exported and not (smaller or args.web):
        raise UserError(f"{cfg.MODEL.exported} is an exported model. Pass the config of its checkpoints.")
    if cfg.MODEL.exported and Path(cfg.MODEL.exported).suffix.lower() != EXTENSIONS[format]:
        raise UserError(
            f"{cfg.MODEL.exported} is not a {EXTENSIONS[format]} file. Pass one, or the config of its "
            "checkpoints."
        )
    if cfg.MODEL.exported:
        check_model(cfg)
        if (args.output, args.opset) != ("labels", _OPSET):
            raise UserError(
                f"--output and --opset are for an export from checkpoints, and {cfg.MODEL.exported} keeps "
                "its own. Pass the config of its checkpoints."
            )
    if smaller:
        check_smaller(EXTENSIONS[format], int8=args.int8, source=cfg.MODEL.exported)
    lists = find_lists(cfg, args.calibrate) if smaller else None
    if not (smaller or args.web):
        _export(cfg, out, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(cfg.MODEL.exported or Path(folder, f"model{EXTENSIONS[format]}"))
            if not cfg.MODEL.exported:
                _export(cfg, model, replace(options, format=format))
            if lists is not None:
                new = Path(folder, f"smaller{EXTENSIONS[format]}")
                found = make_smaller(cfg, model, new, lists, args.max_drop)
                sys.stdout.write(f"Measured on {cfg.DATASET.list_val}:\n{as_table(found)}")
                model = new
            if args.web:
                out = str(write_page(model, args.web, args.runtime or "", force=args.force))
            else:
                save_copy(model, out, options)
    sys.stdout.write(f"{'Page' if args.web else 'Model'}: {out}\n")
    return 0


def _export(cfg: "CfgNode", path: str | Path, options: "Options") -> None:
    """Export the model of a config, and print the comparison with PyTorch."""
    from ..export.compare import as_table
    from ..inference.segmenter import Segmenter

    with warnings_as_lines():
        segmenter = Segmenter.load(cfg, device="cpu", amp="none")
    rows = segmenter.export(
        path, format=options.format, output=options.output, opset=options.opset, force=options.force
    )
    sys.stdout.write(f"Compared with PyTorch:\n{as_table(rows)}")


def _check(args: argparse.Namespace) -> None:
    """Raises: UserError if arguments contradict each other."""
    if args.int8 and args.float16:
        raise UserError("--int8 and --float16 exclude each other.")
    if args.int8 != bool(args.calibrate):
        raise UserError("--int8 and --calibrate LIST need each other.")
    if args.web and (args.out or args.format):
        raise UserError("--web FOLDER contains the model: omit --out and --format.")
    if args.runtime and not args.web:
        raise UserError("--runtime is for --web, which is missing.")
