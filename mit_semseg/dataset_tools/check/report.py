"""The report, as text (lists, classes, notes, and last the problems) and as JSON."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...data.remote import address_of
from ...runtime.files import replacing
from .findings import LINE, CheckedList, Finding, Findings
from .summary import Issue, ListSummary, Summary

_SHOWN = 5  # findings shown of each problem; the rest are counted
_NOTED = 3  # findings shown of each note
_CLASSES = 40  # classes up to which all are shown
_MOST, _LEAST = 20, 10  # of more classes: the most frequent and the rarest
_WIDTH = 100  # characters of a line of prose
_FILES = ("image", "label", "line")  # by `IMAGE`, `LABEL` and `LINE`


def report(summary: Summary) -> str:
    """The report as text, ending with a line break."""
    names = short_names([checked.name for checked in summary.checked])
    lines = [
        *_lists(summary, names),
        *_classes(summary, names),
        *_issues("Notes", summary.notes, summary, names, _NOTED),
        *_issues("Problems", summary.problems, summary, names, _SHOWN),
        "",
        _verdict(summary),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def write_json(summary: Summary, path: str | Path) -> None:
    """Writes the complete report as JSON. An existing file is replaced once the new one is complete.

    The object has these keys. Later versions keep them and may add others::

        version      1
        ok           true without problems
        num_class, num_class_inferred, label_offset, ignore_label (null: none)
        lists        for each list:
            name, root, role        role: "training" or "validation" if a config says so, else ""
            records, unusable_lines, images_read
            sizes                   {"smallest", "median", "largest"}: [width, height] by area, null if none
            orientations            {"landscape", "portrait", "square"}: images
            image_modes, label_modes    {Pillow's mode: files}
            pixels                  {"labelled", "unlabelled", "beyond"}: labelled pixels have a class's value
            values                  for each value that occurs: {"value", "pixels", "labels"}
        classes      for each class:
            class, value, name      class counts from 0; value is the one in the files
            pixels, labels          a number for each list, in their order; labels counts those that show it
        problems, notes             for each issue that was found:
            kind, title, fix        kind is a key of `issue_types.ISSUE_TYPES`
            facts                   sentences about all of its places
            count                   number of places
            places                  for each place:
                list, line          the list's name, the line in it from 1
                image, label        paths as in the list, null for an unusable line
                file                the one in question: "image", "label" or "line"
                window              [left, top, width, height] of a window of a scene, in pixels, or null
                detail              more about it, or ""
                other               the record that it repeats: {"list", "line", "image", "window"}, or null

    Raises: UserError if the disk refuses.
    """

    def plain(findings: Any) -> list[dict[str, Any]]:
        """Called by the encoder for each `Findings`, so that those of one issue at a time are unpacked."""
        if not isinstance(findings, Findings):
            raise TypeError(f"{type(findings).__name__} has no form in JSON")
        return [_place(finding, summary.checked) for finding in findings.unpacked(summary.checked)]

    coding = summary.coding
    tree = {
        "version": 1,
        "ok": not summary.problems,
        "num_class": coding.num_class,
        "num_class_inferred": summary.inferred,
        "label_offset": coding.offset,
        "ignore_label": coding.ignore,
        "lists": [
            _list_numbers(about, summary.pixels[number], summary.labels[number])
            for number, about in enumerate(summary.lists)
        ],
        "classes": [
            {
                "class": k,
                "value": coding.offset + k,
                "name": name,
                "pixels": summary.pixels[:, coding.offset + k].tolist(),
                "labels": summary.labels[:, coding.offset + k].tolist(),
            }
            for k, name in enumerate(summary.names)
        ],
        "problems": [_issue(issue) for issue in summary.problems],
        "notes": [_issue(issue) for issue in summary.notes],
    }
    with replacing(path) as file:
        # As ASCII, because names may hold characters that UTF-8 cannot; in pieces, because it may be long.
        for piece in json.JSONEncoder(indent=1, default=plain).iterencode(tree):
            file.write(piece.encode("ascii"))
        file.write(b"\n")


def short_names(paths: Sequence[str]) -> list[str]:
    """File names without their folders, unless two would be equal."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def printable(text: str) -> str:
    """A text with control characters escaped: names from a list must not control the terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _lists(summary: Summary, names: list[str]) -> Iterator[str]:
    yield from _table(
        ["Lists", *names],
        [
            ("records", [f"{len(about.checked.records):,}" for about in summary.lists]),
            ("images read", [f"{about.images_read:,}" for about in summary.lists]),
            *(
                (name, [f"{about.orientations[name]:,}" for about in summary.lists])
                for name in ("landscape", "portrait", "square")
            ),
            *(
                (name, [_size(about.sizes[name]) for about in summary.lists])
                for name in ("smallest", "median", "largest")
            ),
            ("image modes", [_modes(about.image_modes) for about in summary.lists]),
            ("label modes", [_modes(about.label_modes) for about in summary.lists]),
        ],
    )
    yield ""
    roots = dict.fromkeys(about.checked.root for about in summary.lists)
    names = [address_of(root) or str(Path(root).absolute()) for root in roots]
    yield f"Root folder: {printable(', '.join(names))}"
    coding = summary.coding
    if summary.inferred and not summary.pixels.any():
        yield "Classes: unknown, because no label could be read."
        return
    first, last = coding.offset, coding.offset + (coding.num_class or 1) - 1
    ignored = [str(value) for value in range(first)] if first < 4 else [f"0 to {first - 1}"]
    ignored += [str(coding.ignore)] if coding.ignore is not None else []
    unlabelled = f"; {' and '.join(ignored)} unlabelled" if ignored else ""
    inferred = " (inferred from the highest value)" if summary.inferred else ""
    yield f"Classes: {coding.num_class}{inferred}, with the values {first} to {last}{unlabelled}."


def _classes(summary: Summary, names: list[str]) -> Iterator[str]:
    """Each class with its share of the labelled pixels and the number of labels that show it."""
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
            cells.append(
                f"{_percent(pixels, about.pixels['labelled'])} {summary.labels[number, offset + k]:>7,}"
            )
        rows.append((f"{offset + k:>{width}}  {printable(summary.names[k])}", cells))
    if gap:
        rows.insert(
            gap, (f"{'':>{width}}  ... {len(summary.names) - len(order):,} more ...", [""] * len(names))
        )
    for kind in ("unlabelled", "beyond"):
        if kind == "unlabelled" or any(about.pixels[kind] for about in summary.lists):
            cells = [_percent(about.pixels[kind], sum(about.pixels.values())) for about in summary.lists]
            rows.append((" " * width + f"  ({kind})", [cell + " " * 8 for cell in cells]))
    rows.insert(0, ("", [f"{'pixels':>8} {'labels':>7}"] * len(names)))
    yield from _table(["Classes, the most frequent first" if gap else "Classes", *names], rows)


def _selection(pixels: np.ndarray) -> tuple[list[int], int]:
    """The classes to show, and how many of them come before the gap; 0 if all are shown."""
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
        yield f"  {issue.title}" + (f": {len(issue.findings):,}" if len(issue.findings) else "")
        for fact in issue.facts:
            yield from _wrapped(printable(fact), "      ")
        for finding in islice(issue.findings.unpacked(summary.checked), most):
            yield f"      {printable(_finding(finding, names))}"
        if len(issue.findings) > most:
            yield f"      ... and {len(issue.findings) - most:,} more"
        yield from _wrapped(f"-> {issue.fix}", "    ", "       ")


def _finding(finding: Finding, names: list[str]) -> str:
    where = f"{names[finding.list]}:{finding.line}"
    if finding.file == LINE:
        return f"{where} {finding.detail}"
    repeated = finding.repeats
    same = ""
    if repeated:
        same = f" = {names[repeated.list]}:{repeated.line} {repeated.image}{_window(repeated.window)}"
    window = _window(finding.window)
    return f"{where} {finding.path}{window}{same}" + (f" ({finding.detail})" if finding.detail else "")


def _window(window: tuple[int, int, int, int] | None) -> str:
    if window is None:
        return ""
    left, top, width, height = window
    return f" [rows {top} to {top + height - 1}, columns {left} to {left + width - 1}]"


def _verdict(summary: Summary) -> str:
    records = sum(len(about.checked.records) for about in summary.lists)
    if not summary.problems:
        return f"No problems in {records:,} record{'' if records == 1 else 's'}."
    count = len(summary.problems)
    found = "1 kind of problem" if count == 1 else f"{count} kinds of problems"
    return f"{found} in {records:,} record{'' if records == 1 else 's'}."


def _table(header: list[str], rows: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    """Columns as wide as their cells: the first aligned left, the others right."""
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


def _list_numbers(about: ListSummary, pixels: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "name": about.checked.name,
        "root": about.checked.root,
        "role": about.checked.role,
        "records": len(about.checked.records),
        "unusable_lines": about.unusable_lines,
        "images_read": about.images_read,
        "sizes": about.sizes,
        "orientations": about.orientations,
        "image_modes": about.image_modes,
        "label_modes": about.label_modes,
        "pixels": about.pixels,
        "values": [
            {"value": value, "pixels": int(pixels[value]), "labels": int(labels[value])}
            for value in pixels.nonzero()[0].tolist()
        ],
    }


def _issue(issue: Issue) -> dict[str, Any]:
    return {
        "kind": issue.kind,
        "title": issue.title,
        "fix": issue.fix,
        "facts": issue.facts,
        "count": len(issue.findings),
        "places": issue.findings,
    }


def _place(finding: Finding, lists: Sequence[CheckedList]) -> dict[str, Any]:
    line, repeated = finding.file == LINE, finding.repeats
    return {
        "list": lists[finding.list].name,
        "line": finding.line,
        "image": None if line else finding.image,
        "label": None if line else finding.label,
        "file": _FILES[finding.file],
        "window": finding.window,
        "detail": finding.detail,
        "other": repeated and {**asdict(repeated), "list": lists[repeated.list].name},
    }
