"""One time step of a PyTorch network as a function of all its states, written as ONNX.

This module needs PyTorch; :mod:`spikec.models.torch_export` imports it when it is used.
"""

from __future__ import annotations

import inspect
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn
from torch.utils import _pytree as pytree

from spikec.compiler.arrays import Array, Shape
from spikec.compiler.errors import SpikecError
from spikec.models.torch_states import (
    Attributes,
    Axis,
    Cell,
    changed,
    find_holders,
    held,
    owners,
    refused,
)

__all__ = ["Recipe", "StepNetwork", "exported", "prepared"]

_BY_HAND = "name its states in states=, and let it return (output, *states)"
_ONE_STEP = (
    "inputs= is the shape of one step without batch and time; a network that loops over time "
    f"itself, or insists on its states, needs a step of its own: {_BY_HAND}"
)


@dataclass(frozen=True, kw_only=True)
class StateSlot:
    """A state of the exported step: its name, its shape without the batch, its first value."""

    name: str
    shape: Shape
    initial: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to write the file: which of torch's exporters, and which version of the operators."""

    dynamo: bool
    opset: int

    @staticmethod
    def of(*, dynamo: bool | None, opset: int | None) -> Recipe:
        """Return what was asked for, or what suits the installed torch.

        From 2.7 on that is the exporter by ``torch.export``: it writes every neuron that
        spikec reads (tried with 2.13), and the tracing one is deprecated. Earlier releases
        get the tracing one, their default.
        """
        if dynamo is None:
            release = tuple(int(part) for part in torch.__version__.split(".")[:2])
            dynamo = release >= (2, 7)
        return Recipe(dynamo=dynamo, opset=opset or (20 if dynamo else 17))


