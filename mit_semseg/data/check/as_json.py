"""The report as JSON, with complete lists of files; written piece by piece, since they may be long.

An object with these keys, which later versions keep (they may add to them)::

    version      1
    ok           whether there are no problems
    num_class, num_class_inferred, label_offset, ignore_label (null: none)
    lists        of each list:
        name, root, role        role: "training" or "validation" if a config says so, else ""
        records, unusable_lines, images_read
        sizes                   {"smallest", "median", "largest"}: [width, height] by area, null if none
        orientations            {"landscape", "portrait", "square"}: images
        image_modes, label_modes    {Pillow's mode: files}
        pixels                  {"labelled", "unlabelled", "beyond"}: labelled pixels have a value of a class
        values                  of each value that occurs: {"value", "pixels", "labels"}
    classes      of each class:
        class, value, name      class counts from 0; value is that in the files
        pixels, labels          a number for each list, in their order; labels counts those that show it
    problems, notes             of each kind that was found:
        kind, title, fix        kind is a key of `kinds.KINDS`
        facts                   sentences about all of it
        count                   of places
        places                  of each place:
            list, line          the list's name, the line in it from 1
            image, label        paths as in the list, null for an unusable line
            file                "image", "label" or "line": the one in question
            detail              what there is to say, or ""
            other               the record that it repeats: {"list", "line", "image"}, or null
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...atomic import replacing
from .places import LINE, Place, Source
from .summary import Issue, ListSummary, Summary

_FILES = ("image", "label", "line")


def write_json(summary: Summary, path: str | Path) -> None:
    """Writes the report; a file that was there is replaced when it is complete.

    Raises: UserError if the disk refuses.
    """
    encoder = json.JSONEncoder(indent=1)  # ASCII: a name may hold what UTF-8 cannot
    with replacing(path) as file:
        for piece in encoder.iterencode(_tree(summary)):
            file.write(piece.encode("ascii"))
        file.write(b"\n")


class _Lazy(list[Any]):
    """A list for the encoder whose items are made one at a time, as it comes to them."""

    def __init__(self, length: int, items: Callable[[], Iterator[Any]]) -> None:
        self._length = length
        self._items = items

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return self._items()


def _tree(summary: Summary) -> dict[str, Any]:
    coding = summary.coding
    return {
        "version": 1,
        "ok": not summary.problems,
        "num_class": coding.num_class,
        "num_class_inferred": summary.inferred,
        "label_offset": coding.offset,
        "ignore_label": coding.ignore,
        "lists": [_list(summary, number, about) for number, about in enumerate(summary.lists)],
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
        "problems": [_issue(issue, summary) for issue in summary.problems],
        "notes": [_issue(issue, summary) for issue in summary.notes],
    }


def _list(summary: Summary, number: int, about: ListSummary) -> dict[str, Any]:
    pixels, labels = summary.pixels[number], summary.labels[number]
    return {
        "name": about.source.name,
        "root": about.source.root,
        "role": about.source.role,
        "records": len(about.source.records),
        "unusable_lines": about.unusable,
        "images_read": about.images,
        "sizes": {"smallest": about.smallest, "median": about.median, "largest": about.largest},
        "orientations": {
            "landscape": about.landscape,
            "portrait": about.portrait,
            "square": about.square,
        },
        "image_modes": about.image_modes,
        "label_modes": about.label_modes,
        "pixels": {
            "labelled": about.labelled,
            "unlabelled": about.unlabelled,
            "beyond": about.beyond,
        },
        "values": [
            {"value": value, "pixels": int(pixels[value]), "labels": int(labels[value])}
            for value in pixels.nonzero()[0].tolist()
        ],
    }


def _issue(issue: Issue, summary: Summary) -> dict[str, Any]:
    sources = summary.sources

    def places() -> Iterator[dict[str, Any]]:
        return (_place(place, sources) for place in issue.places.spelled(sources))

    return {
        "kind": issue.kind,
        "title": issue.title,
        "fix": issue.fix,
        "facts": issue.facts,
        "count": len(issue.places),
        "places": _Lazy(len(issue.places), places),
    }


def _place(place: Place, sources: Sequence[Source]) -> dict[str, Any]:
    line, other = place.file == LINE, place.other
    return {
        "list": sources[place.source].name,
        "line": place.line,
        "image": None if line else place.image,
        "label": None if line else place.label,
        "file": _FILES[place.file],
        "detail": place.detail,
        "other": other and {"list": sources[other.source].name, "line": other.line, "image": other.image},
    }
