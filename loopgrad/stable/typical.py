"""Whether small sizes and ordinary numbers show all that a program makes of an input.

What becomes of the results when a constant is taken off an input is found out by running the program. That
tells of all sizes and all numbers only where nothing hangs on a number that runs do not come near
(`if b == 7`, `if b < k`), the input is not put in order but among data (`if x[b] > 50`), and no function is
flat wherever runs come (`erf(x[b] - 50)`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import chain
from math import inf

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Number,
    Reduction,
)
from loopgrad.ir.walk import (
    accumulates,
    statement_expressions,
    statement_reads,
    subexpressions,
    tensors_in,
)
from loopgrad.simplify.algebra.integers import linear

LARGEST = 3  # the numbers in a bound, a subscript, or one side of a comparison, together
ORDERING = frozenset("max min relu abs sign floor // %".split())
EXTREMA = (Reduction.MAXIMUM, Reduction.MINIMUM)
FLAT = frozenset("exp expm1 sigmoid softplus tanh erf".split())  # all but constant some way from 0
NEVER = 1e4  # of numbers beyond it, that stand in place of others, these functions make 0, 1 or infinity


def is_typical(facts: Facts, tensor: str) -> bool:
    """Whether runs at small sizes, with ordinary numbers, say what a constant taken off the tensor does.

    >>> import loopgrad as lg
    >>> from loopgrad.analysis.infer import infer
    >>> from loopgrad.stable.typical import is_typical
    >>> text = "f(x[B,J]) -> y[J]:\\n    for b, j:  y[j] += x[b,j]   if b > "
    >>> [is_typical(infer(lg.program(text + number)), "x") for number in ("0", "7")]
    [True, False]
    """
    moving, far = _made_of(facts, {tensor}), _made_of(facts, _with_far_numbers(facts))
    away = _made_of(facts, _with_far_offsets(facts))
    return all(
        all(map(_is_near, (*_steering(blocks, statement), *chain(*_ordered(statement)))))
        and not any(_with_numbers(o, moving, far) for o in _ordered(statement))
        and not any(_is_flat(a, moving, away) for a in _arguments(statement))
        for blocks, statement in accumulates(facts.program.statements)
    )


def _with_numbers(ordered: Sequence[Expression], moving: Set[str], far: Set[str]) -> bool:
    """Is what is made of the tensor put in order with numbers, or with what is made of some?

    Data that are put in order among themselves, as `s[b,j] == m[b]` for the largest of a row, runs show.
    """
    tensors = frozenset[str]().union(*map(tensors_in, ordered))
    if not tensors & moving:
        return False
    nodes = (node for e in ordered for node in subexpressions(e))
    return bool(tensors & far) or any(isinstance(n, Number | Constant) for n in nodes)


def _with_far_numbers(facts: Facts) -> frozenset[str]:
    """The tensors with such a number in a statement."""
    return frozenset(
        statement.target.tensor
        for _, statement in accumulates(facts.program.statements)
        if not _is_near(statement.value)
    )


def _is_flat(argument: Expression, moving: Set[str], away: Set[str]) -> bool:
    """Is what is made of the tensor far from 0 in it, or beside something else, on all ordinary inputs?"""
    tensors = tensors_in(argument)
    return bool(tensors & moving) and (bool(tensors & away) or _has_far_offset(argument))


def _arguments(statement: Accumulate) -> Iterator[Expression]:
    """Of functions that are flat far from 0."""
    for expression in statement_expressions(statement):
        for node in subexpressions(expression):
            if isinstance(node, Apply) and node.operation in FLAT:
                yield node.operands[0]


def _with_far_offsets(facts: Facts) -> frozenset[str]:
    """The tensors to which such a number is added."""
    return frozenset(
        statement.target.tensor
        for _, statement in accumulates(facts.program.statements)
        if _has_far_offset(statement.value)
    )


def _has_far_offset(expression: Expression) -> bool:
    return any(offset > LARGEST for offset in _offsets(expression))


def _offsets(expression: Expression) -> Iterator[float]:
    """The numbers that are added to what the expression is made of, or stand in its place."""
    match expression:
        case Apply("+" | "-" | "neg", operands):
            for operand in operands:
                yield from _offsets(operand)
        case Apply("*" | "/", operands) if tensors_in(expression):
            for operand in operands:
                if tensors_in(operand):
                    yield from _offsets(operand)
        case Conditional(_, then, otherwise):
            for branch in (then, otherwise):
                yield from (offset for offset in _offsets(branch) if offset < NEVER)
        case Apply() | Number() | Constant() if not tensors_in(expression):
            for node in subexpressions(expression):
                if isinstance(node, Number):
                    yield abs(node.value)
                if isinstance(node, Constant):  # which calls say
                    yield LARGEST + 1


def _made_of(facts: Facts, tensors: Set[str]) -> frozenset[str]:
    """The tensors, and all that is computed of them."""
    found = set(tensors)
    while True:
        more = {
            statement.target.tensor
            for _, statement in accumulates(facts.program.statements)
            if any(r.tensor in found for r in statement_reads(statement))
        }
        if more <= found:
            return frozenset(found)
        found |= more


def _steering(blocks: Sequence[Block], statement: Accumulate) -> Iterator[Expression]:
    """What says how often the statement runs, and where it reads and writes. Loops over so many are run
    through whatever the sizes are."""
    for r in (*(r for block in blocks for r in block.ranges), *statement.ranges):
        if not (isinstance(r.lower, Number) and isinstance(r.upper, Number)):
            yield from (e for e in (r.lower, r.upper) if e is not None)
    for read in (statement.target, *statement_reads(statement)):
        yield from read.subscripts


def _ordered(statement: Accumulate) -> Iterator[tuple[Expression, ...]]:
    """What the statement puts in order together; `relu(x)` and the like with a number."""
    for expression in statement_expressions(statement):
        for node in subexpressions(expression):
            match node:
                case Compare(_, operands):
                    yield operands
                case Apply(operation, operands) if operation in ORDERING:
                    yield operands if len(operands) > 1 else (*operands, Number(0))
    if statement.reduction in EXTREMA:
        yield (statement.value,)


def _is_near(expression: Expression) -> bool:
    """Is it made of numbers that runs come near? What a constant of the header is, calls say."""
    far = 0.0
    for part, multiple in linear(expression).items():
        nodes = list(subexpressions(part))
        if any(isinstance(node, Constant) for node in nodes):
            return False
        numbers = [abs(n.value) for n in nodes if isinstance(n, Number) and abs(n.value) < inf]
        far += abs(multiple) - 1 + sum(numbers)
    return far <= LARGEST
