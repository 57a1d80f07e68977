"""Generate the native engine of one program: its source text, and the arrays it is given.

Sizes, delays and shared parameters are constants in the text, so that the compiler
unrolls and vectorises; weights and what differs between neurons are passed in by
pointer, so that the text stays small and the compiled engine serves other weights
of the same shapes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spikec.backends.c.layout import BLOCK, order_of, padded
from spikec.backends.c.native_cell import CellWriter, Given
from spikec.backends.c.plan import Plan, Source
from spikec.backends.c.text import fill, indented
from spikec.compiler.arrays import Array
from spikec.compiler.components import components

__all__ = ["Native", "generate"]

#: Steps that are taken before the next population has its turn, and samples beside each other.
_CHUNK, _GROUP = 128, 8
#: Events that the longest list of a chunk may hold.
_MOST_EVENTS = 1 << 25
#: Blocks of weights are used for several samples at a time when all exceed this many bytes.
_SMALL = 1 << 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Native:
    """An engine's source, the arrays it is given, and how samples are cut for it.

    ``divisible`` weights belong to populations whose blocks threads can share.
    """

    source: str
    arrays: tuple[Array, ...]
    group: int
    divisible: int


def generate(built: Plan) -> Native:
    """Return the native engine for a plan."""
    orders = {cell.neurons.name: order_of(cell) for cell in built.cells}
    heard = {link.source.name for cell in built.cells for link in cell.links}
    given = Given()
    writers = [
        CellWriter(
            cell,
            number=number,
            orders=orders,
            given=given,
            listener=built.source(cell.neurons.name) if cell.neurons.name in heard else None,
        )
        for number, cell in enumerate(built.cells)
    ]
    listened = [item for item in built.sources if item.name in heard]
    by_name = {writer.cell.neurons.name: writer for writer in writers}
    groups = [[by_name[name] for name in group] for group in components(built.program)]
    longest = max((item.size for item in listened), default=1)
    weights = sum(link.operator.weight.size for writer in writers for link in writer.dense)
    group = _GROUP if weights > _SMALL else 1
    functions = [writer.functions() for writer in writers]
    calls = [
        f"run_{n}(p, group, members, steps, t0, count, events, turns);" for n in range(len(groups))
    ]
    source = fill(
        "native.c",
        chunk=max(1, min(_CHUNK, _MOST_EVENTS // longest)),
        group=group,
        extra=built.extra_steps,
        # Inputs, carrying over, and of each component what is computed and what is published.
        phases=2 + 2 * len(groups),
        odd=2 * len(built.cells),
        helpers="\n".join(map(fill, ("decay32.c", "decay64.c", "reals.c"))),
        fields=indented([*_fields(writers), *_lists(listened)], 1),
        functions="\n".join([*functions, *map(_component, range(len(groups)), groups)]),
        begin=indented([*(line for w in writers for line in w.begin()), *_no_events(listened)], 1),
        inputs=indented(_inputs(built, heard), 1),
        outputs=indented((line for writer in writers for line in writer.outputs()), 3),
        components=indented(calls, 3),
        carries=indented(map(_carry, listened), 4),
    )
    cut = [writer for writers in groups if _by_block(writers) for writer in writers]
    divisible = sum(link.operator.weight.size for writer in cut for link in writer.dense)
    return Native(source=source, arrays=tuple(given.arrays), group=group, divisible=divisible)


def _fields(writers: Sequence[CellWriter]) -> Iterator[str]:
    for writer in writers:
        yield from writer.fields()


def _lists(listened: Sequence[Source]) -> Iterator[str]:
    """Yield the lists of events: those of the last steps, then those of a chunk."""
    for item in listened:
        steps = f"({item.depth} + CHUNK)"
        yield f"int64_t {item.ident}_first[{steps} + 1];"
        yield f"uint32_t {item.ident}_index[{steps} * (size_t){item.size} + 64];"
        if item.graded:
            yield f"int32_t {item.ident}_value[{steps} * (size_t){item.size} + 64];"


def _no_events(listened: Sequence[Source]) -> Iterator[str]:
    for item in listened:
        yield f"memset(w->{item.ident}_first, 0, sizeof w->{item.ident}_first);"


def _carry(item: Source) -> str:
    value = f"w->{item.ident}_value" if item.graded else "NULL"
    return f"carry(w->{item.ident}_first, w->{item.ident}_index, {value}, {item.depth}, count);"


def _inputs(built: Plan, heard: set[str]) -> Iterator[str]:
    """Yield statements that list the events of a chunk; past the last step there is silence."""
    for number, item in enumerate(source for source in built.sources if source.is_input):
        if item.name in heard:
            yield fill(
                "native_input.c",
                name=item.ident,
                depth=item.depth,
                size=item.size,
                number=number,
                kind="int32_t" if item.graded else "uint8_t",
                odd="0" if item.graded else f"odd_bytes(row, {item.size})",
                listed=indented(_listed(item), 2),
            )


def _listed(item: Source) -> list[str]:
    if not item.graded:
        return [f"found += find_ones(row, {item.size}, w->{item.ident}_index + found);"]
    return [
        f"for (int64_t i = 0; i < {item.size}; ++i) {{",
        f"    w->{item.ident}_index[found] = (uint32_t)i;",
        f"    w->{item.ident}_value[found] = row[i];",
        "    found += row[i] != 0;",
        "}",
    ]


def _component(number: int, writers: Sequence[CellWriter]) -> str:
    if not _by_block(writers):
        cells = indented((_whole(writer) for writer in writers), 3)
        return fill("native_steps.c", number=number, cells=cells)
    (writer,) = writers
    return fill(
        "native_block.c",
        number=number,
        type=writer.cell.type,
        narrowed=indented(writer.narrowed(f"block * {BLOCK}", "size"), 3),
        **_shape(writer),
    )


def _whole(writer: CellWriter) -> str:
    size = writer.cell.size
    narrowed = indented(writer.narrowed("0", str(size)), 0)
    return fill("native_whole.c", size=size, narrowed=narrowed, **_shape(writer))


def _shape(writer: CellWriter) -> dict[str, object]:
    full, rest = divmod(writer.cell.size, BLOCK)
    return {
        "name": writer.cell.ident,
        "start": writer.cell.neurons.start,
        "block": BLOCK,
        "full": full,
        "rest": rest,
        "rest_groups": padded(rest) // 64,
    }


def _by_block(writers: Sequence[CellWriter]) -> bool:
    """Say whether it is one population that hears neither itself nor a convolution."""
    (first, *others) = writers
    hears = {link.source.name for link in first.cell.links}
    return not (others or first.convolutions or first.cell.neurons.name in hears)
