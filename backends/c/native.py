"""Generate the native engine of one program: its source text, and the arrays it is given.

Sizes, delays and shared parameters are constants in the text, so that the compiler
unrolls and vectorises; weights and what differs between neurons are passed in by
pointer, so that the text stays small and the compiled engine serves other weights
of the same shapes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

import networkx as nx
import numpy as np

from spikec.backends.c.layout import (
    BLOCK,
    LANES,
    aligned,
    byte_rows,
    conv_order,
    kernel,
    order_of,
    padded,
)
from spikec.backends.c.neuron import parameters, update_lines
from spikec.backends.c.plan import Cell, Link, Plan, Source, integer_type
from spikec.compiler.arrays import Array
from spikec.compiler.operators import Conv2d

__all__ = ["Native", "generate"]

#: Steps that are taken before the next population has its turn, and samples beside each other.
_CHUNK, _GROUP = 128, 8
#: Events that the longest list of a chunk may hold.
_MOST_EVENTS = 1 << 25
#: Blocks of weights are used for several samples at a time when all exceed this many bytes.
_SMALL = 1 << 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Native:
    """An engine's source, the arrays it is given, and how samples are cut for it."""

    source: str
    arrays: tuple[Array, ...]
    group: int


def generate(built: Plan) -> Native:
    """Return the native engine for a plan."""
    writer = _Writer(built)
    template = files("spikec.backends.c") / "templates" / "native.c.txt"
    text = Template(template.read_text(encoding="utf-8")).substitute(writer.blanks())
    return Native(source=text, arrays=tuple(writer.arrays), group=writer.group)


