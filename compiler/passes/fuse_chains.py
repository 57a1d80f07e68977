"""Turn every chain of linear stages into one weighted operator.

Scales go into the weights beside them, convolutions of convolutions become one
where that is exact, pooling before a convolution becomes a wider, strided
kernel, and reshapes before a dense layer vanish. What has no such form is
written out as a dense matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, size
from spikec.compiler.errors import Diagnostic, GraphError
from spikec.compiler.ir import Edge, Graph
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Reshape,
    Scale,
    Sparse,
    Stage,
    Synapses,
    Weighted,
    with_weight,
)

__all__ = ["FuseChains", "fuse"]

#: A matrix written out may have at most this many entries.
_MOST_ENTRIES = 1 << 28


class FuseChains:
    """Rewrite chains to single operators; exact but for the rounding of products of weights."""

    name = "fuse-chains"

    def __call__(self, graph: Graph, /) -> Graph:
        """Return the rewritten graph, or ``graph`` itself."""
        edges = {
            edge.name: _fused(edge, graph[edge.source].shape)
            for edge in graph.edges
            if isinstance(edge.operator, Chain)
        }
        return graph.rewritten(edges=edges) if edges else graph


def _fused(edge: Edge, source: Shape) -> Edge:
    assert isinstance(edge.operator, Chain)
    try:
        return replace(edge, operator=fuse(edge.operator, source))
    except ValueError as error:
        raise GraphError(
            Diagnostic(
                code="G063",
                where=f"edge '{edge.name}'",
                message=str(error),
                hint="put a population between its layers",
            )
        ) from error


def fuse(chain: Chain, source: Shape) -> Weighted:
    """Return one operator equal to ``chain`` on sources of shape ``source``.

    Raises ``ValueError`` when that would be a matrix beyond any chip's size.
    """
    stages = _merged(chain.stages, source)
    if len(stages) == 1 and isinstance(stages[0], (Dense, Sparse, Conv2d)):
        return stages[0]
    if not stages:
        return Dense(weight=np.eye(size(source)))
    return _written_out(Chain(stages=tuple(stages)), source)


def _merged(stages: Sequence[Stage], source: Shape) -> list[Stage]:
    """Merge neighbours until nothing changes; every merge keeps the chain's meaning."""
    done: list[Stage] = []
    shapes = [source]
    for stage in stages:
        done.append(stage)
        shapes.append(stage.output_shape(shapes[-1]))
        while (merged := _merge_last(done, shapes)) is not None:
            kept = len(done) - 1 if len(done) == 1 else len(done) - 2
            done[kept:] = merged
            del shapes[kept + 1 :]
            for item in merged:
                shapes.append(item.output_shape(shapes[-1]))
    return done


def _merge_last(stages: Sequence[Stage], shapes: Sequence[Shape]) -> list[Stage] | None:
    """Return what the last two stages (or the last alone) become, or None."""
    if not stages:
        return None
    last = stages[-1]
    if isinstance(last, Reshape) and shapes[-1] == shapes[-2]:
        return list(stages[-2:-1])  # it changes nothing: what came before it stays
    if len(stages) < 2:
        return None
    before, middle = stages[-2], shapes[-2]
    if isinstance(before, Reshape) and isinstance(last, (Dense, Sparse, Reshape)):
        return [last]  # both read their source flat
    if isinstance(before, Scale):
        return _after_scale(before, last, middle)
    if isinstance(before, (Dense, Sparse, Conv2d)):
        return _after_weights(before, last, shapes[-3], middle)
    return None


def _after_scale(scale: Scale, last: Stage, middle: Shape) -> list[Stage] | None:
    """Move a scale into what follows it."""
    factor = scale.weight.astype(np.float64)
    if isinstance(last, Scale):
        return [Scale(weight=frozen(factor * last.weight))]
    if isinstance(last, Dense):
        columns = np.broadcast_to(factor, middle).reshape(1, -1)
        return [Dense(weight=frozen(last.weight * columns))]
    if isinstance(last, Sparse):
        each = last.synapses.per_synapse(np.broadcast_to(factor, middle).reshape(-1))
        return [with_weight(last, frozen(last.weight * each))]
    channels = _per_channel(factor, middle)
    if isinstance(last, Conv2d) and channels is not None:
        per_group = last.weight.shape[1]
        out = last.weight.shape[0] // last.groups
        grouped = channels.reshape(last.groups, 1, per_group, 1, 1)
        weight = last.weight.reshape(last.groups, out, *last.weight.shape[1:]) * grouped
        return [with_weight(last, frozen(weight.reshape(last.weight.shape)))]
    return None


def _after_weights(
    first: Weighted, last: Stage, source: Shape, middle: Shape
) -> list[Stage] | None:
    """Merge a stage into the weighted one before it."""
    weight = first.weight.astype(np.float64)
    if isinstance(last, Dense) and isinstance(first, Dense):
        return [Dense(weight=frozen(last.weight.astype(np.float64) @ weight))]
    if isinstance(last, Scale) and isinstance(first, Dense):
        rows = np.broadcast_to(last.weight, middle).reshape(-1, 1)
        return [Dense(weight=frozen(weight * rows))]
    if isinstance(last, Scale) and isinstance(first, Sparse):
        factors = np.broadcast_to(last.weight, middle).reshape(-1)
        return [with_weight(first, frozen(weight * factors[first.synapses.targets]))]
    if isinstance(last, Scale) and isinstance(first, Conv2d):
        channels = _per_channel(last.weight, middle)
        if channels is not None:
            return [with_weight(first, frozen(weight * channels.reshape(-1, 1, 1, 1)))]
    if isinstance(last, Conv2d) and isinstance(first, Conv2d):
        return _conv_of_conv(first, last, source)
    if isinstance(first, Sparse) and isinstance(last, (Dense, Sparse)) and _selects(first):
        if isinstance(last, Dense):
            return [_selected_columns(first, last)]
        return [_selected_synapses(first, last)]
    return None


