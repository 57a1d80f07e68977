"""Where a PyTorch network keeps its neurons' states, and how to take them out and put them back.

Frameworks are told apart by the module a class comes from, so none is imported here:

===============  =================================================  ======================
framework        a neuron's state is                                it starts from
===============  =================================================  ======================
snnTorch         buffers of a ``SpikingNeuron`` that are not saved  0
SpikingJelly     the memories of a ``MemoryModule``                 their reset values
sinabs           the buffers of a ``StatefulLayer``                 0
Norse            given to a cell's ``forward``, and returned        ``state_fallback``
any other        attributes that a step leaves changed              what they hold now
===============  =================================================  ======================

This module needs PyTorch; :mod:`spikec.models.torch_export` imports it when it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import nn

from spikec.compiler.errors import Diagnostic, UsageError

__all__ = [
    "Attributes",
    "Axis",
    "Cell",
    "borrowed",
    "changed",
    "find_holders",
    "held",
    "owners",
    "refused",
]

#: Where a network wants a time axis: nowhere, first, after the batch, or merged with the batch.
Axis: TypeAlias = "int | str | None"

#: Stands for the first value of a state whose tensor was made by the step itself.
UNKNOWN = object()

_BY_HAND = "write a step(x, *states) that returns (output, *states) and name its states in states="


def refused(where: str, message: str, hint: str) -> UsageError:
    """Return the error of a network that cannot be exported as it is."""
    return UsageError(Diagnostic(code="U100", where=where, message=message, hint=hint))


class Attributes:
    """A module that keeps its states as attributes; ``fresh`` is what they are before a run."""

    def __init__(
        self, path: str, module: nn.Module, fresh: Mapping[str, Any], axis: Axis = None
    ) -> None:
        self.path, self.axis = path, axis
        self.names = tuple(fresh)
        self._module, self._fresh = module, dict(fresh)

    def only(self, names: Sequence[str]) -> Attributes:
        """Return the holder of some of these states; a :class:`UsageError` if one has no start."""
        for name in names:
            if self._fresh[name] is UNKNOWN:
                raise refused(
                    f"state '{_joined(self.path, name)}'",
                    "it is unknown what it starts from: before the step it held no tensor for a "
                    "batch of 1, and was not None",
                    "reset the network, or set it to zeros for a batch of 1, before exporting",
                )
        return Attributes(self.path, self._module, {name: self._fresh[name] for name in names})

    def start(self) -> None:
        """Put the module at its first step."""
        self.load(tuple(self._fresh.values()))

    def load(self, states: Sequence[Any]) -> None:
        """Set the attributes."""
        for name, value in zip(self.names, states, strict=True):
            setattr(self._module, name, value)

    def read(self) -> tuple[Any, ...]:
        """Return the attributes."""
        return tuple(getattr(self._module, name) for name in self.names)

    def initial(self) -> tuple[Any, ...]:
        """Return numbers or tensors; what is still empty starts from 0."""
        return tuple(
            0.0 if value is None or (torch.is_tensor(value) and value.numel() == 0) else value
            for value in self._fresh.values()
        )


class Cell:
    """A Norse cell: whatever state the network would pass, its own is used and kept here."""

    def __init__(self, path: str, module: nn.Module, axis: Axis = None) -> None:
        self.path, self.axis = path, axis
        self.names: tuple[str, ...] = ()
        self.module = module
        self._forward, self._loaded = module.forward, None
        self._first: Any = None
        self._last: Any = None
        self.calls = 0

    def lift(self) -> None:
        """Replace ``forward`` of this one module; :func:`borrowed` takes it back."""
        self.module.forward = self._run

    def release(self) -> None:
        """Give the module its own ``forward`` back."""
        vars(self.module).pop("forward", None)

    def start(self) -> None:
        """Let the cell make its own first state."""
        self._loaded, self.calls = None, 0

    def load(self, states: Sequence[Any]) -> None:
        """Keep the state for the next call."""
        self._loaded, self.calls = self._packed(states), 0

    def read(self) -> tuple[Any, ...]:
        """Return the fields of the state after the last call; none if it was never called."""
        return _fields(self._last)

    def initial(self) -> tuple[Any, ...]:
        """Return the fields of the cell's own first state."""
        return _fields(self._first)

    def _run(self, x: Any, state: Any = None) -> Any:
        self.calls += 1
        if state is not None or self.calls > 1:
            message = "the network gives this cell a state of its own, or calls it twice in a step"
            raise refused(f"module '{self.path}'", message, _BY_HAND)
        before = self._loaded
        if before is None:
            before = self._first = self.module.state_fallback(x)
        output, self._last = self._forward(x, before)
        self.names = _names(self._last)
        return output, self._last

    def _packed(self, states: Sequence[Any]) -> Any:
        return _filled(self._last, iter(states))


def _fields(state: Any) -> tuple[Any, ...]:
    """Return the tensors of a state; a tuple in a tuple (a refractory cell's) is taken apart."""
    if state is None:
        return ()
    if not isinstance(state, tuple):
        return (state,)
    return tuple(field for item in state for field in _fields(item))


def _names(state: Any) -> tuple[str, ...]:
    names = getattr(state, "_fields", ("state",))
    if not isinstance(state, tuple):
        return ("state",)
    return tuple(
        inner
        for name, item in zip(names, state, strict=True)
        for inner in (_names(item) if isinstance(item, tuple) else (name,))
    )


