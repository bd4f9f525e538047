"""Text -> programs: where each begins and ends, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from loopgrad.diagnostics import Source
from loopgrad.frontend.body import is_statement, read_program
from loopgrad.frontend.calls import Callables
from loopgrad.frontend.cursor import place
from loopgrad.frontend.lexer import NAME, Line, Report, lines
from loopgrad.frontend.symbols import Place
from loopgrad.ir.limits import LONGEST_TEXT
from loopgrad.ir.nodes import Program


def parse(
    text: str, name: str = "<text>", library: Mapping[str, Program] | None = None
) -> list[Program]:
    """The programs of a text, in order, with every name resolved; equations and calls kept.

    `name` is what errors call the text; `library` holds the programs that it may call besides its
    own, by default the standard library's. Nothing of the text is evaluated.

    Raises ProgramError, which holds every mistake found.

    >>> [program] = parse("double(x[N]) -> y[N]:\\n    y[n] = 2 * x[n]")
    >>> print(program)
    double(x[N]) -> y[N]:
        for n:  y[n] = 2 * x[n]
    """
    programs, _, report = read_text(text, name, library)
    report.raise_if_any()
    return programs


def read_text(
    text: str, name: str = "<text>", library: Mapping[str, Program] | None = None
) -> tuple[list[Program], list[Program], Report]:
    """The programs of a text that hold no mistake, what is sound of the others, and a report."""
    source = Source(text.removeprefix("\ufeff"), name)
    report = Report(source)
    if len(text) > LONGEST_TEXT:
        length = f"a text of {len(text):,} characters; it has at most {LONGEST_TEXT:,}"
        report.add(length, 0, 1, "spread the programs over several files")
        return [], [], report
    if library is None:
        from loopgrad.frontend.library import standard_library

        library = standard_library
    programs = Callables(headers=_header_names(source.text), library=library)
    found: list[Program] = []
    sound: list[Program] = []
    places: dict[str, Place] = {}
    for group in grouped(lines(source, report), report):
        program, part = read_program(group, report, programs)
        name_token = group[0].tokens[0]
        if name_token.kind == "name" and not is_statement(group[0]):
            if name_token.text in places:
                report.add(
                    f"two programs are named `{name_token.text}`",
                    name_token.start,
                    name_token.end,
                    "give each a name of its own",
                    ((report.span(*places[name_token.text]), "the first one"),),
                )
            places.setdefault(name_token.text, place(name_token))
            programs.above[name_token.text] = program
        if program is not None:
            found.append(program)
        if part is not None:
            sound.append(part)
    return found, sound, report


LONGEST_INDENT = 200
_FIRST_INDENT = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*([ \t]*)")


def _header_names(text: str) -> frozenset[str]:
    """What the programs of a text are called, told from the beginnings of its lines."""
    first = _FIRST_INDENT.match(text)
    indent = first[1] if first and len(first[1]) <= LONGEST_INDENT else ""
    return frozenset(re.findall(rf"^{indent}({NAME})[ \t]*\(", text, re.MULTILINE))


def grouped(lines: Iterable[Line], report: Report) -> Iterator[list[Line]]:
    """The lines of each program, its header first."""
    group: list[Line] = []
    base: str | None = None
    outside_reported = False
    for line in lines:
        first = line.tokens[0]
        if len(line.tokens) == 1:  # no more than its end
            continue
        base = line.indent if base is None else base
        if line.indent.startswith(base) and line.indent != base:
            group.append(line)
        elif is_statement(line):
            if not outside_reported:
                _refuse_outside(line, report, has_header=bool(group))
            outside_reported = True
            group.append(line)
        else:
            if group:
                yield group
            group, outside_reported = [line], False
            if line.indent != base:
                report.add(
                    "this header is not in the column of the first one",
                    first.start,
                    first.end,
                    "begin all headers of a text in one column",
                )
    if group:
        yield group


def _refuse_outside(line: Line, report: Report, has_header: bool) -> None:
    first = line.tokens[0]
    help = "a program begins with its header: `f(x[N]) -> y[N]:`"
    if has_header:
        help = "indent it, below the header of its program"
    report.add("a statement outside a program", first.start, first.end, help)
