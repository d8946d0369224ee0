"""The inputs of test.py: images, folders, patterns, a list on standard input, videos, a camera."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from PIL import Image

from ..data.files import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    counted,
    is_broken_link,
    is_image,
    is_video,
    missing,
)
from ..data.folders import is_left_by_system, leads_up, search
from ..data.remote import address_of
from ..data.scenes import is_scene
from ..errors import UserError
from ..runtime.paths import PathError, Resolver, expand, expand_argument

_STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Input:
    """One image, scene, video or camera.

    Attributes:
        path: of the file, or the number of the camera.
        relative: the path of its outputs relative to the output folder, without their suffixes: the path
            relative to the folder that was searched, or the name of a file that was named itself.
    """

    path: str
    kind: Literal["image", "scene", "video", "camera"]
    relative: Path

    @property
    def identity(self) -> str:
        """The same however the input was named: its name in the real folder; "" for a camera.

        A link to a file is an input of its own, because its outputs have its name.
        """
        return self.identity_by(Resolver())

    def identity_by(self, real: Resolver) -> str:
        """`identity`, for many inputs."""
        if self.kind == "camera":
            return ""
        path = Path(self.path)
        return str(Path(real.folder(str(path.parent)), path.name))


@dataclass
class Found:
    """What the words of a command line name.

    Attributes:
        inputs: without repeats.
        unread: other files that a word matches, or that are in a folder that was searched.
        above: links in a folder that was searched to folders that contain it. They were not followed.
        problems: a sentence for each folder that cannot be searched.
    """

    inputs: list[Input] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        self.inputs += other.inputs
        self.unread += other.unread
        self.above += other.above
        self.problems += other.problems


def find_inputs(words: Sequence[str], standard_input: TextIO | None, more: tuple[str, ...] = ()) -> Found:
    """The inputs that words of the command line name.

    - A file is an image, unless it has a common extension of videos.
    - A folder and its subfolders are searched for images, see `search`, in sorted order. Videos do not count.
    - A pattern such as ``photos/**/*.jpg`` names the images and videos that match. Folders that match are
      searched. A file with that name has precedence.
    - ``-`` reads paths from standard input, one on each line, or separated by zero bytes if there are any. A
      path that does not exist becomes an input, whose error is reported when it is opened.
    - A number is a camera, unless a file has that name.

    In all paths and patterns, ``~`` and variables are expanded.

    Args:
        more: further extensions of images, in lower case.

    Raises: UserError if a path does not exist or cannot be expanded, or if a word is an address or names no
        input.
    """
    named = Found()
    for word in words:
        listed = word == _STANDARD_INPUT
        named.add(_listed(standard_input, more) if listed else _named(expand_argument(word, "--imgs"), more))
    if not named.inputs:
        if named.problems:
            raise UserError("\n".join(named.problems))
        raise UserError("The list on standard input is empty. It has to name at least one image.")
    inputs: dict[str, Input] = {}
    real = Resolver()
    for each in named.inputs:
        inputs.setdefault(each.identity_by(real) or each.path, each)
    unread: dict[str, str] = {}
    for path in named.unread:
        unread.setdefault(_file(path, Path()).identity_by(real), path)
    return Found(
        list(inputs.values()),
        [path for identity, path in unread.items() if identity not in inputs],
        list(dict.fromkeys(named.above)),
        list(dict.fromkeys(named.problems)),
    )


def describe_unread(found: Found) -> str:
    """What was found and is not an input, counted by its kind, with what to do about it; "" for nothing."""
    words = [counted(found.unread, _hint)] if found.unread else []
    if found.above:
        count = len(found.above)
        words.append(f"{count} link{'s' * (count > 1)} to a folder above ({found.above[0]})")
    return ", ".join(words)


def _hint(extension: str, count: int) -> str:
    if extension and extension not in VIDEO_EXTENSIONS and not _pillow_opens(extension):
        return ""
    return "name it to segment it" if count == 1 else "name them to segment them"


def _pillow_opens(extension: str) -> bool:
    """Whether Pillow reads files with an extension, which are rarely photos if they are not searched for."""
    return Image.registered_extensions().get(extension) in Image.OPEN


def _is_address(word: str) -> str:
    """The error message for an address. Outputs such as LabelMe's name the files that they belong to."""
    return (
        f"{word} is an address, but the inputs are files on this machine. Download it first. (Lists for "
        "training and evaluation may name addresses.)"
    )