def _filled(like: Any, fields: Iterator[Any]) -> Any:
    """Return a state of the form of ``like`` with other tensors."""
    if not isinstance(like, tuple):
        return next(fields)
    return type(like)(*(_filled(item, fields) for item in like))


def find_holders(network: Any) -> list[Attributes | Cell]:
    """Return the neurons of the frameworks in ``network``, in the order of its modules."""
    if not isinstance(network, nn.Module):
        return []
    found = (_holder(path, module) for path, module in network.named_modules())
    return [holder for holder in found if holder is not None]


def _holder(path: str, module: nn.Module) -> Attributes | Cell | None:
    if _is_a(module, "snntorch.", "SpikingNeuron"):
        names = [name for name in module._buffers if name in module._non_persistent_buffers_set]  # noqa: SLF001
        return Attributes(path, module, {name: torch.zeros(0) for name in names})
    if _is_a(module, "spikingjelly.", "MemoryModule"):
        axis = 0 if getattr(module, "step_mode", "s") == "m" else None
        return Attributes(path, module, module._memories_rv, axis)  # noqa: SLF001
    if _is_a(module, "sinabs.", "StatefulLayer"):
        fresh = {name: torch.zeros(0) for name in module._buffers}  # noqa: SLF001
        if not _is_a(module, "sinabs.", "SqueezeMixin"):
            return Attributes(path, module, fresh, 1)
        module.batch_size, module.num_timesteps = 1, -1
        return Attributes(path, module, fresh, "merged")
    if _is_a(module, "norse.torch.", "SNNCell", "SNNRecurrentCell"):
        return Cell(path, module)
    if _is_a(module, "norse.torch.", "SNN", "SNNRecurrent"):
        return Cell(path, module, 0)
    return None


def _is_a(module: nn.Module, package: str, *names: str) -> bool:
    return any(
        kind.__name__ in names and kind.__module__.startswith(package)
        for kind in type(module).__mro__
    )


def changed(
    network: Any, before: Mapping[str, Held], known: Sequence[Attributes | Cell]
) -> list[Attributes]:
    """Return the modules outside the frameworks whose tensors a step has changed.

    ``before`` is what each module held, by :func:`held`. A tensor changed in place is a
    :class:`UsageError`; one that is not known to be a state yet may start from ``UNKNOWN``.
    """
    skipped = {holder.path for holder in known}
    holders = []
    for path, module in network.named_modules():
        if path in skipped or type(module).__module__.startswith("torch."):
            continue
        old, new = before[path], held(module)
        for name, (value, version) in old.items():
            if torch.is_tensor(value) and value._version != version:  # noqa: SLF001
                message = "a step changes this tensor in place"
                raise refused(f"state '{_joined(path, name)}'", message, "assign a new tensor")
        moved = {
            name: value
            for name, (value, _) in new.items()
            if torch.is_tensor(value) and value is not old.get(name, (None, 0))[0]
        }
        fresh = {name: _first_value(old, name, value) for name, value in moved.items()}
        if fresh:
            holders.append(Attributes(path, module, fresh))
    return holders


#: What a module holds: values by name, with how often each tensor was changed in place.
Held: TypeAlias = "Mapping[str, tuple[Any, int]]"


def held(module: nn.Module) -> dict[str, tuple[Any, int]]:
    """Return buffers and plain attributes of one module that are tensors or None."""
    every = {**vars(module), **module._buffers}  # noqa: SLF001
    return {
        name: (value, 0 if value is None else value._version)  # noqa: SLF001
        for name, value in every.items()
        if value is None or torch.is_tensor(value)
    }


def _first_value(old: Held, name: str, after: Any) -> Any:
    """Return what a state of an unknown module held before its first step: a tensor, or None."""
    before: Any = old[name][0] if name in old else UNKNOWN
    if before is None:
        return None
    fits = torch.is_tensor(before) and before.shape == after.shape and before.shape[:1] == (1,)
    return before if fits else UNKNOWN


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}".strip(".")


def owners(network: Any) -> list[nn.Module]:
    """Return the modules that ``network`` is, or is a method of, or speaks of."""
    if isinstance(network, nn.Module):
        return [network]
    if inspect.ismethod(network):
        return owners(network.__self__)
    if not inspect.isfunction(network):
        return []
    names = inspect.getclosurevars(network)
    spoken_of = {**names.globals, **names.nonlocals}.values()
    return [item for item in spoken_of if isinstance(item, nn.Module)]


@contextmanager
def borrowed(network: Any) -> Iterator[None]:
    """Lend a network, ready for inference; on leaving, all that it holds is as it was.

    States, training modes, buffers, replaced methods, and torch's random numbers.
    """
    modules = [module for owner in owners(network) for module in owner.modules()]
    saved = [
        (
            vars(module),
            dict(vars(module)),
            {
                name: list(value) if isinstance(value, list) else dict(value)
                for name, value in vars(module).items()
                if isinstance(value, (dict, list))
            },
        )
        for module in modules
    ]
    copies = [
        (value, value.detach().clone())
        for module in modules
        for value, _ in held(module).values()
        if value is not None
    ]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for namespace, attributes, contents in saved:
                namespace.clear()
                namespace.update(attributes)
                for name, content in contents.items():
                    container = namespace[name]
                    container.clear()
                    (container.extend if isinstance(content, list) else container.update)(content)
            for value, copy in copies:
                if not torch.equal(value, copy):
                    value.copy_(copy)
