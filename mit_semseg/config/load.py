"""From YAML files and ``KEY VALUE`` pairs to a checked, frozen config tree."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ..errors import UserError
from ..runtime.paths import expand_argument
from ..runtime.resources import find
from .allowed import Options
from .keys import BY_NAME, KEYS, RENAMED, SECTIONS, get_defaults, nearest, set_value, value_of
from .rules import contradictions

_DEEPEST = 3  # mappings inside one another that are looked at


def load_config(
    path: str | Sequence[str | Mapping[str, Any]] | None = None, overrides: Sequence[str] = ()
) -> CfgNode:
    """The defaults, changed by YAML files, then by ``["KEY", "VALUE", ...]``, checked and frozen.

    Args:
        path: a YAML file, or the name of a shipped config (``config/toy.yaml`` or ``toy``). Of several, each
            changes keys of those before it. A mapping in a sequence is the content of a file.
        overrides: alternating dotted keys and values, as on the command line.

    Raises: UserError that names every unknown key and every value of a wrong type or range at once.
    Warns: FutureWarning that names every key with a former name, once.
    """
    cfg = get_defaults()
    merge = _Merge(cfg)
    for each in [path] if isinstance(path, str) else path or ():
        if isinstance(each, Mapping):
            merge.add(_flatten(each), "")
            continue
        file = find(expand_argument(each, "The config"), suffix=".yaml", folder="config")
        merge.add(_flatten(_read_yaml(file)), f"{file}: ")
    merge.add(_pairs(overrides), "")
    return merge.finish()


def with_keys(cfg: CfgNode, keys: Mapping[str, Any]) -> CfgNode:
    """A copy of a config tree with other values for some keys, by their dotted names; checked and frozen.

    Raises: UserError, and warns, as `load_config`.
    """
    changed = cfg.clone()
    changed.defrost()
    merge = _Merge(changed)
    merge.take_former_names()
    merge.add_newer_keys()
    merge.add(((key.name, value_of(changed, key)) for key in KEYS), "")
    merge.add(keys.items(), "")
    return merge.finish()


def current_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names, such as an earlier release has stored, with the current name of each key."""
    return {RENAMED.get(name, name): value for name, value in flat.items()}


class _Merge:
    """Merges sources of keys into a config tree. It collects problems, so that all are reported at once."""

    def __init__(self, cfg: CfgNode) -> None:
        self._cfg = cfg
        self._problems: list[str] = []
        self._renamed: dict[str, str] = {}  # former name -> where it was found

    def add(self, items: Iterable[tuple[str, Any]], where: str) -> None:
        """Set the keys of one source, which ``where`` names.

        A source must not give two values to a key by its former and its current name: nothing says which of
        the two is meant.
        """
        former: dict[str, Any] = {}
        current: dict[str, Any] = {}
        for name, value in items:
            if name in SECTIONS:
                if value is not None:  # "TRAIN:" with nothing below it changes nothing
                    keys = ", ".join(key.leaf for key in KEYS if key.section == name)
                    self._problems.append(f"{where}{name} is a section, not a value. Its keys are {keys}.")
                continue
            key = BY_NAME.get(RENAMED.get(name, name))
            if key is None:
                near = nearest(name)
                hint = f" Did you mean {near}?" if near else ""
                self._problems.append(f"{where}unknown key {name}.{hint}")
                continue
            try:
                new = key.read(value)
            except ValueError as error:
                self._problems.append(f"{where}{error}")
                continue
            (former if name in RENAMED else current)[name] = new
            set_value(self._cfg, key, new)
        for name, value in former.items():
            self._renamed.setdefault(name, where)
            new_name = RENAMED[name]
            if current.get(new_name, value) != value:
                self._refuse_both(name, value, new_name, current[new_name], where)

    def take_former_names(self) -> None:
        """Rename the keys of the tree itself. A tree has the default of a key that nobody has set."""
        for name, new_name in RENAMED.items():
            section, _, leaf = name.rpartition(".")
            if leaf not in self._cfg.get(section, {}):
                continue
            key = BY_NAME[new_name]
            value = self._cfg[section].pop(leaf)
            present = self._cfg.setdefault(key.section, CfgNode()).get(key.leaf, key.default)
            if present not in (key.default, value):
                self._refuse_both(name, value, new_name, present, "")
            self._renamed[name] = ""
            set_value(self._cfg, key, value)

    def add_newer_keys(self) -> None:
        """Give the default to keys that a tree of an earlier release lacks."""
        for key in KEYS:
            if key.since and key.leaf not in self._cfg.setdefault(key.section, CfgNode()):
                set_value(self._cfg, key, key.default)

    def finish(self) -> CfgNode:
        """The tree, frozen. Raises: UserError with all problems, one a line."""
        cfg = self._cfg
        if not self._problems:
            values = ((key, value_of(cfg, key)) for key in KEYS)
            self._problems = [key.refusal(value) for key, value in values if not key.allowed.admits(value)]
        problems = self._problems or contradictions(cfg)
        if problems:
            raise UserError("\n".join(problems))
        if self._renamed:
            names = ", ".join(
                f"{where}{name} is now {RENAMED[name]}" for name, where in self._renamed.items()
            )
            warnings.warn(
                f"{names}. The old names still work; use the new ones.", FutureWarning, stacklevel=3
            )
        cfg.freeze()
        return cfg

    def _refuse_both(self, old: str, value: Any, new: str, other: Any, where: str) -> None:
        self._problems.append(
            f"{where}{old} is {value!r} and {new} is {other!r}, but {old} is the former name of {new}. "
            f"Remove {old}."
        )


