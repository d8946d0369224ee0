"""``mit-semseg data scenes``: lists of windows of large scenes, split into training and validation by area.

Nothing slow is imported before the arguments are read, so that ``--help`` answers at once.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..runtime.files import write_together
from ..runtime.paths import argument
from .prepare.source import some

if TYPE_CHECKING:
    from ..data.scene_pairs import ScenePair

_EPILOG = """\
IMAGES and LABELS are GeoTIFFs, or folders of them. A label has the name of its image, maybe with more at its
end (a.tif, a_labels.tif). In labels, 0 is unlabelled and k is class k; --label-offset
and --ignore change that.

The ground is divided into square areas. All windows of an area train, or all validate, also where scenes
overlap, and no window crosses the border of an area.
"""
_TILE = 512  # pixels; enough context at the edges, in little memory
_EXTENSIONS = (".tif", ".tiff")


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
    add("--window", type=_above(31), default=512, metavar="N",
        help="side of a window in pixels (default: 512)")  # fmt: skip
    add("--area", type=_above(0), default=4, metavar="N",
        help="side of an area in windows (default: 4); fewer, larger areas share less border")  # fmt: skip
    add("--val-share", type=_share, default=0.2, metavar="X",
        help="share of the labelled areas that validate (default: 0.2)")  # fmt: skip
    add("--seed", type=_above(-1), default=0, metavar="N", help="seed of the choice of these (default: 0)")
    add("--ignore", type=_above(-1), metavar="V", help="one more label value that is unlabelled, such as 255")
    add("--label-offset", type=_above(-1), default=1, metavar="N",
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


@dataclass(frozen=True)
class _Window:
    """A window of a scene, in pixels, and the area of the ground that it is in."""

    image: Path
    label: Path
    top: int
    left: int
    area: tuple[int, ...]


def write_windows(images: str, labels: str, out: str, plan: Plan) -> list[str]:
    """Write lists, class table and config to the folder ``out``; see the command's help.

    Windows without a labelled pixel are omitted.

    Returns: a report for the user, line by line.
    Raises: UserError for files that do not match each other, for scenes of several reference systems, and for
        labels without classes. All of them are named in one message.
    """
    from ..data.classes import classes_csv

    files = _paired(Path(images), Path(labels))
    pairs = _opened(files)
    grid = _Grid(pairs, plan)
    windows = [window for number, (files_of, pair) in enumerate(zip(files, pairs, strict=True))
               for window in grid.windows(number, files_of, pair)]  # fmt: skip
    labelled, pixels = _labelled(windows, pairs, files, plan)
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
    table = _class_table(pairs, count)
    lists = {
        folder / f"{name}.odgt": "".join(_line(each, plan.window) for each in of_part).encode()
        for name, of_part in parts.items()
    }
    others = {"classes.csv": classes_csv(table), "config.yaml": _config(folder, count, plan).encode()}
    # In this order: a process that is killed in between leaves no list without what it needs.
    write_together({**{folder / name: content for name, content in others.items()}, **lists})
    areas = len({each.area for each in labelled})
    report = [
        f"{folder}: {len(parts['training'])} training and {len(parts['validation'])} validation windows of "
        f"{plan.window} x {plan.window} pixels, {count} classes, from {len(files)} "
        f"scene{'s' * (len(files) > 1)}.",
        f"{len(validating)} of {areas} areas of {grid.side} x {grid.side} pixels validate.",
    ]
    if len(windows) > len(labelled):
        report.append(f"Omitted: {len(windows) - len(labelled)} windows without a labelled pixel.")
    if not parts["validation"]:
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


def _opened(files: Sequence[tuple[Path, Path]]) -> "list[ScenePair]":
    """The open files. Raises: UserError that names all that cannot be used together."""
    from ..data.scene_pairs import name_of, open_scenes

    pairs, problems = [], []
    for image, label in files:
        try:
            pairs.append(open_scenes(image, label))
        except UserError as error:
            problems.append(str(error))
    systems = Counter(name_of(pair.image) for pair in pairs)
    if len(systems) > 1:
        first = {name_of(pair.image): Path(pair.image.path).name for pair in reversed(pairs)}
        named = "; ".join(
            f"{system} ({count}, such as {first[system]})" for system, count in systems.most_common()
        )
        problems.append(
            f"The scenes have several reference systems: {named}. Warp them to one: rio warp --dst-crs "
            f"{systems.most_common()[0][0]}, labels with --resampling nearest."
        )
    if problems:
        raise UserError("\n".join(problems))
    return pairs


class _Grid:
    """Square areas of the ground, or of each scene if it has no coordinates or is turned.

    Attributes:
        side: of an area, in pixels of the finest scene.
    """

    def __init__(self, pairs: "Sequence[ScenePair]", plan: Plan) -> None:
        self._plan = plan
        self._on_ground = all(_is_north_up(pair) for pair in pairs)
        self.side = plan.window * plan.area
        if self._on_ground:
            # The box around all scenes is divided evenly, so that little is left at its border.
            boxes = [_box(pair) for pair in pairs]
            self._left, self._top = min(box[0] for box in boxes), max(box[3] for box in boxes)
            self._resolution = min(_resolution(pair)[0] for pair in pairs)
            width = (max(box[2] for box in boxes) - self._left) / self._resolution
            height = (self._top - min(box[1] for box in boxes)) / self._resolution
        else:
            width = max(pair.image.width for pair in pairs)
            height = max(pair.image.height for pair in pairs)
        # Rounded down, so that no area is narrower than a window.
        self._across = width / max(1, int(width / self.side))
        self._down = height / max(1, int(height / self.side))

    def windows(self, number: int, files: tuple[Path, Path], pair: "ScenePair") -> list[_Window]:
        """The windows of a scene. They cover each area that is wide enough, and none crosses two."""
        image, size = pair.image, self._plan.window
        if self._on_ground:
            left, _, _, top = _box(pair)
            unit = _resolution(pair)
            offset = (left - self._left) / unit[0], (self._top - top) / unit[1]
            step = self._across * self._resolution / unit[0], self._down * self._resolution / unit[1]
            key: tuple[int, ...] = ()
        else:
            offset, step, key = (0.0, 0.0), (self._across, self._down), (number,)
        found = []
        for column, (left_edge, right_edge) in _cells(offset[0], step[0], image.width):
            for row, (top_edge, bottom_edge) in _cells(offset[1], step[1], image.height):
                for y in _starts(top_edge, bottom_edge, size):
                    for x in _starts(left_edge, right_edge, size):
                        found.append(_Window(*files, y, x, (*key, row, column)))
        return found


def _cells(offset: float, step: float, length: int) -> list[tuple[int, tuple[int, int]]]:
    """The cells of a grid along an axis of a scene, each with its first pixel and the one after its last.

    Args:
        offset: of the scene from the grid's origin, in pixels.
        step: side of a cell, in pixels.
    """
    cells = []
    tiny = 1e-6  # coordinates are rounded
    for number in range(math.floor(offset / step + tiny), math.ceil((offset + length) / step - tiny)):
        first = max(0, math.ceil(number * step - offset - tiny))
        last = min(length, math.floor((number + 1) * step - offset + tiny))
        cells.append((number, (first, last)))
    return cells


def _starts(first: int, last: int, size: int) -> list[int]:
    """Where windows start that cover a span evenly; none if it is too short for one.

    >>> _starts(0, 1000, 512), _starts(100, 400, 512)
    ([0, 488], [])
    """
    free = last - first - size
    if free < 0:
        return []
    count = -(-free // size)
    return [first + (k * free // count if count else 0) for k in range(count + 1)]


def _is_north_up(pair: "ScenePair") -> bool:
    transform = pair.image.transform
    return bool(
        pair.image.georeferenced and transform.b == transform.d == 0 and transform.a > 0 > transform.e
    )


def _resolution(pair: "ScenePair") -> tuple[float, float]:
    """Width and height of a pixel in the units of the coordinates."""
    return float(pair.image.transform.a), float(-pair.image.transform.e)


def _box(pair: "ScenePair") -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a scene."""
    unit, transform = _resolution(pair), pair.image.transform
    left, top = float(transform.c), float(transform.f)
    return left, top - unit[1] * pair.image.height, left + unit[0] * pair.image.width, top


