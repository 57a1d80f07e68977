"""Portable C99 for a plan: the state, constant arrays, and one function for each population."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikec.backends.c.neuron import parameters, update_lines
from spikec.backends.c.plan import Cell, Link, Plan, Source, integer_type
from spikec.backends.c.symbols import Symbols
from spikec.backends.c.text import fill, indented
from spikec.backends.names import one_line
from spikec.compiler.arrays import Array
from spikec.compiler.operators import Conv2d, Dense

__all__ = ["PortableWriter", "Sizes"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes that the constants and the state take, code and alignment aside."""

    weights: int
    parameters: int
    ram: int


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A member of the state: ``type name[...]``; ``count`` is the product of its extents."""

    type: str
    name: str
    extents: tuple[int, ...]
    comment: str

    @property
    def width(self) -> int:
        return int(self.type.strip("uint_")) // 8

    @property
    def bytes(self) -> int:
        return self.width * int(np.prod(self.extents, dtype=np.int64))

    def text(self) -> str:
        extents = "".join(f"[{extent}]" for extent in self.extents)
        return f"    {self.type} {self.name}{extents}; /* {self.comment} */"


class PortableWriter:
    """Turns a plan into the blanks of the templates."""

    def __init__(self, built: Plan, named: Symbols) -> None:
        self.plan = built
        self.named = named
        self._spk, self._macro = named.prefix, named.macro
        self._rows = {item.name: item.depth + 1 for item in built.sources}
        for cell in built.cells:
            if cell.remembers:
                self._rows[cell.neurons.name] = max(2, self._rows[cell.neurons.name])
        self._constants: list[tuple[str, Array]] = []
        # These two note the constants that they use.
        self._steps = [self._cell(cell) for cell in built.cells]
        self._reset_lines = list(self._reset())

    @property
    def sizes(self) -> Sizes:
        """The bytes of constants and state."""
        weights = sum(v.nbytes for name, v in self._constants if name.endswith("_weights"))
        return Sizes(
            weights=weights,
            parameters=sum(values.nbytes for _, values in self._constants) - weights,
            ram=sum(item.bytes for item in self._fields()),
        )

    @property
    def stack(self) -> int:
        """About the bytes of stack that a step takes on a processor of 32 bits."""
        widths = {"int32_t": 4, "int64_t": 8}
        late = [
            len(link.delays) * (4 + widths[cell.type])
            for cell in self.plan.cells
            for link in cell.links
            if link.stored.which is not None
        ]
        return 200 + max(late, default=0)

    def blanks(self) -> dict[str, str]:
        """Return the generated parts of the templates."""
        inputs = [item for item in self.plan.sources if item.is_input]
        populations = [self.plan.source(cell.neurons.name) for cell in self.plan.cells]
        setters = "\n\n".join(map(self._setter, inputs))
        getters = "\n\n".join(map(self._getter, populations))
        return {
            "spk": self._spk,
            "SPK": self._macro,
            "stem": self.named.stem,
            "sizes": ",\n".join(
                f"    {self._spk}_size_{item.ident} = {item.size}" for item in self.plan.sources
            ),
            "fields": "\n".join(item.text() for item in self._fields()),
            "counters": "\n".join(f"    uint32_t {name};" for name in self._counters()),
            "setters": "\n".join(map(self._setter_declared, inputs)),
            "getters": "\n".join(f"{self._getter_head(item)};" for item in populations),
            "constants": "\n\n".join(_constant(*item) for item in self._constants),
            "helpers": self._helpers("".join([*self._steps, setters, getters])),
            "reset": "\n".join(self._reset_lines),
            "setter_code": setters,
            "getter_code": getters,
            "cells": "\n\n".join(self._steps),
            "step": "\n".join(self._step()),
            "input_rows": "\n".join(
                f'    {{"{item.ident}", {item.size}, {self._spk}_set_{item.ident}}},'
                for item in inputs
            ),
            "population_rows": "\n".join(map(self._table_row, self.plan.cells)),
            "counter_rows": "\n".join(
                f'    {{"{name}", offsetof({self._spk}_net, {name})}},' for name in self._counters()
            )
            or '    {"", 0},',
        }

    # --- state ---

    def _fields(self) -> list[_Field]:
        fields = [
            _Field(
                type="uint32_t", name="step", extents=(), comment="steps done, up to the last start"
            )
        ]
        for cell in self.plan.cells:
            extents, name = (cell.size,), cell.ident
            fields.append(
                _Field(type=cell.type, name=f"{name}_u", extents=extents, comment="current")
            )
            fields.append(
                _Field(type="int32_t", name=f"{name}_v", extents=extents, comment="voltage")
            )
            if cell.idles:
                kind = integer_type(0, cell.neurons.refractory)[0]
                fields.append(
                    _Field(
                        type=kind,
                        name=f"{name}_idle",
                        extents=extents,
                        comment="refractory steps left",
                    )
                )
        for item in self.plan.sources:
            rows = self._rows[item.name]
            kind, count = _row_type(item), item.size if item.graded else -(-item.size // 8)
            what = "values" if item.graded else "bits"
            fields.append(
                _Field(
                    type="uint32_t", name=f"{item.ident}_row", extents=(), comment="this step's row"
                )
            )
            fields.append(
                _Field(
                    type=kind,
                    name=f"{item.ident}_s",
                    extents=(rows, count),
                    comment=f"sent, one row of {what} a step",
                )
            )
        for kind in sorted({cell.type for cell in self.plan.cells}):
            most = max(cell.size for cell in self.plan.cells if cell.type == kind)
            fields.append(
                _Field(
                    type=kind,
                    name=f"sum{kind[3:5]}",
                    extents=(most,),
                    comment="what arrives, while a step is taken",
                )
            )
        return sorted(fields, key=lambda item: -item.width)

    def _counters(self) -> list[str]:
        names = [f"{item.ident}_clipped" for item in self.plan.sources if item.is_input]
        for cell in self.plan.cells:
            names += [f"{cell.ident}_wrapped"] if cell.wraps else []
            names.append(f"{cell.ident}_saturated")
        return names

    def _table_row(self, cell: Cell) -> str:
        name, spiking = cell.ident, int(cell.neurons.vth is not None)
        spk = self._spk
        states = ", ".join(f"offsetof({spk}_net, {name}_{letter})" for letter in "vu")
        get, wide = f"{spk}_get_{name}", int(cell.wide)
        return f'    {{"{name}", {cell.size}, {spiking}, {get}, {states}, {wide}}},'

    # --- functions ---

    def _helpers(self, code: str) -> str:
        """Return the helpers that ``code`` calls."""
        names = ("decay32", "decay64", "get_bit", "put_bit")
        return "\n".join(fill(f"{name}.c") for name in names if f"{name}(" in code)

    def _reset(self) -> Iterator[str]:
        for cell in self.plan.cells:
            yield f"    for (i = 0; i < {cell.size}; ++i) {{"
            for letter in "uv":
                value = self._value(cell, f"initial_{letter}")
                yield f"        net->{cell.ident}_{letter}[i] = {value};"
            yield "    }"

    def _setter(self, item: Source) -> str:
        row = f"net->{item.ident}_s[net->{item.ident}_row]"
        put = f"{row}[index] = ({_row_type(item)})value" if item.graded else ""
        return fill(
            "setter.c",
            spk=self._spk,
            SPK=self._macro,
            name=item.ident,
            size=item.size,
            low=item.low,
            high=item.high,
            put=put or f"put_bit({row}, index, value)",
        )

    def _getter(self, item: Source) -> str:
        row = f"net->{item.ident}_s[net->{item.ident}_row]"
        sent = f"(int32_t){row}[index]" if item.graded else f"get_bit({row}, index)"
        return f"{self._getter_head(item)}\n{{\n    return index < {item.size}u ? {sent} : 0;\n}}"

    def _getter_head(self, item: Source) -> str:
        spk = self._spk
        return f"int32_t {spk}_get_{item.ident}(const {spk}_net *net, uint32_t index)"

    def _setter_declared(self, item: Source) -> str:
        spk = self._spk
        return (
            f"/* {one_line(item.name)}: {item.low} to {item.high} */\n"
            f"int {spk}_set_{item.ident}({spk}_net *net, uint32_t index, int32_t value);"
        )

    def _step(self) -> Iterator[str]:
        for cell in self.plan.cells:
            yield from self._advance_row(self.plan.source(cell.neurons.name))
        for cell in self.plan.cells:
            call = f"{self._spk}_step_{cell.ident}(net);"
            if cell.neurons.start:
                call = f"if (net->step >= {cell.neurons.start}u) {{\n        {call}\n    }}"
            yield f"    {call}"
        for item in self.plan.sources:
            if item.is_input:
                yield from self._advance_row(item)
        last = max(cell.neurons.start for cell in self.plan.cells)
        if last:
            yield f"    net->step += net->step < {last}u ? 1u : 0u;"

    def _advance_row(self, item: Source) -> Iterator[str]:
        row, rows = f"net->{item.ident}_row", self._rows[item.name]
        if rows > 1:
            yield f"    {row} = {row} + 1u < {rows}u ? {row} + 1u : 0u;"
        yield f"    memset(net->{item.ident}_s[{row}], 0, sizeof net->{item.ident}_s[0]);"

    def _cell(self, cell: Cell) -> str:
        item = self.plan.source(cell.neurons.name)
        pointers = []
        if cell.idles:
            kind = integer_type(0, cell.neurons.refractory)[0]
            pointers.append(f"{kind} *const idle = net->{cell.ident}_idle;")
        if cell.remembers:
            before = f"{self._rows[item.name] - 1}u"
            pointers.append(f"const {_row_type(item)} *const before = {self._back(item, before)};")
        if cell.neurons.vth is not None:
            row = f"net->{item.ident}_s[net->{item.ident}_row]"
            pointers.append(f"{_row_type(item)} *const sent = {row};")
        return fill(
            "cell.c",
            spk=self._spk,
            title=f"{one_line(cell.neurons.name)}: {cell.size} neurons",
            name=cell.ident,
            type=cell.type,
            sum=f"sum{cell.type[3:5]}",
            size=cell.size,
            pointers=indented(pointers, 1),
            links=indented((self._link(cell, link) for link in cell.links), 1),
            update=indented(self._update(cell, item), 2),
        )

    def _update(self, cell: Cell, item: Source) -> Iterator[str]:
        if cell.remembers:
            yield "const int32_t last = " + ("before[i];" if item.graded else "get_bit(before, i);")
        yield from update_lines(
            cell,
            value=lambda name: self._value(cell, name),
            count=lambda event, when: f"{self._macro}_COUNT({cell.ident}_{event}, {when});",
        )
        if cell.neurons.vth is not None:
            kind = _row_type(item)
            yield f"sent[i] = ({kind})s;" if item.graded else "put_bit(sent, i, s);"

    def _value(self, cell: Cell, name: str) -> str:
        """Return a number where all neurons share it, else the element of a constant array."""
        flat = parameters(cell)[name].reshape(-1)
        if not flat.size or (flat == flat[0]).all():
            number = int(flat[0]) if flat.size else 0
            unsigned = "u" if name.startswith("keep_") else ""
            return f"({number})" if number < 0 else f"{number}{unsigned}"
        key = f"{self._spk}_of_{cell.ident}_{name}"
        if key not in dict(self._constants):
            dtype = integer_type(int(flat.min()), int(flat.max()))[1]
            self._constants.append((key, flat.astype(dtype)))
        return f"({'uint32_t' if name.startswith('keep_') else 'int32_t'}){key}[i]"

    # --- connections ---

    def _back(self, item: Source, after: str) -> str:
        """Return the row ``after`` this step's, of rows that are a ring."""
        row, rows = f"net->{item.ident}_row", self._rows[item.name]
        return f"net->{item.ident}_s[({row} + {after}) % {rows}u]"

    def _link(self, cell: Cell, link: Link) -> str:
        item = link.source
        if link.stored.which is not None:
            return self._late(cell, link)
        if item.graded:
            skip = [f"const {cell.type} value = given[j];", "if (value == 0) {"]
        else:
            skip = ["if (given[j / 8] == 0) {", "    j |= 7; /* eight that are silent */"]
            skip += ["    continue;", "}", "if (!get_bit(given, j)) {"]
        scale = 1 << link.shift
        times = f"(value * {scale})" if item.graded else str(scale)
        return fill(
            "link.c",
            title=f"{one_line(link.title)}, from {one_line(item.name)}",
            delay=link.delay,
            kind=_row_type(item),
            row=self._back(item, f"{self._rows[item.name] - link.delay}u"),
            size=item.size,
            skip=indented([*skip, "    continue;", "}"], 2),
            body=indented([self._add(cell, link, times)], 2),
        )

    def _late(self, cell: Cell, link: Link) -> str:
        """Return what adds up weights of several delays."""
        item, stored, number = link.source, link.stored, len(link.delays)
        assert stored.which is not None
        self._constants.append((f"{self._spk}_{link.ident}_delays", self._in_order(link)))
        value = "given[{0}][j]" if item.graded else "get_bit(given[{0}], j)"
        scale = f" * {1 << link.shift}"
        if stored.delayed == "source":
            which = f"{self._spk}_{link.ident}_delays[j]"
            arrived = [f"const {cell.type} value = {value.format(which)};", "if (value == 0) {"]
            times = f"(value{scale})" if item.graded else f"{1 << link.shift}"
        else:
            arrived = [f"{cell.type} late[{number}];", "uint32_t any = 0;"]
            arrived += [f"for (k = 0; k < {number}; ++k) {{"]
            arrived += [f"    late[k] = ({cell.type}){value.format('k')}{scale};"]
            arrived += ["    any |= late[k] != 0;", "}", "if (any == 0) {"]
            if not item.graded:
                arrived = [*_silent_eight(number), *arrived]
            times = "late[d[{0}]]"
        each = {"source": "source", "target": "target", "synapse": "weight"}[stored.delayed]
        return fill(
            "late.c",
            title=f"{one_line(link.title)}, from {one_line(item.name)}",
            delayed=f"each {each} has a delay of its own",
            kind=_row_type(item),
            number=number,
            row=self._back(item, self._ago(link)),
            size=item.size,
            arrived=indented([*arrived, "    continue;", "}"], 2),
            body=indented([self._add(cell, link, times)], 2),
        )

    def _ago(self, link: Link) -> str:
        """Return how far after this step's row that of delay ``k`` is, as all rows are a ring."""
        rows, first = self._rows[link.source.name], link.delays[0]
        if link.delays == tuple(range(first, first + len(link.delays))):
            return f"{rows - first}u - k"
        key = f"{self._spk}_{link.ident}_rows"
        back = np.array([rows - delay for delay in link.delays])
        self._constants.append((key, back.astype(np.min_scalar_type(int(back.max())))))
        return f"(uint32_t){key}[k]"

    def _in_order(self, link: Link) -> Array:
        """Return the numbers of delays as the weights lie beside them."""
        which = link.stored.which
        assert which is not None
        if link.stored.delayed != "synapse":
            return which.reshape(-1)
        operator = link.operator
        beside = which.T if isinstance(operator, Dense) else _kernels(operator, which)
        return np.ascontiguousarray(beside).reshape(-1)

    def _add(self, cell: Cell, link: Link, times: str) -> str:
        """Return what adds the weights of source ``j``; ``times`` may ask for a place in ``d``."""
        write = self._dense if isinstance(link.operator, Dense) else self._conv
        return write(cell, link, times)

    def _weights(self, link: Link) -> str:
        return f"{self._spk}_{link.ident}_weights"

    def _keep_weights(self, link: Link, weights: Array) -> str:
        kind, dtype = integer_type(int(weights.min()), int(weights.max()))
        self._constants.append((self._weights(link), weights.reshape(-1).astype(dtype)))
        return kind

    def _dense(self, cell: Cell, link: Link, times: str) -> str:
        kind = self._keep_weights(link, link.weights.T)
        lines = [
            f"const {kind} *const w = &{self._weights(link)}[j * {cell.size}u];",
            *self._delays(link, "0", f"j * {cell.size}u"),
            f"for (i = 0; i < {cell.size}; ++i) {{",
            f"    sum[i] += ({cell.type})w[i] * {times.format('i')};",
            "}",
        ]
        return "\n".join(lines)

    def _delays(self, link: Link, target: str, synapse: str) -> list[str]:
        """Return what points ``d`` to the delays of targets or of synapses."""
        place = {"target": target, "synapse": synapse}.get(link.stored.delayed)
        if place is None:
            return []
        return [f"const uint8_t *const d = &{self._spk}_{link.ident}_delays[{place}];"]

    def _conv(self, cell: Cell, link: Link, times: str) -> str:
        operator = link.operator
        assert isinstance(operator, Conv2d)
        out, per_group, height, width = operator.weight.shape
        _, rows, columns = link.source.shape
        _, high, wide = operator.output_shape(link.source.shape)
        each = out // operator.groups
        delays = self._delays(link, f"channel / {per_group} * {each}", f"tap * {each}")
        return fill(
            "conv.c",
            kind=self._keep_weights(link, _kernels(operator, link.weights)),
            weights=self._weights(link),
            type=cell.type,
            times=times.format("o"),
            delays=indented(delays, 2),
            rows=rows,
            columns=columns,
            plane=rows * columns,
            pad_y=operator.padding[0],
            pad_x=operator.padding[1],
            height=height,
            width=width,
            dilation_y=operator.dilation[0],
            dilation_x=operator.dilation[1],
            stride_y=operator.stride[0],
            stride_x=operator.stride[1],
            end_y=high * operator.stride[0],
            end_x=wide * operator.stride[1],
            per_group=per_group,
            group_rows=each * high,
            each=each,
            wide=wide,
            map=high * wide,
        )


