"""Where a command's program comes from: FILE, FILE:NAME, or - for standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import Program

STANDARD_INPUT = "-"


class ProgramCommand(click.Command):
    """A command on FILE[:NAME], where `-:NAME` is not an option."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        shown = shown_name(STANDARD_INPUT)
        return super().parse_args(
            context, [shown + a[1:] if a.startswith("-:") else a for a in args]
        )


@dataclass(frozen=True)
class Place:
    """A file of programs, and the name of one in it where it is given."""

    file: str
    name: str | None


def split(argument: str) -> Place:
    """`layers.loops:softmax` taken apart.

    A colon may also belong to the path (`C:\\layers.loops`): a file of the whole name wins, and
    what stands before the last colon has to be a file (or `-`) to be taken for one.
    """
    head, colon, name = argument.rpartition(":")
    if not colon or Path(argument).exists():
        return Place(argument, None)
    if head in (STANDARD_INPUT, shown_name(STANDARD_INPUT)):
        return Place(STANDARD_INPUT, name)
    if Path(head).exists():
        return Place(head, name)
    looks_like_path = len(head) == 1 or "/" in name or "\\" in name or name.endswith(".loops")
    return Place(argument, None) if looks_like_path else Place(head, name)


def read_text(file: str) -> str:
    """The text of a file, or of standard input. Raises Mistake where it cannot be read as UTF-8."""
    name = shown_name(file)
    try:
        data = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise Mistake(f"cannot read `{file}`: {_reason(error)}{_neighbour(file)}") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = data[error.start]
        raise Mistake(
            f"`{name}` is not UTF-8 text: line {line} holds the byte 0x{byte:02x}"
        ) from None


def shown_name(file: str) -> str:
    return "<stdin>" if file == STANDARD_INPUT else file


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def _neighbour(file: str) -> str:
    """A file beside it whose name is nearly that."""
    try:
        path = Path(file)
        meant = suggestion(path.name, (p.name for p in path.parent.iterdir() if p.is_file()))
    except (OSError, ValueError):
        return ""
    return f"; did you mean `{path.with_name(meant)}`?" if meant else ""


def load_program(argument: str) -> Program:
    """The program that FILE[:NAME] stands for. Raises Mistake, or ProgramError with all errors."""
    from loopgrad.frontend.parser import parse
    from loopgrad.pipeline import verify

    place = split(argument)
    text = read_text(place.file)
    programs = parse(text, shown_name(place.file))
    if not programs:
        raise Mistake(f"`{shown_name(place.file)}` holds no program")
    if place.name is None:
        _say_which(place, programs)
        return verify(programs[-1])
    for program in programs:
        if program.name == place.name:
            return verify(program)
    raise Mistake(_no_program(place, [p.name for p in programs]))


def missing(place: Place, text: str) -> str:
    """What to say where a text that can be read has no program of the name asked for."""
    from loopgrad.frontend.parser import parse

    return _no_program(place, [p.name for p in parse(text, shown_name(place.file))])


def _no_program(place: Place, names: list[str]) -> str:
    meant = suggestion(str(place.name), names)
    hint = f", did you mean `{meant}`?" if meant else f": it holds {listing(names)}"
    return f"`{shown_name(place.file)}` holds no program `{place.name}`{hint}"


def _say_which(place: Place, programs: list[Program]) -> None:
    if len(programs) > 1:
        last, file = programs[-1].name, place.file
        click.echo(
            f"note: {shown_name(file)} holds {len(programs)} programs; this is the last, `{last}`. "
            f"Another is {file}:{programs[0].name}",
            err=True,
        )
