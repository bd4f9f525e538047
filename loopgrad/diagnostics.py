"""What is wrong with a program, and where: sources, spans, diagnostics, and the error that carries them.

A mistake is a record (`Diagnostic`), rendered by one function. A pass that looks for mistakes
collects all it can find in a list and raises one `ProgramError` that holds them all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Source:
    """A text with the name it is shown under, usually a file's."""

    text: str
    name: str = "<text>"

    @cached_property
    def line_starts(self) -> list[int]:
        starts = [0]
        position = self.text.find("\n")
        while position != -1:
            starts.append(position + 1)
            position = self.text.find("\n", position + 1)
        return starts

    def line_of(self, offset: int) -> int:
        """The number, from 1, of the line that holds `offset`."""
        import bisect

        return bisect.bisect_right(self.line_starts, offset)

    def line_text(self, line: int) -> str:
        start = self.line_starts[line - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end != -1 else len(self.text)].rstrip("\r")


@dataclass(frozen=True)
class Span:
    """A stretch of a source, by offsets into its text: `start` inclusive, `end` exclusive."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.line_of(self.start)

    @property
    def column(self) -> int:
        """Counted from 1, in characters."""
        return self.start - self.source.line_starts[self.line - 1] + 1

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]


@dataclass(frozen=True)
class Diagnostic:
    """One mistake: what was found (`found`), where, and how to mend it (`help`).

    `notes` are further places with a word on each: the other of two facts that disagree.
    `context` stands in for the source line where a program was not typed but derived: the
    statement, printed.
    """

    found: str
    span: Span | None = None
    help: str | None = None
    notes: tuple[tuple[Span | None, str], ...] = ()
    context: str | None = None
    severity: str = "error"

    @property
    def line(self) -> int | None:
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        return self.span.column if self.span else None

    @property
    def message(self) -> str:
        return render(self)

    def __str__(self) -> str:
        return render(self)


class ProgramError(Exception):
    """A program that cannot be read, or that breaks a rule of the notation.

    `diagnostics` holds every mistake found; `line` and `column` (from 1) are the first one's, None
    where the program has no text.

    >>> import loopgrad as lg
    >>> try:
    ...     lg.program("f(x[N]) -> y[N]:\\n    for n: y[n] = x[m]")
    ... except lg.ProgramError as error:
    ...     print(error.line, error.column)
    2 21
    """

    def __init__(self, diagnostics: Iterable[Diagnostic] | Diagnostic | str):
        if isinstance(diagnostics, str):
            diagnostics = Diagnostic(diagnostics)
        if isinstance(diagnostics, Diagnostic):
            diagnostics = [diagnostics]
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n\n".join(map(render, self.diagnostics)))

    @property
    def line(self) -> int | None:
        return self.diagnostics[0].line if self.diagnostics else None

    @property
    def column(self) -> int | None:
        return self.diagnostics[0].column if self.diagnostics else None


class ProgramWarning(UserWarning):
    """Something in a program that is allowed and probably not meant, such as an unused input."""


LONGEST_LINE_SHOWN = 200


def render(diagnostic: Diagnostic) -> str:
    """The diagnostic as people read it: the message, the place, the line with a caret, the mend."""
    lines = [f"{diagnostic.severity}: {diagnostic.found}"]
    if diagnostic.span:
        lines += _show_place(diagnostic.span)
    elif diagnostic.context:
        lines += ["   |", f"   | {diagnostic.context.strip()}"]
    for span, note in diagnostic.notes:
        lines.append(f"   = note: {note}")
        if span:
            lines += _show_place(span)
    if diagnostic.help:
        lines.append(f"   = help: {diagnostic.help}")
    return "\n".join(lines)


def _show_place(span: Span) -> list[str]:
    line, column = span.line, span.column
    text = span.source.line_text(line)
    offset, width = column - 1, max(1, min(span.end - span.start, len(text) - column + 1))
    shown, cut = printable(text), 0
    if len(shown) > LONGEST_LINE_SHOWN:
        cut = max(0, min(offset - LONGEST_LINE_SHOWN // 2, len(shown) - LONGEST_LINE_SHOWN))
        shown = shown[cut : cut + LONGEST_LINE_SHOWN]
        width = min(width, LONGEST_LINE_SHOWN - (offset - cut))
    margin = str(line)
    pad = " " * len(margin)
    before = display_width(shown[: offset - cut])
    under = max(1, display_width(shown[offset - cut : offset - cut + width]))
    return [
        f"{pad}--> {span.source.name}:{line}:{column}",
        f"{pad} |",
        f"{margin} | {shown}",
        f"{pad} | {' ' * before}{'^' * under}",
    ]


def printable(text: str) -> str:
    """A line as a terminal may have it: no escape sequences, nothing that cannot be encoded."""
    text = text.replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def display_width(text: str) -> int:
    """Columns that a terminal gives to `text`: combining marks take none, wide letters two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """The known name that a typo probably meant, or None."""
    candidates = sorted(set(known))
    by_case = [k for k in candidates if k.casefold() == name.casefold() and k != name]
    from difflib import get_close_matches  # seldom needed: not at each start

    close = by_case or get_close_matches(name, candidates, n=1, cutoff=0.6)
    return close[0] if close else None


def listing(names: Sequence[str], last: str = "and") -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"
