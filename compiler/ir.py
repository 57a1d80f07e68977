r"""The float network: populations of neurons, edges between them, nothing implied.

One step ``n`` of a leaky integrate-and-fire population, ``x[n]`` being the sum
of all edges that arrive, ``R`` the gain and ``rest`` the resting voltage::

    i[n] = alpha * i[n-1] + x[n]                         (alpha None: i[n] = x[n])
    drive = gain * (i[n] if coupling is immediate else i[n-1]) + bias
    u[n] = rest + beta * (u[n-1] - rest) + drive         after a next_step reset, see below
    s[n] = u[n] > vth                                    (or >=)

What a spike does (``reset``) and when (``reset_order``):

=========  ==========================  ==================================================
reset      at_spike                    next_step (``s`` = the spike of step n-1)
=========  ==========================  ==================================================
subtract   u -= amount, before decay   u[n] = rest + beta*(u[n-1]-rest) + drive - amount*s
zero       u = rest, where s           u[n-1] is replaced by rest before it decays, where s
value      u = reset_value, where s    u[n-1] is replaced by reset_value, where s
none       nothing                     nothing
=========  ==========================  ==================================================

``amount`` is ``reset_value`` or, if that is None, ``vth - rest``. With
``reset_drops_input`` a next_step reset to zero or value discards the whole
right-hand side of that step: ``u[n] = rest`` (or ``reset_value``). For
``refractory`` steps after a spike the voltage is held and no spike is given;
the current goes on.

Switches that frameworks have beside the binary family:
with ``max_spikes`` above 1 an at_spike subtraction is repeated while the voltage
is above threshold, up to that many times, and ``s[n]`` is how often (a graded
spike of that size); a ``floor`` is what the voltage cannot fall below, applied
last in the step. With ``reset_twice`` (snnTorch's ``reset_delay=False``) a voltage
that an at_spike subtraction left above threshold counts against the next spike:
``s[n] = u[n] - amount * r > vth`` where ``r`` is ``u[n-1] > vth``, after its reset.

The seed model of Neftci, Mostafa and Zenke (2019, arXiv 1901.09948), written
``I[n+1] = a I[n] + W S_in[n] + V S[n]; U[n+1] = b U[n] + I[n] - S[n]``, is
coupling ``delayed``, reset ``subtract`` at ``next_step``, compare ``>``, with
``i[n] := I[n+1]``, ``u[n] := U[n+1]``, ``s[n] := S[n+1]``: delay 0 from an input,
delay 1 from a population, and ``view.lag = -1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, cast

from spikec.compiler.arrays import Array, Shape, frozen, per_neuron, size
from spikec.compiler.errors import Diagnostic, GraphError
from spikec.compiler.operators import Operator
from spikec.compiler.trace import Probe

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "LI",
    "LIF",
    "MOST_SPIKES",
    "Choice",
    "Compare",
    "Coupling",
    "Edge",
    "Graph",
    "Input",
    "InputKind",
    "Node",
    "Population",
    "Reset",
    "ResetOrder",
    "Source",
    "SourceView",
]

InputKind: TypeAlias = Literal["binary", "graded", "analog"]
Coupling: TypeAlias = Literal["immediate", "delayed"]
Reset: TypeAlias = Literal["subtract", "zero", "value", "none"]
ResetOrder: TypeAlias = Literal["at_spike", "next_step"]
Compare: TypeAlias = Literal[">", ">="]

#: The most spikes a neuron may send in a step: traces hold spikes in 8 bits.
MOST_SPIKES = 255


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """How to read the source framework's values off a rewritten population.

    Index n of a trace is this population's step ``n + lag`` (the current's:
    ``n + current_lag``); step -1 is the initial state. A source voltage is
    ``voltage_offset + u`` element by element, a source current
    ``i / current_scale``.
    """

    lag: int = 0
    current_lag: int = 0
    voltage_offset: Array = field(default_factory=lambda: frozen(0.0))
    current_scale: Array = field(default_factory=lambda: frozen(1.0))

    def later(self, steps: int) -> SourceView:
        """Return the view of the same population run ``steps`` later."""
        if steps == 0:
            return self
        return replace(self, lag=self.lag + steps, current_lag=self.current_lag + steps)


@dataclass(frozen=True, eq=False, kw_only=True)
class Input:
    """Where data enters: ``shape`` values a step, presented ``shift`` steps late.

    ``binary`` carries 0 and 1, ``graded`` integers, ``analog`` real numbers (a
    current). ``low`` and ``high`` bound the values; None for analog means that
    calibration data must supply them.
    """

    name: str
    shape: Shape
    kind: InputKind = "binary"
    low: float | None = 0
    high: float | None = 1
    shift: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Population:
    """The linear part that all neuron populations share; see the module's equations.

    Array fields accept a scalar or one value per neuron. ``start`` is the first
    step at which the population integrates: before it the state is held, and
    nothing is emitted.
    """

    name: str
    shape: Shape
    alpha: Array | None
    beta: Array
    coupling: Coupling
    gain: Array = field(default_factory=lambda: frozen(1.0))
    bias: Array = field(default_factory=lambda: frozen(0.0))
    rest: Array = field(default_factory=lambda: frozen(0.0))
    floor: Array | None = None
    initial_current: Array = field(default_factory=lambda: frozen(0.0))
    initial_voltage: Array | None = None
    start: int = 0
    view: SourceView = field(default_factory=SourceView)

    #: Fields that hold one float per neuron.
    PER_NEURON: ClassVar[tuple[str, ...]] = (
        "alpha",
        "beta",
        "gain",
        "bias",
        "rest",
        "floor",
        "initial_current",
        "initial_voltage",
    )

    #: Those of them that may be None.
    OPTIONAL: ClassVar[tuple[str, ...]] = ("alpha", "floor", "reset_value")

    def __post_init__(self) -> None:
        if self.initial_voltage is None:
            object.__setattr__(self, "initial_voltage", self.rest)
        for name in self.PER_NEURON:
            values = getattr(self, name)
            if values is None and name in self.OPTIONAL:
                continue
            try:
                object.__setattr__(self, name, per_neuron(values, self.shape))
            except (TypeError, ValueError) as error:
                raise GraphError(
                    Diagnostic(
                        code="G001",
                        where=f"population '{self.name}'",
                        message=f"{name}: {error}",
                        hint=f"give a number or an array of shape {self.shape}",
                    )
                ) from error

    @property
    def num_neurons(self) -> int:
        """The number of neurons."""
        return size(self.shape)

    @property
    def initial_state(self) -> tuple[Array, Array]:
        """Current and voltage before the first step."""
        assert self.initial_voltage is not None
        return self.initial_current, self.initial_voltage


@dataclass(frozen=True, eq=False, kw_only=True)
class LIF(Population):
    """A spiking population: leaky integrate-and-fire with every switch named."""

    vth: Array
    reset: Reset
    reset_order: ResetOrder
    compare: Compare
    reset_value: Array | None = None
    reset_drops_input: bool = False
    refractory: int = 0
    max_spikes: int = 1
    reset_twice: bool = False

    PER_NEURON: ClassVar[tuple[str, ...]] = (*Population.PER_NEURON, "vth", "reset_value")

    @property
    def reset_amount(self) -> Array:
        """What ``subtract`` takes off: ``reset_value``, or ``vth - rest``."""
        if self.reset_value is not None:
            return self.reset_value
        return frozen(self.vth - self.rest)

    @property
    def reset_voltage(self) -> Array:
        """What ``zero`` and ``value`` set: ``rest``, or ``reset_value``."""
        if self.reset == "value" and self.reset_value is not None:
            return self.reset_value
        return self.rest


@dataclass(frozen=True, eq=False, kw_only=True)
class LI(Population):
    """A leaky integrator that never spikes: a readout of its voltage."""


Node: TypeAlias = Input | LIF | LI


@dataclass(frozen=True, eq=False, kw_only=True)
class Edge:
    """A linear operator from one node to a population, ``delay`` steps long.

    What the source gives at step n arrives at step n + delay.
    """

    name: str
    source: str
    target: str
    operator: Operator
    delay: int = 0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One semantic choice and where it came from (the file, a profile, an option)."""

    what: str
    value: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """The file a graph was read from."""

    path: str = ""
    format: str = "python"
    sha256: str = ""


