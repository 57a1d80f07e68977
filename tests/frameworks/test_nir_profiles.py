"""NIR profiles against the frameworks: node by node, with every switch, export and import.

Each network is exported by the framework's own function and read with its profile, or built as
NIR and run by the framework's own import. Spikes must be equal; what an export drops must be
asked for. These run in an environment with the frameworks: ``make frameworks``.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import sinabs.activation as activation
import sinabs.layers as sl
import sinabs.nir
import snntorch as snn
import snntorch.export_nir
import snntorch.import_nir
import torch
from norse.torch.functional.reset import reset_subtract
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange
from torch import Tensor, nn

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.frontends import ReadOptions, nir_graph
from tests.frameworks.nir_exports import (
    HIDDEN,
    INPUTS,
    OUTPUTS,
    SAMPLES,
    STEPS,
    asks,
    check,
    dyadic,
    given,
    linear,
    nodes_with_v_reset,  # noqa: F401 - a fixture
    norse_file,
    says,
    snntorch_file,
    snntorch_output,
    spread,
    stateful_output,
)  # fmt: skip

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("nodes_with_v_reset")]


# --- snnTorch


def snntorch_neuron(kind: str, count: int, **switches: Any) -> nn.Module:
    beta = switches.pop("beta", 0.8)
    synapse = {} if "Leaky" in kind else {"alpha": switches.pop("alpha", 0.6)}
    made = {"Leaky": snn.Leaky, "Synaptic": snn.Synaptic, "RLeaky": snn.RLeaky,
            "RSynaptic": snn.RSynaptic}[kind.removesuffix("V")]  # fmt: skip
    recurrent: dict[str, Any] = {}
    if kind.endswith("V"):
        recurrent = {"all_to_all": False, "V": dyadic(count, scale=0.5)}
    elif kind.startswith("R"):
        recurrent = {"linear_features": count}
    neuron = made(beta=beta, **synapse, **recurrent, init_hidden=True, **switches)
    if "linear_features" in recurrent:
        neuron.recurrent.weight.copy_(dyadic(count, count, scale=0.3))
        neuron.recurrent.bias.copy_(dyadic(count, scale=0.1))
    return neuron


#: Their reset_delay=False raises a NameError in snnTorch 1.0.0.
_BROKEN = ("RSynaptic", "RSynapticV")
SNNTORCH = [
    (kind, reset, delayed, form)
    for kind, reset, delayed, form in product(
        ("Leaky", "Synaptic", "RLeaky", "RSynaptic", "RLeakyV", "RSynapticV"),
        ("subtract", "zero", "none"),
        (True, False),
        ("scalar", "neuron"),
    )
    if delayed or kind not in _BROKEN
]


@pytest.mark.parametrize(("kind", "reset", "delayed", "form"), SNNTORCH)
def test_snntorch_exports(kind: str, reset: str, delayed: bool, form: str, tmp_path: Path) -> None:
    switches: dict[str, Any] = {"reset_mechanism": reset, "reset_delay": delayed}
    own = dict(switches)
    if form == "neuron":
        own |= {"beta": spread(0, 1, HIDDEN), "threshold": spread(0.5, 1.5, HIDDEN)}
        own |= {} if "Leaky" in kind else {"alpha": spread(0, 1, HIDDEN)}
    network = nn.Sequential(
        linear(INPUTS, HIDDEN), snntorch_neuron(kind, HIDDEN, **own),
        linear(HIDDEN, OUTPUTS, bias=False),
        snntorch_neuron(kind.removesuffix("V"), OUTPUTS, **switches),
    )  # fmt: skip
    shown = given(INPUTS)
    path = snntorch_file(network, shown, tmp_path / "net.nir")
    assert "reset_delay" in asks(path, profile="snntorch", reset=reset)
    order = "next_step" if delayed else "at_spike"
    options: dict[str, Any] = {"reset": reset, "reset_order": order, "spike_factor": "1"}
    check(path, snntorch_output(network, shown), shown, profile="snntorch", **options)


@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
@pytest.mark.parametrize("resets", list(product(("subtract", "zero", "none"), repeat=2)))
def test_snntorch_layers_with_resets_of_their_own(
    kind: str, resets: tuple[str, str], tmp_path: Path
) -> None:
    network = nn.Sequential(
        linear(INPUTS, HIDDEN), snntorch_neuron(kind, HIDDEN, reset_mechanism=resets[0]),
        linear(HIDDEN, OUTPUTS),
        snntorch_neuron(kind, OUTPUTS, reset_mechanism=resets[1], reset_delay=False),
    )  # fmt: skip
    shown = given(INPUTS)
    path = snntorch_file(network, shown, tmp_path / "net.nir")
    by_name = {"reset": f"1={resets[0]},3={resets[1]}", "reset_order": "3=at_spike,next_step"}
    truth = snntorch_output(network, shown)
    check(path, truth, shown, profile="snntorch", profile_defaults=True, **by_name)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("delayed", [True, False])
def test_snntorch_graded_spikes(factor: float, delayed: bool, tmp_path: Path) -> None:
    network = nn.Sequential(
        linear(INPUTS, HIDDEN),
        snntorch_neuron("Leaky", HIDDEN, graded_spikes_factor=factor, reset_delay=delayed),
        linear(HIDDEN, OUTPUTS),
        snntorch_neuron("Leaky", OUTPUTS, reset_delay=delayed),
    )
    shown = given(INPUTS)
    path = snntorch_file(network, shown, tmp_path / "net.nir")
    assert "reset_mechanism" in asks(path, profile="snntorch")
    order = "next_step" if delayed else "at_spike"
    options: dict[str, Any] = {"profile_defaults": True, "reset_order": order}
    truth = snntorch_output(network, shown)
    check(path, truth, shown, profile="snntorch", spike_factor=f"1={factor}", **options)


@pytest.mark.parametrize("beta", [-0.5, 0.0, 1.0, 1.25])
def test_snntorch_decays_beyond_what_it_clamps(beta: float, tmp_path: Path) -> None:
    network = nn.Sequential(linear(INPUTS, HIDDEN), snntorch_neuron("Leaky", HIDDEN, beta=beta))
    shown = given(INPUTS)
    with np.errstate(all="ignore"):
        path = snntorch_file(network, shown, tmp_path / "net.nir")
    truth = snntorch_output(network, shown)
    check(path, truth, shown, profile="snntorch", profile_defaults=True)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 5), (4, 6)])
@pytest.mark.parametrize("form", ["(C,1,1)", "(W,)", "(H,1)", "(C,H,W)"])
def test_snntorch_pictures(height: int, width: int, form: str, tmp_path: Path) -> None:
    channels = 4
    conv = nn.Conv2d(2, channels, 3, padding=1)
    conv.weight.copy_(dyadic(*conv.weight.shape, scale=0.4))
    conv.bias.copy_(dyadic(channels, scale=0.1))
    shape = {"(C,1,1)": (channels, 1, 1), "(W,)": (width,), "(H,1)": (height, 1),
             "(C,H,W)": (channels, height, width)}[form]  # fmt: skip
    own = {"beta": spread(0, 1, *shape), "threshold": spread(0.3, 0.9, *shape)}
    network = nn.Sequential(
        conv, snntorch_neuron("Leaky", 0, **own), nn.AvgPool2d(2), nn.Flatten(),
        linear(channels * (height // 2) * (width // 2), OUTPUTS),
        snntorch_neuron("Leaky", OUTPUTS),
    )  # fmt: skip
    shown = given(2, height, width)
    path = snntorch_file(network, shown, tmp_path / "net.nir")
    truth = snntorch_output(network, shown)
    check(path, truth, shown, profile="snntorch", profile_defaults=True)


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
@pytest.mark.parametrize("beta", [0.25, 0.75])
@pytest.mark.parametrize("v_reset", [0.0, -0.5])
def test_snntorch_imports(kind: str, beta: float, v_reset: float, tmp_path: Path) -> None:
    """v_reset is ignored; the gain is put into the threshold."""
    tau = 1e-4 / (1 - beta)
    gain = {"LIF": 0.5, "CubaLIF": 1.0}[kind]
    fields = {"r": np.full(OUTPUTS, gain * tau / 1e-4), "v_leak": np.zeros(OUTPUTS),
              "v_threshold": np.full(OUTPUTS, 0.75),
              "v_reset": np.full(OUTPUTS, v_reset)}  # fmt: skip
    if kind == "LIF":
        node = nir.LIF(tau=np.full(OUTPUTS, tau), **fields)
    else:
        node = nir.CubaLIF(tau_mem=np.full(OUTPUTS, tau), tau_syn=np.full(OUTPUTS, 2e-4),
                           w_in=np.full(OUTPUTS, 1.0), **fields)  # fmt: skip
    graph, shown = one_layer(node), given(INPUTS)
    nir.write(tmp_path / "net.nir", graph)
    network = snntorch.import_nir.import_from_nir(graph)
    truth = stateful_output(network, shown)
    check(tmp_path / "net.nir", truth, shown, profile="snntorch-import")


def one_layer(node: Any, inputs: int = INPUTS, outputs: int = OUTPUTS) -> Any:
    """Return input -> affine -> ``node`` -> output."""
    affine = nir.Affine(
        weight=dyadic(outputs, inputs, scale=0.8).numpy(),
        bias=dyadic(outputs, scale=0.2).numpy(),
    )
    nodes = {"input": nir.Input(np.array([inputs])), "affine": affine, "neuron": node,
             "output": nir.Output(np.array([outputs]))}  # fmt: skip
    return nir.NIRGraph(nodes=nodes, edges=list(pairwise(nodes)))


# --- Norse


def norse_cell(kind: str, dt: float = 1e-3, **parameters: Any) -> nn.Module:
    cells = {"LIF": (norse.LIFCell, norse.LIFParameters),
             "LIFBox": (norse.LIFBoxCell, norse.LIFBoxParameters),
             "LIBox": (norse.LIBoxCell, norse.LIBoxParameters),
             "IAF": (norse.IAFCell, norse.IAFParameters)}  # fmt: skip
    cell, kinds = cells[kind]
    known = {key: value for key, value in parameters.items() if key in kinds._fields}
    tensors = {k: torch.as_tensor(v) if not callable(v) else v for k, v in known.items()}
    return cell(kinds(**tensors), dt=dt)


NORSE: list[tuple[str, float, float, Any]] = [
    *product(("LIF", "LIFBox"), (0.0, -0.4), (0.0, 0.3), (0.5, 1.0, 80.0, 400.0, "mixed")),
    ("IAF", 0.0, 0.0, 80.0),
    ("IAF", -0.4, 0.0, 80.0),
]


@pytest.mark.parametrize(("kind", "v_reset", "v_leak", "tau_mem_inv"), NORSE)
def test_norse_exports(
    kind: str, v_reset: float, v_leak: float, tau_mem_inv: Any, tmp_path: Path
) -> None:
    """Slow membranes and fast ones, and both in one node."""
    slow = isinstance(tau_mem_inv, float) and tau_mem_inv <= 1
    inverse = torch.cat([spread(0.2, 1.5, HIDDEN // 2), spread(60, 800, HIDDEN - HIDDEN // 2)])
    if slow:  # it moves little
        v_reset = v_leak + v_reset / 400
    threshold = {"IAF": 1.5}.get(kind, v_leak + (0.001 if slow else 0.3))
    own: dict[str, Any] = {"v_reset": v_reset, "v_leak": v_leak, "v_th": threshold}
    own["tau_mem_inv"] = tau_mem_inv
    if tau_mem_inv == "mixed":
        own = {
            name: torch.full((HIDDEN,), value)
            for name, value in own.items()
            if name != "tau_mem_inv"
        }
        own |= {"tau_mem_inv": inverse, "tau_syn_inv": torch.full((HIDDEN,), 200.0)}
    network = norse.SequentialState(
        linear(INPUTS, HIDDEN, 2.0), norse_cell(kind, **own), linear(HIDDEN, OUTPUTS, 2.0),
        norse_cell(kind),
    )  # fmt: skip
    shown = given(INPUTS)
    path = norse_file(network, shown, tmp_path / "net.nir")
    assert "v_reset (reset_method)" in says(path, profile="norse")
    check(path, stateful_output(network, shown), shown, profile="norse", v_reset=f"1={v_reset}")


@pytest.mark.parametrize("dt", [1e-4, 2e-3])
@pytest.mark.parametrize("kind", ["LIF", "LIFBox"])
def test_norse_exports_with_another_step(kind: str, dt: float, tmp_path: Path) -> None:
    network = norse.SequentialState(
        linear(INPUTS, HIDDEN, 2.0), norse_cell(kind, dt, tau_mem_inv=200.0, v_th=0.2)
    )
    shown = given(INPUTS)
    path = norse_file(network, shown, tmp_path / "net.nir", dt)
    truth = stateful_output(network, shown)
    check(path, truth, shown, profile="norse", dt=dt, profile_defaults=True)


@pytest.mark.parametrize("shape", [(4, 1, 1), (6,), (4, 6, 6)])
def test_norse_pictures(shape: tuple[int, ...], tmp_path: Path) -> None:
    conv = nn.Conv2d(2, 4, 3)
    conv.weight.copy_(dyadic(*conv.weight.shape))
    own = {"tau_mem_inv": spread(80, 200, *shape), "v_th": spread(0.3, 0.6, *shape),
           "v_leak": torch.zeros(shape), "v_reset": torch.zeros(shape)}  # fmt: skip
    network = norse.SequentialState(conv, norse_cell("LIFBox", **own))
    shown = given(2, 8, 8)
    path = norse_file(network, shown, tmp_path / "net.nir")
    truth = stateful_output(network, shown)
    check(path, truth, shown, profile="norse", profile_defaults=True)


def test_norse_box_that_subtracts(tmp_path: Path) -> None:
    own = {"v_th": 0.3, "reset_method": reset_subtract}
    network = norse.SequentialState(linear(INPUTS, HIDDEN, 2.0), norse_cell("LIFBox", **own))
    shown = given(INPUTS)
    path = norse_file(network, shown, tmp_path / "net.nir")
    check(path, stateful_output(network, shown), shown, profile="norse", reset="subtract")


@pytest.mark.parametrize("v_leak", [0.0, 0.3])
@pytest.mark.parametrize("tau_mem_inv", [0.5, 200.0])
def test_norse_readouts(v_leak: float, tau_mem_inv: float, tmp_path: Path) -> None:
    cell = norse_cell("LIBox", v_leak=v_leak, tau_mem_inv=tau_mem_inv)
    network = norse.SequentialState(linear(INPUTS, HIDDEN, 2.0), cell)
    shown = given(INPUTS)
    path = norse_file(network, shown, tmp_path / "net.nir")
    check(path, stateful_output(network, shown), shown, profile="norse")


NORSE_IMPORTS = [
    (kind, r, v_leak, v_reset, dt)
    for kind, r, v_leak, v_reset, dt in product(
        ("IF", "LIF", "CubaLIF"), (1.0, 3.0), (0.0, 0.25), (0.0, -0.5), (1e-3, 1e-4)
    )
    if kind != "IF" or v_leak == 0
]


@pytest.mark.parametrize(("kind", "r", "v_leak", "v_reset", "dt"), NORSE_IMPORTS)
def test_norse_imports(
    kind: str, r: float, v_leak: float, v_reset: float, dt: float, tmp_path: Path
) -> None:
    def full(value: float) -> Array:
        return np.full(OUTPUTS, value, np.float32)

    fields = {"r": full(r), "v_threshold": full(0.5), "v_reset": full(v_reset)}
    if kind == "IF":
        node = nir.IF(**fields)
    elif kind == "LIF":
        node = nir.LIF(tau=full(10 * dt), v_leak=full(v_leak), **fields)
    else:
        node = nir.CubaLIF(tau_mem=full(8 * dt), tau_syn=full(4 * dt), v_leak=full(v_leak),
                           w_in=full(2.0), **fields)  # fmt: skip
    graph, shown = one_layer(node), given(INPUTS)
    nir.write(tmp_path / "net.nir", graph)
    network = norse.from_nir(graph, dt=dt, ignore_warnings=True)
    truth = stateful_output(network, shown)
    check(tmp_path / "net.nir", truth, shown, profile="norse-import", dt=dt)


# --- sinabs


def sinabs_neuron(kind: str, count: int, *, single: bool, **switches: Any) -> nn.Module:
    own: dict[str, Any] = {"spike_fn": activation.SingleSpike} if single else {}
    if kind == "IAF":
        return sl.IAF(**own, **switches)
    threshold = torch.full((count,), 1.0)
    return sl.LIF(tau_mem=spread(2, 20, count), spike_threshold=threshold, **own, **switches)


#: Several spikes a step and a reset to zero are refused.
SINABS = [
    (kind, single, norm_input, zero)
    for kind, single, norm_input, zero in product(("IAF", "LIF"), *[(True, False)] * 3)
    if (kind == "LIF" or norm_input) and (single or not zero)
]


@pytest.mark.parametrize(("kind", "single", "norm_input", "zero"), SINABS)
def test_sinabs_exports(
    kind: str, single: bool, norm_input: bool, zero: bool, tmp_path: Path
) -> None:
    """norm_input is not in the file: a gain of 1 is that of --profile sinabs-import."""
    switches: dict[str, Any] = {"norm_input": norm_input} if kind == "LIF" else {}
    if zero:
        switches["reset_fn"] = activation.MembraneReset()
    network = nn.Sequential(
        linear(INPUTS, HIDDEN, 0.6 if kind == "IAF" or not norm_input else 3.0),
        sinabs_neuron(kind, HIDDEN, single=single, **switches),
        linear(HIDDEN, OUTPUTS, 0.6 if kind == "IAF" or not norm_input else 3.0),
        sinabs_neuron(kind, OUTPUTS, single=single, **switches),
    )
    shown = given(INPUTS)
    truth = network(shown)
    nir.write(tmp_path / "net.nir", sinabs.nir.to_nir(network, shown))
    for module in network.modules():
        if hasattr(module, "reset_states"):
            module.reset_states()
    options: dict[str, Any] = {"max_spikes": 1} if single else {}
    options |= {"reset": "zero"} if zero else {}
    if norm_input:
        assert "spike_fn (max_spikes_per_dt)" in says(tmp_path / "net.nir", profile="sinabs")
        options |= {"profile": "sinabs", "profile_defaults": True}
    else:
        options["profile"] = "sinabs-import"
    graph = nir_graph.read(tmp_path / "net.nir", ReadOptions(**options))
    (output,) = graph.outputs
    trace = reference.run(graph, {graph.inputs[0].name: shown.numpy()}, dtype=np.float32)
    wanted = truth.detach().numpy()
    assert wanted.any()
    np.testing.assert_array_equal(trace.spikes(output).reshape(wanted.shape), wanted)


@pytest.mark.parametrize("norm_input", [True, False])
def test_sinabs_readouts(norm_input: bool, tmp_path: Path) -> None:
    network = nn.Sequential(
        linear(INPUTS, HIDDEN), sl.ExpLeak(tau_mem=spread(2, 20, HIDDEN), norm_input=norm_input)
    )
    shown = given(INPUTS)
    truth = network(shown)
    nir.write(tmp_path / "net.nir", sinabs.nir.to_nir(network, shown))
    assert "norm_input of ExpLeak" in says(tmp_path / "net.nir", profile="sinabs")
    said = "true" if norm_input else "false"
    check(tmp_path / "net.nir", truth, shown, profile="sinabs", norm_input=said)
    if not norm_input:  # the class's default
        check(tmp_path / "net.nir", truth, shown, profile="sinabs", profile_defaults=True)


@pytest.mark.parametrize(
    ("kind", "r", "v_reset"), [*product(("IF", "LIF"), (1.0, 3.0), (0.0, -0.5)), ("LI", 1.0, 0.0)]
)
def test_sinabs_imports(kind: str, r: float, v_reset: float, tmp_path: Path) -> None:
    """Its r is ignored; an LI must have 1."""

    def full(value: float) -> Tensor:
        return torch.full((OUTPUTS,), value)

    fields: dict[str, Any] = {"r": full(r), "v_threshold": full(1.25), "v_reset": full(v_reset)}
    if kind == "IF":
        node = nir.IF(**fields)
    elif kind == "LIF":
        node = nir.LIF(tau=full(5.0), v_leak=full(0.0), **fields)
    else:
        node = nir.LI(tau=full(5.0), v_leak=full(0.0), r=full(r))
    graph, shown = one_layer(node), given(INPUTS)
    nir.write(tmp_path / "net.nir", graph)
    network = sinabs.nir.from_nir(graph, batch_size=SAMPLES)
    truth = network(shown.flatten(0, 1))[0].unflatten(0, (SAMPLES, STEPS))
    graph_read = nir_graph.read(tmp_path / "net.nir", ReadOptions(profile="sinabs-import"))
    trace = reference.run(graph_read, {"input": shown.numpy()}, dtype=np.float32)
    wanted = truth.detach().numpy()
    if kind == "LI":
        np.testing.assert_allclose(trace["neuron", "voltage"], wanted, atol=1e-5)
    else:
        np.testing.assert_array_equal(trace.spikes("neuron"), wanted)


# --- SpikingJelly


# Thresholds that sums of sixteenths do not meet: at a tie the order of rounding would decide.
def spikingjelly_node(kind: str, v_reset: float, *, decay_input: bool) -> nn.Module:
    if kind == "IF":
        return neuron.IFNode(v_threshold=0.77, v_reset=v_reset)
    if kind == "LIF":
        return neuron.LIFNode(tau=2.5, decay_input=decay_input, v_threshold=0.53, v_reset=v_reset)
    if kind == "PLIF":
        return neuron.ParametricLIFNode(
            init_tau=3.0, decay_input=decay_input, v_threshold=0.53, v_reset=v_reset
        )
    return neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_threshold=1.03, v_reset=v_reset)


SPIKINGJELLY = [
    (kind, v_reset, decay_input, dt)
    for kind, v_reset, decay_input, dt in product(
        ("IF", "LIF", "PLIF", "CUBALIF"), (0.0, -0.25), (True, False), (1e-4, 1e-3)
    )
    if decay_input or kind in ("LIF", "PLIF")
]


@pytest.mark.parametrize(("kind", "v_reset", "decay_input", "dt"), SPIKINGJELLY)
def test_spikingjelly_exports(
    kind: str, v_reset: float, decay_input: bool, dt: float, tmp_path: Path
) -> None:
    scale = 2.0 if decay_input and kind in ("LIF", "PLIF") else 0.6
    network = nn.Sequential(
        layer.Linear(INPUTS, HIDDEN),
        spikingjelly_node(kind, v_reset, decay_input=decay_input),
        layer.Linear(HIDDEN, OUTPUTS),
        spikingjelly_node(kind, v_reset, decay_input=decay_input),
    )
    for index in (0, 2):
        network[index].weight.copy_(dyadic(*network[index].weight.shape, scale=scale))
        network[index].bias.copy_(dyadic(len(network[index].bias), scale=0.1))
    shown = given(INPUTS)
    graph = nir_exchange.export_to_nir(network, shown[:1, 0], dt=dt)
    nir.write(tmp_path / "net.nir", graph)
    functional.reset_net(network)
    truth = torch.stack([network(shown[:, step]) for step in range(STEPS)], 1)
    check(tmp_path / "net.nir", truth, shown, profile="spikingjelly", dt=dt)


@pytest.mark.parametrize("kind", ["IF", "LIF", "decaying LIF", "CubaLIF"])
@pytest.mark.parametrize("v_reset", [0.0, -0.25])
@pytest.mark.parametrize("dt", [1e-4, 1e-3])
def test_spikingjelly_imports(kind: str, v_reset: float, dt: float, tmp_path: Path) -> None:
    def full(value: float) -> Array:
        return np.full(OUTPUTS, value)

    fields = {"v_threshold": full(0.53), "v_reset": full(v_reset)}
    if kind == "IF":
        node = nir.IF(r=full(1 / dt), **fields)
    elif kind == "CubaLIF":
        node = nir.CubaLIF(tau_mem=full(4 * dt), tau_syn=full(2 * dt), r=full(4.0),
                           w_in=full(2.0), v_leak=full(0.0), **fields)  # fmt: skip
    else:
        r = 1.0 if "decaying" in kind else 4.0
        node = nir.LIF(tau=full(4 * dt), r=full(r), v_leak=full(v_reset), **fields)
    graph, shown = one_layer(node), given(INPUTS)
    nir.write(tmp_path / "net.nir", graph)
    network = nir_exchange.import_from_nir(graph, dt=dt)
    truth = stateful_output(network, shown, defaultdict(lambda: None))
    check(tmp_path / "net.nir", truth, shown, profile="spikingjelly", dt=dt)
