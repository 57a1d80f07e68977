"""NIR files, node by node: what each means, what is repaired, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError, SpikecError, UsageError
from spikec.compiler.frontends import ReadOptions, nir_graph
from spikec.compiler.frontends.nir_profiles import PROFILES
from spikec.compiler.frontends.onnx_probe import on_numbers
from spikec.compiler.frontends.options import ASSUMED, overrides_profile
from spikec.compiler.hdf5 import read_tree
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import Conv2d, Dense
from tests.support.nir_networks import Fields, edge_table, put

h5py = pytest.importorskip("h5py")

GOLDEN = Path(__file__).parents[2] / "golden"
#: For networks without spikes: no question about resets is open, and no answer taken.
VOLTAGES = ReadOptions(dt=1.0, discretization="euler")
EULER = ReadOptions(
    dt=1.0, discretization="euler", reset="zero", reset_order="at_spike", compare=">"
)


def edges(*pairs: str) -> Array:
    """Return edges from texts such as ``a>b``, as the official writer stores them."""
    return edge_table([pair.split(">") for pair in pairs])


def graph_of(nodes: dict[str, Fields], *pairs: str, **more: Any) -> Fields:
    return {"type": "NIRGraph", "nodes": nodes, "edges": edges(*pairs), **more}


def end(kind: str, *shape: int) -> Fields:
    return {"type": kind, "shape": np.array(shape)}


def lif(count: int = 1, tau: float = 2.0, r: float = 2.0, vth: float = 1.0, **more: Any) -> Fields:
    full = {"tau": tau, "r": r, "v_leak": 0.0, "v_threshold": vth, "v_reset": 0.0}
    return {"type": "LIF", **{name: np.full(count, value) for name, value in full.items()}, **more}


def linear(*rows: list[float], bias: list[float] | None = None) -> Fields:
    weight = {"type": "Linear", "weight": np.array(rows)}
    return weight if bias is None else {**weight, "type": "Affine", "bias": np.array(bias)}


def layered(middle: dict[str, Fields], shape: tuple[int, ...], last: Fields) -> Fields:
    """Return input -> middle... -> n -> output."""
    names = ["input", *middle, "n", "output"]
    nodes = {"input": end("Input", *shape), **middle, "n": last, "output": end("Output", 1)}
    pairs = [f"{a}>{b}" for a, b in pairwise(names)]
    return graph_of(nodes, *pairs)


@pytest.fixture
def nir(tmp_path: Path) -> Callable[..., Graph]:
    def build(tree: Fields, options: ReadOptions = EULER, version: str = "1.0.8") -> Graph:
        return nir_graph.read(save(tmp_path / "net.nir", tree, version), options)

    return build


def save(path: Path, tree: Fields, version: str = "1.0.8") -> Path:
    with h5py.File(path, "w") as file:
        put(file, {"version": version, "node": tree})
    return path


def arrives(graph: Graph, values: Array, target: str = "n") -> Array:
    """Return what edges without delay and biases bring to ``target`` for one input."""
    total: Any = graph[target].bias / graph[target].gain  # type: ignore[union-attr]
    for edge in graph.edges_into(target):
        given = np.ones((1, 1)) if edge.source == "bias" else values[None]
        total = total + edge.operator.apply(given)[0].reshape(graph[target].shape)
    return np.asarray(total)


def repairs(graph: Graph) -> list[str]:
    return [f"{c.what}: {c.value}" for c in graph.choices if c.origin == "import repair"]


# --- neurons


def test_euler_and_exp(nir: Callable[..., Graph]) -> None:
    tree = layered({"w": linear([1.0])}, (1,), lif(tau=4.0, r=3.0))
    node: Any = nir(tree)["n"]
    assert (node.beta, node.gain, node.alpha) == (0.75, 0.75, None)
    node = nir(tree, replace(EULER, discretization="exp"))["n"]
    assert node.beta == np.exp(-0.25)
    assert node.gain == pytest.approx(3 * (1 - np.exp(-0.25)), rel=1e-15)


def test_cuba_lif_and_its_own_units(nir: Callable[..., Graph]) -> None:
    values = {"tau_mem": 4.0, "tau_syn": 2.0, "r": 3.0, "v_leak": -1.0, "v_threshold": 1.0,
              "v_reset": -0.5, "w_in": 6.0}  # fmt: skip
    cuba = {"type": "CubaLIF", **{name: np.full(2, value) for name, value in values.items()}}
    graph = nir(layered({"w": linear([1.0], [1.0])}, (1,), cuba))
    node: Any = graph["n"]
    assert isinstance(node, LIF)
    found = (node.alpha[0], node.beta[0], node.gain[0], node.rest[0], node.reset_value[0])
    assert found == (0.5, 0.75, 0.75 * 3, -1.0, -0.5)
    assert node.reset == "value"
    trace = reference.run(graph, {"input": np.ones((1, 3, 1))}, probes=[("n", "current")])
    np.testing.assert_array_equal(trace["n", "current"][0, :, 0], [3, 4.5, 5.25])


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("I", {"r": [0.5]}, (None, 1.0, 0.5)),
        ("LI", {"tau": [2.0], "r": [4.0], "v_leak": [0.0]}, (None, 0.5, 2.0)),
        (
            "CubaLI",
            {"tau_mem": [2.0], "tau_syn": [4.0], "r": [4.0], "v_leak": [0.0], "w_in": [8.0]},
            (0.75, 0.5, 4.0),
        ),
    ],
)
def test_readouts(nir: Callable[..., Graph], kind: str, fields: Fields, expected: Any) -> None:
    neuron = {"type": kind, **{name: np.array(value) for name, value in fields.items()}}
    node: Any = nir(layered({"w": linear([1.0])}, (1,), neuron), VOLTAGES)["n"]
    assert isinstance(node, LI)
    assert (node.alpha, node.beta, node.gain) == expected


def test_threshold_keeps_nothing(nir: Callable[..., Graph]) -> None:
    tree = layered({"w": linear([1.0])}, (1,), {"type": "Threshold", "threshold": np.array([2.0])})
    graph = nir(tree, ReadOptions(compare=">="))
    data = np.array([1, 2, 1, 3, 0], float).reshape(1, -1, 1)
    found = reference.run(on_numbers(graph), {"input": data}).spikes("n").ravel()
    np.testing.assert_array_equal(found, [0, 1, 0, 1, 0])


def test_resets(nir: Callable[..., Graph]) -> None:
    fields = lif(v_reset=np.array([-0.5]))
    tree = layered({"w": linear([1.0])}, (1,), fields)
    node: Any = nir(tree)["n"]
    assert (node.reset, node.reset_value) == ("value", -0.5)
    node = nir(tree, replace(EULER, reset="subtract", reset_order="next_step"))["n"]
    assert (node.reset, node.reset_order, node.reset_amount) == ("subtract", "next_step", 1.5)
    node = nir(tree, replace(EULER, reset="none", compare=">="))["n"]
    assert (node.reset, node.compare) == ("none", ">=")


SNNTORCH = ReadOptions(profile="snntorch", profile_defaults=True)
SNNTORCH_ZERO = replace(SNNTORCH, reset="zero", dt=1.0)


def test_a_reset_to_zero_drops_input_where_snntorch_does(nir: Callable[..., Graph]) -> None:
    nodes = {"input": end("Input", 1), "a": lif(), "loop": linear([1.0]), "b": lif(),
             "output": end("Output", 1)}  # fmt: skip
    tree = graph_of(nodes, "input>a", "a>loop", "loop>a", "a>b", "b>output")
    graph = nir(tree, SNNTORCH_ZERO)
    assert [node.reset_drops_input for node in graph.populations] == [True, False]  # type: ignore[union-attr]


def test_snntorch_clamps_decays(nir: Callable[..., Graph]) -> None:
    beta = np.array([1.022, 1.0, 0.5])
    with np.errstate(divide="ignore"):
        tau = 1e-4 / (1 - beta)
    fields = lif(3, tau=1.0) | {"tau": tau, "r": tau / 1e-4}
    tree = layered({"w": linear([1.0], [1.0], [1.0])}, (1,), fields)
    node: Any = nir(tree, SNNTORCH)["n"]
    np.testing.assert_array_equal(node.beta, [1, 1, 0.5])
    np.testing.assert_array_equal(node.gain, [1, 1, 1])


def test_a_profile_answers_and_options_override(nir: Callable[..., Graph]) -> None:
    tree = layered({"w": linear([1.0])}, (1,), lif(tau=1e-3, r=10.0))
    graph = nir(tree, replace(SNNTORCH, compare=">="))
    node: Any = graph["n"]
    assert (node.compare, node.reset, node.reset_order, graph.dt) == (
        ">=", "subtract", "next_step", 1e-4,
    )  # fmt: skip
    origins = {choice.what: choice.origin for choice in graph.choices}
    assert origins["compare"] == "option --compare, over profile 'snntorch': >"
    assert origins["dt"] == "profile 'snntorch'"
    assert graph.source.format == "nir 1.0.8"


def test_every_profile_reads(nir: Callable[..., Graph]) -> None:
    tree = layered({"w": linear([1.0], [1.0])}, (1,), lif(2, tau=2.0, r=1.0))
    for name, profile in PROFILES.items():
        known = True if any(loss.option != "dt" for loss in profile.lost) else None
        graph = nir(tree, ReadOptions(profile=name, dt=1.0, profile_defaults=known))
        assert sum(c.what == f"profile {name}" for c in graph.choices) == len(profile.quirks) > 0


# --- what exports drop, and what they write in ways of their own


NORSE = ReadOptions(profile="norse", profile_defaults=True)
SINABS = ReadOptions(profile="sinabs", profile_defaults=True)


def deep(**options: Fields) -> Fields:
    """Return input -> w -> a -> x -> b -> output, neurons of 2."""
    nodes = {"input": end("Input", 1), "w": linear([1.0], [2.0]), "a": lif(2), "b": lif(2),
             "x": linear([1.0, 0.5], [0.5, 1.0]), "output": end("Output", 2)} | options  # fmt: skip
    return graph_of(nodes, "input>w", "w>a", "a>x", "x>b", "b>output")


#: As Norse and sinabs write them.
WITH_R_ONE = {"a": lif(2, r=1.0), "b": lif(2, r=1.0)}


@pytest.mark.parametrize(
    ("profile", "node", "words"),
    [
        ("norse", lif(2, tau=1e-5, r=10.0), "r is 10: files that 'norse' exported have 1"),
        ("sinabs", lif(2, tau=10.0, r=10.0), "r is 10: files that 'sinabs' exported have 1"),
        ("sinabs", lif(2, tau=5e-6, r=1.0), "nothing would be left of it"),
        ("snntorch-import", lif(2, tau=5e-6, r=1.0), "would be negative"),
        ("spikingjelly", {"type": "IF", "r": np.ones(2), "v_threshold": np.ones(2)},
         "an input counts 0.0001 times"),
    ],
)  # fmt: skip
def test_numbers_that_a_framework_never_writes_are_refused(
    nir: Callable[..., Graph], profile: str, node: Fields, words: str
) -> None:
    """Files of another framework: its profile would read another network."""
    with pytest.raises(FrontendError, match="F117") as caught:
        nir(layered({"w": linear([1.0], [1.0])}, (1,), node), ReadOptions(profile=profile))
    assert words in str(caught.value)


def test_what_networks_commonly_set_and_an_export_drops_is_asked_for(
    nir: Callable[..., Graph],
) -> None:
    options = ReadOptions(profile="snntorch")
    with pytest.raises(FrontendError) as caught:
        nir(deep(), options)
    (found,) = caught.value.diagnostics
    assert found.code == "F115"
    asked = ("reset_mechanism", "reset_delay")
    assert all(f"\n    {word}" in found.message for word in asked)
    graph = nir(deep(), replace(options, profile_defaults=True))
    origins = {choice.what.split()[0]: choice.origin for choice in graph.choices}
    for word in (*asked, "graded_spikes_factor"):
        assert origins[word] == "not in the file: option --profile-defaults"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("norse", ("v_reset",)),
        ("snntorch", ("inhibition", "state_quant")),
        ("sinabs", ("spike_fn", "reset_fn", "min_v_mem", "norm_input", "tau_syn")),
        ("rockpool", ("spike_fn", "bias")),
    ],
)
def test_what_else_an_export_drops_is_said(
    nir: Callable[..., Graph], profile: str, said: tuple[str, ...]
) -> None:
    options = ReadOptions(profile=profile, dt=1.0)
    if profile == "snntorch":
        options = replace(options, reset="subtract", reset_order="next_step", spike_factor="1")
    for confirmed, origin in (
        (None, ASSUMED),
        (True, "not in the file: option --profile-defaults"),
    ):
        ones = WITH_R_ONE if profile in ("norse", "sinabs") else {}
        graph = nir(deep(**ones), replace(options, profile_defaults=confirmed))
        origins = {choice.what.split()[0]: choice.origin for choice in graph.choices}
        assert [origins[word] for word in said] == [origin] * len(said)


@pytest.mark.parametrize(
    ("profile", "kind"), [("norse", "LIF"), ("norse", "CubaLIF"), ("spikingjelly", "LIF")]
)
def test_a_time_step_that_is_not_in_the_file_is_said(
    nir: Callable[..., Graph], profile: str, kind: str
) -> None:
    values = {"tau": 2e-4, "tau_mem": 2e-4, "tau_syn": 2e-4, "r": 1.0, "w_in": 1.0,
              "v_threshold": 1.0, "v_leak": 0.0, "v_reset": 0.0}  # fmt: skip
    node = {"type": kind, **{name: np.full(2, value) for name, value in values.items()}}
    if profile == "norse":
        node |= {"tau": np.full(2, 1e-5), "tau_mem": np.full(2, 1e-5), "tau_syn": np.full(2, 1e-5)}
    tree = layered({"w": linear([1.0], [1.0])}, (1,), node)
    assumed = [c.what for c in nir(tree, ReadOptions(profile=profile)).choices
               if c.origin == ASSUMED]  # fmt: skip
    assert "dt" in assumed
    usual = PROFILES[profile].dt
    assert usual is not None
    known = nir(tree, ReadOptions(profile=profile, dt=usual))
    assert "dt" not in [c.what for c in known.choices if c.origin == ASSUMED]


def test_inputs_count_in_sinabs_as_its_classes_do(nir: Callable[..., Graph]) -> None:
    """LIF normalises its inputs by default, ExpLeak (an LI) does not; --norm-input says else."""
    leak = {"type": "LI", "tau": np.full(2, 4.0), "r": np.ones(2), "v_leak": np.zeros(2)}
    tree = deep(a=lif(2, tau=2.0, r=1.0), b=leak)

    def gains(**more: Any) -> list[float]:
        graph = nir(tree, replace(SINABS, max_spikes=1, **more))
        return [float(graph[name].gain[0]) for name in ("a", "b")]  # type: ignore[union-attr]

    share = [1 - np.exp(-1 / 2), 1 - np.exp(-1 / 4)]
    assert gains() == pytest.approx([share[0], 1.0], rel=1e-15)
    assert gains(norm_input="true") == pytest.approx(share, rel=1e-15)
    assert gains(norm_input="a=false") == [1.0, 1.0]
    assert gains(norm_input="b=true,false") == pytest.approx([1.0, share[1]], rel=1e-15)
    with pytest.raises(UsageError, match=r"U085(.|\n)*'c' with a leak"):
        gains(norm_input="c=true")
    for profile in ("sinabs-import", "spikingjelly"):
        with pytest.raises(UsageError, match=r"U082.*--norm-input"):
            nir(tree, ReadOptions(profile=profile, norm_input="true"))


def test_a_v_reset_of_zeros_may_be_what_nir_filled_in(nir: Callable[..., Graph]) -> None:
    options = ReadOptions(profile="norse")
    stated = {name: lif(2, r=1.0, v_reset=np.full(2, -0.5)) for name in ("a", "b")}
    assert [node.reset_voltage[0] for node in nir(deep(**stated), options).populations] == [  # type: ignore[union-attr]
        -0.5, -0.5,
    ]  # fmt: skip
    assert any(choice.origin == ASSUMED for choice in nir(deep(**WITH_R_ONE), options).choices)
    subtract: Any = nir(deep(**WITH_R_ONE), replace(options, reset="subtract"))["a"]
    assert (subtract.reset, subtract.reset_amount[0]) == ("subtract", 1.0)


def test_options_by_population(nir: Callable[..., Graph]) -> None:
    options = replace(
        EULER, reset="a=none,subtract", reset_order="b=next_step,at_spike", compare="a=>=,>"
    )
    a, b = nir(deep(), options).populations
    assert isinstance(a, LIF)
    assert isinstance(b, LIF)
    assert (a.reset, a.reset_order, a.compare) == ("none", "at_spike", ">=")
    assert (b.reset, b.reset_order, b.compare) == ("subtract", "next_step", ">")
    graph = nir(deep(**WITH_R_ONE), ReadOptions(profile="norse", v_reset="a=-0.25"))
    assert [node.reset_voltage[0] for node in graph.populations] == [-0.25, 0]  # type: ignore[union-attr]
    said = [(c.what, c.value, c.origin) for c in graph.choices if "v reset" in c.what]
    assert said == [("v reset of 'a'", "-0.25", "option --v-reset")]


def test_names_of_all_populations_leave_no_question(nir: Callable[..., Graph]) -> None:
    options = replace(EULER, reset="a=none")
    with pytest.raises(FrontendError, match=r"F115.*\n    --reset zero"):
        nir(deep(), options)
    graph = nir(deep(), replace(options, reset="a=none,b=zero"))
    assert [node.reset for node in graph.populations] == ["none", "zero"]  # type: ignore[union-attr]


def test_populations_that_do_not_exist_are_refused(nir: Callable[..., Graph]) -> None:
    with pytest.raises(UsageError, match=r"U085.*'layer2'.*\n.*there are a, b"):
        nir(deep(), replace(EULER, reset="layer2=none,zero"))


def test_a_spike_may_be_worth_more_than_one(nir: Callable[..., Graph]) -> None:
    graph = nir(deep(), replace(EULER, spike_factor="a=0.5"))
    values = np.array([1.0, 0.0])
    np.testing.assert_array_equal(arrives(graph, values, "b"), [0.5, 0.25])
    graph = nir(deep(), replace(EULER, spike_factor="3"))
    assert any("counted as 1" in choice.value for choice in graph.choices)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"spike_exp": 6}, "--spike-exp"),
        ({"input_bits": 8}, "--input-bits"),
        ({"profile_defaults": True}, "--profile-defaults"),
    ],
)
def test_options_without_a_question_are_refused(
    nir: Callable[..., Graph], change: dict[str, Any], option: str
) -> None:
    with pytest.raises(UsageError, match=f"U082.*{option}"):
        nir(deep(), replace(EULER, **change))


@pytest.mark.parametrize("name", ["reset", "reset_order", "compare", "v_reset", "spike_factor"])
def test_a_network_of_voltages_takes_no_answers_about_spikes(
    nir: Callable[..., Graph], name: str
) -> None:
    reading = {"type": "LI", "tau": np.full(1, 2.0), "r": np.ones(1), "v_leak": np.zeros(1)}
    values = {"reset": "zero", "reset_order": "at_spike", "compare": ">"}
    options = replace(VOLTAGES, **{name: values.get(name, "1")})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="U082"):
        nir(layered({"w": linear([1.0])}, (1,), reading), options)


@pytest.mark.parametrize("tau_inv", [0.5, 1.0, 20.0, 100.0, 900.0])
def test_norse_multiplies_every_time_constant_by_dt(
    nir: Callable[..., Graph], tau_inv: float
) -> None:
    """Slow membranes too, and mixed with fast ones: no size tells."""
    tau = 1e-3 / np.array([tau_inv, 200.0])
    fields = lif(2, r=1.0) | {"tau": tau}
    node: Any = nir(layered({"w": linear([1.0], [1.0])}, (1,), fields), NORSE)["n"]
    np.testing.assert_allclose(node.beta, 1 - 1e-3 * np.array([tau_inv, 200.0]), rtol=1e-12)
    np.testing.assert_allclose(node.gain, 1e-3 * np.array([tau_inv, 200.0]), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "start"),
    [
        (replace(NORSE, profile_defaults=None, v_reset="-0.5"), -0.5),
        (ReadOptions(profile="norse-import"), 0.0),
        (ReadOptions(profile="norse-import", dt=1e-4), 0.0),
        (ReadOptions(profile="sinabs-import", dt=1e-4), 0.0),
    ],
)
def test_an_if_adds_its_input_in_norse_and_sinabs(
    nir: Callable[..., Graph], options: ReadOptions, start: float
) -> None:
    neuron = {"type": "IF", "r": np.ones(1), "v_threshold": np.ones(1), "v_reset": np.zeros(1)}
    node: Any = nir(layered({"w": linear([1.0])}, (1,), neuron), options)["n"]
    assert (node.gain, node.beta, node.initial_state[1]) == (1, 1, start)


def test_what_imports_ignore(nir: Callable[..., Graph]) -> None:
    fields = lif(r=5.0, v_reset=np.array([-0.5]))
    tree = layered({"w": linear([1.0])}, (1,), fields)
    node: Any = nir(tree, ReadOptions(profile="norse-import", dt=1.0))["n"]
    assert (node.gain, node.reset, node.reset_voltage) == (0.5, "zero", 0)
    node = nir(tree, ReadOptions(profile="sinabs-import"))["n"]
    assert (node.gain, node.reset_amount) == (1, 1)
    node = nir(tree, ReadOptions(profile="snntorch-import", dt=1.0))["n"]
    assert node.reset_voltage == 0
    cuba = {"type": "CubaLIF", "tau_mem": 4.0, "tau_syn": 2.0, "r": 3.0, "v_leak": 0.5,
            "v_threshold": 1.0, "w_in": 1.0}  # fmt: skip
    tree = layered({"w": linear([1.0])}, (1,), cuba)
    node = nir(tree, ReadOptions(profile="norse-import", dt=1.0))["n"]
    assert node.bias == 3 * 0.5 / 4  # its current rests at v_leak


def test_another_step_than_the_frameworks_is_refused_where_it_shows(
    nir: Callable[..., Graph],
) -> None:
    cuba = {"type": "CubaLIF", "tau_mem": 1e-3, "tau_syn": 5e-4, "r": 10.0, "v_leak": 0.0,
            "v_threshold": 1.0, "w_in": 5.0}  # fmt: skip
    tree = layered({"w": linear([1.0])}, (1,), cuba)
    assert nir(tree, SNNTORCH)["n"].gain == 1  # type: ignore[union-attr]
    for options in (replace(SNNTORCH, dt=1e-3), ReadOptions(profile="spikingjelly", dt=2e-4)):
        with pytest.raises(FrontendError, match=r"F117.*times"):
            nir(tree, options)


def test_spyx_weights_are_told_from_their_shapes(nir: Callable[..., Graph]) -> None:
    options = ReadOptions(profile="spyx", dt=1e-3)
    weight = np.arange(6.0).reshape(2, 3)
    fields = lif(3, tau=2e-3, r=0.5)
    turned = layered({"w": {"type": "Linear", "weight": weight}}, (2,), fields)
    graph = nir(turned, options)
    np.testing.assert_array_equal(arrives(graph, np.array([1.0, 0.0])), [0, 1, 2])
    assert graph["n"].gain[0] == 1  # type: ignore[union-attr]
    straight = layered({"w": {"type": "Linear", "weight": weight.T}}, (2,), fields)
    assert nir(straight, options)["n"].gain[0] == 0.25  # type: ignore[union-attr]
    square = layered({"w": linear([1.0, 2.0], [3.0, 4.0])}, (2,), lif(2, tau=2e-3, r=0.5))
    with pytest.raises(FrontendError, match=r"(?s)F125.*--profile spyx-import"):
        nir(square, options)
    graph = nir(square, replace(options, profile="spyx-import"))
    np.testing.assert_array_equal(arrives(graph, np.array([1.0, 0.0])), [1, 3])


# --- shapes of parameters


def picture(shape: tuple[int, ...], **fields: Any) -> Fields:
    """Return input -> 1x1 convolution -> n: four channels of ``shape[1:]``."""
    conv = {"type": "Conv2d", "weight": np.ones((shape[0], 1, 1, 1)), "stride": 1, "padding": 0,
            "dilation": 1, "groups": 1}  # fmt: skip
    return layered({"c": conv}, (1, *shape[1:]), lif(1) | fields)


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3, 4), (4, 4, 4)])
@pytest.mark.parametrize(
    "form", [(4, 1, 1), (1, 4, 1, 1), (1, 1, 1), (4, 3, 2), (3, 1), (1, 3, 2), (2,)]
)
def test_parameters_spread_as_numpy_does(
    nir: Callable[..., Graph], shape: tuple[int, ...], form: tuple[int, ...]
) -> None:
    values = 2.0 + np.arange(np.prod(form)).reshape(form) / 8
    try:
        expected = np.broadcast_to(values.reshape(form[-3:]), shape)
    except ValueError:
        with pytest.raises(FrontendError, match=r"F114.*parameter 'tau'"):
            nir(picture(shape, tau=values))
        return
    node: Any = nir(picture(shape, tau=values))["n"]
    np.testing.assert_array_equal(node.beta, 1 - 1 / expected)


def test_one_value_per_channel_or_along_the_last_axis(nir: Callable[..., Graph]) -> None:
    values = np.array([2.0, 4.0, 8.0, 16.0])
    by_channel: Any = nir(picture((4, 3, 2), tau=values))["n"]
    np.testing.assert_array_equal(by_channel.beta[:, 0, 0], 1 - 1 / values)
    last: Any = nir(picture((3, 2, 4), tau=values))["n"]
    np.testing.assert_array_equal(last.beta[0, 0], 1 - 1 / values)
    either = picture((4, 2, 4), tau=values)
    with pytest.raises(FrontendError, match=r"F114.*may be one value per channel"):
        nir(either)
    framework: Any = nir(either, ReadOptions(profile="snntorch-import", dt=1.0))["n"]
    np.testing.assert_array_equal(framework.beta[0, 0], 1 - 1 / values)
    equal: Any = nir(picture((4, 2, 4), tau=np.full(4, 2.0)))["n"]
    assert (equal.beta == 0.5).all()


def test_a_scale_or_delay_that_fits_in_two_ways_is_refused(nir: Callable[..., Graph]) -> None:
    for node in (
        {"type": "Scale", "scale": np.arange(1.0, 4)},
        {"type": "Delay", "delay": np.arange(3.0)},
    ):
        with pytest.raises(FrontendError, match=r"F114.*(first axis and the last|in two ways)"):
            nir(layered({"s": node}, (3, 2, 3), lif((3, 2, 3))))  # type: ignore[arg-type]
        nir(layered({"s": node}, (3, 2, 2), lif((3, 2, 2))))  # type: ignore[arg-type]


@pytest.mark.parametrize("front", [(1,), (1, 1), (7, 1), (1, 7)])
@pytest.mark.parametrize("first", ["Conv2d", "Conv1d", "SumPool2d", "AvgPool2d", "Scale"])
def test_batch_and_time_in_front_of_pictures(
    nir: Callable[..., Graph], front: tuple[int, ...], first: str
) -> None:
    weights = {"Conv2d": (3, 2, 3, 3), "Conv1d": (3, 2, 3)}
    node: Fields = {"type": first, "kernel_size": 2, "stride": 2, "padding": 0}
    if first in weights:
        node = {"type": first, "weight": np.ones(weights[first]), "stride": 1, "padding": 1}
    shape = (2, 6) if first == "Conv1d" else (2, 6, 6)
    layers = {"c": node}
    if first == "Scale":
        conv = {"type": "Conv2d", "weight": np.ones((3, 2, 3, 3)), "stride": 1, "padding": 1}
        layers = {"s": {"type": "Scale", "scale": np.full((), 2.0)}, "c": conv}
    graph = nir(layered(layers, (*front, *shape), lif()))
    assert graph.inputs[0].shape == shape
    assert any("counts batch and time" in text for text in repairs(graph))


def test_wrong_channels_are_no_batch(nir: Callable[..., Graph]) -> None:
    conv = {"type": "Conv2d", "weight": np.ones((3, 2, 3, 3)), "stride": 1, "padding": 1}
    with pytest.raises(FrontendError, match="F114"):
        nir(layered({"c": conv}, (1, 3, 6, 6), lif()))


# --- an integrator and its threshold


def test_an_integrator_and_its_threshold_are_one_neuron(nir: Callable[..., Graph]) -> None:
    values = {"tau": np.full(2, 4.0), "r": np.full(2, 2.0), "v_leak": np.zeros(2)}
    nodes = {"input": end("Input", 1), "w": linear([1.0], [2.0]), "li": {"type": "LI", **values},
             "t": {"type": "Threshold", "threshold": np.full(2, 0.6)}, "out": end("Output", 2),
             "volts": end("Output", 2), "back": linear([0.0, -1.0], [0.0, 0.0])}  # fmt: skip
    pairs = ("input>w", "w>li", "li>t", "t>out", "t>back", "back>li")
    options = replace(VOLTAGES, compare=">")
    del nodes["volts"]
    graph = nir(graph_of(nodes, *pairs), options)
    node: Any = graph["t"]
    assert [item.name for item in graph.populations] == ["t"]
    assert (node.reset, node.beta[0], node.gain[0], node.vth[0]) == ("none", 0.75, 0.5, 0.6)
    assert {(e.source, e.target, e.delay) for e in graph.edges} == {
        ("input", "t", 0), ("t", "t", 1)
    }  # fmt: skip
    nodes["volts"] = end("Output", 2)
    graph = nir(graph_of(nodes, *pairs, "li>volts"), replace(options, reset="none"))
    assert {item.name for item in graph.populations} == {"t", "li"}
    assert set(graph.outputs) == {"li", "t"}
    voltage, expected = np.zeros(2), []
    spikes = np.zeros(2)
    given = np.array([1, 0, 1, 1, 0, 1.0])
    for x in given:
        voltage = 0.75 * voltage + 0.5 * (np.array([x, 2 * x]) + np.array([-spikes[1], 0]))
        spikes = (voltage > 0.6).astype(float)
        expected.append(spikes)
    trace = reference.run(graph, {"input": given.reshape(1, -1, 1)})
    np.testing.assert_array_equal(trace.spikes("t")[0], expected)
    with pytest.raises(UsageError, match=r"U082.*--reset"):
        nir(graph_of(nodes, *pairs, "li>volts"), replace(options, reset="zero"))


def test_an_integrator_before_neurons_is_their_synapse_in_loops_too(
    nir: Callable[..., Graph],
) -> None:
    synapse = {"type": "LI", "tau": np.full(2, 4.0), "r": np.full(2, 2.0), "v_leak": np.zeros(2)}
    nodes = {"input": end("Input", 1), "w": linear([1.0], [2.0]), "li": synapse,
             "n": lif(2, tau=2.0, r=1.5, vth=0.6), "back": linear([0.0, -1.0], [0.5, 0.0]),
             "output": end("Output", 2)}  # fmt: skip
    pairs = ("input>w", "w>li", "back>li", "li>n", "n>back", "n>output")
    graph = nir(graph_of(nodes, *pairs))
    assert [item.name for item in graph.populations] == ["n"]
    current, voltage, spikes = np.zeros(2), np.zeros(2), np.zeros(2)
    given, expected = np.array([1, 0, 1, 1, 0, 0, 1, 1.0]), []
    for x in given:
        arrived = np.array([x - spikes[1], 2 * x + 0.5 * spikes[0]])
        current = current + (2 * arrived - current) / 4
        voltage = voltage + (1.5 * current - voltage) / 2
        spikes = (voltage > 0.6).astype(float)
        voltage = np.where(spikes > 0, 0, voltage)
        expected.append(spikes)
    assert 0 < np.mean(expected) < 1
    trace = reference.run(graph, {"input": given.reshape(1, -1, 1)})
    np.testing.assert_array_equal(trace.spikes("n")[0], expected)
    synapse["v_leak"] = np.full(2, 0.5)
    with pytest.raises(FrontendError, match="F119"):
        nir(graph_of(nodes, *pairs))


@pytest.mark.parametrize(
    ("name", "fields", "beta"),
    [
        ("I", {"r": 0.5}, 1.0),
        ("CubaLI", {"tau_mem": 2.0, "tau_syn": 4.0, "r": 2.0, "v_leak": 0.0, "w_in": 4.0}, 0.5),
    ],
)
def test_other_integrators_before_a_threshold(
    nir: Callable[..., Graph], name: str, fields: Fields, beta: float
) -> None:
    nodes = {"w": linear([1.0]), "i": {"type": name, **fields}}
    options = replace(VOLTAGES, compare=">")
    node: Any = nir(layered(nodes, (1,), {"type": "Threshold", "threshold": 1.0}), options)["n"]
    assert isinstance(node, LIF)
    assert (node.beta, node.reset, node.alpha is None) == (beta, "none", name == "I")


# --- what is between neurons


def direct_conv(x: Array, w: Array, stride: int, pad: tuple[int, int], gap: int) -> Array:
    """One-dimensional cross-correlation of [channel, length], written out."""
    x = np.pad(x, ((0, 0), pad))
    taps = w.shape[2]
    count = (x.shape[1] - gap * (taps - 1) - 1) // stride + 1
    return np.array(
        [
            [
                sum((w[o, :, k] * x[:, n * stride + k * gap]).sum() for k in range(taps))
                for n in range(count)
            ]
            for o in range(len(w))
        ]
    )


@pytest.mark.parametrize("taps", [1, 2, 3, 4])
@pytest.mark.parametrize("gap", [1, 2, 3])
def test_conv1d_with_padding_same(nir: Callable[..., Graph], taps: int, gap: int) -> None:
    rng = np.random.default_rng(taps)
    weight = rng.integers(-4, 5, (3, 2, taps)).astype(float)
    conv = {"type": "Conv1d", "weight": weight, "bias": np.arange(3.0), "stride": 1,
            "padding": "same", "dilation": gap, "groups": 1}  # fmt: skip
    graph = nir(layered({"c": conv}, (2, 9), lif((3, 9))))  # type: ignore[arg-type]
    x = rng.integers(0, 2, (2, 9)).astype(float)
    total = gap * (taps - 1)
    expected = direct_conv(x, weight, 1, (total // 2, total - total // 2), gap)
    np.testing.assert_array_equal(arrives(graph, x), expected + np.arange(3.0)[:, None])


@pytest.mark.parametrize("narrow", ["f2", "u1", "i1", ">i2"])
def test_whole_numbers_in_narrow_types(nir: Callable[..., Graph], narrow: str) -> None:
    numbers = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "input_shape": [6, 6]}
    conv = {"type": "Conv2d", "weight": np.ones((3, 2, 3, 3)),
            **{name: np.array(value, narrow) for name, value in numbers.items()}}  # fmt: skip
    tree = layered({"c": conv}, (2, 6, 6), lif())
    tree["nodes"]["input"]["shape"] = np.array((2, 6, 6), narrow)
    assert nir(tree)["n"].shape == (3, 6, 6)


def test_conv1d_with_stride(nir: Callable[..., Graph]) -> None:
    rng = np.random.default_rng(1)
    weight = rng.integers(-4, 5, (3, 2, 3)).astype(float)
    conv = {"type": "Conv1d", "weight": weight, "stride": 2, "padding": 1, "dilation": 2}
    graph = nir(layered({"c": conv}, (2, 9), lif((3, 4))))  # type: ignore[arg-type]
    x = rng.integers(0, 2, (2, 9)).astype(float)
    np.testing.assert_array_equal(arrives(graph, x), direct_conv(x, weight, 2, (1, 1), 2))


def test_conv2d_is_kept_as_it_is(nir: Callable[..., Graph]) -> None:
    weight = np.ones((4, 1, 3, 5), np.float32)
    conv = {"type": "Conv2d", "weight": weight, "stride": np.array([2, 1]), "groups": 2,
            "padding": np.array([1, 0]), "dilation": np.array([1, 1])}  # fmt: skip
    graph = nir(layered({"c": conv}, (2, 6, 8), lif()))
    operator = graph.edges[0].operator
    assert isinstance(operator, Conv2d)
    assert (operator.stride, operator.padding, operator.groups) == ((2, 1), (1, 0), 2)
    assert operator.weight.dtype == np.float32
    assert graph["n"].shape == (4, 3, 4)
    assert repairs(graph)[0].startswith("node 'n': one value stands for all")


@pytest.mark.parametrize(("kind", "share"), [("SumPool2d", 1.0), ("AvgPool2d", 0.25)])
def test_pooling(nir: Callable[..., Graph], kind: str, share: float) -> None:
    pool = {"type": kind, "kernel_size": 2, "stride": np.array([2, 2]), "padding": 0}
    flatten = {"type": "Flatten", "start_dim": 0, "end_dim": -1}
    graph = nir(layered({"p": pool, "f": flatten}, (2, 4, 4), lif(8)))
    x = np.arange(32.0).reshape(2, 4, 4)
    expected = x.reshape(2, 2, 2, 2, 2).sum(axis=(2, 4)).ravel() * share
    np.testing.assert_array_equal(arrives(graph, x), expected)


@pytest.mark.parametrize("factor", [2.0, [2.0, 3.0, 4.0]])
def test_scale_and_weights(nir: Callable[..., Graph], factor: Any) -> None:
    nodes = {"w": linear([1.0], [2.0], [3.0]), "s": {"type": "Scale", "scale": np.array(factor)}}
    graph = nir(layered(nodes, (1,), lif(3)))
    np.testing.assert_array_equal(arrives(graph, np.ones(1)), np.array([1, 2, 3.0]) * factor)


def test_biases_go_through_what_follows_them(nir: Callable[..., Graph]) -> None:
    nodes = {"a": linear([1.0], [2.0], bias=[0.5, 1.0]), "b": linear([2.0, -3.0], bias=[0.25])}
    graph = nir(layered(nodes, (1,), lif(r=4.0)))
    node: Any = graph["n"]
    assert node.bias == 2 * (2 * 0.5 - 3 * 1.0 + 0.25)
    np.testing.assert_array_equal(arrives(graph, np.ones(1)), [2 * 1.5 - 3 * 3 + 0.25])


def test_a_filtered_bias_comes_from_a_neuron_that_always_fires(nir: Callable[..., Graph]) -> None:
    values = dict.fromkeys(("tau_mem", "tau_syn", "r", "w_in"), np.full(2, 2.0))
    cuba = {"type": "CubaLIF", **values, "v_leak": np.zeros(2), "v_threshold": np.full(2, 9.0)}
    graph = nir(layered({"w": linear([0.0], [0.0], bias=[1.0, -2.0])}, (1,), cuba))
    probes: Any = [("bias", "spikes"), ("n", "current")]
    trace = reference.run(graph, {"input": np.zeros((1, 3, 1))}, probes=probes)
    assert trace.spikes("bias").all()
    np.testing.assert_array_equal(trace["n", "current"][0], [[1, -2], [1.5, -3], [1.75, -3.5]])


def test_delays_are_steps_and_differ_by_neuron(nir: Callable[..., Graph]) -> None:
    wait = {"type": "Delay", "delay": np.array([0.0, 2.0, 2.0])}
    nodes = {"d": wait, "w": linear([1.0, 10.0, 100.0], bias=[0.5])}
    graph = nir(layered(nodes, (3,), {"type": "I", "r": np.ones(1)}), ReadOptions(dt=1.0))
    assert sorted(edge.delay for edge in graph.edges) == [0, 2]
    trace = reference.run(graph, {"input": np.ones((1, 4, 3))})
    np.testing.assert_array_equal(
        trace["n", "voltage"].ravel(), np.cumsum([1.5, 1.5, 111.5, 111.5])
    )


def test_delays_between_steps_are_rounded_on_request(nir: Callable[..., Graph]) -> None:
    """Each error is on record; two passes over one node say it once."""
    wait = {"type": "Delay", "delay": np.array([0.4, 2.0, 2.75])}
    nodes = {"d": wait, "w": linear([1.0, 10.0, 100.0])}
    tree = layered(nodes, (3,), {"type": "I", "r": np.ones(1)})
    with pytest.raises(FrontendError, match=r"(?s)F118.*--round-delays"):
        nir(tree, ReadOptions(dt=1.0))
    graph = nir(tree, ReadOptions(dt=1.0, round_delays=True))
    assert sorted(edge.delay for edge in graph.edges) == [0, 2, 3]
    assert [c.value for c in graph.choices if c.origin == "option --round-delays"] == [
        "2 rounded to whole steps, by 0.4 of a step at most: 0.4 -> 0, 2.75 -> 3"
    ]
    wait["delay"] = np.array([0.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="U082"):
        nir(tree, ReadOptions(dt=1.0, round_delays=True))
    wait["delay"] = np.array([-2.0, 2.0, 3.0])
    with pytest.raises(FrontendError, match="F118"):
        nir(tree, ReadOptions(dt=1.0, round_delays=True))


def test_a_delayed_bias_comes_late(nir: Callable[..., Graph]) -> None:
    nodes = {"w": linear([0.0], bias=[1.0]), "d": {"type": "Delay", "delay": np.array([2.0])}}
    graph = nir(layered(nodes, (1,), {"type": "I", "r": np.ones(1)}), ReadOptions(dt=1.0))
    trace = reference.run(graph, {"input": np.zeros((1, 4, 1))})
    np.testing.assert_array_equal(trace["n", "voltage"].ravel(), [0, 0, 1, 2])


def test_branches_and_skips_are_edges_of_their_own(nir: Callable[..., Graph]) -> None:
    nodes = {"input": end("Input", 2), "a": linear([1.0, 2.0], bias=[1.0]), "b": linear([3.0, 4.0]),
             "c": linear([10.0], bias=[5.0]), "n": lif(), "output": end("Output", 1)}  # fmt: skip
    pairs = ("input>a", "input>b", "a>c", "b>c", "c>n", "a>n", "n>output")
    graph = nir(graph_of(nodes, *pairs))
    assert [edge.name for edge in graph.edges] == ["a+c", "b+c", "a"]
    x = np.array([1.0, 1.0])
    np.testing.assert_array_equal(arrives(graph, x), [10 * (4 + 7) + 5 + 4])


def test_loops_get_the_spikes_of_the_previous_step(nir: Callable[..., Graph]) -> None:
    nodes = {"input": end("Input", 1), "a": lif(), "b": lif(), "w": linear([1.0]),
             "loop": linear([-1.0]), "output": end("Output", 1)}  # fmt: skip
    graph = nir(graph_of(nodes, "input>a", "a>w", "w>b", "b>loop", "loop>a", "b>output"))
    assert {edge.name: edge.delay for edge in graph.edges} == {"input-a": 0, "w": 0, "loop": 1}
    assert any(choice.what == "delay of edge 'loop'" for choice in graph.choices)


def test_an_output_without_neurons_is_a_voltage(nir: Callable[..., Graph]) -> None:
    nodes = {"input": end("Input", 1), "n": lif(), "w": linear([3.0], bias=[0.5]),
             "output": end("Output", 1)}  # fmt: skip
    graph = nir(graph_of(nodes, "input>n", "n>w", "w>output"))
    assert graph.outputs == ("output",)
    trace = reference.run(on_numbers(graph), {"input": np.array([0, 2, 0.0]).reshape(1, 3, 1)})
    np.testing.assert_array_equal(trace["output", "voltage"].ravel(), [0.5, 3.5, 0.5])


# --- repairs


def inner(*, prefix: str = "", shape: int = 1) -> Fields:
    nodes = {f"{prefix}input": end("Input", shape), "lif": lif(), "rec": linear([-1.0]),
             f"{prefix}output": end("Output", 1)}  # fmt: skip
    pairs = (f"{prefix}input>lif", "lif>rec", "rec>lif", f"lif>{prefix}output")
    return graph_of(nodes, *pairs)


OUTER = {"input": end("Input", 1), "w": linear([1.0]), "output": end("Output", 1)}


@pytest.mark.parametrize(
    ("sub", "pairs", "repaired"),
    [
        (inner(), ("input>w", "w>sub", "sub>output"), 0),
        (inner(shape=7), ("input>w", "w>sub", "sub>output"), 1),
        (inner(prefix="sub."), ("input>w", "w>sub", "sub>output"), 0),
        (inner(), ("input>w", "w>sub.lif", "sub.lif>output"), 3),
        (inner(), ("in>w", "w>sub.input", "sub.output>out"), 4),
        (graph_of({"lif": lif(), "rec": linear([-1.0])}, "sub.lif>sub.rec", "rec>lif"),
         ("input>w", "w>sub.lif", "sub.lif>output"), 4),
        (graph_of({"lif": lif(), "rec": linear([-1.0])}, "lif>rec", "rec>lif", "w>lif",
                  "lif>output"), ("input>w",), 2),
        (inner(), ("input>w", "w>sub", "w>sub", "sub>output"), 1),
    ],
)  # fmt: skip
def test_sub_graphs(
    nir: Callable[..., Graph], sub: Fields, pairs: tuple[str, ...], repaired: int
) -> None:
    graph = nir(graph_of({**OUTER, "sub": sub}, *pairs), version="0.2.0")
    assert {(e.source, e.target, e.delay) for e in graph.edges} == {
        ("input", "sub.lif", 0), ("sub.lif", "sub.lif", 1)
    }  # fmt: skip
    assert graph.outputs == ("sub.lif",)
    assert len(repairs(graph)) == repaired


def nested(*pairs: str, deep: tuple[str, ...] = ("input>lif1", "lif1>output")) -> Fields:
    """Return input, w and output around ``outer``, which holds ``core`` with lif1."""
    core = graph_of({"input": end("Input", 1), "lif1": lif(), "output": end("Output", 1)}, *deep)
    middle = {"input": end("Input", 1), "core": core, "output": end("Output", 1)}
    outer = graph_of(middle, "input>core", "core>output")
    return graph_of({**OUTER, "outer": outer}, *pairs)


@pytest.mark.parametrize(
    "tree",
    [
        nested("input>w", "w>outer.core.lif1", "outer.core.lif1>output"),
        nested("input>w", "w>core.lif1", "core.lif1>output"),
        nested("input>w", "w>model.outer.core", "core>output"),
        nested("input>w", "w>outer", "outer>output", deep=("input>lif", "lif>output")),
        nested("input>w", "w>outer", "outer>output",
               deep=("model.core.input>core.lif1", "outer.core.lif1>output")),
    ],
)  # fmt: skip
def test_edges_by_other_paths_and_names_without_a_number(
    nir: Callable[..., Graph], tree: Fields
) -> None:
    graph = nir(tree)
    assert [(edge.source, edge.target) for edge in graph.edges] == [("input", "outer.core.lif1")]
    assert graph.outputs == ("outer.core.lif1",)
    assert any("is not a node there" in text for text in repairs(graph))


def test_a_name_that_fits_two_nodes_is_refused(nir: Callable[..., Graph]) -> None:
    nodes = {"input": end("Input", 1), "lif1": lif(), "lif2": lif(), "output": end("Output", 1)}
    with pytest.raises(FrontendError, match=r"F113.*\n.*lif1, lif2"):
        nir(graph_of(nodes, "input>lif", "lif1>lif2", "lif2>output"))
    del nodes["lif2"]
    with pytest.raises(FrontendError, match="F113"):  # another number is another node
        nir(graph_of(nodes, "input>lif3", "lif1>output"))


def test_a_time_step_that_makes_sense_beside_one_that_keeps_nothing(
    nir: Callable[..., Graph],
) -> None:
    """Norse's import takes any step; with its usual 0.001 s this neuron would keep nothing."""
    tree = layered({"w": linear([1.0], [2.0])}, (1,), lif(2, tau=1e-3, r=1.0))
    node: Any = nir(tree, ReadOptions(profile="norse-import", dt=1e-4))["n"]
    np.testing.assert_allclose((node.beta[0], node.gain[0]), (0.9, 0.1), rtol=1e-12)


