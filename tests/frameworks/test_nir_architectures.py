"""Networks as tutorials and papers build them, exported to NIR by their frameworks: exact spikes.

Convolutions with batch normalisation fused, residual and SEW sums, recurrence, several spikes a
step, pictures and bytes that enter directly, events of both polarities, delays between steps.
``SPIKEC_NIGHTLY`` makes many more of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nir
import norse.torch as norse
import numpy as np
import pytest
import sinabs.activation as activation
import sinabs.layers as sl
import sinabs.nir
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spikec.compiler import reference
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import ReadOptions, nir_graph
from tests.frameworks.nir_exports import (
    SAMPLES,
    STEPS,
    dyadic,
    linear,
    nodes_with_v_reset,  # noqa: F401 - a fixture
    norse_file,
    save,
    snntorch_file,
    snntorch_output,
    spread,
    stateful_output,
)
from tests.support.nir_networks import edge_table, put

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("nodes_with_v_reset")]

SEEDS = 40 if os.environ.get("SPIKEC_NIGHTLY") else 3
SIZE = 8
Writer = Callable[[nn.Module, Tensor, Path], object]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network, data for it, how its framework writes and runs it, and what to say."""

    network: nn.Module
    shown: Tensor
    write: Writer
    run: Callable[[nn.Module, Tensor], Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)


# --- data


def spikes(*shape: int) -> Tensor:
    return (torch.rand(SAMPLES, STEPS, *shape) < 0.4).float()


def picture(*shape: int) -> Tensor:
    """One picture of grey values at every step: direct encoding."""
    still = torch.round(torch.rand(SAMPLES, 1, *shape) * 16) / 16
    return still.expand(SAMPLES, STEPS, *shape).contiguous()


def bytes_of(*shape: int) -> Tensor:
    still = torch.randint(0, 256, (SAMPLES, 1, *shape)).float()
    return still.expand(SAMPLES, STEPS, *shape).contiguous()


def events(*shape: int) -> Tensor:
    """Events of both polarities in one channel: -1, 0, 1."""
    signs = torch.randint(-1, 2, (SAMPLES, STEPS, *shape)).float()
    return signs * (torch.rand(SAMPLES, STEPS, *shape) < 0.6)


# --- layers


def conv(inputs: int, outputs: int, *, bias: bool = True, **more: Any) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, 3, bias=bias, **{"padding": 1, **more})
    made.weight.copy_(dyadic(*made.weight.shape, scale=1.2 / inputs**0.5))
    if bias:
        made.bias.copy_(dyadic(outputs, scale=0.1))
    return made


def normalised(inputs: int, outputs: int, **more: Any) -> nn.Conv2d:
    """Return a convolution with the batch normalisation after it fused into it."""
    norm = nn.BatchNorm2d(outputs).eval()
    norm.running_mean.copy_(torch.randn(outputs) * 0.2)
    norm.running_var.copy_(spread(0.5, 1.5, outputs))
    norm.weight.copy_(spread(0.5, 1.5, outputs))
    norm.bias.copy_(torch.randn(outputs) * 0.2)
    return fuse_conv_bn_eval(conv(inputs, outputs, bias=False, **more).eval(), norm)


