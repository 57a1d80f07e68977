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
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from spikec.compiler.arrays import Array, Shape
from spikec.compiler.frontends import affine, onnx_operators
from spikec.compiler.frontends.affine import Form, Signal, State
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_order import Starts, readings
from spikec.compiler.frontends.onnx_pairs import Outputs, Pairs, outputs_of, where
from spikec.compiler.frontends.onnx_rows import ELEMENTWISE, Item, Unrolled
from spikec.compiler.frontends.onnx_step import NotAStepError, Step, StepState

__all__ = ["Rolled", "is_unrolled", "rerolled"]


_COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})


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
    depending = {name}
    for node in model.graph.node:
        if not depending & set(node.input) or node.op_type == "Shape":
            continue
        if node.op_type in ("Gather", "Slice", "Split", "SplitToSequence"):
            return True
        depending.update(node.output)
    return False


def _axis_of_time(declared: Sequence[int | None]) -> int | None:
    """Return the axis of time: the first, or the second of a batch of one."""
    long = [axis for axis, extent in enumerate(declared) if extent != 1]
    if not long or long[0] > 1 or len(declared) < 2 + long[0]:
        return None
    return long[0]


def rerolled(file: OnnxFile, name: str, declared: Sequence[int | None]) -> Iterator[Rolled]:
    """Yield the step that ``file`` repeats, once for each reading of the file's order."""
    axis = _axis_of_time(declared)
    assert axis is not None
    if any(extent is None for extent in declared):
        raise NotAStepError(
            f"input '{name}'",
            "it declares an open number of steps, but the graph is unrolled over a fixed number",
            "export with a fixed number of steps: this file computes only those it was traced with",
        )
    shape = tuple(extent or 1 for extent in declared)
    try:
        graph = Unrolled(file, name, shape, axis)
    except (ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
        raise NotAStepError("graph", f"it cannot be taken apart into steps: {error}") from error
    outputs = outputs_of(graph)
    pairs = Pairs()
    for parts in outputs.values():
        pairs.walk(parts[0][-2], parts[0][-1])
    problem: NotAStepError | None = None
    seen: list[object] = []
    for reading, starts in readings(graph, pairs):
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


@dataclass(eq=False)
class _Roll:
    """The equations of one iteration, run on symbols."""

    graph: Unrolled
    pairs: Pairs
    starts: Starts
    step: Step = field(default_factory=Step)

    def __post_init__(self) -> None:
        self._forms: dict[tuple[Item, int], Form] = {}
        self._numbers: dict[Item, int] = {}
        self._longest: dict[Item, int] = {}
        self._users: dict[Item, set[Item | None]] = {}
        self._layered: dict[Item, bool] = {}
        self._holders: set[Item] = set()

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
        places = [place for place, _ in self.starts]
        index = max(int(np.searchsorted(places, last.place, side="right")) - 1, 0)
        place, number = self.starts[index]
        return number, last.place - place

    def rolled(self, outputs: Outputs, order: str) -> Rolled:
        """Return the step, given what the outputs show at each step."""
        ends = {name: (parts[-1], len(parts) - 1) for name, (parts, _) in outputs.items()}
        wanted = [item for item, _ in ends.values() if isinstance(item, Item)]
        order_of_items = self._sorted(wanted)
        self._holders = self._found_holders(wanted)
        for item in order_of_items:
            self._form(item, 0)
        forms = {}
        for name, (end, step) in ends.items():
            assert isinstance(end, Item)
            last, behind = self.pairs.last(end)
            delay = step + behind - self.iteration(last)
            if delay < 0:
                raise self._disordered(end)
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
        ready: list[tuple[int, int, int, Item]] = []
        count = itertools.count()
        while sorter.is_active():
            for item in sorter.get_ready():
                heapq.heappush(ready, (self._found(item)[1], item.place, next(count), item))
            *_, item = heapq.heappop(ready)
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
            result = onnx_operators.apply(self.step, item.node, arguments, title)[item.output]
        except ValueError as error:
            raise NotAStepError(title, str(error)) from error
        return onnx_operators.as_form(self.step, result, title)

    def _delayed(self, item: Item, delay: int, user: Item | None) -> Form:
        """Return a value of an earlier iteration, as ``user`` is to see it.

        What a state's value alone decides is computed again from the state; only a
        layer is sent what was decided, a spike, as it was.
        """
        if delay == 0:
            return self._form(item, 0)
        sent = user is not None and self._is_layer(user)
        if not sent and self._holders & set(self._chain(item)[1:]):
            return self._form(item, delay)
        self._longest[item] = max(self._longest.get(item, 0), delay)
        return affine.atom(State(self._state_name(item, delay)), item.shape)

    def _follows(self, item: Item) -> bool:
        """Say whether an item is computed from one other, element by element."""
        if item.op != "Shape" and item.op not in ELEMENTWISE:
            return False
        args = {self.pairs.last(arg)[0] for arg in item.args if isinstance(arg, Item)}
        return len(args) == 1 and not any(arg.op == "Input" for arg in args)

    def _chain(self, item: Item) -> list[Item]:
        """Return an item, what it follows from, what that follows from, and so on."""
        chain = [item]
        while self._follows(chain[-1]):
            arg = next(arg for arg in chain[-1].args if isinstance(arg, Item))
            chain.append(self.pairs.last(arg)[0])
            if chain[-1] in chain[:-1]:
                return [item]  # it follows from itself: a state
        return chain

    def _found_holders(self, outputs: Sequence[Item]) -> set[Item]:
        """Return the items that hold the state between iterations.

        Those are what later iterations use: but of a spike, the membrane that it
        follows from.
        """
        used = {
            arg
            for arg, users in self._users.items()
            for user in users
            if user is not None and self._reaches_later(user, arg)
        } | {self.pairs.last(item)[0] for item in outputs}
        holders = {item for item in used if not self._decided(item)}
        for item in used - holders:
            chain = self._chain(item)
            if not holders & set(chain):
                holders.add(chain[-1])
        return holders

    def _reaches_later(self, user: Item, arg: Item) -> bool:
        return any(
            self._delay(user, item) > 0
            for item in user.args
            if isinstance(item, Item) and self.pairs.last(item)[0] is arg
        )

    def _decided(self, item: Item) -> bool:
        """Say whether an item follows from a comparison."""
        return any(link.op in _COMPARISONS for link in self._chain(item))

    def _is_layer(self, item: Item) -> bool:
        """Say whether an item is a layer, or only ever passed on to layers."""
        if item.op in onnx_operators.LINEAR:
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
