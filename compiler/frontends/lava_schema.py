"""The schema of lava-dl's ``.net`` files: each layer's fields, read with their types checked.

A file is ``/layer/<k>/{type, shape, weight, ...}`` with ``/layer/<k>/neuron/{type, ...}``,
as ``lava.lib.dl.slayer.block`` writes it (lava-dl 0.6.0) and the SLAYER before it did.
Nothing here gives a field its meaning; that is done in
:mod:`spikec.compiler.frontends.lava_layers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, size
from spikec.compiler.errors import Diagnostic, FrontendError, raise_if_any
from spikec.compiler.limits import allowed_by

__all__ = ["LayerRecord", "NeuronRecord", "fail", "read_layers"]

#: No text that the schema knows is longer than this.
_MOST_TEXT = 64
#: No layer has more neurons than this.
_MOST_NEURONS = 1 << 24
#: What a neuron takes in a program: nine integers.
_BYTES_A_NEURON = 72
#: float64 holds every integer up to here.
_EXACT = 1 << 53


@dataclass(frozen=True, eq=False, kw_only=True)
class NeuronRecord:
    """The fields of a neuron; numbers are None where the file has none.

    ``each`` holds those that have one value a neuron, or a channel, as they are in the file.
    """

    kind: str
    where: str
    fields: dict[str, int | None]
    each: dict[str, Array] = field(default_factory=dict)
    graded: bool = False
    activation: str | None = None
    sigma_output: bool | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerRecord:
    """One layer as the file states it; ``where`` names it in errors.

    ``allowed`` is how many bytes the file may become.
    """

    index: int
    kind: str
    where: str
    allowed: int
    shape: Shape | None = None
    weight: Array | None = None
    weight_rec: Array | None = None
    weight_imag: Array | None = None
    bias: Array | None = None
    delay: Array | None = None
    neuron: NeuronRecord | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


#: Numbers that the neurons of the new and the old SLAYER state.
_NEURON_NUMBERS = (
    "iDecay", "vDecay", "vThMant", "refDelay", "wgtExp", "weight_exp", "messageBits",
    "sinDecay", "cosDecay",
)  # fmt: skip

#: Those of them that layers may have one value a neuron of (SLAYER's ``shared_param=False``).
_PER_NEURON = ("iDecay", "vDecay", "vThMant")


#: What to do where a message has no better advice.
_ADVICE = {
    "F070": "the file is not as lava-dl writes it; export the network anew",
    "F072": "retrain or rescale the layer so that it fits, and export it anew",
    "F073": "the layers of the file do not fit each other; correct the field or export it anew",
}


def fail(code: str, where: str, message: str, hint: str = "") -> NoReturn:
    """Raise one finding as a :class:`FrontendError`."""
    hint = hint or _ADVICE[code]
    raise FrontendError(Diagnostic(code=code, where=where, message=message, hint=hint))


def read_layers(file: Any, path: Path) -> tuple[LayerRecord, ...]:
    """Return all layers of a file's tree in order; every layer's error is found at once."""
    group = _group(file, "layer", str(path))
    findings: list[Diagnostic] = []
    names = _layer_names(group, str(path))
    layers = [_layer_or_findings(group, name, path, findings) for name in names]
    raise_if_any(FrontendError, findings)
    records = tuple(layer for layer in layers if layer is not None)
    _check_neurons(records)
    return records


def _check_neurons(records: Sequence[LayerRecord]) -> None:
    """Refuse more neurons than a file of this size may describe, before any is made."""
    total = 0
    for record in records:
        total += _BYTES_A_NEURON * size(record.shape or ())
        if total > record.allowed:
            fail(
                "F072",
                f"{record.where}/shape",
                f"with its {size(record.shape or ())} neurons the network is larger than a file of "
                "this size may describe",
                "check the shapes that the layers state",
            )


def _layer_or_findings(
    group: Any, name: str, path: Path, findings: list[Diagnostic]
) -> LayerRecord | None:
    try:
        return _layer(_group(group, name, f"{path}: layer/{name}"), int(name), path)
    except FrontendError as error:
        findings += error.diagnostics
        return None


def _layer_names(group: Any, where: str) -> list[str]:
    names = list(group)
    expected = [str(index) for index in range(len(names))]
    if not names or set(names) != set(expected):
        found = ", ".join(repr(name) for name in sorted(names)[:20])
        fail(
            "F070",
            f"{where}: layer",
            f"its entries are {found or 'none'}",
            "layers are numbered 0, 1, 2 ... without a gap; export the network anew",
        )
    return expected


def _layer(group: Any, index: int, path: Path) -> LayerRecord:
    where = f"{path}: layer/{index}"
    fields = _Fields(group, where)
    weight = group.get("weight")
    is_complex = weight is not None and not _is_dataset(weight)
    parts = _Fields(weight, f"{where}/weight") if is_complex else None
    return LayerRecord(
        index=index,
        kind=fields.text("type"),
        where=where,
        allowed=allowed_by(path),
        shape=fields.shape(),
        weight=fields.array("weight") if parts is None else parts.array("real"),
        weight_imag=None if parts is None else _imaginary(parts, f"{where}/weight"),
        weight_rec=_recurrent_weight(fields, where),
        bias=fields.array("bias"),
        delay=fields.array("delay"),
        neuron=_neuron(group, f"{where}/neuron"),
        stride=fields.pair("stride", (1, 1), low=1),
        padding=fields.pair("padding", (0, 0), low=0),
        dilation=fields.pair("dilation", (1, 1), low=1),
        groups=fields.groups(),
    )


def _recurrent_weight(fields: _Fields, where: str) -> Array | None:
    """Return the weights of a loop: ``recWeight`` in the files of the old SLAYER."""
    new, old = fields.array("weight_rec"), fields.array("recWeight")
    if new is not None and old is not None:
        fail("F070", f"{where}/recWeight", "the layer has 'weight_rec' too: which one counts?")
    return old if new is None else new


def _imaginary(parts: _Fields, where: str) -> Array:
    values = parts.array("imag")
    if values is None:
        fail("F070", f"{where}/imag", "it is missing: 'weight' is a group and no array")
    return values


def _neuron(group: Any, where: str) -> NeuronRecord | None:
    if "neuron" not in group:
        return None
    fields = _Fields(_group(group, "neuron", where), where)
    sigma_output = fields.number("sigma_output")
    each = {name: values for name in _PER_NEURON if (values := fields.several(name)) is not None}
    return NeuronRecord(
        kind=fields.text("type"),
        where=where,
        fields={name: None if name in each else fields.number(name) for name in _NEURON_NUMBERS},
        each=each,
        graded=bool(fields.number("gradedSpike") or 0),
        activation=fields.text("activation") if "activation" in group["neuron"] else None,
        sigma_output=None if sigma_output is None else bool(sigma_output),
    )


def _is_dataset(item: Any) -> bool:
    return hasattr(item, "dtype") and hasattr(item, "shape")


def _group(parent: Any, name: str, where: str) -> Any:
    item = parent.get(name)
    if item is None or _is_dataset(item):
        fail("F070", where, f"'{name}' is not a group of fields")
    return item


class _Fields:
    """Typed access to one group of data sets."""

    def __init__(self, group: Any, where: str) -> None:
        self._group = group
        self._where = where

    def text(self, name: str) -> str:
        item = self._dataset(name)
        if item is None or item.dtype.kind not in "SO" or item.size != 1:
            fail("F070", f"{self._where}/{name}", "it is missing or is not one text")
        value = str(item.reshape(-1)[0])
        if len(value) > _MOST_TEXT:
            fail("F070", f"{self._where}/{name}", f"a text of {len(value)} characters")
        return value

    def array(self, name: str) -> Array | None:
        """Return integers as int64, or None; a number that is no integer is an error."""
        item = self._dataset(name)
        if item is None:
            return None
        place = f"{self._where}/{name}"
        if item.dtype.kind not in "biuf":
            fail("F070", place, f"it holds {item.dtype}, not numbers")
        values = item
        wrong = values[~_is_integer(values)]
        if wrong.size:
            fail(
                "F071",
                place,
                f"{wrong.size} of {values.size} values are not integers, such as {wrong[0]:g}",
                "it was exported without quantization, and the file does not say in which unit; "
                "set the block's pre_hook_fx to a quantizing function and export it anew",
            )
        return frozen(values.astype(np.int64))

    def number(self, name: str) -> int | None:
        # The old SLAYER's scaleRho and tauRho are for training and are not read.
        values = self.array(name)
        if values is None:
            return None
        if values.size != 1:
            fail("F070", f"{self._where}/{name}", f"{values.size} values instead of one")
        return int(values.reshape(()))

    def several(self, name: str) -> Array | None:
        """Return more values than one, or None."""
        values = self.array(name)
        return values if values is not None and values.size > 1 else None

    def shape(self) -> Shape | None:
        values = self._few("shape")
        if values is None:
            return None
        if not 1 <= len(values) <= 3 or min(values) < 1:
            fail("F070", f"{self._where}/shape", f"{values} is not 1 to 3 positive extents")
        if size(tuple(values)) > _MOST_NEURONS:
            fail("F072", f"{self._where}/shape", f"{values} is more than {_MOST_NEURONS} neurons")
        return tuple(values)

    def pair(self, name: str, default: tuple[int, int], *, low: int) -> tuple[int, int]:
        values = self._few(name)
        if values is None:
            return default
        if len(values) == 1:
            values = values * 2
        if len(values) != 2 or min(values) < low or max(values) > 1 << 16:
            fail("F070", f"{self._where}/{name}", f"{values} is not two numbers of {low} or more")
        return values[0], values[1]

    def groups(self) -> int:
        value = self.number("groups")
        if value is not None and value < 1:
            fail("F070", f"{self._where}/groups", f"{value} groups; 1 or more are possible")
        return 1 if value is None else value

    def _few(self, name: str) -> list[int] | None:
        values = self.array(name)
        if values is not None and values.size > 16:
            fail("F070", f"{self._where}/{name}", f"{values.size} numbers; a few are expected")
        return None if values is None else [int(value) for value in values.reshape(-1)]

    def _dataset(self, name: str) -> Any:
        item = self._group.get(name)
        if item is not None and (not _is_dataset(item) or item.shape is None):
            fail("F070", f"{self._where}/{name}", "it is not an array")
        return item


def _is_integer(values: Array) -> Array:
    if values.dtype.kind == "b":
        return np.ones(values.shape, bool)
    if values.dtype.kind == "f":
        values = values.astype(np.float64)  # in half precision 2**53 would be infinite
    with np.errstate(invalid="ignore"):
        small = (values <= _EXACT) & (values >= -_EXACT)
        whole: Array = small & (np.rint(values) == values) if values.dtype.kind == "f" else small
    return whole
