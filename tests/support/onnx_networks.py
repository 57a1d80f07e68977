"""Random spiking networks as ONNX files, written in each framework's own equations.

A network is one step with explicit states; it may be wrapped in a Scan or a Loop.
Its truth is onnx's reference evaluator, run step by step. Half of the networks
have only dyadic numbers: float32 then rounds nothing, so that thresholds are
met exactly and ``>`` and ``>=`` differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from spikec.compiler.arrays import Array, Shape, size

__all__ = ["NEURONS", "Network", "Truth", "random_network"]


class BatchNormalization(OpRun):
    """The inference form: onnx's own evaluator trains before opset 14."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **given: Any
    ) -> tuple[Array]:
        column = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, var = (item.reshape(column) for item in (scale, bias, mean, var))
        return (scale * (x - mean) / np.sqrt(var + np.float32(given["epsilon"])) + bias,)


@dataclass
class State:
    """A carried value: its input, its output, what it starts from."""

    before: str
    shape: Shape
    initial: float = 0.0
    after: str = ""
    lowest: float = -np.inf


#: A voltage's name, its threshold, and whether multiples of it are thresholds too.
Threshold = tuple[str, Array, bool]


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """What the file itself computes: each output over time, and how close it was to a threshold."""

    outputs: Mapping[str, Array]
    margins: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A generated file with its explicit step; ``spiking`` lists its spike outputs in order."""

    model: onnx.ModelProto
    step: onnx.ModelProto
    states: tuple[State, ...]
    thresholds: tuple[Threshold, ...]
    shape: Shape
    spiking: tuple[str, ...]
    readout: str | None
    exact: bool
    title: str

    def inputs(self, rng: np.random.Generator, steps: int) -> Array:
        """Return random input spikes, ``[step, 1, *shape]``."""
        density = rng.uniform(0.2, 0.6)
        return (rng.random((steps, 1, *self.shape)) < density).astype(np.float32)

    def run(self, spikes: Array) -> Truth:
        """Run the step in onnx's reference evaluator, carrying the states."""
        shown = onnx.ModelProto()
        shown.CopyFrom(self.step)
        named = {entry.name for entry in shown.graph.output}
        for name, _, _ in self.thresholds:
            if name not in named:
                shown.graph.output.append(onnx.ValueInfoProto(name=name))
                named.add(name)
        evaluator = ReferenceEvaluator(shown, new_ops=[BatchNormalization])
        wanted = [entry.name for entry in shown.graph.output]
        states = {
            state.before: np.full((1, *state.shape), state.initial, np.float32)
            for state in self.states
        }
        rows: list[dict[str, Array]] = []
        for row in spikes:
            found = evaluator.run(wanted, {"x": row, **states})
            rows.append(dict(zip(wanted, map(np.asarray, found), strict=True)))
            states = {state.before: rows[-1][state.after] for state in self.states}
        outputs = [*self.spiking, *([self.readout] if self.readout else [])]
        return Truth(
            outputs={name: np.stack([row[name] for row in rows]) for name in outputs},
            margins=np.array([self._margin(row) for row in rows]),
        )

    def _margin(self, row: Mapping[str, Array]) -> float:
        """Return the least distance of any membrane to its threshold, relative to it."""
        nearest = []
        for name, theta, several in self.thresholds:
            passed = np.maximum(np.round(row[name] / theta), 1) if several else 1
            distance = np.abs(row[name] - theta * passed)
            nearest.append(distance / np.maximum(np.abs(theta), 1e-30))
        return min((float(item.min()) for item in nearest), default=np.inf)


