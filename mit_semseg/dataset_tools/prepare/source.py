"""The folder that a dataset is read from. Nothing in it is ever changed."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ...data.files import counted, is_broken_link, missing, regular
from ...data.folders import search
from ...errors import UserError
from .release import SourcePair

_ARCHIVE = re.compile(r"\.(zip|(tar|tar\.(gz|bz2|xz|zst)|tgz|tbz2?|txz))$", re.IGNORECASE)
_COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_MOST_JSON = 20  # files looked into
_BLOCK = 2**24  # bytes read at a time


class NothingFoundError(UserError):
    """The source does not have the layout of the format."""


@dataclass(frozen=True)
class SourceFolder:
    """A folder and everything below it. A member is a file's path in it, with / between the parts."""

    path: Path
    opened: set[str] = field(default_factory=set, repr=False, compare=False)
    """Members that were read."""

    @cached_property
    def members(self) -> list[str]:
        """All files that `search` finds, sorted. Raises: UserError if a folder cannot be read."""
        tree = search(self.path)
        if tree.problems:
            raise UserError(" ".join(tree.problems))
        return sorted(Path(file).relative_to(self.path).as_posix() for file in tree.files)

    def only(self, members: Iterable[str]) -> "SourceFolder":
        """The same folder with some of its members."""
        part = SourceFolder(self.path, self.opened)
        part.__dict__["members"] = list(members)
        return part

    def not_used(self, pairs: Iterable[SourcePair]) -> list[str]:
        """How many members of each kind are neither in a pair nor were opened, in sentences."""
        used = self.opened.union(*((pair.label, pair.image) for pair in pairs))
        rest = [name for name in self.members if name not in used]
        broken = [name for name in rest if is_broken_link(self.path / name)]
        others = sorted(set(rest) - set(broken))
        notes = [f"Not used: {counted(others)}."] if others else []
        return notes + ([f"Broken links: {some(broken)}."] if broken else [])

    @cached_property
    def coco_json(self) -> str:
        """The first member that is JSON in COCO's format; "" if there is none. Many tools export it."""
        texts = [name for name in self.members if name.lower().endswith(".json")]
        # Those that name the format first, because others may be many and large.
        texts.sort(key=lambda name: not re.search(r"coco|instances|annotations", name.lower()))
        return next((name for name in texts[:_MOST_JSON] if self.is_coco_json(name)), "")

    def is_coco_json(self, member: str) -> bool:
        """Whether a member is JSON that names the three parts of COCO's format, wherever they are in it."""
        return member.lower().endswith(".json") and _is_coco(self.path / member)

    def where(self, member: str) -> str:
        """A member's path for messages."""
        return str(self.path / member)

    def file(self, member: str) -> Path:
        """A member's path, to be opened. Raises: UserError for a pipe or a device, which may never end."""
        self.opened.add(member)
        return regular(self.path / member)

    def nothing_found(self, wanted: str) -> NothingFoundError:
        """An error with the wanted files, the present ones, and how to unpack archives among them."""
        tops = list(dict.fromkeys(name.split("/")[0] + ("/" if "/" in name else "") for name in self.members))
        there = ", ".join(tops[:6]) + (f", ... ({len(tops)} in all)" if len(tops) > 6 else "")
        archives = [command for name in tops if (command := unpack_command(self.path / name))]
        hint = f" Archives are not read; unpack them first: {archives[0]}" if archives else ""
        coco = self.coco_json
        if coco:
            hint += f" {self.where(coco)} is COCO's JSON, which the format coco reads."
        return NothingFoundError(f"{self.path} holds no {wanted}. It holds: {there or 'nothing'}.{hint}")


def open_source(path: Path) -> SourceFolder:
    """The source at a path. Raises: UserError if it is not a folder, with how to unpack an archive."""
    try:
        if path.is_dir():
            return SourceFolder(path)
        if not path.exists():
            raise UserError(f"{missing(path)} Name the folder of the dataset.")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    command = unpack_command(path)
    if command:
        raise UserError(f"{path} is an archive. Unpack it and name the folder instead: {command}")
    raise UserError(f"{path} is a file. Name the folder of the dataset.")


def unpack_command(path: Path) -> str:
    """The shell command that unpacks an archive into a folder beside it; "" for any other file."""
    stem = _ARCHIVE.sub("", path.name)
    if stem == path.name:
        return ""
    archive, folder = shlex.quote(str(path)), shlex.quote(str(path.with_name(stem or "unpacked")))
    if path.suffix.lower() == ".zip":
        return f"unzip {archive} -d {folder}"
    return f"mkdir {folder} && tar xf {archive} -C {folder}"


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    more = f", ... and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _is_coco(path: Path) -> bool:
    missing, end = set(_COCO_KEYS), b""
    try:
        with regular(path).open("rb") as file:
            while missing and (block := file.read(_BLOCK)):
                missing = {key for key in missing if key not in end + block}
                end = block[-max(map(len, _COCO_KEYS)) :]
    except (OSError, UserError):
        return False
    return not missing
