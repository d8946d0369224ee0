"""``mit-semseg data shards``: images and labels of a list in tar files, and a list that names their places.

Nothing slow is imported before the arguments are read, so that ``--help`` answers at once.
"""

import argparse
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import UserError
from ..runtime.arguments import whole
from ..runtime.claim import claimed
from ..runtime.files import replacing, unwritable
from ..runtime.paths import argument

if TYPE_CHECKING:
    from ..data.file_cache import FileCache

Locate = Callable[[str], str | PathLike[str]]
"""The file that a path in the list names."""

_DEFAULT_MB = 512
_PATHS = ("fpath_img", "fpath_segm")  # in the order in a shard
_SAME_ENDING = ".seg"  # before the extension of a label whose image has the same one

_EPILOG = """\
For a LIST training.odgt, OUT receives training-000000.tar, training-000001.tar, ... and training.odgt:
  python train.py --cfg CONFIG DATASET.root_dataset OUT DATASET.list_train OUT/training.odgt ...

Training, evaluation and `data check` read the same bytes in the same order as from the files. WebDataset
reads the tar files, too: an image and its label have one key, such as photo.jpg and photo.png. If both have
the same extension, the label is photo.seg.png.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Copy the images and labels of a list into a few large tar files (shards), and write the list again\n"
        "with the place of each image and label in them."
    )
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("list", type=argument("LIST"), metavar="LIST", help="an .odgt file")
    add("out", type=argument("OUT"), metavar="OUT", help="folder to write to; created if it does not exist")
    add("--root", type=argument("--root"), metavar="DIR",
        help="folder or address of the files (default: the config's, or else the list's folder)")  # fmt: skip
    add("--cfg", metavar="FILE", help="a config that names this folder as DATASET.root_dataset")
    add("--size", type=whole(1, what="a whole number of megabytes"), default=_DEFAULT_MB, metavar="MB",
        help=f"size of a shard, above which the next one begins (default: {_DEFAULT_MB})")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Writes the shards, reports them on standard output and returns the exit code.

    Raises: UserError for anything that the user has to fix.
    """
    from ..data.file_cache import FileCache

    root, dataset = args.root, None
    if args.cfg:
        from ..config import load_config

        dataset = load_config(args.cfg).DATASET
        root = dataset.root_dataset if root is None else root
    root, cache = root or str(Path(args.list).parent), FileCache.of(dataset)
    shards = write_shards(args.list, args.out, root, args.size * 10**6, cache)
    new = Path(args.out, Path(args.list).name)
    sys.stdout.write(
        f"{new}: {len(shards)} shard{'s' * (len(shards) > 1)}, {sum(shards) / 1e6:,.1f} MB.\n"
        f"Use it with DATASET.root_dataset {args.out}\n"
    )
    return 0


def write_shards(path: str, out: str, root: str, size: int, cache: "FileCache | None" = None) -> list[int]:
    """Write ``out/NAME-000000.tar``, ... and ``out/NAME.odgt`` for the list ``NAME.odgt``.

    The bytes of the files are copied, and the order of the list is kept. All shards are written into a hidden
    folder first, and the list last: an error or an interrupt leaves nothing in ``out``.

    Args:
        root: folder that the paths in the list are relative to.
        size: bytes of a shard; it ends with the image that exceeds them.
        cache: of remote files; None for the default one.

    Returns: the size of each shard in bytes.
    Raises: UserError for a list or a file that cannot be used, or if ``out`` has a list or shards of this
        name, which another list may use.
    """
    from ..data.records import read_records
    from ..data.shards import located
    from ..runtime.progress import ProgressCounter

    source, folder = Path(path), Path(out)
    records = read_records(path, required=_PATHS[:1], optional=_PATHS[1:], inside_root=True)
    if records.has_windows():
        raise UserError(f"{path} names windows of scenes, which are read from GeoTIFFs, not from shards.")
    with claimed(folder, "written into", "OUT"), ExitStack() as cleanup:
        _refuse_existing(folder, source)
        staged = folder / f".{source.stem}.shards.part"
        shutil.rmtree(staged, ignore_errors=True)  # of a run that was killed
        cleanup.callback(shutil.rmtree, staged, ignore_errors=True)
        with ProgressCounter(len(records), "images", what="Writing shards") as counter:
            sizes = _write(source, staged, partial(located, root, cache=cache), size, counter.add)
        names = [_shard_name(source, number) for number in range(len(sizes))]
        for name in (*names, source.name):
            try:
                (staged / name).replace(folder / name)
            except OSError as error:
                raise unwritable(folder / name, error) from error
    return sizes


