"""The kinds of values that a config key may have. Each reads values, checks them and is stated in words."""

import ast
import json
import math
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import yaml

LARGEST = 2**31 - 1  # integer, so that no product of two overflows 64 bits
COMPUTED_WEIGHTS = ("median_frequency", "enet")
_MOST_IN_OPTION = 64  # values in a list


class Allowed(ABC):
    """A set of values. ``str()`` gives words that follow "must be"."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """A value of YAML, the command line or Python, converted to the type that the code uses.

        It need not be admitted: limits are checked after all sources have been merged.

        Raises: ValueError for a value of another type.
        """

    @abstractmethod
    def admits(self, value: Any) -> bool:
        """Whether a value belongs to the set, whatever its type."""

    @abstractmethod
    def __str__(self) -> str: ...


class Switch(Allowed):
    """True or False."""

    def read(self, value: Any) -> bool:
        value = _parse(value)
        if type(value) is not bool:
            raise ValueError
        return value

    def admits(self, value: Any) -> bool:
        return type(value) is bool

    def __str__(self) -> str:
        return "True or False"


@dataclass(frozen=True)
class Integer(Allowed):
    """Integers within two bounds. `LARGEST` is a bound that the words omit."""

    at_least: int
    at_most: int = LARGEST

    def read(self, value: Any) -> int:
        value = _parse(value)
        if type(value) is not int:
            raise ValueError
        return value

    def admits(self, value: Any) -> bool:
        return type(value) is int and self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        return f"an integer {self.bounds}"

    @property
    def plural(self) -> str:
        return f"integers {self.bounds}"

    @property
    def bounds(self) -> str:
        return f">= {self.at_least}" + (f" and <= {self.at_most}" if self.at_most < LARGEST else "")


@dataclass(frozen=True)
class Number(Allowed):
    """Finite numbers within bounds, and ``other`` values outside of them."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    other: tuple[float, ...] = ()

    def read(self, value: Any) -> float:
        value = _parse(value)
        if type(value) not in (int, float):
            raise ValueError
        try:
            return float(value)
        except OverflowError:
            raise ValueError from None

    def admits(self, value: Any) -> bool:
        if type(value) not in (int, float) or not math.isfinite(value):
            return False
        return value in self.other or (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        return ", or ".join([f"a number {self.bounds}", *(f"{value:g}" for value in self.other)])

    @property
    def plural(self) -> str:
        return f"numbers {self.bounds}".rstrip()

    @property
    def bounds(self) -> str:
        bounds = {">=": self.at_least, ">": self.above, "<=": self.at_most, "<": self.below}
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)


class Choice(Allowed):
    """One of a few names, or of a few integers."""

    def __init__(self, *choices: str | int) -> None:
        self.choices = choices

    def read(self, value: Any) -> str | int:
        if isinstance(self.choices[0], str):
            # YAML reads the name True as a boolean.
            return str(value) if type(value) is bool and str(value) in self.choices else _text(value)
        value = _parse(value)
        if type(value) is not int:
            raise ValueError
        return value

    def admits(self, value: Any) -> bool:
        return type(value) is type(self.choices[0]) and value in self.choices

    def __str__(self) -> str:
        *others, last = map(str, self.choices)
        return f"{', '.join(others)} or {last}" if others else last


@dataclass(frozen=True)
class Text(Allowed):
    """Text, which ``what`` describes. Other code checks what it names."""

    what: str
    required: bool = False

    def read(self, value: Any) -> str:
        return _text(value)

    def admits(self, value: Any) -> bool:
        return isinstance(value, str) and "\0" not in value and (value != "" or not self.required)

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True)
class Names(Allowed):
    """A list of names. ``a,b`` is read as ``("a", "b")``.

    Attributes:
        among: the names that exist; by default, other code checks them.
        optional: whether the list may be empty.
    """

    among: tuple[str, ...] = ()
    optional: bool = False

    def read(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) and re.fullmatch(r"[\w,\s]*", value):
            return tuple(value.replace(",", " ").split())
        return _tuple(value)

    def admits(self, value: Any) -> bool:
        return isinstance(value, list | tuple) and all(
            isinstance(name, str) and (not self.among or name in self.among) for name in value
        )

    def __str__(self) -> str:
        names = f"of {', '.join(self.among)}" if self.among else "names"
        return f"one or more {names}, separated by commas" + (", or empty" if self.optional else "")


@dataclass(frozen=True)
class Paths(Allowed):
    """A list of paths. ``a/b,c`` is read as ``("a/b", "c")``; a path with a comma needs quotes and brackets.

    Attributes:
        optional: whether the list may be empty.
    """

    optional: bool = False

    def read(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) and not value.lstrip().startswith(("(", "[")):
            value = [path.strip() for path in value.split(",")] if value.strip() else []
        return tuple(_text(path) for path in (value if isinstance(value, list | tuple) else _tuple(value)))

    def admits(self, value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and (self.optional or len(value) > 0)
            and all(isinstance(path, str) and path and "\0" not in path for path in value)
        )

    def __str__(self) -> str:
        return "one or more paths, separated by commas" + (", or empty" if self.optional else "")


