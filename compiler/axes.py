"""Which axis of an array is what: samples, steps and features, in the order that networks take.

Data are ``[sample, step, *features]``. A layout says so of data in another order, one letter an
axis: N sample, T step, and C, H, W or F features; ``TNHWC`` is time first and channels last. Axes
are put in the order N, T, C, H, W, F. A missing N is one sample, a missing T is one step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.errors import Diagnostic, UsageError

__all__ = ["Axes", "CompiledFor", "Layout", "Layouts", "fits", "parse_layouts"]

#: All letters, in the order of networks.
_ORDER = "NTCHWF"
#: The letters of a network's input, by its rank.
_FEATURES = {1: "F", 2: "HW", 3: "CHW"}


@dataclass(frozen=True)
class Layout:
    """The axes of an array, a letter of ``NTCHWF`` each; see the module's text."""

    letters: str

    def __post_init__(self) -> None:
        letters = self.letters
        if not letters or len(set(letters)) < len(letters) or set(letters) - set(_ORDER):
            raise UsageError(
                Diagnostic(
                    code="U046",
                    where="option --layout",
                    message=f"'{letters}' is no order of axes",
                    hint="one letter an axis, each once: N sample, T step, and C, H, W or F "
                    "features, as in NTF, TNF, NTCHW or NTHWC",
                )
            )

    def arranged(self, values: Array, where: str) -> Array:
        """Return a view of ``values`` as ``[sample, step, *features]``.

        Raises :class:`UsageError` for an array with another number of axes.
        """
        if values.ndim != len(self.letters):
            raise UsageError(
                Diagnostic(
                    code="U046",
                    where=where,
                    message=f"has shape {list(values.shape)}, and --layout {self.letters} names "
                    f"{len(self.letters)} axes",
                    hint="one letter an axis",
                )
            )
        order = [self.letters.index(letter) for letter in _ORDER if letter in self.letters]
        values = values.transpose(order)
        for axis, letter in enumerate("NT"):
            if letter not in self.letters:
                values = np.expand_dims(values, axis)
        return values


@dataclass(frozen=True)
class Layouts:
    """The layout of each array of a file: those of ``named`` inputs, and ``default`` for others."""

    default: Layout | None = None
    named: Mapping[str, Layout] = field(default_factory=dict)

    def of(self, name: str) -> Layout | None:
        """Return the layout of the array of input ``name``; None for data as they usually are."""
        return self.named.get(name, self.default)

    def __str__(self) -> str:
        """Return it as ``--layout`` says it."""
        parts = [f"{name}={item.letters}" for name, item in self.named.items()]
        return ",".join([*parts, *([] if self.default is None else [self.default.letters])])

    def unknown(self, inputs: Collection[str]) -> Iterator[Diagnostic]:
        """Yield a finding for each name that is not one of ``inputs``."""
        for name in self.named:
            if name not in inputs:
                hint = f"inputs: {', '.join(inputs)}"
                yield _finding("U046", "option --layout", f"there is no input '{name}'", hint)


def parse_layouts(text: str) -> Layouts:
    """Return what ``NTCHW``, or ``image=NTCHW,sound=NTF`` for several inputs, says."""
    named: dict[str, Layout] = {}
    default = None
    for item in text.split(","):
        name, given, letters = item.strip().rpartition("=")
        layout = Layout(letters.strip().upper())
        if (given and name.strip() in named) or (not given and default is not None):
            hint = "one layout for all inputs, and one more for each that differs"
            raise UsageError(_finding("U046", "option --layout", f"'{text}' says one twice", hint))
        if given:
            named[name.strip()] = layout
        else:
            default = layout
    return Layouts(default, named)


def fits(features: Shape, shape: Shape) -> bool:
    """Say whether an array's ``features`` are those of an input of ``shape``, in the same order.

    They are if they are equal but for axes of extent 1, or if either of both is flat: then
    the other is read row by row.
    """
    if size(features) != size(shape):
        return False
    ours, theirs = ([extent for extent in axes if extent != 1] for axes in (features, shape))
    return ours == theirs or min(len(ours), len(theirs)) < 2


