"""Every switch of every neuron that an export takes, value by value, against the framework.

What becomes of each is in ``nir_switches.py``; here it is held against the frameworks' own
exports, outputs and signatures.
"""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise
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
import snntorch.import_nir
import torch
from norse.torch.functional.reset import reset_subtract, reset_value
from snntorch.functional import quant
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange, surrogate
from torch import Tensor, nn

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import SpikecError
from spikec.compiler.frontends import ReadOptions, nir_graph
from spikec.compiler.ir import LIF
from tests.frameworks.nir_exports import (
    HIDDEN,
    INPUTS,
    OUTPUTS,
    SAMPLES,
    STEPS,
    asks,
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
)
from tests.frameworks.nir_switches import IMPORTS, SWITCHES, UNLIKE, Case, cases, imports

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("nodes_with_v_reset")]

CHANNELS, EXTENT = 3, 6
#: A network, the file that its framework writes, and its output for the data.
Built = tuple[nn.Module, Callable[[Tensor, Path], Path], Callable[[Tensor], Tensor]]
NAMED: Mapping[str, Callable[[], Any]] = {
    "atan()": snn.surrogate.atan,
    "fast_sigmoid()": snn.surrogate.fast_sigmoid,
    "uniform()": lambda: quant.state_quant(num_bits=3),
    "neurons": lambda: HIDDEN,
    "channels": lambda: CHANNELS,
    "reset_value": lambda: reset_value,
    "reset_subtract": lambda: reset_subtract,
    "MultiSpike": lambda: activation.MultiSpike,
    "SingleSpike": lambda: activation.SingleSpike,
    "MaxSpike(3)": lambda: activation.MaxSpike(3),
    "MembraneSubtract()": activation.MembraneSubtract,
    "MembraneReset()": activation.MembraneReset,
    "Heaviside()": activation.Heaviside,
    "ATan()": surrogate.ATan,
}
#: Where values for each neuron are drawn from.
DRAWN = {"beta": (0, 1), "alpha": (0, 1), "threshold": (0.5, 1.5), "tau_mem_inv": (80, 700),
         "tau_syn_inv": (80, 700), "v_th": (0.2, 0.5), "spike_threshold": (0.8, 1.5),
         "tau_mem": (2, 20), "tau": (2, 20), "tau_syn": (2, 8),
         "v_threshold": (0.5, 1.5)}  # fmt: skip


def value_of(name: str, text: str) -> Any:
    if text == "[neurons]":
        if name == "shape":
            return torch.Size([HIDDEN])
        return dyadic(HIDDEN, scale=0.5) if name == "V" else spread(*DRAWN[name], HIDDEN)
    return NAMED[text]() if text in NAMED else ast.literal_eval(text)


def arguments(case: Case) -> dict[str, Any]:
    given_ones = {case.switch.name: case.value, **case.switch.beside}
    return {name: value_of(name, text) for name, text in given_ones.items()}


# --- one builder for each framework


def snntorch_neuron(case: Case, own: Mapping[str, Any]) -> nn.Module:
    usual: dict[str, Any] = {"beta": 0.8, "init_hidden": True}
    if "Synaptic" in case.neuron:
        usual["alpha"] = 0.6
    recurrent = case.neuron.startswith("R")
    if recurrent and "conv2d_channels" not in own and "V" not in own:
        usual["linear_features"] = HIDDEN
    if case.value == "[neurons]" and not recurrent:  # nir wants one shape
        usual |= {name: spread(*DRAWN[name], HIDDEN) for name in ("beta", "threshold")}
        usual |= {"alpha": spread(0, 1, HIDDEN)} if "alpha" in usual else {}
    made: nn.Module = getattr(snn, case.neuron)(**{**usual, **own})
    for module in made.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.copy_(dyadic(*module.weight.shape, scale=0.3))
            if module.bias is not None:
                module.bias.copy_(dyadic(len(module.bias), scale=0.1))
    return made


def snntorch_network(case: Case) -> Built:
    own = arguments(case)
    spiking = snntorch_neuron(case, own)
    first: nn.Module = linear(INPUTS, HIDDEN)
    if "conv2d_channels" in own:
        first = nn.Conv2d(2, CHANNELS, 3, padding=1)
        first.weight.copy_(dyadic(*first.weight.shape, scale=0.4))
        first.bias.copy_(dyadic(CHANNELS, scale=0.1))
    network = nn.Sequential(first, spiking)
    if "graded" in case.switch.name:  # it is what others take that differs
        network.extend([linear(HIDDEN, OUTPUTS), snn.Leaky(0.7, init_hidden=True)])

    def output(shown: Tensor) -> Tensor:
        if own.get("init_hidden") is False:
            return with_states_of_the_caller(network, shown)
        if "output" not in own:
            return snntorch_output(network, shown)
        spiking.reset_mem()
        return torch.stack([network(shown[:, step])[0] for step in range(STEPS)], 1)

    return network, lambda shown, path: snntorch_file(network, shown, path), output