@pytest.mark.parametrize("loop", [False, True])
def test_a_population_that_no_input_leads_to_is_refused(
    nir: Callable[..., Graph], loop: bool
) -> None:
    """As nirtorch leaves it where it lost a sum of two layers."""
    nodes = {"input": end("Input", 1), "w": linear([1.0], [2.0]), "a": lif(2), "b": lif(2),
             "back": linear([0.0, 1.0], [1.0, 0.0]), "output": end("Output", 2)}  # fmt: skip
    pairs = ["input>w", "w>a", "b>output", *(("b>back", "back>b") if loop else ())]
    if not loop:
        del nodes["back"]
    with pytest.raises(FrontendError, match=r"F113.*node 'b'(.|\n)*sums of layers"):
        nir(graph_of(nodes, *pairs))
    graph = nir(graph_of({**nodes, "b": {**lif(2), "v_leak": np.full(2, 3.0)}}, *pairs))
    assert graph.outputs == ("b",)  # its rest is above the threshold: it fires by itself


def test_a_layer_that_nothing_reads_is_refused(nir: Callable[..., Graph]) -> None:
    tree = deep(lost=linear([1.0, 0.0]))
    tree["edges"] = edges("input>w", "w>a", "a>x", "x>b", "b>output", "a>lost")
    with pytest.raises(FrontendError, match=r"F113.*'lost'.*leads nowhere"):
        nir(tree)


