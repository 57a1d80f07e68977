"""The rule for names, and the maker of new ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spikec.compiler.names import cleaned, distinct, fault, joined


@given(st.lists(st.text(max_size=6), unique=True, max_size=8))
def test_foreign_names_become_distinct_legal_ones(names: list[str]) -> None:
    found = distinct(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert not any(map(fault, found.values()))


def test_names_of_parts() -> None:
    assert joined("a-b", "", "delay5", "low") == "a-b.delay5.low"
    assert fault(joined("a", "b")) is None
    assert cleaned("/net/fc 1/Gemm:0") == "net_fc_1_Gemm_0"
    assert [distinct(["x y", "x/y", "x_y_2"])[name] for name in ("x y", "x/y", "x_y_2")] == [
        "x_y",
        "x_y_2",
        "x_y_2_2",
    ]
    assert all(map(fault, ("", "a/b", "a\0")))
