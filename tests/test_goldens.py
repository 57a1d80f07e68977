"""Text that people read, kept as files: read the difference, then run with --update-golden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikec.compiler import frontends
from spikec.compiler.errors import SpikecError
from spikec.compiler.inputs import check_inputs
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.operators import Dense
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.trace import parse_probes
from spikec.models import (
    analog,
    conv2d,
    dense,
    graded,
    network,
    seed_lif,
    seed_network,
    seed_readout,
    spikes,
)

GOLDEN = Path(__file__).parent / "golden"


def seed_chain() -> Graph:
    """Return the seed model: two spiking layers, one with V, and a readout."""
    return seed_network(
        feedforward=[np.ones((4, 3)), np.ones((4, 4)), np.ones((2, 4))],
        recurrent=[np.ones((4, 4))],
        alpha=0.75,
        beta=[0.5, np.array([0.25, 0.5, 0.75, 1.0]), 0.875],
        readout=True,
        dt=1e-3,
    )


def every_switch() -> Graph:
    """Return one population for each kind of reset, with rest, gain, bias and delays."""
    pictures = replace(
        seed_lif("pictures", (2, 3, 3), alpha=None, beta=0.5, vth=0.5, initial_voltage=0.25),
        coupling="immediate", reset="zero", reset_order="at_spike", compare=">=", refractory=2,
    )  # fmt: skip
    valued = replace(
        seed_lif("valued", 4, alpha=0.5, beta=0.75, rest=-0.5, gain=2.0, bias=[0, 0, 0.25, 0.5]),
        reset="value", reset_value=np.array(-1.0), reset_drops_input=True,
    )  # fmt: skip
    return network(
        nodes=[
            spikes("events", (1, 5, 5)),
            graded("levels", 3, low=-2, high=5),
            analog("drive", 3),
            pictures,
            valued,
            seed_readout("mean", 2, alpha=0.5, beta=0.75, rest=1.0),
        ],
        edges=[
            conv2d("events", "pictures", np.ones((2, 1, 3, 3))),
            dense("pictures", "valued", np.ones((4, 18)), delay=0),
            dense("levels", "valued", np.ones((4, 3)), delay=3),
            dense("drive", "valued", np.ones((4, 3))),
            dense("valued", "pictures", np.ones((18, 4)), name="back"),
            dense("valued", "mean", np.ones((2, 4))),
        ],
        outputs=["mean", "valued"],
    )


def one_population(weight: object, **fields: object) -> Graph:
    matrix = np.atleast_2d(np.asarray(weight, dtype=float))
    node = seed_lif("hidden", len(matrix), **{"alpha": 0.5, "beta": 0.5, **fields})
    entry = spikes("in", matrix.shape[1])
    return network(nodes=[entry, node], edges=[dense("in", "hidden", matrix)], outputs=["hidden"])


def broken_program() -> Program:
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(2,), kind="binary", low=0, high=1),),
        populations=(
            Neurons(name="n", shape=(2,), du=5000, dv=0, vth=1, reset="zero",
                    reset_order="at_spike", refractory=-1),
        ),
        connections=(
            Connection(
                name="c", source="in", target="n", operator=Dense(weight=np.diag([3, 2])),
                weight_exp=0, num_weight_bits=8, sign_mode="mixed", delay=0,
            ),
        ),
        outputs=("readout",),
    )  # fmt: skip


def analog_without_bounds() -> Graph:
    return network(
        nodes=[analog("drive", 1), seed_lif("n", 1, alpha=0.5, beta=0.5)],
        edges=[dense("drive", "n", [[1.0]])],
        outputs=["n"],
    )


def unfit(graph: Graph, target: str = "loihi2") -> Callable[[], object]:
    return lambda: compile_graph(graph, load_target(target))


def data(values: object) -> Callable[[], object]:
    return lambda: check_inputs({"spikes": np.asarray(values)}, [spikes("spikes", 2)])


#: What goes wrong -> what does it.
ERRORS: dict[str, Callable[[], object]] = {
    "a file that does not exist": lambda: frontends.load("nothing.onnx"),
    "names used twice": lambda: network(
        nodes=[spikes("a", 1), spikes("a", 1)], edges=[], outputs=["a"]
    ),
    "values out of range": lambda: one_population([[1]], alpha=1.0, beta=1.5, gain=0),
    "edges that do not fit": lambda: network(
        nodes=[spikes("in", 2), seed_readout("r", 3, alpha=0.5, beta=0.5)],
        edges=[dense("in", "r", np.ones((2, 2))), dense("r", "in", np.ones((2, 3)), delay=-2),
               dense("x", "r", np.ones((1, 1)))],
        outputs=["in"],
    ),
    "a loop without delay": lambda: network(
        nodes=[spikes("in", 1), seed_lif("a", 1, alpha=0.5, beta=0.5)],
        edges=[dense("a", "a", [[1.0]], delay=0)],
        outputs=["a"],
    ),
    "a seed population half described": lambda: seed_lif("n", 2, tau_syn=1e-3, beta=0.5),
    "a program that breaks rules": broken_program,
    "weights that do not fit": unfit(one_population(np.ones((1, 400)), alpha=0.99)),
    "an unknown range": unfit(analog_without_bounds()),
    "an input without graded spikes": unfit(
        network(nodes=[graded("pixels", 1, low=0, high=255), seed_lif("n", 1, alpha=0.5, beta=0.5)],
                edges=[dense("pixels", "n", [[1.0]])], outputs=["n"]),
        "loihi1",
    ),
    "an unknown target": lambda: load_target("loihi3"),
    "data of a wrong shape": data(np.zeros((2, 3, 5))),
    "data that are no spikes": data(np.full((1, 2, 2), 7)),
    "data with NaN": data(np.full((1, 2, 2), np.nan)),
    "data under another name": lambda: check_inputs({"x": np.zeros(1)}, [spikes("in", 2)]),
    "probes": lambda: parse_probes(["n:volt", "m:spikes"], ["n"]),
}  # fmt: skip


def error_texts() -> str:
    return "\n".join(f"# {case}\n{_message(raise_it)}\n" for case, raise_it in ERRORS.items())


def _message(raise_it: Callable[[], object]) -> str:
    with pytest.raises(SpikecError) as caught:
        raise_it()
    return str(caught.value)


def texts() -> Iterator[tuple[str, Callable[[], str]]]:
    for name, graph in (("seed", seed_chain), ("switches", every_switch)):
        yield f"{name}.txt", lambda graph=graph: str(graph())
        yield f"{name}-canonical.txt", lambda graph=graph: str(canonicalise(graph()))
    yield "errors.txt", error_texts


TEXTS = dict(texts())


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_as_it_was(name: str, pytestconfig: pytest.Config) -> None:
    found, path = TEXTS[name](), GOLDEN / name
    if pytestconfig.getoption("--update-golden"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_canonical_text_shows_no_rest_gain_or_delayed_coupling() -> None:
    text = str(canonicalise(every_switch()))
    assert isinstance(canonicalise(every_switch())["valued"], LIF)
    assert not any(word in text for word in ("rest=", "gain=", "delayed", "delay=0"))