@pytest.mark.parametrize("between", ["Delay", "Scale"])
def test_a_batch_before_a_delay_or_scale(nir: Callable[..., Graph], between: str) -> None:
    node = {"type": between, "delay": np.array([1.0, 2.0]), "scale": np.array([1.0, 2.0])}
    graph = nir(layered({"d": node, "w": linear([1.0, 2.0])}, (1, 2), lif()))
    assert graph.inputs[0].shape == (2,)


def test_time_in_front_of_a_dense_layer_is_sinabs_alone(nir: Callable[..., Graph]) -> None:
    tree = layered({"w": linear([1.0, 2.0])}, (40, 2), lif(r=1.0))
    assert nir(tree, SINABS).inputs[0].shape == (2,)
    with pytest.raises(FrontendError, match=r"F114.*last axis"):
        nir(tree)


def test_a_shape_of_one_where_more_is_taken_stands_for_none(nir: Callable[..., Graph]) -> None:
    graph = nir(layered({"w": linear([1.0, 2.0])}, (1,), lif()))
    assert graph.inputs[0].shape == (2,)
    assert "stands for none" in repairs(graph)[0]
    flat = {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array([1, 2, 3])}
    graph = nir(layered({"f": flat, "w": linear([1.0] * 6)}, (1,), lif()))
    assert graph.inputs[0].shape == (1, 2, 3)


