"""Damage that files of every kind can have: bytes, what stands in their place, and values in a tree."""

import datetime
import math
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    "\ud800",
    *(None, True, False, 0, -1, 1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**63, 2**64, 10**30),
    *(0.0, -0.0, 0.5, 1.0, 1.5, 1e-320, 1e308, math.inf, -math.inf, math.nan),
    *(
        "",
        " ",
        "a",
        "None",
        "nan",
        "inf",
        "true",
        "off",
        "auto",
        "1e3",
        "0x10",
        "1_000",
        "٣",
        "ä",
        "日本",
        "🙂",
    ),
    *(
        "a b",
        "a\tb",
        "a\nb",
        "a\rb",
        "\x1b[31m",
        "..",
        "../..",
        "/",
        "~",
        "~nobody",
        "$HOME",
        "$NOPE",
        "${",
        "%s",
    ),
    *("{0}", "x" * 300, "x/" * 3000, "1,2", "(1,", "[1]*3", "a:b", "os:system", "package:x", "timm/x"),
    *("run", "tiny.yaml", "photos", "/dev/null", "training.odgt", "-", "--help", "*.pth", "[", "<b>&"),
    *([], [1], [0], [-1], [1, 2], [2, 1], [[1]], [None], ["a", "b"], [math.nan], {}, {"a": 1}, {1: {2: 3}}),
    datetime.date(2024, 1, 2),
    b"\xff\x00",
)


def damaged(data: bytes, rng: Random) -> tuple[bytes, str]:
    """Other content for a file, and what was done to it, as the end of a sentence."""
    kind = rng.choice(["truncated", "flipped", "zeroed", "inserted", "doubled", "empty", "short", "other"])
    if kind == "truncated" and data:
        end = rng.randrange(len(data))
        return data[:end], f"is truncated after {end} of {len(data)} bytes"
    if kind == "flipped" and data:
        changed = bytearray(data)
        count = rng.choice([1, 1, 3, 20])
        for _ in range(count):
            # The first bytes decide what a file is taken for.
            place = rng.randrange(min(len(data), rng.choice([64, 1024, len(data)])))
            changed[place] ^= 1 << rng.randrange(8)
        return bytes(changed), f"has {count} flipped bits"
    if kind == "zeroed" and data:
        start = rng.randrange(len(data))
        length = min(rng.choice([1, 100, 4096]), len(data) - start)
        return data[:start] + bytes(length) + data[start + length :], f"has {length} zeros from byte {start}"
    if kind == "inserted":
        start = rng.randrange(len(data) + 1)
        return data[:start] + rng.randbytes(rng.choice([1, 7, 500])) + data[
            start:
        ], "has random bytes inserted"
    if kind == "doubled":
        return data + data, "is there twice"
    if kind == "short":
        return data[: rng.randint(1, 8)], "has a few bytes only"
    if kind == "other":
        content = rng.choice(
            [
                b"<html>404</html>\n",
                b"\x89PNG\r\n\x1a\n",
                b"PK\x03\x04",
                b"\xff\xd8\xff",
                b"\x80\x02.",
                b"hello\n",
            ]
        )
        return content, f"holds {content!r}"
    return b"", "is empty"


def displaced(path: Path, rng: Random, *, pipes: bool = False) -> str:
    """Put something else in place of a file, and say what."""
    kinds = [
        "nothing",
        "a folder",
        "a full folder",
        "a broken link",
        "a link to itself",
        "a link to the folder",
    ]
    kind = rng.choice([*kinds, "a pipe", "an endless device"] if pipes else kinds)
    remove(path)
    if kind == "a folder":
        path.mkdir()
    elif kind == "a full folder":
        path.mkdir()
        (path / path.name).write_bytes(b"x")
    elif kind == "a broken link":
        path.symlink_to("nowhere")
    elif kind == "a link to itself":
        path.symlink_to(path.name)
    elif kind == "a link to the folder":
        path.symlink_to(".", target_is_directory=True)
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "an endless device":
        path.symlink_to("/dev/zero")
    return f"is {kind}"


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def changed_tree(tree: Any, rng: Random, odd: tuple[Any, ...] = ODD_VALUES) -> tuple[Any, str]:
    """Nested dicts and lists, changed at a random place, and what was changed. The tree is not copied."""
    places: list[tuple[Any, Any]] = []
    _collect(tree, places)
    if not places or rng.random() < 0.03:
        value = rng.choice(odd)
        return value, f"the whole is {_shown(value)}"
    parent, key = rng.choice(places)
    kind = rng.choice(["replaced", "replaced", "replaced", "deleted", "renamed", "wrapped"])
    if kind == "deleted":
        del parent[key]
    elif kind == "renamed" and isinstance(parent, dict):
        new = rng.choice([f"{key}s", f"{key}"[::-1], "", " ", "x" * 3000, "ä", 7, None])
        parent[new] = parent.pop(key)
        return tree, f"{key} is called {_shown(new)}"
    elif kind == "wrapped":
        parent[key] = rng.choice([[parent[key]], {"a": parent[key]}, str(parent[key])])
    else:
        parent[key] = rng.choice(odd)
        return tree, f"{key} is {_shown(parent[key])}"
    return tree, f"{key} is {kind}"


def _collect(tree: Any, places: list[tuple[Any, Any]]) -> None:
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for key, value in items:
        places.append((tree, key))
        _collect(value, places)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:50]}... ({len(text)} characters)"
