"""What the ONNX frontend refuses, in golden texts; its algebra; and damaged files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError, GraphError, UsageError
from spikec.compiler.frontends import ReadOptions, affine, load_graph
from spikec.compiler.frontends.affine import Form, Gate, Signal, State
from spikec.compiler.frontends.onnx_probe import nearest_to_threshold
from spikec.compiler.ir import LIF, Graph

GOLDEN = Path(__file__).parents[2] / "golden"
FLOAT = TensorProto.FLOAT
LEVELS: dict[str, Any] = {"half": 0.5, "one": 1.0, "decay": 0.75, "zero": 0.0}
#: A leaky neuron with reset by subtraction at the spike, but for its threshold and reset.
STEP = [
    ("Gemm", "x weight", "drive"),
    ("Mul", "v decay", "kept"),
    ("Add", "kept drive", "u"),
]
SPIKE = [("Greater", "u one", "above"), ("Cast", "above", "spk")]
RESET = [("Sub", "u spk", "v_next")]

Nodes = list[tuple[str, str, str]]


def network(
    nodes: Nodes,
    inputs: str = "x v",
    outputs: str = "spk v_next",
    *,
    batch: int = 1,
    shapes: dict[str, tuple[int, ...]] | None = None,
    **constants: Any,
) -> onnx.ModelProto:
    """Return a step of four inputs and three neurons; an operator may have a domain, ``d::Op``."""
    values = {**LEVELS, "weight": np.arange(12).reshape(4, 3) / 8 - 0.5, **constants}
    used = {name for _, given, _ in nodes for name in given.split()}
    extents = {"x": (4,), **(shapes or {})}

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, FLOAT, (batch, *extents.get(name, (3,))))

    made = []
    for kind, given, result in nodes:
        domain, _, op = kind.rpartition("::")
        more = {"to": FLOAT} if op == "Cast" else {}
        more |= {"kernel_shape": [1]} if op == "MaxPool" else {}
        made.append(helper.make_node(op, given.split(), result.split(), domain=domain, **more))
    graph = helper.make_graph(
        made,
        "step",
        [value(name) for name in inputs.split()],
        [value(name) for name in outputs.split()],
        [
            numpy_helper.from_array(np.asarray(item, np.float32), name)
            for name, item in values.items()
            if name in used
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid(d, 1) for d in {k.rpartition("::")[0] for k, *_ in nodes} - {""}]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def declared(model: onnx.ModelProto, text: str) -> onnx.ModelProto:
    model.metadata_props.add(key="snn.states", value=text)
    return model


def alpha_neuron() -> onnx.ModelProto:
    """A membrane that two currents drive, both of them carried."""
    nodes = [
        ("Gemm", "x weight", "drive"),
        ("Mul", "a decay", "a_kept"),
        ("Add", "a_kept drive", "a_next"),
        ("Mul", "b half", "b_kept"),
        ("Sub", "b_kept drive", "b_next"),
        ("Mul", "v decay", "kept"),
        ("Add", "kept a", "first"),
        ("Add", "first b", "u"),
    ]
    return network([*nodes, *SPIKE, *RESET], "x v a b", "spk v_next a_next b_next")


REFUSED: dict[str, Callable[[], onnx.ModelProto]] = {
    "no_states": lambda: network(
        [("Gemm", "x weight", "u"), *SPIKE], inputs="x", outputs="spk"
    ),
    "states_baked_in": lambda: network(
        [("Gemm", "x weight", "drive"), ("Add", "drive half", "u"), *SPIKE, *RESET],
        inputs="x",
    ),
    "unpaired": lambda: network(
        [*STEP, *SPIKE, ("Sub", "u spk", "later"), ("Identity", "u", "also")],
        outputs="spk later also",
    ),
    "metadata_unreadable": lambda: declared(network([*STEP, *SPIKE, *RESET]), "{'v'"),
    "metadata_unknown_names": lambda: declared(
        network([*STEP, *SPIKE, *RESET]), '[{"input": "w", "output": "v_next"}]'
    ),
    "paired_with_another": lambda: declared(
        network(
            [*STEP, *SPIKE, *RESET, ("Mul", "i half", "i_next")], "x v i", "spk v_next i_next"
        ),
        '[{"input": "v", "output": "i_next"}, {"input": "i", "output": "v_next"}]',
    ),
    "paired_with_another_shape": lambda: declared(
        network([*STEP, *SPIKE, ("Identity", "x", "v_next")], shapes={"v_next": (4,)}),
        '[{"input": "v", "output": "v_next"}]',
    ),
    "unknown_operator": lambda: network([*STEP, ("Sin", "u", "w"), ("Greater", "w one", "above"),
                                         SPIKE[1], *RESET]),
    "max_pool": lambda: network(
        [("Add", "x half", "y"), ("MaxPool", "y", "p"), ("Flatten", "p", "f"),
         ("Gemm", "f weight", "drive"), *STEP[1:], *SPIKE, *RESET],
        shapes={"x": (1, 4)},
    ),
    "multi_spike": lambda: network([*STEP, ("Div", "u half", "many"), ("Floor", "many", "spk"),
                                    *RESET]),
    "several_spikes_one_reset": lambda: network(
        [*STEP, ("Floor", "u", "many"), ("Relu", "many", "spk"), ("Greater", "spk zero", "above"),
         ("Cast", "above", "once"), ("Sub", "u once", "v_next")]
    ),
    "several_spikes_unequal": lambda: network(
        [*STEP, ("Div", "u half", "share"), ("Floor", "share", "many"), ("Relu", "many", "spk"),
         *RESET]
    ),
    "several_spikes_set_to_zero": lambda: network(
        [*STEP, ("Floor", "u", "many"), ("Relu", "many", "spk"), ("Equal", "spk zero", "none"),
         ("Where", "none u zero", "v_next")]
    ),
    "ceiling_clamp": lambda: network(
        [*STEP, *SPIKE, ("Sub", "u spk", "w"), ("Min", "w half", "v_next")]
    ),
    "clamped_input": lambda: network(
        [STEP[0], ("Relu", "drive", "positive"), STEP[1], ("Add", "kept positive", "u"), *SPIKE,
         *RESET]
    ),
    "noise": lambda: network(
        [*STEP[:2], ("RandomNormalLike", "drive", "noise"), ("Add", "kept noise", "noisy"),
         ("Add", "noisy drive", "u"), *SPIKE, *RESET]
    ),
    "graded_spike": lambda: network(
        [*STEP, *SPIKE, *RESET, ("Mul", "spk u", "sent"), ("Gemm", "sent square", "w"),
         ("Greater", "w one", "second"), ("Cast", "second", "out")],
        outputs="out v_next",
        square=np.eye(3),
    ),
    "product_of_states": lambda: network(
        [("Gemm", "x weight", "drive"), ("Mul", "v i", "kept"), ("Add", "kept drive", "u"),
         *SPIKE, *RESET, ("Mul", "i half", "i_next")],
        "x v i", "spk v_next i_next",
    ),
    "operator_without_body": lambda: network([*STEP, ("my.snn::Spike", "u", "spk"), *RESET]),
    "fixed_batch": lambda: network([*STEP, *SPIKE, *RESET], batch=4),
    "two_thresholds": lambda: network(
        [*STEP, *SPIKE, ("Greater", "u half", "half_way"), ("Cast", "half_way", "early"),
         ("Sub", "u early", "v_next")]
    ),
    "two_currents": alpha_neuron,
    "voltage_sent": lambda: network(
        [*STEP, ("Gemm", "v square", "back"), ("Add", "u back", "all"), ("Greater", "all one",
         "above"), SPIKE[1], ("Sub", "all spk", "v_next")],
        square=np.eye(3) * 0.5,
    ),
}  # fmt: skip


def message(path: Path) -> str:
    with pytest.raises((FrontendError, GraphError)) as caught:
        load_graph(path)
    return str(caught.value).replace(str(path.parent), "folder") + "\n"


def checked(name: str, text: str, config: pytest.Config) -> None:
    path = GOLDEN / f"onnx_{name}.txt"
    if config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_where_and_why_and_what_to_do(
    case: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    path = tmp_path / "some.onnx"
    onnx.save(REFUSED[case](), path)
    checked(case, message(path), pytestconfig)


#: What a refusal must speak of, whatever its words are.
REASONS = {
    "several_spikes_one_reset": "otherwise than one by one",
    "several_spikes_unequal": "another amount",
    "several_spikes_set_to_zero": "otherwise than one by one",
    "ceiling_clamp": "clamps",
    "clamped_input": "clamps",
    "noise": "random numbers",
    "graded_spike": "graded spike",
    "max_pool": "average pooling",
    "multi_spike": "several spikes",
    "no_states": "no state inputs",
    "states_baked_in": "constants",
    "operator_without_body": "my.snn::Spike",
    "paired_with_another_shape": "shape",
    "product_of_states": "product",
    "two_currents": "'a', 'b'",
    "two_thresholds": "thresholds",
    "unknown_operator": "Sin",
    "voltage_sent": "no spike",
}


@pytest.mark.parametrize("case", REASONS)
def test_refusals_give_the_right_reason(case: str, tmp_path: Path) -> None:
    path = tmp_path / "some.onnx"
    onnx.save(REFUSED[case](), path)
    assert REASONS[case] in message(path)


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_to_do(case: str, tmp_path: Path) -> None:
    path = tmp_path / "some.onnx"
    onnx.save(REFUSED[case](), path)
    assert "\n  hint: " in message(path)


def test_a_state_left_unpaired_is_no_input(tmp_path: Path) -> None:
    """Of two states only one is named: the other must not become an input of the network."""
    nodes = [
        *STEP[:2], ("Gemm", "z square", "back"), ("Add", "kept drive", "fed"),
        ("Add", "fed back", "u"), *SPIKE, *RESET, ("Identity", "spk", "remembered"),
    ]  # fmt: skip
    model = network(nodes, "x v z", "spk v_next remembered", square=np.eye(3))
    onnx.save(model, tmp_path / "some.onnx")
    with pytest.raises(FrontendError):
        load_graph(tmp_path / "some.onnx")


def test_an_output_that_cannot_be_read_is_not_dropped(tmp_path: Path) -> None:
    """The file's first output is a population outside the family; its second is a good one."""
    second = [
        ("Gemm", "spk square", "drive2"),
        ("Add", "m drive2", "n"),
        ("Sin", "n", "wave"),
        ("Greater", "wave one", "above2"),
        ("Cast", "above2", "out"),
        ("Sub", "n out", "m_next"),
    ]
    model = network(
        [*STEP, *SPIKE, *RESET, *second], "x v m", "out spk v_next m_next", square=np.eye(3)
    )
    onnx.save(model, tmp_path / "some.onnx")
    with pytest.raises(FrontendError, match="Sin"):
        load_graph(tmp_path / "some.onnx")
    two = [*second[:2], ("Add", "n i", "o"), ("Add", "o j", "q"), ("Greater", "q one", "above2"),
           second[4], ("Sub", "q out", "m_next"), ("Mul", "i half", "i1"), ("Add", "i1 drive2",
           "i_next"), ("Mul", "j decay", "j1"), ("Add", "j1 drive2", "j_next")]  # fmt: skip
    model = network(
        [*STEP, *SPIKE, *RESET, *two], "x v m i j", "out spk v_next m_next i_next j_next",
        square=np.eye(3),
    )  # fmt: skip
    onnx.save(model, tmp_path / "some.onnx")
    with pytest.raises(FrontendError, match="several states"):
        load_graph(tmp_path / "some.onnx")