def test_parameters_of_every_old_shape(nir: Callable[..., Graph]) -> None:
    conv = {"type": "Conv2d", "weight": np.ones((3, 1, 1, 1)), "bias": np.zeros(3), "stride": 1,
            "padding": 0, "dilation": 1, "groups": 1}  # fmt: skip
    for shape in ((), (1,), (3,), (3, 2, 2), (1, 3, 2, 2), (12,)):
        fields = {key: np.full(shape, 2.0) for key in ("tau", "r", "v_threshold")}
        tree = layered({"c": conv}, (1, 2, 2), {"type": "LIF", **fields, "v_leak": 0.0})
        graph = nir(tree)
        assert graph["n"].shape == (3, 2, 2)
        assert any(choice.what == "v_reset of 'n'" for choice in graph.choices)


def test_missing_ends_and_shapes(nir: Callable[..., Graph]) -> None:
    nodes = {"w": linear([1.0, 2.0]), "n": lif()}
    graph = nir(graph_of(nodes, "w>n"))
    assert graph.inputs[0].shape == (2,)
    assert len(repairs(graph)) == 3
    nodes = {"input": {"type": "Input"}, **nodes, "output": end("Output", 1)}
    assert nir(graph_of(nodes, "input>w", "w>n", "n>output")).inputs[0].shape == (2,)
    nodes["input"] = end("Input", 1, 1, 2)
    graph = nir(graph_of(nodes, "input>w", "w>n", "n>output"))
    assert graph.inputs[0].shape == (2,)
    assert "counts the batch" in repairs(graph)[0]


