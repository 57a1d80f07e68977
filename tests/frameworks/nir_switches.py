"""Every switch of the neurons that frameworks export to NIR, and what becomes of it: one table.

``test_nir_switches.py`` builds a network for each value and holds each outcome against the
framework, and the names against the framework's own signatures; ``docs/nir.md`` shows the table
(``tests/tools/nir_tables.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["FRAMEWORKS", "IMPORTS", "SWITCHES", "UNLIKE", "Case", "Switch", "cases", "imports"]

#: "equal": read as it is. "asked", "said": not in the file; with the option equal, or, where there
#: is none, known to differ. "refused": by the framework's export, or by spikec.
Outcome: TypeAlias = Literal["equal", "asked", "said", "refused"]
Options: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Switch:
    """One argument of a class: values as Python writes them, each with the options it needs."""

    name: str
    values: Mapping[str, Options | None] = field(default_factory=dict)
    outcome: Outcome = "equal"
    #: Other arguments that the value needs.
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One value of one switch: one network."""

    framework: str
    neuron: str
    switch: Switch
    value: str

    @property
    def options(self) -> Options | None:
        """What to say for it to be equal; None where nothing helps."""
        return self.switch.values[self.value]

    def __str__(self) -> str:
        return f"{self.neuron}-{self.switch.name}={self.value}"


FRAMEWORKS = {
    "snnTorch 1.0.0": "snntorch",
    "Norse 1.1.0": "norse",
    "sinabs 3.1.3": "sinabs",
    "SpikingJelly 2.0.0": "spikingjelly",
}


def _equal(name: str, *values: str, **beside: str) -> Switch:
    return Switch(name=name, values={value: {} for value in values}, beside=beside)


def _lost(name: str, *values: str, **beside: str) -> Switch:
    """Said, and nothing supplies it: known to differ."""
    return Switch(name=name, values=dict.fromkeys(values), outcome="said", beside=beside)


def _refused(name: str, *values: str, **beside: str) -> Switch:
    return Switch(
        name=name, values={value: {} for value in values}, outcome="refused", beside=beside
    )


_RESETS = Switch(
    name="reset_mechanism", outcome="asked",
    values={f"'{reset}'": {"reset": reset} for reset in ("subtract", "zero", "none")},
)  # fmt: skip
_DELAYED = Switch(
    name="reset_delay", outcome="asked",
    values={"True": {"reset_order": "next_step"}, "False": {"reset_order": "at_spike"}},
)  # fmt: skip
_GRADED = Switch(
    name="graded_spikes_factor", outcome="said",
    values={"0.5": {"spike_factor": "0.5"}, "2.0": {"spike_factor": "2"}},
)  # fmt: skip
_SNN = (
    _equal("beta", "0.25", "0.9", "[neurons]", "0.0", "1.0", "1.25", "-0.5"),
    _equal("threshold", "0.37", "[neurons]"),
    _equal("spike_grad", "atan()", "fast_sigmoid()"),
    _equal("surrogate_disable", "True"),
    _equal("init_hidden", "False"),
    _lost("inhibition", "True"),
    _equal("learn_beta", "True"),
    _equal("learn_threshold", "True"),
    _RESETS,
    _lost("state_quant", "uniform()"),
    _equal("output", "True"),
)
_SNN_ALPHA = (_equal("alpha", "0.25", "[neurons]", "0.0"), _refused("alpha", "1.0"),
              _equal("learn_alpha", "True"))  # fmt: skip
_SNN_RECURRENT = (
    _equal("linear_features", "neurons"),
    _equal("V", "[neurons]", all_to_all="False"),
    _refused("all_to_all", "False", V="0.5"),
    _equal("conv2d_channels", "channels", kernel_size="3"),
    _equal("kernel_size", "1", "5", conv2d_channels="channels"),
    _equal("learn_recurrent", "False"),
)
#: RSynaptic with reset_delay=False raises a NameError in snnTorch 1.0.0.
_ONLY_DELAYED = Switch(
    name="reset_delay", outcome="asked", values={"True": {"reset_order": "next_step"}}
)

