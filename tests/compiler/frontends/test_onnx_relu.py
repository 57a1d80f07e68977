"""ReLU networks read from ONNX: equal to onnx's own evaluator, or refused with the remedy."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from support.relu_networks import Node, mlp_model, relu_model, saved

from spikec.compiler import rate, reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import load_graph, onnx_layers
from spikec.compiler.frontends.onnx_relu import read_relu
from spikec.compiler.inputs import Dataset
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.relu import ReluNetwork

GOLDEN = Path(__file__).parents[2] / "golden"
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return (RNG.normal(size=shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def norm(channels: int, name: str) -> dict[str, Array]:
    return {
        f"{name}g": normal(channels) + 1,
        f"{name}b": normal(channels),
        f"{name}m": normal(channels),
        f"{name}v": np.abs(normal(channels)) + np.float32(0.5),
    }


def normed(value: str, name: str, result: str) -> Node:
    return ("BatchNormalization", f"{value} {name}g {name}b {name}m {name}v", result)


SAME = {"pads": [1, 1, 1, 1]}
KERNEL = {"kernel_shape": [2, 2], "strides": [2, 2]}


def residual() -> onnx.ModelProto:
    """Two residual blocks, one of them with a convolution on its shortcut, as in a ResNet."""
    nodes: list[Node] = [
        ("Conv", "x w0", "c0", SAME), normed("c0", "n0", "d0"), ("Relu", "d0", "a0"),
        ("Conv", "a0 w1", "c1", SAME), normed("c1", "n1", "d1"), ("Relu", "d1", "a1"),
        ("Conv", "a1 w2 b2", "c2", SAME), ("Add", "c2 a0", "s2"), ("Relu", "s2", "a2"),
        ("Conv", "a2 w3", "c3", {**SAME, "strides": [2, 2]}), normed("c3", "n3", "d3"),
        ("Conv", "a2 w4", "c4", {"strides": [2, 2]}), normed("c4", "n4", "d4"),
        ("Add", "d3 d4", "s3"), ("Relu", "s3", "a3"),
        ("GlobalAveragePool", "a3", "p"), ("Flatten", "p", "f"),
        ("Dropout", "f", "g"), ("Gemm", "g w5 b5", "y", {"transB": 1}),
    ]  # fmt: skip
    constants = {
        "w0": normal(3, 2, 3, 3), "w1": normal(3, 3, 3, 3), "w2": normal(3, 3, 3, 3),
        "b2": normal(3), "w3": normal(4, 3, 3, 3), "w4": normal(4, 3, 1, 1),
        "w5": normal(5, 4), "b5": normal(5),
        **norm(3, "n0"), **norm(3, "n1"), **norm(4, "n3"), **norm(4, "n4"),
    }  # fmt: skip
    return relu_model(nodes, constants, shape=("N", 2, 6, 6))


def pooled(kind: str = "AveragePool", end: tuple[Node, ...] = ()) -> onnx.ModelProto:
    """Convolution, pooling, convolution, dense, as in LeNet."""
    nodes: list[Node] = [
        ("Conv", "x w0 b0", "c0"), ("Relu", "c0", "a0"), (kind, "a0", "p0", KERNEL),
        ("Conv", "p0 w1", "c1", SAME), ("Relu", "c1", "a1"), (kind, "a1", "p1", KERNEL),
        ("Reshape", "p1 flat", "f"), ("MatMul", "f w2", "m"), ("Add", "m b2", "z" if end else "y"),
        *end,
    ]  # fmt: skip
    constants = {
        "w0": normal(3, 1, 3, 3), "b0": normal(3), "w1": normal(4, 3, 3, 3),
        "w2": normal(16, 5), "b2": normal(5), "flat": np.array([-1, 16]),
    }  # fmt: skip
    return relu_model(nodes, constants, shape=(1, 1, 10, 10))


def shapes_of_others() -> onnx.ModelProto:
    """A one-dimensional convolution, a skip around it, a mean, a transposed flattening."""
    nodes: list[Node] = [
        ("Conv", "x w0", "c0", {"pads": [1, 1]}), ("Relu", "c0", "a0"),
        ("Conv", "a0 w1", "c1", {"pads": [1, 1]}), ("Mul", "a0 half", "h"), ("Sub", "c1 h", "s"),
        ("Relu", "s", "a1"), ("Relu", "a1", "again"),
        ("Transpose", "again", "t", {"perm": [0, 2, 1]}), ("Flatten", "t", "f"),
        ("Gemm", "f w2", "z"), ("Relu", "z", "y"),
    ]  # fmt: skip
    constants = {"w0": normal(2, 1, 3), "w1": normal(2, 2, 3), "w2": normal(12, 4),
                 "half": np.array([[[0.5], [0.25]]], np.float32)}  # fmt: skip
    return relu_model(nodes, constants, shape=(1, 1, 6))


def clipped(opset: int = 17) -> onnx.ModelProto:
    nodes: list[Node] = [
        ("Gemm", "x w0", "z"),
        ("Clip", "z low high", "a") if opset > 10 else ("Clip", "z", "a", {"min": 0.0, "max": 1.0}),
        ("Gemm", "a w1", "y"),
    ]
    constants = {"w0": 3 * normal(4, 6), "w1": normal(6, 3),
                 "low": np.float32(0), "high": np.float32(1)}  # fmt: skip
    return relu_model(nodes, constants, shape=("N", 4), opset=opset)


def mean_over_places(keep: int) -> onnx.ModelProto:
    nodes: list[Node] = [
        ("Conv", "x w0", "c0"), ("Relu", "c0", "a0"),
        ("ReduceMean", "a0", "p", {"axes": [-2, -1], "keepdims": keep}),
        ("Flatten", "p", "f"), ("Gemm", "f w1", "y"),
    ]  # fmt: skip
    constants = {"w0": normal(3, 1, 2, 2), "w1": normal(3, 2)}
    return relu_model(nodes, constants, shape=("N", 1, 4, 4))


READ: dict[str, Callable[[], onnx.ModelProto]] = {
    "residual": residual,
    "pooled": pooled,
    "one-dimensional": shapes_of_others,
    "clipped": clipped,
    "clipped by attributes": lambda: clipped(opset=10),
    "mean": lambda: mean_over_places(1),
    "mean without its axes": lambda: mean_over_places(0),
    "mlp": lambda: mlp_model([normal(5, 4), normal(6, 5), normal(3, 6)], [normal(5), normal(6),
                                                                          normal(3)]),
}  # fmt: skip


def results(model: onnx.ModelProto, samples: Array) -> Array:
    evaluator = ReferenceEvaluator(model)
    rows = [evaluator.run(None, {"x": sample[None]})[0] for sample in samples]
    return np.concatenate([np.asarray(row).reshape(1, -1) for row in rows])


def some_samples(network: ReluNetwork, count: int) -> Array:
    shape = network.inputs[0].shape
    return np.random.default_rng(1).normal(0.3, 1, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", READ)
def test_what_is_read_gives_what_the_file_gives(name: str, tmp_path: Path) -> None:
    model = READ[name]()
    network = read_relu(saved(model, tmp_path))
    samples = some_samples(network, 5)
    found = network.run({"x": samples})[network.outputs[0]].reshape(5, -1)
    expected = results(model, samples)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.05  # it is not dead
    (checked,) = (item for item in network.choices if item.what == "checked against the file")
    assert "equal" in checked.value


@pytest.mark.parametrize("name", READ)
def test_the_converted_network_approaches_the_file(name: str, tmp_path: Path) -> None:
    model, steps = READ[name](), 2000
    network = read_relu(saved(model, tmp_path))
    samples = some_samples(network, 5)
    data = Dataset(inputs={"x": samples[:, None]})
    graph, populations = rate.convert(network, data, percentile=100.0)
    output = network.outputs[0]
    lasting = {"x": np.repeat(samples[:, None], steps, axis=1)}
    for variant in (graph, canonicalise(graph)):
        trace = reference.run(variant, lasting, probes=graph.default_probes)
        if (output, "spikes") in trace.values:
            theta = next(item.threshold for item in populations if item.population == output)
            found = trace[output, "spikes"].mean(axis=1) * theta
        else:
            found = trace[output, "voltage"][:, -1] / steps
        expected = results(model, samples)
        np.testing.assert_allclose(
            found.reshape(5, -1), expected, atol=0.02 * np.abs(expected).max()
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans())
def test_random_dense_networks_are_read_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, seed: int, depth: int, skip: bool
) -> None:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(2, 7))
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    value, before = "x", "x"
    for number in range(depth):
        constants[f"w{number}"] = rng.normal(size=(width, width)).astype(np.float32)
        constants[f"b{number}"] = rng.normal(size=width).astype(np.float32)
        nodes.append(("Gemm", f"{value} w{number} b{number}", f"z{number}"))
        total = f"z{number}"
        if skip and number:
            nodes.append(("Add", f"z{number} {before}", f"s{number}"))
            total = f"s{number}"
        nodes.append(("Relu", total, f"a{number}"))
        before, value = value, f"a{number}"
    nodes.append(("MatMul", f"{value} w0", "y"))
    model = relu_model(nodes, constants, shape=("N", width))
    network = read_relu(saved(model, tmp_path_factory.mktemp("random")))
    samples = some_samples(network, 3)
    found = network.run({"x": samples})["readout"]
    expected = results(model, samples)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "end",
    [
        (("Softmax", "z", "y", {"axis": 1}),),
        (("LogSoftmax", "z", "y"),),
        (("ArgMax", "z", "y", {"axis": 1}),),
        (("Softmax", "z", "p"), ("ArgMax", "p", "y", {"axis": -1, "keepdims": 0})),
    ],
)
def test_a_softmax_at_the_output_is_dropped_and_said(end: tuple[Node, ...], tmp_path: Path) -> None:
    model = pooled(end=end)
    network = read_relu(saved(model, tmp_path))
    samples = some_samples(network, 5)
    found = network.run({"x": samples})["readout"].argmax(axis=1)
    expected = results(model, samples)
    classes = expected.reshape(-1) if end[-1][0] == "ArgMax" else expected.argmax(axis=1)
    assert found.tolist() == classes.tolist()
    (dropped,) = (item for item in network.choices if item.what.startswith("dropped"))
    assert dropped.value.startswith(", ".join(node[0] for node in end))


def test_a_relu_twice_is_one_layer_and_unused_layers_are_left_out(tmp_path: Path) -> None:
    model = relu_model(
        [("Gemm", "x w", "z"), ("Relu", "z", "a"), ("Relu", "a", "again"), ("Gemm", "a w", "u"),
         ("Relu", "u", "unused"), ("Gemm", "again w", "y")],
        {"w": normal(3, 3)}, shape=("N", 3),
    )  # fmt: skip
    network = read_relu(saved(model, tmp_path))
    assert [layer.name for layer in network.layers] == ["layer1", "readout"]


def test_a_reading_that_differs_from_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*given: object) -> object:
        form = onnx_layers._global_average_pool(*given)  # type: ignore[arg-type]
        return form.scaled(np.array([1.01]))

    monkeypatch.setitem(onnx_layers.LAYERS, "GlobalAveragePool", wrong)  # type: ignore[arg-type]
    with pytest.raises(FrontendError, match=r"layer 'readout' \(value 'y'\): the network as read"):
        read_relu(saved(residual(), tmp_path))


# --- what is refused -------------------------------------------------------------------


def between(
    *nodes: Node, shape: tuple[int | str, ...] = ("N", 3), **more: Array
) -> onnx.ModelProto:
    """Return a dense layer, ``nodes`` from ``z`` to ``v``, and another dense layer."""
    return relu_model(
        [("Gemm", "x w", "u"), ("Relu", "u", "z"), *nodes, ("Gemm", "v w", "y")],
        {"w": normal(3, 3), **more},
        shape=shape,
    )


def one(kind: str, **attributes: object) -> onnx.ModelProto:
    return between((kind, "z", "v", attributes))


REFUSED: dict[str, Callable[[], onnx.ModelProto]] = {
    "max_pool": lambda: pooled("MaxPool"),
    "softmax_inside": lambda: one("Softmax", axis=1),
    "softmax_of_places": lambda: relu_model(
        [("Conv", "x w", "c"), ("Relu", "c", "a"), ("Softmax", "a", "y", {"axis": 1})],
        {"w": normal(2, 1, 1, 1)}, shape=("N", 1, 2, 2),
    ),
    "sigmoid": lambda: one("Sigmoid"),
    "tanh": lambda: one("Tanh"),
    "gelu": lambda: between(("Erf", "z", "v")),
    "leaky_relu": lambda: one("LeakyRelu", alpha=0.1),
    "elu": lambda: one("Elu"),
    "layer_norm": lambda: between(
        ("LayerNormalization", "z g", "v"), g=np.ones(3, np.float32)
    ),
    "gate": lambda: between(("Mul", "z u", "v")),
    "attention": lambda: between(("Transpose", "z", "t"), ("MatMul", "z t", "m"),
                                 ("Mul", "m one", "v"), one=np.ones((1, 3), np.float32)),
    "joined": lambda: between(("Concat", "z u", "v", {"axis": 1})),
    "spikes": lambda: between(("Greater", "z half", "b"), ("Cast", "b", "v", {"to": 1}),
                              half=np.float32(0.5)),
    "clip_floor": lambda: between(("Clip", "z low high", "v"), low=np.float32(-1),
                                  high=np.float32(1)),
    "no_relu": lambda: relu_model([("Gemm", "x w", "y")], {"w": normal(3, 3)}, shape=("N", 3)),
    "training": lambda: between(("BatchNormalization", "z g g g g", "v m s", {"training_mode": 1}),
                                g=np.ones(3, np.float32)),
    "fixed_batch": lambda: relu_model(
        [("Gemm", "x w", "u"), ("Relu", "u", "y")], {"w": normal(3, 3)}, shape=(8, 3)
    ),
    "unknown_operator": lambda: one("Det"),
    "not_finite": lambda: relu_model(
        [("Gemm", "x w", "u"), ("Relu", "u", "y")],
        {"w": np.full((3, 3), np.inf, np.float32)}, shape=("N", 3),
    ),
}  # fmt: skip


def message(path: Path) -> str:
    with pytest.raises(FrontendError) as caught:
        read_relu(path)
    return str(caught.value).replace(str(path.parent), "folder") + "\n"


def checked(name: str, text: str, config: pytest.Config) -> None:
    path = GOLDEN / f"relu_{name}.txt"
    if config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_where_and_why_and_what_to_train(
    case: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    checked(case, message(saved(REFUSED[case](), tmp_path)), pytestconfig)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(b"no network")
    checked("no_onnx", message(path), pytestconfig)


def test_every_golden_has_its_case() -> None:
    stems = {path.stem.removeprefix("relu_") for path in GOLDEN.glob("relu_*.txt")}
    assert stems == {*REFUSED, "no_onnx"}


def test_without_conversion_the_frontend_names_it(tmp_path: Path) -> None:
    path = saved(mlp_model([normal(5, 4), normal(3, 5)], [normal(5), normal(3)]), tmp_path)
    with pytest.raises(FrontendError, match="--convert rate"):
        load_graph(path)


@pytest.mark.parametrize("block", range(4))
def test_damaged_files_are_refused_or_read_but_never_crash(block: int, tmp_path: Path) -> None:
    content = pooled().SerializeToString()
    path = tmp_path / "some.onnx"
    for number in range(40):
        rng = np.random.default_rng((block, number))
        damaged = bytearray(content)
        for place in rng.integers(0, len(damaged), int(rng.integers(1, 6))):
            damaged[place] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(FrontendError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights of any size overflow
            read_relu(path)


def test_a_layer_larger_than_any_network_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    model = relu_model([("Relu", "x", "y")], {}, shape=(1, 1, 1 << 16, 1 << 16))
    with pytest.raises(FrontendError, match=r"input .x. has 4,294,967,296 elements"):
        read_relu(saved(model, tmp_path))
