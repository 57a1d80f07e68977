"""HDF5 files as plain values: libhdf5 runs in a child process, never in this one.

Even after every link and data set was looked at (:mod:`~spikec.compiler.hdf5.checked`),
a damaged file can make libhdf5 crash, or loop for ever. The child reads; this process gets
groups as dicts, and arrays of numbers and of texts. A child that takes too long is ended.
Starting one costs a little more than importing h5py here would; it is kept, so that the next
file costs milliseconds.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import size
from spikec.compiler.errors import Diagnostic, FrontendError

__all__ = ["MAX_BYTES", "is_hdf5", "read_tree", "top_level_names"]

#: All arrays of a file together may unpack to this much.
MAX_BYTES = 4 << 30
#: A file may take this long, and a second more for each of so many bytes.
_SECONDS, _BYTES_A_SECOND = 30.0, 1 << 20
_LONGEST = MAX_BYTES
#: How long a process may take to end once it has closed its pipe.
_GRACE_SECONDS = 2.0
_LENGTHS = struct.Struct("<QQ")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Isolated: only where this process finds its modules does the child look for its own.
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from spikec.compiler.hdf5.child import main; main()"
)


def is_hdf5(path: Path) -> bool:
    """Say whether ``path`` starts as an HDF5 file does."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def top_level_names(path: Path) -> frozenset[str]:
    """Return the names in the root group of an HDF5 file; none if ``path`` is no such file.

    No link is followed. Raises :class:`FrontendError` for a damaged file.
    """
    if not is_hdf5(path):
        return frozenset()
    names, _ = _ask(path, {"want": "names"})
    return frozenset(names)


def read_tree(path: Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return all of an HDF5 file: groups as dicts, numbers and texts (``str``) as arrays.

    Raises :class:`FrontendError` for links that are not hard, external or virtual
    storage, cycles, unknown filters and types, for more than ``max_bytes`` of
    unpacked data, for a damaged file, and where libhdf5 crashes or does not end.
    """
    if not is_hdf5(path):
        raise _damaged(path, "F062", "it does not start as an HDF5 file does")
    tree, payload = _ask(path, {"want": "tree", "max_bytes": max_bytes})
    found = _planted(tree, payload)
    assert isinstance(found, dict)
    return found


def _planted(tree: Mapping[str, Any], payload: memoryview) -> Any:
    """Return a group, texts or numbers as the child describes them."""
    if "group" in tree:
        return {name: _planted(item, payload) for name, item in tree["group"].items()}
    shape = tuple(tree["shape"])
    if "texts" in tree:
        texts = np.empty(len(tree["texts"]), dtype=object)
        texts[:] = tree["texts"]
        return texts.reshape(shape)
    numbers = np.frombuffer(
        payload, np.dtype(tree["dtype"]), count=size(shape), offset=tree["offset"]
    )
    return numbers.reshape(shape)


def _ask(path: Path, request: Mapping[str, object]) -> tuple[Any, memoryview]:
    if find_spec("h5py") is None:
        raise FrontendError(
            Diagnostic(
                code="F060",
                where=str(path),
                message="it is an HDF5 file, and reading those needs h5py, which is missing",
                hint="pip install 'spikec[nir]'",
            )
        )
    absolute = path.absolute()
    seconds = _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    try:
        asked = {**request, "path": str(absolute), "seconds": seconds}
        reply, payload = _CHILD.ask(asked, seconds)
    except TimeoutError as error:
        raise _damaged(
            path, "F063", f"libhdf5 did not come to an end in {seconds:.0f} s"
        ) from error
    except EOFError as error:
        why = f"the process in which libhdf5 read it ended ({error})"
        raise _damaged(path, "F063", why) from error
    if "errors" in reply:
        raise FrontendError(
            *(
                Diagnostic(**{**item, "where": item["where"].replace(str(absolute), str(path), 1)})
                for item in reply["errors"]
            )
        )
    return reply["found"], payload


def _damaged(path: Path, code: str, message: str) -> FrontendError:
    return FrontendError(
        Diagnostic(
            code=code,
            where=str(path),
            message=f"a damaged HDF5 file: {message}",
            hint="copy it anew from where it was written",
        )
    )


class _Child:
    """The process that reads; started when first asked, ended with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._met_damage = False
        atexit.register(self.end)

    def ask(self, request: Mapping[str, object], seconds: float) -> tuple[Any, memoryview]:
        """Return the child's reply and the bytes of its arrays.

        Raises ``TimeoutError`` after ``seconds``, ``EOFError`` where the child ends first.
        """
        with self._lock:
            if self._met_damage:
                # Should it fail, an earlier file may be to blame: then a fresh child tells.
                with contextlib.suppress(TimeoutError, EOFError):
                    return self._asked(request, seconds)
            return self._asked(request, seconds)

    def _asked(self, request: Mapping[str, object], seconds: float) -> tuple[Any, memoryview]:
        try:
            reply, payload = self._exchange(request, time.monotonic() + seconds)
        except BaseException:  # the rest of a reply must not be taken for the next one
            self.end()
            raise
        self._met_damage |= "errors" in reply
        return reply, payload

    def end(self) -> None:
        """End the child, at once and certainly."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        with contextlib.suppress(OSError):  # a request that it did not take
            process.communicate()

    def _exchange(self, request: Mapping[str, object], deadline: float) -> tuple[Any, memoryview]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            stream = process.stdout.fileno()
            described, data = _LENGTHS.unpack(_received(stream, _LENGTHS.size, deadline))
            reply = json.loads(bytes(_received(stream, described, deadline)))
            return reply, _received(stream, data, deadline).toreadonly()
        except (BrokenPipeError, EOFError) as error:
            raise EOFError(f"code {_code_of(process)}") from error

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner != os.getpid():
            self._process = None  # after a fork it is the other process's child
        if self._process is None:
            self._owner, self._met_damage = os.getpid(), False
            self._process = subprocess.Popen(  # noqa: S603  (a list of arguments, no shell)
                [sys.executable, "-I", "-c", _COMMAND, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


def _code_of(process: subprocess.Popen[bytes]) -> int:
    """Return the code of a process that ends by itself, or else has to."""
    try:
        return process.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _received(stream: int, count: int, deadline: float) -> memoryview:
    """Read ``count`` bytes by ``deadline``; ``EOFError`` if there are fewer."""
    if count > _LONGEST:
        raise EOFError
    buffer = memoryview(bytearray(count))
    done = 0
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while done < count:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            got = os.readv(stream, [buffer[done:]])
            if not got:
                raise EOFError
            done += got
    return buffer


_CHILD = _Child()
