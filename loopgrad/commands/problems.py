"""`loopgrad problems`: the worked source problems, computed when asked."""

from __future__ import annotations

from pathlib import Path
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
    type=click.Choice(("text", "markdown", "latex", "notebook")),
    default="text",
    show_default=True,
    help="Print text, or a document.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write problem 5's scaling with T and with processors to this PNG file.",
)
def command(number: int | None, notation: str, plot: Path | None) -> int:
    """Print the worked source problems: all, or number N.

    Every answer is computed when asked, and checked: programs are derived, equalities proved step by
    step, gradients compared with central differences, costs counted. Exit status 1 where a check fails.

    \b
    Examples:
      loopgrad problems 1
      loopgrad problems 5 --plot scaling.png
      loopgrad problems --to latex > problems.tex
      loopgrad problems --to notebook > problems.ipynb
    """
    from loopgrad.problems.documents import DOCUMENTS
    from loopgrad.problems.worked import SOLUTIONS, solve

    if number is not None and number not in SOLUTIONS:
        there_are = listing([str(n) for n in SOLUTIONS])
        raise Mistake(f"no answer to problem {number}: there are {there_are}")
    if plot is not None:
        _need_plot(number, plot)
    solved: list[Worked] = []
    for n in SOLUTIONS if number is None else [number]:
        solved.append(solve(n))
        if notation == "text":
            _print(solved[-1])
    if notation != "text":
        click.echo(DOCUMENTS[notation](solved), nl=False)
    if plot is not None:
        _draw(plot)
    return 0 if all(worked.passed for worked in solved) else 1


def _need_plot(number: int | None, path: Path) -> None:
    from loopgrad.commands.training import need, need_place

    if number not in (None, 5):
        raise Mistake(f"--plot draws problem 5: there is nothing to draw of problem {number}")
    need_place(path)
    need("matplotlib", "--plot draws with matplotlib", "plot")


def _draw(path: Path) -> None:
    from loopgrad.problems.parallel import plot, scaling
    from loopgrad.problems.worked import programs

    try:
        plot(path, scaling(programs()))
    except OSError as error:
        raise Mistake(f"{path} cannot be written: {error.strerror}") from None


def _print(worked: Worked) -> None:
    from loopgrad.problems.documents import blocks

    for block in blocks(worked):
        match block.kind:
            case "title":
                click.secho(f"{block.text}\n", bold=True)
            case "words":
                click.echo(f"{block.text}\n")
            case "lines":
                lines = (f"    {line}" if line else "" for line in block.text.split("\n"))
                click.echo("\n".join(lines) + "\n")
            case _:
                print_source(block.text, "text", "    ")
                click.echo()
