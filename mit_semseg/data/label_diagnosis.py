"""What the values in labels suggest: masks of one object, soft edges, a wrong offset, ...

`diagnose` compares the values that occur with the coding that the user has set. It returns a `Diagnosis` with
remedies. A remedy is data, so that tests can apply it: then `diagnose` finds nothing, or another cause.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd

import numpy as np

from .label_coding import LabelCoding
from .label_files import LARGEST, count_values, require_unmixed

VOID = (255, LARGEST)
"""Values that usually stand for unlabelled."""

_STEP = 10  # values at least this far apart are scaled; closer ones are classes with gaps
_MOST_LEVELS = 32  # more values than this are never scaled class numbers
_EDGE_SHARE = 0.2  # soft edges are at most this share of the pixels of a mask
_FEWEST_MIXED = 4  # values between those of a mask whose edges are soft, if they leave a gap
_RARER = 3  # the object of such a mask has at least this many times the pixels of any value between
_FEW = 6  # values spelled out
NO_WAY = {
    "nothing_labelled": "Label the images, or drop these lines from the list: training learns nothing "
    "from them.",
    "one_class": "Training can learn only this class.",
}
"""The advice for kinds that no change of the options can fix."""


@dataclass(frozen=True)
class Remedy:
    """A change of the options that gives the values another meaning, and the condition for it."""

    when: str
    """The condition under which it is right, as the start of a sentence."""
    map: Mapping[int | None, int] | None = None
    """File value -> class, 0 for unlabelled; None stands for all values that it does not name."""
    label_offset: int | None = None
    ignore: int | None = None
    num_class: int | None = None

    def as_options(self) -> str:
        """As options of ``mit-semseg data prepare``."""
        words = []
        if self.map is not None:
            pairs = ", ".join(f"{'*' if value is None else value}:{k}" for value, k in self.map.items())
            words.append(f'--map "{pairs}"')
        if self.ignore is not None:
            words.append(f"--ignore {self.ignore}")
        if self.label_offset is not None:
            words.append(f"--label-offset {self.label_offset}")
        return " ".join(words)

    def as_keys(self) -> str:
        """As keys of a config, in a sentence; for a map, as a ``mit-semseg data prepare`` command."""
        if self.map is not None:
            return f"{self.when}: mit-semseg data prepare folders SOURCE OUT {self.as_options()}."
        keys = (
            ("ignore_label", self.ignore),
            ("label_offset", self.label_offset),
            ("num_class", self.num_class),
        )
        words = " ".join(f"DATASET.{key} {value}" for key, value in keys if value is not None)
        return f"{self.when}, set {words}."


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with the values, and the remedies."""

    kind: str
    """binary_mask, soft_edges, scaled, beyond, nothing_labelled, one_class or off_by_one."""
    says: str
    """What the values are, as the end of a sentence that begins with "The labels"."""
    remedies: tuple[Remedy, ...]

    def for_config(self) -> str:
        """The remedies as keys of a config, in sentences."""
        return " ".join(remedy.as_keys() for remedy in self.remedies) or NO_WAY[self.kind]

    def for_prepare(self) -> str:
        """The remedies as options of ``mit-semseg data prepare``, in sentences."""
        options = [(remedy.when, remedy.as_options()) for remedy in self.remedies]
        return " ".join(f"{when}: {words}." for when, words in options if words)


def diagnose(values: np.ndarray, counts: np.ndarray, coding: LabelCoding) -> Diagnosis | None:
    """What is wrong with the values of some labels, or None.

    Args:
        values: distinct values, ascending, (K,).
        counts: number of pixels of each, (K,).
        coding: the meaning that the user gives them. Without ``num_class``, a value is judged by the others.
    """
    ignored = np.flatnonzero(values == coding.ignore)
    found = _diagnose(np.delete(values, ignored), np.delete(counts, ignored), coding)
    if found is None or not len(ignored):
        return found
    # New labels must not keep a value that only the old config ignores.
    return replace(found, remedies=tuple(_ignoring(coding.ignore, remedy) for remedy in found.remedies))


