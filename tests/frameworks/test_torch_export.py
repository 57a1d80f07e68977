"""What ``export_torch`` writes runs as the framework does, and the network is left as it was.

These run in an environment with the frameworks: ``make frameworks``.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import norse.torch as norse
import numpy as np
import onnx
import pytest
import snntorch as snn
import torch
from sinabs.activation import SingleSpike
from sinabs.layers import IAF, LIF, IAFSqueeze, LIFRecurrent, LIFSqueeze
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from spikec.compiler import ir, reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError, SpikecError, UsageError, VerificationError
from spikec.compiler.frontends import load_graph
from spikec.models import export_torch

pytestmark = pytest.mark.torch

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS, SAMPLES = 14, 3


def louder(network: nn.Module, factor: float) -> nn.Module:
    """Strengthen the weights, so that an untrained network is active."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.data *= factor
    return network


class HandedOn(nn.Module):
    """snnTorch as its tutorials have it: the states go through ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(20, 30), snn.Leaky(beta=0.9, reset_mechanism="zero")
        self.fc2 = nn.Linear(30, 10)
        self.lif2 = snn.RSynaptic(alpha=0.5, beta=0.8, linear_features=10)

    def forward(self, x: Tensor, mem1: Any, spk2: Any, syn2: Any, mem2: Any) -> tuple[Tensor, ...]:
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, syn2, mem2 = self.lif2(self.fc2(spk1), spk2, syn2, mem2)
        return spk2, mem1, spk2, syn2, mem2


class NorseNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(20, 30), norse.LIFCell()
        self.lif2 = norse.LIFRecurrentCell(30, 10)

    def forward(self, x: Tensor, s1: Any = None, s2: Any = None) -> tuple[Any, ...]:
        z, s1 = self.lif1(self.fc1(x), s1)
        z, s2 = self.lif2(z, s2)
        return z, s1, s2


class OwnNeuron(nn.Module):
    """A neuron of one's own that remembers its membrane, and other things that are no state."""

    def __init__(self, start: Tensor | None = None) -> None:
        super().__init__()
        self.mem, self.last, self.rate = start, None, None

    def forward(self, x: Tensor) -> Tensor:
        mem = torch.zeros_like(x) if self.mem is None else self.mem
        mem = 0.9 * mem + x
        self.last = (mem > 1).to(x)
        self.mem, self.rate = mem - self.last, self.last.mean()
        return self.last


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.a = layer.Linear(20, 20), neuron.IFNode()
        self.inner, self.b = layer.Linear(20, 20), neuron.IFNode(v_reset=None)
        self.last, self.c = layer.Linear(20, 10), neuron.LIFNode(v_threshold=0.7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.first(x))
        return self.c(self.last(y + self.b(self.inner(y))))


def jelly(mode: str) -> nn.Module:
    network = nn.Sequential(
        layer.Conv2d(2, 4, 3, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(36, 10),
        neuron.ParametricLIFNode(init_tau=1.5, v_reset=-0.2),
    )
    functional.set_step_mode(network, mode)
    return louder(network, 9)


def step_by_step(network: nn.Module, spikes: Tensor) -> Tensor:
    """Run ``[sample, step, ...]``: states stay in the modules, or are handed on."""
    rows, states = [], ()
    for now in spikes.unbind(1):
        row = network(now, *states)
        if isinstance(row, tuple):
            row, *states = row
        rows.append(row)
    return torch.stack(rows, 1)


def time_first(network: nn.Module, spikes: Tensor) -> Tensor:
    result = network(spikes.transpose(0, 1))
    return (result[0] if isinstance(result, tuple) else result).transpose(0, 1)


def merged(network: nn.Module, spikes: Tensor) -> Tensor:
    return network(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])


