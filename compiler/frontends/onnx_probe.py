"""The check after the algebra: file and graph run side by side on random spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference.op_run import OpRun

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_forms import StepModel
from spikec.compiler.ir import LIF, Choice, Graph
from spikec.compiler.trace import Trace

__all__ = ["BatchNormalization", "compare", "nearest_to_threshold"]

_STEPS = 8
_DENSITIES = (0.1, 0.3, 0.6)
_TIE = 1e-5


class BatchNormalization(OpRun):
    """The inference form: before opset 14 onnx's own evaluator takes the batch's statistics."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **given: Any
    ) -> tuple[Array]:
        column = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, var = (item.reshape(column) for item in (scale, bias, mean, var))
        return (scale * (x - mean) / np.sqrt(var + np.float32(given["epsilon"])) + bias,)


def compare(
    graph: Graph,
    file: OnnxFile,
    step: StepModel,
    output_of: Mapping[str, str],
    path: Path,
) -> Graph:
    """Return ``graph`` with the outcome recorded; raise if spikes differ without a tie.

    Both run in float32 on random binary input of three densities. ``output_of``
    names the file's output for each output population. A difference is a tie
    when some voltage is within 1e-5 of its threshold.
    """
    rng = np.random.default_rng(0)
    steps = _steps_of(file.model, step)
    ties = 0
    for density in _DENSITIES:
        inputs = {
            name: (rng.random((1, steps, *shape)) < density).astype(np.float32)
            for name, shape in step.signals.items()
        }
        try:
            expected = _run_file(file, step, inputs, list(output_of.values()))
        except Exception as error:  # noqa: BLE001 - the evaluator raises what its operators raise
            return _unchecked(graph, error)
        ours = {
            node.name: values for node, values in zip(graph.inputs, inputs.values(), strict=True)
        }
        trace = reference.run(graph, ours, dtype=np.float32)
        wrong = [name for name, output in output_of.items()
                 if not _equal(trace, name, expected[output])]  # fmt: skip
        if (
            wrong
            and nearest_to_threshold(graph, ours, _first(trace, wrong, output_of, expected)) > _TIE
        ):
            raise _differs(path, wrong[0], step)
        ties += bool(wrong)
    outcome = f"{len(_DENSITIES)} random runs of {steps} steps: equal"
    if ties:
        outcome += f", but for ties at a threshold in {ties}"
    return graph.rewritten(
        choices=[Choice(what="checked against the file", value=outcome, origin="run")]
    )


def _unchecked(graph: Graph, error: Exception) -> Graph:
    """Record that the file could not be run: the algebra alone vouches for the graph."""
    why = f"no: onnx's reference evaluator cannot run it ({type(error).__name__}: {error})"
    return graph.rewritten(
        choices=[Choice(what="checked against the file", value=why, origin="run")]
    )


def _equal(trace: Trace, name: str, expected: Array) -> bool:
    if (name, "spikes") in trace.values:
        found = trace.spikes(name)
        return bool(np.array_equal(found.reshape(-1), expected.reshape(-1)))
    voltage = trace[name, "voltage"].reshape(-1)
    scale = max(1.0, float(np.abs(expected).max()))
    return bool(np.allclose(voltage, expected.reshape(-1), rtol=1e-4, atol=1e-4 * scale))


def _run_file(
    file: OnnxFile, step: StepModel, inputs: Mapping[str, Array], outputs: Sequence[str]
) -> dict[str, Array]:
    """Return the file's own outputs over time."""
    model = file.model
    run = file.with_model(_runnable(model)).runner([BatchNormalization])
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    inputs = {name: values.astype(kind) for name, values in inputs.items()}
    if not step.after_names:
        feeds = {name: _series(model, name, values) for name, values in inputs.items()}
        parts = {name: step.parts.get(name, (name,)) for name in outputs}
        every = [part for group in parts.values() for part in group]
        found = run(feeds, every)
        return {name: np.stack([found[part] for part in group]) for name, group in parts.items()}
    states = {state.name: state.initial.astype(kind) for state in step.states}
    wanted = [*outputs, *step.after_names.values()]
    rows: dict[str, list[Array]] = {name: [] for name in outputs}
    for index in range(next(iter(inputs.values())).shape[1]):
        now = {name: values[:, index] for name, values in inputs.items()}
        results = run({**now, **states}, wanted)
        states = {name: results[after] for name, after in step.after_names.items()}
        for name in outputs:
            rows[name].append(results[name])
    return {name: np.stack(values) for name, values in rows.items()}


def _runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every ``Loop`` given its condition: the evaluator needs one."""
    if not any(node.op_type == "Loop" and not node.input[1] for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer.append(numpy_helper.from_array(np.array(True), "spikec.go_on"))  # noqa: FBT003
    for node in copy.graph.node:
        if node.op_type == "Loop" and not node.input[1]:
            node.input[1] = "spikec.go_on"
    return copy


def _series(model: onnx.ModelProto, name: str, values: Array) -> Array:
    """Return ``[1, step, ...]`` as the file wants it: time first, or after a batch of one."""
    series = np.swapaxes(values, 0, 1)
    first, *rest = _shape_of(model, name)
    return series.reshape(first or len(series), *rest) if all(rest) else series


def _steps_of(model: onnx.ModelProto, step: StepModel) -> int:
    """Return the number of steps to run: the file's own, where it is fixed."""
    if step.after_names:
        return _STEPS
    if step.length is not None:
        return step.length
    lengths = [_shape_of(model, name)[0] for name in step.signals]
    return max(lengths) or _STEPS


def _shape_of(model: onnx.ModelProto, name: str) -> list[int]:
    (entry,) = [item for item in model.graph.input if item.name == name]
    return [axis.dim_value for axis in entry.type.tensor_type.shape.dim]


def _first(
    trace: Trace, wrong: Sequence[str], output_of: Mapping[str, str], expected: Mapping[str, Array]
) -> int:
    """Return the first step at which any wrong output differs."""
    steps = []
    for name in wrong:
        if (name, "spikes") not in trace.values:
            return trace.num_steps
        found = trace.spikes(name)[0].reshape(trace.num_steps, -1)
        different = found != expected[output_of[name]].reshape(found.shape)
        steps.append(int(different.any(axis=1).argmax()))
    return min(steps)


def nearest_to_threshold(graph: Graph, inputs: Mapping[str, Array], last: int) -> float:
    """Return the least distance to a threshold up to step ``last``, relative to it.

    A voltage exactly at its threshold is no tie: the comparison decides it.
    """
    spiking = [node for node in graph.populations if isinstance(node, LIF)]
    trace = reference.run(graph, inputs, probes=[(node.name, "voltage") for node in spiking])
    nearest = np.inf
    for node in spiking:
        distance = np.abs(trace[node.name, "voltage"][:, : last + 1] - node.vth)
        relative = distance / np.maximum(np.abs(node.vth), 1e-30)
        nearest = min(nearest, float(relative[relative > 0].min(initial=np.inf)))
    return nearest


def _differs(path: Path, name: str, step: StepModel) -> FrontendError:
    if step.length is not None:
        return FrontendError(
            Diagnostic(
                code="F100",
                where=f"{path}, population '{name}'",
                message="its steps over time are not one step repeated"
                + (f": {step.irregular}" if step.irregular else ""),
                hint="export one step with every state as an input and an output",
            )
        )
    return FrontendError(
        Diagnostic(
            code="F110",
            where=f"{path}, population '{name}'",
            message="the network as read gives other values than the file itself",
            hint="this is a mistake of spikec: please report it with the file",
        )
    )
