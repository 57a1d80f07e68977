"""A model as it is in memory: its protobuf, and its weights once, beside it.

A protobuf gives its data away as copies only, and every evaluator makes its own. Large
constants are therefore taken out of it, each as one read-only array that all readers share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import external_data_helper, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from spikec.compiler.arrays import Array, frozen, size
from spikec.compiler.frontends.onnx_numbers import OPERATORS

__all__ = ["OnnxFile", "Runner", "external_files", "read_onnx_file"]

Runner: TypeAlias = Callable[[Mapping[str, Array], "Sequence[str] | None"], dict[str, Any]]

#: Constants of at least so many bytes are kept apart.
_LARGE = 1 << 16


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxFile:
    """A model without its large constants, and those by name."""

    model: onnx.ModelProto
    weights: Mapping[str, Array]

    def with_model(self, model: onnx.ModelProto) -> OnnxFile:
        """Return the same weights with another model that uses them."""
        return replace(self, model=model)

    def runner(self) -> Runner:
        """Return a function that runs the model with onnx's evaluator.

        It takes values of the inputs and the names of outputs (None: every value),
        and returns these by name.
        """
        evaluator = ReferenceEvaluator(self.model, new_ops=list(OPERATORS))

        def run(feeds: Mapping[str, Array], outputs: Sequence[str] | None) -> dict[str, Any]:
            given = {**self.weights, **feeds}
            if outputs is None:
                return dict(evaluator.run(None, given, intermediate=True))
            return dict(zip(outputs, evaluator.run(list(outputs), given), strict=True))

        return run


def read_onnx_file(path: Path) -> OnnxFile:
    """Read a model and its external data, which must lie inside the model's folder.

    Raises what onnx and protobuf raise for files that are none, and for data elsewhere.
    """
    whole = onnx.load_model(path, load_external_data=False)
    folder = str(path.parent)
    tensors = list(whole.graph.initializer)
    large = [tensor for tensor in tensors if _num_bytes(tensor) >= _LARGE]
    weights = {tensor.name: frozen(_array(tensor, folder)) for tensor in large}
    kept = [tensor for tensor in tensors if _num_bytes(tensor) < _LARGE]
    del whole.graph.initializer[:]
    whole.graph.initializer.extend(kept)
    # Protobuf frees nothing of a message before all of it: a copy holds what is left.
    model = onnx.ModelProto()
    model.CopyFrom(whole)
    external_data_helper.load_external_data_for_model(model, folder)
    return OnnxFile(model=model, weights=weights)


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the files that hold the external data of the model in ``path``, if it is a model."""
    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception:  # noqa: BLE001 - protobuf raises its own kinds
        return ()
    places = {
        entry.value
        for tensor in _tensors(model.graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / place for place in sorted(places))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for item in node.attribute:
            yield from (item.t, *item.tensors)
            for inner in (item.g, *item.graphs):
                yield from _tensors(inner)


def _num_bytes(tensor: onnx.TensorProto) -> int:
    """Return what a tensor's shape says it takes; 0 for what is kept as it is."""
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return 0
    return (
        size(tuple(tensor.dims))
        * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    )


def _array(tensor: onnx.TensorProto, folder: str) -> Array:
    if not external_data_helper.uses_external_data(tensor):
        return numpy_helper.to_array(tensor)
    entry = onnx.TensorProto()  # some releases of onnx read the data into what they are given
    entry.CopyFrom(tensor)
    return numpy_helper.to_array(entry, folder)