Case = tuple[Callable[[], nn.Module], Any, Callable[[nn.Module, Tensor], Tensor], set[str]]
CASES: dict[str, Case] = {
    "snntorch-hidden": (
        lambda: louder(
            nn.Sequential(
                *(nn.Linear(20, 30), snn.Synaptic(alpha=0.6, beta=0.9, init_hidden=True)),
                *(nn.Linear(30, 10), snn.Leaky(beta=0.9, init_hidden=True, output=True)),
            ),
            2,
        ),
        20,
        lambda network, spikes: torch.stack([network(now)[0] for now in spikes.unbind(1)], 1),
        {"1.syn", "1.mem", "3.mem"},
    ),
    "snntorch-convolution": (
        lambda: louder(
            nn.Sequential(
                *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), snn.Leaky(beta=0.9, init_hidden=True)),
                *(nn.AvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(36, 10)),
                snn.RLeaky(beta=0.9, linear_features=10, init_hidden=True),
            ),
            3,
        ),
        (2, 8, 8),
        step_by_step,
        {"2.mem", "7.spk", "7.mem"},
    ),
    "snntorch-handed-on": (
        lambda: louder(HandedOn(), 2),
        20,
        lambda network, spikes: step_by_step(
            lambda x, *states: network(x, *(states or [None] * 4)), spikes
        ),
        {"lif1.mem", "lif2.spk", "lif2.syn", "lif2.mem"},
    ),
    "norse-sequential": (
        lambda: louder(
            norse.SequentialState(
                *(nn.Linear(20, 30), norse.LIFCell(norse.LIFParameters(v_leak=torch.tensor(0.1)))),
                *(nn.Linear(30, 10), norse.LIFBoxCell()),
            ),
            8,
        ),
        20,
        step_by_step,
        {"1.v", "1.i", "3.v"},
    ),
    "norse-refractory": (
        lambda: louder(
            norse.SequentialState(
                *(nn.Linear(20, 30), norse.LIFRefracCell(), nn.Linear(30, 10), norse.LIFCell())
            ),
            20,
        ),
        20,
        step_by_step,
        {"1.v", "1.i", "1.rho", "3.v", "3.i"},
    ),
    "norse-own": (
        lambda: louder(NorseNetwork(), 8),
        20,
        step_by_step,
        {"lif1.v", "lif1.i", "lif2.z", "lif2.v", "lif2.i"},
    ),
    "norse-time": (
        lambda: louder(norse.SequentialState(nn.Linear(20, 30), norse.LIF()), 8),
        20,
        time_first,
        {"1.v", "1.i"},
    ),
    "spikingjelly-s": (lambda: jelly("s"), (2, 8, 8), step_by_step, {"2.v", "6.v"}),
    "spikingjelly-m": (lambda: jelly("m"), (2, 8, 8), time_first, {"2.v", "6.v"}),
    "spikingjelly-residual": (
        lambda: louder(Residual(), 3),
        20,
        step_by_step,
        {"a.v", "b.v", "c.v"},
    ),
    "spikingjelly-container": (
        lambda: louder(
            nn.Sequential(
                layer.Linear(20, 30),
                layer.LinearRecurrentContainer(
                    neuron.LIFNode(), in_features=30, out_features=30, step_mode="s"
                ),
                *(layer.Linear(30, 10), neuron.IFNode()),
            ),
            4,
        ),
        20,
        step_by_step,
        {"1.y", "1.sub_module.v", "3.v"},
    ),
    "spikingjelly-max-pooling": (
        lambda: louder(
            nn.Sequential(
                *(layer.Conv2d(2, 4, 3), neuron.IFNode(), layer.MaxPool2d(2), layer.Flatten()),
                *(layer.Linear(36, 10), neuron.IFNode()),
            ),
            5,
        ),
        (2, 8, 8),
        step_by_step,
        {"1.v", "5.v"},
    ),
    "spikingjelly-recurrent": (
        lambda: louder(
            nn.Sequential(
                nn.Linear(20, 10),
                layer.ElementWiseRecurrentContainer(
                    neuron.LIFNode(), lambda x, y: x + 0.3 * y, step_mode="s"
                ),
            ),
            12,
        ),
        20,
        step_by_step,
        {"1.y", "1.sub_module.v"},
    ),
    "sinabs": (
        lambda: louder(
            nn.Sequential(
                *(nn.Linear(20, 30), LIF(tau_mem=10.0, tau_syn=5.0, spike_fn=SingleSpike)),
                *(nn.Linear(30, 10), IAF(spike_fn=SingleSpike)),
            ),
            6,
        ),
        20,
        lambda network, spikes: network(spikes),
        {"1.v_mem", "1.i_syn", "3.v_mem"},
    ),
    "sinabs-squeezed": (
        lambda: louder(
            nn.Sequential(
                *(nn.Conv2d(2, 4, 3), IAFSqueeze(batch_size=SAMPLES, spike_fn=SingleSpike)),
                *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 10)),
                LIFSqueeze(tau_mem=5.0, num_timesteps=STEPS, spike_fn=SingleSpike),
            ),
            6,
        ),
        (2, 8, 8),
        merged,
        {"1.v_mem", "5.v_mem"},
    ),
    "own-neurons": (
        lambda: louder(
            nn.Sequential(
                *(nn.Linear(20, 30), OwnNeuron()),
                *(nn.Linear(30, 10), OwnNeuron(torch.zeros(1, 10))),
            ),
            2,
        ),
        20,
        step_by_step,
        {"1.mem", "3.mem"},
    ),
}


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def given_spikes(shape: Any) -> Tensor:
    extents = (shape,) if isinstance(shape, int) else shape
    return (torch.rand(SAMPLES, STEPS, *extents) < 0.4).float()


