"""The command line: `loopgrad derive softmax.loops`. One file a command, in `loopgrad/commands`.

A user's mistake is one readable message on stderr and exit status 2; a traceback would be a fault
of ours. Commands raise `ProgramError` or `commands.mistakes.Mistake`; here they are shown.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from loopgrad.diagnostics import ProgramError, ProgramWarning, suggestion

COMMANDS = (
    "derive",
    "unfold",
    "fmt",
    "check",
    "run",
    "export",
    "explain",
    "bench",
    "problems",
    "train",
)


class _Commands(click.Group):
    """Loads the module of a command when it is asked for: `--help` and `derive` stay quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"loopgrad.commands.{name}").command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            meant = suggestion(name, COMMANDS)
            hint = f", did you mean `{meant}`?" if meant else f": there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command `{name}`{hint}", context)
        return super().resolve_command(context, args)


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"loopgrad {version('loopgrad')}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def group() -> None:
    """Layers as loops over `+=`: their gradients as loops, and both compiled.

    \b
    FILE is a file of programs, or - for standard input. FILE:NAME takes one
    program of it; FILE alone takes the last.

    \b
    Examples:
      loopgrad derive layers.loops:softmax
      loopgrad check layers.loops:softmax mine.loops
      loopgrad run layers.loops:softmax s=logits.npy -o p.npy
      loopgrad bench layers.loops:softmax B=4096 J=1024
      loopgrad problems 1
      loopgrad train digits
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    0, or 1 where `fmt --check` finds work or `check` a fault, 2 for a mistake.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """The same, returning the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names may be Greek where the locale is not
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("always", ProgramWarning)
        shown = warnings.showwarning
        warnings.showwarning = lambda message, category, *rest: (
            click.echo(str(message), err=True)
            if issubclass(category, ProgramWarning)
            else shown(message, category, *rest)
        )
        try:
            return _run(arguments)
        except BrokenPipeError:
            # Whoever read us has gone (`| head`). Nothing is left to say, not even at exit.
            _silence(sys.stdout)
            return 141
        except OSError as error:
            _silence(sys.stdout)
            click.echo(f"error: {error.strerror or error}", err=True)
            return 2
        finally:
            warnings.showwarning = shown


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status: Any = group.main(
            args=None if arguments is None else list(arguments),
            prog_name="loopgrad",
            standalone_mode=False,
        )
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except ProgramError as error:
        click.echo(str(error), err=True)
    except click.UsageError as error:
        usage = f"\n{error.ctx.command_path} --help shows how it is used" if error.ctx else ""
        click.echo(f"error: {error.format_message()}{usage}", err=True)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
    except MemoryError as error:
        click.echo(f"error: out of memory: {error}", err=True)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 130
    return 2


def _silence(stream: Any) -> None:
    """Points the stream's file at nowhere, so that flushing it at exit does not fail."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError, AttributeError):
        return
