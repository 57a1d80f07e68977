"""The loops of the fast engine, compiled by Numba; tables are those of ``layout.py``.

One call runs a range of samples through the whole network, layer by layer: all
steps of a chunk of one group of populations, then the next group. Everything is
integers, and equal to :mod:`spikec.backends.simulator.golden` to the last bit.

What makes it fast, measured on this design:

- only rows of neurons that spiked are added (weights are stored source-major), many
  columns at a time in registers (:mod:`~spikec.backends.simulator.vectors`), as sums of
  8 bits while these hold them, then of 16, that are emptied before they can overflow;
- spikes are found 64 bytes at a time;
- a state of 24 bits is a float32, which holds it exactly, and a decay one multiplication and
  addition rounded toward zero: beside 2**23 a float has no fraction left;
- where floats will not do, a decay needs 32 bits only: with ``x = hi * 4096 + lo`` the product
  ``x * c / 4096`` is ``hi * c + (lo * c) / 4096``, and only the last part rounds.

A state is int32 where the layout proves that no sum can leave it, else int64;
the same source serves both.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from spikec.backends.simulator.codes import (
    BITS,
    BLOCK,
    BYTES,
    C_COUNT,
    C_DELAY,
    C_GEOMETRY,
    C_KIND,
    C_POINTERS,
    C_SHIFT,
    C_SOURCE,
    C_STRIDE,
    C_TARGET,
    C_TARGETS,
    C_TOGETHER,
    C_VALUES,
    C_WEIGHTS,
    C_WIDTH,
    CALM,
    CONV,
    DENSE,
    G_FUSED,
    G_INNER_END,
    G_OUTER,
    G_OUTER_END,
    G_POPULATIONS,
    G_POPULATIONS_END,
    G_STEPS,
    GENERAL,
    H_BACK,
    H_BEFORE,
    H_CHUNK,
    H_STEPS,
    HEARD,
    P_COUNT,
    P_CURRENT,
    P_DROPS,
    P_FIRES,
    P_FLOOR,
    P_IDLE,
    P_LATE,
    P_MOST,
    P_PLAIN,
    P_RESET,
    P_SPIKES,
    P_START,
    P_STATE,
    P_TARGET,
    P_TWICE,
    P_VOLTAGE,
    Q_BACK,
    Q_HIGH,
    Q_LINE,
    Q_LINES,
    Q_PLACES,
    Q_REACHED,
    Q_SUMS,
    Q_WIDTH,
    R_AMOUNT,
    R_BIAS,
    R_KEEP_CURRENT,
    R_KEEP_VOLTAGE,
    R_RESET,
    R_THRESHOLD,
    READY,
    REPLACE,
    SPARSE,
    SUBTRACT,
    V_AMOUNT,
    V_BIAS,
    V_FLOOR,
    V_KEEP_CURRENT,
    V_KEEP_VOLTAGE,
    V_RESET,
    V_THRESHOLD,
    WIDE,
)
from spikec.backends.simulator.vectors import (
    COMPRESSES,
    FUSED,
    TOWARD_ZERO,
    add_to,
    as_lanes,
    as_reals,
    as_word,
    bytes_at,
    counted,
    counted_up,
    element,
    fetch,
    fetch_at,
    give_way,
    kept_and,
    kept_part,
    loaded,
    lowest_bit,
    masked,
    number_of_bits,
    numbers_of_bits,
    plain,
    put,
    put_numbers,
    real,
    reals_at,
    round_as,
    rounding,
    select,
    splat,
    store,
    store_bytes,
    total,
    widened,
    write_to,
    zeros,
)

__all__ = ["APART", "MADE_OF", "judge", "run"]

#: What these loops are made of besides, as a digest: Numba keeps compiled loops for as long as
#: this file alone stays as it is. A test says what it has to be.
MADE_OF = "7b3374a60aca7db3"
#: Sums of 16 bits take this many rows of int8.
_ROWS = 255
#: Neurons that take steps side by side: two vectors where they are of 512 bits, so that one
#: works while the other waits.
_SIDE = 64
#: Columns of a row that are summed in registers together, and rows of weights asked for ahead.
_COLUMNS, _AHEAD = 256, 8
_MAX = (1 << 23) - 1
#: What a core's second-level cache can hold of weights, in bytes.
_CACHE = 1 << 20
_USES = 10
#: Pieces of a phase for each thread that shares it; how far apart (in 8 bytes) lie numbers that
#: threads share, so that none waits for the other's line; looks at one before giving way.
_PIECES, APART, _TRIES = 4, 16, 1 << 10

#: ``_nrt``: nothing is allocated in these loops, so slices need no counting of references.
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
_jit: Any = nb.njit(**_OPTIONS)
_inline: Any = nb.njit(inline="always", **_OPTIONS)
#: For what is called in every step: LLVM puts it in place, so that nothing is handed over.
_placed: Any = nb.njit(forceinline=True, **_OPTIONS)


def _reader(kind: Any) -> Any:
    """Return what reads number ``index`` of the integers at an address: synapses in place."""

    def typed(_context: Any, _address: Any, _index: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            address, index = arguments
            offset = builder.mul(index, ir.Constant(ir.IntType(64), kind.bitwidth // 8))
            place = builder.add(address, offset)
            return builder.load(builder.inttoptr(place, ir.IntType(kind.bitwidth).as_pointer()))

        return kind(nb.int64, nb.int64), generate

    return intrinsic(typed)


_weight_at: Any = _reader(nb.int16)
_target_at: Any = _reader(nb.int32)
_pointer_at: Any = _reader(nb.int64)
_byte_at: Any = _reader(nb.uint8)


@_placed
def _ones_in(values: Any, place: int) -> Any:
    """Return which of 64 bytes are not 0, as the bits of a word."""
    return as_word(loaded(values, place, 64, 8) != 0)


@_jit
def judge(address: int, count: int) -> tuple[int, int]:
    """Return whether any of the bytes at ``address`` is neither 0 nor 1, and how many are not 0."""
    wrong, odd, ones, whole = zeros(64, 8), 0, 0, count & -64
    for place in range(0, whole, 64):
        fetch_at(address + place + 4096)
        values = bytes_at(address + place, 64)
        wrong = wrong | (values & 254)
        ones += number_of_bits(as_word(values != 0))
    for place in range(whole, count):
        odd |= _byte_at(address, place) & 254
        ones += _byte_at(address, place) != 0
    return odd + number_of_bits(as_word(wrong != 0)), ones


@_placed
def _listed(mask: Any, place: int, index: Any, found: int) -> int:
    """Write ``place`` and the number of each bit that is set to ``index``; return the new end.

    There is room for 64 more.
    """
    count = number_of_bits(mask)
    if COMPRESSES:
        numbers = numbers_of_bits(mask)
        put_numbers(index, found, numbers, 0, place)
        if count > 16:
            put_numbers(index, found + 16, numbers, 16, place)
        if count > 32:
            put_numbers(index, found + 32, numbers, 32, place)
            put_numbers(index, found + 48, numbers, 48, place)
        return found + count
    # Mostly there are few, and four without asking are quicker than one wrong guess.
    for part in range(4):
        put(index, found + part, place + lowest_bit(mask))
        mask &= mask - np.uint64(1)
    for part in range(found + 4, found + count):
        put(index, part, place + lowest_bit(mask))
        mask &= mask - np.uint64(1)
    return found + count


@_placed
def _find_bits(sent: Any, index: Any, found: int) -> int:
    """Write the places of bytes that are not 0; ``sent`` is padded to whole words."""
    for place in range(0, len(sent), 64):
        found = _listed(_ones_in(sent, place), place, index, found)
    return found


@_placed
def _find_at(address: int, count: int, index: Any, found: int) -> int:
    """The same of ``count`` bytes at an address, with nothing between them and what follows."""
    whole = count & -64
    for place in range(0, whole, 64):
        found = _listed(as_word(bytes_at(address + place, 64) != 0), place, index, found)
    if whole == count:
        return found
    if whole:  # the last 64, without those that were seen
        mask = as_word(bytes_at(address + count - 64, 64) != 0) >> np.uint64(64 + whole - count)
    else:
        mask = np.uint64(0)
        for place in range(count):
            mask |= np.uint64(_byte_at(address, place) != 0) << np.uint64(place)
    return _listed(mask, whole, index, found)


@_jit
def _find_values(sent: Any, index: Any, values: Any, found: int) -> int:
    """Write the places and values of what is not 0."""
    for place in range(len(sent)):
        if sent[place] != 0:
            index[found] = place
            values[found] = sent[place]
            found += 1
    return found


@_placed
def _blank(row: Any) -> None:
    """Set a padded row to 0, in vectors like those that it is read in: these wait for smaller."""
    for j in range(0, len(row), 32):
        store(row, j, zeros(32, 32))


def _gathering(lanes: int) -> Any:
    """Return what adds ``lanes`` columns of rows of int8 weights: those of events of ``index``."""

    def gather(
        weights: Any, stride: int, index: Any, first: int, last: int, row: Any, column: int,
        at: int, shift: int, together: int, blank: bool,
    ) -> None:  # fmt: skip
        while first < last:
            end = min(first + _ROWS, last)
            sums = zeros(lanes, 16)
            while first < end:
                some = zeros(lanes, 8)
                stop = min(first + together, end)
                for event in range(first, stop):
                    # Rows lie apart: no processor guesses the next. Those of the next step count.
                    soon = element(index, event + _AHEAD) * stride + column
                    for line in range(0, lanes, 64):
                        fetch(weights, soon + line)
                    begin = element(index, event) * stride + column
                    some = some + loaded(weights, begin, lanes, 8)
                sums = sums + widened(some, 16)
                first = stop
            if blank:
                write_to(row, at, sums, shift)
                blank = False
            else:
                add_to(row, at, sums, shift)

    return _placed(gather)


_gather_many: Any = _gathering(_COLUMNS)
_gather_few: Any = _gathering(32)


@_placed
def _dense(
    connection: Any, weights: Any, index: Any, first: int, last: int, row: Any, skip: int,
    blank: bool,
) -> None:  # fmt: skip
    """Add what events ``first`` to ``last`` of ``index`` send, from column ``skip``, to ``row``.

    A ``blank`` row is written to, whatever it holds. Weights are laid out in blocks of columns,
    see :data:`~codes.BLOCK`; ``skip`` begins one. As many rows as bytes can hold are summed in
    bytes, their sums in 16 bits.
    """
    count, stride, shift = connection[C_COUNT], connection[C_STRIDE], connection[C_SHIFT]
    together = connection[C_TOGETHER]
    for begin in range(0, len(row), BLOCK):
        block = weights[(skip + begin) * count :]
        width, column = min(BLOCK, stride - skip - begin), plain(0)
        while column + _COLUMNS <= width:
            _gather_many(block, width, index, first, last, row, column, begin + column, shift,
                         together, blank)  # fmt: skip
            column += _COLUMNS
        while column < width:
            _gather_few(block, width, index, first, last, row, column, begin + column, shift,
                        together, blank)  # fmt: skip
            column += 32


@_jit
def _weighted(
    weights: Any, stride: int, index: Any, values: Any, row: Any, shift: int, graded: bool
) -> None:
    """The same for weights of any width and sources that send values."""
    width = len(row)
    for event in range(len(index)):
        begin = np.int64(index[event]) * stride
        a = weights[begin : begin + width]
        value = (values[event] if graded else 1) << shift
        for j in range(width):
            row[j] += a[j] * value


@_jit
def _empty(sums: Any, row: Any, shift: int, geometry: Any) -> None:
    """Add the sums of a convolution to ``row``: line by line, without the margin around them."""
    reached, place = geometry[Q_REACHED], geometry[Q_SUMS]
    for begin in range(0, geometry[Q_HIGH] * reached, reached):
        for j in range(0, reached, 32):
            # What is masked belongs to the margin, which is wider than a vector.
            summed = masked(loaded(sums, place + j, 32, 16), reached - j)
            add_to(row, begin + j, summed, shift)
            store(sums, place + j, zeros(32, 16))
        place += geometry[Q_LINE]


@_jit
def _empty_values(sums: Any, row: Any, shift: int, geometry: Any) -> None:
    """The same of sums of values."""
    reached, place = geometry[Q_REACHED], geometry[Q_SUMS]
    for begin in range(0, geometry[Q_HIGH] * reached, reached):
        for j in range(reached):
            row[begin + j] += sums[place + j] << shift
            sums[place + j] = 0
        place += geometry[Q_LINE]


@_jit
def _convolved(
    weights: Any, index: Any, first: int, last: int, sums: Any, row: Any, shift: int,
    geometry: Any, places: Any,
) -> None:  # fmt: skip
    """Add what neurons ``index`` of a picture send through a convolution to ``row``.

    ``row`` is (y, x, channel); ``places`` says for each neuron where the first line that it
    reaches begins among the sums, and that of its kernel. The sums have a margin, so that
    each spike adds as many vectors: no processor guesses how many there are.
    """
    table, lines, width = geometry[Q_PLACES], geometry[Q_LINES], geometry[Q_WIDTH]
    line, back = geometry[Q_LINE], geometry[Q_BACK]
    while first < last:
        end = min(first + _ROWS, last)
        for event in range(first, end):
            place = table + 2 * element(index, event)
            at, kernel = element(places, place), element(places, place + 1)
            for _ in range(lines):
                for j in range(0, width, 32):
                    taps = loaded(weights, kernel + j, 32, 16)
                    store(sums, at + j, loaded(sums, at + j, 32, 16) + taps)
                at += line
                kernel -= back
        _empty(sums, row, shift, geometry)
        first = end


@_jit
def _convolved_values(
    weights: Any, index: Any, values: Any, sums: Any, row: Any, shift: int, geometry: Any,
    places: Any,
) -> None:  # fmt: skip
    """The same of neurons that send ``values``."""
    table, lines, width = geometry[Q_PLACES], geometry[Q_LINES], geometry[Q_WIDTH]
    for event in range(len(index)):
        place = table + 2 * np.int64(index[event])
        at, kernel = np.int64(places[place]), np.int64(places[place + 1])
        for _ in range(lines):
            for j in range(width):
                sums[at + j] += weights[kernel + j] * values[event]
            at += geometry[Q_LINE]
            kernel -= geometry[Q_BACK]
    _empty_values(sums, row, shift, geometry)


@_jit
def _scattered(
    connection: Any,
    index: Any,
    values: Any,
    row: Any,
    shift: int,
    graded: bool,
) -> None:
    """Add what neurons ``index`` send one synapse at a time."""
    pointers, targets = connection[C_POINTERS], connection[C_TARGETS]
    weights = connection[C_WEIGHTS]
    for event in range(len(index)):
        value = (values[event] if graded else 1) << shift
        first, end = _pointer_at(pointers, index[event]), _pointer_at(pointers, index[event] + 1)
        for synapse in range(first, end):
            row[_target_at(targets, synapse)] += _weight_at(weights, synapse) * value


@_placed
def _deliver(
    connection: Any, weights: Any, index: Any, values: Any, first: int, last: int, sums: Any,
    row: Any, skip: int, block: int,
) -> None:  # fmt: skip
    """Add what events ``first`` to ``last`` send through one connection to its part of ``row``.

    Of a dense connection without values, only ``block`` columns after the first ``skip``.
    """
    narrow, wide, geometry, places = weights
    kind, shift, base = connection[C_KIND], connection[C_SHIFT], connection[C_WEIGHTS]
    graded = connection[C_VALUES] > BITS
    begin, width, stride = connection[C_TARGET], connection[C_WIDTH], connection[C_STRIDE]
    if kind == DENSE and not graded:
        part = row[begin + skip : begin + min(stride, skip + block)]
        _dense(connection, narrow[base:], index, first, last, part, skip,
               plain(False))  # fmt: skip
        return
    if kind == CONV and not graded:
        _convolved(narrow[base:], index, first, last, sums[0], row[begin:], shift,
                   geometry[connection[C_GEOMETRY]], places)  # fmt: skip
        return
    index, values = index[first:last], values[first:last]
    if kind == CONV:
        _convolved_values(narrow[base:], index, values, sums[1], row[begin:], shift,
                          geometry[connection[C_GEOMETRY]], places)  # fmt: skip
        return
    part = row[begin : begin + width]
    if kind == SPARSE:
        _scattered(connection, index, values, part, shift, graded)
    elif kind == WIDE:
        _weighted(wide[base:], stride, index, values, part, shift, graded)
    else:
        _weighted(narrow[base:], stride, index, values, part, shift, graded)


@_jit
def _block(connection: Any, events: int) -> int:
    """Return how many columns of a connection to take at a time for a chunk's ``events``.

    Rows that are used often are worth keeping in the second-level cache, some columns of
    all of them; rows used seldom are read faster whole (measured: the crossover is
    near ten uses).
    """
    width, count = connection[C_WIDTH], connection[C_COUNT]
    plain = connection[C_KIND] == DENSE and connection[C_VALUES] <= BITS
    if not plain or count * width <= _CACHE or events < _USES * count:
        return width
    return max(BLOCK, _CACHE // count // BLOCK * BLOCK)


@_placed
def _find(flows: Any, connection: Any, at: int, index: Any, values: Any, found: int) -> int:
    """Write what a connection's source sent at row ``at`` behind the ``found`` events so far."""
    sent, integers, _, heard, sample = flows
    begin, count = connection[C_SOURCE], connection[C_COUNT]
    if connection[C_VALUES] == HEARD:
        entry = heard[begin]
        back, steps = entry[H_BACK], entry[H_STEPS]
        t = at - back
        if t >= 0:
            address = entry[H_CHUNK] + (sample * steps + t) * count
        else:
            address = entry[H_BEFORE] + (sample * back + at) * count
        if t >= steps or (t < 0 and entry[H_BEFORE] == 0):
            return found
        return _find_at(address, count, index, found)
    if connection[C_VALUES] == BITS:
        return _find_bits(sent[at, begin : begin + count], index, found)
    if connection[C_VALUES] == BYTES:
        return _find_values(sent[at, begin : begin + count], index, values, found)
    return _find_values(integers[at, begin : begin + count], index, values, found)