def count_classes(values: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """As `count_values`, for a label whose values are to be judged.

    Raises: LabelError if they are mixed, unless by the soft edges of a mask: `diagnose` has remedies for it.
    """
    found, counts = count_values(values)
    if _mask(found, counts, LabelCoding()) is None:
        require_unmixed(values, where)
    return found, counts


def _diagnose(values: np.ndarray, counts: np.ndarray, coding: LabelCoding) -> Diagnosis | None:
    """The diagnosis for values that are not ignored."""
    present = values.tolist()
    labelled = [value for value in present if value >= coding.offset]
    if not labelled:
        return _nothing_labelled(present, coding)
    if coding.num_class is not None and labelled[-1] < coding.offset + coding.num_class:
        return _one_class(present, coding) if len(labelled) == 1 else _off_by_one(present, coding)
    found = _mask(values, counts, coding) or _scaled(present, coding) or _beyond(present, labelled, coding)
    return found or (_one_class(present, coding) if len(labelled) == 1 else None)


def _ignoring(value: int | None, remedy: Remedy) -> Remedy:
    if remedy.map is None or value is None or value in remedy.map or None in remedy.map:
        return remedy
    return replace(remedy, map={**remedy.map, value: 0})


def spelled(values: list[int]) -> str:
    """The first few values, and how many more there are.

    >>> spelled([1]), spelled([0, 255]), spelled(list(range(9)))
    ('1', '0 and 255', '0, 1, 2, 3, 4, 5 and 3 more')
    """
    if len(values) > _FEW:
        return f"{', '.join(map(str, values[:_FEW]))} and {len(values) - _FEW} more"
    return " and ".join(filter(None, (", ".join(map(str, values[:-1])), str(values[-1]))))


def _nothing_labelled(present: list[int], coding: LabelCoding) -> Diagnosis:
    """No value stands for a class: all are ignored, or below the first class."""
    remedies = []
    if coding.ignore in VOID and present == [0]:
        remedies.append(_of_mask(int(coding.ignore or 0)))
    if present:
        remedies.append(_from_first(present, f"If {present[0]} is a class", coding))
    held = f"hold only {spelled(present)}" if present else "hold no value"
    besides = f" besides {coding.ignore}, which is ignored" if coding.ignore is not None else ""
    return Diagnosis("nothing_labelled", f"{held}{besides}, so no pixel belongs to a class", tuple(remedies))


def _one_class(present: list[int], coding: LabelCoding) -> Diagnosis:
    """All pixels are of one class, or unlabelled."""
    says, below = f"hold one class only, with the value {present[-1]}", present[:-1]
    if not below:
        return Diagnosis("one_class", says, ())
    remedy = _from_first(present, f"If {below[0]} is a class, too (background)", coding)
    return Diagnosis("one_class", f"{says}, and {spelled(below)} stands for unlabelled", (remedy,))


def _off_by_one(present: list[int], coding: LabelCoding) -> Diagnosis | None:
    """As many values as there are classes, all one below those of the classes."""
    first = coding.offset - 1
    if first < 0 or present != list(range(first, first + (coding.num_class or 0))):
        return None
    last = present[-1] + 1
    return Diagnosis(
        "off_by_one",
        f"hold {first} to {last - 1}, but the classes go from {first + 1} to {last}, and {first} stands for "
        f"unlabelled",
        (Remedy(f"If {first} is the first class", label_offset=first),),
    )


def _mask(values: np.ndarray, counts: np.ndarray, coding: LabelCoding) -> Diagnosis | None:
    """A mask of one object: 0 and one large value, and maybe a few pixels between them at its edges."""
    top = int(values[-1])
    if values[0] != 0 or top < _STEP:
        return None
    if len(values) == 2:
        more = [_unlabelled(top, [0], coding)] if top in VOID else _more_classes(top, coding)
        says = f"hold only 0 and {top}, so they are masks of one object"
        return Diagnosis("binary_mask", says, (_of_mask(top), *more))
    between, share = values[1:-1], counts[1:-1].sum() / counts.sum()
    # Class numbers are small; values mixed at edges are near both ends, and each is rare.
    quarters = set((between * 4 // top).tolist())
    spread = {0, 3} <= quarters and (len(quarters) == 4 or len(between) >= _FEWEST_MIXED)
    if top < 4 * _STEP or share > _EDGE_SHARE or not spread or counts[-1] < _RARER * counts[1:-1].max():
        return None
    return Diagnosis(
        "soft_edges",
        f"hold 0, {top} and {len(between)} values between them ({share:.1%} of the pixels), so they are "
        f"masks with soft edges",
        (
            Remedy(
                "To make the background class 1, the object class 2 and the edges unlabelled",
                map={0: 1, top: 2, None: 0},
            ),
        ),
    )


def _scaled(present: list[int], coding: LabelCoding) -> Diagnosis | None:
    """Class numbers that were spread to be visible, such as 0, 127, 255."""
    levels = [value for value in present if value]
    if not 2 <= len(levels) <= _MOST_LEVELS:
        return None
    even = levels[-1] / len(levels)
    evenly = even >= _STEP and all(abs(value - k * even) <= 1 for k, value in enumerate(levels, 1))
    if not evenly and reduce(gcd, levels) < _STEP:
        return None
    numbered: dict[int | None, int] = {value: k for k, value in enumerate(levels, 1)}
    remedies = [Remedy("To number them without gaps", map=numbered)]
    if 0 in present:
        remedies = [
            Remedy("If 0 is a class", map={value: k for k, value in enumerate(present, 1)}),
            Remedy("If 0 stands for unlabelled", map={0: 0, **numbered}),
        ]
    says = f"hold the values {spelled(present)}, so they are class numbers that were scaled to be visible"
    more = _more_classes(levels[-1], coding) if levels[-1] not in VOID else []
    return Diagnosis("scaled", says, (*remedies, *more))


def _beyond(present: list[int], labelled: list[int], coding: LabelCoding) -> Diagnosis | None:
    """Values above those of the classes, and among them those that usually stand for unlabelled."""
    limit = LARGEST if coding.num_class is None else coding.offset + coding.num_class - 1
    void = [
        value
        for value in labelled
        if value in VOID and (value > limit or (coding.num_class is None and value - 1 not in labelled))
    ]
    beyond = [value for value in labelled if value > limit and value not in void]
    if not void and not beyond:
        return None
    remedies = [_unlabelled(value, [k for k in labelled if k != value] or [0], coding) for value in void[:1]]
    if not beyond:
        others = [value for value in labelled if value not in void]
        if others:
            remedies.append(_numbered(void[0], others[-1] + 1, coding))
        return Diagnosis("beyond", f"hold {void[0]}, which usually stands for unlabelled", tuple(remedies))
    if beyond == [limit + 1] and present[0] == coding.offset + 1:  # the whole numbering is off by one
        remedies.append(Remedy(f"If {present[0]} is the first class", label_offset=present[0]))
    remedies += _more_classes(beyond[-1], coding)
    remedies.append(_dropped(f"If {spelled(beyond)} should be unlabelled", beyond, coding))
    return Diagnosis(
        "beyond",
        f"hold {spelled(beyond + void)}, but with {coding.num_class} classes they go from {coding.offset} to "
        f"{limit}",
        tuple(remedies),
    )


def _of_mask(top: int) -> Remedy:
    return Remedy("To make the background class 1 and the object class 2", map={0: 1, top: 2})


def _from_first(present: list[int], when: str, coding: LabelCoding) -> Remedy:
    """The smallest value becomes the first class."""
    wanted = present[-1] - present[0] + 1
    few = coding.num_class is not None and wanted > coding.num_class
    return Remedy(when, label_offset=present[0], num_class=wanted if few else None)


def _more_classes(largest: int, coding: LabelCoding) -> list[Remedy]:
    """A larger number of classes, if the coding has a number."""
    if coding.num_class is None:
        return []
    return [Remedy("If there are more classes", num_class=largest - coding.offset + 1)]


def _unlabelled(value: int, others: list[int], coding: LabelCoding) -> Remedy:
    """The value becomes unlabelled. If no class remains, 0 must be one."""
    when = f"If {value} stands for unlabelled"
    if coding.ignore is not None:  # a config can ignore only one value
        return _dropped(when, [value], coding)
    if max(others) < coding.offset:
        return Remedy(f"{when} and 0 for a class", ignore=value, label_offset=0)
    return Remedy(when, ignore=value)


def _numbered(value: int, standing_for: int, coding: LabelCoding) -> Remedy:
    """The value becomes the class of the value ``standing_for``."""
    offset = coding.offset if coding.offset != 1 else None
    return Remedy(
        f"If {value} is a class", map={value: standing_for - coding.offset + 1}, label_offset=offset
    )


def _dropped(when: str, values: list[int], coding: LabelCoding) -> Remedy:
    """The values become unlabelled in new labels."""
    offset = coding.offset if coding.offset != 1 else None
    return Remedy(when, map=dict.fromkeys(values, 0), label_offset=offset)
