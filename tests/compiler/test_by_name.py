"""One grammar for what options say by name."""

from __future__ import annotations

import pytest

from spikec.compiler.by_name import ByName, parse_by_name
from spikec.compiler.errors import UsageError
from spikec.compiler.quantize import parse_weight_bits


def _parsed(text: str, values: tuple[str, ...]) -> ByName[str]:
    def value_of(part: str) -> str:
        if part not in values:
            raise ValueError(part)
        return part

    return parse_by_name(text, value_of, option="--x", kind="a value", hint="give one", code="U084")


COMPARE, RESET = (">", ">="), ("zero", "none")


@pytest.mark.parametrize(
    ("text", "values", "named", "default"),
    [
        ("none", RESET, {}, "none"),
        ("a=none, b.c = zero", RESET, {"a": "none", "b.c": "zero"}, None),
        ("a=none,zero", RESET, {"a": "none"}, "zero"),
        ("a=b=none", RESET, {"a=b": "none"}, None),
        (">=", COMPARE, {}, ">="),
        ("a=>=,b=>", COMPARE, {"a": ">=", "b": ">"}, None),
        ("none=none", RESET, {"none": "none"}, None),
    ],
)
def test_values_by_name(
    text: str, values: tuple[str, ...], named: dict[str, str], default: str | None
) -> None:
    found = _parsed(text, values)
    assert (found.named, found.default) == (named, default)
    assert _parsed(str(found), values) == found
    assert found.of("elsewhere") == default


@pytest.mark.parametrize(
    "text", ["", "a=", "=none", "a=1", "none,zero", "a=none,a=zero", "a=none,,"]
)
def test_what_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"U084.*--x"):
        _parsed(text, RESET)


def test_a_second_number_for_the_rest_is_refused() -> None:
    with pytest.raises(UsageError, match="a name that has none yet"):
        parse_weight_bits("4,8")
