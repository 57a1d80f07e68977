"""Export one-step networks of every framework as ONNX files, with the framework's own spikes.

Run it where torch, snntorch, norse, spikingjelly, sinabs, rockpool and onnxscript are
installed (versions in ``tests/data/onnx/README.md``)::

    python tests/tools/make_onnx_fixtures.py tests/data/onnx [NAME...]

With names, only those networks are made anew.
Each network is exported by both of torch's exporters, and a few at other opsets. What an
exporter cannot write is listed in ``cases.json`` with its error.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import norse.torch as norse
import numpy as np
import onnx
import sinabs.activation
import sinabs.layers
import snntorch
import torch
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
from rockpool.nn.modules import LIFTorch
from rockpool.nn.modules.torch.lif_torch import PeriodicExponential
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

SAMPLES, STEPS, INPUTS, HIDDEN, OUTPUTS = 4, 12, 8, 12, 5
#: Opsets beyond the default, for a few networks.
OPSETS = {"ts": (11, 13, 17), "dyn": (18, 23)}
Cell = Callable[..., Any]


class Heaviside(nn.Module):
    """A threshold in plain torch, for the exporter that does not know a framework's own."""

    def forward(self, x: Tensor) -> Tensor:
        return (x >= 0).to(x)


class Neuron(nn.Module):
    """A framework's neuron with all of its state as arguments: ``(x, *states)``."""

    def __init__(self, layer: nn.Module, states: str, call: Callable[..., tuple[Tensor, ...]]):
        super().__init__()
        self.layer, self.names, self.call = layer, states.split(), call

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        return self.call(self.layer, x, *states)


class Network(nn.Module):
    """Layers of a connection and a neuron; gives the last spikes, then every state."""

    def __init__(self, layers: list[tuple[nn.Module, Neuron]], shape: tuple[int, ...]):
        super().__init__()
        self.connections = nn.ModuleList(connection for connection, _ in layers)
        self.neurons = nn.ModuleList(neuron for _, neuron in layers)
        self.shape = shape

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        left, after = list(states), []
        self.spikes = []
        for connection, neuron in zip(self.connections, self.neurons, strict=True):
            count = len(neuron.names)
            x, *new = neuron(connection(x), *left[:count])
            left, after = left[count:], [*after, *new]
            self.spikes.append(x)
        return (x, *after)

    def state_names(self) -> list[str]:
        return [f"l{k}_{name}" for k, item in enumerate(self.neurons, 1) for name in item.names]

    def zeros(self, samples: int) -> list[Tensor]:
        """Return zero states of the right shapes."""
        x, states = torch.zeros(samples, *self.shape), []
        for connection, neuron in zip(self.connections, self.neurons, strict=True):
            x = torch.zeros_like(connection(x))
            states += [torch.zeros_like(x) for _ in neuron.names]
        return states


# --- the neurons ---------------------------------------------------------------------


def snn(kind: str, reset: str, **given: Any) -> Cell:
    names = {"Leaky": "mem", "Synaptic": "syn mem", "RLeaky": "spk mem",
             "RSynaptic": "spk syn mem", "Alpha": "syn_exc syn_inh mem"}[kind]  # fmt: skip

    def make(size: int) -> Neuron:
        options: dict[str, Any] = {"beta": 0.83, "threshold": 0.9, "reset_mechanism": reset}
        if kind in ("Synaptic", "RSynaptic", "Alpha"):
            options["alpha"] = 0.62 if kind != "Alpha" else 0.88
        if kind in ("RLeaky", "RSynaptic"):
            options |= {"linear_features": size}
        options |= {key: value(size) if callable(value) else value for key, value in given.items()}
        if not options.get("all_to_all", True):
            del options["linear_features"]

        def call(layer: nn.Module, *args: Tensor) -> tuple[Tensor, ...]:
            out = layer(*args)
            return (out[0], *out) if names.startswith("spk") else out

        return Neuron(getattr(snntorch, kind)(**options), names, call)

    return make


