"""From the tally to the content of the report: classes, sizes, and every issue with its fix."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...data.label_coding import LabelCoding
from ...data.label_diagnosis import VOID, Diagnosis, diagnose
from .findings import CheckedList, Findings
from .issue_types import ISSUE_TYPES
from .sequences import shared_sequences
from .tally import DatasetTally, labelled, values_beyond

_FEW = 8  # values or classes spelled out in a line of text; the rest are counted


@dataclass(frozen=True, slots=True)
class Issue:
    """A problem or note that was found, with all its occurrences."""

    kind: str
    """A key of `issue_types.ISSUE_TYPES`."""
    title: str
    fix: str
    note: bool
    facts: tuple[str, ...] = ()
    """Sentences about all of its occurrences."""
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class ListSummary:
    """One list in numbers."""

    checked: CheckedList
    unusable_lines: int
    images_read: int
    sizes: dict[str, tuple[int, int] | None]
    """"smallest", "median" and "largest" (width, height) by area, in pixels; None if no image was read."""
    orientations: dict[str, int]
    """"landscape", "portrait" and "square" -> number of images."""
    image_modes: dict[str, int]
    """Pillow's mode -> number of files."""
    label_modes: dict[str, int]
    pixels: dict[str, int]
    """"labelled" (with the value of a class), "unlabelled" and "beyond" (the classes) -> number of pixels."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The content of the report."""

    lists: tuple[ListSummary, ...]
    coding: LabelCoding
    inferred: bool
    """Whether the number of classes is inferred from the highest value."""
    names: tuple[str, ...]
    pixels: np.ndarray
    """(lists, 65536) int64, number of pixels of each value."""
    labels: np.ndarray
    """(lists, 65536) int64, number of labels that hold each value."""
    problems: tuple[Issue, ...]
    notes: tuple[Issue, ...]

    @property
    def checked(self) -> tuple[CheckedList, ...]:
        return tuple(about.checked for about in self.lists)


def summarize(tally: DatasetTally, names: Sequence[str] = (), same_list: bool = False) -> Summary:
    """The summary of a complete tally.

    Args:
        names: of the classes; by default "class 1" and so on.
        same_list: whether training and validation name the same list, which is then checked once.
    """
    inferred = tally.coding.num_class is None
    coding = tally.coding
    if inferred:
        coding = LabelCoding(infer_num_class(tally.pixels.sum(0), coding), coding.offset, coding.ignore)
    num_class = coding.num_class or 0
    names = tuple(names) or tuple(f"class {k}" for k in range(1, num_class + 1))
    lists = tuple(_summarize_list(tally, number, coding) for number in range(len(tally.lists)))
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
    """The number of classes that the values in use suggest, at least 1.

    255 and 65535 count as unlabelled if the value before them is not in use.

    Args:
        pixels: number of pixels of each value, (65536,).
    """
    values = np.flatnonzero(pixels)
    values = values[labelled(values, coding)]
    while len(values) and values[-1] in VOID and values[-1] - 1 not in values:
        values = values[:-1]
    return max(1, int(values[-1]) - coding.offset + 1) if len(values) else 1


