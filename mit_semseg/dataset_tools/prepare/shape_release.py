"""From what a labelling tool says about each image to a `Release`."""

from collections import Counter
from collections.abc import Iterable

from tqdm import tqdm

from ...data.classes import ClassTable, palette
from ...errors import UserError
from .drawn import Classes, Drawn, is_name
from .names import NO_CLASS, read_names
from .release import PrepareOptions, Release
from .shape_labels import ShapeLabels
from .shapes import LATER
from .source import SourceFolder, some
from .survey import Survey

_IGNORED = (*NO_CLASS, "_background_")  # names of shapes whose pixels are ignored


def release_of(
    source: SourceFolder, options: PrepareOptions, drawn: Iterable[Drawn], classes: Classes, *, wanted: str
) -> Release:
    """The release of what a tool's files say.

    Args:
        classes: complete when ``drawn`` is exhausted.
        wanted: what a source of this format holds, for the error if there is nothing.

    Raises: NothingFoundError if the files name no image; UserError if the source has none of the images that
        they name, or if no image has a shape.
    """
    survey = Survey(source)
    for one in tqdm(drawn, "reading shapes", unit="image", disable=None):
        survey.add(one)
    survey.finish(wanted)
    numbers, table, notes = _numbered(survey.used, classes, options)
    background = numbers.get(options.background or "", 0)
    if not background:
        notes.append(
            "Pixels outside of all shapes are unlabelled, so training ignores them; --background makes them "
            "a class."
        )
    colors = table.colors.tolist()
    return Release(
        survey.pairs(),
        ShapeLabels(source.path, survey.spool, survey.places, numbers, options.overlap or LATER, background),
        coding={0: 0, **{k: k for k in range(1, len(table.names) + 1)}},
        classes=table,
        values={k: (name, tuple(colors[k - 1])) for k, name in enumerate(table.names, 1)},
        notes=[*classes.notes, *survey.notes(), *notes],
        problems=survey.problems,
    )


def _numbered(
    used: Counter[str], classes: Classes, options: PrepareOptions
) -> tuple[dict[str, int], ClassTable, list[str]]:
    """The label of each name, the classes, and notes."""
    colors = {name: color for name, color in classes.colors.items() if is_name(name)}
    if classes.by_name:
        colors |= dict.fromkeys(sorted(used.keys() - colors.keys()))  # with names, as `Survey` has checked
    notes = []
    ignored = [name for name in colors if name.casefold() in _IGNORED]
    if ignored:
        notes.append(f"Ignored, by their names: {', '.join(ignored)}.")
    if options.names is not None:
        names = list(read_names(options.names).table.names)
        if options.background is not None and options.background not in names:
            raise UserError(f'{options.names} does not name the background, "{options.background}".')
        left = [f'"{name}" ({used[name]})' for name in sorted(used.keys() - {*names, *ignored})]
        if left:
            notes.append(f"Shapes that {options.names} does not name are omitted: {some(left, 10)}.")
    else:
        names = [name for name in colors if name not in ignored]
        if options.background is not None and options.background not in names:
            names.insert(0, options.background)
    if len(names) > 65535:
        raise UserError(f"The files name {len(names)} classes, but at most 65535 are possible.")
    table = palette(len(names))
    for k, name in enumerate(names):
        color = colors.get(name)
        table[k] = table[k] if color is None else color
    numbers = {**dict.fromkeys(ignored, 0), **{name: k for k, name in enumerate(names, 1)}}
    return numbers, ClassTable(tuple(names), table), notes
