"""The numbers by which the tables of the fast engine are written and read.

``layout.py`` writes them, ``kernels.py`` reads them; they stand apart so that the
first can be imported without the compiler that the second needs.
"""

from __future__ import annotations

# Columns of the tables; layout.py writes them under the same names.
(C_KIND, C_SOURCE, C_COUNT, C_DELAY, C_TARGET, C_WIDTH, C_WEIGHTS, C_SHIFT, C_VALUES,
 C_GEOMETRY, C_POINTERS, C_TARGETS, C_STRIDE, C_TOGETHER) = range(14)  # fmt: skip
(P_SPIKES, P_COUNT, P_STATE, P_TARGET, P_RESET, P_LATE, P_DROPS, P_IDLE, P_MOST, P_FLOOR, P_FIRES,
 P_START, P_VOLTAGE, P_CURRENT, P_PLAIN, P_TWICE) = range(16)  # fmt: skip
(G_POPULATIONS, G_POPULATIONS_END, G_OUTER, G_OUTER_END, G_INNER_END, G_FUSED,
 G_STEPS) = range(7)  # fmt: skip
(V_KEEP_CURRENT, V_KEEP_VOLTAGE, V_BIAS, V_THRESHOLD, V_AMOUNT, V_RESET,
 V_FLOOR) = range(7)  # fmt: skip
#: The first of them once more as bits of float32, factors in parts of 1.
(R_KEEP_CURRENT, R_KEEP_VOLTAGE, R_BIAS, R_THRESHOLD, R_AMOUNT, R_RESET) = range(7, 13)
DENSE, WIDE, CONV, SPARSE, READY = range(5)
(H_CHUNK, H_BEFORE, H_STEPS, H_BACK) = range(4)
(Q_PLACES, Q_LINE, Q_BACK, Q_LINES, Q_WIDTH, Q_SUMS, Q_REACHED, Q_HIGH) = range(8)
#: What a source sends: bits are those of inputs, where their owner has them, or of neurons.
HEARD, BITS, BYTES, INTEGERS = range(4)
NONE, SUBTRACT, REPLACE = range(3)
GENERAL, PLAIN, CALM = range(3)

#: Columns of a row of int8 weights that lie together: those of all rows, then the next. Rows
#: a power of two apart would share few places in a cache.
BLOCK = 256
