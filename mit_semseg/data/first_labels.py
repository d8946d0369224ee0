"""A check of some labels of a list before a long run: whether any pixel belongs to a class."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
from PIL import Image

from ..errors import UserError
from ..runtime.distributed import ProcessInfo, failing_together
from ..runtime.log import get_logger
from .datasets import TrainDataset, ValDataset
from .label_diagnosis import Diagnosis, count_classes, diagnose
from .label_files import LARGEST
from .orientation import UNDECIDED_FIX, Fit, fit, orientation_of
from .shards import opened

MOST = 256
"""The largest number of labels to read. Reading stops as soon as nothing is wrong with the values so far."""

_HEADERS = 32  # images whose headers are read for their EXIF orientation
_REFUSED = ("nothing_labelled", "binary_mask", "soft_edges", "scaled")
_UNUSABLE = "beyond"  # makes single files unusable, which training can skip
_NOTABLE = ("one_class", "off_by_one")


def check_validation_labels(dataset: ValDataset, process: ProcessInfo) -> None:
    """`check_first_labels` for records from all over a list that is scored, in evaluation and training.

    Raises: as `check_first_labels`, and UserError for a label that fits the upright view of its image only.
    """
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), MOST)).astype(int).tolist()
    check_first_labels(dataset, rows, process)


def check_first_labels(dataset: TrainDataset | ValDataset, rows: Iterable[int], process: ProcessInfo) -> None:
    """Check the labels of some records, on rank 0, and log warnings.

    Files that cannot be used are skipped: the code that needs them reports them.

    Args:
        rows: indices of the records, in the order in which they are checked.

    Raises: UserError in all processes, if no pixel belongs to a class, or if the values are those of a mask
        or of scaled class numbers, or mixed by compression or interpolation.
    """
    with failing_together():
        if process.is_first:
            rows = list(islice(dict.fromkeys(rows), MOST))
            _check_values(dataset, rows)
            if dataset.bands is None:  # files with bands are used as they are stored
                _check_orientation(dataset, rows[:_HEADERS])


def _check_values(dataset: TrainDataset | ValDataset, rows: list[int]) -> None:
    found, read, first = _diagnose(dataset, rows)
    if found is None:
        return
    number = f"{read} labels checked in" if read < len(dataset.records) else "labels of"
    said = f"The {number} {dataset.records.name} {found.says}"
    if found.kind in _NOTABLE:
        get_logger().warning("%s. %s", said, found.for_config())
    elif found.kind == _UNUSABLE and not (isinstance(dataset, TrainDataset) and dataset.skips_errors):
        # The error for one file would not know the values of the others, and so give other advice.
        raise UserError(f"{said}; the first is {first}. {found.for_config()}")
    elif found.kind in _REFUSED:
        raise UserError(f"{said}. {found.for_config()}")


def _diagnose(dataset: TrainDataset | ValDataset, rows: list[int]) -> tuple[Diagnosis | None, int, str]:
    """The diagnosis of the values, from as few labels as possible, how many were read, and the first of them
    with a value beyond those of the classes.
    """
    counts = np.zeros(LARGEST + 1, np.int64)
    found, read, first = None, 0, ""
    for row in rows:
        try:
            label = dataset.label_values(row)
        except UserError:
            continue
        values, pixels = count_classes(label, str(dataset.files(row)[1]))
        if not len(values):  # a label without data
            continue
        read += 1
        if not first and dataset.coding.beyond(values) is not None:
            first = ", ".join(filter(None, (str(dataset.files(row)[1]), dataset.records.line(row))))
        counts[values] += pixels
        values = np.flatnonzero(counts)
        found = diagnose(values, counts[values], dataset.coding)
        if found is None:
            break
    return found, read, first


def _check_orientation(dataset: TrainDataset | ValDataset, rows: list[int]) -> None:
    """Warn of images with an EXIF orientation for which the size does not show which view the label fits.

    Raises: UserError for a label of a ValDataset that fits the upright view: the images of a validation may
        only be read after hours of training.
    """
    undecided = []
    for row in rows:
        path, label_path = dataset.files(row)
        try:
            with Image.open(opened(path)) as image:
                orientation = orientation_of(image)
                if orientation == 1:
                    continue
                with Image.open(opened(label_path)) as label:
                    view = fit(image.size, label.size, orientation)
        except Exception:  # decoders raise errors of many kinds; the code that needs the file reports it
            continue
        if view is Fit.UNDECIDED:
            undecided.append(path)
        elif view is Fit.UPRIGHT and isinstance(dataset, ValDataset):
            dataset.as_bytes(row)  # raises the error
    if undecided:
        get_logger().warning(
            "%d of %d images checked in %s carry an EXIF orientation, such as %s, and the size does not "
            "show whether the label fits the upright view. %s",
            *(len(undecided), len(rows), dataset.records.name, undecided[0], UNDECIDED_FIX),
        )
