"""Export a spiking network of PyTorch as ONNX so that nothing about it is left open.

Neurons of snnTorch, Norse, SpikingJelly and sinabs are recognised in the network, and what
they remember becomes named inputs and outputs of one time step. A network of one's own
names its states. What was written is read back and run beside the network::

    graph = export_torch(network, "net.onnx", inputs=784)
    graph = export_torch(step, "net.onnx", inputs={"x": 700}, states={"mem1": 256, "mem2": 20})
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, Shape
from spikec.compiler.errors import Diagnostic, FrontendError, UsageError, VerificationError
from spikec.compiler.files import write_atomically
from spikec.compiler.frontends import load_graph
from spikec.compiler.ir import LIF, Choice, Graph

__all__ = ["export_torch"]

_STEPS = 16
_DENSITIES = (0.1, 0.3, 0.7)
#: How strong spikes are: as they are, and more where the output stays silent.
_STRENGTHS = (1, 8, 64)
_TIE = 1e-5

Extent: TypeAlias = "int | Shape"


def export_torch(
    network: Any,
    path: str | Path,
    *,
    inputs: Extent | Mapping[str, Extent],
    states: Mapping[str, Extent] | None = None,
    dt: float | None = None,
    dynamo: bool | None = None,
    opset: int | None = None,
) -> Graph:
    """Write one time step of ``network`` to ``path`` as ONNX; return it as read back and compared.

    ``inputs`` is the shape of one step's input without batch and time (one input is
    named ``input``), or a shape for each name. With ``states``, shapes by name, ``network`` is
    any callable ``step(*inputs, *states)`` that returns the output, then every state, which start
    from 0. Without, it is a module called with its input alone, whose states are found:
    neurons of snnTorch (``init_hidden=True``, or a ``forward(x, mem1, ...)`` that hands them to
    the neurons), Norse cells, SpikingJelly, sinabs, and tensors that a step leaves changed.
    They are named ``<path of the module>.<state>``. The output is the first tensor returned.

    ``dt``, the time step in seconds, goes into the file. ``dynamo`` and ``opset`` choose torch's
    exporter and the operators' version; by default what suits the installed torch.

    The network is exported for inference and left as it was. The file is written
    only if :func:`spikec.compiler.frontends.load` reads it and its spikes equal those of the
    network on random input, but for ties within 1e-5 of a threshold.

    Raises :class:`UsageError` where states cannot be found or torch cannot export,
    :class:`FrontendError` where spikec has no such neuron, and :class:`VerificationError`
    where the file gives other spikes than the network.
    """
    _require_torch()
    from spikec.models import torch_states, torch_step

    path = Path(path)
    shapes = _shapes(inputs if isinstance(inputs, Mapping) else {"input": inputs})
    given = None if states is None else _shapes(states)
    with torch_states.borrowed(network):
        step = torch_step.prepared(network, shapes, given)
        recipe = torch_step.Recipe.of(dynamo=dynamo, opset=opset)
        content = torch_step.exported(step, shapes, recipe, dt)
        graph = _read_back(content, path)
        compared = _compared(graph, step.played, list(shapes.values()), path)
    write_atomically(path, content)
    return graph.rewritten(choices=[compared])


def _require_torch() -> None:
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it, and says so too late
        import torch  # noqa: F401
    except ImportError as error:
        raise UsageError(
            Diagnostic(
                code="U101",
                where="export_torch",
                message=f"it needs PyTorch and onnxscript: {error}",
                hint="pip install 'spikec[torch]'",
            )
        ) from error


def _shapes(given: Mapping[str, Extent]) -> dict[str, Shape]:
    shapes = {
        name: (extent,) if isinstance(extent, int) else tuple(extent)
        for name, extent in given.items()
    }
    for name, shape in shapes.items():
        if not all(isinstance(item, int) and item > 0 for item in shape):
            raise UsageError(
                Diagnostic(
                    code="U102",
                    where=f"'{name}'",
                    message=f"{shape} is no shape",
                    hint="give the extents of one step, above 0, without batch and time",
                )
            )
    return shapes


def _read_back(content: bytes, path: Path) -> Graph:
    """Return the graph that spikec reads from the file's bytes, before there is the file."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, path.name)
        draft.write_bytes(content)
        try:
            return load_graph(draft)
        except FrontendError as error:
            findings = [
                replace(item, where=item.where.replace(str(draft), str(path)))
                for item in error.diagnostics
            ]
            raise FrontendError(*findings) from error


def _compared(graph: Graph, played: Any, shapes: Sequence[Shape], path: Path) -> Choice:
    """Return what the comparison of graph and network found; raise where they differ.

    A network that stays silent on spikes gets stronger input, so that there is something to
    compare: its equations know no bound of the input.
    """
    rng = np.random.default_rng(0)
    (name,) = graph.outputs
    total = runs = ties = 0
    for strength in _STRENGTHS:
        for density in _DENSITIES:
            series = [
                strength * (rng.random((_STEPS, *shape)) < density).astype(np.float32)
                for shape in shapes
            ]
            spikes, tied = _run_both(graph, played, series, path)
            total, ties, runs = total + spikes, ties + tied, runs + 1
        if total or not isinstance(graph[name], LIF):
            break
    shown = f"{total} output spikes" if isinstance(graph[name], LIF) else "voltages"
    value = f"{runs} random runs of {_STEPS} steps: {shown} equal"
    value += f", but for ties at a threshold in {ties} runs" if ties else ""
    return Choice(what="compared with PyTorch", value=value, origin="export")


def _run_both(graph: Graph, played: Any, series: Sequence[Array], path: Path) -> tuple[int, bool]:
    """Return how many output spikes there were, and whether some differ by a tie."""
    from spikec.compiler.frontends.onnx_probe import nearest_to_threshold, on_numbers

    (name,) = graph.outputs
    expected: Array = played(series)
    ours = {node.name: values[None] for node, values in zip(graph.inputs, series, strict=True)}
    trace = reference.run(on_numbers(graph), ours, dtype=np.float32)
    if not isinstance(graph[name], LIF):
        _check_voltage(trace[name, "voltage"], expected, path, name)
        return 0, False
    found = trace.spikes(name).reshape(_STEPS, -1)
    different = (found != expected.reshape(_STEPS, -1)).any(axis=1)
    step = int(different.argmax())
    if different.any() and nearest_to_threshold(graph, ours, step) > _TIE:
        raise _other_values(path, name, f"other spikes at step {step} of {_STEPS}")
    return int(found.sum()), bool(different.any())


def _check_voltage(found: Array, expected: Array, path: Path, name: str) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    if not np.allclose(found.reshape(-1), expected.reshape(-1), rtol=1e-4, atol=1e-4 * scale):
        raise _other_values(path, name, "another voltage")


def _other_values(path: Path, name: str, what: str) -> VerificationError:
    return VerificationError(
        Diagnostic(
            code="V010",
            where=f"{path}, population '{name}'",
            message=f"the exported step gives {what} than the network itself: it was not written",
            hint="the network keeps something from step to step that is no state of a neuron, or "
            "behaves otherwise for another batch; write a step(x, *states) and name its states",
        )
    )
