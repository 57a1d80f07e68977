"""``verify --report``: three forms, whole, small, and nothing in a network becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.reports import HIDDEN, INPUT, OUTPUT, SAMPLES, STEPS, hostile_network, spikec, write

from spikec.backends.simulator import golden
from spikec.cli.loading import LavaOptions, Loaded
from spikec.cli.report import figures, forms, html, markdown
from spikec.cli.report.examination import look_into
from spikec.cli.report.sections import sections, summary
from spikec.compiler.inputs import Dataset, to_integers
from spikec.compiler.program_file import read_program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.reference import run
from spikec.compiler.targets import load_target
from spikec.models import seed_network

SECTIONS = ["ladder", "layers", "samples", "parameters", "attribution", "resources", "provenance"]
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """The parts of a page: its tags, the scripts' text, and the text that is shown."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.shown = ""
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)
        elif self.open and self.open[-1] != "style":
            self.shown += data

    @property
    def data(self) -> Any:
        return next(json.loads(body) for tag, body in self.scripts if tag.get("id") == "data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    graph, data = write(folder)
    spikec("verify", graph, "--data", data, "--weight-bits", "3", "--attribute",
           "--report", folder / "out.html")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def content(folder: Path) -> str:
    return (folder / "out.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(content: str) -> Page:
    return Page(content)


def test_a_page_has_every_part_and_its_numbers(page: Page) -> None:
    assert [found["id"] for tag, found in page.tags if tag == "section"] == SECTIONS
    for words in ("passed", "float reference", "teacher-forced", "decisions proved equal",
                  "resources", "SHA-256", "the seed model", "recurrent weights"):  # fmt: skip
        assert words in page.shown
    assert {found.get("id") for tag, found in page.tags if tag == "figure"} == {
        f"figure-{name}"
        for name in ("layers", "steps", "rates", "samples", "weights", "decays", "attribution")
    }


def test_names_of_a_network_are_text(page: Page) -> None:
    for name in (INPUT, HIDDEN, OUTPUT, "second & last", "net<i>.safetensors"):
        assert name in page.shown
    assert not {"img", "i"} & {tag for tag, _ in page.tags}
    assert len(page.scripts) == 3
    assert not any(key.startswith("on") for _, found in page.tags for key in found)
    body = next(body for tag, body in page.scripts if tag.get("id") == "data")
    assert not set("<>&") & set(body)
    assert {item["population"] for item in page.data["samples"][0]["panels"]} == {
        HIDDEN, "second & last", OUTPUT,
    }  # fmt: skip


def test_a_page_refers_to_nothing_outside_and_allows_its_own_scripts_only(page: Page) -> None:
    links = [found[key] for _, found in page.tags for key in ("src", "href") if key in found]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    policy = next(found["content"] for tag, found in page.tags if "http-equiv" in found)
    assert policy is not None
    assert "default-src 'none'" in policy
    hashes = {
        base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        for tag, body in page.scripts
        if tag.get("type") != "application/json"
    }
    assert len(hashes) == 2
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert "unsafe-inline" not in policy.split("style-src")[0]
    own = page.scripts[-1][1]
    assert "://" not in own
    assert "innerHTML" not in own


def test_a_page_is_small_and_the_same_every_time(folder: Path, content: str) -> None:
    assert len(content.encode()) <= html.MOST_BYTES
    assert str(folder) not in content  # no paths of this machine
    graph, data = folder / "net<i>.safetensors", folder / "data.npz"
    spikec("verify", graph, "--data", data, "--weight-bits", "3", "--attribute",
           "--report", folder / "again.html")  # fmt: skip
    assert (folder / "again.html").read_text(encoding="utf-8") == content
    assert not list(folder.glob(".*"))


def test_what_is_drawn_is_what_the_rungs_do(page: Page) -> None:
    program = compile_graph(hostile_network(), load_target("loihi2"), weight_bits=3).program
    rng = np.random.default_rng(4)
    inputs = {INPUT: (rng.random((SAMPLES, STEPS, 6)) < 0.4).astype(np.uint8)}
    probes = tuple((name, what) for name in (HIDDEN, "second & last")
                   for what in ("spikes", "voltage"))  # fmt: skip
    traces = {
        "F": run(hostile_network(), inputs, probes=probes),
        "I": golden.run(program, to_integers(program, inputs)[0], probes=probes),
    }
    seen = 0
    for item in page.data["samples"]:
        for panel in item["panels"]:
            name, neurons = panel["population"], panel["neurons"]
            if name == OUTPUT:
                assert panel["spikes"] == {}
                assert len(panel["volts"]["I"]) == 4
                continue
            for rung, trace in traces.items():
                spikes = trace[name, "spikes"][item["sample"]][:, neurons]
                assert np.array_equal(unpacked(panel["spikes"][rung], spikes.shape), spikes)
                volts = trace[name, "voltage"][item["sample"]][:, neurons]
                if rung == "I":
                    volts = volts * program.population(name).lsb
                shown = np.array(panel["volts"][rung]).T
                assert np.allclose(shown, volts[:, : shown.shape[1]], rtol=1e-5, atol=1e-12)
                seen += int(spikes.sum())
    assert seen > 100
    assert len(page.data["samples"]) == SAMPLES


def unpacked(events: dict[str, list[int]], shape: tuple[int, ...]) -> Any:
    flat = np.zeros(shape, np.uint8).reshape(-1)
    flat[np.cumsum(events["at"])] = events.get("n", 1)
    return flat.reshape(shape)


def test_several_spikes_a_step_are_counted() -> None:
    spikes = np.array([[0, 3, 1], [0, 0, 0], [2, 0, 1]], np.uint8)
    events = figures._events(spikes)
    assert events == {"at": [1, 1, 4, 2], "n": [3, 1, 2, 1]}
    assert np.array_equal(unpacked(events, spikes.shape), spikes)
    assert figures._events(np.zeros((2, 2), np.uint8)) == {"at": []}


def test_less_is_shown_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examined()
    whole = len(figures.figures(found, 10**9).encode())
    for budget in (whole, whole // 2, whole // 5, whole // 20):
        text = figures.figures(found, budget)
        assert len(text.encode()) <= budget
    shown = json.loads(figures.figures(found, whole // 2))
    assert 0 < len(shown["samples"]) < SAMPLES
    assert f"{len(shown['samples'])} of {SAMPLES} samples are in this file" in shown["selection"]
    monkeypatch.setattr(html, "_library", lambda: " " * (html.MOST_BYTES - 120_000))
    assert html.MOST_BYTES - 120_000 < len(html.page(found).encode()) <= html.MOST_BYTES


def examined(bits: int = 3, asked: tuple[int, ...] = ()) -> Any:
    graph = hostile_network()
    program = compile_graph(graph, load_target("loihi2"), weight_bits=bits).program
    rng = np.random.default_rng(4)
    data = Dataset(
        inputs={INPUT: (rng.random((SAMPLES, STEPS, 6)) < 0.4).astype(np.uint8)},
        labels=rng.integers(0, 4, SAMPLES),
    )
    return look_into(
        Loaded(graph=graph, program=program), data, name="net", files={}, backends=["simulator"],
        lava=LavaOptions(samples=1), drawn=asked,
    )  # fmt: skip


def test_samples_are_drawn_that_were_asked_for(folder: Path) -> None:
    out = folder / "asked.html"
    words = ["verify", folder / "net<i>.safetensors", "--data", folder / "data.npz"]
    spikec(*words, "--report", out, "--report-samples", "3, 0,3")
    data = Page(out.read_text(encoding="utf-8")).data
    assert [item["sample"] for item in data["samples"]] == [3, 0]
    assert all(item["why"].startswith("asked for") for item in data["samples"])
    assert f"2 of {SAMPLES} samples are in this file: those asked for." in data["selection"]
    labels = np.load(folder / "data.npz")["labels"]
    assert [item["label"] for item in data["samples"]] == labels[[3, 0]].tolist()


def test_samples_for_which_there_is_no_room_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examined(asked=(4, 1, 2))
    assert len(json.loads(figures.figures(found, 10_000_000))["samples"]) == 3
    shown = json.loads(figures.figures(found, 9_000))
    assert len(shown["samples"]) < 3
    absent = 3 - len(shown["samples"])
    assert f"those asked for, but for {absent} that have no room." in shown["selection"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--report-samples", "1"), "U081"),
        (("--report-samples", "1", "--report", "out.md"), "U081"),
        (("--report-samples", "1,x", "--report", "out.html"), "U122"),
        (("--report-samples", "", "--report", "out.html"), "U122"),
        (("--report-samples", "-1", "--report", "out.html"), "U122"),
        (("--report-samples", ",".join(map(str, range(13))), "--report", "out.html"), "U122"),
        (("--report-samples", f"0,{SAMPLES}", "--report", "out.html"), "U122"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(
    words: tuple[str, ...], code: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("spikec.cli.report.examination.verify", None)  # would raise TypeError
    text = spikec("verify", "net<i>.safetensors", "--data", "data.npz", *words, code=2)
    assert code in text
    assert "option --report-samples" in text


def test_a_network_of_many_layers_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    graph = seed_network(
        feedforward=[rng.normal(0.3, 0.5, (4, 4)) for _ in range(60)], alpha=0.6, beta=0.8
    )
    program = compile_graph(graph, load_target("loihi2")).program
    data = Dataset(inputs={"input": (rng.random((3, 40, 4)) < 0.6).astype(np.uint8)})
    found = look_into(Loaded(graph=graph, program=program), data, name="deep", files={},
                      backends=[], lava=LavaOptions(samples=1))  # fmt: skip
    monkeypatch.setattr(html, "_library", str)
    monkeypatch.setattr(html, "MOST_BYTES", 150_000)
    content = html.page(found)
    assert len(content.encode()) <= 150_000
    assert "more rows are in the JSON form" in content
    assert "The data have no labels" in content
    assert "No backend was compared" in summary(found)


def test_the_markdown_form_is_tables_that_names_cannot_break(folder: Path) -> None:
    out = folder / "out.md"
    spikec("verify", folder / "net<i>.safetensors", "--data", folder / "data.npz",
           "--report", out)  # fmt: skip
    content = out.read_text(encoding="utf-8")
    assert content.startswith("## spikec: ⚠️ passed, but\n")  # some of its voltages clip
    assert "**passed; but voltages clipped at 24 bits (" in content
    assert "| F | float reference | 8 |" in content
    assert "spikec verify --report FILE --attribute" not in content
    assert not re.search(r"<(?!/?(details|summary)>)", content)
    rows = [line for line in content.splitlines() if line.startswith("|")]
    tables = content.split("\n\n")
    assert len(rows) > 20
    for part in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines()
                 if line.startswith("|")}  # fmt: skip
        assert len(cells) <= 1


def test_a_markdown_of_hostile_words_is_plain() -> None:
    shown = markdown._plain("a|b\n`c` <d> [e](f) @g\x1b\ud800")
    assert shown == "a\\|b \\`c\\` &lt;d&gt; \\[e\\](f) \\@g\ufffd\ufffd"


def test_characters_that_no_file_can_hold_are_shown_as_such() -> None:
    assert html._text("a\x00\ud800<") == "a\ufffd\ufffd&lt;"
    assert figures._name("\u202ebc") == "\ufffdbc"


def test_the_json_form_is_what_json_prints(folder: Path) -> None:
    words = ("verify", folder / "net<i>.safetensors", "--data", folder / "data.npz")
    printed = spikec(*words, "--report", folder / "out.json", "--json")
    assert (folder / "out.json").read_text(encoding="utf-8") == printed
    assert printed == spikec(*words, "--json")
    spikec(*words, "--report", folder / "more.json", "--attribute")
    more = json.loads((folder / "more.json").read_text())
    assert more["passed"] is True
    assert {item["what"] for item in more.pop("attribution")["alone"]} >= {"bias", "thresholds"}
    assert more == json.loads(printed)


def test_a_program_without_its_network_has_a_report_too(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "net.spk"
    spikec("compile", folder / "net<i>.safetensors", "-o", program)
    out = tmp_path / "out.html"
    words = ("verify", program, "--data", folder / "data.npz", "--report", out)
    spikec(*words)
    page = Page(out.read_text(encoding="utf-8"))
    assert "not found: no rung F" in page.shown
    assert page.data["rungs"] == ["Q", "I"]
    assert all(item["before"] is None for item in page.data["weights"])
    assert read_program(program).target in page.shown
    assert "U113" in spikec(*words, "--attribute", code=2)


def test_a_failed_verification_is_reported_and_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = golden.decay
    monkeypatch.setattr(golden, "decay", lambda state, factor: real(state, factor) + (state > 900))
    words = ("verify", folder / "net<i>.safetensors", "--data", folder / "data.npz")
    spikec(*words, "--report", tmp_path / "bad.html", code=1)
    page = Page((tmp_path / "bad.html").read_text(encoding="utf-8"))
    assert "FAILED" in page.shown
    assert "simulator differs from I in" in page.shown
    shown = page.data["samples"][0]
    assert "simulator" in shown["predictions"]
    assert "I and simulator first part here" in shown["why"]
    spikec(*words, "--report", tmp_path / "bad.md", code=1)
    assert (tmp_path / "bad.md").read_text().startswith("## spikec: ❌ FAILED")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--report", "out.pdf"), "U120"),
        (("--report", "out"), "U120"),
        (("--attribute",), "U081"),
        (("--report", "no/such/folder/out.html"), "U030"),
        (("--report", "data.npz"), "U031"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    words: tuple[str, ...], code: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("spikec.cli.report.examination.load", None)  # would raise TypeError
    assert code in spikec("verify", "net<i>.safetensors", "--data", "data.npz", *words, code=2)


def test_html_without_plotly_is_refused_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "find_spec", lambda name: None)
    words = ("verify", folder / "net<i>.safetensors", "--data", folder / "data.npz")
    refused = spikec(*words, "--report", folder / "none.html", code=2)
    assert "U121" in refused
    assert "pip install 'spikec[report]'" in refused
    spikec(*words, "--report", folder / "none.md")
    assert not (folder / "none.html").exists()


def test_a_report_is_written_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.md"
    out.write_text("before")

    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    words = ("verify", folder / "net<i>.safetensors", "--data", folder / "data.npz")
    assert "No space left" in spikec(*words, "--report", out, code=2)
    assert out.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["out.md"]


def test_every_section_says_something() -> None:
    found = examined(bits=8)
    parts = sections(found)
    assert [item.anchor for item in parts] == SECTIONS
    assert all(item.intro or item.tables or item.figures for item in parts)
    text = markdown.text(found)
    assert text.count("<details>") == text.count("</details>") > 2
