"""What people write in plain PyTorch is read from both exporters, spike for spike.

All weights and decays are dyadic, so that float32 rounds nothing: voltages meet their
thresholds exactly, and no difference can be a tie.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikec.compiler import reference
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import load_graph

pytestmark = pytest.mark.torch

STEPS = 12
IN, MID, OUT = 12, 10, 6


@dataclass(frozen=True, eq=False, kw_only=True)
class Idiom:
    """A step ``forward(x, *states) -> (out, *states)`` and the shapes around it."""

    step: nn.Module
    states: Sequence[tuple[int, ...]]
    inputs: tuple[int, ...] = (IN,)
    #: What the output shows: spikes, or a voltage.
    shows: str = "spikes"


class Step(nn.Module):
    """A step written as a function of the module that holds its layers."""

    def __init__(self, forward: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            if isinstance(layer, nn.Module):
                self.add_module(name, layer)
            else:
                self.register_buffer(name, torch.as_tensor(layer))

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = self._forward(self, *values)
        return result


@dataclass
class Maker:
    """Draws layers whose weights are multiples of 1/16."""

    rng: np.random.Generator
    made: list[nn.Module] = field(default_factory=list)

    def dyadic(self, shape: Sequence[int], scale: float) -> Tensor:
        values = np.round(self.rng.normal(0.1, scale, tuple(shape)) * 16) / 16
        return torch.tensor(values, dtype=torch.float32)

    def _filled(self, layer: Any, scale: float) -> Any:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(self.dyadic(parameter.shape, scale))
        return layer.eval()

    def linear(self, inputs: int, outputs: int) -> Any:
        return self._filled(nn.Linear(inputs, outputs), 1.6 / inputs**0.5)

    def conv(self, inputs: int, outputs: int, kernel: int, **more: Any) -> Any:
        scale = 1.6 / (inputs * kernel**2) ** 0.5
        return self._filled(nn.Conv2d(inputs, outputs, kernel, **more), scale)

    def transposed(self, inputs: int, outputs: int, kernel: int, **more: Any) -> Any:
        return self._filled(nn.ConvTranspose2d(inputs, outputs, kernel, **more), 0.5)


def spike(u: Tensor) -> Tensor:
    return (u > 0).float()


def two_layers(m: Maker, function: Callable[[Tensor], Tensor]) -> Idiom:
    """A hidden and an output layer, reset by subtraction, with another spike function."""

    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> tuple[Tensor, ...]:
        u = 0.75 * m1 + self.a(x)
        s = function(u - 1)
        v = 0.5 * m2 + self.b(s)
        o = function(v - 1)
        return o, u - s, v - o

    step = Step(forward, a=m.linear(IN, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (OUT,)])


def with_hidden(m: Maker, between: Callable[[Any, Tensor, Tensor], Tensor], **layers: Any) -> Idiom:
    """Two hidden layers whose spikes meet in ``between`` before the output layer."""

    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor, m3: Tensor) -> tuple[Tensor, ...]:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + self.c(s)
        z = spike(v - 0.5)
        w = 0.5 * m3 + self.b(between(self, s, z))
        o = spike(w - 1)
        return o, u - s, v - 0.5 * z, w - o

    wide = int(layers.pop("wide", MID))
    step = Step(forward, a=m.linear(IN, MID), c=m.linear(MID, MID), b=m.linear(wide, OUT), **layers)
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,)])


def picture(m: Maker, between: Callable[[Any, Tensor], Tensor], shape: Sequence[int]) -> Idiom:
    """A convolution and an output layer, with something between them."""

    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> tuple[Tensor, ...]:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(between(self, s).flatten(1))
        o = spike(v - 1)
        return o, u - s, v - o

    step = Step(forward, a=m.conv(2, 4, 3), b=m.linear(int(np.prod(shape)), OUT))
    return Idiom(step=step, states=[(4, 6, 6), (OUT,)], inputs=(2, 8, 8))


def stbp(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, z1: Tensor, m2: Tensor, z2: Tensor) -> Any:
        u = 0.5 * m1 * (1 - z1) + self.a(x)
        s = spike(u - 0.5)
        v = 0.5 * m2 * (1.0 - z2) + self.b(s)
        o = spike(v - 0.5)
        return o, u, s, v, o

    step = Step(forward, a=m.linear(IN, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,), (OUT,)])


def stbp_picture(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, z1: Tensor, m2: Tensor, z2: Tensor) -> Any:
        u = m1 * 0.25 * (1.0 - z1) + self.a(x)
        s = spike(u - 0.5)
        v = m2 * 0.25 * (1.0 - z2) + self.b(functional.avg_pool2d(s, 2).flatten(1))
        o = spike(v - 0.5)
        return o, u, s, v, o

    step = Step(forward, a=m.conv(2, 4, 3, padding=1), b=m.linear(4 * 4 * 4, OUT))
    states = [(4, 8, 8), (4, 8, 8), (OUT,), (OUT,)]
    return Idiom(step=step, states=states, inputs=(2, 8, 8))


def stored_recurrent(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, v: Tensor, z: Tensor, m2: Tensor) -> Any:
        u = 0.75 * v * (1 - z) + self.a(x) + self.r(z)
        s = spike(u - 1)
        w = 0.5 * m2 + self.b(s)
        o = spike(w - 1)
        return o, u, s, w - o

    step = Step(forward, a=m.linear(IN, MID), r=m.linear(MID, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,)])


def masked_update(m: Maker) -> Idiom:
    """The stored spike masks the whole update: input of that step is lost too."""

    def forward(self: Any, x: Tensor, v: Tensor, z: Tensor, m2: Tensor, y: Tensor) -> Any:
        u = (0.75 * v + self.a(x)) * (1 - z)
        s = spike(u - 1)
        w = torch.where(y > 0.5, torch.zeros_like(m2), 0.5 * m2 + self.b(s))
        o = spike(w - 1)
        return o, u, s, w, o

    step = Step(forward, a=m.linear(IN, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,), (OUT,)])


def hard_reset_recurrent(m: Maker) -> Idiom:
    """A hard reset at the spike, and last step's spikes as a state that is fed back."""

    def forward(self: Any, x: Tensor, v: Tensor, y: Tensor, m2: Tensor) -> Any:
        u = v + (self.r(torch.cat([x, y], dim=-1)) - v) * 0.5
        s = (u >= 0.5).float()
        w = 0.5 * m2 + self.b(s)
        o = spike(w - 1)
        return o, u * (1 - s), s, w - o

    step = Step(forward, r=m.linear(IN + MID, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,)])


