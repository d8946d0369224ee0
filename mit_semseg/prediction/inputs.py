"""The inputs of test.py: images, folders, patterns, a list on standard input, videos, a camera."""

import glob
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO, get_args, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.files import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    counted,
    extension,
    is_broken_link,
    is_video,
    missing,
)
from ..data.folders import is_left_by_system, leads_up, search
from ..data.remote import address_of
from ..data.scene_files import is_scene
from ..errors import UserError
from ..runtime.paths import PathError, Resolver, expand, expand_argument, length_before
from ..runtime.texts import Texts, first_equals

_STANDARD_INPUT = "-"


Kind = Literal["image", "scene", "video", "camera"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Input:
    """One image, scene, video or camera.

    Attributes:
        path: of the file, or the number of the camera.
        relative: the path of its outputs relative to the output folder, without their suffixes: the path
            relative to the folder that was searched, or the name of a file that was named itself.
    """

    path: str
    kind: Kind
    relative: Path

    @property
    def identity(self) -> str:
        """The same however the input was named: its name in the real folder; "" for a camera.

        A link to a file is an input of its own, because its outputs have its name.
        """
        return "" if self.kind == "camera" else _identity(self.path, Resolver())


class Inputs(Sequence[Input]):
    """Inputs in columns. Each needs 13 bytes besides the characters of its path.

    Attributes:
        paths: `Input.path` of each.
    """

    def __init__(self) -> None:
        self.paths = Texts()
        self._kinds, self._starts = bytearray(), array("i")

    def add(self, path: str, kind: Kind, start: int = 0) -> None:
        """Add an input.

        Args:
            start: where `Input.relative` begins in the path of a file.
        """
        self.paths.append(path)
        self._kinds.append(KINDS.index(kind))
        self._starts.append(start)

    def add_file(self, path: str, start: int) -> None:
        """Add an image, a scene or a video."""
        self.add(path, "video" if is_video(path) else "scene" if is_scene(path) else "image", start)

    def add_named(self, path: str) -> None:
        """Add a file whose outputs have its name alone."""
        self.add_file(path, path.rindex(Path(path).name))

    def add_all(self, other: "Inputs", numbers: Iterable[int] | None = None) -> None:
        """Add inputs of another sequence; by default all of them."""
        for k in range(len(other)) if numbers is None else numbers:
            self.add(other.paths[k], other.kind(k), other._starts[k])

    def __len__(self) -> int:
        return len(self._kinds)

    @overload
    def __getitem__(self, index: int) -> Input: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Input]: ...
    def __getitem__(self, index: int | slice) -> Input | Sequence[Input]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return Input(self.paths[index], self.kind(index), Path(self.relative(index)))

    def kind(self, index: int) -> Kind:
        """`Input.kind`."""
        return KINDS[self._kinds[index]]

    def relative(self, index: int) -> str:
        """`Input.relative`."""
        path = self.paths[index]
        return f"camera_{path}" if self.kind(index) == "camera" else path[self._starts[index] :]

    def identity(self, index: int, real: Resolver) -> str:
        """`Input.identity`."""
        return "" if self.kind(index) == "camera" else _identity(self.paths[index], real)

    def kinds(self) -> set[Kind]:
        """All kinds that occur."""
        return {KINDS[k] for k in set(self._kinds)}

    def of_kind(self, *kinds: Kind) -> NDArray[np.bool_]:
        """Whether each input is of one of these kinds."""
        return np.isin(np.frombuffer(bytes(self._kinds), np.uint8), [KINDS.index(kind) for kind in kinds])


