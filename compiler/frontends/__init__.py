"""From files to networks: :func:`load` recognises a format by content, never by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import check_file
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.ir import Graph
from spikec.compiler.program import Program

__all__ = ["FRONTENDS", "Frontend", "ReadOptions", "load", "load_graph"]

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
            return frontend.read(path, options or ReadOptions())
    raise FrontendError(
        Diagnostic(
            code="F002",
            where=str(path),
            message="no frontend knows this content" if path.stat().st_size else "it is empty",
            hint="spikec reads ONNX, NIR, lava-dl .net and its own files, if they are whole; or "
            "use spikec.models",
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
