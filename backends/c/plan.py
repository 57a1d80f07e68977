"""What both kinds of C need to know of a program: names, bounds, integer types.

Every bound holds for all inputs that the program accepts. A population whose sums fit
32 bits is computed in 32 bits; one whose current provably never leaves 24 bits
needs no wrapping and counts none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from spikec.backends.c.symbols import KEYWORDS
from spikec.backends.names import identifiers
from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.bounds import arriving, current_bound, refused_sums
from spikec.compiler.errors import BackendError, Diagnostic, raise_if_any
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.operators import Conv2d, Dense, Sparse, row_sums, written_out
from spikec.compiler.pages import low_zeros, span
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput, refused_encoders
from spikec.compiler.storage import Storage, alone, storages

__all__ = ["Cell", "Link", "Plan", "Source", "check", "integer_type", "plan"]

#: Sums of a narrow population stay below this, so that 32 bits hold every intermediate value.
_NARROW = 1 << 29
#: Elements of one array: indices are 32-bit.
_MOST_ELEMENTS = (1 << 31) - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """What sends: an input or a population that spikes, and how far back it is read."""

    name: str
    ident: str
    shape: Shape
    low: int
    high: int
    depth: int
    is_input: bool

    @property
    def size(self) -> int:
        """The number of values it sends in a step."""
        return size(self.shape)

    @property
    def graded(self) -> bool:
        """Whether it sends anything but 0 and 1."""
        return self.low < 0 or self.high > 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Link:
    """A store of whole ``weights << shift`` with their whole ``delays``.

    The operator's mantissas have ``spare`` low bits that none of them sets. ``span`` is that of
    the weights, and 0. A store of several connections has each of them by itself in ``parts``.
    """

    ident: str
    stored: Storage
    source: Source
    delays: tuple[int, ...]
    span: tuple[int, int]
    spare: int
    shift: int
    parts: tuple[Link, ...] = ()

    @property
    def delay(self) -> int:
        """The delay of all its weights."""
        (delay,) = self.delays
        return delay

    @property
    def title(self) -> str:
        """What it is called where it is read."""
        more = len(self.stored.connections) - 1
        return self.stored.name + (f" and {more} more" if more else "")

    @property
    def weights(self) -> Array:
        """The mantissas without those bits, 16 bits wide; a copy each time."""
        weights: Array = self.operator.weight >> self.spare
        return weights

    @property
    def operator(self) -> Dense | Conv2d:
        """The operator, sparse ones as matrices."""
        operator = self.stored.operator
        assert not isinstance(operator, Sparse), "written out before there were links"
        return operator

    @cached_property
    def reach(self) -> Array:
        """The largest magnitude that it can bring in a step before the shift, per row."""
        rows = row_sums(self.operator).astype(np.int64) >> self.spare
        most: Array = rows * max(abs(self.source.low), abs(self.source.high))
        return most


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """A population, what arrives there, and the bounds of its sums."""

    neurons: Neurons
    ident: str
    links: tuple[Link, ...]
    bound: int

    @property
    def size(self) -> int:
        """The number of neurons."""
        return self.neurons.num_neurons

    @property
    def wide(self) -> bool:
        """Whether sums need 64 bits."""
        return self.bound >= _NARROW

    @property
    def wraps(self) -> bool:
        """Whether a current could leave 24 bits."""
        return self.bound > STATE_MAX

    @property
    def type(self) -> str:
        """The C type of its sums and currents."""
        return "int64_t" if self.wide else "int32_t"

    @property
    def remembers(self) -> bool:
        """Whether a step depends on whether the neuron spiked in the one before."""
        neurons = self.neurons
        resets = neurons.vth is not None and neurons.reset != "none"
        return resets and neurons.reset_order == "next_step"

    @property
    def idles(self) -> bool:
        """Whether neurons rest for some steps after a spike."""
        return self.neurons.vth is not None and self.neurons.refractory > 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """A program made ready for generating C."""

    program: Program
    sources: tuple[Source, ...]
    cells: tuple[Cell, ...]

    def source(self, name: str) -> Source:
        """Return the source called ``name``."""
        return {item.name: item for item in self.sources}[name]

    @property
    def extra_steps(self) -> int:
        """How many silent steps it takes until the latest population has shown its last one."""
        views = [item.view for item in self.program.populations]
        return max([0, *(max(view.lag, view.current_lag) for view in views)])


def plan(program: Program) -> Plan:
    """Make ``program`` ready; raise :class:`BackendError` with all that :func:`check` finds."""
    raise_if_any(BackendError, list(refused_encoders(program, "generated C")))
    built, findings = _build(program)
    raise_if_any(BackendError, findings)
    return built


def check(program: Program) -> Sequence[Diagnostic]:
    """Return why C cannot be generated: sums beyond 64 bits, arrays beyond 2**31 elements."""
    return [*refused_encoders(program, "generated C")] or _build(program)[1]


def integer_type(low: int, high: int) -> tuple[str, type[np.signedinteger | np.unsignedinteger]]:
    """Return the smallest type, in C and in NumPy, that holds ``low`` to ``high``."""
    for bits, signed, unsigned in (
        (8, np.int8, np.uint8), (16, np.int16, np.uint16), (32, np.int32, np.uint32),
    ):  # fmt: skip
        if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return f"int{bits}_t", signed
        if low >= 0 and high < 1 << bits:
            return f"uint{bits}_t", unsigned
    return "int64_t", np.int64


def _without_sparse(program: Program) -> tuple[Program, list[Diagnostic]]:
    """Return ``program`` with matrices for sparse synapses; large ones are left out and named."""
    written = [_with_matrix(item) for item in program.connections]
    connections = tuple(item for item in written if isinstance(item, Connection))
    findings = [item for item in written if isinstance(item, Diagnostic)]
    return replace(program, connections=connections), findings


def _with_matrix(connection: Connection) -> Connection | Diagnostic:
    if not isinstance(connection.operator, Sparse):
        return connection
    try:
        return replace(connection, operator=written_out(connection.operator))
    except ValueError as error:
        return Diagnostic(
            code="B055",
            where=f"connection '{connection.name}'",
            message=f"generated C holds matrices: {error}",
            hint="run it on the simulator",
        )


def _build(program: Program) -> tuple[Plan, list[Diagnostic]]:
    program, unwritten = _without_sparse(program)
    senders: list[ProgramInput | Neurons] = [*program.inputs, *program.neurons]
    names = [item.name for item in senders]
    idents = identifiers(names, is_taken=KEYWORDS.__contains__)
    links_of = identifiers([item.name for item in program.connections], is_taken=lambda _: False)
    shifts = {item.name: item.shift for item in program.inputs}
    bounds = program.message_bounds

    # Without synapses a connection needs neither weights nor rows of past spikes.
    stores = [item for item in storages(program) if item.operator.weight.any()]

    def shift_of(stored: Storage) -> int:
        return shifts.get(stored.source, 0)

    def source(item: ProgramInput | Neurons) -> Source:
        depths = [one.longest + shift_of(one) for one in stores if one.source == item.name]
        low, high = bounds[item.name]
        return Source(
            name=item.name, ident=idents[item.name], shape=item.shape, low=low, high=high,
            depth=max(depths, default=0), is_input=isinstance(item, ProgramInput),
        )  # fmt: skip

    sources = {item.name: source(item) for item in senders}

    def link(stored: Storage) -> Link:
        low, high, bits = span(stored.operator.weight)
        spare = low_zeros(bits)
        several = [item for item in stored.connections if item.operator.weight.any()]
        return Link(
            ident=f"w_{links_of[stored.name]}", stored=stored, source=sources[stored.source],
            delays=tuple(each + shift_of(stored) for each in stored.delays),
            span=(low >> spare, high >> spare), spare=spare,
            shift=stored.weight_exp + spare if bits else 0,
            parts=tuple(link(alone(item)) for item in several if len(several) > 1),
        )  # fmt: skip

    cells = []
    for neurons in program.neurons:
        into = [link(item) for item in stores if item.target == neurons.name]
        links = tuple(one for item in into for one in _smaller(item))
        bound = current_bound(neurons, arriving(program, neurons))
        cells.append(Cell(neurons=neurons, ident=idents[neurons.name], links=links, bound=bound))
    built = Plan(program=program, sources=tuple(sources.values()), cells=tuple(cells))
    return built, [*unwritten, *refused_sums(program), *_too_large(built)]


def _smaller(link: Link) -> tuple[Link, ...]:
    """Return a store, or its connections each by itself where those take less, or no more."""
    which = link.stored.which
    if not link.parts or which is None:
        return (link,)
    size = link.operator.weight.size
    return (link,) if size + which.size < size * len(link.parts) else link.parts


def _too_large(built: Plan) -> list[Diagnostic]:
    sizes = {f"population '{cell.neurons.name}'": cell.size for cell in built.cells}
    sizes |= {f"'{item.name}'": item.size for item in built.sources}
    sizes |= {
        f"connection '{link.stored.name}'": link.operator.weight.size
        for cell in built.cells
        for link in cell.links
    }
    return [
        Diagnostic(
            code="B051",
            where=where,
            message=f"{count} elements: generated C counts them in 32 bits",
            hint="run it on the simulator",
        )
        for where, count in sizes.items()
        if count > _MOST_ELEMENTS
    ]