def with_states_of_the_caller(network: nn.Module, shown: Tensor) -> Tensor:
    """Return the spikes of a neuron whose states the caller holds, as tutorials do."""
    first, spiking = network
    out: list[Tensor] = []
    states: tuple[Tensor, ...] = ()
    for step in range(STEPS):
        found = spiking(first(shown[:, step]), *states)
        states = found if type(spiking).__name__.startswith("R") else found[1:]
        out.append(found[0])
    return torch.stack(out, 1)


def norse_network(case: Case) -> Built:
    cells = {"LIFCell": (norse.LIFCell, norse.LIFParameters),
             "LIFBoxCell": (norse.LIFBoxCell, norse.LIFBoxParameters),
             "LIBoxCell": (norse.LIBoxCell, norse.LIBoxParameters),
             "IAFCell": (norse.IAFCell, norse.IAFParameters)}  # fmt: skip
    cell, kind = cells[case.neuron]
    own = arguments(case)
    dt = own.pop("dt", 1e-3)
    slow = isinstance(own.get("tau_mem_inv"), float) and own["tau_mem_inv"] <= 1
    if "v_th" in kind._fields and "v_th" not in own:
        own["v_th"] = 0.002 if slow else own.get("v_leak", 0.0) + 0.3
    if case.value == "[neurons]":  # SequentialState wants one shape for all
        full = {"v_leak": 0.0, "v_reset": 0.0, "v_th": 0.3, "tau_mem_inv": 200.0,
                "tau_syn_inv": 200.0}  # fmt: skip
        own = {n: torch.full((HIDDEN,), v) for n, v in full.items() if n in kind._fields} | {
            n: v for n, v in own.items() if torch.is_tensor(v)
        }
    tensors = {name: torch.as_tensor(v) if isinstance(v, float) else v for name, v in own.items()}
    network = norse.SequentialState(linear(INPUTS, HIDDEN, 2.0), cell(kind(**tensors), dt=dt))
    return (
        network,
        lambda shown, path: norse_file(network, shown, path, dt),
        lambda shown: stateful_output(network, shown),
    )


def sinabs_network(case: Case) -> Built:
    own = arguments(case)
    usual: dict[str, Any] = {} if case.neuron == "IAF" else {"tau_mem": 4.0}
    usual |= {} if case.neuron == "ExpLeak" else {"spike_threshold": 1.2}
    usual |= own
    names = () if case.neuron == "IAF" else ("tau_mem", "spike_threshold")
    if case.value == "[neurons]" and case.switch.name in names and case.neuron == "LIF":
        usual = {name: spread(*DRAWN[name], HIDDEN) for name in names}  # nir wants one shape
    for name in ("spike_threshold", "tau_mem"):
        if isinstance(usual.get(name), float):
            usual[name] = torch.tensor(usual[name])
    wide = case.neuron == "LIF" and own.get("norm_input", True)
    network = nn.Sequential(
        linear(INPUTS, HIDDEN, 3.0 if wide else 0.6), getattr(sl, case.neuron)(**usual)
    )

    def file(shown: Tensor, path: Path) -> Path:
        network(shown)
        nir.write(path, sinabs.nir.to_nir(network, shown))
        return path

    def output(shown: Tensor) -> Tensor:
        network[1].reset_states()
        result: Tensor = network(shown)
        return result

    return network, file, output


def spikingjelly_network(case: Case) -> Built:
    own = arguments(case)
    dt = own.pop("dt", 1e-4)
    usual: dict[str, Any] = {"v_threshold": 0.77 if case.neuron == "IFNode" else 0.53}
    spiking = getattr(neuron, case.neuron)(**{**usual, **own})
    several = own.get("step_mode") == "m"
    decays = case.neuron in ("LIFNode", "ParametricLIFNode") and own.get("decay_input", True)
    network = nn.Sequential(layer.Linear(INPUTS, HIDDEN), spiking)
    network[0].weight.copy_(dyadic(HIDDEN, INPUTS, scale=2.0 if decays else 0.6))
    network[0].bias.copy_(dyadic(HIDDEN, scale=0.1))
    if several:
        functional.set_step_mode(network, "m")

    def file(shown: Tensor, path: Path) -> Path:
        sample = shown[:1].transpose(0, 1) if several else shown[:1, 0]
        nir.write(path, nir_exchange.export_to_nir(network, sample, dt=dt))
        return path

    def output(shown: Tensor) -> Tensor:
        functional.reset_net(network)
        if several:
            result: Tensor = network(shown.transpose(0, 1)).transpose(0, 1)
            return result
        return torch.stack([network(shown[:, step]) for step in range(STEPS)], 1)

    return network, file, output


