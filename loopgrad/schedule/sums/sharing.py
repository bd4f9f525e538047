"""Values that are computed once, where the lines as written compute them again and again.

Common: `exp(s[b,j] - m[b])` in two lines of a nest becomes a row `e[b,j]` (or a register) of its own.
Hoisted: `rsqrt(v[j] + eps)` in a loop over b and j becomes a line over j.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from loopgrad.ir import walk
from loopgrad.ir.memo import by_identity
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.context import Context
from loopgrad.schedule.costs import cost, operation_cost
from loopgrad.schedule.limits import is_there_always
from loopgrad.schedule.lines import Line, Tensors, reads_whole_axes

WORTH_A_ROW, WORTH_A_LINE = 8, 4


# -------------------------------------------------------------------------------------- common


def common(lines: Sequence[Line], index: str, context: Context) -> tuple[Line, ...]:
    """The lines of one nest over the index, with what several compute in a line of its own."""
    current = list(lines)
    while context.choices.share:
        expression, having = _repeated(current, index, context)
        if expression is None or having is None:
            return tuple(current)
        current = _named(current, expression, having, "e", context)
    return tuple(current)


def _repeated(
    lines: Sequence[Line], index: str, context: Context
) -> tuple[Expression | None, Line | None]:
    """The dearest expression that several lines compute, and one that computes it always."""
    owners: dict[Expression, list[tuple[int, bool]]] = {}
    for i, line in enumerate(lines):
        for expression, always in _worth_a_row(line.statement):
            owners.setdefault(expression, []).append((i, always))
    best: tuple[int, Expression, Line] | None = None
    for expression, places in owners.items():
        having = {i for i, _ in places}
        if len(having) < 2 or not context.is_floating(expression):
            continue
        sure = [i for i, always in places if always] or [
            i for i in having if _is_harmless(expression, lines[i], context.tensors)
        ]
        if not sure:
            continue
        line = lines[sure[0]]
        indices = walk.indices_of(expression)
        if index not in indices or extents_of(expression, line, context.tensors) is None:
            continue
        if best is None or cost(expression) > best[0]:
            best = cost(expression), expression, line
    return (None, None) if best is None else best[1:]


def _is_harmless(expression: Expression, line: Line, tensors: Tensors) -> bool:
    """May it be computed where the conditions fail that it stands under, which is seldom, as all is there?"""
    seldom = not is_sparse(line.statement.guard, tensors)
    return seldom and is_there_always(expression, line, tensors)


def is_sparse(guard: Expression | None, tensors: Tensors) -> bool:
    """Does it hold for one value of many? Those alone are worth computing then.

    So it is of what is equal to an index, or to a winner, `x[b,j] == m[b]`; not of what is in one class with
    another, `doc[t] == doc[u]`.
    """
    return any(_picks(condition, tensors) for condition in walk.conjuncts(guard))


def _picks(condition: Expression, tensors: Tensors) -> bool:
    match condition:
        case Compare(operators, (Read(one), Read(other))) if "==" in operators:
            whole = all(tensors[t].element is ElementType.INT for t in (one, other))
            return one != other and not whole
        case Compare(operators, _):
            return "==" in operators
    return False


@by_identity
def _worth_a_row(statement: Accumulate) -> list[tuple[Expression, bool]]:
    return [
        (expression, always)
        for expression, always in parts(statement)
        if isinstance(expression, Apply) and operation_cost(expression.operation) >= WORTH_A_ROW
    ]


def dear_parts(statement: Accumulate) -> Iterator[Expression]:
    """Those that are worth a row of their own where several lines compute them."""
    return (expression for expression, _ in _worth_a_row(statement))


@by_identity
def _contained(statement: Accumulate) -> frozenset[Expression]:
    return frozenset(
        node for e in walk.statement_expressions(statement) for node in walk.subexpressions(e)
    )


def _named(
    lines: Sequence[Line], expression: Expression, like: Line, wanted: str, context: Context
) -> list[Line]:
    """The lines with a temporary for the expression, which a line before its first use computes."""
    extents = extents_of(expression, like, context.tensors)
    assert extents is not None
    indices = tuple(i for i in like.indices if i in walk.indices_of(expression))
    name = context.temporary(wanted, tuple(extents[i] for i in indices))
    read = Read(name, tuple(map(Index, indices)))
    ranges = tuple(Range(i, *like.bounds[i]) for i in indices)
    definition = Line(Accumulate(read, Reduction.SET, expression, ranges), first=True)

    def changed(e: Expression) -> Expression:
        return read if e == expression else walk.rebuild(e, changed)

    result: list[Line] = []
    for line in lines:
        if expression not in _contained(line.statement):
            result.append(line)
            continue
        statement = walk.map_statement(line.statement, changed)
        assert isinstance(statement, Accumulate)
        if definition not in result:
            result.insert(_early(definition, result) if wanted == "h" else len(result), definition)
        sides = line.roles
        if sides is not None:
            sides = replace(sides, left=changed(sides.left), right=changed(sides.right))
        result.append(replace(line, statement=statement, roles=sides))
    return result


def _early(definition: Line, lines: Sequence[Line]) -> int:
    """The first place behind all that it reads: there its loop parts no others that could share one."""
    needed = {one.tensor for one in definition.read}
    behind = [i for i, line in enumerate(lines) if line.written.tensor in needed]
    return behind[-1] + 1 if behind else 0


def parts(statement: Accumulate) -> Iterator[tuple[Expression, bool]]:
    """The expressions in the value and the guard, each with whether it is always evaluated."""

    def inside(expression: Expression, always: bool) -> Iterator[tuple[Expression, bool]]:
        yield expression, always
        match expression:
            case Conditional(condition, then, otherwise):
                yield from inside(condition, always)
                yield from inside(then, False)
                yield from inside(otherwise, False)
            case Apply("and" | "or", (left, right)):
                yield from inside(left, always)
                yield from inside(right, False)
            case Compare(_, operands) if len(operands) > 2:
                for operand in operands:
                    yield from inside(operand, False)
            case Read():
                return  # what stands in subscripts is integer
            case _:
                for child in walk.children(expression):
                    yield from inside(child, always)

    guard = statement.guard
    if guard is not None:
        yield from inside(guard, True)
    yield from inside(statement.value, guard is None)


def extents_of(
    expression: Expression, line: Line, tensors: Tensors
) -> dict[str, Expression] | None:
    """The extent of a temporary's axis for each of its indices; None where it cannot have one."""
    indices = walk.indices_of(expression)
    if any(read in line.unproved for read in walk.reads(expression)):
        return None
    if any(not line.bound_by[i] <= indices for i in indices if i in line.bound_by):
        return None
    found: dict[str, Expression] = {}
    for index in indices & set(line.bounds):
        lower, upper = line.bounds[index]
        if lower == Number(0) and not walk.indices_of(upper) and not list(walk.reads(upper)):
            found[index] = upper
    for read in walk.reads(expression):
        for subscript, extent in zip(read.subscripts, tensors[read.tensor].extents, strict=True):
            if isinstance(subscript, Index):
                found.setdefault(subscript.name, extent)
    return found if indices <= set(found) and indices <= set(line.indices) else None