_NORSE_RESET = Switch(
    name="v_reset", outcome="said",
    values={"-0.4": {"v_reset": "-0.4"}, "0.1": {"v_reset": "0.1"}},
)  # fmt: skip
_NORSE_DT = Switch(
    name="dt", outcome="said", values={"5e-4": {"dt": 5e-4}, "2e-3": {"dt": 2e-3}}
)  # fmt: skip
_NORSE = (
    _equal("tau_mem_inv", "0.5", "1.0", "80.0", "400.0", "999.0", "[neurons]"),
    _equal("v_leak", "0.0", "0.3"),
    _NORSE_DT,
)
_NORSE_SPIKES = (
    _equal("v_th", "0.2", "[neurons]"),
    _NORSE_RESET,
    _equal("method", "'heaviside'", "'tanh'"),
    _equal("alpha", "5.0"),
)

_SINGLE: Options = {"max_spikes": 1}
_SPIKE_FN = Switch(
    name="spike_fn", outcome="said",
    values={"MultiSpike": {"profile_defaults": True}, "SingleSpike": _SINGLE,
            "MaxSpike(3)": {"max_spikes": 3}},
)  # fmt: skip
_RESET_FN = Switch(
    name="reset_fn", outcome="said", beside={"spike_fn": "SingleSpike"},
    values={"MembraneSubtract()": _SINGLE, "MembraneReset()": {**_SINGLE, "reset": "zero"}},
)  # fmt: skip
_SINABS = (
    _equal("spike_threshold", "1.7", "[neurons]"),
    _SPIKE_FN,
    _RESET_FN,
    _equal("surrogate_grad_fn", "Heaviside()"),
    _lost("tau_syn", "3.0"),
    _lost("min_v_mem", "-0.1"),
    _equal("shape", "[neurons]"),
    _equal("record_states", "True"),
)


def _norm_input(usual: str) -> Switch:
    values: dict[str, Options | None] = {
        text: {"norm_input": text.lower()} for text in ("True", "False")
    }
    values[usual] = {"profile_defaults": True}
    return Switch(name="norm_input", outcome="said", values=values)


_SJ_RESET = (
    _equal("v_reset", "0.0", "-0.25", "0.1"),
    _refused("v_reset", "None"),
    _equal("surrogate_function", "ATan()"),
)
_SJ = (
    _equal("v_threshold", "0.53", "1.31"),
    *_SJ_RESET,
    _equal("detach_reset", "True"),
    _equal("step_mode", "'m'"),
    _equal("store_v_seq", "True"),
)
_SJ_DT = Switch(name="dt", outcome="said", values={"1e-3": {"dt": 1e-3}, "5e-5": {"dt": 5e-5}})

SWITCHES: Mapping[str, Mapping[str, tuple[Switch, ...]]] = {
    "snntorch": {
        "Leaky": (*_SNN, _DELAYED, _GRADED, _equal("learn_graded_spikes_factor", "True")),
        "Synaptic": (*_SNN_ALPHA, *_SNN, _DELAYED),
        "RLeaky": (*_SNN_RECURRENT, *_SNN, _DELAYED),
        "RSynaptic": (*_SNN_RECURRENT, *_SNN_ALPHA, *_SNN, _ONLY_DELAYED),
    },
    "norse": {
        "LIFCell": (
            _equal("tau_syn_inv", "50.0", "200.0", "[neurons]"), *_NORSE, *_NORSE_SPIKES,
        ),
        "LIFBoxCell": (
            *_NORSE, *_NORSE_SPIKES,
            Switch(name="reset_method", outcome="said",
                   values={"reset_value": {"v_reset": "0"},
                           "reset_subtract": {"reset": "subtract"}}),
        ),
        "LIBoxCell": _NORSE,
        "IAFCell": _NORSE_SPIKES,
    },
    "sinabs": {
        "IAF": _SINABS,
        "LIF": (
            _equal("tau_mem", "3.0", "20.0", "[neurons]"), *_SINABS,
            _refused("train_alphas", "True"), _norm_input("True"),
        ),
        "ExpLeak": (
            _equal("tau_mem", "3.0", "20.0", "[neurons]"),
            _lost("min_v_mem", "-0.1"),
            _equal("shape", "[neurons]"),
            _refused("train_alphas", "True"),
            _norm_input("False"),
            _equal("record_states", "True"),
        ),
    },
    "spikingjelly": {
        "IFNode": _SJ,
        "LIFNode": (
            _equal("tau", "1.25", "2.0", "10.0"), _equal("decay_input", "True", "False"),
            *_SJ, _SJ_DT,
        ),
        "ParametricLIFNode": (
            _equal("init_tau", "1.25", "2.0", "10.0"), _equal("decay_input", "True", "False"),
            *_SJ, _SJ_DT,
        ),
        "CUBALIFNode": (
            _equal("c_decay", "0.25", "0.9"), _equal("v_decay", "0.25", "0.9"),
            _equal("v_threshold", "0.53", "1.31"), *_SJ_RESET,
        ),
    },
}  # fmt: skip

