"""A program laid out for the fast engine: flat tables and weights, source by source.

Each population has columns in one array of what is sent, and so has each input that is no
spikes; those are read where their owner has them. Populations
that hear each other run together as a group; groups run one after the other, all
steps of a chunk at a time. A population that a convolution reaches is kept as
(y, x, channel), so that what one spike adds to a row of pixels is contiguous; its
``order`` says which neuron of the program each place is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spikec.backends.simulator import codes as k
from spikec.compiler.arrays import Array, IntArray, Shape, aligned, size
from spikec.compiler.bounds import arriving, current_bound, refused_sums
from spikec.compiler.components import components
from spikec.compiler.errors import BackendError, Diagnostic, raise_if_any
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, VTH_SHIFT
from spikec.compiler.operators import Conv2d, Dense, Sparse
from spikec.compiler.pages import low_zeros, pieces, span
from spikec.compiler.program import Connection, Neurons, Program

__all__ = ["Columns", "Layout", "laid_out", "padded"]

#: What arrives in a step within the first bound keeps every sum in 32 bits, however often a
#: current wraps; within the second as long as none does.
_PROVED = 1 << 18
_NARROW = 1 << 24
#: Synapses that one by one take 6 bytes each.
_MOST_SYNAPSES = 1 << 31
#: A matrix of at least so many bytes, which no cache keeps, is read as single synapses where it
#: holds less than one in so many: adding one takes as long as adding as many that lie in a row.
_LARGE, _THIN = 1 << 20, 48
#: Rows of weights and of sums are padded to whole vectors, neurons to whole words.
_LANES, _WORD = 32, 64
#: Steps that are taken together: all there is room for where rows of weights are used again,
#: else as many as keep what arrives (in values) in the second-level cache, and some.
_MOST_STEPS, _FEW_STEPS, _CACHED_SUMS, _CACHE = 128, 8, 1 << 16, 1 << 20
_NEVER = (1 << 31) - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Columns:
    """Where one input or population is: its first column, and the neuron at each place.

    ``order`` None means that places are neurons in row-major order.
    """

    begin: int
    count: int
    shape: Shape
    order: IntArray | None = None

    def placed(self, values: Array) -> Array:
        """Bring values ``[neuron, ...]`` into the order of places."""
        return values if self.order is None else values[self.order]


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """The tables of :mod:`spikec.backends.simulator.kernels`.

    Sparse connections are read where they lie, through addresses of arrays that ``held``
    keeps: the synapses of a program are never copied. ``sent`` and ``integers`` give the
    columns of what is sent as bytes and as integers, ``heard`` the row of each binary input
    in the table that says where it is; ``wires`` are the program's
    connections in the order of the table; ``state`` is the place of each population among
    all neurons; ``sums`` says how many sums convolutions have, of spikes and of values. States
    are of type ``dtype``; unless ``proved``, int32 holds only while no current wraps.
    """

    program: Program
    sent: Mapping[str, Columns]
    integers: Mapping[str, Columns]
    heard: Mapping[str, Columns]
    state: Mapping[str, int]
    groups: IntArray
    populations: IntArray
    connections: IntArray
    wires: tuple[Connection, ...]
    names: tuple[str, ...]
    weights: tuple[Array, ...]
    values: Array
    initial: Array
    dtype: type[np.signedinteger]
    proved: bool
    history: int
    widest: int
    width: int
    integer_width: int
    held: tuple[Array, ...]
    sums: tuple[int, int]


def laid_out(program: Program) -> Layout:
    """Return ``program`` as tables; :class:`BackendError` for what no memory, no integer holds."""
    raise_if_any(BackendError, list(refused_sums(program)))
    order = components(program)
    names = tuple(name for group in order for name in group)
    arrives = {item.name: arriving(program, item) for item in program.neurons}
    bounds = {name: int(item.max(initial=0)) for name, item in arrives.items()}
    narrow = max(bounds.values()) <= _NARROW
    calm = {
        item.name
        for item in program.neurons
        if current_bound(item, arrives[item.name]) <= STATE_MAX
    }
    sent, integers, heard = _columns(program)
    sizes = {item.name: padded(item.num_neurons) for item in program.populations}
    state = _starts(sizes[name] for name in names)
    target = {
        name: place
        for group in order
        for name, place in zip(group, _starts(sizes[name] for name in group), strict=False)
    }
    builder = _Builder(program, sent, {**integers, **heard}, target)
    groups = []
    for group in order:
        first = names.index(group[0])
        begin = len(builder.connections)
        inner = [item for item in program.connections if item.source in group]
        outer = [item for item in program.connections if item.source not in group]
        for item in (*outer, *inner):
            if item.target in group:
                builder.add(item)
        outers = sum(item.target in group for item in outer)
        groups.append(
            [first, first + len(group), begin, begin + outers, len(builder.connections), 0, 0]
        )
    places = dict(zip(names, state, strict=False))
    neurons = [program.neuron(name) for name in names]
    rows = [
        _population_row(
            item,
            sent[item.name].begin,
            places[item.name],
            target[item.name],
            way=_way(item, calm=item.name in calm, narrow=narrow),
        )
        for item in neurons
    ]
    dtype = np.int32 if narrow else np.int64
    for row in groups:
        _plan_group(row, rows, builder.connections)
    return Layout(
        program=program,
        sent=sent,
        integers=integers,
        heard=heard,
        state=places,
        groups=np.array(groups, np.int64),
        populations=np.array(rows, np.int64),
        connections=np.array(builder.connections or np.zeros((0, k.C_TOGETHER + 1)), np.int64),
        wires=tuple(builder.wires),
        names=names,
        weights=builder.weights(),
        values=_joined([_values(item, sent[item.name]) for item in neurons]),
        initial=_initial(neurons, sent, dtype),
        dtype=dtype,
        proved=all(name in calm or bound <= _PROVED for name, bound in bounds.items()),
        history=max([1, *(row[k.C_DELAY] for row in builder.connections)]),
        widest=max(
            padded(item.count) for item in (*sent.values(), *integers.values(), *heard.values())
        ),
        width=padded(sum(padded(item.count) for item in sent.values())),
        integer_width=sum(item.count for item in integers.values()),
        held=tuple(builder.held),
        sums=(builder.sums[0], builder.sums[1]),
    )


def _plan_group(
    group: list[int], populations: Sequence[list[int]], connections: Sequence[list[int]]
) -> None:
    """Say how a group goes through the steps: fused, and how many of them at a time."""
    inside = populations[group[k.G_POPULATIONS] : group[k.G_POPULATIONS_END]]
    heard = connections[group[k.G_OUTER] : group[k.G_INNER_END]]
    alone = len(inside) == len(heard) == 1 and group[k.G_OUTER] < group[k.G_OUTER_END]
    group[k.G_FUSED] = int(
        alone
        and inside[0][k.P_PLAIN] != k.GENERAL
        and heard[0][k.C_KIND] == k.DENSE
        and heard[0][k.C_VALUES] <= k.BITS
    )
    width = sum(padded(row[k.P_COUNT]) for row in inside)
    reused = any(row[k.C_KIND] == k.DENSE and row[k.C_COUNT] * row[k.C_WIDTH] > _CACHE
                 for row in heard)  # fmt: skip
    group[k.G_STEPS] = _MOST_STEPS if reused else max(_FEW_STEPS, _CACHED_SUMS // width)


def _columns(
    program: Program,
) -> tuple[dict[str, Columns], dict[str, Columns], dict[str, Columns]]:
    """Return the columns of bytes (spikes, and counts up to 255), those of integers, and rows.

    The last are those of binary inputs.
    """
    pictures = {item.target for item in program.connections if _contiguous(item)}
    sent: dict[str, Columns] = {}
    for item in program.neurons:
        order = _channels_last(item.shape) if item.name in pictures else None
        begin = sum(padded(c.count) for c in sent.values())
        sent[item.name] = Columns(
            begin=begin, count=size(item.shape), shape=item.shape, order=order
        )
    integers: dict[str, Columns] = {}
    heard: dict[str, Columns] = {}
    for entry in program.inputs:
        binary = entry.kind == "binary"
        table = heard if binary else integers
        begin = len(heard) if binary else sum(c.count for c in integers.values())
        table[entry.name] = Columns(begin=begin, count=size(entry.shape), shape=entry.shape)
    return sent, integers, heard


def _joined(parts: Sequence[Array]) -> Array:
    whole = aligned((len(parts[0]), sum(part.shape[1] for part in parts)), np.int32)
    return np.concatenate(parts, axis=1, out=whole)


def padded(count: int, multiple: int = _WORD) -> int:
    """Return ``count`` rounded up to a multiple."""
    return -(-count // multiple) * multiple


def _starts(counts: Iterable[int]) -> list[int]:
    """Return where each of consecutive parts begins, and where the last one ends."""
    return list(itertools.accumulate(counts, initial=0))


def _channels_last(shape: Shape) -> IntArray:
    order: IntArray = np.arange(size(shape)).reshape(shape).transpose(1, 2, 0).reshape(-1)
    return order


def _contiguous(connection: Connection) -> bool:
    """Say whether a convolution fits the fast kernel."""
    operator = connection.operator
    return (
        isinstance(operator, Conv2d)
        and operator.groups == 1
        and operator.dilation == (1, 1)
        and _narrow_shift(operator.weight) is not None
    )


def _is_thin(operator: Dense) -> bool:
    """Say whether a matrix takes much less memory as single synapses, and no more time.

    A layer of many delays is many such matrices, each with the synapses of one delay.
    """
    outputs, inputs = operator.weight.shape
    whole = inputs * padded(outputs, _LANES)
    return whole >= _LARGE and bool(_THIN * np.count_nonzero(operator.weight) < whole)


def _narrowed(weight: Array) -> tuple[Array, int] | None:
    """Return the weights without their common factor of two, if int8 then holds them."""
    shift = _narrow_shift(weight)
    return None if shift is None else ((weight >> shift).astype(np.int8), shift)


def _narrow_shift(weight: Array) -> int | None:
    """Return the factor of two that leaves weights of int8, if there is one."""
    low, high, bits = span(weight)
    shift = low_zeros(bits)
    return shift if low >> shift >= -128 and high >> shift <= 127 else None


def _together(weight: Array, shift: int) -> int:
    """Return how many rows of weights bytes can sum, at least 1."""
    low, high, _ = span(weight)
    return min(128 // max(1, -(low >> shift)), 127 // max(1, high >> shift)) or 1


class _Builder:
    """Collects connections and their weights, one behind the other."""

    def __init__(
        self,
        program: Program,
        sent: Mapping[str, Columns],
        inputs: Mapping[str, Columns],
        target: Mapping[str, int],
    ) -> None:
        self._program = program
        self._sent, self._inputs, self._target = sent, inputs, target
        self._binary = {item.name for item in program.inputs if item.kind == "binary"}
        self._shifts = {item.name: item.shift for item in program.inputs}
        self._most = {item.name: item.max_spikes for item in program.neurons}
        self._parts: tuple[list[Callable[[Array], None]], ...] = ([], [], [], [])
        self._lengths = [0] * 4
        self.sums = [0, 0]
        self.connections: list[list[int]] = []
        self.wires: list[Connection] = []
        self.held: list[Array] = []

    def add(self, connection: Connection) -> None:
        """Append a connection."""
        source = self._source(connection.source)
        row = [0] * (k.C_TOGETHER + 1)
        row[k.C_SOURCE], row[k.C_COUNT] = source.begin, source.count
        row[k.C_DELAY] = connection.delay + self._shifts.get(connection.source, 0)
        row[k.C_TARGET] = self._target[connection.target]
        row[k.C_WIDTH] = self._sent[connection.target].count
        row[k.C_STRIDE] = padded(row[k.C_WIDTH], _LANES)
        row[k.C_SHIFT] = connection.weight_exp
        row[k.C_VALUES] = self._values(connection.source)
        operator = connection.operator
        if isinstance(operator, Dense) and _is_thin(operator):
            self._thin(row, connection, operator)
        elif isinstance(operator, Dense):
            self._dense(row, connection, operator)
        elif isinstance(operator, Conv2d) and _contiguous(connection):
            self._picture(row, connection, operator)
        else:
            self._sparse(row, connection, operator)
        self.connections.append(row)
        self.wires.append(connection)

    def weights(self) -> tuple[Array, ...]:
        """Return narrow and wide weights, geometry and places."""
        types = (np.int8, np.int16, np.int64, np.int32)
        flat = []
        for which, dtype in enumerate(types):  # the last vector may reach beyond a kernel
            self._append(which, np.zeros(k.Q_HIGH + 1 if dtype is np.int64 else _LANES, dtype))
            flat.append(aligned((self._lengths[which],), dtype))
            for part in self._parts[which]:
                part(flat[-1])
        flat[2] = flat[2].reshape(-1, k.Q_HIGH + 1)
        return tuple(flat)

    def _source(self, name: str) -> Columns:
        return self._sent[name] if name in self._sent else self._inputs[name]

    def _values(self, name: str) -> int:
        if name in self._inputs:
            return k.HEARD if name in self._binary else k.INTEGERS
        return k.BYTES if self._most.get(name, 1) > 1 else k.BITS

    def _append(self, which: int, values: Array) -> int:
        """Add values to one of the flat arrays and return where they begin."""

        def fill(place: Array) -> None:
            place[:] = values.reshape(-1)

        return self._reserve(which, values.size, fill)

    def _reserve(self, which: int, count: int, fill: Callable[[Array], None]) -> int:
        """Let ``fill`` write part of one of the flat arrays, and return where that begins.

        It is called once, at the end: weights are never there twice.
        """
        begin = self._lengths[which]
        self._lengths[which] += count
        self._parts[which].append(lambda flat: fill(flat[begin : begin + count]))
        return begin

    def _dense(self, row: list[int], connection: Connection, operator: Dense) -> None:
        source, target = self._source(connection.source), self._sent[connection.target]
        shift = _narrow_shift(operator.weight)
        row[k.C_KIND], which = (k.WIDE, 1) if shift is None else (k.DENSE, 0)
        row[k.C_SHIFT] += shift or 0
        row[k.C_TOGETHER] = _together(operator.weight, shift or 0)
        stride, count = row[k.C_STRIDE], source.count
        cut = k.BLOCK if which == 0 and row[k.C_VALUES] <= k.BITS else stride

        def fill(place: Array) -> None:
            for begin in range(0, stride, k.BLOCK):
                end = min(begin + k.BLOCK, row[k.C_WIDTH])
                which_rows = slice(begin, end) if target.order is None else target.order[begin:end]
                at, width = begin // cut * cut, min(cut, stride - begin // cut * cut)
                rows = place[at * count : (at + width) * count].reshape(count, width)
                for some, part in pieces(operator.weight, which_rows, source.order):
                    ordered = (part >> (shift or 0)).astype(place.dtype)
                    rows[some, begin - at : end - at] = ordered.T

        row[k.C_WEIGHTS] = self._reserve(which, count * stride, fill)

    def _thin(self, row: list[int], connection: Connection, operator: Dense) -> None:
        """Keep the synapses of a matrix one by one, as :meth:`_sparse` does."""
        source, target = self._source(connection.source), self._sent[connection.target]
        reached, heard = np.nonzero(operator.weight)
        weights = operator.weight[reached, heard]
        row[k.C_KIND] = k.SPARSE
        self._listed(row, _place_of(source)[heard], _place_of(target)[reached], weights)

    def _picture(self, row: list[int], connection: Connection, operator: Conv2d) -> None:
        narrowed = _narrowed(operator.weight)
        assert narrowed is not None, "only such convolutions are taken this way"
        weight, shift = narrowed
        picture = _picture(operator, self._source(connection.source))
        out, channels, rows, columns = weight.shape
        up, left = operator.stride
        # [channel in, ky, kx modulo the stride, kx falling and channel out]
        kernel = np.zeros((channels, picture.lines * up, left, picture.width), np.int8)
        for column in range(columns):
            phase, tap = column % left, column // left
            at = (picture.slots - 1 - tap) * out
            kernel[:, :rows, phase, at : at + out] = weight[..., column].transpose(1, 2, 0)
        which = int(row[k.C_VALUES] > k.BITS)
        sums, self.sums[which] = self.sums[which], self.sums[which] + picture.size
        first = self._append(3, picture.places + np.array([sums, 0], np.int32))
        geometry = np.zeros(k.Q_HIGH + 1, np.int64)
        geometry[k.Q_PLACES], geometry[k.Q_LINE], geometry[k.Q_BACK] = (
            first, picture.line, up * left * picture.width
        )  # fmt: skip
        geometry[k.Q_LINES], geometry[k.Q_WIDTH] = picture.lines, picture.width
        geometry[k.Q_SUMS], geometry[k.Q_REACHED] = sums + picture.origin, picture.reached
        geometry[k.Q_HIGH] = picture.high
        row[k.C_KIND] = k.CONV
        row[k.C_GEOMETRY] = self._append(2, geometry) // len(geometry)
        row[k.C_SHIFT] += shift
        row[k.C_WEIGHTS] = self._append(0, kernel)

    def _sparse(self, row: list[int], connection: Connection, operator: Conv2d | Sparse) -> None:
        source, target = self._source(connection.source), self._sent[connection.target]
        row[k.C_KIND] = k.SPARSE
        if isinstance(operator, Sparse) and source.order is None and target.order is None:
            synapses = operator.synapses
            self._address(row, operator.weight, synapses.targets, synapses.pointers)
            return
        heard, reached, weights = _synapses(operator, source.shape, connection.name)
        self._listed(row, _place_of(source)[heard], _place_of(target)[reached], weights)

    def _listed(self, row: list[int], heard: IntArray, reached: IntArray, weights: Array) -> None:
        """Let a row name single synapses, source by source."""
        order = np.argsort(heard, kind="stable")
        pointers = np.searchsorted(heard[order], np.arange(row[k.C_COUNT] + 1))
        self._address(row, weights[order], reached[order].astype(np.int32), pointers)

    def _address(self, row: list[int], weights: Array, targets: Array, pointers: Array) -> None:
        """Let a row name the arrays of single synapses, and keep them alive."""
        wanted = ((k.C_WEIGHTS, weights, np.int16), (k.C_TARGETS, targets, np.int32),
                  (k.C_POINTERS, pointers, np.int64))  # fmt: skip
        for column, values, dtype in wanted:
            assert values.dtype == dtype, "the kernels read this type there"
            assert values.flags.c_contiguous, "and nothing between"
            self.held.append(values)
            row[column] = values.ctypes.data


@dataclass(frozen=True, eq=False, kw_only=True)
class _Picture:
    """Sums of a convolution with a margin: what a spike reaches is as large everywhere.

    A source neuron reaches ``lines`` lines, ``line`` apart, of ``width`` sums each: zeros beside
    ``slots`` pixels. ``places`` says where its first line begins, and that of the kernel.
    ``reached`` sums in each of ``high`` lines from ``origin`` are those of the target.
    """

    lines: int
    line: int
    width: int
    slots: int
    places: Array
    origin: int
    reached: int
    high: int

    @property
    def size(self) -> int:
        """How many sums there are, with the margin."""
        most = int(self.places[:, 0].max(initial=0)) + (self.lines - 1) * self.line + self.width
        return padded(max(most, self.origin + self.high * self.line))


def _picture(operator: Conv2d, source: Columns) -> _Picture:
    """Return where the spikes of ``source`` reach the sums of a convolution."""
    out, _, rows, columns = operator.weight.shape
    (up, left), (above, before) = operator.stride, operator.padding
    _, high, wide = operator.output_shape(source.shape)
    lines, slots = -(-rows // up), -(-columns // left)
    width = padded(slots * out, _LANES)
    where = np.unravel_index(np.arange(source.count), source.shape)
    channel, y, x = (source.placed(item) for item in where)
    (down, ky), (right, kx) = divmod(y + above, up), divmod(x + before, left)
    # The first pixel of the target stands behind a margin for those that reach further.
    pixels = max(int(right.max(initial=0)) + 1, wide) + slots - 1
    line = padded(pixels * out + _LANES, _LANES)
    at = down * line + right * out
    kernel = ((channel * lines * up + ky + (lines - 1) * up) * left + kx) * width
    return _Picture(
        lines=lines, line=line, width=width, slots=slots,
        places=np.stack([at, kernel], axis=1).astype(np.int32),
        origin=(lines - 1) * line + (slots - 1) * out, reached=wide * out, high=high,
    )  # fmt: skip


def _place_of(columns: Columns) -> IntArray:
    """Return the place of each neuron."""
    if columns.order is None:
        return np.arange(columns.count)
    places = np.empty(columns.count, np.int64)
    places[columns.order] = np.arange(columns.count)
    return places


def _synapses(
    operator: Conv2d | Sparse, source: Shape, name: str
) -> tuple[IntArray, IntArray, Array]:
    """Return source, target and weight of every synapse, by neuron number."""
    if isinstance(operator, Sparse):
        synapses = operator.synapses
        heard: IntArray = synapses.per_synapse(np.arange(synapses.inputs))
        return heard, synapses.targets.astype(np.int64), operator.weight
    out, high, wide = operator.output_shape(source)
    per_group, taps = operator.weight.shape[1], operator.weight.shape[2:]
    count = high * wide * operator.weight.size
    if count > _MOST_SYNAPSES:
        raise BackendError(
            Diagnostic(
                code="B012",
                where=f"connection '{name}'",
                message=f"its grouped or dilated convolution has {count:,} synapses",
                hint="run it with --engine golden, which applies kernels as they are",
            )
        )
    target, channel = np.meshgrid(np.arange(out), np.arange(per_group), indexing="ij")
    heard_channel = channel + target // (out // operator.groups) * per_group
    oy, ox = (item[:, :, None, None] for item in np.meshgrid(np.arange(high), np.arange(wide),
                                                             indexing="ij"))  # fmt: skip
    parts = []
    for row, column in np.ndindex(*taps):
        y = oy * operator.stride[0] + row * operator.dilation[0] - operator.padding[0]
        x = ox * operator.stride[1] + column * operator.dilation[1] - operator.padding[1]
        inside = (y >= 0) & (y < source[1]) & (x >= 0) & (x < source[2])
        inside = np.broadcast_to(inside, (high, wide, out, per_group))
        heard = (heard_channel * source[1] + y) * source[2] + x
        reached = (target * high + oy) * wide + ox
        weights = np.broadcast_to(operator.weight[..., row, column], inside.shape)
        reached = np.broadcast_to(reached, inside.shape)
        parts.append((heard[inside], reached[inside], weights[inside]))
    heard, reached, weights = (np.concatenate(item) for item in zip(*parts, strict=True))
    return heard, reached, weights


def _way(neurons: Neurons, *, calm: bool, narrow: bool) -> int:
    """Return which of the kernels takes a population's steps."""
    special = (
        neurons.refractory or neurons.max_spikes > 1 or neurons.floor is not None
        or neurons.reset_drops_input or neurons.reset_twice
    )  # fmt: skip
    if special or not narrow:
        return k.GENERAL
    return k.CALM if calm else k.PLAIN


