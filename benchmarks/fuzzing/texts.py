"""Damage to configs, to the words of a command line, to lists, class tables and records in JSON."""

import json
import math
import re
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import yaml

from mit_semseg.config.allowed import Choice, Integer, ListOf, Number, Switch
from mit_semseg.config.keys import KEYS, Key

from .damage import ODD_VALUES, changed_tree, damaged

# A large value of these is allowed, and means days of work or more memory than a machine has.
_WORK = {
    *("TRAIN.num_epoch", "TRAIN.epoch_iters", "TRAIN.accumulate", "TRAIN.batch_size_per_gpu"),
    *("DATASET.imgSizes", "DATASET.imgMaxSize", "DATASET.padding_constant", "DATASET.crop_size"),
    *("DATASET.num_class", "DATASET.scale_range", "MODEL.decoder_dim", "MODEL.fc_dim"),
    *("TRAIN.compile", "TRAIN.autotune", "MODEL.pretrained", "TRAIN.parallel"),
}
_MOST_WORK = {"TRAIN.num_epoch": 3, "TRAIN.epoch_iters": 3, "TRAIN.accumulate": 3}
_DEEP = 5000
_COUNTS = ("", "0", "-1", "1", "a", "1e3", "٣")  # no large ones, which start as many processes
_FLAGS = {
    **dict.fromkeys(
        ("--gpus", "--gpu"), ("", "0", "-1", "cpu", "gpu0", "99", "a", "0-3", "3-0", "0,0", "cpu,cpu")
    ),
    **dict.fromkeys(("--procs", "--workers", "--num-class", "--size"), _COUNTS),
    **dict.fromkeys(
        ("--cfg", "--json", "--root", "--names"), ("", "tiny.yaml", "run", "none", "classes.csv")
    ),
    **dict.fromkeys(("--resume", "-x", "--help", "--seed"), ("1", "tiny.yaml")),
}


def config(path: Path, rng: Random) -> str:
    """Damage a config; return what was done."""
    kind = rng.choice(["key", "key", "key", "key", "tree", "text", "text", "bytes"])
    if kind == "bytes":
        data, what = damaged(path.read_bytes(), rng)
        path.write_bytes(data)
        return what
    try:
        text = path.read_bytes().decode()
        tree = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError):
        tree = None
    if not isinstance(tree, dict):  # an earlier damage has made it so
        data, what = damaged(path.read_bytes(), rng)
        path.write_bytes(data)
        return what
    if kind == "text":
        content, what = _damaged_yaml(text, rng)
        path.write_bytes(content)
        return what
    if kind == "tree":
        tree, what = changed_tree(tree, rng)
    else:
        key = rng.choice(KEYS)
        value = value_for(key, rng)
        section = tree.setdefault(key.section, {}) if key.section else tree
        if isinstance(section, dict):
            section[key.leaf] = value
        what = f"{key.name} is {str(value)[:60]!r}"
    text = yaml.dump(tree, allow_unicode=rng.random() < 0.5)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what


def value_for(key: Key, rng: Random) -> Any:
    """A value for a key: a limit of what it allows, a value of another key's kind, or an odd one."""
    allowed = key.allowed
    values: list[Any] = []
    if isinstance(allowed, Choice):
        values = list(allowed.choices)
    elif isinstance(allowed, Switch):
        values = [True, False]
    elif isinstance(allowed, Integer):
        values = [allowed.at_least, allowed.at_least + 1, allowed.at_least + 2, allowed.at_most, 5, 33]
    elif isinstance(allowed, Number):
        limits = [allowed.at_least, allowed.above, allowed.at_most, allowed.below, *allowed.other]
        values = [limit for limit in limits if limit is not None]
        values += [math.nextafter(limit, math.inf) for limit in values]
        values += [math.nextafter(limit, -math.inf) for limit in values]
        values += [1e-300, 1e300]
    elif isinstance(allowed, ListOf):
        values = [[], [1], [1, 1], [32, 32], [0.5, 2], [1] * 50, [1e-3, 1e-3], [33]]
    value = rng.choice(values) if values and rng.random() < 0.6 else rng.choice(ODD_VALUES)
    return value if _is_affordable(key, value) else 1


