"""What frameworks do that NIR does not say: one table, with quirks and where they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from spikec.compiler.frontends.options import Discretization
from spikec.compiler.ir import MOST_SPIKES, Compare, Reset, ResetOrder

__all__ = ["PLAIN", "PROFILES", "Gain", "Loss", "Profile"]

#: How strongly a current moves the voltage, and an input the current, in one step.
#: "ode": r dt/tau by Euler, r (1 - decay) by exp. "euler": r dt/tau with either decay.
#: "one": the framework has no such factor. "decay": the factor is the decay itself.
Gain: TypeAlias = Literal["ode", "euler", "one", "decay"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A switch of the framework's neurons that its export drops.

    It is ``asked`` for where networks commonly set it otherwise. Else the profile means the
    framework's default, which is said wherever the file is read.
    """

    #: The switch and its default, as the framework writes them.
    switch: str
    default: str
    #: The field of the options that supplies it ("" where nothing can), and what to say.
    option: str = ""
    say: str = ""
    kinds: tuple[str, ...] = ("IF", "LIF", "CubaLIF")
    asked: bool = False


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
    #: The same for an LI node, where it has a rule of its own.
    readout_gain: Gain | None = None
    #: Whether an IF node's voltage moves by r dt times its input, or by the input itself.
    if_gain: Literal["ode", "one"] = "ode"
    #: Kinds of nodes whose r the framework ignores: it is 1 there.
    ignores_r: tuple[str, ...] = ()
    #: Time constants are multiplied by dt, all of them: undone.
    tau_times_dt: bool = False
    #: The file's v_reset is what a spike leaves; else the framework ignores it: 0.
    reads_v_reset: bool = True
    #: A synapse's current rests at the neuron's v_leak.
    current_rests_at_leak: bool = False
    #: Fewer axes are the last ones, as NumPy, PyTorch and JAX broadcast.
    last_axes: bool = False
    #: The shape of an input may begin with the steps of the data that it was exported with.
    time_axis: bool = False
    #: All gains are 1 in files of this framework, or r is.
    writes_gain_one: bool = False
    #: Its export writes r = 1, always.
    writes_r_one: bool = False
    #: A decay above 1 or below 0 is clipped, as the framework does when it runs.
    clips_decay: bool = False
    #: A gain within 1e-5 of 1 is 1: the framework has none, the file's rounding gave it one.
    snaps_gain: bool = False
    #: A reset to zero also discards that step's input, in neurons with a synapse or recurrence.
    synaptic_zero_drops_input: bool = False
    #: Where voltages start: the file's v_leak or v_reset, or 0.
    starts_at: Literal["0", "v_leak", "v_reset"] = "0"
    if_starts_at: Literal["0", "v_reset"] = "0"
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
    #: Its export writes weights as [in, out], with gains of 1.
    writes_in_out: bool = False
    #: Kinds of nodes that it makes something else of, and what.
    unlike: Mapping[str, str] = field(default_factory=dict)
    #: What its export drops.
    lost: tuple[Loss, ...] = ()
    quirks: tuple[str, ...] = ()
    source: str = ""


_MULTI_SPIKE = (
    "a neuron sends as many spikes in a step as its voltage holds thresholds, its default, "
    "without a limit that matters: a network of single spikes (SingleSpike, max_spikes_per_dt=1) "
    "needs --max-spikes 1, and a low limit saves bits"
)