def states_of(path: Path) -> list[dict[str, Any]]:
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    states: list[dict[str, Any]] = json.loads(metadata["snn.states"])
    return states


def spikes_of(path: Path, spikes: Tensor) -> Array:
    graph = load_graph(path)
    (source,) = graph.inputs
    trace = reference.run(graph, {source.name: spikes.numpy()}, dtype=np.float32)
    return trace.spikes(graph.outputs[0]).reshape(SAMPLES, STEPS, -1)


@pytest.mark.parametrize("name", CASES)
def test_the_file_spikes_as_the_framework_does(name: str, tmp_path: Path) -> None:
    make, shape, play, states = CASES[name]
    network = make()
    graph = export_torch(network, tmp_path / "net.onnx", inputs=shape)
    assert {item["input"] for item in states_of(tmp_path / "net.onnx")} == states
    spikes = given_spikes(shape)
    with torch.no_grad():
        theirs = play(network.eval(), spikes).flatten(2).numpy()
    np.testing.assert_array_equal(spikes_of(tmp_path / "net.onnx", spikes), theirs)
    assert 0.005 < theirs.mean() < 0.95
    assert graph.choices[-1].what == "compared with PyTorch"


LEGACY = ("snntorch-convolution", "norse-own", "spikingjelly-m", "sinabs-squeezed")


@pytest.mark.filterwarnings("ignore:You are using the legacy:DeprecationWarning")
@pytest.mark.parametrize("name", LEGACY)
def test_the_tracing_exporter_writes_the_same_network(name: str, tmp_path: Path) -> None:
    make, shape, play, _ = CASES[name]
    network = make()
    export_torch(network, tmp_path / "net.onnx", inputs=shape, dynamo=False)
    assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == 17
    spikes = given_spikes(shape)
    with torch.no_grad():
        theirs = play(network.eval(), spikes).flatten(2).numpy()
    np.testing.assert_array_equal(spikes_of(tmp_path / "net.onnx", spikes), theirs)


@pytest.mark.filterwarnings("ignore:You are using the legacy:DeprecationWarning")
def test_the_tracing_exporter_writes_snntorch_without_reset_delay(tmp_path: Path) -> None:
    given: dict[str, Any] = {"beta": 0.9, "init_hidden": True, "reset_delay": False}
    layers = (nn.Linear(20, 30), snn.Leaky(**given), nn.Linear(30, 10), snn.RLeaky(
        **given, linear_features=10))  # fmt: skip
    network = louder(nn.Sequential(*layers), 3)
    graph = export_torch(network, tmp_path / "net.onnx", inputs=20, dynamo=False)
    driven = [node for node in graph.populations if graph.edges_into(node.name)]
    assert [getattr(node, "reset_twice", None) for node in driven] == [True, True]
    spikes = given_spikes(20)
    with torch.no_grad():
        theirs = step_by_step(network.eval(), spikes).flatten(2).numpy()
    np.testing.assert_array_equal(spikes_of(tmp_path / "net.onnx", spikes), theirs)
    assert 0.005 < theirs.mean() < 0.95