def words(given: list[str], rng: Random) -> tuple[list[str], str]:
    """The words of a command line with further or other ones, and what was done."""
    kind = rng.choice(["key", "key", "key", "unknown", "odd", "drop", "swap", "flag"])
    if kind == "key":
        key = rng.choice(KEYS)
        value = value_for(key, rng)
        pair = [key.name, as_word(value)]
        return [*given, *pair], f"{pair[0]} {pair[1][:60]!r}"
    if kind == "unknown":
        name = rng.choice(
            ["TRAIN.seeds", "train.seed", "TRAIN", "TRAIN.", ".seed", "DIR.x", "VAL.amp", "", "=1"]
        )
        return [*given, name, "1"], f"{name!r} 1"
    if kind == "odd":
        value = as_word(rng.choice(ODD_VALUES))
        return [*given, value], f"one more word, {value[:60]!r}"
    place = rng.randrange(len(given))
    if kind == "drop" and place:
        return given[:place] + given[place + 1 :], f"without {given[place]!r}"
    if kind == "swap" and place:
        value = as_word(rng.choice(ODD_VALUES))
        return [*given[:place], value, *given[place + 1 :]], f"{value[:60]!r} for {given[place]!r}"
    flag = rng.choice(list(_FLAGS))
    value = rng.choice(_FLAGS[flag])
    return [*given, flag, value], f"{flag} {value!r}"


def as_word(value: Any) -> str:
    """A value as a word of a command line, which cannot hold zero bytes, but bytes that are not UTF-8."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return str(value).replace("\0", "").replace("\ud800", "\udcff")


def records(path: Path, rng: Random) -> str:
    """Damage a list (.odgt) or another file with a JSON object per line; return what was done."""
    lines = path.read_bytes().splitlines()
    kind = rng.choice(["bytes", "value", "value", "value", "text", "lines"])
    if kind == "bytes" or not lines:
        data, what = damaged(path.read_bytes(), rng)
        path.write_bytes(data)
        return what
    number = rng.randrange(len(lines))
    if kind == "lines":
        change = rng.choice(["doubled", "dropped", "shuffled", "blank", "thousandfold", "crlf", "nested"])
        if change == "doubled":
            lines.append(lines[number])
        elif change == "dropped":
            del lines[number]
        elif change == "shuffled":
            rng.shuffle(lines)
        elif change == "blank":
            lines.insert(number, b" \t")
        elif change == "thousandfold":
            lines *= 1000
        elif change == "nested":
            lines[number] = b"[" * _DEEP + b"]" * _DEEP
        ends = b"\r\n" if change == "crlf" else b"\n"
        path.write_bytes(ends.join(lines))
        return f"lines are {change}"
    if kind == "text":
        change = rng.choice(list(_JSON_TEXT))
        lines[number] = _JSON_TEXT[change](lines[number])
        path.write_bytes(b"\n".join(lines) + b"\n")
        return f"line {number + 1}: {change}"
    try:
        value = json.loads(lines[number])
    except (ValueError, RecursionError):
        return "was damaged already"
    paths = (
        "/nowhere/a.jpg",
        "./training/0.jpg",
        "training//0.jpg",
        "training",
        "../x",
        "photos/a.jpg",
        "a\\b",
    )
    value, what = changed_tree(value, rng, (*ODD_VALUES, *paths))
    lines[number] = json.dumps(value, default=str, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
    path.write_bytes(b"\n".join(lines) + b"\n")
    return f"line {number + 1}: {what}"


def document(path: Path, rng: Random) -> str:
    """Damage a file that holds one JSON value; return what was done."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if value is None or rng.random() < 0.3:
        data, what = damaged(path.read_bytes(), rng)
        path.write_bytes(data)
        return what
    value, what = changed_tree(value, rng)
    path.write_text(json.dumps(value, default=str))
    return what


def table(path: Path, rng: Random) -> str:
    """Damage a class table or another CSV file; return what was done."""
    if rng.random() < 0.3:
        data, what = damaged(path.read_bytes(), rng)
        path.write_bytes(data)
        return what
    rows = [line.split(",") for line in path.read_text(errors="replace").splitlines()] or [[""]]
    row = rng.choice(rows)
    if row and rng.random() < 0.7:
        place = rng.randrange(len(row))
        row[place] = as_word(rng.choice(ODD_VALUES))
        what = f"a field is {row[place][:60]!r}"
    else:
        rows.insert(rng.randrange(len(rows) + 1), list(row) if rng.random() < 0.5 else [])
        what = "has a further row"
    separator = rng.choice([",", ",", ",", ";", "\t"])
    text = "\n".join(separator.join(row) for row in rows)
    path.write_bytes(text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]), "replace"))
    return what


