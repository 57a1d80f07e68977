"""What is measured with what, in the standard and in the quick form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tools import FRAMEWORKS, TOOLS
from workloads import MAKERS, Workload, long, square

ENGINES = ("spikec fast", "spikec c")
ALL = tuple(tool.name for tool in TOOLS)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload, a number of samples at a time, of threads, and the tools to compare.

    Every tool has at most ``rounds`` turns, and fewer if these would take it more than
    ``seconds``: two at least, one if a call takes several times as long. ``curve`` names the
    plot that it is a point of, at ``at``.
    """

    workload: str
    make: Callable[[], Workload]
    batch: int = 1
    threads: int = 1
    tools: Sequence[str] = ENGINES
    rounds: int = 5
    seconds: float = 1.5
    curve: str = ""
    at: float = 0

    @property
    def label(self) -> str:
        """What it is called on the command line and in the results."""
        if self.curve:
            return f"{self.curve} {self.at:g}"
        threads = f" threads {self.threads}" if self.threads > 1 else ""
        return f"{self.workload} batch {self.batch}{threads}"


def _case(name: str, **values: object) -> Case:
    return Case(workload=name, make=MAKERS[name], **values)  # type: ignore[arg-type]


def standard() -> list[Case]:
    """Return all cases: first those that a ratio is wanted of, curves last.

    Those of two threads stand together, as far as that goes: their tools are other processes.
    """
    plain = (*ENGINES, "torch int8", "torch by hand")
    batched = (*plain, *FRAMEWORKS[1:])
    wide = (*ENGINES, "Lava", "torch int8", "torch by hand", "SpikingJelly", "sinabs")
    return [
        *(_case(name, tools=ALL, seconds=2.5) for name in ("W1", "W2", "W3")),
        *(_case(name, tools=wide if name == "W4-5" else wide[:5], rounds=3)
          for name in ("W4-1", "W4-5", "W4-20")),
        *(_case(name, threads=2, tools=wide[:3], rounds=3) for name in ("W4-1", "W4-5", "W4-20")),
        _case("W1", batch=256, threads=2, tools=batched, rounds=3),
        *(_case(name, batch=256, tools=batched, rounds=3) for name in ("W3", "W1", "W2")),
        *(_case(name, batch=64, tools=plain, rounds=3) for name in ("W1", "W2", "W3", "W4-1")),
        _case("W4-5", batch=64, tools=(*plain, "SpikingJelly"), rounds=3),
        _case("W4-20", batch=16, tools=plain, rounds=3),
        *(_case(name, batch=256, threads=2, tools=batched, rounds=3)
          for name in ("W2", "W3")),
        _case("W4-5", batch=64, threads=2, tools=plain, rounds=3),
        *curves(),
    ]  # fmt: skip


def curves() -> list[Case]:
    """Return the points of the plots."""
    plain = (*ENGINES, "torch by hand")
    points = [
        Case(workload=f"W1-T{steps}", make=lambda steps=steps: long(steps), curve="steps", at=steps,
             rounds=3, seconds=0.6, tools=(*plain, "Lava") if steps <= 300 else plain)
        for steps in (10, 30, 100, 300, 1000)
    ]  # fmt: skip
    points += [
        _case("W1", batch=batch, curve="batch", at=batch, rounds=3, seconds=0.6, tools=plain)
        for batch in (1, 4, 16, 64, 256)
    ]
    points += [
        _square(width, 5, curve="neurons", at=width, lava=width <= 1024)
        for width in (256, 512, 1024, 2048, 4096)
    ]
    points += [
        _square(1024, percent, curve="density", at=percent, lava=percent in (1, 10, 30))
        for percent in (1, 2, 5, 10, 20, 30)
    ]
    return points


def _square(width: int, percent: int, *, curve: str, at: float, lava: bool) -> Case:
    tools = (*ENGINES, "torch int8", "torch by hand", *(["Lava"] if lava else []))
    return Case(
        workload=f"N{width}-{percent}", make=lambda: square(width, percent), tools=tools,
        rounds=3, seconds=0.6, curve=curve, at=at,
    )  # fmt: skip


def quick() -> list[Case]:
    """Return what shows in seconds that everything works: our engines and the baseline."""
    tools = (*ENGINES, "spikec golden", "NumPy rows")
    return [
        *(_case(name, tools=tools, rounds=2, seconds=0.5) for name in ("W1", "W2", "W3")),
        _case("W1", batch=64, threads=2, rounds=2, seconds=0.5),
        Case(workload="W1-T10", make=lambda: long(10), curve="steps", at=10, rounds=2, seconds=0.5),
        Case(workload="W1-T30", make=lambda: long(30), curve="steps", at=30, rounds=2, seconds=0.5),
    ]


def chosen(
    cases: Sequence[Case], *, workloads: str = "", labels: str = "", tools: str = ""
) -> list[Case]:
    """Return the cases of the given workloads whose label fits, with these tools only.

    Each is a list with commas, and everything if empty; labels may have ``*`` and ``?``.
    """
    names, patterns, kept = _parts(workloads), _parts(labels), _parts(tools)
    result = []
    for case in cases:
        if names and case.workload not in names:
            continue
        if patterns and not any(fnmatchcase(case.label, pattern) for pattern in patterns):
            continue
        left = tuple(name for name in case.tools if not kept or name in kept)
        if left:
            result.append(Case(**{**vars(case), "tools": left}))
    return result


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
