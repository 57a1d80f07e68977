"""What frameworks do that NIR does not say: one table, with quirks and where they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spikec.compiler.frontends.options import Discretization
from spikec.compiler.ir import MOST_SPIKES, Compare, Reset, ResetOrder

__all__ = ["PLAIN", "PROFILES", "Gain", "Profile"]

#: How strongly a current moves the voltage, and an input the current, in one step.
#: "ode": r dt/tau by Euler, r (1 - decay) by exp. "euler": r dt/tau with either decay.
#: "one": the framework has no such factor. "decay": the factor is the decay itself.
Gain: TypeAlias = Literal["ode", "euler", "one", "decay"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One framework's answers, and what else must be known to run its files as it does."""

    name: str
    discretization: Discretization
    reset: Reset
    reset_order: ResetOrder
    compare: Compare
    dt: float | None = None
    voltage_gain: Gain = "ode"
    current_gain: Gain = "ode"
    #: Time constants may have been multiplied by dt: undone where dt / tau exceeds 1.
    tau_times_dt: bool = False
    #: A decay above 1 or below 0 is clipped, as the framework does when it runs.
    clips_decay: bool = False
    #: A gain within 1e-5 of 1 is 1: the framework has none, the file's rounding gave it one.
    snaps_gain: bool = False
    #: A reset to zero also discards that step's input, in neurons with a synapse or recurrence.
    synaptic_zero_drops_input: bool = False
    #: Where voltages start: the file's v_leak or v_reset, or 0.
    starts_at: Literal["0", "v_leak", "v_reset"] = "0"
    #: Steps that an edge from an input, and from a population, takes beyond the file's delays.
    input_delay: int = 0
    population_delay: int = 0
    lag: int = 0
    #: How many spikes a neuron sends in a step at most: the framework's own default.
    max_spikes: int = 1
    #: Voltages of IF neurons do not fall below minus their threshold.
    floors_if: bool = False
    #: A subtraction that leaves the voltage above threshold counts against the next spike.
    resets_twice: bool = False
    quirks: tuple[str, ...] = ()
    source: str = ""


_MULTI_SPIKE = (
    "a neuron sends as many spikes in a step as its voltage holds thresholds, its default, "
    "without a limit that matters: a network of single spikes (SingleSpike, max_spikes_per_dt=1) "
    "needs --max-spikes 1, and a low limit saves bits"
)

#: Every profile; docs/nir.md shows this table.
PROFILES: Mapping[str, Profile] = {
    item.name: item
    for item in (
        Profile(
            name="snntorch",
            dt=1e-4,
            discretization="euler",
            reset="subtract",
            reset_order="next_step",
            compare=">",
            clips_decay=True,
            snaps_gain=True,
            synaptic_zero_drops_input=True,
            quirks=(
                "dt is always 1e-4, whatever the data",
                (
                    "v_reset is always written as 0, whatever the reset: a network with "
                    "reset_mechanism='zero' needs --reset zero, 'none' needs --reset none"
                ),
                (
                    "alpha and beta are clamped to [0, 1] when it runs, not when it exports: "
                    "negative time constants mean a decay of 1"
                ),
                "r = tau/dt and w_in = tau_syn/dt are written for gains of 1",
            ),
            source="snnTorch 1.0.0: export_nir.py, _neurons/neurons.py",
        ),
        Profile(
            name="snntorch-import",
            dt=1e-4,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            clips_decay=True,
            snaps_gain=True,
            resets_twice=True,
            quirks=(
                "import_from_nir always takes reset_mechanism='zero', reset_delay=False",
                (
                    "with --reset subtract, the threshold is first subtracted when the last "
                    "voltage is still above it, and a spike needs the rest to reach it again"
                ),
            ),
            source="snnTorch 1.0.0: import_nir.py",
        ),
        Profile(
            name="norse",
            dt=1e-3,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            current_gain="one",
            tau_times_dt=True,
            starts_at="v_leak",
            quirks=(
                (
                    "tau is written as dt/tau_inv, so dt times too small: multiplied back where "
                    "dt/tau exceeds 1"
                ),
                (
                    "a spike adds its whole weight to the current; w_in = 1 loses that gain of "
                    "tau_syn/dt"
                ),
            ),
            source="Norse 1.1.0: utils/export_nir.py, functional/lif.py",
        ),
        Profile(
            name="norse-import",
            dt=1e-3,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            starts_at="v_leak",
            quirks=("the time step is an argument of from_nir; the NIR paper used 1e-4",),
            source="Norse 1.1.0: utils/import_nir.py",
        ),
        Profile(
            name="sinabs",
            dt=1.0,
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            max_spikes=MOST_SPIKES,
            quirks=(
                "time constants are in steps, so dt is 1",
                (
                    "r = 1 is right for norm_input=True only; norm_input=False needs --profile "
                    "sinabs-import"
                ),
                "tau_syn is not exported: the current's filter is lost",
                _MULTI_SPIKE,
                "a floor of the voltage (min_v_mem) is not exported",
            ),
            source="sinabs 3.1.3: nir.py, layers/",
        ),
        Profile(
            name="sinabs-import",
            dt=1.0,
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            max_spikes=MOST_SPIKES,
            floors_if=True,
            voltage_gain="one",
            quirks=(
                "from_nir sets norm_input=False: the gain is 1 whatever r",
                _MULTI_SPIKE,
                "IF voltages are floored at -threshold",
            ),
            source="sinabs 3.1.3: nir.py",
        ),
        Profile(
            name="rockpool",
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            max_spikes=MOST_SPIKES,
            voltage_gain="one",
            current_gain="decay",
            quirks=(
                "r = tau exp(-dt/tau)/dt is written for a gain of 1",
                "the current decays after the input is added: its input gain is exp(-dt/tau_syn)",
                "the bias of its neurons is not exported",
                _MULTI_SPIKE,
            ),
            source="rockpool 3.1.0: nn/modules/torch/nir.py, lif_torch.py",
        ),
        Profile(
            name="rockpool-import",
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            max_spikes=MOST_SPIKES,
            voltage_gain="euler",
            current_gain="euler",
            quirks=("as in the NIR paper's script: weights times dt/tau", _MULTI_SPIKE),
            source="NIR paper, lif_rockpool.csv",
        ),
        Profile(
            name="spikingjelly",
            dt=1e-4,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">=",
            snaps_gain=True,
            starts_at="v_reset",
            quirks=("soft reset (v_reset=None) is not exportable there",),
            source="SpikingJelly 2.0.0: nir_exchange/to_nir.py, neuron/",
        ),
        Profile(
            name="spyx",
            discretization="euler",
            reset="subtract",
            reset_order="at_spike",
            compare=">",
            snaps_gain=True,
            population_delay=1,
            lag=-1,
            quirks=("spikes are taken from the voltage before the step: one step late per layer",),
            source="NIR paper, Braille runs",
        ),
        Profile(
            name="lava-dl",
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            input_delay=1,
            population_delay=1,
            quirks=("every synapse takes one step",),
            source="NIR paper, lif_lava_cpu_float.csv",
        ),
    )
}

#: No framework: NIR's equations as they stand, once every question is answered.
PLAIN = Profile(name="", discretization="euler", reset="zero", reset_order="at_spike", compare=">")
