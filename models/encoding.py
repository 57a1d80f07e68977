"""Images to spikes, without chance: the same image always gives the same spikes."""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array

__all__ = ["rate_code", "scan_code"]


def rate_code(images: Array, *, steps: int) -> Array:
    """Return evenly spaced spikes, ``[sample, steps, pixel]``, at a rate of value / 256.

    Step n carries a spike where ``floor((v (n + 1) + 128) / 256)`` passes the value
    it had at n: over ``steps`` steps a pixel v spikes ``round(v * steps / 256)``
    times. ``images`` is uint8, ``[sample, height, width]``.
    """
    values = images.reshape(len(images), 1, -1).astype(np.int32)
    edges = np.arange(steps + 1, dtype=np.int32)[None, :, None]
    counts = (values * edges + 128) >> 8
    return np.diff(counts, axis=1).astype(np.uint8)


def scan_code(images: Array, *, above: int, silent_steps: int) -> Array:
    """Return images scanned over time, ``[sample, side + silent_steps, 2 * side]``.

    Step n shows row n and column n of a square image, a spike where a pixel is
    ``above`` or more; ``silent_steps`` without input follow, for the network to
    decide. ``images`` is uint8, ``[sample, side, side]``.
    """
    bright = (images >= above).astype(np.uint8)
    scanned = np.concatenate([bright, bright.transpose(0, 2, 1)], axis=2)
    return np.pad(scanned, ((0, 0), (0, silent_steps), (0, 0)))
