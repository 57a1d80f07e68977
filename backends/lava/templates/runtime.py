"""What network.py runs on: samples side by side, recordings, and a run that always ends.

Step n of a trace is Lava's time step n + 1. Lava has no batch axis: several
samples run side by side as one larger network with block-diagonal weights.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy import sparse

from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.graded.process import GradedReluVec
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF, LIFReset
from lava.proc.rf.process import RF
from lava.proc.rf_iz.process import RF_IZ
from lava.proc.sdn.process import Delta, Sigma, SigmaDelta
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode

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
    new_file,
)

#: An interval that no run reaches: LIFReset then clears its state once.
ONCE = 1 << 30

#: The largest voltage.
HIGHEST = 2**23 - 1

PROBED = {
    LIF: ProbedLIF,
    LIFReset: ProbedLIFReset,
    Delta: ProbedDelta,
    SigmaDelta: ProbedSigmaDelta,
    RF: ProbedRF,
    RF_IZ: ProbedRFIZ,
}
DTYPES = {"units": np.int32, "spikes": np.uint8, "voltage": np.int32, "current": np.int32}


class Network:
    """The processes of one run of ``data`` (input name -> ``[sample, step, *shape]``).

    ``probes`` are pairs of a population and ``voltage`` or ``current`` to record
    besides all spikes and the voltage of populations that never spike.
    """

    def __init__(self, *, parameters, data, steps, probes, folder, hardware=False, stepwise=False):
        self.parameters = parameters
        self.data = data
        self.steps = steps
        self.probes = set(probes)
        self.folder = Path(folder)
        self.hardware = hardware
        self.stepwise = hardware or stepwise
        self.batch = len(next(iter(data.values())))
        self.shapes = {}
        self.files = {}
        self.processes = []
        self.recording = []
        self.asked = []
        self.decoders = {}

    def input(self, name, *, shape, shift, num_message_bits):
        """Add the input ``name``; column k of its data is sent in step ``k + shift``.

        ``num_message_bits`` 0 sends spikes, more sends integers of that width.
        """
        values = self.data[name]
        if values.shape[2:] != shape or values.dtype.kind not in "uib":
            raise SystemExit(
                f"input {name!r}: integers [sample, step, {shape}] are needed, "
                f"got {values.dtype} {values.shape}"
            )
        size = int(np.prod(shape))
        columns = np.zeros((self.batch * size, self.steps), np.int32)
        given = np.moveaxis(values.reshape(self.batch, -1, size), 1, 2)
        shown = max(0, min(given.shape[2], self.steps - shift))
        columns[:, shift : shift + shown] = given[:, :, :shown].reshape(-1, shown)
        source = self._add(RingBuffer(data=columns))
        source.num_message_bits = num_message_bits
        source.taken_as = shape
        if self.hardware:
            return to_hardware(source, num_message_bits)
        return source

    def population(self, name, process, *, shape, before_reset=False, readout=False, **parameters):
        """Add a population of ``process`` (a class) and record it.

        A stock population whose voltage or current is probed is built from a
        subclass that records them and changes nothing else (a stock readout, if
        ``stepwise``, is asked after every step instead); ``before_reset``
        says that the voltage to record is the one before a spike clears it. A stock
        ``readout`` is a LIF that no input brings to its threshold.
        """
        size = int(np.prod(shape))
        wide = {key: self._tiled(value, size) for key, value in parameters.items()}
        self.shapes[name] = shape
        spiking = parameters.get("spiking", not readout)
        probed = [q for q in ("voltage", "current") if (name, q) in self.probes]
        if not spiking and "voltage" not in probed:
            probed.append("voltage")
        if issubclass(process, ExactLIF):
            quantities = [*(["spikes"] if spiking else []), *probed]
            record = {quantity: self._file(name, quantity, size) for quantity in quantities}
            added = self._add(process(shape=(self.batch * size,), record=record, **wide))
            self.recording.append(added)
        else:
            if readout and self.stepwise and probed == ["voltage"]:
                first = parameters.get("reset_offset", 1) - 1
                self.asked.append((self._file(name, "voltage", size), first, len(self.processes)))
            elif probed:
                process = PROBED[process]
                wide["record"] = {quantity: self._file(name, quantity, size) for quantity in probed}
                wide["before_reset"] = before_reset
            added = self._add(process(shape=(self.batch * size,), **wide))
            self._record(added, self._file(name, "spikes", size) if spiking else None)
        added.num_message_bits = 8 if parameters.get("max_spikes", 1) > 1 else 0
        return added

    def integrator(self, name, *, shape, span, weight_shift, first, lowest=None, **constants):
        """Add a population without leak, put together from stock processes.

        Three units a neuron get the same sum x, less an offset, and send it if above 0
        (see README.md)::

            integrator  max(x, 0)            kept by a connection to all three
            excess      max(x - span, 0)     taken off again: saturation
            spike       x > thresholds       taken for one spike by what reads it

        x of the next step is integrator - excess + input + biases - amounts where there was
        a spike. ``kick`` comes in step ``first``, ``biases`` from then on; a weight counts
        ``2**weight_shift`` times. A readout has ``lowest``, its least voltage, and ``held``,
        its voltages before step ``first``: what its units send is decoded into voltages.
        """
        size = int(np.prod(shape))
        values = {
            key: self._tiled(np.broadcast_to(value, (size,)), size).astype(np.int64)
            for key, value in constants.items()
        }
        number = self.batch * size
        self.shapes[name] = shape
        readout = lowest is not None
        kept = {"voltage"} if readout else set()
        if {quantity for population, quantity in self.probes if population == name} - kept:
            raise SystemExit(f"{name!r}: graded processes keep no such voltage or current")
        units = self._add(GradedReluVec(shape=(3 * number,), vth=0))
        units.num_message_bits, units.weight_shift, units.copies = 24, weight_shift, 3
        keep = sparse.eye(number, dtype=np.int64)
        none = sparse.csr_matrix((number, number), dtype=np.int64)
        self._fixed(units, units, sparse.bmat([[keep, -keep, none]] * 3), delay=1)
        units.num_message_bits = 0
        if not readout:
            reset = sparse.diags(-values["amounts"], dtype=np.int64)
            self._fixed(units, units, sparse.bmat([[none, none, reset]] * 3), delay=1)
        bias = values["biases"]
        offsets = np.concatenate([bias, bias - span, bias - values["thresholds"]])
        self._start(units, np.tile(values["kick"], 3) + offsets, first)
        self._always(units, offsets, first + 1)
        if readout:
            self.decoders[f"{name}/units"] = Decoder(
                lowest=lowest, step=128 >> weight_shift, first=first, held=values["held"]
            )
            self._record(units, self._file(name, "units", 3 * size), whole=True)
        else:
            self._record(units, self._file(name, "spikes", size), last=number)
        return units

    def _start(self, units, values, first):
        """Have the host send ``values`` so that they arrive in step ``first``, once."""
        columns = np.zeros((len(values), self.steps), np.int32)
        columns[:, first - 1 : first] = values[:, None]
        source = self._add(RingBuffer(data=columns))
        source.num_message_bits = 24
        if self.hardware:
            source = to_hardware(source, 24)
        self._fixed(source, units, sparse.eye(len(values), dtype=np.int64), delay=1)

    def _always(self, units, values, first):
        """Have ``values`` arrive in every step from ``first`` on, 2 or later.

        A LIF that always spikes carries their lower 14 bits, a message of 2**14 the others.
        """
        one = self._add(LIF(shape=(1,), vth=0, bias_mant=1))
        many = self._add(GradedReluVec(shape=(1,), vth=0))
        one.num_message_bits, many.num_message_bits = 0, 24
        self._fixed(one, many, np.array([[1 << 14]]), delay=1)
        sign, size = np.sign(values), np.abs(values)
        self._fixed(one, units, (sign * (size & ((1 << 14) - 1)))[:, None], delay=first)
        self._fixed(many, units, (sign * (size >> 14))[:, None], delay=first - 1)

    def _fixed(self, source, target, weights, delay):
        """Connect with whole numbers of any size: 8-bit weights of one sign each, added up."""
        weights = sparse.csr_matrix(weights)
        for sign, mode in ((1, SignMode.EXCITATORY), (-1, SignMode.INHIBITORY)):
            one_sign = weights.multiply(weights * sign > 0).astype(np.int64).tocsr() * sign
            for exponent, part in bytes_of(one_sign):
                options = {
                    "weight_exp": exponent, "num_weight_bits": 8, "sign_mode": mode,
                    "num_message_bits": source.num_message_bits,
                }  # fmt: skip
                self._link(source, target, spread(part * sign, delay, self.batch, options))

    def _link(self, source, target, link, into="a_in"):
        self._add(link)
        source.s_out.connect(link.s_in)
        link.a_out.connect(getattr(target, into))

    def _record(self, source, path, last=None, *, whole=False):
        """Write the spikes of ``source`` (of its ``last`` units) to ``path``, or ``whole`` messages.

        Without a path it is tied to the others.
        """
        recorder = self._add(Recorder(shape=source.s_out.shape, path=path, last=last, whole=whole))
        from_hardware(source, recorder) if self.hardware else source.s_out.connect(recorder.a_in)
        self.recording.append(recorder)

    def encoder(self, name, process, *, shape, message_bits=24, **parameters):
        """Add a population that sends integers: how something changed, or the sum of a Sigma.

        Messages are recorded as spikes; what a Sigma sends is its state, voltage and current.
        """
        if self.hardware:
            raise SystemExit("not on hardware: sigma-delta networks were tried on the CPU only")
        size = int(np.prod(shape))
        wide = {key: self._tiled(value, size) for key, value in parameters.items()}
        self.shapes[name] = shape
        probed = [q for q in ("voltage", "current") if (name, q) in self.probes]
        if process is Sigma:
            path = self._file(name, "voltage", size, np.int32)
            self.files[f"{name}/current"] = Path(path)
        else:
            path = self._file(name, "spikes", size, np.int32)
            if probed:
                process = PROBED[process]
                wide["record"] = {quantity: self._file(name, quantity, size) for quantity in probed}
        added = self._add(process(shape=(self.batch * size,), **wide))
        self._record(added, path, whole=True)
        added.num_message_bits = message_bits
        added.taken_as = shape
        return added

    def resonator(self, name, process, *, shape, vth, state_exp, sin_decay, cos_decay):
        """Add resonate-and-fire neurons; voltage and current are the real and imaginary part.

        Lava makes its factors of a period and a decay; here they are put in place of those.
        """
        if self.hardware:
            raise SystemExit("not on hardware: resonators were tried on the CPU only")
        size = int(np.prod(shape))
        self.shapes[name] = shape
        path = self._file(name, "spikes", size)
        probed = [q for q in ("voltage", "current") if (name, q) in self.probes]
        record = {quantity: self._file(name, quantity, size) for quantity in probed}
        if probed:
            added = PROBED[process](shape=(self.batch * size,), record=record, state_exp=state_exp)
        else:
            added = process(
                shape=(self.batch * size,), period=4, alpha=0, state_exp=state_exp, decay_bits=12
            )
        self._add(added)
        added.vth.init = vth
        added.sin_decay.init = np.int32(sin_decay)
        added.cos_decay.init = np.int32(cos_decay)
        self._record(added, path)
        added.num_message_bits = 0
        return added

    def enter(self, source, target):
        """Hand an input's values to ``target`` in the step in which they are sent."""
        source.s_out.connect(target.a_in)

    def convolve(self, source, target, *, kernel, stride, padding, dilation, groups):
        """Connect by a ``Conv``, which takes one step; samples side by side are groups of it.

        Axes are (x, y, channel) there, and (channel, y, x) in all that is recorded.
        """
        channels, height, width = source.taken_as
        link = Conv(
            weight=np.tile(kernel.astype(np.int32), (self.batch, 1, 1, 1)),
            input_shape=(width, height, self.batch * channels),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups * self.batch,
            num_message_bits=source.num_message_bits,
        )
        self._add(link)
        turned = source.s_out.reshape((self.batch * channels, height, width)).transpose([2, 1, 0])
        turned.connect(link.s_in)
        link.a_out.transpose([2, 1, 0]).flatten().connect(target.a_in)

    def connect(self, source, target, *, weights, delay, into="a_in", **options):
        """Connect so that what ``source`` sends in step n arrives in step ``n + delay``.

        ``delay`` is one number, or one for each weight.
        One sample at a time: ``Dense`` (which takes one step) or ``DelayDense``.
        Several samples: the same weights once per sample, on the diagonal of a
        ``Sparse`` or ``DelaySparse`` (one that sorts its weights by delay once).
        """
        options["num_message_bits"] = source.num_message_bits
        options["weight_exp"] += getattr(target, "weight_shift", 0)
        weights = weights.astype(np.int32)
        to, of = getattr(target, "copies", 1), getattr(source, "copies", 1)
        if self.batch == 1 and of == 1:
            delay = delay if np.ndim(delay) == 0 else np.tile(delay, (to, 1))
            self._link(source, target, dense(np.tile(weights, (to, 1)), delay, options), into)
            return
        blocks = sparse.block_diag([sparse.csr_matrix(weights)] * self.batch, format="csr")
        unread = sparse.csr_matrix((blocks.shape[0], (of - 1) * blocks.shape[1]), dtype=np.int32)
        blocks = sparse.vstack([sparse.hstack([unread, blocks])] * to, format="csr")
        if np.ndim(delay):
            delay = np.tile(delay[weights != 0], self.batch * to)  # as the blocks have them
        self._link(source, target, spread(blocks, delay, self.batch, options), into)

    def run(self):
        """Run all steps; return ``name/quantity`` -> ``[sample, step, *shape]``."""
        for one, other in zip(self.recording, self.recording[1:]):
            one.tie_out.connect(other.tie_in)
        first = self.recording[0]
        with watched(self.folder):
            first.create_runtime(run_cfg=run_configuration(self.hardware))
            try:
                self._run_all(first)
            except RuntimeError as error:
                raise RuntimeError(said_by(first.runtime) or str(error)) from None
        first.stop()
        return dict(self._recorded(key) for key in self.files)

    def _run_all(self, first):
        if not self.asked:
            first.run(condition=RunSteps(num_steps=self.steps))
            return
        files = [(np.load(path, mmap_mode="r+"), *others) for path, *others in self.asked]
        for step in range(self.steps):
            first.run(condition=RunSteps(num_steps=1))
            for rows, start, number in files:
                if step >= start:
                    rows[step] = self.processes[number].v.get()

    def _add(self, process):
        self.processes.append(process)
        return process

    def _tiled(self, value, size):
        if isinstance(value, np.ndarray):
            return np.tile(np.broadcast_to(value.reshape(-1), (size,)), self.batch)
        return value

    def _file(self, name, quantity, size, dtype=None):
        path = self.folder / f"{len(self.files)}-{quantity}.npy"
        self.files[f"{name}/{quantity}"] = path
        new_file(path, self.steps, self.batch * size, dtype or DTYPES[quantity])
        return str(path)

    def _recorded(self, key):
        rows = np.load(self.files[key], mmap_mode="r")
        name = key.rpartition("/")[0]
        if key in self.decoders:
            key, rows = f"{name}/voltage", self.decoders[key].voltages(rows)
        return key, np.moveaxis(rows.reshape(self.steps, self.batch, *self.shapes[name]), 0, 1)


