"""The content of a ``.nir`` file as plain nodes and edges, sub-graphs in line.

Nothing here interprets a neuron. Files of all versions are read with our own
reader; what had to be repaired on the way is listed as choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.hdf5 import read_tree
from spikec.compiler.ir import Choice

__all__ = ["LINEAR", "NEURONS", "SPIKING", "NirFile", "NirNode", "problem", "read_nir_file"]

#: Node types that hold a state or give spikes: they become populations.
NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold")
#: Node types that spike and reset.
SPIKING = ("IF", "LIF", "CubaLIF")
#: Node types between populations; "Identity" also stands for the ends of sub-graphs.
LINEAR = (
    "Affine",
    "Linear",
    "Scale",
    "Conv1d",
    "Conv2d",
    "SumPool2d",
    "AvgPool2d",
    "Flatten",
    "Delay",
    "Identity",
)
_KNOWN = frozenset({*NEURONS, *LINEAR, "Input", "Output"})
_MOST_DEPTH = 32
#: No type and no version is longer.
_MOST_TEXT = 64


def problem(code: str, where: str, message: str, hint: str = "") -> FrontendError:
    """Return the error for one finding in a NIR file."""
    return FrontendError(Diagnostic(code=code, where=where, message=message, hint=hint))


@dataclass(frozen=True, eq=False, kw_only=True)
class NirNode:
    """One node: its type as the file writes it, and its parameters."""

    name: str
    kind: str
    path: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    #: The kind of the integrator that a Threshold has taken in, "" for none.
    integrates: str = ""
    #: Whether its synapse was an LI of its own, whose gain follows a membrane's rule.
    filtered: bool = False

    @property
    def dynamics(self) -> str:
        """The kind of node whose equations it follows up to the threshold."""
        return self.integrates or self.kind

    @property
    def where(self) -> str:
        """How errors name this node."""
        return f"{self.path}: node '{self.name}' ({self.kind})"

    def has(self, name: str) -> bool:
        """Say whether the file gives parameter ``name``."""
        return name in self.fields

    def array(self, name: str) -> Array:
        """Return a numeric parameter, which must exist and be finite numbers."""
        if name not in self.fields:
            raise problem(
                "F112",
                self.where,
                f"parameter '{name}' is missing; there are {', '.join(self.fields) or 'none'}",
                "export the network anew",
            )
        values = np.asarray(self.fields[name])
        if values.dtype.kind not in "biuf" or values.size == 0:
            raise problem("F112", self.where, f"parameter '{name}' is not an array of numbers")
        with np.errstate(invalid="ignore"):
            unknown = bool(np.isnan(values.astype(np.float64)).any())
        if unknown:
            raise problem("F112", self.where, f"parameter '{name}' holds NaN")
        return values


@dataclass(frozen=True, eq=False, kw_only=True)
class NirFile:
    """A whole file: nodes by name, edges, and what was repaired while reading."""

    path: str
    version: str
    nodes: Mapping[str, NirNode]
    edges: tuple[tuple[str, str], ...]
    repairs: tuple[Choice, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False, kw_only=True)
class _Scope:
    """One graph or sub-graph as it stands in the file; ``members`` may be scopes."""

    prefix: str
    members: dict[str, Any]
    edges: list[tuple[str, str]]
    parent: _Scope | None = None


def read_nir_file(path: Path) -> NirFile:
    """Read ``path``; raises :class:`FrontendError` for anything that is not a network."""
    return _Reader(path).read()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.repairs: list[Choice] = []
        self.nodes: dict[str, NirNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.metadata: Mapping[str, Any] = {}

    def read(self) -> NirFile:
        file = _content(read_tree(self.path))
        version = _text(file.get("version")) or "unknown"
        tree = file.get("node", file)
        if not isinstance(tree, dict):
            raise problem("F110", str(self.path), "'/node' is not a group")
        kind = _text(tree["type"]) if "type" in tree else "NIRGraph"
        if kind == "NIRGraph":
            self.metadata = _table(tree.get("metadata", {}))
            scope = self._scope(tree, "", None)
        else:
            self._repaired("the file", f"it holds a single {kind} node: put between in and output")
            members = {"node": self._node(tree, "node")}
            scope = _Scope(prefix="", members=members, edges=[])
        self._flatten(scope)
        self._drop_unused_ends()
        self._ends()
        return NirFile(
            path=str(self.path),
            version=version,
            nodes=self.nodes,
            edges=tuple(self.edges),
            repairs=tuple(self.repairs),
            metadata=self.metadata,
        )

    def _repaired(self, what: str, value: str) -> None:
        self.repairs.append(Choice(what=what, value=value, origin="import repair"))

    def _scope(self, tree: Mapping[str, Any], prefix: str, parent: _Scope | None) -> _Scope:
        where = f"{self.path}: graph '{prefix.rstrip('.') or 'node'}'"
        if prefix.count(".") > _MOST_DEPTH:
            raise problem("F110", where, "sub-graphs are nested too deeply")
        nodes = tree.get("nodes")
        if not isinstance(nodes, dict) or not nodes:
            raise problem("F110", where, "it has no nodes", "export the network anew")
        scope = _Scope(
            prefix=prefix, members={}, edges=_edges(tree.get("edges"), where), parent=parent
        )
        for name, inner in nodes.items():
            if not isinstance(inner, dict):
                raise problem("F110", where, f"'{name}' is not a node")
            if _text(inner.get("type")) == "NIRGraph":
                scope.members[name] = self._scope(inner, f"{prefix}{name}.", scope)
            else:
                scope.members[name] = self._node(inner, f"{prefix}{name}")
        return scope

    def _node(self, tree: Mapping[str, Any], name: str) -> NirNode:
        kind = _text(tree.get("type"))
        if kind is None:
            raise problem("F110", f"{self.path}: node '{name}'", "it has no type")
        fields = {key: value for key, value in tree.items() if key not in ("type", "metadata")}
        node = NirNode(name=name, kind=kind, path=str(self.path), fields=fields)
        if kind not in _KNOWN:
            raise problem(
                "F111",
                f"{self.path}: node '{name}'",
                f"there is no NIR node type '{kind}'",
                f"known types: {', '.join(sorted(_KNOWN))}, NIRGraph",
            )
        return node

    def _flatten(self, scope: _Scope) -> None:
        """Add a scope's nodes and edges; ends of sub-graphs pass on what they get."""
        for name, member in scope.members.items():
            if isinstance(member, _Scope):
                self._flatten(member)
            elif scope.prefix and member.kind in ("Input", "Output"):
                full = f"{scope.prefix}{name}"
                self._add(
                    NirNode(name=full, kind="Identity", path=member.path, fields=member.fields)
                )
            else:
                self._add(member)
        for source, target in scope.edges:
            edge = (
                self._end(scope, source, "Output", (source, target)),
                self._end(scope, target, "Input", (source, target)),
            )
            if edge in self.edges:
                self._repaired(f"edge {edge[0]} -> {edge[1]}", "given more than once: kept once")
            else:
                self.edges.append(edge)

    def _add(self, node: NirNode) -> None:
        if node.name in self.nodes:
            raise problem(
                "F110", node.where, "two nodes have this name once sub-graphs are in line"
            )
        self.nodes[node.name] = node

    def _end(self, scope: _Scope, name: str, end: str, edge: tuple[str, str]) -> str:
        """Return the flat name of the node that ``name`` means in ``scope``."""
        found = self._find(scope, name, end)
        if found is None:
            names = ", ".join(sorted(scope.members))
            raise problem(
                "F113",
                f"{self.path}: edge {edge[0]} -> {edge[1]}",
                f"there is no node '{name}'",
                f"nodes beside it: {names}",
            )
        return found

    def _find(self, scope: _Scope, name: str, end: str) -> str | None:
        if name in scope.members:
            member = scope.members[name]
            if isinstance(member, _Scope):
                return self._port(member, end)
            return f"{scope.prefix}{name}"
        found = self._dangling(scope, name, end)
        if found is not None:
            self._repaired(
                f"an edge in graph '{scope.prefix.rstrip('.') or 'node'}'",
                f"its end '{name}' is not a node there: taken for '{found}'",
            )
        return found

    def _dangling(self, scope: _Scope, name: str, end: str) -> str | None:
        """Find a node by its path, its scope's name before it, or as the only input or output."""
        head, _, rest = name.partition(".")
        inner = scope.members.get(head)
        if rest and isinstance(inner, _Scope) and rest in inner.members:
            member = inner.members[rest]
            return self._port(member, end) if isinstance(member, _Scope) else f"{head}.{rest}"
        own = scope.prefix.rstrip(".").rpartition(".")[2]
        if own and name.startswith(f"{own}.") and name[len(own) + 1 :] in scope.members:
            return self._find(scope, name[len(own) + 1 :], end)
        if name.lower() in ("in", "input", "out", "output"):
            kind = "Input" if name.lower().startswith("in") else "Output"
            ends = [key for key, member in scope.members.items() if _is(member, kind)]
            if len(ends) == 1:
                return f"{scope.prefix}{ends[0]}"
        if scope.parent is not None and name in scope.parent.members:
            return self._find(scope.parent, name, end)
        return self._elsewhere(scope, name, end) or self._unnumbered(scope, name)

    def _elsewhere(self, scope: _Scope, name: str, end: str) -> str | None:
        """Find the one node of all scopes whose path ends with ``name``, or with its last parts."""
        top = scope
        while top.parent is not None:
            top = top.parent
        every = dict(_paths(top))
        parts = name.split(".")
        for wanted in (".".join(parts[start:]) for start in range(max(len(parts) - 1, 1))):
            found = [path for path in every if path == wanted or path.endswith(f".{wanted}")]
            if len(found) == 1:
                member = every[found[0]]
                return self._port(member, end) if isinstance(member, _Scope) else found[0]
        return None

    def _unnumbered(self, scope: _Scope, name: str) -> str | None:
        """Find the one node beside it that is ``name`` with a number: ``lif1`` for ``lif``."""
        found = [
            key for key, member in scope.members.items()
            if isinstance(member, NirNode) and key.startswith(name)
            and key[len(name) :].lstrip("_").isdecimal()
        ]  # fmt: skip
        return f"{scope.prefix}{found[0]}" if len(found) == 1 else None

    def _port(self, scope: _Scope, end: str) -> str:
        """Return the node through which a sub-graph takes (or gives) values."""
        name = scope.prefix.rstrip(".")
        ends = [key for key, member in scope.members.items() if _is(member, end)]
        if not ends:
            column = 1 if end == "Input" else 0
            used = {edge[column].removeprefix(f"{name}.") for edge in scope.edges}
            ends = [
                key for key, member in scope.members.items()
                if key not in used and isinstance(member, NirNode)
            ]  # fmt: skip
            if len(ends) == 1:
                self._repaired(f"sub-graph '{name}'", f"it has no {end}: '{ends[0]}' is used")
        if len(ends) != 1:
            raise problem(
                "F113",
                f"{self.path}: sub-graph '{name}'",
                f"an edge to or from it needs one {end} node, it has {len(ends)}",
                f"name the node in the edge: '{name}.<node>'",
            )
        return f"{scope.prefix}{ends[0]}"

    def _drop_unused_ends(self) -> None:
        """Leave out inputs of sub-graphs that edges from outside go past."""
        while True:
            targets = {target for _, target in self.edges}
            unused = [
                name for name, node in self.nodes.items()
                if node.kind == "Identity" and name not in targets
            ]  # fmt: skip
            if not unused:
                return
            for name in unused:
                del self.nodes[name]
                self.edges = [edge for edge in self.edges if name not in edge]
                self._repaired(f"node '{name}'", "nothing leads to this end: left out")

    def _ends(self) -> None:
        """Give a graph without inputs or outputs those that its edges imply."""
        kinds = {node.kind for node in self.nodes.values()}
        for kind, column in (("Input", 1), ("Output", 0)):
            if kind in kinds:
                continue
            used = {edge[column] for edge in self.edges}
            loose = [name for name in self.nodes if name not in used]
            for name in loose:
                end = f"{kind.lower()}_{name}" if len(loose) > 1 else kind.lower()
                self._add(NirNode(name=end, kind=kind, path=str(self.path)))
                self.edges.append((end, name) if kind == "Input" else (name, end))
            self._repaired("the graph", f"it has no {kind} node: {', '.join(loose)} got one")


