"""Large ONNX files: weights are held once, wherever they lie, and read the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spikec.compiler import frontends
from spikec.compiler.arrays import Array
from spikec.compiler.frontends.onnx_file import read_onnx_file
from spikec.compiler.ir import Graph
from spikec.compiler.operators import Dense

#: How layers multiply: as TorchScript writes them, and as PyTorch's newer exporter may.
LAYERS = ("Gemm", "MatMul")


def weights(*shapes: tuple[int, int]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) / np.float32(shape[1] ** 0.5)
            for shape in shapes]  # fmt: skip


def write(path: Path, layer: str, matrices: list[Array], *, external: bool) -> None:
    """Write a step of leaky layers, fed one by the other, with a reset by subtraction."""
    info = helper.make_tensor_value_info
    nodes, x = [], "x"
    values = [numpy_helper.from_array(np.float32(0.9), "beta"),
              numpy_helper.from_array(np.float32(1.0), "theta")]  # fmt: skip
    inputs = [info("x", TensorProto.FLOAT, [1, matrices[0].shape[1]])]
    outputs = []
    for k, matrix in enumerate(matrices):
        stored = matrix if layer == "Gemm" else np.ascontiguousarray(matrix.T)
        values.append(numpy_helper.from_array(stored, f"W{k}"))
        given = {"transB": 1} if layer == "Gemm" else {}
        nodes += [
            helper.make_node(layer, [x, f"W{k}"], [f"a{k}"], **given),
            helper.make_node("Mul", [f"mem{k}", "beta"], [f"d{k}"]),
            helper.make_node("Add", [f"d{k}", f"a{k}"], [f"u{k}"]),
            helper.make_node("Greater", [f"u{k}", "theta"], [f"g{k}"]),
            helper.make_node("Cast", [f"g{k}"], [f"s{k}"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"s{k}", "theta"], [f"r{k}"]),
            helper.make_node("Sub", [f"u{k}", f"r{k}"], [f"mem{k}_next"]),
        ]
        inputs.append(info(f"mem{k}", TensorProto.FLOAT, [1, len(matrix)]))
        outputs.append(info(f"mem{k}_next", TensorProto.FLOAT, [1, len(matrix)]))
        x = f"s{k}"
    outputs.insert(0, info(x, TensorProto.FLOAT, [1, len(matrices[-1])]))
    model = helper.make_model(
        helper.make_graph(nodes, "step", inputs, outputs, values),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = {"save_as_external_data": True, "location": "weights.bin"} if external else {}
    onnx.save_model(model, path, **options)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("external", [False, True])
def test_weights_are_read_whole_wherever_they_lie(
    tmp_path: Path, layer: str, external: bool
) -> None:
    matrices = weights((200, 100), (3, 200))
    path = tmp_path / "net.onnx"
    write(path, layer, matrices, external=external)
    file = read_onnx_file(path)
    assert list(file.weights) == ["W0"]  # the others are small, and stay
    assert {item.name for item in file.model.graph.initializer} == {"beta", "theta", "W1"}
    graph = frontends.load(path)
    assert isinstance(graph, Graph)
    assert graph.choices[-1].value == "3 random runs of 8 steps: equal"
    for edge, matrix in zip(graph.edges, matrices, strict=True):
        assert isinstance(edge.operator, Dense)
        np.testing.assert_array_equal(edge.operator.weight, matrix)
        assert edge.operator.weight.dtype == np.float32


def test_a_large_constant_that_is_an_input_too_is_no_input(tmp_path: Path) -> None:
    """Files before IR version 4 list their initializers among the inputs."""
    path = tmp_path / "net.onnx"
    write(path, "Gemm", weights((200, 100)), external=False)
    model = onnx.load_model(path)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("W0", TensorProto.FLOAT, [200, 100]))
    onnx.save_model(model, path)
    graph = frontends.load_graph(path)
    assert [node.name for node in graph.inputs] == ["x"]


#: Prints what loading adds to the largest memory ever held, in bytes.
PROBE = """
import json, resource, sys
from spikec.compiler import frontends
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frontends.load(sys.argv[1])
before = peak()
graph = frontends.load(sys.argv[2])
json.dump(peak() - before, sys.stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kibibytes on Linux")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("external", [False, True])
def test_ten_million_weights_take_less_than_three_times_their_size(
    tmp_path: Path, layer: str, external: bool
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, matrices in (
        (small, weights((8, 8))),
        (large, weights((2500, 2000), (2000, 2500))),
    ):
        folder.mkdir()
        write(folder / "net.onnx", layer, matrices, external=external)
    found = subprocess.run(
        [sys.executable, "-c", PROBE, str(small / "net.onnx"), str(large / "net.onnx")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    taken = 1024 * json.loads(found.stdout)
    assert taken < 3 * 4 * 10_000_000
