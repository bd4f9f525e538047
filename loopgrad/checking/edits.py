"""Small changes of a statement: what somebody gets wrong who writes a backward by hand, undone.

`edits` gives them, the likeliest first. Which of them is right is for `locating` to find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from loopgrad.checking.changes import Vocabulary, everywhere, of_read
from loopgrad.checking.findings import Kind
from loopgrad.diagnostics import Span
from loopgrad.ir.limits import count_nodes
from loopgrad.ir.nodes import Accumulate, Expression, Index, Range, Read, Reduction
from loopgrad.ir.printer import show_expression, show_range
from loopgrad.ir.walk import ONE, apply, indices_of, plus_one

MOST = 4000  # edits of one statement; of long ones, fewer
LONG = 40  # names, numbers and operations
OPPOSITE = {Reduction.ADD: Reduction.SUBTRACT, Reduction.SUBTRACT: Reduction.ADD}


@dataclass(frozen=True)
class Edit:
    """A statement changed in one place; the lower the cost, the likelier."""

    cost: int
    kind: Kind
    message: str
    statement: Accumulate
    span: Span | None


def edits(statement: Accumulate, words: Vocabulary) -> list[Edit]:
    """The edits of a statement, cheapest first, no two with one result."""
    found: dict[Accumulate, Edit] = {}
    most = MOST // (1 + count_nodes(statement.value) // LONG)
    for edit in islice(_edits(statement, words), most):
        known = found.get(edit.statement)
        if known is None or edit.cost < known.cost:
            found[edit.statement] = edit
    found.pop(statement, None)
    return sorted(found.values(), key=lambda e: e.cost)


def _edits(statement: Accumulate, words: Vocabulary) -> Iterator[Edit]:
    yield from _of_operator(statement)
    yield from _of_target(statement, words)
    yield from _of_guard(statement, words)
    yield from _of_ranges(statement)
    for change in everywhere(statement.value, words):
        yield Edit(
            change.cost,
            change.kind,
            change.message,
            replace(statement, value=change.new),
            change.span,
        )


# -------------------------------------------------------------------------------------- statements


def _of_operator(statement: Accumulate) -> Iterator[Edit]:
    reduction = statement.reduction
    span = operator_span(statement)
    if reduction in OPPOSITE:
        new = OPPOSITE[reduction]
        said = f"the sign is wrong: `{reduction.value}`, and right is `{new.value}`"
        yield Edit(1, "sign", said, replace(statement, reduction=new), span)
    for new in Reduction:
        if new is not reduction and (reduction, new) not in OPPOSITE.items():
            said = f"`{reduction.value}`, and right is `{new.value}`"
            yield Edit(3, "wrong operation", said, replace(statement, reduction=new), span)


def operator_span(statement: Accumulate) -> Span | None:
    """Where the operator of a statement stands, between its target and its value."""
    target, whole = statement.target.span, statement.span
    if target is None or whole is None:
        return whole
    text = whole.source.text
    at = text.find(statement.reduction.value, target.end)
    if at < 0 or at > target.end + 60:
        return target
    return Span(whole.source, at, at + len(statement.reduction.value))


def _of_target(statement: Accumulate, words: Vocabulary) -> Iterator[Edit]:
    target = statement.target
    for change in of_read(target, words):
        if isinstance(change.new, Read):
            yield Edit(
                change.cost + 1,
                change.kind,
                change.message,
                replace(statement, target=change.new),
                target.span,
            )


def _of_guard(statement: Accumulate, words: Vocabulary) -> Iterator[Edit]:
    guard = statement.guard
    if guard is not None:
        said = f"the condition `{show_expression(guard)}` is too much"
        yield Edit(2, "wrong condition", said, replace(statement, guard=None), guard.span)
        for change in everywhere(guard, words):
            yield Edit(
                change.cost,
                "wrong condition",
                change.message,
                replace(statement, guard=change.new),
                change.span,
            )
    for condition in words.conditions:
        if condition == guard or not indices_of(condition) <= set(words.lengths):
            continue
        said = f"the condition `{show_expression(condition)}` is missing"
        if guard is not None:
            said = f"the condition is wrong: right is `{show_expression(condition)}`"
        yield Edit(3, "wrong condition", said, replace(statement, guard=condition), statement.span)


def _of_ranges(statement: Accumulate) -> Iterator[Edit]:
    used = {n for e in _expressions(statement) for n in indices_of(e)}
    names = [r.index for r in statement.ranges]
    for at, r in enumerate(statement.ranges):
        span = r.span or statement.span
        others = (*statement.ranges[:at], *statement.ranges[at + 1 :])
        if r.index not in used:
            said = f"the loop over `{r.index}` is too much: it adds the same again"
            yield Edit(2, "wrong range", said, replace(statement, ranges=others), span)
        for new in _ranges(r, names[:at]):
            said = f"the range is wrong: `{show_range(r)}`, and right is `{show_range(new)}`"
            ranges = (*others[:at], new, *others[at:])
            yield Edit(3, "wrong range", said, replace(statement, ranges=ranges), span)


def _ranges(r: Range, outer: list[str]) -> Iterator[Range]:
    if r.upper is not None:
        yield replace(r, lower=None, upper=None)
        yield replace(r, upper=plus_one(r.upper))
        yield replace(r, upper=apply("-", r.upper, ONE))
    if r.lower is not None:
        yield replace(r, lower=None)
        yield replace(r, lower=plus_one(r.lower))
        yield replace(r, lower=apply("-", r.lower, ONE))
    else:
        yield replace(r, lower=ONE)
    for other in outer if r.upper is None else ():
        yield replace(r, upper=Index(other))
        yield replace(r, upper=plus_one(Index(other)))


def _expressions(statement: Accumulate) -> list[Expression]:
    guard = [] if statement.guard is None else [statement.guard]
    bounds = [b for r in statement.ranges for b in (r.lower, r.upper) if b is not None]
    return [statement.target, statement.value, *guard, *bounds]
