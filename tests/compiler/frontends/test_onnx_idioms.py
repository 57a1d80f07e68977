"""Ways in which people write spikes, layers and resets: read as what onnx's evaluator runs.

Each idiom is a step in onnx's own text form. Its truth is onnx's reference evaluator, run step
by step; weights and decays are dyadic, so that no float rounds and no difference is a tie.
``tests/frameworks/test_torch_idioms.py`` has the same and more as PyTorch exports them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from spikec.compiler import reference
from spikec.compiler.arrays import Array, Shape
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import ReadOptions, load_graph
from spikec.compiler.ir import Graph
from spikec.compiler.passes.pipeline import canonicalise

STEPS, FORMS = 16, 20


@dataclass(frozen=True, kw_only=True)
class Idiom:
    """A step: its nodes, the shapes of its states and of its input ``x``, and its constants."""

    nodes: str
    states: Mapping[str, Shape]
    out: Shape = (3,)
    x: Shape = (6,)
    shows: str = "spikes"
    opset: int = 19
    constants: Mapping[str, Any] | None = None

    def model(self, rng: np.random.Generator) -> onnx.ModelProto:
        def value(name: str, shape: Shape) -> str:
            return f"float[{', '.join(map(str, (1, *shape)))}] {name}"

        given = ", ".join([value("x", self.x), *(value(n, s) for n, s in self.states.items())])
        after = ", ".join(
            [value("out", self.out), *(value(f"{n}_next", s) for n, s in self.states.items())]
        )
        model = parser.parse_model(
            f'<ir_version: 8, opset_import: ["": {self.opset}]> step ({given}) => ({after}) '
            f"{{ {self.nodes} }}"
        )
        constants = {**CONSTANTS, **weights(rng), **(self.constants or {})}
        used = {name for node in model.graph.node for name in node.input}
        for name, values in constants.items():
            if name in used:
                model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return model


CONSTANTS: dict[str, Array] = {
    name: np.array(value, np.float32)
    for name, value in {"half": 0.5, "one": 1.0, "decay": 0.75, "zero": 0.0, "two": 2.0}.items()
} | {
    "first": np.array([0]), "middle": np.array([3]), "last": np.array([6]), "along": np.array([1]),
    "odd": np.array([1, 3, 5]), "flat": np.array([1, 48]), "back": np.array([-1]),
    "start": np.array([-1]), "end": np.array([-99]), "places": np.array([2, 3]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 0]), "scales": np.array([1, 1, 2, 2], np.float32),
    "scale": np.array(1 / 255, np.float32), "point": np.array(0, np.uint8),
    "none": np.array([], np.float32),
}  # fmt: skip


def weights(rng: np.random.Generator) -> dict[str, Array]:
    shapes = {"A": (6, 4), "B": (4, 3), "R": (4, 4), "XR": (10, 4), "H": (3, 4), "BB": (8, 3),
              "K": (2, 1, 3, 3), "T": (2, 1, 2, 2), "P": (3, 2), "C": (3, 3, 3, 3)}  # fmt: skip
    return {
        name: (np.round(rng.normal(0.2, 0.6, shape) * 8) / 8).astype(np.float32)
        for name, shape in shapes.items()
    }


LAYER = "d = MatMul(x, A) k1 = Mul(m, decay) u = Add(k1, d) "
SPIKE = "g = Greater(u, one) s = Cast <to = 1> (g) "
AFTER = "m_next = Sub(u, s) "
READ = "e = MatMul(sent, B) k2 = Mul(n, half) w = Add(k2, e) i = Greater(w, one) "
OUT = READ + "out = Cast <to = 1> (i) n_next = Sub(w, out) "
TWO: dict[str, Shape] = {"m": (4,), "n": (3,)}
THREE: dict[str, Shape] = {**TWO, "q": (4,)}
#: A second hidden population whose spikes are z.
SECOND = (
    "d2 = MatMul(s, R) k3 = Mul(q, half) y = Add(k3, d2) j = GreaterOrEqual(y, half) "
    "z = Cast <to = 1> (j) q_next = Sub(y, z) "
)
PICTURE = "d = Conv <pads = [1, 1, 1, 1]> (x, K) k1 = Mul(m, decay) u = Add(k1, d) " + SPIKE + AFTER
PICTURES: dict[str, Shape] = {"m": (2, 4, 6), "n": (3,)}


def hidden(spike: str) -> Idiom:
    """Another spike function: it makes s of u."""
    return Idiom(nodes=LAYER + spike + AFTER + "sent = Identity(s) " + OUT, states=TWO)


def logic(nodes: str) -> Idiom:
    """What becomes of two populations' spikes on their way."""
    return Idiom(nodes=LAYER + SPIKE + AFTER + SECOND + nodes + OUT, states=THREE)


