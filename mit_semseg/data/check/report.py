"""The report as text: the lists, the classes, the notes and, last, where the eye stays, the problems."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from .places import LINE, Place
from .summary import Issue, ListSummary, Summary

_PLACES = 5  # places shown of each problem; the rest are counted
_NOTED = 3  # and of each note
_CLASSES = 40  # classes up to which all are shown
_MOST, _LEAST = 20, 10  # of more classes, the most frequent and the rarest
_WIDTH = 100  # characters of a line of prose


def report(summary: Summary) -> str:
    """The whole report, ending with a line break."""
    names = short_names([source.name for source in summary.sources])
    lines = [
        *_lists(summary, names),
        *_classes(summary, names),
        *_issues("Notes", summary.notes, summary, names, _NOTED),
        *_issues("Problems", summary.problems, summary, names, _PLACES),
        "",
        _verdict(summary),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def short_names(paths: Sequence[str]) -> list[str]:
    """File names without their folders, unless two would be the same."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def printable(text: str) -> str:
    """A text without control characters, which a name from a list may bring to the terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _lists(summary: Summary, names: list[str]) -> Iterator[str]:
    yield from _table(
        ["Lists", *names],
        [
            ("records", [f"{len(about.source.records):,}" for about in summary.lists]),
            ("images read", [f"{about.images:,}" for about in summary.lists]),
            ("landscape", [f"{about.landscape:,}" for about in summary.lists]),
            ("portrait", [f"{about.portrait:,}" for about in summary.lists]),
            ("square", [f"{about.square:,}" for about in summary.lists]),
            ("smallest", [_size(about.smallest) for about in summary.lists]),
            ("median", [_size(about.median) for about in summary.lists]),
            ("largest", [_size(about.largest) for about in summary.lists]),
            ("image modes", [_modes(about.image_modes) for about in summary.lists]),
            ("label modes", [_modes(about.label_modes) for about in summary.lists]),
        ],
    )
    yield ""
    roots = list(dict.fromkeys(about.source.root for about in summary.lists))
    yield f"Root folder: {printable(', '.join(str(Path(root).absolute()) for root in roots))}"
    coding = summary.coding
    if summary.inferred and not summary.pixels.any():
        yield "Classes: unknown, because no label could be read."
        return
    first, last = coding.offset, coding.offset + (coding.num_class or 1) - 1
    ignored = [str(value) for value in range(first)] if first < 4 else [f"0 to {first - 1}"]
    ignored += [str(coding.ignore)] if coding.ignore is not None else []
    unlabelled = f"; {' and '.join(ignored)} unlabelled" if ignored else ""
    inferred = " (inferred from the highest value)" if summary.inferred else ""
    yield f"Classes: {coding.num_class}{inferred}, which are the values {first} to {last}{unlabelled}."


def _classes(summary: Summary, names: list[str]) -> Iterator[str]:
    """Of each class its share of the labelled pixels, and how many labels show it."""
    if not summary.pixels.any():
        return
    yield ""
    offset = summary.coding.offset
    order, gap = _selection(summary.pixels[:, offset : offset + len(summary.names)].sum(0))
    width = len(str(offset + len(summary.names)))
    rows = []
    for k in order:
        cells = []
        for number, about in enumerate(summary.lists):
            pixels = int(summary.pixels[number, offset + k])
            cells.append(f"{_percent(pixels, about.labelled)} {summary.labels[number, offset + k]:>7,}")
        rows.append((f"{offset + k:>{width}}  {printable(summary.names[k])}", cells))
    if gap:
        rows.insert(
            gap, (f"{'':>{width}}  ... {len(summary.names) - len(order):,} more ...", [""] * len(names))
        )
    rows.append(
        (" " * width + "  (unlabelled)", [_of_all(about.unlabelled, about) for about in summary.lists])
    )
    if any(about.beyond for about in summary.lists):
        rows.append((" " * width + "  (beyond)", [_of_all(about.beyond, about) for about in summary.lists]))
    rows.insert(0, ("", [f"{'pixels':>8} {'labels':>7}"] * len(names)))
    yield from _table(["Classes, the most frequent first" if gap else "Classes", *names], rows)


def _selection(pixels: np.ndarray) -> tuple[list[int], int]:
    """The classes to show, and how many of them come before those that are left out; 0 if none are."""
    if len(pixels) <= _CLASSES:
        return list(range(len(pixels))), 0
    order = np.argsort(-pixels, kind="stable")
    occurring = order[: int((pixels > 0).sum())].tolist()
    if len(occurring) <= _MOST + _LEAST:
        return occurring, len(occurring)
    return [*occurring[:_MOST], *occurring[-_LEAST:]], _MOST


def _issues(
    title: str, issues: tuple[Issue, ...], summary: Summary, names: list[str], most: int
) -> Iterator[str]:
    if not issues:
        return
    yield ""
    yield title
    for issue in issues:
        yield ""
        yield f"  {issue.title}" + (f": {len(issue.places):,}" if len(issue.places) else "")
        for fact in issue.facts:
            yield from _wrapped(printable(fact), "      ")
        for place in islice(issue.places.spelled(summary.sources), most):
            yield f"      {printable(_place(place, names))}"
        if len(issue.places) > most:
            yield f"      ... and {len(issue.places) - most:,} more"
        yield from _wrapped(f"-> {issue.fix}", "    ", "       ")


def _place(place: Place, names: list[str]) -> str:
    where = f"{names[place.source]}:{place.line}"
    if place.file == LINE:
        return f"{where} {place.detail}"
    other = place.other
    same = f" = {names[other.source]}:{other.line} {other.image}" if other else ""
    return f"{where} {place.path}{same}" + (f" ({place.detail})" if place.detail else "")


def _verdict(summary: Summary) -> str:
    records = sum(len(about.source.records) for about in summary.lists)
    if not summary.problems:
        return f"No problems in {records:,} record{'' if records == 1 else 's'}."
    kinds = len(summary.problems)
    found = "1 kind of problem" if kinds == 1 else f"{kinds} kinds of problems"
    return f"{found} in {records:,} record{'' if records == 1 else 's'}."


def _table(header: list[str], rows: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    lines = [header, *([f"  {name}", *cells] for name, cells in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
        yield "   ".join([f"{line[0]:<{widths[0]}}", *cells])


def _wrapped(text: str, indent: str, later: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=later or indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]} x {size[1]}" if size else "-"


def _modes(modes: dict[str, int]) -> str:
    return ", ".join(modes) or "-" if len(modes) < 2 else ", ".join(f"{m} {n:,}" for m, n in modes.items())


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:>8.2%}" if part else f"{'-':>8}"


def _of_all(pixels: int, about: ListSummary) -> str:
    """A share of all pixels, in the column of the shares."""
    return _percent(pixels, about.unlabelled + about.labelled + about.beyond) + " " * 8