@dataclass(frozen=True)
class CompiledFor:
    """The steps of the data that a program was fitted to.

    ``presented`` says that these were samples of one step, presented for ``steps``.
    """

    steps: int
    presented: bool


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What tells the axes of an array: its shape, the input that it is for, and what is known.

    ``samples`` is how many there are by the labels, ``compiled_for`` what the program was
    compiled for; None where nothing says so.
    """

    given: Shape
    wanted: Shape
    samples: int | None = None
    compiled_for: CompiledFor | None = None
    layout: Layout | None = None

    def arranged(self, values: Array, where: str, *, with_steps: bool) -> Array:
        """Return a view as ``[sample, step, *features]``, with a step axis if that is missing.

        A missing axis needs ``with_steps``, a layout, or a program compiled for data without.
        """
        if self.layout is not None:
            return self.layout.arranged(values, where)
        presented = self.compiled_for is not None and self.compiled_for.presented
        if self._lacks_steps and (with_steps or presented):
            return np.expand_dims(values, 1)
        return values

    def problems(self, shape: Shape, where: str) -> Iterator[Diagnostic]:
        """Yield why the array, ``shape`` once it is arranged, is none of this input's."""
        if len(shape) < 3 or 0 in shape or not fits(shape[2:], self.wanted):
            yield _finding("U040", where, self._has, self._remedy)
            return
        if self.layout is not None:
            return
        if self.samples is not None and shape[0] != self.samples == shape[1]:
            yield _finding(
                "U046",
                where,
                f"{self._has} and there are {self.samples} labels, as many as its second axis: is "
                "it [step, sample, features...]?",
                f"--layout {self._others('TN')} reads it so; or save one label per sample",
            )
        steps = None if self.compiled_for is None else self.compiled_for.steps
        if self.samples is None and shape[0] == steps != shape[1]:
            yield _finding(
                "U046",
                where,
                f"{self._has} and the program was compiled for {steps} steps, as many "
                "as its first axis: is it [step, sample, features...]?",
                f"--layout {self._others('TN')} reads it so, --layout {self._others('NT')} as it "
                "is",
            )

    def assumptions(self, shape: Shape, where: str) -> Iterator[str]:
        """Yield what is taken for granted of an array without problems that might be otherwise."""
        if self.layout is not None or len(shape) < 3:
            return
        if self.samples == shape[0] == shape[1] > 1:
            yield (
                f"{where}: {shape[0]} samples and as many steps, read as [sample, step, "
                f"features...]; --layout {self._others('TN')} reads steps first"
            )
        extents = [extent for extent in shape[2:] if extent != 1]
        if len(extents) > 2 and len(extents) > len([item for item in self.wanted if item != 1]):
            yield (
                f"{where}: its features {list(shape[2:])} are read row by row into "
                f"{size(self.wanted)} inputs; --layout NTHWC reads channels first, saved last"
            )
        if len(self.wanted) == 3 and len(set(self.wanted)) == 1 and extents == [*self.wanted]:
            yield (
                f"{where}: its features {list(shape[2:])} are read as [channel, height, width]; "
                "--layout NTHWC reads channels last"
            )

    @property
    def _lacks_steps(self) -> bool:
        whole = len(self.given) > 2 and fits(self.given[2:], self.wanted)
        return not whole and len(self.given) > 1 and fits(self.given[1:], self.wanted)

    @property
    def _has(self) -> str:
        return f"has shape {list(self.given)}"

    @property
    def _remedy(self) -> str:
        needs = f"the network needs [sample, step, {', '.join(map(str, self.wanted))}]"
        if self.layout is not None:
            return f"{needs}, which --layout {self.layout.letters} does not make of it"
        if 0 in self.given:
            return needs
        if self._lacks_steps:
            return f"{needs}; --steps N presents data of one step, --layout TF reads one sample"
        orders = list(dict.fromkeys(self._orders()))[:4]
        if orders:
            return f"{needs}; --layout {' or '.join(orders)} reads its axes in that order"
        return f"{needs}; --layout names axes in another order, such as TNF or NTHWC"

    def _others(self, first: str) -> str:
        """Return the layout of an array whose features are in the network's order."""
        return first + _FEATURES.get(len(self.given) - 2, "CHWF")

    def _orders(self) -> Iterator[str]:
        """Yield the layouts that make of the array what the network needs."""
        features = _FEATURES.get(len(self.wanted), "")
        for letters in (f"NT{features}", f"N{features}", f"T{features}"):
            if not features or len(letters) != len(self.given):
                continue
            extents = dict(zip(features, self.wanted, strict=True))
            if self.samples is not None and "N" in letters:
                extents["N"] = self.samples
            for order in permutations(letters):
                found = dict(zip(order, self.given, strict=True))
                if all(found[letter] == extent for letter, extent in extents.items()):
                    yield "".join(order)


def _finding(code: str, where: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)
