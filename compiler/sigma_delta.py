"""Sigma-delta neurons: they send how their activation changed, and add up what they hear.

One step of a population (source: the ``fixed_pt`` models of ``lava.proc.sdn`` of lava-nc
0.10.0, in 32-bit integers that wrap)::

    a = sum over incoming connections of (weights << weight_exp) . arrived
    x = a << e                                  delta          e = spike_exp + state_exp
    sigma = sigma + a
    x = f(sigma + (bias << e))                  sigma_delta    f is max(., 0) or nothing
    x = sigma                                   sigma, which sends nothing
    d = x - x_prev + residue
    s = d if |d| >= vth << e, else 0
    residue = d - s
    message = s >> state_exp

What comes from a convolution of one step, over all its parts
(:mod:`spikec.compiler.convolutions`), is cut to 24 bits before it is added, as Lava's Conv does.
In a trace ``spikes`` are the messages, ``voltage`` is x and ``current`` is sigma (of
``delta``: x).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, integers, per_neuron, size
from spikec.compiler.errors import Diagnostic, GraphError
from spikec.compiler.ir import SourceView

__all__ = ["Activation", "Encoding", "SigmaDelta", "check_sigma_delta"]

Encoding: TypeAlias = Literal["delta", "sigma_delta", "sigma"]
Activation: TypeAlias = Literal["relu", "unit"]

#: All state is held in 32 bits with sign.
_MOST = (1 << 31) - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class SigmaDelta:
    """A population of Lava's ``Delta``, ``SigmaDelta`` or ``Sigma`` processes.

    ``vth`` and ``bias`` (one per neuron) count ``<< (spike_exp + state_exp)``; ``vth`` is
    None for ``sigma``. ``message_bits`` is the width that messages are meant to have: what
    needs more is counted and sent whole, as by Lava. ``lsb`` is the source's activation of
    one unit of x, for reading traces only.
    """

    name: str
    shape: Shape
    encoding: Encoding
    vth: int | None
    bias: Array = field(default_factory=lambda: frozen(0))
    activation: Activation = "unit"
    spike_exp: int = 0
    state_exp: int = 0
    message_bits: int = 16
    start: int = 0
    lsb: float = 1.0
    view: SourceView = field(default_factory=SourceView)

    #: Fields that hold one integer per neuron.
    PER_NEURON: ClassVar[tuple[str, ...]] = ("bias",)

    def __post_init__(self) -> None:
        try:
            bias = per_neuron(integers(self.bias), self.shape, np.int64)
        except (TypeError, ValueError) as error:
            where = f"population '{self.name}'"
            raise GraphError(
                Diagnostic(code="P001", where=where, message=f"bias: {error}", hint="")
            ) from error
        object.__setattr__(self, "bias", bias)

    @property
    def num_neurons(self) -> int:
        """The number of neurons."""
        return size(self.shape)

    @property
    def scale(self) -> int:
        """The bits that ``vth`` and ``bias`` are shifted by."""
        return self.spike_exp + self.state_exp

    @property
    def message_bounds(self) -> tuple[int, int]:
        """The least and the most that it can send: 32 bits shifted down."""
        return -(1 << 31) >> self.state_exp, _MOST >> self.state_exp

    @property
    def states(self) -> str:
        """The kind of neuron, in words."""
        return {"delta": "delta", "sigma_delta": "sigma-delta", "sigma": "sigma"}[self.encoding]


def check_sigma_delta(item: SigmaDelta) -> Iterator[Diagnostic]:
    """Yield every rule that ``item`` breaks."""
    where = f"population '{item.name}'"
    for message in _broken(item):
        yield Diagnostic(code="P015", where=where, message=message, hint="")


def _broken(item: SigmaDelta) -> Iterator[str]:
    known = item.encoding in get_args(Encoding) and item.activation in get_args(Activation)
    if not known:
        yield f"encoding '{item.encoding}' or activation '{item.activation}' is unknown"
    if not (0 <= item.spike_exp <= 30 and 0 <= item.state_exp <= 30 and item.scale <= 30):
        yield f"spike_exp {item.spike_exp} and state_exp {item.state_exp} are not 0..30 together"
        return
    if not 1 <= item.message_bits <= 32 or item.start < 0:
        yield f"message_bits {item.message_bits} is not 1..32, or start {item.start} below 0"
    if (item.vth is None) != (item.encoding == "sigma"):
        yield f"vth is {item.vth} for '{item.encoding}': 'sigma' has none, the others have one"
    most = _MOST >> item.scale
    if item.vth is not None and not 0 <= item.vth <= most:
        yield f"vth is {item.vth}, not 0..{most}, what 32 bits hold at these exponents"
    if item.bias.size and (item.bias.min() < -most or item.bias.max() > most):
        yield f"bias spans {item.bias.min()}..{item.bias.max()}, not +-{most}"
    if item.encoding != "sigma_delta" and (item.bias.any() or item.activation != "unit"):
        yield f"'{item.encoding}' has neither a bias nor an activation"
