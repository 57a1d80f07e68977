"""Programs on disk (``.spk``): integers, provenance, and nothing to execute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spikec.compiler.container import (
    BROKEN,
    Packer,
    Unpacker,
    read_container,
    read_header,
    reading,
    write_container,
)
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.limits import allowed_by
from spikec.compiler.names import SEPARATOR, joined
from spikec.compiler.program import (
    Connection,
    CoreMap,
    Neurons,
    Populated,
    Program,
    ProgramInput,
)
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = ["SCHEMA", "digest_of", "read", "read_program", "recognises", "write_program"]

SCHEMA = "spikec.program"
#: Files of version 1 are read too: nothing covers their header.
VERSION = 2
#: Populations that are not current-based say what they are; the others are as they always were.
_KINDS: dict[str, type[SigmaDelta | Resonator]] = {
    "sigma_delta": SigmaDelta,
    "resonator": Resonator,
}


def recognises(path: Path) -> bool:
    """Say whether ``path`` holds a program, by its content."""
    header = read_header(path)
    return header is not None and header["schema"] == SCHEMA


def digest_of(path: Path) -> str | None:
    """Return the digest that covers all of a program file; None if it is of version 1."""
    header = read_header(path)
    return None if header is None else header.get("digest")


def read(path: Path, options: ReadOptions) -> Program:
    """Load a program, as one of the frontends; it leaves nothing for ``options`` to answer."""
    options.refuse_all_but((), str(path))
    return read_program(path)


def write_program(program: Program, path: str | Path) -> None:
    """Save ``program`` to ``path``; the same program gives the same bytes."""
    packer = Packer()
    body: dict[str, object] = {
        "target": program.target,
        "dt": program.dt,
        "outputs": list(program.outputs),
        "provenance": dict(program.provenance),
        "inputs": [_packed_input(packer, item) for item in program.inputs],
        "populations": [_packed(packer, item) for item in program.populations],
        "connections": [
            packer.pack(item, f"connection/{item.name}") for item in program.connections
        ],
    }
    if program.core_map is not None:  # files of programs without one are what they always were
        body["core_map"] = packer.pack(program.core_map, "core_map")
    write_container(Path(path), schema=SCHEMA, version=VERSION, body=body, tensors=packer.tensors)


def read_program(path: str | Path) -> Program:
    """Load a program that :func:`write_program` saved; every rule is checked again.

    Raises :class:`~spikec.compiler.errors.FrontendError` for a damaged file.
    """
    path = Path(path)
    body, tensors = read_container(path, schema=SCHEMA, version=VERSION)
    unpacker = Unpacker(tensors, allowed_by(path))
    try:
        return Program(
            target=str(body["target"]),
            dt=body["dt"],
            outputs=tuple(str(name) for name in body["outputs"]),
            provenance=dict(body["provenance"]),
            inputs=tuple(unpacker.unpack(ProgramInput, item) for item in body["inputs"]),
            populations=tuple(_population(unpacker, item) for item in body["populations"]),
            connections=tuple(_connection(unpacker, item) for item in body["connections"]),
            core_map=unpacker.unpack(CoreMap, body["core_map"]) if "core_map" in body else None,
        )
    except BROKEN as error:
        raise reading(path, error) from error


def _packed_input(packer: Packer, item: ProgramInput) -> object:
    """Return an input's table: without a condition it is what it always was."""
    table = packer.pack(item, f"input/{item.name}")
    return {name: value for name, value in table.items() if (name, value) != ("max_active", None)}


def _packed(packer: Packer, item: Populated) -> object:
    table = packer.pack(item, f"population/{item.name}")
    kinds = [name for name, kind in _KINDS.items() if isinstance(item, kind)]
    return table | {"is": kinds[0]} if kinds else table


def _population(unpacker: Unpacker, table: dict[str, object]) -> Populated:
    if not (isinstance(table, dict) and table.get("is") in _KINDS):
        return unpacker.unpack(Neurons, table)
    item = unpacker.unpack(_KINDS[str(table["is"])], table)
    if isinstance(item, Resonator):
        return replace(item, imaginary=tuple(map(_named_now, item.imaginary)))
    return item


def _connection(unpacker: Unpacker, table: dict[str, object]) -> Connection:
    item = unpacker.unpack(Connection, table)
    return replace(item, name=_named_now(item.name))


def _named_now(name: str) -> str:
    """Return the name of a connection; files of version 1 say ``a-b/delay5`` for a part."""
    first, *labels = name.split(SEPARATOR)
    return joined(first, *labels)
