"""How networks of frameworks become NIR files, and how readings are compared with them."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import nirtorch
import norse.torch as norse
import numpy as np
import pytest
import snntorch as snn
import snntorch.export_nir
import torch
from torch import Tensor, nn

from spikec.compiler import reference
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import ReadOptions, nir_graph
from spikec.compiler.frontends.options import ASSUMED
from spikec.compiler.ir import LIF, Graph

STEPS, SAMPLES, INPUTS, HIDDEN, OUTPUTS = 40, 3, 12, 10, 6


@pytest.fixture
def nodes_with_v_reset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give nodes the v_reset of nir 1.0.8: sinabs wants an older nir in this environment."""
    torch.manual_seed(0)
    for name in ("IF", "LIF", "CubaLIF"):
        old = getattr(nir, name)
        if "v_reset" in {item.name for item in dataclasses.fields(old)}:
            continue

        def filled(self: Any, old: Any = old) -> None:
            old.__post_init__(self)
            if self.v_reset is None:
                self.v_reset = np.zeros_like(np.asarray(self.v_threshold))

        new = dataclasses.make_dataclass(
            name,
            [("v_reset", Any, None)],
            bases=(old,),
            eq=False,
            namespace={"__post_init__": filled},
        )
        monkeypatch.setattr(nir, name, new)
    known = inspect.signature(nirtorch.torch_to_nir).parameters
    if "type_check" not in known:  # arguments of newer nirtorch, which SpikingJelly gives
        export, load = nirtorch.torch_to_nir, nirtorch.nir_to_torch
        monkeypatch.setattr(nirtorch, "torch_to_nir", lambda net, nodes, **_: export(net, nodes))
        monkeypatch.setattr(nirtorch, "nir_to_torch", lambda graph, nodes, **_: load(graph, nodes))
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        yield


def save(path: Path, graph: Any, picture: tuple[int, int] | None = None) -> Path:
    """Write a file; a convolution without the input_shape that newer nir infers gets it."""
    for node in graph.nodes.values():
        if isinstance(node, nir.Conv2d) and node.input_shape is None:
            node.input_shape = picture
        if isinstance(node, nir.Flatten) and node.input_type["input"] is None and picture:
            node.input_type = {"input": np.array([4, picture[0] // 2, picture[1] // 2])}
    nir.write(path, graph)
    return path


def dyadic(*shape: int, scale: float = 1.0) -> Tensor:
    """Return values whose sums are exact: no order of addition matters."""
    return torch.round(torch.randn(*shape) * scale * 16) / 16


def linear(inputs: int, outputs: int, scale: float = 0.6, *, bias: bool = True) -> nn.Linear:
    made = nn.Linear(inputs, outputs, bias=bias)
    made.weight.copy_(dyadic(outputs, inputs, scale=scale))
    if bias:
        made.bias.copy_(dyadic(outputs, scale=0.1))
    return made


def spread(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape)


def given(*shape: int) -> Tensor:
    return (torch.rand(SAMPLES, STEPS, *shape) < 0.4).float()


def check(path: Path, truth: Tensor, shown: Tensor, **options: Any) -> Graph:
    """Compare what the last population does with the framework's output [sample, step, ...]."""
    graph = nir_graph.read(path, ReadOptions(**options))
    (output,) = graph.outputs
    trace = reference.run(graph, {graph.inputs[0].name: shown.numpy()}, dtype=np.float32)
    wanted = truth.detach().numpy()
    if isinstance(graph[output], LIF):
        assert 0.002 < (wanted > 0).mean() < 0.98
        np.testing.assert_array_equal(trace.spikes(output).reshape(wanted.shape), wanted)
    else:
        found = np.asarray(trace[output, "voltage"]).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    return graph


def asks(path: Path, **options: Any) -> str:
    with pytest.raises(FrontendError, match="F115") as caught:
        nir_graph.read(path, ReadOptions(**options))
    return str(caught.value)


def says(path: Path, **options: Any) -> list[str]:
    """Return what is taken for granted, and said, where nobody says it."""
    graph = nir_graph.read(path, ReadOptions(**options))
    return [choice.what for choice in graph.choices if choice.origin == ASSUMED]


def snntorch_file(network: nn.Module, shown: Tensor, path: Path) -> Path:
    """Export as ``export_to_nir`` does, whose type inference refuses scalar parameters."""
    graph = nirtorch.extract_nir_graph(
        network,
        snntorch.export_nir._extract_snntorch_module,
        shown[:1, 0],
        ignore_submodules_of=[snn.RLeaky, snn.RSynaptic],
        ignore_dims=[0],
    )
    return save(path, graph, tuple(shown.shape[-2:]))


def snntorch_output(network: nn.Module, shown: Tensor) -> Tensor:
    for module in network.modules():
        if hasattr(module, "reset_mem"):
            module.reset_mem()
    return torch.stack([network(shown[:, step]) for step in range(STEPS)], 1)


def norse_file(network: nn.Module, shown: Tensor, path: Path, dt: float = 1e-3) -> Path:
    graph = norse.to_nir(network, shown[:1, 0], dt=dt)
    return save(path, graph, tuple(shown.shape[-2:]))


def stateful_output(network: nn.Module, shown: Tensor, state: Any = None) -> Tensor:
    out = []
    for step in range(STEPS):
        values, state = network(shown[:, step], state)
        out.append(values)
    return torch.stack(out, 1)
