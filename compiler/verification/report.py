"""What verification found, as plain frozen data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from spikec.compiler.validation import Validation
from spikec.compiler.verification.certificate import Answers, Certificate
from spikec.compiler.verification.drift import Drift
from spikec.compiler.verification.significance import AccuracyChange

__all__ = [
    "Comparison",
    "Divergence",
    "Gate",
    "Margin",
    "PopulationDifference",
    "Rung",
    "VerificationReport",
]


#: What is said of values that left their range on rung I, by the name of the event.
_LEFT = {"voltage saturated": "voltages clipped at 24 bits", "current wrapped": "currents wrapped"}


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to run the network: ``accuracy`` (with labels) over ``samples``.

    ``agreement`` is the share of predictions equal to the first rung's.
    """

    name: str
    meaning: str
    samples: int
    accuracy: float | None
    agreement: float
    events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PopulationDifference:
    """One population on two rungs.

    ``mismatch`` is the number of differing spikes relative to the spikes of the
    lower rung; a readout has ``voltage_rmse`` instead, relative to the RMS of
    the lower rung's voltage. ``identical_samples`` counts samples without any
    difference.
    """

    population: str
    differing: int
    spikes: int
    mismatch: float | None
    rate_change: float | None
    voltage_rmse: float | None
    identical_samples: int


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Where two rungs first part: the earliest step of the first sample that differs.

    ``states`` gives spike, voltage and threshold of that neuron at that step on
    both sides, in source units, from running the sample once more by itself.
    """

    sample: int
    step: int
    population: str
    neuron: tuple[int, ...]
    states: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two neighbouring rungs; ``must_agree`` marks those that differ only by a bug."""

    lower: str
    upper: str
    samples: int
    must_agree: bool
    populations: tuple[PopulationDifference, ...]
    first: Divergence | None

    @property
    def differing(self) -> int:
        """The number of differing values in all populations."""
        return sum(item.differing for item in self.populations)

    @property
    def passed(self) -> bool:
        """Whether the rungs agree as far as they must."""
        return not self.must_agree or self.differing == 0


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How close a population's voltages come to its threshold, relative to it.

    ``smallest`` is the least distance of all ``decisions``, ``near`` the share
    within 1 %: those a small error can turn.
    """

    population: str
    rung: str
    decisions: int
    smallest: float
    median: float
    near: float


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a user demands: accuracy may fall by ``max_drop`` (a share), and F must be there."""

    max_drop: float | None = None
    require_float: bool = False


@dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """The whole ladder; ``passed`` is what the exit code says.

    ``changes`` compare accuracies with the first rung's, where labels are known. ``drifts`` need
    the float graph; ``certificates`` are the integers' against Q. ``notes`` say which rungs are
    missing, and why. ``sums_up`` says that ``output``, which answers are read from, does
    not leak. ``validation`` compares the program with its source; None where there is none.
    """

    samples: int
    steps: int
    readout: str
    rungs: tuple[Rung, ...]
    comparisons: tuple[Comparison, ...]
    margins: tuple[Margin, ...]
    changes: tuple[AccuracyChange, ...] = ()
    drifts: tuple[Drift, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    notes: tuple[str, ...] = ()
    output: str = ""
    sums_up: bool = False
    gate: Gate = field(default_factory=Gate)
    validation: Validation | None = None

    @property
    def answers(self) -> Answers | None:
        """What is proved of the answers; None where the output cannot be compared with Q."""
        return next((item.answers for item in self.certificates if item.answers is not None), None)

    @property
    def gap(self) -> AccuracyChange | None:
        """What integers changed of the float network's accuracy; None without F or labels."""
        return next((x for x in self.changes if (x.lower, x.upper) == ("F", "I")), None)

    @property
    def refusals(self) -> tuple[str, ...]:
        """What the gate does not let through."""
        return tuple(self._refusals())

    def _refusals(self) -> Iterator[str]:
        if self.gate.require_float and all(item.name != "F" for item in self.rungs):
            yield "the float network is missing, and --require-float asks for it: no rung F"
        most, gap = self.gate.max_drop, self.gap
        if most is None:
            return
        if gap is None:
            yield "--max-drop compares with the float network on labels, and they are missing"
        elif gap.lost - gap.gained > most * gap.samples * (1 + 1e-12):
            yield (
                f"accuracy falls by {-100 * gap.change:.2f} points (95 % interval "
                f"{-100 * gap.high:.2f} to {-100 * gap.low:.2f}), more than --max-drop "
                f"{100 * most:g}%"
            )

    @property
    def clipped_answers(self) -> int:
        """Answers that come from clipped voltages.

        Where spikes are counted: those of an output without leak, as a leak forgets, that are not
        proved to be Q's all the same. Where the output cannot be compared with Q, all samples may
        be such.
        """
        counted = self.readout == "spike-count"
        if counted and not self.sums_up:
            return 0
        if self.answers is not None:
            return self.answers.clipped_open if counted else self.answers.clipped
        return self.samples if self.output in self.saturations else 0

    @property
    def unexplained(self) -> int:
        """Spikes and voltages of the integers that truncation cannot explain."""
        found = sum(item.unexplained for item in self.certificates)
        return found + (0 if self.answers is None else self.answers.unexplained)

    @property
    def saturations(self) -> dict[str, int]:
        """How often the integers' voltages were clipped at 24 bits, by population."""
        return self._events("voltage saturated")

    @property
    def wraps(self) -> dict[str, int]:
        """How often the integers' currents wrapped at 24 bits, by population."""
        return self._events("current wrapped")

    def _events(self, what: str) -> dict[str, int]:
        """Return the counts of one kind of event on rung I, by what it happened to."""
        found = {}
        for event, count in self.rung("I").events.items():
            name, _, kind = event.rpartition("/")
            if kind == what and count:
                found[name] = count
        return found

    @property
    def missing(self) -> tuple[str, ...]:
        """The rungs below the integers that were not climbed: what they would show is unknown."""
        climbed = {item.name for item in self.rungs}
        return tuple(name for name in ("F", "Q") if name not in climbed)

    @property
    def reservations(self) -> tuple[str, ...]:
        """What a verdict must not leave out although nothing failed: what left its range."""
        found: dict[str, list[str]] = {}
        for event, count in self.rung("I").events.items():
            name, _, kind = event.rpartition("/")
            if count:
                found.setdefault(_LEFT.get(kind, kind), []).append(f"{name} {count:,} times")
        left = [f"{what} ({', '.join(places)})" for what, places in found.items()]
        return tuple(left + list(self._uncertain()))

    def _uncertain(self) -> Iterator[str]:
        """Yield what the certificate cannot say."""
        for item in self.certificates:
            if item.clipped:
                yield (
                    f"{item.clipped:,} decisions of {item.population} are clipped "
                    f"({item.clipped_flips:,} of them otherwise in Q)"
                )
            if item.open_from is not None:
                yield (
                    f"{item.population} is not certifiable from step {item.open_from} on: where no "
                    "leak forgets, the bound of truncation grows without end, and is wider than "
                    "24 bits by then"
                )
        if self.answers is not None and self.answers.clipped:
            yield (
                f"{self.answers.clipped} of {self.answers.samples} samples were read from clipped "
                f"values ({self.answers.clipped_open} without a proof that the answer is the same)"
            )

    @property
    def passed(self) -> bool:
        """Whether the program is the source's, what must be equal is, and all is explained.

        No answer may be clipped, and the gate must be open.
        """
        valid = self.validation is None or self.validation.passed
        explained = self.unexplained == 0 and self.clipped_answers == 0 and not self.refusals
        return valid and explained and all(item.passed for item in self.comparisons)

    @staticmethod
    def _answers(answers: Answers) -> dict[str, object]:
        return {**asdict(answers), "proved_share": answers.proved_share}

    def rung(self, name: str) -> Rung:
        """Return the rung called ``name``; ``KeyError`` if it was not climbed."""
        return {item.name: item for item in self.rungs}[name]

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        comparisons = [
            {**asdict(item), "differing": item.differing, "passed": item.passed}
            for item in self.comparisons
        ]
        certificates = [
            {**asdict(item), "certified_share": item.certified_share} for item in self.certificates
        ]
        return {
            **asdict(self),
            "comparisons": comparisons,
            "certificates": certificates,
            "validation": None if self.validation is None else self.validation.as_dict(),
            "unexplained": self.unexplained,
            "answers": None if self.answers is None else self._answers(self.answers),
            "clipped_answers": self.clipped_answers,
            "refusals": list(self.refusals),
            "saturations": self.saturations,
            "wraps": self.wraps,
            "reservations": list(self.reservations),
            "missing": list(self.missing),
            "passed": self.passed,
        }
