"""Damaged ONNX models: one error that names input or node, in memory in proportion to the file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import ReadOptions, onnx_graph

Change = Callable[[onnx.ModelProto], object]


def step() -> onnx.ModelProto:
    """Return one step of leaky neurons behind a convolution."""
    floats = TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["c"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w"], ["i"], name="gemm", transB=1),
        helper.make_node("Mul", ["v", "beta"], ["d"], name="decay"),
        helper.make_node("Add", ["d", "i"], ["u"], name="sum"),
        helper.make_node("Greater", ["u", "one"], ["over"], name="over"),
        helper.make_node("Cast", ["over"], ["s"], name="spike", to=floats),
        helper.make_node("Sub", ["u", "s"], ["v_next"], name="reset"),
    ]
    constants = {
        "k": np.ones((1, 1, 3, 3)), "w": np.ones((2, 16)), "beta": np.array(0.5),
        "one": np.array(1.0),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "step",
        [helper.make_tensor_value_info("x", floats, [1, 1, 4, 4]),
         helper.make_tensor_value_info("v", floats, [1, 2])],
        [helper.make_tensor_value_info("s", floats, [1, 2]),
         helper.make_tensor_value_info("v_next", floats, [1, 2])],
        [numpy_helper.from_array(value.astype(np.float32), name)
         for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def inputs(name: str, *given: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = node_of(model, name)
        del node.input[:]
        node.input.extend(given)

    return change


def attribute(name: str, key: str, value: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = node_of(model, name)
        kept = [item for item in node.attribute if item.name != key]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(key, value)])

    return change


def extent(name: str, length: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        entry = next(item for item in model.graph.input if item.name == name)
        entry.type.tensor_type.shape.dim[1].dim_value = length

    return change


def before_gemm(kind: str, shape: list[int], **attributes: Any) -> Change:
    """Put an operator that makes much of little before the weights."""

    def change(model: onnx.ModelProto) -> None:
        constant = numpy_helper.from_array(np.array(shape, np.int64), "much")
        model.graph.initializer.append(constant)
        given = ["much"] if kind == "ConstantOfShape" else ["w", "much"]
        model.graph.node.insert(0, helper.make_node(kind, given, ["made"], "made", **attributes))
        inputs("gemm", "f", "made")(model)

    return change


def computed_shape(model: onnx.ModelProto) -> None:
    """Make a shape that stands nowhere in the file."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20], np.int64), "n"))
    nodes = [
        helper.make_node("Mul", ["n", "n"], ["nn"], "square"),
        helper.make_node("ConstantOfShape", ["nn"], ["made"], "made"),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    inputs("gemm", "f", "made")(model)


def functions(uses: Callable[[int], list[int]], count: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.opset_import.append(opset[1])
        for number in range(count):
            body = [helper.make_node(f"F{other}", ["a"], ["b"], domain="own")
                    for other in uses(number)]  # fmt: skip
            body = body or [helper.make_node("Identity", ["a"], ["b"])]
            model.functions.append(
                helper.make_function("own", f"F{number}", ["a"], ["b"], body, opset)
            )
        model.graph.node.insert(0, helper.make_node("F0", ["w"], ["w2"], domain="own"))
        inputs("gemm", "f", "w2")(model)

    return change


DAMAGED: dict[str, tuple[Change, str]] = {
    "one input of two": (inputs("sum", "d"), "'sum' (Add): it has 1 inputs, not 2 to 2"),
    "three inputs of two": (inputs("decay", "v", "beta", "one"), "'decay' (Mul): it has 3 inputs"),
    "no input": (inputs("gemm"), "'gemm' (Gemm): it has 0 inputs"),
    "an input without a name": (inputs("gemm", "", "w"), "'gemm' (Gemm): its input 0 is missing"),
    "no output": (
        lambda model: node_of(model, "spike").ClearField("output"), "(Cast): it has 0 outputs",
    ),
    "a text for a number": (attribute("gemm", "transB", "yes"), "'transB' has another type"),
    "one number for several": (attribute("conv", "pads", 1), "'pads' has another type"),
    "numbers for one": (attribute("flat", "axis", [1, 2]), "'axis' has another type"),
    "no attribute": (
        lambda model: node_of(model, "spike").ClearField("attribute"), "'to' is missing",
    ),
    "pads beyond": (attribute("conv", "pads", [1 << 40] * 4), "attribute 'pads' is"),
    "pads that make much": (attribute("conv", "pads", [1 << 20] * 4), "it would make"),
    "uneven pads": (attribute("conv", "pads", [0, 0, 1 << 20, 0]), "'conv' (Conv)"),
    "few pads": (attribute("conv", "pads", [1, 1, 1]), "IndexError"),
    "strides of zero": (attribute("conv", "strides", [0, 0]), "'conv' (Conv)"),
    "a state that no memory holds": (extent("v", 1 << 40), "input 'v' has 1,099,511,627,776"),
    "a state that a larger file may hold": (extent("v", 1 << 23), "input 'v' has 8,388,608"),
    "an input that no memory holds": (extent("x", 1 << 62), "input 'x' has"),
    "a constant of much": (before_gemm("ConstantOfShape", [1 << 40]), "'made' (ConstantOfShape)"),
    "a constant of computed length": (computed_shape, "'made' (ConstantOfShape)"),
    "a matrix often": (before_gemm("Tile", [1 << 20, 1 << 20]), "'made' (Tile)"),
    "a matrix in each place": (before_gemm("Expand", [1 << 30, 2, 16]), "'made' (Expand)"),
    "a matrix in zeros": (before_gemm("Pad", [0, 0, 1 << 40, 0]), "'made' (Pad)"),
    "a function of itself": (functions(lambda number: [number], 1), "'own::F0' uses itself"),
    "functions in a ring": (functions(lambda number: [(number + 1) % 3], 3), "uses itself"),
    "functions that double": (
        functions(lambda number: [number + 1] * 2 if number < 40 else [], 41),
        "written out it has 1,099,511,627,",
    ),
    "functions in functions": (
        functions(lambda number: [number + 1] if number < 150 else [], 151), "or too many others",
    ),
    "no version of operators": (lambda model: model.ClearField("opset_import"), "no version"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_error_in_little_memory(name: str, tmp_path: Path) -> None:
    change, message = DAMAGED[name]
    model = step()
    change(model)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    tracemalloc.start()
    try:
        with pytest.raises(FrontendError) as caught:
            onnx_graph.read(tmp_path / "net.onnx", ReadOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert peak < 64 << 20


def test_the_model_that_these_tests_damage_is_sound(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(step().SerializeToString())
    graph = onnx_graph.read(tmp_path / "net.onnx", ReadOptions())
    assert [node.name for node in graph.populations] == ["layer1"]
