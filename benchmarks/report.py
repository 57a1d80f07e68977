"""Tables and plots of results; ``python benchmarks/report.py FOLDER`` writes them again.

A second argument is another JSON to take them from: an unfinished run's ``partial.json``.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Results = Mapping[str, Any]

ENGINES = ("spikec fast", "spikec c")
FRAMEWORKS = ("snnTorch", "Norse", "SpikingJelly", "sinabs")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A ratio that was set as a goal: how many times the best of ``peers`` takes longer."""

    title: str
    workloads: tuple[str, ...]
    peers: tuple[str, ...]
    floor: float
    goal: float
    batch: int = 1
    threads: int = 1


WANTED = (
    Wanted(title="Lava", workloads=("W1", "W2", "W3"), peers=("Lava",), floor=900, goal=2000),
    Wanted(title="Lava", workloads=("W4-1", "W4-5", "W4-20"), peers=("Lava",), floor=300,
           goal=600),
    Wanted(title="Lava", workloads=("W4-1", "W4-5", "W4-20"), peers=("Lava",), floor=300,
           goal=600, threads=2),
    Wanted(title="best PyTorch framework", workloads=("W1",), batch=256, threads=2,
           peers=FRAMEWORKS, floor=11, goal=20),
    Wanted(title="best PyTorch framework", workloads=("W3",), batch=256, peers=FRAMEWORKS,
           floor=4, goal=10),
    Wanted(title="Brian2 C++", workloads=("W1", "W2"), peers=("Brian2 C++",), floor=12, goal=25),
)  # fmt: skip
#: Share of the bound that is wanted: workloads that start so, floor, goal.
BOUND_WANTED = (("W1", 15, 50), ("W2", 15, 50), ("W3", 15, 50), ("W4", 25, 50))
START_UP_WANTED = 0.6


def write(results: Results, folder: Path) -> None:
    """Write ``results.json``, ``results.md`` and, where matplotlib is, the plots."""
    keep(results, folder / "results.json")
    _replace(folder / "results.md", "\n".join(_markdown(results)) + "\n")
    _plots(results, folder)


def keep(results: Results, path: Path) -> None:
    """Write the JSON alone, whole or not at all."""
    _replace(path, json.dumps(_rounded(results), indent=1, sort_keys=True) + "\n")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _median(times: Mapping[str, Sequence[float]], kind: str) -> float:
    return statistics.median(times[kind])