class _Loader(yaml.SafeLoader):
    """Refuses a key that has two values. PyYAML would take the last one, and YAML allows none of them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":  # merges other mappings
                continue
            known, other = first.setdefault((key.tag, key.value), (key, value))
            if not _are_equal(value, other):
                line = known.start_mark.line + 1
                raise yaml.composer.ComposerError(
                    None, None, f"{key.value} has another value on line {line}; remove one", key.start_mark
                )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (AttributeError, IndexError, KeyError):  # of PyYAML, about "!!timestamp x" and the like
            raise yaml.constructor.ConstructorError(
                None, None, f"a value is not of its type {node.tag}", node.start_mark
            ) from None


def _are_equal(value: yaml.Node, other: yaml.Node) -> bool:
    scalars = isinstance(value, yaml.ScalarNode) and isinstance(other, yaml.ScalarNode)
    return value is other or (scalars and (value.tag, value.value) == (other.tag, other.value))


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UserError(f"{file} is not a YAML file:{position} {error.problem or error.context}.") from error
    except RecursionError:
        raise UserError(f"{file} is not a config: its values are nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:  # not text, a date that does not exist, ...
        raise UserError(f"{file} is not a YAML file: {' '.join(str(error).split())}.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{file} is not a config: it holds {type(tree).__name__}, not keys and values.")
    return tree


def flat_config(text: str) -> dict[str, Any]:
    """The config in a YAML text as a dict with dotted keys: ``{"TRAIN.seed": 1, ...}``.

    Raises: yaml.YAMLError or AttributeError for a text that is not a config.
    """
    return dict(_flatten(yaml.safe_load(text)))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        # No key is that deep. YAML allows a mapping to contain itself.
        takes_mapping = isinstance(getattr(BY_NAME.get(f"{prefix}{key}"), "allowed", None), Options)
        if isinstance(value, dict) and prefix.count(".") < _DEEPEST and not takes_mapping:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(overrides) % 2:
        words = "1 word was" if len(overrides) == 1 else f"{len(overrides)} words were"
        first = overrides[0] if os.path.exists(overrides[0]) else ""  # noqa: PTH110 - false for any text
        raise UserError(
            f"Config overrides come in pairs, KEY VALUE, but {words} given: {' '.join(overrides)}"
            + (f". To name a config or a model, write --cfg {first}" if first else "")
        )
    return zip(overrides[::2], overrides[1::2], strict=True)