@dataclass
class Found:
    """What the words of a command line name.

    Attributes:
        inputs: without repeats.
        unread: other files that a word matches, or that are in a folder that was searched.
        above: links in a folder that was searched to folders that contain it. They were not followed.
        problems: a sentence for each folder that cannot be searched.
    """

    inputs: Inputs = field(default_factory=Inputs)
    unread: Texts = field(default_factory=Texts)
    above: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_inputs(words: Sequence[str], standard_input: TextIO | None, more: tuple[str, ...] = ()) -> Found:
    """The inputs that words of the command line name.

    - A file with a common extension of videos is a video, a TIFF file with coordinates or very many pixels a
      scene (see `is_scene`), and any other file an image.
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
    found = Found()
    for word in words:
        if word == _STANDARD_INPUT:
            _add_listed(found, standard_input, more)
        else:
            _add_named(found, expand_argument(word, "--imgs"), more)
    if not found.inputs:
        if found.problems:
            raise UserError("\n".join(found.problems))
        raise UserError("The list on standard input is empty. It has to name at least one image.")
    return _without_repeats(found)


def _without_repeats(found: Found) -> Found:
    inputs, unread, real = found.inputs, found.unread, Resolver()
    count = len(inputs)

    def identity(k: int) -> str:
        return (
            inputs.identity(k, real) or inputs.paths[k] if k < count else _identity(unread[k - count], real)
        )

    first = first_equals(count + len(unread), identity)
    is_first = first == np.arange(len(first))
    others = np.flatnonzero(is_first[count:])
    result = Found(
        inputs,
        unread if len(others) == len(unread) else Texts(unread[k] for k in others.tolist()),
        list(dict.fromkeys(found.above)),
        list(dict.fromkeys(found.problems)),
    )
    if not is_first[:count].all():
        result.inputs = Inputs()
        result.inputs.add_all(inputs, np.flatnonzero(is_first[:count]).tolist())
    return result


def _identity(path: str, real: Resolver) -> str:
    """`Input.identity` of a file."""
    folder, name = os.path.split(path)
    if name in ("", os.curdir, os.pardir):
        folder, name = str(Path(path).parent), Path(path).name
    return os.path.join(real.folder(folder), name)  # noqa: PTH118 - Path takes five times as long


def describe_unread(found: Found) -> str:
    """What was found and is not an input, counted by its kind, with what to do about it; "" for nothing."""
    words = [counted(found.unread, _hint)] if found.unread else []
    if found.above:
        count = len(found.above)
        words.append(f"{count} link{'s' * (count > 1)} to a folder above ({found.above[0]})")
    return ", ".join(words)


def _hint(kind: str, count: int) -> str:
    if kind and kind not in VIDEO_EXTENSIONS and not _pillow_opens(kind):
        return ""
    return "name it to segment it" if count == 1 else "name them to segment them"


def _pillow_opens(kind: str) -> bool:
    """Whether Pillow reads files with an extension, which are rarely photos if they are not searched for."""
    return Image.registered_extensions().get(kind) in Image.OPEN


def _refusal_of_address(word: str) -> str:
    """The error message for an address. Outputs such as LabelMe's name the files that they belong to."""
    return (
        f"{word} is an address, but the inputs are files on this machine. Download it first. (Lists for "
        "training and evaluation may name addresses.)"
    )


def _add_named(found: Found, word: str, more: tuple[str, ...]) -> None:
    if address_of(word):
        raise UserError(_refusal_of_address(word))
    path = Path(word)
    if os.path.isdir(word):  # noqa: PTH112 - those of Path raise an error in a folder that cannot be read
        if problem := _add_searched(found, path, more):
            raise UserError(problem)
    elif os.path.exists(path):  # noqa: PTH110
        found.inputs.add_named(word)
    elif word.isascii() and word.isdecimal():
        found.inputs.add(str(int(word)), "camera")
    elif glob.has_magic(word):
        _add_matching(found, word, more)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # raises another error for a name that is too long, or a folder that cannot be read
        raise UserError(f"{missing(word)} Name an image or a folder of images.")


def _add(found: Found, file: str, start: int, *, is_input: bool) -> None:
    """Add a file that a search has found."""
    if is_input:
        found.inputs.add_file(file, start)
    elif is_broken_link(file):  # such as to a folder on a drive that is not connected
        found.problems.append(missing(file))
    else:
        found.unread.append(file)