class _Writer:
    """Turns a plan into the blanks of ``native.c.txt``."""

    def __init__(self, built: Plan) -> None:
        self.plan = built
        self.arrays: list[Array] = []
        self._orders = {cell.neurons.name: order_of(cell) for cell in built.cells}
        self._heard = {link.source.name for cell in built.cells for link in cell.links}
        self._components = _components(built)
        largest = max(item.size for item in built.sources)
        self._chunk = max(1, min(_CHUNK, _MOST_EVENTS // max(1, largest)))
        dense = [link.weights.size for cell in built.cells for link in cell.links]
        self.group = _GROUP if sum(dense) > _SMALL else 1

    def blanks(self) -> dict[str, str]:
        functions = [self._cell(cell) for cell in self.plan.cells]
        functions += [self._component(index) for index in range(len(self._components))]
        numbers = range(len(self._components))
        return {
            "chunk": str(self._chunk),
            "group": str(self.group),
            "extra": str(max(0, self.plan.extra_steps)),
            "helpers": self._helpers(),
            "structure": "\n".join(["typedef struct {", *self._fields(), "} work;"]),
            "functions": "\n\n".join(functions),
            "begin": "\n".join(self._begin()),
            "inputs": "\n".join(self._inputs()),
            "outputs": "\n".join(self._outputs()),
            "components": "\n".join(
                f"            run_{n}(p, group, members, steps, t0, count, events);" for n in numbers
            ),
            "carries": "\n".join(
                f"                carry(w->{item.ident}_first, w->{item.ident}_index, "
                f"{f'w->{item.ident}_value' if item.graded else 'NULL'}, {item.depth}, count);"
                for item in self._listened()
            ),
        }

    def _helpers(self) -> str:
        folder = files("spikec.backends.c") / "templates"
        names = ["decay32", "decay64"] if any(c.wide for c in self.plan.cells) else ["decay32"]
        return "\n".join((folder / f"{n}.c.txt").read_text(encoding="utf-8") for n in names)

    def _listened(self) -> list[Source]:
        return [item for item in self.plan.sources if item.name in self._heard]

    def _pass(self, values: Array) -> int:
        """Hand an array over; return its number."""
        self.arrays.append(aligned(values))
        return len(self.arrays) - 1

    # --- state ---

    def _fields(self) -> Iterator[str]:
        for cell in self.plan.cells:
            name, room = cell.ident, padded(cell.size)
            alignment = "__attribute__((aligned(64)))"
            yield f"    {cell.type} {name}_u[{room}] {alignment};"
            yield f"    int32_t {name}_v[{room}] {alignment};"
            yield f"    int32_t {name}_s[{room}] {alignment};"
            yield f"    {cell.type} {name}_a[{room}] {alignment};"
            if cell.idles:
                yield f"    int32_t {name}_idle[{room}] {alignment};"
            if cell.neurons.vth is not None:
                yield f"    uint8_t {name}_bytes[CHUNK][{room}] {alignment};"
                yield f"    uint8_t *{name}_spikes;"
            yield f"    int64_t *{name}_voltage, *{name}_current;"
            for link in cell.links:
                if isinstance(link.operator, Conv2d):
                    kind, length = self._sum_type(cell, link), self._sums(link)
                    yield f"    {kind} {link.ident}_sum[{length}] {alignment};"
        for item in self._listened():
            steps = f"({item.depth} + CHUNK)"
            yield f"    int64_t {item.ident}_first[{steps} + 1];"
            yield f"    uint32_t {item.ident}_index[{steps} * (size_t){item.size} + 64];"
            if item.graded:
                yield f"    int32_t {item.ident}_value[{steps} * (size_t){item.size} + 64];"

    @staticmethod
    def _sums(link: Link) -> int:
        return padded(len(conv_order(link)) + LANES)

    @staticmethod
    def _sum_type(cell: Cell, link: Link) -> str:
        """Return the type that holds a convolution's sums before they are shifted."""
        return "int16_t" if int(link.reach.max(initial=0)) < 1 << 15 else cell.type

    def _begin(self) -> Iterator[str]:
        for cell in self.plan.cells:
            name = cell.ident
            yield f"    for (int64_t i = 0; i < {cell.size}; ++i) {{"
            for letter in "uv":
                yield f"        w->{name}_{letter}[i] = {self._value(cell, f'initial_{letter}', base=True)};"
            yield "    }"
            cleared = [f"{name}_s", *([f"{name}_idle"] if cell.idles else [])]
            cleared += [f"{link.ident}_sum" for link in cell.links if isinstance(link.operator, Conv2d)]
            yield from (f"    memset(w->{field}, 0, sizeof w->{field});" for field in cleared)
        for item in self._listened():
            yield f"    memset(w->{item.ident}_first, 0, sizeof w->{item.ident}_first);"
        yield "    (void)p;"

    def _inputs(self) -> Iterator[str]:
        inputs = [item for item in self.plan.sources if item.is_input]
        for number, item in enumerate(inputs):
            if item.name not in self._heard:
                continue
            kind, depth, ident = "int32_t" if item.graded else "uint8_t", item.depth, item.ident
            yield "    for (int64_t k = 0; k < count; ++k) {"
            yield f"        int64_t found = w->{ident}_first[{depth} + k];"
            yield "        if (t0 + k < steps) {"
            yield (
                f"            const {kind} *row = (const {kind} *)inputs[{number}] "
                f"+ (sample * steps + t0 + k) * {item.size};"
            )
            if item.graded:
                yield f"            for (int64_t i = 0; i < {item.size}; ++i) {{"
                yield f"                w->{ident}_index[found] = (uint32_t)i;"
                yield f"                w->{ident}_value[found] = row[i];"
                yield "                found += row[i] != 0;"
                yield "            }"
            else:
                yield f"            found += find_ones(row, {item.size}, w->{ident}_index + found);"
            yield "        }"
            yield f"        w->{ident}_first[{depth} + k + 1] = found;"
            yield "    }"
        yield "    (void)w, (void)inputs, (void)sample, (void)steps, (void)t0, (void)count;"

    def _outputs(self) -> Iterator[str]:
        for number, cell in enumerate(self.plan.cells):
            kinds = [("voltage", "int64_t", 1), ("current", "int64_t", 2)]
            if cell.neurons.vth is not None:
                kinds.append(("spikes", "uint8_t", 0))
            for quantity, kind, place in kinds:
                at = 3 * number + place
                yield (
                    f"            w->{cell.ident}_{quantity} = outputs[{at}] "
                    f"? ({kind} *)outputs[{at}] + sample * steps * {cell.size} : NULL;"
                )

    # --- populations ---

    def _cell(self, cell: Cell) -> str:
        lines = [*self._arrive(cell), "", *self._convolve(cell), "", *self._update(cell), ""]
        lines += [*self._record(cell), "", *self._publish(cell)]
        return "\n".join(lines)

    def _arrive(self, cell: Cell) -> Iterator[str]:
        """Dense connections, for one block of neurons."""
        yield f"SPK_INLINE void arrive_{cell.ident}(const void *const *p, const work *w, int64_t k,"
        yield f"    int64_t block, int groups, {cell.type} *a)"
        yield "{"
        for link in cell.links:
            if isinstance(link.operator, Conv2d):
                continue
            yield f"    {{ /* {link.ident} */"
            yield from (f"        {line}" for line in self._events(link))
            yield from (f"        {line}" for line in self._dense(cell, link))
            yield "    }"
        yield "    (void)p, (void)w, (void)k, (void)block, (void)groups, (void)a;"
        yield "}"

    @staticmethod
    def _events(link: Link) -> Iterator[str]:
        ident, back = link.source.ident, link.source.depth - link.delay
        yield f"const int64_t from = w->{ident}_first[k + {back}];"
        yield f"const int64_t count = w->{ident}_first[k + {back + 1}] - from;"
        yield f"const uint32_t *index = w->{ident}_index + from;"
        if link.source.graded:
            yield f"const int32_t *value = w->{ident}_value + from;"

    def _ordered(self, cell: Cell, link: Link) -> Array:
        """Return dense weights ``[post, pre]`` in the order of both layouts."""
        weights = link.weights
        post, pre = self._orders[cell.neurons.name], self._orders.get(link.source.name)
        weights = weights if post is None else weights[post]
        return weights if pre is None else weights[:, pre]

    def _dense(self, cell: Cell, link: Link) -> Iterator[str]:
        weights = self._ordered(cell, link)
        if not link.source.graded:
            rows, offset = byte_rows(weights)
            number = self._pass(rows)
            yield (
                f"const uint8_t *weights = (const uint8_t *)p[{number}] "
                f"+ block * {BLOCK * link.source.size}ll;"
            )
            yield f"dense_{cell.type}(weights, groups, index, count, {offset}, {1 << link.shift}, a);"
            return
        kind, dtype = integer_type(int(weights.min(initial=0)), int(weights.max(initial=0)))
        whole = np.zeros((link.source.size, padded(cell.size)), dtype)
        whole[:, : cell.size] = weights.T
        number = self._pass(whole)
        yield (
            f"const {kind} *weights = (const {kind} *)p[{number}] + block * {BLOCK};"
        )
        yield "for (int64_t e = 0; e < count; ++e) {"
        yield f"    const {kind} *row = weights + (int64_t)index[e] * {padded(cell.size)};"
        yield f"    const {cell.type} times = ({cell.type})value[e] * {1 << link.shift};"
        yield "    for (int i = 0; i < groups * 64; ++i) {"
        yield f"        a[i] += ({cell.type})row[i] * times;"
        yield "    }"
        yield "}"

    def _convolve(self, cell: Cell) -> Iterator[str]:
        """Convolutions, for the whole population."""
        yield f"SPK_INLINE void convolve_{cell.ident}(const void *const *p, work *w, int64_t k, {cell.type} *restrict a)"
        yield "{"
        for link in cell.links:
            if isinstance(link.operator, Conv2d):
                yield f"    {{ /* {link.ident} */"
                yield from (f"        {line}" for line in self._events(link))
                yield from (f"        {line}" for line in self._conv(cell, link))
                yield "    }"
        yield "    (void)p, (void)w, (void)k, (void)a;"
        yield "}"

    def _conv(self, cell: Cell, link: Link) -> Iterator[str]:
        laid = kernel(link, self._orders.get(link.source.name))
        kind, dtype = integer_type(int(laid.weights.min(initial=0)), int(laid.weights.max(initial=0)))
        total = self._sum_type(cell, link)
        graded = link.source.graded
        weights = self._pass(laid.weights.astype(dtype))
        yield f"const {kind} *weights = (const {kind} *)p[{weights}];"
        yield f"const spk_place *places = (const spk_place *)p[{self._pass(laid.places)}];"
        yield f"const int32_t (*rows)[2] = (const int32_t (*)[2])p[{self._pass(laid.rows)}];"
        yield f"const int32_t *first_row = (const int32_t *)p[{self._pass(laid.first_row)}];"
        yield f"const spk_run *runs = (const spk_run *)p[{self._pass(laid.runs)}];"
        yield f"const int32_t *first_run = (const int32_t *)p[{self._pass(laid.first_run)}];"
        yield f"{total} *restrict sum = w->{link.ident}_sum;"
        yield "for (int64_t e = 0; e < count; ++e) {"
        yield "    const spk_place at = places[index[e]];"
        yield "    for (int32_t n = first_run[at.x]; n < first_run[at.x + 1]; ++n) {"
        yield "        const spk_run run = runs[n];"
        yield "        for (int32_t r = first_row[at.y]; r < first_row[at.y + 1]; ++r) {"
        yield f"            {total} *restrict to = sum + at.group + rows[r][0] + run.to;"
        yield f"            const {kind} *restrict from_ = weights + at.channel + rows[r][1] + run.from;"
        yield "            for (int32_t b = 0; b < run.blocks; ++b, to += 32, from_ += 32) {"
        if (total, kind, graded) == ("int16_t", "int8_t", False):
            yield "                *(sums *)to += __builtin_convertvector(*(const bytes *)from_, sums);"
        else:
            times = f" * ({total})value[e]" if graded else ""
            yield f"                for (int i = 0; i < {LANES}; ++i) {{"
            yield f"                    to[i] = ({total})(to[i] + ({total})(({total})from_[i]{times}));"
            yield "                }"
        yield "            }"
        yield "        }"
        yield "    }"
        yield "}"
        order, mine = conv_order(link), self._orders[cell.neurons.name]
        place = "i"
        where = _places(order, mine)
        if where is not None:
            yield f"const int32_t *where = (const int32_t *)p[{self._pass(where)}];"
            place = "where[i]"
        yield f"for (int64_t i = 0; i < {cell.size}; ++i) {{"
        yield f"    a[{place}] += ({cell.type})sum[i] * {1 << link.shift};"
        yield "    sum[i] = 0;"
        yield "}"

    def _update(self, cell: Cell) -> Iterator[str]:
        name, kind = cell.ident, cell.type
        arguments = "const void *const *p, work *w, int64_t from, int64_t size"
        yield f"SPK_INLINE void update_{name}({arguments}, const {kind} *restrict sum, int64_t *events)"
        yield "{"
        yield f"    {kind} *restrict u = w->{name}_u + from;"
        yield f"    int32_t *restrict v = w->{name}_v + from;"
        yield f"    int32_t *restrict spikes = w->{name}_s + from;"
        if cell.idles:
            yield f"    int32_t *restrict idle = w->{name}_idle + from;"
        body = update_lines(
            cell,
            value=lambda what: self._value(cell, what),
            count=lambda event, when: f"{event} += {when};",
        )
        yield from (f"    {line}" for line in self._pointers(cell))
        yield "    int32_t wrapped = 0, saturated = 0;"
        yield "    for (int64_t i = 0; i < size; ++i) {"
        yield f"        const {kind} a = sum[i];"
        if cell.remembers:
            yield "        const int32_t last = spikes[i];"
        yield from (f"        {line}" for line in body)
        if cell.neurons.vth is not None:
            yield "        spikes[i] = s;"
        yield "    }"
        place = 2 * self.plan.cells.index(cell)
        yield f"    events[{place}] += wrapped;"
        yield f"    events[{place + 1}] += saturated;"
        yield "    (void)p, (void)spikes;"
        yield "}"

    def _each(self, cell: Cell, name: str) -> Array:
        """Return a parameter in the order of the layout, one value per neuron."""
        flat = parameters(cell)[name].reshape(-1)
        order = self._orders[cell.neurons.name]
        return flat if order is None else flat[order]

    def _value(self, cell: Cell, name: str, *, base: bool = False) -> str:
        """Return a number where all neurons share it, else the element of an array."""
        flat = self._each(cell, name)
        kind = "uint32_t" if name.startswith("keep_") else "int32_t"
        if not flat.size or (flat == flat[0]).all():
            return f"({kind})({int(flat[0]) if flat.size else 0})"
        if base:
            return f"((const int32_t *)p[{self._pass(flat.astype(np.int32))}])[i]"
        return f"({kind})p_{name}[i]"

    def _pointers(self, cell: Cell) -> Iterator[str]:
        for name in parameters(cell):
            flat = self._each(cell, name)
            if name.startswith("initial_") or not flat.size or (flat == flat[0]).all():
                continue
            number = self._pass(flat.astype(np.int32))
            yield f"const int32_t *restrict p_{name} = (const int32_t *)p[{number}] + from;"

    def _record(self, cell: Cell) -> Iterator[str]:
        """Show voltage and current of a block after a step, where they are wanted."""
        name, view = cell.ident, cell.neurons.view
        order = self._orders[cell.neurons.name]
        place = "from + i"
        yield f"SPK_INLINE void record_{name}(const void *const *p, const work *w, int64_t from, int64_t size, int64_t t, int64_t steps)"
        yield "{"
        if order is not None:
            yield f"    const int32_t *order = (const int32_t *)p[{self._pass(order.astype(np.int32))}];"
            place = "order[from + i]"
        for quantity, letter, lag in (("voltage", "v", view.lag), ("current", "u", view.current_lag)):
            yield f"    if (w->{name}_{quantity} && t >= {lag} && t - ({lag}) < steps) {{"
            yield f"        int64_t *row = w->{name}_{quantity} + (t - ({lag})) * {cell.size};"
            yield "        for (int64_t i = 0; i < size; ++i) {"
            yield f"            row[{place}] = w->{name}_{letter}[from + i];"
            yield "        }"
            yield "    }"
        yield "    (void)p;"
        yield "}"

    def _publish(self, cell: Cell) -> Iterator[str]:
        """Show the spikes of a step, and list them for those who listen."""
        name, lag = cell.ident, cell.neurons.view.lag
        yield f"SPK_INLINE void publish_{name}(const void *const *p, work *w, int64_t k, int64_t t, int64_t steps)"
        yield "{"
        item = self.plan.source(cell.neurons.name)
        if cell.neurons.vth is not None:
            yield f"    const uint8_t *bytes = w->{name}_bytes[k];"
            if item.name in self._heard:
                yield from self._listed(item)
            order = self._orders[item.name]
            yield f"    if (w->{name}_spikes && t >= {lag} && t - ({lag}) < steps) {{"
            yield f"        uint8_t *row = w->{name}_spikes + (t - ({lag})) * {cell.size};"
            if order is None:
                yield f"        memcpy(row, bytes, {cell.size});"
            else:
                number = self._pass(order.astype(np.int32))
                yield f"        const int32_t *order = (const int32_t *)p[{number}];"
                yield from self._scattered(item)
            yield "    }"
        yield "    (void)p, (void)w, (void)k, (void)t, (void)steps;"
        yield "}"

    def _scattered(self, item: Source) -> Iterator[str]:
        """Show spikes in the program's order; the record holds zeros."""
        if item.name not in self._heard:
            yield f"        for (int64_t i = 0; i < {item.size}; ++i) {{"
            yield "            row[order[i]] = bytes[i];"
            yield "        }"
            return
        yield f"        for (int64_t e = w->{item.ident}_first[{item.depth} + k]; e < found; ++e) {{"
        yield f"            const uint32_t i = w->{item.ident}_index[e];"
        yield "            row[order[i]] = bytes[i];"
        yield "        }"

    @staticmethod
    def _listed(item: Source) -> Iterator[str]:
        name, depth = item.ident, item.depth
        yield f"    int64_t found = w->{name}_first[{depth} + k];"
        if item.graded:
            yield f"    for (int64_t i = 0; i < {item.size}; ++i) {{"
            yield f"        w->{name}_index[found] = (uint32_t)i;"
            yield f"        w->{name}_value[found] = bytes[i];"
            yield "        found += bytes[i] != 0;"
            yield "    }"
        else:
            yield f"    found += find_ones(bytes, {item.size}, w->{name}_index + found);"
        yield f"    w->{name}_first[{depth} + k + 1] = found;"

    # --- components ---

    def _component(self, number: int) -> str:
        cells = self._components[number]
        arguments = "const void *const *p, work **group, int64_t members, int64_t steps, int64_t t0, int64_t count, int64_t *events"
        lines = []
        if _blocked(cells):
            (cell,) = cells
            lines += [*self._block(cell), ""]
        lines += [f"static void run_{number}({arguments})", "{"]
        lines += self._by_block(cells[0]) if _blocked(cells) else self._by_step(cells)
        return "\n".join([*lines, "}"])

    def _block(self, cell: Cell) -> Iterator[str]:
        """One block of a population, for all steps and samples at hand."""
        name = cell.ident
        yield f"SPK_INLINE void block_{name}(const void *const *p, work **group, int64_t members, int64_t steps,"
        yield "    int64_t t0, int64_t count, int64_t *events, int64_t block, int groups, int64_t size)"
        yield "{"
        yield "    for (int64_t m = 0; m < members; ++m) {"
        yield "        work *w = group[m];"
        yield "        for (int64_t k = 0; k < count; ++k) {"
        yield f"            if (t0 + k >= {cell.neurons.start}) {{"
        yield f"                {cell.type} a[{BLOCK}] __attribute__((aligned(64)));"
        yield "                memset(a, 0, (size_t)groups * 64 * sizeof a[0]);"
        yield f"                arrive_{name}(p, w, k, block, groups, a);"
        yield f"                update_{name}(p, w, block * {BLOCK}, size, a, events);"
        yield "            }"
        yield from (f"            {line}" for line in _narrowed(cell, f"block * {BLOCK}", "size"))
        yield f"            record_{name}(p, w, block * {BLOCK}, size, t0 + k, steps);"
        yield "        }"
        yield "    }"
        yield "}"

    def _by_block(self, cell: Cell) -> Iterator[str]:
        full, rest = divmod(cell.size, BLOCK)
        given = "p, group, members, steps, t0, count, events"
        if full:
            yield f"    for (int64_t block = 0; block < {full}; ++block) {{"
            yield f"        block_{cell.ident}({given}, block, {BLOCK // 64}, {BLOCK});"
            yield "    }"
        if rest:
            yield f"    block_{cell.ident}({given}, {full}, {padded(rest) // 64}, {rest});"
        yield "    for (int64_t m = 0; m < members; ++m) {"
        yield "        for (int64_t k = 0; k < count; ++k) {"
        yield f"            publish_{cell.ident}(p, group[m], k, t0 + k, steps);"
        yield "        }"
        yield "    }"

    def _by_step(self, cells: Sequence[Cell]) -> Iterator[str]:
        yield "    for (int64_t m = 0; m < members; ++m) {"
        yield "        work *w = group[m];"
        yield "        for (int64_t k = 0; k < count; ++k) {"
        for cell in cells:
            yield from (f"            {line}" for line in self._whole(cell))
        yield "        }"
        yield "    }"

    @staticmethod
    def _whole(cell: Cell) -> Iterator[str]:
        name = cell.ident
        full, rest = divmod(cell.size, BLOCK)
        yield f"if (t0 + k >= {cell.neurons.start}) {{"
        yield f"    memset(w->{name}_a, 0, sizeof w->{name}_a);"
        if full:
            yield f"    for (int64_t block = 0; block < {full}; ++block) {{"
            yield f"        arrive_{name}(p, w, k, block, {BLOCK // 64}, w->{name}_a + block * {BLOCK});"
            yield "    }"
        if rest:
            yield f"    arrive_{name}(p, w, k, {full}, {padded(rest) // 64}, w->{name}_a + {full * BLOCK});"
        yield f"    convolve_{name}(p, w, k, w->{name}_a);"
        yield f"    update_{name}(p, w, 0, {cell.size}, w->{name}_a, events);"
        yield "}"
        yield from _narrowed(cell, "0", str(cell.size))
        yield f"record_{name}(p, w, 0, {cell.size}, t0 + k, steps);"
        yield f"publish_{name}(p, w, k, t0 + k, steps);"


def _narrowed(cell: Cell, start: str, count: str) -> Iterator[str]:
    if cell.neurons.vth is None:
        return
    yield f"for (int64_t i = 0; i < {count}; ++i) {{"
    yield f"    w->{cell.ident}_bytes[k][{start} + i] = (uint8_t)w->{cell.ident}_s[{start} + i];"
    yield "}"


def _places(order: Array, mine: Array | None) -> Array | None:
    """Return where each element of ``order`` stands in the layout ``mine``; None for the same."""
    layout = np.arange(len(order)) if mine is None else mine
    if (order == layout).all():
        return None
    inverse = np.empty(len(layout), np.int32)
    inverse[layout] = np.arange(len(layout), dtype=np.int32)
    return inverse[order]


def _components(built: Plan) -> list[list[Cell]]:
    """Return groups of populations that loops join, each after those it hears."""
    graph = nx.DiGraph()
    names = [cell.neurons.name for cell in built.cells]
    graph.add_nodes_from(names)
    for cell in built.cells:
        for link in cell.links:
            if not link.source.is_input:
                graph.add_edge(link.source.name, cell.neurons.name)
    joined = nx.condensation(graph)
    ordered = nx.lexicographical_topological_sort(
        joined, key=lambda node: min(names.index(name) for name in joined.nodes[node]["members"])
    )
    members = [joined.nodes[node]["members"] for node in ordered]
    return [[cell for cell in built.cells if cell.neurons.name in group] for group in members]


def _blocked(cells: Sequence[Cell]) -> bool:
    """Say whether these can run block by block: one population that neither hears itself nor
    a convolution."""
    if len(cells) > 1:
        return False
    (cell,) = cells
    return not any(
        isinstance(link.operator, Conv2d) or link.source.name == cell.neurons.name
        for link in cell.links
    )
