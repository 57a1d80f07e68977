"""What every command shares: errors to exit codes, one JSON document, progress."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from typer.core import TyperGroup

from spikec.cli.text import shown
from spikec.compiler.errors import Diagnostic, SpikecError, UsageError, VerificationError

if TYPE_CHECKING:  # it would load NumPy, which --help must not
    from spikec.compiler.backend import Progress

__all__ = [
    "BAD_INPUT",
    "FAILED",
    "Commands",
    "command_line",
    "guarded",
    "plain_json",
    "print_json",
    "progress_bar",
]

#: Exit codes: 0 fine, 1 verification failed, 2 bad input or usage, 3 our own mistake.
FAILED = 1
BAD_INPUT = 2
_OUR_MISTAKE = 3

_Parameters = ParamSpec("_Parameters")


#: What the command that runs was called with.
_words: ContextVar[tuple[str, ...]] = ContextVar("words", default=())


def command_line() -> tuple[str, ...]:
    """Return the words after ``spikec`` of the command that runs; none from Python."""
    return _words.get()


class Commands(TyperGroup):
    """The commands, whose usage errors are told as all others are: as text that may be printed."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Run the command line ``args`` (default: the program's own)."""
        words = list(sys.argv[1:] if args is None else args)
        _words.set(tuple(words))
        if not words:
            return super().main(words, *rest, **options)  # prints its help
        try:
            code = super().main(words, *rest, **{**options, "standalone_mode": False})
        except Exception as error:
            # Some releases of Typer bring their own click: the method tells a usage error.
            if not hasattr(error, "format_message"):
                raise
            _report(_misused(error.format_message()), as_json="--json" in words)
            code = BAD_INPUT
        sys.exit(code)


def _misused(message: str) -> UsageError:
    return UsageError(
        Diagnostic(
            code="U001",
            where="command line",
            message=message,
            hint="the same command with --help lists what it takes",
        )
    )


def guarded(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Return ``command`` with errors turned into messages and exit codes."""

    @functools.wraps(command)
    def run(*args: _Parameters.args, **options: _Parameters.kwargs) -> None:
        as_json = bool(options.get("as_json"))
        try:
            command(*args, **options)
        except SpikecError as error:
            _report(error, as_json=as_json)
            code = FAILED if isinstance(error, VerificationError) else BAD_INPUT
            raise typer.Exit(code) from error
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except typer.Exit:
            raise
        except Exception:  # noqa: BLE001 - the last resort: say that it is our mistake
            import traceback

            sys.stderr.write(shown(traceback.format_exc()))
            sys.stderr.write("\nspikec failed in a way it should not: please report this.\n")
            raise typer.Exit(_OUR_MISTAKE) from None

    return run


def print_json(value: object) -> None:
    """Print one JSON document; numbers that JSON lacks become null."""
    sys.stdout.write(plain_json(value))


def plain_json(value: object) -> str:
    """Return one JSON document; numbers that JSON lacks become null."""
    return json.dumps(_plain(value), indent=2, sort_keys=True) + "\n"


@contextmanager
def progress_bar(what: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """Show a bar on the terminal's error stream while the body runs; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # Until the first report a backend gets ready: the simulator compiles its loops once.
        task = bar.add_task("preparing", total=None)
        yield lambda done, total: bar.update(task, description=what, completed=done, total=total)


def _report(error: SpikecError, *, as_json: bool) -> None:
    if as_json:
        print_json({"errors": [item.as_dict() for item in error.diagnostics]})
        return
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    for item in error.diagnostics:
        console.print(f"[bold red]error[/] {item.code} at ", end="")
        console.print(shown(f"{item.where}: {item.message}"), markup=False)
        if item.hint:
            console.print("  [green]hint:[/] ", end="")
            console.print(shown(item.hint), markup=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "item"):
        return _plain(value.item())
    return value
