"""Write a program as a folder of portable C99: a library of one step, and a program to try it.

No floats, no allocation, no dependencies beyond ``<stdint.h>``; the same program gives
the same bytes. The fixed text is in ``templates/``; what is generated here is one
structure for the state, constant arrays, and one function for each population.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from spikec.backends.c.plan import plan
from spikec.backends.c.portable import PortableWriter, Sizes
from spikec.backends.c.symbols import Symbols, symbols
from spikec.backends.c.text import fill
from spikec.backends.names import one_line
from spikec.compiler.folders import MANIFEST, manifest_bytes, write_folder
from spikec.compiler.program import Program

__all__ = ["SCHEMA", "Sizes", "emit", "package"]

SCHEMA = "spikec.c"
VERSION = 1


def emit(program: Program, directory: Path, *, prefix: str | None = None) -> Sizes:
    """Write ``program`` to ``directory`` as C99, all or nothing; return what it takes.

    ``prefix`` begins all its names and is the name of its header and source, so that several
    networks can be linked into one program.
    An empty directory or one written by this function before is replaced.
    Raises :class:`BackendError` for a program that C cannot hold and
    :class:`UsageError` when there is no place to write, or for a prefix that is none.
    """
    content, sizes = package(program, symbols(prefix))
    write_folder(directory, content, schema=SCHEMA)
    return sizes


def package(program: Program, named: Symbols) -> tuple[dict[str, bytes], Sizes]:
    """Return every file by its path, and the sizes."""
    writer = PortableWriter(plan(program), named)
    sizes = writer.sizes
    blanks = {"title": _title(program), **writer.blanks(), **_readme(writer, sizes)}
    names = {"network.h": f"{named.stem}.h", "network.c": f"{named.stem}.c"}
    names |= {name: name for name in ("main.c", "Makefile", "README.md")}
    content = {to: fill(name, **blanks).encode() for name, to in names.items()}
    manifest = {
        "version": VERSION,
        "target": program.target,
        "dt": program.dt,
        "outputs": list(program.outputs),
        "prefix": named.prefix,
        "names": {item.ident: item.name for item in writer.plan.sources},
        "bytes": asdict(sizes),
        "provenance": dict(program.provenance),
    }
    content[MANIFEST] = manifest_bytes(SCHEMA, manifest)
    return content, sizes


def _title(program: Program) -> str:
    names = " -> ".join(one_line(name) for name in (program.inputs[0].name, program.outputs[0]))
    return f"A spiking network: {names}, {program.num_neurons} neurons."


def _readme(writer: PortableWriter, sizes: Sizes) -> dict[str, str]:
    program = writer.plan.program
    idents = {item.name: item.ident for item in writer.plan.sources}

    def table(rows: Iterable[Iterable[object]]) -> str:
        return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)

    return {
        "input_table": table(
            (f"`{idents[item.name]}`", one_line(item.name), item.shape,
             f"{item.low} to {item.high}", _meaning(item.kind, item.frac_bits))
            for item in program.inputs
        ),
        "population_table": table(
            (f"`{idents[item.name]}`", one_line(item.name), item.shape,
             "voltage" if item.vth is None else "spikes", item.view.lag, item.view.current_lag)
            for item in program.populations
        ),
        "outputs": ", ".join(f"`{idents[name]}`" for name in program.outputs),
        "weight_bytes": str(sizes.weights),
        "parameter_bytes": str(sizes.parameters),
        "ram_bytes": str(sizes.ram),
        "stack_bytes": str(writer.stack),
    }  # fmt: skip


def _meaning(kind: str, frac_bits: int) -> str:
    if kind == "analog":
        return f"x as round-half-even(x * 2^{frac_bits})"
    return "1 is a spike" if kind == "binary" else "integers"
