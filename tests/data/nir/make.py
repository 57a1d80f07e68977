"""Make the files of this folder: small random networks, exported and run by their frameworks.

Not run by the tests. With torch 2.13.0, snnTorch 1.0.0, Norse 1.1.0, SpikingJelly
2.0.0, sinabs 3.1.3, rockpool 3.1.0, nir 1.0.8, nirtorch 2.6: ``python make.py NAME``.
Each ``NAME.npz`` holds ``spikes`` [sample, step, ...] and the framework's spikes of
each population under its name in the file.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import nir
import numpy as np
import torch

SAMPLES, STEPS, INPUTS = 4, 40, 8
torch.manual_seed(1)
spikes = (torch.rand(SAMPLES, STEPS, INPUTS) < 0.3).float()


def linear(inputs: int, outputs: int, scale: float = 1.0) -> torch.nn.Linear:
    layer = torch.nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0.15 * scale, 0.4 * scale)
        layer.bias.normal_(0.0, 0.05 * scale)
    return layer


def save(name: str, graph: nir.NIRGraph, given: torch.Tensor, **recorded: list) -> None:
    nir.write(f"{name}.nir", graph)
    truth = {key: torch.stack(value, 1).detach().numpy() for key, value in recorded.items()}
    arrays = {key.replace("__", "."): values.astype(np.uint8) for key, values in truth.items()}
    np.savez_compressed(f"{name}.npz", spikes=given.numpy().astype(np.uint8), **arrays)


def snntorch_rsynaptic(reset: str) -> None:
    import snntorch
    from snntorch.export_nir import export_to_nir

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = linear(INPUTS, 6)
            self.lif1 = snntorch.RSynaptic(
                alpha=0.6, beta=0.8, linear_features=6, reset_mechanism=reset, init_hidden=False
            )
            with torch.no_grad():
                self.lif1.recurrent.weight.normal_(0, 0.5)
            self.fc2 = linear(6, 3)
            self.lif2 = snntorch.Leaky(
                beta=torch.tensor([0.5, 0.9, 1.0 if reset == "zero" else 0.7]),
                threshold=torch.ones(3),
                reset_mechanism=reset,
            )

        def forward(self, x, state=None):
            if state is None:
                state = (*self.lif1.init_rsynaptic(), self.lif2.init_leaky())
            s1, i1, m1 = self.lif1(self.fc1(x), state[0], state[1], state[2])
            s2, m2 = self.lif2(self.fc2(s1), state[3])
            return s2, (s1, i1, m1, m2)

    net = Net()

    class Plain(torch.nn.Module):
        """The same modules in a row, as the exporter wants them."""

        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1, self.fc2, self.lif2 = net.fc1, net.lif1, net.fc2, net.lif2

        def forward(self, x):
            s1, _, _ = self.lif1(self.fc1(x), *self.lif1.init_rsynaptic())
            s2, _ = self.lif2(self.fc2(s1), self.lif2.init_leaky())
            return s2

    graph = export_to_nir(Plain(), spikes[0, 0])
    first, second, state = [], [], None
    for step in range(STEPS):
        s2, state = net(spikes[:, step], state)
        first.append(state[0])
        second.append(s2)
    save(f"snntorch_rsynaptic_{reset}", graph, spikes, lif1__lif=first, lif2=second)


def rockpool_lif(most: int = 1) -> None:
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules import LIFTorch, LinearTorch
    from rockpool.nn.modules.torch.nir import to_nir

    several = most > 1
    limit = {} if several else {"max_spikes_per_dt": most}
    net = Sequential(
        LinearTorch((INPUTS, 6), has_bias=False),
        LIFTorch(6, tau_mem=0.01, tau_syn=0.005, dt=1e-3, threshold=1.0, **limit),
        LinearTorch((6, 3), has_bias=False),
        LIFTorch(3, tau_mem=0.02, tau_syn=0.004, dt=1e-3, threshold=1.0, **limit),
    )
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.normal_(0.03, 0.4 if several else 0.12)
        for layer in (net[1], net[3]):
            layer.bias.zero_()
    graph = to_nir(net, torch.zeros(1, 1, INPUTS))
    output, _, record = net(spikes, record=True)
    hidden = record["1_LIFTorch"]["spikes"]
    layers = {"1_LIFTorch": list(hidden.unbind(1)), "3_LIFTorch": list(output.unbind(1))}
    save("rockpool_several" if several else "rockpool_lif", graph, spikes, **layers)


def sinabs_conv() -> None:
    import sinabs.layers as sl
    from sinabs.activation import SingleSpike
    from sinabs.nir import to_nir

    picture = (torch.rand(SAMPLES, STEPS, 1, 6, 6) < 0.3).float()
    conv = torch.nn.Conv2d(1, 2, 3, stride=1, padding=1)
    layers = torch.nn.Sequential(
        conv,
        sl.IAFSqueeze(batch_size=SAMPLES, spike_fn=SingleSpike, min_v_mem=None),
        sl.SumPool2d(2),
        torch.nn.Flatten(),
        linear(18, 5, 2.0),
        sl.LIFSqueeze(
            tau_mem=torch.full((5,), 8.0),
            spike_threshold=torch.full((5,), 0.6),
            batch_size=SAMPLES,
            spike_fn=SingleSpike,
            norm_input=True,
        ),
    )
    with torch.no_grad():
        conv.weight.normal_(0.1, 0.3)
    seen = {}
    for name, layer in layers.named_children():
        layer.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    output = layers(picture.flatten(0, 1))
    hidden = seen["1"].unflatten(0, (SAMPLES, STEPS))
    output = output.unflatten(0, (SAMPLES, STEPS))
    graph = to_nir(layers, picture.flatten(0, 1))
    graph.nodes["0"].input_shape = (6, 6)  # the exporter leaves it out, nir 1.0.8 cannot write that
    graph.nodes["3"].input_type = {"input": np.array([2, 3, 3])}
    save("sinabs_conv", graph, picture, **{"1": list(hidden.unbind(1)),
                                           "5": list(output.unbind(1))})  # fmt: skip


def sinabs_several() -> None:
    """Neurons as they are by default: several spikes a step."""
    import sinabs.layers as sl
    from sinabs.nir import to_nir

    layers = torch.nn.Sequential(
        linear(INPUTS, 6, 3.0),
        sl.IAFSqueeze(batch_size=SAMPLES, spike_threshold=torch.tensor(0.8)),
        linear(6, 5, 2.0),
        sl.LIFSqueeze(
            tau_mem=torch.full((5,), 4.0),
            spike_threshold=torch.full((5,), 0.6),
            batch_size=SAMPLES,
            norm_input=True,
        ),
    )
    seen = {}
    layers[1].register_forward_hook(lambda _m, _i, out: seen.update(hidden=out))
    output = layers(spikes.flatten(0, 1)).unflatten(0, (SAMPLES, STEPS))
    hidden = seen["hidden"].unflatten(0, (SAMPLES, STEPS))
    graph = to_nir(layers, spikes.flatten(0, 1))
    save("sinabs_several", graph, spikes, **{"1": list(hidden.unbind(1)),
                                             "3": list(output.unbind(1))})  # fmt: skip


def sinabs_import() -> None:
    """A file that sinabs reads: IF neurons get a floor, and all send several spikes a step."""
    from sinabs.nir import from_nir

    first, second = linear(INPUTS, 6, 3.0), linear(6, 4, 2.0)
    nodes = {
        "input": nir.Input({"input": np.array([INPUTS])}),
        "0": nir.Affine(first.weight.detach().numpy(), first.bias.detach().numpy()),
        "1": nir.IF(r=np.ones(6), v_threshold=np.full(6, 0.7), v_reset=np.zeros(6)),
        "2": nir.Affine(second.weight.detach().numpy(), second.bias.detach().numpy()),
        "3": nir.LIF(tau=np.full(4, 5.0), r=np.ones(4), v_leak=np.zeros(4),
                     v_threshold=np.full(4, 0.9), v_reset=np.zeros(4)),
        "output": nir.Output({"output": np.array([4])}),
    }  # fmt: skip
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(names)))
    tensors = {
        name: type(node)(**{k: torch.tensor(np.float32(v)) for k, v in vars(node).items()
                            if isinstance(v, np.ndarray)})
        for name, node in nodes.items() if name in ("1", "3")
    }  # fmt: skip
    readable = nir.NIRGraph({**nodes, **tensors}, graph.edges)
    module = from_nir(readable, batch_size=SAMPLES)
    seen: dict[str, torch.Tensor] = {}
    for name, layer in module.named_modules():
        place = name.rpartition(".")[2]
        if place in ("1", "3"):
            layer.register_forward_hook(lambda _m, _i, out, place=place: seen.update({place: out}))
    module(spikes.flatten(0, 1))
    found = {name: values.unflatten(0, (SAMPLES, STEPS)) for name, values in seen.items()}
    save("sinabs_import", graph, spikes, **{k: list(v.unbind(1)) for k, v in found.items()})


def spikingjelly_cuba() -> None:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    net = torch.nn.Sequential(
        linear(INPUTS, 6),
        neuron.CUBALIFNode(c_decay=0.4, v_decay=0.7),
        linear(6, 4, 6.0),
        neuron.LIFNode(tau=4.0, decay_input=True, v_reset=-0.25),
        linear(4, 3, 2.0),
        neuron.LIFNode(tau=3.0, decay_input=False, v_reset=0.0),
    )
    functional.set_step_mode(net, "s")
    graph = export_to_nir(net, spikes[:1, 0])
    functional.reset_net(net)
    records: dict[str, list] = {"1": [], "3": [], "5": []}
    for name, record in records.items():
        net[int(name)].register_forward_hook(lambda _m, _i, out, record=record: record.append(out))
    for step in range(STEPS):
        net(spikes[:, step])
    save("spikingjelly_cuba", graph, spikes, **{f"_{k}": v for k, v in records.items()})


def norse_box() -> None:
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    slow = norse.LIFBoxParameters(
        tau_mem_inv=torch.tensor([80.0, 150.0, 200.0, 90.0, 60.0, 120.0]),
        v_leak=torch.full((6,), 0.1), v_th=torch.full((6,), 0.3), v_reset=torch.zeros(6),
    )  # fmt: skip
    syn = norse.LIFParameters(
        tau_syn_inv=torch.full((3,), 300.0), tau_mem_inv=torch.full((3,), 120.0),
        v_leak=torch.zeros(3), v_th=torch.full((3,), 0.4), v_reset=torch.zeros(3),
    )  # fmt: skip
    net = norse.SequentialState(
        linear(INPUTS, 6), norse.LIFBoxCell(slow), linear(6, 3, 2.0), norse.LIFCell(syn)
    )
    graph = to_nir(net, spikes[:1, 0])
    first, second = [], []
    net[1].register_forward_hook(lambda _m, _i, out: first.append(out[0]))
    net[3].register_forward_hook(lambda _m, _i, out: second.append(out[0]))
    first.clear()
    second.clear()
    state = None
    for step in range(STEPS):
        _, state = net(spikes[:, step], state)
    save("norse_box", graph, spikes, **{"1": first, "3": second})


MAKERS = {
    "snntorch_rsynaptic_subtract": lambda: snntorch_rsynaptic("subtract"),
    "snntorch_rsynaptic_zero": lambda: snntorch_rsynaptic("zero"),
    "rockpool_lif": rockpool_lif,
    "rockpool_several": lambda: rockpool_lif(1 << 16),
    "sinabs_conv": sinabs_conv,
    "sinabs_several": sinabs_several,
    "sinabs_import": sinabs_import,
    "spikingjelly_cuba": spikingjelly_cuba,
    "norse_box": norse_box,
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]]()
