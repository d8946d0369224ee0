"""What was found for all pairs, added up: a few numbers a record. At the end, the records are compared."""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ...data.label_coding import LabelCoding
from ...data.label_diagnosis import VOID
from ...data.scene_pairs import region_of
from ..pool import WorkerDeath
from .alignment import REACH, Agreement, common_move, describe_move, mirror_of, move_of
from .decode import FileFacts, digest_of
from .examine import IMAGE, LABEL, Pair, PairFacts, compare
from .findings import CheckedList, Findings
from .ground import Ground, overlaps
from .near_duplicates import near_pairs

NUM_VALUES = 65536
"""The number of values that a label can have."""
_WINDOW_FINDINGS = ("constant_band", "mostly_nodata", "outside")
"""The kinds of findings that windows of one scene have on their own. All others are about its files."""
_FEW_MIRRORED = 0.05  # share of labels; more of them hide a move that all labels have
Repeats = tuple[np.ndarray, np.ndarray]
"""Positions that repeat something, and the first position that each repeats; both (K,) int64."""


class DatasetTally:
    """Everything found so far: 56 bytes a record, 36 more for windows, and 21 bytes a finding.

    Args:
        coding: the meaning of label values; with ``num_class`` None no value is beyond the classes.
        unusable: the lines of the lists that hold no record.
        with_bands: whether the images are read with bands.
    """

    def __init__(
        self,
        lists: Sequence[CheckedList],
        coding: LabelCoding,
        unusable: Findings | None = None,
        with_bands: bool = False,
    ) -> None:
        self.with_bands = with_bands
        self.lists = lists
        self.coding = coding
        self.starts = np.cumsum([0, *(len(checked.records) for checked in lists)])
        """Position of each list's first record among all records, then the number of all records."""
        total = int(self.starts[-1])
        self.sizes = np.zeros((total, 2), np.int32)
        """Width and height of each image; 0 if unknown."""
        self.pixels = np.zeros((len(lists), NUM_VALUES), np.int64)
        """Number of pixels of each value in a list."""
        self.labels = np.zeros((len(lists), NUM_VALUES), np.int64)
        """Number of labels in a list that hold each value."""
        self.image_modes: list[Counter[str]] = [Counter() for _ in lists]
        self.empty = np.zeros(len(lists))
        """Number of pixels without data in a list, of images with bands."""
        self.label_modes: list[Counter[str]] = [Counter() for _ in lists]
        self.findings: dict[str, Findings] = {"unusable_line": unusable} if unusable else {}
        """By the keys of `issue_types.ISSUE_TYPES`."""
        self.void = {value: Findings() for value in VOID}
        """Labels that hold such a value, in case it turns out to be beyond the classes."""
        self._appearance = np.zeros((total, 16), np.uint8)
        self._agreements = [_Agreements() for _ in lists]
        self.has_windows = any(checked.records.has_windows() for checked in lists)
        self.systems: list[dict[str, set[str]]] = [{} for _ in lists]
        """The scenes of each list by their reference system."""
        of_windows = total if self.has_windows else 0
        self._boxes = np.zeros((of_windows, 4))
        self._box_systems = np.full(of_windows, -1, np.int32)
        self._system_numbers: dict[str, int] = {}
        self._said: set[tuple[str, str, str]] = set()
        self.unread: Counter[str] = Counter()
        """The number of windows of each damaged file that need a damaged tile."""
        self._image, self._label, self._image_path, self._label_path = np.zeros((4, total), np.uint64)

    def pairs(self) -> Iterator[Pair]:
        """The files of all records, in the order of the positions that `add` takes."""
        for checked in self.lists:
            for record in checked.records:
                region = region_of(record) if record.is_window else None
                yield Pair(checked.path(record.fpath_img), checked.path(record.fpath_segm), region)

    def add(self, position: int, facts: PairFacts | WorkerDeath) -> None:
        """Adds what was found for the record at a position among all records."""
        number = bisect_right(self.starts, position) - 1
        index = position - int(self.starts[number])
        if isinstance(facts, WorkerDeath):
            self._find("hang" if facts.hung else "crash", number, index, facts.mark, facts.how)
            return
        record = self.lists[number].records[index]
        for kind, file, detail in compare(facts, (record.width, record.height)):
            if not record.is_window or self._is_new(
                kind, (record.fpath_img, record.fpath_segm)[file], detail
            ):
                self._find(kind, number, index, file, detail)
        if facts.ground is not None:
            self._add_ground(number, position, record.fpath_img, facts.ground)
        image, label = facts.image, facts.label
        self.sizes[position] = image.width, image.height
        self.image_modes[number][image.mode] += bool(image.mode)
        self.empty[number] += image.empty * image.width * image.height
        self.label_modes[number][label.mode] += bool(label.mode)
        if facts.appearance:
            self._appearance[position] = np.frombuffer(facts.appearance, np.uint8)
        if facts.agreement is not None:
            self._add_agreement(number, index, facts.agreement)
        self._image[position] = image.digest
        # Labels of a single value are often equal without being copies.
        self._label[position] = label.digest if len(label.values) > 1 else 0
        if len(label.values):
            self._add_values(number, index, label)
        for path, of_path in ((record.fpath_img, image), (record.fpath_segm, label)):
            self.unread[path] += bool(of_path.places)

    def _is_new(self, kind: str, path: str, detail: str) -> bool:
        """Whether a finding about a window is not yet known from another window of the same scene."""
        if kind in _WINDOW_FINDINGS:
            return True
        # Of all tiles, each is said; of other problems, all windows have the same.
        key = kind, path, detail if kind == "damaged" else ""
        known = key in self._said
        self._said.add(key)
        return not known

    def _add_ground(self, number: int, position: int, path: str, ground: Ground) -> None:
        if ground.system:
            self.systems[number].setdefault(ground.system, set()).add(path)
        name = ground.system or os.path.realpath(self.lists[number].path(path))
        self._boxes[position] = ground.box
        self._box_systems[position] = self._system_numbers.setdefault(name, len(self._system_numbers))

    def _add_values(self, number: int, index: int, label: FileFacts) -> None:
        self.pixels[number, label.values] += label.counts
        self.labels[number, label.values] += 1
        for value, findings in self.void.items():
            if value in label.values:
                findings.add(number, index, LABEL, f"value {value}")
        beyond = values_beyond(label.values, self.coding).tolist()
        if beyond:
            few = ", ".join(map(str, beyond[:4]))
            more = f" and {len(beyond) - 4} more" if len(beyond) > 4 else ""
            self._find("beyond", number, index, LABEL, f"value{'s' * (len(beyond) > 1)} {few}{more}")
        if not labelled(label.values, self.coding).any():
            self._find("no_labelled_pixel", number, index, LABEL, "")

    def _add_agreement(self, number: int, index: int, found: Agreement) -> None:
        self._agreements[number].add(found)
        if mirror := mirror_of(found):
            self._agreements[number].mirrored += 1
            self._find("mirrored", number, index, LABEL, f"mirrored {mirror}, it fits its image better")
        elif move := move_of(found):
            self._find("moved", number, index, LABEL, f"it fits better {describe_move(move)}")

    def common_moves(self) -> dict[str, tuple[int, str]]:
        """The lists whose labels are all moved alike, by name: their number, and by how much, in words."""
        found = {}
        for checked, about in zip(self.lists, self._agreements, strict=True):
            if move := about.move():
                found[checked.name] = about.images, describe_move(move)
        return found

    def find_duplicates(self) -> None:
        """Compares all records with each other. To be called once, after all have been added."""
        for position, (image, label, region) in enumerate(self.pairs()):
            window = str(region).encode() if region else b""
            self._image_path[position] = digest_of(_normal(image) + window)
            self._label_path[position] = digest_of(_normal(label) + window)
        for number in range(len(self.lists)):
            start, end = (int(position) for position in self.starts[number : number + 2])
            paths, content = self._image_path[start:end], self._image[start:end].copy()
            self._find_repeats("duplicate_record", repeats(paths), start, start)
            self._find_repeats("leak", repeats_of_others(paths, self._image_path[:start]), start, 0)
            # Equal paths are reported above. From here on, different files with the same bytes.
            content[repeats(paths)[0]] = 0
            self._find_repeats("duplicate_content", repeats(content), start, start)
            content[np.isin(paths, self._image_path[:start])] = 0
            self._find_repeats("leak", repeats_of_others(content, self._image[:start]), start, 0)
            overlapping = self._find_overlaps(start, end) if start and self.has_windows else []
            if start:
                self._find_near(start, end, overlapping)
        self._find_equal_labels()

    def _find_overlaps(self, start: int, end: int) -> list[int]:
        """Windows of a list that show ground of an earlier list. Returns all; finds the unequal ones."""
        found = []
        of_list = slice(start, end)
        for row, other, share in overlaps(
            self._boxes[of_list], self._box_systems[of_list], self._boxes[:start], self._box_systems[:start]
        ):
            found.append(row)
            if self._image_path[start + row] not in self._image_path[:start]:
                number = bisect_right(self.starts, start) - 1
                detail = f"{max(1, round(100 * share))}% of it"
                self._find("overlap", number, row, IMAGE, detail, other)
        return found

    def _find_near(self, start: int, end: int, overlapping: Sequence[int]) -> None:
        """Images of a list that look like one of an earlier list, and share no file, bytes or ground."""
        pairs = list(near_pairs(self._appearance[start:end], self._appearance[:start]))
        again, first = np.array(pairs, np.int64).reshape(-1, 2).T
        same = np.isin(self._image_path[start + again], self._image_path[:start])
        same |= np.isin(self._image[start + again], self._image[:start])
        same |= np.isin(again, overlapping)
        self._find_repeats("near_duplicate", (again[~same], first[~same]), start, 0)

    def _find_equal_labels(self) -> None:
        again, first = repeats(self._label_path)
        differ = self._image_path[again] != self._image_path[first]
        # A copy of the image may well have the same label.
        differ &= (self._image[again] != self._image[first]) | (self._image[again] == 0)
        self._find_repeats("shared_label", (again[differ], first[differ]), 0, 0)
        again, first = repeats(self._label)
        differ = self._label_path[again] != self._label_path[first]
        differ &= self._image[again] != self._image[first]
        self._find_repeats("same_label_content", (again[differ], first[differ]), 0, 0)

    def _find_repeats(self, kind: str, found: Repeats, start: int, first_start: int) -> None:
        """Adds repeats: positions after ``start`` that repeat positions after ``first_start``."""
        file = LABEL if "label" in kind else IMAGE
        for again, first in zip(*(positions.tolist() for positions in found), strict=True):
            number = bisect_right(self.starts, start + again) - 1
            index = start + again - int(self.starts[number])
            other = first_start + first
            detail = ""
            if kind == "duplicate_content":
                same = self._label[start + again] == self._label[other]
                detail = "" if same else "their labels differ"
            self._find(kind, number, index, file, detail, other)

    def _find(
        self, kind: str, number: int, index: int, file: int, detail: str = "", repeats: int = -1
    ) -> None:
        self.findings.setdefault(kind, Findings()).add(number, index, file, detail, repeats)


