"""Where cores are on the mesh: those that talk most get neighbouring tiles.

A quadratic assignment: the sum over pairs of messages times distance. It starts on a curve that
visits neighbouring tiles one after the other, and swaps pairs as long as a swap gains.
"""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.mapping.traffic import Traffic
from spikec.compiler.targets import Cores

__all__ = ["apart", "distances", "hops", "placed"]

#: Above so many cores, they stay on the curve: a round of swaps costs their third power.
_MOST_SWAPPED = 512
_ROUNDS = 8


def placed(between: Traffic, limits: Cores, chips: int) -> Array:
    """Return the site of every core, int32."""
    number = between.number
    in_use = min(chips, -(-number // limits.count))
    sites = _curve(limits, in_use)[:number].astype(np.int32)
    if number > _MOST_SWAPPED:
        return sites
    table = between.dense()
    talk = table + table.T
    np.fill_diagonal(talk, 0)
    far = hops(sites, sites, limits)
    for _ in range(_ROUNDS):
        swapped = False
        for core in range(number):
            # What core gains with every other's site, and the other with core's.
            moved = talk[core] @ far.T - talk[core] @ far[core]
            theirs = talk @ far[core] - (talk * far).sum(axis=1)
            gain = moved + theirs + 2 * talk[core] * far[core]
            other = int(np.argmin(gain))
            if gain[other] < -1e-9:
                sites[[core, other]] = sites[[other, core]]
                far = hops(sites, sites, limits)
                swapped = True
        if not swapped:
            break
    return sites


def distances(sites: Array, limits: Cores) -> tuple[Array, Array]:
    """Return the column and row of the tile of every site, chips side by side."""
    columns, rows = limits.tiles
    chip, tile = np.divmod(sites // limits.cores_per_tile, columns * rows)
    return chip * columns + tile % columns, tile // columns


def hops(sites: Array, others: Array, limits: Cores) -> Array:
    """Return the tiles that a message passes between sites, ``[site, other]``."""
    return apart(sites[:, None], others[None, :], limits)


def apart(sites: Array, others: Array, limits: Cores) -> Array:
    """Return the tiles that a message passes between each site and the other beside it."""
    (x, y), (u, v) = distances(sites, limits), distances(others, limits)
    tiles: Array = np.abs(x - u) + np.abs(y - v)
    return tiles.astype(np.float64)


def _curve(limits: Cores, chips: int) -> Array:
    """Return the usable sites of all chips, down one column of tiles and up the next."""
    columns, rows = limits.tiles
    tiles = np.arange(columns * rows).reshape(rows, columns).T.copy()
    tiles[1::2] = tiles[1::2, ::-1]
    on_tile = np.arange(limits.cores_per_tile)
    chip = (tiles.reshape(-1, 1) * limits.cores_per_tile + on_tile).reshape(-1)[: limits.count]
    size = columns * rows * limits.cores_per_tile
    return np.concatenate([chip + size * index for index in range(chips)])
