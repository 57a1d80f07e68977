"""Which value of an unrolled graph is the same as which, one step later."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.frontends.onnx_rows import Item, Rows, Unrolled, content
from spikec.compiler.frontends.onnx_step import NotAStepError

__all__ = ["TOO_FEW", "Outputs", "Pairs", "outputs_of", "where"]

TOO_FEW = "export more steps (two regular ones must remain), or one step with explicit states"
Outputs: TypeAlias = dict[str, tuple[tuple[Item | Array, ...], tuple[str, ...]]]


def outputs_of(graph: Unrolled) -> Outputs:
    """Return each output's values step by step, with the file's outputs that hold them."""
    steps = graph.shape[graph.axis]
    found: Outputs = {}
    single: list[str] = []
    for entry in graph.file.model.graph.output:
        value = graph[entry.name]
        if isinstance(value, Rows) and len(value.parts) == steps:
            found[entry.name] = (_known(value.parts), (entry.name,))
        elif isinstance(value, (Item, np.ndarray)):
            single.append(entry.name)
    groups, rest = divmod(len(single), steps)
    if groups and not rest:
        for names in _grouped(graph, single, groups, steps):
            parts = [graph[name] for name in names]
            found[names[0]] = (_known(parts), tuple(names))
            graph.note(parts)
    found = {name: parts for name, parts in found.items() if isinstance(parts[0][-1], Item)}
    if not found:
        raise NotAStepError(
            "outputs",
            f"none of them shows how {steps} steps of data become {steps} steps of results",
            "output the spikes of every step, not their sum; " + TOO_FEW,
        )
    return found


def _known(parts: Sequence[Item | Array | None]) -> tuple[Item | Array, ...]:
    return tuple(part for part in parts if part is not None)


def _grouped(graph: Unrolled, names: Sequence[str], groups: int, steps: int) -> list[Sequence[str]]:
    """Return separate outputs as series: all of one kind together, or all of one step."""
    by_kind = [names[group * steps : (group + 1) * steps] for group in range(groups)]
    by_step = [names[group::groups] for group in range(groups)]

    def alike(series: Iterable[Sequence[str]]) -> int:
        return sum(
            _alike(graph[item[k]], graph[item[k + 1]]) for item in series for k in range(steps - 1)
        )

    return list(max(by_kind, by_step, key=alike))


def _alike(left: object, right: object, depth: int = 3) -> bool:
    if not isinstance(left, Item) or not isinstance(right, Item):
        return not isinstance(left, Item) and not isinstance(right, Item)
    if (
        (left.op, left.output) != (right.op, right.output)
        or left.shape != right.shape
        or len(left.args) != len(right.args)
    ):
        return False
    return depth == 0 or all(
        _alike(a, b, depth - 1) for a, b in zip(left.args, right.args, strict=True)
    )


class Pairs:
    """Which value is the same as which, one step later."""

    def __init__(self) -> None:
        self.after: dict[Item, Item] = {}
        self.before: dict[Item, Item] = {}
        #: What stands in for a value one step before its first instance.
        self.initial: dict[Item, Array] = {}
        self.irregular = ""

    def walk(self, left: Item | Array, right: Item | Array) -> None:
        """Pair two values and all that they are made of, the latest in the file first."""
        queue = [self._entry(left, right, 0)]
        count = 1
        while queue:
            _, _, before, after = heapq.heappop(queue)
            for one, other in self._pair(before, after):
                heapq.heappush(queue, self._entry(one, other, count))
                count += 1

    @staticmethod
    def _entry(
        left: Item | Array | None, right: Item | Array | None, count: int
    ) -> tuple[int, int, Item | Array | None, Item | Array | None]:
        place = right.place if isinstance(right, Item) else -1
        return -place, count, left, right

    def _pair(
        self, before: Item | Array | None, after: Item | Array | None
    ) -> Sequence[tuple[Item | Array | None, Item | Array | None]]:
        if not isinstance(after, Item):
            if isinstance(before, Item) or content(before) != content(after):
                self._differs(before if isinstance(before, Item) else None)
            return ()
        if not isinstance(before, Item):
            if before is not None:
                self.initial.setdefault(after, before)
            return ()
        if before is after or before in self.after or after in self.before:
            return ()
        if after.op == "Input":
            if before.op == "Input" and before.row == (after.row or 0) - 1:
                self._join(before, after)
            return ()
        same = (
            (before.op, before.output) == (after.op, after.output)
            and before.shape == after.shape
            and _given(before, after)
        )
        if not same or len(before.args) != len(after.args):
            self._differs(after)
            return ()
        self._join(before, after)
        return tuple(zip(before.args, after.args, strict=True))

    def _join(self, before: Item, after: Item) -> None:
        self.after[before], self.before[after] = after, before

    def _differs(self, item: Item | None) -> None:
        if not self.irregular and item is not None:
            self.irregular = f"{where(item)} is another computation, or has other constants"

    def last(self, item: Item) -> tuple[Item, int]:
        """Return the last instance of a value, and how many steps later it is."""
        steps = 0
        while item in self.after:
            item, steps = self.after[item], steps + 1
        return item, steps

    def first(self, item: Item) -> tuple[Item, int]:
        """Return the first instance of a value, and how many steps earlier it is."""
        steps = 0
        while item in self.before:
            item, steps = self.before[item], steps + 1
        return item, steps


def _given(before: Item, after: Item) -> bool:
    if before.node is None or after.node is None:
        return before.node is after.node
    return sorted(a.SerializeToString() for a in before.node.attribute) == sorted(
        a.SerializeToString() for a in after.node.attribute
    )


def where(item: Item) -> str:
    """Return how messages name an item."""
    if item.node is None:
        return f"a value of shape {item.shape}"
    return f"node '{item.node.name or ','.join(item.node.output)}' ({item.node.op_type})"
