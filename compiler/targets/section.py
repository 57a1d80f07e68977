"""One section of a target file, read field by field: what is wrong is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Section"]

#: Picojoules and nanoseconds beyond this are no cost of a chip.
_MOST_COST = 1e15


class Section:
    """A table of a target file. All methods raise ``ValueError`` that names the field.

    :meth:`end` refuses what nobody asked for: a misspelt limit would not be a limit.
    """

    def __init__(self, file: Mapping[str, Any], name: str = "") -> None:
        self._name = name
        self._table: Any = file.get(name) if name else file
        self._asked: set[str] = set()
        if not isinstance(self._table, Mapping):
            raise ValueError(f"section [{name}] is missing")  # noqa: TRY004 - as all else here

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def _value(self, key: str) -> Any:
        self._asked.add(key)
        if key not in self._table:
            raise ValueError(f"{self._place(key)} is missing")
        return self._table[key]

    def _place(self, key: str) -> str:
        return f"[{self._name}] {key}" if self._name else key

    def _wrong(self, key: str, wanted: str) -> ValueError:
        return ValueError(f"{self._place(key)} is {_shown(self._table[key])}, not {wanted}")

    def text(self, key: str, choices: Sequence[str] = ()) -> str:
        """Return a text that is not empty, one of ``choices`` if there are any."""
        value = self._value(key)
        if not isinstance(value, str) or not value or (choices and value not in choices):
            raise self._wrong(key, f"one of {', '.join(choices)}" if choices else "a text")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._value(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``."""
        value = self._value(key)
        if not _is_integer(value, low, high):
            raise self._wrong(key, f"an integer from {low} to {high}")
        return int(value)

    def integers(self, key: str, low: int, high: int, count: int | None = None) -> tuple[int, ...]:
        """Return a list of ``count`` integers (at least one, if None) from ``low`` to ``high``."""
        value = self._value(key)
        right = isinstance(value, list) and (len(value) == count if count else len(value) > 0)
        if not right or not all(_is_integer(item, low, high) for item in value):
            raise self._wrong(key, f"{count or 'a list of'} integers from {low} to {high}")
        return tuple(value)

    def span(self, key: str, low: int, high: int) -> tuple[int, int]:
        """Return the least and the most of a range within ``low`` to ``high``."""
        least, most = self.integers(key, low, high, count=2)
        if least > most:
            raise self._wrong(key, "[least, most]")
        return least, most

    def costs(self, key: str) -> tuple[float, float]:
        """Return the least and the most of a cost: finite, not negative."""
        value = self._value(key)
        right = isinstance(value, list) and len(value) == 2 and all(map(_is_cost, value))
        if not right or value[0] > value[1]:
            raise self._wrong(key, "[least, most], finite numbers")
        return float(value[0]), float(value[1])

    def end(self, also: Sequence[str] = ()) -> None:
        """Refuse fields that nobody has asked for; ``also`` are known."""
        unknown = sorted(set(self._table) - self._asked - set(also))
        if unknown:
            raise ValueError(f"{', '.join(map(self._place, unknown))} is not known")


def _is_integer(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_cost(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= _MOST_COST  # type: ignore[operator]


def _shown(value: object) -> str:
    """Return what a message says of a value, however long or large that is."""
    if type(value) is int and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return repr(value) if isinstance(value, (int, float)) else f"{value!r:.60}"