def _population_row(
    neurons: Neurons, column: int, state: int, target: int, *, way: int
) -> list[int]:
    codes = {"none": k.NONE, "subtract": k.SUBTRACT, "zero": k.REPLACE, "value": k.REPLACE}
    code, at_spike = codes[neurons.reset], neurons.reset_order == "at_spike"
    row = [0] * 16
    row[k.P_SPIKES], row[k.P_COUNT], row[k.P_STATE] = column, neurons.num_neurons, state
    row[k.P_TARGET] = target
    row[k.P_RESET] = code if at_spike else k.NONE
    row[k.P_LATE] = k.NONE if at_spike else code
    row[k.P_DROPS] = int(neurons.reset_drops_input)
    row[k.P_TWICE] = int(neurons.reset_twice)
    row[k.P_IDLE], row[k.P_MOST] = neurons.refractory, neurons.max_spikes
    row[k.P_FLOOR] = int(neurons.floor is not None)
    row[k.P_FIRES] = int(neurons.vth is not None)
    row[k.P_START] = neurons.start
    row[k.P_VOLTAGE] = row[k.P_CURRENT] = -1
    row[k.P_PLAIN] = way
    return row


def _values(neurons: Neurons, columns: Columns) -> Array:
    """Return the parameters of each neuron, in the order of places; padding stays at rest."""
    zero = np.zeros(neurons.shape, np.int64)
    spiking = neurons.vth is not None
    named = {
        k.V_KEEP_CURRENT: DECAY_UNITY - 1 - neurons.du,
        k.V_KEEP_VOLTAGE: DECAY_UNITY - neurons.dv,
        k.V_BIAS: neurons.bias,
        k.V_THRESHOLD: zero + _NEVER if neurons.vth is None else neurons.vth << VTH_SHIFT,
        k.V_AMOUNT: neurons.reset_amount if spiking and neurons.reset == "subtract" else zero,
        k.V_RESET: zero if neurons.reset_value is None else neurons.reset_value,
        k.V_FLOOR: zero - STATE_MAX if neurons.floor is None else neurons.floor,
    }
    rows = [columns.placed(named[index].reshape(-1)) for index in range(len(named))]
    whole = np.zeros((k.R_RESET + 1, padded(columns.count)), np.int32)
    whole[k.V_THRESHOLD] = _NEVER
    whole[: len(rows), : columns.count] = np.stack(rows)
    reals = whole[k.R_KEEP_CURRENT :].view(np.float32)
    reals[...] = whole[: len(reals)]
    reals[[k.V_KEEP_CURRENT, k.V_KEEP_VOLTAGE]] /= DECAY_UNITY
    return whole


def _initial(
    neurons: Sequence[Neurons], sent: Mapping[str, Columns], dtype: type[np.signedinteger]
) -> Array:
    """Return currents and voltages before the first step, of all populations in order."""
    sizes = [padded(item.num_neurons) for item in neurons]
    states = aligned((2, sum(sizes)), dtype)
    for item, begin in zip(neurons, _starts(sizes), strict=False):
        place = slice(begin, begin + item.num_neurons)
        columns = sent[item.name]
        states[0, place] = columns.placed(item.initial_current.reshape(-1))
        states[1, place] = columns.placed(item.initial_voltage.reshape(-1))
    return states
