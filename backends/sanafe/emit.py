"""Write a mapped program as a folder that SANA-FE runs: data, and a script that builds it.

SANA-FE (Boyle et al. 2025) computes in float64, in units of 64 of ours: the potential is cut to
whole units of ours after its decay, toward zero, just as the chip's is; the current is not.
Spikes of a step arrive in the next one. The script is ours; SANA-FE itself is GPL-3.0
and nothing of it is used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from spikec.backends.names import one_line
from spikec.compiler.arrays import Array, size
from spikec.compiler.errors import BackendError, Diagnostic, raise_if_any
from spikec.compiler.files import canonical_json
from spikec.compiler.fixedpoint import DECAY_UNITY, VTH_SHIFT
from spikec.compiler.folders import MANIFEST, manifest_bytes, write_folder
from spikec.compiler.npz import npz_bytes
from spikec.compiler.operators import Conv2d, Dense, Sparse
from spikec.compiler.program import Connection, CoreMap, Neurons, Program, refused_encoders

__all__ = ["SCHEMA", "check", "differences", "emit"]

SCHEMA = "spikec.sanafe"
VERSION = 1

#: SANA-FE's Loihi: tiles, cores in each, and what a core holds.
_TILES, _CORES_PER_TILE, _NEURONS, _INPUTS = (8, 4), 4, 1024, 1024
#: A threshold that no potential reaches.
_NEVER = 1e12


def emit(program: Program, directory: Path) -> tuple[str, ...]:
    """Write ``program`` to ``directory``, all or nothing; return where spikes may differ.

    Raises :class:`BackendError` for what SANA-FE cannot express, and ``UsageError`` where
    the folder holds anything else.
    """
    raise_if_any(BackendError, list(refused_encoders(program, "SANA-FE's Loihi")))
    raise_if_any(BackendError, check(program))
    network, parameters = _network(program)
    said = differences(program)
    templates = files("spikec.backends.sanafe") / "templates"
    names = (program.inputs[0].name, program.outputs[0])
    readme = Template((templates / "README.md").read_text(encoding="utf-8")).substitute(
        title="A mapped spiking network: " + " -> ".join(map(one_line, names)),
        differences="\n".join(f"- {item}" for item in said) or "Nowhere.",
    )
    content = {
        "README.md": readme.encode(),
        "simulate.py": (templates / "simulate.py").read_bytes(),
        "network.json": canonical_json(network).encode() + b"\n",
        "parameters.npz": npz_bytes(parameters),
        MANIFEST: manifest_bytes(
            SCHEMA,
            {
                "version": VERSION,
                "target": program.target,
                "differences": list(said),
                "provenance": dict(program.provenance),
            },
        ),
    }
    write_folder(directory, content, schema=SCHEMA)
    return said


def check(program: Program) -> list[Diagnostic]:
    """Return what SANA-FE's Loihi cannot express of ``program``."""
    return [
        Diagnostic(code="B070", where=where, message=message, hint=hint)
        for where, message, hint in _obstacles(program)
    ]


def differences(program: Program) -> tuple[str, ...]:
    """Return in words where SANA-FE computes something else than the program says."""
    said = []
    if any((item.du < DECAY_UNITY - 1).any() for item in program.neurons):
        said.append(
            "currents that outlast a step are not cut to whole units: each loses up to a unit "
            "a step on the chip, and nothing there"
        )
    late = [
        item.name
        for item in program.neurons
        if (item.reset, item.reset_order) == ("subtract", "next_step")
    ]
    if late:
        said.append(
            f"{', '.join(map(one_line, late))}: the threshold is taken off at the spike, before "
            "the decay, not after it one step later"
        )
    finer = [n.name for n in program.neurons if n.reset == "subtract" and _off(n).any()]
    if finer:
        said.append(
            f"{', '.join(map(one_line, finer))}: the threshold itself is taken off, which is a "
            f"multiple of {1 << VTH_SHIFT}; the program's amount is finer"
        )
    return tuple(said)


def _obstacles(program: Program) -> Iterator[tuple[str, str, str]]:
    core_map = program.core_map
    if core_map is None:
        yield "program", "it has no mapping to cores", "run 'spikec map' first"
        return
    if (core_map.chips, core_map.tiles, core_map.cores_per_tile) != (1, _TILES, _CORES_PER_TILE):
        yield "core map", f"it is not for one chip of {_TILES} tiles", "map to loihi1, one chip"
        return
    on_core = np.bincount(np.concatenate([item.reshape(-1) for item in core_map.cores]))
    if on_core.max() > _NEURONS:
        yield "core map", f"a core has {on_core.max()} neurons, not {_NEURONS}", "map to loihi1"
    yield from _outside(program, core_map)
    for item in program.connections:
        if item.delay > 1:
            yield (
                f"connection '{item.name}'",
                f"its delay is {item.delay}; only 1 is passed on",
                "SANA-FE 2.2.9 delivered nothing through its delaying dendrites when tried",
            )
    for neurons in program.neurons:
        for what in _other_neuron(neurons):
            yield f"population '{neurons.name}'", what, ""


