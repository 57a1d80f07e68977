"""Write a program as a directory that runs on lava-nc alone.

``network.py`` names every Lava process, so that it can be read and changed by
hand; ``parameters.npz`` holds its arrays; the files in ``templates/`` are copied
as they are. The same program gives the same bytes.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from spikec.backends.lava.encoders import (
    LARGEST_GROUPS,
    ahead,
    carried_by_conv,
    goes_straight,
)
from spikec.backends.lava.graded import integrator
from spikec.backends.lava.placement import MAX_VTH, Placement, placement, shared_stores
from spikec.backends.names import identifiers, one_line
from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.convolutions import parts_into, summed
from spikec.compiler.files import canonical_json
from spikec.compiler.folders import MANIFEST, manifest_bytes, write_folder
from spikec.compiler.mapping.report import core_table
from spikec.compiler.npz import npz_bytes
from spikec.compiler.operators import Conv2d, Dense, Operator, Sparse, written_out
from spikec.compiler.program import (
    Connection,
    CoreMap,
    Neurons,
    Populated,
    Program,
    ProgramInput,
)
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.storage import Storage

__all__ = [
    "LAVA_VERSION",
    "MANIFEST",
    "SCHEMA",
    "emit",
    "matrix_of",
    "message_bits",
]

#: The release of lava-nc that the emitted files and the tests are for.
LAVA_VERSION = "0.10.0"
SCHEMA = "spikec.lava"
VERSION = 1

#: Where the files that are copied go: name in ``templates/`` -> path in the directory.
_COPIED = {
    "requirements.txt": "requirements.txt",
    "runtime.py": "runtime.py",
    "process.py": "spikec_processes/process.py",
    "models.py": "spikec_processes/models.py",
}
#: Names that generated code uses itself.
_TAKEN = (
    "ActivationMode", "Delta", "ExactLIF", "LIF", "LIFReset", "ONCE", "Path", "RF", "RF_IZ",
    "Sigma", "SigmaDelta", "SignMode", "build", "main", "net", "p",
)  # fmt: skip
_ENCODERS = ("Delta", "Sigma", "SigmaDelta")
_RESONATORS = {"RF": "lava.proc.rf.process", "RF_IZ": "lava.proc.rf_iz.process"}


def emit(program: Program, directory: Path, *, own: Collection[str] = ()) -> None:
    """Write ``program`` to ``directory`` as a self-contained Lava network, all or nothing.

    An empty directory or one written by this function before is replaced.
    ``own`` names populations that are not to be put together from graded processes.
    Raises :class:`UsageError` when there is anything else, or no place to write.
    """
    write_folder(directory, _contents(program, own), schema=SCHEMA)


def _contents(program: Program, own: Collection[str]) -> dict[str, bytes]:
    """Return every file of the directory by its path."""
    places = placement(program, own)
    writer = _Writer(program, places)
    templates = files("spikec.backends.lava") / "templates"
    content = {to: (templates / name).read_bytes() for name, to in _COPIED.items()}
    content["spikec_processes/__init__.py"] = b'"""The processes of spikec for Lava."""\n'
    fill = Template((templates / "network.py.txt").read_text(encoding="utf-8"))
    content["network.py"] = fill.substitute(writer.network()).encode()
    content["parameters.npz"] = npz_bytes(writer.parameters)
    fill = Template((templates / "README.md").read_text(encoding="utf-8"))
    if program.core_map is not None:
        content["cores.json"] = canonical_json(_cores(program, program.core_map)).encode() + b"\n"
    content["README.md"] = fill.substitute(_readme(program, places)).encode()
    content[MANIFEST] = _manifest(program, places)
    return content


def _manifest(program: Program, places: Sequence[Placement]) -> bytes:
    manifest = {
        "version": VERSION,
        "lava": LAVA_VERSION,
        "target": program.target,
        "dt": program.dt,
        "outputs": list(program.outputs),
        "populations": {
            item.population: {"process": item.process, "stock": item.stock, "reason": item.reason}
            for item in places
        },
        "provenance": dict(program.provenance),
    }
    return manifest_bytes(SCHEMA, manifest)


def _readme(program: Program, places: Sequence[Placement]) -> dict[str, str]:
    return {
        "title": _title(program),
        "inputs": "\n".join(
            f"- {_code(item.name)}: shape `{item.shape}`, {item.low} to {item.high}"
            for item in program.inputs
        ),
        "placements": "\n".join(
            f"| {_code(item.population)} | `{item.process}` | {'yes' if item.stock else '**no**'} "
            f"| {one_line(item.reason)} |"
            for item in places
        ),
        "lags": "\n".join(
            f"- {_code(item.name)}: lag {item.view.lag - ahead(program)} "
            f"(current: {item.view.current_lag - ahead(program)})"
            for item in program.populations
        ),
        "extra_steps": str(_extra_steps(program)),
        "cores": "\n".join(_core_lines(program)),
    }


def _core_lines(program: Program) -> Iterator[str]:
    """Say where the neurons are meant to be, as far as anybody has said so."""
    core_map = program.core_map
    if core_map is None:
        yield "No mapping to cores was recorded: `spikec map` makes one."
        return
    yield (
        f"spikec mapped the network to {core_map.num_cores} core(s) of {core_map.target}; "
        "`cores.json` has the core of every neuron. Lava's own compiler places Processes itself "
        "and takes no such table: it is a plan to compare with, **not run on hardware**."
    )
    yield "\n| core | chip/column,row.core | neurons |\n|---|---|---|"
    for item in core_table(program, core_map):
        place = f"{item['chip']}/{item['column']},{item['row']}.{item['on_tile']}"
        neurons = ", ".join(f"{_code(name)} {n}" for name, n in item["populations"].items())
        yield f"| {item['core']} | {place} | {neurons} |"


def _cores(program: Program, core_map: CoreMap) -> dict[str, object]:
    """Return the core of every neuron and the site of every core, as plain values."""
    names = [item.name for item in program.populations]
    return {
        "target": core_map.target,
        "chips": core_map.chips,
        "tiles": list(core_map.tiles),
        "cores_per_tile": core_map.cores_per_tile,
        "sites": core_map.sites.tolist(),
        "populations": dict(
            zip(names, (item.reshape(-1).tolist() for item in core_map.cores), strict=True)
        ),
    }


class _Writer:
    """Turns a program into the statements of ``network.py`` and their arrays."""

    def __init__(self, program: Program, places: Sequence[Placement]) -> None:
        self.program = program
        self.places = places
        self.parameters: dict[str, Array] = {}
        self._shapes = {item.name: item.shape for item in program.inputs}
        self._shapes |= {item.name: item.shape for item in program.populations}
        self._variables = identifiers(self._shapes, is_taken=_is_taken)
        self._shared = shared_stores(program)
        self._connections = identifiers(
            [item.name for item in program.connections], is_taken=_is_taken
        )

    def network(self) -> dict[str, str]:
        """Return what goes into the blanks of the template."""
        used = {item.process for item in self.places}
        stock = sorted(used & {"LIF", "LIFReset"})
        encoders: list[str] = sorted(used & {*_ENCODERS})
        if "SigmaDelta" in encoders:
            encoders.insert(0, "ActivationMode")
        exact = [item.population for item in self.places if not item.stock]
        imports = [
            *([f"from lava.proc.lif.process import {', '.join(stock)}"] if stock else []),
            *([f"from lava.proc.sdn.process import {', '.join(encoders)}"] if encoders else []),
            *(f"from {where} import {name}" for name, where in _RESONATORS.items() if name in used),
            "from lava.utils.weightutils import SignMode",
            "",
            "from runtime import ONCE, main" if "LIFReset" in stock else "from runtime import main",
            *(["from spikec_processes.process import ExactLIF"] if exact else []),
        ]
        populations = zip(self.program.populations, self.places, strict=True)
        return {
            "title": _title(self.program),
            "imports": "\n".join(imports),
            "inputs": _indented(map(self._input, self.program.inputs)),
            "populations": _indented(self._population(item, place) for item, place in populations),
            "connections": _indented(map(self._connection, self.program.connections)),
            "input_names": repr([item.name for item in self.program.inputs]),
            "exact": repr(exact),
            "extra_steps": str(_extra_steps(self.program)),
        }

    def _input(self, item: ProgramInput) -> str:
        return _statement(
            f"{self._variables[item.name]} = net.input",
            [repr(item.name)],
            shape=repr(item.shape),
            shift=repr(item.shift),
            num_message_bits=repr(message_bits(item)),
        )

    def _population(self, neurons: Populated, place: Placement) -> str:
        if isinstance(neurons, SigmaDelta):
            return self._encoder(neurons, place)
        if isinstance(neurons, Resonator):
            return self._resonator(neurons, place)
        variable = self._variables[neurons.name]
        if place.process == "GradedReluVec":
            return f"# {place.reason}\n" + self._integrator(neurons, variable)
        arguments = {
            "shape": repr(neurons.shape),
            **{
                name: self._values(values, f"{variable}.{name}")
                for name, values in _parameters(neurons, place).items()
            },
            **_switches(neurons, place),
        }
        return f"# {place.reason}\n" + _statement(
            f"{variable} = net.population", [repr(neurons.name), place.process], **arguments
        )

    def _integrator(self, neurons: Neurons, variable: str) -> str:
        units = integrator(neurons)
        arrays = ["kick", "biases", "thresholds", "amounts"]
        more = {}
        if neurons.vth is None:
            arrays = ["kick", "biases", "thresholds", "held"]
            more = {"lowest": repr(units.lowest)}
        return _statement(
            f"{variable} = net.integrator",
            [repr(neurons.name)],
            shape=repr(neurons.shape),
            span=repr(units.span),
            first=repr(units.first),
            weight_shift=repr(units.weight_shift),
            **{name: self._values(getattr(units, name), f"{variable}.{name}") for name in arrays},
            **more,
        )

    def _encoder(self, item: SigmaDelta, place: Placement) -> str:
        """Return the statement for a sigma-delta population."""
        variable = self._variables[item.name]
        arguments = {"shape": repr(item.shape)}
        if item.vth is not None:
            arguments |= {
                "vth": repr(item.vth),
                "spike_exp": repr(item.spike_exp),
                "state_exp": repr(item.state_exp),
                "message_bits": repr(item.message_bits),
            }
        if item.encoding == "sigma_delta":
            arguments["act_mode"] = f"ActivationMode.{item.activation.upper()}"
        if item.bias.any():
            arguments["bias"] = self._values(item.bias, f"{variable}.bias")
        return f"# {place.reason}\n" + _statement(
            f"{variable} = net.encoder", [repr(item.name), place.process], **arguments
        )

    def _resonator(self, item: Resonator, place: Placement) -> str:
        """Return the statement for a resonate-and-fire population."""
        return f"# {place.reason}\n" + _statement(
            f"{self._variables[item.name]} = net.resonator",
            [repr(item.name), place.process],
            shape=repr(item.shape),
            sin_decay=repr(item.sin_decay),
            cos_decay=repr(item.cos_decay),
            vth=repr(item.vth),
            state_exp=repr(item.state_exp),
        )

    def _convolution(self, connection: Connection) -> str:
        """Return the statement for a Conv, with the first of its parts; none with the others.

        Lava's axes are x, y, channel, its kernel is turned.
        """
        (parts,) = [
            parts for parts in parts_into(self.program, connection.target) if connection in parts
        ]
        if connection is not parts[0]:
            return ""
        operator = summed(parts)
        assert isinstance(operator, Conv2d)
        key = f"{self._connections[connection.name]}.kernel"
        kernel = _grouped(operator).astype(np.int32)
        self.parameters[key] = np.ascontiguousarray(kernel[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
        return _statement(
            "net.convolve",
            [self._variables[connection.source], self._variables[connection.target]],
            kernel=f"p[{key!r}]",
            stride=repr(operator.stride[::-1]),
            padding=repr(operator.padding[::-1]),
            dilation=repr(operator.dilation[::-1]),
            groups=repr(operator.groups if operator.groups <= LARGEST_GROUPS else 1),
        )

    def _connection(self, connection: Connection) -> str:
        if goes_straight(self.program, connection):
            ends = [self._variables[connection.source], self._variables[connection.target]]
            return _statement("net.enter", ends)
        if carried_by_conv(self.program, connection):
            return self._convolution(connection)
        stored = self._shared.get(connection.name)
        if stored is not None and stored.connections[0] is not connection:
            return ""
        name = self._connections[connection.name]
        weights, delay = self._matrix(connection, stored)
        key = f"{name}.weights"
        self.parameters[key] = weights
        late = repr(int(delay.flat[0]))
        if delay.min() < delay.max():
            late = f"p['{name}.delays']"
            self.parameters[f"{name}.delays"] = delay
        return _statement(
            "net.connect",
            [self._variables[connection.source], self._variables[connection.target]],
            weights=f"p[{key!r}]",
            weight_exp=repr(connection.weight_exp),
            num_weight_bits=repr(connection.num_weight_bits),
            sign_mode=f"SignMode.{connection.sign_mode.upper()}",
            delay=late,
            **self._port(connection),
        )

    def _matrix(self, connection: Connection, stored: Storage | None) -> tuple[Array, Array]:
        """Return the weights that one process carries, and the delay of each, ``[out, in]``."""
        parts = [connection] if stored is None else stored.connections
        shape = self._shapes[connection.source]
        weights = matrix_of(parts[0].operator, shape)
        delay = np.full(weights.shape, parts[0].delay, np.uint8)
        for item in parts[1:]:
            more = matrix_of(item.operator, shape)
            delay[more != 0] = item.delay
            weights = weights + more
        return weights, delay

    def _port(self, connection: Connection) -> dict[str, str]:
        """Say which part of a complex state a connection feeds."""
        target = self.program.population(connection.target)
        if not isinstance(target, Resonator):
            return {}
        imaginary = connection.name in target.imaginary
        return {"into": repr("a_imag_in" if imaginary else "a_real_in")}

    def _values(self, values: Array, key: str) -> str:
        """Return a number when all are equal, else the name under which they are kept."""
        flat = values.reshape(-1)
        if flat.size and (flat == flat[0]).all():
            return repr(int(flat[0]))
        self.parameters[key] = values.astype(np.int32)
        return f"p[{key!r}]"


def _parameters(neurons: Neurons, place: Placement) -> dict[str, Array]:
    """Return the arrays that define a population, by their names in Lava."""
    zero = np.zeros(neurons.shape, np.int64)
    unreached = np.full(neurons.shape, MAX_VTH if place.stock else 0)
    named = {
        "du": neurons.du,
        "dv": neurons.dv,
        "vth": unreached if neurons.vth is None else neurons.vth,
        "bias_mant": neurons.bias_mant,
        "bias_exp": neurons.bias_exp,
        "u": neurons.initial_current,
        "v": neurons.initial_voltage + place.held_voltage,
    }
    if not place.stock and neurons.vth is not None:
        named["reset_amount"] = neurons.reset_amount
        named["reset_voltage"] = zero if neurons.reset_value is None else neurons.reset_value
    if neurons.floor is not None:
        named["floor"] = neurons.floor
    always = ("du", "dv", "vth", "floor")
    return {name: values for name, values in named.items() if name in always or values.any()}


def _switches(neurons: Neurons, place: Placement) -> dict[str, str]:
    """Return the remaining arguments of a population, as source text."""
    if place.stock:
        return _stock_switches(neurons, place)
    switches = {"reset": repr(neurons.reset), "reset_order": repr(neurons.reset_order)}
    if neurons.vth is None:
        switches = {"spiking": "False"}
    if neurons.reset_drops_input:
        switches["reset_drops_input"] = "True"
    if neurons.refractory:
        switches["refractory"] = repr(neurons.refractory)
    if neurons.max_spikes > 1:
        switches["max_spikes"] = repr(neurons.max_spikes)
    if neurons.reset_twice:
        switches["reset_twice"] = "True"
    if neurons.start:
        switches["start"] = repr(neurons.start)
    return switches


def _stock_switches(neurons: Neurons, place: Placement) -> dict[str, str]:
    switches: dict[str, str] = {}
    if place.process == "LIFReset":
        switches.update(reset_interval="ONCE", reset_offset=repr(neurons.start + 1))
    if neurons.vth is None:
        switches["readout"] = "True"
    elif neurons.reset_order == "next_step":
        switches["before_reset"] = "True"
    return switches


def message_bits(item: ProgramInput) -> int:
    """Return ``num_message_bits`` for an input: 0 for spikes, else 8, 16 or 24."""
    if item.kind == "binary":
        return 0
    needed = max(abs(item.low), abs(item.high)).bit_length() + (item.low < 0)
    return 8 if needed <= 8 else 16 if needed <= 16 else 24


def matrix_of(operator: Operator, source: Shape) -> Array:
    """Return ``operator`` on ``source`` as the matrix ``[out, in]`` that Lava multiplies with.

    Lava's own Conv ignores weight exponents and bits, so a convolution is written out;
    ``ValueError`` for sparse synapses whose matrix would be a large one.
    """
    if isinstance(operator, Sparse):
        return written_out(operator).weight
    if isinstance(operator, Dense):
        return operator.weight
    inputs = size(source)
    matrix = np.zeros((size(operator.output_shape(source)), inputs), np.int16)
    for start in range(0, inputs, 256):
        units = np.zeros((min(256, inputs - start), inputs), np.int16)
        units[np.arange(len(units)), start + np.arange(len(units))] = 1
        given = operator.apply(units.reshape(-1, *source))
        matrix[:, start : start + len(units)] = given.reshape(len(units), -1).T
    return matrix


def _grouped(operator: Conv2d) -> Array:
    """Return the kernels; where Lava cannot count the groups, over all channels."""
    if operator.groups <= LARGEST_GROUPS:
        return operator.weight
    out, each, *extents = operator.weight.shape
    whole = np.zeros((out, each * operator.groups, *extents), operator.weight.dtype)
    for channel in range(out):
        first = channel // (out // operator.groups) * each
        whole[channel, first : first + each] = operator.weight[channel]
    return whole


def _extra_steps(program: Program) -> int:
    return max([0, *(item.view.lag - ahead(program) for item in program.populations)])


def _is_taken(name: str) -> bool:
    return keyword.iskeyword(name) or name in _TAKEN


def _statement(call: str, arguments: Sequence[str], **named: str) -> str:
    """Return one call on one line, or on several when it is long."""
    words = [*arguments, *(f"{name}={value}" for name, value in named.items())]
    line = f"{call}({', '.join(words)})"
    if len(line) <= 92:
        return line
    head, tail = ", ".join(arguments), ", ".join(words[len(arguments) :])
    if len(tail) <= 86:
        return f"{call}(\n    {head},\n    {tail},\n)"
    return "\n".join(
        [f"{call}(", f"    {head},", *(f"    {w}," for w in words[len(arguments) :]), ")"]
    )


def _indented(blocks: Iterable[str]) -> str:
    lines = [line for block in blocks for line in block.splitlines()]
    return "\n".join(f"    {line}".rstrip() for line in lines)


def _title(program: Program) -> str:
    names = " -> ".join(one_line(name) for name in (program.inputs[0].name, program.outputs[0]))
    return f"A spiking network for Lava: {names}, {program.num_neurons} neurons."


def _code(name: str) -> str:
    return f"`{one_line(name)}`"