_SPIKE_FN = Loss(
    switch="spike_fn (max_spikes_per_dt)",
    default="MultiSpike",
    option="max_spikes",
    say="--max-spikes 1 (SingleSpike), or a higher limit",
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
            writes_gain_one=True,
            synaptic_zero_drops_input=True,
            last_axes=True,
            resets_twice=True,
            lost=(
                Loss(
                    switch="reset_mechanism",
                    default="'subtract'",
                    option="reset",
                    say="--reset subtract|zero|none, or by layer: --reset lif2=none,subtract",
                    asked=True,
                ),
                Loss(
                    switch="reset_delay",
                    default="True",
                    option="reset_order",
                    say="--reset-order next_step (True), or at_spike (False)",
                    asked=True,
                ),
                Loss(
                    switch="graded_spikes_factor",
                    default="1",
                    option="spike_factor",
                    say="--spike-factor 1, or by layer: --spike-factor lif1=0.5,1",
                    kinds=("LIF",),
                ),
                Loss(switch="inhibition", default="False"),
                Loss(switch="state_quant", default="False"),
            ),
            quirks=(
                "dt is always 1e-4, whatever the data",
                "v_reset is always written as 0, whatever the reset",
                (
                    "alpha and beta are clamped to [0, 1] when it runs, not when it exports: "
                    "negative time constants mean a decay of 1"
                ),
                "r = tau/dt and w_in = tau_syn/dt are written for gains of 1",
                (
                    "with --reset-order at_spike, a threshold is first subtracted when the last "
                    "voltage is still above it, and a spike needs the rest to reach it again"
                ),
                "the padding of an AvgPool2d is written as 0",
            ),
            source="snnTorch 1.0.0: export_nir.py, _neurons/neurons.py",
        ),
        Profile(
            name="snntorch-import",
            dt=1e-4,
            discretization="euler",
            unlike={"IF": "import_from_nir makes a Leaky with beta 0.9 of an IF"},
            reset="zero",
            reset_order="at_spike",
            compare=">",
            clips_decay=True,
            snaps_gain=True,
            resets_twice=True,
            reads_v_reset=False,
            last_axes=True,
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
            if_gain="one",
            tau_times_dt=True,
            writes_r_one=True,
            starts_at="v_leak",
            if_starts_at="v_reset",
            last_axes=True,
            lost=(
                Loss(
                    switch="dt",
                    default="0.001",
                    option="dt",
                    say="--dt SECONDS, the argument of to_nir and of the cells",
                    kinds=("LI", "LIF", "CubaLIF"),
                ),
                Loss(
                    switch="v_reset (reset_method)",
                    default="0",
                    option="v_reset",
                    say="--v-reset 0, or by layer: --v-reset 1=-0.4,0 "
                    "(--reset subtract for reset_method=reset_subtract)",
                ),
            ),
            quirks=(
                (
                    "tau is written as dt/tau_inv, dt times too small: multiplied back in all "
                    "neurons; --profile norse-import is for files with seconds"
                ),
                (
                    "a spike adds its whole weight to the current; w_in = 1 loses that gain of "
                    "tau_syn/dt"
                ),
                "an IF adds its input to the voltage, whatever r and dt; it starts at v_reset",
            ),
            source="Norse 1.1.0: utils/export_nir.py, functional/",
        ),
        Profile(
            name="norse-import",
            dt=1e-3,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            if_gain="one",
            ignores_r=("LIF",),
            reads_v_reset=False,
            current_rests_at_leak=True,
            starts_at="v_leak",
            if_starts_at="v_reset",
            last_axes=True,
            quirks=(
                "the time step is an argument of from_nir; the NIR paper used 1e-4",
                "IF and LIF ignore r; an IF adds its input to the voltage, whatever dt",
                "v_reset is ignored: 0; reset_method is an argument of from_nir, for CubaLIF",
                "the current of a CubaLIF rests at v_leak too",
            ),
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
            if_gain="one",
            readout_gain="one",
            writes_r_one=True,
            last_axes=True,
            time_axis=True,
            lost=(
                _SPIKE_FN,
                Loss(
                    switch="reset_fn",
                    default="MembraneSubtract()",
                    option="reset",
                    say="--reset subtract, or zero (MembraneReset)",
                ),
                Loss(switch="min_v_mem", default="None", kinds=("LI", "IF", "LIF")),
                Loss(
                    switch="norm_input",
                    default="True",
                    option="norm_input",
                    say="--norm-input true|false, or by layer: --norm-input 1=false,true",
                    kinds=("LIF",),
                ),
                Loss(
                    switch="norm_input of ExpLeak",
                    default="False",
                    option="norm_input",
                    say="--norm-input true|false, or by layer: --norm-input 3=true,false",
                    kinds=("LI",),
                ),
                Loss(switch="tau_syn", default="None", kinds=("IF", "LIF")),
            ),
            quirks=(
                "time constants are in steps, so dt is 1",
                "the input's shape begins with the steps of the data it was exported with",
                (
                    "r is always 1: by default an input counts 1 - decay in LIF (norm_input=True), "
                    "and once in ExpLeak, which is an LI (False)"
                ),
                _MULTI_SPIKE,
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
            if_gain="one",
            reads_v_reset=False,
            last_axes=True,
            time_axis=True,
            quirks=(
                "from_nir sets norm_input=False: the gain is 1 whatever r",
                _MULTI_SPIKE,
                "IF voltages are floored at -threshold",
                "v_reset is ignored: a spike takes its threshold off",
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
            last_axes=True,
            lost=(_SPIKE_FN, Loss(switch="bias", default="0")),
            quirks=(
                "r = tau exp(-dt/tau)/dt is written for a gain of 1",
                "the current decays after the input is added: its input gain is exp(-dt/tau_syn)",
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
            last_axes=True,
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
            writes_gain_one=True,
            starts_at="v_reset",
            if_starts_at="v_reset",
            last_axes=True,
            lost=(
                Loss(
                    switch="dt",
                    default="1e-4",
                    option="dt",
                    say="--dt SECONDS, the argument of export_to_nir",
                    kinds=("LIF",),
                ),
            ),
            quirks=(
                "soft reset (v_reset=None) is not exportable there",
                "dt is an argument of export_to_nir: another one shows, but with decay_input=True",
            ),
            source="SpikingJelly 2.0.0: nir_exchange/to_nir.py, neuron/",
        ),
        Profile(
            name="spyx",
            discretization="euler",
            reset="subtract",
            reset_order="at_spike",
            compare=">",
            snaps_gain=True,
            last_axes=True,
            writes_in_out=True,
            population_delay=1,
            lag=-1,
            quirks=(
                "spikes are taken from the voltage before the step: one step late per layer",
                (
                    "to_nir writes weights as [in, out], r = beta for a gain of 1, and thresholds "
                    "of 1, whatever they are; of other files it reads [out, in]: shapes decide"
                ),
            ),
            source="spyx nir.py; NIR paper, Braille runs",
        ),
        Profile(
            name="spyx-import",
            discretization="euler",
            reset="subtract",
            reset_order="at_spike",
            compare=">",
            snaps_gain=True,
            last_axes=True,
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