def _conv_of_conv(first: Conv2d, last: Conv2d, source: Shape) -> list[Stage] | None:
    """Merge two convolutions where that is exact."""
    if _is_pooling(first, source):
        return [_pooled_conv(first, last)]
    return [_mixed_conv(first, last)] if _mixes_channels(first) and last.groups == 1 else None


def _selects(first: Sparse) -> bool:
    """Say whether every value is one of the source's times a weight, or 0."""
    return len(np.unique(first.synapses.targets)) == len(first.synapses.targets)


def _selected_columns(first: Sparse, last: Dense) -> Dense:
    """Return the matrix that reads its source where ``first`` selects it."""
    synapses = first.synapses
    sources = synapses.per_synapse(np.arange(synapses.inputs))
    columns = last.weight[:, synapses.targets].astype(np.float64) * first.weight
    matrix = np.zeros((len(last.weight), synapses.inputs))
    np.add.at(matrix.T, sources, columns.T)
    return Dense(weight=frozen(matrix))


def _selected_synapses(first: Sparse, last: Sparse) -> Sparse:
    """Return the synapses of ``last``, each from the source that ``first`` selects for it."""
    inner, outer = first.synapses, last.synapses
    counts = np.diff(outer.pointers)[inner.targets]
    begins = outer.pointers[inner.targets]
    places = np.arange(counts.sum()) + np.repeat(begins - (np.cumsum(counts) - counts), counts)
    sources = np.repeat(inner.per_synapse(np.arange(inner.inputs)), counts)
    weight = last.weight[places].astype(np.float64) * np.repeat(first.weight, counts)
    # Two places of one source may reach the same target: their weights add up.
    keys, pairs = np.unique(sources * outer.outputs + outer.targets[places], return_inverse=True)
    return Sparse(
        weight=frozen(np.bincount(pairs.reshape(-1), weight, len(keys))),
        synapses=Synapses(
            targets=keys % outer.outputs,
            pointers=np.searchsorted(keys, np.arange(inner.inputs + 1) * outer.outputs),
            outputs=outer.outputs,
        ),
    )


def _mixes_channels(conv: Conv2d) -> bool:
    """Say whether ``conv`` only adds up channels, place by place."""
    return (
        conv.weight.shape[2:] == (1, 1)
        and (conv.stride, conv.padding, conv.groups) == ((1, 1), (0, 0), 1)
    )  # fmt: skip


def _mixed_conv(first: Conv2d, last: Conv2d) -> Conv2d:
    """Return the convolution that adds up channels and then does ``last``."""
    mixing = first.weight[:, :, 0, 0].astype(np.float64)
    weight = np.einsum("omhw,mi->oihw", last.weight.astype(np.float64), mixing)
    return replace(last, weight=frozen(np.ascontiguousarray(weight)))


def _per_channel(factor: Array, shape: Shape) -> Array | None:
    """Return one factor per channel of ``(channels, height, width)``, or None."""
    if len(shape) != 3:
        return None
    full = np.broadcast_to(factor, shape)
    channels: Array = full[:, 0, 0]
    return channels if (full == channels[:, None, None]).all() else None


def _is_pooling(conv: Conv2d, source: Shape) -> bool:
    """Say whether ``conv`` cuts its source into disjoint windows, channel by channel.

    Then windows beyond the border see zeros only, as padding after it would.
    """
    kernel = conv.weight.shape[2:]
    depthwise = conv.groups == source[0] == conv.weight.shape[0]
    whole = all(extent % window == 0 for extent, window in zip(source[1:], kernel, strict=True))
    return depthwise and whole and kernel == conv.stride and conv.padding == (0, 0)


def _pooled_conv(pool: Conv2d, conv: Conv2d) -> Conv2d:
    """Return the convolution that does ``pool`` and then ``conv`` at once."""
    rows, columns = pool.stride
    spread = np.zeros(
        (
            *conv.weight.shape[:2],
            rows * ((conv.weight.shape[2] - 1) * conv.dilation[0] + 1),
            columns * ((conv.weight.shape[3] - 1) * conv.dilation[1] + 1),
        )
    )
    out = conv.weight.shape[0] // conv.groups
    window = pool.weight.reshape(conv.groups, 1, -1, rows, columns).astype(np.float64)
    for row, column in np.ndindex(*conv.weight.shape[2:]):
        tap = conv.weight[:, :, row, column].reshape(conv.groups, out, -1, 1, 1) * window
        top, left = row * conv.dilation[0] * rows, column * conv.dilation[1] * columns
        spread[:, :, top : top + rows, left : left + columns] = tap.reshape(
            *conv.weight.shape[:2], rows, columns
        )
    return Conv2d(
        weight=frozen(spread),
        stride=(conv.stride[0] * rows, conv.stride[1] * columns),
        padding=(conv.padding[0] * rows, conv.padding[1] * columns),
        groups=conv.groups,
    )


def _written_out(chain: Chain, source: Shape) -> Dense:
    """Return the chain's matrix, found by sending unit vectors through it."""
    inputs, outputs = size(source), size(chain.output_shape(source))
    if inputs * outputs > _MOST_ENTRIES:
        raise ValueError(f"its layers have no common form, and {outputs} x {inputs} weights")
    units = np.eye(inputs).reshape(inputs, *source)
    matrix = chain.apply(units).reshape(inputs, outputs).T
    return Dense(weight=frozen(np.ascontiguousarray(matrix)))