def _kernels(operator: Conv2d, weight: Array) -> Array:
    """Return kernels by group, source channel and tap, those of a group's targets together."""
    grouped: Array = weight.reshape(operator.groups, -1, *weight.shape[1:])
    together: Array = grouped.transpose(0, 2, 3, 4, 1)
    return together


def _silent_eight(number: int) -> list[str]:
    """Return what passes over eight sources that were silent at all delays."""
    return [
        "uint32_t sent_by_eight = 0;",
        f"for (k = 0; k < {number} && j % 8 == 0; ++k) {{",
        "    sent_by_eight |= given[k][j / 8];",
        "}",
        "if (j % 8 == 0 && sent_by_eight == 0) {",
        "    j |= 7;",
        "    continue;",
        "}",
    ]


def _row_type(item: Source) -> str:
    """Return the type of what a source sent: values, or bits in bytes."""
    return integer_type(min(item.low, 0), max(item.high, 0))[0] if item.graded else "uint8_t"


def _constant(name: str, values: Array) -> str:
    kind = f"{values.dtype.name}_t"
    numbers = list(map(str, values.tolist()))
    rows = [f"    {', '.join(numbers[at : at + 20])}," for at in range(0, len(numbers), 20)]
    return "\n".join(
        [f"static const {kind} {name}[{max(1, len(numbers))}] = {{", *(rows or ["    0,"]), "};"]
    )