def container(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, y: Tensor, v: Tensor, v2: Tensor) -> Any:
        u = v + (self.r(torch.cat((self.a(x), y), -1)) - v) / 2.0
        s = (u >= 0.5).float()
        w = v2 + (self.b(s) - v2) / 2.0
        o = (w >= 0.25).float()
        return o, s, u * (1 - s), w * (1 - o)

    step = Step(forward, a=m.linear(IN, MID), r=m.linear(2 * MID, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,)])


def lateral(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, v: Tensor, z: Tensor, m2: Tensor) -> Any:
        u = 0.75 * v + self.a(x) - 0.125 * (z.sum(1, keepdim=True) - z)
        s = spike(u - 1)
        w = 0.5 * m2 + self.b(s)
        o = spike(w - 1)
        return o, u - s, s, w - o

    step = Step(forward, a=m.linear(IN, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (MID,), (OUT,)])


def delay_line(m: Maker, places: int) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor, *line: Tensor) -> Any:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(line[-1])
        o = spike(v - 1)
        return o, u - s, v - o, s, *line[:-1]

    step = Step(forward, a=m.linear(IN, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (OUT,), *[(MID,)] * places])


def count(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor, n: Tensor) -> Any:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(s)
        o = spike(v - 1)
        return n + o, u - s, v - o, n + o

    step = Step(forward, a=m.linear(IN, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (OUT,), (OUT,)], shows="voltage")


def split_input(m: Maker, parts: Callable[[Tensor], Sequence[Tensor]]) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> Any:
        left, right = parts(x)
        u = 0.75 * m1 + self.a(left) - self.c(right)
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(s)
        o = spike(v - 1)
        return o, u - s, v - o

    half = IN // 2
    step = Step(forward, a=m.linear(half, MID), c=m.linear(half, MID), b=m.linear(MID, OUT))
    return Idiom(step=step, states=[(MID,), (OUT,)])


