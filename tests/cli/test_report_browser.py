"""The HTML report in a real Chromium without a network: it draws, and its pickers work."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.reports import HIDDEN, OUTPUT, spikec, write

from spikec.backends.simulator import golden

pytestmark = pytest.mark.browser

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
PLOTS = ("layers", "steps", "rates", "left", "right", "voltage", "weights", "decays", "attribution")
#: As root, which a CI often is, Chromium has no sandbox.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if find_spec("playwright") is None:
        pytest.fail("no Playwright; run 'make browser', or leave these out: -m 'not browser'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        names = (os.environ.get("SPIKEC_CHROMIUM"), *NAMES, playwright.chromium.executable_path)
        path = next((found for name in names if name and (found := shutil.which(name))), None)
        if path is None:
            pytest.fail("no Chromium; run 'make browser', or leave these out: -m 'not browser'")
        opened = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    graph, data = write(folder)
    spikec("verify", graph, "--data", data, "--weight-bits", "3", "--attribute",
           "--report", folder / "out.html")  # fmt: skip
    return folder / "out.html"


class Opened:
    """A page that is drawn, with all that it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, size: dict[str, int]) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(viewport=size, offline=True)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready]", timeout=60_000)

    def drawn(self, plot: str) -> str:
        """Return what a plot draws, as it is on the page."""
        self.page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        marks = f"#plot-{plot} .cartesianlayer"
        text = str(self.page.evaluate(f"document.querySelector('{marks}').innerHTML"))
        return re.sub(r"\btrace[0-9a-f]{6}\b", "", text)  # drawn by lot

    def given(self, plot: str) -> Any:
        """Return what a plot was given to draw."""
        values = "({ name, x, y }) => [name, x, y]"
        return self.page.evaluate(f"document.getElementById('plot-{plot}').data.map({values})")

    def reset(self) -> None:
        """Choose what is chosen at first."""
        for name, index in (("left", 0), ("right", 2), ("sample", 0), ("population", 0)):
            self.pick(name, index)
        self.pick("neuron", 0)

    def pick(self, name: str, index: int) -> None:
        self.page.locator(f"#pick-{name}").select_option(index=index)

    def options(self, name: str) -> list[str]:
        return list(self.page.locator(f"#pick-{name} option").all_text_contents())


@pytest.fixture(scope="module")
def kept(browser: Any, report: Path) -> Iterator[Opened]:
    opened = Opened(browser, report, WIDE)
    yield opened
    opened.context.close()


@pytest.fixture
def opened(kept: Opened) -> Opened:
    kept.reset()
    return kept


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everything_is_drawn_without_a_word_or_a_request(
    size: dict[str, int], browser: Any, report: Path
) -> None:
    opened = Opened(browser, report, size)
    for plot in PLOTS:
        assert "<path" in opened.drawn(plot), plot
        box = opened.page.locator(f"#plot-{plot} svg.main-svg").first.bounding_box()
        assert box["width"] > 250, plot
        assert box["height"] > 100, plot
    # What is wide scrolls by itself; the page does not.
    size = "[document.documentElement.scrollWidth, window.innerWidth]"
    wanted, given = opened.page.evaluate(size)
    assert wanted <= given
    assert opened.page.locator("select").first.is_visible()
    assert opened.complaints == []
    assert {url for url in opened.requests if not url.startswith(("data:", "blob:"))} == {
        report.as_uri()
    }  # fmt: skip
    opened.context.close()


def test_names_are_shown_as_they_are(opened: Opened) -> None:
    assert opened.options("population") == [HIDDEN, "second & last", OUTPUT]
    assert opened.page.locator("img").count() == 0
    title = opened.page.locator("#plot-left .g-gtitle").text_content()
    assert "<img src=x" in title


