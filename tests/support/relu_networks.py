"""ReLU networks as ONNX files, written with onnx alone, and one trained with NumPy alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from spikec.compiler.arrays import Array

Node = tuple[str, str, str] | tuple[str, str, str, dict[str, object]]


def relu_model(
    nodes: list[Node],
    constants: dict[str, Array],
    *,
    shape: tuple[int | str, ...],
    outputs: str = "y",
    opset: int = 17,
) -> onnx.ModelProto:
    """Return a model of ``(operator, inputs, outputs, attributes)`` from ``x`` to ``outputs``."""
    graph = helper.make_graph(
        [
            helper.make_node(kind, given.split(), results.split(), **(rest[0] if rest else {}))
            for kind, given, results, *rest in nodes
        ],
        "network",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def mlp_model(weights: list[Array], biases: list[Array]) -> onnx.ModelProto:
    """Return dense layers with ReLU between them; ``weights[k]`` is ``[out, in]``."""
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    value = "x"
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        last = number == len(weights) - 1
        constants |= {
            f"w{number}": weight.astype(np.float32),
            f"b{number}": bias.astype(np.float32),
        }
        result = "y" if last else f"z{number}"
        nodes.append(("Gemm", f"{value} w{number} b{number}", result, {"transB": 1}))
        if not last:
            nodes.append(("Relu", result, f"a{number}"))
        value = f"a{number}"
    return relu_model(nodes, constants, shape=("N", weights[0].shape[1]))


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """Write ``model`` into ``folder``."""
    path = folder / "some.onnx"
    onnx.save(model, path)
    return path


def trained(
    images: Array, labels: Array, sizes: tuple[int, ...], *, epochs: int
) -> tuple[list[Array], list[Array]]:
    """Return weights and biases of an MLP trained by Adam on the cross entropy, float32."""
    rng = np.random.default_rng(0)
    layers = list(pairwise(sizes))
    weights = [rng.normal(0, np.sqrt(2 / n), (m, n)).astype(np.float32) for n, m in layers]
    biases = [np.zeros(m, np.float32) for _, m in layers]
    parameters = [*weights, *biases]
    means = [np.zeros_like(item) for item in parameters]
    squares = [np.zeros_like(item) for item in parameters]
    count = 0
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 100):
            count += 1
            gradients = _gradients(images[batch], labels[batch], weights, biases)
            for place, slope in enumerate(gradients):
                means[place] += 0.1 * (slope - means[place])
                squares[place] += 0.001 * (slope * slope - squares[place])
                spread = np.sqrt(squares[place] / (1 - 0.999**count)) + 1e-8
                parameters[place] -= 1e-3 * means[place] / (1 - 0.9**count) / spread
    return weights, biases


def _gradients(
    images: Array, labels: Array, weights: list[Array], biases: list[Array]
) -> list[Array]:
    values = [images]
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        drive = values[-1] @ weight.T + bias
        values.append(drive if number == len(weights) - 1 else np.maximum(drive, 0))
    odds = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    slope = odds / odds.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1
    slope /= len(labels)
    of_weights, of_biases = [], []
    for number in reversed(range(len(weights))):
        of_weights.insert(0, slope.T @ values[number])
        of_biases.insert(0, slope.sum(axis=0))
        slope = (slope @ weights[number]) * (values[number] > 0)
    return [*of_weights, *of_biases]
