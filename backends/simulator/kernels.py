"""The loops of the fast engine, compiled by Numba; tables are those of ``layout.py``.

One call runs a range of samples through the whole network, layer by layer: all
steps of a chunk of one group of populations, then the next group. Everything is
integers, and equal to :mod:`spikec.backends.simulator.golden` to the last bit.

What makes it fast, measured on this design:

- only rows of neurons that spiked are added (weights are stored source-major),
  four rows a pass, into sums of 16 bits that are emptied before they can overflow;
- spikes are found eight bytes at a time;
- a decay needs 32 bits only: with ``x = hi * 4096 + lo`` the product ``x * c / 4096``
  is ``hi * c + (lo * c) / 4096``, and only the last part rounds.

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
    BYTES,
    C_COUNT,
    C_DELAY,
    C_GEOMETRY,
    C_KIND,
    C_POINTERS,
    C_SHIFT,
    C_SOURCE,
    C_TARGET,
    C_TARGETS,
    C_VALUES,
    C_WEIGHTS,
    C_WIDTH,
    CONV,
    DENSE,
    G_INNER_END,
    G_OUTER,
    G_OUTER_END,
    G_POPULATIONS,
    G_POPULATIONS_END,
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

__all__ = ["run"]

#: Sums of 16 bits take this many rows of int8.
_ROWS = 252
_MAX = (1 << 23) - 1
#: What a core's second-level cache can hold of weights, in bytes.
_CACHE = 1 << 20
_LEAST_BLOCK = 256
_USES = 10
_GATHER = np.uint64(0x0102040810204080)

#: ``_nrt``: nothing is allocated in these loops, so slices need no counting of references.
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
_jit: Any = nb.njit(**_OPTIONS)
_inline: Any = nb.njit(inline="always", **_OPTIONS)


def _count_zeros(_context: Any, _word: Any) -> Any:
    """How Numba is to write ``_lowest_bit``: its type, and one instruction."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return nb.uint64(nb.uint64), generate


#: The number of the lowest bit that is set, which NumPy has no name for.
_lowest_bit: Any = intrinsic(_count_zeros)


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


@_jit
def _find_bits(words: Any, index: Any, found: int) -> int:
    """Write the places of bytes that are 1 to ``index``; bytes are 0 or 1, rows of 64."""
    for place in range(0, len(words), 8):
        mask = np.uint64(0)
        for part in range(8):
            # Multiplying brings the lowest bit of byte k to bit 56 + k.
            bits = (words[place + part] * _GATHER) >> np.uint64(56)
            mask |= bits << np.uint64(8 * part)
        while mask:
            index[found] = place * 8 + np.int64(_lowest_bit(mask))
            found += 1
            mask &= mask - np.uint64(1)
    return found


@_jit
def _find_values(sent: Any, index: Any, values: Any, found: int) -> int:
    """Write the places and values of what is not 0."""
    for place in range(len(sent)):
        if sent[place] != 0:
            index[found] = place
            values[found] = sent[place]
            found += 1
    return found


@_jit
def _empty(sums: Any, row: Any, shift: int) -> None:
    for j in range(len(row)):
        row[j] += np.int32(sums[j]) << shift
        sums[j] = 0


@_jit
def _dense(weights: Any, stride: int, index: Any, sums: Any, row: Any, shift: int) -> None:
    """Add the rows ``index`` of ``weights`` (int8, ``stride`` apart) to ``row``."""
    width, count, done = len(row), len(index), 0
    sums = sums[:width]
    while done < count:
        stop = min(count, done + _ROWS)
        while done + 4 <= stop:
            a = weights[index[done] * stride : index[done] * stride + width]
            b = weights[index[done + 1] * stride : index[done + 1] * stride + width]
            c = weights[index[done + 2] * stride : index[done + 2] * stride + width]
            d = weights[index[done + 3] * stride : index[done + 3] * stride + width]
            for j in range(width):
                sums[j] += np.int16(a[j]) + np.int16(b[j]) + np.int16(c[j]) + np.int16(d[j])
            done += 4
        while done < stop:
            a = weights[index[done] * stride : index[done] * stride + width]
            for j in range(width):
                sums[j] += np.int16(a[j])
            done += 1
        _empty(sums, row, shift)