def test_a_file_of_one_node(nir: Callable[..., Graph]) -> None:
    graph = nir(lif(3))
    assert (graph.inputs[0].shape, graph.outputs) == ((3,), ("node",))


# --- several spikes a step


def test_who_says_how_many_spikes_a_step(nir: Callable[..., Graph]) -> None:
    tree = layered({"w": linear([1.0])}, (1,), lif(r=1.0))
    subtract = replace(EULER, reset="subtract", reset_order="at_spike")
    for options, expected in (
        (SINABS, (255, "profile 'sinabs'")),
        (replace(SINABS, max_spikes=4), (4, "option --max-spikes, over profile 'sinabs'")),
        (replace(SINABS, max_spikes=1), (1, "option --max-spikes, over profile 'sinabs'")),
        (replace(subtract, max_spikes=7), (7, "option --max-spikes")),
        (subtract, (1, "")),
    ):
        graph = nir(tree, options)
        node = graph["n"]
        assert isinstance(node, LIF)
        origins = [item.origin for item in graph.choices if item.what == "max spikes"]
        assert (node.max_spikes, "".join(origins).partition(":")[0]) == expected


def test_a_limit_without_effect_is_refused(nir: Callable[..., Graph]) -> None:
    spiking = layered({"w": linear([1.0])}, (1,), lif())
    silent = layered(
        {"w": linear([1.0])},
        (1,),
        {"type": "LI", "tau": np.full(1, 2.0), "r": np.ones(1), "v_leak": np.zeros(1)},
    )
    for tree, options, code in (
        (spiking, replace(EULER, max_spikes=1), "U082"),
        (silent, replace(SINABS, max_spikes=3), "U082"),
        (spiking, replace(SINABS, max_spikes=0), "U083"),
        (spiking, replace(SINABS, max_spikes=256), "U083"),
    ):
        with pytest.raises(UsageError, match=code):
            nir(tree, options)