@_inline
def _kept(state: Any, factor: Any) -> Any:
    """``rtz(state * factor / 4096)`` in 32 bits."""
    return (state >> 12) * factor + (((state & 4095) * factor + ((state >> 31) & 4095)) >> 12)


@_inline
def _kept_of_24(state: Any, factor: Any) -> Any:
    """The same of states of 24 bits: LLVM sees that 16 bits hold all that is multiplied."""
    high, low, small = (state << 8) >> 20, state & 4095, factor & 8191
    return high * small + ((low * small + ((state >> 23) & 4095)) >> 12)


@_inline
def _clipped(values: Any) -> Any:
    most, least = splat(_MAX, _SIDE), splat(-_MAX, _SIDE)
    values = select(values > most, most, values)
    return select(values < least, least, values)


@_inline
def _one_where(mask: Any) -> Any:
    return select(mask, splat(1, _SIDE), zeros(_SIDE, 32))


@_jit
def _whole_steps(
    population: Any, steps: int, arriving: Any, first: int, current: Any, voltage: Any,
    sent: Any, row: int, values: Any, skip: int, count: int,
) -> tuple[int, int]:  # fmt: skip
    """Steps of int32 neurons without refractory steps, floors or several spikes.

    ``count`` neurons of a population after ``skip``; what arrives begins at column ``first``
    of ``arriving``, and what they send in the first step at ``row`` of ``sent``. A few
    neurons at a time, whose states stay in registers, take all steps. All arrays are padded to
    whole vectors, with neurons that stay at 0.
    """
    now, late = population[P_RESET], population[P_LATE]
    place, pitch, line = population[P_STATE] + skip, arriving.shape[1], sent.shape[1]
    neurons = values.shape[1]
    wrapped, clipped = zeros(_SIDE, 32), zeros(_SIDE, 32)
    for j in range(0, count, _SIDE):
        at, shown = place + j, row * line + population[P_SPIKES] + skip + j
        state, drive = loaded(current, at, _SIDE, 32), loaded(voltage, at, _SIDE, 32)
        threshold = loaded(values, V_THRESHOLD * neurons + at, _SIDE, 32)
        amount = loaded(values, V_AMOUNT * neurons + at, _SIDE, 32)
        reset = loaded(values, V_RESET * neurons + at, _SIDE, 32)
        bias = loaded(values, V_BIAS * neurons + at, _SIDE, 32)
        fires = loaded(sent, shown - line, _SIDE, 32) > 0
        after = drive
        for t in range(steps):
            arrived = loaded(arriving, t * pitch + first + j, _SIDE, 32) << 6
            keep_current = loaded(values, V_KEEP_CURRENT * neurons + at, _SIDE, 32)
            state = _kept(state, keep_current) + arrived
            over, under = state > _MAX + 1, state < -_MAX
            wrapped = wrapped + _one_where(state > _MAX) + _one_where(under)
            state = state - (_one_where(over) << 24) + (_one_where(under) << 24)
            if late == REPLACE:
                after = select(fires, reset, after)
            # Read again in each step: LLVM takes products of 16 bits only where it sees, just
            # before, that these suffice.
            keep_voltage = loaded(values, V_KEEP_VOLTAGE * neurons + at, _SIDE, 32)
            drive = _kept_of_24(after, keep_voltage) + state + bias
            if late == SUBTRACT:
                drive = drive - select(fires, amount, zeros(_SIDE, 32))
            after = _clipped(drive)
            clipped = clipped + _one_where(after != drive)
            fires = after > threshold
            if now == SUBTRACT:
                drive = after - select(fires, amount, zeros(_SIDE, 32))
                after = _clipped(drive)
                clipped = clipped + _one_where(after != drive)
            if now == REPLACE:
                after = select(fires, reset, after)
            store_bytes(sent, shown + t * line, fires)
        store(current, at, state)
        store(voltage, at, after)
    return total(wrapped), total(clipped)


