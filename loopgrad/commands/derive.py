"""`loopgrad derive`: the backward loops of a program."""

from __future__ import annotations

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import print_program, to_option
from loopgrad.commands.sources import ProgramCommand, load_program


@click.command("derive", cls=ProgramCommand, short_help="Print a program's backward loops.")
@click.argument("file", metavar="FILE[:NAME]")
@click.option(
    "--wrt",
    multiple=True,
    metavar="NAME",
    help="The input to differentiate by; may be given more than once, or as a,b. Default: all.",
)
@click.option(
    "--batch",
    metavar="EXTENT",
    help="Average the gradients of `param` tensors over this extent. Default: the program's own.",
)
@click.option("--no-batch", is_flag=True, help="Sum them, also where the program names a batch.")
@click.option(
    "--recompute",
    is_flag=True,
    help="With the forward loops inside; this one may be derived again.",
)
@to_option
def command(
    file: str,
    wrt: tuple[str, ...],
    batch: str | None,
    no_batch: bool,
    recompute: bool,
    notation: str,
) -> None:
    """Print the backward loops of a program, in the order to be executed.

    \b
    Examples:
      loopgrad derive layers.loops:softmax
      loopgrad derive layers.loops:affine --wrt W --wrt c --batch B
      loopgrad derive layers.loops:softmax --recompute | loopgrad derive -
      loopgrad derive layers.loops:softmax --to latex
    """
    if batch is not None and no_batch:
        raise click.UsageError("--batch and --no-batch exclude each other")
    names = [name.strip() for option in wrt for name in option.split(",")]
    program = load_program(file)
    try:
        backward = program.backward(
            names or None, False if no_batch else batch, recompute=recompute
        )
    except ValueError as error:
        raise Mistake(str(error)) from None
    print_program(backward, notation)