def _refuse_existing(folder: Path, source: Path) -> None:
    for existing in (folder / source.name, folder / _shard_name(source, 0)):
        if existing.exists():
            raise UserError(
                f"{existing} exists. Another list may use these shards, so they are not replaced. Delete "
                f"{folder / source.name} and {folder / source.stem}-*.tar, or name another folder."
            )


def _shard_name(source: Path, number: int) -> str:
    return f"{source.stem}-{number:06}.tar"


def _write(source: Path, folder: Path, locate: Locate, size: int, count: Any) -> list[int]:
    """Write all shards and the list into a folder. Returns the size of each shard in bytes."""
    sizes: list[int] = []
    entries = _entries(source)
    pending = next(entries, None)
    with replacing(folder / source.name) as new_list:
        while pending is not None:
            name = _shard_name(source, len(sizes))
            with replacing(folder / name) as file:
                shard = _Shard(name, file)
                while pending is not None and shard.size < size:
                    number, entry = pending
                    try:
                        line = shard.add(entry, locate)
                    except UserError as error:
                        raise UserError(f"{error} See line {number} of {source}.") from error
                    new_list.write(line)
                    count(1)
                    pending = next(entries, None)
                shard.close()
            sizes.append((folder / name).stat().st_size)
    return sizes


def _entries(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbers and the values of a list's lines, which have been checked."""
    from ..data.record_lines import lines, parse

    for number, line in lines(source):
        yield number, parse(line)


class _Shard:
    """A tar file that is written."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._keys: set[str] = set()

    @property
    def size(self) -> int:
        """In bytes, up to now."""
        return self._tar.offset

    def add(self, entry: dict[str, Any], locate: Locate) -> bytes:
        """Copy the files of a line. Returns the line that names their places.

        Raises: UserError for a file that cannot be read.
        """
        paths = [entry[key] for key in _PATHS if entry.get(key)]
        placed = {}
        for key, path, name in zip(_PATHS, paths, self._names(paths), strict=False):
            placed[key] = self._copy(locate(path), name)
        text = json.dumps({**entry, **placed}, ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass") + b"\n"

    def close(self) -> None:
        self._tar.close()

    def _copy(self, path: str | PathLike[str], name: str) -> str:
        from ..data.files import is_empty, naming
        from ..data.shards import content_of, member_path

        with naming(path):
            data = content_of(path)
        if not data or is_empty(path):
            raise UserError(f"{path} is empty.")
        member = tarfile.TarInfo(name)  # without times and owners, so that equal files give equal shards
        member.size = len(data)
        self._tar.addfile(member, BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return member_path(self._name, self._tar.offset - padded, len(data), name)

    def _names(self, paths: Sequence[str]) -> list[str]:
        """The names of an image and its label: one key, without dots, and the extensions of the files."""
        from ..data.remote import as_path
        from ..data.shards import member_of

        member = member_of(paths[0])
        name = member.name if member else as_path(paths[0])
        image = PurePosixPath(os.path.normpath(name).replace(os.sep, "/"))
        parts = [part for part in image.with_suffix("").parts if part not in ("/", "..")]
        wanted = key = "/".join(parts).replace(".", "_").replace(":", "_")
        number = 1
        while key in self._keys:
            number += 1
            key = f"{wanted}_{number}"
        self._keys.add(key)
        endings = [PurePosixPath(path).suffix.lower() for path in paths]
        if len(endings) == 2 and endings[0] == endings[1]:
            endings[1] = f"{_SAME_ENDING}{endings[1]}"
        return [key + ending for ending in endings]
