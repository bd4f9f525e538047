"""Factors that may vanish: sums such as `1 - tanh(x)**2`, which a program multiplies by, or adds up.

Multiplied out, `s * (1 - y**2)` is `s - s * y**2`: hoisted out of different sums, the two no longer cancel
where y is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Conditional,
    Expression,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.walk import (
    accumulates,
    apply,
    indices_of,
    reads,
    rebuild,
    subexpressions,
    substitute,
)

SUMS = (Reduction.ADD, Reduction.SUBTRACT)
DEEPEST = 4  # tensors put into one another, to see what a factor is made of


@dataclass(frozen=True)
class Factor:
    """An expression, and whether it is evaluated only under a condition."""

    value: Expression
    conditional: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which factors are meant.

    others: sums of any two things too, and not only a number less something. only: these alone, where
    given. but: not those that these are, when `expanded`.
    """

    others: bool = False
    only: frozenset[Expression] | None = None
    but: frozenset[Expression] = frozenset()

    def admits(self, factor: Expression, makers: Mapping[str, Accumulate]) -> bool:
        if not may_vanish(factor, self.others) or (
            self.only is not None and factor not in self.only
        ):
            return False
        return not self.but or expanded(factor, makers) not in self.but


def may_vanish(factor: Expression, others: bool = True) -> bool:
    """Is it a sum of something that varies with a number, or with anything (`others`) but plain reads?

    Sums of plain reads, `x - mu`, the algebra keeps as factors anyway.
    """
    match factor:
        case Apply("sigmoid", (inside,)):  # it may become 1 - sigmoid(-x)
            return any(map(_turns, subexpressions(inside)))
        case Apply("+" | "-"):
            terms = list(_terms(factor))
            moving = [t for t in terms if any(reads(t))]
            if len(moving) < len(terms):
                return bool(moving)
            return others and not all(isinstance(t, Read) for t in terms)
    return False


def _turns(expression: Expression) -> bool:
    match expression:
        case Number(value):
            return value < 0
        case Apply("-" | "neg"):
            return True
    return False


def _terms(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Apply("+" | "-" | "neg", operands):
            for operand in operands:
                yield from _terms(operand)
        case _:
            yield expression


def factors_in(*programs: Program | None) -> tuple[Expression, ...]:
    """All factors of the programs that may vanish, and the values of tensors such as `d[b] = 1 - y[b]`."""
    found: dict[Expression, None] = {}
    for program in programs:
        own = infer(program).program if program is not None else None
        for blocks, s in accumulates(own.statements if own is not None else ()):
            factors = factors_of(s, (r for b in blocks for r in b.ranges))
            found.update((f.value, None) for f in factors if may_vanish(f.value))
        sums = sums_of(own) if own is not None else {}
        found.update((v, None) for v in sums.values() if may_vanish(v, others=False))
    return tuple(found)


def sums_of(program: Program) -> dict[str, Expression]:
    """For each tensor that is no result and is made element by element, all that is added up for it."""
    found: dict[str, Expression] = {}
    excluded = {r.name for r in program.results}
    for _, s in accumulates(program.statements):
        name = s.target.tensor
        if not is_elementwise(s):
            excluded.add(name)
        found[name] = apply("+", found[name], s.value) if name in found else s.value
    return {name: value for name, value in found.items() if name not in excluded}


def factors_of(statement: Accumulate, around: Iterable[Range] = ()) -> Iterator[Factor]:
    """What the statement multiplies by; what it adds up over indices that its target has not."""
    yield from _factors(statement.value, False)
    looped = {r.index for r in (*around, *statement.ranges)}
    summed = looped - set().union(*map(indices_of, statement.target.subscripts))
    if statement.reduction in SUMS and summed:
        yield Factor(statement.value)


def _factors(value: Expression, conditional: bool) -> Iterator[Factor]:
    match value:
        case Conditional(condition, then, otherwise):
            yield from _factors(condition, conditional)
            for branch in (then, otherwise):
                yield Factor(branch, conditional=True)
                yield from _factors(branch, conditional=True)
        case Apply(operation, operands):
            for operand in operands if operation == "*" else operands[: operation in ("/", "**")]:
                yield Factor(_unsigned(operand), conditional)
            for operand in operands:
                yield from _factors(operand, conditional)


def _unsigned(expression: Expression) -> Expression:
    match expression:
        case Apply("neg", (operand,)):
            return _unsigned(operand)
    return expression


def makers_of(*programs: Program | None) -> dict[str, Accumulate]:
    """For each tensor that one statement makes element by element, under no condition, that statement."""
    found: dict[str, Accumulate | None] = {}
    for program in programs:
        if program is None:
            continue
        for _, s in accumulates(infer(program).program.statements):
            name = s.target.tensor
            found[name] = s if name not in found and is_value(s) else None
    return {name: s for name, s in found.items() if s is not None}


def is_elementwise(maker: Accumulate) -> bool:
    """Does it give each element of a tensor a value of its own?"""
    subscripts = [s.name for s in maker.target.subscripts if isinstance(s, Index)]
    plain = len(set(subscripts)) == len(maker.target.subscripts)
    alone = maker.guard is None and maker.reduction in (*SUMS, Reduction.SET)
    return plain and alone and {r.index for r in maker.ranges} <= set(subscripts)


def is_value(maker: Accumulate) -> bool:
    """Is each element, if nothing else makes it, the statement's value?"""
    return is_elementwise(maker) and maker.reduction is not Reduction.SUBTRACT


def with_value(expression: Expression, maker: Accumulate) -> Expression:
    """The expression with the value that the statement makes in the place of reads of its target."""
    new = rebuild(expression, lambda e: with_value(e, maker))
    if isinstance(new, Read) and new.tensor == maker.target.tensor:
        axes = [s.name for s in maker.target.subscripts if isinstance(s, Index)]
        return substitute(maker.value, dict(zip(axes, new.subscripts, strict=True)))
    return new


def expanded(factor: Expression, makers: Mapping[str, Accumulate]) -> Expression:
    """With what its tensors are made of, and `1 - sigmoid(x)` for `sigmoid(-x)`."""
    for _ in range(DEEPEST):
        inside = [makers[r.tensor] for r in reads(factor) if r.tensor in makers]
        for maker in inside:
            factor = with_value(factor, maker)
        if not inside:
            break
    return _with_differences(factor)


def _with_differences(expression: Expression) -> Expression:
    match rebuild(expression, _with_differences):
        case Apply("sigmoid", (Apply("neg", (inside,)),)):
            return Apply("-", (Number(1), Apply("sigmoid", (inside,))))
        case new:
            return new


def divided_by(program: Program, makers: Mapping[str, Accumulate]) -> frozenset[Expression]:
    """What the program divides by, as `expanded`: a factor that it is may be cancelled."""
    found = set[Expression]()
    for _, s in accumulates(infer(program).program.statements):
        for node in subexpressions(s.value):
            if isinstance(node, Apply) and node.operation == "/":
                found.update(expanded(f, makers) for f in _product(node.operands[1]))
    return frozenset(found)


def _product(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Apply("*", operands):
            for operand in operands:
                yield from _product(operand)
        case Apply("**", (base, _)):
            yield from _product(base)
        case _:
            yield expression
