"""The command line of the three scripts, and of ``mit-semseg train | eval | test | data | model``.

Nothing here imports torch before the arguments have been read, so that ``--help`` and mistakes answer at
once.
"""

import argparse
import io
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .errors import InputError, ProcessError, UserError

_DEFAULT_CONFIG = "config/ade20k-resnet50dilated-ppm_deepsup.yaml"
_COMMANDS = {
    "train": "Train a segmentation model.",
    "eval": "Score a trained model on the validation list.",
    "test": "Segment images with a trained model.",
    "data": "Check a dataset, or make one from what there is.",
    "model": "Show what a config's model costs: parameters, FLOPs, strides, memory, images a second.",
}
_TEST_EPILOG = """\
examples:
  test.py --imgs street.jpg
  test.py --imgs photos 'more/**/*.jpg' TEST.result out TEST.output overlay,labels
  test.py --imgs photos TEST.result out --resume
  find photos -name '*.png' | test.py --imgs - TEST.result out
  test.py --imgs walk.mp4 TEST.output overlay TEST.legend True
  test.py --imgs 0                                      (camera 0, until Ctrl-C)
  torchrun --nproc-per-node 4 test.py --imgs photos     (shared by 4 GPUs; or --gpu 0-3)

TEST.output is one or several of
  side_by_side  <name>.png          the image and its classes in colour; a video gives <name>.mp4
  overlay       <name>_overlay.png  the colours over the image; a video gives <name>_overlay.mp4
  labels        <name>_labels.png   gray values, k+1 for class k (as in ADE20K); 16 bits beyond 255 classes
  scores        <name>_scores.npz   "probabilities" (classes, height, width) float16, and "names"
  html          predictions.html    one page with all results, which opens offline
in TEST.result, in the subfolders that the images have below a folder or a pattern. TEST.legend True names the
classes below the pictures. Inputs are never overwritten, and pictures that test.py has made in TEST.result
are no inputs.

exit code: 0, all is done; 1, some images or videos could not be used (named at the end), the others are done;
2, a mistake in the command, the config or a checkpoint, or a full disk.

"""
_DATA_COMMANDS = {
    "check": "Read every file of a list and report what is wrong with it, and how to mend it.",
    "prepare": "Make lists, label files and class tables from datasets of many layouts.",
}
_EPILOGS = {"test": _TEST_EPILOG}
_DEPENDENCIES = (
    *("torch", "torchvision", "numpy", "scipy", "PIL", "simplejpeg", "yacs", "yaml", "tqdm", "av"),
    *("matplotlib", "tensorboard"),
)
_GRACE_S = 3.0  # how long a rank lets rank 0 speak first; torchrun ends the others before
_CONFIG_KEY = re.compile(r"DIR|(DATASET|MODEL|TRAIN|VAL|TEST)\.\w+")


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run ``mit-semseg COMMAND ...`` and return its exit code: 0 for done, 1 for a failure of
    some of the work, 2 for a mistake of the user's.

    Args:
        argv: the command and its arguments; those of this process if left out.
        prog: what to call the program in its help, instead of ``mit-semseg COMMAND``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the console can't show
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in _COMMANDS:
        _overview().parse_args(words[:1])  # answers --help and --version, refuses the rest
        return 2
    try:
        if words[0] == "data":
            return _run_data(words[1:], prog or "mit-semseg data")
        if words[0] == "model":
            return _run_model(words[1:], prog or "mit-semseg model")
        return _run(words[0], _parser(words[0], prog).parse_intermixed_args(words[1:]))
    except UserError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(_GRACE_S)  # under torchrun: rank 0 says it too, and then nobody has to
        sys.stderr.write(f"{error}\n")
        return 2
    except (ProcessError, InputError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        if error.filename is None or isinstance(error, FileNotFoundError):
            raise
        # Even asking whether a file exists may be refused: by a folder on the way, or for the name's length.
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


def script(command: str) -> int:
    """Run one command with this process's arguments, as the script that the user called."""
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


def _run_data(words: list[str], prog: str) -> int:
    from .data.check import command as check
    from .data.prepare import command as prepare

    parser = argparse.ArgumentParser(prog=prog, description=_COMMANDS["data"])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {"check": check, "prepare": prepare}
    for name, module in modules.items():
        text = _DATA_COMMANDS[name]
        module.add_arguments(commands.add_parser(name, help=text, description=text))
    args = parser.parse_args(words)
    return modules[args.command].run(args)


def _run_model(words: list[str], prog: str) -> int:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=_COMMANDS["model"] + " With random weights: nothing is downloaded, read or written.",
        epilog="FLOPs are those of a forward without enlarging the scores, a multiplication and an addition "
        "being two. score: an image at one scale, from pixels to labels. train: forward and backward of a "
        "sub-batch, by TRAIN.amp, channels_last and freeze. Peak memory is that of the GPU's tensors, or of "
        "the whole process on the CPU.",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=_count,
        metavar=("H", "W"),
        help="height and width of the images in pixels; left out: the middle one of DATASET.imgSizes with a "
        "width of 4/3, and DATASET.crop_size in training with DATASET.augment crop",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--gpu", metavar="DEVICE", help="0, gpu1 or cpu; left out: the first GPU, else the CPU"
    )
    _add_config(parser)
    args = parser.parse_intermixed_args(words)
    from .config import load_config

    cfg = load_config(args.cfg or _DEFAULT_CONFIG, args.opts)
    from .distributed import find_devices
    from .engine.profile import as_text, profile

    figures = profile(cfg, find_devices(args.gpu)[0], tuple(args.size) if args.size else None)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if args.json else as_text(figures))
    return 0