def picture(nodes: str, matrix: Array) -> Idiom:
    """What becomes of a picture of spikes before a matrix."""
    flat = np.array([1, len(matrix)])
    read = OUT.replace("MatMul(sent, B)", "MatMul(v, wide)")
    return Idiom(
        nodes=PICTURE + nodes + "v = Reshape(sent, flat) " + read,
        states=PICTURES, x=(1, 4, 6), constants={"wide": matrix, "flat": flat},
    )  # fmt: skip


def matrix(inputs: int) -> Array:
    values = np.round(np.random.default_rng(inputs).normal(0.1, 0.5, (inputs, 3)) * 8) / 8
    return values.astype(np.float32)


IDIOMS: dict[str, Idiom] = {
    "relu of sign": hidden("c = Sub(u, one) t = Sign(c) s = Relu(t) "),
    "comparison of a spike": hidden(
        "g = Greater(u, one) f = Cast <to = 1> (g) h = Greater(f, half) s = Cast <to = 1> (h) "
    ),
    "heaviside": hidden(
        "c = Sub(u, one) l = Less(c, zero) i1 = Where(l, zero, one) h = Equal(c, zero) "
        "s = Where(h, zero, i1) "
    ),
    "straight through": hidden(
        "c = Sub(u, one) h = Greater(c, zero) f = Cast <to = 1> (h) y = Sigmoid(c) t = Sub(f, y) "
        "s = Add(t, y) "
    ),
    "quotient straight through": hidden(
        "c = Sub(u, one) h = Greater(c, zero) f = Cast <to = 1> (h) ab = Abs(c) de = Add(ab, one) "
        "y = Div(c, de) t = Sub(f, y) s = Add(t, y) "
    ),
    "quantized spikes": hidden(
        "g = Greater(u, one) f = Cast <to = 1> (g) c = QuantizeLinear(f, scale, point) "
        "s = DequantizeLinear(c, scale, point) "
    ),
    "to the power of one": hidden(
        "g = Greater(u, one) f = Cast <to = 1> (g) s = Pow(f, two) "
    ),
    "and": logic("sent = Mul(s, z) "),
    "and not": logic("c = Sub(one, s) sent = Mul(c, z) "),
    "or": logic("sent = Max(s, z) "),
    "or of truths": logic("c = Or(g, j) sent = Cast <to = 1> (c) "),
    "exclusive or": logic("c = Xor(g, j) sent = Cast <to = 1> (c) "),
    "distance": logic("c = Sub(s, z) sent = Abs(c) "),
    "side by side": Idiom(
        nodes=LAYER + SPIKE + AFTER + SECOND + "c = Concat <axis = 1> (s, z) "
        "e = MatMul(c, BB) k2 = Mul(n, half) w = Add(k2, e) i = Greater(w, one) "
        "out = Cast <to = 1> (i) n_next = Sub(w, out) ",
        states=THREE,
    ),
    "turned round": logic("sent = Slice(s, start, end, along, back) "),
    "sum over neurons": logic("c = ReduceSum(s, along) sent = Add(z, c) "),
    "parts of the input": Idiom(
        nodes="x1, x2 = Split <axis = 1> (x) d1 = MatMul(x1, H) d2 = MatMul(x2, H) d = Sub(d1, d2) "
        "k1 = Mul(m, decay) u = Add(k1, d) " + SPIKE + AFTER + "sent = Identity(s) " + OUT,
        states=TWO,
    ),
    "every other input": Idiom(
        nodes="x1 = Gather <axis = 1> (x, odd) x2 = Slice(x, first, middle, along) "
        "d1 = MatMul(x1, H) d2 = MatMul(x2, H) d = Add(d1, d2) k1 = Mul(m, decay) u = Add(k1, d) "
        + SPIKE + AFTER + "sent = Identity(s) " + OUT,
        states=TWO,
    ),
    "recurrence side by side": Idiom(
        nodes="c = Concat <axis = 1> (x, z) d = MatMul(c, XR) k1 = Mul(m, decay) u = Add(k1, d) "
        + SPIKE + AFTER + "z_next = Identity(s) sent = Identity(s) " + OUT,
        states={**TWO, "z": (4,)},
    ),
    "stored spikes gate": Idiom(
        nodes="d = MatMul(x, A) c = Sub(one, z) k0 = Mul(m, decay) k1 = Mul(k0, c) "
        "m_next = Add(k1, d) g = Greater(m_next, half) z_next = Cast <to = 1> (g) "
        "sent = Identity(z_next) " + OUT,
        states={**TWO, "z": (4,)},
    ),
    "stored spikes gate and feed back": Idiom(
        nodes="d = MatMul(x, A) c = Sub(one, z) k0 = Mul(m, decay) k1 = Mul(k0, c) "
        "back1 = MatMul(z, R) v = Add(k1, d) m_next = Add(v, back1) g = Greater(m_next, half) "
        "z_next = Cast <to = 1> (g) sent = Identity(z_next) " + OUT,
        states={**TWO, "z": (4,)},
    ),
    "stored spikes compared": Idiom(
        nodes="d = MatMul(x, A) h = Greater(z, half) k0 = Mul(m, decay) k1 = Add(k0, d) "
        "m_next = Where(h, zero, k1) g = Greater(m_next, half) z_next = Cast <to = 1> (g) "
        "sent = Identity(z_next) " + OUT,
        states={**TWO, "z": (4,)},
    ),
    "refractory counter": Idiom(
        nodes=LAYER + "g = Greater(u, one) f = Cast <to = 1> (g) c = Sub(one, f) v = Mul(c, u) "
        "gm = Greater(rho, zero) mk = Cast <to = 1> (gm) um = Sub(one, mk) p1 = Mul(um, v) "
        "p2 = Mul(mk, m) m_next = Add(p1, p2) s = Mul(um, f) ns = Sub(one, s) r1 = Sub(rho, mk) "
        "r2 = Relu(r1) r3 = Mul(ns, r2) r4 = Mul(s, two) rho_next = Add(r3, r4) "
        "sent = Identity(s) " + OUT,
        states={**TWO, "rho": (4,)},
    ),
    "delay line": Idiom(
        nodes=LAYER + SPIKE + AFTER + "l1_next = Identity(s) l2_next = Identity(l1) "
        "sent = Identity(l2) " + OUT,
        states={**TWO, "l1": (4,), "l2": (4,)},
    ),
    "counted output": Idiom(
        nodes=LAYER + SPIKE + AFTER + "sent = Identity(s) " + READ
        + "o = Cast <to = 1> (i) n_next = Sub(w, o) out = Add(c, o) c_next = Identity(out) ",
        states={**TWO, "c": (3,)}, shows="voltage",
    ),
    "einsum": Idiom(
        nodes='d = Einsum <equation = "ab,bc->ac"> (x, A) k1 = Mul(m, decay) u = Add(k1, d) '
        + SPIKE + AFTER + 'e = Einsum <equation = "ij,jk->ik"> (s, B) k2 = Mul(n, half) '
        "w = Add(k2, e) i = Greater(w, one) out = Cast <to = 1> (i) n_next = Sub(w, out) ",
        states=TWO,
    ),
    "matrix at each place": Idiom(
        nodes="d = MatMul(x, P) k1 = Mul(m, decay) u = Add(k1, d) " + SPIKE + AFTER
        + "out = Identity(s) ",
        x=(4, 3), states={"m": (4, 2)}, out=(4, 2),
    ),
    "largest of a window": picture(
        "sent = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s) ", matrix(12)
    ),
    "largest of overlapping windows": picture(
        "sent = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (s) ",
        matrix(12),
    ),
    "sums of windows": picture(
        "f = Pow(s, one) c = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (f) "
        "t = Sign(c) ab = Abs(c) re = Relu(ab) v1 = Mul(t, re) sent = Mul(v1, two) ", matrix(12),
    ),
    "LpPool": picture(
        "sent = LpPool <p = 1, kernel_shape = [2, 2], strides = [2, 2]> (s) ", matrix(12)
    ),
    "windows beyond the border": picture(
        "c = AveragePool <kernel_shape = [4, 4], strides = [4, 4], ceil_mode = 1> (s) "
        "sent = Mul(c, two) ", matrix(4),
    ),
    "padded by reflection": picture('sent = Pad <mode = "reflect"> (s, pads) ', matrix(84)),
    "padded with zeros": picture("sent = Pad(s, pads) ", matrix(84)),
    "enlarged": picture(
        'sent = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", '
        'nearest_mode = "floor"> (s, none, scales) ', matrix(192),
    ),
    "transposed convolution": Idiom(
        nodes=PICTURE + "e = ConvTranspose <strides = [2, 2]> (s, T) k2 = Mul(n, half) "
        "w = Add(k2, e) i = Greater(w, one) out = Cast <to = 1> (i) n_next = Sub(w, out) ",
        states={"m": (2, 4, 6), "n": (1, 8, 12)}, x=(1, 4, 6), out=(1, 8, 12),
    ),
    "channels side by side": Idiom(
        nodes=PICTURE + "c = Concat <axis = 1> (x, s) e = Conv <pads = [1, 1, 1, 1]> (c, C) "
        "k2 = Mul(n, half) w = Add(k2, e) i = Greater(w, one) out = Cast <to = 1> (i) "
        "n_next = Sub(w, out) ",
        states={"m": (2, 4, 6), "n": (3, 4, 6)}, x=(1, 4, 6), out=(3, 4, 6),
    ),
    "spikes shown in another order": Idiom(
        nodes=LAYER + SPIKE + AFTER + "out = Slice(s, start, end, along, back) ",
        states={"m": (4,)}, out=(4,),
    ),
    "shown by a function": Idiom(
        nodes=LAYER + SPIKE + AFTER + SECOND + "out = Mul(s, z) ",
        states={"m": (4,), "q": (4,)}, out=(4,),
    ),
}  # fmt: skip


