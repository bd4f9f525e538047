"""What commands print: plain text, and colour on a terminal (unless NO_COLOR is set)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import click

from loopgrad.ir.nodes import Program
from loopgrad.printers import NOTATIONS

if TYPE_CHECKING:
    from rich.console import Console

to_option = click.option(
    "--to",
    "notation",
    type=click.Choice(NOTATIONS),
    default="text",
    show_default=True,
    help="The notation to print in.",
)


def is_colourful(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(stderr: bool = False) -> Console:
    """rich's console for tables and progress; it knows terminals and NO_COLOR by itself."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_program(program: Program, notation: str = "text") -> None:
    try:
        print_source(program.to(notation), notation)
    except ValueError as error:  # what a notation cannot say
        from loopgrad.commands.mistakes import Mistake

        raise Mistake(str(error)) from None


def print_source(text: str, notation: str = "text", indent: str = "") -> None:
    """Prints a program's text, coloured by kind of word on a terminal."""
    text = "\n".join(indent + line if line else line for line in text.split("\n"))
    if not is_colourful(sys.stdout):
        click.echo(text)
    elif notation == "text":
        console().print(_highlighted(text), soft_wrap=True)
    else:
        from rich.syntax import Syntax

        shown = Syntax(text, notation, theme="ansi_dark", background_color="default")
        console().print(shown, soft_wrap=True)


def _highlighted(text: str) -> object:
    from rich.text import Text

    shown = Text(text)
    shown.highlight_regex(r"#.*", "dim")
    shown.highlight_regex(r"\b(for|if|else|and|or|not|descending|local|batch)\b", "bold blue")
    shown.highlight_regex(r"\b(param|int|bool|size)\b", "cyan")
    shown.highlight_regex(r"(?<=\s)(max|min|[-+*])?=(?=\s)", "bold")
    shown.highlight_regex(r"[\w']+(\.(grad|dot)\d*'*)+", "green")
    return shown
