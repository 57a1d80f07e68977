"""Operators against naive loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.random_graphs import random_chain, random_synapses
from support.scalar_operators import taps

from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Operator,
    Permute,
    Reshape,
    Scale,
    Sparse,
    Stage,
    Synapses,
    average_pool,
    cast,
    row_sums,
    weights_of,
    with_weight,
    written_out,
)


def naive(operator: Operator, values: np.ndarray) -> list[list[float]]:
    rows = taps(operator, values.shape[1:])
    flat = values.reshape(len(values), -1).tolist()
    return [[sum(w * sample[place] for place, w in row) for row in rows] for sample in flat]


CASES = tuple(
    itertools.product(
        [(1, 1), (2, 1), (2, 3)],  # stride
        [(0, 0), (1, 0), (2, 3)],  # padding
        [(1, 1), (2, 1), (1, 2)],  # dilation
        [1, 2],  # groups
        [(1, 1), (3, 2)],  # kernel
    )
)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups", "kernel"), CASES)
def test_conv2d_equals_naive_loops(
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    kernel: tuple[int, int],
) -> None:
    rng = np.random.default_rng(0)
    conv = Conv2d(
        weight=rng.integers(-9, 10, (6, 4 // groups, *kernel)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    values = rng.integers(-5, 6, (3, 4, 6, 7))
    result = conv.apply(values)
    assert result.shape == (3, *conv.output_shape((4, 6, 7)))
    assert result.reshape(3, -1).tolist() == naive(conv, values)


def test_conv2d_does_not_flip_its_kernel() -> None:
    conv = Conv2d(weight=np.arange(1, 5).reshape(1, 1, 2, 2), padding=(1, 1))
    impulse = np.zeros((1, 1, 3, 3))
    impulse[0, 0, 1, 1] = 1
    assert conv.apply(impulse)[0, 0, 1:3, 1:3].tolist() == [[4, 3], [2, 1]]


@pytest.mark.parametrize("source", [(6,), (1, 6), (1, 2, 3)])
def test_dense_flattens_its_source(source: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    dense = Dense(weight=rng.integers(-9, 10, (4, 6)))
    values = rng.integers(-5, 6, (3, *source))
    assert dense.output_shape(source) == (4,)
    assert dense.apply(values).tolist() == naive(dense, values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(
    "operator", [Dense(weight=np.ones((2, 4))), Conv2d(weight=np.ones((2, 1, 1, 1)))]
)
def test_operators_compute_in_the_type_of_their_input(operator: Operator, dtype: type) -> None:
    assert operator.apply(np.ones((2, 1, 2, 2), dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("operator", "source", "message"),
    [
        (Dense(weight=np.ones(3)), (3,), r"must be \[out, in\], has shape \(3,\)"),
        (Dense(weight=np.ones((2, 3))), (4,), "takes 3 inputs, the source has 4"),
        (Conv2d(weight=np.ones((2, 3))), (1, 2, 3), "needs weight"),
        (Conv2d(weight=np.ones((2, 3, 1, 1))), (3, 4), "needs weight"),
        (Conv2d(weight=np.ones((2, 3, 1, 1))), (2, 4, 4), "does not take 2 channels"),
        (Conv2d(weight=np.ones((3, 1, 1, 1)), groups=2), (2, 4, 4), "does not take 2 channels"),
        (Conv2d(weight=np.ones((1, 1, 5, 1))), (1, 4, 4), "does not fit into"),
        (Conv2d(weight=np.ones((1, 1, 1, 1)), stride=(0, 1)), (1, 4, 4), "stride"),
        (Conv2d(weight=np.ones((1, 1, 1, 1)), groups=0), (1, 4, 4), "groups"),
        (Conv2d(weight=np.ones((1, 1, 1, 1)), padding=(-1, 0)), (1, 4, 4), "padding"),
        (Conv2d(weight=np.ones((1, 1, 2, 2)), dilation=(1, 4)), (1, 4, 4), "does not fit into"),
    ],
)
def test_what_does_not_fit_is_refused(
    operator: Operator, source: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        operator.output_shape(source)


def test_with_weight_changes_nothing_else() -> None:
    conv = Conv2d(weight=np.ones((2, 1, 1, 1)), stride=(2, 1), padding=(1, 0), groups=2)
    changed = with_weight(conv, np.zeros((2, 1, 1, 1)))
    assert not changed.weight.any()
    assert (changed.stride, changed.padding, changed.groups) == ((2, 1), (1, 0), 2)


def test_weights_are_read_only() -> None:
    mine = np.ones((2, 2))
    dense = Dense(weight=mine)
    mine[:] = 0
    assert dense.weight.all()
    with pytest.raises(ValueError, match="read-only"):
        dense.weight[0, 0] = 5


@pytest.mark.parametrize("source", [(5,), (2, 3), (2, 4, 6), (3, 2, 2)])
def test_chains_equal_naive_loops(source: tuple[int, ...]) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        chain = random_chain(rng, source, (3,))
        values = rng.integers(-3, 4, (2, *source)).astype(float)
        assert chain.apply(values).reshape(2, -1).tolist() == naive(chain, values), seed


def test_average_pooling_counts_the_zeros_of_its_padding() -> None:
    chain = Chain(stages=average_pool(1, (2, 2), (2, 2), (1, 1)))
    assert chain.apply(np.ones((1, 1, 2, 2))).tolist() == [[[[0.25, 0.25], [0.25, 0.25]]]]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Scale(weight=np.ones(3)), "shape"),
        (Scale(weight=np.ones((2, 2, 2))), "scale of shape"),
        (Reshape(shape=(5,)), "cannot be reshaped"),
        (Permute(axes=(0, 0)), "do not permute"),
    ],
)
def test_a_stage_that_does_not_fit_is_refused(stage: Stage, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(stages=(stage,)).output_shape((2, 2))


def test_a_chain_lists_its_weights_and_can_be_cast() -> None:
    dense, scale = Dense(weight=np.eye(2)), Scale(weight=np.array(2.0))
    chain = Chain(stages=(Permute(axes=(0,)), dense, scale))
    assert [weight.shape for weight in weights_of(chain)] == [(2, 2), ()]
    assert {weight.dtype for weight in weights_of(cast(chain, np.float32))} == {np.dtype("f4")}
    assert weights_of(dense) == (dense.weight,)


# Single synapses


def drawn_sparse(seed: int, outputs: int, inputs: int) -> Sparse:
    rng = np.random.default_rng(seed)
    synapses = random_synapses(rng, outputs, inputs)
    return Sparse(weight=rng.integers(-9, 10, len(synapses.targets)), synapses=synapses)


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("seed", range(4))
def test_sparse_equals_naive_loops_in_blocks_of_any_size(
    seed: int, dtype: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikec.compiler.operators._BLOCK", block)
    sparse = drawn_sparse(seed, 5, 6)
    values = np.random.default_rng(seed).integers(-2, 3, (3, 2, 3)).astype(dtype)
    assert sparse.output_shape((2, 3)) == (5,)
    result = sparse.apply(values)
    assert result.dtype == dtype
    assert result.tolist() == naive(sparse, values)
    dense = written_out(sparse)
    np.testing.assert_array_equal(dense.apply(values), result)
    np.testing.assert_array_equal(row_sums(sparse), np.abs(dense.weight).sum(axis=1))
    np.testing.assert_array_equal(row_sums(sparse), row_sums(dense))


def test_sparse_operators_share_their_synapses() -> None:
    sparse = drawn_sparse(0, 5, 6)
    other = cast(sparse, np.float64)
    assert isinstance(other, Sparse)
    assert other.synapses is sparse.synapses
    assert weights_of(other)[0].dtype == np.float64


@pytest.mark.parametrize(
    ("targets", "pointers", "outputs", "message"),
    [
        ([0, 3], [0, 2], 3, r"targets span 0\.\.3, not 0\.\.2"),
        ([-1, 1], [0, 2], 3, r"targets span -1\.\.1"),
        ([1, 0], [0, 2], 3, "source 0 do not rise"),
        ([0, 1, 1], [0, 1, 3], 3, "source 1 do not rise"),
        ([0, 1], [0, 1], 3, "pointers begin at 0"),
        ([0, 1], [1, 2], 3, "pointers begin at 0"),
        ([0, 1], [0, 2, 1, 2], 3, "pointers begin at 0"),
        ([0], [], 3, "pointers begin at 0"),
        ([0], [0, 1], 0, "0 outputs"),
        ([0.0], [0, 1], 3, "row of integers"),
        ([1 << 40], [0, 1], 3, "targets span"),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_synapses_that_make_no_matrix_are_refused(
    targets: list[int],
    pointers: list[int],
    outputs: int,
    message: str,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spikec.compiler.operators._BLOCK", block)
    with pytest.raises(ValueError, match=message):
        Synapses(targets=np.array(targets), pointers=np.array(pointers, dtype=int), outputs=outputs)


def test_targets_may_fall_from_one_source_to_the_next() -> None:
    Synapses(targets=np.array([2, 1, 0]), pointers=np.array([0, 0, 1, 2, 2, 3]), outputs=3)


def test_sparse_weights_and_sources_must_fit() -> None:
    sparse = drawn_sparse(0, 5, 6)
    with pytest.raises(ValueError, match="the source has 7"):
        sparse.output_shape((7,))
    with pytest.raises(ValueError, match="have weights"):
        with_weight(sparse, np.zeros(1000)).output_shape((6,))


def test_a_large_sparse_operator_is_not_written_out() -> None:
    count = 5000
    synapses = Synapses(targets=np.arange(count), pointers=np.arange(count + 1), outputs=count)
    with pytest.raises(ValueError, match="5,000 x 5,000"):
        written_out(Sparse(weight=np.ones(count), synapses=synapses))
