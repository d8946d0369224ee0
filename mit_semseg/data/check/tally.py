"""Findings added up as they come: a few numbers a record, whatever the findings are."""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ..labels import LabelCoding
from .compare import VOID, compare, labelled, values_beyond
from .decode import File, digest_of
from .duplicates import repeats, repeats_of_others
from .examine import IMAGE, LABEL, Finding
from .places import Places, Source
from .pool import Death

NUM_VALUES = 65536
"""That a label can hold."""


class Tally:
    """All findings so far: 40 bytes a record, and 21 for each place of a problem.

    Args:
        coding: what the values of labels stand for; with ``num_class`` None no value is beyond the classes.
        unusable: the lines of the lists that hold no record.
    """

    def __init__(
        self, sources: Sequence[Source], coding: LabelCoding, unusable: Places | None = None
    ) -> None:
        self.sources = sources
        self.coding = coding
        self.starts = np.cumsum([0, *(len(source.records) for source in sources)])
        """Place of each list's first record among all records, and behind the last."""
        total = int(self.starts[-1])
        self.sizes = np.zeros((total, 2), np.int32)
        """Width and height of each image, 0 if unknown."""
        self.pixels = np.zeros((len(sources), NUM_VALUES), np.int64)
        """How many pixels of a list have each value."""
        self.labels = np.zeros((len(sources), NUM_VALUES), np.int64)
        """How many labels of a list have each value."""
        self.image_modes: list[Counter[str]] = [Counter() for _ in sources]
        self.label_modes: list[Counter[str]] = [Counter() for _ in sources]
        self.places: dict[str, Places] = {"unusable_line": unusable} if unusable else {}
        """By the keys of `kinds.KINDS`."""
        self.void = {value: Places() for value in VOID}
        """Labels that hold such a value, in case it turns out to be beyond the classes."""
        self._image, self._label, self._image_path, self._label_path = np.zeros((4, total), np.uint64)

    def jobs(self) -> Iterator[tuple[str, str]]:
        """The paths of image and label of all records, as `add` numbers them."""
        for source in self.sources:
            for record in source.records:
                yield source.path(record.fpath_img), source.path(record.fpath_segm)

    def add(self, position: int, finding: Finding | Death) -> None:
        """Adds what was found for the record at a place among all records."""
        number = bisect_right(self.starts, position) - 1
        index = position - int(self.starts[number])
        if isinstance(finding, Death):
            self._place("hang" if finding.hung else "crash", number, index, finding.mark, finding.how)
            return
        record = self.sources[number].records[index]
        for kind, file, detail in compare(finding, (record.width, record.height)):
            self._place(kind, number, index, file, detail)
        image, label = finding.image, finding.label
        self.sizes[position] = image.width, image.height
        self.image_modes[number][image.mode] += bool(image.mode)
        self.label_modes[number][label.mode] += bool(label.mode)
        self._image[position] = image.digest
        # Labels of a single value are equal without being copies.
        self._label[position] = label.digest if len(label.values) > 1 else 0
        if len(label.values):
            self._add_values(number, index, label)

    def _add_values(self, number: int, index: int, label: File) -> None:
        self.pixels[number, label.values] += label.counts
        self.labels[number, label.values] += 1
        for value, places in self.void.items():
            if value in label.values:
                places.add(number, index, LABEL, f"value {value}")
        beyond = values_beyond(label.values, self.coding).tolist()
        if beyond:
            few = ", ".join(map(str, beyond[:4]))
            more = f" and {len(beyond) - 4} more" if len(beyond) > 4 else ""
            self._place("beyond", number, index, LABEL, f"value{'s' * (len(beyond) > 1)} {few}{more}")
        if not labelled(label.values, self.coding).any():
            self._place("no_labelled_pixel", number, index, LABEL, "")

    def find_duplicates(self) -> None:
        """Compares all records with each other; to be called once, when all have been added."""
        for position, (image, label) in enumerate(self.jobs()):
            self._image_path[position] = digest_of(_normal(image))
            self._label_path[position] = digest_of(_normal(label))
        for number in range(len(self.sources)):
            start, end = (int(place) for place in self.starts[number : number + 2])
            paths, content = self._image_path[start:end], self._image[start:end].copy()
            self._repeat("duplicate_record", repeats(paths), start, start)
            self._repeat("leak", repeats_of_others(paths, self._image_path[:start]), start, 0)
            # The same file is found above; here, other files with the same bytes.
            content[repeats(paths)[0]] = 0
            self._repeat("duplicate_content", repeats(content), start, start)
            content[np.isin(paths, self._image_path[:start])] = 0
            self._repeat("leak", repeats_of_others(content, self._image[:start]), start, 0)
        self._find_equal_labels()

    def _find_equal_labels(self) -> None:
        again, first = repeats(self._label_path)
        differ = self._image_path[again] != self._image_path[first]
        # A copy of the image may well have the same label.
        differ &= (self._image[again] != self._image[first]) | (self._image[again] == 0)
        self._repeat("shared_label", (again[differ], first[differ]), 0, 0)
        again, first = repeats(self._label)
        differ = self._label_path[again] != self._label_path[first]
        differ &= self._image[again] != self._image[first]
        self._repeat("same_label_content", (again[differ], first[differ]), 0, 0)

    def _repeat(self, kind: str, pairs: tuple[np.ndarray, np.ndarray], start: int, other_start: int) -> None:
        """Notes repeats, given as positions behind ``start``, of what stands behind ``other_start``."""
        file = LABEL if "label" in kind else IMAGE
        for again, first in zip(*(positions.tolist() for positions in pairs), strict=True):
            number = bisect_right(self.starts, start + again) - 1
            index = start + again - int(self.starts[number])
            other = other_start + first
            detail = ""
            if kind == "duplicate_content":
                same = self._label[start + again] == self._label[other]
                detail = "" if same else "their labels differ"
            self._place(kind, number, index, file, detail, other)

    def _place(
        self, kind: str, number: int, index: int, file: int, detail: str = "", other: int = -1
    ) -> None:
        self.places.setdefault(kind, Places()).add(number, index, file, detail, other)


def _normal(path: str) -> bytes:
    return os.path.normpath(path).encode("utf-8", "surrogatepass")
