"""Graphs unrolled over time, rolled up again to one step.

The last two elements of each output are walked back side by side: what stands at
the same place is one value at two successive steps. Each value with its
successors is a :class:`_Series`; its equation is that of its last instance. Which
iteration of the source's loop an instance belongs to is told by the order of the
file, in which exporters keep the program's order: an iteration starts where the
data's next step is taken. A value used one iteration later is a state.
"""

from __future__ import annotations

import graphlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from spikec.compiler.arrays import Array, Shape
from spikec.compiler.frontends import affine, onnx_operators
from spikec.compiler.frontends.affine import Form, Signal, State
from spikec.compiler.frontends.onnx_layers import LAYERS
from spikec.compiler.frontends.onnx_rows import ELEMENTWISE, Item, Rows, Unrolled, content
from spikec.compiler.frontends.onnx_step import NotAStepError, Step, StepState

__all__ = ["Rolled", "is_unrolled", "rerolled"]

_TOO_FEW = "export more steps (two regular ones must remain), or one step with explicit states"


@dataclass(frozen=True, eq=False, kw_only=True)
class Rolled:
    """One step of an unrolled graph; ``parts`` are the file's outputs behind each output."""

    step: Step
    steps: int
    signals: Mapping[str, Shape]
    states: tuple[StepState, ...]
    outputs: Mapping[str, Form]
    parts: Mapping[str, tuple[str, ...]]
    order: str
    irregular: str


def is_unrolled(model: onnx.ModelProto, name: str, declared: Sequence[int | None]) -> bool:
    """Say whether the graph takes its data apart along a leading axis of time."""
    axis = _axis_of_time(declared)
    if axis is None:
        return False
    aliases = {name}
    for node in model.graph.node:
        if not aliases & set(node.input):
            continue
        if node.op_type in ("Gather", "Slice", "Split", "SplitToSequence"):
            return True
        if len(node.output) == 1 and node.op_type in (*LAYERS, "Identity", "Cast", "Transpose"):
            aliases.add(node.output[0])
    return False


def _axis_of_time(declared: Sequence[int | None]) -> int | None:
    """Return the axis of time: the first, or the second of a batch of one."""
    long = [axis for axis, extent in enumerate(declared) if extent != 1]
    if not long or long[0] > 1 or len(declared) < 2 + long[0]:
        return None
    return long[0]


def rerolled(
    model: onnx.ModelProto, name: str, declared: Sequence[int | None]
) -> Iterator[Rolled]:
    """Yield the step that ``model`` repeats, once for each reading of the file's order."""
    axis = _axis_of_time(declared)
    assert axis is not None
    if any(extent is None for extent in declared):
        raise NotAStepError(
            f"input '{name}'",
            "it declares an open number of steps, but the graph is unrolled over a fixed number",
            "export with a fixed number of steps: this file computes only those it was traced with",
        )
    shape = tuple(extent or 1 for extent in declared)
    graph = Unrolled(model, name, shape, axis)
    outputs = _outputs(graph)
    pairs = _Pairs()
    for parts in outputs.values():
        pairs.walk(parts[0][-2], parts[0][-1])
    problem: NotAStepError | None = None
    seen: list[object] = []
    for reading, starts in _readings(graph).items():
        try:
            roll = _Roll(graph, pairs, starts)
            rolled = roll.rolled(outputs, reading)
        except NotAStepError as error:
            problem = problem or error
            continue
        if roll.key() not in seen:
            seen.append(roll.key())
            yield rolled
    if not seen and problem is not None:
        raise problem


_Outputs = dict[str, tuple[tuple[Item | Array, ...], tuple[str, ...]]]


def _outputs(graph: Unrolled) -> _Outputs:
    """Return each output's values step by step, with the file's outputs that hold them."""
    steps = graph.shape[graph.axis]
    found: _Outputs = {}
    single: list[str] = []
    for entry in graph.model.graph.output:
        value = graph[entry.name]
        if isinstance(value, Rows) and len(value.parts) == steps:
            found[entry.name] = (_known(value.parts), (entry.name,))
        elif isinstance(value, (Item, np.ndarray)):
            single.append(entry.name)
    groups, rest = divmod(len(single), steps)
    if groups and not rest:
        for names in _grouped(graph, single, groups, steps):
            found[names[0]] = (_known([graph[name] for name in names]), tuple(names))
    found = {name: parts for name, parts in found.items() if isinstance(parts[0][-1], Item)}
    if not found:
        raise NotAStepError(
            "outputs",
            f"none of them shows how {steps} steps of data become {steps} steps of results",
            "output the spikes of every step, not their sum; " + _TOO_FEW,
        )
    return found