class StepNetwork(nn.Module):  # type: ignore[misc]  # torch is not there when types are checked
    """``forward(*inputs, *states)`` gives the output, then what each state has become."""

    def __init__(
        self, network: Any, holders: Sequence[Attributes | Cell], inputs: int, axis: Axis
    ) -> None:
        super().__init__()
        self.network = network
        self.owners = nn.ModuleList(owners(network))
        self.holders = tuple(holders)
        self.inputs, self.axis = inputs, axis
        self.training = False  # the tracing exporter gives all modules this mode when it ends
        self.slots: tuple[StateSlot, ...] = ()

    def forward(self, *arguments: Any) -> tuple[Any, ...]:
        """Run one step; every tensor has a batch of 1 in front."""
        inputs, left = list(arguments[: self.inputs]), list(arguments[self.inputs :])
        if not self.holders:
            return self._by_hand(inputs, left)
        for holder in self.holders:
            holder.load(left[: len(holder.names)])
            del left[: len(holder.names)]
        output = self._first(self.call(inputs))
        after = [value for holder in self.holders for value in holder.read()]
        for holder in self.holders:
            holder.start()
        return (self._untimed(output), *after)

    def start(self, inputs: Sequence[Any]) -> Any:
        """Run the network itself for its first step, as its framework starts it."""
        for holder in self.holders:
            holder.start()
        return self.call(inputs)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Call the network on one step of input; what else it wants is left out."""
        return self.network(*self._timed(inputs), *self._left_out())

    def played(self, series: Sequence[Array]) -> Array:
        """Return the output of the network itself over ``series``, ``[step, ...]`` per input.

        It runs as a user runs it: its own states from call to call, or one call for all
        steps where it wants a time axis.
        """
        tensors = [torch.as_tensor(values).to(**self.kind()) for values in series]
        if not self.holders:
            return self._played_by_hand(tensors)
        for holder in self.holders:
            holder.start()
            if isinstance(holder, Cell):
                holder.release()
        if self.axis is not None:
            whole = [self._whole(values) for values in tensors]
            output = self._first(self.network(*whole, *self._left_out()))
            return _numbers(output).reshape(len(series[0]), *_sizes(output, self.axis))
        rows: list[Any] = []
        given: Sequence[Any] = self._left_out()
        for now in zip(*(values[:, None] for values in tensors), strict=True):
            result = self.network(*now, *given)
            rows.append(_numbers(self._first(result))[0])
            given = self._passed_on(result, given)
        return np.stack(rows)

    def kind(self) -> dict[str, Any]:
        """Return the type and the device of the network's numbers."""
        for value in self.parameters():
            if value.is_floating_point():
                return {"dtype": value.dtype, "device": value.device}
        return {"dtype": torch.float32}

    def zeros(self, shape: Shape) -> Any:
        """Return zeros for a batch of 1."""
        return torch.zeros((1, *shape), **self.kind())

    def _by_hand(self, inputs: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        leaves = pytree.tree_leaves(self.network(*inputs, *states))
        if len(leaves) != 1 + len(states):
            raise refused(
                "states",
                f"the step takes {len(states)} states and returns {len(leaves)} tensors",
                "return the output, then every state in the order of states=",
            )
        return tuple(leaves)

    def _played_by_hand(self, tensors: Sequence[Any]) -> Array:
        states = [self.zeros(slot.shape) + slot.initial for slot in self.slots]
        rows = []
        for now in zip(*(values[:, None] for values in tensors), strict=True):
            output, *states = self._by_hand(now, states)
            rows.append(_numbers(output)[0])
        return np.stack(rows)

    def _left_out(self) -> list[None]:
        """Stand for states that the network's own ``forward`` insists on: None starts them."""
        return [None] * len([item for item in self._further() if item.default is item.empty])

    def _further(self) -> list[inspect.Parameter]:
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        every = inspect.signature(self.network.forward).parameters.values()
        return [item for item in every if item.kind in positional][self.inputs :]

    def _passed_on(self, result: Any, given: Sequence[Any]) -> Sequence[Any]:
        """Return the states for the next call: those returned, if Norse's cells want them."""
        if not any(isinstance(holder, Cell) for holder in self.holders):
            return given
        states = result[1:] if isinstance(result, (tuple, list)) else ()
        if not states or len(states) != len(self._further()):
            raise refused(
                "network",
                f"it returns {len(states)} states and takes {len(self._further())}",
                "let forward(x, *states) return (output, *states)",
            )
        return list(states)

    def _first(self, result: Any) -> Any:
        while isinstance(result, (tuple, list)) and result:
            result = result[0]
        if not torch.is_tensor(result):
            kind = type(result).__name__
            raise refused("network", f"it returns no tensor but {kind}", "return the output first")
        return result

    def _timed(self, inputs: Sequence[Any]) -> list[Any]:
        if not isinstance(self.axis, int):
            return list(inputs)
        return [value.unsqueeze(self.axis) for value in inputs]

    def _untimed(self, output: Any) -> Any:
        return output.squeeze(self.axis) if isinstance(self.axis, int) else output

    def _whole(self, values: Any) -> Any:
        return values if self.axis == "merged" else values.unsqueeze(1 - int(self.axis or 0))


def prepared(
    network: Any, inputs: Mapping[str, Shape], states: Mapping[str, Shape] | None
) -> StepNetwork:
    """Return the network's step with its states found; call it while it is borrowed."""
    if states is not None:
        step = StepNetwork(network, [], len(inputs), None)
        step.slots = tuple(
            StateSlot(name=name, shape=shape, initial=0.0) for name, shape in states.items()
        )
        return step
    if not isinstance(network, nn.Module):
        raise refused("network", f"it is a {type(network).__name__}, no torch module", _BY_HAND)
    _check_normalisation(network)
    holders = find_holders(network)
    for holder in holders:
        if isinstance(holder, Cell):
            holder.lift()
    before = {path: held(module) for path, module in network.named_modules()}
    first = StepNetwork(network, holders, len(inputs), _axis(holders))
    zeros = [first.zeros(shape) for shape in inputs.values()]
    _started(first, zeros)
    others = _carried(first, changed(network, before, holders), zeros)
    used = [*others, *(holder for holder in holders if _used(holder))]
    if not used:
        raise refused("network", "no module of it keeps a state from step to step", _BY_HAND)
    step = StepNetwork(network, used, len(inputs), first.axis)
    _started(step, zeros)
    step.slots = tuple(slot for holder in used for slot in _slots(holder))
    return step


def _started(step: StepNetwork, zeros: Sequence[Any]) -> None:
    try:
        step.start(zeros)
    except SpikecError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(value.shape)) for value in zeros)
        raise refused(
            "network",
            f"it cannot run one step on input of shape {shapes} with no state given: "
            f"{type(error).__name__}: {error}",
            _ONE_STEP,
        ) from error


