"""What is sound in a program with mistakes: so that the later passes can report theirs as well.

A mistake in one line must not hide that another breaks a rule; and what is missing because of the
first must not be reported as a second. So the statements that have to do with a line that holds a
mistake are left out, and those that read what they compute, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from loopgrad.diagnostics import Diagnostic
from loopgrad.frontend.lexer import NAME
from loopgrad.ir.nodes import Accumulate, Block, Call, Program, Statement
from loopgrad.ir.walk import all_statements, computed_tensors, statement_reads


def sound_part(program: Program, mistakes: Iterable[Diagnostic]) -> Program | None:
    """The program's statements that no mistake concerns; None where it lies in the header.

    Results and locals are those that are left. A name in a line with a mistake counts as concerned
    if it is a computed tensor; inputs stand in the header, and are what they are.
    """
    suspect: set[str] = set()
    places: list[tuple[int, int]] = []
    for mistake in mistakes:
        if mistake.span is None or in_header(mistake, program):
            return None
        source = mistake.span.source
        last = source.line_of(max(mistake.span.start, mistake.span.end - 1))
        places.append((mistake.span.start, mistake.span.end))
        for line in range(mistake.span.line, last + 1):
            suspect.update(re.findall(NAME, source.line_text(line)))
    suspect -= {i.name for i in program.inputs}
    statements = program.statements
    while True:
        statements, dropped = _without(statements, suspect, places)
        left = set(computed_tensors(replace(program, statements=statements)))
        # Whose statement could not even be read.
        dropped |= _read(statements) - left - {i.name for i in program.inputs}
        if not dropped:
            break
        suspect |= dropped
    if not left:
        return None
    return replace(
        program,
        statements=statements,
        results=tuple(r for r in program.results if r.name in left),
        locals=tuple(local for local in program.locals if local.name in left),
    )


def _read(statements: Iterable[Statement]) -> set[str]:
    return {r.tensor for s in all_statements(statements) for r in statement_reads(s)}


def in_header(mistake: Diagnostic, program: Program) -> bool:
    """Does it stand before the first statement, or in no line at all?"""
    at, header = mistake.span, program.span
    return at is None or header is None or at.start < header.end


def _without(
    statements: Iterable[Statement], suspect: set[str], places: Sequence[tuple[int, int]]
) -> tuple[tuple[Statement, ...], set[str]]:
    """The statements that hold no mistake and touch nothing suspect, and the others' targets."""
    kept: list[Statement] = []
    dropped: set[str] = set()
    for statement in statements:
        match statement:
            case Block():
                body, targets = _without(statement.body, suspect, places)
                dropped |= targets
                if body:
                    kept.append(replace(statement, body=body))
                continue
            case Accumulate(target):
                written = {target.tensor}
            case Call(targets_):
                written = {t.tensor for t in targets_}
        span = statement.span
        holds = span is not None and any(span.start < e and s < span.end for s, e in places)
        if not holds and suspect.isdisjoint(
            written | {r.tensor for r in statement_reads(statement)}
        ):
            kept.append(statement)
        else:
            dropped |= written
    return tuple(kept), dropped
