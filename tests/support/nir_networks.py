"""NIR networks as plain trees: written as files, run by NIR's own equations, put in other forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array

Fields = dict[str, Any]
Pair = tuple[str, str]
#: Nodes that a form may put between others, or turn into an Affine, and change nothing.
_NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold")


def put(group: Any, fields: Mapping[str, Any]) -> None:
    """Write a tree of values into a group of an HDF5 file."""
    import h5py

    for name, value in fields.items():
        if isinstance(value, dict):
            put(group.create_group(name), value)
        elif isinstance(value, str):
            group.create_dataset(name, data=value, dtype=h5py.string_dtype())
        else:
            group.create_dataset(name, data=value)


def edge_table(pairs: Sequence[Sequence[str]]) -> Array:
    """Return pairs of names as the official writer stores them."""
    import h5py

    table = np.array([list(pair) for pair in pairs], dtype=object).reshape(-1, 2)
    return table.astype(h5py.string_dtype())


@dataclass(frozen=True, eq=False, kw_only=True)
class Net:
    """A network as its file has it; ``late`` are the edges that close a loop."""

    nodes: Mapping[str, Fields]
    edges: tuple[Pair, ...]
    late: frozenset[Pair] = frozenset()
    version: str | None = "1.0.8"
    more: Fields = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write the file."""
        import h5py

        top = {"type": "NIRGraph", "nodes": dict(self.nodes), "edges": edge_table(self.edges)}
        tree: Fields = {"node": {**top, **self.more}}
        if self.version is not None:
            tree["version"] = self.version
        with h5py.File(path, "w") as file:
            put(file, tree)
        return path


# --- NIR's equations, by Euler, one number after the other


def simulated(net: Net, given: Array, *, dt: float, reset: str) -> Array:
    """Return what the one Output shows for ``given`` [step, *shape], in doubles.

    A current moves the voltage in the step in which it arrives; a spike needs a voltage above
    the threshold; what comes by a late edge is of the step before.
    """
    order = _in_order(net)
    states: dict[str, dict[str, Array]] = {name: {} for name in net.nodes}
    last: dict[str, Array] = {}
    shown = []
    for values in given:
        now: dict[str, Array] = {}
        for name in order:
            node = net.nodes[name]
            arrived: Any = 0.0
            for pair in net.edges:
                if pair[1] == name:
                    source = last if pair in net.late else now
                    arrived = arrived + source.get(pair[0], np.zeros(()))
            now[name] = (
                np.asarray(values, float) if node["type"] == "Input"
                else _given(node, arrived, states[name], dt, reset)
            )  # fmt: skip
        last = now
        shown.append(next(now[name] for name in order if net.nodes[name]["type"] == "Output"))
    return np.array(shown)


def _in_order(net: Net) -> list[str]:
    order: list[str] = []
    while len(order) < len(net.nodes):
        order += [
            name for name in net.nodes
            if name not in order and all(
                pair[0] in order for pair in net.edges if pair[1] == name and pair not in net.late
            )
        ]  # fmt: skip
    return order


def _given(node: Fields, x: Array, state: dict[str, Array], dt: float, reset: str) -> Array:
    kind = node["type"]
    if kind in _NEURONS:
        return _fired(node, x, state, dt, reset)
    if kind in ("Linear", "Affine"):
        weight = np.asarray(node["weight"], float)
        before = np.broadcast_to(np.ravel(x), weight.shape[1])  # 0 before the first step
        return weight @ before + np.asarray(node.get("bias", 0.0), float)
    if kind == "Conv2d":
        return _convolved(node, x)
    if kind in ("SumPool2d", "AvgPool2d"):
        share = 1.0 if kind == "SumPool2d" else 0.25
        return share * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
    if kind == "Delay":
        return _delayed(node, x, state, dt)
    return np.asarray(x, float)


def _fired(node: Fields, x: Array, state: dict[str, Array], dt: float, reset: str) -> Array:
    kind = node["type"]
    if kind == "Threshold":
        return np.asarray(x > np.asarray(node["threshold"]), float)
    own = {name: np.asarray(value, float) for name, value in node.items() if name != "type"}
    rest = own.get("v_leak", np.zeros(()))
    voltage, current = state.get("v", np.zeros(())), np.asarray(x, float)
    if kind.startswith("Cuba"):
        before = state.get("i", np.zeros(()))
        current = before + dt / own["tau_syn"] * (own["w_in"] * current - before)
        state["i"] = current
    if kind in ("I", "IF"):
        voltage = voltage + dt * own["r"] * current
    else:
        tau = own["tau_mem"] if kind.startswith("Cuba") else own["tau"]
        voltage = voltage + dt / tau * (rest - voltage + own["r"] * current)
    state["v"] = voltage
    if kind in ("I", "LI", "CubaLI"):
        return voltage
    spikes = voltage > own["v_threshold"]
    target = own.get("v_reset", np.zeros(()))
    after = target if reset == "zero" else voltage - (own["v_threshold"] - target)
    state["v"] = np.where(spikes, after, voltage)
    return np.asarray(spikes, float)


