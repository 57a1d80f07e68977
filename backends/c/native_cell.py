"""The part of the native engine that belongs to one population."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from spikec.backends.c.layout import (
    BLOCK,
    LANES,
    byte_blocks,
    byte_rows,
    conv_order,
    in_order,
    kernel,
    padded,
    places_in,
)
from spikec.backends.c.neuron import has_real_lines, parameters, real_lines, update_lines
from spikec.backends.c.plan import Cell, Link, Source, integer_type
from spikec.backends.c.text import fill, indented
from spikec.backends.names import one_line
from spikec.compiler.arrays import LINE, Array, address, aligned
from spikec.compiler.operators import Conv2d

__all__ = ["CellWriter", "Given"]


class Given:
    """The arrays that an engine is given; code names them by number."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []

    def add(self, values: Array) -> int:
        """Hand an array over; return its number. One that is not aligned is copied."""
        if not values.flags.c_contiguous or address(values) % LINE:
            place = aligned(values.shape, values.dtype, blank=False)
            place[...] = values
            values = place
        self.arrays.append(values)
        return len(self.arrays) - 1


class CellWriter:
    """Writes the functions of one population, adding to what the engine is given."""

    def __init__(
        self,
        cell: Cell,
        *,
        number: int,
        orders: Mapping[str, Array | None],
        given: Given,
        listener: Source | None,
    ) -> None:
        self.cell = cell
        self.number = number
        self._orders = orders
        self._order = orders[cell.neurons.name]
        self._given = given
        self._listener = listener
        self._kernels = {
            link.ident: kernel(link, orders.get(link.source.name)) for link in self.convolutions
        }

    @property
    def convolutions(self) -> Sequence[Link]:
        """The links that are convolutions, one for each delay: their kernels are small."""
        links = [link for link in self.cell.links if isinstance(link.operator, Conv2d)]
        return [part for link in links for part in link.parts or (link,)]

    @property
    def dense(self) -> Sequence[Link]:
        """The links that are matrices."""
        return [link for link in self.cell.links if not isinstance(link.operator, Conv2d)]

    def functions(self) -> str:
        """Return what arrives, the update, and what is shown of it."""
        cell, view = self.cell, self.cell.neurons.view
        update = update_lines(
            cell, value=self._value, count=lambda event, when: f"{event} += {when};"
        )
        if self._real:
            update = ["#if SPK_REALS", *real_lines(cell, value=self._value), "#else", *update,
                      "#endif"]  # fmt: skip
        body = [*(["const int32_t last = spikes[i];"] if cell.remembers else []), *update]
        body += ["spikes[i] = s;"] if cell.neurons.vth is not None else []
        return fill(
            "native_cell.c",
            title=one_line(cell.neurons.name),
            name=cell.ident,
            type=cell.type,
            current=self._states[0],
            voltage=self._states[1],
            size=cell.size,
            lanes=self._lanes,
            dense=indented(map(self._matrix, self.dense), 1),
            conv=indented(map(self._conv, self.convolutions), 1),
            pointers=indented(self._pointers(), 1),
            update=indented(body, 2),
            wrapped=2 * self.number,
            saturated=2 * self.number + 1,
            order=indented(self._order_pointer(), 1),
            place="from + i" if self._order is None else "order[from + i]",
            lag=view.lag,
            current_lag=view.current_lag,
            publish=indented([self._publish()], 1),
        )

    def fields(self) -> Iterator[str]:
        """Yield the members of a sample's state."""
        cell, name, room = self.cell, self.cell.ident, padded(self.cell.size)
        alignment = "__attribute__((aligned(64)))"
        current, voltage = self._states
        yield f"{current} {name}_u[{room}] {alignment};"
        yield f"{voltage} {name}_v[{room}] {alignment};"
        yield f"int32_t {name}_s[{room}] {alignment};"
        yield f"{cell.type} {name}_a[{room}] {alignment};"
        if cell.idles:
            yield f"int32_t {name}_idle[{room}] {alignment};"
        if cell.neurons.vth is not None:
            yield f"uint8_t {name}_bytes[CHUNK][{room}] {alignment};"
            yield f"uint8_t *{name}_spikes;"
        yield f"int64_t *{name}_voltage, *{name}_current;"
        for link in self.convolutions:
            room = padded(len(conv_order(link)) + self._kernels[link.ident].blocks * LANES)
            yield f"{self._sum_type(link)} {link.ident}_sum[{room}] {alignment};"

    def begin(self) -> Iterator[str]:
        """Yield statements that put a sample's state ``w`` at its start."""
        cell, name = self.cell, self.cell.ident
        yield from (f"memset(w->{name}_{letter}, 0, sizeof w->{name}_{letter});" for letter in "uv")
        yield f"for (int64_t i = 0; i < {cell.size}; ++i) {{"
        for letter in "uv":
            flat = self._each(f"initial_{letter}")
            first = f"{int(flat[0])}"
            if (flat != flat[0]).any():
                first = f"((const int32_t *)p[{self._given.add(flat.astype(np.int32))}])[i]"
            yield f"    w->{name}_{letter}[i] = {first};"
        yield "}"
        cleared = [f"{name}_s", *([f"{name}_idle"] if cell.idles else [])]
        cleared += [f"{link.ident}_sum" for link in self.convolutions]
        yield from (f"memset(w->{field}, 0, sizeof w->{field});" for field in cleared)

    def outputs(self) -> Iterator[str]:
        """Yield statements that set where a sample's records go."""
        kinds = [("voltage", "int64_t", 1), ("current", "int64_t", 2)]
        if self.cell.neurons.vth is not None:
            kinds.append(("spikes", "uint8_t", 0))
        for quantity, kind, place in kinds:
            at = 3 * self.number + place
            yield (
                f"w->{self.cell.ident}_{quantity} = outputs[{at}] "
                f"? ({kind} *)outputs[{at}] + sample * steps * {self.cell.size} : NULL;"
            )

    def narrowed(self, start: str, count: str) -> list[str]:
        """Return statements that keep the spikes of a step as bytes."""
        if self.cell.neurons.vth is None:
            return []
        name = self.cell.ident
        return [
            f"for (int64_t i = 0; i < {count}; ++i) {{",
            f"    w->{name}_bytes[k][{start} + i] = (uint8_t)w->{name}_s[{start} + i];",
            "}",
        ]

    # --- parameters ---

    @property
    def _real(self) -> bool:
        """Whether states are floats where the processor has what that takes."""
        return has_real_lines(self.cell)

    @property
    def _states(self) -> tuple[str, str]:
        """The C types of current and voltage."""
        return ("spk_state", "spk_state") if self._real else (self.cell.type, "int32_t")

    @property
    def _lanes(self) -> int:
        """Updates come in multiples of this: of 16 where places past the last neuron stay silent.

        Such places hold zeros, so they stay there unless something drives them.
        """
        neurons = self.cell.neurons
        driven = bool(neurons.bias.any()) or neurons.max_spikes > 1
        driven |= neurons.floor is not None and bool((neurons.floor > 0).any())
        driven |= neurons.vth is not None and bool((neurons.vth < 0).any())
        return 1 if driven else LANES // 2

    def _each(self, name: str) -> Array:
        """Return a parameter in the order of the layout, one value per neuron."""
        flat = parameters(self.cell)[name].reshape(-1)
        return flat if self._order is None else flat[self._order]

    def _value(self, name: str) -> str:
        """Return a number where all neurons share it, else the element of an array."""
        flat = self._each(name)
        kind = "uint32_t" if name.startswith("keep_") else "int32_t"
        shared = (flat == flat[0]).all()
        return f"({kind})({int(flat[0])})" if shared else f"({kind})p_{name}[i]"

    def _pointers(self) -> Iterator[str]:
        name = self.cell.ident
        if self.cell.idles:
            yield f"int32_t *restrict idle = w->{name}_idle + from;"
        for what in parameters(self.cell):
            flat = self._each(what)
            if what.startswith("initial_") or (flat == flat[0]).all():
                continue
            whole = np.zeros(padded(len(flat)), np.int32)
            whole[: len(flat)] = flat
            number = self._given.add(whole)
            yield f"const int32_t *restrict p_{what} = (const int32_t *)p[{number}] + from;"

    def _order_pointer(self) -> list[str]:
        if self._order is None:
            return []
        number = self._given.add(self._order.astype(np.int32))
        return [f"const int32_t *order = (const int32_t *)p[{number}];"]

    # --- connections ---

    @staticmethod
    def _events(link: Link) -> Iterator[str]:
        ident, back = link.source.ident, link.source.depth - link.delay
        yield f"const int64_t from = w->{ident}_first[k + {back}];"
        yield f"const int64_t count = w->{ident}_first[k + {back + 1}] - from;"
        yield f"const uint32_t *index = w->{ident}_index + from;"
        if link.source.graded:
            yield f"const int32_t *value = w->{ident}_value + from;"

    def _matrix(self, link: Link) -> str:
        """Return what adds a matrix: of bytes where spikes are 0 or 1, of one or more delays."""
        late = link.stored.which is not None
        if link.source.graded:
            blanks = self._graded_rows(link)
            name = "native_late_graded.c" if late else "native_graded.c"
        else:
            blanks = self._byte_rows(link)
            name = "native_late.c" if late else "native_dense.c"
        if late:
            blanks |= self._delays(link)
        else:
            blanks["events"] = indented(self._events(link), 1)
        scale = 1 << link.shift
        return fill(name, ident=link.ident, type=self.cell.type, scale=scale, **blanks)

    def _byte_rows(self, link: Link) -> dict[str, object]:
        rows, offset = byte_rows(link, self._order, self._orders.get(link.source.name))
        return {
            "weights": self._given.add(rows),
            "offset": offset,
            "block_bytes": BLOCK * link.source.size,
            "together": 255 // max(1, link.span[1] - link.span[0]),
        }

    def _graded_rows(self, link: Link) -> dict[str, object]:
        weights = in_order(link.weights, self._order, self._orders.get(link.source.name))
        kind, dtype = integer_type(*link.span)
        whole = np.zeros((link.source.size, padded(self.cell.size)), dtype)
        whole[:, : self.cell.size] = weights.T
        number = self._given.add(whole)
        return {"weights": number, "kind": kind, "block": BLOCK, "room": whole.shape[1]}

    def _delays(self, link: Link) -> dict[str, object]:
        """Return where the delays of a matrix are, and how its code asks for them."""
        stored, source = link.stored, link.source
        assert stored.which is not None
        which = in_order(stored.which, self._order, self._orders.get(source.name))
        back = [source.depth - delay for delay in link.delays]
        blanks: dict[str, object] = {
            "source": source.ident,
            "number": len(back),
            "back": ", ".join(map(str, back)),
            "each": stored.delayed,
        }
        if stored.delayed == "source":
            which = which.reshape(-1)
            asked = {"late": "j", "place": "0"} if source.graded else {
                "late": "NULL, 0, NULL", "heard": "which[index[count]] == n", "block_delays": 0
            }  # fmt: skip
        elif source.graded:
            whole = np.zeros((which.shape[1], padded(self.cell.size)), np.uint8)
            whole[:, : self.cell.size] = which.T
            which, row = whole, f"j * {whole.shape[1]}" if len(whole) > 1 else "0"
            asked = {"late": f"{row} + block * {BLOCK}", "place": "i"}
        else:
            apart = "groups * 64" if stored.delayed == "synapse" else "0"
            asked = {"late": f"which, {apart}, turn", "heard": "1",
                     "block_delays": BLOCK * which.shape[1]}  # fmt: skip
            which = byte_blocks(which)
        return {**blanks, **asked, "which": self._given.add(which)}

    def _sum_type(self, link: Link) -> str:
        """Return the type that holds a convolution's sums before they are shifted."""
        return "int16_t" if int(link.reach.max()) < 1 << 15 else self.cell.type

    def _conv(self, link: Link) -> str:
        laid = self._kernels[link.ident]
        kind, dtype = integer_type(
            int(laid.weights.min(initial=0)), int(laid.weights.max(initial=0))
        )
        total, place = self._sum_type(link), "i"
        where = []
        places = places_in(self._order, conv_order(link))
        if places is not None:
            where = [f"const int32_t *where = (const int32_t *)p[{self._given.add(places)}];"]
            place = "where[i]"
        return fill(
            "native_conv.c",
            ident=link.ident,
            events=indented(self._events(link), 1),
            kind=kind,
            sum=total,
            type=self.cell.type,
            scale=1 << link.shift,
            size=self.cell.size,
            weights=self._given.add(laid.weights.astype(dtype)),
            places=self._given.add(laid.places),
            rows=self._given.add(laid.rows),
            runs=self._given.add(laid.runs),
            each_rows=laid.rows.shape[1],
            each_runs=laid.runs.shape[1],
            blocks=laid.blocks,
            add=indented(_additions(total, kind, graded=link.source.graded), 5),
            where=indented(where, 1),
            place=place,
        )

    # --- spikes ---

    def _publish(self) -> str:
        neurons = self.cell.neurons
        if neurons.vth is None:
            return ""
        return fill(
            "native_publish.c",
            name=self.cell.ident,
            size=self.cell.size,
            lag=neurons.view.lag,
            order=indented(self._order_pointer(), 0),
            listed=indented(self._listed(), 0),
            shown=indented(self._shown(), 1),
        )

    def _listed(self) -> Iterator[str]:
        item = self._listener
        if item is None:
            return
        name, depth = item.ident, item.depth
        yield f"int64_t found = w->{name}_first[{depth} + k];"
        if item.graded:
            yield f"for (int64_t i = 0; i < {item.size}; ++i) {{"
            yield f"    w->{name}_index[found] = (uint32_t)i;"
            yield f"    w->{name}_value[found] = bytes[i];"
            yield "    found += bytes[i] != 0;"
            yield "}"
        else:
            yield f"found += find_ones(bytes, {item.size}, w->{name}_index + found);"
        yield f"w->{name}_first[{depth} + k + 1] = found;"

    def _shown(self) -> Iterator[str]:
        """Yield what copies a step's spikes in the program's order; the record holds zeros."""
        item, size = self._listener, self.cell.size
        if self._order is None:
            yield f"memcpy(row, bytes, {size});"
            return
        if item is None:
            yield f"for (int64_t i = 0; i < {size}; ++i) {{"
        else:
            yield f"for (int64_t e = w->{item.ident}_first[{item.depth} + k]; e < found; ++e) {{"
            yield f"    const uint32_t i = w->{item.ident}_index[e];"
        yield "    row[order[i]] = bytes[i];"
        yield "}"


def _additions(total: str, kind: str, *, graded: bool) -> list[str]:
    if (total, kind, graded) == ("int16_t", "int8_t", False):
        return ["add_taps(to, taps);"]
    times = f" * ({total})value[e]" if graded else ""
    return [
        f"for (int i = 0; i < {LANES}; ++i) {{",
        f"    to[i] = ({total})(to[i] + ({total})(({total})taps[i]{times}));",
        "}",
    ]