def everything(network: nn.Module) -> dict[str, Any]:
    """Return all that the modules hold: states, modes, methods, hooks."""
    held: dict[str, Any] = {}
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            inner = value if isinstance(value, dict) else {"": value}
            for key, item in inner.items():
                copy = item.detach().clone() if torch.is_tensor(item) else repr(item)
                held[f"{path}/{name}/{key}"] = (id(item) if torch.is_tensor(item) else 0, copy)
    return held


@pytest.mark.parametrize("name", ["snntorch-convolution", "norse-own", "spikingjelly-s", "sinabs"])
@pytest.mark.parametrize("dynamo", [True, False])
def test_the_network_is_left_as_it_was(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, shape, play, _ = CASES[name]
    network = make().train()
    with torch.no_grad():
        play(network, given_spikes(shape))
    before, chance = everything(network), torch.random.get_rng_state()
    export_torch(network, tmp_path / "net.onnx", inputs=shape, dynamo=dynamo)
    after = everything(network)
    assert torch.equal(chance, torch.random.get_rng_state())
    assert list(before) == list(after)
    for key, (place, value) in before.items():
        assert after[key][0] == place, key
        same = after[key][1]
        assert torch.equal(value, same) if torch.is_tensor(value) else value == same, key
    assert network.training
    assert torch.is_grad_enabled()


def test_states_start_where_the_framework_starts_them(tmp_path: Path) -> None:
    network = louder(
        nn.Sequential(nn.Linear(20, 30), neuron.LIFNode(v_reset=-0.25), neuron.IFNode()), 4
    )
    graph = export_torch(network, tmp_path / "net.onnx", inputs=20)
    assert [item["init"] for item in states_of(tmp_path / "net.onnx")] == [-0.25, 0.0]
    first, second = graph.populations[-2:]
    assert float(first.initial_voltage.min()) == float(first.initial_voltage.max()) == -0.25
    assert not second.initial_voltage.any()


def seed_step(x: Tensor, current: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    weight = torch.linspace(-0.4, 0.8, 120).reshape(20, 6)
    z = (u > 1).to(x)
    return z, 0.8 * current + x @ weight, 0.9 * u + current - z


def test_a_function_names_its_states_and_the_time_step_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    graph = export_torch(seed_step, path, inputs={"x": 20}, states={"I": 6, "U": 6}, dt=2e-3)
    (population,) = graph.populations
    assert isinstance(population, ir.LIF)
    assert (population.coupling, population.reset_order) == ("delayed", "next_step")
    np.testing.assert_allclose(population.alpha, 0.8, rtol=1e-6)
    assert graph.dt == load_graph(path).dt == 2e-3
    assert [node.name for node in graph.inputs] == ["x"]


def test_a_method_is_exported_for_inference(tmp_path: Path) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm, self.drop = nn.Linear(20, 6), nn.BatchNorm1d(6), nn.Dropout()

        def one_step(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            u = 0.9 * u + self.drop(self.norm(self.fc(x)))
            z = (u >= 0.5).to(x)
            return z, u * (1 - z)

    network = Network().train()
    mean = network.norm.running_mean.clone()
    export_torch(network.one_step, tmp_path / "net.onnx", inputs=20, states={"u": 6})
    assert network.training
    assert network.norm.training
    assert torch.equal(mean, network.norm.running_mean)


def test_nothing_of_the_machine_is_in_the_file(tmp_path: Path) -> None:
    make, shape, _, _ = CASES["snntorch-hidden"]
    export_torch(make(), tmp_path / "net.onnx", inputs=shape)
    content = (tmp_path / "net.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(20, 10), snn.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem, rows = self.lif.reset_mem(), []
        for now in x:
            row, mem = self.lif(self.fc(now), mem)
            rows.append(row)
        return torch.stack(rows)


class InPlace(OwnNeuron):
    def forward(self, x: Tensor) -> Tensor:
        spikes = (self.mem.mul_(0.9).add_(x) > 1).to(x)
        self.mem.sub_(spikes)
        return spikes


class Secret(nn.Module):
    """Remembers in a list, where no tensor attribute is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.past = nn.Linear(20, 10), neuron.IFNode(), []

    def forward(self, x: Tensor) -> Tensor:
        drive = self.fc(x) + (0.5 * self.past[-1] if self.past else 0)
        self.past.append(self.lif(drive))
        return self.past[-1]


def after(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(20, 10), *modules)


REFUSED: dict[str, tuple[Callable[[], nn.Module], type[SpikecError], str]] = {
    "no-neurons": (lambda: after(nn.ReLU()), UsageError, "no module of it keeps a state"),
    "wrong-shape": (
        lambda: nn.Sequential(nn.Linear(21, 5), neuron.IFNode()),
        UsageError,
        "(1, 20)",
    ),
    "loop-over-time": (Loop, UsageError, "loops over time"),
    "in-place": (lambda: after(InPlace(torch.zeros(1, 10))), UsageError, "in place"),
    "stale-batch": (lambda: after(OwnNeuron(torch.zeros(64, 10))), UsageError, "reset the network"),
    "batch-statistics": (
        lambda: after(nn.BatchNorm1d(10, track_running_stats=False), neuron.IFNode()),
        UsageError,
        "track_running_stats",
    ),
    "two-time-axes": (
        lambda: after(neuron.IFNode(step_mode="m"), IAF(spike_fn=SingleSpike)),
        UsageError,
        "different axes",
    ),
    "given-twice": (
        lambda: norse.SequentialState(*[norse.LIFCell()] * 2),
        UsageError,
        "twice in a step",
    ),
    "not-exportable": (
        lambda: after(snn.Leaky(beta=0.9, init_hidden=True, reset_delay=False)),
        UsageError,
        "dynamo=False",
    ),
    "outside-the-family": (
        lambda: after(snn.Alpha(alpha=0.9, beta=0.8, init_hidden=True)),
        FrontendError,
        "several states",
    ),
    "state-in-a-list": (lambda: louder(Secret(), 4), VerificationError, "other spikes"),
    "sinabs-recurrence": (
        lambda: louder(
            after(LIFRecurrent(5.0, rec_connect=nn.Linear(10, 10), spike_fn=SingleSpike)), 9
        ),
        VerificationError,
        "other spikes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused_and_not_written(name: str, tmp_path: Path) -> None:
    make, kind, text = REFUSED[name]
    network = make()
    before = everything(network).keys()
    with pytest.raises(kind) as caught:
        export_torch(network, tmp_path / "net.onnx", inputs=20)
    assert text in str(caught.value)
    assert caught.value.diagnostics[0].hint
    assert not list(tmp_path.iterdir())
    assert everything(network).keys() == before


def test_a_step_must_return_its_states(tmp_path: Path) -> None:
    def forgetful(x: Tensor, u: Tensor) -> Tensor:
        return (u + x > 1).to(x)

    with pytest.raises(UsageError, match="1 states and returns 1 tensors"):
        export_torch(forgetful, tmp_path / "net.onnx", inputs=3, states={"u": 3})
    with pytest.raises(UsageError, match="no torch module"):
        export_torch(forgetful, tmp_path / "net.onnx", inputs=3)


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly", "torch"])
def test_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"export_{name}.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "the same" in shown
    assert "-bit integers" in shown
    assert (tmp_path / f"{name}.onnx").is_file()


def test_fine_tuning_at_two_bits_gains_accuracy_and_keeps_its_levels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The example itself fails where levels differ."""
    runpy.run_path(str(EXAMPLES / "finetune_quantized.py"), run_name="__main__")
    before, after = (float(text) for text in re.findall(r"([\d.]+)%", capsys.readouterr().out))
    assert before > 90
    assert after > before


def test_states_left_over_from_training_do_not_matter(tmp_path: Path) -> None:
    network = louder(after(snn.Leaky(beta=0.9, init_hidden=True)), 3)
    utils.reset(network)
    fresh = export_torch(network, tmp_path / "fresh.onnx", inputs=20)
    for batch in (64, 1):
        network(torch.ones(batch, 20)).sum().backward()
        used = export_torch(network, tmp_path / "used.onnx", inputs=20)
        assert used.source.sha256 == fresh.source.sha256