BUILDERS: Mapping[str, Callable[[Case], Built]] = {
    "snntorch": snntorch_network,
    "norse": norse_network,
    "sinabs": sinabs_network,
    "spikingjelly": spikingjelly_network,
}
CASES = [case for framework in SWITCHES for case in cases(framework)]


# --- outcomes


def found(path: Path, shown: Tensor, wanted: Array, options: Mapping[str, Any]) -> bool:
    """Say whether the file read with ``options`` does what the framework did."""
    graph = nir_graph.read(path, ReadOptions(**options))
    (output,) = graph.outputs
    trace = reference.run(graph, {graph.inputs[0].name: shown.numpy()}, dtype=np.float32)
    if isinstance(graph[output], LIF):
        return bool((trace.spikes(output).reshape(wanted.shape) == wanted).all())
    voltage = np.asarray(trace[output, "voltage"]).reshape(wanted.shape)
    return bool(np.allclose(voltage, wanted, atol=1e-4))


def known(case: Case) -> dict[str, Any]:
    """Return what answers all other questions: the defaults of the framework."""
    options: dict[str, Any] = {"profile": case.framework}
    if case.framework == "snntorch":
        usual = {"reset": "subtract", "reset_order": "next_step", "spike_factor": "1"}
        usual = {k: v for k, v in usual.items() if k != "spike_factor" or case.neuron == "Leaky"}
        options |= usual
    if case.framework == "sinabs" and case.neuron != "ExpLeak":
        options |= {"max_spikes": 1} if "spike_fn" in case.switch.beside else {}
    return options


#: What the frameworks and nir raise for what they do not export, and spikec.
REFUSALS = (AttributeError, KeyError, NotImplementedError, TypeError, ValueError, SpikecError)


def exported_and_read(case: Case, shown: Tensor, path: Path) -> None:
    _, file, _ = BUILDERS[case.framework](case)
    nir_graph.read(file(shown, path), ReadOptions(**known(case)))