def of_bytes(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a convolution that takes bytes: (x / 255 - mean) / std is part of it."""
    made = conv(inputs, outputs, padding=0)
    mean, std = 0.4, 0.3
    made.bias.copy_(made.bias - made.weight.sum((1, 2, 3)) * mean / std)
    made.weight.copy_(made.weight / (255 * std))
    return made


def leaky(beta: float = 0.8, **more: Any) -> nn.Module:
    return snn.Leaky(beta, threshold=0.93, init_hidden=True, **more)


class Summed(nn.Module):
    """Return after(x) of body(x) + x: a residual block, or SEW's where both are spikes."""

    def __init__(self, before: nn.Module, body: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.body, self.after = before, body, after

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        found: Tensor = self.after(self.body(x) + x)
        return found


# --- snnTorch


def of_snntorch(network: nn.Module, shown: Tensor, **options: Any) -> Architecture:
    usual = {"profile": "snntorch", "profile_defaults": True}
    return Architecture(
        network=network, shown=shown, write=snntorch_file, run=snntorch_output,
        options={**usual, **options},
    )  # fmt: skip


def flat(channels: int, extent: int, outputs: int = 10) -> list[nn.Module]:
    return [nn.Flatten(), linear(channels * extent * extent, outputs, 0.3)]


def snntorch_tutorial() -> Architecture:
    network = nn.Sequential(
        conv(1, 6), nn.AvgPool2d(2), leaky(), conv(6, 8), nn.AvgPool2d(2), leaky(),
        *flat(8, 2), leaky(),
    )  # fmt: skip
    return of_snntorch(network, spikes(1, SIZE, SIZE))


def snntorch_normalised() -> Architecture:
    network = nn.Sequential(
        normalised(2, 6, stride=2), leaky(), normalised(6, 8), leaky(0.6), *flat(8, 4), leaky(),
    )  # fmt: skip
    return of_snntorch(network, spikes(2, SIZE, SIZE))


def snntorch_dense_residual() -> Architecture:
    before = nn.Sequential(linear(12, 10), leaky())
    body, after = linear(10, 10), nn.Sequential(leaky(0.7), linear(10, 5), leaky())
    return of_snntorch(Summed(before, body, after), spikes(12))


def snntorch_sew() -> Architecture:
    """Spikes and spikes are added: the next convolution gets 0, 1 and 2."""
    before = nn.Sequential(normalised(2, 4), leaky())
    body = nn.Sequential(normalised(4, 4), leaky(0.6))
    after = nn.Sequential(normalised(4, 4), leaky(), *flat(4, SIZE), leaky())
    return of_snntorch(Summed(before, body, after), spikes(2, SIZE, SIZE))


def snntorch_recurrent() -> Architecture:
    one = snn.RSynaptic(0.5, 0.8, linear_features=10, init_hidden=True)
    two = snn.RLeaky(0.7, linear_features=8, init_hidden=True)
    for module in (one, two):
        module.recurrent.weight.copy_(dyadic(*module.recurrent.weight.shape, scale=0.3))
    network = nn.Sequential(linear(12, 10), one, linear(10, 8), two, linear(8, 5), leaky())
    return of_snntorch(network, spikes(12))


def snntorch_pictures() -> Architecture:
    network = nn.Sequential(conv(1, 4), leaky(), nn.AvgPool2d(2), *flat(4, 4), leaky())
    return of_snntorch(network, picture(1, SIZE, SIZE), inputs="analog:0..1")


def snntorch_bytes() -> Architecture:
    network = nn.Sequential(of_bytes(1, 4), leaky(), *flat(4, SIZE - 2), leaky())
    return of_snntorch(network, bytes_of(1, SIZE, SIZE), inputs="graded:0..255")


def snntorch_events() -> Architecture:
    network = nn.Sequential(conv(1, 6, stride=2), leaky(), *flat(6, 4), leaky())
    return of_snntorch(network, events(1, SIZE, SIZE), inputs="graded:-1..1")


# --- Norse


def of_norse(network: nn.Module, shown: Tensor, **options: Any) -> Architecture:
    usual = {"profile": "norse", "profile_defaults": True}
    return Architecture(
        network=network, shown=shown, write=norse_file, run=stateful_output,
        options={**usual, **options},
    )  # fmt: skip


def box(threshold: float = 0.31) -> nn.Module:
    own = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(threshold))
    return norse.LIFBoxCell(own)


def norse_convolutional() -> Architecture:
    network = norse.SequentialState(normalised(2, 6), box(), conv(6, 8, stride=2), box())
    return of_norse(network, spikes(2, SIZE, SIZE))


def norse_dense() -> Architecture:
    cell = norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.33)))
    network = norse.SequentialState(linear(12, 10, 2.0), cell, linear(10, 8, 2.0), box())
    return of_norse(network, spikes(12))


def norse_pictures() -> Architecture:
    network = norse.SequentialState(conv(1, 4), box(), conv(4, 4), box())
    return of_norse(network, picture(1, SIZE, SIZE), inputs="analog:0..1")


def norse_events() -> Architecture:
    network = norse.SequentialState(conv(1, 4), box(0.2237), conv(4, 4), box(0.2237))
    return of_norse(network, events(1, SIZE, SIZE), inputs="graded:-1..1")


