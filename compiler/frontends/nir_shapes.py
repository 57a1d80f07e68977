"""Shapes of all nodes, computed from the inputs on; what the file states is only a hint."""

from __future__ import annotations

from pathlib import Path

from spikec.compiler.arrays import Shape, size
from spikec.compiler.frontends.nir_file import LINEAR, NEURONS, NirFile, NirNode, problem
from spikec.compiler.frontends.nir_layers import (
    Layer,
    layer_of,
    stored_shape,
    taken_channels,
    taken_shape,
)
from spikec.compiler.frontends.nir_neurons import neuron_shape
from spikec.compiler.frontends.nir_profiles import Profile
from spikec.compiler.ir import Choice
from spikec.compiler.limits import allowed_by

__all__ = ["Shapes", "shapes_under"]

#: What a neuron takes in a graph: a dozen numbers.
_BYTES_A_NEURON = 96
#: Nodes that are there for what reads them.
_LAYERS = tuple(kind for kind in LINEAR if kind != "Identity")
_LOST_EDGE = (
    "remove it, or add the missing edge: exporters lose sums of layers, as residual blocks have"
)
#: Nodes without effect one after the other: each is a call.
_LONGEST_PATH = 200


def shapes_under(file: NirFile, profile: Profile) -> Shapes:
    """Return all shapes of ``file`` as the framework of ``profile`` writes them."""
    return Shapes(file, last_axes=profile.last_axes, time_axis=profile.time_axis)


