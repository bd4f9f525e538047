"""Where a diagnostic about an access points: its span, or its statement where it has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loopgrad.analysis.accesses import Access
from loopgrad.diagnostics import Diagnostic, Span
from loopgrad.ir.nodes import Block, Statement
from loopgrad.ir.printer import show_ranges, show_statement


def diagnostic(
    access: Access,
    found: str,
    span: Span | None,
    help: str | None = None,
    notes: Iterable[tuple[Span | None, str]] = (),
) -> Diagnostic:
    """A diagnostic at the span, by default that of the access, of its statement, or none."""
    span = span or access.read.span or access.statement.span
    context = None if span else line_of(access.statement)
    return Diagnostic(found, span, help, tuple(notes), context)


def line_of(statement: Statement) -> str:
    """The statement as one line; of a block, the `for`."""
    match statement:
        case Block(ranges):
            return f"for {show_ranges(ranges)}:"
    return show_statement(statement)


def note_on(access: Access, words: str) -> tuple[Span | None, str]:
    """A note that points at the access, or quotes its statement."""
    span = access.read.span or access.statement.span
    return (span, words) if span else (None, f"{words}: `{line_of(access.statement)}`")


def values_in_words(values: Mapping[str, int | float], names: Iterable[str]) -> str:
    """` for t = 0 and b = 1`, outer loops first; or nothing."""
    wanted = set(names)
    words = [f"{name} = {value}" for name, value in values.items() if name in wanted]
    if not words:
        return ""
    last = words.pop()
    return f" for {', '.join(words)} and {last}" if words else f" for {last}"
