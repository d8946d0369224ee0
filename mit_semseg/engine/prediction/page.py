"""The cards of the page of results, kept on the disk until all are there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np

from ...atomic import replacing, unwritable
from ...legend import by_share
from ...report import predictions
from ...report.predictions import card_key
from .writers import Segmented

NAME = "predictions.html"
_CARDS = ".predictions.{}.cards"


class _Place(NamedTuple):
    file: Path
    start: int
    length: int


def known_cards(folder: Path) -> set[str]:
    """The keys of the cards that an earlier run has left: in its page, or beside it if it did not end."""
    return set(_find_cards(folder, earlier=True))


def drop_cards(folder: Path) -> None:
    """Forget what an earlier run has left that did not end."""
    for file in folder.glob(_CARDS.format("*")):
        file.unlink()


class CardFile:
    """The cards that process ``rank`` adds to those in a folder."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._path = folder, folder / _CARDS.format(rank)

    def add(self, name: str, result: Segmented, shares: np.ndarray, files: Sequence[Path]) -> None:
        """A card for an image, or for a frame of a video.

        Args:
            name: of the input.
            files: its outputs, below the folder.

        Raises: UserError if the disk refuses.
        """
        links = []
        for file in files:
            path = file.relative_to(self._folder).as_posix()
            links.append((quote(path, safe="/", errors="surrogateescape"), path))
        text = predictions.card(
            name,
            result.image,
            result.labels,
            result.table.names,
            result.table.colors,
            [(k, float(shares[k])) for k in by_share(shares)],
            links,
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as cards:
                # A line of its own, whatever a run that was killed has left behind.
                cards.write(b"\n" + predictions.encoded(text))
        except OSError as error:
            raise unwritable(self._path, error) from error


def write_page(folder: Path, names: Sequence[str], problems: Sequence[str], *, earlier: bool) -> Path:
    """Bring together the cards of all processes, in the order of ``names``, and drop them.

    Args:
        earlier: whether cards of the page that is there count, where there is none of this run.

    Raises: UserError if the disk refuses.
    """
    cards = _find_cards(folder, earlier=earlier)
    places = [cards[key] for key in map(card_key, names) if key in cards]
    with replacing(folder / NAME) as file:
        for piece in predictions.page(_read(places), len(places), problems):
            file.write(piece)
    drop_cards(folder)
    return folder / NAME


def _find_cards(folder: Path, *, earlier: bool) -> dict[str, _Place]:
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
                    found[key] = _Place(path, start, len(line))
                start += len(line)
    return found


def _read(places: Sequence[_Place]) -> Iterator[bytes]:
    files: dict[Path, BinaryIO] = {}
    try:
        for place in places:
            if place.file not in files:
                files[place.file] = place.file.open("rb")
            files[place.file].seek(place.start)
            yield files[place.file].read(place.length)
    finally:
        for file in files.values():
            file.close()