def _parser(command: str, prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog or f"mit-semseg {command}",
        description=_COMMANDS[command],
        epilog=_EPILOGS.get(command, "") + "Every config key with its meaning: mit_semseg/config/defaults.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command == "test":
        parser.add_argument(
            "--imgs",
            required=True,
            nargs="+",
            metavar="PATH",
            help="images, folders (searched recursively), 'patterns/**/*.jpg', videos, a camera's number, "
            "or - for a list of paths on standard input",
        )
        parser.add_argument(
            "--resume",
            action="store_true",
            help="leave out inputs whose outputs are all there, by the record .made.jsonl beside them",
        )
        parser.add_argument(
            "--gpu",
            dest="gpus",
            metavar="DEVICE",
            help="0, gpu1 or cpu, or several such as 0-3; left out: the first GPU, else the CPU",
        )
    else:
        parser.add_argument(
            "--gpus",
            metavar="DEVICES",
            help="0-3, 0,2, gpu1 or cpu; left out: all GPUs there are, else the CPU",
        )
    parser.add_argument("--procs", type=_count, metavar="N", help="processes on the CPU; left out: 1")
    _add_config(parser)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg",
        action="append",
        metavar="FILE",
        help="a config file, or the name of one that the project ships; of several, --cfg RECIPE --cfg DATA, "
        f"later ones change keys of earlier ones (default: {_DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="config keys to change, such as TRAIN.num_epoch 5"
    )


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _run(command: str, args: argparse.Namespace) -> int:
    overrides = args.opts
    if command == "test":
        args.imgs, trailing = _split_at_key(args.imgs)
        overrides = trailing + overrides
    from .config import load_config

    cfg = load_config(args.cfg or _DEFAULT_CONFIG, overrides)
    from .distributed import find_devices  # imports torch

    devices = find_devices(args.gpus, args.procs)
    if command == "train":
        from .engine.train import train

        train(cfg, devices)
    elif command == "eval":
        from .engine.evaluate import evaluate

        evaluate(cfg, devices)
    else:
        from .engine.predict import predict
        from .launch import started_by_torchrun

        if args.gpus is None and devices[0].type == "cuda" and not started_by_torchrun():
            devices = devices[:1]
        predict(cfg, devices, args.imgs, resume=args.resume)
    return 0


def _split_at_key(words: list[str]) -> tuple[list[str], list[str]]:
    """``a.jpg b.jpg TEST.result out`` as the images and the config keys behind them."""
    for i, word in enumerate(words):
        if i and _CONFIG_KEY.fullmatch(word):
            return words[:i], words[i:]
    return words, []
