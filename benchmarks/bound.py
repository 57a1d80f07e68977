"""The least time that this machine needs for a workload, from parts measured in the same run.

    time = min(synaptic operations / rate of adding int8 rows, products / rate of int8 products)
         + neuron updates / rate of updates + scanned places * cost + spikes * cost

The rate of adding rows is that of the cache that holds the weights where a row is used
fewer than :data:`REUSED` times in a sample, else the best: then they can be taken block by
block. Terms are added, as they share the vector units. Matrix units (AMX) are left out.
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
_REPEATS, _SECONDS = 7, 0.02


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
    return _rates(ctypes.CDLL(str(library)))


def _rates(native: ctypes.CDLL) -> dict[str, float]:
    rng = np.random.default_rng(0)
    result = {
        f"add_{level}": _adding(native, rng, kilobytes)
        for level, kilobytes in (("L1", 16), ("L2", 768), ("L3", 16384))
    }
    state = np.zeros((2, 1024), np.int32)
    sums = rng.integers(-300, 300, 1024).astype(np.int16)
    sent = np.zeros(1024, np.uint8)
    seconds = _best(lambda: native.update(
        *map(_pointer, (state[0], state[1], sums, sent)), ctypes.c_int64(1024), 3686, 3891, 160000
    ))  # fmt: skip
    result["update"] = 1024 / seconds
    index = np.zeros(4096, np.int64)
    costs = []
    for density in (0.0, 0.1):
        spikes = (rng.random((32, 4096)) < density).astype(np.uint8)
        rows = [_pointer(row) for row in spikes]  # several: branches must not be learnt

        def find(rows: list[ctypes.c_void_p] = rows) -> None:
            for row in rows:
                native.find(row, ctypes.c_int64(4096), _pointer(index))

        costs.append((_best(find), float(spikes.sum())))
    result["scan_place"] = costs[0][0] / (32 * 4096)
    result["scan_spike"] = max(0.0, (costs[1][0] - costs[0][0]) / costs[1][1])
    result["product"] = _products(native)
    return result


def _adding(native: ctypes.CDLL, rng: np.random.Generator, kilobytes: int) -> float:
    width = 512
    weights = rng.integers(-100, 100, (kilobytes * 2, width)).astype(np.int8)
    order = rng.permutation(len(weights)).astype(np.int64)[:252 * max(1, len(weights) // 252)]
    sums = np.zeros(width, np.int16)
    seconds = _best(lambda: native.add_rows(
        _pointer(weights), ctypes.c_int64(width), _pointer(order), ctypes.c_int64(len(order)),
        _pointer(sums),
    ))  # fmt: skip
    return len(order) * width / seconds


def _products(native: ctypes.CDLL) -> float:
    weights = np.ones(16384, np.int8)
    out = np.zeros(1, np.int32)
    arguments = (_pointer(weights), ctypes.c_int64(16384), ctypes.c_int64(64), _pointer(out))
    native.products.restype = ctypes.c_int64
    count = native.products(*arguments)
    return count / _best(lambda: native.products(*arguments))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _best(call: Callable[[], object]) -> float:
    """Return processor seconds of one call: the least of several tries."""
    call()
    begin = time.perf_counter()
    call()
    count = max(1, int(_SECONDS / max(1e-7, time.perf_counter() - begin)))
    found = []
    for _ in range(_REPEATS):
        begin = time.process_time()
        for _ in range(count):
            call()
        found.append((time.process_time() - begin) / count)
    return min(found)


def bound_seconds(
    rates: Mapping[str, float], work: Mapping[str, float], weights: int, batch: int
) -> float:
    """Return the least seconds per sample; ``weights`` is how many bytes the largest layer has."""
    reuse = work["sop"] / weights * min(batch, 2)
    level = "L1" if weights <= 32 << 10 else "L2" if weights <= 1 << 20 else "L3"
    best = max(rates["add_L1"], rates["add_L2"])
    adding = work["sop"] / (best if reuse >= REUSED else rates[f"add_{level}"])
    if rates["product"]:
        adding = min(adding, work["mac"] / rates["product"])
    scanning = work["scanned"] * rates["scan_place"] + work["events"] * rates["scan_spike"]
    return adding + work["updates"] / rates["update"] + scanning
