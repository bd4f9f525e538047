"""Every read and write that a program makes: under what conditions, and when.

The time of an access is a tuple of steps, compared from the left: places in a list of statements
(integers) and the indices of blocks. The iterations of a one-line statement have one time: they
have no order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.polynomial import Polynomial, atom, shift, subtract
from loopgrad.analysis.terms import AtLeastZero, Formula, Terms
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import children


@dataclass(frozen=True, slots=True)
class Turn:
    """A step of time: the value of a block's index, falling where `descending`."""

    block: int
    index: str
    descending: bool


Time: TypeAlias = tuple[int | Turn, ...]
Path: TypeAlias = tuple[tuple[Expression, bool], ...]


@dataclass(eq=False)
class Access:
    """A read, or a write (then with its `reduction`), in statement `number` of the program.

    `path` holds the conditions, and how they came out, under which the access happens; `ranges`
    those around it, outermost first.
    """

    number: int
    statement: Accumulate | Block
    read: Read
    ranges: tuple[Range, ...]
    path: Path
    time: Time
    reduction: Reduction | None = None
    # Every operation of a proof asks for these; slots would not let them be kept.
    _formulas: list[Formula] | None = field(default=None, repr=False)
    _renamed: tuple[list[Formula], tuple[Polynomial, ...]] | None = field(default=None, repr=False)

    def formulas(self, terms: Terms) -> list[Formula]:
        """What holds when the access happens."""
        if self._formulas is None:
            found = [f for r in self.ranges for f in range_formulas(r, terms)]
            found += [terms.condition(c, truth) for c, truth in self.path]
            self._formulas = found
        return self._formulas

    def subscripts(self, terms: Terms) -> tuple[Polynomial, ...]:
        return tuple(map(terms.convert, self.read.subscripts))

    def renamed(self, terms: Terms) -> tuple[list[Formula], tuple[Polynomial, ...]]:
        """The formulas and subscripts of another iteration, its indices named `second`."""
        if self._renamed is None:
            names = {
                terms.variable("index", r.index): atom(terms.variable("index", second(r.index)))
                for r in self.ranges
            }
            self._renamed = (
                [terms.substitute_formula(f, names) for f in self.formulas(terms)],
                tuple(terms.substitute(s, names) for s in self.subscripts(terms)),
            )
        return self._renamed

    @cached_property
    def offsets(self) -> tuple[tuple[str | None, int] | None, ...]:
        """For each subscript that is an index plus a number, or a number: both."""
        return tuple(map(offset_of, self.read.subscripts))


def second(index: str) -> str:
    """The name of an index in the second of two iterations."""
    return f"{index} (second)"


def range_formulas(r: Range, terms: Terms) -> Iterator[Formula]:
    index = terms.convert(Index(r.index))
    assert r.lower is not None and r.upper is not None
    yield AtLeastZero(subtract(index, terms.convert(r.lower)))
    yield AtLeastZero(shift(subtract(terms.convert(r.upper), index), -1))


def offset_of(subscript: Expression) -> tuple[str | None, int] | None:
    """`t` is (t, 0), `t-1` is (t, -1), `3` is (None, 3); None for what is none of these."""
    match subscript:
        case Index(name):
            return name, 0
        case Number(int(value)):
            return None, value
        case Apply("+", (Index(name), Number(int(value)))):
            return name, value
        case Apply("+", (Number(int(value)), Index(name))):
            return name, value
        case Apply("-", (Index(name), Number(int(value)))):
            return name, -value
    return None


class Collector:
    """Lists the accesses of a program, statement by statement, in the order of evaluation."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.reads: list[Access] = []
        self.writes: list[Access] = []
        self._number = -1
        self._statements(facts.program.statements, (), ())

    def _statements(
        self, statements: tuple[Statement, ...], ranges: tuple[Range, ...], time: Time
    ) -> None:
        for place, statement in enumerate(statements):
            self._number += 1
            match statement:
                case Accumulate():
                    self._accumulate(statement, ranges, (*time, place))
                case Block():
                    self._block(statement, ranges, (*time, place))
                case _:
                    raise TypeError(f"{statement!r} has to be unfolded first")

    def _block(self, block: Block, ranges: tuple[Range, ...], time: Time) -> None:
        number = self._number
        for r in block.ranges:
            self._bounds(block, r, ranges, time)
            ranges = (*ranges, r)
            time = (*time, Turn(number, r.index, r.descending))
        self._statements(block.body, ranges, time)

    def _bounds(
        self, statement: Accumulate | Block, r: Range, ranges: tuple[Range, ...], time: Time
    ) -> None:
        for bound in (r.lower, r.upper):
            if bound is not None:
                self._visit(bound, statement, ranges, (), time)

    def _accumulate(self, statement: Accumulate, ranges: tuple[Range, ...], time: Time) -> None:
        for r in statement.ranges:
            self._bounds(statement, r, ranges, time)
            ranges = (*ranges, r)
        path: Path = ()
        if statement.guard is not None:
            self._visit(statement.guard, statement, ranges, (), time)
            path = ((statement.guard, True),)
        for subscript in statement.target.subscripts:
            self._visit(subscript, statement, ranges, path, time)
        self._visit(statement.value, statement, ranges, path, time)
        self.writes.append(
            Access(
                self._number,
                statement,
                statement.target,
                ranges,
                path,
                time,
                statement.reduction,
            )
        )

    def _visit(
        self,
        expression: Expression,
        statement: Accumulate | Block,
        ranges: tuple[Range, ...],
        path: Path,
        time: Time,
    ) -> None:
        match expression:
            case Read(_, subscripts):
                for subscript in subscripts:
                    if not isinstance(subscript, (Index, Number)):
                        self._visit(subscript, statement, ranges, path, time)
                self.reads.append(Access(self._number, statement, expression, ranges, path, time))
            case Conditional(condition, then, otherwise):
                self._visit(condition, statement, ranges, path, time)
                self._visit(then, statement, ranges, (*path, (condition, True)), time)
                self._visit(otherwise, statement, ranges, (*path, (condition, False)), time)
            case Apply("and" | "or" as operation, (left, right)):
                self._visit(left, statement, ranges, path, time)
                self._visit(right, statement, ranges, (*path, (left, operation == "and")), time)
            case Compare(operators, operands) if len(operators) > 1:
                self._visit(operands[0], statement, ranges, path, time)
                self._visit(operands[1], statement, ranges, path, time)
                for i, operand in enumerate(operands[2:]):
                    link = Compare((operators[i],), operands[i : i + 2])
                    path = (*path, (link, True))
                    self._visit(operand, statement, ranges, path, time)
            case _:
                for child in children(expression):
                    self._visit(child, statement, ranges, path, time)
