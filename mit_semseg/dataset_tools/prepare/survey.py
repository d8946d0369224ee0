"""What all files of a tool say, image by image: which images can be used, what is wrong, what is counted."""

import posixpath
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import PurePosixPath

from ...data.files import IMAGE_EXTENSIONS
from ...data.polygons import crosses_itself
from ...errors import UserError
from .drawn import Drawn, is_name
from .image_finder import ImageFinder, split_of_file, split_of_folders, split_of_words
from .release import SourcePair
from .shape_labels import Spool, views
from .shapes import Polygon, outside
from .source import SourceFolder, some

_SHOWN = 5  # problems of an image that are spelled out
_IMAGE_FOLDERS = ("images", "image", "img", "imgs")


class Survey:
    """Is given a `Drawn` after the other, and keeps the shapes of those that can be used."""

    def __init__(self, source: SourceFolder) -> None:
        self.source = source
        self.finder = ImageFinder(source.members)
        self.spool = Spool()
        self.listed: Counter[str] = Counter()
        """Annotation file -> images that it lists."""
        self.problems: list[str] = []
        self.places: dict[str, tuple[int, int]] = {}
        self.used: Counter[str] = Counter()
        """Class name -> shapes."""
        self._file_of: dict[str, str] = {}
        self._split_of: dict[str, str] = {}
        self._missing: dict[str, list[str]] = defaultdict(list)
        self._bad: set[str] = set()
        self._tests = self._bare = 0
        self._absent: set[str] = set()
        self._omitted: Counter[str] = Counter()
        self._clipped: list[str] = []
        self._crossing: list[str] = []

    def add(self, drawn: Drawn) -> None:
        """Checks and keeps what a tool says about an image."""
        where = self.source.where(drawn.file)
        if not drawn.image:
            self.problems += [f"{where}: {problem}." if drawn.file else problem for problem in drawn.problems]
            return
        self.listed[drawn.file] += 1
        near, split = posixpath.dirname(drawn.file), drawn.split or split_of_file(drawn.file)
        found = next((all_ for name in drawn.image if (all_ := self.finder.find(name, near, split))), [])
        if not found:
            self._missing[drawn.file].append(drawn.image[0])
            return
        if len(found) > 1:
            self._bad.update(found)
            self.problems.append(
                f"{where}: {drawn.image[0]} may be any of {some(found)}. Rename them, or remove all but one."
            )
            return
        (image,) = found
        other = self._file_of.get(image)
        if other is not None:
            self._bad.add(image)
            twice = (
                f"twice in {where}"
                if other == drawn.file
                else f"in {self.source.where(other)} and in {where}"
            )
            self.problems.append(
                f"{self.source.where(image)} is annotated {twice}. Keep one of them"
                + ("." if other == drawn.file else ", or choose a file with --annotations.")
            )
            return
        self._file_of[image] = drawn.file
        split = drawn.split or split_of_folders(image) or split
        if split == "test":
            self._tests += 1
            return
        self._split_of[image] = split
        nameless = [k for k, shape in enumerate(drawn.shapes, 1) if not is_name(shape.name)]
        drawn.problems += [f"shape {k} has no class" for k in nameless]
        if drawn.problems:
            self._bad.add(image)
            more = f" (and {len(drawn.problems) - _SHOWN} more)" if len(drawn.problems) > _SHOWN else ""
            self.problems.append(f"{where}: {'; '.join(drawn.problems[:_SHOWN])}, image {image}{more}.")
            return
        self._count(drawn, image, where)
        self.places[image] = self.spool.add(replace(drawn, problems=[], omitted=Counter()))

    def finish(self, wanted: str) -> None:
        """Names the images that are listed but missing. Raises: UserError if nothing is left to read."""
        source = self.source
        if not self.listed and not source.opened:
            raise source.nothing_found(wanted)
        if not self.listed and self.problems:
            return
        if not self.listed:
            files = some([source.where(member) for member in sorted(source.opened)])
            raise UserError(
                f"The export is empty: no image is listed in {files}. Export the labelled images."
            )
        if all(len(self._missing[file]) == count for file, count in self.listed.items()):
            names = [name for names in self._missing.values() for name in names]
            files = some([source.where(file) for file in self._missing])
            raise UserError(
                f"{source.path} holds none of the {len(names)} images that {files} lists ({some(names)}). "
                f"Put the images into this folder, or into a folder in it."
            )
        for file, names in self._missing.items():
            # A part of the images that was not downloaded, unless each image has a file of its own.
            if len(names) == self.listed[file] > 1:
                self._absent.add(file)
            else:
                self.problems += [f"{source.where(file)} lists {name}, which is not there." for name in names]
        if not self.used and not self.problems:
            kinds = f", apart from {_counts(self._omitted)}" if self._omitted else ""
            raise UserError(
                f"{source.path}: the export is empty: {_images(self.listed.total())}, and no shape with an "
                f"area{kinds}. Label some images, or export those that are labelled."
            )

    def pairs(self) -> list[SourcePair]:
        """The images that can be used, by name."""
        images = sorted(set(self.places) - self._bad)
        folders = [PurePosixPath(image).parts[:-1] for image in images]
        common = len(posixpath.commonprefix(folders)) if folders else 0
        pairs = []
        for image in images:
            *folder, name = PurePosixPath(image).with_suffix("").parts[common:]
            kept = [
                part for part in folder if part.lower() not in _IMAGE_FOLDERS and not split_of_words([part])
            ]
            pairs.append(
                SourcePair("/".join([*kept, name]), self._file_of[image], image, self._split_of[image])
            )
        return pairs

    def notes(self) -> list[str]:
        """What the user may not expect, in sentences."""
        notes = []
        for file in sorted(self._absent):
            where = self.source.where(file)
            notes.append(f"{where} is omitted: none of its {self.listed[file]} images is in the source.")
        if self._tests:
            notes.append(f"{_images(self._tests)} of the test part {_are(self._tests)} omitted.")
        known = set(self._file_of) | self._bad | self.source.opened
        rest = [name for name in self.source.members if name.lower().endswith(IMAGE_EXTENSIONS)]
        rest = [name for name in rest if name not in known]
        if rest:
            count = len(rest)
            notes.append(f"{_images(count)} {_are(count)} not annotated, and so not used ({some(rest)}).")
        if self._bare:
            has = "has" if self._bare == 1 else "have"
            notes.append(f"{_images(self._bare)} {has} no shape.")
        notes += on_shapes(self._clipped, self._crossing)
        if self._omitted:
            notes.append(f"Without an area, and so omitted: {_counts(self._omitted)}.")
        return notes

    def _count(self, drawn: Drawn, image: str, where: str) -> None:
        self._omitted += drawn.omitted
        self._bare += not drawn.shapes
        size = drawn.size
        if size is None:
            try:
                size = views(self.source.file(image))[1]
            except UserError:  # reported when the image is converted
                size = (2**31, 2**31)
        for number, shape in enumerate(drawn.shapes, 1):
            self.used[shape.name] += 1
            place = f"{where}: shape {number} of {image}"
            if outside(shape, size):
                self._clipped.append(place)
            rings = [ring for part in shape.parts if isinstance(part, Polygon) for ring in part.rings]
            if any(crosses_itself(ring) for ring in rings):
                self._crossing.append(place)


def on_shapes(clipped: list[str], crossing: list[str]) -> list[str]:
    """Notes on shapes that are outside of their images in part, and on those that cross themselves."""
    return [
        f"Shapes that {says}: {len(places)} ({some(places)})."
        for places, says in (
            (clipped, "reach outside of their images, and are cut off there"),
            (crossing, "cross themselves; what an outline surrounds twice is outside (even-odd rule)"),
        )
        if places
    ]


def _counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} of the kind {kind}" for kind, count in sorted(kinds.items()))


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
