"""From the tally to what is reported: the classes, the sizes, and every kind of problem with its fix."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..labels import LabelCoding
from .compare import VOID, labelled, values_beyond
from .kinds import KINDS
from .places import Places, Source
from .tally import Tally

_FEW = 8  # values or classes spelled out in a line of text; the rest are counted


@dataclass(frozen=True, slots=True)
class Issue:
    """One kind of problem, or note, that was found."""

    kind: str
    title: str
    fix: str
    note: bool
    facts: tuple[str, ...] = ()
    """Sentences about all of it."""
    places: Places = field(default_factory=Places)


@dataclass(frozen=True, slots=True)
class ListSummary:
    """One list in numbers. Sizes are (width, height) in pixels, by area; None if no image was read."""

    source: Source
    unusable: int
    images: int
    """How many could be read."""
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    landscape: int
    portrait: int
    square: int
    image_modes: dict[str, int]
    label_modes: dict[str, int]
    unlabelled: int
    """Pixels."""
    labelled: int
    """Pixels with a value of a class."""
    beyond: int
    """Pixels with a value beyond the classes."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All there is to report."""

    lists: tuple[ListSummary, ...]
    coding: LabelCoding
    inferred: bool
    """Whether the number of classes is the highest value's."""
    names: tuple[str, ...]
    pixels: np.ndarray
    """(lists, 65536) int64, for each value."""
    labels: np.ndarray
    """(lists, 65536) int64, how many labels hold each value."""
    problems: tuple[Issue, ...]
    notes: tuple[Issue, ...]

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(about.source for about in self.lists)


def summarize(tally: Tally, names: Sequence[str] = (), same_list: bool = False) -> Summary:
    """What a complete tally comes to.

    Args:
        names: of the classes, "class 1" and so on if there are none.
        same_list: whether training and validation name the same list, which is then checked once.
    """
    inferred = tally.coding.num_class is None
    coding = tally.coding
    if inferred:
        coding = LabelCoding(infer_num_class(tally.pixels.sum(0), coding), coding.offset, coding.ignore)
    num_class = coding.num_class or 0
    names = tuple(names) or tuple(f"class {k}" for k in range(1, num_class + 1))
    lists = tuple(_summarize_list(tally, number, coding) for number in range(len(tally.sources)))
    issues = _issues(tally, coding, inferred, names, lists, same_list)
    return Summary(
        lists,
        coding,
        inferred,
        names,
        tally.pixels,
        tally.labels,
        tuple(issue for issue in issues if not issue.note),
        tuple(issue for issue in issues if issue.note),
    )


def infer_num_class(pixels: np.ndarray, coding: LabelCoding) -> int:
    """The number of classes that the values in use speak for, at least 1.

    255 and 65535 are taken for unlabelled if the value before them is not in use.

    Args:
        pixels: how often each value occurs, (65536,).
    """
    values = np.flatnonzero(pixels)
    values = values[labelled(values, coding)]
    while len(values) and values[-1] in VOID and values[-1] - 1 not in values:
        values = values[:-1]
    return max(1, int(values[-1]) - coding.offset + 1) if len(values) else 1


