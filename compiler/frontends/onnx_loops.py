"""Loops over time: one pass through the body stands for every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from spikec.compiler.arrays import Array
from spikec.compiler.frontends.affine import Form
from spikec.compiler.frontends.onnx_operators import as_form
from spikec.compiler.frontends.onnx_step import (
    Carried,
    Counter,
    EmptySequence,
    Final,
    NotAStepError,
    Step,
    StepState,
    Timed,
    Value,
    attributes,
)
from spikec.compiler.limits import MOST_STEPS

__all__ = ["LOOPS"]


def _scan(
    step: Step,
    node: onnx.NodeProto,
    arguments: Sequence[Value],
    values: Mapping[str, Value],
    where: str,
) -> Sequence[Value]:
    given = attributes(node)
    body: onnx.GraphProto = given["body"]
    num_inputs = int(given["num_scan_inputs"])
    num_states = len(arguments) - num_inputs
    for name in ("scan_input_directions", "scan_output_directions", "scan_input_axes",
                 "scan_output_axes"):  # fmt: skip
        if any(given.get(name, [])):
            raise NotAStepError(where, f"{name} {given[name]}: time must run forward, first axis")
    scanned = arguments[num_states:]
    steps = _steps(scanned, where)
    environment = dict(values)
    carried = _carry(step, body.input[:num_states], arguments[:num_states], environment, where)
    for entry, value in zip(body.input[num_states:], scanned, strict=True):
        environment[entry.name] = _one_step(value, where)
    inner = step.run(body, environment)
    finals = _keep_states(step, carried, [inner[o.name] for o in body.output[:num_states]], where)
    series: list[Value] = [
        _over_time(step, inner[output.name], steps, where) for output in body.output[num_states:]
    ]
    return [*finals, *series]


def _loop(
    step: Step,
    node: onnx.NodeProto,
    arguments: Sequence[Value],
    values: Mapping[str, Value],
    where: str,
) -> Sequence[Value]:
    body: onnx.GraphProto = attributes(node)["body"]
    trips, condition = arguments[0], arguments[1]
    if not isinstance(trips, np.ndarray):
        raise NotAStepError(where, "the number of steps is not known")
    if condition is not None and not (isinstance(condition, np.ndarray) and bool(condition)):
        raise NotAStepError(where, "it ends on a condition: a loop over time runs all steps")
    steps = int(trips)
    if not 0 <= steps <= MOST_STEPS:
        raise NotAStepError(where, f"it runs {steps} steps", f"give 0 to {MOST_STEPS}")
    initial = arguments[2:]
    environment = dict(values)
    environment[body.input[0].name] = Counter()
    environment[body.input[1].name] = np.array(True)  # noqa: FBT003 - the condition's value
    carried = _carry(step, body.input[2:], initial, environment, where)
    inner = step.run(body, environment)
    ends = [inner[output.name] for output in body.output[1:]]
    finals = _keep_states(step, carried, ends[: len(initial)], where, steps)
    series: list[Value] = [_over_time(step, value, steps, where) for value in ends[len(initial) :]]
    return [*finals, *series]


def _steps(scanned: Sequence[Value], where: str) -> int:
    steps = {value.steps for value in scanned if isinstance(value, Timed)}
    if len(steps) != 1:
        raise NotAStepError(where, "it scans nothing that has a time axis, or several lengths")
    return steps.pop()


def _one_step(value: Value, where: str) -> Form:
    if not isinstance(value, Timed):
        raise NotAStepError(where, "it scans a constant")
    return value.form.reshaped(value.form.shape[1:])


def _carry(
    step: Step,
    entries: Sequence[onnx.ValueInfoProto],
    initial: Sequence[Value],
    environment: dict[str, Value],
    where: str,
) -> list[Carried]:
    """Give the body its carried values, under names that are unique in the model."""
    carried = []
    for entry, value in zip(entries, initial, strict=True):
        if isinstance(value, EmptySequence):
            start: Array | None = None
        elif isinstance(value, np.ndarray):
            start = value
        else:
            raise NotAStepError(where, f"'{entry.name}' starts from a value that is not constant")
        name = entry.name
        while name in step.states:
            name += "'"
        carried.append(Carried(name, start))
        environment[entry.name] = carried[-1]
    return carried


def _keep_states(
    step: Step,
    carried: Sequence[Carried],
    ends: Sequence[Value],
    where: str,
    steps: int | None = None,
) -> list[Value]:
    """Record the states among the carried values; buffers become series over time."""
    results: list[Value] = []
    for item, end in zip(carried, ends, strict=True):
        if isinstance(end, Timed):
            results.append(Timed(end.form, end.steps or steps or 0))
            continue
        if end is item:
            # Carried along unchanged: as good as a constant.
            results.append(item.initial)
            continue
        assert item.initial is not None
        after = as_form(step, end, where).reshaped(item.initial.shape)
        step.states[item.name] = StepState(name=item.name, initial=item.initial, after=after)
        results.append(Final(item.name))
    return results


def _over_time(step: Step, value: Value, steps: int, where: str) -> Timed:
    form = as_form(step, value, where)
    return Timed(form.reshaped((1, *form.shape)), steps)


LOOPS: dict[str, Callable[..., Sequence[Value]]] = {"Scan": _scan, "Loop": _loop}