def _convolved(node: Fields, x: Array) -> Array:
    weight, pad = np.asarray(node["weight"], float), int(node["padding"])
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    rows, columns = (padded.shape[axis] - weight.shape[axis + 1] + 1 for axis in (1, 2))
    out = np.zeros((len(weight), rows, columns))
    for row in range(rows):
        for column in range(columns):
            window = padded[:, row : row + weight.shape[2], column : column + weight.shape[3]]
            out[:, row, column] = (weight * window).sum((1, 2, 3))
    return out + np.asarray(node.get("bias", np.zeros(len(weight))), float).reshape(-1, 1, 1)


def _delayed(node: Fields, x: Array, state: dict[str, Array], dt: float) -> Array:
    """Hold each value back by the nearest whole number of steps."""
    steps = np.broadcast_to(np.rint(np.asarray(node["delay"]) / dt).astype(int), np.shape(x))
    known = [*state.get("seen", []), np.asarray(x, float)]
    state["seen"] = known  # type: ignore[assignment]
    out = np.zeros(np.shape(x))
    for index in np.ndindex(*out.shape):
        if steps[index] < len(known):
            out[index] = known[-1 - steps[index]][index]
    return out


# --- forms: the same network, written otherwise

Form = Callable[[Net, np.random.Generator], Net]


def renamed(net: Net, rng: np.random.Generator) -> Net:
    """Other names for all nodes, in another order."""
    words = ["lif", "fc 1", "0", "Größe", "input", "output", "a-b", "layer_10", "conv", "x2", "w"]
    order = list(rng.permutation(list(net.nodes)))
    made = {
        name: f"{words[int(rng.integers(len(words)))]}{chr(97 + i)}{i}"
        for i, name in enumerate(order)
    }

    def pairs(edges: Any) -> list[Pair]:
        return [(made[a], made[b]) for a, b in edges]

    return replace(
        net,
        nodes={made[name]: net.nodes[name] for name in order},
        edges=tuple(pairs(net.edges)),
        late=frozenset(pairs(net.late)),
    )


def reordered(net: Net, rng: np.random.Generator) -> Net:
    """The edges in another order."""
    return replace(net, edges=tuple(net.edges[i] for i in rng.permutation(len(net.edges))))


def repeated(net: Net, rng: np.random.Generator) -> Net:
    """An edge twice."""
    return replace(net, edges=(*net.edges, net.edges[int(rng.integers(len(net.edges)))]))


