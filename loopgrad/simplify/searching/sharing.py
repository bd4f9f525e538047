"""Expressions that several places compute: once, into a tensor that they read.

    y.grad[n] * (sigmoid(x[n]) + x[n] * sigmoid(x[n]) * (1 - sigmoid(x[n])))

calls `sigmoid` three times for each n; `e[n] += sigmoid(x[n])` before it leaves one. An element-wise
tensor that is computed anyway (`p[b,j] += exp(s[b,j]) / Z[b]`) is read in the same way. What is shared is
decided by cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Conditional,
    Expression,
    Index,
    Local,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import (
    ZERO,
    accumulates,
    children,
    fresh_name,
    indices_of,
    reads,
    rebuild,
    subexpressions,
    substitute,
)
from loopgrad.simplify.searching.cost import TRANSCENDENTAL, cost_of

MOST = 24  # tensors that are made
LEAST = 0.02  # of what the statements cost is saved, or they stay as they are
COSTLY = TRANSCENDENTAL | {"/", "sqrt", "rsqrt"}


@dataclass(frozen=True)
class Sharing:
    """The statements, with the tensors that were made for what they share."""

    statements: tuple[Statement, ...]
    locals: tuple[Local, ...] = ()


@dataclass(frozen=True)
class Place:
    """An expression in the statement at a position; `indices` in the order of its canonical text."""

    at: int
    key: str
    indices: tuple[str, ...]
    expression: Expression
    guard: Expression | None = None  # a condition on the turn of the blocks
    always: bool = True  # is it evaluated whenever its statement runs?


def share(
    statements: Sequence[Statement],
    temporaries: Collection[str],
    taken: set[str],
    lengths: frozenset[str] = frozenset(),
) -> Sharing:
    """Costly expressions that occur more than once into tensors, where that costs less.

    temporaries: the computed tensors that are no results. taken: names in use; new ones are added.
    lengths: extents with triangular loops.
    """
    writers = Counter(s.target.tensor for _, s in accumulates(statements))
    return _region(list(statements), (), writers, set(temporaries), taken, lengths)


def _region(
    statements: list[Statement],
    outer: tuple[Range, ...],
    writers: Mapping[str, int],
    temporaries: set[str],
    taken: set[str],
    lengths: frozenset[str],
) -> Sharing:
    """What the statements of one block share, under its ranges and those of the blocks around it."""
    locals: list[Local] = []
    for at, statement in enumerate(statements):
        if isinstance(statement, Block):
            ranges = (*outer, *statement.ranges)
            inside = _region(list(statement.body), ranges, writers, temporaries, taken, lengths)
            locals += inside.locals
            statements[at] = replace(statement, body=inside.statements)
    for _ in range(MOST):
        best = _best(statements, outer, writers, temporaries, taken, lengths)
        if best is None:
            break
        statements, local = best
        if local is not None:
            locals.append(local)
            temporaries.add(local.name)
            taken.add(local.name)
    return Sharing(tuple(statements), tuple(locals))


def _best(
    statements: list[Statement],
    outer: tuple[Range, ...],
    writers: Mapping[str, int],
    temporaries: set[str],
    taken: set[str],
    lengths: frozenset[str],
) -> tuple[list[Statement], Local | None] | None:
    """The replacement that saves most, if one does."""
    groups: dict[str, list[Place]] = {}
    for place in _places(statements, outer):
        groups.setdefault(place.key, []).append(place)
    before = cost_of(statements, temporaries, lengths=lengths).value
    best: tuple[float, str, list[Statement], Local | None] | None = None
    for key in sorted(groups):
        places = _from_first_always(groups[key])
        if len(places) < 2:
            continue
        changed, local = _replacement(statements, outer, places, writers, taken)
        inner = temporaries | ({local.name} if local is not None else set())
        after = cost_of(changed, inner, lengths=lengths).value
        concerned = [statements[at] for at in sorted({p.at for p in groups[key]})]
        least = LEAST * cost_of(concerned, temporaries, lengths=lengths).value
        if before - after > least and (best is None or (after, key) < best[:2]):
            best = (after, key, changed, local)
    return None if best is None else best[2:]


def _replacement(
    statements: list[Statement],
    outer: tuple[Range, ...],
    places: list[Place],
    writers: Mapping[str, int],
    taken: set[str],
) -> tuple[list[Statement], Local | None]:
    """The statements with the expression read from a tensor, and that tensor if it is a new one."""
    first = places[0]
    statement = statements[first.at]
    assert isinstance(statement, Accumulate)
    inner = tuple(r for r in statement.ranges if r.index in first.indices)
    if _has_value(statement, first, (*outer, *inner), writers):
        order = [s.name for s in statement.target.subscripts if isinstance(s, Index)]
        later = [p for p in places if p.at > first.at]
        return _replaced(statements, later, statement.target.tensor, _positions(order, first)), None
    name = fresh_name("e", taken)
    order = [r.index for r in (*outer, *inner)]
    computed = Accumulate(
        Read(name, tuple(map(Index, order))),
        Reduction.ADD,
        first.expression,
        inner,
        first.guard,
    )
    changed = _replaced(statements, places, name, _positions(order, first))
    changed.insert(first.at, computed)
    extents = tuple(r.upper for r in (*outer, *inner) if r.upper is not None)
    return changed, Local(name, extents)


def _has_value(
    statement: Accumulate, place: Place, ranges: tuple[Range, ...], writers: Mapping[str, int]
) -> bool:
    """Does the statement, alone, give its target this value, element by element?"""
    plain = [s.name for s in statement.target.subscripts if isinstance(s, Index)]
    return (
        statement.value == place.expression
        and statement.reduction in (Reduction.ADD, Reduction.SET)
        and writers[statement.target.tensor] == 1
        and sorted(plain) == sorted(place.indices) == sorted(r.index for r in ranges)
        and len(plain) == len(statement.target.subscripts)
    )


def _positions(order: Sequence[str], place: Place) -> tuple[int, ...]:
    return tuple(map(place.indices.index, order))


def _replaced(
    statements: list[Statement], places: list[Place], name: str, order: tuple[int, ...]
) -> list[Statement]:
    """With a read of `name` in every place."""
    changed = list(statements)
    for at in sorted({p.at for p in places}):
        here = {p.expression: p for p in places if p.at == at}

        def change(node: Expression, here: Mapping[Expression, Place] = here) -> Expression:
            place = here.get(node)
            if place is not None:
                return Read(name, tuple(Index(place.indices[k]) for k in order))
            return rebuild(node, change)

        statement = changed[at]
        assert isinstance(statement, Accumulate)
        changed[at] = replace(statement, value=change(statement.value))
    return changed


# -------------------------------------------------------------------------------------------- places


def _places(statements: Sequence[Statement], outer: tuple[Range, ...]) -> Iterator[Place]:
    """Every costly expression over whole ranges, with repetitions."""
    for at, statement in enumerate(statements):
        if isinstance(statement, Accumulate):
            for node, always in _evaluated(statement.value, of_turns(statement.guard, outer)):
                place = _place(at, node, statement, outer, always)
                if place is not None:
                    yield place


def of_turns(guard: Expression | None, outer: tuple[Range, ...]) -> bool:
    """Is the guard a condition on the blocks' indices alone, if there is one?"""
    return guard is None or (
        indices_of(guard) <= {r.index for r in outer} and not any(reads(guard))
    )


