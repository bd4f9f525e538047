"""`loopgrad problems`: the worked source problems, computed when asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import print_source
from loopgrad.diagnostics import listing

if TYPE_CHECKING:
    from loopgrad.problems.answers import Worked


@click.command("problems")
@click.argument("number", metavar="[N]", type=int, required=False)
@click.option(
    "--to",
    "notation",
    type=click.Choice(("text", "latex")),
    default="text",
    show_default=True,
    help="The notation to print programs and derivations in.",
)
def command(number: int | None, notation: str) -> int:
    """Print the worked source problems: all, or number N.

    Every answer is computed when asked, and checked: programs are derived, equalities proved step by
    step, gradients compared with central differences. Exit status 1 where a check fails.

    \b
    Examples:
      loopgrad problems 1
      loopgrad problems 2 --to latex
    """
    from loopgrad.problems.worked import SOLUTIONS, solve

    if number is not None and number not in SOLUTIONS:
        there_are = listing([str(n) for n in SOLUTIONS])
        raise Mistake(f"no answer to problem {number}: there are {there_are}")
    passed = True
    for n in SOLUTIONS if number is None else [number]:
        worked = solve(n)
        _print(worked, notation)
        passed &= worked.passed
    return 0 if passed else 1


def _print(worked: Worked, notation: str) -> None:
    from loopgrad.problems.answers import Evidence

    indent = "    " if notation == "text" else ""
    click.secho(worked.title, bold=True)
    click.echo()
    print_source("\n\n".join(p.to(notation) for p in worked.programs), notation, indent)
    for part in worked.parts:
        if isinstance(part, Evidence):
            _print_lines(part.claim, part.lines, part.passed)
        else:
            click.echo(f"\n{part.question}:\n")
            print_source(part.shown(notation), notation, indent)
    for name, checks in worked.checks.items():
        lines = [
            f"{c.input + '.grad':10} derived {c.derived:+.9f}   differences "
            f"{c.differences:+.9f}   relative difference {c.relative:.0e}"
            + ("" if c.passed else "   DISAGREES")
            for c in checks
        ]
        claim = f"Gradients of {name} along random directions, against central differences"
        _print_lines(claim, lines, True)
    click.echo()


def _print_lines(claim: str, lines: Iterable[str], passed: bool) -> None:
    click.echo(f"\n{claim}:\n")
    for line in lines:
        click.echo(f"    {line}" if line else "")
    if not passed:
        click.echo("    THIS FAILS")