# --- refusals


def bad(name: str) -> tuple[Fields, ReadOptions]:  # noqa: C901
    one = {"w": linear([1.0])}
    if name == "nothing_said":
        return layered(one, (1,), lif(tau=1e-3, r=10.0)), ReadOptions()
    if name == "norse_units":
        return layered(one, (1,), lif(tau=5e-6, r=1.0)), ReadOptions(reset="zero")
    if name == "if_only":
        neuron = {"type": "IF", "r": np.ones(1), "v_threshold": np.ones(1)}
        return layered(one, (1,), neuron), ReadOptions(profile="rockpool")
    if name == "unknown_profile":
        return layered(one, (1,), lif()), ReadOptions(profile="brian2")
    if name == "several_spikes_set_to_zero":
        return layered(one, (1,), lif(r=1.0)), replace(SINABS, reset="zero")
    if name == "negative_step":
        return layered(one, (1,), lif()), replace(EULER, dt=-1.0)
    if name == "coarse_step":
        return layered(one, (1,), lif(tau=0.25)), EULER
    if name == "negative_tau":
        return layered(one, (1,), lif(tau=-3.0)), EULER
    if name == "missing_parameter":
        neuron = lif()
        del neuron["tau"]
        return layered(one, (1,), neuron), EULER
    if name == "nan_parameter":
        return layered(one, (1,), lif(r=np.nan)), EULER
    if name == "unknown_node":
        return layered({"p": {"type": "MaxPool2d"}}, (1,), lif()), EULER
    if name == "uneven_delay":
        return layered({"d": {"type": "Delay", "delay": np.array([1.5])}}, (1,), lif()), EULER
    if name == "shape_of_neurons":
        return layered({"w": linear([1.0], [1.0])}, (1,), lif(3)), EULER
    if name == "shape_of_weights":
        return layered({"w": linear([1.0, 1.0, 1.0])}, (2,), lif()), EULER
    if name == "same_with_stride":
        conv = {"type": "Conv2d", "weight": np.ones((1, 1, 2, 2)), "padding": "same", "stride": 2}
        return layered({"c": conv}, (1, 4, 4), lif()), EULER
    if name == "readout_feeds_on":
        reading = {"type": "LI", "tau": np.full(1, 2.0), "r": np.ones(1), "v_leak": np.zeros(1)}
        return layered({"li": reading, "w": linear([1.0])}, (1,), lif()), EULER
    if name == "edge_to_nowhere":
        nodes = {"input": end("Input", 1), "n": lif(), "output": end("Output", 1)}
        return graph_of(nodes, "input>n", "n>lif2", "n>output"), EULER
    if name == "linear_loop":
        nodes = {"input": end("Input", 1), "a": linear([1.0]), "b": linear([1.0]), "n": lif(),
                 "output": end("Output", 1)}  # fmt: skip
        return graph_of(nodes, "input>a", "a>b", "b>a", "b>n", "n>output"), EULER
    if name == "two_inputs_inside":
        sub = inner()
        sub["nodes"]["other"] = end("Input", 1)
        return graph_of({**OUTER, "sub": sub}, "input>w", "w>sub", "sub>output"), EULER
    assert name == "no_edges"
    return {"type": "NIRGraph", "nodes": {"n": lif()}}, EULER


