"""``spikec emit``: which emitters there are, and what each says of what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from spikec.backends import open_backend
from spikec.cli.loading import CompileOptions, idle, load
from spikec.cli.outputs import check_folder
from spikec.cli.tables import Table, say
from spikec.cli.tables import show as show_table
from spikec.compiler.errors import BackendError, Diagnostic, UsageError, raise_if_any
from spikec.compiler.folders import check_replaceable
from spikec.compiler.program import Program

__all__ = ["EMITTERS", "Emitted", "Wishes", "emit", "show"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is wished of one emitter only: ``soft_reset`` of Lava's, ``prefix`` of C's."""

    soft_reset: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, kw_only=True)
class Emitted:
    """What there is to say of a program that was written: plain values for JSON, and for people."""

    said: Mapping[str, object]
    lines: tuple[str, ...] = ()
    table: Table | None = None


def _lava(program: Program, output: Path, wishes: Wishes) -> Emitted:
    from spikec.backends.lava.emit import emit as write
    from spikec.backends.lava.placement import placement

    raise_if_any(BackendError, open_backend("lava").check(program))
    every = [item.name for item in program.populations]
    if wishes.soft_reset is not None and placement(program, every) == placement(program):
        raise UsageError(idle("--soft-reset", "none of the populations has two ways on Lava"))
    own = every if wishes.soft_reset == "own-model" else []
    write(program, output, own=own)
    places = placement(program, own)
    return Emitted(
        said={"populations": [asdict(item) for item in places]},
        table=Table(
            title="populations on Lava",
            columns=("population", "process", "model", "why"),
            rows=tuple(
                (item.population, item.process, "stock" if item.stock else "own model", item.reason)
                for item in places
            ),
        ),
    )


def _c(program: Program, output: Path, wishes: Wishes) -> Emitted:
    from spikec.backends.c.emit import emit as write

    raise_if_any(BackendError, open_backend("c").check(program))
    sizes = asdict(write(program, output, prefix=wishes.prefix))
    return Emitted(
        said={"bytes": sizes},
        table=Table(
            title="bytes, without code",
            columns=("what", "bytes"),
            rows=tuple((name, f"{count:,}") for name, count in sizes.items()),
        ),
    )


def _sanafe(program: Program, output: Path, wishes: Wishes) -> Emitted:  # noqa: ARG001
    from spikec.backends.sanafe.emit import emit as write

    differences = write(program, output)
    return Emitted(
        said={"differences": list(differences)},
        lines=tuple(f"spikes may differ: {item}" for item in differences),
    )


#: What writes a program for each backend that has files of its own, in ``backends/NAME/emit.py``.
EMITTERS: dict[str, Callable[[Program, Path, Wishes], Emitted]] = {
    "lava": _lava,
    "c": _c,
    "sanafe": _sanafe,
}


def emit(
    file: Path,
    output: Path,
    *,
    backend: str,
    options: CompileOptions,
    soft_reset: str | None = None,
    prefix: str | None = None,
) -> Emitted:
    """Write a self-contained program for ``backend``; return what there is to say about it.

    ``soft_reset`` is ``own-model`` to have Lava run all soft resets with our model; ``prefix``
    begins all names of a program in C.
    """
    if backend not in EMITTERS:
        raise UsageError(
            Diagnostic(
                code="U071",
                where=f"backend '{backend}'",
                message="it does not emit programs",
                hint="--backend lava, --backend c, or --backend sanafe (of a mapped program)",
            )
        )
    if soft_reset is not None and backend != "lava":
        raise UsageError(idle("--soft-reset", f"{backend} has one way only"))
    if prefix is not None and backend != "c":
        raise UsageError(idle("--prefix", "only --backend c writes names that meet others"))
    if backend == "c":
        from spikec.backends.c.symbols import symbols

        symbols(prefix)  # refused before anything is read
    check_folder(output, file, *options.files)
    check_replaceable(output, schema=import_module(f"spikec.backends.{backend}.emit").SCHEMA)
    program = load(file, options).program
    wishes = Wishes(soft_reset=soft_reset, prefix=prefix)
    return EMITTERS[backend](program, output, wishes)


def show(emitted: Emitted) -> None:
    """Print what an emitter says of what it wrote."""
    for line in emitted.lines:
        say(line)
    if emitted.table is not None:
        show_table(emitted.table)
