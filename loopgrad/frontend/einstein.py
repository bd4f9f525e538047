"""Einstein capitals: `W[j,I] * x[b,I]` becomes `sum[i](W[j,i] * x[b,i])`.

A bare extent name, as the subscript of an axis whose extent is a name, sums the smallest term that
holds all its uses: an operand of `+` or `-`, an argument of a function, or the right-hand side.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from loopgrad.diagnostics import Diagnostic, ProgramError, ProgramWarning, render
from loopgrad.frontend.knowledge import Knowledge
from loopgrad.frontend.names import Names
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Expression,
    Extent,
    Index,
    Range,
    Read,
    Reduce,
)
from loopgrad.ir.operations import FUNCTIONS
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import ZERO, bounds, rebuild, subexpressions


def has_capitals(statement: Accumulate) -> bool:
    """Is an extent's name a whole subscript anywhere?"""
    everywhere = (statement.target, statement.value, statement.guard, *bounds(statement.ranges))
    return any(
        isinstance(node, Read) and any(isinstance(s, Extent) for s in node.subscripts)
        for expression in everywhere
        if expression is not None
        for node in subexpressions(expression)
    )


def expand_capitals(
    statement: Accumulate, around: tuple[Range, ...], knowledge: Knowledge, names: Names
) -> Accumulate:
    """The statement with its capitals written as sums; itself if it has none.

    Raises ProgramError for a capital where nothing is summed: in a target, a guard, a bound.
    """
    if not has_capitals(statement):
        return statement
    _refuse_elsewhere(statement, knowledge)
    uses = list(_uses(statement.value, statement, knowledge))
    if not uses:
        return statement
    live = {r.index for r in (*around, *statement.ranges)}
    live.update(
        r.index for n in subexpressions(statement.value) if isinstance(n, Reduce) for r in n.ranges
    )
    indices: dict[str, str] = {}
    for use in uses:
        if use.capital not in indices:
            indices[use.capital] = names.index(use.capital.lower(), live)
            live.add(indices[use.capital])
    expansion = _Expansion(statement, knowledge, indices, Counter(u.capital for u in uses))
    value = expansion.term(statement.value)
    if statement.span is not None and isinstance(value, Reduce) and value.span is None:
        value = replace(value, span=statement.value.span)
    return replace(statement, value=value)


@dataclass(frozen=True)
class _Use:
    capital: str
    read: Read
    axis: int


def _uses(
    expression: Expression | None, statement: Accumulate, knowledge: Knowledge
) -> Iterator[_Use]:
    """The subscripts that stand for a sum, left to right."""
    for read in () if expression is None else subexpressions(expression):
        if not isinstance(read, Read):
            continue
        for axis, subscript in enumerate(read.subscripts):
            if isinstance(subscript, Extent) and _sums(read, axis, statement, knowledge):
                yield _Use(subscript.name, read, axis)


def _sums(read: Read, axis: int, statement: Accumulate, knowledge: Knowledge) -> bool:
    """Has the axis a name for its extent? Else the capital is a position."""
    extent = knowledge.extent(read.tensor, axis)
    if extent is None:
        declared = ", ".join("..." for _ in read.subscripts)
        raise ProgramError(
            Diagnostic(
                f"the extent of axis {axis} of `{read.tensor}` is not known here, so that "
                f"`{show_expression(read.subscripts[axis])}` may be a sum or a position",
                read.subscripts[axis].span or read.span,
                help=f"declare it: `local {read.tensor}[{declared}]`",
                context=show_statement(statement),
            )
        )
    return isinstance(extent, Extent)


