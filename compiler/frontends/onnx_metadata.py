"""What a model's metadata say that its operators cannot: kinds of inputs, names and times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from spikec.compiler.frontends.inputs import InputSaid, inputs_noted
from spikec.compiler.frontends.onnx_step import NotAStepError
from spikec.compiler.ir import Choice
from spikec.compiler.names import fault

__all__ = ["INPUTS", "POPULATIONS", "Noted", "metadata_of", "noted_in"]

INPUTS, POPULATIONS = "snn.inputs", "snn.populations"
_ORIGIN = f"metadata '{INPUTS}'"
_HINT = 'write {"x": {"kind": "graded", "low": 0, "high": 15}}, or leave it out'


@dataclass(frozen=True, kw_only=True)
class Noted:
    """What is noted of ``inputs``, by their names in the file, and of populations.

    ``lags`` are the names of populations, each with its view's lag where no output shows it.
    """

    inputs: Mapping[str, InputSaid]
    lags: Mapping[str, int]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Return what was taken from the metadata."""
        return tuple(
            Choice(what=f"input '{name}'", value=str(said), origin=_ORIGIN)
            for name, said in self.inputs.items()
        )

    def refuse_unknown(self, known: Mapping[str, object]) -> None:
        """Raise :class:`NotAStepError` for a note of an input that the file does not have."""
        for name in self.inputs:
            if name not in known:
                raise NotAStepError(_ORIGIN, f"there is no input '{name}'", _HINT)


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return a model's metadata by key."""
    return {item.key: item.value for item in model.metadata_props}


def noted_in(model: onnx.ModelProto) -> Noted:
    """Return what ``model`` notes; :class:`NotAStepError` for a note that says nothing."""
    metadata = metadata_of(model)
    try:
        inputs = inputs_noted(metadata.get(INPUTS) or "{}")
    except ValueError as error:
        raise NotAStepError(_ORIGIN, f"it cannot be read: {error}", _HINT) from error
    return Noted(inputs=inputs, lags=_lags(metadata.get(POPULATIONS) or "{}"))


def _lags(text: str) -> dict[str, int]:
    where, hint = f"metadata '{POPULATIONS}'", 'write {"hidden": {"lag": 0}}, or leave it out'
    try:
        lags = {name: table["lag"] for name, table in json.loads(text).items()}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise NotAStepError(where, f"it cannot be read: {error!r}", hint) from error
    for name, lag in lags.items():
        if fault(name) is not None or type(lag) is not int:
            raise NotAStepError(where, f"'{name}' has lag {lag!r}", hint)
    return lags
