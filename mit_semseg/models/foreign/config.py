"""Reading the config of another program with checks of each value's type, since it may hold anything."""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from ...errors import UserError

_LARGEST = 1 << 20


class Config:
    """A mapping of a foreign config, and where it stands.

    Args:
        values: the mapping.
        place: what to call it in messages: ``config.json`` or ``model.backbone``.
        source: the file that it comes from.
    """

    def __init__(self, values: Mapping[str, Any], place: str, source: str) -> None:
        self.values, self.place, self.source = values, place, source

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raises: UserError about a value."""
        raise UserError(f"{self.source}: {self.place}.{key} is {self.values.get(key)!r:.120}, {problem}.")

    def section(self, key: str) -> "Config":
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            self.refuse(key, "but must be a mapping")
        return Config(value, f"{self.place}.{key}", self.source)

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            self.refuse(key, "but must be a word")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if type(value) is not int or abs(value) > _LARGEST:
            self.refuse(key, "but must be a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key, default)
        if type(value) not in (int, float) or not abs(value) <= _LARGEST:
            self.refuse(key, "but must be a number")
        return float(value)

    def switch(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if type(value) is not bool:
            self.refuse(key, "but must be true or false")
        return value

    def integers(self, key: str, default: tuple[int, ...] | None = None, length: int = 0) -> tuple[int, ...]:
        """A list of whole numbers. Args: length: how many it needs; 0 for any number."""
        value = self.values.get(key, default)
        if not isinstance(value, list | tuple) or not all(
            type(each) is int and abs(each) <= _LARGEST for each in value
        ):
            self.refuse(key, "but must be a list of whole numbers")
        if length and len(value) != length:
            self.refuse(key, f"but must have {length} values")
        return tuple(value)

    def numbers(self, key: str, default: tuple[float, ...], length: int) -> tuple[float, ...]:
        value = self.values.get(key, default)
        if (
            not isinstance(value, list | tuple)
            or len(value) != length
            or not all(type(each) in (int, float) and abs(each) <= _LARGEST for each in value)
        ):
            self.refuse(key, f"but must be a list of {length} numbers")
        return tuple(float(each) for each in value)

    def expect(self, key: str, *allowed: Any) -> None:
        """Refuse a value other than those that the model of this package has; the first is the default."""
        value = self.values.get(key, allowed[0])
        value = tuple(value) if isinstance(value, list) else value
        if value not in allowed:
            *others, last = (repr(list(each) if isinstance(each, tuple) else each) for each in allowed)
            self.refuse(key, f"which is not supported. Supported: {', '.join([*others, last])}")

    def only(self, known: Collection[str]) -> None:
        """Refuse keys that nothing here reads, because they may change the result."""
        for key, value in self.values.items():
            if key not in known and value is not None:
                raise UserError(
                    f"{self.source}: {self.place}.{key} is {value!r:.120}, which is not supported in a "
                    f"{self.values.get('type', 'model')}. Remove it if it does not change the result."
                )
