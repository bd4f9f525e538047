"""`loopgrad run`: a program on arrays from files."""

from __future__ import annotations

from typing import Any

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.sources import ProgramCommand, load_program
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import Program


@click.command("run", cls=ProgramCommand)
@click.argument("file", metavar="FILE[:NAME]")
@click.argument("arguments", metavar="NAME=VALUE...", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Write the results here: .npz holds each by its name; .npy, .txt and .csv hold one.",
)
@click.option(
    "--backend",
    type=click.Choice(["llvm", "interpret"]),
    default="llvm",
    show_default=True,
    help="How to run it: compiled, or by the reference interpreter.",
)
def command(file: str, arguments: tuple[str, ...], output: str | None, backend: str) -> None:
    """Run a program on arrays from files.

    VALUE is a .npy file, a .npz file (FILE.npz:KEY where it holds several arrays), a text file of
    numbers, a list such as [[1,2],[3,4]], a number, or - for numbers on standard input. Without
    -o the results are printed: small arrays whole, of large ones the range.

    \b
    Examples:
      loopgrad run layers.loops:softmax s=logits.npy -o p.npy
      loopgrad run layers.loops:layer_norm x=[[1,2,4]] γ=[1,1,1] β=[0,0,0] eps=1e-3
      loopgrad derive layers.loops:softmax --recompute > b.loops
      loopgrad run b.loops s=logits.npy p.grad=seed.npy -o grads.npz
    """
    program = load_program(file)
    results = _call(program, _values(program, arguments), backend)
    from loopgrad.commands import arrays

    if output is not None:
        arrays.save(output, results)
        return
    for name, array in results.items():
        click.echo(arrays.describe(name, array))


def _values(program: Program, arguments: tuple[str, ...]) -> dict[str, Any]:
    from loopgrad.commands import arrays

    known = [a.name for a in program.arguments]
    ranks = {i.name: len(i.extents) for i in program.inputs}
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name:
            raise Mistake(
                f"`{argument}` is no NAME=VALUE; {program.name} takes {listing(known) or 'nothing'}"
            )
        if name not in known:
            meant = suggestion(name, known)
            hint = f", did you mean `{meant}`?" if meant else f": it takes {listing(known)}"
            raise Mistake(f"{program.name} has no argument `{name}`{hint}")
        if name in values:
            raise Mistake(f"`{name}` is given twice")
        try:
            values[name] = arrays.value(text, ranks.get(name, 0))
        except Mistake as mistake:
            raise Mistake(f"{name}: {mistake.message}") from None
    return values


def _call(program: Program, values: dict[str, Any], backend: str) -> dict[str, Any]:
    """The results by name. What a call complains of is the user's to mend."""
    from loopgrad.pipeline import compile

    kernel = compile(program, backend=backend)
    try:
        returned = kernel(**values)
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise Mistake(str(error)) from None
    names = [r.name for r in program.results]
    return dict(zip(names, returned if len(names) > 1 else [returned], strict=True))