def truth(model: onnx.ModelProto, idiom: Idiom, spikes: Array) -> Array:
    evaluator = ReferenceEvaluator(model)
    states = {name: np.zeros((1, *shape), np.float32) for name, shape in idiom.states.items()}
    rows = []
    for row in spikes[0]:
        out, *after = evaluator.run(None, {"x": row[None], **states})
        states = dict(zip(states, after, strict=True))
        rows.append(out)
    return np.concatenate(rows)[None]


def drawn(idiom: Idiom, name: str) -> tuple[onnx.ModelProto, Array, Array]:
    """Return a network whose output spikes, its input, and what the file gives for it."""
    for seed in range(20):
        rng = np.random.default_rng([seed, *name.encode()])
        model = idiom.model(rng)
        spikes = (rng.random((1, STEPS, *idiom.x)) < 0.4).astype(np.float32)
        expected = np.rint(truth(model, idiom, spikes))
        if 0.02 < (expected > 0).mean() < 0.9:
            return model, spikes, expected
    raise AssertionError(f"no network of '{name}' spikes")


def shown(graph: Graph, idiom: Idiom, spikes: Array) -> Array:
    trace = reference.run(graph, {graph.inputs[0].name: spikes}, dtype=np.float32)
    quantity: Any = idiom.shows
    found: Array = trace[graph.outputs[0], quantity]
    return found.reshape(*found.shape[:2], *idiom.out)


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_is_read_as_what_the_file_computes(name: str, tmp_path: Path) -> None:
    idiom = IDIOMS[name]
    model, spikes, expected = drawn(idiom, name)
    onnx.save(model, tmp_path / "net.onnx")
    graph = load_graph(tmp_path / "net.onnx")
    assert any("equal" in choice.value for choice in graph.choices)
    np.testing.assert_array_equal(shown(graph, idiom, spikes), expected)
    # What passes make of it for a chip is the same network.
    np.testing.assert_array_equal(shown(canonicalise(graph), idiom, spikes), expected)


