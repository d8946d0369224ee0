"""Paths for outputs that overwrite neither each other nor an input."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .paths import Resolver

_MAX_NAME = 255 - len("..part")  # bytes of a file name; `files.replacing` adds these characters


def output_paths(images: Sequence[str], roots: Sequence[str], folder: Path) -> list[Path]:
    """The path of each image's picture: ``folder/<name>.png``, in the image's subfolder of its root.

    No two images share a picture: ``a.jpg`` and ``a.png`` give ``a.jpg.png`` and ``a.png.png``. No picture
    overwrites an image: ``a.png`` in the output folder gives ``a_segmented.png``.

    Args:
        images: files, without repeats.
        roots: the files and folders that contained them.
    """
    relative = [_relative_to_root(Path(image), roots) for image in images]
    return [paths[0] for paths in unique_paths(images, relative, [(".png",)] * len(images), folder)]


def unique_paths(
    inputs: Sequence[str],
    relative_paths: Sequence[Path],
    suffixes: Sequence[Sequence[str]],
    folder: Path,
    is_taken: Callable[[Path], bool] = lambda path: False,
) -> list[list[Path]]:
    """The paths of the outputs of each input: ``folder / <relative path without extension><suffix>``.

    No two outputs share a path, and no output has the path of an input, even through a link. Where two would
    collide, the names keep the extension of the input or get a number. Names too long for the file system are
    cut.

    Args:
        inputs: files, without repeats.
        relative_paths: the path of each input relative to ``folder``.
        suffixes: the suffixes of each input's outputs, such as ``_labels.png``.
        is_taken: whether a path must be left alone for another reason. The answer must not change.
    """
    wanted = Counter(
        _stem(path) + suffix for path, ends in zip(relative_paths, suffixes, strict=True) for suffix in ends
    )
    real = Resolver()
    taken = {real(path) for path in inputs}

    def is_free(name: Path) -> bool:
        return real(name) not in taken and not is_taken(name)

    # Thousands of images may want one name. They share a series, so that none tries again what is taken.
    series: dict[tuple[Path, str], Iterator[Path]] = {}
    outputs = []
    for path, ends in zip(relative_paths, suffixes, strict=True):
        paths = []
        for suffix in ends:
            stem = _stem(path)
            if wanted[stem + suffix] > 1:
                stem = str(path)
            name = _cut(folder / stem, suffix)
            if (name, suffix) in series or not is_free(name):
                names = series.setdefault((name, suffix), _names(folder / stem, suffix))
                name = next(filter(is_free, names))
            taken.add(real(name))
            paths.append(name)
        outputs.append(paths)
    return outputs


def _names(stem: Path, suffix: str) -> Iterator[Path]:
    """The wanted name and then an endless series of substitutes."""
    yield _cut(stem, suffix)
    yield _cut(stem, f"_segmented{suffix}")
    number = 2
    while True:
        yield _cut(stem, f"_segmented_{number}{suffix}")
        number += 1


def _cut(stem: Path, suffix: str) -> Path:
    """``stem`` with ``suffix``, cut to a length that the file system takes."""
    name = stem.name
    while len(os.fsencode(name + suffix)) > _MAX_NAME:
        name = name[:-1]
    return stem.with_name(name + suffix)


def _stem(path: Path) -> str:
    return str(path.with_suffix(""))


def _relative_to_root(image: Path, roots: Sequence[str]) -> Path:
    """The image's path relative to its root; its name if the image itself was named."""
    for root in map(Path, roots):
        if image != root and image.is_relative_to(root):
            return image.relative_to(root)
    return Path(image.name)