def norse_lif(kind: str, **given: float) -> Cell:
    fields = {"tau_mem_inv": 210.0, "tau_syn_inv": 330.0, "v_th": 0.55, "v_leak": 0.0, **given}

    def make(size: int) -> Neuron:
        p = {name: torch.tensor(value) for name, value in fields.items()}
        if kind == "LIF":
            layer = norse.LIFCell(norse.LIFParameters(**p))
            return Neuron(layer, "v i", _norse(norse.LIFFeedForwardState, "v i"))
        if kind == "LIFRecurrent":
            layer = norse.LIFRecurrentCell(size, size, norse.LIFParameters(**p))
            with torch.no_grad():
                layer.input_weights.copy_(torch.eye(size))
            return Neuron(layer, "z v i", _norse(norse.LIFState, "z v i"))
        if kind.startswith("LIFBox"):
            del p["tau_syn_inv"]
            more = {"reset_method": reset_subtract} if kind == "LIFBoxSubtract" else {}
            layer = norse.LIFBoxCell(LIFBoxParameters(**p, **more))
            return Neuron(layer, "v", _norse(LIFBoxFeedForwardState, "v"))
        layer = norse.LICell(norse.LIParameters(p["tau_syn_inv"], p["tau_mem_inv"], p["v_leak"]))
        return Neuron(layer, "v i", _norse(norse.LIState, "v i"))

    return make