def test_another_sample_population_and_neuron_draw_something_else(opened: Opened) -> None:
    before = {plot: opened.drawn(plot) for plot in ("left", "right", "voltage")}
    given = {plot: opened.given(plot) for plot in before}
    about = opened.page.locator("#about-sample").text_content()

    opened.pick("neuron", 3)
    assert opened.drawn("voltage") != before["voltage"]
    opened.pick("neuron", 0)
    assert opened.given("voltage") == given["voltage"]

    opened.page.locator("#next").click()
    assert opened.page.locator("#about-sample").text_content() != about
    assert all(opened.drawn(plot) != before[plot] for plot in before)
    opened.page.locator("#previous").click()
    assert {plot: opened.given(plot) for plot in before} == given

    opened.pick("population", 1)
    assert all(opened.drawn(plot) != before[plot] for plot in before)
    opened.pick("population", 2)  # a readout: voltages only
    assert not opened.page.locator("#plot-left").is_visible()
    assert opened.drawn("voltage") != before["voltage"]
    opened.pick("population", 0)
    assert {plot: opened.given(plot) for plot in before} == given
    assert opened.complaints == []


def test_the_runs_that_are_compared_can_be_chosen(opened: Opened) -> None:
    assert opened.options("left") == opened.options("right") == ["F", "Q", "I"]
    assert "only in" in opened.page.locator("#plot-left .legend").text_content()
    before, given = opened.drawn("left"), opened.given("left")
    opened.pick("left", 2)
    assert opened.drawn("left") != before
    # I beside itself: nothing differs.
    assert "only in" not in opened.page.locator("#plot-left .legend").text_content()
    opened.pick("left", 0)
    assert opened.given("left") == given
    assert opened.complaints == []


def test_marks_are_the_spikes_of_the_runs(opened: Opened) -> None:
    data = opened.page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    panel = data["samples"][0]["panels"][0]
    found = {
        side: opened.page.evaluate(
            f"document.getElementById('plot-{side}').data.map((trace) => trace.x.length)"
        )
        for side in ("left", "right")
    }
    both, less, more = found["left"]
    assert both + more == len(panel["spikes"]["F"]["at"])
    assert both + less == len(panel["spikes"]["I"]["at"])
    assert found["right"] == [both, more, less]
    assert less + more > 0


def test_a_click_on_a_spike_shows_its_neuron(opened: Opened) -> None:
    before = opened.page.locator("#pick-neuron").input_value()
    chosen = opened.page.evaluate("""() => {
        const plot = document.getElementById("plot-left");
        const point = plot.data.flatMap((trace) => trace.customdata).find(([row]) => row === 2);
        plot.emit("plotly_click", { points: [{ customdata: point }] });
        return document.getElementById("pick-neuron").value;
    }""")
    assert chosen == "2" != before


def test_histograms_and_rates_follow_their_pickers(opened: Opened) -> None:
    for name, plot in (("rates", "rates"), ("weights", "weights"), ("decays", "decays")):
        opened.pick(name, 0)
        before = opened.drawn(plot)
        opened.pick(name, 1)
        assert opened.drawn(plot) != before, name
    assert opened.complaints == []


def test_zooming_one_raster_moves_the_other_and_the_voltage(opened: Opened) -> None:
    opened.page.evaluate(
        "Plotly.relayout(document.getElementById('plot-left'), {'xaxis.range': [3, 9]})"
    )
    for plot in ("right", "voltage"):
        opened.page.wait_for_function(
            f"document.getElementById('plot-{plot}').layout.xaxis.range[0] === 3"
        )


def test_a_failed_backend_is_what_is_seen_first(
    browser: Any, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = golden.decay
    monkeypatch.setattr(golden, "decay", lambda state, factor: real(state, factor) + (state > 900))
    shown = spikec(
        "verify", report.parent / "net<i>.safetensors", "--data", report.parent / "data.npz",
        "--report", tmp_path / "bad.html", code=1,
    )  # fmt: skip
    opened = Opened(browser, tmp_path / "bad.html", WIDE)
    assert opened.page.locator(".verdict").text_content() == "FAILED"
    chosen = [opened.page.locator(f"#pick-{side} option:checked").text_content()
              for side in ("left", "right")]  # fmt: skip
    assert chosen == ["I", "simulator"]
    assert opened.given("voltage")
    parted = re.search(r"I and simulator first part at sample \d+, step \d+, (.*?)\[(\d+)\]", shown)
    assert parted is not None
    for name, words in (("population", parted[1]), ("neuron", parted[2])):
        found = opened.page.locator(f"#pick-{name} option:checked").text_content()
        assert found.startswith(words)
    assert opened.complaints == []
    opened.context.close()
