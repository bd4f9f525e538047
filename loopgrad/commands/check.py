"""`loopgrad check`: is a hand-written backward right?"""

from __future__ import annotations

import json
import sys

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import is_colourful
from loopgrad.commands.sources import (
    STANDARD_INPUT,
    ProgramCommand,
    load_program,
    missing,
    read_text,
    shown_name,
    split,
)


@click.command("check", cls=ProgramCommand, short_help="Say whether backward loops are right.")
@click.argument("forward", metavar="FORWARD[:NAME]")
@click.argument("claimed", metavar="CLAIMED[:NAME]")
@click.option(
    "--wrt",
    multiple=True,
    metavar="NAME",
    help="An input whose gradient has to be there; may be given more than once, or as a,b. "
    "Default: the gradients that are there are judged.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def command(forward: str, claimed: str, wrt: tuple[str, ...], as_json: bool) -> int:
    """Say whether hand-written backward loops, or a rewriting of forward loops, are right.

    FORWARD is the file of a program, CLAIMED that of its backward: a program with results named
    `x.grad`, whose inputs are any of the forward's inputs, computed tensors and gradients of
    results, by name. Of several in a file, that named after the forward is meant, else the last.
    Exit status 0: right; 1: wrong, and each fault is shown with the statement
    that is right and the smallest numbers that show it; 2: the question cannot be asked.

    \b
    Examples:
      loopgrad check softmax.loops mine.loops
      loopgrad check layers.loops:affine mine.loops:affine.backward --wrt W,c
      loopgrad check softmax.loops mine.loops --json
      loopgrad derive softmax.loops | loopgrad check softmax.loops -
    """
    from loopgrad.checking.claims import names_in, read_claim
    from loopgrad.checking.headers import lendable
    from loopgrad.checking.judging import judge, quiet

    if split(forward).file == split(claimed).file == STANDARD_INPUT:
        raise click.UsageError("only one of the two can be standard input")
    program = load_program(forward)
    place = split(claimed)
    text = read_text(place.file)
    if not text.strip():
        raise Mistake(f"`{shown_name(place.file)}` holds no program")
    name = place.name or _meant(program.name, names_in(text), shown_name(place.file))
    names = [name.strip() for option in wrt for name in option.split(",")]
    shown = shown_name(place.file)
    try:
        with quiet():
            claim = read_claim(text, shown, name, lambda: lendable(program))
            answer = judge(program, claim, names or None)
    except LookupError:
        raise Mistake(missing(place, text)) from None
    except ValueError as error:
        raise Mistake(str(error)) from None
    if as_json:
        click.echo(json.dumps(answer.to_json(), indent=2, ensure_ascii=False))
    else:
        click.echo(_coloured(str(answer)) if is_colourful(sys.stdout) else str(answer))
    return 0 if answer else 1


def _meant(forward: str, names: list[str], file: str) -> str | None:
    """The one of several programs that is named after the forward; None for the last."""
    if len(names) < 2:
        return None
    named = [name for name in (f"{forward}.backward", forward) if name in names]
    said = f"`{named[0]}`, by its name" if named else f"the last, `{names[-1]}`"
    click.echo(f"note: {file} holds {len(names)} programs; this is {said}", err=True)
    return named[0] if named else None


def _coloured(text: str) -> str:
    """The first word of each message in the colour of what it says."""
    lines = text.split("\n")
    for k, line in enumerate(lines):
        for word, colour in (("right", "green"), ("error", "red")):
            if line.startswith(word):
                lines[k] = click.style(word, fg=colour, bold=True) + line[len(word) :]
    return "\n".join(lines)
