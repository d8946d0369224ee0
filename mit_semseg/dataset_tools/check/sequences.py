"""The recording that an image belongs to, if its path says so: a frame number after a name with a number."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

_FRAME = re.compile(r"(.*?)[-_. ]?[A-Za-z]?\d+")  # 0006R0_f00930 is frame f00930 of 0006R0
_YEAR = re.compile(r"(19|20)\d\d")  # 2007_000032 does not name a recording
_FEWEST = 2  # images of a sequence in each list; fewer may have equal names by chance


def sequence_of(path: str) -> str:
    """The name of the recording that the path of a frame names; "" if it names none.

    >>> sequence_of("train/0001TP_006690.jpg"), sequence_of("seq7/000012.png"), sequence_of("img_12.jpg")
    ('0001TP', 'seq7', '')
    """
    file = PurePath(path)
    frame = _FRAME.fullmatch(file.stem)
    if frame is None:
        return ""
    name = frame[1] or file.parent.name
    return name if re.search(r"\d", name) and not _YEAR.fullmatch(name) else ""


def shared_sequences(training: Iterable[str], validation: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The sequences that have several images in both lists of paths, with the numbers of these images."""
    counts = [Counter(filter(None, map(sequence_of, paths))) for paths in (training, validation)]
    return {
        name: (counts[0][name], counts[1][name])
        for name in sorted(counts[0].keys() & counts[1].keys())
        if min(counts[0][name], counts[1][name]) >= _FEWEST
    }
