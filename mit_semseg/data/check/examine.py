"""One pair of files, looked at in a process that a bad file may take down."""

from collections.abc import Callable
from dataclasses import dataclass

from .decode import File, read_image, read_label

IMAGE, LABEL = 0, 1
"""Which file of a pair."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an image and its label are; small, since one comes through a pipe for each pair."""

    image: File
    label: File


def examine(pair: tuple[str, str], mark: Callable[[int], None]) -> Finding:
    """Reads an image and its label.

    Args:
        pair: paths of the image and the label.
        mark: called with `IMAGE` and `LABEL` before each is read, so that others know which one it was if
            this process does not survive it.
    """
    mark(IMAGE)
    image = read_image(pair[0])
    mark(LABEL)
    return Finding(image, read_label(pair[1]))