_JSON_TEXT = {
    "a comma at the end": lambda line: line + b",",
    "single quotes": lambda line: line.replace(b'"', b"'"),
    "a key twice": lambda line: line.replace(b"{", b'{"fpath_img": "photos/a.jpg", "width": 7, ', 1),
    "a mark of byte order": lambda line: b"\xef\xbb\xbf" + line,
    "Latin-1": lambda line: line.replace(b".jpg", "ä.jpg".encode("latin-1")),
    "UTF-16": lambda line: line.decode("latin-1").encode("utf-16"),
    "a lone surrogate": lambda line: line.replace(b".jpg", b"\\ud800.jpg"),
    "a zero byte": lambda line: line.replace(b".jpg", b"\\u0000.jpg"),
    "NaN": lambda line: re.sub(rb": \d+", b": NaN", line),
    "large numbers": lambda line: re.sub(rb"(\d+)([,}])", rb"\1e400\2", line),
    "many digits": lambda line: re.sub(rb": (\d+)", rb": " + b"9" * _DEEP, line),
    "fractions": lambda line: re.sub(rb": (\d+)", rb": \1.5", line),
    "numbers as text": lambda line: re.sub(rb": (\d+)", rb': "\1"', line),
    "cut": lambda line: line[: len(line) // 2],
}


def _damaged_yaml(text: str, rng: Random) -> tuple[bytes, str]:
    lines = text.splitlines()
    number = rng.randrange(len(lines))
    kind = rng.choice(
        [
            *("tabs", "byte order mark", "utf-16", "utf-32", "latin-1", "crlf", "cr", "a key twice"),
            *("a section twice", "anchors", "loop", "many aliases", "deep", "two documents", "tag", "indent"),
            *(
                "line dropped",
                "control character",
                "many digits",
                "renamed",
                "merge key",
                "no space",
                "digits",
            ),
        ]
    )
    encoding = "utf-8"
    if kind == "tabs":
        lines[number] = "\t" + lines[number]
    elif kind == "byte order mark":
        encoding = "utf-8-sig"
    elif kind in ("utf-16", "utf-32", "latin-1"):
        encoding = kind
        lines.append("# ä")
    elif kind == "a key twice":
        key, _, _ = lines[number].partition(":")
        lines.insert(number + 1, f"{key}: {rng.choice([1, 'a', '[32]', ''])}")
    elif kind == "a section twice":
        lines += [f"{rng.choice(['TRAIN', 'DATASET', 'MODEL'])}:", "  seed: 5"]
    elif kind == "anchors":
        lines += ["VAL: &a", "  every: 1", "TEST: *a"]
    elif kind == "loop":
        lines += rng.choice([["VAL: &a", "  every: *a"], ["x: &a [*a]"], ["INFERENCE: &a {tile: {b: *a}}"]])
    elif kind == "many aliases":
        lines += ["a0: &a0 [1, 2]", *(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]" for k in range(1, 40))]
    elif kind == "deep":
        start, end = rng.choice(["[]", "{}"])
        lines.append("x: " + start * _DEEP + end * _DEEP)
    elif kind == "two documents":
        lines += ["---", "TRAIN: {seed: 3}"]
    elif kind == "tag":
        lines.append(f"x: !!{rng.choice(['int', 'float', 'binary', 'timestamp', 'set', 'python/name:os'])} a")
    elif kind == "indent":
        lines[number] = " " * rng.choice([1, 2, 3]) + lines[number]
    elif kind == "line dropped":
        del lines[number]
    elif kind == "control character":
        lines[number] += rng.choice(["\0", "\x07", "\x85", "\u2028", "\ufffe"])
    elif kind in ("many digits", "digits"):
        key, _, _ = lines[number].partition(":")
        lines[number] = f"{key}: {'9' * _DEEP if kind == 'many digits' else '0x' + 'f' * _DEEP}"
    elif kind == "renamed":
        lines[number] = lines[number].swapcase()
    elif kind == "merge key":
        lines += ["VAL: {<<: [1]}" if rng.random() < 0.5 else "VAL: {<<: {every: 1}}"]
    elif kind == "no space":
        lines[number] = lines[number].replace(": ", ":")
    end = {"crlf": "\r\n", "cr": "\r"}.get(kind, "\n")
    return (end.join(lines) + end).encode(encoding, "replace"), f"has {kind}"


def _is_affordable(key: Key, value: Any) -> bool:
    if key.name not in _WORK:
        return True
    with suppress(ValueError):
        value = key.read(value)  # text may hold a number
    numbers = value if isinstance(value, list | tuple) else [value]
    most = _MOST_WORK.get(key.name, 300)
    if value is True or value == "dp":
        return False
    return not any(type(number) in (int, float) and most < number < 2**31 for number in numbers)
