"""Write a program as a folder of portable C99: a library of one step, and a program to try it.

No floats, no allocation, no dependencies beyond ``<stdint.h>``; the same program gives
the same bytes. The fixed text is in ``templates/``; what is generated here is one
structure for the state, constant arrays, and one function for each population.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from spikec.backends.c.neuron import parameters, update_lines
from spikec.backends.c.plan import Cell, Link, Plan, Source, integer_type, plan
from spikec.backends.names import one_line
from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import DECAY_UNITY
from spikec.compiler.folders import MANIFEST, manifest_bytes, write_folder
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.program import Program

__all__ = ["SCHEMA", "Sizes", "emit", "package"]

SCHEMA = "spikec.c"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes that the constants and the state take, code and alignment aside."""

    weights: int
    parameters: int
    ram: int


def emit(program: Program, directory: Path) -> Sizes:
    """Write ``program`` to ``directory`` as C99, all or nothing; return what it takes.

    An empty directory or one written by this function before is replaced.
    Raises :class:`BackendError` for a program that C cannot hold and
    :class:`UsageError` when there is no place to write.
    """
    content, sizes = package(program)
    write_folder(directory, content, schema=SCHEMA)
    return sizes


def package(program: Program) -> tuple[dict[str, bytes], Sizes]:
    """Return every file by its path, and the sizes."""
    writer = _Writer(plan(program))
    sizes = writer.sizes
    blanks = {**writer.blanks(), **_readme(writer, sizes)}
    folder = files("spikec.backends.c") / "templates"
    content = {}
    for name in ("network.h", "network.c", "main.c", "Makefile", "README.md"):
        fill = Template((folder / f"{name}.txt").read_text(encoding="utf-8"))
        content[name] = fill.substitute(blanks).encode()
    manifest = {
        "version": VERSION,
        "target": program.target,
        "dt": program.dt,
        "outputs": list(program.outputs),
        "names": {item.ident: item.name for item in writer.plan.sources},
        "bytes": asdict(sizes),
        "provenance": dict(program.provenance),
    }
    content[MANIFEST] = manifest_bytes(SCHEMA, manifest)
    return content, sizes


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