@_placed
def _larger(values: Any, others: Any) -> Any:
    return select(values > others, values, others)


@_placed
def _smaller(values: Any, others: Any) -> Any:
    return select(values < others, values, others)


def _taking_reals(clips: bool) -> Any:
    """Return what takes steps in float32, where voltages may saturate or do not."""

    @_placed
    def bounded(drive: Any, highest: Any, lowest: Any) -> tuple[Any, Any, Any, int]:
        """Return a voltage, its extremes so far where it is not clipped, and how many saturated."""
        if not clips:
            return drive, _larger(drive, highest), _smaller(drive, lowest), plain(0)
        voltage = _smaller(_larger(drive, real(-_MAX, _SIDE)), real(_MAX, _SIDE))
        return voltage, highest, lowest, number_of_bits(as_word(voltage != drive))

    def take(
        population: Any, steps: int, arriving: Any, first: int, current: Any, voltage: Any,
        sent: Any, values: Any, at: int, shown: int,
    ) -> int:  # fmt: skip
        """Steps of neurons ``at``; return how many saturated, and leave all if it does not clip."""
        now, late = population[P_RESET], population[P_LATE]
        pitch, line, neurons = arriving.shape[1], sent.shape[1], values.shape[1]
        unit, most, least = real(64, _SIDE), real(_MAX, _SIDE), real(-_MAX, _SIDE)
        state = as_reals(loaded(current, at, _SIDE, 32))
        after = as_reals(loaded(voltage, at, _SIDE, 32))
        keep_current = reals_at(values, R_KEEP_CURRENT * neurons + at, _SIDE)
        keep_voltage = reals_at(values, R_KEEP_VOLTAGE * neurons + at, _SIDE)
        bias = reals_at(values, R_BIAS * neurons + at, _SIDE)
        threshold = reals_at(values, R_THRESHOLD * neurons + at, _SIDE)
        amount = reals_at(values, R_AMOUNT * neurons + at, _SIDE)
        reset = reals_at(values, R_RESET * neurons + at, _SIDE)
        fires = loaded(sent, shown - line, _SIDE, 8) != 0
        clipped, highest, lowest = 0, after, after
        for t in range(steps):
            arrived = as_reals(loaded(arriving, t * pitch + first, _SIDE, 32))
            state = kept_and(arrived, unit, kept_part(state, keep_current))
            driven = bias
            if late == REPLACE:
                after = select(fires, reset, after)
            if late == SUBTRACT:
                driven = select(fires, bias - amount, bias)
            drive = kept_part(after, keep_voltage) + state + driven
            after, highest, lowest, saturated = bounded(drive, highest, lowest)
            clipped += saturated
            fires = after > threshold
            if now == SUBTRACT:
                drive = select(fires, after - amount, after)
                after, highest, lowest, saturated = bounded(drive, highest, lowest)
                clipped += saturated
            if now == REPLACE:
                after = select(fires, reset, after)
            store_bytes(sent, shown + t * line, fires)
        if not clips:
            clipped = number_of_bits(as_word(highest > most) | as_word(lowest < least))
            if clipped:
                return clipped
        store(current, at, as_lanes(state))
        store(voltage, at, as_lanes(after))
        return clipped

    return _placed(take)