#: Ways to write what a membrane cannot fall below.
FLOORS: dict[str, Nodes] = {
    "relu": [
        ("Add", "w half", "raised"),
        ("Relu", "raised", "held"),
        ("Sub", "held half", "v_next"),
    ],
    "max": [("Max", "w low", "v_next")],
    "max, turned": [("Max", "low w", "v_next")],
    "clip": [("Clip", "w low", "v_next")],
    "where above": [("Greater", "w low", "over"), ("Where", "over w low", "v_next")],
    "where below": [("Less", "w low", "under"), ("Where", "under low w", "v_next")],
    "where not above": [("LessOrEqual", "w low", "under"), ("Where", "under low w", "v_next")],
}


@pytest.mark.parametrize("spelling", FLOORS)
def test_every_spelling_of_a_floor_is_the_same_neuron(spelling: str, tmp_path: Path) -> None:
    nodes = [*STEP, *SPIKE, ("Sub", "u spk", "w"), *FLOORS[spelling]]
    found = lone(nodes, tmp_path, low=-0.5)
    assert found.floor is not None
    np.testing.assert_array_equal(found.floor, -0.5)
    np.testing.assert_array_equal(found.vth, 1.0)
    assert (found.reset, found.reset_order) == ("subtract", "at_spike")


def test_a_floor_below_the_threshold_is_seen_through(tmp_path: Path) -> None:
    """The spike of a membrane that was held first, and is reset one step later."""
    nodes = [
        ("Greater", "v one", "before"), ("Cast", "before", "old"), *STEP, ("Sub", "u old", "w"),
        ("Max", "w low", "v_next"), ("Greater", "v_next one", "above"), SPIKE[1],
    ]  # fmt: skip
    found = lone(nodes, tmp_path, low=-0.5)
    assert (found.reset, found.reset_order) == ("subtract", "next_step")
    np.testing.assert_array_equal(found.floor, -0.5)
    with pytest.raises(FrontendError, match="clamps"):
        lone(nodes, tmp_path, low=1.25)


