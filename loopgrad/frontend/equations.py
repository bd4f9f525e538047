"""One equation into loops: reductions become statements, temporaries where they have to.

T = a + sum[i](f) - c      T += a;  T += f over i;  T -= c
T = tanh(a + sum[i](f))    T1 += a;  T1 += f over i;  T = tanh(T1)
T = max[i](f)              T max= f over i
T = logsumexp[i](f)        m max= f;  c = m where finite;  Z += exp(f - c);  T = c + log(Z)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from loopgrad.analysis import extents as ext
from loopgrad.diagnostics import Diagnostic, ProgramError, listing
from loopgrad.frontend.knowledge import Knowledge, lone_uses
from loopgrad.frontend.names import Names
from loopgrad.frontend.regions import is_natural
from loopgrad.ir.nodes import (
    NO_COMMENTS,
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Index,
    Local,
    Number,
    Range,
    Read,
    Reduce,
    Reduction,
)
from loopgrad.ir.printer import show_expression, show_range, show_statement
from loopgrad.ir.walk import (
    ONE,
    ZERO,
    apply,
    bounds,
    children,
    conjunction,
    conjuncts,
    reads,
    rebuild,
    rebuild_range,
    subexpressions,
    substitute,
)

ADD, SUBTRACT, SET = Reduction.ADD, Reduction.SUBTRACT, Reduction.SET
SUMS = ("sum", "mean")
FOLDS = {"max": Reduction.MAXIMUM, "min": Reduction.MINIMUM, "prod": Reduction.MULTIPLY}
INFINITY = Number(math.inf)


def has_reduction(expression: Expression | None) -> bool:
    return expression is not None and any(
        isinstance(node, Reduce) for node in subexpressions(expression)
    )


def is_equation(statement: Accumulate) -> bool:
    """Does any of the statement's expressions hold a reduction?"""
    return any(
        has_reduction(e)
        for e in (
            statement.value,
            statement.guard,
            *statement.target.subscripts,
            *bounds(statement.ranges),
        )
    )


def free_indices(expression: Expression) -> frozenset[str]:
    """The indices that the expression takes from the loops around it.

    A `softmax` reads, beside all others, the value at the loops' own place.
    """
    match expression:
        case Index(name):
            return frozenset((name,))
        case Reduce(name, ranges, body) if name != "softmax":
            inside = free_indices(body).union(*map(free_indices, bounds(ranges)))
            return inside - {r.index for r in ranges}
    return frozenset().union(*map(free_indices, children(expression)))


def additive_terms(expression: Expression, sign: int = 1) -> Iterator[tuple[int, Expression]]:
    """The terms of a sum with their signs, brackets taken away."""
    match expression:
        case Apply("+" | "-" as operation, (left, right)):
            yield from additive_terms(left, sign)
            yield from additive_terms(right, sign if operation == "+" else -sign)
        case Apply("neg", (operand,)):
            yield from additive_terms(operand, -sign)
        case _:
            yield sign, expression


def is_sum(expression: Expression) -> bool:
    """Is a `sum` or a `mean` among the expression's terms?"""
    return any(
        isinstance(term, Reduce) and term.name in SUMS for _, term in additive_terms(expression)
    )


@dataclass(frozen=True)
class Place:
    """Where an expression is evaluated: the statement's loops, and the condition to get there."""

    ranges: tuple[Range, ...]
    guard: Expression | None

    def under(self, condition: Expression) -> Place:
        return replace(self, guard=conjunction((self.guard, condition)))

    def inside(self, ranges: tuple[Range, ...]) -> Place:
        return replace(self, ranges=self.ranges + ranges)