@_jit
def _weighted(weights: Any, index: Any, values: Any, row: Any, shift: int, graded: bool) -> None:
    """The same for weights of any width and sources that send values."""
    width = len(row)
    for event in range(len(index)):
        a = weights[index[event] * width : (index[event] + 1) * width]
        value = (values[event] if graded else 1) << shift
        for j in range(width):
            row[j] += a[j] * value


@_jit
def _convolved(
    weights: Any,
    index: Any,
    values: Any,
    sums: Any,
    row: Any,
    shift: int,
    graded: bool,
    geometry: Any,
    places: Any,
) -> None:
    """Add what neurons ``index`` of a picture send through a convolution to ``row``.

    ``row`` is (y, x, channel). For one row of the kernel all that a spike reaches is
    contiguous: weights are laid out as [channel in, ky, kx modulo stride, kx falling,
    channel out], see :func:`~spikec.backends.simulator.layout.laid_out`.
    """
    (rows, columns, up, left, down, right, high, wide, channels, first, slots) = geometry[:11]
    sums = sums[: len(row)]
    waiting = 0
    for event in range(len(index)):
        place = first + 3 * index[event]
        y, x, channel = places[place] + down, places[place + 1] + right, places[place + 2]
        phase, q = x % left, x // left
        taps = (columns - phase + left - 1) // left
        start = max(0, q - taps + 1)
        length = (min(wide - 1, q) - start + 1) * channels
        if length <= 0:
            continue
        skipped = start - (q - taps + 1)
        for oy in range(max(0, (y - rows + up) // up), min(high - 1, y // up) + 1):
            kernel = ((channel * rows + y - oy * up) * left + phase) * slots + skipped
            a = weights[kernel * channels : kernel * channels + length]
            begin = (oy * wide + start) * channels
            if graded:
                value = values[event] << shift
                target = row[begin : begin + length]
                for j in range(length):
                    target[j] += a[j] * value
            else:
                part = sums[begin : begin + length]
                for j in range(length):
                    part[j] += np.int16(a[j])
        waiting += 1
        if waiting == _ROWS:
            _empty(sums, row, shift)
            waiting = 0
    if waiting and not graded:
        _empty(sums, row, shift)


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


@_jit
def _deliver(
    connection: Any, weights: Any, index: Any, values: Any, sums: Any, row: Any,
    skip: int, block: int,
) -> None:  # fmt: skip
    """Add what neurons ``index`` send through one connection to its columns of ``row``.

    Of a dense connection without values, only ``block`` columns after the first ``skip``.
    """
    narrow, wide, geometry, places = weights
    kind, shift, base = connection[C_KIND], connection[C_SHIFT], connection[C_WEIGHTS]
    graded = connection[C_VALUES] != BITS
    begin, width = connection[C_TARGET], connection[C_WIDTH]
    if kind == CONV:
        _convolved(narrow[base:], index, values, sums, row[begin : begin + width], shift, graded,
                   geometry[connection[C_GEOMETRY]], places)  # fmt: skip
        return
    if kind == SPARSE:
        _scattered(connection, index, values, row[begin : begin + width], shift, graded)
        return
    part = row[begin : begin + width]
    if kind == WIDE:
        _weighted(wide[base:], index, values, part, shift, graded)
    elif graded:
        _weighted(narrow[base:], index, values, part, shift, graded)
    else:
        part = part[skip : min(width, skip + block)]
        _dense(narrow[base + skip :], width, index, sums, part, shift)


@_jit
def _block(connection: Any, events: int) -> int:
    """Return how many columns of a connection to take at a time for a chunk's ``events``.

    Rows that are used often are worth keeping in the second-level cache, some columns of
    all of them; rows used seldom are read faster whole (measured: the crossover is
    near ten uses).
    """
    width, count = connection[C_WIDTH], connection[C_COUNT]
    plain = connection[C_KIND] == DENSE and connection[C_VALUES] == BITS
    if not plain or count * width <= _CACHE or events < _USES * count:
        return width
    return max(_LEAST_BLOCK, _CACHE // count // 64 * 64)


@_jit
def _find(sent: Any, words: Any, integers: Any, connection: Any, at: int, index: Any, values: Any,
          found: int) -> int:  # fmt: skip
    """Write what a connection's source sent at row ``at`` behind the ``found`` events so far."""
    begin, count = connection[C_SOURCE], connection[C_COUNT]
    if connection[C_VALUES] == BITS:
        return _find_bits(words[at, begin >> 3 : (begin + count + 63) >> 6 << 3], index, found)
    if connection[C_VALUES] == BYTES:
        return _find_values(sent[at, begin : begin + count], index, values, found)
    return _find_values(integers[at, begin : begin + count], index, values, found)


@_inline
def _kept(state: Any, factor: Any) -> Any:
    """``rtz(state * factor / 4096)`` in 32 bits."""
    high, low = np.int32(state >> 12), np.int32(state & 4095)
    rounding = np.int32(np.int32(state >> 31) & 4095)
    part = np.int32(np.int32(low * factor) + rounding)
    return np.int32(np.int32(high * factor) + np.int32(part >> 12))


@_jit
def _plain(
    now: int, late: int, arriving: Any, current: Any, voltage: Any, before: Any, spikes: Any,
    keep_current: Any, keep_voltage: Any, bias: Any, threshold: Any, amount: Any, reset: Any,
) -> tuple[int, int]:  # fmt: skip
    """One step of int32 neurons without refractory steps, floors or several spikes.

    Every product and sum is cast back to 32 bits, which vector units need.
    """
    wrapped, clipped = np.int32(0), np.int32(0)
    for j in range(len(current)):
        summed = np.int32(_kept(current[j], keep_current[j]) + np.int32(arriving[j] << 6))
        wrapped = np.int32(wrapped + np.int32(abs(summed) > _MAX))
        over = np.int32(np.int32(summed > _MAX + 1) - np.int32(summed < -_MAX))
        summed = np.int32(summed - np.int32(over << 24))
        current[j] = summed
        start = voltage[j]
        if late == REPLACE:
            start = reset[j] if before[j] else start
        total = np.int32(np.int32(_kept(start, keep_voltage[j]) + summed) + bias[j])
        if late == SUBTRACT:
            total = np.int32(total - np.int32(amount[j] & np.int32(-np.int32(before[j]))))
        after = min(max(total, np.int32(-_MAX)), np.int32(_MAX))
        clipped = np.int32(clipped + np.int32(after != total))
        fires = np.int32(after > threshold[j])
        if now == SUBTRACT:
            total = np.int32(after - np.int32(amount[j] & np.int32(-fires)))
            after = min(max(total, np.int32(-_MAX)), np.int32(_MAX))
            clipped = np.int32(clipped + np.int32(after != total))
        if now == REPLACE:
            after = reset[j] if fires else after
        voltage[j] = after
        spikes[j] = fires
    return wrapped, clipped


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
    population: Any, step: int, at: int, arriving: Any, sent: Any, state: Any, values: Any,
    events: Any,
) -> None:  # fmt: skip
    """One step of one population; ``at`` is its row of ``sent``, a row's predecessor is there."""
    current, voltage, idle = state
    if step < population[P_START]:
        return
    count, begin = population[P_COUNT], population[P_STATE]
    end, column, target = begin + count, population[P_SPIKES], population[P_TARGET]
    arrived = arriving[target : target + count]
    before, spikes = sent[at - 1, column : column + count], sent[at, column : column + count]
    u, v = current[begin:end], voltage[begin:end]
    if population[P_PLAIN]:
        wrapped, clipped = _plain(
            population[P_RESET], population[P_LATE], arrived, u, v, before, spikes,
            values[V_KEEP_CURRENT, begin:end], values[V_KEEP_VOLTAGE, begin:end],
            values[V_BIAS, begin:end], values[V_THRESHOLD, begin:end],
            values[V_AMOUNT, begin:end], values[V_RESET, begin:end],
        )  # fmt: skip
    else:
        wrapped, clipped = _general(
            population, arrived, u, v, idle[begin:end], before, spikes, values[:, begin:end]
        )
    events[0] += wrapped
    events[1] += clipped


@_jit
def _copy(values: Any, to: Any) -> None:
    for j in range(len(values)):
        to[j] = values[j]


@_jit
def _record(population: Any, recorded: Any, current: Any, voltage: Any) -> None:
    count, begin = population[P_COUNT], population[P_STATE]
    if population[P_VOLTAGE] >= 0:
        _copy(voltage[begin : begin + count], recorded[population[P_VOLTAGE] :])
    if population[P_CURRENT] >= 0:
        _copy(current[begin : begin + count], recorded[population[P_CURRENT] :])


@_jit
def _from_outside(
    connection: Any, weights: Any, sample_streams: Any, first: int, arriving: Any, scratch: Any
) -> None:
    """Add what a connection from an earlier group brings in all steps of a chunk.

    Row ``first`` of what is sent is the chunk's first step.
    """
    sent, words, integers, ready = sample_streams
    sums, index, values, ends = scratch
    if connection[C_KIND] == READY:
        begin, column = connection[C_TARGET], connection[C_WEIGHTS]
        for t in range(len(arriving)):
            summed = ready[first + t - connection[C_DELAY], column:]
            row = arriving[t, begin : begin + connection[C_WIDTH]]
            for j in range(len(row)):
                row[j] += summed[j]
        return
    found = 0
    for t in range(len(arriving)):
        at = first + t - connection[C_DELAY]
        found = _find(sent, words, integers, connection, at, index, values, found)
        ends[t] = found
    block = _block(connection, found)
    for skip in range(0, connection[C_WIDTH], block):
        found = 0
        for t in range(len(arriving)):
            if ends[t] > found:
                _deliver(connection, weights, index[found : ends[t]], values[found : ends[t]],
                         sums, arriving[t], skip, block)  # fmt: skip
            found = ends[t]


@_jit
def _from_inside(
    connection: Any, weights: Any, sample_streams: Any, at: int, row: Any, scratch: Any
) -> None:
    """Add what a connection inside the group brings in the step of row ``at``."""
    sent, words, integers, _ = sample_streams
    sums, index, values, _ = scratch
    found = _find(sent, words, integers, connection, at - connection[C_DELAY], index, values, 0)
    if found:
        _deliver(connection, weights, index[:found], values[:found], sums, row,
                 0, connection[C_WIDTH])  # fmt: skip


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
    scratch: Any,
) -> None:
    """Run samples ``first`` to ``last`` for ``steps`` steps, the first of which is ``step``.

    ``streams`` are what is sent, ``[sample, history + step, column]`` as bytes, as words
    of eight and as integers, sums that are ready, the recorded values, and the number of
    history rows: what was sent before. ``states`` (current, voltage, idle steps left) and
    ``streams`` are written; ``events`` counts wraps and saturations of each population.
    """
    groups, populations, connections = tables
    sent, words, integers, ready, recorded, history = streams
    current, voltage, idle = states
    room, sums, index, found_values, ends = scratch
    work = (sums, index, found_values, ends)
    for sample in range(first, last):
        state = (current[sample], voltage[sample], idle[sample])
        flows = (sent[sample], words[sample], integers[sample], ready[sample])
        for group in groups:
            for start in range(0, steps, len(room)):
                arriving = room[: min(len(room), steps - start)]
                arriving[:] = 0
                row = history + start
                for number in range(group[G_OUTER], group[G_OUTER_END]):
                    _from_outside(connections[number], weights, flows, row, arriving, work)
                for t in range(len(arriving)):
                    for number in range(group[G_OUTER_END], group[G_INNER_END]):
                        _from_inside(connections[number], weights, flows, row + t, arriving[t],
                                     work)  # fmt: skip
                    for number in range(group[G_POPULATIONS], group[G_POPULATIONS_END]):
                        _advance(populations[number], step + start + t, row + t, arriving[t],
                                 flows[0], state, values, events[number])  # fmt: skip
                        _record(populations[number], recorded[sample, row + t], state[0],
                                state[1])  # fmt: skip