def always(expression: Expression) -> Iterator[Expression]:
    """The subexpressions outside the branches of conditionals, which may not be evaluated."""
    return (node for node, evaluated in _evaluated(expression, True) if evaluated)


def _evaluated(expression: Expression, always: bool) -> Iterator[tuple[Expression, bool]]:
    """The subexpressions, and whether each is always evaluated: not those in branches."""
    yield expression, always
    always = always and not isinstance(expression, Conditional)
    for child in children(expression):
        yield from _evaluated(child, always)


def _from_first_always(places: list[Place]) -> list[Place]:
    """From the first place on that is always evaluated: there it can be computed for all."""
    first = next((p.at for p in places if p.always), None)
    return [p for p in places if first is not None and p.at >= first]


def _place(
    at: int, node: Expression, statement: Accumulate, outer: tuple[Range, ...], always: bool
) -> Place | None:
    if not isinstance(node, Apply) or not costly(node):
        return None
    indices = tuple(dict.fromkeys(n.name for n in subexpressions(node) if isinstance(n, Index)))
    ranges = {r.index: r for r in (*outer, *statement.ranges)}
    around = {r.index for r in outer}
    if not indices or not around <= set(indices) <= set(ranges):
        return None
    if not all(whole(ranges[i], i in around) for i in indices) or _gathers(node):
        return None
    # The indices of blocks keep their names: an element of another turn is another thing.
    own = [i for i in indices if i not in around]
    names = {index: Index(f"?{k}") for k, index in enumerate(own)}
    extents = ",".join(show_expression(ranges[i].upper, True) for i in own)  # type: ignore[arg-type]
    key = f"{show_expression(substitute(node, names))} over {extents}"
    guard = statement.guard if always else None
    if guard is not None:
        key += f" if {show_expression(guard)}"
    return Place(at, key, indices, node, guard, always)


def costly(node: Expression) -> bool:
    return any(isinstance(n, Apply) and n.operation in COSTLY for n in subexpressions(node))


def _gathers(node: Expression) -> bool:
    """Does it read where an index tensor says? Computed for more iterations, it might fail."""
    return any(any(reads(s)) for r in reads(node) for s in r.subscripts)


def whole(r: Range, around: bool) -> bool:
    """Does the range cover an axis? Of a block's index any part will do."""
    whole = r.upper is not None and not indices_of(r.upper) and not any(reads(r.upper))
    return whole and (around or r.lower == ZERO)
