"""Any images with index labels: two folders, or one, matched by file name."""

from .options import Options
from .pairing import pairs_by_name
from .release import Release
from .source import Source
from .values import IndexLabels


def read(source: Source, options: Options) -> Release:
    """Value k of a label is class k and 0 unlabelled, or as the options say."""
    pairs = pairs_by_name(source, options)
    return Release(pairs.examples, IndexLabels(), notes=pairs.notes, problems=pairs.problems)
