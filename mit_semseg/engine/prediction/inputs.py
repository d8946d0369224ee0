"""What ``--imgs`` names: images, folders, patterns, a list on standard input, videos, a camera."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from ...data.files import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, files_below, is_image, is_video
from ...errors import UserError

_LIST = "-"


@dataclass(frozen=True)
class Input:
    """One image, video or camera.

    Attributes:
        path: of the file, or the number of the camera.
        below: its place in what was named, to which its outputs go below the output folder: its path below
            a folder that was searched, its name alone where it was named itself.
    """

    path: str
    kind: Literal["image", "video", "camera"]
    below: Path


def find_inputs(words: Sequence[str], standard_input: TextIO | None) -> list[Input]:
    """The inputs that words of the command line name, each once.

    - A file is an image, unless it has one of the common extensions of videos.
    - A folder is searched for images, with all below it, sorted. Hidden ones do not count, and videos have to
      be named.
    - A pattern (``photos/**/*.jpg``) is one if no file has that name. The images and videos that match count,
      and a folder that matches is searched.
    - ``-`` reads paths from standard input, one a line; or separated by zero bytes, if there are any. A path
      that does not exist is left for whoever opens it to complain about.
    - A number is a camera, if no file has that name.

    Raises: UserError if a path does not exist, or a word leads to nothing.
    """
    found: dict[str, Input] = {}
    for word in words:
        new = _listed(standard_input) if word == _LIST else _named(word)
        for each in new:
            found.setdefault(each.path, each)
    if not found:
        raise UserError("An empty list of paths names no image.")
    return list(found.values())


def _named(word: str) -> list[Input]:
    path = Path(word)
    if path.is_dir():
        return _searched(path)
    if path.exists():
        return [_file(word, Path(path.name))]
    if word.isascii() and word.isdecimal():
        return [Input(str(int(word)), "camera", Path(f"camera_{int(word)}"))]
    if glob.has_magic(word):
        return _matching(word)
    raise UserError(f"{word} does not exist. Name an image or a folder of images.")


def _file(path: str, below: Path) -> Input:
    return Input(path, "video" if is_video(path) else "image", below)


def _searched(folder: Path) -> list[Input]:
    files = files_below(folder)
    images = [Input(file, "image", Path(file).relative_to(folder)) for file in files if is_image(file)]
    if not images:
        videos = sum(map(is_video, files))
        hint = f"Files with these extensions count: {' '.join(IMAGE_EXTENSIONS)}."
        if videos:
            hint = f"There are {videos} videos; name them, or a pattern such as '{folder / '*.mp4'}'."
        raise UserError(f"No image in {folder}. {hint}")
    return images


def _matching(pattern: str) -> list[Input]:
    root = Path(*_fixed_parts(Path(pattern)))
    found = []
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - of any path, not below one
        if Path(match).is_dir():
            files = [file for file in files_below(match) if is_image(file)]
        else:
            files = [match] if is_image(match) or is_video(match) else []
        found += [_file(file, Path(file).relative_to(root)) for file in files]
    if not found:
        raise UserError(
            f"No image or video matches {pattern}. "
            f"Files with these extensions count: {' '.join((*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS))}."
        )
    return found


def _fixed_parts(pattern: Path) -> Iterator[str]:
    """The folders in front of the first that is a pattern."""
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _listed(file: TextIO | None) -> Iterator[Input]:
    if file is None:
        raise UserError("'-' reads paths from standard input, but that is closed.")
    data = file.buffer.read()
    lines = data.split(b"\0") if b"\0" in data else [line.rstrip(b"\r") for line in data.split(b"\n")]
    for path in [os.fsdecode(line) for line in lines if line]:
        if _is_folder(path):
            yield from _searched(Path(path))
        else:
            yield _file(path, Path(Path(path).name))


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # refused, as everything else will be that is tried with it
        return False
