"""`loopgrad problems`: the worked source problems, computed when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import print_source
from loopgrad.diagnostics import listing

if TYPE_CHECKING:
    from loopgrad.problems.worked import Worked


@click.command("problems")
@click.argument("number", metavar="[N]", type=int, required=False)
def command(number: int | None) -> int:
    """Print the worked source problems: all, or number N.

    Problems 1, 3 and 4 are answered. Each shows its program and the backward loops, derived now,
    and checks their gradients against central differences; exit status 1 where they disagree.

    \b
    Example:
      loopgrad problems 1
    """
    from loopgrad.problems.worked import SOLUTIONS, solve

    if number is not None and number not in SOLUTIONS:
        there_are = listing([str(n) for n in SOLUTIONS])
        raise Mistake(f"no answer to problem {number}: there are {there_are}")
    passed = True
    for n in SOLUTIONS if number is None else [number]:
        worked = solve(n)
        _print(worked)
        passed &= worked.passed
    return 0 if passed else 1


def _print(worked: Worked) -> None:
    click.secho(worked.title, bold=True)
    click.echo()
    print_source(str(worked.program), indent="    ")
    for part in worked.parts:
        click.echo(f"\n{part.question}:\n")
        print_source(part.answer, indent="    ")
    for name, checks in worked.checks.items():
        click.echo(f"\nGradients of {name} along random directions, against central differences:\n")
        for c in checks:
            verdict = "" if c.passed else "   DISAGREES"
            click.echo(
                f"    {c.input + '.grad':10} derived {c.derived:+.9f}   differences "
                f"{c.differences:+.9f}   relative difference {c.relative:.0e}{verdict}"
            )
    click.echo()