@dataclass
class Equation:
    """Unfolds one statement; `statements` and `locals` are what becomes of it.

    `alone`: nothing else writes the elements that it writes, so that `=` may become `+=`.
    `whole`: moreover it writes all elements of its target, so that `=` may become `max=`.
    """

    source: Accumulate
    around: tuple[Range, ...]
    knowledge: Knowledge
    names: Names
    alone: bool
    whole: bool
    statements: list[Accumulate] = field(default_factory=list)
    locals: list[Local] = field(default_factory=list)
    _known: dict[tuple[Expression, Place], Read] = field(default_factory=dict)
    _shifted: dict[tuple[object, ...], tuple[Read, Read]] = field(default_factory=dict)

    def unfold(self) -> list[Accumulate]:
        source = self.source
        ranges: tuple[Range, ...] = ()
        for r in source.ranges:
            place = Place(ranges, None)
            ranges = (*ranges, rebuild_range(r, lambda e, p=place: self.plain(e, p)))  # type: ignore[misc]
        guard = source.guard and self.plain(source.guard, Place(ranges, None))
        place = Place(ranges, guard)
        subscripts = tuple(self.plain(s, place) for s in source.target.subscripts)
        self.assign(replace(source.target, subscripts=subscripts), source.reduction, place)
        if self.statements and source.comments != NO_COMMENTS:
            self.statements[0] = replace(self.statements[0], comments=source.comments)
        return list(map(self.spelled, self.statements))

    # --------------------------------------------------------------------------- the target's own

    def assign(self, target: Read, reduction: Reduction, place: Place) -> None:
        value = self.source.value
        adds = reduction in (ADD, SUBTRACT) or (reduction is SET and self.alone)
        if adds and is_sum(value):
            self.add(target, value, place, -1 if reduction is SUBTRACT else 1)
            return
        if isinstance(value, Reduce) and value.name in FOLDS:
            fold = FOLDS[value.name]
            if reduction is fold or (reduction is SET and self.whole):
                self.fold(target, fold, value, place)
                return
        self.emit(target, reduction, self.plain(value, place), place)

    def add(
        self,
        target: Read,
        value: Expression,
        place: Place,
        sign: int = 1,
        divisors: tuple[Expression, ...] = (),
    ) -> None:
        """One `+=` or `-=` for each term of the value, sums of sums taken apart."""
        self.keep_equalities(target, place, sum(1 for _ in additive_terms(value)))
        for term_sign, term in additive_terms(value, sign):
            if isinstance(term, Reduce) and term.name in SUMS:
                ranges, body = self.opened(term, place)
                count = (self.count(ranges, body, place, term),) if term.name == "mean" else ()
                inside = place.inside(ranges)
                if is_sum(body):
                    self.add(target, body, inside, term_sign, divisors + count)
                else:
                    self.add_term(target, body, inside, term_sign, divisors + count)
            else:
                self.add_term(target, term, place, term_sign, divisors)

    def add_term(
        self,
        target: Read,
        term: Expression,
        place: Place,
        sign: int,
        divisors: tuple[Expression, ...],
    ) -> None:
        value = self.plain(term, place)
        for divisor in divisors:
            value = apply("/", value, divisor)
        if isinstance(value, Apply) and value.operation == "neg" and not divisors:
            value, sign = value.operands[0], -sign
        self.emit(target, ADD if sign > 0 else SUBTRACT, value, place)

    def keep_equalities(self, target: Read, place: Place, parts: int) -> None:
        """Sees to it that an index still has one extent when its statement is taken apart.

        `y[j] = a[j] + sum[i](W[j,i])` with `a[J]`, `W[J',I]` needs J and J' to be equal. Each part
        alone would not; declared extents of the target, which is in all parts, say so.
        """
        for r in place.ranges:
            if r.index not in self.several:
                continue
            if Index(r.index) in target.subscripts:
                if target.tensor not in self.knowledge.declared:
                    self.declare(target, (*self.around, *place.ranges))
            elif parts > 1:
                names = sorted(show_expression(e) for e in self.several[r.index])
                raise self.error(
                    f"index `{r.index}` has the extents {listing(names)} in different terms, and "
                    "in loops of their own nothing would check that they are equal",
                    r.span or self.source.span,
                    f"declare the axes with one name, `{names[0]}`",
                )

    @cached_property
    def several(self) -> dict[str, set[Expression]]:
        """The bare indices that run over axes with different extents, which have to be equal."""
        source = self.source
        parts = (source.value, source.guard, source.target)
        inner = (
            (r, n.body)
            for n in subexpressions(source.value)
            if isinstance(n, Reduce)
            for r in n.ranges
        )
        found = {
            r.index: self.knowledge.extents_of(r.index, parts)
            for r in source.ranges
            if r.upper is None
        }
        found |= {
            r.index: self.knowledge.extents_of(r.index, (body,))
            for r, body in inner
            if r.upper is None
        }
        return {index: extents for index, extents in found.items() if len(extents) > 1}

    def declare(self, target: Read, ranges: tuple[Range, ...]) -> None:
        """Declares a computed tensor, with the largest subscripts of its loops."""
        if any(local.name == target.tensor for local in self.locals):
            return
        uppers = [self.upper(r) for r in ranges]
        known = [
            (r.index, r.lower or ZERO, u)
            for r, u in zip(ranges, uppers, strict=True)
            if u is not None
        ]
        extents: list[Expression] = []
        for subscript in target.subscripts:
            last = ext.largest(subscript, known, frozenset())
            names = free_indices(subscript)
            found = [self.extent_of_axis(r) for r in ranges if r.index in names]
            extents.append(found[0] if last is None and found else ext.plus(last or ZERO, 1))
        self.locals.append(Local(target.tensor, tuple(extents)))

    def fold(self, target: Read, reduction: Reduction, value: Reduce, place: Place) -> None:
        ranges, body = self.opened(value, place)
        inside = place.inside(ranges)
        self.emit(target, reduction, self.plain(body, inside), inside)

    def emit(self, target: Read, reduction: Reduction, value: Expression, place: Place) -> None:
        self.statements.append(
            Accumulate(target, reduction, value, place.ranges, place.guard, self.source.span)
        )

    def spelled(self, statement: Accumulate) -> Accumulate:
        """The statement with the bounds of bare ranges, where what gave them went elsewhere."""

        def bounded(r: Range) -> Range:
            if r.upper is not None or self.shows(r, statement) or self.follows(r, statement):
                return r
            upper = self.upper(r)
            return r if upper is None else replace(r, lower=r.lower or ZERO, upper=upper)

        ranges = tuple(map(bounded, statement.ranges))
        return replace(statement, ranges=ranges) if ranges != statement.ranges else statement

    def shows(self, r: Range, statement: Accumulate) -> bool:
        """Does the index alone subscript what gives it a range?"""
        here = {local.name for local in self.locals} | self.knowledge.declared.keys()
        declared = statement.target if statement.target.tensor in here else None
        return any(
            True
            for expression in (statement.value, statement.guard, declared)
            if expression is not None
            for _ in lone_uses(r.index, expression)
        )

    def follows(self, r: Range, statement: Accumulate) -> bool:
        """Does another statement into the same elements show the range?"""
        return Index(r.index) in statement.target.subscripts and any(
            other.target == statement.target and r in other.ranges and self.shows(r, other)
            for other in self.statements
            if other is not statement
        )

    def upper(self, r: Range) -> Expression | None:
        """The upper bound of a loop, found over the whole statement where it is not written."""
        known = self.knowledge.upper(r)
        for expression in (self.source.value, self.source.guard, self.source.target):
            if known is None and expression is not None:
                known = self.knowledge.range_of(r.index, expression)
        return known

    # ---------------------------------------------------------------------- reductions, taken out

    def plain(self, expression: Expression, place: Place) -> Expression:
        """The expression with temporaries for its reductions, whose statements come first."""
        if not has_reduction(expression):
            return expression
        at: Callable[[Expression], Expression] = lambda e: self.plain(e, place)
        match expression:
            case Reduce():
                return self.reduction(expression, place)
            case Apply("+" | "-" | "neg") if is_sum(expression):
                return self.temporary(expression, place)
            case Apply("and" | "or" as operation, (left, right)):
                first = at(left)
                reached = first if operation == "and" else apply("not", first)
                return replace(
                    expression, operands=(first, self.plain(right, place.under(reached)))
                )
            case Compare(operators, operands):
                return replace(expression, operands=self.chain(operators, operands, place))
            case Conditional(condition, then, otherwise):
                chosen = at(condition)
                return replace(
                    expression,
                    condition=chosen,
                    then=self.plain(then, place.under(chosen)),
                    otherwise=self.plain(otherwise, place.under(apply("not", chosen))),
                )
        return rebuild(expression, at)

    def chain(
        self, operators: tuple[str, ...], operands: tuple[Expression, ...], place: Place
    ) -> tuple[Expression, ...]:
        """A chain of comparisons stops at the first that fails."""
        done = [self.plain(operand, place) for operand in operands[:2]]
        for k, operand in enumerate(operands[2:], 2):
            reached = place.under(Compare(operators[: k - 1], tuple(done)))
            done.append(self.plain(operand, reached))
        return tuple(done)

    def reduction(self, reduce: Reduce, place: Place) -> Expression:
        match reduce.name:
            case "logsumexp":
                return self.logsumexp(reduce, place)
            case "softmax":
                return self.softmax(reduce, place)
        return self.temporary(reduce, place)

    def temporary(self, value: Expression, place: Place) -> Read:
        """A tensor of the value, with an axis for each loop that the value needs."""
        place = self.needed(free_indices(value), place)
        key = (value, place)
        if key not in self._known:
            read = self.tensor(self.names.part_of(self.source.target.tensor), place)
            if isinstance(value, Reduce) and value.name in FOLDS:
                self.fold(read, FOLDS[value.name], value, place)
            else:
                self.add(read, value, place)
            self._known[key] = read
        return self._known[key]

    def logsumexp(self, reduce: Reduce, place: Place) -> Expression:
        ranges, body = self.opened(reduce, place)
        shift, total = self.shifted(ranges, body, place, place.inside(ranges))
        return apply("+", shift, apply("log", total))

    def softmax(self, reduce: Reduce, place: Place) -> Expression:
        """`exp(body - c) / Z` at the loops' own place; `c` and `Z` run over the named indices.

        Conditions on those indices do not narrow what is normalised over, so they are left out.
        """
        loops = {r.index: r for r in (*self.around, *place.ranges)}
        along = {r.index: r for r in reduce.ranges}
        for r in reduce.ranges:
            if r.index not in loops:
                raise self.error(
                    f"`softmax` normalises along `{r.index}`, which is no index of a loop here",
                    r.span or reduce.span,
                    f"write the value at one `{r.index}`, as in "
                    f"`p[{r.index}] = softmax[{r.index}](...)`",
                )
        guard = conjunction(c for c in conjuncts(place.guard) if not free_indices(c) & along.keys())
        own = [loops[r.index] if r.lower is None and r.upper is None else r for r in reduce.ranges]
        outer = Place(tuple(r for r in place.ranges if r.index not in along), guard)
        # An index of a block, or one whose loop others hang on, goes on meaning its one value.
        live = {r.index for r in (*self.around, *outer.ranges)}
        live |= {n for b in bounds(outer.ranges) for n in free_indices(b)}
        ranges, inner = self.renamed(tuple(own), reduce.body, live)
        kept = {r.index: r for r in ranges}
        in_order = tuple(
            kept.pop(r.index, r) for r in place.ranges if r.index not in along or r.index in kept
        )
        inside = Place((*in_order, *kept.values()), guard)
        shift, total = self.shifted(ranges, inner, outer, inside)
        body = self.plain(reduce.body, replace(place, guard=guard))
        return apply("/", apply("exp", apply("-", body, shift)), total)

    def shifted(
        self, ranges: tuple[Range, ...], body: Expression, outer: Place, inside: Place
    ) -> tuple[Read, Read]:
        """`c`, the body's largest value where finite, and `Z`, the sum of `exp(body - c)`."""
        body = self.plain(body, inside)
        free = free_indices(body).union(*map(free_indices, bounds(ranges)))
        outer = self.needed(free - {r.index for r in ranges}, outer)
        inside = self.needed(free | {r.index for r in (*ranges, *outer.ranges)}, inside)
        key = (body, ranges, outer)
        if key in self._shifted:
            return self._shifted[key]
        greatest, shift, total = (
            self.tensor(self.names.tensor(name), outer) for name in ("m", "c", "Z")
        )
        finite = Compare(("<", "<"), (apply("neg", INFINITY), greatest, INFINITY))
        held = Conditional(finite, apply("stop_gradient", greatest), ZERO)
        self.emit(greatest, Reduction.MAXIMUM, body, inside)
        self.emit(shift, SET, held, outer)
        self.emit(total, ADD, apply("exp", apply("-", body, shift)), inside)
        self._shifted[key] = shift, total
        return shift, total

    # -------------------------------------------------------------------------- loops of their own

    def opened(self, reduce: Reduce, place: Place) -> tuple[tuple[Range, ...], Expression]:
        """The loops of a reduction and its body, its indices unlike those around it."""
        live = {r.index for r in (*self.around, *place.ranges)}
        ranges, body = self.renamed(reduce.ranges, reduce.body, live)
        done: tuple[Range, ...] = ()
        for r in ranges:
            inside = place.inside(done)
            done = (*done, rebuild_range(r, lambda e, p=inside: self.plain(e, p)))  # type: ignore[misc]
        return done, body

    def renamed(
        self, ranges: tuple[Range, ...], body: Expression, live: set[str]
    ) -> tuple[tuple[Range, ...], Expression]:
        renaming: dict[str, Expression] = {}
        new: list[Range] = []
        inner = {n.name for n in subexpressions(body) if isinstance(n, Index)}
        for r in ranges:
            r = rebuild_range(r, lambda e: substitute(e, renaming))
            if r.index in live:
                name = self.names.index(r.index, live | inner)
                renaming[r.index] = Index(name)
                r = replace(r, index=name)
            new.append(r)
            live = live | {r.index}
        return tuple(new), substitute(body, renaming)

    def needed(self, indices: frozenset[str], place: Place) -> Place:
        """The loops that an expression needs: those of its indices, and of their bounds."""
        wanted = set(indices) | free_indices_of_guard(place.guard)
        for r in reversed(place.ranges):
            if r.index in wanted:
                wanted |= {name for b in bounds((r,)) for name in free_indices(b)}
        return replace(place, ranges=tuple(r for r in place.ranges if r.index in wanted))

    def tensor(self, name: str, place: Place) -> Read:
        """A new tensor with an axis for each loop around, declared where it has to be."""
        ranges = (*self.around, *place.ranges)
        read = Read(name, axis_subscripts(ranges))
        by_data = any(any(True for _ in reads(b)) for b in bounds(ranges))
        if by_data or any(r.index in self.several for r in ranges):
            self.declare(read, ranges)
        return read

    def extent_of_axis(self, r: Range) -> Expression:
        """The extent of a temporary's axis whose loop is bounded by data."""
        bodies = (n.body for n in subexpressions(self.source.value) if isinstance(n, Reduce))
        for expression in (self.source.value, self.source.target, *bodies):
            found = self.knowledge.range_of(r.index, expression)
            if found is not None:
                return found
        raise self.error(
            f"a temporary over `{show_range(r)}` is needed, and nothing tells its extent",
            r.span or self.source.span,
            f"give the largest value `{r.index}` can take: write the range with an extent, and the "
            "condition as a guard",
        )

    def count(
        self, ranges: tuple[Range, ...], body: Expression, place: Place, reduce: Reduce
    ) -> Expression:
        """How many values the indices of a `mean` take together."""
        own = {r.index for r in ranges}
        if any(free_indices(b) & own for b in bounds(ranges)):
            return self.temporary(Reduce("sum", ranges, ONE), place)
        product: Expression | None = None
        for r in ranges:
            factor = self.length(r, body, reduce)
            product = factor if product is None else apply("*", product, factor)
        assert product is not None
        return product

    def length(self, r: Range, body: Expression, reduce: Reduce) -> Expression:
        if r.upper is not None:
            return r.upper if r.lower in (None, ZERO) else apply("-", r.upper, r.lower)
        upper = self.knowledge.range_of(r.index, body)
        if upper is None:
            used = any(True for _ in lone_uses(r.index, body))
            why = "" if used else f": `{r.index}` alone subscripts no axis"
            raise self.error(
                f"the mean over `{r.index}` needs to know how many values it takes{why}",
                r.span or reduce.span,
                f"give its range, as in `mean[{r.index} < N](...)`",
            )
        return upper if r.lower in (None, ZERO) else apply("-", upper, r.lower)

    def error(self, found: str, span: object, help: str) -> ProgramError:
        from loopgrad.diagnostics import Span

        assert span is None or isinstance(span, Span)
        return ProgramError(Diagnostic(found, span, help, context=show_statement(self.source)))


def free_indices_of_guard(guard: Expression | None) -> frozenset[str]:
    return frozenset() if guard is None else free_indices(guard)


def axis_subscripts(ranges: tuple[Range, ...]) -> tuple[Expression, ...]:
    """A temporary's subscripts, an axis for each loop, from 0 where the loop may start below."""
    return tuple(
        Index(r.index)
        if r.lower is None or is_natural(r.lower, ranges[:k])
        else ext.to_expression(ext.polynomial(apply("-", Index(r.index), r.lower)))
        for k, r in enumerate(ranges)
    )
