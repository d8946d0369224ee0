"""The full ADE20K of 2021, ADE20K_2021_17_01.

Layout: images/ADE/{training,validation}/<category>/<scene>/ADE_*.jpg, _seg.png and .json. In a _seg.png,
R // 10 * 256 + G is the object's number (B tells its instances apart), 0 where nothing is labelled;
index_ade20k.pkl and the JSON files name the numbers. Parts of objects, in _parts_N.png, are not read.
Source: github.com/CSAILVision/ADE20K.
"""

import json
import pickle
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...errors import UserError
from ..classes import ClassTable, load_classes, palette
from ..files import naming
from .joining import join
from .options import Options
from .release import TRAINING, VALIDATION, Release, nothing_found, some
from .source import Source
from .values import NoImages

_FILE = re.compile(
    r"(?:.*/)?(training|validation)/((?:[^/]+/)*)(ADE_[^/]*?)(_seg\.png|\.jpg|\.json)", re.IGNORECASE
)
_SPLITS = {"training": TRAINING, "validation": VALIDATION}
# What the challenge of 2016 calls otherwise: "door" is two objects here, "crt screen" has two names.
_OTHER_NAMES = {"door": ("door", "double door"), "crt screen": ("screen, crt screen",)}


class ObjectLabels(NoImages):
    """The objects' numbers in a _seg.png."""

    def values(self, label: Path, image: Path | bytes) -> np.ndarray:
        with naming(label), Image.open(label) as opened:
            if opened.mode not in ("RGB", "RGBA"):
                raise UserError(f"{label} is of mode {opened.mode}; a _seg.png is RGB.")
            colors = np.asarray(opened)
        return colors[..., 0].astype(np.uint16) // 10 * 256 + colors[..., 1]


def read(source: Source, options: Options) -> Release:
    """The 150 classes of the challenge, found by the objects' names, or the N most frequent objects.

    The challenge's, since models and scores that are published have them. Their names are those of this
    release's objects but for two (`_OTHER_NAMES`); all synonyms have to agree, since single ones do not tell
    objects apart (a "pot" is a toilet's, a plant's or a cook's).
    """
    count = _count(options.classes)
    members = source.members()
    sides: dict[str, dict[tuple[str, str], str]] = {".jpg": {}, "_seg.png": {}, ".json": {}}
    for member in members:
        match = _FILE.fullmatch(member)
        if match:
            split, folder, name, side = match.groups()
            sides[side.lower()][_SPLITS[split.lower()], folder + name] = member
    images, labels, texts = sides.values()
    if not images.keys() & labels.keys():
        wanted = "images/ADE/training/*/*/ADE_train_*.jpg with ADE_train_*_seg.png (ADE20K_2021_17_01)"
        raise nothing_found(source.path, wanted, members)
    examples, notes, problems = join(source, images, labels, "_seg.png")
    index = next((name for name in members if re.search(r"(^|/)index_ade20k\.pkl$", name)), None)
    names, frequency = _from_index(source, index) if index else _from_texts(source, texts)
    if count is None:
        table = load_classes("", 150)
        coding, missing = _challenge(names)
        if missing:
            notes.append(f"No object is called {some(missing, 10)}, so these classes do not occur.")
        classes = table
    else:
        chosen = [number for number, _ in frequency.most_common(count)]
        if len(chosen) < count:
            raise UserError(f"--classes is {count}, but {source.path} has {len(chosen)} kinds of objects.")
        coding = {number: label for label, number in enumerate(chosen, 1)}
        classes = ClassTable(tuple(_classes_name(names[number]) for number in chosen), palette(count))
    notes.append(f"{len(coding)} of {len(names)} kinds of objects are classes; the others are unlabelled.")
    return Release(
        examples,
        ObjectLabels(),
        coding={0: 0, **coding},
        others=0,
        classes=classes,
        values={
            number: (_classes_name(names[number]), tuple(classes.colors[label - 1].tolist()))
            for number, label in coding.items()
        },
        notes=notes,
        problems=problems,
    )