@pytest.mark.parametrize(
    "name",
    [
        "nothing_said", "norse_units", "if_only", "unknown_profile",
        "several_spikes_set_to_zero", "negative_step", "coarse_step",
        "negative_tau", "missing_parameter", "nan_parameter",
        "unknown_node", "uneven_delay", "shape_of_neurons", "shape_of_weights",
        "same_with_stride", "readout_feeds_on", "edge_to_nowhere", "linear_loop",
        "two_inputs_inside", "no_edges",
    ],
)  # fmt: skip
def test_refusals_say_what_and_where(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tree, options = bad(name)
    path = save(tmp_path / "net.nir", tree)
    with pytest.raises(FrontendError) as caught:
        nir_graph.read(path, options)
    text = str(caught.value).replace(str(path), "net.nir") + "\n"
    golden = GOLDEN / f"nir_{name}.txt"
    if request.config.getoption("--update-golden", default=False):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def dangerous(name: str, folder: Path) -> Path:  # noqa: C901
    path = save(folder / "net.nir", layered({"w": linear([1.0])}, (1,), lif()))
    with h5py.File(path, "a") as file:
        nodes = file["node/nodes"]
        if name == "soft link":
            nodes["soft"] = h5py.SoftLink("/node/nodes/n")
        elif name == "external link":
            nodes["far"] = h5py.ExternalLink("other.h5", "/x")
        elif name == "cycle":
            nodes["again"] = file["node"]
        elif name == "external storage":
            (folder / "secret").write_bytes(bytes(8))
            nodes["n"].create_dataset(
                "x", (1,), "f8", external=[(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)]
            )
        elif name == "virtual":
            layout = h5py.VirtualLayout((1,), "f8")
            layout[:] = h5py.VirtualSource("other.h5", "x", (1,))
            nodes["n"].create_virtual_dataset("x", layout)
        elif name == "bomb":
            nodes["n"].create_dataset("x", (1 << 40,), "f8", chunks=(1 << 20,), compression="gzip")
        elif name == "reference":
            nodes["n"].create_dataset("x", data=file.ref, dtype=h5py.ref_dtype)
        elif name == "compound":
            nodes["n"]["x"] = np.zeros(1, [("a", "f8")])
        elif name == "ragged":
            nodes["n"].create_dataset("x", (1,), h5py.vlen_dtype(np.float64))
        elif name == "empty":
            nodes["n"]["x"] = h5py.Empty("f8")
        else:
            assert name == "named type"
            nodes["n"]["x"] = np.dtype("f8")
    return path


@pytest.mark.parametrize(
    "name",
    [
        "soft link", "external link", "cycle", "external storage", "virtual", "bomb", "reference",
        "compound", "ragged", "empty", "named type",
    ],
)  # fmt: skip
def test_what_could_harm_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match="F062"):
        nir_graph.read(dangerous(name, tmp_path), EULER)


