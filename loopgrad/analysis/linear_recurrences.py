"""Recurrences of a block over time, and which of them are linear in their state.

A recurrence is a set of tensors whose elements at one turn of the block hang on each other's at former
turns: `h` where `h[t]` reads `h[t-1]`, or `h`, `hp` and `Ra` where they read each other in a ring. It is
linear where every element is a sum of coefficients times elements of former turns, and of an addend:

    h[t,j] = sum[i](a[t,j,i] * h[t-1,i]) + b[t,j]          a and b read nothing of the ring

Such steps may be put together before the state is known, so that all turns take a number of rounds
that grows as the logarithm of theirs: a parallel scan. Linearity is proved from the program's own text:
values are followed through the ring's statements of one turn, by the rules of `_Reader.form`, none of
which names a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeAlias

from loopgrad.analysis.accesses import offset_of
from loopgrad.analysis.extents import difference, plus
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import Unification
from loopgrad.analysis.rings import distance, mentions, places_of, rings, statements_of
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
    Reduce,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import (
    ONE,
    ZERO,
    accumulates,
    all_statements,
    apply,
    compare,
    conjunction,
    indices_of,
    reads,
    rebuild,
    rebuild_range,
    statement_reads,
    substitute,
)

START = "..start"  # behind a tensor's name: what it holds from outside of the block
MOST_NODES = 2_000  # of the expressions of one recurrence
SUMS = (Reduction.ADD, Reduction.SUBTRACT, Reduction.SET)


@dataclass(frozen=True)
class Term:
    """`coefficient * source`, summed over `summed`: what a step takes of an element of a former turn.

    `distance` says how many turns before, 1 or more; `source` stands in terms of the indices of the step's
    target, and of those summed over.
    """

    source: Read
    distance: int
    coefficient: Expression
    summed: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Step:
    """One turn of one state: `target = sum of terms + addend`, for all values of `ranges`.

    Sums in the addend are `Reduce`s; it is 0 where there is none. `started`: the tensor is written outside
    of the block too, and what it holds from there is part of the sum. Where that is so of another tensor of
    the ring, the addend reads it by its name and `START`.
    """

    target: Read
    ranges: tuple[Range, ...]
    terms: tuple[Term, ...]
    addend: Expression
    started: bool


@dataclass(frozen=True)
class Linear:
    """A recurrence that is linear in its state.

    `tensors`: all of the ring, in the order of their statements. `steps`: those that former turns are read
    of, the states.
    """

    block: Block
    tensors: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def index(self) -> str:
        return self.block.ranges[0].index

    @property
    def order(self) -> int:
        """How many turns back a step looks, at most."""
        return max(term.distance for step in self.steps for term in step.terms)

    @property
    def coefficient(self) -> Expression | None:
        """`a` of `h[t,j] = a * h[t-1,j] + addend`: one state, element by element; None for any other form.

        A number, an index or a read in it means what it does in the step's loops.
        """
        if len(self.steps) != 1 or self.order != 1:
            return None
        [step] = self.steps
        if any(
            t.summed or not _same_element(t.source, step.target, self.index) for t in step.terms
        ):
            return None
        total = step.terms[0].coefficient
        for term in step.terms[1:]:
            total = apply("+", total, term.coefficient)
        return total


@dataclass(frozen=True)
class Nonlinear:
    """A recurrence of which linearity is not proved, the statement and the words that say why."""

    block: Block
    tensors: tuple[str, ...]
    statement: Statement
    reason: str


Recurrence: TypeAlias = Linear | Nonlinear


def recurrences(facts: Facts, block: Block) -> tuple[Recurrence, ...]:
    """The recurrences that the block carries from turn to turn, in the order of their statements.

    `block` is one of `facts.program`, at any depth. What it computes beside them either is read by them, or
    reads them, in the same turn or another, and could be computed for all turns at once.

    >>> import loopgrad as lg
    >>> from loopgrad.analysis.infer import infer
    >>> facts = infer(lg.program('''
    ... f(a[T], x[T]) -> h[T]:
    ...     for t:
    ...         before[t] = h[t-1] if t > 0 else 0
    ...         h[t] = a[t] * before[t] + (1 - a[t]) * tanh(x[t])
    ... '''))
    >>> [found] = recurrences(facts, facts.program.statements[0])
    >>> print(show_expression(found.coefficient))
    a[t] if t > 0 else 0
    >>> print(show_expression(found.steps[0].addend))
    (1 - a[t]) * tanh(x[t])
    """
    return tuple(_judged(facts, block, ring) for ring in rings(block))


def blocks_of(statements: Sequence[Statement]) -> Iterator[Block]:
    """Every block among the statements, outer ones first."""
    return (s for s in all_statements(statements) if isinstance(s, Block))


# --------------------------------------------------------------------------------------- linearity


class _NotLinear(Exception):
    def __init__(self, statement: Statement, reason: str):
        self.statement, self.reason = statement, reason


def _judged(facts: Facts, block: Block, ring: tuple[str, ...]) -> Recurrence:
    try:
        return _Reader(facts, block, ring).linear()
    except _NotLinear as found:
        return Nonlinear(block, ring, found.statement, found.reason)


@dataclass(frozen=True)
class _Form:
    """A sum of terms and an addend, None for 0."""

    terms: tuple[Term, ...] = ()
    addend: Expression | None = None

    def __add__(self, other: _Form) -> _Form:
        parts = [a for a in (self.addend, other.addend) if a is not None]
        addend = apply("+", *parts) if len(parts) == 2 else parts[0] if parts else None
        return _Form((*self.terms, *other.terms), addend)

    def scaled(self, operation: str, factor: Expression) -> _Form:
        """Times the factor, or divided by it."""

        def changed(e: Expression) -> Expression:
            match e:
                case Conditional(condition, then, otherwise) if ZERO in (then, otherwise):
                    one, other = (b if b == ZERO else changed(b) for b in (then, otherwise))
                    return Conditional(condition, one, other)
                case Number(1) if operation == "*":
                    return factor
            return e if factor == ONE else apply(operation, e, factor)

        return self.mapped(changed)

    def negated(self) -> _Form:
        return self.mapped(lambda e: apply("neg", e))

    def where(self, condition: Expression, truth: bool = True) -> _Form:
        """Itself where the condition holds, or fails; 0 elsewhere."""

        def changed(e: Expression) -> Expression:
            return Conditional(condition, *((e, ZERO) if truth else (ZERO, e)))

        return self.mapped(changed)

    def mapped(self, change: Callable[[Expression], Expression]) -> _Form:
        addend = None if self.addend is None else change(self.addend)
        terms = tuple(replace(t, coefficient=change(t.coefficient)) for t in self.terms)
        return _Form(terms, addend)


class _Reader:
    """Follows the values of one turn through a ring's statements."""

    def __init__(self, facts: Facts, block: Block, ring: tuple[str, ...]):
        self.facts, self.block, self.ring = facts, block, ring
        self.places = places_of(block)
        self.writers: dict[str, list[Accumulate]] = {}
        for statement, inside in statements_of(block):
            if statement.target.tensor in ring:
                if inside:
                    raise _NotLinear(statement, "it stands in a block of its own inside the block")
                self.writers.setdefault(statement.target.tensor, []).append(statement)
        self.names = Unification((), facts.equalities)
        self.numbers = count(1)
        self.size = 0

    def linear(self) -> Linear:
        first = self.writers[self.ring[0]][0]
        if len(self.block.ranges) > 1:
            raise _NotLinear(first, "the block has more than one index")
        steps: dict[str, Step] = {}
        waiting = [n for n in self.ring if self.is_used_in_another_turn(n)]
        while waiting:
            name = waiting.pop()
            steps[name] = self.step(name)
            sources = dict.fromkeys(t.source.tensor for t in steps[name].terms)
            waiting += [n for n in sources if n not in steps and n not in waiting]
        states = {t.source.tensor for step in steps.values() for t in step.terms}
        found = tuple(steps[n] for n in self.ring if n in states)
        if not found:
            raise _NotLinear(first, "what it reads of former turns is not followed")
        return Linear(self.block, self.ring, found)

    def is_used_in_another_turn(self, name: str) -> bool:
        return any(
            r.tensor == name and distance(r, self.places, self.block) != 0
            for n in self.ring
            for s in self.writers[n]
            for r in (s.target, *statement_reads(s))
        )

    def turns_back(self, read: Read, statement: Statement) -> int:
        found = distance(read, self.places, self.block)
        if found is None or found < 0:
            at = show_expression(read)
            raise _NotLinear(statement, f"`{at}` is not a fixed number of turns back")
        return found

    def step(self, name: str) -> Step:
        if name not in self.places:
            shown = show_expression(self.writers[name][0].target)
            raise _NotLinear(self.writers[name][0], f"`{shown}` is not written turn by turn")
        target, ranges = self.every_element(name)
        found = self.defined(name, target.subscripts, self.writers[name][0], ())
        addend = ZERO if found.addend is None else found.addend
        return Step(target, ranges, found.terms, addend, self.is_written_outside(name))

    def every_element(self, name: str) -> tuple[Read, tuple[Range, ...]]:
        """The tensor's elements of one turn, with the indices of its first statement where it has some."""
        first, *others = self.writers[name]
        own = {r.index for r in first.ranges}
        subscripts: list[Expression] = []
        ranges: list[Range] = []
        for axis, subscript in enumerate(first.target.subscripts):
            place = offset_of(subscript)
            if axis == self.places[name][0] or (
                not any(mentions(subscript, index) for index in own)
                and all(s.target.subscripts[axis] == subscript for s in others)
            ):
                subscripts.append(subscript)
                continue
            taken = {r.index for r in ranges}
            index = place[0] if place and place[0] in own - taken else None
            index = index or f"{name}.{axis}"  # no index has a dot
            subscripts.append(Index(index))
            ranges.append(Range(index, ZERO, self.facts.tensors[name].extents[axis]))
        return Read(name, tuple(subscripts)), tuple(ranges)

    def is_written_outside(self, name: str) -> bool:
        return any(
            s.target.tensor == name and self.block not in around
            for around, s in accumulates(self.facts.program.statements)
        )

    def defined(
        self, name: str, at: Sequence[Expression], reader: Statement, inside: tuple[str, ...]
    ) -> _Form:
        """What this turn computes of the tensor's element."""
        if name in inside:
            raise _NotLinear(reader, f"`{name}` hangs on itself within one turn")
        total = _Form()
        if inside and self.is_written_outside(name):
            total = _Form((), Read(name + START, tuple(at)))
        for statement in self.writers[name]:
            if statement.reduction not in SUMS:
                sign = statement.reduction.value
                raise _NotLinear(statement, f"`{sign}` is no sum")
            total += self.written(statement, at, (*inside, name))
        return total

    def written(
        self, statement: Accumulate, at: Sequence[Expression], inside: tuple[str, ...]
    ) -> _Form:
        """What the statement adds to the element: its value, with its indices as the element has them."""
        values, conditions = self.solved(statement, at)
        axes = zip(
            statement.target.subscripts,
            self.facts.tensors[statement.target.tensor].extents,
            strict=True,
        )
        extents = {s.name: extent for s, extent in axes if isinstance(s, Index)}
        summed = []
        for r in statement.ranges:
            within = rebuild_range(r, lambda e: _put(e, values))
            if r.index in values:
                extent = extents.get(r.index)
                conditions.append(self.within(values[r.index], within, extent))
            else:
                new = f"{r.index}.{next(self.numbers)}"  # no index has a dot
                values[r.index] = Index(new)
                summed.append(replace(within, index=new))
        found = self.form(_put(statement.value, values), statement, inside)
        if statement.guard is not None:
            conditions.append(_put(statement.guard, values))
        condition = conjunction(conditions)
        if condition is not None:
            self.free(condition, statement)
            found = found.where(condition)
        if statement.reduction is Reduction.SUBTRACT:
            found = found.negated()
        return _summed(found, tuple(summed))

    def solved(
        self, statement: Accumulate, at: Sequence[Expression]
    ) -> tuple[dict[str, Expression], list[Expression | None]]:
        """The values of the indices at which the statement writes the element, and where it does."""
        turn = self.block.ranges[0]
        own = {r.index for r in statement.ranges}
        values: dict[str, Expression] = {}
        conditions: list[Expression | None] = []
        axis, number = self.places[statement.target.tensor]
        for i, (written, wanted) in enumerate(zip(statement.target.subscripts, at, strict=True)):
            if i == axis:
                offset = difference(written, Index(turn.index))
                assert offset is not None
                if offset != number:  # it is another turn that adds to this element
                    values[turn.index] = plus(Index(turn.index), number - offset)
                    conditions.append(self.within(values[turn.index], turn, None))
                continue
            match offset_of(written):
                case (str(name), int(more)) if name in own and name not in values:
                    values[name] = plus(wanted, -more)
                case _ if any(mentions(written, name) for name in own) or any(reads(written)):
                    shown = show_expression(statement.target)
                    raise _NotLinear(statement, f"`{shown}` is written at no plain index")
                case _ if difference(written, wanted) != 0:
                    conditions.append(compare("==", wanted, written))
        return values, conditions

    def within(self, value: Expression, r: Range, extent: Expression | None) -> Expression | None:
        """That the index, which has this value, is in its range; None where it always is: all of an axis."""
        assert r.lower is not None and r.upper is not None
        whole = extent is not None and r.lower == ZERO and self.same(r.upper, extent)
        return None if whole else Compare(("<=", "<"), (r.lower, value, r.upper))

    def same(self, one: Expression, other: Expression) -> bool:
        return difference(self.names.apply(one), self.names.apply(other)) == 0

    def free(self, expression: Expression, statement: Statement) -> None:
        """Refuses what reads the ring."""
        for read in reads(expression):
            if read.tensor in self.ring:
                shown = show_expression(expression)
                raise _NotLinear(
                    statement, f"`{shown}` is no linear function of `{show_expression(read)}`"
                )

    def form(self, e: Expression, statement: Statement, inside: tuple[str, ...]) -> _Form:
        self.size += 1
        if self.size > MOST_NODES:
            raise _NotLinear(statement, "its expressions are too large to follow")
        if not any(read.tensor in self.ring for read in reads(e)):
            return _Form((), None if e in (ZERO, Number(0.0)) else e)

        def below(part: Expression) -> _Form:
            return self.form(part, statement, inside)

        match e:
            case Read(name, subscripts) if name in self.ring:
                for subscript in subscripts:
                    self.free(subscript, statement)
                self.same_turns_around(e, statement)
                distance = self.turns_back(e, statement)
                if distance:
                    return _Form((Term(e, distance, ONE),))
                return self.defined(name, subscripts, statement, inside)
            case Apply("+", (left, right)):
                return below(left) + below(right)
            case Apply("-", (left, right)):
                return below(left) + below(right).negated()
            case Apply("neg", (operand,)):
                return below(operand).negated()
            case Apply("stop_gradient", (operand,)):
                return below(operand)
            case Apply("*", (left, right)):
                if any(read.tensor in self.ring for read in reads(left)):
                    self.free_factor(right, e, statement)
                    return below(left).scaled("*", right)
                return below(right).scaled("*", left)
            case Apply("/", (left, right)):
                self.free_factor(right, e, statement)
                return below(left).scaled("/", right)
            case Conditional(condition, then, otherwise):
                self.free(condition, statement)
                return below(then).where(condition) + below(otherwise).where(condition, False)
        self.free(e, statement)
        raise AssertionError("an expression that reads the ring is not free of it")

    def same_turns_around(self, read: Read, statement: Statement) -> None:
        """What is written at the index of a block around this one is read at it too."""
        for writer in self.writers[read.tensor]:
            own = {r.index for r in writer.ranges} | {self.block.ranges[0].index}
            for written, subscript in zip(writer.target.subscripts, read.subscripts, strict=True):
                around = set(indices_of(written)) - own
                if around and written != subscript:
                    shown = show_expression(read)
                    raise _NotLinear(statement, f"`{shown}` is of another turn of a block around")

    def free_factor(self, factor: Expression, whole: Expression, statement: Statement) -> None:
        for read in reads(factor):
            if read.tensor in self.ring:
                shown = show_expression(whole)
                raise _NotLinear(
                    statement, f"`{shown}` is no linear function of `{show_expression(read)}`"
                )


def _put(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """The expression with indices replaced, sums of an index and numbers folded."""

    def change(node: Expression) -> Expression:
        node = rebuild(node, change)
        if isinstance(node, Apply) and node.operation in ("+", "-"):
            [*indices] = indices_of(node)
            if len(indices) == 1:
                number = difference(node, Index(indices[0]))
                return node if number is None else plus(Index(indices[0]), number)
        return node

    return change(substitute(expression, values)) if values else expression


def _summed(form: _Form, ranges: tuple[Range, ...]) -> _Form:
    if not ranges:
        return form
    addend = None if form.addend is None else Reduce("sum", ranges, form.addend)
    return _Form(tuple(replace(t, summed=(*ranges, *t.summed)) for t in form.terms), addend)


def _same_element(source: Read, target: Read, index: str) -> bool:
    """Whether the two are of one tensor, at the same subscripts but for the block's index."""
    return source.tensor == target.tensor and all(
        s == t or (mentions(s, index) and mentions(t, index))
        for s, t in zip(source.subscripts, target.subscripts, strict=True)
    )
