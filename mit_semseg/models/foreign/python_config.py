"""Configs that are Python files, as mmengine writes them, read without running them.

They assign literals, calls of ``dict``, and sums of numbers to names. Anything else becomes `Unread`, which
is an error only where a value is needed.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError

_DEEPEST = 12  # files that base on one another
_LARGEST = 1 << 22  # characters of a config
_BASE, _DELETE = "_base_", "_delete_"


class Unread:
    """An expression that was not read."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def read_config_file(file: Path, depth: int = 0) -> dict[str, Any]:
    """The values of a config file and of those that it is based on.

    Raises: UserError if a file cannot be read, is not Python, or is based on itself.
    """
    if depth > _DEEPEST:
        raise UserError(f"{file} is based on itself, or on more than {_DEEPEST} others in turn.")
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a config: {error}.") from error
    values = parse_config(text, str(file))
    base = values.pop(_BASE, ())
    result: dict[str, Any] = {}
    for each in [base] if isinstance(base, str) else base:
        if not isinstance(each, str):
            raise UserError(f"{file}: _base_ is {base!r:.80}, but must be the names of files.")
        result = _merged(result, read_config_file(file.parent / each, depth + 1))
    return _merged(result, values)


def parse_config(text: str, source: str) -> dict[str, Any]:
    """The values of a config's text, by their names.

    Raises: UserError that names ``source`` if the text is not Python.
    """
    if len(text) > _LARGEST:
        raise UserError(f"{source} is not a config: it has {len(text)} characters.")
    try:
        tree = ast.parse(text)
        values: dict[str, Any] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        values[target.id] = _value(node.value, values)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise UserError(f"{source} is not a config in Python: {error}.") from None
    return values


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        items = [_value(each, names) for each in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, names)
        return -value if type(value) in (int, float) else Unread(ast.unparse(node))
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _key(_value(key, names)): _value(value, names)  # type: ignore[arg-type]
            for key, value in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "dict" and not node.args:
        return {each.arg or "**": _value(each.value, names) for each in node.keywords}
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "sum" and len(node.args) == 1:
        items = _value(node.args[0], names)  # as configs of HRNet have it
        if isinstance(items, list | tuple) and all(type(each) is int for each in items):
            return sum(items)
    return Unread(ast.unparse(node))


def _key(value: Any) -> Any:
    return value if isinstance(value, str | int) else repr(value)


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values over those of a base. A mapping changes the keys of the base's, or replaces it."""
    result = dict(base)
    for name, value in values.items():
        if isinstance(value, Mapping):
            other = base.get(name)
            keeps = isinstance(other, Mapping) and not value.get(_DELETE)
            own = {key: each for key, each in value.items() if key != _DELETE}
            value = _merged(other if keeps and isinstance(other, Mapping) else {}, own)
        result[name] = value
    return result