# ------------------------------------------------------------------------------------- hoisted


def hoisted(lines: Iterable[Line], context: Context) -> tuple[Line, ...]:
    """The lines, with what hangs on some of their indices only in lines of its own.

    What is the same in the innermost loop need not be: there it is computed once anyway.
    """
    current = list(lines)
    if not context.choices.share:
        return tuple(current)
    place = 0
    while place < len(current):
        line = current[place]
        expression = _loose(line, context)
        if expression is None:
            place += 1
            continue
        before, current = current, _named(current, expression, line, "h", context)
        # What is new may have such parts as well.
        pairs = zip(before, current, strict=False)
        place = next(i for i, (old, new) in enumerate(pairs) if old is not new)
    return tuple(current)


def out_of_block(
    lines: Sequence[Line], depth: int, context: Context
) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """What can be computed before a block, as lines, and the block's own lines.

    depth: how many of a line's first indices are the block's.
    """
    order = {index for line in lines for index in line.indices[:depth]}
    written = {line.written.tensor for line in lines}
    before: list[Line] = []
    rest: list[Line] = []
    for line in hoisted(lines, context):
        if line.written.tensor in written:
            rest.append(line)
        elif order & set(line.indices) or any(one.tensor in written for one in line.read):
            return (), tuple(lines)
        else:
            before.append(line)
    return tuple(before), tuple(rest)


def _loose(line: Line, context: Context) -> Expression | None:
    """A dear expression over some of the line's indices, the innermost in memory among them."""
    along = frozenset().union(*(one.along for one in (line.written, *line.read)))
    for expression, _ in parts(line.statement):
        if not isinstance(expression, Apply) or cost(expression) < WORTH_A_LINE:
            continue
        indices = walk.indices_of(expression)
        if not indices & along or not indices < set(line.indices):
            continue
        whole = _is_whole(expression, line, context.tensors)
        if whole and context.is_floating(expression):
            return expression
    return None


def _is_whole(expression: Expression, line: Line, tensors: Tensors) -> bool:
    """May it be computed where other loops run not at all: do its reads go over whole axes?"""
    if extents_of(expression, line, tensors) is None:
        return False
    return reads_whole_axes(expression, line, tensors)
