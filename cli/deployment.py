"""``spikec check``: which parts of a network are stock processes, and why others are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from spikec.backends import BACKENDS, open_backend
from spikec.backends.lava.placement import edge_placement, placement
from spikec.cli.tables import say, table
from spikec.compiler.errors import Diagnostic
from spikec.compiler.program import Program

__all__ = ["Deployment", "Part", "deployment", "show"]

Verdict = Literal["stock", "own model", "not possible"]

NOTE = "processes and limits only: nothing of this was run on hardware"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One input, population or edge: what it runs as, why, and what would make it stock."""

    kind: Literal["input", "population", "edge"]
    name: str
    verdict: Verdict
    process: str | None
    reason: str
    alternative: str


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """All parts, and what each backend refuses."""

    target: str
    parts: tuple[Part, ...]
    refused: dict[str, tuple[Diagnostic, ...]]

    @property
    def deployable(self) -> bool:
        """Whether every part runs as a process that comes with Lava."""
        stock = all(part.verdict == "stock" for part in self.parts)
        return stock and not self.refused["lava"]

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return {
            "target": self.target,
            "deployable": self.deployable,
            "note": NOTE,
            "parts": [asdict(part) for part in self.parts],
            "refused": {
                name: [item.as_dict() for item in findings]
                for name, findings in self.refused.items()
            },
        }


def deployment(program: Program) -> Deployment:
    """Return what each part of ``program`` runs as."""
    return Deployment(
        target=program.target,
        parts=tuple(_parts(program)),
        refused={name: tuple(open_backend(name).check(program)) for name in BACKENDS},
    )


def show(found: Deployment) -> None:
    """Print the table, what runs the program on a CPU, and the verdict."""
    table(
        f"on {found.target}",
        ["part", "name", "runs as", "process", "why", "what would be stock"],
        [
            [part.kind, part.name, part.verdict, part.process or "", part.reason, part.alternative]
            for part in found.parts
        ],
    )
    for name, findings in found.refused.items():
        refused = "; ".join(f"{item.where}: {item.message}" for item in findings)
        say(f"backend {name}: {f'cannot run it: {refused}' if findings else 'runs it, exactly'}")
    own = sum(part.verdict == "own model" for part in found.parts)
    never = sum(part.verdict == "not possible" for part in found.parts)
    if found.deployable:
        say(f"deployable: stock processes alone ({NOTE})")
    else:
        say(
            f"not deployable as it is: {own} of {len(found.parts)} parts need a model of our own, "
            f"which runs on CPUs only, {never} cannot be expressed ({NOTE})"
        )


def _parts(program: Program) -> Iterator[Part]:
    for item in program.inputs:
        kind = "spikes" if item.kind == "binary" else f"integers {item.low}..{item.high}"
        yield Part(
            kind="input",
            name=item.name,
            verdict="stock",
            process="RingBuffer",
            reason=f"{kind}, sent by the host",
            alternative="",
        )
    for place in placement(program):
        yield Part(
            kind="population",
            name=place.population,
            verdict="stock" if place.stock else "own model",
            process=place.process,
            reason=place.reason,
            alternative=place.alternative,
        )
    for edge in edge_placement(program):
        yield Part(
            kind="edge",
            name=edge.connection,
            verdict="not possible" if edge.process is None else "stock",
            process=edge.process,
            reason=edge.reason,
            alternative=edge.alternative,
        )
