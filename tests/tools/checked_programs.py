"""Run random programs with Numba's checks of every index: the kernels' own second wall.

``python checked_programs.py FIRST COUNT``, with NUMBA_BOUNDSCHECK=1 and a cache of its own;
an index beyond an array is an IndexError. What is run equals golden, as always.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numba.core import config

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import fast, golden
from spikec.backends.simulator.layout import laid_out


def main(first: int, count: int) -> None:
    assert config.BOUNDSCHECK
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        program = random_program(rng, max_neurons=70)
        inputs = random_inputs(program, rng, 2, 9)
        probes = program.default_probes
        wanted = golden.run(program, inputs, probes=probes)
        for threads in (1, 2):
            found = fast.run(laid_out(program), inputs, probes, threads=threads)
            for probe in probes:
                np.testing.assert_array_equal(found[probe], wanted[probe])
    sys.stdout.write(f"{count} programs\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
