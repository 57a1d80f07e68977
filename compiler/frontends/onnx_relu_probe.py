"""The check of a ReLU network: every layer beside what the file computes there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_step import NotAStepError
from spikec.compiler.ir import Choice
from spikec.compiler.relu import ReluNetwork

__all__ = ["compare_layers"]

_PROBES = 2
#: Of the largest value in a layer: float32 sums in another order differ by less.
_TOLERANCE = 1e-4


def compare_layers(
    network: ReluNetwork,
    file: OnnxFile,
    entries: Mapping[str, str],
    tensors: Mapping[str, str],
    path: Path,
) -> Choice:
    """Return what comparing ``network`` with ``file`` on random input said; raise on a difference.

    ``entries`` are the names of its inputs by the file's; ``tensors`` names the value of the file
    that holds each layer. What lies in the
    branch of an ``If`` cannot be seen from outside.
    """
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(_PROBES):
        inputs = {node.name: rng.normal(size=(1, *node.shape)) for node in network.inputs}
        values = _finite(network, inputs, tensors)
        try:
            feeds = _feeds(file.model, {name: inputs[ours] for name, ours in entries.items()})
            expected = file.runner()(feeds, None)
        except Exception as error:  # noqa: BLE001 - the evaluator raises what its operators raise
            why = f"onnx's reference evaluator cannot run it ({type(error).__name__}: {error})"
            return _outcome(f"no: {why}")
        seen = [name for name, tensor in tensors.items() if tensor in expected]
        compared = len(seen)
        for name in seen:
            if not _equal(values[name], expected[tensors[name]]):
                raise _differs(path, name, tensors[name])
    return _outcome(
        f"{_PROBES} random inputs: {compared} of {len(tensors)} layers equal within {_TOLERANCE:g}"
    )


def _outcome(value: str) -> Choice:
    return Choice(what="checked against the file", value=value, origin="run")


def _finite(
    network: ReluNetwork, inputs: Mapping[str, Array], tensors: Mapping[str, str]
) -> dict[str, Array]:
    """Return the values of all layers; refuse NaN and infinity."""
    with np.errstate(all="ignore"):
        values = network.run(inputs)
    for name, tensor in tensors.items():
        if not np.isfinite(values[name]).all():
            why = "it is NaN or infinite for ordinary input"
            raise NotAStepError(f"value '{tensor}'", why, "check the weights of the file")
    return values


def _feeds(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return ``inputs`` by the file's names, types and shapes; an open batch is one."""
    feeds = {}
    for entry in model.graph.input:
        values = inputs.get(entry.name)
        if values is not None:
            tensor = entry.type.tensor_type
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            shape = [axis.dim_value or 1 for axis in tensor.shape.dim]
            feeds[entry.name] = values.astype(kind).reshape(shape)
    return feeds


def _equal(found: Array, expected: Array) -> bool:
    largest = float(np.abs(expected).max(initial=0.0))
    difference = np.abs(found.reshape(-1) - np.asarray(expected, np.float64).reshape(-1))
    return bool(difference.max(initial=0.0) <= _TOLERANCE * largest)


def _differs(path: Path, name: str, tensor: str) -> FrontendError:
    return FrontendError(
        Diagnostic(
            code="F110",
            where=f"{path}, layer '{name}' (value '{tensor}')",
            message="the network as read gives other values than the file itself",
            hint="this is a mistake of spikec: please report it with the file",
        )
    )