#: The parameters of NIR nodes, as the frameworks' imports take them: in units of one step, the
#: rest of each node at rest 0, decay 3/4 and gain 1 (``test_nir_switches.py``).
_ANY_RESET = _equal("v_reset", "0.0", "-0.25", "0.1")
_NO_LEAK = _refused("v_leak", "0.25")
_THRESHOLDS = _equal("v_threshold", "0.53", "1.31")
_SCATTERED = _refused("v_threshold", "[neurons]")
IMPORTS: Mapping[str, Mapping[str, tuple[Switch, ...]]] = {
    "snntorch-import": {
        "IF": (_refused("r", "1.0", "2.0"),),
        "LIF": (
            _equal("tau", "1.25", "4.0", "[neurons]"), _equal("r", "2.0", "6.0"),
            _THRESHOLDS, _SCATTERED, _ANY_RESET, _NO_LEAK,
        ),
        "CubaLIF": (
            _equal("tau_mem", "1.25", "4.0"), _equal("tau_syn", "1.25", "3.0"),
            _refused("r", "2.0"), _equal("w_in", "1.5", "5.0"),
            _THRESHOLDS, _SCATTERED, _ANY_RESET, _NO_LEAK,
        ),
    },
    "norse-import": {
        "IF": (_equal("r", "1.0", "3.0"), _THRESHOLDS, _ANY_RESET,
               _equal("v_threshold", "[neurons]")),
        "LIF": (
            _equal("tau", "1.25", "4.0", "[neurons]"), _equal("r", "1.0", "3.0"),
            _THRESHOLDS, _equal("v_threshold", "[neurons]"), _ANY_RESET,
            _equal("v_leak", "0.25"),
        ),
        "CubaLIF": (
            _equal("tau_mem", "1.25", "4.0", "[neurons]"),
            _equal("tau_syn", "1.25", "3.0", "[neurons]"), _equal("r", "2.0"),
            _equal("w_in", "1.5", "5.0"), _THRESHOLDS, _ANY_RESET, _equal("v_leak", "0.25"),
        ),
    },
    "sinabs-import": {
        "IF": (_equal("r", "1.0", "3.0"), _THRESHOLDS, _ANY_RESET),
        "LIF": (
            _equal("tau", "1.25", "4.0", "[neurons]"), _equal("r", "1.0", "3.0"), _THRESHOLDS,
            _ANY_RESET,
        ),
        "LI": (_equal("tau", "1.25", "4.0", "[neurons]"), _refused("r", "3.0"), _NO_LEAK),
    },
    "spikingjelly": {
        "IF": (_THRESHOLDS, _ANY_RESET, _refused("r", "2.0"), _SCATTERED),
        "LIF": (
            _equal("tau", "1.25", "4.0"), _refused("tau", "[neurons]"), _refused("r", "3.0"),
            _THRESHOLDS, _SCATTERED, _NO_LEAK,
        ),
        "CubaLIF": (
            _equal("tau_mem", "1.25", "4.0"), _equal("tau_syn", "1.25", "3.0"),
            _refused("r", "2.0"), _refused("w_in", "5.0"), _THRESHOLDS, _SCATTERED,
            _ANY_RESET, _NO_LEAK,
        ),
    },
}  # fmt: skip

#: Neurons that the frameworks have and their exports refuse.
UNLIKE: Mapping[str, tuple[str, ...]] = {
    "snntorch": ("Alpha", "Lapicque"),
    "norse": ("LIFRefracCell", "LICell", "LIFAdExCell", "LIFRecurrentCell"),
    "sinabs": ("ALIF", "LIFRecurrent", "IAFRecurrent"),
    "spikingjelly": ("QIFNode", "EIFNode", "IzhikevichNode"),
}


def cases(framework: str) -> Iterator[Case]:
    """Yield a case for each value of each switch."""
    for neuron, switches in SWITCHES[framework].items():
        for switch in switches:
            for value in switch.values:
                yield Case(framework=framework, neuron=neuron, switch=switch, value=value)


def imports(profile: str) -> Iterator[Case]:
    """Yield a case for each value of each parameter of a node."""
    for node, switches in IMPORTS[profile].items():
        for switch in switches:
            for value in switch.values:
                yield Case(framework=profile, neuron=node, switch=switch, value=value)
