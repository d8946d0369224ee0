"""From a source of some format to a folder that the training reads."""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...atomic import unwritable
from ...errors import UserError
from ..classes import ClassTable, write_classes
from .convert import Done, Job, absolute, write
from .formats import READERS
from .naming import classes_of, read_names, require_two
from .options import Options
from .pool import convert_all
from .recoding import Recoding, table_of
from .release import TRAINING, VALIDATION, Example, NothingFoundError, Release, some
from .source import Folder, Source, open_source, with_archives
from .splits import assign

_MARK = "prepare.json"  # says that a folder is ours to write to
_SHOWN = 5  # problems spelled out in an error; the rest are counted


def prepare(source: str, out: str, options: Options, *, workers: int | None = None) -> list[str]:
    """Writes lists, labels, links to images, classes.csv and config.yaml to ``out``.

    What is there already, with the same bytes, is not written again.

    Args:
        workers: as of `convert_all`.

    Returns: a report for the user, line by line.
    Raises: UserError for anything that the user has to mend. All files are looked at before that.
    """
    source_path, out_path = Path(source), absolute(out)
    _check_places(source_path, out_path)
    given = None if options.names is None else read_names(options.names)
    settings = {"source": str(absolute(source)), **vars(options)}
    settings["map"] = {"*" if value is None else str(value): label for value, label in options.map.items()}
    mark = (json.dumps(settings, indent=1) + "\n").encode()
    existed = out_path.exists()
    if not (out_path / _MARK).exists():
        write(out_path / _MARK, mark)
    try:
        return _prepare(source_path, out_path, options, given, mark, workers)
    except NothingFoundError:
        if not existed:
            with suppress(OSError):
                (out_path / _MARK).unlink()
                out_path.rmdir()
        raise


def _prepare(
    source_path: Path,
    out: Path,
    options: Options,
    given: ClassTable | None,
    mark: bytes,
    workers: int | None,
) -> list[str]:
    source, release = _read(source_path, out, options)
    with closing(source):
        examples, notes = assign(release.examples, options.val_share, options.seed)
        examples, problems = _distinct(source, examples)
        problems = release.problems + problems
        table = table_of(
            release.coding,
            release.others,
            offset=1 if options.label_offset is None else options.label_offset,
            mapped=options.map,
            ignored=options.ignore,
        )
        recoding = Recoding(table)
        if given is not None:
            recoding = Recoding(table, len(given.names), options.names or "")
        job = Job(source, release.reader, recoding, out, source.linkable and options.images == "link")
        _begin(out, mark)
        pixels = np.zeros(256, np.int64)
        done: list[Done] = []
        with (
            closing(convert_all(job, examples, workers)) as results,
            tqdm(results, "preparing", len(examples), unit="image", disable=None) as bar,
        ):
            for result in bar:
                if result.pixels is None:
                    problems.append(result.problem)
                else:
                    pixels += result.pixels
                    done.append(result)
    _raise_problems(source_path, problems, len(problems) + len(done), options)
    if not done:
        raise UserError(" ".join([f"{source_path} has no image that trains or validates.", *release.notes]))
    _check_values(source_path, release, pixels, options)
    largest = int(np.flatnonzero(pixels)[-1])
    changed = bool(options.map or options.ignore)
    classes = given if given is not None else classes_of(release, table, largest, changed=changed)
    require_two(classes, source_path, hint=_more_classes(options))
    counts = _write_lists(out, done)
    _write_classes(out / "classes.csv", classes)
    write(out / "config.yaml", _config(out, len(classes.names), options).encode())
    return _report(out, counts, classes, pixels, release.notes + notes, problems)


def _begin(out: Path, mark: bytes) -> None:
    """Removes the lists of an earlier run with other settings, whose labels are written over from now on.

    If this run ends before it has lists of its own, none may point to a mixture of both.
    """
    try:
        if (out / _MARK).read_bytes() != mark:
            for split in (TRAINING, VALIDATION):
                (out / f"{split}.odgt").unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(out / _MARK, error) from error
    write(out / _MARK, mark)


def _check_places(source: Path, out: Path) -> None:
    """Raises: UserError if writing to ``out`` could change the source, or something that is not ours."""
    if not source.exists():
        raise UserError(f"{source} does not exist. Name the folder, zip or tar of the dataset.")
    real = out.resolve()
    if source.is_dir() and (source.resolve() == real or source.resolve() in real.parents):
        raise UserError(f"{out} is in {source}, which is not to be changed. Name a folder outside of it.")
    if real in source.resolve().parents:
        raise UserError(
            f"{source} is in {out}, so it could be written over. Name another folder to write to."
        )
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise UserError(f"{out} is a file. Name a folder to write to.")
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if others and not (out / _MARK).is_file():
            raise UserError(
                f"{out} holds other files ({some(others)}), which might be overwritten. "
                f"Name a new folder, or an empty one."
            )
    except OSError as error:
        raise UserError(f"{out} cannot be read: {error.strerror}.") from None


