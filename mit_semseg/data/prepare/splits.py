"""Which images train and which validate, where the dataset does not say."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from .release import TRAINING, VALIDATION, Example

_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}


def split_of_folder(name: str) -> str | None:
    """What a folder's name says: `TRAINING`, `VALIDATION`, "test", or None for nothing."""
    return _NAMES.get(name.casefold())


def assign(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[str]]:
    """Gives each example a split: its own, or one drawn by its name.

    The draw depends on the seed and the name alone, so an image that is added moves no other one. Of two or
    more images at least one comes to either side, unless ``share`` is 0.

    Returns: the examples, and sentences on what the user would not expect.
    """
    notes = []
    drawn = [example for example in examples if not example.split]
    if share and examples and all(example.split == TRAINING for example in examples):
        drawn = list(examples)
        notes.append(
            f"There is no validation part; {share:.0%} of the training images, drawn, take its place."
        )
    validation = _draw([example.name for example in drawn], share, seed)
    if drawn and len(drawn) < len(examples):
        notes.append(f"{len(drawn)} images are in no part of their own; {len(validation)} of them validate.")
    chosen = {id(example) for example in drawn}
    return [
        replace(example, split=VALIDATION if example.name in validation else TRAINING)
        if id(example) in chosen
        else example
        for example in examples
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
    """A number from 0 to below 1 that only the text decides."""
    return int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big") / 2**48
