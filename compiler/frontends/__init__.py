"""From files to networks: :func:`load` recognises a format by content, never by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from spikec.compiler.arrays import size
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import check_file
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.ir import Graph
from spikec.compiler.limits import allowed_by
from spikec.compiler.program import Program
from spikec.compiler.sniffing import refused

__all__ = ["FRONTENDS", "Frontend", "ReadOptions", "files_of", "load", "load_graph"]

#: Modules that read one format each, asked in this order and imported only then.
FRONTENDS = (
    "spikec.compiler.frontends.native",
    "spikec.compiler.program_file",
    "spikec.compiler.frontends.onnx_graph",
    "spikec.compiler.frontends.lava_net",
    "spikec.compiler.frontends.nir_graph",
)


class Frontend(Protocol):
    """What a frontend module offers."""

    def recognises(self, path: Path) -> bool:
        """Say whether ``path`` holds this format, by its content, cheaply."""
        ...

    def read(self, path: Path, options: ReadOptions) -> Graph | Program:
        """Read ``path``: a graph, or a program where the file holds integers for a chip."""
        ...


def load(path: str | Path, options: ReadOptions | None = None) -> Graph | Program:
    """Read the network in ``path``: a graph, or a program if the file holds a chip's integers.

    Raises :class:`FrontendError` when the file does not exist, no frontend
    knows its content, or it leaves open what ``options`` do not answer.
    """
    path = Path(path)
    check_file(path)
    for name in FRONTENDS:
        frontend = cast("Frontend", import_module(name))
        if frontend.recognises(path):
            network = frontend.read(path, options or ReadOptions())
            _check_waiting(network, path)
            return network
    raise refused(
        path,
        "F002",
        "no frontend knows this content",
        "spikec reads ONNX, NIR, lava-dl .net and its own files, if they are whole; or use "
        "spikec.models",
    )


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that reading ``path`` takes: itself, and an ONNX model's external data."""
    try:
        with path.open("rb") as file:
            may_be_a_model = file.read(1) == b"\x08"  # ir_version, the first field
    except OSError:
        return (path,)
    if not may_be_a_model:
        return (path,)
    external = import_module("spikec.compiler.frontends.onnx_file").external_files(path)
    return (path, *external)


def _check_waiting(network: Graph | Program, path: Path) -> None:
    """Refuse delays, shifts and lags that would keep more values than the file may ask for."""
    nodes = (*network.inputs, *network.populations)
    shifts = {item.name: item.shift for item in network.inputs}
    edges = network.edges if isinstance(network, Graph) else network.connections
    lags = [0, *(item.view.lag for item in network.populations)]
    lags += [item.view.current_lag for item in network.populations]
    longest = max([max(lags) - min(lags), *shifts.values(),
                   *(edge.delay + shifts.get(edge.source, 0) for edge in edges)])  # fmt: skip
    kept, most = longest * sum(size(item.shape) for item in nodes), allowed_by(path)
    if kept > most:
        raise FrontendError(
            Diagnostic(
                code="F021",
                where=str(path),
                message=f"a delay, shift or lag of {longest} steps would keep {kept:,} values of "
                f"each sample, and a file of its size may ask for {most:,}",
                hint="shorten delays, or split the network",
            )
        )


def load_graph(path: str | Path, options: ReadOptions | None = None) -> Graph:
    """Read the float network in ``path``; a file of chip integers is a ``FrontendError``."""
    loaded = load(path, options)
    if isinstance(loaded, Graph):
        return loaded
    raise FrontendError(
        Diagnostic(
            code="F003",
            where=str(path),
            message="it holds a chip's integers, not a float network",
            hint="it needs no compiling: run or verify it as it is",
        )
    )