class Decoder:
    """Computes the voltages of a readout from what its three units sent in each step.

    Integrator less excess is 2 * floor(v / step) from the lowest on, and 1 more between two
    multiples of ``step``: there a voltage is where it started, or the last saturation put it.
    """

    def __init__(self, *, lowest, step, first, held):
        self.lowest, self.step, self.first, self.held = lowest, step, first, held

    def voltages(self, rows):
        """Return the voltage of each row of messages, ``[step, 3 * n]``."""
        kept, excess, inside = np.split(rows.astype(np.int64), 3, axis=1)
        voltages = np.tile(self.held, (len(rows), 1))
        rest = self.held % self.step
        low = 2 * (self.lowest // self.step) + (self.lowest % self.step > 0)
        for number in range(self.first, len(rows)):
            rest = np.where(inside[number] == 0, self.lowest % self.step, rest)
            rest = np.where(excess[number] > 0, HIGHEST % self.step, rest)
            units = kept[number] - excess[number] + low
            voltages[number] = units // 2 * self.step + np.where(units % 2, rest, 0)
        return voltages


def dense(weights, delay, options):
    """Return the connection of one sample, as it is on the chip."""
    most = int(np.max(delay)) - 1
    if most == 0:
        return Dense(weights=weights, **options)
    # DelayDense(delays=0) takes the one step that Dense takes.
    delays = delay - 1 if np.ndim(delay) == 0 else np.asarray(delay - 1, int)
    return DelayDense(weights=weights, delays=delays, max_delay=most, **options)


def bytes_of(weights):
    """Yield exponents, 0 or 7, and weights of 8 bits that add up to ``weights``, 0 or more."""
    rest = weights.copy()
    exponent = 0
    while rest.nnz:
        part = rest.copy()
        part.data = rest.data & 127 if exponent == 0 else np.minimum(rest.data >> 7, 255)
        rest.data = rest.data - (part.data << exponent)
        for matrix in (part, rest):
            matrix.eliminate_zeros()
        if part.nnz:
            yield exponent, part
        exponent = 7


def spread(weights, delay, batch, options):
    """Return a connection that stores the weights that are not 0; of one sample, a stock one.

    ``delay`` is one number, or one for each of those weights, row by row.
    """
    blocks = sparse.csr_matrix(weights, dtype=np.int32)
    most = int(np.max(delay)) - 1
    if most == 0:
        return Sparse(weights=blocks, **options)
    # A number for all would fill the whole matrix: give one where a weight is.
    delays = blocks.astype(int)
    delays.data[:] = delay - 1
    process = DelaySparse if batch == 1 else SteadyDelaySparse
    return process(weights=blocks, delays=delays, max_delay=most, **options)


def run_configuration(hardware):
    """Return Lava's run configuration; without a tag it would silently choose floats."""
    if not hardware:
        return Loihi2SimCfg(select_tag="fixed_pt")
    from lava.magma.core.run_configs import Loihi2HwCfg

    return Loihi2HwCfg(select_tag="fixed_pt")


def to_hardware(source, num_message_bits):
    """Return what hands ``source`` to the chip (Intel's extension; not tried by spikec)."""
    from lava.proc.embedded_io.spike import PyToNxAdapter

    adapter = PyToNxAdapter(shape=source.s_out.shape, num_message_bits=num_message_bits)
    source.s_out.connect(adapter.inp)
    adapter.s_out = adapter.out
    adapter.num_message_bits = num_message_bits
    return adapter


def from_hardware(population, recorder):
    """Hand spikes from the chip to ``recorder`` (Intel's extension; not tried by spikec)."""
    from lava.proc.embedded_io.spike import NxToPyAdapter

    adapter = NxToPyAdapter(shape=population.s_out.shape)
    population.s_out.connect(adapter.inp)
    adapter.out.connect(recorder.a_in)


@contextmanager
def watched(folder):
    """End everything when a process of the network fails: Lava would wait for it for ever."""
    finished = threading.Event()
    thread = threading.Thread(target=_watch, args=(finished, folder), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _watch(finished, folder):
    children = set()
    while not finished.wait(0.2):
        children |= set(multiprocessing.active_children())
        dead = [child for child in children if not alive(child)]
        if dead and not finished.is_set():
            shutil.rmtree(folder, ignore_errors=True)
            end(_reason(dead), children)


def alive(child):
    """Say whether ``child`` runs, or ended and was collected by Lava itself."""
    try:
        return child.is_alive()
    except ValueError:
        return True


def said_by(runtime):
    """Return what the processes of ``runtime`` died of; Lava says only how many did."""
    actors = runtime._messaging_infrastructure.actors
    return "\n".join(actor.exception[1] for actor in actors if actor.exception)


def _reason(dead):
    for child in dead:
        if getattr(child, "exception", None):
            return child.exception[1]
    return f"a process of the network ended with code {dead[0].exitcode}"


def end(message, children):
    """Print ``message``, stop ``children`` and leave; other threads may be stuck."""
    print(message, file=sys.stderr, flush=True)
    for child in children:
        try:
            child.terminate()
        except ValueError:
            continue  # Lava has collected it
    os._exit(1)


def main(build, *, folder, inputs, exact, extra_steps):
    """Parse the command line and run; ``build`` adds the network to a :class:`Network`.

    ``exact`` names the populations that Lava has no process for, ``extra_steps``
    are the silent steps until the last output has come out.
    """
    arguments = command_line(extra_steps)
    if arguments.hardware:
        refuse_hardware(arguments, exact)
    held = dict(np.load(arguments.input))
    if len(inputs) == 1 and "spikes" in held:  # as in spikec's own data files
        held.setdefault(next(iter(inputs)), held["spikes"])
    data = {name: values for name, values in held.items() if name in inputs}
    missing = sorted(set(inputs) - set(data))
    if missing:
        raise SystemExit(
            f"{arguments.input} holds {', '.join(sorted(held))} and no array for input "
            f"{', '.join(missing)}"
        )
    parameters = dict(np.load(Path(folder) / "parameters.npz").items())
    try:
        parts = list(run_batches(build, parameters, data, arguments))
    except SystemExit as refusal:
        end(str(refusal), multiprocessing.active_children())
    except BaseException:
        end(traceback.format_exc(), multiprocessing.active_children())
    traces = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    with open(arguments.output, "wb") as file:
        np.savez(file, **traces)


def run_batches(build, parameters, data, arguments):
    """Yield the trace of one batch after the other."""
    samples = len(next(iter(data.values())))
    batch = arguments.batch or samples
    given = next(iter(data.values())).shape[1]
    steps = arguments.steps or given + arguments.extra_steps
    for start in range(0, samples, batch):
        chosen = {name: values[start : start + batch] for name, values in data.items()}
        with tempfile.TemporaryDirectory(prefix="spikec-lava-") as folder:
            network = Network(
                parameters=parameters,
                data=chosen,
                steps=steps,
                probes=[tuple(probe.rsplit(":", 1)) for probe in arguments.probe],
                folder=folder,
                hardware=arguments.hardware,
                stepwise=arguments.stepwise,
            )
            build(network)
            yield {key: np.array(values) for key, values in network.run().items()}
        print(f"samples {min(start + batch, samples)}/{samples}", flush=True)


def refuse_hardware(arguments, exact):
    """Stop before a hardware run that would not mean what this network means."""
    if exact:
        raise SystemExit(
            "not on hardware: these populations are no stock LIF, and the chip's LIF would run "
            f"them with another reset: {', '.join(exact)}"
        )
    if arguments.probe:
        raise SystemExit("not on hardware: --probe records with a process of the CPU")
    if arguments.batch not in (None, 1):
        raise SystemExit("not on hardware: one sample at a time, --batch 1")
    arguments.batch = 1


def command_line(extra_steps):
    """Return the parsed arguments of network.py."""
    parser = argparse.ArgumentParser(description="Run this network on lava-nc.")
    parser.add_argument("--input", required=True, help=".npz, one integer array per input")
    parser.add_argument("--output", required=True, help=".npz to write")
    parser.add_argument("--batch", type=int, help="samples side by side (all)")
    parser.add_argument("--steps", type=int, help=f"steps to run (those given + {extra_steps})")
    parser.add_argument(
        "--probe", action="append", default=[], metavar="NAME:QUANTITY",
        help="also record a population's voltage or current; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--stepwise", action="store_true",
        help="stop after every step and ask stock readouts for their voltage, as on hardware",
    )  # fmt: skip
    parser.add_argument("--hardware", action="store_true", help="Loihi 2 (Intel's extension)")
    arguments = parser.parse_args()
    arguments.extra_steps = extra_steps
    if arguments.batch is not None and arguments.batch < 1:
        parser.error("--batch must be 1 or more")
    return arguments