def _summarize_list(tally: DatasetTally, number: int, coding: LabelCoding) -> ListSummary:
    sizes = tally.sizes[tally.starts[number] : tally.starts[number + 1]]
    sizes = sizes[sizes[:, 0] > 0]
    order = np.argsort(sizes.astype(np.int64).prod(1), kind="stable")
    picked: list[tuple[int, int] | None] = [None] * 3
    if len(order):
        ends = (order[0], order[(len(order) - 1) // 2], order[-1])
        picked = [(int(sizes[at, 0]), int(sizes[at, 1])) for at in ends]
    values = np.flatnonzero(tally.pixels[number])
    counts = tally.pixels[number, values]
    has_label, beyond = labelled(values, coding), np.isin(values, values_beyond(values, coding))
    unusable = tally.findings.get("unusable_line")
    return ListSummary(
        tally.lists[number],
        unusable_lines=unusable.count(number) if unusable else 0,
        images_read=len(sizes),
        sizes=dict(zip(("smallest", "median", "largest"), picked, strict=True)),
        orientations={
            "landscape": int((sizes[:, 0] > sizes[:, 1]).sum()),
            "portrait": int((sizes[:, 0] < sizes[:, 1]).sum()),
            "square": int((sizes[:, 0] == sizes[:, 1]).sum()),
        },
        image_modes={mode: count for mode, count in tally.image_modes[number].most_common() if count},
        label_modes={mode: count for mode, count in tally.label_modes[number].most_common() if count},
        pixels={
            "labelled": int(counts[has_label & ~beyond].sum()),
            "unlabelled": int(counts[~has_label].sum()),
            "beyond": int(counts[beyond].sum()),
        },
    )


def _issues(
    tally: DatasetTally,
    coding: LabelCoding,
    inferred: bool,
    names: tuple[str, ...],
    lists: tuple[ListSummary, ...],
    same_list: bool,
) -> list[Issue]:
    """All problems and notes, in the order of `ISSUE_TYPES`."""
    findings = dict(tally.findings)
    facts: dict[str, tuple[str, ...]] = {}
    fixes: dict[str, str] = {}
    pixels = tally.pixels.sum(0)
    values = np.flatnonzero(pixels)
    diagnosis = diagnose(values, pixels[values], tally.coding) if len(values) else None
    if diagnosis:
        kind = diagnosis.kind
        beyond = values_beyond(values, coding)
        if inferred:
            findings[kind] = _merged([tally.void[value] for value in VOID if value in beyond])
        elif "beyond" in findings:
            findings[kind] = findings.pop("beyond")
        facts[kind] = (
            f"The labels {diagnosis.says}.",
            *(_value_fact(v, tally) for v in beyond[:_FEW].tolist()),
        )
        if len(beyond) > _FEW:
            facts[kind] += (f"and {len(beyond) - _FEW} more values, up to {beyond[-1]}",)
        fixes[kind] = _fix(diagnosis)
    elif empty := [
        about.checked.name for about in lists if about.pixels["unlabelled"] and not about.pixels["labelled"]
    ]:
        facts["nothing_labelled"] = tuple(f"{name} has no pixel that belongs to a class." for name in empty)
    if same_list:
        facts["same_list"] = ()
    facts["moved"] = tuple(
        f"{name}: all {images} labels together fit better {move}."
        for name, (images, move) in tally.common_moves().items()
    )
    if tally.with_bands:
        facts["band_types"] = _band_types(lists)
    facts["nodata"] = _nodata(tally)
    facts["damaged"] = tuple(
        f"{path}: {count} window{'s' * (count > 1)} cannot be read."
        for path, count in tally.unread.items()
        if count
    )
    facts["several_systems"] = _several_systems(tally)
    facts["shared_scene"] = _shared_scenes(lists)
    facts["shared_sequence"] = _shared_sequences(lists)
    missing = {about.checked.name: _missing(tally, number, coding) for number, about in enumerate(lists)}
    facts["class_missing"] = tuple(
        f"{name}: {len(classes)} of {coding.num_class}: {_named(classes, names)}"
        for name, classes in missing.items()
        if classes and not inferred
    )
    facts["class_untrained"] = _untrained(lists, missing, names)
    facts["mostly_unlabelled"] = tuple(
        f"{about.checked.name}: {about.pixels['unlabelled'] / total:.1%}"
        for about in lists
        if (total := sum(about.pixels.values())) and about.pixels["unlabelled"] > total / 2
        if diagnosis is None  # its fix is another one
    )
    if inferred and len(values):
        facts["num_class_inferred"] = (f"{coding.num_class} classes are assumed, from the highest value.",)
    first, last = coding.offset, coding.offset + (coding.num_class or 1) - 1
    found = []
    for key, issue_type in ISSUE_TYPES.items():
        if key not in findings and not facts.get(key) and not (key == "same_list" and same_list):
            continue
        fix = fixes.get(key) or issue_type.fix.format(first=first, last=last, below=max(0, first - 1))
        found.append(
            Issue(
                key,
                issue_type.title,
                fix,
                issue_type.note,
                facts.get(key, ()),
                findings.get(key, Findings()),
            )
        )
    return found


def _band_types(lists: tuple[ListSummary, ...]) -> tuple[str, ...]:
    """The counts and types of bands in each list, if they are not all the same."""
    if len({mode for about in lists for mode in about.image_modes}) < 2:
        return ()
    return tuple(
        f"{about.checked.name}: "
        + ", ".join(
            f"{count} image{'s' * (count > 1)} of {mode.replace(' x ', ' bands of ')}"
            for mode, count in about.image_modes.items()
        )
        for about in lists
        if about.image_modes
    )


def _nodata(tally: DatasetTally) -> tuple[str, ...]:
    return tuple(
        f"{checked.name}: {empty / total:.2%} of the pixels"
        for number, (checked, empty) in enumerate(zip(tally.lists, tally.empty, strict=True))
        if empty and (total := _pixels(tally, number))
    )


def _pixels(tally: DatasetTally, number: int) -> int:
    sizes = tally.sizes[tally.starts[number] : tally.starts[number + 1]]
    return int(sizes.astype(np.int64).prod(1).sum())


def _merged(parts: list[Findings]) -> Findings:
    merged = Findings()
    for part in parts:
        merged.extend(part)
    return merged


def _value_fact(value: int, tally: DatasetTally) -> str:
    pixels, labels = (int(counts[:, value].sum()) for counts in (tally.pixels, tally.labels))
    share = pixels / tally.pixels.sum()
    return f"value {value}: {pixels:,} pixels ({share:.2%}) in {labels:,} label{'s' * (labels > 1)}"


def _fix(diagnosis: Diagnosis) -> str:
    ways = diagnosis.for_config()
    if "DATASET." in ways:
        ways += " For this command: --ignore-label, --label-offset, --num-class."
    return ways


def _missing(tally: DatasetTally, number: int, coding: LabelCoding) -> list[int]:
    """The classes without a pixel in a list, from 0."""
    values = tally.pixels[number, coding.offset : coding.offset + (coding.num_class or 0)]
    return np.flatnonzero(values == 0).tolist() if values.any() else []


def _untrained(
    lists: tuple[ListSummary, ...], missing: dict[str, list[int]], names: tuple[str, ...]
) -> tuple[str, ...]:
    by_role = {about.checked.role: missing[about.checked.name] for about in lists if about.pixels["labelled"]}
    if not {"training", "validation"} <= set(by_role):
        return ()
    untrained = sorted(set(by_role["training"]) - set(by_role["validation"]))
    return (_named(untrained, names),) if untrained else ()


def _shared_sequences(lists: tuple[ListSummary, ...]) -> tuple[str, ...]:
    by_role = {about.checked.role: about.checked.records for about in lists}
    if not {"training", "validation"} <= set(by_role):
        return ()
    # Windows are divided by area, whatever the names of their scenes.
    paths = [
        (record.fpath_img for record in by_role[role] if not record.is_window)
        for role in ("training", "validation")
    ]
    shared = shared_sequences(*paths)
    facts = [f"{name}: {train} training and {val} validation images" for name, (train, val) in shared.items()]
    return (*facts[:_FEW], *([f"and {len(facts) - _FEW} more"] if len(facts) > _FEW else []))


def _several_systems(tally: DatasetTally) -> tuple[str, ...]:
    """The reference systems of the scenes in each list, if they are not all the same."""
    if len({system for of_list in tally.systems for system in of_list}) < 2:
        return ()
    return tuple(
        f"{checked.name}: "
        + "; ".join(
            f"{system} ({len(paths)} scene{'s' * (len(paths) > 1)}, such as {min(paths)})"
            for system, paths in of_list.items()
        )
        for checked, of_list in zip(tally.lists, tally.systems, strict=True)
        if of_list
    )


def _shared_scenes(lists: tuple[ListSummary, ...]) -> tuple[str, ...]:
    by_role = {about.checked.role: about.checked for about in lists}
    if not {"training", "validation"} <= set(by_role):
        return ()
    counts = [
        Counter(by_role[role].path(each.fpath_img) for each in by_role[role].records if each.is_window)
        for role in ("training", "validation")
    ]
    facts = [
        f"{path}: {counts[0][path]} training and {counts[1][path]} validation windows"
        for path in sorted(counts[0].keys() & counts[1].keys())
    ]
    return (*facts[:_FEW], *([f"and {len(facts) - _FEW} more"] if len(facts) > _FEW else []))


def _named(classes: list[int], names: tuple[str, ...]) -> str:
    more = f" and {len(classes) - _FEW} more" if len(classes) > _FEW else ""
    return ", ".join(names[k] for k in classes[:_FEW]) + more