def _paths(scope: _Scope) -> Iterator[tuple[str, Any]]:
    """Yield every node and sub-graph with its path from the top."""
    for name, member in scope.members.items():
        yield f"{scope.prefix}{name}", member
        if isinstance(member, _Scope):
            yield from _paths(member)


def _is(member: Any, kind: str) -> bool:
    return isinstance(member, NirNode) and member.kind == kind


def _text(value: Any) -> str | None:
    """Return what is one text; None for arrays and groups, which a damaged file may have there."""
    return value if isinstance(value, str) and len(value) <= _MOST_TEXT else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _edges(value: Any, where: str) -> list[tuple[str, str]]:
    if value is None:
        raise problem("F110", where, "it has no edges", "export the network anew")
    pairs = np.asarray(value)
    if isinstance(value, (dict, str)) or (pairs.size and pairs.dtype != object):
        raise problem("F110", where, "its edges are no pairs of names", "export the network anew")
    if pairs.size == 0:
        return []
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise problem("F110", where, f"edges have shape {pairs.shape}, not (count, 2)")
    return [(str(source), str(target)) for source, target in pairs.tolist()]


def _content(item: Any) -> Any:
    """Return a group of the file with single texts as ``str``."""
    if isinstance(item, dict):
        return {name: _content(inner) for name, inner in item.items()}
    if item.dtype == object and item.size == 1 and item.ndim < 2:
        return item.reshape(-1)[0]
    return item