@dataclass(frozen=True)
class ListOf(Allowed):
    """A list of numbers, each of which ``element`` admits. A single number is a list of one.

    Attributes:
        length: None for any.
        ascending: whether no number may be smaller than the one before it.
        optional: whether the list may be empty.
    """

    element: Integer | Number
    length: int | None = None
    ascending: bool = False
    optional: bool = False

    def read(self, value: Any) -> tuple[Any, ...]:
        return _tuple(value)

    def admits(self, value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and (len(value) == self.length if self.length else self.optional or len(value) > 0)
            and all(self.element.admits(number) for number in value)
            and not (self.ascending and list(value) != sorted(value))
        )

    def __str__(self) -> str:
        if self.length:
            count = {2: "two"}.get(self.length, str(self.length))
        else:
            count = "a list of" if self.optional else "one or more"
        order = ", the smaller first" if self.ascending else ""
        return f"{count} {self.element.plural}{order}"


class ClassWeights(Allowed):
    """What `parse_class_weights` takes, as text."""

    def read(self, value: Any) -> str:
        if isinstance(value, list):
            if not all(type(number) in (int, float) for number in value):
                raise ValueError
            return str(value)
        return _text(value)

    def admits(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            parse_class_weights(value)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return (
            f"{', '.join(COMPUTED_WEIGHTS)}, empty, or a list of numbers >= 0 that are not all 0, "
            "such as [0.5, 2, 1]"
        )


class Options(Allowed):
    """What `parse_options` takes: a mapping, or its text as in YAML without the braces."""

    def read(self, value: Any) -> str:
        if not isinstance(value, Mapping):
            return _text(value)
        if not all(isinstance(name, str) and _is_flat(each) for name, each in value.items()):
            raise ValueError
        return ", ".join(f"{name}: {json.dumps(each)}" for name, each in value.items())

    def admits(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            parse_options(value)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        return "empty, or names and values such as 'align_corners: true, maps: [0, 3]'"


def parse_options(text: str) -> dict[str, Any]:
    """The value of ``MODEL.encoder_options`` or ``decoder_options`` as a dict.

    Raises: ValueError for text that is not the content of a flow mapping of YAML, or that nests too deeply.
    """
    try:
        options = yaml.safe_load("{" + text + "}")
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not names and values: {error}") from None
    except ValueError:  # of a date that does not exist, and the like
        raise ValueError("not names and values") from None
    if not isinstance(options, dict):
        raise ValueError("not names and values")
    if not all(isinstance(name, str) and _is_flat(value) for name, value in options.items()):
        raise ValueError("not names and numbers, words or lists of them")
    return {name: _number_or(value) for name, value in options.items()}


def _is_flat(value: Any) -> bool:
    """Whether a value is a number, a word, true, false, or a list of a few of these."""
    if isinstance(value, list | tuple):
        return len(value) <= _MOST_IN_OPTION and all(isinstance(each, int | float | str) for each in value)
    return isinstance(value, int | float | str)


def _number_or(value: Any) -> Any:
    """A number that YAML leaves as text, such as ``1e-05``; any other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def parse_class_weights(text: str) -> str | tuple[float, ...]:
    """The value of ``TRAIN.class_weights``: "", a name in `COMPUTED_WEIGHTS`, or the numbers of a list.

    Raises: ValueError for any other text.
    """
    text = text.strip()
    if text in ("", *COMPUTED_WEIGHTS):
        return text
    numbers = _parse(text)
    if not isinstance(numbers, list | tuple) or not any(numbers):
        raise ValueError("no list of numbers, or all of them 0")
    if not all(Number(at_least=0).admits(number) for number in numbers):
        raise ValueError("not all are finite numbers of 0 or more")
    return tuple(float(number) for number in numbers)


def beyond(value: Any) -> str:
    """A bound that ``value`` passes and that no kind puts into words: ", and finite", or `LARGEST`."""
    numbers: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return ", and finite"
    return (
        f", and <= {LARGEST}" if any(type(number) is int and number > LARGEST for number in numbers) else ""
    )


def _parse(value: Any) -> Any:
    """Text as the Python literal that it is, other values as they are.

    YAML leaves ``(300, 375)`` and ``1e-4`` as text, and the command line leaves everything as text.
    """
    if not isinstance(value, str):
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's parser warns about "1or 2"
            return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the errors of the parser
        raise ValueError from None


def _text(value: Any) -> str:
    if isinstance(value, PathLike):
        value = fspath(value)
    if type(value) in (int, float):  # such as a folder called 2024
        value = str(value)
    if not isinstance(value, str) or "\0" in value:  # no path contains a zero byte
        raise ValueError
    return value


def _tuple(value: Any) -> tuple[Any, ...]:
    value = _parse(value)
    if type(value) in (int, float):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError
    return tuple(value)
