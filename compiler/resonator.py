"""Resonate-and-fire neurons: a complex state that turns and decays.

One step of a population (source: the ``fixed_pt`` models of ``lava.proc.rf`` and
``lava.proc.rf_iz`` of lava-nc 0.10.0; rtz drops the remainder)::

    re' = sat24( rtz(cos * re / 4096) - rtz(sin * im / 4096) + (a_re << state_exp) )
    im' = sat24( rtz(sin * re / 4096) + rtz(cos * im / 4096) + (a_im << state_exp) )
    s = re' >= vth and im' >= 0 and im < 0                    phase
    s = im' >= vth; where s: re' = 0, im' = vth - 1           izhikevich

``a_im`` is what the connections named in ``imaginary`` bring, ``a_re`` what the others do. In a
trace ``voltage`` is re and ``current`` is im.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from spikec.compiler.arrays import Shape, size
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX
from spikec.compiler.ir import SourceView

__all__ = ["Resonance", "Resonator", "check_resonator"]

Resonance: TypeAlias = Literal["phase", "izhikevich"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Resonator:
    """A population of Lava's ``RF`` (phase) or ``RF_IZ`` (izhikevich) processes.

    ``sin_decay`` and ``cos_decay`` are fractions of 4096, ``vth`` is in units of the state.
    ``lsb`` is the source's state of one unit, for reading traces only.
    """

    name: str
    shape: Shape
    resonance: Resonance
    sin_decay: int
    cos_decay: int
    vth: int
    state_exp: int = 6
    imaginary: tuple[str, ...] = ()
    start: int = 0
    lsb: float = 1.0
    view: SourceView = field(default_factory=SourceView)

    @property
    def num_neurons(self) -> int:
        """The number of neurons."""
        return size(self.shape)

    @property
    def message_bounds(self) -> tuple[int, int]:
        """The least and the most that it can send."""
        return 0, 1

    @property
    def states(self) -> str:
        """The kind of neuron, in words."""
        return "resonate-and-fire"


def check_resonator(item: Resonator) -> Iterator[Diagnostic]:
    """Yield every rule that ``item`` breaks."""
    for message in _broken(item):
        yield Diagnostic(code="P016", where=f"population '{item.name}'", message=message, hint="")


def _broken(item: Resonator) -> Iterator[str]:
    if item.resonance not in get_args(Resonance):
        yield f"resonance '{item.resonance}' is unknown"
    if max(abs(item.sin_decay), abs(item.cos_decay)) > DECAY_UNITY:
        yield f"sin_decay {item.sin_decay} or cos_decay {item.cos_decay} leaves +-{DECAY_UNITY}"
    if not 1 <= item.vth <= STATE_MAX:
        yield f"vth is {item.vth}, not 1..{STATE_MAX}"
    if not 0 <= item.state_exp <= 15 or item.start < 0:
        yield f"state_exp {item.state_exp} is not 0..15, or start {item.start} below 0"
