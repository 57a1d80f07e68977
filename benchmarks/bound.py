"""The least time that this machine needs for a workload, from parts measured in the same run.

    time = min(synaptic operations / rate of adding int8 rows, products / rate of int8 products)
         + neuron updates / rate of updates + scanned places * cost + spikes * cost

The rate of adding rows is that of the cache that holds the weights where a row is used
fewer than :data:`REUSED` times in a call, else the best: then they can be taken block by
block, for all samples of a batch. It is that of sums in bytes first where the weights are
small enough for :data:`TOGETHER` rows. Terms are added, as they share the vector units. Matrix
units (AMX) are left out.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
REUSED = 4
#: Rows that are summed in bytes where weights allow it.
TOGETHER = 3
_REPEATS, _SECONDS, _CALLS, _DENSITY = 7, 0.02, 200, 0.05


def measured(cache: Path) -> dict[str, float]:
    """Return rates per second and costs in seconds of one core; empty without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return {}
    library = cache / "bound.so"
    subprocess.run(  # noqa: S603 - a list of arguments, no shell
        [compiler, "-O3", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC",
         "-o", library, HERE / "bound.c"],
        check=True,
    )  # fmt: skip
    native = ctypes.CDLL(str(library))
    native.products.restype = ctypes.c_int64
    return _rates(native)


def _rates(native: ctypes.CDLL) -> dict[str, float]:
    rng = np.random.default_rng(0)
    result = {
        f"{name}_{level}": _adding(native, rng, kilobytes, together)
        for name, together in (("add", 1), ("small", TOGETHER))
        for level, kilobytes in (("L1", 16), ("L2", 768), ("L3", 16384))
    }
    current, voltage = np.zeros((2, 1024), np.int32)  # zeros are the same as floats
    sums, sent = np.zeros(1024, np.int16), np.zeros(1024, np.uint8)
    result["update"] = 1024 / _best(native.update_again, current, voltage, sums, sent, 1024)
    index, rows, count = np.zeros(4096, np.int64), 64, 4096
    silent, busy = np.zeros((rows, count), np.uint8), rng.random((rows, count)) < _DENSITY
    least = _best(native.find_again, silent, rows, count, index)
    most = _best(native.find_again, busy.astype(np.uint8), rows, count, index)
    result["scan_place"] = least / count
    result["scan_spike"] = max(0.0, most - least) / busy.mean() / count
    result["product"] = _products(native)
    return result


def _adding(native: ctypes.CDLL, rng: np.random.Generator, kilobytes: int, together: int) -> float:
    width, most = 512, 127 // together
    weights = rng.integers(-most, most, (kilobytes * 2, width)).astype(np.int8)
    order = rng.integers(0, len(weights), max(252, len(weights)))
    sums = np.zeros(width, np.int16)
    if together == 1:
        seconds = _best(native.add_rows_again, weights, width, order, len(order), sums)
    else:
        seconds = _best(
            native.add_small_rows_again, weights, width, order, len(order), together, sums
        )
    return len(order) * width / seconds


def _products(native: ctypes.CDLL) -> float:
    weights, out = np.ones(16384, np.int8), np.zeros(1, np.int32)
    arguments = [*_native(weights, len(weights)), ctypes.c_int64(64), *_native(out)]
    if not native.products(*arguments):
        return 0.0
    tries = []
    for _ in range(_REPEATS):
        begin = time.process_time()
        for _ in range(_CALLS):
            native.products(*arguments)
        tries.append(time.process_time() - begin)
    return weights.size * 64 * _CALLS / min(tries)


def _native(*arguments: np.ndarray | int) -> list[ctypes.c_void_p | ctypes.c_int64]:
    return [
        ctypes.c_int64(item) if isinstance(item, int) else ctypes.c_void_p(item.ctypes.data)
        for item in arguments
    ]


def _best(function: Callable[..., int], *arguments: np.ndarray | int) -> float:
    """Return processor seconds of one of ``times`` calls: the least of several tries."""
    given = _native(*arguments)
    begin = time.perf_counter()
    function(*given, ctypes.c_int64(10))
    times = max(10, int(10 * _SECONDS / max(1e-7, time.perf_counter() - begin)))
    tries = []
    for _ in range(_REPEATS):
        begin = time.process_time()
        function(*given, ctypes.c_int64(times))
        tries.append((time.process_time() - begin) / times)
    return min(tries)


def bound_seconds(
    rates: Mapping[str, float], work: Mapping[str, float], weights: int, batch: int
) -> float:
    """Return the least seconds per sample; ``weights`` is how many bytes the largest layer has."""
    reuse = work["sop"] / weights * batch
    level = "L1" if weights <= 32 << 10 else "L2" if weights <= 1 << 20 else "L3"
    kind = "small" if work["together"] >= TOGETHER else "add"
    best = max(rates[f"{kind}_L1"], rates[f"{kind}_L2"])
    adding = work["sop"] / (best if reuse >= REUSED else rates[f"{kind}_{level}"])
    if rates["product"]:
        adding = min(adding, work["mac"] / rates["product"])
    scanning = work["scanned"] * rates["scan_place"] + work["events"] * rates["scan_spike"]
    return adding + work["updates"] / rates["update"] + scanning