def retyped(net: Net, rng: np.random.Generator) -> Net:
    """Numbers of another type that holds the same values."""
    types = [np.dtype(text) for text in ("f4", ">f4", "f8", ">f8", "f2", "i8", ">i4", "u1")]

    def cast(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        wanted = types[int(rng.integers(len(types)))]
        with np.errstate(all="ignore"):
            found = value.astype(wanted)
        return found if (found.astype(float) == value.astype(float)).all() else value

    return _each(net, lambda node: {name: cast(value) for name, value in node.items()})


def as_scalars(net: Net, rng: np.random.Generator) -> Net:
    """Parameters of one value as a number or an array of one, as exports do."""

    def bare(name: str, value: Any) -> Any:
        if name in ("weight", "bias", "shape") or not isinstance(value, np.ndarray):
            return value
        if value.size < 2 or (value != value.flat[0]).any():
            return value
        return value.reshape(-1)[:1].reshape([(), (1,)][int(rng.integers(2))])

    return _each(net, lambda node: {name: bare(name, v) for name, v in node.items()})


def older(net: Net, rng: np.random.Generator) -> Net:
    """The file of another version of nir, or of none; old ones know no v_reset."""
    version = ["0.2", "1.0", "1.0.4", "1.0.6", "2.0", None][int(rng.integers(6))]

    def without(node: Fields) -> Fields:
        zero = not np.any(node.get("v_reset", 1))
        return {name: value for name, value in node.items() if not (zero and name == "v_reset")}

    return replace(_each(net, without), version=version)


def annotated(net: Net, rng: np.random.Generator) -> Net:
    """Metadata of the network and of its nodes, which mean nothing here."""
    extra = {"metadata": {"author": "a lab", "epochs": np.array(12), "curve": rng.random(4),
                          "notes": {"dt": np.array(7.0), "type": "LIF"}}}  # fmt: skip
    noted = _each(net, lambda node: {**node, **extra} if rng.random() < 0.5 else node)
    return replace(noted, more={**net.more, **extra})


def interleaved(net: Net, rng: np.random.Generator) -> Net:
    """Nodes that change nothing on some edges: Flatten before dense layers, Scale, Delay."""
    nodes, edges = dict(net.nodes), []
    for index, (source, target) in enumerate(net.edges):
        choices: list[Fields] = [{"type": "Scale", "scale": np.array(1.0)},
                                 {"type": "Delay", "delay": np.array(0.0)}]  # fmt: skip
        if net.nodes[target]["type"] in ("Linear", "Affine"):
            choices += [{"type": "Flatten", "start_dim": np.array(0), "end_dim": np.array(-1)}] * 2
        voltages = net.nodes[source]["type"] in ("I", "LI", "CubaLI")
        if rng.random() < 0.6 or voltages or (source, target) in net.late:
            edges.append((source, target))
            continue
        name = f"between_{index}"
        nodes[name] = choices[int(rng.integers(len(choices)))]
        edges += [(source, name), (name, target)]
    return replace(net, nodes=nodes, edges=tuple(edges))


def affine(net: Net, rng: np.random.Generator) -> Net:
    """Linear layers as Affine with zeros, as exports without a bias write them."""

    def biased(node: Fields) -> Fields:
        if node["type"] != "Linear" or rng.random() < 0.3:
            return node
        return {**node, "type": "Affine", "bias": np.zeros(len(node["weight"]))}

    return _each(net, biased)


def nested(net: Net, rng: np.random.Generator) -> Net:
    """Some nodes in a sub-graph with an Input and an Output, edges to it by any path."""
    inner = [name for name, node in net.nodes.items() if node["type"] not in ("Input", "Output")]
    chosen = _one_way_through(net, inner, rng)
    if not chosen:
        return net
    entry = next(b for a, b in net.edges if a not in chosen and b in chosen)
    leave = next(a for a, b in net.edges if a in chosen and b not in chosen)
    within = [(a, b) for a, b in net.edges if a in chosen and b in chosen]
    own = [str(rng.choice([name, f"sub.{name}"])) for pair in within for name in pair]
    within = list(zip(own[::2], own[1::2], strict=True))
    inside: Fields = {
        "type": "NIRGraph",
        "nodes": {**{name: net.nodes[name] for name in chosen}, "enter": {"type": "Input"},
                  "leave": {"type": "Output"}},
        "edges": edge_table([("enter", entry), *within, (leave, "leave")]),
    }  # fmt: skip
    ends = [("sub", "sub"), ("sub.enter", "sub.leave"), ("sub", "sub.leave"), ("sub.enter", "sub")]
    goes_in, comes_out = ends[int(rng.integers(len(ends)))]
    outside = [
        (comes_out if a in chosen else a, goes_in if b in chosen else b)
        for a, b in net.edges if not (a in chosen and b in chosen)
    ]  # fmt: skip
    nodes = {name: node for name, node in net.nodes.items() if name not in chosen}
    return replace(net, nodes={**nodes, "sub": inside}, edges=tuple(outside))


def _one_way_through(net: Net, inner: list[str], rng: np.random.Generator) -> set[str]:
    """Return nodes that one node leads into and one leads out of; empty if none were found."""
    for _ in range(12):
        chosen = {name for name in inner if rng.random() < 0.6}
        entries = {b for a, b in net.edges if a not in chosen and b in chosen}
        leaves = {a for a, b in net.edges if a in chosen and b not in chosen}
        if len(entries) == len(leaves) == 1:
            return chosen
    return set()


def _each(net: Net, change: Callable[[Fields], Fields]) -> Net:
    return replace(net, nodes={name: change(dict(node)) for name, node in net.nodes.items()})


#: In the order in which they are applied: a sub-graph's nodes are not looked into afterwards.
FORMS: Mapping[str, Form] = {
    "interleaved": interleaved, "affine": affine, "renamed": renamed, "scalars": as_scalars,
    "older": older, "retyped": retyped, "annotated": annotated, "repeated": repeated,
    "reordered": reordered, "nested": nested,
}  # fmt: skip


def in_another_form(net: Net, seed: int, *, but: str = "") -> tuple[Net, list[str]]:
    """Return ``net`` in three to six other forms at once (never ``but``), and which."""
    rng = np.random.default_rng(seed)
    chosen = {*rng.choice(list(FORMS), int(rng.integers(3, 7)), replace=False)} - {but}
    names = [name for name in FORMS if name in chosen]
    for name in names:
        net = FORMS[name](net, rng)
    return net, names
