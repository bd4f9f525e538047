"""`loopgrad derive`: the backward loops of a program."""

from __future__ import annotations

from typing import Literal

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import print_program, print_source, to_option
from loopgrad.commands.proofs import print_proof
from loopgrad.commands.sources import ProgramCommand, load_program
from loopgrad.grad.origins import explained
from loopgrad.ir.printer import show


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
@click.option("--simplify", is_flag=True, help="As few operations as algebra finds.")
@click.option(
    "--explain",
    is_flag=True,
    help="Say where each statement comes from; with --simplify, the equalities that prove it.",
)
@to_option
def command(
    file: str,
    wrt: tuple[str, ...],
    batch: str | None,
    no_batch: bool,
    recompute: bool,
    simplify: bool,
    explain: bool,
    notation: str,
) -> None:
    """Print the backward loops of a program, in the order to be executed.

    \b
    Examples:
      loopgrad derive layers.loops:softmax
      loopgrad derive layers.loops:affine --wrt W --wrt c --batch B
      loopgrad derive layers.loops:softmax --recompute | loopgrad derive -
      loopgrad derive layers.loops:softmax --to latex
      loopgrad derive layers.loops:softmax --simplify --explain
    """
    if batch is not None and no_batch:
        raise click.UsageError("--batch and --no-batch exclude each other")
    if explain and notation not in (("text", "latex") if simplify else ("text",)):
        there_are = "text and latex" if simplify else "text; with --simplify, text and latex"
        raise click.UsageError(f"--explain writes {there_are}")
    names = [name.strip() for option in wrt for name in option.split(",")]
    program = load_program(file)
    over: str | Literal[False] | None = False if no_batch else batch
    try:
        backward = program.backward(names or None, over, recompute=recompute)
    except ValueError as error:
        raise Mistake(str(error)) from None
    if simplify and explain:
        print_proof(backward, backward.simplify(), notation)
    elif explain:
        print_source(show(explained(program, names or None, over, recompute=recompute), True))
    else:
        print_program(backward.simplify() if simplify else backward, notation)