#: Ways to count thresholds of 1 that a membrane has passed: 3 at most, or without a limit.
COUNTS: dict[str, tuple[float, Nodes]] = {
    "floor, rectified": (255, [("Floor", "u", "n"), ("Relu", "n", "spk")]),
    "rectified, floor": (255, [("Relu", "u", "r"), ("Floor", "r", "spk")]),
    "floor times comparison": (255, [("Floor", "u", "n"), ("GreaterOrEqual", "u one", "a"),
                                     ("Cast", "a", "s"), ("Mul", "n s", "spk")]),
    "trunc times comparison": (255, [("Abs", "u", "b"), ("Floor", "b", "n"), ("Sign", "u", "z"),
                                     ("Mul", "n z", "t"), ("Greater", "u zero", "a"),
                                     ("Cast", "a", "s"), ("Mul", "s t", "spk")]),
    "chosen": (255, [("Floor", "u", "n"), ("Less", "u one", "b"), ("Where", "b zero n", "spk")]),
    "a ceiling of what falls": (255, [("Neg", "u", "d"), ("Ceil", "d", "c"), ("Neg", "c", "n"),
                                      ("Relu", "n", "spk")]),
    "clipped": (3, [("Floor", "u", "n"), ("Clip", "n zero three", "spk")]),
    "at most first": (3, [("Floor", "u", "n"), ("Min", "n three", "m"), ("Max", "m zero", "spk")]),
    "clipped before it is rounded": (3, [("Floor", "u", "n"), ("Clip", "n one three", "m"),
                                         ("GreaterOrEqual", "u one", "a"), ("Cast", "a", "s"),
                                         ("Mul", "m s", "spk")]),
    "less what is too much": (3, [("Floor", "u", "n"), ("Relu", "n", "r"),
                                  ("Greater", "r three", "a"), ("Cast", "a", "s"),
                                  ("Sub", "r three", "e"), ("Mul", "e s", "f"),
                                  ("Sub", "r f", "spk")]),
    "one by one": (3, [("Floor", "u", "n"), ("GreaterOrEqual", "n one", "a"), ("Cast", "a", "s"),
                       ("Greater", "n one", "b"), ("Cast", "b", "t"), ("GreaterOrEqual",
                       "n three", "c"), ("Cast", "c", "q"), ("Sum", "s t q", "spk")]),
}  # fmt: skip


