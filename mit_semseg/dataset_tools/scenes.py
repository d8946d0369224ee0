"""``mit-semseg data scenes``: lists of windows of large scenes, split into training and validation by area.

Nothing slow is imported before the arguments are read, so that ``--help`` answers at once.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..runtime.arguments import share, whole
from ..runtime.files import write_together
from ..runtime.paths import argument
from .prepare.source import some

if TYPE_CHECKING:
    from ..data.classes import ClassTable
    from .scene_grid import SceneInfo, Window

_EPILOG = """\
IMAGES and LABELS are GeoTIFFs, or folders of them. A label has the name of its image, maybe with more at its
end (a.tif, a_labels.tif). In labels, 0 is unlabelled and k is class k; --label-offset
and --ignore change that.

The ground is divided into square areas. All windows of an area train, or all validate, also where scenes
overlap, and no window crosses the border of an area.
"""
_TILE = 512  # pixels; enough context at the edges, in little memory
_EXTENSIONS = (".tif", ".tiff")
_VALUES = 2**16  # label values: 0 to 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Write OUT/training.odgt, validation.odgt, classes.csv and config.yaml for windows of GeoTIFFs. The\n"
        "scenes are read where they are, and not copied."
    )
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("images", type=argument("IMAGES"), metavar="IMAGES", help="a GeoTIFF, or a folder")
    add("labels", type=argument("LABELS"), metavar="LABELS", help="its label, or a folder of labels")
    add("out", type=argument("OUT"), metavar="OUT", help="folder to write to; created if it does not exist")
    add("--window", type=whole(32), default=512, metavar="N",
        help="side of a window in pixels (default: 512)")  # fmt: skip
    add("--area", type=whole(1), default=4, metavar="N",
        help="side of an area in windows (default: 4); fewer, larger areas share less border")  # fmt: skip
    add("--val-share", type=share, default=0.2, metavar="X",
        help="share of the labelled areas that validate (default: 0.2)")  # fmt: skip
    add("--seed", type=whole(0), default=0, metavar="N", help="seed of the choice of these (default: 0)")
    add("--ignore", type=whole(0, _VALUES - 1), metavar="V",
        help="one more label value that is unlabelled, such as 255")  # fmt: skip
    add("--label-offset", type=whole(0, _VALUES - 1), default=1, metavar="N",
        help="label value of the first class (default: 1); 0 if 0 is a class")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Writes the lists, reports them on standard output and returns the exit code.

    Raises: UserError for anything that the user has to fix; nothing is written then.
    """
    plan = Plan(args.window, args.area, args.val_share, args.seed, args.label_offset, args.ignore)
    for line in write_windows(args.images, args.labels, args.out, plan):
        sys.stdout.write(f"{line}\n")
    return 0


@dataclass(frozen=True)
class Plan:
    """How scenes are cut: the options of the command."""

    window: int = 512
    area: int = 4
    val_share: float = 0.2
    seed: int = 0
    label_offset: int = 1
    ignore: int | None = None