_take_reals: Any = _taking_reals(clips=False)
_take_and_clip: Any = _taking_reals(clips=True)


@_jit
def _real_steps(
    population: Any, steps: int, arriving: Any, first: int, current: Any, voltage: Any,
    sent: Any, row: int, values: Any, skip: int, count: int,
) -> int:  # fmt: skip
    """The same of neurons whose currents cannot leave 24 bits, in float32.

    Sums of two states are below 2**24, which floats hold exactly; so are bias and reset. What
    is added to both rounds once, to what is beyond 2**24 and saturates, or not at all. Mostly
    nothing saturates: that is looked at in the end, and such neurons go again.
    """
    clipped = 0
    for j in range(0, count, _SIDE):
        at = population[P_STATE] + skip + j
        shown = row * sent.shape[1] + population[P_SPIKES] + skip + j
        if _take_reals(population, steps, arriving, first + j, current, voltage, sent, values, at,
                       shown):  # fmt: skip
            clipped += _take_and_clip(population, steps, arriving, first + j, current, voltage,
                                      sent, values, at, shown)  # fmt: skip
    return clipped


@_jit
def _general(
    population: Any, arriving: Any, current: Any, voltage: Any, idle: Any, before: Any,
    spikes: Any, values: Any,
) -> tuple[int, int]:  # fmt: skip
    """One step of any neurons in int64, as golden has it."""
    now, late = population[P_RESET], population[P_LATE]
    most, fires_at_all = population[P_MOST], population[P_FIRES]
    wrapped, clipped = 0, 0
    for j in range(len(current)):
        state = np.int64(current[j])
        low = (state & 4095) * values[V_KEEP_CURRENT, j] + (4095 if state < 0 else 0)
        summed = (state >> 12) * values[V_KEEP_CURRENT, j] + (low >> 12)
        summed += np.int64(arriving[j]) << 6
        wrapped += abs(summed) > _MAX
        if summed > _MAX + 1:
            summed -= 1 << 24
        elif summed < -_MAX:
            summed += 1 << 24
        current[j] = summed
        state = np.int64(voltage[j])
        total = state
        if idle[j] == 0:
            if late == REPLACE and before[j]:
                state = np.int64(values[V_RESET, j])
            low = (state & 4095) * values[V_KEEP_VOLTAGE, j] + (4095 if state < 0 else 0)
            total = (state >> 12) * values[V_KEEP_VOLTAGE, j] + (low >> 12)
            total += summed + values[V_BIAS, j]
            if late == SUBTRACT and before[j]:
                total -= values[V_AMOUNT, j]
            if population[P_DROPS] and before[j]:
                total = np.int64(values[V_RESET, j])
        after = min(max(total, -_MAX), _MAX)
        clipped += after != total
        times = 0
        over = after - values[V_THRESHOLD, j]
        if population[P_TWICE] and voltage[j] > values[V_THRESHOLD, j]:
            over -= values[V_AMOUNT, j]
        if fires_at_all and idle[j] == 0 and over > 0:
            times = 1
            if most > 1:
                times = min(most, (over + values[V_AMOUNT, j] - 1) // values[V_AMOUNT, j])
            if now == REPLACE:
                after = np.int64(values[V_RESET, j])
            elif now == SUBTRACT:
                total = after - values[V_AMOUNT, j] * times
                after = min(max(total, -_MAX), _MAX)
                clipped += after != total
        if population[P_FLOOR]:
            after = max(after, np.int64(values[V_FLOOR, j]))
        idle[j] = population[P_IDLE] if times else max(idle[j] - 1, 0)
        voltage[j] = after
        spikes[j] = times
    return wrapped, clipped


@_jit
def _advance(
    population: Any, step: int, row: int, steps: int, arriving: Any, first: int, sent: Any,
    state: Any, values: Any, events: Any, skip: int, count: int,
) -> None:  # fmt: skip
    """Steps of ``count`` neurons of a population after ``skip``, on what ``arriving`` brings.

    ``row`` of ``sent`` is that of the first ``step``; what was sent before lies above it.
    """
    current, voltage, idle = state
    late = min(steps, max(0, population[P_START] - step))
    if population[P_PLAIN] != GENERAL:
        steps, arriving, row = steps - late, arriving[late:], row + late
        if FUSED and population[P_PLAIN] == CALM:
            wrapped, clipped = 0, _real_steps(population, steps, arriving, first, current, voltage,
                                              sent, row, values, skip, count)  # fmt: skip
        else:
            wrapped, clipped = _whole_steps(population, steps, arriving, first, current, voltage,
                                            sent, row, values, skip, count)  # fmt: skip
        events[0] += wrapped
        events[1] += clipped
        return
    begin, column = population[P_STATE] + skip, population[P_SPIKES] + skip
    end, last = begin + count, column + count
    for t in range(late, steps):
        wrapped, clipped = _general(
            population, arriving[t, first : first + count], current[begin:end],
            voltage[begin:end], idle[begin:end], sent[row + t - 1, column:last],
            sent[row + t, column:last], values[:, begin:end],
        )  # fmt: skip
        events[0] += wrapped
        events[1] += clipped


@_jit
def _copy(values: Any, to: Any) -> None:
    for j in range(len(values)):
        to[j] = values[j]


@_placed
def _record(population: Any, recorded: Any, state: Any) -> None:
    current, voltage, _ = state
    begin, end = population[P_STATE], population[P_STATE] + population[P_COUNT]
    if population[P_VOLTAGE] >= 0:
        _copy(voltage[begin:end], recorded[population[P_VOLTAGE] :])
    if population[P_CURRENT] >= 0:
        _copy(current[begin:end], recorded[population[P_CURRENT] :])


@_jit
def _from_outside(
    connection: Any, weights: Any, flows: Any, first: int, arriving: Any, scratch: Any
) -> None:
    """Add what a connection from an earlier group brings in all steps of a chunk.

    Row ``first`` of what is sent is the chunk's first step.
    """
    ready = flows[2]
    sums, index, values, ends = scratch
    if connection[C_KIND] == READY:
        begin, column = connection[C_TARGET], connection[C_WEIGHTS]
        for t in range(len(arriving)):
            summed = ready[first + t - connection[C_DELAY], column:]
            row = arriving[t, begin : begin + connection[C_WIDTH]]
            for j in range(len(row)):
                row[j] += summed[j]
        return
    found = plain(0)
    for t in range(len(arriving)):
        at = first + t - connection[C_DELAY]
        found = _find(flows, connection, at, index, values, found)
        ends[t] = found
    block = _block(connection, found)
    for skip in range(0, connection[C_WIDTH], block):
        found = plain(0)
        for t in range(len(arriving)):
            if ends[t] > found:
                _deliver(connection, weights, index, values, found, ends[t], sums, arriving[t],
                         skip, block)  # fmt: skip
            found = ends[t]


@_placed
def _from_inside(
    connection: Any, weights: Any, flows: Any, at: int, row: Any, scratch: Any
) -> None:
    """Add what a connection inside the group brings in the step of row ``at``."""
    sums, index, values, _ = scratch
    nothing = plain(0)
    found = _find(flows, connection, at - connection[C_DELAY], index, values, nothing)
    if found:
        _deliver(connection, weights, index, values, nothing, found, sums, row, nothing,
                 connection[C_STRIDE])  # fmt: skip


@_jit
def _fused(
    connection: Any, population: Any, weights: Any, flows: Any, step: int, first: int,
    steps: int, state: Any, values: Any, events: Any, room: Any, scratch: Any, fresh: bool,
    begin_at: int, end_at: int,
) -> None:  # fmt: skip
    """All steps of a population that hears one dense connection: block by block of neurons.

    Of all neurons, those from ``begin_at``, where a block begins, to ``end_at``. Unless
    ``fresh``, ``scratch`` has what was sent.

    What arrives in a few steps stays in the first-level cache, a block's weights in the second.
    """
    sent = flows[0]
    _, index, found_values, ends = scratch
    narrow, stride = weights[0][connection[C_WEIGHTS] :], connection[C_STRIDE]
    nothing = plain(0)
    found = nothing
    for t in range(steps if fresh else 0):
        at = first + t - connection[C_DELAY]
        found = _find(flows, connection, at, index, found_values, found)
        ends[t] = found
    for skip in range(begin_at, end_at, BLOCK):
        width = min(BLOCK, stride - skip)
        if width % _SIDE:  # rows of weights end sooner than the neurons' vectors
            for t in range(len(room)):
                store(room[t], width, zeros(32, 32))
        found = nothing
        for begin in range(0, steps, len(room)):
            arriving = room[: min(len(room), steps - begin)]
            for t in range(len(arriving)):
                end = ends[begin + t]
                if end > found:
                    _dense(connection, narrow, index, found, end, arriving[t, :width], skip,
                           plain(True))  # fmt: skip
                else:
                    _blank(arriving[t, :width])
                found = end
            _advance(population, step + begin, first + begin, len(arriving), arriving, nothing,
                     sent, state, values, events, skip, width)  # fmt: skip


@_jit
def _whole(population: Any) -> int:
    """Return how many neurons a step updates: with padding where whole vectors are."""
    count = population[P_COUNT]
    return count if population[P_PLAIN] == GENERAL else (count + _SIDE - 1) // _SIDE * _SIDE


@_jit
def _clear_ends(populations: Any, sent: Any, first: int) -> None:
    """Set to 0 what the steps leave of the last word of each population, from row ``first``.

    Spikes are found in words of 64, and neurons take their steps in fewer.
    """
    for population in populations:
        begin = population[P_SPIKES] + _whole(population)
        end = population[P_SPIKES] + (population[P_COUNT] + 63) // 64 * 64
        for row in range(first, len(sent)):
            sent[row, begin:end] = 0


@_jit
def _recorded_at_all(population: Any) -> bool:
    return population[P_VOLTAGE] >= 0 or population[P_CURRENT] >= 0


@_jit
def _alone(group: Any, populations: Any) -> bool:
    """Say whether a group is one population that hears neither itself nor is recorded."""
    recorded = _recorded_at_all(populations[group[G_POPULATIONS]])
    return group[G_OUTER_END] == group[G_INNER_END] and not recorded


@_jit
def _portion(count: int, unit: int, part: int, parts: int) -> tuple[int, int]:
    """Return where part ``part`` of ``parts`` of a range begins and ends, in whole units."""
    units = (count + unit - 1) // unit
    return min(count, units * part // parts * unit), min(count, units * (part + 1) // parts * unit)


@_jit
def _fuses(group: Any, connections: Any) -> bool:
    return group[G_FUSED] and connections[group[G_OUTER], C_KIND] == DENSE


@_jit
def _units(group: Any, tables: Any, phase: int, steps: int, parts: int) -> int:
    """Return into how many pieces threads cut a phase of a group that is alone."""
    _, populations, connections = tables
    if _fuses(group, connections):
        return (connections[group[G_OUTER], C_STRIDE] + BLOCK - 1) // BLOCK
    if phase == 0:
        return min(steps, _PIECES * parts)
    return (populations[group[G_POPULATIONS], P_COUNT] + BLOCK - 1) // BLOCK


@_jit
def _piece(
    sample: int, member: int, group: Any, start: int, phase: int, unit: int, units: int,
    fresh: bool, step: int, arriving: Any, tables: Any, weights: Any, values: Any, streams: Any,
    states: Any, events: Any, scratch: Any,
) -> None:  # fmt: skip
    """Do one of ``units`` pieces of a phase of a sample's steps, of a group that is alone.

    In phase 0 each piece is some steps, whose sums of what arrives it leaves in ``arriving``; in
    phase 1 some neurons, through all steps. A population that is fused is done in phase 0,
    each piece some of its neurons; what was sent is looked for if ``fresh``, else it is
    still in ``scratch``, where each ``member`` of samples side by side has its place.
    """
    _, populations, connections = tables
    sent, integers, ready, _, history, heard = streams
    current, voltage, idle = states
    few, sums, indices, found_values, all_ends = scratch
    index, ends = indices[member], all_ends[member]
    which, first_in = group[G_POPULATIONS], group[G_OUTER]
    population, happened = populations[which], events[which]
    row, now = history + start, step + start
    state = (current[sample], voltage[sample], idle[sample])
    flows = (sent[sample], integers[sample], ready[sample], heard, sample)
    work = (sums, index, found_values, ends)
    if _fuses(group, connections):
        begin, end = _portion(connections[first_in, C_STRIDE], BLOCK, unit, units)
        _fused(connections[first_in], population, weights, flows, now, row, len(arriving),
               state, values, happened, few, work, fresh, begin, end)  # fmt: skip
    elif phase == 0:
        begin, end = _portion(len(arriving), 1, unit, units)
        mine = arriving[begin:end]
        mine[:] = 0
        for wire in range(first_in, group[G_OUTER_END]):
            _from_outside(connections[wire], weights, flows, row + begin, mine, work)
    else:
        begin, end = _portion(_whole(population), 64, unit, units)
        _advance(population, now, row, len(arriving), arriving, population[P_TARGET] + begin,
                 sent[sample], state, values, happened, begin, end - begin)  # fmt: skip


@_jit
def _in_turn(
    sample: int, group: Any, start: int, step: int, arriving: Any, tables: Any, weights: Any,
    values: Any, streams: Any, states: Any, events: Any, scratch: Any,
) -> None:  # fmt: skip
    """Do a sample's steps from ``start`` of a group that hears itself or is recorded."""
    _, populations, connections = tables
    sent, integers, ready, recorded, history, heard = streams
    current, voltage, idle = states
    _, sums, indices, found_values, ends = scratch
    work = (sums, indices[0], found_values, ends[0])
    state = (current[sample], voltage[sample], idle[sample])
    flows = (sent[sample], integers[sample], ready[sample], heard, sample)
    row, now = history + start, step + start
    arriving[:] = 0
    for number in range(group[G_OUTER], group[G_OUTER_END]):
        _from_outside(connections[number], weights, flows, row, arriving, work)
    for t in range(len(arriving)):
        for number in range(group[G_OUTER_END], group[G_INNER_END]):
            _from_inside(connections[number], weights, flows, row + t, arriving[t], work)
        for number in range(group[G_POPULATIONS], group[G_POPULATIONS_END]):
            population = populations[number]
            _advance(population, now + t, row + t, plain(1), arriving[t : t + 1],
                     population[P_TARGET], sent[sample], state, values, events[number], plain(0),
                     _whole(population))  # fmt: skip
            _record(population, recorded[sample, row + t], state)


@_placed
def _claimed(meeting: Any, phase: int, unit: int, parts: int) -> int:
    """Return the next piece of a phase that no thread has begun, if ``unit`` was the last."""
    return unit + 1 if parts == 1 else counted_up(meeting, 2 * APART * phase)


@_placed
def _meet(meeting: Any, phase: int, units: int, parts: int) -> None:
    """Wait until all pieces of a phase that others have begun are done."""
    tries = 0
    while parts > 1 and counted(meeting, (2 * phase + 1) * APART) < units:
        tries += 1
        if tries > _TRIES:
            give_way()


@_jit
def run(
    first: int,
    last: int,
    step: int,
    steps: int,
    tables: Any,
    weights: Any,
    values: Any,
    streams: Any,
    states: Any,
    events: Any,
    room: Any,
    scratch: Any,
    parts: int,
    worth: Any,
    meeting: Any,
) -> None:
    """Run samples ``first`` to ``last`` for ``steps`` steps, the first of which is ``step``.

    ``streams`` are what is sent, ``[sample, history + step, column]`` as bytes and as
    integers, sums that are ready, the recorded values, the number of history rows: what
    was sent before, and a table of where each binary input is: bytes ``[sample, step, neuron]``
    without gaps at ``H_CHUNK``, and ``[sample, history, neuron]`` at ``H_BEFORE`` (0 if there was
    nothing). ``states`` (current, voltage, idle steps left) and
    ``streams`` are written; ``events`` counts wraps and saturations of each population.

    Several threads (``parts``) may do this at once with the same arrays but ``events`` and
    ``scratch``: in each phase each takes pieces that no other has begun, so that who comes
    late or is held up does less. Of ``meeting``, zeros to begin with, two numbers a phase
    count pieces begun and done. Groups that are not ``worth`` cutting are one piece.

    One thread takes as many samples side by side as ``scratch`` has places for what was
    sent: each block of weights serves all of them while the cache has it.
    """
    groups, populations, connections = tables
    members = len(scratch[2]) if parts == 1 else 1
    nothing, before = plain(0), rounding()
    number = nothing
    round_as(before | TOWARD_ZERO)
    for begin in range(first, last, members):
        end = min(begin + members, last)
        for sample in range(begin, end):
            _clear_ends(populations, streams[0][sample], streams[4])
        for place in range(len(groups)):
            group = groups[place]
            length = min(len(room), group[G_STEPS])
            alone = _alone(group, populations)
            fuses = alone and _fuses(group, connections)
            for start in range(0, steps, length):
                arriving = room[: min(length, steps - start)]
                if fuses and members > 1:
                    blocks = _units(group, tables, nothing, len(arriving), plain(1))
                    for block in range(blocks):
                        for sample in range(begin, end):
                            _piece(sample, sample - begin, group, start, nothing, block, blocks,
                                   block == 0, step, arriving, tables, weights, values, streams,
                                   states, events, scratch)  # fmt: skip
                    continue
                for sample in range(begin, end):
                    for phase in range(2 if alone and not fuses else 1):
                        units = plain(1)
                        if alone and parts > 1 and worth[place]:
                            units = _units(group, tables, phase, len(arriving), parts)
                        fresh = True
                        unit = _claimed(meeting, number, plain(-1), parts)
                        while unit < units:
                            if alone:
                                _piece(sample, nothing, group, start, phase, unit, units, fresh,
                                       step, arriving, tables, weights, values, streams, states,
                                       events, scratch)  # fmt: skip
                            else:
                                _in_turn(sample, group, start, step, arriving, tables, weights,
                                         values, streams, states, events, scratch)  # fmt: skip
                            fresh = False
                            if parts > 1:
                                counted_up(meeting, (2 * number + 1) * APART)
                            unit = _claimed(meeting, number, unit, parts)
                        _meet(meeting, number, units, parts)
                        number += 1
    round_as(before)