def _known(parts: Sequence[Item | Array | None]) -> tuple[Item | Array, ...]:
    return tuple(part for part in parts if part is not None)


def _grouped(
    graph: Unrolled, names: Sequence[str], groups: int, steps: int
) -> list[Sequence[str]]:
    """Return separate outputs as series: all of one kind together, or all of one step."""
    by_kind = [names[group * steps : (group + 1) * steps] for group in range(groups)]
    by_step = [names[group::groups] for group in range(groups)]

    def alike(series: Sequence[Sequence[str]]) -> int:
        return sum(
            _alike(graph[item[k]], graph[item[k + 1]])
            for item in series
            for k in range(steps - 1)
        )

    return list(max(by_kind, by_step, key=alike))


def _alike(left: object, right: object, depth: int = 3) -> bool:
    if not isinstance(left, Item) or not isinstance(right, Item):
        return not isinstance(left, Item) and not isinstance(right, Item)
    if left.op != right.op or left.shape != right.shape or len(left.args) != len(right.args):
        return False
    return depth == 0 or all(
        _alike(a, b, depth - 1) for a, b in zip(left.args, right.args, strict=True)
    )


class _Pairs:
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
        same = before.op == after.op and before.shape == after.shape and _given(before, after)
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


# --- which iteration an item belongs to -----------------------------------------

_Starts = list[tuple[int, int]]


def _readings(graph: Unrolled) -> dict[str, _Starts]:
    """Return the places where iterations start: (place, step), in the order of the file.

    Where the data is taken apart before the loop, an iteration starts behind the
    last element of a series that the one before it gives, or where its data is
    first used.
    """
    users: dict[Item, int] = {}
    for item in graph.items:
        for arg in item.args:
            core = arg.args[0] if isinstance(arg, Item) and arg.op == "Shape" else arg
            if isinstance(core, Item) and item.op != "Shape":
                users.setdefault(core, item.place)
    computed = np.unique([item.place for item in graph.items if item.op not in ("Shape", "Input")])
    used: _Starts = []
    hoisted = False
    for event, following in zip(graph.events, [*graph.events[1:], None], strict=True):
        core = event.taken
        if isinstance(core, Item) and core.op == "Shape":
            core = core.args[0]
        alone = following is not None and following.row > event.row and not np.any(
            (computed > event.place) & (computed < following.place)
        )
        previous = bool(used) and used[-1][0] > event.place
        if isinstance(core, Item) and (alone or previous):
            hoisted = True
            used.append((max(event.place, users.get(core, event.place)), event.row))
        else:
            used.append((event.place, event.row))
    used.sort()
    if not hoisted:
        return {"an iteration starts where its data is taken": used}
    return {
        "an iteration starts behind the results of the one before": _behind_results(graph, used),
        "an iteration starts where its data is first used": used,
    }


def _behind_results(graph: Unrolled, used: _Starts) -> _Starts:
    moved = []
    for index, (place, row) in enumerate(used):
        previous = used[index - 1][0] if index else -1
        ends = [
            end for end, step in graph.stacked if step == row - 1 and previous <= end < place
        ]
        moved.append((max(ends) + 1 if ends else place, row))
    return moved