def write_windows(images: str, labels: str, out: str, plan: Plan) -> list[str]:
    """Write lists, class table and config to the folder ``out``; see the command's help.

    Windows without a labelled pixel are omitted.

    Returns: a report for the user, line by line.
    Raises: UserError for files that do not match each other, for scenes of several reference systems, and for
        labels without classes. All of them are named in one message.
    """
    from ..data.classes import classes_csv
    from .scene_grid import Grid

    scenes = _checked(_paired(Path(images), Path(labels)))
    grid = Grid(scenes, plan.window, plan.area)
    of_scene = [grid.windows(number, scene) for number, scene in enumerate(scenes)]
    too_small = [scene.image.name for scene, found in zip(scenes, of_scene, strict=True) if not found]
    windows = [window for found in of_scene for window in found]
    labelled, pixels = _labelled(windows, plan)
    if not labelled:
        raise UserError(
            f"No window of {plan.window} x {plan.window} pixels in {labels} has a labelled pixel. Set "
            "--window to fewer pixels, or --label-offset 0 if 0 is a class."
        )
    validating = _validating(labelled, plan)
    parts = {
        "training": [each for each in labelled if each.area not in validating],
        "validation": [each for each in labelled if each.area in validating],
    }
    folder = Path(out).absolute()
    count = int(np.flatnonzero(pixels)[-1]) - plan.label_offset + 1
    gap = _gap(pixels, plan)
    table = _class_table(scenes, range(plan.label_offset, plan.label_offset + count))
    lists = {
        folder / f"{name}.odgt": "".join(_line(each, plan.window) for each in of_part).encode()
        for name, of_part in parts.items()
    }
    others = {"classes.csv": classes_csv(table), "config.yaml": _config(folder, count, plan).encode()}
    # In this order: a process that is killed in between leaves no list without what it needs.
    write_together({**{folder / name: content for name, content in others.items()}, **lists})
    areas, used = len({each.area for each in labelled}), len(scenes) - len(too_small)
    report = [
        f"{folder}: {len(parts['training'])} training and {len(parts['validation'])} validation windows of "
        f"{plan.window} x {plan.window} pixels, {count} classes, from {used} scene{'s' * (used > 1)}.",
        f"{len(validating)} of {areas} areas of {grid.side} x {grid.side} pixels validate.",
    ]
    if len(windows) > len(labelled):
        report.append(f"Omitted: {len(windows) - len(labelled)} windows without a labelled pixel.")
    if too_small:
        report.append(
            f"Omitted: {some(too_small)}, too small for a window inside an area. Areas have the same size on "
            "the ground in all scenes. Pass scenes of other resolutions apart, or lower --window."
        )
    if not plan.val_share:
        report.append("No area validates, as --val-share 0 says. Train with VAL.every 0.")
    elif not parts["validation"]:
        report.append("There is only one area with labels, so none validates. Lower --area, or --window.")
    report.extend(gap)
    report.append(f"Next: python train.py --cfg RECIPE.yaml --cfg {folder / 'config.yaml'}")
    return report


