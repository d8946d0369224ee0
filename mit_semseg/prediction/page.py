"""The page of predictions. Its cards stay on disk until all images are done."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np

from ..inference.pictures import by_share
from ..report import predictions
from ..report.predictions import card_key
from ..runtime.files import replacing, unwritable
from .predictor import Prediction

NAME = "predictions.html"
_CARDS = ".predictions.{}.cards"


class _CardPosition(NamedTuple):
    file: Path
    start: int
    length: int


def known_cards(folder: Path) -> set[str]:
    """The keys of the cards of earlier runs, in their page or in the card files of an unfinished run."""
    return set(_find_cards(folder, earlier=True))


def drop_cards(folder: Path) -> None:
    """Delete the card files of an earlier run that did not finish."""
    for file in folder.glob(_CARDS.format("*")):
        file.unlink()


class CardFile:
    """The file to which process ``rank`` appends its cards."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._path = folder, folder / _CARDS.format(rank)

    def add(self, name: str, prediction: Prediction, shares: np.ndarray, files: Sequence[Path]) -> None:
        """Append the card of an image, or of a frame of a video.

        Args:
            name: of the input.
            files: its outputs, inside the folder.

        Raises: UserError if the file cannot be written.
        """
        links = []
        for file in files:
            path = file.relative_to(self._folder).as_posix()
            links.append((quote(path, safe="/", errors="surrogateescape"), path))
        card = predictions.card(
            name,
            prediction.image,
            prediction.labels,
            prediction.table.names,
            prediction.table.colors,
            [(k, float(shares[k])) for k in by_share(shares)],
            links,
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as cards:
                # Start a new line: a run that was killed may have left half a line.
                cards.write(b"\n" + card)
        except OSError as error:
            raise unwritable(self._path, error) from error


def write_page(folder: Path, names: Sequence[str], problems: Sequence[str], *, earlier: bool) -> Path:
    """Write the page from the cards of all processes, in the order of ``names``, and delete the card files.

    Args:
        earlier: take cards that this run does not have from the page of an earlier run.

    Raises: UserError if the page cannot be written.
    """
    cards = _find_cards(folder, earlier=earlier)
    positions = [cards[key] for key in map(card_key, names) if key in cards]
    with replacing(folder / NAME) as file:
        for piece in predictions.page(_read(positions), len(positions), problems):
            file.write(piece)
    drop_cards(folder)
    return folder / NAME


def _find_cards(folder: Path, *, earlier: bool) -> dict[str, _CardPosition]:
    found = {}
    pages = [folder / NAME] if earlier else []
    for path in (*pages, *sorted(folder.glob(_CARDS.format("*")))):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            start = 0
            for line in file:
                key = predictions.key_of(line)
                if key is not None:
                    found[key] = _CardPosition(path, start, len(line))
                start += len(line)
    return found


def _read(positions: Sequence[_CardPosition]) -> Iterator[bytes]:
    files: dict[Path, BinaryIO] = {}
    try:
        for file, start, length in positions:
            if file not in files:
                files[file] = file.open("rb")
            files[file].seek(start)
            yield files[file].read(length)
    finally:
        for stream in files.values():
            stream.close()
