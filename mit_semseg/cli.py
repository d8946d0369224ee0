"""The command line of the three scripts, and of ``mit-semseg COMMAND``.

Nothing here imports torch before the arguments are parsed, so ``--help`` and mistakes on the command line are
answered at once.
"""

import argparse
import contextlib
import errno
import importlib
import io
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import DivergenceError, InputError, ProcessError, UserError
from .runtime.arguments import LARGEST_COUNT, number, whole
from .runtime.log import LOST_OUTPUT, discard_output, ignore_decoder_warnings, warnings_as_lines
from .runtime.machine import limit_spinning

if TYPE_CHECKING:
    from yacs.config import CfgNode


_DEFAULT_CONFIG = "config/ade20k-resnet50dilated-ppm_deepsup.yaml"
_COMMANDS = {
    "train": "Train a segmentation model.",
    "eval": "Score a trained model on the validation list.",
    "test": "Segment images with a trained model.",
    "serve": "Segment images over HTTP, and on a page in the browser.",
    "export": "Write a trained model as a file for other runtimes, which takes images of every size.",
    "data": "Check a dataset, convert one from another layout, split one, or measure its bands.",
    "model": "Show what a config's model costs: parameters, FLOPs, strides, memory, images per second.",
    "runs": "List the runs below a folder, and compare them on a page.",
    "card": "Write the model card of a run, README.md, as model hubs expect it.",
    "push": "Upload a trained model with its card to a model hub.",
    "demo": "Segment a photo with the weights that come with the package.",
    "config": "Show the config keys: defaults, allowed values, meanings.",
    "import": "Turn a model of another program, or a packed one, into a folder as train.py writes it.",
    "pack": "Write a trained model as one .safetensors file, with its config, classes and scores.",
}
_TEST_EPILOG = """\
examples:
  test.py --imgs street.jpg
  test.py --imgs photos 'more/**/*.jpg' TEST.result out TEST.output overlay,labels
  test.py --imgs photos TEST.result out --resume
  find photos -name '*.png' | test.py --imgs - TEST.result out
  test.py --imgs walk.mp4 TEST.output overlay TEST.legend True
  test.py --imgs 0                                      (camera 0, until Ctrl-C)
  torchrun --nproc-per-node 4 test.py --imgs photos     (on 4 GPUs; or --gpu 0-3)

TEST.output is one or more of
  side_by_side  <name>.png          the image and its classes in colour; a video gives <name>.mp4
  overlay       <name>_overlay.png  the colours over the image; a video gives <name>_overlay.mp4
  labels        <name>_labels.png   gray values, k+1 for class k (as in ADE20K); 16 bits beyond 255 classes
  scores        <name>_scores.npz   "probabilities" (classes, height, width) float16, and "names"
  html          predictions.html    one page with all results; it opens offline
  coco          predictions_coco.json   masks (or polygons, with --simplify) for labelling tools, all images
  cvat          predictions_cvat.xml    the same as "CVAT for images 1.1"
  labelme       <name>.json         the same for LabelMe; files that a person has changed are kept
  geojson       <name>_polygons.geojson, with class and area, for GeoTIFFs; or gpkg (GeoPackage)
A GeoTIFF is read by windows and gives <name>_labels.tif, a GeoTIFF with its coordinates (docs/geo.md).
The files are written to TEST.result, which repeats the subfolders of an input folder or pattern. TEST.legend
True adds the names of the classes below the pictures. Inputs are never overwritten. Pictures that test.py
wrote to TEST.result are not used as inputs.

exit code: 0 if everything was segmented; 1 if some images or videos could not be used (they are listed at the
end, the others are done); 2 for a mistake in the command, the config or a checkpoint, or for a full disk.

"""
# Commands whose module declares the arguments and runs.
_MODULES = {
    "data": "dataset_tools.command",
    "config": "config.command",
    "runs": "runs.command",
    "card": "runs.card_command",
    "push": "runs.push",
    "demo": "prediction.demo",
    "serve": "serve.command",
    "import": "importing.command",
    "pack": "importing.pack",
}
# Those that also take a config, which is loaded here.
_MODULES_WITH_CONFIG = {
    "export": "evaluation.export_command",
    "model": "training.profile_command",
}
_DEPENDENCIES = (
    *("torch", "torchvision", "numpy", "scipy", "PIL", "simplejpeg", "yacs", "yaml", "tqdm", "av"),
    *("matplotlib", "tensorboard"),
)
_CHECKPOINT = {"eval": "VAL.checkpoint", "test": "TEST.checkpoint"}
_START_WEIGHTS = ("MODEL.weights_encoder", "MODEL.weights_decoder")
_GRACE_S = 3.0  # how long the other ranks wait with an error; torchrun ends them when rank 0 fails
_KEYS_HINT = "Every config key with its meaning: mit-semseg config [KEY or word ...]"


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run ``mit-semseg COMMAND ...`` and return its exit code.

    Args:
        argv: the command and its arguments; by default those of this process.
        prog: the name of the program in its help; by default ``mit-semseg COMMAND``.

    Returns: 0 for success, 1 if all or part of the work failed, 2 for a user's mistake, 130 after Ctrl-C.
    """
    with _open_streams(), warnings.catch_warnings():
        ignore_decoder_warnings()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(
                errors="backslashreplace"
            )  # the console may not be able to show every name
        try:
            return _flushed(_answer(list(sys.argv[1:] if argv is None else argv), prog))
        except SystemExit:  # of argparse, which has printed help
            _flushed(0)
            raise


def _answer(words: list[str], prog: str | None) -> int:
    limit_spinning()
    if not words or words[0] not in _COMMANDS:
        _overview().parse_args(words[:1])  # answers --help and --version, refuses the rest
        return 2
    try:
        if words[0] in _MODULES or words[0] in _MODULES_WITH_CONFIG:
            return _run_module(words[0], words[1:], prog or f"mit-semseg {words[0]}")
        return _run(words[0], _parser(words[0], prog).parse_intermixed_args(words[1:]))
    except UserError as error:
        _leave_to_first_process()
        sys.stderr.write(f"{error}\n")
        return 2
    except (ProcessError, InputError, DivergenceError) as error:
        if isinstance(error, DivergenceError):
            _leave_to_first_process()
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        if error.filename is None and error.errno in LOST_OUTPUT:
            sys.stderr.write(f"Stopped: the output cannot be written ({error.strerror}).\n")
            discard_output()
            return 1
        if error.filename is None or isinstance(error, FileNotFoundError):
            raise
        # Even a test for existence may fail: a parent folder denies access, or the name is too long.
        sys.stderr.write(f"{error.filename} can't be used: {error.strerror}.\n")
        return 2
    except ModuleNotFoundError as error:
        if error.name not in _DEPENDENCIES:
            raise
        sys.stderr.write(f"The package {error.name} is missing. Run: pip install -r requirements.txt\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130


def _leave_to_first_process() -> None:
    """Let rank 0 report an error that all processes of torchrun have; torchrun then ends the others."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(_GRACE_S)