def _paired(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Each image with its label."""
    found, candidates = _tiffs(images), _tiffs(labels)
    if len(found) == len(candidates) == 1:
        return [(found[0], candidates[0])]
    pairs, problems = [], []
    stems = {image.stem for image in found}
    for image in found:
        # The longest name of an image that the label begins with is that of its image.
        fitting = [label for label in candidates if label != image and _longest(label, stems) == image.stem]
        if len(fitting) == 1:
            pairs.append((image, fitting[0]))
        elif not fitting:
            problems.append(f"{image} has no label in {labels}")
        else:
            problems.append(f"{image} has several labels: {some([path.name for path in fitting])}")
    if problems:
        raise UserError(
            ". ".join([*problems[:5], *([f"And {len(problems) - 5} more"] * (len(problems) > 5))]) + "."
        )
    return pairs


def _longest(label: Path, stems: set[str]) -> str:
    """The longest of some names with which that of a label begins; "" for none."""
    return max((stem for stem in stems if label.stem.startswith(stem)), key=len, default="")


def _tiffs(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path.absolute()]
    found = sorted(file.absolute() for file in path.rglob("*") if file.suffix.lower() in _EXTENSIONS)
    if not found:
        raise UserError(f"{path} holds no GeoTIFF ({', '.join(_EXTENSIONS)}).")
    return found


def _checked(files: Sequence[tuple[Path, Path]]) -> "list[SceneInfo]":
    """The scenes. Raises: UserError that names all that cannot be used together."""
    from ..data.scene_pairs import open_scenes
    from .scene_grid import SceneInfo

    scenes, problems = [], []
    for image, label in files:
        try:
            pair = open_scenes(image, label)
        except UserError as error:
            problems.append(str(error))
            continue
        with pair.image, pair.label:
            scenes.append(SceneInfo.of(pair))
    systems = Counter(scene.system for scene in scenes)
    if len(systems) > 1:
        first = {scene.system: scene.image.name for scene in reversed(scenes)}
        named = "; ".join(
            f"{system} ({count}, such as {first[system]})" for system, count in systems.most_common()
        )
        problems.append(
            f"The scenes have several reference systems: {named}. Warp them to one: rio warp --dst-crs "
            f"{systems.most_common()[0][0]}, labels with --resampling nearest."
        )
    if problems:
        raise UserError("\n".join(problems))
    return scenes


def _labelled(windows: "Sequence[Window]", plan: Plan) -> "tuple[list[Window], np.ndarray]":
    """The windows with a labelled pixel, and the pixels of each value in them, (65536,).

    Args:
        windows: those of a scene are neighbours.

    Raises: UserError that names each damaged tile, and each label with values that are not class numbers.
    """
    from ..data.scenes import LabelScene, SceneError
    from ..runtime.progress import ProgressCounter
    from .file_problems import FileProblems

    kept, total, problems = [], np.zeros(_VALUES, np.int64), FileProblems()
    with ProgressCounter(len(windows), "windows", what="Reading labels") as counter:
        for file, of_scene in groupby(windows, key=lambda window: window.label):
            with LabelScene(file) as label:
                for each in of_scene:
                    rows, columns = (each.top, each.top + plan.window), (each.left, each.left + plan.window)
                    counter.add()
                    try:
                        values, valid = label.read(rows, columns)
                    except SceneError as error:
                        problems.add(error)
                        continue
                    counts = np.bincount(values[valid], minlength=_VALUES)
                    counts[: plan.label_offset] = 0
                    if plan.ignore is not None:
                        counts[plan.ignore] = 0
                    if counts.any():
                        kept.append(each)
                        total += counts
    if problems:
        raise UserError(problems.text())
    return kept, total


def _validating(windows: "Sequence[Window]", plan: Plan) -> set[tuple[int, ...]]:
    """The areas that validate: at least one, and not all, if there are several."""
    areas = sorted({each.area for each in windows})
    if not plan.val_share:
        return set()
    order = np.random.Generator(np.random.Philox(plan.seed)).permutation(len(areas))
    count = min(len(areas) - 1, max(1, round(plan.val_share * len(areas))))
    return {areas[k] for k in order[:count]}


def _gap(pixels: np.ndarray, plan: Plan) -> list[str]:
    """A line for the report if some values between those of the labels do not occur.

    Raises: UserError if the highest value is the greatest of its type, which mostly stands for unlabelled.
    """
    values = np.flatnonzero(pixels)
    missing = int(values[-1]) - plan.label_offset + 1 - len(values)
    if plan.ignore is not None and plan.label_offset <= plan.ignore < values[-1]:
        missing -= 1
    if not missing:
        return []
    found = f"Of the values {plan.label_offset} to {values[-1]} in the labels, {missing} do not occur"
    if values[-1] in (2**8 - 1, 2**16 - 1):
        raise UserError(
            f"{found}. If {values[-1]} stands for unlabelled, pass --ignore {values[-1]}. If it is a class, "
            "renumber the classes without gaps."
        )
    return [f"{found}. They are counted as classes."]


def _class_table(scenes: "Sequence[SceneInfo]", values: range) -> "ClassTable":
    """The classes of label values, with the names that test.py has written into a label."""
    from ..data.classes import ClassTable, numbered_classes

    table = numbered_classes(len(values))
    for scene in scenes:
        names = scene.class_names
        if names.keys() >= set(values):
            return ClassTable(tuple(names[value] for value in values), table.colors)
    return table


def _line(window: "Window", size: int) -> str:
    record = {"fpath_img": str(window.image), "fpath_segm": str(window.label), "width": size, "height": size}
    return json.dumps({**record, "left": window.left, "top": window.top}, ensure_ascii=False) + "\n"


def _config(folder: Path, count: int, plan: Plan) -> str:
    def quoted(path: Path | str) -> str:
        return json.dumps(str(path), ensure_ascii=False)  # a JSON string is a YAML string

    return "\n".join(
        [
            "# Written by mit-semseg data scenes, which overwrites it. Keep your own keys in another file.",
            "DATASET:",
            f"  root_dataset: {quoted(folder)}",
            f"  list_train: {quoted(folder / 'training.odgt')}",
            f"  list_val: {quoted(folder / 'validation.odgt')}",
            f"  classes: {quoted(folder / 'classes.csv')}",
            f"  num_class: {count}",
            f"  label_offset: {plan.label_offset}",
            *([] if plan.ignore is None else [f"  ignore_label: {plan.ignore}"]),
            f"  window: {plan.window}  # test.py scores scenes at the scale of these windows",
            f"  imgSizes: [{plan.window}]",
            f"  imgMaxSize: {plan.window}",
            "INFERENCE:",
            f"  tile: {max(_TILE, plan.window)}  # memory grows with the tiles that scenes are scored in",
            f"DIR: {quoted('ckpt/' + folder.name)}",
            "",
        ]
    )