@pytest.mark.parametrize("spelling", COUNTS)
def test_every_spelling_of_a_count_is_the_same_neuron(spelling: str, tmp_path: Path) -> None:
    most, nodes = COUNTS[spelling]
    found = lone([*STEP, *nodes, *RESET], tmp_path, three=3.0)
    assert (found.max_spikes, found.compare) == (most, ">=")
    assert (found.reset, found.reset_order) == ("subtract", "at_spike")
    np.testing.assert_array_equal(found.vth, 1.0)
    np.testing.assert_array_equal(found.reset_amount, 1.0)


def test_a_count_of_one_is_a_spike(tmp_path: Path) -> None:
    found = lone([*STEP, ("Floor", "u", "n"), ("Clip", "n zero one", "spk"), *RESET], tmp_path)
    assert (found.max_spikes, found.compare) == (1, ">=")


def test_a_count_above_thresholds_rounds_up(tmp_path: Path) -> None:
    nodes = [*STEP, ("Ceil", "u", "n"), ("Sub", "n one", "m"), ("Relu", "m", "spk"), *RESET]
    found = lone(nodes, tmp_path)
    assert (found.max_spikes, found.compare) == (255, ">")


def test_a_comparison_inside_a_step_of_the_count_must_not_matter(tmp_path: Path) -> None:
    """With ``u > 1`` beside ``floor(u)`` a membrane at 1 exactly has no spike, at 2 it has two."""
    nodes = [*STEP, ("Floor", "u", "n"), *SPIKE[:1], ("Cast", "above", "s"), ("Mul", "n s", "spk")]
    with pytest.raises(FrontendError, match="several spikes of a step"):
        lone([*nodes, *RESET], tmp_path)


