"""The check after the algebra: file and graph run side by side on random spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from spikec.compiler import reference
from spikec.compiler.arrays import Array, Shape
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_forms import StepModel
from spikec.compiler.ir import LIF, MOST_SPIKES, Choice, Graph
from spikec.compiler.trace import Probe, Trace

__all__ = ["compare", "nearest_to_threshold", "on_numbers"]

_STEPS = 8
_DENSITIES = (0.1, 0.3, 0.6)
_TIE = 1e-5
#: A spike in a file may differ from a whole number by this much.
_ROUNDED = 1e-6
#: Inputs grow to this at most, in the search for what brings several spikes a step.
_MOST_STRENGTH = 1 << 12


def compare(
    graph: Graph,
    file: OnnxFile,
    step: StepModel,
    output_of: Mapping[str, str],
    path: Path,
) -> Graph:
    """Return ``graph`` with the outcome recorded; raise if spikes differ without a tie.

    Both run in float32 on random binary input of three densities; where neurons send
    several spikes a step, have a floor or are reset twice, once more on input strong enough
    for that; where inputs are declared graded or analog, once more on such numbers.
    ``output_of`` names the file's output for each output population. A difference is a
    tie when some voltage is within 1e-5 of its threshold.
    """
    rng = np.random.default_rng(0)
    steps = _steps_of(file.model, step)
    runs = [_spikes(rng, step.signals, steps, density) for density in _DENSITIES]
    runs += _strong(rng, graph, step.signals, steps)
    runs += _numbers(rng, graph, step.signals, steps)
    ties, full = 0, 0
    for inputs in runs:
        try:
            expected = _run_file(file, step, inputs, list(output_of.values()))
        except Exception as error:  # noqa: BLE001 - the evaluator raises what its operators raise
            return _unchecked(graph, error)
        ours = _fed(graph, inputs)
        trace = reference.run(on_numbers(graph), ours, dtype=np.float32)
        # What exceeds the most that a trace holds has no counterpart from there on.
        held = _steps_held(graph, trace)
        wrong = [name for name, output in output_of.items()
                 if not _equal(trace, name, expected[output], held)]  # fmt: skip
        if (
            wrong
            and nearest_to_threshold(graph, ours, _first(trace, wrong, output_of, expected)) > _TIE
        ):
            raise _differs(path, wrong[0], step)
        ties += bool(wrong)
        full += held < steps
    outcome = f"{len(runs)} random runs of {steps} steps: equal"
    if ties:
        outcome += f", but for ties at a threshold in {ties}"
    if full:
        outcome += f", in {full} of them until a neuron sent {MOST_SPIKES} spikes in a step"
    return graph.rewritten(
        choices=[Choice(what="checked against the file", value=outcome, origin="run")]
    )


def on_numbers(graph: Graph) -> Graph:
    """Return ``graph`` for comparisons: its inputs take any numbers, whatever they declare."""
    return graph.rewritten(
        nodes={
            node.name: replace(node, kind="analog", low=None, high=None) for node in graph.inputs
        }
    )


def _spikes(
    rng: np.random.Generator, shapes: Mapping[str, Shape], steps: int, density: float
) -> dict[str, Array]:
    """Return random spikes for every input, ``[1, step, *shape]``."""
    return {
        name: (rng.random((1, steps, *shape)) < density).astype(np.float32)
        for name, shape in shapes.items()
    }


def _strong(
    rng: np.random.Generator, graph: Graph, shapes: Mapping[str, Shape], steps: int
) -> list[dict[str, Array]]:
    """Return runs of random numbers so large that counts, floors, second resets matter."""
    several = [node.name for node in graph.populations
               if isinstance(node, LIF) and node.max_spikes > 1]  # fmt: skip
    floors = {node.name: node.floor for node in graph.populations if node.floor is not None}
    twice = [node for node in graph.populations if isinstance(node, LIF) and node.reset_twice]
    if not several and not floors and not twice:
        return []
    strength = 1
    while strength < _MOST_STRENGTH:
        strength *= 2
        inputs = {
            name: values * rng.integers(1, strength + 1, values.shape).astype(np.float32)
            for name, values in _spikes(rng, shapes, steps, density=0.5).items()
        }
        ours = _fed(graph, inputs)
        probes: list[Probe] = [(name, "spikes") for name in several]
        probes += [(name, "voltage") for name in {*floors, *(node.name for node in twice)}]
        trace = reference.run(on_numbers(graph), ours, dtype=np.float32, probes=probes)
        counted = all(trace.spikes(name).max() > 1 for name in several)
        floored = all(
            (trace[name, "voltage"] <= level + _TIE).any() for name, level in floors.items()
        )
        left = all((trace[node.name, "voltage"] > node.vth).any() for node in twice)
        if counted and floored and left:
            break
    return [inputs]


def _numbers(
    rng: np.random.Generator, graph: Graph, shapes: Mapping[str, Shape], steps: int
) -> list[dict[str, Array]]:
    """Return a run of numbers as inputs declare them, if any carries more than spikes."""
    if all(node.kind == "binary" for node in graph.inputs):
        return []
    inputs = _spikes(rng, shapes, steps, density=0.5)
    for node, (name, shape) in zip(graph.inputs, shapes.items(), strict=True):
        low, high = (-1.0, 1.0) if node.low is None or node.high is None else (node.low, node.high)
        values = rng.uniform(low, high, (1, steps, *shape))
        if node.kind != "binary":
            inputs[name] = np.rint(values) if node.kind == "graded" else values
            inputs[name] = inputs[name].astype(np.float32)
    return [inputs]


def _fed(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {node.name: values for node, values in zip(graph.inputs, inputs.values(), strict=True)}


def _steps_held(graph: Graph, trace: Trace) -> int:
    """Return how many steps no population sent more than a trace holds."""
    full = [trace.num_steps]
    for node in graph.populations:
        if isinstance(node, LIF) and node.max_spikes == MOST_SPIKES:
            reached = (trace.spikes(node.name)[0] >= MOST_SPIKES).reshape(trace.num_steps, -1)
            full.append(int(reached.any(axis=1).argmax()) if reached.any() else trace.num_steps)
    return min(full)


def _unchecked(graph: Graph, error: Exception) -> Graph:
    """Record that the file could not be run: the algebra alone vouches for the graph."""
    why = f"no: onnx's reference evaluator cannot run it ({type(error).__name__}: {error})"
    return graph.rewritten(
        choices=[Choice(what="checked against the file", value=why, origin="run")]
    )


def _equal(trace: Trace, name: str, expected: Array, steps: int) -> bool:
    """Say whether a population's first ``steps`` are as expected, ``[step, ...]``."""
    expected = expected.reshape(trace.num_steps, -1)[:steps]
    if (name, "spikes") in trace.values:
        found = trace.spikes(name)[0].reshape(trace.num_steps, -1)[:steps]
        # A straight-through gradient leaves 1 + g - g, which float32 rounds.
        whole = np.rint(expected)
        return bool(
            np.array_equal(found, whole) and np.abs(expected - whole).max(initial=0) <= _ROUNDED
        )
    voltage = trace[name, "voltage"][0].reshape(trace.num_steps, -1)[:steps]
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return bool(np.allclose(voltage, expected, rtol=1e-4, atol=1e-4 * scale))


