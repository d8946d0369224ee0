"""The options of encoders and decoders: which there are, and values of the right type."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..errors import UserError
from ..runtime.near_names import suggestion
from .decoders.base import PUBLISHED_STYLE, Decoder, Style

_LARGEST = 1 << 20  # of any number in an option; far above any width, and too small to overflow
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def encoder_options(build: Callable[..., nn.Module]) -> dict[str, Any]:
    """The options of an encoder with their defaults: the keyword-only parameters of what builds it."""
    parameters = inspect.signature(build).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def decoder_options(decoder: type[Decoder]) -> dict[str, Any]:
    """The options of a decoder with their defaults, besides ``dim``, ``dropout`` and ``norm``."""
    names = [name for base in decoder.__mro__ for name in vars(base).get("options", ())]
    return {name: getattr(PUBLISHED_STYLE, name) for name in Style._fields if name in names}


def read_options(
    given: Mapping[str, Any], defaults: Mapping[str, Any], key: str, arch: str
) -> dict[str, Any]:
    """The options with values of the types of their defaults.

    Args:
        key: the config key that they come from, for the error.
        arch: the encoder or decoder that they are for.

    Raises: UserError for an unknown option, and for a value of another type than its default.
    """
    result = {}
    for name, value in given.items():
        if name not in defaults:
            known = f"Its options are {', '.join(defaults)}." if defaults else "It has none."
            raise UserError(f"{key}: {arch} has no option '{name}'. {suggestion(name, defaults)}{known}")
        try:
            result[name] = _read(value, defaults[name])
        except ValueError as error:
            raise UserError(f"{key}: {name} is {value!r:.200}, but must be {error}.") from None
    return result


def _read(value: Any, default: Any) -> Any:
    """A value of the type of a default. Raises: ValueError with the words for that type."""
    if isinstance(default, tuple):
        kind = type(default[0]) if default else int
        if not isinstance(value, list | tuple):
            raise ValueError(f"a list, each of which is {_KINDS[kind]}, such as {list(default) or [0, 1, 2]}")
        return tuple(_one(each, kind) for each in value)
    return _one(value, type(default))


def _one(value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(_KINDS[kind])
    if isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:  # NaN is refused, too
        raise ValueError(f"{_KINDS[kind]} of at most {_LARGEST}")
    return value