def _add_searched(found: Found, folder: Path, more: tuple[str, ...], root: Path | None = None) -> str:
    """Add the images in a folder, and all else in it. Returns an error message if it has no image.

    Args:
        root: the folder to which the outputs' paths are relative; by default the folder itself.
    """
    tree, extensions = search(folder), {*IMAGE_EXTENSIONS, *more}
    before = len(found.inputs), len(found.unread)
    found.above += tree.above
    found.problems += tree.problems
    start = length_before(root or folder)
    for file in tree.files:
        _add(found, file, start, is_input=extension(file) in extensions)
    if len(found.inputs) > before[0]:
        return ""
    problems = [*tree.problems, *(missing(file) for file in tree.files if is_broken_link(file))]
    return _no_image(Found(unread=found.unread[before[1] :], above=tree.above, problems=problems), folder)


def _no_image(found: Found, folder: Path) -> str:
    """The error message for a folder without images."""
    sentences = [f"No image in {folder}.", *found.problems]
    if unread := describe_unread(found):
        sentences.append(f"It holds {unread}.")
    if any(map(is_video, found.unread)):
        sentences.append(f"A pattern such as '{folder / '*.mp4'}' names several videos.")
    sentences.append(f"Images have one of these extensions: {' '.join(IMAGE_EXTENSIONS)}.")
    return " ".join(sentences)


def _add_matching(found: Found, pattern: str, more: tuple[str, ...]) -> None:
    root = Path(*_fixed_parts(Path(pattern)))
    own = Found()
    extensions, start = {*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS, *more}, length_before(root)
    matches = sorted({str(Path(match)) for match in _expanded(pattern, own)})
    matches = [match for match in matches if not is_left_by_system(Path(match).name)]
    # Files first: a folder among the matches may lead to them by a link, under another path.
    folders = [match for match in matches if os.path.isdir(match)]  # noqa: PTH112
    names_of_folders, searched = set(folders), set[str]()
    for match in matches:
        if match not in names_of_folders:
            _add(own, match, start, is_input=extension(match) in extensions)
    for match in folders:
        if searched.isdisjoint(map(str, Path(match).parents)):
            if leads_up(match):
                own.above.append(match)
            else:
                _add_searched(own, Path(match), more, root)
            searched.add(match)
    if not own.inputs:
        others = f", but {unread}" if (unread := describe_unread(own)) else ""
        known = " ".join((*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS))
        problems = [f"No image or video matches {pattern}{others}.", *own.problems]
        raise UserError(" ".join([*problems, f"They have one of these extensions: {known}."]))
    found.inputs.add_all(own.inputs)
    for file in own.unread:
        found.unread.append(file)
    found.above += own.above
    found.problems += own.problems


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
            found.above += tree.above
            found.problems += tree.problems
            for folder in tree.folders:
                yield from _expanded(str(Path(glob.escape(folder), *rest)), found)


def _fixed_parts(pattern: Path) -> Iterator[str]:
    """The folders before the first one that is a pattern."""
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _add_listed(found: Found, file: TextIO | None, more: tuple[str, ...]) -> None:
    if file is None:
        raise UserError("'-' reads paths from standard input, but that is closed.")
    data = file.buffer.read()
    separator = b"\0" if b"\0" in data else b"\n"
    start = 0
    while start < len(data):  # not split: a million lines need less memory one by one
        end = data.find(separator, start)
        end = len(data) if end < 0 else end
        line = data[start:end] if separator == b"\0" else data[start:end].rstrip(b"\r")
        start = end + 1
        if not line:
            continue
        path = _home_and_variables(os.fsdecode(line))
        if address_of(path):
            found.problems.append(_refusal_of_address(path))
        elif not os.path.isdir(path):  # noqa: PTH112
            found.inputs.add_named(path)
        elif problem := _add_searched(found, Path(path), more):
            found.problems.append(problem)


def _home_and_variables(path: str) -> str:
    try:
        return expand(path)
    except PathError:  # whoever opens the path reports that it does not exist
        return path
