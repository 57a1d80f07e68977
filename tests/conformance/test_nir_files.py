"""NIR files of real frameworks: every spike of every recorded layer, or a refusal with its reason.

``tests/data/nir`` is our own (make.py says how it was made); the rest is found
through ``SPIKEC_SHARED_DATA``.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import ReadOptions, nir_graph
from spikec.compiler.frontends.options import ASSUMED
from spikec.compiler.ir import Graph

pytest.importorskip("h5py")

OWN = Path(__file__).parents[1] / "data" / "nir"
DEFAULT = Path(__file__).parents[2] / "../shared/data"
DATA = Path(os.environ.get("SPIKEC_SHARED_DATA", DEFAULT)).resolve()


def needs_shared_data(test: Any) -> Any:
    reason = f"there is no folder {DATA}: set SPIKEC_SHARED_DATA to the shared test data"
    return pytest.mark.shared(pytest.mark.skipif(not DATA.is_dir(), reason=reason)(test))


BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def read(path: Path, **options: Any) -> Graph:
    return nir_graph.read(path, ReadOptions(**options))


def check(graph: Graph, given: Array, recorded: dict[str, Array], dtype: Any) -> None:
    """Compare the spikes of every recorded population; nothing may differ."""
    trace = reference.run(graph, {graph.inputs[0].name: given}, dtype=dtype)
    for name, truth in recorded.items():
        assert truth.any()
        found = trace.spikes(name)
        np.testing.assert_array_equal(found.reshape(truth.shape), truth, err_msg=name)


EXPORTED: dict[str, dict[str, Any]] = {
    "snntorch_rsynaptic_subtract": {"profile": "snntorch", "profile_defaults": True},
    "snntorch_rsynaptic_zero": {"profile": "snntorch", "reset": "zero", "profile_defaults": True},
    "norse_box": {"profile": "norse", "v_reset": "0"},
    "sinabs_conv": {"profile": "sinabs", "max_spikes": 1, "profile_defaults": True},
    "sinabs_several": {"profile": "sinabs", "profile_defaults": True},
    "sinabs_import": {"profile": "sinabs-import"},
    "rockpool_lif": {
        "profile": "rockpool",
        "dt": 1e-3,
        "max_spikes": 1,
        "profile_defaults": True,
    },
    "rockpool_several": {"profile": "rockpool", "dt": 1e-3, "profile_defaults": True},
    "spikingjelly_cuba": {"profile": "spikingjelly"},
}


@BOTH
@pytest.mark.parametrize("name", EXPORTED)
def test_what_frameworks_export(name: str, dtype: Any) -> None:
    """Recurrence, synapses, sub-graphs, convolutions, pooling and infinite time constants."""
    with np.load(OWN / f"{name}.npz") as arrays:
        recorded = {key: arrays[key] for key in arrays.files if key != "spikes"}
        check(read(OWN / f"{name}.nir", **EXPORTED[name]), arrays["spikes"], recorded, dtype)


TRAINED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "snn_leaky": ({"profile": "snntorch", "profile_defaults": True}, ("1", "3")),
    "norse_lif": ({"profile": "norse", "profile_defaults": True}, ("1", "3")),
    "sj_conv_if_hard": ({"profile": "spikingjelly"}, ("_1", "_4", "_7")),
}


@BOTH
@pytest.mark.parametrize("name", TRAINED)
@needs_shared_data
def test_trained_digit_networks(name: str, dtype: Any) -> None:
    """All 360 samples, also those whose spikes depend on the batch size elsewhere."""
    options, layers = TRAINED[name]
    recorded = np.load(DATA / "onnx" / f"{name}.npz")
    graph = read(DATA / "onnx" / f"{name}.nir", **options)
    truth = {layer: recorded[f"spk_{index}"] for index, layer in enumerate(layers)}
    check(graph, recorded["spikes"], truth, dtype)


#: The NIR paper ran one neuron on each platform, from the same file.
ONE_NEURON = {
    "exact": {
        "dt": 1e-4,
        "discretization": "exp",
        "reset": "zero",
        "reset_order": "at_spike",
        "compare": ">",
    },
    "norse": {"profile": "norse-import", "dt": 1e-4},
    "snntorch": {"profile": "snntorch-import"},
    "sinabs": {"profile": "sinabs-import", "dt": 1e-4, "inputs": "analog:0..1"},
    "rockpool": {"profile": "rockpool-import", "dt": 1e-4},
    "lava_cpu_float": {"profile": "lava-dl", "dt": 1e-4},
}


@BOTH
@pytest.mark.parametrize("platform", ONE_NEURON)
@needs_shared_data
def test_one_neuron_on_every_platform(platform: str, dtype: Any) -> None:
    rows = np.loadtxt(DATA / "nir" / f"lif_{platform}.csv", delimiter=",")
    for name in ("lif_norse.nir", "history/lif_norse__2b0feb3.nir"):
        graph = read(DATA / "nir" / name, **ONE_NEURON[platform])
        check(graph, rows[None, :, :1], {"1": rows[None, :, 2:]}, dtype)


@BOTH
@pytest.mark.parametrize("profile", ["spyx", "spyx-import"])
@needs_shared_data
def test_braille_as_spyx_runs_it(profile: str, dtype: Any) -> None:
    """Recurrent and one step late, as the profile says."""
    recorded = np.load(DATA / "nir" / "braille_subtract_sample.npz")
    graph = read(DATA / "nir" / "braille_noDelay_noBias_subtract.nir", profile=profile, dt=1e-4)
    check(graph, recorded["spikes"], {"lif1.lif": recorded["lif1_spyx"]}, dtype)


@BOTH
@needs_shared_data
def test_braille_as_snntorch_ran_it(dtype: Any) -> None:
    """With its second reset; without it 46 of 118 spikes are elsewhere."""
    recorded = np.load(DATA / "nir" / "braille_subtract_sample.npz")
    path = DATA / "nir" / "braille_noDelay_noBias_subtract.nir"
    graph = read(path, profile="snntorch-import", reset="subtract")
    check(graph, recorded["spikes"], {"lif1.lif": recorded["lif1_snntorch"]}, dtype)


#: What each network of ``cases/frontends`` needs beside its own options, as the refusal says.
CASES: dict[str, dict[str, Any]] = {
    "nir-ambiguous-broadcast": {"profile_defaults": True},
    "nir-batch-axis-conv": {"profile_defaults": True},
    "nir-li-threshold": {},
    "nir-norse-if-gain": {"profile_defaults": True},
    "nir-norse-import-if": {},
    "nir-norse-mixed-tau": {"profile_defaults": True},
    "nir-norse-slow-membrane": {"profile_defaults": True},
    "nir-norse-v-reset": {"v_reset": "1=-0.4,3=-0.3"},
    "nir-per-channel-c11": {"profile_defaults": True},
    "nir-snntorch-mixed-reset": {"reset": "3=none", "profile_defaults": True},
    "nir-snntorch-reset-delay": {"reset_order": "at_spike", "profile_defaults": True},
}


def renamed(source: Path, target: Path, rng: np.random.Generator) -> dict[str, str]:
    """Copy a file with its nodes renamed, which also reorders them, and its edges shuffled."""
    import h5py

    shutil.copyfile(source, target)
    with h5py.File(target, "a") as file:
        nodes, edges = file["node/nodes"], file["node/edges"][()]
        names = {name: f"{chr(97 + rng.integers(26))}{rng.integers(100)}.{name}" for name in nodes}
        for old, new in names.items():
            nodes.move(old, new)
        pairs = [[names[end.decode()] for end in pair] for pair in rng.permutation(edges)]
        del file["node/edges"]
        file["node"].create_dataset("edges", data=pairs, dtype=h5py.string_dtype())
    return names


def by_new_names(text: str, names: dict[str, str]) -> str:
    parts = [part.rpartition("=") for part in text.split(",")]
    return ",".join(f"{names[name]}={value}" if name else value for name, _, value in parts)


@needs_shared_data
@pytest.mark.parametrize("name", CASES)
def test_what_people_exported(name: str, tmp_path: Path) -> None:
    """Exact as the framework ran it; what its export dropped is asked for, or said."""
    folder = DATA / "cases/frontends" / name
    words = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["opts"]
    options: dict[str, Any] = {
        option[2:].replace("-", "_"): float(value) if option == "--dt" else value
        for option, value in zip(words[::2], words[1::2], strict=True)
    }
    data, truth = np.load(folder / "data.npz"), np.load(folder / "truth.npz")
    rng = np.random.default_rng(0)
    for path in (folder / "net.nir", *(tmp_path / f"{index}.nir" for index in range(3))):
        names: dict[str, str] = {}
        if path.parent == tmp_path:
            names = renamed(folder / "net.nir", path, rng)
        more = {
            key: by_new_names(value, names) if isinstance(value, str) and names else value
            for key, value in CASES[name].items()
        }
        if options.get("profile") == "snntorch":
            with pytest.raises(FrontendError, match=r"F115.*not in the file"):
                read(path, **options)
        elif more:
            origins = [choice.origin for choice in read(path, **options).choices]
            assert ASSUMED in origins
        graph = read(path, **options, **more)
        check(graph, data["spikes"], {graph.outputs[0]: truth["output"]}, np.float32)


@needs_shared_data
def test_every_file_is_read() -> None:
    """Also those that the official reader refuses; each repair is on record."""
    files = sorted(path for folder in ("nir", "onnx") for path in (DATA / folder).rglob("*.nir"))
    assert len(files) >= 11
    for path in files:
        assert nir_graph.recognises(path)
        with pytest.raises(FrontendError, match="F115"):
            read(path)
        graph = read(path, **ONE_NEURON["exact"])
        assert {choice.what for choice in graph.choices} >= {"dt", "reset", "reset order"}
    graph = read(DATA / "nir/history/braille_subgraph__77b4a80.nir", profile="snntorch-import")
    repaired = [choice.what for choice in graph.choices if choice.origin == "import repair"]
    assert repaired == ["node 'hidden.input'"]


@needs_shared_data
def test_a_neuron_that_fires_by_itself() -> None:
    """v_leak 1.2 above the threshold of 1: spikes without input, at Euler's own steps."""
    options = {
        "dt": 1e-4,
        "discretization": "euler",
        "reset": "zero",
        "reset_order": "at_spike",
        "compare": ">",
    }
    graph = read(DATA / "nir" / "two_lif_neurons.nir", **options)
    steps, voltage, expected = 1000, 0.0, []
    for _ in range(steps):
        voltage += 1e-4 / 0.01 * (1.2 - voltage)
        expected.append(voltage > 1)
        voltage = 0.0 if voltage > 1 else voltage
    assert sum(expected) == 5
    trace = reference.run(graph, {"in": np.zeros((1, steps, 1))})
    np.testing.assert_array_equal(trace.spikes("lif1").ravel(), expected)