def _carried(
    step: StepNetwork, candidates: Sequence[Attributes], zeros: Sequence[Any]
) -> list[Attributes]:
    """Return of what a step changes that which the next step reads: NaN there would spread."""
    left = [holder.read() for holder in candidates]

    def outcome(place: tuple[int, int], value: float) -> list[Any]:
        for holder in step.holders:
            holder.start()
        for row, (holder, tensors) in enumerate(zip(candidates, left, strict=True)):
            states = [
                torch.full_like(tensor, value if (row, column) == place else 0.0)
                for column, tensor in enumerate(tensors)
            ]
            holder.load(states)
        leaves = pytree.tree_leaves(step.call(zeros))
        leaves += [tensor for holder in candidates for tensor in holder.read()]
        return [item for item in leaves if torch.is_tensor(item)]

    def is_read(row: int, column: int) -> bool:
        if not left[row][column].is_floating_point():
            return False
        pairs = zip(outcome((row, column), 0.0), outcome((row, column), math.nan), strict=True)
        return any(not torch.equal(one, other) for one, other in pairs)

    found = []
    for row, holder in enumerate(candidates):
        names = [name for column, name in enumerate(holder.names) if is_read(row, column)]
        if names:
            found.append(holder.only(names))
    return found


def _used(holder: Attributes | Cell) -> bool:
    """Say whether a step has given the holder states."""
    values = holder.read()
    return bool(values) and all(torch.is_tensor(value) and value.numel() for value in values)


def _axis(holders: Sequence[Attributes | Cell]) -> Axis:
    wanted = {holder.axis for holder in holders if holder.axis is not None}
    if len(wanted) > 1:
        where = ", ".join(f"'{holder.path}'" for holder in holders if holder.axis is not None)
        raise refused(f"modules {where}", "they want time on different axes", _BY_HAND)
    return wanted.pop() if wanted else None


def _slots(holder: Attributes | Cell) -> list[StateSlot]:
    slots = []
    for name, after, initial in zip(holder.names, holder.read(), holder.initial(), strict=True):
        full = f"{holder.path}.{name}".strip(".")
        if not torch.is_tensor(after) or after.dim() < 1 or after.shape[0] != 1:
            found = tuple(after.shape) if torch.is_tensor(after) else type(after).__name__
            message = f"it is {found} after a step: no tensor with a batch of 1 in front"
            raise refused(f"state '{full}'", message, _ONE_STEP)
        values = torch.as_tensor(initial).unique()
        if values.numel() != 1:
            raise refused(
                f"state '{full}'",
                f"it starts from {values.numel()} different values",
                "let it start from one value: reset the network before exporting",
            )
        slots.append(StateSlot(name=full, shape=tuple(after.shape[1:]), initial=float(values)))
    return slots


def _check_normalisation(network: nn.Module) -> None:
    for path, module in network.named_modules():
        if getattr(module, "track_running_stats", None) is False:
            raise refused(
                f"module '{path}'",
                f"{type(module).__name__} without running statistics normalises by the batch it "
                "sees: that is no fixed factor",
                "train with track_running_stats=True",
            )


