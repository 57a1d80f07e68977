"""Kinds of NIR networks that people have, each in many forms: one reading, the equations' own.

Truth is a plain simulation of NIR's equations in doubles (``tests/support/nir_networks.py``);
weights and decays are such that every sum is exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.frontends import ReadOptions, nir_graph
from spikec.compiler.ir import LIF
from tests.support.nir_networks import Fields, Net, in_another_form, simulated

pytest.importorskip("h5py")

#: No sum of few weights, decays and thresholds is a threshold times this.
_AWAY = float(np.sqrt(0.99))
STEPS, SEEDS = 16, 20 if not os.environ.get("SPIKEC_NIGHTLY") else 400


@dataclass(frozen=True, eq=False, kw_only=True)
class Kind:
    """A network, the shape of its data, what answers its questions, and what it does."""

    net: Net
    shape: tuple[int, ...]
    options: ReadOptions
    truth: Net | None = None
    #: A form that would make another network of it.
    but: str = ""


def dyadic(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-6, 11, shape) / 8


def dense(rng: np.random.Generator, inputs: int, outputs: int) -> Fields:
    return {"type": "Linear", "weight": dyadic(rng, outputs, inputs)}


def conv(rng: np.random.Generator, inputs: int, outputs: int) -> Fields:
    return {"type": "Conv2d", "weight": dyadic(rng, outputs, inputs, 3, 3) / 4,
            "bias": dyadic(rng, outputs) / 4, "stride": np.array(1), "padding": np.array(1),
            "dilation": np.array(1), "groups": np.array(1)}  # fmt: skip


def neuron(kind: str, *shape: int, **values: Any) -> Fields:
    """Return a node; its threshold is none that its voltages meet."""
    usual: dict[str, Any] = {"LIF": {"tau": 4.0, "r": 2.0, "v_leak": 0.0, "v_reset": 0.0,
                                     "v_threshold": _AWAY * 0.7},
                             "CubaLIF": {"tau_mem": 4.0, "tau_syn": 2.0, "r": 2.0, "w_in": 2.0,
                                         "v_leak": 0.0, "v_threshold": _AWAY * 0.7, "v_reset": 0.0},
                             "IF": {"r": 1.0, "v_threshold": _AWAY * 1.1, "v_reset": 0.0},
                             "LI": {"tau": 4.0, "r": 2.0, "v_leak": 0.0},
                             "Threshold": {"threshold": _AWAY * 0.4}}[kind]  # fmt: skip
    own = {**usual, **values}
    return {"type": kind} | {
        name: np.array(value, float) if np.ndim(value) else np.full(shape, value)
        for name, value in own.items()
    }


def chain(shape: tuple[int, ...], **nodes: Fields) -> Net:
    """Return input -> nodes... -> output."""
    names = ["input", *nodes, "output"]
    ends: dict[str, Fields] = {"input": {"type": "Input", "shape": np.array(shape)},
                               "output": {"type": "Output"}}  # fmt: skip
    return Net(nodes={**ends, **nodes}, edges=tuple(pairwise(names)))


def with_edges(net: Net, *pairs: tuple[str, str], late: tuple[str, str] | None = None) -> Net:
    kept = frozenset() if late is None else frozenset([late])
    return Net(nodes=net.nodes, edges=(*net.edges, *pairs), late=kept)


def answers(reset: str = "zero", **more: Any) -> ReadOptions:
    usual: dict[str, Any] = {"dt": 1.0, "discretization": "euler", "reset": reset,
                             "reset_order": "at_spike", "compare": ">"}  # fmt: skip
    return ReadOptions(**{**usual, **more})


def batch_before_a_convolution(rng: np.random.Generator) -> Kind:
    front = [(1,), (1, 1), (7, 1), (1, 7)][int(rng.integers(4))]
    net = chain((*front, 2, 5, 6), conv=conv(rng, 2, 3), lif=neuron("LIF", 3, 5, 6))
    return Kind(net=net, shape=(2, 5, 6), options=answers())


def one_value_per_channel(rng: np.random.Generator) -> Kind:
    own = {"v_threshold": 0.3 + rng.random((3, 1, 1)), "tau": 2.0 ** rng.integers(1, 4, (3, 1, 1))}
    net = chain((2, 4, 3), conv=conv(rng, 2, 3), lif=neuron("LIF", 3, 1, 1, **own))
    return Kind(net=net, shape=(2, 4, 3), options=answers("subtract"))


def integrator_and_threshold(rng: np.random.Generator) -> Kind:
    net = chain((5,), fc=dense(rng, 5, 6), li=neuron("LI", 6), t=neuron("Threshold", 6))
    return Kind(net=net, shape=(5,), options=ReadOptions(
        dt=1.0, discretization="euler", compare=">"))  # fmt: skip


def integrator_in_a_loop(rng: np.random.Generator) -> Kind:
    net = chain((5,), fc=dense(rng, 5, 6), li=neuron("LI", 6), lif=neuron("LIF", 6))
    back = {"back": dense(rng, 6, 6)}
    net = Net(nodes={**net.nodes, **back}, edges=net.edges)
    net = with_edges(net, ("lif", "back"), ("back", "li"), late=("lif", "back"))
    return Kind(net=net, shape=(5,), options=answers())


def recurrent(rng: np.random.Generator) -> Kind:
    net = chain((5,), fc=dense(rng, 5, 6), cuba=neuron("CubaLIF", 6), out=dense(rng, 6, 4),
                lif=neuron("LIF", 4, v_reset=-0.25))  # fmt: skip
    net = Net(nodes={**net.nodes, "back": dense(rng, 6, 6)}, edges=net.edges)
    net = with_edges(net, ("cuba", "back"), ("back", "cuba"), late=("cuba", "back"))
    return Kind(net=net, shape=(5,), options=answers())


def skipping(rng: np.random.Generator) -> Kind:
    net = chain((5,), fc=dense(rng, 5, 6), a=neuron("IF", 6), fd=dense(rng, 6, 6),
                b=neuron("LIF", 6), out=dense(rng, 6, 4), c=neuron("LIF", 4))  # fmt: skip
    return Kind(net=with_edges(net, ("a", "b")), shape=(5,), options=answers("subtract"))


def pooled(rng: np.random.Generator) -> Kind:
    pair = np.array([2, 2])
    none = np.array([0, 0])
    pools = ["SumPool2d", "AvgPool2d"]
    one, two = (pools[int(rng.integers(2))] for _ in range(2))
    net = chain((2, 8, 4), one={"type": one, "kernel_size": pair, "stride": pair, "padding": none},
                conv=conv(rng, 2, 3), t=neuron("Threshold", 3, 4, 2),
                two={"type": two, "kernel_size": pair, "stride": pair, "padding": none},
                flat={"type": "Flatten", "start_dim": np.array(0), "end_dim": np.array(-1)},
                fc=dense(rng, 6, 4), lif=neuron("LIF", 4))  # fmt: skip
    return Kind(net=net, shape=(2, 8, 4), options=answers())


def learned_delays(rng: np.random.Generator) -> Kind:
    delay = {"type": "Delay", "delay": rng.random(5) * 4 + 0.01}
    net = chain((5,), delay=delay, fc=dense(rng, 5, 6), lif=neuron("LIF", 6))
    return Kind(net=net, shape=(5,), options=answers(round_delays=True))


def readout(rng: np.random.Generator) -> Kind:
    net = chain((5,), fc=dense(rng, 5, 6), lif=neuron("LIF", 6), out=dense(rng, 6, 3),
                li=neuron("LI", 3))  # fmt: skip
    return Kind(net=net, shape=(5,), options=answers())


def weights_in_out(rng: np.random.Generator) -> Kind:
    """Spyx: spikes are of the voltage before the step; its own gain is 1, whatever r."""
    decay = {"tau": 4.0, "r": 0.75}
    net = chain((5,), fc=dense(rng, 5, 6), lif=neuron("LIF", 6, **decay), out=dense(rng, 6, 3),
                last=neuron("LIF", 3, **decay))  # fmt: skip
    counted = {name: {**node, "r": np.full_like(node["r"], 4.0)} if "r" in node else node
               for name, node in net.nodes.items()}  # fmt: skip
    step = {"type": "Delay", "delay": np.array(1.0)}
    truth = chain((5,), fc=counted["fc"], lif=counted["lif"], late=step, out=counted["out"],
                  last=counted["last"], shown=step)  # fmt: skip
    turned = {name: {**node, "weight": node["weight"].T} if "weight" in node else node
              for name, node in net.nodes.items()}  # fmt: skip
    return Kind(net=Net(nodes=turned, edges=net.edges), shape=(5,), truth=truth,
                but="affine", options=ReadOptions(dt=1.0, profile="spyx"))  # fmt: skip


KINDS: Mapping[str, Callable[[np.random.Generator], Kind]] = {
    made.__name__: made
    for made in (
        batch_before_a_convolution, one_value_per_channel, integrator_and_threshold,
        integrator_in_a_loop, recurrent, skipping, pooled, learned_delays, readout,
        weights_in_out,
    )
}  # fmt: skip


def drawn(name: str, seed: int) -> tuple[Kind, Array, Array]:
    """Return a network, its data and what it does: sometimes spikes, and sometimes none."""
    for attempt in range(50):
        rng = np.random.default_rng([seed, attempt])
        kind = KINDS[name](rng)
        given = (rng.random((STEPS, *kind.shape)) < 0.4).astype(float)
        reset = "subtract" if kind.options.profile else (kind.options.reset or "none")
        wanted = simulated(kind.truth or kind.net, given, dt=1.0, reset=reset)
        if name == "readout" or 0 < wanted.mean() < 1:
            return kind, given, wanted
    raise AssertionError(f"{name} always spikes, or never")


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", KINDS)
def test_every_form_of_a_kind_is_the_same_network(name: str, seed: int, tmp_path: Path) -> None:
    kind, given, wanted = drawn(name, seed)
    net, forms = in_another_form(kind.net, seed, but=kind.but)
    graph = nir_graph.read(net.save(tmp_path / "net.nir"), kind.options)
    (output,) = graph.outputs
    trace = reference.run(graph, {graph.inputs[0].name: given[None]})
    spiking = isinstance(graph[output], LIF)  # a Scale before the output makes it a voltage
    found = trace.spikes(output)[0] if spiking else np.asarray(trace[output, "voltage"])[0]
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, err_msg=str(forms))