# --- sinabs


def of_sinabs(network: nn.Module, shown: Tensor, **options: Any) -> Architecture:
    """Convolutions take [sample * step, ...]: the Squeeze layers of sinabs are for that."""

    def run(net: nn.Module, data: Tensor) -> Tensor:
        for module in net.modules():
            if hasattr(module, "reset_states"):
                module.reset_states()
        found: Tensor = net(data.flatten(0, 1))
        return found.unflatten(0, (SAMPLES, STEPS))

    def write(net: nn.Module, data: Tensor, path: Path) -> None:
        net(data.flatten(0, 1))
        save(path, sinabs.nir.to_nir(net, data.flatten(0, 1)), (SIZE, SIZE))

    usual = {"profile": "sinabs", "profile_defaults": True}
    return Architecture(
        network=network, shown=shown, write=write, run=run, options={**usual, **options}
    )


def iaf(**more: Any) -> nn.Module:
    return sl.IAFSqueeze(batch_size=SAMPLES, spike_threshold=torch.tensor(1.03), **more)


def sinabs_dynapcnn() -> Architecture:
    """Convolutions, sums and several spikes a step, as DynapCNN's examples are."""
    network = nn.Sequential(
        conv(2, 4), iaf(), sl.SumPool2d(2), conv(4, 6), iaf(), *flat(6, 4), iaf(),
    )  # fmt: skip
    return of_sinabs(network, spikes(2, SIZE, SIZE))


def sinabs_single() -> Architecture:
    single = activation.SingleSpike
    network = nn.Sequential(normalised(2, 4), iaf(spike_fn=single), *flat(4, SIZE),
                            iaf(spike_fn=single))  # fmt: skip
    return of_sinabs(network, spikes(2, SIZE, SIZE), max_spikes=1)


def sinabs_pictures() -> Architecture:
    network = nn.Sequential(conv(1, 4), iaf(), sl.SumPool2d(2), *flat(4, 4), iaf())
    return of_sinabs(network, picture(1, SIZE, SIZE), inputs="analog:0..1")


# --- SpikingJelly


def of_spikingjelly(network: nn.Module, shown: Tensor, **options: Any) -> Architecture:
    def run(net: nn.Module, data: Tensor) -> Tensor:
        functional.reset_net(net)
        return torch.stack([net(data[:, step]) for step in range(STEPS)], 1)

    def write(net: nn.Module, data: Tensor, path: Path) -> None:
        nir.write(path, nir_exchange.export_to_nir(net, data[:1, 0]))

    usual = {"profile": "spikingjelly"}
    return Architecture(
        network=network, shown=shown, write=write, run=run, options={**usual, **options}
    )


def if_node() -> nn.Module:
    return neuron.IFNode(v_threshold=0.97)


def lif_node() -> nn.Module:
    return neuron.LIFNode(tau=1.7, v_threshold=0.57)


def spikingjelly_csnn() -> Architecture:
    """The tutorial's convolutional network, its batch normalisation fused."""
    network = nn.Sequential(
        normalised(1, 4), if_node(), layer.AvgPool2d(2, 2), normalised(4, 6), if_node(),
        layer.AvgPool2d(2, 2), *flat(6, 2), if_node(),
    )  # fmt: skip
    return of_spikingjelly(network, picture(1, SIZE, SIZE), inputs="analog:0..1")


def spikingjelly_gesture() -> Architecture:
    network = nn.Sequential(normalised(2, 6, stride=2), lif_node(), *flat(6, 4), lif_node())
    return of_spikingjelly(network, spikes(2, SIZE, SIZE))


def spikingjelly_sew() -> Architecture:
    before = nn.Sequential(normalised(2, 4), if_node())
    body = nn.Sequential(normalised(4, 4), if_node())
    after = nn.Sequential(*flat(4, SIZE), if_node())
    return of_spikingjelly(Summed(before, body, after), spikes(2, SIZE, SIZE))


def spikingjelly_events() -> Architecture:
    network = nn.Sequential(conv(1, 4), if_node(), *flat(4, SIZE), if_node())
    return of_spikingjelly(network, events(1, SIZE, SIZE), inputs="graded:-1..1")


