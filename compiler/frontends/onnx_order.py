"""The order of a file's nodes, which tells one iteration of the source's loop from the next."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np

from spikec.compiler.frontends.onnx_pairs import Pairs
from spikec.compiler.frontends.onnx_rows import Item, Unrolled

__all__ = ["Starts", "readings"]

#: Where iterations start: (place in the file, step), in the order of the file.
Starts: TypeAlias = list[tuple[int, int]]


def readings(graph: Unrolled, pairs: Pairs) -> list[tuple[str, Starts]]:
    """Return the places where iterations start: (place, step), in the order of the file.

    Where the data is taken apart before the loop, an iteration starts behind the
    last element of a series that the one before it gives, or where its data is
    first used.
    """
    users: dict[Item, int] = {}
    for item in graph.items:
        for arg in item.args:
            if isinstance(arg, Item) and item.op != "Shape":
                users.setdefault(_core(arg), item.place)
    computed = np.unique([item.place for item in graph.items if item.op not in ("Shape", "Input")])
    used: Starts = []
    hoisted = False
    for event, following in zip(graph.events, [*graph.events[1:], None], strict=True):
        core = _core(event.taken) if isinstance(event.taken, Item) else None
        alone = (
            following is not None
            and following.row > event.row
            and not np.any((computed > event.place) & (computed < following.place))
        )
        previous = bool(used) and used[-1][0] > event.place
        if core is not None and (alone or previous):
            hoisted = True
            used.append((max(event.place, users.get(core, event.place)), event.row))
        else:
            used.append((event.place, event.row))
    used.sort()
    used = _extended(graph, pairs, used)
    if not hoisted:
        return [("an iteration starts where its data is taken", used)]
    return [
        *(
            ("an iteration starts where fewest values are carried over", starts)
            for starts in _fewest_carried(graph, pairs, used)
        ),
        ("an iteration starts where its data is first used", used),
    ]


def _fewest_carried(graph: Unrolled, pairs: Pairs, used: Starts) -> list[Starts]:
    """Move starts back over what precedes the first use of data, but follows the last results."""
    fewest, row, cuts = 0, 0, set[int]()
    for (previous, _), (place, number) in itertools.pairwise(used):
        ends = [end for end, k in graph.stacked if k == number - 1 and previous <= end < place]
        if not ends:
            continue
        between = {item.place for item in graph.items if max(ends) < item.place < place}
        carried = {cut: _carried(graph, cut) for cut in {*between, place}}
        # The end of the file lacks what no output needs: there, fewer are carried.
        if min(carried.values()) > fewest:
            fewest, row = min(carried.values()), number
            cuts = {cut for cut, count in carried.items() if count == fewest}
    return [_around(graph, pairs, used, (cut, row)) for cut in sorted(cuts)]


def _around(graph: Unrolled, pairs: Pairs, used: Starts, known: tuple[int, int]) -> Starts:
    """Return all starts, given where one iteration starts."""
    found = _extended(graph, pairs, [known])
    for start, number in reversed([entry for entry in used if entry[1] < known[1]]):
        following = found[0][0]
        earlier = [
            item.place
            for item, after in pairs.after.items()
            if _computes(item) and after.place >= following > item.place
        ]
        found.insert(0, (min(earlier, default=start), number))
    return found


def _carried(graph: Unrolled, cut: int) -> int:
    """Return how many values are computed before a place in the file and used behind it."""
    used = {_core(arg) for item in graph.items if item.place >= cut and _computes(item)
            for arg in item.args if isinstance(arg, Item)}  # fmt: skip
    return sum(item.place < cut and _computes(item) for item in used)


def _core(item: Item) -> Item:
    """Return the item that has the elements, whatever their shape."""
    return item.args[0] if item.op == "Shape" and isinstance(item.args[0], Item) else item


def _computes(item: Item) -> bool:
    return item.row is None and item.op != "Shape"


def _extended(graph: Unrolled, pairs: Pairs, starts: Starts) -> Starts:
    """Add the starts of iterations whose data no output needs: exporters drop it.

    What comes first in an iteration comes first in the next one, too.
    """
    places = [
        (item.place, pairs.after[item].place)
        for item in graph.items
        if item in pairs.after and _computes(item)
    ]
    found: Starts = []
    for (start, row), following in zip(starts, [*starts[1:], None], strict=True):
        found.append((start, row))
        if following is not None and following[1] == row + 1:
            continue
        end = following[0] if following is not None else max((b for _, b in places), default=0) + 1
        while True:
            begin, number = found[-1]
            later = [b for a, b in places if a >= begin and begin < b < end]
            if not later:
                break
            found.append((min(later), number + 1))
    return found
