"""The options that say how a file is read: the same for every command, declared once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # it would load NumPy, which --help must not
    from spikec.compiler.frontends import ReadOptions

__all__ = ["READ", "reading"]

#: The default of a command's parameter ``read``, which :func:`reading` always gives.
READ: Any = None


class DiscretizationName(str, Enum):
    """How a time constant becomes a decay."""

    euler = "euler"
    exp = "exp"


_BY_NAME = "Or by population: layer2=VALUE,VALUE."

Dt = Annotated[
    float | None, typer.Option("--dt", help="Time step in seconds, if the file does not say.")
]
ResetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reset",
        metavar="subtract|zero|none",
        help=f"What a spike does, if the file does not say. {_BY_NAME}",
    ),
]
ResetOrderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reset-order",
        metavar="at_spike|next_step",
        help=f"When it does so: at the spike, or one step later. {_BY_NAME}",
    ),
]
CompareOption = Annotated[
    list[str] | None,
    typer.Option(
        "--compare", metavar=">|>=", help=f"Spike above, or also at the threshold. {_BY_NAME}"
    ),
]
DiscretizationOption = Annotated[
    DiscretizationName | None,
    typer.Option("--discretization", help="How time constants become decays."),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="The framework that wrote the file; answers all of these."),
]
ProfileDefaults = Annotated[
    bool,
    typer.Option(
        "--profile-defaults",
        help="What the framework's export drops is as the framework has it by default.",
    ),
]
VReset = Annotated[
    list[str] | None,
    typer.Option("--v-reset", metavar="VOLTAGE", help=f"Where a reset goes (NIR). {_BY_NAME}"),
]
SpikeFactor = Annotated[
    list[str] | None,
    typer.Option("--spike-factor", metavar="FACTOR", help=f"Worth of a spike (NIR). {_BY_NAME}"),
]
NormInput = Annotated[
    list[str] | None,
    typer.Option(
        "--norm-input",
        metavar="true|false",
        help=f"Inputs count 1 - decay, or 1 (NIR of sinabs). {_BY_NAME}",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=KIND",
        help="What enters (NIR, ONNX): binary, graded:LOW..HIGH, analog:LOW..HIGH, or analog, "
        "whose range --calibrate shows. Without a name, for all inputs.",
    ),
]
RoundDelays = Annotated[
    bool,
    typer.Option(
        "--round-delays", help="Take the nearest step for delays between steps (NIR): learned ones."
    ),
]
MaxSpikes = Annotated[
    int | None,
    typer.Option(
        "--max-spikes", help="Limit of spikes a step, where neurons send several: few save bits."
    ),
]
SpikeExp = Annotated[
    int | None,
    typer.Option("--spike-exp", help="Fraction bits of sigma-delta messages (.net): 6 as in netx."),
]
InputBits = Annotated[
    int | None,
    typer.Option(
        "--input-bits", help="Bits of the integers that enter (.net without an input layer's)."
    ),
]


def _read_options(
    *,
    dt: Dt = None,
    reset: ResetOption = None,
    reset_order: ResetOrderOption = None,
    compare: CompareOption = None,
    discretization: DiscretizationOption = None,
    profile: Profile = None,
    profile_defaults: ProfileDefaults = False,
    v_reset: VReset = None,
    spike_factor: SpikeFactor = None,
    norm_input: NormInput = None,
    inputs: Inputs = None,
    round_delays: RoundDelays = False,
    max_spikes: MaxSpikes = None,
    spike_exp: SpikeExp = None,
    input_bits: InputBits = None,
) -> ReadOptions:
    """Return how a file is to be read. The parameters are the options of every command."""
    from spikec.compiler.frontends import ReadOptions

    return ReadOptions(
        dt=dt,
        reset=_listed(reset),
        reset_order=_listed(reset_order),
        compare=_listed(compare),
        discretization=None if discretization is None else discretization.value,
        profile=profile,
        profile_defaults=True if profile_defaults else None,
        v_reset=_listed(v_reset),
        spike_factor=_listed(spike_factor),
        norm_input=_listed(norm_input),
        inputs=_listed(inputs),
        round_delays=True if round_delays else None,
        max_spikes=max_spikes,
        spike_exp=spike_exp,
        input_bits=input_bits,
    )


def _listed(parts: list[str] | None) -> str | None:
    """Return one text of an option that may be given more than once."""
    return ",".join(parts) if parts else None


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Return ``command`` with the options of reading in place of its parameter ``read``."""
    command.__annotations__.pop("read")
    # typing.get_type_hints would hide the options of parameters that default to None (3.10).
    own = inspect.signature(command, eval_str=True).parameters
    shared = _options_of(_read_options)
    parameters: list[inspect.Parameter] = []
    for name, item in own.items():
        parameters += shared if name == "read" else [item]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        answers = {item.name: given.pop(item.name) for item in shared}
        command(**given, read=_read_options(**answers))

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run


def _options_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return a function's parameters; each annotation names an option of this module."""
    return [
        item.replace(
            annotation=globals()[item.annotation], kind=inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        for item in inspect.signature(function).parameters.values()
    ]
