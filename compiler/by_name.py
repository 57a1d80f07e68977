"""What an option says of each part of a network: ``8``, ``layer1=6,readout=8``, ``layer2=none``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from spikec.compiler.errors import Diagnostic, UsageError

__all__ = ["ByName", "parse_by_name"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ByName(Generic[T]):
    """Values by name; ``default`` is for all other names, None where nobody gave one."""

    default: T | None = None
    named: Mapping[str, T] = field(default_factory=dict)

    def of(self, name: str) -> T | None:
        """Return what is said of ``name``: its own value, else the one for all."""
        return self.named.get(name, self.default)

    @property
    def values(self) -> tuple[T, ...]:
        """All values that are given."""
        rest = () if self.default is None else (self.default,)
        return (*self.named.values(), *rest)

    def __str__(self) -> str:
        """Return it as an option says it."""
        rest = [] if self.default is None else [str(self.default)]
        return ",".join([*(f"{name}={value}" for name, value in self.named.items()), *rest])


def parse_by_name(
    text: str, value_of: Callable[[str], T], *, option: str, kind: str, hint: str, code: str
) -> ByName[T]:
    """Return what ``text`` says: parts with commas between them, each ``VALUE`` or ``NAME=VALUE``.

    ``value_of`` raises :class:`ValueError` for what is no value; ``kind`` says what one is ("a
    number of bits"). Raises :class:`UsageError` for a part that says none, and for a second
    value of one name.
    """
    default: T | None = None
    named: dict[str, T] = {}
    for part in text.split(","):
        found = _part(part.strip(), value_of)
        again = found is not None and (found[0] in named or (not found[0] and default is not None))
        if found is None or again:
            again_text = " for a name that has none yet" if again else ""
            raise UsageError(
                Diagnostic(
                    code=code,
                    where=f"option {option}",
                    message=f"'{part.strip()}' is not {kind}{again_text}",
                    hint=hint,
                )
            )
        name, value = found
        if name:
            named[name] = value
        else:
            default = value
    return ByName(default=default, named=named)


def _part(part: str, value_of: Callable[[str], T]) -> tuple[str, T] | None:
    """Return a part's name ("" for none) and value; a value may hold "=" as ">=" does."""
    places = [index for index in reversed(range(len(part))) if part[index] == "="]
    for name, text in (("", part), *((part[:at].strip(), part[at + 1 :]) for at in places)):
        try:
            value = value_of(text.strip())
        except ValueError:
            continue
        return None if places and not name and text != part else (name, value)
    return None