def _count(classes: str | None) -> int | None:
    """How many of the most frequent objects are wanted; None for the challenge's 150."""
    if classes in (None, "scene-parsing"):
        return None
    if not classes.isdecimal() or not 2 <= int(classes) <= 255:
        raise UserError(f"--classes is {classes}; it should be scene-parsing, or a number from 2 to 255.")
    return int(classes)


def _challenge(names: Mapping[int, str]) -> tuple[dict[int, int], list[str]]:
    """Object number -> class of the challenge, and the classes that no object has the name of."""
    number_of: dict[frozenset[str], int] = {}
    for number, name in names.items():
        number_of.setdefault(_synonyms(name), number)
    coding, missing = {}, []
    for label, wanted in enumerate(_challenge_names(), 1):
        first = wanted.split(";")[0].strip()
        objects = [number_of.get(_synonyms(other)) for other in (wanted, *_OTHER_NAMES.get(first, ()))]
        found = [number for number in objects if number is not None]
        coding.update(dict.fromkeys(found, label))
        if not found:
            missing.append(first)
    return coding, missing


def _challenge_names() -> list[str]:
    """The 150 names with all their synonyms, which `load_classes` leaves out."""
    import csv

    from ...resources import find
    from ..classes import ADE20K

    with find(ADE20K).open(encoding="utf-8-sig", newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def _synonyms(name: str) -> frozenset[str]:
    return frozenset(part.strip().casefold() for part in re.split("[;,]", name) if part.strip())


def _classes_name(name: str) -> str:
    return ";".join(part.strip() for part in name.split(","))


def _from_index(source: Source, member: str) -> tuple[dict[int, str], Counter[int]]:
    """Names of the objects by number, and in how many images each occurs, from index_ade20k.pkl."""
    where = source.where(member)
    try:
        with source.local(member) as path, path.open("rb") as file:
            index = _PlainUnpickler(file).load()
        names = {number: str(name) for number, name in enumerate(index["objectnames"], 1)}
        presence = np.asarray(index["objectPresence"])
        if "objectIsPart" in index:  # counted in the former, but not drawn in _seg.png
            presence = presence - np.asarray(index["objectIsPart"])
        images = (presence > 0).sum(axis=1)
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # unpickling raises errors of all kinds
        raise UserError(f"{where} is not the index of ADE20K_2021_17_01 ({error}). Fetch it again.") from None
    counts = {number: int(count) for number, count in enumerate(images, 1) if count}
    return names, Counter(dict(sorted(counts.items())))


def _from_texts(source: Source, texts: Mapping[Any, str]) -> tuple[dict[int, str], Counter[int]]:
    """The same from the JSON file of each image, where the index is missing."""
    if not texts:
        raise UserError(
            f"{source.path} has neither index_ade20k.pkl nor JSON files beside the images, "
            f"so nothing names the objects."
        )
    names: dict[int, str] = {}
    frequency: Counter[int] = Counter()
    with tqdm(sorted(texts.values()), "reading names", unit="file", disable=None) as bar:
        for member in bar:
            with source.local(member) as path, naming(path):
                text = path.read_bytes().decode("utf-8", "replace")
                objects = list(_objects(json.loads(text)))
            names.update(objects)
            frequency.update({number for number, _ in objects})
    return dict(sorted(names.items())), Counter(dict(sorted(frequency.items())))


def _objects(text: Any) -> Iterable[tuple[int, str]]:
    for thing in text["annotation"]["object"]:
        if thing.get("parts", {}).get("part_level", 0) == 0:
            yield int(thing["name_ndx"]), str(thing["name"])


class _PlainUnpickler(pickle.Unpickler):
    """Reads arrays and plain Python values only: a pickle may otherwise run whatever its author wanted."""

    _ARRAY = np.zeros(0).__reduce__()[0]
    _SCALAR = np.float64(0).__reduce__()[0]

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "_reconstruct": self._ARRAY,
            "scalar": self._SCALAR,
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.startswith("numpy") and name in known:
            return known[name]
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")


def _latin1(text: str, encoding: str) -> bytes:
    """What numpy's pickles of protocol 2 hold bytes with."""
    return text.encode(encoding)