def _read(path: Path, scratch: Path, options: Options) -> tuple[Source, Release]:
    """The release at a path; a folder without one may hold it in archives."""
    source = open_source(path, scratch)
    try:
        try:
            return source, READERS[options.format](source, options)
        except NothingFoundError:
            packed = with_archives(source, scratch) if isinstance(source, Folder) else None
            if packed is None:
                raise
            source = packed
            return source, READERS[options.format](source, options)
    except BaseException:
        source.close()
        raise


def _distinct(source: Source, examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """The examples without those that would be written over others."""
    first: dict[tuple[str, str], Example] = {}
    problems = []
    for example in examples:
        other = first.setdefault((example.split, example.name), example)
        if other is not example:
            one, two = (source.where(each.image or each.label) for each in (other, example))
            problems.append(
                f"{two} has the same name as {one}, so their labels would be one file. Rename it."
            )
    return list(first.values()), problems


def _raise_problems(source: Path, problems: Sequence[str], total: int, options: Options) -> None:
    if problems and (len(problems) == total or not options.skip_bad):
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        todo = "" if options.skip_bad else "\nMend them, or leave them out with --skip-bad."
        raise UserError(
            f"{source}: {len(problems)} of {total} images or labels cannot be used:\n"
            + "\n".join(problems[:_SHOWN])
            + more
            + todo
        )


def _check_values(source: Path, release: Release, pixels: np.ndarray, options: Options) -> None:
    """Raises: UserError where 255 would become the name of 254 classes that do not exist."""
    if release.coding is not None or options.names or 255 in options.map.values() or not pixels[255]:
        return
    if set(np.flatnonzero(pixels).tolist()) <= {0, 255}:
        raise UserError(
            f"The labels in {source} hold 0 and 255 only, so they are masks of one thing. "
            f'--map "0:1, 255:2" makes the background class 1 and the thing class 2.'
        )
    raise UserError(
        f"The labels in {source} hold 255, which most often stands for unlabelled: --ignore 255. "
        f'If it is a class, give it a number: --map "255:K".'
    )


def _more_classes(options: Options) -> str:
    if options.format == "labelme":
        return "--background makes what is outside of all shapes a class."
    if options.format == "folders":
        return "Where 0 is a class (the background), give --label-offset 0."
    return 'Values become classes with --map "V:K, ...".'


def _write_lists(out: Path, done: Sequence[Done]) -> Counter[str]:
    counts = Counter(result.example.split for result in done)
    for split in (TRAINING, VALIDATION):
        lines = [json.dumps(result.record) + "\n" for result in done if result.example.split == split]
        path = out / f"{split}.odgt"
        if lines:
            write(path, "".join(lines).encode())
        else:
            path.unlink(missing_ok=True)  # an earlier run's, with other options
    return counts


def _write_classes(path: Path, classes: ClassTable) -> None:
    """`write_classes`, unless the file says the same already."""
    with tempfile.TemporaryDirectory(prefix="semseg_") as folder:
        new = Path(folder, path.name)
        write_classes(new, classes)
        write(path, new.read_bytes())


def _config(out: Path, num_class: int, options: Options) -> str:
    def quoted(value: Any) -> str:
        return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a YAML string

    return "\n".join(
        [
            f"# By mit-semseg data prepare {options.format}, which replaces it: keep own keys elsewhere.",
            "DATASET:",
            f"  root_dataset: {quoted(out)}",
            f"  list_train: {quoted(out / 'training.odgt')}",
            f"  list_val: {quoted(out / 'validation.odgt')}",
            f"  classes: {quoted(out / 'classes.csv')}",
            f"  num_class: {num_class}",
            f"DIR: {quoted('ckpt/' + out.name)}",
            "",
        ]
    )


def _report(
    out: Path,
    counts: Counter[str],
    classes: ClassTable,
    pixels: np.ndarray,
    notes: Sequence[str],
    problems: Sequence[str],
) -> list[str]:
    lines = [
        f"{out}: {counts[TRAINING]} training and {counts[VALIDATION]} validation images, "
        f"{len(classes.names)} classes, {pixels[0] / pixels.sum():.1%} of the pixels unlabelled."
    ]
    lines += notes
    absent = [name.split(";")[0] for label, name in enumerate(classes.names, 1) if not pixels[label]]
    if absent:
        lines.append(f"Classes without a pixel: {some(absent, 10)}.")
    if problems:
        lines.append(f"{len(problems)} images or labels left out:")
        lines += [f"  {problem}" for problem in problems]
    for split in (TRAINING, VALIDATION):
        if not counts[split]:
            lines.append(f"There is no {split} image, and so no {split}.odgt.")
    if counts[TRAINING]:
        config = str(out / "config.yaml")
        quote = f'"{config}"' if " " in config else config
        lines.append(f"Next: python train.py --cfg {quote}")
    return lines
