"""The table of config keys as text for a terminal, and as the page docs/config.md; and searching it."""

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import UserError
from .allowed import LARGEST
from .keys import BY_NAME, KEYS, RENAMED, SECTIONS, Key, nearest

_PAGE = f"""\
# Config keys

A config is a YAML file with some of these keys. Any key can also be set on the command line, after the
options:

```bash
python train.py --cfg config/toy-resnet18-upernet_tiny.yaml TRAIN.num_epoch 5 DIR ckpt/try
```

If a key is set more than once, the last value counts: first the `--cfg` files from left to right, then the
command line. A value that is not allowed, or that contradicts another one, is refused before anything is read
or written. Integers must not exceed {LARGEST}. In paths, `~`, `$NAME` and `${{NAME}}` are expanded.

`mit-semseg config` prints these keys, and `mit-semseg config WORD ...` searches them. This page is the output
of `mit-semseg config --markdown`.
"""


def search(words: Sequence[str]) -> list[Key]:
    """The keys that words select, in the order of the table; all keys for no words.

    The full name of a key selects that key, also a former name. The name of a section limits the search to
    that section, and all other words must occur in the name, the meaning or the allowed values of a key. Case
    does not matter.

    Raises: UserError if nothing is found.
    """
    by_name = {name.lower(): name for name in [*BY_NAME, *RENAMED]}
    sections = {name.lower(): name for name in SECTIONS}
    names, scope, rest = set(), set(), []
    for word in words:
        folded = word.lower().rstrip(".")
        if folded in by_name:
            name = by_name[folded]
            names.add(RENAMED.get(name, name))
        elif folded in sections:
            scope.add(sections[folded])
        else:
            rest.append(word)
    for word in rest:
        if not any(_matches(key, word) for key in KEYS):
            near = nearest(word) or _nearest_word(word)
            hint = f" Did you mean {near}?" if near else ""
            raise UserError(f"No config key matches '{word}'.{hint} mit-semseg config lists all keys.")
    searched = bool(scope or rest) or not names
    found = [
        key
        for key in KEYS
        if key.name in names
        or (searched and (not scope or key.section in scope) and all(_matches(key, word) for word in rest))
    ]
    if not found:
        raise UserError(f"No config key matches all of: {' '.join(words)}. mit-semseg config lists all keys.")
    return found


def as_text(keys: Sequence[Key], width: int) -> str:
    """The keys by section, with default, allowed values and meaning, in lines of ``width`` columns."""
    blocks = []
    for section, members in _by_section(keys):
        if section:
            title = f"{section}: {_plain(SECTIONS[section])}"
            blocks.append("\n".join(textwrap.wrap(title, width)))
        blocks += [_entry(key, width) for key in members]
    return "\n\n".join(blocks) + "\n"


def as_markdown(keys: Sequence[Key]) -> str:
    """The page docs/config.md: a table for each section."""
    parts = [_PAGE]
    for section, members in _by_section(keys):
        if section:
            parts.append(f"## {section}\n\n{SECTIONS[section]}\n")
        rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
        for key in members:
            former = f" Formerly `{key.formerly}`." if key.formerly else ""
            cells = f"`{key.leaf}`", f"`{_shown(key.default)}`", key.values, f"{key.meaning}{former}"
            rows.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _entry(key: Key, width: int) -> str:
    head = f"{key.name} = {_shown(key.default)}"
    allowed = f"[{key.values}]"
    former = f" Formerly {key.formerly}." if key.formerly else ""
    lines = [f"{head}  {allowed}"]
    if len(lines[0]) > width:
        lines = [head, *_indented(allowed, width)]
    return "\n".join([*lines, *_indented(_plain(key.meaning) + former, width)])


def _indented(text: str, width: int) -> list[str]:
    indent = " " * 4
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _by_section(keys: Iterable[Key]) -> Iterator[tuple[str, list[Key]]]:
    keys = list(keys)
    for section in ("", *SECTIONS):
        members = [key for key in keys if key.section == section]
        if members:
            yield section, members


def _matches(key: Key, word: str) -> bool:
    """Whether a word of the key begins with ``word``: "amp" is in "TRAIN.amp", but not in "sample"."""
    return bool(re.search(rf"(?<![a-z0-9]){re.escape(word)}", _searched(key), re.IGNORECASE))


def _searched(key: Key) -> str:
    parts_of_name = re.sub("([a-z])([A-Z])", r"\1 \2", key.name)  # imgSizes is found as "sizes", too
    return f"{key.name} {parts_of_name} {_plain(key.meaning)} {key.values}"


def _nearest_word(word: str) -> str:
    known = {known.lower() for key in KEYS for known in re.findall(r"[a-zA-Z]{3,}", _searched(key))}
    return next(iter(difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.75)), "")


def _plain(text: str) -> str:
    return text.replace("`", "")


def _shown(value: Any) -> str:
    """A default as it is written on a command line: names without quotes, an empty text as ``""``."""
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return ",".join(value)
    return '""' if value == "" else str(value)
