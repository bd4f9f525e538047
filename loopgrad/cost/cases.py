"""What one iteration of a statement computes: operations, and what they read, case by case.

Conditions that read no tensor are decided when the graph is drawn: each way that they may come out is a
case. All other conditions are part of the graph, with both of their branches and a choice between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Read,
    Reduction,
)
from loopgrad.ir.walk import children, reads

Conditions = tuple[tuple[Expression, bool], ...]
Reach = tuple[tuple[Read | None, int], ...]

MOST_CASES = 64  # of one statement
FREE = frozenset({"stop_gradient"})  # operations that are none


class TooManyCases(Exception):
    """The conditions of one statement come out in more ways than are worth to be told apart."""


@dataclass(frozen=True)
class Case:
    """Where the conditions come out like this: `operations`, and how high above each read the result stands.

    `truth`: of a condition, True or False where it is decided, None where it is part of the graph. A reach
    of None is a number that is known when the graph is drawn.
    """

    conditions: Conditions = ()
    operations: int = 0
    reach: Reach = ()
    truth: bool | None = None

    def joined(self, other: Case) -> Case | None:
        """Both at once; None where they exclude each other."""
        known = dict(self.conditions)
        for condition, truth in other.conditions:
            if known.setdefault(condition, truth) != truth:
                return None
        operations = self.operations + other.operations
        return Case(tuple(known.items()), operations, _highest((*self.reach, *other.reach)), None)

    def raised(self, operations: int = 1) -> Case:
        """With one operation more, of all that it reads."""
        reach = tuple((read, height + operations) for read, height in self.reach)
        return replace(self, operations=self.operations + operations, reach=reach)


def is_static(expression: Expression) -> bool:
    """Whether its value is known when the graph is drawn: it reads no tensor."""
    return not any(reads(expression))


def leaves(statement: Accumulate) -> list[Case]:
    """The cases in which an iteration adds a value to its target, which it takes the case to compute.

    The operation of the statement itself is not among those.
    """
    found = []
    subscripts = product([Case()], *map(value, statement.target.subscripts))
    guards = [Case(truth=True)] if statement.guard is None else truth(statement.guard)
    for guard in guards:
        if guard.truth is False:
            continue
        for case in product([guard], value(statement.value), subscripts):
            found.append(case.raised() if guard.truth is None else case)
    return limited(found)


def operations_of(statement: Accumulate) -> int:
    """How many operations the statement itself is."""
    return int(statement.reduction is not Reduction.SET)


def value(e: Expression) -> list[Case]:
    """The cases of an expression's value."""
    if isinstance(e, Conditional):
        return limited(list(_conditional(e)))
    if is_static(e):
        return [Case(reach=((None, 0),))]
    if isinstance(e, Read):
        own = Case(reach=((e, 0),))
        return product([own], *(value(s) for s in e.subscripts if not is_static(s)))
    if isinstance(e, Compare) or (isinstance(e, Apply) and e.operation in ("and", "or", "not")):
        return [replace(c, truth=None, reach=c.reach or ((None, 0),)) for c in truth(e)]
    assert isinstance(e, Apply)
    cases = product(*map(value, children(e)))
    return cases if e.operation in FREE else [c.raised() for c in cases]


def _conditional(e: Conditional) -> Iterator[Case]:
    for condition in truth(e.condition):
        if condition.truth is not None:
            yield from product([condition], value(e.then if condition.truth else e.otherwise))
        else:
            both = product([condition], value(e.then), value(e.otherwise))
            yield from (c.raised() for c in both)


def truth(e: Expression) -> list[Case]:
    """The cases of a condition."""
    if is_static(e):
        return [Case(((e, True),), truth=True), Case(((e, False),), truth=False)]
    match e:
        case Apply("and" | "or" as operation, (left, right)):
            return _both(truth(left), truth(right), decides=operation == "or")
        case Apply("not", (operand,)):
            return [
                c.raised() if c.truth is None else replace(c, truth=not c.truth)
                for c in truth(operand)
            ]
        case Compare(operators, operands):
            links = [
                Compare((o,), (x, y))
                for o, x, y in zip(operators, operands, operands[1:], strict=False)
            ]
            if len(links) == 1:
                return [c.raised() for c in product(*map(value, operands))]
            found = truth(links[0])
            for link in links[1:]:
                found = _both(found, truth(link), decides=False)
            return found
    return value(e)


def _both(left: list[Case], right: list[Case], decides: bool) -> list[Case]:
    """`and`, or `or`: one operand that comes out as `decides` decides."""
    found = []
    for one in left:
        if one.truth is decides:
            found.append(one)
            continue
        for other in right:
            joined = one.joined(other)
            if joined is None:
                continue
            if other.truth is decides:
                found.append(Case(joined.conditions, truth=decides))
            elif one.truth is not None or other.truth is not None:
                kept = other if one.truth is not None else one
                found.append(replace(kept, conditions=joined.conditions))
            else:
                found.append(joined.raised())
    return limited(found)


def product(*parts: Sequence[Case]) -> list[Case]:
    """One case of each at once, in all ways that do not exclude each other."""
    found: list[Case] = [Case()]
    for part in parts:
        joined = (one.joined(other) for one in found for other in part)
        found = limited([case for case in joined if case is not None])
    return found


def limited(cases: list[Case]) -> list[Case]:
    if len(cases) > MOST_CASES:
        raise TooManyCases
    return cases


def _highest(reach: Iterable[tuple[Read | None, int]]) -> Reach:
    highest: dict[Read | None, int] = {}
    for read, height in reach:
        highest[read] = max(height, highest.get(read, 0))
    return tuple(highest.items())
