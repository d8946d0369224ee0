"""Paths for outputs that overwrite neither each other nor an input."""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .paths import Resolver
from .texts import NumberedTexts

_MAX_NAME = 255 - len("..part")  # bytes of a file name; `files.replacing` adds these characters


def output_paths(images: Sequence[str], roots: Sequence[str], folder: Path) -> list[Path]:
    """The path of each image's picture: ``folder/<name>.png``, in the image's subfolder of its root.

    No two images share a picture: ``a.jpg`` and ``a.png`` give ``a.jpg.png`` and ``a.png.png``. No picture
    overwrites an image: ``a.png`` in the output folder gives ``a_segmented.png``.

    Args:
        images: files, without repeats.
        roots: the files and folders that contained them.
    """
    relative = [str(_relative_to_root(Path(image), roots)) for image in images]
    others = other_names(images, lambda: (Wanted(k, path, ".png") for k, path in enumerate(relative)), folder)
    return [folder / (others.get(k) or plain_name(path, ".png")) for k, path in enumerate(relative)]


def plain_name(relative: str, suffix: str) -> str:
    """The name of an output inside the output folder, unless `other_names` gives it another one.

    >>> plain_name("sub/a.jpg", "_labels.png")
    'sub/a_labels.png'
    """
    return _cut(_stem(relative), suffix)


class Wanted(NamedTuple):
    """An output that needs a path.

    Attributes:
        number: any, above that of the output before it.
        relative: the path of its input relative to the output folder.
        suffix: to replace the extension, such as ``_labels.png``.
    """

    number: int
    relative: str
    suffix: str


def other_names(
    inputs: Iterable[str],
    outputs: Callable[[], Iterable[Wanted]],
    folder: Path,
    is_taken: Callable[[str], bool] = lambda path: False,
    is_settled: Callable[[int], bool] = lambda number: False,
) -> NumberedTexts:
    """The outputs that cannot have their `plain_name`, and the name of each, by their numbers.

    No two outputs share a path, and no output has the path of an input, even through a link. Where two would
    collide, the names keep the extension of the input or get a number. Names too long for the file system are
    cut.

    Only hashes of all the paths are kept. If those of two paths are equal by chance, one of them gets another
    name without need.

    Args:
        inputs: files, without repeats.
        outputs: returns all of them, each time in the same order.
        is_taken: whether an existing path must be left alone for another reason. The answer must not change.
        is_settled: whether an output already has another name, which `is_taken` knows.
    """
    real, start = Resolver(), str(folder / "_")[:-1]  # nothing for ".", so that paths are as `folder / name`

    def is_held(path: str) -> bool:
        return real.exists(path) and is_taken(path)

    def key(path: str) -> int:
        return hash(real(path))

    of_inputs = np.fromiter(map(key, inputs), np.int64)
    plain, special = array("q"), bytearray()
    for number, relative, suffix in outputs():
        path = start + plain_name(relative, suffix)
        plain.append(key(path))
        special.append(is_settled(number) or is_held(path))
    keys = np.frombuffer(plain, np.int64) if plain else np.empty(0, np.int64)
    unlike = np.frombuffer(bytes(special), bool) | _repeated(keys) | np.isin(keys, of_inputs)
    kept = np.sort(np.concatenate([of_inputs, keys[~unlike]]))
    names = NumberedTexts()
    if not unlike.any():
        return names
    wanted: Counter[str] = Counter()  # without most of the settled ones, which may be millions
    for settled in (False, True):
        for number, relative, suffix in compress(outputs(), unlike):
            text = _stem(relative) + suffix
            if is_settled(number) == settled and (not settled or text in wanted):
                wanted[text] += 1
    given: set[int] = set()

    def is_free(name: str) -> bool:
        path = start + name
        found = key(path)
        place = np.searchsorted(kept, found)
        return found not in given and not (place < len(kept) and kept[place] == found) and not is_held(path)

    # Thousands of images may want one name. They share a series, so that none tries again what is taken.
    series: dict[tuple[str, str], Iterator[str]] = {}
    for number, relative, suffix in compress(outputs(), unlike):
        if is_settled(number):
            continue
        stem = _stem(relative)
        if wanted[stem + suffix] > 1:
            stem = relative
        name = _cut(stem, suffix)
        if (name, suffix) in series or not is_free(name):
            name = next(filter(is_free, series.setdefault((name, suffix), _names(stem, suffix))))
        given.add(key(start + name))
        names.add(number, name)
    return names


def _repeated(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each key occurs more than once."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    repeated = np.zeros(len(keys), bool)
    repeated[order[1:][same]] = repeated[order[:-1][same]] = True
    return repeated


def _names(stem: str, suffix: str) -> Iterator[str]:
    """The wanted name and then an endless series of substitutes."""
    yield _cut(stem, suffix)
    yield _cut(stem, f"_segmented{suffix}")
    number = 2
    while True:
        yield _cut(stem, f"_segmented_{number}{suffix}")
        number += 1


def _cut(stem: str, suffix: str) -> str:
    """``stem`` with ``suffix``, cut to a length that the file system takes."""
    folder, slash, name = stem.rpartition(os.sep)
    while len(name + suffix) > _MAX_NAME // 4 and len(os.fsencode(name + suffix)) > _MAX_NAME:
        name = name[:-1]
    return folder + slash + name + suffix


def _stem(path: str) -> str:
    """A path without its extension."""
    dot = path.rfind(".")
    return path[:dot] if path.rfind(os.sep) + 1 < dot < len(path) - 1 else path


def _relative_to_root(image: Path, roots: Sequence[str]) -> Path:
    """The image's path relative to its root; its name if the image itself was named."""
    for root in map(Path, roots):
        if image != root and image.is_relative_to(root):
            return image.relative_to(root)
    return Path(image.name)