class _Agreements:
    """The agreement of edges over a list."""

    def __init__(self) -> None:
        self.images = self.mirrored = 0
        self._scales = 0.0
        self._moved = np.zeros((2 * REACH + 1, 2 * REACH + 1))

    def add(self, found: Agreement) -> None:
        self.images += 1
        self._scales += found.scale
        self._moved += found.moved

    def move(self) -> tuple[int, int] | None:
        """By how many pixels all labels are moved; None if they do not seem to be, or some are mirrored."""
        if not self.images or self.mirrored > self.images * _FEW_MIRRORED:
            return None
        return common_move(self._moved / self.images, self.images, self._scales / self.images)


def values_beyond(values: np.ndarray, coding: LabelCoding) -> np.ndarray:
    """The ones among distinct values that stand for no class and are not ignored."""
    if coding.num_class is None:
        return values[:0]
    beyond = values[values > coding.offset + coding.num_class - 1]
    return beyond if coding.ignore is None else beyond[beyond != coding.ignore]


def labelled(values: np.ndarray, coding: LabelCoding) -> np.ndarray:
    """Which of some distinct values are not unlabelled, (K,) bool; those beyond the classes are labelled."""
    counts = values >= coding.offset
    return counts if coding.ignore is None else counts & (values != coding.ignore)


def repeats(digests: np.ndarray) -> Repeats:
    """The positions whose digest occurs earlier. A digest of 0 stands for none.

    >>> [positions.tolist() for positions in repeats(np.array([7, 5, 7, 0, 0, 7], np.uint64))]
    [[2, 5], [0, 0]]
    """
    known = np.flatnonzero(digests)
    _, first, inverse = np.unique(digests[known], return_index=True, return_inverse=True)
    first = known[first][inverse]
    again = known != first
    return known[again], first[again]


def repeats_of_others(digests: np.ndarray, others: np.ndarray) -> Repeats:
    """The positions whose digest occurs among ``others``, and where it is first there. 0 stands for none."""
    values, first = np.unique(others, return_index=True)
    at = np.searchsorted(values, digests)
    found = (at < len(values)) & (digests != 0)
    found[found] = values[at[found]] == digests[found]
    return np.flatnonzero(found), first[at[found]]


def _normal(path: str) -> bytes:
    return os.path.normpath(path).encode("utf-8", "surrogatepass")
