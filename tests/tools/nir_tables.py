"""The tables of ``docs/nir.md`` from the profiles and from what is tested: run it to renew them.

``tests/test_docs.py`` fails where the page says something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from spikec.compiler.frontends.nir_profiles import PROFILES
from tests.frameworks.nir_switches import (
    FRAMEWORKS,
    IMPORTS,
    SWITCHES,
    UNLIKE,
    Case,
    Switch,
    imports,
)
from tests.frameworks.nir_switches import cases as exports

PAGE = Path(__file__).parents[2] / "docs" / "nir.md"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
    return "\n".join(lines)


def profiles_table() -> str:
    """Return every profile: what it answers, its quirks and its source."""
    rows = [
        (f"`{item.name}`", "asked for" if item.dt is None else str(item.dt), item.discretization,
         f"{item.reset}, {item.reset_order}", f"`{item.compare}`", "; ".join(item.quirks),
         item.source)
        for item in PROFILES.values()
    ]  # fmt: skip
    return _table(("profile", "dt", "decay", "reset", "spike", "quirks", "source"), rows)


def losses_table() -> str:
    """Return what each profile's framework leaves out of its files."""
    rows = [
        (f"`{profile.name}`", f"`{loss.switch}`", f"`{loss.default}`",
         "asked" if loss.asked else "said", loss.say or "nothing: such a network cannot be read")
        for profile in PROFILES.values() for loss in profile.lost
    ]  # fmt: skip
    shown = [tuple(cell.replace("|", r"\|") for cell in row) for row in rows]
    return _table(("profile", "not in the file", "default", "", "say"), shown)


def _names(switches: Iterable[Switch]) -> str:
    shown = [f"`{switch.name}`" for switch in switches]
    return ", ".join(dict.fromkeys(shown)) or "-"


def _one_class(
    who: str, name: str, switches: tuple[Switch, ...], found: Iterable[Case]
) -> tuple[str, ...]:
    """Return a row: what is equal, what is said or asked for, what differs, what is refused."""
    supplied = [s for s in switches if s.outcome in ("asked", "said") and any(
        options is not None for options in s.values.values())]  # fmt: skip
    lost = [s for s in switches if s.outcome == "said" and s not in supplied]
    refused = [f"`{s.name}={value}`" for s in switches if s.outcome == "refused"
               for value in s.values]  # fmt: skip
    number = sum(case.neuron == name for case in found)
    equal = [s for s in switches if s.outcome == "equal"]
    return (who, f"{name}", str(number), _names(equal), _names(supplied), _names(lost),
            ", ".join(refused) or "-")  # fmt: skip


def switches_table() -> str:
    """Return what becomes of every switch of every class that is exported, and its networks."""
    head = ("framework", "class", "values", "equal", "equal with its option", "said; differs",
            "refused")  # fmt: skip
    rows = [
        _one_class(title, name, switches, exports(framework))
        for title, framework in FRAMEWORKS.items()
        for name, switches in SWITCHES[framework].items()
    ]
    return _table(head, rows)


def imports_table() -> str:
    """Return what becomes of every parameter of every node under an import."""
    head = ("profile", "node", "values", "equal", "refused")
    rows = [
        (row[0], row[1], row[2], row[3], row[6])
        for profile, nodes in IMPORTS.items()
        for name, switches in nodes.items()
        for row in [_one_class(f"`{profile}`", name, switches, imports(profile))]
    ]
    return _table(head, rows)


def counts() -> str:
    """Return how many values of switches are held against the frameworks."""
    out = [case for framework in SWITCHES for case in exports(framework)]
    into = [case for profile in IMPORTS for case in imports(profile)]
    refused = sum(case.switch.outcome == "refused" for case in (*out, *into))
    differ = sum(case.options is None for case in out)
    equal = len(out) + len(into) - refused - differ
    unlike = sum(len(names) for names in UNLIKE.values())
    return (
        f"{len(out)} values of switches exported and {len(into)} of parameters imported: {equal} "
        f"are equal, {differ} are said and known to differ, {refused} are refused; {unlike} "
        "classes are not exported:\n"
        + "; ".join(f"{title}: {', '.join(UNLIKE[name])}" for title, name in FRAMEWORKS.items())
        + "."
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "profiles": profiles_table,
    "losses": losses_table,
    "counts": counts,
    "switches": switches_table,
    "imports": imports_table,
}


def renewed(text: str) -> str:
    """Return the page with each table as it is now, between its two comments."""
    for name, made in TABLES.items():
        ends = (f"<!-- {name}: tests/tools/nir_tables.py -->", f"<!-- end of {name} -->")
        pattern = re.compile(re.escape(ends[0]) + ".*?" + re.escape(ends[1]), re.DOTALL)
        assert len(pattern.findall(text)) == 1, name
        block = f"{ends[0]}\n{made()}\n{ends[1]}"
        text = pattern.sub(lambda _, block=block: block, text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
