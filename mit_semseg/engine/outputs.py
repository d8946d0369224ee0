"""Where the outputs of each input go."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_LONGEST = 255 - len("..part")  # bytes of a file's name, of which `atomic.replacing` needs some


def output_paths(images: Sequence[str], asked: Sequence[str], folder: Path) -> list[Path]:
    """The picture of each image: ``folder/<name>.png``, in the image's subfolder below a folder asked for.

    No two images share a picture (``a.jpg`` beside ``a.png`` become ``a.jpg.png`` and ``a.png.png``), and
    none takes the place of an image (``a.png`` in the output folder becomes ``a_segmented.png``).

    Args:
        images: files, each once.
        asked: the files and folders among which they were found.
    """
    below = [_below(Path(image), asked) for image in images]
    return [paths[0] for paths in place(images, below, [(".png",)] * len(images), folder)]


def place(
    inputs: Sequence[str],
    below: Sequence[Path],
    suffixes: Sequence[Sequence[str]],
    folder: Path,
    is_taken: Callable[[Path], bool] = lambda path: False,
) -> list[list[Path]]:
    """The outputs of each input: ``folder / <its place without extension><suffix>``.

    No two outputs share a path, and none is that of an input, even under another name of it. Where two would,
    their names keep the extension of the input, or are numbered. Names that are too long for the file system
    are cut.

    Args:
        inputs: files, each once.
        below: the place of each below ``folder``.
        suffixes: of each input's outputs, such as ``_labels.png``.
        is_taken: further paths to leave alone.
    """
    times = Counter(
        _stem(path) + suffix for path, ends in zip(below, suffixes, strict=True) for suffix in ends
    )
    taken = {Path(path).resolve() for path in inputs}
    outputs = []
    for path, ends in zip(below, suffixes, strict=True):
        paths = []
        for suffix in ends:
            stem = _stem(path)
            if times[stem + suffix] > 1:
                stem = str(path)
            for name in _names(folder / stem, suffix):
                if name.resolve() not in taken and not is_taken(name):
                    break
            taken.add(name.resolve())
            paths.append(name)
        outputs.append(paths)
    return outputs


def _names(stem: Path, suffix: str) -> Iterator[Path]:
    """The name that is wanted, and those to take in its place, without end."""
    yield _fitting(stem, suffix)
    yield _fitting(stem, f"_segmented{suffix}")
    number = 2
    while True:
        yield _fitting(stem, f"_segmented_{number}{suffix}")
        number += 1


def _fitting(stem: Path, suffix: str) -> Path:
    name = stem.name
    while len(os.fsencode(name + suffix)) > _LONGEST:
        name = name[:-1]
    return stem.with_name(name + suffix)


def _stem(path: Path) -> str:
    return str(path.with_suffix(""))


def _below(image: Path, asked: Sequence[str]) -> Path:
    """The image's path below the folder that was asked for; its name alone where the image itself was."""
    for path in map(Path, asked):
        if image != path and image.is_relative_to(path):
            return image.relative_to(path)
    return Path(image.name)
