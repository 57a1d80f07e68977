"""From files to graphs: :func:`load` recognises a format by content, never by name."""

from __future__ import annotations

from pathlib import Path

from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.frontends import native
from spikec.compiler.ir import Graph

__all__ = ["FRONTENDS", "load"]

#: Modules with ``recognises(path)`` and ``read(path)``, asked in this order.
FRONTENDS = (native,)


def load(path: str | Path) -> Graph:
    """Read the network in ``path``.

    Raises :class:`FrontendError` when the file does not exist or no frontend
    knows its content.
    """
    path = Path(path)
    if not path.is_file():
        raise FrontendError(
            Diagnostic(
                code="F001", where=str(path), message="there is no such file", hint="check the path"
            )
        )
    for frontend in FRONTENDS:
        if frontend.recognises(path):
            graph: Graph = frontend.read(path)
            return graph
    raise FrontendError(
        Diagnostic(
            code="F002",
            where=str(path),
            message="no frontend knows this content",
            hint="spikec reads its own graph files (.safetensors); build one with spikec.models",
        )
    )