def _summarize_list(tally: Tally, number: int, coding: LabelCoding) -> ListSummary:
    sizes = tally.sizes[tally.starts[number] : tally.starts[number + 1]]
    sizes = sizes[sizes[:, 0] > 0]
    order = np.argsort(sizes.astype(np.int64).prod(1), kind="stable")
    picked: list[tuple[int, int] | None] = [None] * 3
    if len(order):
        ends = (order[0], order[(len(order) - 1) // 2], order[-1])
        picked = [(int(sizes[at, 0]), int(sizes[at, 1])) for at in ends]
    values = np.flatnonzero(tally.pixels[number])
    counts = tally.pixels[number, values]
    beyond = np.isin(values, values_beyond(values, coding))
    unusable = tally.places.get("unusable_line")
    return ListSummary(
        source=tally.sources[number],
        unusable=unusable.count(number) if unusable else 0,
        images=len(sizes),
        smallest=picked[0],
        median=picked[1],
        largest=picked[2],
        landscape=int((sizes[:, 0] > sizes[:, 1]).sum()),
        portrait=int((sizes[:, 0] < sizes[:, 1]).sum()),
        square=int((sizes[:, 0] == sizes[:, 1]).sum()),
        image_modes={mode: count for mode, count in tally.image_modes[number].most_common() if count},
        label_modes={mode: count for mode, count in tally.label_modes[number].most_common() if count},
        unlabelled=int(counts[~labelled(values, coding)].sum()),
        labelled=int(counts[labelled(values, coding) & ~beyond].sum()),
        beyond=int(counts[beyond].sum()),
    )


def _issues(
    tally: Tally,
    coding: LabelCoding,
    inferred: bool,
    names: tuple[str, ...],
    lists: tuple[ListSummary, ...],
    same_list: bool,
) -> list[Issue]:
    """All problems and notes, in the order of `KINDS`."""
    places = dict(tally.places)
    facts: dict[str, tuple[str, ...]] = {}
    fixes: dict[str, str] = {}
    pixels = tally.pixels.sum(0)
    values = np.flatnonzero(pixels)
    beyond = values_beyond(values, coding)
    if len(beyond):
        kind = "binary_mask" if beyond.tolist() == [255] and set(values.tolist()) <= {0, 255} else "beyond"
        if inferred:
            places[kind] = _merged([tally.void[value] for value in VOID if value in beyond])
        else:
            places[kind] = places.pop("beyond")
        facts[kind] = tuple(_value_fact(value, tally) for value in beyond[:_FEW].tolist())
        if len(beyond) > _FEW:
            facts[kind] += (f"and {len(beyond) - _FEW} more values, up to {beyond[-1]}",)
        fixes[kind] = _fix_beyond(beyond.tolist(), coding) if kind == "beyond" else ""
    if same_list:
        facts["same_list"] = ()
    missing = {about.source.name: _missing(tally, number, coding) for number, about in enumerate(lists)}
    facts["class_missing"] = tuple(
        f"{name}: {len(classes)} of {coding.num_class}: {_named(classes, names)}"
        for name, classes in missing.items()
        if classes and not inferred
    )
    facts["class_untrained"] = _untrained(lists, missing, names)
    facts["mostly_unlabelled"] = tuple(
        f"{about.source.name}: {about.unlabelled / total:.1%}"
        for about in lists
        if (total := about.unlabelled + about.labelled + about.beyond) and about.unlabelled > total / 2
    )
    if inferred and len(values):
        facts["num_class_inferred"] = (f"{coding.num_class} are assumed, from the highest value.",)
    first, last = coding.offset, coding.offset + (coding.num_class or 1) - 1
    found = []
    for key, kind_of in KINDS.items():
        if key not in places and not facts.get(key) and not (key == "same_list" and same_list):
            continue
        fix = fixes.get(key) or kind_of.fix.format(first=first, last=last, below=max(0, first - 1))
        found.append(
            Issue(key, kind_of.title, fix, kind_of.note, facts.get(key, ()), places.get(key, Places()))
        )
    return found


def _merged(all_places: list[Places]) -> Places:
    merged = Places()
    for places in all_places:
        merged.extend(places)
    return merged


def _value_fact(value: int, tally: Tally) -> str:
    pixels, labels = (int(counts[:, value].sum()) for counts in (tally.pixels, tally.labels))
    share = pixels / tally.pixels.sum()
    return f"value {value}: {pixels:,} pixels ({share:.2%}) in {labels:,} label{'s' * (labels > 1)}"


def _fix_beyond(beyond: list[int], coding: LabelCoding) -> str:
    """The fix for values beyond the classes, which depends on the values."""
    first, last = coding.offset, coding.offset + (coding.num_class or 1) - 1
    fixes = [
        f"If {value} stands for unlabelled, set DATASET.ignore_label {value} (--ignore-label)."
        for value in VOID
        if value in beyond
    ]
    if not set(beyond) <= set(VOID):
        fixes.append(KINDS["beyond"].fix.format(first=first, last=last))
    return " ".join(fixes)


def _missing(tally: Tally, number: int, coding: LabelCoding) -> list[int]:
    """Classes of which a list has no pixel, from 0."""
    values = tally.pixels[number, coding.offset : coding.offset + (coding.num_class or 0)]
    return np.flatnonzero(values == 0).tolist() if values.any() else []


def _untrained(
    lists: tuple[ListSummary, ...], missing: dict[str, list[int]], names: tuple[str, ...]
) -> tuple[str, ...]:
    by_role = {about.source.role: missing[about.source.name] for about in lists if about.labelled}
    if not {"training", "validation"} <= set(by_role):
        return ()
    untrained = sorted(set(by_role["training"]) - set(by_role["validation"]))
    return (_named(untrained, names),) if untrained else ()


def _named(classes: list[int], names: tuple[str, ...]) -> str:
    more = f" and {len(classes) - _FEW} more" if len(classes) > _FEW else ""
    return ", ".join(names[k] for k in classes[:_FEW]) + more