def mutated(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """Return the model with other names, and its nodes in another order."""
    model, names = onnx.ModelProto.FromString(model.SerializeToString()), {"": ""}
    graph = model.graph
    pairs = [(i.name, f"{i.name}_next") for i in graph.input[1:]]

    def named(name: str) -> str:
        return names.setdefault(name, f"v{rng.integers(1 << 30)}.{len(names)}")

    model.metadata_props.add(
        key="snn.states",
        value=json.dumps([{"input": named(a), "output": named(b)} for a, b in pairs]),
    )
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = named(item.name)
    for node in graph.node:
        node.name = f"/{rng.integers(1 << 20)}/x"
        for field in (node.input, node.output):
            renamed = [named(name) for name in field]
            del field[:]
            field.extend(renamed)
    known = {item.name for item in (*graph.input, *graph.initializer)} | {""}
    left, order = list(graph.node), []
    while left:
        ready = [i for i, node in enumerate(left) if set(node.input) <= known]
        node = left.pop(ready[int(rng.integers(len(ready)))])
        known |= set(node.output)
        order.append(node)
    del graph.node[:]
    graph.node.extend(order)
    return model


@pytest.mark.parametrize("name", IDIOMS)
def test_neither_names_nor_the_order_of_nodes_matter(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    idiom = IDIOMS[name]
    model, spikes, expected = drawn(idiom, name)
    for _ in range(FORMS if idiom.x == (6,) else 3):
        onnx.save(mutated(model, rng), tmp_path / "net.onnx")
        graph = load_graph(tmp_path / "net.onnx")
        np.testing.assert_array_equal(shown(graph, idiom, spikes), expected)


REFUSED: dict[str, tuple[str, str]] = {
    "a surrogate that stays": ("c = Sub(u, one) y = Sigmoid(c) s = Add(y, zero) ", "Sigmoid"),
    "a largest voltage": ("s = Max(u, d) ", "compares values that change"),
    "a power": ("g = Greater(u, one) f = Cast <to = 1> (g) h = Pow(u, two) s = Add(f, h) ",
               "power other than 1"),
    "a quotient": ("s = Div(d, u) ", "divides by a value that changes"),
    "a soft maximum": ("s = Softmax(u) ", "inputs u change"),
    "a product of states": ("s = Mul(u, u) ", "product"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_named(name: str, tmp_path: Path) -> None:
    nodes, reason = REFUSED[name]
    onnx.save(hidden(nodes).model(np.random.default_rng(0)), tmp_path / "net.onnx")
    with pytest.raises(FrontendError, match=reason):
        load_graph(tmp_path / "net.onnx")


def test_int8_weights_are_read_at_every_opset(tmp_path: Path) -> None:
    """onnx's evaluator has DequantizeLinear from opset 19 on; the file is accepted before, too."""
    whole = np.arange(-12, 12, dtype=np.int8).reshape(6, 4)
    scales = np.array([0.25, 0.5, 0.125, 1.0], np.float32)
    nodes = "w8 = DequantizeLinear <axis = 1> (q8, scales4, zeros4) " + (
        LAYER.replace("MatMul(x, A)", "MatMul(x, w8)") + SPIKE + AFTER + "out = Identity(s) "
    )
    spikes = (np.random.default_rng(1).random((1, STEPS, 6)) < 0.4).astype(np.float32)
    results = []
    for opset in (13, 17, 19, 21):
        idiom = Idiom(
            nodes=nodes, states={"m": (4,)}, out=(4,), opset=opset,
            constants={"q8": whole, "scales4": scales, "zeros4": np.full(4, 2, np.int8)},
        )  # fmt: skip
        onnx.save(idiom.model(np.random.default_rng(0)), tmp_path / "net.onnx")
        graph = load_graph(tmp_path / "net.onnx")
        results.append(shown(graph, idiom, spikes))
    plain = Idiom(
        nodes=LAYER.replace("MatMul(x, A)", "MatMul(x, w8)") + SPIKE + AFTER + "out = Identity(s) ",
        states={"m": (4,)}, out=(4,),
        constants={"w8": (whole.astype(np.float32) - 2) * scales},
    )  # fmt: skip
    expected = truth(plain.model(np.random.default_rng(0)), plain, spikes)
    assert expected.any()
    for found in results:
        np.testing.assert_array_equal(found, expected)


def test_a_refractory_counter_that_holds_no_voltage_is_refused(tmp_path: Path) -> None:
    nodes = IDIOMS["refractory counter"].nodes.replace("p2 = Mul(mk, m)", "p2 = Mul(mk, u)")
    idiom = Idiom(nodes=nodes, states={**TWO, "rho": (4,)})
    onnx.save(idiom.model(np.random.default_rng(0)), tmp_path / "net.onnx")
    with pytest.raises(FrontendError, match="counts the steps since a spike, and is not held"):
        load_graph(tmp_path / "net.onnx")


def one_picture(steps: int) -> onnx.ModelProto:
    """A loop over time that shows its input at every step, unrolled."""
    nodes = ["d = MatMul(x, A)"]
    rows = []
    for k in range(steps):
        before = "zeros" if k == 0 else f"v{k - 1}"
        nodes += [
            f"k{k} = Mul({before}, decay)", f"u{k} = Add(k{k}, d)", f"g{k} = Greater(u{k}, one)",
            f"s{k} = Cast <to = 1> (g{k})", f"v{k} = Sub(u{k}, s{k})",
            f"o{k} = Unsqueeze(s{k}, first)",
        ]  # fmt: skip
        rows.append(f"o{k}")
    nodes.append(f"out = Concat <axis = 0> ({', '.join(rows)})")
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> step (float[1, 6] x) => '
        f"(float[{steps}, 1, 4] out) {{ {' '.join(nodes)} }}"
    )
    constants = {**CONSTANTS, **weights(np.random.default_rng(3)), "zeros": np.zeros((1, 4))}
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & set(constants)):
        values = np.asarray(constants[name])
        values = values.astype(np.float32) if values.dtype == np.float64 else values
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def test_one_picture_shown_at_every_step_is_read_as_a_series(tmp_path: Path) -> None:
    model = one_picture(8)
    onnx.save(model, tmp_path / "net.onnx")
    graph = load_graph(tmp_path / "net.onnx")
    assert any("--steps 8" in choice.value for choice in graph.choices)
    assert [node.kind for node in graph.inputs] == ["analog"]
    said = load_graph(tmp_path / "net.onnx", ReadOptions(inputs="graded:0..8"))
    assert [(node.kind, node.high) for node in said.inputs] == [("graded", 8)]
    picture = np.random.default_rng(1).integers(0, 9, (1, 6)).astype(np.float32) / 8
    (expected,) = ReferenceEvaluator(model).run(None, {"x": picture})
    assert expected.any()
    series = np.repeat(picture[:, None], 8, 1)
    trace = reference.run(graph, {graph.inputs[0].name: series}, dtype=np.float32)
    np.testing.assert_array_equal(trace.spikes(graph.outputs[0])[0], expected[:, 0])