def _refuse_elsewhere(statement: Accumulate, knowledge: Knowledge) -> None:
    wrong: list[Diagnostic] = []

    def refuse(read: Read, axis: int, place: str, help: str) -> None:
        span = read.subscripts[axis].span or read.span
        capital = show_expression(read.subscripts[axis])
        wrong.append(
            Diagnostic(
                f"the capital `{capital}` stands {place}, where nothing can be summed",
                span,
                help=help,
                context=show_statement(statement),
            )
        )

    target = statement.target
    for axis, subscript in enumerate(target.subscripts):
        declared = knowledge.declared.get(target.tensor)
        if isinstance(subscript, Extent) and declared is not None and axis < len(declared):
            if isinstance(declared[axis], Extent):
                index = subscript.name.lower()
                new = tuple(Index(index) if s is subscript else s for s in target.subscripts)
                written = show_expression(Read(target.tensor, new))
                refuse(target, axis, "in a target", f"name an index: `{written} = ...`")
        else:
            for use in _uses(subscript, statement, knowledge):
                refuse(use.read, use.axis, "in a target", "name an index in its place")
    for place, expressions in (
        ("in a guard", [statement.guard]),
        ("in a loop's range", list(bounds(statement.ranges))),
    ):
        for expression in expressions:
            for use in _uses(expression, statement, knowledge):
                help = f"write the sum: `sum[{use.capital.lower()}](...)`, or name an index"
                refuse(use.read, use.axis, place, help)
    if wrong:
        raise ProgramError(wrong)


def _summands(term: Expression) -> Iterator[Expression]:
    match term:
        case Apply("+" | "-", (left, right)):
            yield from _summands(left)
            yield from _summands(right)
        case _:
            yield term


@dataclass
class _Expansion:
    """Binds each capital at the smallest term that holds as many uses of it as there are."""

    statement: Accumulate
    knowledge: Knowledge
    indices: dict[str, str]
    total: Counter[str]

    def term(self, expression: Expression) -> Expression:
        """A term: the capitals whose uses are all inside it, and in no smaller term, are bound."""
        inside = self.below(expression)
        uses = list(_uses(inside, self.statement, self.knowledge))
        here = Counter(u.capital for u in uses)
        bound = [c for c in here if here[c] == self.total[c]]
        if not bound:
            return inside
        for capital in bound:
            self.warn_of_bystanders(expression, capital)
        ranges = tuple(self.range(c, (u for u in uses if u.capital == c)) for c in bound)
        return Reduce("sum", ranges, self.with_indices(inside, bound), expression.span)

    def warn_of_bystanders(self, term: Expression, capital: str) -> None:
        """In `c + W[I] * x[I] + U[I] * x[I]` all is summed, and `c` is added `I` times."""
        for summand in _summands(term):
            uses = _uses(summand, self.statement, self.knowledge)
            if summand is not term and capital not in {u.capital for u in uses}:
                shown = show_expression(summand)
                warning = Diagnostic(
                    f"`{shown}` stands inside the sum over `{capital}`, and is added "
                    f"`{capital}` times: the sum is the smallest term with all uses of the capital",
                    summand.span,
                    help=f"add `{shown}` in a statement of its own, or write `sum` where one is meant",
                    context=show_statement(self.statement),
                    severity="warning",
                )
                warnings.warn(render(warning), ProgramWarning, stacklevel=2)

    def below(self, expression: Expression) -> Expression:
        """The parts of an expression, terms of their own under `+`, `-` and functions."""
        parts = isinstance(expression, Reduce) or (
            isinstance(expression, Apply)
            and (expression.operation in ("+", "-", "neg") or expression.operation in FUNCTIONS)
        )
        return rebuild(expression, self.term if parts else self.below)

    def range(self, capital: str, uses: Iterable[_Use]) -> Range:
        """A bare index, unless none of the axes has the capital itself for its extent."""
        extents = (self.knowledge.extent(u.read.tensor, u.axis) for u in uses)
        named = any(e == Extent(capital) for e in extents)
        index = self.indices[capital]
        return Range(index) if named else Range(index, ZERO, Extent(capital))

    def with_indices(self, expression: Expression, bound: list[str]) -> Expression:
        def change(node: Expression) -> Expression:
            node = rebuild(node, change)
            if not isinstance(node, Read):
                return node
            new = tuple(
                Index(self.indices[s.name], s.span)
                if isinstance(s, Extent)
                and s.name in bound
                and _sums(node, k, self.statement, self.knowledge)
                else s
                for k, s in enumerate(node.subscripts)
            )
            return replace(node, subscripts=new)

        return change(expression)