@dataclass(eq=False)
class _Roll:
    """The equations of one iteration, run on symbols."""

    graph: Unrolled
    pairs: _Pairs
    starts: _Starts
    step: Step = field(default_factory=Step)

    def __post_init__(self) -> None:
        self._forms: dict[tuple[Item, int], Form] = {}
        self._numbers: dict[Item, int] = {}
        self._longest: dict[Item, int] = {}
        self._users: dict[Item, set[Item | None]] = {}
        self._layered: dict[Item, bool] = {}

    def key(self) -> object:
        """What distinguishes this reading from another: the delays between values."""
        return {
            (id(user), id(arg)): self._delay(user, arg)
            for arg, users in self._users.items()
            for user in users
            if user is not None
        }

    def iteration(self, item: Item) -> int:
        """Return the iteration of an item, counted back from the last instance."""
        last, behind = self.pairs.last(item)
        if last not in self._numbers:
            self._numbers[last] = self._found(last)[0]
        return self._numbers[last] - behind

    def _found(self, last: Item) -> tuple[int, int]:
        """Return the iteration of a last instance, and its place within an iteration."""
        if last.row is not None:
            return last.row, -1
        if last.op == "Shape":
            assert isinstance(last.args[0], Item)
            return self.iteration(last.args[0]), -1
        # Exporters drop what no output needs: the last iterations have no start.
        known, later = last, 0
        while known.place >= self.starts[-1][0] and known in self.pairs.before:
            known, later = self.pairs.before[known], later + 1
        places = [place for place, _ in self.starts]
        index = max(int(np.searchsorted(places, known.place, side="right")) - 1, 0)
        place, number = self.starts[index]
        return number + later, known.place - place

    def rolled(self, outputs: _Outputs, order: str) -> Rolled:
        """Return the step, given what the outputs show at each step."""
        ends = {name: (parts[-1], len(parts) - 1) for name, (parts, _) in outputs.items()}
        wanted = [item for item, _ in ends.values() if isinstance(item, Item)]
        for item in self._sorted(wanted):
            self._form(item, 0)
        forms = {}
        for name, (item, step) in ends.items():
            assert isinstance(item, Item)
            last, behind = self.pairs.last(item)
            delay = step + behind - self.iteration(last)
            if delay < 0:
                raise self._disordered(item)
            forms[name] = self._delayed(last, delay, None)
        self._number_inputs()
        return Rolled(
            step=self.step,
            steps=self.graph.shape[self.graph.axis],
            signals={self.graph.name: self._signal_shape()},
            states=tuple(self._states()),
            outputs=forms,
            parts={name: parts for name, (_, parts) in outputs.items()},
            order=order,
            irregular=self.pairs.irregular,
        )

    def _number_inputs(self) -> None:
        if not any(item.op == "Input" for item in self._users):
            raise NotAStepError("graph", "its outputs do not depend on its data")

    def _signal_shape(self) -> Shape:
        shape, axis = self.graph.shape, self.graph.axis
        rest = (*shape[:axis], *shape[axis + 1 :])
        if not rest or rest[0] != 1:
            raise NotAStepError(
                f"input '{self.graph.name}'",
                f"shape {shape} has no batch of 1 beside its time axis",
                "export with a batch of 1",
            )
        return rest[1:] or (1,)

    def _sorted(self, outputs: Sequence[Item]) -> Sequence[Item]:
        """Return the last instances of all values, in an order in which one step computes them."""
        sorter: graphlib.TopologicalSorter[Item] = graphlib.TopologicalSorter()
        pending = [self.pairs.last(item)[0] for item in outputs]
        for item in pending:
            self._users.setdefault(item, set()).add(None)
        seen: set[Item] = set()
        while pending:
            item = pending.pop(0)
            if item in seen:
                continue
            seen.add(item)
            sorter.add(item)
            for arg in item.args:
                if not isinstance(arg, Item):
                    continue
                last = self.pairs.last(arg)[0]
                self._users.setdefault(last, set()).add(item)
                pending.append(last)
                delay = self._delay(item, arg)
                if delay < 0:
                    raise self._disordered(item)
                if delay == 0:
                    sorter.add(item, last)
        try:
            sorter.prepare()
        except graphlib.CycleError as error:
            raise self._disordered(error.args[1][0]) from error
        return list(self._by_place(sorter))

    def _by_place(self, sorter: graphlib.TopologicalSorter[Item]) -> Iterator[Item]:
        """Yield items as soon as they can be computed, in the order of the file."""
        ready: list[tuple[int, int, Item]] = []
        while sorter.is_active():
            for item in sorter.get_ready():
                heapq.heappush(ready, (self._found(item)[1], item.place, item))
            _, _, item = heapq.heappop(ready)
            yield item
            sorter.done(item)

    def _disordered(self, item: Item) -> NotAStepError:
        return NotAStepError(
            where(item),
            "the order of the nodes does not tell one time step from the next",
            "export again without optimising, or export one step with explicit states",
        )

    def _delay(self, user: Item, arg: Item) -> int:
        return self.iteration(user) - self.iteration(arg)

    # --- values -------------------------------------------------------------

    def _form(self, item: Item, delay: int) -> Form:
        """Return the form of an item's equation, ``delay`` iterations ago."""
        if (item, delay) not in self._forms:
            self._forms[item, delay] = self._computed(item, delay)
        return self._forms[item, delay]

    def _computed(self, item: Item, delay: int) -> Form:
        if item.op == "Input":
            return affine.atom(Signal(self.graph.name), item.shape)
        arguments = [
            self._delayed(self.pairs.last(arg)[0], delay + self._delay(item, arg), item)
            if isinstance(arg, Item)
            else arg
            for arg in item.args
        ]
        if item.op == "Shape":
            assert isinstance(arguments[0], Form)
            return arguments[0].reshaped(item.shape)
        assert item.node is not None
        title = self._title(item)
        try:
            result = onnx_operators.apply(self.step, item.node, arguments, title)[0]
        except ValueError as error:
            raise NotAStepError(title, str(error)) from error
        return onnx_operators.as_form(result, title)

    def _delayed(self, item: Item, delay: int, user: Item | None) -> Form:
        """Return a value of an earlier iteration, as ``user`` is to see it.

        What a state's value alone decides is computed again from the state; only a
        layer is sent what was decided, a spike, as it was.
        """
        if delay == 0:
            return self._form(item, 0)
        if self._follows(item) and not (user is not None and self._is_layer(user)):
            return self._form(item, delay)
        self._longest[item] = max(self._longest.get(item, 0), delay)
        return affine.atom(State(self._state_name(item, delay)), item.shape)

    def _follows(self, item: Item) -> bool:
        """Say whether an item is computed from one other, element by element."""
        if item.op != "Shape" and item.op not in ELEMENTWISE:
            return False
        args = {self.pairs.last(arg)[0] for arg in item.args if isinstance(arg, Item)}
        return len(args) == 1 and not any(arg.op == "Input" for arg in args)

    def _is_layer(self, item: Item) -> bool:
        """Say whether an item is a layer, or only ever passed on to layers."""
        if item.op in LAYERS:
            return True
        if item not in self._layered:
            self._layered[item] = False
            users = self._users.get(item, set())
            self._layered[item] = self._follows(item) and all(
                user is not None and self._is_layer(user) for user in users
            )
        return self._layered[item]

    def _state_name(self, item: Item, delay: int) -> str:
        if item.op == "Input":
            return f"{self.graph.name}@{delay}"
        place = list(self._longest).index(item) + 1
        return f"state{place}" if delay == 1 else f"state{place}@{delay}"

    def _states(self) -> Iterator[StepState]:
        """Yield what every state becomes; a value used several iterations later is a chain."""
        done: set[tuple[Item, int]] = set()
        while len(done) < sum(self._longest.values()):
            for item, longest in list(self._longest.items()):
                for delay in range(1, longest + 1):
                    if (item, delay) in done:
                        continue
                    done.add((item, delay))
                    earlier = State(self._state_name(item, delay - 1))
                    yield StepState(
                        name=self._state_name(item, delay),
                        initial=self._initial(item, delay),
                        after=self._form(item, 0)
                        if delay == 1
                        else affine.atom(earlier, item.shape),
                    )

    def _initial(self, item: Item, delay: int) -> Array:
        """Return what the graph has in place of a value before the first iteration."""
        for known, value in self.pairs.initial.items():
            same = self.pairs.last(known)[0] is item
            if same and self.iteration(known) - 1 == -delay and np.ndim(value) <= len(item.shape):
                return np.broadcast_to(value.astype(np.float32), item.shape)
        return np.zeros(item.shape, np.float32)

    def _title(self, item: Item) -> str:
        """Name an item after its first instance, without the number of its iteration."""
        first = self.pairs.first(item)[0]
        title = where(first)
        return title.replace(f"_{self.iteration(first)}/", "/")