@contextlib.contextmanager
def _open_streams() -> Iterator[None]:
    """Inside the block, there are streams for output, even if the caller has closed them, as by ``2>&-``."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
        for name in closed:
            setattr(sys, name, nowhere)
        try:
            yield
        finally:
            for name in closed:
                setattr(sys, name, None)


def _flushed(code: int) -> int:
    """The exit code after everything is printed: 1 instead of 0 if that fails, except into a closed pipe."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in LOST_OUTPUT:
            raise
        discard_output()
        if error.errno != errno.EPIPE:
            sys.stderr.write(f"The output cannot be written ({error.strerror}).\n")
            return code or 1
    return code


def script(command: str) -> int:
    """Run one command with the arguments of this process. Its help shows the name of the calling script."""
    return main([command, *sys.argv[1:]], prog=Path(sys.argv[0]).name)


def _overview() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:6} {text}" for name, text in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="mit-semseg",
        usage="mit-semseg COMMAND [--help] ...",
        description=f"Semantic segmentation in PyTorch.\n\ncommands:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", choices=list(_COMMANDS), metavar="COMMAND", help="one of the above")
    return parser


def _run_module(command: str, words: list[str], prog: str) -> int:
    takes_config = command in _MODULES_WITH_CONFIG
    name = _MODULES_WITH_CONFIG[command] if takes_config else _MODULES[command]
    module = importlib.import_module(f".{name}", __package__)
    parser = argparse.ArgumentParser(
        prog=prog,
        description=_COMMANDS[command],
        epilog=getattr(module, "EPILOG", "") + _KEYS_HINT * takes_config,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    if takes_config:
        _add_config(parser)
    # argparse cannot intermix the arguments of subcommands.
    args = parser.parse_args(words) if command == "data" else parser.parse_intermixed_args(words)
    code: int = module.run(_load_config(args.cfg, args.opts), args) if takes_config else module.run(args)
    return code


def _parser(command: str, prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog or f"mit-semseg {command}",
        description=_COMMANDS[command],
        epilog=(_TEST_EPILOG if command == "test" else "") + _KEYS_HINT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command == "test":
        parser.add_argument(
            "--imgs",
            required=True,
            nargs="+",
            metavar="PATH",
            help="images, folders (searched recursively), 'patterns/**/*.jpg', videos, a camera number, or - "
            "for a list of paths on standard input",
        )
        parser.add_argument(
            "--resume",
            action="store_true",
            help="skip inputs whose outputs all exist, according to .manifest.jsonl in the output folder",
        )
        parser.add_argument(
            "--simplify",
            type=number(0, LARGEST_COUNT, "a number of pixels"),
            metavar="PIXELS",
            help="coco, labelme and cvat get polygons instead of masks, whose outlines may differ from the "
            "masks by this distance. The output says what this costs in IoU; 0 costs nothing. Needs OpenCV",
        )
        parser.add_argument(
            "--uncertain",
            type=whole(1, LARGEST_COUNT),
            metavar="N",
            default=0,
            help="rank the images by how unsure the model is, show the N least sure ones first in the page, "
            "and list them in uncertain.txt",
        )
        parser.add_argument(
            "--gpu",
            dest="gpus",
            metavar="DEVICE",
            help="0, gpu1 or cpu, or several such as 0-3 (default: the first GPU, or the CPU without one)",
        )
    else:
        parser.add_argument(
            "--gpus",
            metavar="DEVICES",
            help="0-3, 0,2, gpu1 or cpu (default: all GPUs, or the CPU without one)",
        )
    parser.add_argument(
        "--procs", type=whole(1, LARGEST_COUNT), metavar="N", help="processes on the CPU (default: 1)"
    )
    _add_config(parser)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg",
        action="append",
        metavar="FILE",
        help="a config file, or the name of one that the project ships; for eval and test also a packed "
        "(.safetensors) or exported (.onnx, .xml, .pt2) model, which carries its config; with several "
        "(--cfg RECIPE --cfg DATA), keys in later files override earlier ones (default: "
        f"{_DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="config keys to change, such as TRAIN.num_epoch 5"
    )


def _load_config(files: list[str] | None, overrides: list[str]) -> "CfgNode":
    """The config of a command. Warnings about renamed keys become plain lines on standard error."""
    from .config import load_config

    sources: list[Any] = [_keys_of_file(file) if _is_model(file) else file for file in files or ()]
    with warnings_as_lines():
        return load_config(sources or _DEFAULT_CONFIG, overrides)


def _is_model(file: str) -> bool:
    from .evaluation.export_command import EXTENSIONS

    return Path(file).suffix.lower() in (*EXTENSIONS.values(), ".safetensors")


def _keys_of_file(file: str) -> dict[str, Any]:
    """The config in an exported or packed model, which replaces the checkpoints."""
    from .inference.model_files import keys_of_file  # imports torch

    return keys_of_file(file)


def _run(command: str, args: argparse.Namespace) -> int:
    overrides = args.opts
    if command == "test":
        args.imgs, trailing = _split_at_key(args.imgs)
        overrides = trailing + overrides
    cfg = _load_config(args.cfg, overrides)
    given = [key for key in overrides[::2] if key in _START_WEIGHTS]
    if given and command != "train":
        sys.stderr.write(
            f"{' and '.join(given)} has no effect: training starts from these weights, but {command} uses a "
            f"checkpoint in DIR ({cfg.DIR}). Select it with {_CHECKPOINT[command]}.\n"
        )
    from .runtime.devices import find_devices  # imports torch

    if command == "train" and cfg.MODEL.packed:
        raise UserError(
            f"{cfg.MODEL.packed} is a packed model. To train from it, unpack it first: mit-semseg import "
            f"{cfg.MODEL.packed} --out FOLDER"
        )
    if cfg.MODEL.exported:
        _check_exported(command, cfg.MODEL.exported, args.gpus)
    devices = find_devices("cpu" if cfg.MODEL.exported else args.gpus, args.procs)
    if command == "train":
        from .training.train import train

        train(cfg, devices)
    elif command == "eval":
        from .evaluation.evaluate import evaluate

        evaluate(cfg, devices)
    else:
        from .prediction.predict import predict
        from .runtime.launch import started_by_torchrun

        if args.gpus is None and devices[0].type == "cuda" and not started_by_torchrun():
            devices = devices[:1]
        predict(
            cfg,
            devices,
            args.imgs,
            resume=args.resume,
            simplify=args.simplify,
            uncertain=args.uncertain,
        )
    return 0


def _check_exported(command: str, model: str, gpus: str | None) -> None:
    if command == "train":
        raise UserError(f"{model} is an exported model, which cannot be trained. Train its config instead.")
    if gpus not in (None, "cpu"):
        raise UserError(f"{model} is an exported model, which runs on the CPU. Omit the device, or pass cpu.")


def _split_at_key(words: list[str]) -> tuple[list[str], list[str]]:
    """Split ``a.jpg b.jpg TEST.result out`` into the images and the config keys after them."""
    from .config.keys import SECTIONS

    config_key = re.compile(rf"DIR|({'|'.join(SECTIONS)})\.\w+")
    for i, word in enumerate(words):
        if i and config_key.fullmatch(word):
            return words[:i], words[i:]
    return words, []
