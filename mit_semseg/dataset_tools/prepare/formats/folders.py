"""Any images with index labels, in two folders or in one, matched by file name."""

from ..labels import IndexLabels
from ..pairing import pair_by_name
from ..release import PrepareOptions, Release
from ..source import SourceFolder


def read(source: SourceFolder, options: PrepareOptions) -> Release:
    """Value k of a label is class k and 0 is unlabelled, unless the options change it."""
    pairing = pair_by_name(source, options)
    return Release(
        pairing.pairs,
        IndexLabels(options.one_channel, judged=None not in options.map),
        notes=pairing.notes,
        problems=pairing.problems,
    )
