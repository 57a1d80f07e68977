"""How the processes of process.py run on a CPU; ``fixed_pt`` is the only precision."""

import numpy as np

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import PyLifModelBitAcc, PyLifResetModelBitAcc
from lava.proc.rf.models import PyRFModelFixed
from lava.proc.rf_iz.models import PyRF_IZModelFixed
from lava.proc.sdn.models import PyDeltaModelFixed, PySigmaDeltaModelFixed
from lava.proc.sparse.models import PyDelaySparseModelBitAcc

from spikec_processes.process import (
    ExactLIF,
    ProbedDelta,
    ProbedLIF,
    ProbedLIFReset,
    ProbedRF,
    ProbedRFIZ,
    ProbedSigmaDelta,
    Recorder,
    SteadyDelaySparse,
)

#: 24-bit state; decays are fractions of 4096; thresholds and input are 6 bits up.
STATE_MAX = (1 << 23) - 1
DECAY_BITS = 12
ALIGN = 6


class Files:
    """Open ``.npy`` files by quantity; a row is one step."""

    def __init__(self, record):
        self.rows = {
            quantity: np.lib.format.open_memmap(path, mode="r+")
            for quantity, path in record.items()
        }

    def write(self, row, **values):
        """Write what is recorded among ``values`` to ``row``."""
        for quantity, rows in self.rows.items():
            if quantity in values:
                rows[row] = values[quantity]


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorder(PyLoihiProcessModel):
    """Row ``time_step - 1`` is what the source sent in ``time_step``."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    tie_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    tie_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        path = proc_params["path"]
        self.files = Files({proc_params["quantity"]: path} if path else {})
        last = proc_params["last"]
        self.first = 0 if last is None else -last

    def run_spk(self):
        sent = self.a_in.recv()[self.first :]
        self.files.write(self.time_step - 1, spikes=sent != 0, units=sent)


@implements(proc=ExactLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyExactLIF(PyLoihiProcessModel):
    """The equations of :class:`ExactLIF`, in int64 so that no product can overflow."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    tie_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    tie_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    u: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    v: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    du: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=12)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=13)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=18)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=13)
    bias_exp: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=4)
    reset_amount: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    reset_voltage: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)
    floor: np.ndarray = LavaPyType(np.ndarray, np.int64, precision=24)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.spiking = proc_params["spiking"]
        self.reset = proc_params["reset"]
        self.reset_order = proc_params["reset_order"]
        self.reset_drops_input = proc_params["reset_drops_input"]
        self.refractory = proc_params["refractory"]
        self.first_step = proc_params["start"]  # Lava's models have a method called start
        self.max_spikes = proc_params["max_spikes"]
        self.reset_twice = proc_params["reset_twice"]
        self.spiked = np.zeros(proc_params["shape"], np.int64)
        self.idle = np.zeros(proc_params["shape"], np.int64)
        self.files = Files(proc_params["record"])

    def run_spk(self):
        arriving = self.a_in.recv().astype(np.int64)
        step = self.time_step - 1
        if step >= self.first_step:
            self.integrate(arriving)
        self.s_out.send(self.spiked.astype(np.int32))
        self.files.write(step, spikes=self.spiked, voltage=self.v, current=self.u)

    def integrate(self, arriving):
        """Advance u, v and ``spiked`` by one step."""
        self.u = wrap24(decay(self.u, self.du + 1) + (arriving << ALIGN))
        before = self.v
        if self.reset_order == "next_step" and self.reset in ("zero", "value"):
            before = np.where(self.spiked, self.reset_voltage, before)
        drive = self.u + shift(self.bias_mant, self.bias_exp)
        if self.reset_order == "next_step" and self.reset == "subtract":
            drive = drive - self.reset_amount * self.spiked
        after = decay(before, self.dv) + drive
        if self.reset_drops_input:
            after = np.where(self.spiked, self.reset_voltage, after)
        active = self.idle == 0
        left = self.v > (self.vth << ALIGN)
        self.v = saturate24(np.where(active, after, self.v))
        if self.spiking:
            self.fire(active, left)
        self.v = np.maximum(self.v, self.floor)

    def fire(self, active, left):
        """Find the spikes and do what an ``at_spike`` reset does."""
        above = self.v - (self.vth << ALIGN)
        if self.reset_twice:
            above -= self.reset_amount * left
        self.spiked = ((above > 0) & active).astype(np.int64)
        if self.max_spikes > 1:
            times = -(-above // self.reset_amount)  # rounded up: the last ends at or below
            self.spiked *= np.minimum(times, self.max_spikes)
        if self.reset_order == "at_spike" and self.reset == "subtract":
            self.v = saturate24(self.v - self.reset_amount * self.spiked)
        if self.reset_order == "at_spike" and self.reset in ("zero", "value"):
            self.v = np.where(self.spiked, self.reset_voltage, self.v)
        self.idle = np.where(self.spiked, self.refractory, np.maximum(self.idle - 1, 0))


class Watching:
    """Added to a stock model: writes its state once a step, changes nothing."""

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.files = Files(proc_params["record"])
        self.before_reset = proc_params["before_reset"]
        self.record_start = proc_params["record_start"]

    def reset_voltage(self, spike_vector):
        """Lava calls this once a step, when u and v are new."""
        voltage = self.v.copy()
        super().reset_voltage(spike_vector)
        if self.time_step - 1 >= self.record_start:
            voltage = voltage if self.before_reset else self.v
            self.files.write(self.time_step - 1, voltage=voltage, current=self.u)


class PyProbedLIF(Watching, PyLifModelBitAcc):
    """Lava's own model, watched; ``@implements`` would refuse a model that has a Process."""

    implements_process = ProbedLIF


class PyProbedLIFReset(Watching, PyLifResetModelBitAcc):
    """Lava's own model, watched; ``@implements`` would refuse a model that has a Process."""

    implements_process = ProbedLIFReset


class Encoding:
    """Added to a stock sigma-delta model: writes its state once a step, changes nothing."""

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.files = Files(proc_params["record"])

    def run_spk(self):
        super().run_spk()
        sigma = self.act if self.summed is None else getattr(self, self.summed)
        self.files.write(self.time_step - 1, voltage=self.act, current=sigma)


class PyProbedDelta(Encoding, PyDeltaModelFixed):
    """Lava's own model, watched; ``@implements`` would refuse a model that has a Process."""

    implements_process = ProbedDelta
    summed = None


class PyProbedSigmaDelta(Encoding, PySigmaDeltaModelFixed):
    """Lava's own model, watched; ``@implements`` would refuse a model that has a Process."""

    implements_process = ProbedSigmaDelta
    summed = "sigma"


class Turning:
    """Added to a stock resonator's model: writes its state once a step, changes nothing."""

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.files = Files(proc_params["record"])

    def run_spk(self):
        super().run_spk()
        self.files.write(self.time_step - 1, voltage=self.real, current=self.imag)


class PyProbedRF(Turning, PyRFModelFixed):
    """Lava's own model, watched; ``@implements`` would refuse a model that has a Process."""

    implements_process = ProbedRF


class PyProbedRFIZ(Turning, PyRF_IZModelFixed):
    """Lava's own model, watched; ``@implements`` would refuse a model that has a Process."""

    implements_process = ProbedRFIZ


class PySteadyDelaySparse(PyDelaySparseModelBitAcc):
    """Lava's own model, which sorts the weights by delay once and not in every step."""

    implements_process = SteadyDelaySparse

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.sorted_weights = None

    def get_delay_wgts_mat(self, weights, delays, max_delay):
        """Called once a step, with the same weights and delays each time."""
        if self.sorted_weights is None:
            self.sorted_weights = super().get_delay_wgts_mat(weights, delays, max_delay).tocsr()
        return self.sorted_weights


def decay(state, constant):
    """Multiply by ``(4096 - constant) / 4096``, rounding toward zero."""
    product = state * ((1 << DECAY_BITS) - constant)
    return np.sign(product) * (np.abs(product) >> DECAY_BITS)


def shift(mantissa, exponent):
    """Multiply by ``2 ** exponent``; a negative exponent rounds down."""
    return (mantissa << np.maximum(exponent, 0)) >> np.maximum(-exponent, 0)


def wrap24(values):
    """Wrap once into (-2**23, 2**23], as Lava's LIF does."""
    span = 1 << 24
    above = np.where(values > STATE_MAX + 1, values - span, values)
    return np.where(above <= -(STATE_MAX + 1), values + span, above)


def saturate24(values):
    """Clip to +-(2**23 - 1)."""
    return np.clip(values, -STATE_MAX, STATE_MAX)
