"""Graphs unrolled over time: one program, once recorded as ONNX, once run on numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import load
from spikec.compiler.ir import Graph

INPUTS, HIDDEN, OUTPUTS = 6, 7, 4
ZERO = np.zeros((1, 1), np.float32)


class Numbers:
    """Runs a program on numbers."""

    def __call__(self, kind: str, *args: Any) -> Any:
        functions: dict[str, Callable[..., Any]] = {
            "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "MatMul": np.matmul,
            "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
            "Cast": lambda value: value.astype(np.float32),
        }  # fmt: skip
        return functions[kind](*args)

    def steps(self, data: Array) -> Any:
        return iter(data)


class Tape(Numbers):
    """Records a program as an exporter does: one node a call, constants folded."""

    def __init__(self, take: str, steps: int) -> None:
        self.take, self.count = take, steps
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, kind: str, *args: Any) -> Any:
        if not any(isinstance(arg, str) for arg in args):
            return super().__call__(kind, *args)
        given = {"to": onnx.TensorProto.FLOAT} if kind == "Cast" else {}
        return self.node(kind, *args, **given)

    def node(self, kind: str, *args: Any, outputs: int = 1, **given: Any) -> Any:
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        inputs = [arg if isinstance(arg, str) else self.constant(arg) for arg in args]
        self.nodes.append(helper.make_node(kind, inputs, names, **given))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def steps(self, data: Any) -> Any:
        axis = np.array([0])
        if self.take == "split":
            parts = self.node("Split", "x", outputs=self.count, axis=0, num_outputs=self.count)
            return iter([self.node("Squeeze", part, axis) for part in parts])
        if self.take == "gather":
            return (self.node("Gather", "x", np.array(k), axis=0) for k in range(self.count))
        return (
            self.node(
                "Squeeze",
                self.node("Slice", "x", np.array([k]), np.array([k + 1]), axis),
                axis,
            )
            for k in range(self.count)
        )

    def model(self, series: Sequence[Any], join: str) -> onnx.ModelProto:
        if join == "separate":
            names = [self.node("Identity", item) for item in series]
        elif join == "sequence":
            sequence = self.node("SequenceConstruct", *series)
            names = [self.node("ConcatFromSequence", sequence, axis=0, new_axis=1)]
        else:
            rows = [self.node("Unsqueeze", item, np.array([0])) for item in series]
            names = [self.node("Concat", *rows, axis=0)]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "unrolled",
            [helper.make_tensor_value_info("x", kind, [self.count, 1, INPUTS])],
            [helper.make_tensor_value_info(name, kind, None) for name in names],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


Program = Callable[[Any, Any, dict[str, Array]], list[list[Any]]]


def weights(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {
        "w1": (INPUTS, HIDDEN), "w2": (HIDDEN, OUTPUTS), "v": (HIDDEN, HIDDEN),
        "skip": (INPUTS, OUTPUTS), "b1": (1, HIDDEN), "b2": (1, OUTPUTS),
    }  # fmt: skip
    return {
        name: rng.normal(0.1, 0.6 if name[0] != "b" else 0.2, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def zeros() -> tuple[Array, Array]:
    return np.zeros((1, HIDDEN), np.float32), np.zeros((1, OUTPUTS), np.float32)


def spike(do: Any, kind: str, u: Any, vth: float) -> Any:
    return do("Cast", do(kind, do("Sub", u, np.float32(vth)), np.float32(0)))


def seed_model(do: Any, x: Any, p: dict[str, Array]) -> list[list[Any]]:
    """The spike of the old voltage, currents one step late, a bias on the voltage."""
    (i1, i2), (u1, u2) = zeros(), zeros()
    hidden, out = [], []
    for now in do.steps(x):
        s1 = spike(do, "Greater", u1, 1.0)
        fed = do("Add", do("Mul", i1, np.float32(0.8)), do("MatMul", now, p["w1"]))
        before, i1 = i1, do("Add", fed, do("MatMul", s1, p["v"]))
        driven = do("Add", do("Mul", u1, np.float32(0.9)), before)
        u1 = do("Add", do("Sub", driven, s1), p["b1"])
        s2 = spike(do, "Greater", u2, 1.0)
        before, i2 = i2, do("Add", do("Mul", i2, np.float32(0.7)), do("MatMul", s1, p["w2"]))
        driven = do("Add", do("Mul", u2, np.float32(0.9)), before)
        u2 = do("Add", do("Sub", driven, s2), p["b2"])
        hidden.append(s1)
        out.append(s2)
    return [hidden, out]


def hard_reset(do: Any, x: Any, p: dict[str, Array]) -> list[list[Any]]:
    """A hard reset at the spike, and data that goes round the hidden layer."""
    u1, u2 = zeros()
    hidden, out = [], []
    for now in do.steps(x):
        h1 = do("Add", do("Mul", u1, np.float32(0.8)), do("MatMul", now, p["w1"]))
        s1 = spike(do, "GreaterOrEqual", h1, 0.5)
        u1 = do("Mul", do("Sub", np.float32(1), s1), h1)
        both = do("Add", do("MatMul", s1, p["w2"]), do("MatMul", now, p["skip"]))
        h2 = do("Add", do("Mul", u2, np.float32(0.8)), do("Add", both, p["b2"]))
        s2 = spike(do, "GreaterOrEqual", h2, 0.5)
        u2 = do("Mul", do("Sub", np.float32(1), s2), h2)
        hidden.append(s1)
        out.append(s2)
    return [hidden, out]


def carried_spike(do: Any, x: Any, p: dict[str, Array]) -> list[list[Any]]:
    """The last spike is carried over, for the reset and for the recurrence."""
    u1, u2 = zeros()
    s1, s2 = zeros()
    hidden, out = [], []
    for now in do.steps(x):
        fed = do("Add", do("MatMul", now, p["w1"]), do("MatMul", s1, p["v"]))
        u1 = do("Sub", do("Add", do("Mul", u1, np.float32(0.9)), fed), s1)
        s1 = spike(do, "Greater", u1, 1.0)
        u2 = do("Add", do("Mul", u2, np.float32(0.9)), do("MatMul", s1, p["w2"]))
        u2 = do("Sub", do("Add", u2, p["b2"]), s2)
        s2 = spike(do, "Greater", u2, 1.0)
        hidden.append(s1)
        out.append(s2)
    return [hidden, out]


def layer_by_layer(do: Any, x: Any, p: dict[str, Array]) -> list[list[Any]]:
    """Each layer runs over all steps before the next one starts."""
    u1, u2 = zeros()
    hidden, out = [], []
    for now in do.steps(x):
        h1 = do("Add", do("Mul", u1, np.float32(0.8)), do("MatMul", now, p["w1"]))
        hidden.append(spike(do, "Greater", h1, 0.5))
        u1 = do("Sub", h1, do("Mul", hidden[-1], np.float32(0.5)))
    rows: Any = hidden
    if isinstance(do, Tape):
        joined = [do.node("Unsqueeze", item, np.array([0])) for item in hidden]
        fed = do("MatMul", do.node("Concat", *joined, axis=0), p["w2"])
        rows = [do.node("Gather", fed, np.array(k), axis=0) for k in range(do.count)]
    for item in rows:
        current = item if isinstance(do, Tape) else do("MatMul", item, p["w2"])
        h2 = do("Add", do("Mul", u2, np.float32(0.8)), do("Add", current, p["b2"]))
        out.append(spike(do, "Greater", h2, 0.5))
        u2 = do("Sub", h2, do("Mul", out[-1], np.float32(0.5)))
    return [hidden, out]


PROGRAMS = [seed_model, hard_reset, carried_spike, layer_by_layer]


def written(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def unrolled(program: Program, steps: int, take: str, join: str) -> onnx.ModelProto:
    tape = Tape(take, steps)
    return tape.model(program(tape, "x", weights(3))[-1], join)


def assert_same_spikes(graph: Graph, program: Program, steps: int) -> None:
    """Compare all layers on data longer than what the file was unrolled for."""
    rng = np.random.default_rng(5)
    data = (rng.random((steps, 1, INPUTS)) < 0.5).astype(np.float32)
    expected = program(Numbers(), data, weights(3))
    assert all(0 < np.mean(layer) < 1 for layer in expected)
    (entry,) = graph.inputs
    trace = reference.run(graph, {entry.name: data.reshape(1, steps, INPUTS)}, dtype=np.float32)
    assert len(graph.populations) == len(expected)
    for population, layer in zip(graph.populations, expected, strict=True):
        np.testing.assert_array_equal(
            trace.spikes(population.name)[0], np.stack(layer)[:, 0], err_msg=population.name
        )


@pytest.mark.parametrize("join", ["concat", "sequence", "separate"])
@pytest.mark.parametrize("take", ["gather", "slice", "split"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_layer_spikes_as_the_program_does(
    tmp_path: Path, program: Program, take: str, join: str
) -> None:
    path = written(tmp_path / "net.onnx", unrolled(program, 12, take, join))
    assert_same_spikes(load(path), program, 30)


@pytest.mark.parametrize("steps", [4, 5, 7])
@pytest.mark.parametrize("program", [hard_reset, carried_spike, layer_by_layer])
def test_a_few_steps_are_enough(tmp_path: Path, program: Program, steps: int) -> None:
    path = written(tmp_path / "net.onnx", unrolled(program, steps, "gather", "concat"))
    assert_same_spikes(load(path), program, 30)


def test_what_was_decided_is_recorded(tmp_path: Path) -> None:
    graph = load(written(tmp_path / "net.onnx", unrolled(seed_model, 10, "split", "concat")))
    choices = {choice.what: choice for choice in graph.choices}
    assert choices["unrolled over time"].value.startswith("10 steps")
    assert "order" in choices["time index of hidden layers"].origin


def refusal(path: Path) -> str:
    with pytest.raises(FrontendError) as caught:
        load(path)
    return str(caught.value)


def test_too_few_steps_for_the_delays_are_refused(tmp_path: Path) -> None:
    model = unrolled(seed_model, 3, "gather", "concat")
    assert "more steps" in refusal(written(tmp_path / "net.onnx", model))


def test_an_open_number_of_steps_is_refused(tmp_path: Path) -> None:
    model = unrolled(hard_reset, 8, "gather", "concat")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "T"
    assert "open number of steps" in refusal(written(tmp_path / "net.onnx", model))


def test_a_sum_over_time_is_refused(tmp_path: Path) -> None:
    tape = Tape("gather", 8)
    total: Any = ZERO
    for item in hard_reset(tape, "x", weights(3))[-1]:
        total = tape("Add", total, item)
    message = refusal(written(tmp_path / "net.onnx", tape.model([total], "separate")))
    assert "not their sum" in message


def test_steps_that_differ_are_refused(tmp_path: Path) -> None:
    model = unrolled(hard_reset, 8, "gather", "concat")
    leaks = [node for node in model.graph.node if node.op_type == "Mul"]
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.3, np.float32), "other"))
    leaks[6].input[1] = "other"
    message = refusal(written(tmp_path / "net.onnx", model))
    assert "not one step repeated" in message or "does not tell" in message