@pytest.mark.parametrize("case", CASES, ids=[f"{case.framework}-{case}" for case in CASES])
def test_each_value_of_each_switch(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    shown = given(2, EXTENT, EXTENT) if "channels" in str(
        {**case.switch.beside, "": case.value}) else given(INPUTS)  # fmt: skip
    if case.switch.outcome == "refused":
        with pytest.raises(REFUSALS):
            exported_and_read(case, shown, path)
        return
    _, file, output = BUILDERS[case.framework](case)
    with np.errstate(all="ignore"):
        file(shown, path)
    wanted = output(shown).detach().numpy().reshape(SAMPLES, STEPS, -1)
    assert (wanted != 0).mean() > 0.002
    if case.switch.outcome == "asked":
        assert case.switch.name in asks(path, profile=case.framework)
    elif case.switch.outcome == "said":
        without = {n: v for n, v in known(case).items() if n not in (case.options or {})}
        assert any(case.switch.name in what for what in says(path, **without))
    if case.options is None:
        assert not found(path, shown, wanted, known(case))
    else:
        assert found(path, shown, wanted, {**known(case), **case.options})


@pytest.mark.parametrize("framework", SWITCHES)
def test_every_argument_of_every_class_is_in_the_table(framework: str) -> None:
    home = {"snntorch": snn, "norse": norse, "sinabs": sl, "spikingjelly": neuron}[framework]
    for name, switches in SWITCHES[framework].items():
        if framework == "norse":
            parameters = getattr(norse, name.replace("Cell", "Parameters"))._fields
            wanted = {*parameters} | ({"dt"} - {"dt" if name == "IAFCell" else ""})
        else:
            wanted = {*inspect.signature(getattr(home, name).__init__).parameters} - {"self"}
        exported = {"dt"} if framework == "spikingjelly" else set()
        assert {switch.name for switch in switches} - exported == wanted - exported, name


def exported(framework: str, spiking: nn.Module, path: Path) -> None:
    """Write the file of a network with a neuron that the export may not know."""
    shown = given(INPUTS)
    first = layer.Linear if framework == "spikingjelly" else nn.Linear
    network = nn.Sequential(first(INPUTS, HIDDEN), spiking)
    if framework == "snntorch":
        snntorch_file(network, shown, path)
    elif framework == "norse":
        norse_file(norse.SequentialState(*network), shown, path)
    elif framework == "sinabs":
        network(shown)
        nir.write(path, sinabs.nir.to_nir(network, shown))
    else:
        nir.write(path, nir_exchange.export_to_nir(network, shown[:1, 0]))


@pytest.mark.parametrize(
    ("framework", "name"), [(fw, name) for fw, names in UNLIKE.items() for name in names]
)
def test_other_neurons_are_not_exported(framework: str, name: str, tmp_path: Path) -> None:
    """The frameworks' own exports, or nir's writer, refuse what they do not know."""
    more: dict[str, dict[str, Any]] = {
        "Alpha": {"alpha": 0.9, "beta": 0.8, "init_hidden": True},
        "Lapicque": {"beta": 0.8, "init_hidden": True},
        "ALIF": {"tau_mem": 5.0, "tau_adapt": 5.0},
        "LIFRecurrent": {"tau_mem": 5.0, "rec_connect": nn.Linear(HIDDEN, HIDDEN)},
        "IAFRecurrent": {"rec_connect": nn.Linear(HIDDEN, HIDDEN)},
        "LIFRecurrentCell": {"input_size": HIDDEN, "hidden_size": HIDDEN},
    }
    home = {"snntorch": snn, "norse": norse, "sinabs": sl, "spikingjelly": neuron}[framework]
    spiking = getattr(home, name)(**more.get(name, {}))
    with pytest.raises(REFUSALS):
        exported(framework, spiking, tmp_path / "net.nir")


# --- files of others, as the frameworks' imports run them


IMPORTED = [case for profile in IMPORTS for case in imports(profile)]


def node_of(case: Case, dt: float) -> Any:
    """Return a node of decay 3/4 and gain 1 in steps of ``dt``, but for what the case changes."""
    own = arguments(case)
    steps = {"tau": 4.0, "tau_mem": 4.0, "tau_syn": 2.0} | {
        name: value for name, value in own.items() if name.startswith("tau")
    }
    usual: dict[str, Any] = {"v_threshold": 0.77, "v_reset": 0.0, "v_leak": 0.0}
    usual |= {name: value * dt for name, value in steps.items()}
    usual["r"] = 1 / dt if case.neuron == "IF" else steps["tau"]
    if case.neuron == "CubaLIF":
        usual |= {"r": steps["tau_mem"], "w_in": steps["tau_syn"]}
    if case.neuron in ("LI", "IF") and case.framework in ("sinabs-import", "norse-import"):
        usual["r"] = 1.0
    usual |= {name: value for name, value in own.items() if not name.startswith("tau")}
    kind = getattr(nir, case.neuron)
    taken = inspect.signature(kind.__init__).parameters
    full = {
        name: np.broadcast_to(np.asarray(value, np.float32), (HIDDEN,)).copy()
        for name, value in usual.items() if name in taken
    }  # fmt: skip
    return kind(**full)


def imported(case: Case, graph: Any, shown: Tensor, dt: float) -> Tensor:
    """Return what the framework's import makes of a graph, run on the data."""
    if case.framework == "sinabs-import":
        network = sinabs.nir.from_nir(graph, batch_size=SAMPLES)
        found: Tensor = network(shown.flatten(0, 1))[0].unflatten(0, (SAMPLES, STEPS))
        return found
    if case.framework == "norse-import":
        return stateful_output(norse.from_nir(graph, dt=dt, ignore_warnings=True), shown)
    if case.framework == "snntorch-import":
        return stateful_output(snntorch.import_nir.import_from_nir(graph), shown)
    network = nir_exchange.import_from_nir(graph, dt=dt)
    return stateful_output(network, shown, defaultdict(lambda: None))


def imported_and_read(case: Case, graph: Any, path: Path, shown: Tensor, dt: float) -> None:
    imported(case, graph, shown, dt)
    nir_graph.read(path, ReadOptions(profile=case.framework))


@pytest.mark.parametrize("case", IMPORTED, ids=[f"{case.framework}-{case}" for case in IMPORTED])
def test_each_parameter_of_each_node_imported(case: Case, tmp_path: Path) -> None:
    dt = {"sinabs-import": 1.0, "norse-import": 1e-3}.get(case.framework, 1e-4)
    affine = nir.Affine(
        weight=dyadic(HIDDEN, INPUTS, scale=0.8).numpy(),
        bias=dyadic(HIDDEN, scale=0.2).numpy(),
    )
    shown, path = given(INPUTS), tmp_path / "net.nir"
    nodes = {"input": nir.Input(np.array([INPUTS])), "affine": affine, "neuron": node_of(case, dt),
             "output": nir.Output(np.array([HIDDEN]))}  # fmt: skip
    graph = nir.NIRGraph(nodes=nodes, edges=list(pairwise(nodes)))
    nir.write(path, graph)
    if case.switch.outcome == "refused":
        with pytest.raises((*REFUSALS, AssertionError)):
            imported_and_read(case, graph, path, shown, dt)
        return
    wanted = imported(case, graph, shown, dt).detach().numpy().reshape(SAMPLES, STEPS, -1)
    assert (wanted != 0).mean() > 0.002
    assert found(path, shown, wanted, {"profile": case.framework})