def _named(word: str, more: tuple[str, ...]) -> Found:
    if address_of(word):
        raise UserError(_is_address(word))
    path = Path(word)
    if os.path.isdir(word):  # noqa: PTH112 - those of Path raise an error in a folder that cannot be read
        found = _searched(path, more)
        if not found.inputs:
            raise UserError(_no_image(found, path))
        return found
    if os.path.exists(path):  # noqa: PTH110
        return Found([_file(word, Path(path.name))])
    if word.isascii() and word.isdecimal():
        return Found([Input(str(int(word)), "camera", Path(f"camera_{int(word)}"))])
    if glob.has_magic(word):
        return _matching(word, more)
    with suppress(FileNotFoundError, NotADirectoryError):
        path.stat()  # raises another error for a name that is too long, or in a folder that cannot be read
    raise UserError(f"{missing(word)} Name an image or a folder of images.")


def _is_image(path: str | Path, more: tuple[str, ...]) -> bool:
    return is_image(path) or Path(path).suffix.lower() in more


def _file(path: str, relative: Path) -> Input:
    return Input(path, "video" if is_video(path) else "scene" if is_scene(path) else "image", relative)


def _searched(folder: Path, more: tuple[str, ...], relative_to: Path | None = None) -> Found:
    """The images in a folder, and all else in it."""
    tree = search(folder)
    found = Found(above=tree.above, problems=tree.problems)
    for file in tree.files:
        if _is_image(file, more):
            found.inputs.append(_file(file, Path(file).relative_to(relative_to or folder)))
        elif is_broken_link(file):  # such as to a folder on a drive that is not connected
            found.problems.append(missing(file))
        else:
            found.unread.append(file)
    return found


def _no_image(found: Found, folder: Path) -> str:
    """The error message for a folder without images."""
    sentences = [f"No image in {folder}.", *found.problems]
    if unread := describe_unread(found):
        sentences.append(f"It holds {unread}.")
    if any(map(is_video, found.unread)):
        sentences.append(f"A pattern such as '{folder / '*.mp4'}' names several videos.")
    sentences.append(f"Images have one of these extensions: {' '.join(IMAGE_EXTENSIONS)}.")
    return " ".join(sentences)


def _matching(pattern: str, more: tuple[str, ...]) -> Found:
    root = Path(*_fixed_parts(Path(pattern)))
    found = Found()
    searched: set[Path] = set()
    matches = [Path(match) for match in sorted(set(_expanded(pattern, found)))]
    # Files first: a folder among the matches may lead to them by a link, under another path.
    for match in sorted(matches, key=Path.is_dir):
        if is_left_by_system(match.name):
            continue
        if match.is_dir():
            if searched.isdisjoint(match.parents):
                found.add(Found(above=[str(match)]) if leads_up(match) else _searched(match, more, root))
                searched.add(match)
        elif _is_image(match, more) or is_video(match):
            found.inputs.append(_file(str(match), match.relative_to(root)))
        elif is_broken_link(match):
            found.problems.append(missing(match))
        else:
            found.unread.append(str(match))
    if not found.inputs:
        others = f", but {unread}" if (unread := describe_unread(found)) else ""
        extensions = " ".join((*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS))
        raise UserError(
            " ".join(
                [
                    f"No image or video matches {pattern}{others}.",
                    *found.problems,
                    f"They have one of these extensions: {extensions}.",
                ]
            )
        )
    return found


def _expanded(pattern: str, found: Found) -> Iterator[str]:
    """The paths that match a pattern. ``**`` stands for the folders that `search` finds.

    That of `glob` follows a link to a folder above it again and again.

    Args:
        found: receives what `search` could not search.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)  # noqa: PTH207 - Path.glob needs a folder to start from
        return
    place = parts.index("**")
    rest = parts[place + 1 :] or ("*",)
    for start in glob.glob(str(Path(*parts[:place]))) if place else ["."]:  # noqa: PTH207
        if Path(start).is_dir():
            tree = search(start)
            found.add(Found(above=tree.above, problems=tree.problems))
            for folder in tree.folders:
                yield from _expanded(str(Path(glob.escape(folder), *rest)), found)


def _fixed_parts(pattern: Path) -> Iterator[str]:
    """The folders before the first one that is a pattern."""
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _listed(file: TextIO | None, more: tuple[str, ...]) -> Found:
    if file is None:
        raise UserError("'-' reads paths from standard input, but that is closed.")
    data = file.buffer.read()
    lines = data.split(b"\0") if b"\0" in data else [line.rstrip(b"\r") for line in data.split(b"\n")]
    found = Found()
    for path in [_home_and_variables(os.fsdecode(line)) for line in lines if line]:
        if address_of(path):
            found.problems.append(_is_address(path))
        elif os.path.isdir(path):  # noqa: PTH112
            below = _searched(Path(path), more)
            found.add(below)
            if not below.inputs:
                found.problems.append(_no_image(below, Path(path)))
        else:
            found.inputs.append(_file(path, Path(Path(path).name)))
    return found


def _home_and_variables(path: str) -> str:
    try:
        return expand(path)
    except PathError:  # whoever opens the path reports that it does not exist
        return path