@dataclass
class Builder:
    """Collects the nodes of one step."""

    rng: np.random.Generator
    exact: bool
    version: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    thresholds: list[Threshold] = field(default_factory=list)
    count: int = 0

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def fresh(self, stem: str = "t") -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = self.fresh(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def axis(self, kind: str, name: str, axis: int) -> str:
        """Add or drop an axis of length one: named by an attribute before opset 13."""
        if self.version < 13:
            return self.op(kind, name, axes=[axis])
        return self.op(kind, name, self.const([axis], np.int64))

    def const(self, values: Any, dtype: type = np.float32) -> str:
        array = np.asarray(values, dtype)
        name = self.fresh("c")
        if self.chance(0.7):
            self.constants.append(numpy_helper.from_array(array, name))
        else:
            tensor = numpy_helper.from_array(array)
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def state(self, shape: Shape, hint: str) -> State:
        self.states.append(State(f"l{len(self.states)}_{hint}", shape))
        return self.states[-1]

    # --- numbers ---

    def decay(self, shape: Shape) -> Array:
        """Return decays in (0, 1), sometimes one per neuron."""
        options = np.array([0.5, 0.75]) if self.exact else self.rng.uniform(0.3, 0.97, 7)
        return self.spread(options, shape)

    def half(self, shape: Shape) -> Array:
        """Return gains and decays whose inverse is as short as they are."""
        options = np.array([0.5, 0.25]) if self.exact else self.rng.uniform(0.1, 0.9, 7)
        return self.spread(options, shape)

    def threshold(self, shape: Shape) -> Array:
        options = np.array([0.5, 0.75, 1.0]) if self.exact else self.rng.uniform(0.4, 1.3, 7)
        return self.spread(options, shape)

    def spread(self, options: Array, shape: Shape) -> Array:
        if not shape or self.chance(0.6):
            return np.float32(self.pick(options))
        # One per neuron of a vector, one per channel of a map.
        wanted = shape if len(shape) == 1 else (shape[0], *(1,) * (len(shape) - 1))
        return self.rng.choice(options, wanted).astype(np.float32)

    def offset(self) -> Array:
        """Return a resting or reset voltage other than zero, half of the time."""
        if self.chance():
            return np.float32(0)
        value = self.rng.uniform(-0.4, 0.3)
        return np.float32(np.round(value * 8) / 8 if self.exact else value)

    def weights(self, shape: Shape, fan_in: int, scale: float = 1.0) -> Array:
        values = self.rng.normal(0.25, 1.0, shape) * scale * 1.3 / np.sqrt(0.35 * fan_in)
        return (np.round(values * 8) / 8 if self.exact else values).astype(np.float32)

    # --- a threshold ---

    def fires(self, voltage: str, theta: Array, *, strict: bool) -> tuple[str, str]:
        """Return spikes as floats and as booleans, in one of many spellings."""
        self.thresholds.append((voltage, theta, False))
        return self.compared(voltage, theta, strict=strict)

    def compared(self, voltage: str, theta: Array, *, strict: bool) -> tuple[str, str]:
        level = self.const(theta)
        if self.chance():
            voltage, level = self.op("Sub", voltage, level), self.const(0.0)
        more, less = ("Greater", "LessOrEqual") if strict else ("GreaterOrEqual", "Less")
        turned = "Less" if strict else "LessOrEqual"
        spelling = self.rng.integers(4)
        if self.version < 12:  # which has neither of the two that include equality
            above = self.op("Greater" if strict else "Less", voltage, level)
            above = above if strict else self.op("Not", above)
        elif spelling == 0:
            above = self.op("Not", self.op(less, voltage, level))
        elif spelling == 1:
            above = self.op(turned, level, voltage)
        else:
            above = self.op(more, voltage, level)
        if self.chance(0.3):
            return self.op("Where", above, self.const(1.0), self.const(0.0)), above
        return self.op("Cast", above, to=TensorProto.FLOAT), above


#: A value's name and its shape.
Shaped = tuple[str, Shape]
Neuron = Callable[[Builder, str, Shape], str]


def clamped(b: Builder, value: Array, past: float = 0.0) -> str:
    """A decay as one exporter leaves it: clamped at run time, and ``past`` one at times."""
    if b.chance():
        return b.const(value)
    name = b.const(value + (past if b.chance(0.2) else 0.0))
    return b.op("Clip", name, b.const(0.0), b.const(1.0))


def recurrent(b: Builder, spikes: str, shape: Shape, scale: float = 0.5) -> str:
    """All to all, every place to itself through a kernel of one, or each neuron to itself."""
    if len(shape) > 1 and b.chance(0.7):
        kernel = b.weights((shape[0], shape[0], *(1,) * (len(shape) - 1)), shape[0], scale)
        return b.op("Conv", spikes, b.const(kernel))
    if len(shape) == 1 and b.chance(0.7):
        weight = b.weights((shape[0], shape[0]), shape[0], scale)
        if b.chance():
            bias = b.const(b.weights(shape, 16, 0.2))
            return b.op("Gemm", spikes, b.const(weight), bias, transB=1)
        return b.op("MatMul", spikes, b.const(weight.T))
    return b.op("Mul", spikes, b.const(b.weights(shape if len(shape) == 1 else (), 4, scale)))


def snntorch(b: Builder, x: str, shape: Shape, *, synaptic: bool, feedback: bool) -> str:
    """Leaky, Synaptic, RLeaky, RSynaptic; reset by subtraction, to zero, or none."""
    reset, theta = b.pick(["subtract", "zero", "none"]), b.threshold(shape)
    beta = clamped(b, b.decay(shape), past=0.5)
    current = b.state(shape, "syn") if synaptic else None
    mem = b.state(shape, "mem")
    if feedback:
        spk = b.state(shape, "spk")
        x = b.op("Add", x, recurrent(b, spk.before, shape))
    r, _ = b.fires(mem.before, theta, strict=True)
    drive = x
    if current is not None:
        alpha = clamped(b, b.decay(shape))
        drive = current.after = b.op("Add", b.op("Mul", alpha, current.before), x)
    if reset == "zero" and not synaptic and not feedback:
        kept = b.op("Mul", b.op("Sub", b.const(1.0), r), mem.before)
        mem.after = b.op("Add", b.op("Mul", beta, kept), drive)
    else:
        whole = b.op("Add", b.op("Mul", beta, mem.before), drive)
        if reset == "subtract":
            whole = b.op("Sub", whole, b.op("Mul", r, b.const(theta)))
        elif reset == "zero":
            again = b.op("Add", b.op("Mul", beta, mem.before), drive)
            whole = b.op("Sub", whole, b.op("Mul", r, again))
        mem.after = whole
    spikes, _ = b.fires(mem.after, theta, strict=True)
    if b.chance(0.3):
        spikes = b.op("Mul", spikes, b.const(1.0))
    if feedback:
        spk.after = b.op("Identity", spikes)
    return spikes


def snntorch_at_once(b: Builder, x: str, shape: Shape) -> str:
    """Leaky, Synaptic, RLeaky with ``reset_delay=False``: subtraction at the spike, and before it.

    A voltage left above threshold is lowered before it is compared; one that then spikes
    is not lowered again, one that does not gets it back.
    """
    theta, beta, drive = b.threshold(shape), clamped(b, b.decay(shape)), x
    current = b.state(shape, "syn") if b.chance() else None
    mem = b.state(shape, "mem")
    spk = b.state(shape, "spk") if current is None and b.chance() else None
    if spk is not None:
        drive = b.op("Add", x, recurrent(b, spk.before, shape))
    if current is not None:
        kept = b.op("Mul", clamped(b, b.decay(shape)), current.before)
        drive = current.after = b.op("Add", kept, x)
    left, _ = b.fires(mem.before, theta, strict=True)
    whole = b.op("Add", b.op("Mul", beta, mem.before), drive)
    lowered = b.op("Sub", whole, b.op("Mul", left, b.const(theta)))
    spikes, _ = b.fires(lowered, theta, strict=True)
    again = b.op("Sub", spikes, left)
    mem.after = b.op("Sub", lowered, b.op("Mul", again, b.const(theta)))
    if spk is not None:
        spk.after = b.op("Identity", spikes)
    return spikes


def norse(b: Builder, x: str, shape: Shape, *, feedback: bool) -> str:
    """LIF and LIFRecurrent: forward Euler, hard reset at once."""
    theta, reset, leak = b.threshold(shape), b.offset(), b.offset()
    gain = np.float32(b.pick([0.5, 0.25] if b.exact else [0.1, 0.35, 0.5]))
    slow = np.float32(0.5 if b.exact else b.pick([0.2, 0.45]))
    x = b.op("Mul", x, b.const(np.float32(2.0)))
    v, i = b.state(shape, "v"), b.state(shape, "i")
    jump = b.op("Add", i.before, x)
    if feedback:
        z = b.state(shape, "z")
        jump = b.op("Add", jump, recurrent(b, z.before, shape))
    pull = b.op("Sub", b.const(leak), v.before)
    step = b.op("Mul", b.const(gain), b.op("Add", pull, jump))
    u = b.op("Add", v.before, step)
    i.after = b.op("Add", jump, b.op("Mul", b.const(-slow), jump))
    spikes, _ = b.fires(u, theta, strict=True)
    rest = b.op("Mul", b.op("Sub", b.const(1.0), spikes), u)
    v.after = b.op("Add", rest, b.op("Mul", spikes, b.const(reset)))
    if feedback:
        z.after = b.op("Identity", spikes)
    return spikes


def norse_box(b: Builder, x: str, shape: Shape) -> str:
    """LIFBox: no current; reset to a value or by subtraction."""
    theta, reset, leak = b.threshold(shape), b.offset(), b.offset()
    gain = np.float32(0.5 if b.exact else b.rng.uniform(0.2, 0.7))
    v = b.state(shape, "v")
    x = b.op("Mul", x, b.const(np.float32(2.0)))
    pull = b.op("Sub", b.op("Add", x, b.const(leak)), v.before)
    u = b.op("Add", v.before, b.op("Mul", b.const(gain), pull))
    spikes, above = b.fires(u, theta, strict=True)
    if b.chance():
        v.after = b.op("Sub", u, b.op("Mul", spikes, b.const(theta - reset)))
    elif b.chance():
        v.after = b.op("Where", above, b.const(reset), u)
    else:
        rest = b.op("Mul", b.op("Sub", b.const(1.0), spikes), u)
        v.after = b.op("Add", rest, b.op("Mul", spikes, b.const(reset)))
    return spikes


def spikingjelly(b: Builder, x: str, shape: Shape, *, kind: str) -> str:
    """IF, LIF, PLIF; hard and soft reset, input decayed or not."""
    theta = np.float32(b.threshold(()))
    hard = b.chance(0.6)
    reset = b.offset() if hard else np.float32(0)
    v = b.state(shape, "v")
    if kind == "IF":
        u = b.op("Add", v.before, x)
    else:
        tau = np.float32(b.pick([2.0, 4.0]) if b.exact else b.rng.uniform(1.3, 4.0))
        from_rest = v.before
        if reset:
            from_rest = b.op("Sub", v.before, b.const(reset))
        over = _divided_by_tau(b, tau, learned=kind == "PLIF")
        if b.chance():
            x = b.op("Mul", x, b.const(np.float32(2.0)))
            u = b.op("Add", v.before, over(b.op("Sub", x, from_rest)))
        else:
            u = b.op("Add", b.op("Sub", v.before, over(from_rest)), x)
    spikes, above = b.fires(u, theta, strict=False)
    if not hard:
        amount = spikes if theta == 1 else b.op("Mul", spikes, b.const(theta))
        v.after = b.op("Sub", u, amount)
    elif b.chance(0.3):
        v.after = b.op("Where", above, b.const(reset), u)
    else:
        put = b.op("Mul", spikes, b.const(reset))
        v.after = b.op("Add", put, b.op("Mul", b.op("Sub", b.const(1.0), spikes), u))
    return spikes


def _divided_by_tau(b: Builder, tau: Array, *, learned: bool) -> Callable[[str], str]:
    if not learned:
        return lambda value: b.op("Div", value, b.const(tau))
    # The exporter leaves the sigmoid of the learned weight.
    learnt = b.const(np.float32(1) / tau) if b.exact else b.op("Sigmoid", b.const(-np.log(tau - 1)))
    return lambda value: b.op("Mul", value, learnt)


def counted(b: Builder, voltage: str, theta: Array, *, limit: int | None) -> str:
    """How many thresholds a voltage holds, as either exporter writes it for sinabs or rockpool."""
    b.thresholds.append((voltage, theta, True))
    share = b.op("Div", voltage, b.const(theta))
    spelling = b.rng.integers(4)
    if spelling == 0:
        sign = b.op("Sign", share)
        count = b.op("Mul", b.op("Floor", b.op("Abs", share)), sign)
        above = b.compared(voltage, np.float32(0), strict=True)[0]
        count = b.op("Mul", above, count)
    elif spelling == 1:
        whole = b.op("Cast", share, to=b.pick([TensorProto.INT64, TensorProto.INT32]))
        above = b.compared(voltage, np.float32(0), strict=True)[0]
        count = b.op("Mul", b.op("Cast", whole, to=TensorProto.FLOAT), above)
    elif spelling == 2:
        above = b.compared(voltage, theta, strict=False)[0]
        count = b.op("Mul", above, b.op("Floor", share))
    else:
        count = b.op("Relu", b.op("Floor", share))
    return count if limit is None else limited(b, count, np.float32(limit))


def limited(b: Builder, count: str, limit: Array) -> str:
    spelling = b.rng.integers(3)
    if spelling == 0:
        return b.op("Clip", count, "", b.const(limit))
    if spelling == 1:
        return b.op("Min", count, b.const(limit))
    more = b.op("Cast", b.op("Greater", count, b.const(limit)), to=TensorProto.FLOAT)
    return b.op("Sub", count, b.op("Mul", b.op("Sub", count, b.const(limit)), more))


def _lowest(b: Builder) -> Array:
    return np.float32(b.pick([-0.5, -0.25, 0.0, -1.0]) if b.exact else -b.rng.uniform(0.1, 0.9))


def held(b: Builder, state: State, voltage: str) -> str:
    """A lowest voltage, half of the time."""
    if b.chance():
        return voltage
    level = _lowest(b)
    state.lowest = float(level)
    spelling = b.rng.integers(4)
    if spelling == 0:
        raised = b.op("Relu", b.op("Sub", voltage, b.const(level)))
        return b.op("Add", raised, b.const(level))
    if spelling == 1:
        return b.op("Max", voltage, b.const(level))
    if spelling == 2:
        return b.op("Clip", voltage, b.const(level))
    above = b.op("Greater", voltage, b.const(level))
    return b.op("Where", above, voltage, b.const(level))


def sinabs_several(b: Builder, x: str, shape: Shape, *, leaky: bool) -> str:
    """LIF and IAF with MultiSpike or MaxSpike."""
    theta = np.float32(b.threshold(()))
    x, beta = _synapse_first(b, x, shape, leaky=leaky)
    v = b.state(shape, "v_mem")
    kept = b.op("Mul", b.const(beta), v.before) if leaky else v.before
    u = b.op("Add", kept, x)
    spikes = counted(b, u, theta, limit=b.pick([None, None, 2, 3]))
    v.after = held(b, v, b.op("Sub", u, b.op("Mul", spikes, b.const(theta))))
    return spikes


def sinabs(b: Builder, x: str, shape: Shape, *, leaky: bool) -> str:
    """LIF with or without synapse, and IAF; single spikes, subtraction at once."""
    theta = np.float32(b.threshold(()))
    x, beta = _synapse_first(b, x, shape, leaky=leaky)
    v = b.state(shape, "v_mem")
    kept = b.op("Mul", b.const(beta), v.before) if leaky else v.before
    u = b.op("Add", kept, x)
    spikes, _ = b.fires(u, theta, strict=False)
    v.after = held(b, v, b.op("Sub", u, b.op("Mul", spikes, b.const(theta))))
    return spikes


def _synapse_first(b: Builder, x: str, shape: Shape, *, leaky: bool) -> tuple[str, Array]:
    beta = b.decay(shape)
    if leaky and b.chance():
        alpha = np.float32(0.5 if b.exact else b.rng.uniform(0.4, 0.9))
        current = b.state(shape, "i_syn")
        x = current.after = b.op("Mul", b.const(alpha), b.op("Add", current.before, x))
    if leaky and b.chance():
        x = b.op("Mul", b.const(np.float32(1) - beta), x)
        x = b.op("Mul", x, b.const(np.float32(2))) if b.chance() else x
    return x, beta


def rockpool(b: Builder, x: str, shape: Shape, *, several: bool) -> str:
    """LIFTorch: synapse and membrane decay, then the bias; limited to one spike a step or not."""
    theta, v, i = b.threshold(shape), b.state(shape, "vmem"), b.state(shape, "isyn")
    collected, limit = b.op("Add", i.before, x), 1 << 16
    if b.chance():
        limit = 3  # feedback of several spikes may have no end
        spk = b.state(shape, "spikes")
        collected = b.op("Add", collected, recurrent(b, spk.before, shape))
    alpha = b.half(()) if b.exact else b.decay(shape)
    i.after = b.op("Mul", collected, b.const(alpha if not b.exact else np.float32(0.5)))
    u = b.op("Add", b.op("Mul", v.before, b.const(b.decay(shape))), i.after)
    u = b.op("Add", u, b.const(b.offset() * np.float32(0.5)))
    if several:
        spikes = counted(b, u, theta, limit=limit)
    else:
        spikes, _ = b.fires(u, theta, strict=False)
    v.after = b.op("Sub", u, b.op("Mul", spikes, b.const(theta)))
    if b.states[-1] is not i:
        b.states[-1].after = b.op("Identity", spikes)
    return spikes


def seed(b: Builder, x: str, shape: Shape) -> str:
    """The equations of Neftci, Mostafa and Zenke: the current of the last step, spikes of U."""
    theta = b.threshold(shape)
    i, u = b.state(shape, "I"), b.state(shape, "U")
    spikes, _ = b.fires(u.before, theta, strict=True)
    fed = b.op("Add", b.op("Mul", b.const(b.decay(shape)), i.before), x)
    i.after = b.op("Add", fed, recurrent(b, spikes, shape)) if b.chance() else fed
    kept = b.op("Add", b.op("Mul", b.const(b.decay(shape)), u.before), i.before)
    if b.chance(0.3):
        kept = b.op("Add", kept, b.const(b.offset() * np.float32(0.5)))
    u.after = b.op("Sub", kept, b.op("Mul", spikes, b.const(theta)))
    return spikes


def cuba(b: Builder, x: str, shape: Shape) -> str:
    """lava-dl's CUBA in float: the current of this step, reset to zero at once."""
    theta, i, u = b.threshold(shape), b.state(shape, "current"), b.state(shape, "voltage")
    i.after = b.op("Add", b.op("Mul", i.before, b.const(b.decay(shape))), x)
    whole = b.op("Add", b.op("Mul", u.before, b.const(b.decay(shape))), i.after)
    spikes, above = b.fires(whole, theta, strict=b.chance())
    if b.chance():
        u.after = b.op("Where", above, b.const(0.0), whole)
    else:
        u.after = b.op("Mul", whole, b.op("Sub", b.const(1.0), spikes))
    return spikes


def kinds() -> dict[str, Neuron]:
    found: dict[str, Neuron] = {"norse LIFBox": norse_box, "snntorch at once": snntorch_at_once}
    for name, several in (("LIF", False), ("LIF several", True)):
        found[f"rockpool {name}"] = lambda b, x, shape, k=several: rockpool(b, x, shape, several=k)
    for name, synaptic, feedback in (
        ("Leaky", False, False),
        ("Synaptic", True, False),
        ("RLeaky", False, True),
        ("RSynaptic", True, True),
    ):
        found[f"snntorch {name}"] = lambda b, x, shape, s=synaptic, f=feedback: snntorch(
            b, x, shape, synaptic=s, feedback=f
        )
    for name, feedback in (("LIF", False), ("LIFRecurrent", True)):
        found[f"norse {name}"] = lambda b, x, shape, f=feedback: norse(b, x, shape, feedback=f)
    for name in ("IF", "LIF", "PLIF"):
        found[f"spikingjelly {name}"] = lambda b, x, shape, k=name: spikingjelly(
            b, x, shape, kind=k
        )
    for name, leaky in (("LIF", True), ("IAF", False)):
        found[f"sinabs {name}"] = lambda b, x, shape, k=leaky: sinabs(b, x, shape, leaky=k)
        found[f"sinabs {name} several"] = lambda b, x, shape, k=leaky: sinabs_several(
            b, x, shape, leaky=k
        )
    found["seed"], found["lava-dl CUBA"] = seed, cuba
    return found


#: Each neuron by framework and name.
NEURONS = kinds()


def readout(b: Builder, x: str, shape: Shape) -> str:
    """Norse's LI: an integrator that never spikes."""
    v, i = b.state(shape, "v"), b.state(shape, "i")
    jump = b.op("Add", i.before, x)
    gain, slow = (np.float32(0.5), np.float32(0.5)) if b.exact else (b.half(()), b.half(()))
    step = b.op("Mul", b.const(gain), b.op("Add", b.op("Neg", v.before), jump))
    v.after = b.op("Add", v.before, step)
    i.after = b.op("Sub", jump, b.op("Mul", b.const(slow), jump))
    return b.op("Identity", v.after)


# --- layers between populations ---------------------------------------------------


def dense(b: Builder, x: str, shape: Shape, wanted: int | None = None) -> tuple[str, Shape]:
    if len(shape) > 1:
        if b.chance():
            x = b.op("Flatten", x, axis=1)
        else:
            x = b.op("Reshape", x, b.const(b.pick([[0, -1], [-1, size(shape)]]), np.int64))
    fan_in, out = size(shape), wanted or int(b.rng.integers(3, 9))
    weight, bias = b.weights((out, fan_in), fan_in), b.weights((out,), 16, 0.4)
    if b.chance():
        y = b.op("MatMul", x, b.const(weight.T))
        y = b.op("Add", y, b.const(bias)) if b.chance() else y
    elif b.chance():
        given = [b.const(bias)] if b.chance(0.7) else []
        y = b.op("Gemm", x, b.const(weight), *given, transB=1)
    else:
        y = b.op("Gemm", x, b.const(2 * weight.T), b.const(2 * bias), alpha=0.5, beta=0.5)
    return (normalised(b, y, out) if b.chance(0.25) else y), (out,)


def convolution(b: Builder, x: str, shape: Shape) -> tuple[str, Shape]:
    """One or two dimensions, with stride, uneven padding, dilation and groups."""
    rank = len(shape) - 1
    groups = b.pick([1, shape[0]]) if shape[0] > 1 else 1
    out = groups * int(b.rng.integers(1, 4))
    kernel = [int(b.rng.integers(1, 4)) for _ in range(rank)]
    stride = [int(b.rng.integers(1, 3)) for _ in range(rank)]
    dilation = [int(b.rng.integers(1, 3)) for _ in range(rank)]
    given: dict[str, Any] = {"strides": stride, "group": groups}
    mode = b.rng.integers(3)
    if mode == 0:
        pads = [int(b.rng.integers(0, 2)) for _ in range(rank)] * 2
        given |= {"pads": pads, "dilations": dilation}
    elif mode == 1:
        given["pads"] = [int(b.rng.integers(0, 3)) for _ in range(2 * rank)]
    else:
        given["auto_pad"] = b.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    spans = [(k - 1) * d for k, d in zip(kernel, given.get("dilations", [1, 1]), strict=False)]
    if any(span >= n for span, n in zip(spans, shape[1:], strict=True)):
        kernel = [1] * rank
    fan_in = shape[0] // groups * int(np.prod(kernel))
    weight = b.weights((out, shape[0] // groups, *kernel), fan_in)
    bias = [b.const(b.weights((out,), 16, 0.4))] if b.chance() else []
    y = b.op("Conv", x, b.const(weight), *bias, kernel_shape=kernel, **given)
    y = normalised(b, y, out) if b.chance(0.3) else y
    return y, shape_of(b, y, x, shape)


def pooled(b: Builder, x: str, shape: Shape) -> tuple[str, Shape]:
    rank = len(shape) - 1
    if min(shape[1:]) < 2:
        return x, shape
    if b.chance(0.15):
        y = b.op("GlobalAveragePool", x)
    else:
        pads = [b.pick([0, 1])] * (2 * rank)
        y = b.op(
            "AveragePool",
            x,
            kernel_shape=[2] * rank,
            strides=[b.pick([1, 2])] * rank,
            pads=pads,
            count_include_pad=1 if b.exact else b.pick([0, 1]),
        )
    if b.chance(0.3):
        y = b.op("Mul", y, b.const(np.float32(4.0)))  # a sum instead of a mean
    return y, shape_of(b, y, x, shape)


def normalised(b: Builder, x: str, channels: int) -> str:
    if b.exact:
        return x
    drawn = [b.rng.uniform(0.5, 1.5, channels), b.rng.normal(0, 0.2, channels)]
    drawn += [b.rng.normal(0, 0.2, channels), b.rng.uniform(0.5, 1.5, channels)]
    return b.op("BatchNormalization", x, *map(b.const, drawn), epsilon=1e-5)


def rearranged(b: Builder, x: str, shape: Shape) -> tuple[str, Shape]:
    """Move axes, take a detour over size-1 axes, or pass through what does nothing."""
    kind = b.rng.integers(6)
    if kind == 0 and len(shape) == 3:
        order = [int(n) for n in b.rng.permutation(3)]
        y = b.op("Transpose", x, perm=[0, *(n + 1 for n in order)])
        return y, tuple(shape[n] for n in order)
    if kind == 1:
        return b.axis("Squeeze", b.axis("Unsqueeze", x, 1), 1), shape
    if kind == 2 and len(shape) == 1:
        y = b.axis("Unsqueeze", x, 2)
        y = b.op("Transpose", y, perm=[0, 2, 1])
        return b.op("Reshape", y, b.const([-1, shape[0]], np.int64)), shape
    if kind == 3:
        y = b.op("Mul", x, b.const(np.float32(0.5)))
        return b.op("Div", y, b.const(np.float32(0.25))), shape
    if kind == 4:
        return b.op("Dropout", x), shape
    return b.op("Identity", x), shape


def shape_of(b: Builder, name: str, source: str, shape: Shape) -> Shape:
    """Return the shape of ``name`` by running what lies between it and ``source`` on zeros."""
    known, nodes = {source, *(tensor.name for tensor in b.constants)}, []
    for node in b.nodes:
        if known.issuperset(node.input) and source not in node.output:
            nodes.append(node)
            known.update(node.output)
    graph = helper.make_graph(nodes, "piece", [_value(source, None)], [_value(name, None)])
    graph.initializer.extend(b.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.version)])
    result = ReferenceEvaluator(model).run(None, {source: np.zeros((1, *shape), np.float32)})
    return tuple(int(n) for n in result[0].shape[1:])


def connected(b: Builder, x: str, shape: Shape) -> tuple[str, Shape]:
    """Return what a layer's neurons are driven by."""
    if b.chance(0.3):
        x, shape = rearranged(b, x, shape)
    if len(shape) > 1 and b.chance(0.7):
        x, shape = convolution(b, x, shape)
        if b.chance(0.3):
            x, shape = pooled(b, x, shape)
        return x, shape
    if len(shape) > 1 and b.chance(0.5):
        x, shape = pooled(b, x, shape)
    return dense(b, x, shape)


# --- whole networks ----------------------------------------------------------------


def random_network(seed: Sequence[int]) -> Network:
    """Return the network of ``seed``."""
    rng = np.random.default_rng(list(seed))
    b = Builder(rng, exact=bool(rng.random() < 0.5), version=int(rng.integers(11, 24)))
    shape: Shape = b.pick([(6,), (9,), (2, 5, 4), (1, 6, 6), (3, 7)])
    first, x, titles, spikes = shape, "x", [], []
    seen: list[tuple[str, Shape]] = [("x", shape)]
    for _ in range(int(rng.integers(1, 4))):
        current, shape = connected(b, x, shape)
        if b.chance(0.3):
            current = skipped(b, current, shape, seen)
        kind = b.pick(list(NEURONS))
        x = NEURONS[kind](b, current, shape)
        titles.append(kind)
        spikes.append((x, shape))
        seen.append((x, shape))
    show = None
    if b.chance(0.2):
        current, shape = dense(b, x, shape)
        show = (readout(b, current, shape), shape)
        titles.append("norse LI")
    return _finished(b, first, spikes, show, titles)


def skipped(b: Builder, current: str, shape: Shape, seen: Sequence[tuple[str, Shape]]) -> str:
    """Add a residual branch: spikes of the same shape as they are, else through weights."""
    name, other = b.pick(seen)
    if other == shape:
        return b.op("Add", current, name)
    if len(shape) > 1:
        return current
    return b.op("Add", current, dense(b, name, other, shape[0])[0])


def _finished(
    b: Builder,
    shape: Shape,
    spikes: Sequence[Shaped],
    show: Shaped | None,
    titles: Sequence[str],
) -> Network:
    """Pair states by position, name or metadata, and wrap the step in a loop at times."""
    pairing = b.pick(["position", "name", "metadata"])
    shown = list(spikes) if show is None else [*spikes, show]
    if pairing == "position":
        shown = shown[-1:]
    outputs = [_renamed(b, name, f"out{k}") for k, (name, _) in enumerate(shown)]
    shapes = [shape for _, shape in shown]
    ending = b.pick(["_next", "_out", "_new", ".next", ".out"])
    for number, state in enumerate(b.states):
        before = {"position": f"onnx::Sub_{9 + 7 * number}", "metadata": f"state {number}"}
        _rename_input(b, state, before.get(pairing, state.before))
        after = {"position": f"{300 + number}", "metadata": f"later {number}"}
        state.after = _renamed(b, state.after, after.get(pairing, state.before + ending))
    order = b.rng.permutation(len(b.states)) if pairing != "position" else range(len(b.states))
    if pairing == "metadata":
        for state in b.states:
            if not state.before.endswith("spk") and b.chance(0.3) and not _is_spike(b, state):
                start = float(np.float32(b.pick([0.25, -0.5, 0.125])))
                state.initial = max(start, state.lowest)
    ordered = [b.states[k] for k in order]
    batch = b.pick([1, "batch"])
    declared = [
        *(_value(name, (batch, *own)) for name, own in zip(outputs, shapes, strict=True)),
        *(_value(state.after, (batch, *state.shape)) for state in ordered),
    ]
    graph = helper.make_graph(
        b.nodes,
        "step",
        [_value("x", (batch, *shape))]
        + [_value(state.before, (batch, *state.shape)) for state in b.states],
        declared,
        b.constants,
    )
    step = _model(b, graph)
    if pairing == "metadata":
        entries = [
            {"input": s.before, "output": s.after, **({"init": s.initial} if s.initial else {})}
            for s in b.states
        ]
        step.metadata_props.add(key="snn.states", value=json.dumps(entries))
    form = b.pick(["step", "step", "scan", "loop"])
    model = (
        step if form == "step" else _looped(b, shape, dict(zip(outputs, shapes, strict=True)), form)
    )
    exact = b.exact
    return Network(
        model=model,
        step=step,
        states=tuple(b.states),
        thresholds=tuple(b.thresholds),
        shape=shape,
        spiking=tuple(outputs if show is None else outputs[:-1]),
        readout=None if show is None else outputs[-1],
        exact=exact,
        title=f"{form}, {pairing}, opset {b.version}, {'exact' if exact else 'rounded'}: "
        + " / ".join(titles),
    )


def _is_spike(b: Builder, state: State) -> bool:
    made = {node.output[0]: node for node in b.nodes}
    return made[state.after].op_type == "Identity"


def _renamed(b: Builder, name: str, wanted: str) -> str:
    """Give a value another name, by an alias or by renaming it everywhere."""
    reserved = {state.after for state in b.states if state.after != name}
    produced = [node for node in b.nodes if name in node.output]
    if b.chance(0.3) or not produced or name in reserved or name.startswith("out"):
        b.nodes.append(helper.make_node("Identity", [name], [wanted]))
        return wanted
    for node in b.nodes:
        for names in (node.input, node.output):
            for place, found in enumerate(names):
                if found == name:
                    names[place] = wanted
    b.thresholds = [(wanted if found == name else found, *t) for found, *t in b.thresholds]
    for state in b.states:
        state.after = wanted if state.after == name else state.after
    return wanted


def _rename_input(b: Builder, state: State, wanted: str) -> None:
    for node in b.nodes:
        for place, found in enumerate(node.input):
            if found == state.before:
                node.input[place] = wanted
    b.thresholds = [(wanted if found == state.before else found, *t) for found, *t in b.thresholds]
    state.before = wanted


def _value(name: str, shape: Sequence[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(b: Builder, graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", b.version)], ir_version=8
    )


def _looped(b: Builder, shape: Shape, outputs: Mapping[str, Shape], form: str) -> onnx.ModelProto:
    """Wrap the step in a Scan, or in a Loop with scan outputs; states start from constants."""
    starts = [
        numpy_helper.from_array(np.full((1, *s.shape), s.initial, np.float32), f"start{k}")
        for k, s in enumerate(b.states)
    ]
    names = [tensor.name for tensor in starts]
    entering = [_value(s.before, (1, *s.shape)) for s in b.states]
    leaving = [_value(s.after, (1, *s.shape)) for s in b.states]
    leaving += [_value(name, (1, *own)) for name, own in outputs.items()]
    series = [f"{name}_seq" for name in outputs]
    finals = [f"final{k}" for k in range(len(b.states))]
    steps: Any = b.pick([8, "T"]) if form == "scan" else 8
    constants, inner = list(starts), b.constants
    if b.chance():
        constants, inner = [*starts, *b.constants], []  # weights outside the body
    nodes = []
    if form == "scan":
        body = helper.make_graph(
            b.nodes,
            "body",
            [*entering, _value("x", (1, *shape))],
            leaving,
            inner,
        )
        given = {"body": body, "num_scan_inputs": 1}
        nodes.append(helper.make_node("Scan", [*names, "x_seq"], [*finals, *series], **given))
    else:
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["go_on"]),
                helper.make_node("Gather", ["x_seq", "now"], ["x"], axis=0),
                *b.nodes,
            ],
            "body",
            [
                helper.make_tensor_value_info("now", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                *entering,
            ],
            [
                helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
                *leaving,
            ],
            inner,
        )
        if b.chance():
            nodes.append(helper.make_node("Shape", ["x_seq"], ["all_axes"]))
            constants.append(numpy_helper.from_array(np.array(0), "first"))
            nodes.append(helper.make_node("Gather", ["all_axes", "first"], ["trips"]))
        else:
            constants.append(numpy_helper.from_array(np.array(8), "trips"))
        constants.append(numpy_helper.from_array(np.array(True), "true"))
        inputs = ["trips", b.pick(["", "true"]), *names]
        nodes.append(helper.make_node("Loop", inputs, [*finals, *series], body=body))
    graph = helper.make_graph(
        nodes,
        "over time",
        [_value("x_seq", (steps, 1, *shape))],
        [
            _value(name, (steps, 1, *own))
            for name, own in zip(series, outputs.values(), strict=True)
        ],
        constants,
    )
    return _model(b, graph)