def _norse(pack: Callable[..., Any], names: str) -> Callable[..., tuple[Tensor, ...]]:
    def call(layer: nn.Module, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        out, state = layer(x, pack(*states))
        return (out, *(getattr(state, name) for name in names.split()))

    return call


def spikingjelly(kind: str, *, plain: bool = True, **given: Any) -> Cell:
    def make(size: int) -> Neuron:
        shape = Heaviside() if plain else surrogate.ATan()
        layer = getattr(sj, kind)(surrogate_function=shape, **given)

        def call(layer: Any, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            layer.v = v
            return layer(x), layer.v

        return Neuron(layer, "v", call)

    return make


def sinabs_layer(kind: str, **given: Any) -> Cell:
    def make(size: int) -> Neuron:
        options = {"spike_fn": sinabs.activation.SingleSpike, **given}
        layer = getattr(sinabs.layers, kind)(**options)
        names = "v_mem i_syn" if options.get("tau_syn") else "v_mem"

        def call(layer: Any, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
            for name, value in zip(names.split(), states, strict=True):
                setattr(layer, name, value)
            spikes = layer(x.unsqueeze(1)).squeeze(1)
            return (spikes, *(getattr(layer, name) for name in names.split()))

        return Neuron(layer, names, call)

    return make


def rockpool(**given: Any) -> Cell:
    def make(size: int) -> Neuron:
        layer = LIFTorch(
            size,
            tau_mem=torch.tensor(0.012),
            tau_syn=torch.tensor(0.007),
            bias=torch.tensor(0.01),
            threshold=torch.tensor(0.8),
            dt=1e-3,
            **given,
        )

        def call(layer: Any, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
            layer.spikes, layer.isyn, layer.vmem = states[0][0], states[1][0, :, None], states[2][0]
            out, _, _ = layer(x.unsqueeze(1))
            return out.squeeze(1), layer.spikes[None], layer.isyn[None, :, 0], layer.vmem[None]

        return Neuron(layer, "spk isyn vmem", call)

    return make


class Seed(nn.Module):
    """The seed equations in plain torch, with recurrent weights."""

    def __init__(self, size: int):
        super().__init__()
        self.recurrent = nn.Parameter(torch.randn(size, size) / size)

    def forward(self, x: Tensor, current: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        z = (u - 1.0 > 0).to(u)
        current, u = 0.7 * current + x + z @ self.recurrent, 0.9 * u + current - z
        return z, current, u


def seed(size: int) -> Neuron:
    return Neuron(Seed(size), "I U", lambda layer, *args: layer(*args))


class Cuba(nn.Module):
    """lava-dl's CUBA in float: current first, then voltage, reset to zero at the spike."""

    def forward(self, x: Tensor, current: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        current = 0.6 * current + x
        v = 0.85 * v + current
        z = v >= 1.1
        return z.to(v), current, torch.where(z, torch.zeros_like(v), v)


def cuba(size: int) -> Neuron:
    return Neuron(Cuba(), "current voltage", lambda layer, *args: layer(*args))


def per_neuron(low: float, high: float) -> Callable[[int], Tensor]:
    return lambda size: torch.linspace(low, high, size)


def neurons() -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for kind in ("Leaky", "Synaptic", "RLeaky", "RSynaptic"):
        for reset in ("subtract", "zero", "none"):
            cells[f"snntorch-{kind}-{reset}"] = snn(kind, reset)
    learned = {"beta": per_neuron(0.5, 1.05), "threshold": per_neuron(0.6, 1.2),
               "learn_beta": True, "learn_threshold": True}  # fmt: skip
    for reset in ("subtract", "zero"):
        cells[f"snntorch-Leaky-{reset}-learned"] = snn("Leaky", reset, **learned)
    cells["snntorch-RSynaptic-subtract-learned"] = snn(
        "RSynaptic", "subtract", alpha=per_neuron(0.3, 0.9), learn_alpha=True, **learned
    )
    cells["snntorch-RLeaky-subtract-elementwise"] = snn(
        "RLeaky", "subtract", all_to_all=False, V=per_neuron(-0.4, 0.7)
    )
    cells["snntorch-Leaky-subtract-at_once"] = snn("Leaky", "subtract", reset_delay=False)
    cells["snntorch-Alpha-subtract"] = snn("Alpha", "subtract")
    cells["norse-LIF"] = norse_lif("LIF")
    cells["norse-LIF-offsets"] = norse_lif("LIF", v_leak=0.1, v_reset=-0.15)
    cells["norse-LIFRecurrent"] = norse_lif("LIFRecurrent")
    cells["norse-LIFBox"] = norse_lif("LIFBox", v_reset=-0.1)
    cells["norse-LIFBox-subtract"] = norse_lif("LIFBoxSubtract")
    soft: dict[str, Any] = {"v_reset": None}
    for kind in ("IF", "LIF", "ParametricLIF"):
        cells[f"spikingjelly-{kind}-hard"] = spikingjelly(f"{kind}Node")
        cells[f"spikingjelly-{kind}-soft"] = spikingjelly(f"{kind}Node", **soft)
        cells[f"spikingjelly-{kind}-own_surrogate"] = spikingjelly(f"{kind}Node", plain=False)
    cells["spikingjelly-LIF-hard-input_kept"] = spikingjelly(
        "LIFNode", tau=2.7, decay_input=False, v_reset=-0.2, v_threshold=0.8
    )
    cells["spikingjelly-LIF-soft-input_kept"] = spikingjelly(
        "LIFNode", tau=2.7, decay_input=False, **soft
    )
    cells["sinabs-LIF"] = sinabs_layer("LIF", tau_mem=9.0)
    cells["sinabs-LIF-synapse"] = sinabs_layer("LIF", tau_mem=9.0, tau_syn=4.0)
    cells["sinabs-LIF-synapse-unnormed"] = sinabs_layer(
        "LIF", tau_mem=9.0, tau_syn=4.0, norm_input=False
    )
    cells["sinabs-IAF"] = sinabs_layer("IAF")
    cells["sinabs-LIF-reset_to"] = sinabs_layer(
        "LIF", tau_mem=6.0, norm_input=False, reset_fn=sinabs.activation.MembraneReset()
    )
    cells["sinabs-IAF-multi_spike"] = sinabs_layer("IAF", spike_fn=sinabs.activation.MultiSpike)
    cells["sinabs-LIF-floor"] = sinabs_layer("LIF", tau_mem=9.0, min_v_mem=-0.5)
    cells["rockpool-LIF"] = rockpool()
    cells["rockpool-LIF-single_spike"] = rockpool(max_spikes_per_dt=torch.tensor(1))
    cells["rockpool-LIF-recurrent"] = rockpool(
        has_rec=True, weight_init_func=lambda shape: torch.randn(shape) * 0.02
    )
    cells["torch-seed"], cells["torch-cuba"] = seed, cuba
    return cells


def counting() -> dict[str, Cell]:
    """Neurons of several spikes a step, with and without limits and floors."""
    several = {"spike_fn": sinabs.activation.MultiSpike}
    few = {"spike_fn": sinabs.activation.MaxSpike(max_num_spikes_per_bin=3)}
    return {
        "sinabs-LIF-multi_spike": sinabs_layer("LIF", tau_mem=9.0, **several),
        "sinabs-LIF-multi_spike-synapse-floor": sinabs_layer(
            "LIF", tau_mem=9.0, tau_syn=4.0, norm_input=False, min_v_mem=-0.6,
            spike_threshold=torch.tensor(0.7), **several
        ),
        "sinabs-LIF-multi_spike-reset_to": sinabs_layer(
            "LIF", tau_mem=6.0, reset_fn=sinabs.activation.MembraneReset(), **several
        ),
        "sinabs-IAF-max_spike-floor": sinabs_layer("IAF", min_v_mem=-0.9, **few),
        "rockpool-LIF-limited": rockpool(max_spikes_per_dt=torch.tensor(3)),
        "rockpool-LIF-periodic": rockpool(spike_generation_fn=PeriodicExponential),
    }  # fmt: skip


def at_once() -> dict[str, Cell]:
    """snnTorch's second reset, behind a current, and with feedback and learned thresholds."""
    learned = {"beta": per_neuron(0.5, 1.05), "threshold": per_neuron(0.6, 1.2),
               "learn_beta": True, "learn_threshold": True}  # fmt: skip
    return {
        "snntorch-Synaptic-subtract-at_once": snn("Synaptic", "subtract", reset_delay=False),
        "snntorch-RLeaky-subtract-learned-at_once": snn(
            "RLeaky", "subtract", all_to_all=False, V=per_neuron(-0.4, 0.7), reset_delay=False,
            **learned,
        ),
    }  # fmt: skip


# --- the networks --------------------------------------------------------------------


def scaled(layer: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for name, values in layer.named_parameters():
            size = values[0].numel() if values.dim() > 1 else 9
            spread = torch.randn_like(values) * factor / np.sqrt(0.35 * size)
            values.copy_(spread * (0.4 if name.endswith("bias") else 1.0) + 0.15)
    return layer


def dense(cell: Cell, factor: float) -> Network:
    first, second = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS, bias=False)
    layers = [(scaled(first, factor), cell(HIDDEN)), (scaled(second, factor), cell(OUTPUTS))]
    return Network(layers, (INPUTS,))


def normalisation(channels: int, kind: type[nn.Module]) -> nn.Module:
    layer: Any = kind(channels)
    with torch.no_grad():
        layer.weight.uniform_(0.8, 1.6)
        layer.bias.uniform_(-0.1, 0.4)
        layer.running_mean.uniform_(-0.2, 0.2)
        layer.running_var.uniform_(0.5, 1.5)
    return layer


def convolutional(cell: Cell) -> Network:
    """Convolutions with stride, padding, dilation and groups; normalisation; both poolings."""
    first = nn.Sequential(
        scaled(nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), 1.5),
        normalisation(4, nn.BatchNorm2d),
    )
    second = nn.Sequential(
        nn.AvgPool2d(2, stride=1),
        scaled(nn.Conv2d(4, 4, 2, padding=1, dilation=2, groups=2), 2.0),
    )
    third = nn.Sequential(nn.Dropout(), nn.Flatten(), scaled(nn.Linear(16, OUTPUTS), 1.5))
    neurons = [cell(4), cell(4), cell(OUTPUTS)]
    return Network(list(zip((first, second, third), neurons, strict=True)), (2, 6, 6))


def row(cell: Cell) -> Network:
    """One-dimensional convolution and normalisation."""
    first = nn.Sequential(
        scaled(nn.Conv1d(2, 3, 3, padding=1), 1.5), normalisation(3, nn.BatchNorm1d)
    )
    second = nn.Sequential(nn.AvgPool1d(2), nn.Flatten(), scaled(nn.Linear(9, OUTPUTS), 1.5))
    return Network([(first, cell(3)), (second, cell(OUTPUTS))], (2, 6))


class Residual(nn.Module):
    """``x + f(x)``: spikes and what is made of them, added."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def residual(cell: Cell) -> Network:
    layers = [
        (scaled(nn.Linear(INPUTS, HIDDEN), 1.5), cell(HIDDEN)),
        (Residual(scaled(nn.Linear(HIDDEN, HIDDEN), 1.0)), cell(HIDDEN)),
        (scaled(nn.Linear(HIDDEN, OUTPUTS), 1.5), cell(OUTPUTS)),
    ]
    return Network(layers, (INPUTS,))


def readout(cell: Cell) -> Network:
    first, second = scaled(nn.Linear(INPUTS, HIDDEN), 2.0), scaled(nn.Linear(HIDDEN, OUTPUTS), 1.0)
    return Network([(first, cell(HIDDEN)), (second, norse_lif("LI")(OUTPUTS))], (INPUTS,))


#: Input gains of neurons that divide what they get.
GAINS = {"norse": 3.0, "spikingjelly-LIF": 3.0, "spikingjelly-Param": 3.0, "sinabs-LIF": 6.0,
         "sinabs-LIF-synapse": 4.0, "sinabs-LIF-synapse-unnormed": 1.2, "rockpool": 0.05,
         "rockpool-LIF-single_spike": 0.2,
         "rockpool-LIF-limited": 0.1, "sinabs-IAF": 1.5, "sinabs-LIF-multi_spike": 12.0,
         "sinabs-LIF-multi_spike-synapse-floor": 1.5, "sinabs-LIF-reset_to": 1.5}  # fmt: skip


def gain_of(name: str) -> float:
    fitting = [prefix for prefix in GAINS if name.startswith(prefix)]
    return GAINS[max(fitting, key=len)] if fitting else 1.5


def networks() -> Iterator[tuple[str, Callable[[], Network]]]:
    cells = neurons()
    for name, cell in cells.items():
        gain = gain_of(name)
        yield name, lambda cell=cell, gain=gain: dense(cell, gain)
    for name in ("snntorch-Leaky-subtract", "spikingjelly-IF-hard", "spikingjelly-IF-soft",
                 "torch-cuba"):  # fmt: skip
        yield f"conv-{name}", lambda cell=cells[name]: convolutional(cell)
    yield "conv1d-snntorch-Leaky-zero", lambda: row(cells["snntorch-Leaky-zero"])
    yield "residual-snntorch-Leaky-subtract", lambda: residual(cells["snntorch-Leaky-subtract"])
    yield "residual-sinabs-IAF", lambda: residual(cells["sinabs-IAF"])
    yield "readout-norse-LIF", lambda: readout(cells["norse-LIF"])
    for name, cell in counting().items():
        gain = gain_of(name)
        yield name, lambda cell=cell, gain=gain: dense(cell, gain)
    yield "conv-sinabs-IAF-multi_spike", lambda: convolutional(cells["sinabs-IAF-multi_spike"])
    for name, cell in at_once().items():
        yield name, lambda cell=cell: dense(cell, 1.5)


# --- export --------------------------------------------------------------------------


def export(network: Network, path: Path, exporter: str, opset: int) -> None:
    arguments = (torch.zeros(1, *network.shape), *network.zeros(1))
    names = network.state_names()
    given: dict[str, Any] = {"opset_version": opset}
    if exporter == "dyn":
        given |= {"dynamo": True, "external_data": False, "verbose": False}
        given |= {"input_names": ["x", *names], "output_names": ["spk", *_next(names)]}
    else:  # without names, so that states are paired by position
        given |= {"dynamo": False}
    with torch.no_grad():
        torch.onnx.export(network, arguments, str(path), **given)
    onnx.save(stripped(onnx.load(path)), path)


def _next(names: list[str]) -> list[str]:
    return [f"{name}_next" for name in names]


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what tells where and when the file was made: stack traces, notes."""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for entry in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del entry.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.value_info[:]
    return model


def record(network: Network, x: Tensor) -> list[np.ndarray]:
    """Run the framework itself, sample by sample; return what each layer gives."""
    layers: list[list[list[Tensor]]] = []
    for sample in x:
        states = network.zeros(1)
        rows = []
        for now in sample:
            _, *states = network(now[None], *states)
            rows.append([item[0].clone() for item in network.spikes])
        layers.append(rows)
    count = len(network.neurons)
    return [
        torch.stack([torch.stack([row[k] for row in rows]) for rows in layers]).numpy()
        for k in range(count)
    ]


def main(folder: Path, wanted: list[str]) -> None:
    cases: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    if wanted:
        cases = json.loads((folder / "cases.json").read_text())
        with np.load(folder / "traces.npz") as archive:
            arrays = dict(archive)
    for number, (name, make) in enumerate(networks()):
        if wanted and name not in wanted:
            continue
        torch.manual_seed(number)
        network = make().eval()
        x = (torch.rand(SAMPLES, STEPS, *network.shape) < 0.4).float()
        with torch.no_grad():
            layers = record(network, x)
        arrays[f"{name}/x"] = x.numpy().astype(np.uint8)
        for index, values in enumerate(layers):
            kind = np.float32 if name.startswith("readout") and index else np.uint8
            assert kind is np.float32 or values.max() < 255, name
            arrays[f"{name}/layer{index}"] = values.astype(kind)
        rates = [round(float(values.mean()), 2) for values in layers]
        cases[name] = {"files": [], "failed": {}, "rates": rates}
        sys.stdout.write(f"{name} {rates}\n")
        for exporter, default in (("ts", 17), ("dyn", 20)):
            more = OPSETS[exporter] if name in OTHER_OPSETS else ()
            for opset in sorted({default, *more}):
                file = f"{name}.{exporter}{opset}.onnx"
                try:
                    export(network, folder / file, exporter, opset)
                except Exception as error:  # noqa: BLE001 - what an exporter cannot write counts too
                    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                    text = re.sub("\x1b.*?m", "", text)
                    cases[name]["failed"][f"{exporter}{opset}"] = text[:160]
                    (folder / file).unlink(missing_ok=True)
                else:
                    cases[name]["files"].append(file)
    (folder / "cases.json").write_text(json.dumps(cases, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(folder / "traces.npz", **arrays)


OTHER_OPSETS = ("snntorch-Synaptic-zero", "norse-LIF-offsets", "spikingjelly-LIF-hard",
                "sinabs-LIF-synapse", "conv-spikingjelly-IF-hard")  # fmt: skip

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), sys.argv[2:])
