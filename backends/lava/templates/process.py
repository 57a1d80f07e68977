"""Processes that spikec needs beside Lava's own; their models are in models.py.

They stand alone in this package: Lava imports every file that lies beside the
class of a Process when it looks for ProcessModels.

All but :class:`ExactLIF` behave exactly as the stock Process. A ``tie`` is a pair
of ports that carries nothing: Lava runs what is connected, and a network may
fall into parts that are not.
"""

import numpy as np

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.rf.process import RF
from lava.proc.rf_iz.process import RF_IZ
from lava.proc.sdn.process import Delta, SigmaDelta
from lava.proc.sparse.process import DelaySparse


class Recorder(AbstractProcess):
    """Writes what arrives in each step to one row of a ``.npy`` file of shape (steps, n).

    Without a ``path`` it writes nothing, and ties its source to the others. ``last`` units
    alone are written if it is given; any message counts as one spike, unless they are written
    ``whole``.
    """

    def __init__(self, *, shape, path, last=None, whole=False):
        quantity = "units" if whole else "spikes"
        super().__init__(shape=shape, path=path, last=last, quantity=quantity)
        self.a_in = InPort(shape=shape)
        add_ties(self)


#: No voltage falls below this: 24 bits with sign.
LOWEST = 1 - 2**23


class ExactLIF(AbstractProcess):
    """An integrate-and-fire population with switches that the stock LIF does not have.

    One step, all integers (see models.py)::

        u = wrap24(rtz(u * (4096 - (du + 1)) / 4096) + (a_in << 6))
        v = sat24(rtz(v * (4096 - dv) / 4096) + u + bias)
        s = v > (vth << 6)

    reset: ``subtract`` takes ``reset_amount`` off v, ``zero`` and ``value`` set v to
    ``reset_voltage``, ``none`` does nothing; ``at_spike`` at once, ``next_step`` one
    step later (``subtract`` after the decay, the others before it).
    ``reset_drops_input``: the step after a spike gives ``reset_voltage`` alone.
    ``refractory``: steps after a spike during which v is held. ``start``: the first
    step that counts; before it u and v are held and nothing is sent. ``spiking``
    False makes a leaky integrator. With ``max_spikes`` above 1 the amount is taken off
    as often as v is above threshold, up to that, and so much is sent. ``reset_twice``: a
    v that was left above threshold must pass it by ``reset_amount`` more. ``floor``: the
    least v, applied last. Every parameter takes one value per neuron.

    ``record`` maps ``spikes``, ``voltage`` and ``current`` to ``.npy`` files of shape
    (steps, n), one row per step.
    """

    def __init__(
        self,
        *,
        shape,
        du=0,
        dv=0,
        vth=0,
        bias_mant=0,
        bias_exp=0,
        u=0,
        v=0,
        spiking=True,
        reset="none",
        reset_order="at_spike",
        reset_amount=0,
        reset_voltage=0,
        reset_drops_input=False,
        refractory=0,
        max_spikes=1,
        reset_twice=False,
        floor=LOWEST,
        start=0,
        record=None,
        name=None,
    ):
        super().__init__(
            shape=shape,
            spiking=spiking,
            reset=reset,
            reset_order=reset_order,
            reset_drops_input=reset_drops_input,
            refractory=refractory,
            max_spikes=max_spikes,
            reset_twice=reset_twice,
            start=start,
            record=record or {},
            name=name,
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=u)
        self.v = Var(shape=shape, init=v)
        self.du = Var(shape=shape, init=du)
        self.dv = Var(shape=shape, init=dv)
        self.vth = Var(shape=shape, init=vth)
        self.bias_mant = Var(shape=shape, init=bias_mant)
        self.bias_exp = Var(shape=shape, init=bias_exp)
        self.reset_amount = Var(shape=shape, init=reset_amount)
        self.reset_voltage = Var(shape=shape, init=reset_voltage)
        self.floor = Var(shape=shape, init=floor)
        add_ties(self)


class ProbedLIF(LIF):
    """The stock LIF, which also writes its voltage or current to a file; see ``watch``."""

    def __init__(self, *, shape, record, before_reset=False, **parameters):
        super().__init__(shape=shape, **parameters)
        watch(self, record, before_reset, start=0)


class ProbedLIFReset(LIFReset):
    """The stock LIFReset, which also writes its voltage or current to a file."""

    def __init__(self, *, shape, record, before_reset=False, **parameters):
        super().__init__(shape=shape, **parameters)
        watch(self, record, before_reset, start=parameters["reset_offset"] - 1)


class ProbedDelta(Delta):
    """The stock Delta, which also writes its value to a file, as voltage and as current."""

    def __init__(self, *, shape, record, **parameters):
        super().__init__(shape=shape, **parameters)
        self.proc_params["record"] = record


class ProbedSigmaDelta(SigmaDelta):
    """The stock SigmaDelta, which also writes its activation (voltage) or sigma (current)."""

    def __init__(self, *, shape, record, **parameters):
        super().__init__(shape=shape, **parameters)
        self.proc_params["record"] = record


class ProbedRF(RF):
    """The stock RF, which also writes its real part (voltage) or imaginary part (current)."""

    def __init__(self, *, shape, record, state_exp):
        super().__init__(shape=shape, period=4, alpha=0, state_exp=state_exp, decay_bits=12)
        self.proc_params["record"] = record


class ProbedRFIZ(RF_IZ):
    """The stock RF_IZ, which also writes its real part (voltage) or imaginary part (current)."""

    def __init__(self, *, shape, record, state_exp):
        super().__init__(shape=shape, period=4, alpha=0, state_exp=state_exp, decay_bits=12)
        self.proc_params["record"] = record


class SteadyDelaySparse(DelaySparse):
    """The stock DelaySparse for delays that never change; used for samples side by side."""


def watch(process, record, before_reset, start):
    """Have ``process`` write to the ``.npy`` files in ``record``, and zeros before ``start``.

    ``before_reset`` writes the voltage that a spike is about to clear.
    """
    process.proc_params["record"] = record
    process.proc_params["before_reset"] = before_reset
    process.proc_params["record_start"] = start


def add_ties(process):
    """Give ``process`` the ports that tie it to the next one; nothing is ever sent."""
    process.tie_in = InPort(shape=(1,))
    process.tie_out = OutPort(shape=(1,))


def new_file(path, steps, neurons, dtype):
    """Create the ``.npy`` file that a process writes to, all zeros."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(steps, neurons)).flush()