def _run_file(
    file: OnnxFile, step: StepModel, inputs: Mapping[str, Array], outputs: Sequence[str]
) -> dict[str, Array]:
    """Return the file's own outputs over time."""
    model = file.model
    run = file.with_model(_runnable(model)).runner()
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
        different = found != np.rint(expected[output_of[name]].reshape(found.shape))
        steps.append(int(different.any(axis=1).argmax()))
    return min(steps)


def nearest_to_threshold(graph: Graph, inputs: Mapping[str, Array], last: int) -> float:
    """Return the least distance to a threshold up to step ``last``, relative to it.

    A voltage exactly at its threshold is no tie: the comparison decides it.
    """
    spiking = [node for node in graph.populations if isinstance(node, LIF)]
    probes: list[Probe] = [(node.name, "voltage") for node in spiking]
    probes += [(node.name, "spikes") for node in spiking]
    trace = reference.run(on_numbers(graph), inputs, probes=probes)
    nearest = np.inf
    for node in spiking:
        distance = np.abs(_to_threshold(node, trace)[:, : last + 1])
        relative = distance / np.maximum(np.abs(node.vth), 1e-30)
        nearest = min(nearest, float(relative[relative > 0].min(initial=np.inf)))
    return nearest


def _to_threshold(node: LIF, trace: Trace) -> Array:
    """Return how far each voltage was from the nearest of its thresholds."""
    above: Array = trace[node.name, "voltage"] - node.vth
    if (node.reset, node.reset_order) != ("subtract", "at_spike"):
        return above
    before: Array = above + node.reset_amount * trace.spikes(node.name)
    if node.reset_twice:
        return _nearer(node, above, before)
    if node.max_spikes == 1:
        return before
    passed = np.clip(np.round(before / node.reset_amount), 0, node.max_spikes - 1)
    left: Array = before - passed * node.reset_amount
    return left


def _nearer(node: LIF, above: Array, before: Array) -> Array:
    """Return the lesser distance: of the voltage a step starts from, or of what it reaches."""
    start = np.broadcast_to(node.initial_state[1] - node.vth, above[:, :1].shape)
    started = np.concatenate([start, above[:, :-1]], axis=1)
    left = started > 0 if node.compare == ">" else started >= 0
    reached = before - node.reset_amount * left
    nearer: Array = np.where(np.abs(started) < np.abs(reached), started, reached)
    return nearer


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
