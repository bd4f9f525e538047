"""`loopgrad unfold`: the loops that equations and calls stand for."""

from __future__ import annotations

import click

from loopgrad.commands.output import print_program, to_option
from loopgrad.commands.sources import ProgramCommand, load_program


@click.command(
    "unfold", cls=ProgramCommand, short_help="Print a program with equations and calls as loops."
)
@click.argument("file", metavar="FILE[:NAME]")
@to_option
def command(file: str, notation: str) -> None:
    """Print a program with its equations and calls rewritten as `+=` loops.

    \b
    Examples:
      loopgrad unfold cells.loops:ugrnn_cell
      printf 'f(x[B,J]) -> m[B]:\\n  m[b] = mean[j](x[b,j])\\n' | loopgrad unfold -
    """
    print_program(load_program(file).unfold(), notation)
