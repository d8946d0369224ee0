"""Which images train and which validate: by the names of folders, or drawn."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from .release import TRAINING, VALIDATION, SourcePair

_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}


def split_of_folder(name: str) -> str | None:
    """The split that a folder's name stands for: `TRAINING`, `VALIDATION` or "test"; None if for no split."""
    return _NAMES.get(name.casefold())


def assign(pairs: Sequence[SourcePair], share: float, seed: int) -> tuple[list[SourcePair], list[str]]:
    """Gives each pair a split: its own, or one drawn by its name.

    The draw depends on the seed and the name alone, so an added image moves no other image to another split.
    If there are two or more images, each split gets at least one, unless ``share`` is 0.

    Returns: the pairs, and sentences on what the user may not expect.
    """
    notes = []
    drawn = [pair for pair in pairs if not pair.split]
    if share and pairs and all(pair.split == TRAINING for pair in pairs):
        drawn = list(pairs)
        notes.append(f"There is no validation part, so {share:.0%} of the training images are drawn for it.")
    validation = _draw([pair.name for pair in drawn], share, seed)
    if drawn and len(drawn) < len(pairs):
        notes.append(f"{len(drawn)} images have no split of their own; {len(validation)} of them validate.")
    chosen = {id(pair) for pair in drawn}
    return [
        replace(pair, split=VALIDATION if pair.name in validation else TRAINING)
        if id(pair) in chosen
        else pair
        for pair in pairs
    ], notes


def _draw(names: Sequence[str], share: float, seed: int) -> set[str]:
    place = {name: _uniform(f"{seed}/{name}") for name in names}
    drawn = {name for name in names if place[name] < share}
    if share and len(place) > 1:
        if not drawn:
            drawn = {min(place, key=place.__getitem__)}
        elif len(drawn) == len(place):
            drawn.remove(max(place, key=place.__getitem__))
    return drawn


def _uniform(text: str) -> float:
    """A number from 0 to below 1 that depends on the text alone."""
    return int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big") / 2**48