def test_the_limit_of_spikes_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "some.onnx"
    onnx.save(network([*STEP, *COUNTS["clipped"][1], *RESET], three=3.0), path)
    graph = load_graph(path, ReadOptions(max_spikes=2))
    (found,) = graph.populations
    assert isinstance(found, LIF)
    assert found.max_spikes == 2
    assert ("max spikes", "option --max-spikes") in [(c.what, c.origin) for c in graph.choices]
    for wanted, code in ((4, "U082"), (0, "U083"), (256, "U083")):
        with pytest.raises(UsageError, match=code):
            load_graph(path, ReadOptions(max_spikes=wanted))
    onnx.save(network([*STEP, *SPIKE, *RESET]), path)
    with pytest.raises(UsageError, match="U082"):
        load_graph(path, ReadOptions(max_spikes=1))


def test_the_check_is_made_where_several_spikes_come(tmp_path: Path) -> None:
    """Weights so weak that spikes of 1 never bring two a step: stronger input is tried."""
    weak = np.arange(12).reshape(4, 3) / 80
    nodes = [*STEP, *COUNTS["floor, rectified"][1], *RESET]
    onnx.save(network(nodes, weight=weak), tmp_path / "some.onnx")
    graph = load_graph(tmp_path / "some.onnx")
    (check,) = (c.value for c in graph.choices if c.what == "checked against the file")
    assert check == "4 random runs of 8 steps: equal"


#: snnTorch's ``reset_delay=False``: what the last step left above ``theta`` counts ``taken``.
LEFT = [("Greater", "v theta", "was"), ("Cast", "was", "left"), ("Mul", "left taken", "counted"),
        ("Sub", "u counted", "low"), ("Greater", "low theta", "above"), SPIKE[1]]  # fmt: skip
TWICE: dict[str, Nodes] = {
    "as snnTorch writes it": [("Sub", "spk left", "again"), ("Mul", "again taken", "more"),
                              ("Sub", "low more", "v_next")],
    "collected": [("Mul", "spk taken", "more"), ("Sub", "u more", "v_next")],
    "chosen": [("Sub", "u taken", "less"), ("Where", "above less u", "v_next")],
}  # fmt: skip


@pytest.mark.parametrize("spelling", TWICE)
@pytest.mark.parametrize("theta", [1.0, np.array([0.5, 0.75, 1.25])])
@pytest.mark.parametrize("taken", [None, 0.625])
def test_a_second_reset_is_read_and_checked_where_it_matters(
    spelling: str, theta: Array | float, taken: float | None, tmp_path: Path
) -> None:
    """Weights so weak that spikes of 1 leave nothing above threshold: stronger input is tried."""
    weak = np.arange(12).reshape(4, 3) / 80
    amount = theta if taken is None else taken
    model = network([*STEP, *LEFT, *TWICE[spelling]], weight=weak, theta=theta, taken=amount)
    onnx.save(model, tmp_path / "some.onnx")
    graph = load_graph(tmp_path / "some.onnx")
    (neuron,) = graph.populations
    assert isinstance(neuron, LIF)
    assert (neuron.reset_twice, neuron.reset, neuron.reset_order) == (True, "subtract", "at_spike")
    np.testing.assert_array_equal(neuron.vth, np.broadcast_to(theta, 3))
    np.testing.assert_array_equal(neuron.reset_amount, np.broadcast_to(amount, 3))
    (check,) = (c.value for c in graph.choices if c.what == "checked against the file")
    assert check == "4 random runs of 8 steps: equal"


