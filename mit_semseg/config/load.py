"""From a YAML file and ``KEY VALUE`` pairs to a checked, frozen config tree."""

import ast
import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ..errors import UserError
from ..resources import find
from .check import check_values
from .defaults import get_defaults

_WORDS: dict[str, dict[Any, Any]] = {
    "TRAIN.workers": {"auto": -1},
    "TRAIN.resume": {False: "off"},  # what YAML makes of a bare off
    "TRAIN.channels_last": {True: "True", False: "False"},
}
"""What may be written in place of a value."""

_TEXT_OR_LIST = ("TRAIN.class_weights",)
"""Texts that may be written as a YAML list."""

_TYPE_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
}


def load_config(path: str | Sequence[str] | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """The defaults, changed by YAML files, then by ``["KEY", "VALUE", ...]``, checked and frozen.

    Args:
        path: a YAML file, or the name of one that the project ships (``config/toy.yaml`` or ``toy``); or
            several, each of which changes keys of those before it.
        overrides: alternating dotted keys and values, as on the command line.

    Raises: UserError that names every unknown key and every value of a wrong type or range at once.
    """
    cfg = get_defaults()
    problems: list[str] = []
    for each in [path] if isinstance(path, str) else path or ():
        file = find(each, suffix=".yaml", folder="config")
        _merge(cfg, _flatten(_read_yaml(file)), f"{file}: ", problems)
    _merge(cfg, _pairs(overrides), "", problems)
    problems += check_values(cfg) if not problems else []
    if problems:
        raise UserError("\n".join(problems))
    cfg.freeze()
    return cfg


def with_keys(cfg: CfgNode, keys: Mapping[str, Any]) -> CfgNode:
    """A copy of a config with some keys, given by their dotted names, changed; checked and frozen.

    Raises: UserError as `load_config`.
    """
    changed = cfg.clone()
    changed.defrost()
    problems: list[str] = []
    _merge(changed, iter(keys.items()), "", problems)
    problems += check_values(changed) if not problems else []
    if problems:
        raise UserError("\n".join(problems))
    changed.freeze()
    return changed


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UserError(f"{file} is not a YAML file:{place} {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError) as error:  # not a text, a date that does not exist, ...
        raise UserError(f"{file} is not a YAML file: {' '.join(str(error).split())}.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{file} is not a config: it holds {type(tree).__name__}, not keys and values.")
    return tree


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(overrides) % 2:
        raise UserError(
            f"Config overrides come in pairs, KEY VALUE, but {len(overrides)} words were given: "
            f"{' '.join(overrides)}"
        )
    return zip(overrides[::2], overrides[1::2], strict=True)


def _merge(cfg: CfgNode, items: Iterator[tuple[str, Any]], where: str, problems: list[str]) -> None:
    """Set each key, or append to ``problems`` why it can't be."""
    known = dict(_flatten(cfg))
    for key, value in items:
        if key in cfg and isinstance(cfg[key], CfgNode):
            if value is not None:  # "TRAIN:" with nothing below it changes nothing
                problems.append(
                    f"{where}{key} is a section, not a value. Its keys are {', '.join(cfg[key])}."
                )
            continue
        if key not in known:
            problems.append(f"{where}unknown key {key}.{_suggestion(key, known)}")
            continue
        try:
            if key in _TEXT_OR_LIST and isinstance(value, list):
                value = str(value)
            word = value.strip() if isinstance(value, str) else value if isinstance(value, bool) else ""
            if isinstance(known[key], tuple) and known[key] and isinstance(known[key][0], str):
                value = _names(value)
            new = _coerce(_WORDS.get(key, {}).get(word, value), known[key])
        except ValueError as error:
            problems.append(f"{where}{key} is {value!r}, but takes {error}.")
            continue
        *nodes, leaf = key.split(".")
        node = cfg
        for name in nodes:
            node = node[name]
        node[leaf] = new


def _names(value: Any) -> Any:
    """``a`` and ``a,b`` as the names that they are, without Python's quotes."""
    if isinstance(value, str) and re.fullmatch(r"[\w,\s]*", value):
        return tuple(value.replace(",", " ").split())
    return value


def _suggestion(key: str, known: dict[str, Any]) -> str:
    """The nearest real key: the same name in another section, else by the whole name, else by its end."""
    last = [name.rsplit(".", 1)[-1].lower() for name in known]
    by_last = {leaf: name for leaf, name in zip(last, known, strict=True) if last.count(leaf) == 1}
    by_whole = {name.lower(): name for name in known}
    leaf = key.rsplit(".", 1)[-1].lower()
    near = [by_last[leaf]] if leaf in by_last else []
    near += [by_whole[name] for name in difflib.get_close_matches(key.lower(), by_whole, n=1)]
    near += [by_last[name] for name in difflib.get_close_matches(leaf, by_last, n=1, cutoff=0.75)]
    return f" Did you mean {near[0]}?" if near else ""


def _coerce(value: Any, default: Any) -> Any:
    """``value`` as the default's type.

    YAML leaves ``(300, 375)`` and ``1e-4`` as text, and the command line everything; text is read as a Python
    literal where the default isn't text. A whole number is fine for a float, nothing else changes its type.
    """
    wanted = type(default)
    if value is None and default == "":
        return ""  # a tree that was printed leaves the place behind an empty text empty
    if isinstance(value, str) and wanted is not str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's parser warns about "1or 2"
                value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # what the parser raises
            raise ValueError(_TYPE_NAMES[wanted]) from None
    if wanted is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # a folder called 2024, say
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    if wanted is tuple and type(value) is int:
        return (value,)  # DATASET.imgSizes 300
    if type(value) is not wanted or (wanted is str and "\0" in value):  # no path holds a zero byte
        raise ValueError(_TYPE_NAMES[wanted])
    return value
