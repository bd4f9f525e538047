"""Differences that vanish where a function saturates, such as `1 - tanh(x)**2`, kept as factors.

Multiplied out, `s * (1 - y**2)` is `s - s * y**2`: hoisted out of different sums, the two no longer cancel
where y is 1. So each such factor becomes a tensor before the algebra sees the program, and what reads it
in the end has it back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Expression,
    Extent,
    Index,
    Local,
    Number,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import (
    ZERO,
    accumulates,
    fresh_name,
    indices_of,
    map_statement,
    names_in,
    reads,
    rebuild,
    statement_reads,
    subexpressions,
    substitute,
)

SATURATING = frozenset(("tanh", "sigmoid", "erf", "exp"))


def factors_apart(program: Program, computed: Collection[str]) -> tuple[Program, frozenset[str]]:
    """The program with its factors that may vanish as tensors of their own, and the names of these.

    computed: tensors that the forward computes, which may be saturated where they are read.
    """
    own = infer(program).program
    taken, locals, made = names_in(own), list[Local](), dict[str, Local]()

    def parted(body: Sequence[Statement], around: tuple[Range, ...]) -> list[Statement]:
        found: list[Statement] = []
        here: dict[Expression, Read] = {}
        for statement in body:
            if isinstance(statement, Block):
                inside = parted(statement.body, (*around, *statement.ranges))
                found.append(replace(statement, body=tuple(inside)))
                continue
            if not isinstance(statement, Accumulate):
                found.append(statement)
                continue
            ranges = {r.index: r for r in (*around, *statement.ranges)}
            turns = [r.index for r in around]
            for factor in _factors(statement.value, computed):
                indices = [i for i in ranges if i in turns or i in indices_of(factor)]
                if factor in here or not _everywhere(factor, [ranges[i] for i in indices]):
                    continue
                name = fresh_name("d", taken)
                taken.add(name)
                uppers = [ranges[i].upper for i in indices]
                made[name] = Local(name, tuple(u for u in uppers if u is not None))
                here[factor] = Read(name, tuple(map(Index, indices)))
                own_ranges = tuple(ranges[i] for i in indices if i not in turns)
                found.append(Accumulate(here[factor], Reduction.ADD, factor, own_ranges))
            found.append(replace(statement, value=_with(statement.value, here)))
        return found

    statements = tuple(parted(own.statements, ()))
    locals += [*own.locals, *made.values()]
    changed = replace(own, statements=statements, locals=tuple(locals), primal=program.primal)
    return changed, frozenset(made)


def _factors(value: Expression, computed: Collection[str]) -> list[Expression]:
    """What the value multiplies by that may vanish."""
    found: dict[Expression, None] = {}
    for node in subexpressions(value):
        match node:
            case Apply("*", operands):
                found.update((o, None) for o in operands if _may_vanish(o, computed))
            case Apply("/", (above, _)) if _may_vanish(above, computed):
                found[above] = None
    return list(found)


def _may_vanish(factor: Expression, computed: Collection[str]) -> bool:
    match factor:
        case Apply("-", (Number(), taken)):
            return any(
                (isinstance(n, Apply) and n.operation in SATURATING)
                or (isinstance(n, Read) and n.tensor in computed)
                for n in subexpressions(taken)
            )
        case Apply("sigmoid", (Apply("neg"),)):  # 1 - sigmoid(x)
            return True
    return False


def _everywhere(factor: Expression, ranges: Sequence[Range]) -> bool:
    """Can it be computed for all values of the indices, under no condition?"""
    plain = all(isinstance(s, Index) for r in reads(factor) for s in r.subscripts)
    return plain and all(r.lower == ZERO and isinstance(r.upper, Extent) for r in ranges)


def _with(expression: Expression, replaced: Mapping[Expression, Read]) -> Expression:
    """The expression with the factors read from their tensors."""
    if expression in replaced:
        return replaced[expression]
    return rebuild(expression, lambda e: _with(e, replaced))


def put_back(
    statements: Sequence[Statement], locals: Sequence[Local], names: Collection[str]
) -> tuple[list[Statement], list[Local]]:
    """The statements with the values of these tensors in the place of their reads, where one statement
    makes them."""
    for name in sorted(names):
        makers = [s for _, s in accumulates(statements) if s.target.tensor == name]
        if len(makers) != 1 or not _is_value(makers[0]):
            continue
        statements = _without(statements, makers[0])
        locals = [local for local in locals if local.name != name]
    return list(statements), list(locals)


def _is_value(maker: Accumulate) -> bool:
    subscripts = [s.name for s in maker.target.subscripts if isinstance(s, Index)]
    plain = len(set(subscripts)) == len(maker.target.subscripts)
    alone = maker.guard is None and maker.reduction in (Reduction.ADD, Reduction.SET)
    return plain and alone and {r.index for r in maker.ranges} <= set(subscripts)


def _without(statements: Sequence[Statement], maker: Accumulate) -> list[Statement]:
    name = maker.target.tensor
    found: list[Statement] = []
    for statement in statements:
        if statement is maker:
            continue
        if isinstance(statement, Block):
            body = tuple(_without(statement.body, maker))
            found.append(replace(statement, body=body))
        elif any(r.tensor == name for r in statement_reads(statement)):
            found.append(map_statement(statement, lambda e: with_value(e, maker)))
        else:
            found.append(statement)
    return found


def with_value(expression: Expression, maker: Accumulate) -> Expression:
    """The expression with the value that the statement makes in the place of reads of its target."""
    new = rebuild(expression, lambda e: with_value(e, maker))
    if isinstance(new, Read) and new.tensor == maker.target.tensor:
        axes = [s.name for s in maker.target.subscripts if isinstance(s, Index)]
        return substitute(maker.value, dict(zip(axes, new.subscripts, strict=True)))
    return new
