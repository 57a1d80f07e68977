"""Measure spikec beside its peers: ``python benchmarks/run.py`` (or ``make bench``).

Every tool runs in a child process of its own; they take turns, round by round, so that
whatever else the machine does meets them all. What is found is kept after every case. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bound import measured
from cases import Case, chosen, quick, standard
from extras import profile, start_up, trained
from machine import described, stolen
from report import keep, write
from session import Session, available
from tools import LEFT_OUT, TOOLS
from workloads import kept

HERE = Path(__file__).parent
#: What an unfinished run found, in the folder of the results.
PARTIAL = "partial.json"
#: A tool whose first layer has less in common with golden's computes another network.
LEAST_COMMON = 0.4
#: Minutes kept for what comes after the cases that are no points of curves.
AFTERWARDS = 1.5


class Run:
    """What was found so far, and the file that has it."""

    def __init__(self, session: Session, results: dict[str, Any], path: Path) -> None:
        self.session, self.results, self.path = session, results, path
        self._begin, self._stolen = time.time(), stolen()
        self._before = (results["minutes"], results["stolen"])

    def minutes(self) -> float:
        """Return the minutes of this run alone."""
        return (time.time() - self._begin) / 60

    def save(self) -> None:
        """Write what there is."""
        self.results["minutes"] = self._before[0] + self.minutes()
        self.results["stolen"] = self._before[1] + stolen() - self._stolen
        self.results["missing"] = {**self.results["missing"], **self.session.missing}
        self.results["versions"] = {**self.results["versions"], **self.session.versions}
        keep(self.results, self.path)

    def attempt(self, what: str, call: Callable[[], None]) -> None:
        """Do a part; what goes wrong in it is noted, and the others go on."""
        print(f"{self.minutes():5.1f} min  {what}", flush=True)
        self.results["failed"].pop(what, None)
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the other figures would be lost
            traceback.print_exc()
            self.results["failed"][what] = f"{type(error).__name__}: {error}"
        self.save()

    def case(self, case: Case) -> None:
        """Measure a case; one without curve and batch is compared with golden first."""
        self.session.close_others(case)
        alone = case.batch == 1 and not case.curve
        checks = [self.session.compare(case)] if alone else []
        self.results["cases"].append(self.session.measure(case))
        self.results["checks"] += checks

    def cases(self, cases: Sequence[Case], minutes: float) -> None:
        """Measure those not measured yet until ``minutes`` are over; name the others."""
        known = {case["label"] for case in self.results["cases"]}
        for case in cases:
            if case.label in known:
                continue
            if self.minutes() > minutes:
                self.results["skipped"].append(case.label)
            else:
                self.attempt(case.label, lambda case=case: self.case(case))  # type: ignore[misc]

    def extras(self, cases: Sequence[Case]) -> None:
        """Measure start-up, trained networks and where the time goes, if not done yet."""
        short = self.results["form"] == "quick"
        few = 2 if short else 5
        own = [item.argument for item in TOOLS if item.own and item.argument != "golden"]
        engines = [name for name in own if available(name)]
        alone = [item for item in cases if item.batch == 1 and not item.curve]
        paths = [kept(self.session.cache, item.workload, item.make) for item in alone]
        first = [path for path in paths if path.stem == "W1"]
        parts: dict[str, Callable[[], Any]] = {
            "trained": lambda: trained(
                engines, samples=200 if short else 2000, rounds=few, lava=not short
            ),
            "profile": lambda: profile(paths, engines, few),
        }
        if first:
            parts["start-up"] = lambda: start_up(first[0], engines, few)
        for name, part in parts.items():
            if name not in self.results:
                self.attempt(name, lambda n=name, p=part: self.results.update({n: p()}))  # type: ignore[misc]


def main() -> int:
    """Run, write the results, and return 1 if spikes differ that must not."""
    arguments = _arguments()
    cases = chosen(
        quick() if arguments.quick else standard(),
        workloads=arguments.only, labels=arguments.cases, tools=arguments.tools,
    )  # fmt: skip
    if arguments.list:
        print(*(f"{case.label}: {', '.join(case.tools)}" for case in cases), sep="\n")
        return 0
    if not cases:
        print("no case fits: --list names them", file=sys.stderr)
        return 2
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the children as well
    results = _resumed(output) if arguments.resume else {}
    with contextlib.ExitStack() as stack:
        session = Session(stack, install=not arguments.no_install, python=arguments.python)
        session.make_ready(cases)
        form = "quick" if arguments.quick else "standard"
        run = Run(session, {**_empty(form, session), **results}, output / PARTIAL)
        _all(run, cases, arguments.minutes)
    write(run.results, output)
    run.path.unlink(missing_ok=True)
    print((output / "results.md").read_text(encoding="utf-8"))
    wrong = _differences(run.results)
    for line in wrong:
        print(f"DIFFERENT: {line}", file=sys.stderr)
    for what, reason in run.results["failed"].items():
        print(f"FAILED: {what}: {reason}", file=sys.stderr)
    return 1 if wrong or run.results["failed"] else 0


def _all(run: Run, cases: Sequence[Case], minutes: float) -> None:
    """Measure everything, what matters most first."""
    run.results["skipped"] = []
    try:
        run.cases([case for case in cases if not case.curve], minutes - AFTERWARDS)
        run.extras(cases)
        run.cases([case for case in cases if case.curve], minutes)
        run.results["rates after"] = measured(run.session.cache)
    except (KeyboardInterrupt, SystemExit):
        print(f"what was found is in {run.path}; --resume goes on", file=sys.stderr)
        raise
    finally:
        run.save()


def _empty(form: str, session: Session) -> dict[str, Any]:
    return {
        "form": form, "machine": described(), "rates": session.rates, "left out": LEFT_OUT,
        "checks": [], "cases": [], "failed": {}, "skipped": [], "missing": {}, "versions": {},
        "minutes": 0.0, "stolen": 0.0,
    }  # fmt: skip


def _resumed(output: Path) -> dict[str, Any]:
    """Return what an unfinished run found, or a finished one that had to skip cases."""
    for name in (PARTIAL, "results.json"):
        path = output / name
        if path.is_file():
            results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if "failed" not in results or results["machine"] != described():
                sys.exit(f"{path} is of another machine or version: run without --resume")
            return {**results, "missing": {}}
    return {}


def _differences(results: dict[str, Any]) -> list[str]:
    """Name what had to be equal and is not."""
    wrong = [
        f"{check['workload']}: {name}"
        for check in results["checks"]
        for name, found in check["tools"].items()
        if (found["exact"] and not all(found["equal"]))
        or ("common" in found and found["common"][0] < LEAST_COMMON)
    ]
    wrong += [f"{check['workload']}: {check['events']}"
              for check in results["checks"] if check["events"]]  # fmt: skip
    for name, found in results.get("trained", {}).items():
        wrong += [f"{name}: {engine}" for engine, equal in found["equal"].items() if not equal]
        if found.get("lava") == "DIFFERENT":
            wrong.append(f"{name}: Lava")
    return wrong


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure spikec beside its peers.")
    parser.add_argument("--quick", action="store_true", help="our engines and NumPy only: seconds")
    parser.add_argument("--no-install", action="store_true", help="leave out peers not installed")
    parser.add_argument("--only", default="", help="workloads to run, with commas between")
    parser.add_argument(
        "--cases", default="",
        help='cases to run, with commas between and *: "W1 batch 256*,steps*"; --list names them',
    )  # fmt: skip
    parser.add_argument("--tools", default="", help="tools to run, with commas between")
    parser.add_argument("--list", action="store_true", help="name the cases and their tools")
    parser.add_argument("--resume", action="store_true", help="go on where a run was ended")
    parser.add_argument(
        "--minutes", type=float, default=12,
        help="cases that would begin too late for this are skipped (12); without installing",
    )  # fmt: skip
    parser.add_argument(
        "--python", action="append", default=[], metavar="GROUP=PATH",
        help="the Python that has a group of peers (torch, brian2, nest, lava, ...)",
    )  # fmt: skip
    parser.add_argument("--output", default=str(HERE / "results"), help="folder to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
