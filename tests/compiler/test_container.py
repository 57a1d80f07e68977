"""Files of ours: the same content gives the same bytes; damage gives one kind of error."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_graphs import random_graph, random_graph_inputs
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler import pages, program_file, reference
from spikec.compiler.container import read_container, read_header, write_container
from spikec.compiler.errors import FrontendError, GraphError, SpikecError, UsageError
from spikec.compiler.files import canonical_json, sha256_of, write_atomically
from spikec.compiler.frontends import load, native
from spikec.compiler.ir import LI, Choice, Edge, Graph, Input, SourceView
from spikec.compiler.npz import read_npz, write_npz
from spikec.compiler.operators import Chain, Conv2d, Reshape, Sparse
from spikec.compiler.program import Program
from spikec.models import seed_lif

Header = dict[str, Any]
Edit = Callable[[Header], object]


@pytest.fixture(autouse=True, params=["read", "mapped"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read arrays into memory, as small ones are, or leave all in the file, as large ones."""
    if request.param == "mapped":
        monkeypatch.setattr(pages, "LARGE", 0)
        monkeypatch.setattr(pages, "_BLOCK", 64)


def drawn_graph(seed: int) -> Graph:
    graph = random_graph(np.random.default_rng(seed))
    return graph.rewritten(choices=[Choice(what="dt", value="1e-3", origin="option")])


def drawn_program(seed: int) -> Program:
    return random_program(np.random.default_rng(seed), max_populations=2)