def polarity(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> Any:
        u = 0.75 * m1 + self.a(x[:, :1]) - self.c(x[:, 1].unsqueeze(1))
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(s.flatten(1))
        o = spike(v - 1)
        return o, u - s, v - o

    step = Step(forward, a=m.conv(1, 3, 3), c=m.conv(1, 3, 3), b=m.linear(3 * 36, OUT))
    return Idiom(step=step, states=[(3, 6, 6), (OUT,)], inputs=(2, 8, 8))


def skip_channels(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> Any:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(torch.cat([x, s], 1))
        o = spike(v - 1)
        return o, u - s, v - o

    step = Step(forward, a=m.conv(2, 4, 3, padding=1), b=m.conv(6, 3, 3, padding=1))
    return Idiom(step=step, states=[(4, 8, 8), (3, 8, 8)], inputs=(2, 8, 8))


def last_axis(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> Any:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + self.b(s)
        o = spike(v - 1)
        return o, u - s, v - o

    step = Step(forward, a=m.linear(8, 6), b=m.linear(6, 3))
    return Idiom(step=step, states=[(5, 6), (5, 3)], inputs=(5, 8))


def transposed(m: Maker, decode: Callable[[Any, Tensor], Tensor], shape: tuple[int, ...]) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> Any:
        u = 0.75 * m1 + self.a(x)
        s = spike(u - 1)
        v = 0.5 * m2 + decode(self, s)
        o = spike(v - 1)
        return o, u - s, v - o

    step = Step(forward, a=m.conv(1, 4, 3, stride=2), b=m.transposed(4, 2, 3, stride=2),
                c=m.conv(4, 2, 3, padding=1))  # fmt: skip
    return Idiom(step=step, states=[(4, 4, 4), shape], inputs=(1, 9, 9))


def einsum(m: Maker) -> Idiom:
    def forward(self: Any, x: Tensor, m1: Tensor, m2: Tensor) -> Any:
        u = 0.75 * m1 + torch.einsum("ab,bc->ac", x, self.v)
        s = spike(u - 1)
        v = 0.5 * m2 + torch.einsum("oc,ac->ao", self.w, s)
        o = spike(v - 1)
        return o, u - s, v - o

    step = Step(forward, v=m.dyadic((IN, MID), 0.4), w=m.dyadic((OUT, MID), 0.4))
    return Idiom(step=step, states=[(MID,), (OUT,)])


def surrogate(u: Tensor) -> Tensor:
    soft = torch.sigmoid(5 * u)
    return (spike(u) - soft).detach() + soft


def surrogate_atan(u: Tensor) -> Tensor:
    soft = torch.atan(u * 1.5708) / 3.1416 + 0.5
    return spike(u).detach() - soft.detach() + soft


def fast_sigmoid(u: Tensor) -> Tensor:
    soft = u / (1 + 2 * u.abs())
    return spike(u).detach() + soft - soft.detach()


#: What is written, by its name.
IDIOMS: dict[str, Callable[[Maker], Idiom]] = {
    "relu of sign": lambda m: two_layers(m, lambda u: torch.relu(torch.sign(u))),
    "sign plus one, halved": lambda m: two_layers(m, lambda u: spike(torch.sign(u))),
    "heaviside 0": lambda m: two_layers(m, lambda u: torch.heaviside(u, torch.zeros(1))),
    "heaviside 1": lambda m: two_layers(m, lambda u: torch.heaviside(u, torch.ones(1))),
    "where": lambda m: two_layers(
        m, lambda u: torch.where(u > 0, torch.ones_like(u), torch.zeros_like(u))
    ),
    "where of a spike": lambda m: two_layers(
        m, lambda u: torch.where(spike(u) > 0, torch.ones_like(u), torch.zeros_like(u))
    ),
    "clamped whole": lambda m: two_layers(m, lambda u: torch.clamp(torch.ceil(u), 0, 1)),
    "not below": lambda m: two_layers(m, lambda u: 1 - (u < 0).float()),
    "bool and back": lambda m: two_layers(m, lambda u: spike(u).bool().float()),
    "equal one": lambda m: two_layers(m, lambda u: (spike(u) == 1).float()),
    "sigmoid straight through": lambda m: two_layers(m, surrogate),
    "atan straight through": lambda m: two_layers(m, surrogate_atan),
    "fast sigmoid straight through": lambda m: two_layers(m, fast_sigmoid),
    "and": lambda m: with_hidden(m, lambda self, s, z: s * z),
    "iand": lambda m: with_hidden(m, lambda self, s, z: (1 - s) * z),
    "or": lambda m: with_hidden(m, lambda self, s, z: torch.maximum(s, z)),
    "or as numbers": lambda m: with_hidden(m, lambda self, s, z: s + z - s * z),
    "exclusive or": lambda m: with_hidden(m, lambda self, s, z: (s - z).abs()),
    "minimum": lambda m: with_hidden(m, lambda self, s, z: torch.minimum(s, z)),
    "logical": lambda m: with_hidden(
        m, lambda self, s, z: torch.logical_and(s.bool(), ~z.bool()).float()
    ),
    "side by side": lambda m: with_hidden(m, lambda self, s, z: torch.cat([s, z], 1), wide=2 * MID),
    "parts": lambda m: with_hidden(
        m, lambda self, s, z: torch.cat([z[:, 4:], s[:, ::2]], 1), wide=MID - 4 + MID // 2
    ),
    "turned round": lambda m: with_hidden(m, lambda self, s, z: s.flip(1) + z.roll(3, 1)),
    "picked": lambda m: with_hidden(
        m,
        lambda self, s, z: s[:, [3, 1, 1, 0]] + z.index_select(1, torch.tensor([0, 2, 4, 9])),
        wide=4,
    ),
    "summed": lambda m: with_hidden(
        m, lambda self, s, z: torch.stack([s.sum(1), z.mean(1) * MID / 2], 1), wide=2
    ),
    "maximum pooling": lambda m: picture(m, lambda self, s: functional.max_pool2d(s, 2), (4, 3, 3)),
    "maximum pooling, overlapping": lambda m: picture(
        m, lambda self, s: functional.max_pool2d(s, 3, 2, padding=1), (4, 3, 3)
    ),
    "sum pooling": lambda m: picture(m, lambda self, s: functional.lp_pool2d(s, 1, 2), (4, 3, 3)),
    "average pooling beyond the border": lambda m: picture(
        m, lambda self, s: functional.avg_pool2d(s, 4, 4, ceil_mode=True) * 16, (4, 2, 2)
    ),
    "padded by reflection": lambda m: picture(
        m, lambda self, s: functional.pad(s, (1, 1, 1, 0), mode="reflect"), (4, 7, 8)
    ),
    "padded in a circle": lambda m: picture(
        m, lambda self, s: functional.pad(s, (1, 0, 2, 1), mode="circular"), (4, 9, 7)
    ),
    "padded with zeros": lambda m: picture(
        m, lambda self, s: functional.pad(s, (1, 0, 0, 2)), (4, 8, 7)
    ),
    "cut out": lambda m: picture(m, lambda self, s: s[:, 1:3, 1:-1, ::2], (2, 4, 3)),
    "repeated": lambda m: picture(m, lambda self, s: s.repeat(1, 1, 2, 1), (4, 12, 6)),
    "pixel shuffle": lambda m: picture(m, lambda self, s: functional.pixel_shuffle(s, 2), (144,)),
    "mean over places": lambda m: picture(m, lambda self, s: s.sum((2, 3)) / 8, (4,)),
    "upsampled": lambda m: transposed(
        m, lambda self, s: self.c(functional.interpolate(s, scale_factor=2)), (2, 8, 8)
    ),
    "transposed convolution": lambda m: transposed(m, lambda self, s: self.b(s), (2, 9, 9)),
    "stored spikes": stbp,
    "stored spikes, pictures": stbp_picture,
    "stored spikes, fed back": stored_recurrent,
    "stored spikes mask all": masked_update,
    "hard reset, fed back": hard_reset_recurrent,
    "recurrent container": container,
    "lateral inhibition": lateral,
    "delay line of 1": lambda m: delay_line(m, 1),
    "delay line of 3": lambda m: delay_line(m, 3),
    "counted output": count,
    "chunks of the input": lambda m: split_input(m, lambda x: x.chunk(2, 1)),
    "slices of the input": lambda m: split_input(m, lambda x: (x[:, :6], x[:, 6:])),
    "every other input": lambda m: split_input(m, lambda x: (x[:, ::2], x[:, 1::2])),
    "polarities": polarity,
    "channels side by side": skip_channels,
    "matrix at each place": last_axis,
    "einsum": einsum,
}


#: What an exporter cannot write.
NOT_WRITTEN = {("heaviside 0", "ts"), ("heaviside 1", "ts")}
#: What is refused, with the reason, where it is unrolled over time.
NOT_UNROLLED = {"summed": "apart", "lateral inhibition": "other states"}


class Unrolled(nn.Module):
    """The loop over time that tutorials write, ``[step, 1, ...]`` in and out."""

    def __init__(self, idiom: Idiom) -> None:
        super().__init__()
        self.step, self.shapes = idiom.step, idiom.states

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.zeros(1, *shape) for shape in self.shapes]
        rows = []
        for step in range(STEPS):
            out, *states = self.step(x[step], *states)
            rows.append(out)
        return torch.stack(rows)


class Presented(nn.Module):
    """One input, shown at every step."""

    def __init__(self, idiom: Idiom) -> None:
        super().__init__()
        self.step, self.shapes = idiom.step, idiom.states

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.zeros(1, *shape) for shape in self.shapes]
        rows = []
        for _ in range(STEPS):
            out, *states = self.step(x, *states)
            rows.append(out)
        return torch.stack(rows)


def export_presented(idiom: Idiom, path: Path, *, dynamo: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = {"external_data": False} if dynamo else {"opset_version": 17}
        torch.onnx.export(
            Presented(idiom).eval(), (torch.zeros(1, *idiom.inputs),), str(path),
            dynamo=dynamo, input_names=["x"], output_names=["out"], verbose=False, **more,
        )  # fmt: skip


def export_loop(idiom: Idiom, path: Path, *, dynamo: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = {"external_data": False} if dynamo else {"opset_version": 17}
        torch.onnx.export(
            Unrolled(idiom).eval(), (torch.zeros(STEPS, 1, *idiom.inputs),), str(path),
            dynamo=dynamo, input_names=["x"], output_names=["out"], verbose=False, **more,
        )  # fmt: skip


def exported(idiom: Idiom, path: Path, *, dynamo: bool) -> None:
    names = [f"m{number}" for number in range(len(idiom.states))]
    examples = (torch.zeros(1, *idiom.inputs), *(torch.zeros(1, *s) for s in idiom.states))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = {"external_data": False} if dynamo else {"opset_version": 17}
        torch.onnx.export(
            idiom.step.eval(), examples, str(path), dynamo=dynamo, input_names=["x", *names],
            output_names=["out", *(f"{name}_next" for name in names)], verbose=False, **more,
        )  # fmt: skip


def run_in_torch(idiom: Idiom, spikes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    states = [torch.zeros(1, *shape) for shape in idiom.states]
    rows = []
    with torch.no_grad():
        for row in torch.tensor(spikes[0]):
            out, *states = idiom.step(row[None], *states)
            rows.append(out.numpy())
    return np.concatenate(rows)[None]


def cases() -> Iterator[Any]:
    for name in IDIOMS:
        for exporter in ("dyn", "ts"):
            if (name, exporter) not in NOT_WRITTEN:
                for form in ("step", "loop"):
                    yield pytest.param(name, exporter, form, id=f"{name}, {exporter}, {form}")


@pytest.mark.parametrize(("name", "exporter", "form"), cases())
def test_it_is_read_spike_for_spike(name: str, exporter: str, form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([3, len(name), *name.encode()])
    idiom = IDIOMS[name](Maker(rng))
    path = tmp_path / "net.onnx"
    write = exported if form == "step" else export_loop
    write(idiom, path, dynamo=exporter == "dyn")
    if form == "loop" and name in NOT_UNROLLED:
        with pytest.raises(FrontendError, match=NOT_UNROLLED[name]):
            load_graph(path)
        return
    graph = load_graph(path)
    assert any("equal" in item.value for item in graph.choices)
    spikes = (rng.random((1, STEPS, *idiom.inputs)) < 0.4).astype(np.float32)
    expected = run_in_torch(idiom, spikes)
    trace = reference.run(graph, {graph.inputs[0].name: spikes}, dtype=np.float32)
    shown = trace[graph.outputs[0], "voltage" if idiom.shows == "voltage" else "spikes"]
    assert expected.any()
    if idiom.shows == "spikes":  # 1 + g - g is 1 but for the rounding of float32
        np.testing.assert_allclose(expected, np.rint(expected), atol=1e-6)
        expected = np.rint(expected)
    np.testing.assert_array_equal(shown.reshape(expected.shape), expected)


@pytest.mark.parametrize("exporter", ["dyn", "ts"])
@pytest.mark.parametrize(
    "name",
    ["where", "stored spikes", "stored spikes, pictures", "and", "recurrent container",
     "maximum pooling", "channels side by side"],
)  # fmt: skip
def test_one_picture_shown_at_every_step(name: str, exporter: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([5, *name.encode()])
    idiom = IDIOMS[name](Maker(rng))
    path = tmp_path / "net.onnx"
    export_presented(idiom, path, dynamo=exporter == "dyn")
    graph = load_graph(path)
    assert any("--steps" in item.value for item in graph.choices)
    picture = np.rint(rng.random((1, 1, *idiom.inputs)) * 4) / 4
    shown_always = np.repeat(picture, STEPS, 1).astype(np.float32)
    expected = run_in_torch(idiom, shown_always)
    trace = reference.run(graph, {graph.inputs[0].name: shown_always}, dtype=np.float32)
    np.testing.assert_array_equal(trace.spikes(graph.outputs[0]).reshape(expected.shape), expected)