def test_ties_of_a_second_reset_are_at_either_of_its_thresholds(tmp_path: Path) -> None:
    """The voltage that a step starts from, and what it reaches less what was left above."""
    nodes = [("Mul", "x half", "drive"), ("Add", "v drive", "u"), *LEFT, *TWICE["collected"]]
    model = network(nodes, shapes={"x": (1,), "v": (1,), "spk": (1,), "v_next": (1,)},
                    theta=1.0, taken=1.0)  # fmt: skip
    onnx.save(model, tmp_path / "some.onnx")
    graph = load_graph(tmp_path / "some.onnx")

    def nearest(*drives: float) -> float:
        values = 2 * np.array(drives).reshape(1, -1, 1)
        return nearest_to_threshold(graph, {"x": values}, len(drives) - 1)

    assert nearest(2.5) == 1.0
    assert nearest(2.5, 0.5 + 1e-6) == pytest.approx(1e-6)
    assert nearest(2.0 + 1e-6, 3.0) == pytest.approx(1e-6)
    assert nearest(0.5, 0.5 + 1e-6) == pytest.approx(1e-6)


UNLIKE: dict[str, Nodes] = {
    "another amount": [*LEFT, ("Mul", "spk half", "more"), ("Sub", "u more", "v_next")],
    "another threshold": [("Greater", "v half", "was"), *LEFT[1:], *TWICE["collected"]],
    "another comparison": [("GreaterOrEqual", "v theta", "was"), *LEFT[1:], *TWICE["collected"]],
    "no reset": [*LEFT, ("Identity", "u", "v_next")],
    "set to zero": [*LEFT, ("Where", "above zero u", "v_next")],
    "lowered for good": [*LEFT, ("Mul", "spk taken", "more"), ("Sub", "low more", "v_next")],
}


@pytest.mark.parametrize("case", UNLIKE)
def test_other_second_thresholds_are_refused(case: str, tmp_path: Path) -> None:
    onnx.save(network([*STEP, *UNLIKE[case]], theta=1.0, taken=1.0), tmp_path / "some.onnx")
    with pytest.raises(FrontendError, match=r"F100.*threshold"):
        load_graph(tmp_path / "some.onnx")


def test_a_membrane_cast_to_integers_is_refused(tmp_path: Path) -> None:
    model = network([*STEP, *SPIKE, ("Sub", "u spk", "w"), ("Cast", "w", "whole"),
                     ("Cast", "whole", "v_next")])  # fmt: skip
    next(node for node in model.graph.node if node.output == ["whole"]).attribute[0].i = 6
    onnx.save(model, tmp_path / "some.onnx")
    with pytest.raises(FrontendError, match="whole"):
        load_graph(tmp_path / "some.onnx")


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_precisions_are_checked_like_float(kind: int, tmp_path: Path) -> None:
    model = network([*STEP, *SPIKE, *RESET])
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(
            numpy_helper.from_array(
                values.astype(helper.tensor_dtype_to_np_dtype(kind)), tensor.name
            )
        )
    for entry in (*model.graph.input, *model.graph.output):
        entry.type.tensor_type.elem_type = kind
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = kind
    onnx.save(model, tmp_path / "some.onnx")
    (check,) = (
        choice.value
        for choice in load_graph(tmp_path / "some.onnx").choices
        if choice.what == "checked against the file"
    )
    assert "equal" in check