@pytest.mark.parametrize("seed", range(25))
def test_a_graph_comes_back_as_it_was(seed: int, tmp_path: Path) -> None:
    graph = drawn_graph(seed)
    native.write(graph, tmp_path / "a")
    loaded = native.read(tmp_path / "a")
    native.write(loaded, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert loaded.source.sha256 == sha256_of((tmp_path / "a").read_bytes())
    assert loaded.choices == graph.choices
    inputs = random_graph_inputs(graph, np.random.default_rng(seed), 2, 6)
    before, after = reference.run(graph, inputs), reference.run(loaded, inputs)
    for probe in before.values:
        np.testing.assert_array_equal(before[probe], after[probe])


@pytest.mark.parametrize("seed", range(25))
def test_a_program_comes_back_as_it_was(seed: int, tmp_path: Path) -> None:
    program = drawn_program(seed)
    program_file.write_program(program, tmp_path / "a")
    loaded = program_file.read_program(tmp_path / "a")
    program_file.write_program(loaded, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    inputs = random_inputs(program, np.random.default_rng(seed), 2, 6)
    before, after = golden.run(program, inputs), golden.run(loaded, inputs)
    assert before.events == after.events
    for probe in before.values:
        np.testing.assert_array_equal(before[probe], after[probe])


def test_files_are_recognised_by_their_content(tmp_path: Path) -> None:
    graph, program, other = tmp_path / "g", tmp_path / "p", tmp_path / "x"
    native.write(drawn_graph(0), graph)
    program_file.write_program(drawn_program(0), program)
    other.write_bytes(b"\x00" * 40)
    assert [native.recognises(path) for path in (graph, program, other)] == [True, False, False]
    found = [program_file.recognises(path) for path in (graph, program, other)]
    assert found == [False, True, False]
    assert not native.recognises(tmp_path / "missing")
    with pytest.raises(FrontendError, match=r"it holds 'spikec\.program', not 'spikec\.graph'"):
        native.read(program)


def rebuilt(content: bytes, edit: Edit, *, renewed: bool = True) -> bytes:
    """Return a file of ours with its JSON header edited and everything else consistent."""
    (length,) = struct.unpack("<Q", content[:8])
    outer = json.loads(content[8 : 8 + length])
    header = json.loads(outer["__metadata__"]["spikec"])
    edit(header)
    if renewed and "digest" in header:
        del header["digest"]
        forms = {
            name: [TYPES[part["dtype"]], part["shape"]]
            for name, part in outer.items()
            if name != "__metadata__"
        }
        text = json.dumps([header, forms], sort_keys=True, separators=(",", ":"))
        header["digest"] = hashlib.sha256(text.encode()).hexdigest()
    outer["__metadata__"]["spikec"] = json.dumps(header)
    text = json.dumps(outer).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


#: How a digest spells the types of arrays that programs hold.
TYPES = {"I16": "<i2", "I32": "<i4", "I64": "<i8", "F64": "<f8"}


def program_bytes(tmp_path: Path, seed: int = 3) -> bytes:
    path = tmp_path / "whole.spk"
    program_file.write_program(drawn_program(seed), path)
    return path.read_bytes()


def graph_bytes(tmp_path: Path, seed: int = 3) -> bytes:
    path = tmp_path / "whole.graph"
    native.write(drawn_graph(seed), path)
    return path.read_bytes()


def everywhere(table: Any, change: Callable[[Header], None]) -> None:
    """Apply ``change`` to every uniform array in a body."""
    if isinstance(table, dict):
        if "all" in table:
            change(table)
        table = list(table.values())
    if isinstance(table, list):
        for item in table:
            everywhere(item, change)


EDITS: dict[str, tuple[Edit, str]] = {
    "wrong version": (lambda h: h.update(version=3), "has version 3"),
    "no version": (lambda h: h.pop("version"), "has version None"),
    "other schema": (lambda h: h.update(schema="spikec.image"), "holds 'spikec.image'"),
    "no schema": (lambda h: h.pop("schema"), "not a spikec file"),
    "wrong digests": (lambda h: h.update(digests={}), "does not match its digest"),
    "unknown field": (lambda h: h["body"]["populations"][0].update(colour=1), "'colour'"),
    "missing field": (lambda h: h["body"]["populations"][0].pop("name"), "'name'"),
    "missing list": (lambda h: h["body"].pop("connections"), "'connections'"),
    "no body": (lambda h: h.pop("body"), "body"),
    "body is a list": (lambda h: h.update(body=[]), "TypeError"),
    "population is a number": (lambda h: h["body"].update(populations=[1]), "TypeError"),
    "unknown operator": (
        lambda h: h["body"]["connections"][0]["operator"].update({"is": "os.system"}), "os.system",
    ),
    "unknown tensor": (
        lambda h: h["body"]["populations"][0].update(du={"tensor": "elsewhere"}), "elsewhere",
    ),
    "huge uniform shape": (
        lambda h: everywhere(h["body"], lambda t: t.update(shape=[1 << 62, 1 << 62])),
        "larger than any network",
    ),
    "negative shape": (
        lambda h: everywhere(h["body"], lambda t: t.update(shape=[-1])), "a field of shape",
    ),
    "uniform text": (
        lambda h: everywhere(h["body"], lambda t: t.update(all="x")), "filled with 'x'",
    ),
    "shape that is no list": (
        lambda h: everywhere(h["body"], lambda t: t.update(shape=3)), "TypeError",
    ),
    "uniform number beyond its type": (
        lambda h: everywhere(h["body"], lambda t: t.update(all=1 << 70)), "too large",
    ),
    "uniform fraction of a type of integers": (
        lambda h: everywhere(h["body"], lambda t: t.update(all=0.5)), "filled with 0.5",
    ),
    "large array for a word": (
        lambda h: h["body"]["populations"][0].update(
            reset={"all": 0, "shape": [1 << 27], "dtype": "float64"}
        ),
        "field 'reset' cannot be",
    ),
    "large array for a small population": (
        lambda h: h["body"]["populations"][0].update(
            du={"all": 0, "shape": [1 << 27], "dtype": "int64"}
        ),
        "larger than a file of its size may describe",
    ),
    "input larger than memory": (
        lambda h: h["body"]["inputs"][0].update(shape=[1 << 44]),
        "larger than a file of its size may describe",
    ),
    "infinite extent": (
        lambda h: everywhere(h["body"], lambda t: t.update(shape=[float("inf")])),
        "its header does not match its digest",  # JSON has no such number
    ),
    "population larger than memory": (
        lambda h: h["body"]["populations"][0].update(
            shape=[1 << 44], du={"all": 0, "shape": [], "dtype": "int64"}
        ),
        "larger than a file of its size may describe",
    ),
    "delay that is a fraction": (
        lambda h: h["body"]["connections"][0].update(delay=1.5), "delay",
    ),
    "view that is a number": (
        lambda h: h["body"]["populations"][0].update(view=3), "view",
    ),
    "unknown number type": (
        lambda h: everywhere(h["body"], lambda t: t.update(dtype="float7")), "TypeError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_header_is_refused(case: str, tmp_path: Path) -> None:
    edit, text = EDITS[case]
    path = tmp_path / "edited.spk"
    path.write_bytes(rebuilt(program_bytes(tmp_path), edit))
    with pytest.raises((FrontendError, GraphError), match=text) as caught:
        program_file.read_program(path)
    if isinstance(caught.value, FrontendError):
        (finding,) = caught.value.diagnostics
        assert (finding.code, finding.where) == ("F020", str(path))
        assert "spikec compile" in finding.hint


def test_tensors_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    content, path = program_bytes(tmp_path), tmp_path / "offsets.spk"
    (length,) = struct.unpack("<Q", content[:8])
    outer = json.loads(content[8 : 8 + length])
    name = next(key for key in outer if key != "__metadata__")
    outer[name]["data_offsets"] = [0, 1 << 40]
    text = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(FrontendError, match="F020"):
        program_file.read_program(path)


#: What is looked at before digests are.
EARLY = {"wrong version", "no version", "other schema", "no schema", "wrong digests", "no body"}


@pytest.mark.parametrize("case", [name for name in EDITS if name not in EARLY])
def test_a_header_is_refused_for_its_digest_whatever_was_changed(case: str, tmp_path: Path) -> None:
    path = tmp_path / "edited.spk"
    path.write_bytes(rebuilt(program_bytes(tmp_path), EDITS[case][0], renewed=False))
    with pytest.raises(FrontendError, match="its header does not match its digest"):
        program_file.read_program(path)


#: Changes that every other rule lets pass.
PLAUSIBLE: dict[str, Edit] = {
    "a threshold": lambda h: h["body"]["populations"][0].update(
        vth={"all": 70, "shape": [], "dtype": "int64"}
    ),
    "what a unit is worth": lambda h: h["body"]["populations"][0].update(lsb=0.5),
    "a delay": lambda h: h["body"]["connections"][0].update(delay=7),
    "provenance": lambda h: h["body"]["provenance"].update(spikec="9.9"),
    "no digest": lambda h: h.pop("digest"),
    "a digest that is no text": lambda h: h.update(digest=["x"]),
    "something more": lambda h: h.update(colour=1),
}


@pytest.mark.parametrize("case", PLAUSIBLE)
def test_a_plausible_change_of_a_header_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "edited.spk"
    path.write_bytes(rebuilt(program_bytes(tmp_path), PLAUSIBLE[case], renewed=False))
    with pytest.raises(FrontendError, match="its header does not match its digest"):
        program_file.read_program(path)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The same bytes in another order of axes mean another network."""
    content = program_bytes(tmp_path)
    (length,) = struct.unpack("<Q", content[:8])
    outer = json.loads(content[8 : 8 + length])
    name = next(key for key, part in outer.items() if len(part.get("shape", ())) > 1)
    outer[name]["shape"].reverse()
    text = json.dumps(outer).encode()
    path = tmp_path / "turned.spk"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(FrontendError, match="its header does not match its digest"):
        program_file.read_program(path)


def test_a_program_of_version_1_is_read_and_has_no_digest(tmp_path: Path) -> None:
    new, old = tmp_path / "new.spk", tmp_path / "old.spk"
    program_file.write_program(drawn_program(3), new)
    body, tensors = read_container(new, schema="spikec.program", version=2)
    write_container(old, schema="spikec.program", version=1, body=body, tensors=tensors)
    assert program_file.digest_of(old) is None
    digest = program_file.digest_of(new)
    assert digest is not None
    assert len(digest) == 64
    program_file.write_program(program_file.read_program(old), tmp_path / "again.spk")
    assert (tmp_path / "again.spk").read_bytes() == new.read_bytes()


def test_an_unedited_header_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "same.spk"
    path.write_bytes(rebuilt(program_bytes(tmp_path), lambda header: None))
    assert program_file.read_program(path).num_neurons > 0


def test_a_file_that_breaks_a_rule_says_which(tmp_path: Path) -> None:
    path = tmp_path / "rule.spk"
    path.write_bytes(
        rebuilt(program_bytes(tmp_path), lambda h: h["body"]["connections"][0].update(delay=0))
    )
    with pytest.raises(SpikecError, match="P021 at connection"):
        program_file.read_program(path)


READERS: dict[str, tuple[Callable[[Path], bytes], Callable[[Path], object]]] = {
    "graph": (graph_bytes, native.read),
    "program": (program_bytes, program_file.read_program),
}


@pytest.mark.parametrize("kind", READERS)
def test_flipped_bytes_are_found(kind: str, tmp_path: Path) -> None:
    make, read = READERS[kind]
    content, path = make(tmp_path), tmp_path / "mutant"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        mutant = bytearray(content)
        for place in rng.integers(0, len(mutant), rng.integers(1, 4)):
            mutant[place] ^= int(rng.integers(1, 256))
        path.write_bytes(mutant)
        try:
            read(path)
        except SpikecError:  # any other error fails the test
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("kind", READERS)
def test_no_byte_of_a_tensor_can_change_unseen(kind: str, tmp_path: Path) -> None:
    make, read = READERS[kind]
    content, path = make(tmp_path), tmp_path / "mutant"
    (length,) = struct.unpack("<Q", content[:8])
    assert len(content) > 8 + length
    for place in range(8 + length, len(content)):
        mutant = bytearray(content)
        mutant[place] ^= 1
        path.write_bytes(mutant)
        with pytest.raises(FrontendError, match="does not match its digest"):
            read(path)


@pytest.mark.parametrize("kind", READERS)
def test_a_truncated_file_is_refused(kind: str, tmp_path: Path) -> None:
    make, read = READERS[kind]
    content, path = make(tmp_path), tmp_path / "short"
    for length in {*range(0, len(content), 97), 7, 8, 9, len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(FrontendError):
            read(path)


#: What a damaged or hostile JSON value may be.
ODD_VALUES = (
    None, True, -1, 0, 1.5, 1 << 70, -(1 << 70), "", "x", [], [1], {}, {"is": "view"},
    {"tensor": "x"}, {"all": 1, "shape": [2], "dtype": "int8"},
    {"all": 1, "shape": [], "dtype": "object"}, [[[]]], float("nan"),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((*path, key))
        if isinstance(value[key], dict | list):
            found += places(value[key], (*path, key))
    return found


@pytest.mark.parametrize("kind", READERS)
def test_odd_values_in_a_header_give_no_other_error(kind: str, tmp_path: Path) -> None:
    make, read = READERS[kind]
    content, path = make(tmp_path), tmp_path / "mutant"
    rng = np.random.default_rng(1)

    def mutate(header: Header) -> None:
        for _ in range(rng.integers(1, 3)):
            known = places(header)
            *outer, last = known[rng.integers(len(known))]
            table: Any = header
            for key in outer:
                table = table[key]
            # A copy: the next change may be made inside it.
            table[last] = deepcopy(ODD_VALUES[rng.integers(len(ODD_VALUES))])

    refused = 0
    for _ in range(300):
        path.write_bytes(rebuilt(content, mutate))
        try:
            read(path)
        except SpikecError:  # any other error fails the test
            refused += 1
    assert refused > 150


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert read_header(path) is None


def test_the_same_content_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = np.arange(3), np.ones(2)
    for name, tensors in (("a", {"x": one, "y": two}), ("b", {"y": two, "x": one})):
        write_container(tmp_path / name, schema="s", version=1, body={}, tensors=tensors)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    body, tensors = read_container(tmp_path / "a", schema="s", version=1)
    assert body == {}
    assert tensors["x"].tolist() == [0, 1, 2]


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": [1, 2], "b": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("owner", "crashing"), [(os, "fsync"), (Path, "replace")])
def test_a_crash_leaves_the_old_file(
    owner: object, crashing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, crashing, crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"U030 at .*cannot write there"):
        write_atomically(tmp_path / "missing" / "file", b"")


def test_npz_files_round_trip_byte_for_byte(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array(0.5)}
    write_npz(tmp_path / "a.npz", arrays)
    loaded = read_npz(tmp_path / "a.npz")
    write_npz(tmp_path / "b.npz", loaded)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert loaded["a"].tolist() == arrays["a"].tolist()


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """Each field of a population is long in memory and short in the file."""
    wide = seed_lif("wide", 1 << 19, alpha=0.5, beta=0.5)
    graph = Graph(nodes=[wide], edges=[], outputs=["wide"])
    native.write(graph, tmp_path / "wide")
    assert native.read(tmp_path / "wide").populations[0].num_neurons == 1 << 19

    def wider(header: Header) -> None:
        header["body"]["nodes"][0]["shape"] = [1 << 24]
        everywhere(header["body"]["nodes"][0], lambda t: t["shape"] and t.update(shape=[1 << 24]))

    (tmp_path / "wider").write_bytes(rebuilt((tmp_path / "wide").read_bytes(), wider))
    tracemalloc.start()
    with pytest.raises(FrontendError, match="with lif 'wide' it is larger than a file of its size"):
        native.read(tmp_path / "wider")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("field", ["shift", "delay", "lag"])
def test_what_waits_is_in_proportion_to_the_file(field: str, tmp_path: Path) -> None:
    def waiting(steps: int) -> Path:
        given = dict.fromkeys(("shift", "delay", "lag"), 0) | {field: steps}
        entry = Input(name="in", shape=(1 << 16,), shift=given["shift"])
        readout = LI(
            name="out", shape=(1, 1, 1), alpha=None, beta=np.array(0.5), coupling="immediate",
            view=SourceView(lag=given["lag"]),
        )  # fmt: skip
        line = Conv2d(weight=np.ones((1, 1, 1, 1)), stride=(1 << 16, 1))
        stages = (Reshape(shape=(1, 1 << 16, 1)), line)
        edge = Edge(name="e", source="in", target="out", operator=Chain(stages=stages),
                    delay=given["delay"])  # fmt: skip
        native.write(Graph(nodes=[entry, readout], edges=[edge], outputs=["out"]), tmp_path / "g")
        return tmp_path / "g"

    load(waiting(1000))
    with pytest.raises(FrontendError, match=r"F021 .* of 30000 steps would keep 1,966,110,000"):
        load(waiting(30_000))


def test_synapses_that_a_damaged_file_holds_are_refused(tmp_path: Path) -> None:
    graph = next(
        graph
        for graph in map(drawn_graph, range(100))
        if any(isinstance(e.operator, Sparse) and len(e.operator.weight) > 1 for e in graph.edges)
    )
    native.write(graph, tmp_path / "good")
    body, tensors = read_container(tmp_path / "good", schema="spikec.graph", version=1)
    key = next(name for name in tensors if name.endswith("synapses/targets"))
    damaged = {**tensors, key: tensors[key] + np.int32(1 << 20)}
    write_container(tmp_path / "bad", schema="spikec.graph", version=1, body=body, tensors=damaged)
    with pytest.raises(FrontendError, match="targets span"):
        native.read(tmp_path / "bad")
