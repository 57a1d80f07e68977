"""NIR files (``.nir``): read into a Graph with every open question answered, and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikec.compiler.files import sha256_of
from spikec.compiler.frontends.inputs import with_inputs_declared
from spikec.compiler.frontends.nir_answers import answers_for
from spikec.compiler.frontends.nir_file import read_nir_file
from spikec.compiler.frontends.nir_lower import lower
from spikec.compiler.frontends.nir_merge import with_integrators_merged
from spikec.compiler.frontends.nir_noted import as_noted
from spikec.compiler.frontends.nir_orientation import oriented
from spikec.compiler.frontends.nir_shapes import shapes_under
from spikec.compiler.frontends.nir_write import write
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.hdf5 import top_level_names
from spikec.compiler.ir import Graph, Source

__all__ = ["read", "recognises", "write"]


def recognises(path: Path) -> bool:
    """Say whether ``path`` is HDF5 with a NIR graph in it."""
    names = top_level_names(path)
    return "node" in names or {"nodes", "edges"} <= names


def read(path: str | Path, options: ReadOptions | None = None) -> Graph:
    """Read the network in ``path``; ``options`` answer what NIR leaves open.

    Raises :class:`~spikec.compiler.errors.FrontendError` for a file that is not
    a NIR network, and for open questions, with the options that answer them.
    """
    path = Path(path)
    file = with_integrators_merged(read_nir_file(path))
    options = options or ReadOptions()
    file, answers = oriented(file, answers_for(file, options))
    with np.errstate(all="ignore"):  # what is not finite then, the rules of a graph refuse
        graph = lower(file, answers, shapes_under(file, answers.profile))
    graph = as_noted(graph, answers.metadata, str(path))
    graph = with_inputs_declared(graph, options.inputs)
    version = f"nir {file.version}"
    return graph.with_source(
        Source(path=str(path), format=version, sha256=sha256_of(path.read_bytes()))
    )
