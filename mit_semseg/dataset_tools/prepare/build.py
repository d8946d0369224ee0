"""From a source to a folder that training reads."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...data.classes import ClassTable, classes_csv
from ...data.orientation import Fit
from ...errors import UserError
from ...runtime.claim import claimed
from ...runtime.machine import cpu_count
from ...runtime.paths import resolved
from ..pool import WorkerDeath, run_guarded
from .classes import require_two
from .convert import READING_IMAGE, Conversion, Converted, Counts, Failure, absolute, convert
from .formats import DRAWN, reader_of
from .labels import ColorLabels, describe_assigned, describe_unknown
from .naming import Naming, naming_of
from .release import TRAINING, VALIDATION, Assigned, PrepareOptions, SourcePair
from .source import SourceFolder, open_source, some
from .splits import assign
from .staging import Staging, staging

_MARK = "prepare.json"  # shows that a folder was written by this command, which may then write to it again
_SHOWN = 20  # problems spelled out in an error; the rest are counted
_FEW = 64  # pairs that are converted before other processes have started


@dataclass
class _Outcome:
    """The results for all pairs."""

    records: dict[str, list[dict[str, Any]]]
    """The records of each split, in the order of the pairs."""
    values: np.ndarray = field(default_factory=lambda: np.zeros(2**16, np.int64))
    """Pixels of each value of the label files that can be used, (65536,)."""
    failures: list[Failure] = field(default_factory=list)
    turned: Counter[Fit] = field(default_factory=Counter)
    """The view that labels fit -> images that were written upright."""
    assigned: Assigned = field(default_factory=Assigned)
    """Pixels with other colours than those of the table."""
    undecided: list[str] = field(default_factory=list)
    """Images that were not, and whose size does not show which view their label fits."""


def prepare(source: str, out: str, options: PrepareOptions, *, workers: int | None = None) -> list[str]:
    """Writes lists, labels, links to images, classes.csv and config.yaml to ``out``.

    Files that are there already, with the same bytes, are not written again. Those of an earlier run remain
    until all new files are complete.

    Args:
        workers: number of processes; 0 converts in this one. None: one a CPU, or 0 for few images.

    Returns: a report for the user, line by line.
    Raises: UserError for anything that the user has to fix, after all files have been read.
    """
    out_path = absolute(out)
    folder = open_source(Path(source))
    _check_out(folder.path, out_path)
    release = reader_of(options.format)(folder, options)
    naming = naming_of(release, options)
    pairs, notes = assign(release.pairs, options.val_share, options.seed)
    notes += folder.not_used(pairs)
    pairs, clashes = _distinct(folder, pairs)
    with claimed(out_path, "prepared", "OUT"), staging(out_path) as staged:
        conversion = Conversion(
            folder.path, release.reader, naming.recoding, staged, options.images == "link", options.upright
        )
        outcome = _convert_all(conversion, pairs, workers)
        done = sum(map(len, outcome.records.values()))
        missing = [Failure(text) for text in release.problems + clashes]
        problems = missing + outcome.failures
        if problems and (len(problems) == len(missing) + len(pairs) or not options.skip_bad):
            advice = _advice(problems, outcome, naming, options, source, out)
            total = len(missing) + len(pairs)
            raise UserError(_refusal(folder.path, problems, total, advice, release.notes, options))
        if not done:
            raise UserError(
                " ".join([f"{folder.path} has no image that trains or validates.", *release.notes])
            )
        doubt = naming.doubt(outcome.values)
        if doubt:
            raise UserError(f"{folder.path}: {doubt}")
        if options.format == "binary" and not outcome.values[1:].any():
            raise UserError(
                f"{folder.path}: the masks are empty: no pixel of the {done} masks is of the foreground. "
                f"Export masks in which something is marked."
            )
        pixels = naming.recoding.pixels(outcome.values)
        classes = naming.classes(int(np.flatnonzero(pixels)[-1]))
        require_two(classes, folder.path, hint=_more_classes(options, outcome.values))
        _write_lists(staged, outcome.records)
        staged.write("classes.csv", classes_csv(classes))
        staged.write("config.yaml", _config(out_path, len(classes.names), options).encode())
        staged.write(_MARK, _mark(source, options))
        lists = {f"{split}.odgt": bool(records) for split, records in outcome.records.items()}
        staged.commit(
            last=[name for name, filled in lists.items() if filled],
            gone=[name for name, filled in lists.items() if not filled],  # written with other options
        )
    if isinstance(release.reader, ColorLabels):
        notes += describe_assigned(outcome.assigned, release.reader, naming.names_by_value)
    notes = [
        *release.notes,
        *naming.notes(),
        *_on_zeros(naming, outcome.values),
        *_on_foreground(options, outcome.values),
        *notes,
        *_on_orientation(outcome, options),
    ]
    return _report(out_path, outcome, pixels, classes, notes, [problem.text for problem in problems])


def _mark(source: str, options: PrepareOptions) -> bytes:
    """The options that the folder was written with."""
    settings = {"source": str(absolute(source)), **vars(options)}
    settings["map"] = {"*" if value is None else str(value): label for value, label in options.map.items()}
    return (json.dumps(settings, indent=1) + "\n").encode()


def _check_out(source: Path, out: Path) -> None:
    """Raises: UserError if writing to ``out`` could change the source, or files of other origin."""
    real, real_source = resolved(out), resolved(source)
    if real_source == real or real_source in real.parents:
        raise UserError(f"{out} is in {source}, which must not be changed. Name a folder outside of it.")
    if real in real_source.parents:
        raise UserError(f"{source} is in {out}, so it could be overwritten. Name another folder to write to.")
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise UserError(f"{out} is a file. Name a folder to write to.")
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if others and not (out / _MARK).is_file():
            raise UserError(
                f"{out} holds other files ({some(others)}), which could be overwritten. "
                f"Name a new folder, or an empty one."
            )
    except OSError as error:
        raise UserError(f"{out} cannot be read: {error.strerror}.") from None


def _distinct(source: SourceFolder, pairs: Sequence[SourcePair]) -> tuple[list[SourcePair], list[str]]:
    """The pairs without those whose output would overwrite that of another pair."""
    first: dict[tuple[str, str], SourcePair] = {}
    problems = []
    for pair in pairs:
        other = first.setdefault((pair.split, pair.name), pair)
        if other is not pair:
            one, two = (source.where(each.image or each.label) for each in (other, pair))
            if pair.label == other.label and Path(one).parent != Path(two).parent:
                label = source.where(pair.label)
                problems.append(f"{label} fits two images, {one} and {two}. Choose with --image-folder.")
            else:
                problems.append(
                    f"{two} has the same name as {one}, so their labels would be one file. Rename it."
                )
    return list(first.values()), problems


def _convert_all(conversion: Conversion, pairs: Sequence[SourcePair], workers: int | None) -> _Outcome:
    """Converts all pairs. Raises: UserError if the disk refuses."""
    if workers is None:
        workers = 0 if len(pairs) < _FEW else cpu_count()
    results: dict[int, Converted | Failure] = {}
    with (
        closing(run_guarded(partial(convert, conversion), pairs, workers=workers)) as found,
        tqdm(found, "preparing", len(pairs), unit="image", disable=None) as bar,
    ):
        for number, result in bar:
            if isinstance(result, WorkerDeath):
                read_image = result.mark == READING_IMAGE and pairs[number].image
                file = conversion.source / (pairs[number].image if read_image else pairs[number].label)
                result = Failure(f"The process that read {file} ended ({result.how}).")
            results[number] = result
    outcome = _Outcome({TRAINING: [], VALIDATION: []})
    for number, result in sorted(results.items()):
        if isinstance(result, Failure):
            outcome.failures.append(result)
            continue
        outcome.records[pairs[number].split].append(result.record)
        _add(outcome.values, result.values)
        outcome.assigned.add(result.assigned)
        if result.turned:
            outcome.turned[result.view] += 1
        elif result.view is Fit.UNDECIDED:
            outcome.undecided.append(str(conversion.source / pairs[number].image))
    return outcome


def _add(total: np.ndarray, counts: Counts) -> None:
    values, pixels = counts
    total[values] += pixels


def _refusal(
    source: Path,
    problems: Sequence[Failure],
    total: int,
    advice: Sequence[str],
    notes: Sequence[str],
    options: PrepareOptions,
) -> str:
    """The message for files that cannot be used, with what was noted about the others."""
    lines = [f"{source}: {len(problems)} of {total} images or labels cannot be used:"]
    lines += [problem.text for problem in problems[:_SHOWN]]
    lines += [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    lines += advice
    if not options.skip_bad and len(problems) < total:
        lines.append("Fix them, or omit them with --skip-bad.")
    lines += notes
    return "\n".join(lines)


def _advice(
    problems: Sequence[Failure],
    outcome: _Outcome,
    naming: Naming,
    options: PrepareOptions,
    source: str,
    out: str,
) -> list[str]:
    """What to do about all files of a kind, a sentence or more for each kind."""
    places = {"SOURCE": shlex.quote(source), "OUT": shlex.quote(out)}
    lines = []
    for fix in dict.fromkeys(problem.fix for problem in problems if problem.fix):
        for word, place in places.items():
            fix = fix.replace(f" {word} ", f" {place} ")
        lines.append(fix)
    colors = [problem.colors for problem in problems if len(problem.colors[0])]
    if colors:
        assert isinstance(naming.release.reader, ColorLabels)
        lines.append(describe_unknown(colors, naming.release.reader, naming.names_by_value))
    values = [problem.values for problem in problems if len(problem.values[0])]
    if values:
        total = outcome.values.copy()
        for counts in values:
            _add(total, counts)
        lines.append(naming.complaint(total))
    return lines


def _on_orientation(outcome: _Outcome, options: PrepareOptions) -> list[str]:
    """What was done about images that EXIF turns, in sentences."""
    notes = []
    for view, count in outcome.turned.items():
        one = count == 1
        reason = f"because {'its label fits' if one else 'their labels fit'} that view"
        if view is Fit.UNDECIDED:
            reason = "as --upright says"
        notes.append(
            f"{count} image{'' if one else 's'} with an EXIF orientation {'was' if one else 'were'} written "
            f"upright, {reason}."
        )
    count = len(outcome.undecided)
    if count:
        carry = "1 image carries" if count == 1 else f"{count} images carry"
        notes.append(
            f"{carry} an EXIF orientation, and the size does not show whether the label fits the upright "
            f"view: compare {outcome.undecided[0]} with its label. --upright turns such images; without "
            f"it, training uses the pixels as they are stored."
        )
    return notes


def _on_zeros(naming: Naming, values: np.ndarray) -> list[str]:
    """That 0 stands for unlabelled, in a sentence, if only the default says so."""
    options = naming.options
    stated = (
        options.label_offset is not None or 0 in options.map or None in options.map or 0 in options.ignore
    )
    if naming.own or naming.given is not None or options.format != "folders" or stated or not values[0]:
        return []
    return ["The value 0 is unlabelled. If it is a class (the background): --label-offset 0."]


def _on_foreground(options: PrepareOptions, values: np.ndarray) -> list[str]:
    """Which value of binary masks was taken for the foreground, in sentences."""
    if options.format != "binary" or options.map:
        return []
    share = values[1:].sum() / values.sum()
    inverted = ' If the masks are inverted: --map "0:2, 255:1".' if share > 0.5 else ""
    return [
        f"0 is the class background; the other value is the class foreground, with {share:.1%} of the pixels."
        f"{inverted}"
    ]


def _more_classes(options: PrepareOptions, values: np.ndarray) -> str:
    """How more values become classes, in a sentence. ``values`` is `_Outcome.values`."""
    if options.format in ("labelme", *DRAWN):
        return "--background makes the pixels outside of all shapes a class."
    if options.format == "folders" and values[0] and options.label_offset is None and 0 not in options.map:
        return "If 0 is a class (the background): --label-offset 0."
    return 'Values become classes with --map "V:K, ...".'


def _write_lists(staged: Staging, records: dict[str, list[dict[str, Any]]]) -> None:
    for split, of_split in records.items():
        if of_split:
            staged.write(f"{split}.odgt", "".join(json.dumps(record) + "\n" for record in of_split).encode())


def _config(out: Path, num_class: int, options: PrepareOptions) -> str:
    def quoted(value: Any) -> str:
        return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a YAML string

    return "\n".join(
        [
            f"# Written by mit-semseg data prepare {options.format}, which overwrites it. "
            f"Keep your own keys in another file.",
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
    outcome: _Outcome,
    pixels: np.ndarray,
    classes: ClassTable,
    notes: Sequence[str],
    problems: Sequence[str],
) -> list[str]:
    counts = Counter({split: len(records) for split, records in outcome.records.items()})
    lines = [
        f"{out}: {counts[TRAINING]} training and {counts[VALIDATION]} validation images, "
        f"{len(classes.names)} classes, {pixels[0] / pixels.sum():.1%} of the pixels unlabelled."
    ]
    lines += notes
    absent = [name.split(";")[0] for label, name in enumerate(classes.names, 1) if not pixels[label]]
    if absent:
        lines.append(f"Classes without a pixel: {some(absent, 10)}.")
    if problems:
        lines.append(f"{len(problems)} images or labels were omitted:")
        lines += [f"  {problem}" for problem in problems]
    for split in (TRAINING, VALIDATION):
        if not counts[split]:
            lines.append(f"There is no {split} image, and so no {split}.odgt.")
    if counts[TRAINING]:
        config = str(out / "config.yaml")
        quote = f'"{config}"' if " " in config else config
        lines.append(
            f"Next: python train.py --cfg config/photos-small.yaml --cfg {quote} (or another recipe)"
        )
    return lines