def _labelled(
    windows: Sequence[_Window], pairs: "Sequence[ScenePair]", files: Sequence[tuple[Path, Path]], plan: Plan
) -> tuple[list[_Window], np.ndarray]:
    """The windows with a labelled pixel, and the pixels of each value in them, (65536,).

    Raises: UserError that names each damaged tile, and each label with values that are not class numbers.
    """
    from ..data.scenes import SceneError
    from ..runtime.progress import ProgressCounter
    from .file_problems import FileProblems

    labels = {label: pair.label for (_, label), pair in zip(files, pairs, strict=True)}
    kept, total, problems = [], np.zeros(2**16, np.int64), FileProblems()
    with ProgressCounter(len(windows), "windows", what="Reading labels") as counter:
        for each in windows:
            rows, columns = (each.top, each.top + plan.window), (each.left, each.left + plan.window)
            counter.add()
            try:
                values, valid = labels[each.label].read(rows, columns)
            except SceneError as error:
                problems.add(error)
                continue
            counts = np.bincount(values[valid], minlength=2**16)
            counts[: plan.label_offset] = 0
            if plan.ignore is not None:
                counts[plan.ignore] = 0
            if counts.any():
                kept.append(each)
                total += counts
    if problems:
        raise UserError(problems.text())
    return kept, total


def _validating(windows: Sequence[_Window], plan: Plan) -> set[tuple[int, ...]]:
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
    if not missing:
        return []
    found = f"Of the values {plan.label_offset} to {values[-1]} in the labels, {missing} do not occur"
    if values[-1] in (2**8 - 1, 2**16 - 1):
        raise UserError(
            f"{found}. If {values[-1]} stands for unlabelled, pass --ignore {values[-1]}. If it is a class, "
            "renumber the classes without gaps."
        )
    return [f"{found}. They are counted as classes."]


def _class_table(pairs: "Sequence[ScenePair]", count: int) -> Any:
    """The classes, with the names that test.py has written into a label."""
    from ..data.classes import ClassTable, numbered_classes

    table = numbered_classes(count)
    for pair in pairs:
        names = pair.label.classes()
        if set(range(1, count + 1)) <= names.keys():
            return ClassTable(tuple(names[k] for k in range(1, count + 1)), table.colors)
    return table


def _line(window: _Window, size: int) -> str:
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


def _above(least: int) -> Any:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) <= least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above {least}")
        return int(text)

    return read


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1, such as 0.2")
    return share
