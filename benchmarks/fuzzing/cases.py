"""The inputs: a command line and one or several kinds of damage to what it reads, drawn from a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from . import pictures, texts, weights
from .damage import displaced
from .world import CONFIG

_Damage = Callable[[Path, Random], str]

# The files of a kind, by patterns, and what can happen to each.
_KINDS: dict[str, tuple[tuple[str, ...], _Damage]] = {
    "config": ((CONFIG,), texts.config),
    "training list": (("training.odgt",), texts.records),
    "validation list": (("validation.odgt",), texts.records),
    "training image": (("training/*.jpg",), pictures.image),
    "training label": (("training/*.png",), pictures.label),
    "validation image": (("validation/*.jpg",), pictures.image),
    "validation label": (("validation/*.png",), pictures.label),
    "photo": (("photos/**/*.*",), pictures.image),
    "video": (("walk.mp4",), pictures.video),
    "classes": (("classes.csv",), texts.table),
    "checkpoint": (("run/*coder_epoch_1.pth",), weights.checkpoint),
    "history": (("run/history_epoch_1.pth",), weights.state),
    "state": (("run/state.pth",), weights.state),
    "run": (
        ("run/*.yaml", "run/*.csv", "run/*.txt", "run/curves.png", "run/result/*"),
        lambda p, r: _rest(p, r),
    ),
    "manifest": (("out/.manifest.jsonl",), texts.records),
    "output": (("out/*", "out/**/*.png"), lambda p, r: _rest(p, r)),
    "journal": (("stopped/scored/*",), texts.records),
    "source image": (("source/images/*", "colored/images/*", "polygons/*.jpg"), pictures.image),
    "source label": (("source/labels/*", "colored/labels/*"), pictures.label),
    "polygons": (("polygons/*.json",), texts.document),
    "colors": (("colors.csv",), texts.table),
    "prepared": (("prepared/*", "prepared/**/*.png"), lambda p, r: _rest(p, r)),
}

_DATA = ("training list", "training image", "training label", "classes")
_SCORED = ("validation list", "validation image", "validation label", "classes")
_SHORT = ("TRAIN.epoch_iters", "1", "TRAIN.accumulate", "1")  # whatever the damage has done to these keys
_CFG = ("--cfg", CONFIG)


@dataclass(frozen=True)
class Case:
    """An input.

    Attributes:
        words: of the command line.
        damages: a sentence for each damage.
    """

    words: list[str]
    damages: list[str]


def draw(rng: Random) -> Case:
    """Draw an input, and damage the files in the working directory."""
    words, kinds = rng.choice(_COMMANDS)(rng)
    epochs = "2" if "TRAIN.num_epoch" in words else "1"
    damages = []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        kind = rng.choice(kinds)
        if kind == "words":
            words, what = texts.words(words, rng)
            damages.append(f"words: {what}")
            continue
        patterns, damage = _KINDS[kind]
        files = sorted({file for pattern in patterns for file in Path().glob(pattern) if _is_file(file)})
        if not files:
            continue
        file = rng.choice(files)
        if file.suffix not in (".pth", ".jpg", ".png", ".mp4") and rng.random() < 0.05:
            damages.append(f"{file} {displaced(file, rng)}")
        else:
            damages.append(f"{file} {damage(file, rng)}")
    if words[:1] == ["train"]:
        words = [*words, *_SHORT, "TRAIN.num_epoch", epochs]
    return Case(words, damages)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _rest(path: Path, rng: Random) -> str:
    return displaced(path, rng) if rng.random() < 0.3 else texts.document(path, rng)


def _train(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    words = ["train", "--gpus", "cpu", *_CFG]
    kinds: tuple[str, ...] = ("config", "config", "words", *_DATA)
    start = rng.choice(["new", "new", "resume", "resume", "epoch", "weights", "same folder", "validated"])
    if start == "resume":
        words += ["TRAIN.resume", rng.choice(["auto", "run", "run/state.pth"]), "TRAIN.num_epoch", "2"]
        kinds = ("config", "words", "training list", "state", "state", "state", "run", "history")
    elif start == "epoch":
        words += ["TRAIN.start_epoch", "1", "TRAIN.num_epoch", "2"]
        kinds = ("words", "state", "state", "checkpoint", "checkpoint", "history", "history", "run")
    elif start == "weights":
        words += ["DIR", "new", "MODEL.weights_encoder", "run/encoder_epoch_1.pth"]
        words += ["MODEL.weights_decoder", "run/decoder_epoch_1.pth"]
        kinds = ("config", "words", "checkpoint", "checkpoint", "checkpoint")
    elif start == "validated":
        words += ["DIR", "new", "VAL.every", "1"]
        kinds = ("config", "words", *_DATA, *_SCORED)
    elif start == "new":
        words += ["DIR", "new"]
    words += rng.choice(
        [
            *([], [], ["DATASET.on_error", "skip"], ["TRAIN.class_weights", "enet"]),
            *(["DATASET.augment", "crop", "DATASET.crop_size", "(32,32)"], ["TRAIN.loss", "ohem + dice"]),
        ]
    )
    return words, kinds


def _eval(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    words = ["eval", "--gpus", "cpu", *_CFG]
    kinds: tuple[str, ...] = ("config", "words", *_SCORED, "checkpoint", "checkpoint", "run")
    if rng.random() < 0.3:
        words += ["VAL.result", "stopped", "VAL.resume", "True"]
        kinds = ("config", "words", "journal", "journal", "journal", "validation image")
    for key in ("VAL.visualize", "VAL.boundary_iou", "VAL.calibration", "INFERENCE.flip"):
        if rng.random() < 0.2:
            words += [key, "True"]
    return words, kinds


def _test(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    images = rng.choice(
        [["photos"], ["photos"], ["photos/*.jpg"], ["walk.mp4"], ["photos/a.jpg", "photos/b.png"]]
    )
    words = ["test", "--gpu", "cpu", *_CFG, "--imgs", *images]
    outputs = (
        ["side_by_side", "overlay"] if images == ["walk.mp4"] else ["labels,html", "scores", "overlay,html"]
    )
    words += ["TEST.output", rng.choice(outputs)]
    kinds: tuple[str, ...] = ("config", "words", "photo", "photo", "photo", "checkpoint", "classes")
    if images == ["walk.mp4"]:
        kinds = ("video", "video", "video", "words")
    elif rng.random() < 0.4:
        words += ["--resume"]
        kinds = ("manifest", "manifest", "output", "output", "photo", "words", "checkpoint", "config")
    return words, kinds


def _check(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    words = rng.choice(
        [list(_CFG), ["training.odgt"], ["training.odgt", "validation.odgt", "--num-class", "3"]]
    )
    words = ["data", "check", "--workers", "0", *words]
    if rng.random() < 0.5:
        words += ["--json", "report.json"]
    return words, (*_DATA, *_SCORED, *_DATA, "config", "words")


def _prepare(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    kinds: tuple[str, ...] = ("source image", "source label", "source label", "words", "prepared")
    out = rng.choice(["prepared", "new", "new"])
    words = ["data", "prepare", "folders", "source", out]
    source = rng.choice(["folders", "rgb", "labelme"])
    if source == "rgb":
        words = ["data", "prepare", "rgb", "colored", out, "--colors", "colors.csv"]
        kinds = (*kinds, "colors", "colors")
    elif source == "labelme":
        words = ["data", "prepare", "labelme", "polygons", out]
        kinds = ("polygons", "polygons", "polygons", "source image", "words")
    words += ["--workers", "0"]
    words += rng.choice(
        [[], [], ["--skip-bad"], ["--images", "copy"], ["--upright"], ["--names", "classes.csv"]]
    )
    return words, kinds


def _show(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    words = rng.choice([["config", "TRAIN.amp"], ["config", "learning", "rate"], ["config", "--markdown"]])
    return words, ("words",)


def _model(rng: Random) -> tuple[list[str], tuple[str, ...]]:
    words = ["model", "--gpu", "cpu", *_CFG, "--size", "32", "40"]
    return words + rng.choice([[], ["--json"]]), ("config", "words")


_COMMANDS = (*(_train,) * 6, *(_eval,) * 5, *(_test,) * 5, *(_check,) * 3, *(_prepare,) * 3, _show, _model)