def _outside(program: Program, core_map: CoreMap) -> Iterator[tuple[str, str, str]]:
    free = _TILES[0] * _TILES[1] * _CORES_PER_TILE - core_map.num_cores
    if sum(size(item.shape) for item in program.inputs) > free * _INPUTS:
        yield "inputs", "they do not fit the cores that are left", ""
    for entry in program.inputs:
        if entry.kind != "binary":
            yield f"input '{entry.name}'", f"it is {entry.kind}, not binary", ""


def _other_neuron(neurons: Neurons) -> Iterator[str]:
    """Yield what SANA-FE's neuron does not do."""
    if neurons.max_spikes > 1:
        yield f"up to {neurons.max_spikes} spikes a step"
    if neurons.refractory:
        yield f"{neurons.refractory} refractory steps"
    if neurons.floor is not None:
        yield "its voltage has a floor"
    if neurons.reset_drops_input or neurons.reset_twice:
        yield "its reset does more than reset"
    if neurons.initial_current.any() or neurons.initial_voltage.any():
        yield "it starts from another state than 0"
    if neurons.start > 1 or (neurons.start and neurons.bias.any()):
        yield f"it waits until step {neurons.start}"
    if neurons.reset == "subtract" and _off(neurons).max() >= 1 << VTH_SHIFT:
        yield "its reset takes off another amount than the threshold"


def _off(neurons: Neurons) -> Array:
    """Return how far the amount that a reset takes off is from the threshold."""
    assert neurons.vth is not None
    off: Array = np.abs(neurons.reset_amount - (neurons.vth << VTH_SHIFT))
    return off


def _network(program: Program) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the structure of the network, and its arrays by name."""
    core_map = program.core_map
    assert core_map is not None
    used = set(core_map.sites.tolist())
    every = range(core_map.num_sites - 1, -1, -1)
    parameters: dict[str, Array] = {}
    populations = []
    cores = zip(program.neurons, core_map.cores, strict=True)
    for index, (neurons, where) in enumerate(cores):
        arrays = _neuron_arrays(neurons) | {"core": core_map.sites[where.reshape(-1)]}
        parameters.update({f"p{index}/{name}": values for name, values in arrays.items()})
        modes = {"subtract": "soft", "none": "none"}
        populations.append(
            {
                "name": neurons.name,
                "size": neurons.num_neurons,
                "reset_mode": modes.get(neurons.reset, "hard"),
                "synapses": _unit(program.connections_into(neurons.name)),
            }
        )
    for index, item in enumerate(program.connections):
        source, target, weight = _synapses(program, item)
        parameters[f"c{index}/source"] = source.astype(np.int32)
        parameters[f"c{index}/target"] = target.astype(np.int32)
        parameters[f"c{index}/weight"] = weight.astype(np.int32)
    network = {
        "inputs": [{"name": item.name, "size": size(item.shape)} for item in program.inputs],
        "input_cores": [site for site in every if site not in used],
        "populations": populations,
        "connections": [{"source": i.source, "target": i.target} for i in program.connections],
    }
    return network, parameters


def _neuron_arrays(neurons: Neurons) -> dict[str, Array]:
    """Return SANA-FE's parameters of every neuron: a unit of its potential is 64 of v."""
    count = neurons.num_neurons
    reset = np.zeros(count) if neurons.reset_value is None else neurons.reset_value / 64
    threshold = np.full(count, _NEVER) if neurons.vth is None else neurons.vth
    named = {
        "threshold": threshold,
        "leak_decay": (DECAY_UNITY - neurons.dv) / DECAY_UNITY,
        "input_decay": (DECAY_UNITY - 1 - neurons.du) / DECAY_UNITY,
        "bias": neurons.bias / 64,
        "reset": reset,
    }
    return {name: np.asarray(values, np.float64).reshape(-1) for name, values in named.items()}


def _unit(into: tuple[Connection, ...]) -> str:
    """Return the synapse unit that a population's spikes are counted with."""
    kinds = {Dense: "dense", Sparse: "sparse", Conv2d: "conv"}
    kind = kinds[type(into[0].operator)] if into else "dense"
    return f"loihi_{kind}_synapse"


def _synapses(program: Program, item: Connection) -> tuple[Array, Array, Array]:
    """Return source, target and weight, as it counts, of every synapse that is not 0."""
    operator = item.effective
    if isinstance(operator, Sparse):
        present = np.flatnonzero(operator.weight)
        sources = operator.synapses.per_synapse(np.arange(operator.synapses.inputs))
        return sources[present], operator.synapses.targets[present], operator.weight[present]
    if isinstance(operator, Dense):
        target, source = np.nonzero(operator.weight)
        return source, target, operator.weight[target, source]
    shapes = {entry.name: entry.shape for entry in program.inputs}
    shapes |= {neurons.name: neurons.shape for neurons in program.populations}
    parts = [_columns(operator, shapes[item.source], first) for first in
             range(0, size(shapes[item.source]), 256)]  # fmt: skip
    source, target, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    return source, target, weight


def _columns(operator: Conv2d, shape: tuple[int, ...], first: int) -> tuple[Array, Array, Array]:
    """Return the synapses of 256 sources of a convolution, from ``first``."""
    count = min(256, size(shape) - first)
    units = np.zeros((count, size(shape)), np.int64)
    units[np.arange(count), first + np.arange(count)] = 1
    given = operator.apply(units.reshape(count, *shape)).reshape(count, -1)
    source, target = np.nonzero(given)
    return source + first, target, given[source, target]