class _Writer:
    """Turns a plan into the blanks of the templates."""

    def __init__(self, built: Plan) -> None:
        self.plan = built
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
        weights = sum(v.nbytes for name, v in self._constants if name.endswith("_weights"))
        return Sizes(
            weights=weights,
            parameters=sum(values.nbytes for _, values in self._constants) - weights,
            ram=sum(item.bytes for item in self._fields()),
        )

    def blanks(self) -> dict[str, str]:
        inputs = [item for item in self.plan.sources if item.is_input]
        populations = [self.plan.source(cell.neurons.name) for cell in self.plan.cells]
        setters = "\n\n".join(map(self._setter, inputs))
        getters = "\n\n".join(map(self._getter, populations))
        return {
            "title": _title(self.plan.program),
            "sizes": "\n".join(
                f"    spk_size_{item.ident} = {item.size}," for item in self.plan.sources
            ),
            "fields": "\n".join(item.text() for item in self._fields()),
            "counters": "\n".join(f"    uint32_t {name};" for name in self._counters()),
            "setters": "\n".join(map(_setter_declared, inputs)),
            "getters": "\n".join(
                f"int32_t spk_get_{item.ident}(const spk_net *net, uint32_t index);"
                for item in populations
            ),
            "constants": "\n\n".join(_constant(*item) for item in self._constants),
            "helpers": self._helpers("".join([*self._steps, setters, getters])),
            "reset": "\n".join(self._reset_lines),
            "setter_code": setters,
            "getter_code": getters,
            "cells": "\n\n".join(self._steps),
            "step": "\n".join(self._step()),
            "input_rows": "\n".join(
                f'    {{"{item.ident}", {item.size}, spk_set_{item.ident}}},' for item in inputs
            ),
            "population_rows": "\n".join(map(self._table_row, self.plan.cells)),
            "counter_rows": "\n".join(
                f'    {{"{name}", offsetof(spk_net, {name})}},' for name in self._counters()
            ) or '    {"", 0},',
        }

    # --- state ---

    def _fields(self) -> list[_Field]:
        fields = [
            _Field(type="uint32_t", name="step", extents=(), comment="steps done, up to the last start")
        ]
        for cell in self.plan.cells:
            extents, name = (cell.size,), cell.ident
            fields.append(_Field(type=cell.type, name=f"{name}_u", extents=extents, comment="current"))
            fields.append(_Field(type="int32_t", name=f"{name}_v", extents=extents, comment="voltage"))
            if cell.idles:
                kind = integer_type(0, cell.neurons.refractory)[0]
                fields.append(
                    _Field(type=kind, name=f"{name}_idle", extents=extents, comment="refractory steps left")
                )
        for item in self.plan.sources:
            rows = self._rows[item.name]
            kind, count = (
                (integer_type(min(item.low, 0), max(item.high, 0))[0], item.size)
                if item.graded
                else ("uint8_t", -(-item.size // 8))
            )
            what = "values" if item.graded else "bits"
            fields.append(_Field(type="uint32_t", name=f"{item.ident}_row", extents=(), comment="this step's row"))
            fields.append(
                _Field(type=kind, name=f"{item.ident}_s", extents=(rows, count), comment=f"sent, one row of {what} a step")
            )
        for kind in sorted({cell.type for cell in self.plan.cells}):
            most = max(cell.size for cell in self.plan.cells if cell.type == kind)
            fields.append(
                _Field(type=kind, name=f"sum{kind[3:5]}", extents=(most,), comment="what arrives, while a step is taken")
            )
        return sorted(fields, key=lambda item: -item.width)

    def _counters(self) -> list[str]:
        names = [f"{item.ident}_clipped" for item in self.plan.sources if item.is_input]
        for cell in self.plan.cells:
            names += [f"{cell.ident}_wrapped"] if cell.wraps else []
            names.append(f"{cell.ident}_saturated")
        return names

    def _table_row(self, cell: Cell) -> str:
        spikes = f"spk_get_{cell.ident}"
        return (
            f'    {{"{cell.ident}", {cell.size}, {int(cell.neurons.vth is not None)}, {spikes}, '
            f"offsetof(spk_net, {cell.ident}_v), offsetof(spk_net, {cell.ident}_u), {int(cell.wide)}}},"
        )

    # --- functions ---

    def _helpers(self, code: str) -> str:
        """Return the helpers that ``code`` calls."""
        folder = files("spikec.backends.c") / "templates"
        texts = [
            (folder / f"{name}.c.txt").read_text(encoding="utf-8")
            for name in ("decay32", "decay64", "get_bit", "put_bit")
            if f"{name}(" in code
        ]
        return "\n".join(texts).rstrip()

    def _reset(self) -> Iterator[str]:
        for cell in self.plan.cells:
            yield f"    for (i = 0; i < {cell.size}; ++i) {{"
            for letter in "uv":
                value = self._value(cell, f"initial_{letter}")
                yield f"        net->{cell.ident}_{letter}[i] = {value};"
            yield "    }"

    def _setter(self, item: Source) -> str:
        body = [
            f"int spk_set_{item.ident}(spk_net *net, uint32_t index, int32_t value)", "{",
            f"    if (index >= {item.size}u) {{", "        return -1;", "    }",
            f"    SPK_COUNT({item.ident}_clipped, value < {item.low} || value > {item.high});",
            f"    value = value < {item.low} ? {item.low} : value > {item.high} ? {item.high} : value;",
        ]  # fmt: skip
        row = f"net->{item.ident}_s[net->{item.ident}_row]"
        if item.graded:
            kind = integer_type(min(item.low, 0), max(item.high, 0))[0]
            body.append(f"    {row}[index] = ({kind})value;")
        else:
            body.append(f"    put_bit({row}, index, value);")
        return "\n".join([*body, "    return 0;", "}"])

    def _getter(self, item: Source) -> str:
        row = f"net->{item.ident}_s[net->{item.ident}_row]"
        sent = f"(int32_t){row}[index]" if item.graded else f"get_bit({row}, index)"
        return (
            f"int32_t spk_get_{item.ident}(const spk_net *net, uint32_t index)\n{{\n"
            f"    return index < {item.size}u ? {sent} : 0;\n}}"
        )

    def _step(self) -> Iterator[str]:
        for cell in self.plan.cells:
            yield from self._advance_row(self.plan.source(cell.neurons.name))
        for cell in self.plan.cells:
            call = f"step_{cell.ident}(net);"
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
        total = f"sum{cell.type[3:5]}"
        item = self.plan.source(cell.neurons.name)
        lines = [
            f"/* {one_line(cell.neurons.name)}: {cell.size} neurons */",
            f"static void step_{cell.ident}(spk_net *net)", "{",
            f"    {cell.type} *const sum = net->{total};",
            f"    {cell.type} *const u = net->{cell.ident}_u;",
            f"    int32_t *const v = net->{cell.ident}_v;",
        ]  # fmt: skip
        if cell.idles:
            kind = integer_type(0, cell.neurons.refractory)[0]
            lines.append(f"    {kind} *const idle = net->{cell.ident}_idle;")
        if cell.remembers:
            lines.append(f"    const {self._row_type(item)} *const before = {self._back(item, 1)};")
        if cell.neurons.vth is not None:
            lines.append(f"    {self._row_type(item)} *const sent = net->{item.ident}_s[net->{item.ident}_row];")
        lines += ["    uint32_t i;", "", f"    memset(sum, 0, {cell.size} * sizeof sum[0]);"]
        for link in cell.links:
            lines += ["    {", *(f"        {line}" for line in self._link(cell, link)), "    }"]
        lines.append(f"    for (i = 0; i < {cell.size}; ++i) {{")
        lines += [f"        {line}" for line in self._update(cell, item)]
        return "\n".join([*lines, "    }", "}"])

    def _update(self, cell: Cell, item: Source) -> Iterator[str]:
        yield f"const {cell.type} a = sum[i];"
        if cell.remembers:
            yield "const int32_t last = " + ("before[i];" if item.graded else "get_bit(before, i);")
        yield from update_lines(
            cell,
            value=lambda name: self._value(cell, name),
            count=lambda event, when: f"SPK_COUNT({cell.ident}_{event}, {when});",
        )
        if cell.neurons.vth is not None:
            kind = self._row_type(item)
            yield f"sent[i] = ({kind})s;" if item.graded else "put_bit(sent, i, s);"

    def _value(self, cell: Cell, name: str) -> str:
        """Return a number where all neurons share it, else the element of a constant array."""
        flat = parameters(cell)[name].reshape(-1)
        if not flat.size or (flat == flat[0]).all():
            number = int(flat[0]) if flat.size else 0
            unsigned = "u" if name.startswith("keep_") else ""
            return f"({number})" if number < 0 else f"{number}{unsigned}"
        key = f"{cell.ident}_{name}"
        if key not in dict(self._constants):
            dtype = integer_type(int(flat.min()), int(flat.max()))[1]
            self._constants.append((key, flat.astype(dtype)))
        return f"({'uint32_t' if name.startswith('keep_') else 'int32_t'}){key}[i]"

    # --- connections ---

    def _row_type(self, item: Source) -> str:
        return integer_type(min(item.low, 0), max(item.high, 0))[0] if item.graded else "uint8_t"

    def _back(self, item: Source, delay: int) -> str:
        """Return the row that ``item`` sent ``delay`` steps ago."""
        row, rows = f"net->{item.ident}_row", self._rows[item.name]
        return f"net->{item.ident}_s[({row} + {rows - delay}u) % {rows}u]"

    def _link(self, cell: Cell, link: Link) -> Iterator[str]:
        item = link.source
        yield f"/* {one_line(link.connection.name)}: what {one_line(item.name)} sent {link.delay} steps ago */"
        yield f"const {self._row_type(item)} *const given = {self._back(item, link.delay)};"
        yield "uint32_t j;"
        yield f"for (j = 0; j < {item.size}; ++j) {{"
        if item.graded:
            yield f"    const {cell.type} value = given[j];"
            yield "    if (value == 0) {\n                continue;\n            }"
        else:
            yield "    if (given[j / 8] == 0) {\n                j |= 7; /* a byte of silence */\n                continue;\n            }"
            yield "    if (!get_bit(given, j)) {\n                continue;\n            }"
        scale = f"(value * {1 << link.shift})" if item.graded else f"{1 << link.shift}"
        body = self._dense(cell, link, scale) if isinstance(link.operator, Dense) else self._conv(cell, link, scale)
        yield from (f"    {line}" for line in body)
        yield "}"

    def _keep_weights(self, link: Link, weights: Array) -> str:
        low, high = (int(weights.min()), int(weights.max())) if weights.size else (0, 0)
        kind, dtype = integer_type(low, high)
        self._constants.append((f"{link.ident}_weights", weights.reshape(-1).astype(dtype)))
        return kind

    def _dense(self, cell: Cell, link: Link, scale: str) -> Iterator[str]:
        kind = self._keep_weights(link, link.weights.T)
        yield f"const {kind} *const w = &{link.ident}_weights[j * {cell.size}u];"
        yield f"for (i = 0; i < {cell.size}; ++i) {{"
        yield f"    sum[i] += ({cell.type})w[i] * {scale};"
        yield "}"

    def _conv(self, cell: Cell, link: Link, scale: str) -> Iterator[str]:
        operator = link.operator
        assert isinstance(operator, Conv2d)
        out, per_group, height, width = operator.weight.shape
        channels, rows, columns = link.source.shape
        _, high, wide = operator.output_shape(link.source.shape)
        each = out // operator.groups
        grouped = link.weights.reshape(operator.groups, each, per_group, height, width)
        kind = self._keep_weights(link, grouped.transpose(0, 2, 3, 4, 1))
        yield f"const int32_t channel = (int32_t)(j / {rows * columns}u);"
        yield f"const int32_t y = (int32_t)(j / {columns}u % {rows}u) + {operator.padding[0]};"
        yield f"const int32_t x = (int32_t)(j % {columns}u) + {operator.padding[1]};"
        yield "int32_t row, column, o;"
        yield f"for (row = 0; row < {height}; ++row) {{"
        yield f"    const int32_t down = y - row * {operator.dilation[0]};"
        yield f"    if (down < 0 || down % {operator.stride[0]} != 0 || down >= {high * operator.stride[0]}) {{"
        yield "        continue;"
        yield "    }"
        yield f"    for (column = 0; column < {width}; ++column) {{"
        yield f"        const int32_t right = x - column * {operator.dilation[1]};"
        yield f"        const {kind} *const w ="
        yield f"            &{link.ident}_weights[((channel * {height} + row) * {width} + column) * {each}];"
        yield f"        {cell.type} *to;"
        yield f"        if (right < 0 || right % {operator.stride[1]} != 0 || right >= {wide * operator.stride[1]}) {{"
        yield "            continue;"
        yield "        }"
        yield f"        to = &sum[(channel / {per_group} * {each * high} + down / {operator.stride[0]}) * {wide} + right / {operator.stride[1]}];"
        yield f"        for (o = 0; o < {each}; ++o) {{"
        yield f"            to[o * {high * wide}] += ({cell.type})w[o] * {scale};"
        yield "        }"
        yield "    }"
        yield "}"


def _setter_declared(item: Source) -> str:
    return (
        f"/* {one_line(item.name)}: {item.low} to {item.high} */\n"
        f"int spk_set_{item.ident}(spk_net *net, uint32_t index, int32_t value);"
    )


def _constant(name: str, values: Array) -> str:
    kind = f"{values.dtype.name}_t"
    numbers = list(map(str, values.tolist()))
    rows = [f"    {', '.join(numbers[at : at + 20])}," for at in range(0, len(numbers), 20)]
    return "\n".join([f"static const {kind} {name}[{max(1, len(numbers))}] = {{", *(rows or ["    0,"]), "};"])


def _title(program: Program) -> str:
    names = " -> ".join(one_line(name) for name in (program.inputs[0].name, program.outputs[0]))
    return f"A spiking network: {names}, {program.num_neurons} neurons."


def _readme(writer: _Writer, sizes: Sizes) -> dict[str, str]:
    program = writer.plan.program
    idents = {item.name: item.ident for item in writer.plan.sources}

    def table(rows: Iterable[Iterable[object]]) -> str:
        return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)

    return {
        "input_table": table(
            (f"`{idents[item.name]}`", one_line(item.name), item.shape, f"{item.low} to {item.high}",
             _meaning(item.kind, item.frac_bits))
            for item in program.inputs
        ),
        "population_table": table(
            (f"`{idents[item.name]}`", one_line(item.name), item.shape,
             "voltage" if item.vth is None else "spikes", item.view.lag, item.view.current_lag)
            for item in program.populations
        ),
        "outputs": ", ".join(f"`{idents[name]}`" for name in program.outputs),
        "weight_bytes": str(sizes.weights),
        "parameter_bytes": str(sizes.parameters),
        "ram_bytes": str(sizes.ram),
        "unity": str(DECAY_UNITY),
    }  # fmt: skip


def _meaning(kind: str, frac_bits: int) -> str:
    if kind == "analog":
        return f"x as round-half-even(x * 2^{frac_bits})"
    return "1 is a spike" if kind == "binary" else "integers"