def test_edges_come_in_the_same_order_in_every_process() -> None:
    """The order of float sums is the order of edges; it must not depend on addresses."""
    program = """
import sys
from spikec.compiler.frontends import load_graph
junk = [object() for _ in range(int(sys.argv[2]) * 1000)]
print([(edge.name, float(edge.operator.weight[0, 0])) for edge in load_graph(sys.argv[1]).edges])
"""
    nodes = [("Gemm", f"x w{k}", f"d{k}") for k in range(6)]
    nodes += [("Sum", " ".join(f"d{k}" for k in range(6)), "drive"), *STEP[1:], *SPIKE, *RESET]
    model = network(nodes, **{f"w{k}": np.full((4, 3), k + 1.0) for k in range(6)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.onnx"
        onnx.save(model, path)
        found = {
            subprocess.run(
                [sys.executable, "-c", program, str(path), str(number)],
                env={**os.environ, "PYTHONHASHSEED": str(number)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for number in range(4)
        }
    assert len(found) == 1


def test_external_data_outside_the_folder_is_refused(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(np.zeros(12, np.float32).tobytes())
    model = network([*STEP, *SPIKE, *RESET])
    (weight,) = (item for item in model.graph.initializer if item.name == "weight")
    external_data_helper.set_external_data(weight, "../weights.bin", offset=0, length=48)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    (folder / "some.onnx").write_bytes(model.SerializeToString())
    checked("external_data_outside", message(folder / "some.onnx"), pytestconfig)


def test_external_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        network([*STEP, *SPIKE, *RESET]), folder / "some.onnx", save_as_external_data=True,
        location="w.bin", size_threshold=0,
    )  # fmt: skip
    load_graph(folder / "some.onnx")
    (folder / "w.bin").rename(tmp_path / "w.bin")
    (folder / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(FrontendError):
        load_graph(folder / "some.onnx")


def test_every_onnx_golden_has_its_case() -> None:
    stems = {path.stem.removeprefix("onnx_") for path in GOLDEN.glob("onnx_*.txt")}
    assert stems == {*REFUSED, "external_data_outside"}


# --- damaged files ------------------------------------------------------------------


@pytest.mark.parametrize("block", range(6))
def test_damaged_files_are_refused_or_read_but_never_crash(block: int, tmp_path: Path) -> None:
    content = network([*STEP, *SPIKE, *RESET]).SerializeToString()
    path = tmp_path / "some.onnx"
    for number in range(50):
        rng = np.random.default_rng((block, number))
        damaged = bytearray(content)
        for place in rng.integers(len(damaged), size=int(rng.integers(1, 4))):
            damaged[place] = rng.integers(256)
        if rng.random() < 0.2:
            damaged = damaged[: int(rng.integers(len(damaged)))]
        path.write_bytes(damaged)
        try:
            assert isinstance(load_graph(path), Graph)
        except (FrontendError, GraphError):
            pass
        except Exception as error:  # noqa: BLE001 - say which file
            pytest.fail(f"({block}, {number}): {type(error).__name__}: {str(error)[:200]}")


# --- a pair of equal networks, spelled differently -----------------------------------


def lone(nodes: Nodes, tmp_path: Path, **constants: float) -> LIF:
    onnx.save(network(nodes, **constants), tmp_path / "some.onnx")
    (found,) = load_graph(tmp_path / "some.onnx").populations
    assert isinstance(found, LIF)
    return found


SPELLINGS: dict[str, Nodes] = {
    "greater": [("Greater", "u one", "above")],
    "less, turned": [("Less", "one u", "above")],
    "difference": [("Sub", "u one", "d"), ("Greater", "d zero", "above")],
    "half of it": [("Mul", "u half", "h"), ("Greater", "h half", "above")],
    "not less or equal": [("LessOrEqual", "u one", "below"), ("Not", "below", "above")],
    "not not": [("Greater", "u one", "a"), ("Not", "a", "b"), ("Not", "b", "above")],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_threshold_is_the_same_neuron(spelling: str, tmp_path: Path) -> None:
    found = lone([*STEP, *SPELLINGS[spelling], SPIKE[1], *RESET], tmp_path)
    assert (found.compare, found.reset, found.reset_order) == (">", "subtract", "at_spike")
    np.testing.assert_array_equal(found.vth, 1.0)
    np.testing.assert_array_equal(found.reset_amount, 1.0)
    np.testing.assert_array_equal(found.beta, 0.75)


def test_constants_are_folded_before_the_algebra(tmp_path: Path) -> None:
    folded = [
        ("Exp", "zero", "e"),
        ("Reciprocal", "e", "inverse"),
        ("Clip", "inverse zero decay", "beta"),
        ("Gemm", "x weight", "drive"),
        ("Mul", "v beta", "kept"),
        ("Add", "kept drive", "u"),
    ]
    found = lone([*folded, *SPIKE, *RESET], tmp_path)
    np.testing.assert_array_equal(found.beta, 0.75)


# --- the algebra ---------------------------------------------------------------------

U, X = State("u"), Signal("x")


def form(u: float = 0.0, x: float = 0.0, one: float = 0.0) -> Form:
    terms = affine.atom(U, (1, 3)).scaled(np.array([u])) + affine.atom(X, (1, 3)).scaled(
        np.array([x])
    )
    return terms + affine.constant(np.full((1, 3), one))


def gate() -> tuple[Gate, Form]:
    made = Gate(form(u=1, one=-1), strict=True)
    return made, affine.spike(made, (1, 3))


def coefficients(value: Form) -> dict[str, list[float]]:
    names = {U: "u", X: "x", affine.ONE: "1"}
    return {
        names[atom] + "'" * len(gates): np.broadcast_to(values, 3).tolist()
        for (gates, atom), values in value.terms.items()
    }


def test_sums_are_collected_and_zeros_vanish() -> None:
    total = form(2, 1, 3) + form(-2, 1, -1)
    assert coefficients(total) == {"x": [2, 2, 2], "1": [2, 2, 2]}
    assert coefficients(total - total) == {}
    assert coefficients(-form(1)) == {"u": [-1, -1, -1]}


def test_products_with_constants_and_gates() -> None:
    _, s = gate()
    assert coefficients(form(2, 0, 1).times(affine.constant(np.array([1.0, 0, 3])))) == {
        "u": [2, 0, 6],
        "1": [1, 0, 3],
    }
    assert s.times(s).close_to(s)  # g * g = g
    kept = (affine.constant(np.ones(1)) - s).times(form(1, 1, 0))
    assert coefficients(kept) == {
        "u": [1, 1, 1], "x": [1, 1, 1], "u'": [-1, -1, -1], "x'": [-1, -1, -1],
    }  # fmt: skip
    with pytest.raises(ValueError, match="a product of 'u' and 'x'"):
        form(1).times(form(0, 1))


def test_gated_and_free_parts_add_up() -> None:
    which, s = gate()
    value = form(1, 2, 3) + s.times(form(-1, 0, 5))
    assert coefficients(value.free()) == {"u": [1, 1, 1], "x": [2, 2, 2], "1": [3, 3, 3]}
    assert coefficients(value.gated(which)) == {"u": [-1, -1, -1], "1": [5, 5, 5]}
    assert (value.free() + s.times(value.gated(which))).close_to(value)
    assert value.gates == {which}
    assert value.atoms == {U, X}
    other, t = gate()
    assert other is not which
    with pytest.raises(ValueError, match="several gates"):
        s.times(t).gated(which)


def test_what_is_a_spike() -> None:
    which, s = gate()
    assert s.is_spike() is which
    assert s.times(s).is_spike() is which
    for other in (s + s, form(1), s + affine.constant(np.ones(1)), affine.constant(np.ones(1))):
        assert other.is_spike() is None


def test_only_constants_are_broadcast() -> None:
    column = affine.constant(np.array([[1.0], [2.0]]))
    flat: Array = column.expanded((2, 3)).constant
    assert flat.tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="repeated"):
        affine.atom(U, (1, 1)).expanded((1, 3))
    with pytest.raises(ValueError, match="cannot be read as"):
        form(1).reshaped((1, 4))


def test_equal_forms_have_equal_digests() -> None:
    assert (form(1, 2) + form(0, 0, 3)).digest() == (form(0, 2, 3) + form(1)).digest()
    assert form(1, 2).digest() != form(2, 1).digest()
    assert form(1).close_to(form(1 + 1e-8))
    assert not form(1).close_to(form(1 + 1e-3))