def test_the_byte_cap_counts_all_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.zeros(100), np.zeros(100)
        file.create_dataset("text", data="é", dtype=h5py.string_dtype())
    tree = read_tree(path, max_bytes=1700)
    assert tree["a"].shape == (100,)
    assert tree["text"][()] == "é"
    with pytest.raises(FrontendError, match=r"F062.*more than 1500 bytes"):
        read_tree(path, max_bytes=1500)


def test_recognition(tmp_path: Path) -> None:
    assert nir_graph.recognises(save(tmp_path / "net.txt", lif()))
    (tmp_path / "text").write_text("node")
    assert not nir_graph.recognises(tmp_path / "text")
    assert not nir_graph.recognises(tmp_path / "missing")
    with h5py.File(tmp_path / "net", "w") as file:
        file.create_group("layer/0")
    assert not nir_graph.recognises(tmp_path / "net")
    (tmp_path / "cut").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    with pytest.raises(FrontendError, match="F061"):
        nir_graph.recognises(tmp_path / "cut")


@pytest.mark.parametrize("module", ["h5py", "nir"])
def test_missing_packages_are_named(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "net.nir", lif())
    graph = nir_graph.read(path, EULER)
    monkeypatch.setitem(sys.modules, module, None)
    act = {
        "h5py": lambda: nir_graph.read(path, EULER),
        "nir": lambda: nir_graph.write(graph, tmp_path / "again.nir"),
    }
    with pytest.raises(FrontendError, match=r"spikec\[nir\]"):
        act[module]()


# --- export


def test_what_nir_cannot_say_is_refused_all_at_once(tmp_path: Path) -> None:
    def neuron(name: str, **fields: Any) -> LIF:
        base: Any = {"alpha": np.array(0.5), "beta": np.ones(1), "coupling": "immediate",
                     "vth": np.ones(1), "reset": "zero", "reset_order": "at_spike",
                     "compare": ">"}  # fmt: skip
        return LIF(name=name, shape=(1,), **{**base, **fields})

    nodes = [
        Input(name="input", shape=(1,)),
        neuron("late", start=2),
        neuron("charged", initial_current=np.ones(1)),
        neuron("tired", refractory=3),
        neuron("driven", bias=np.ones(1)),
    ]
    operator = Dense(weight=np.ones((1, 1)))
    graph = Graph(
        nodes=nodes,
        edges=[Edge(name=n.name, source="input", target=n.name, operator=operator)
               for n in nodes[1:]],
        outputs=["late"],
    )  # fmt: skip
    with pytest.raises(SpikecError) as caught:
        nir_graph.write(graph, tmp_path / "net.nir")
    assert [item.code for item in caught.value.diagnostics] == ["F121"] * 4
    assert not (tmp_path / "net.nir").exists()


def test_what_an_import_makes_something_else_of_is_refused(nir: Callable[..., Graph]) -> None:
    """snnTorch 1.0.0 reads an IF as a Leaky with beta 0.9."""
    fields = {"type": b"IF", "r": np.ones(2), "v_threshold": np.ones(2)}
    with pytest.raises(FrontendError, match=r"F128.*\n?.*beta 0.9"):
        nir(deep(b=fields), ReadOptions(profile="snntorch-import"))


@pytest.fixture
def half_a_millisecond(tmp_path: Path) -> Path:
    """snnTorch's Synaptic with alpha 0.8, as it writes it at its step of 1e-4 s."""
    ones, step = np.ones(3), 1e-4
    parameters = {
        "tau_syn": 5e-4 * ones, "tau_mem": 2e-3 * ones, "r": 2e-3 / step * ones,
        "w_in": 5e-4 / step * ones, "v_leak": 0 * ones, "v_threshold": ones, "v_reset": 0 * ones,
    }  # fmt: skip
    path = tmp_path / "syn.nir"
    with h5py.File(path, "w") as file:
        file["version"] = b"1.0"
        file["node/type"] = b"NIRGraph"
        nodes = {
            "input": {"type": b"Input", "shape": np.array([4])},
            "fc": {"type": b"Affine", "weight": np.eye(3, 4), "bias": 0 * ones},
            "lif": {"type": b"CubaLIF", **parameters},
            "output": {"type": b"Output", "shape": np.array([3])},
        }
        for name, fields in nodes.items():
            for field, value in fields.items():
                file[f"node/nodes/{name}/{field}"] = value
        chain = [("input", "fc"), ("fc", "lif"), ("lif", "output")]
        file["node/edges"] = np.array(chain, dtype="S10")
    return path


@pytest.mark.parametrize("dt", [5e-4, 1e-3, 2e-3, 1e-5, 1.0])
def test_a_time_step_that_leaves_no_decay_is_refused_with_the_one_that_fits(
    half_a_millisecond: Path, dt: float
) -> None:
    options = ReadOptions(profile="snntorch", profile_defaults=True, dt=dt)
    with pytest.raises(FrontendError, match=r"F11\d(.|\n)*give --dt 0.0001"):
        nir_graph.read(half_a_millisecond, options)


def test_an_override_that_makes_sense_is_listed(half_a_millisecond: Path) -> None:
    options = ReadOptions(profile="snntorch", profile_defaults=True, discretization="exp")
    graph = nir_graph.read(half_a_millisecond, options)
    origins = {choice.what: choice.origin for choice in graph.choices}
    said = "option --discretization, over profile 'snntorch': euler"
    assert origins["discretization"] == said
    for same in (ReadOptions(profile="snntorch", profile_defaults=True, dt=1e-4),
                 ReadOptions(profile="snntorch", profile_defaults=True)):  # fmt: skip
        graph = nir_graph.read(half_a_millisecond, same)
        assert not [item for item in graph.choices if overrides_profile(item.origin)]
        lif = graph["lif"]
        assert isinstance(lif, LIF)
        np.testing.assert_allclose(lif.alpha, 0.8)  # type: ignore[arg-type]