def _spread(values: Sequence[float]) -> str:
    """Return the middle half of the values in milliseconds."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return f"{_ms(low)} to {_ms(high)}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _markdown(results: Results) -> Iterator[str]:
    yield "# Results"
    yield ""
    yield (
        "Written by `benchmarks/run.py`; `README.md` beside the program says how to read it. "
        f"Form: {results['form']}, {results['minutes']:.1f} minutes."
    )
    yield ""
    yield from _machine(results)
    yield from _wanted(results)
    yield from _checks(results)
    yield from _cases(results)
    yield from _growth(results)
    yield from _bounds(results)
    yield from _profiles(results)
    yield from _start_up(results)
    yield from _trained(results)
    yield from _left_out(results)


def _machine(results: Results) -> Iterator[str]:
    yield "## Machine"
    yield ""
    facts = {**results["machine"], **_loads(results)}
    yield from _table(("", ""), list(facts.items()))
    packages: dict[str, str] = {}
    for versions in results["versions"].values():
        packages |= {name: text for name, text in versions.items() if name != "python"}
    yield "Versions: " + ", ".join(f"{name} {text}" for name, text in sorted(packages.items()))
    yield ""
    if results["rates"]:
        yield "What one core can do, measured in C at the beginning and at the end of the run:"
        yield ""
        names = {
            "add_L1": "int8 weights added to 16-bit sums, from L1, G/s",
            "add_L2": "the same from L2, G/s",
            "add_L3": "the same from L3 or memory, G/s",
            "small_L1": "weights so small that bytes sum three rows, from L1, G/s",
            "small_L2": "the same from L2, G/s",
            "small_L3": "the same from L3 or memory, G/s",
            "update": "exact neuron updates, G/s",
            "product": "int8 products (VNNI), G/s",
        }
        after = results.get("rates after") or results["rates"]
        rows = [[text, f"{results['rates'][name] / 1e9:.3g}", f"{after[name] / 1e9:.3g}"]
                for name, text in names.items()]  # fmt: skip
        rows += [[text, f"{results['rates'][name] * 1e9:.2g}", f"{after[name] * 1e9:.2g}"]
                 for name, text in (("scan_place", "looking at one neuron's spike, ns"),
                                    ("scan_spike", "finding one spike, ns"))]  # fmt: skip
        yield from _table(("", "begin", "end"), rows)


def _loads(results: Results) -> dict[str, str]:
    loads = [case["load"] for case in results["cases"]] or [0]
    return {
        "load before each case": f"{min(loads)} to {max(loads)} (our own children included)",
        "time kept by the host": f"{results['stolen']:.0f} s",
    }


def _find(results: Results, workload: str, batch: int, threads: int) -> Mapping[str, Any] | None:
    for case in results["cases"]:
        if (case["workload"], case["batch"], case["threads"]) == (workload, batch, threads):
            return case if not case["curve"] else None
    return None


def _wanted(results: Results) -> Iterator[str]:
    yield "## Ratios that were wanted"
    yield ""
    yield (
        "How many times longer the peer takes. Wall time; in brackets processor time, where "
        "both have one thread (Lava is several processes on all processors)."
    )
    yield ""
    rows = []
    for wanted in WANTED:
        for workload in wanted.workloads:
            case = _find(results, workload, wanted.batch, wanted.threads)
            if case is None:
                continue
            peers = {name: case["tools"][name] for name in wanted.peers if name in case["tools"]}
            if not peers:
                continue
            best = min(peers, key=lambda name: _median(peers[name], "wall"))
            setting = f"{workload}, batch {wanted.batch}"
            setting += f", {wanted.threads} threads" if wanted.threads > 1 else ""
            title = wanted.title if len(wanted.peers) == 1 else f"{wanted.title} ({best})"
            rows.append(
                [title, setting, *(_ratio(case, best, engine) for engine in ENGINES),
                 f"{wanted.floor:g}", f"{wanted.goal:g}"]
            )  # fmt: skip
    yield from _table(("against", "on", *ENGINES, "floor", "goal"), rows)


def _ratio(case: Mapping[str, Any], peer: str, engine: str) -> str:
    if engine not in case["tools"]:
        return "-"
    ours, theirs = case["tools"][engine], case["tools"][peer]
    text = f"{_median(theirs, 'wall') / _median(ours, 'wall'):.3g}"
    if case["threads"] > 1:
        return text
    return text + f" ({_median(theirs, 'processor') / _median(ours, 'processor'):.3g})"


def _checks(results: Results) -> Iterator[str]:
    yield "## Same spikes"
    yield ""
    yield (
        "Every layer's spikes on one sample, compared with the golden engine's bit for bit where "
        "they must be equal. Of the others: what they do differently, and the share of spikes that "
        "they have in common with golden, layer by layer, once the steps between layers that "
        "some of them do not have are taken off."
    )
    yield ""
    rows = []
    for check in results["checks"]:
        rates = ", ".join(f"{100 * rate:.2g} %" for rate in check["rates"])
        rows.append([check["workload"], "golden", rates, "-"])
        for name, found in check["tools"].items():
            rates = ", ".join(f"{100 * rate:.2g} %" for rate in found["rates"])
            rows.append([check["workload"], name, rates, _agreement(found)])
    yield from _table(("workload", "tool", "rate of each layer", "spikes"), rows)


def _agreement(found: Mapping[str, Any]) -> str:
    if found["exact"]:
        return "all layers equal" if all(found["equal"]) else "DIFFERENT"
    shares = ", ".join(f"{100 * share:.3g} %" for share in found.get("common", ()))
    return found["differs"] + (f"; in common {shares}" if shares else "")


def _cases(results: Results) -> Iterator[str]:
    yield "## Times"
    yield ""
    yield (
        "Milliseconds per sample of T = 100 steps: median and middle half of wall time, median "
        "of processor time, wall time as a multiple of the fast engine's, and how many calls "
        "were timed (slow tools have few)."
    )
    yield ""
    for case in results["cases"]:
        if case["curve"]:
            continue
        threads = f", {case['threads']} threads" if case["threads"] > 1 else ", 1 thread"
        yield f"### {case['workload']} ({case['title']}), batch {case['batch']}{threads}"
        yield ""
        base = case["tools"].get("spikec fast")
        rows = []
        order = sorted(case["tools"], key=lambda name: _median(case["tools"][name], "wall"))
        for name in order:
            times = case["tools"][name]
            ratio = _median(times, "wall") / _median(base, "wall") if base else 0
            rows.append(
                [name, _ms(_median(times, "wall")), _spread(times["wall"]),
                 _ms(_median(times, "processor")), f"{ratio:.3g}", str(len(times["wall"]))]
            )  # fmt: skip
        yield from _table(("tool", "wall", "middle half", "processor", "x", "calls"), rows)
        for name, reason in case["refused"].items():
            yield f"{name} did not run: {reason}"
            yield ""


def _growth(results: Results) -> Iterator[str]:
    """Give the points of the plots: what is between two of them is the growth."""
    named = [curve for curve in AXES if any(case["curve"] == curve for case in results["cases"])]
    if not named:
        return
    yield "## Growth"
    yield ""
    yield "Processor milliseconds per sample, one thread; `curves.svg` shows the same."
    yield ""
    for curve in named:
        points = sorted(
            (case for case in results["cases"] if case["curve"] == curve),
            key=lambda case: case["at"],
        )
        tools = list(dict.fromkeys(name for case in points for name in case["tools"]))
        rows = [
            [tool, *(_ms(_median(case["tools"][tool], "processor")) if tool in case["tools"]
                     else "-" for case in points)]
            for tool in tools
        ]  # fmt: skip
        if all("bound" in case for case in points):
            rows.append(["bound", *(_ms(case["bound"]) for case in points)])
        yield from _table((AXES[curve], *(f"{case['at']:g}" for case in points)), rows)


def _bounds(results: Results) -> Iterator[str]:
    if not results["rates"] or not results["cases"]:
        return
    yield "## This machine's bound"
    yield ""
    yield "The bound over the processor time of an engine with one thread."
    yield ""
    rows = []
    for case in results["cases"]:
        if case["curve"] or case["threads"] > 1:
            continue
        limits = next((item for item in BOUND_WANTED if case["workload"].startswith(item[0])), None)
        rows.append(
            [f"{case['workload']}, batch {case['batch']}", f"{case['bound'] * 1e6:.3g}",
             *(_share(case, engine) for engine in ENGINES),
             f"{limits[1]} %, {limits[2]} %" if limits else "-"]
        )  # fmt: skip
    yield from _table(("on", "bound, µs", *ENGINES, "floor, goal"), rows)


def _share(case: Mapping[str, Any], engine: str) -> str:
    if engine not in case["tools"]:
        return "-"
    return f"{100 * case['bound'] / _median(case['tools'][engine], 'processor'):.2g} %"


def _profiles(results: Results) -> Iterator[str]:
    if not results.get("profile"):
        return
    yield "## Where the time goes"
    yield ""
    yield (
        "Processor microseconds per sample with 16 samples in a call (W4: 4), found by leaving "
        "work out (`extras.py` says how)."
    )
    yield ""
    parts = ("overhead", "scan", "input events", "other events")
    rows = [
        [item["workload"], item["engine"], f"{1e6 * item['whole']:.3g}",
         *(f"{1e6 * item[part]:.3g} ({100 * item[part] / item['whole']:.0f} %)" for part in parts)]
        for item in results["profile"]
    ]  # fmt: skip
    yield from _table(("workload", "engine", "whole", *parts), rows)


def _start_up(results: Results) -> Iterator[str]:
    if "start-up" not in results:
        return
    yield "## Start-up"
    yield ""
    yield f"Seconds of a whole process, caches filled before; wanted: {START_UP_WANTED} at most."
    yield ""
    rows = [
        [name, f"{_median(times, 'wall'):.2f}", f"{_median(times, 'processor'):.2f}"]
        for name, times in results["start-up"].items()
    ]
    yield from _table(("process", "wall", "processor"), rows)


def _trained(results: Results) -> Iterator[str]:
    if not results.get("trained"):
        return
    yield "## Trained networks"
    yield ""
    rows = []
    for name, found in results["trained"].items():
        lava = found.get("lava", "not run")
        if "lava seconds" in found:
            lava += f", {found['lava seconds']:.1f} s for 4 images and building"
        for engine, times in found["engines"].items():
            rows.append(
                [name, engine, _ms(_median(times, "wall")), _ms(_median(times, "processor")),
                 "equal" if found["equal"][engine] else "DIFFERENT", lava]
            )  # fmt: skip
    yield (
        "The zoo's networks compiled to integers, on MNIST test images in one call, one thread; "
        "everything recorded is compared with golden on 100 images, and with Lava on four."
    )
    yield ""
    yield from _table(
        ("network", "engine", "wall, ms an image", "processor", "golden", "Lava"), rows
    )


def _left_out(results: Results) -> Iterator[str]:
    yield "## Not run"
    yield ""
    rows = [
        [name, reason] for name, reason in {**results["missing"], **results["left out"]}.items()
    ]
    rows += [[what, f"failed: {reason}"] for what, reason in results["failed"].items()]
    yield from _table(("tool", "why"), rows)
    if results["skipped"]:
        yield f"Cases that time did not suffice for: {', '.join(results['skipped'])}."
        yield ""


AXES = {
    "steps": "steps of a sample (W1)",
    "batch": "samples in a call (W1)",
    "neurons": "neurons of a square layer, 5 %",
    "density": "density of spikes, % (1024-1024)",
}


def _plots(results: Results, folder: Path) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        print("no plots: matplotlib is not installed", file=sys.stderr)
        return
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "spikec"
    if any(case["curve"] for case in results["cases"]):
        _curves(results, folder)
    if results["rates"]:
        _roofline(results, folder)


def _curves(results: Results, folder: Path) -> None:
    from matplotlib import pyplot as plt

    figure, places = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    colours: dict[str, str] = {}
    drawn: dict[str, Any] = {}
    for (curve, label), place in zip(AXES.items(), places.flat, strict=True):
        points: dict[str, list[tuple[float, float]]] = {}
        for case in results["cases"]:
            if case["curve"] == curve:
                for name, times in case["tools"].items():
                    value = 1e3 * _median(times, "processor")
                    points.setdefault(name, []).append((case["at"], value))
                if "bound" in case:
                    points.setdefault("bound", []).append((case["at"], 1e3 * case["bound"]))
        for name, line in points.items():
            colour = colours.setdefault(name, f"C{len(colours) % 10}")
            style = (
                {"color": "k", "ls": "--"} if name == "bound" else {"color": colour, "marker": "o"}
            )
            (drawn[name],) = place.plot(*zip(*sorted(line), strict=True), label=name, **style)
        place.set(xlabel=label, ylabel="processor ms a sample", xscale="log", yscale="log")
        at = sorted({point for line in points.values() for point, _ in line})
        place.set_xticks(at, [f"{point:g}" for point in at])
        place.minorticks_off()
        place.grid(visible=True, alpha=0.3)
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=len(drawn))
    _save(figure, folder / "curves.svg")


def _roofline(results: Results, folder: Path) -> None:
    from matplotlib import pyplot as plt

    cases = [c for c in results["cases"] if not c["curve"] and c["threads"] == 1]
    figure, place = plt.subplots(figsize=(10, 5))
    engines = [name for name in ENGINES if any(name in case["tools"] for case in cases)]
    width = 0.8 / max(1, len(engines))
    for number, engine in enumerate(engines):
        shares = [
            100 * case["bound"] / _median(case["tools"][engine], "processor")
            if engine in case["tools"] else 0
            for case in cases
        ]  # fmt: skip
        place.bar([i + number * width for i in range(len(cases))], shares, width, label=engine)
    place.axhline(50, color="k", linestyle="--", label="goal")
    names = [f"{case['workload']}\nbatch {case['batch']}" for case in cases]
    place.set_xticks(range(len(cases)), names, fontsize=7)
    place.set(ylabel="% of this machine's bound", ylim=(0, 100))
    place.legend()
    figure.tight_layout()
    _save(figure, folder / "roofline.svg")


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    temporary = path.with_suffix(".tmp.svg")
    figure.savefig(temporary, metadata={"Date": None})
    temporary.replace(path)
    plt.close(figure)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    source = Path(sys.argv[2]) if len(sys.argv) > 2 else place / "results.json"
    write(json.loads(source.read_text(encoding="utf-8")), place)