def spikingjelly_bytes() -> Architecture:
    network = nn.Sequential(of_bytes(1, 4), lif_node(), *flat(4, SIZE - 2), lif_node())
    return of_spikingjelly(network, bytes_of(1, SIZE, SIZE), inputs="graded:0..255")


ARCHITECTURES: Mapping[str, Callable[[], Architecture]] = {
    made.__name__: made
    for made in (
        snntorch_tutorial, snntorch_normalised, snntorch_recurrent, snntorch_pictures,
        snntorch_bytes, snntorch_events,
        norse_convolutional, norse_dense, norse_pictures, norse_events,
        sinabs_dynapcnn, sinabs_single, sinabs_pictures,
        spikingjelly_csnn, spikingjelly_gesture, spikingjelly_sew, spikingjelly_events,
        spikingjelly_bytes,
    )
}  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_spikes_as_in_its_framework(name: str, seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    made = ARCHITECTURES[name]()
    made.network.eval()
    made.write(made.network, made.shown, tmp_path / "net.nir")
    wanted = made.run(made.network, made.shown).detach().numpy()
    assert 0.002 < (wanted > 0).mean() < 0.998
    graph = nir_graph.read(tmp_path / "net.nir", ReadOptions(**made.options))
    (output,) = graph.outputs
    given = {graph.inputs[0].name: made.shown.numpy()}
    trace = reference.run(graph, given, dtype=np.float32)
    np.testing.assert_array_equal(trace.spikes(output).reshape(wanted.shape), wanted)


@pytest.mark.parametrize("made", [snntorch_dense_residual, snntorch_sew])
def test_sums_that_an_export_loses_are_refused(
    made: Callable[[], Architecture], tmp_path: Path
) -> None:
    """snnTorch's export (nirtorch 2.0.2) leaves out the edges of a sum."""
    found = made()
    found.write(found.network, found.shown, tmp_path / "net.nir")
    with pytest.raises(FrontendError, match="F113"):
        nir_graph.read(tmp_path / "net.nir", ReadOptions(**found.options))


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("framework", ["snntorch", "norse"])
def test_delays_between_steps_are_those_of_the_rounded_network(
    framework: str, seed: int, tmp_path: Path
) -> None:
    """Learned delays, each input's own, before a network of the framework: held back by hand."""
    torch.manual_seed(seed)
    if framework == "snntorch":
        network: nn.Module = nn.Sequential(linear(12, 8), leaky())
        made = of_snntorch(network, spikes(12), round_delays=True)
    else:
        network = norse.SequentialState(linear(12, 8, 2.0), box())
        made = of_norse(network, spikes(12), round_delays=True)
    dt = {"snntorch": 1e-4, "norse": 1e-3}[framework]
    path = tmp_path / "net.nir"
    made.write(network, made.shown, path)
    delays = spread(0.1, 6.9, 12).double()
    with h5py.File(path, "a") as file:
        pairs = [tuple(name.decode() for name in pair) for pair in file["node/edges"][()]]
        (first,) = [pair[0] for pair in pairs if pair[0].startswith("input")]
        held = [("delay" if a == first else a, b) for a, b in pairs]
        del file["node/edges"]
        file["node/edges"] = edge_table([*held, (first, "delay")])
        put(file["node/nodes"].create_group("delay"),
            {"type": "Delay", "delay": (delays * dt).numpy()})  # fmt: skip
    late = torch.zeros_like(made.shown)
    for index, steps in enumerate(torch.round(delays).int().tolist()):
        late[:, steps:, index] = made.shown[:, : STEPS - steps, index]
    wanted = made.run(network, late).detach().numpy()
    read = nir_graph.read(path, ReadOptions(**made.options))
    trace = reference.run(read, {read.inputs[0].name: made.shown.numpy()}, dtype=np.float32)
    np.testing.assert_array_equal(trace.spikes(read.outputs[0]).reshape(wanted.shape), wanted)
    (said,) = [c.value for c in read.choices if c.what == "delays of 'delay'"]
    assert all(f"{steps:g} -> {round(float(steps))}" in said for steps in delays.tolist())