def exported(
    step: StepNetwork, inputs: Mapping[str, Shape], recipe: Recipe, dt: float | None
) -> bytes:
    """Return the step as ONNX with its states named in ``snn.states``, and ``dt`` in ``snn.dt``.

    Raises :class:`UsageError` with what torch says where its exporter fails.
    """
    names = [*inputs, *(slot.name for slot in step.slots)]
    shapes = [*inputs.values(), *(slot.shape for slot in step.slots)]
    arguments = tuple(step.zeros(shape) for shape in shapes)
    for holder in step.holders:
        holder.start()
    given: dict[str, Any] = {
        "input_names": names,
        "output_names": ["output", *(f"{slot.name}_next" for slot in step.slots)],
        "opset_version": recipe.opset,
        "dynamo": recipe.dynamo,
    }
    try:
        with _quietly():
            write = _by_dynamo if recipe.dynamo else _by_tracing
            model = write(step, arguments, given)
    except SpikecError:
        raise
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        first = re.sub("\x1b.*?m", "", next(iter(str(root).strip().splitlines()), ""))
        raise refused(
            "torch.onnx.export",
            f"torch cannot export this network: {type(root).__name__}: {first}",
            f"try dynamo={not recipe.dynamo}, torch's other exporter; branches on data cannot be "
            "exported by either",
        ) from error
    said = {} if dt is None else {"snn.dt": repr(float(dt))}
    helper.set_model_props(model, {**_described(model, step), **said})
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextmanager
def _quietly() -> Iterator[None]:
    """Hold back what the exporters print and warn of: what counts is checked afterwards."""
    nowhere, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _by_dynamo(
    step: StepNetwork, arguments: tuple[Any, ...], given: Mapping[str, Any]
) -> onnx.ModelProto:
    program: Any = torch.onnx.export(step, arguments, verbose=False, **given)
    model: onnx.ModelProto = program.model_proto
    return model


def _by_tracing(
    step: StepNetwork, arguments: tuple[Any, ...], given: Mapping[str, Any]
) -> onnx.ModelProto:
    _plain_surrogates(step)
    buffer = io.BytesIO()
    torch.onnx.export(step, arguments, buffer, **given)
    return onnx.load_model_from_string(buffer.getvalue())


class Heaviside(nn.Module):  # type: ignore[misc]  # as above
    """A threshold in plain torch: what SpikingJelly's surrogates compute forward."""

    def forward(self, x: Any) -> Any:
        """Return 1 where ``x`` is 0 or more, else 0."""
        return (x >= 0).to(x)


def _plain_surrogates(network: nn.Module) -> None:
    """Put a plain threshold in the place of surrogates that tracing cannot write, where equal."""
    probe = torch.tensor([-2.0, -1e-3, -0.0, 0.0, 1e-3, 0.5, 2.0])
    for module in network.modules():
        shape = getattr(module, "surrogate_function", None)
        if shape is not None and torch.equal(shape(probe), Heaviside()(probe)):
            module.surrogate_function = Heaviside()


def _described(model: onnx.ModelProto, step: StepNetwork) -> dict[str, str]:
    """Return what the file says of its states; remove where and from which lines it was made."""
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        node.name = re.sub(r"^/network/(network[.])?", "/", node.name)
        del node.metadata_props[:]
    graph = model.graph
    for entry in (model, graph, *graph.input, *graph.output, *graph.initializer):
        del entry.metadata_props[:]
    del graph.value_info[:]
    states = [
        {"input": slot.name, "output": f"{slot.name}_next", "init": slot.initial}
        for slot in step.slots
    ]
    return {"snn.kind": "step", "snn.states": json.dumps(states)}


def _numbers(output: Any) -> Array:
    values: Array = output.detach().cpu().numpy()
    return values


def _sizes(output: Any, axis: Axis) -> Shape:
    return tuple(output.shape[1:] if axis == "merged" else output.shape[2:])