class Shapes:
    """The shape of what each node gives, and how each linear node works."""

    def __init__(self, file: NirFile, *, last_axes: bool, time_axis: bool) -> None:
        self.file, self.last_axes, self.time_axis = file, last_axes, time_axis
        self.repairs: list[Choice] = []
        self._before: dict[str, list[str]] = {name: [] for name in file.nodes}
        self._after: dict[str, list[str]] = {name: [] for name in file.nodes}
        for source, target in file.edges:
            self._before[target].append(source)
            self._after[source].append(target)
        self._shapes: dict[str, Shape] = {}
        self._into: dict[str, Shape] = {}
        self._layers: dict[str, Layer] = {}
        self._left = allowed_by(Path(file.path))
        self._check_ends()
        self._solve()
        self._check_sums()

    def of(self, name: str) -> Shape:
        """Return the shape of what ``name`` gives."""
        return self._shapes[name]

    def into(self, name: str) -> Shape:
        """Return the shape of what ``name`` takes."""
        return self._into[name]

    def before(self, name: str) -> list[str]:
        """Return the nodes with an edge to ``name``."""
        return self._before[name]

    def layer(self, name: str) -> Layer | None:
        """Return how a linear node works."""
        return self._layers.get(name)

    def _repaired(self, node: NirNode, value: str) -> None:
        self.repairs.append(Choice(what=f"node '{node.name}'", value=value, origin="import repair"))

    def _check_ends(self) -> None:
        for name, node in self.file.nodes.items():
            if node.kind == "Input" and self._before[name]:
                raise problem("F113", node.where, "an edge ends at this input")
            moves = node.kind in NEURONS and _moves_by_itself(node)
            if node.kind != "Input" and not self._before[name] and not moves:
                raise problem("F113", node.where, "nothing leads to it", _LOST_EDGE)
            if node.kind in _LAYERS and not self._after[name]:
                raise problem("F113", node.where, "it leads nowhere", _LOST_EDGE)

        reached = self._reached()
        for name, node in self.file.nodes.items():
            if node.kind in NEURONS and name not in reached:
                raise problem("F113", node.where, "only its own loop leads to it", _LOST_EDGE)

    def _reached(self) -> set[str]:
        """Return the nodes that an input, or anything else that moves, leads to."""
        waiting = [
            name for name, node in self.file.nodes.items()
            if node.kind == "Input" or _moves_by_itself(node)
        ]  # fmt: skip
        reached = set(waiting)
        while waiting:
            news = [name for name in self._after[waiting.pop()] if name not in reached]
            reached.update(news)
            waiting += news
        return reached

    def _solve(self) -> None:
        """Go from known shapes to unknown ones; where all is stuck, trust one neuron's."""
        for node in self.file.nodes.values():
            if node.kind == "Input":
                self._set_input(node)
        while len(self._shapes) < len(self.file.nodes):
            if not sum(self._advance(node) for node in self.file.nodes.values()):
                self._seed()

    def _set_input(self, node: NirNode) -> None:
        shape = stored_shape(node)
        implied = self._implied(node.name)
        if shape is None:
            if implied is None:
                raise problem(
                    "F114", node.where, "its shape is missing, and nothing after it implies one"
                )
            self._repaired(node, f"its shape is missing: {implied}, from what follows")
            shape = implied
        elif shape == (1,) and implied is not None and implied != shape:
            # nirtorch 2.0 writes (1,) wherever it does not know a shape.
            self._repaired(node, f"its shape (1,) stands for none: {implied}, from what follows")
            shape = implied
        for cut in range(1, len(shape)):
            single = set(shape[:cut]) == {1} or self.time_axis
            if implied is not None and shape[cut:] == implied and single:
                batch = "batch and time" if self.time_axis else "the batch"
                self._repaired(node, f"its shape {shape} counts {batch}: {implied} was meant")
                shape = implied
                break
        rank = self._rank_after(node.name, shape)
        if rank is not None and len(shape) > rank:
            self._repaired(
                node, f"its shape {shape} counts batch and time: {shape[-rank:]} was meant"
            )
            shape = shape[-rank:]
        self._set(node, shape, shape)

    def _rank_after(self, name: str, shape: Shape) -> int | None:
        """Return how many axes a convolution or pooling takes that ``name`` leads to.

        None where nothing says so, or another number of channels than in ``shape``.
        """
        waiting, passed = [name], {name}
        while waiting:
            for after in self._after[waiting.pop(0)]:
                node = self.file.nodes[after]
                rank = {"Conv1d": 2, "Conv2d": 3, "SumPool2d": 3, "AvgPool2d": 3}.get(node.kind)
                if rank is not None and self._fits_channels(node, shape, rank):
                    return rank
                if node.kind in (*NEURONS, "Identity", "Scale", "Delay") and after not in passed:
                    passed.add(after)
                    waiting.append(after)
        return None

    def _fits_channels(self, node: NirNode, shape: Shape, rank: int) -> bool:
        if len(shape) <= rank or node.kind in ("SumPool2d", "AvgPool2d"):
            return True
        return shape[-rank] == taken_channels(node)

    def _implied(self, name: str, passed: frozenset[str] = frozenset()) -> Shape | None:
        """Return the shape that some node right after ``name`` needs, if one can say."""
        for after in self._after[name]:
            node = self.file.nodes[after]
            if node.kind in ("Linear", "Affine"):
                weight = node.array("weight")
                if weight.ndim == 2:
                    return (weight.shape[1],)
            if node.kind in ("Conv1d", "Conv2d") and node.has("input_shape"):
                return taken_shape(node)
            if node.kind in NEURONS:
                return neuron_shape(node, None)[0]
            if node.kind == "Flatten" and (stated := stored_shape(node)) is not None:
                return stated
            passes = node.kind in ("Identity", "Scale", "Delay")
            if passes and after not in passed and len(passed) < _LONGEST_PATH:
                inner = self._implied(after, passed | {after})
                if inner is not None:
                    return inner
        return None

    def _advance(self, node: NirNode) -> bool:
        """Set a node's shape if something before it has one; say whether that was news."""
        known = [name for name in self._before[node.name] if name in self._shapes]
        if node.name in self._shapes or not known:
            return False
        incoming = self._shapes[known[0]]
        if node.kind in NEURONS:
            shape, repair = neuron_shape(node, incoming)
            if repair:
                self._repaired(node, repair)
            self._set(node, shape, shape)
            return True
        layer = layer_of(node, incoming, last_axes=self.last_axes)
        self._layers[node.name] = layer
        stated = stored_shape(node) if node.kind in ("Identity", "Output") else None
        if stated is not None and stated != layer.shape:
            self._repaired(node, f"it states shape {stated}, {layer.shape} arrives: kept that")
        self._set(node, incoming, layer.shape)
        return True

    def _seed(self) -> None:
        for node in self.file.nodes.values():
            if node.kind in NEURONS and node.name not in self._shapes:
                shape = neuron_shape(node, None)[0]
                self._set(node, shape, shape)
                return
        left = next(node for name, node in self.file.nodes.items() if name not in self._shapes)
        raise problem("F120", left.where, "no input or neuron leads to it")

    def _set(self, node: NirNode, into: Shape, shape: Shape) -> None:
        if not shape or size(shape) < 1:
            raise problem("F114", node.where, f"shape {shape} is empty")
        self._left -= size(shape) * (_BYTES_A_NEURON if node.kind in NEURONS else 8)
        if self._left < 0:
            raise problem(
                "F114", node.where, f"with its shape {shape} the network is larger than a file of "
                "this size may describe",
            )  # fmt: skip
        self._into[node.name], self._shapes[node.name] = into, shape

    def _check_sums(self) -> None:
        """Everything that arrives at a node must have one shape, or as many values."""
        for name, node in self.file.nodes.items():
            needed = self._into[name]
            for before in self._before[name]:
                found = self._shapes[before]
                if size(found) != size(needed):
                    raise problem(
                        "F114",
                        node.where,
                        f"it takes values of shape {needed}, '{before}' gives {found}",
                        "check the edge between them",
                    )
                if found != needed and node.kind not in ("Linear", "Affine"):
                    self._repaired(node, f"{found} from '{before}' is read as {needed}")


def _moves_by_itself(node: NirNode) -> bool:
    """Say whether a node does something without input: a bias, or a leak to another rest."""
    if node.kind == "Threshold":
        return bool((node.array("threshold") < 0).any())
    if node.kind in ("Affine", "Conv1d", "Conv2d"):
        return node.has("bias") and bool(node.array("bias").any())
    leaks = node.kind in ("LI", "LIF", "CubaLI", "CubaLIF") and node.has("v_leak")
    return leaks and bool(node.array("v_leak").any())
