"""The process in which libhdf5 reads: requests on one pipe, plain values on the other.

A request is a line of JSON: ``want`` (``names`` or ``tree``), ``path``, ``max_bytes`` and the
``seconds`` it may take. A reply is two lengths, JSON, and the numbers of all arrays one after the
other. Whoever asks ends a child that takes longer; an alarm does, should that process be gone.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.hdf5 import checked

__all__ = ["main"]

_LENGTHS = struct.Struct("<QQ")
_MOST_DEPTH = 100
#: Whoever asks measures from earlier on, and says more about it than a signal.
_GRACE_SECONDS = 2.0


def main() -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no reply
    for line in sys.stdin.buffer:
        arrays: list[Array] = []
        request = json.loads(line)
        _ring_after(request["seconds"] + _GRACE_SECONDS)
        try:
            reply = {"found": _found(request, arrays)}
        except FrontendError as error:
            reply, arrays = {"errors": [item.as_dict() for item in error.diagnostics]}, []
        text = json.dumps(reply).encode()
        replies.write(_LENGTHS.pack(len(text), sum(values.nbytes for values in arrays)))
        replies.write(text)
        for values in arrays:
            replies.write(values.data)
        replies.flush()
        _ring_after(0)


def _ring_after(seconds: float) -> None:
    """End this process after ``seconds``, wherever libhdf5 is then; 0: do not."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _found(request: dict[str, Any], arrays: list[Array]) -> Any:
    path = Path(request["path"])
    if request["want"] == "names":
        return checked.top_level_names(path)
    with checked.open_checked(path, max_bytes=request["max_bytes"]) as file:
        return _Described(path, arrays).item(file, depth=0)


class _Described:
    """Groups and data sets as JSON; numbers are put into ``arrays``."""

    def __init__(self, path: Path, arrays: list[Array]) -> None:
        self._path = path
        self._arrays = arrays
        self._offset = 0

    def item(self, item: Any, *, depth: int) -> dict[str, Any]:
        if depth > _MOST_DEPTH:
            raise FrontendError(
                Diagnostic(
                    code="F062",
                    where=f"{self._path}: {item.name}",
                    message=f"its groups are nested more than {_MOST_DEPTH} deep",
                    hint="a network needs none of this; write the file anew with plain arrays",
                )
            )
        if hasattr(item, "items"):
            return {
                "group": {name: self.item(inner, depth=depth + 1) for name, inner in item.items()}
            }
        if item.dtype.kind not in "biuf":
            found = checked.texts(item)
            return {"texts": found.reshape(-1).tolist(), "shape": list(found.shape)}
        return self._numbers(checked.numbers(item))

    def _numbers(self, values: Array) -> dict[str, Any]:
        dtype = values.dtype.newbyteorder("<")
        stored = np.ascontiguousarray(values, dtype)  # its data, not its shape: it adds an axis
        described = {"dtype": dtype.str, "shape": list(values.shape), "offset": self._offset}
        self._arrays.append(stored)
        self._offset += stored.nbytes
        return described