class Graph:
    """An immutable network; rewrites give new graphs that share nodes and edges.

    ``dt`` is the time step in seconds, None where the source has none.
    Building a graph checks every rule of :mod:`spikec.compiler.check` and
    raises :class:`~spikec.compiler.errors.GraphError` with all findings.
    """

    __slots__ = ("_graph", "choices", "dt", "outputs", "source")

    def __init__(
        self,
        *,
        nodes: Iterable[Node],
        edges: Iterable[Edge],
        outputs: Iterable[str],
        dt: float | None = None,
        source: Source | None = None,
        choices: Iterable[Choice] = (),
    ) -> None:
        # Programs run without it, and importing it takes longer than most runs.
        import networkx as nx

        from spikec.compiler.check import check_parts  # it needs the types above

        nodes, edges, outputs = tuple(nodes), tuple(edges), tuple(outputs)
        check_parts(nodes, edges, outputs, dt)
        self._graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for node in nodes:
            self._graph.add_node(node.name, node=node)
        for edge in edges:
            self._graph.add_edge(edge.source, edge.target, key=edge.name, edge=edge)
        self.outputs = outputs
        self.dt = dt
        self.source = source or Source()
        self.choices = tuple(choices)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in the order they were given."""
        return tuple(cast("Node", data["node"]) for _, data in self._graph.nodes(data=True))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The input nodes."""
        return tuple(node for node in self.nodes if isinstance(node, Input))

    @property
    def populations(self) -> tuple[LIF | LI, ...]:
        """The neuron populations."""
        return tuple(node for node in self.nodes if not isinstance(node, Input))

    @property
    def default_probes(self) -> tuple[Probe, ...]:
        """What every run records: all spikes, and the voltage of readouts."""
        return tuple(
            (node.name, "spikes" if isinstance(node, LIF) else "voltage")
            for node in self.populations
        )

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, grouped by target in node order."""
        return tuple(edge for node in self.nodes for edge in self.edges_into(node.name))

    def __getitem__(self, name: str) -> Node:
        return cast("Node", self._graph.nodes[name]["node"])

    def __contains__(self, name: object) -> bool:
        return name in self._graph

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def edges_into(self, name: str) -> tuple[Edge, ...]:
        """Return the edges that end at ``name``, in the order they were given."""
        return tuple(data["edge"] for _, _, data in self._graph.in_edges(name, data=True))

    def edges_from(self, name: str) -> tuple[Edge, ...]:
        """Return the edges that start at ``name``."""
        return tuple(data["edge"] for _, _, data in self._graph.out_edges(name, data=True))

    def immediate_order(self) -> tuple[LIF | LI, ...]:
        """Return the populations so that zero-delay edges point forward."""
        import networkx as nx

        now: nx.DiGraph[str] = nx.DiGraph()
        now.add_nodes_from(node.name for node in self.nodes)
        now.add_edges_from((edge.source, edge.target) for edge in self.edges if edge.delay == 0)
        place = {node.name: index for index, node in enumerate(self.nodes)}
        order = nx.lexicographical_topological_sort(now, key=lambda name: place[name])
        nodes = (self[name] for name in order)
        return tuple(node for node in nodes if not isinstance(node, Input))

    def reachable_from_inputs(self) -> frozenset[str]:
        """Return the names of the populations that some input has a path to."""
        import networkx as nx

        reached: set[str] = set()
        for node in self.inputs:
            reached |= nx.descendants(self._graph, node.name)
        return frozenset(reached)

    def rewritten(
        self,
        *,
        nodes: Mapping[str, Node] | None = None,
        edges: Mapping[str, Edge] | None = None,
        choices: Iterable[Choice] = (),
    ) -> Graph:
        """Return this graph with some nodes and edges replaced, by name, and choices added."""
        nodes, edges = nodes or {}, edges or {}
        return Graph(
            nodes=[nodes.get(node.name, node) for node in self.nodes],
            edges=[edges.get(edge.name, edge) for edge in self.edges],
            outputs=self.outputs,
            dt=self.dt,
            source=self.source,
            choices=(*self.choices, *choices),
        )

    def with_source(self, source: Source) -> Graph:
        """Return this graph as read from ``source``."""
        return Graph(
            nodes=self.nodes,
            edges=self.edges,
            outputs=self.outputs,
            dt=self.dt,
            source=source,
            choices=self.choices,
        )

    def __str__(self) -> str:
        from spikec.compiler.printer import to_text

        return to_text(self)
