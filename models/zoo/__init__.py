"""Trained networks of the seed model, with the data to judge them.

``CARD.md`` beside this file says how they were trained and what they reach;
``examples/train_mnist.py`` trains them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.frontends import native
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import Graph
from spikec.compiler.npz import read_npz
from spikec.models.encoding import rate_code, scan_code

__all__ = ["ZOO", "ZooEntry", "data", "entry", "graph"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """One trained network: its name, what it is, and how images become its input."""

    name: str
    summary: str
    encode: Callable[[Array], Array]

    @property
    def path(self) -> Path:
        """The graph file."""
        return _FOLDER / f"{self.name}.safetensors"


ZOO = (
    ZooEntry(
        name="mnist-feedforward",
        summary="784-256-10, rate-coded pixels over 16 steps, read by spike count",
        encode=lambda images: rate_code(images, steps=16),
    ),
    ZooEntry(
        name="mnist-recurrent",
        summary="56-192(recurrent)-10, one row and one column a step, read by voltage",
        encode=lambda images: scan_code(images, above=96, silent_steps=8),
    ),
)


def entry(name: str) -> ZooEntry:
    """Return the entry called ``name``; :class:`UsageError` lists those there are."""
    for item in ZOO:
        if item.name == name:
            return item
    raise UsageError(
        Diagnostic(
            code="U060",
            where=f"network '{name}'",
            message="the zoo does not have it",
            hint=f"one of {', '.join(item.name for item in ZOO)}",
        )
    )


def graph(name: str) -> Graph:
    """Return the trained network ``name``."""
    return native.read(entry(name).path)


def data(name: str, *, samples: int | None = None) -> Dataset:
    """Return MNIST test images as input of network ``name``, with labels.

    All 10,000 by default, else the first ``samples``.
    """
    arrays = read_npz(_FOLDER / "mnist-test.npz")
    images, labels = arrays["images"][:samples], arrays["labels"][:samples]
    (node,) = graph(name).inputs
    return Dataset(inputs={node.name: entry(name).encode(images)}, labels=labels)
