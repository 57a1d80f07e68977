"""The baseline: integers in plain NumPy, the rows of neurons that spiked summed step by step.

It is exact, small, and the same everywhere: what other figures can be related to.
"""

import numpy as np
from serve import serve


def matrix(layer, source):
    """Return source-major int32 weights; a convolution is written out as a matrix."""
    weight = layer["weight"].astype(np.int32)
    if not layer["stride"]:
        return np.ascontiguousarray(weight.T)
    stride, (out, high, wide) = layer["stride"], layer["shape"]
    rows = np.zeros((*source, out, high, wide), np.int32)
    for y in range(high):
        for x in range(wide):
            window = (slice(y * stride, y * stride + weight.shape[2]),
                      slice(x * stride, x * stride + weight.shape[3]))  # fmt: skip
            rows[:, window[0], window[1], :, y, x] = weight.transpose(1, 2, 3, 0)
    return rows.reshape(int(np.prod(source)), out * high * wide)


def decayed(state, kept):
    """``state * kept / 4096``, rounded to zero."""
    product = state * kept
    return (product + ((product >> 63) & 4095)) >> 12


def prepare(network, batch, threads):  # noqa: ARG001 - sums of rows use one
    """Lay out the weights."""
    source, tables = network.input_shape, []
    for layer in network.layers:
        recurrent = layer["recurrent"]
        tables.append(
            (matrix(layer, source), None if recurrent is None
             else np.ascontiguousarray(recurrent.T.astype(np.int32)), layer["vth"] << 6)
        )  # fmt: skip
        source = tuple(layer["shape"])
    keep_current, keep_voltage = 4095 - network.du, 4096 - network.dv

    def one(spikes):
        before = spikes.reshape(network.steps, -1)
        result = []
        for rows, loop, threshold in tables:
            count = rows.shape[1]
            current, voltage = np.zeros((2, count), np.int64)
            sent = np.zeros((network.steps, count), np.uint8)
            for step in range(1, network.steps):
                arrived = rows[before[step - 1].nonzero()[0]].sum(axis=0)
                if loop is not None:
                    arrived = arrived + loop[sent[step - 1].nonzero()[0]].sum(axis=0)
                current = decayed(current, keep_current) + (arrived << 6)
                voltage = decayed(voltage, keep_voltage) + current
                fires = voltage > threshold
                voltage[fires] = 0
                sent[step] = fires
            result.append(sent)
            before = sent
        return result

    def run(spikes):
        samples = [one(item) for item in spikes]
        return [np.stack(layer) for layer in zip(*samples, strict=True)]

    return run


if __name__ == "__main__":
    serve(prepare, ["numpy"])
