"""Factors that may vanish (`factors.py`) as tensors of their own, before the algebra sees the program.

It does not multiply out what it cannot see; what reads such a tensor in the end has its value back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Index,
    Local,
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
)
from loopgrad.simplify.algebra.complements import negated, with_complements
from loopgrad.simplify.searching.factors import (
    Factor,
    Wanted,
    factors_of,
    is_elementwise,
    is_value,
    makers_of,
    sums_of,
    with_value,
)


@dataclass(frozen=True)
class Apart:
    """A program in which factors are tensors.

    made: the tensors made for them. kept: these, and tensors of the program that are such factors.
    """

    program: Program
    made: frozenset[str]
    kept: frozenset[str]


def factors_apart(program: Program, forward: Program | None, wanted: Wanted) -> Apart:
    """The program with its factors that are wanted as tensors of their own."""
    facts = infer(program)
    own = facts.program
    makers = makers_of(own, forward)
    taken, made = names_in(own), dict[str, Local]()

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
            for factor in factors_of(statement, around):
                if factor.value in here or not wanted.admits(factor.value, makers):
                    continue
                place = _place(facts, factor, statement, around)
                if place is None or (is_value(statement) and statement.value == factor.value):
                    continue
                ranges, extents = place
                name = fresh_name("d", taken)
                taken.add(name)
                made[name] = Local(name, extents)
                here[factor.value] = Read(name, tuple(Index(r.index) for r in ranges))
                turns = {r.index for r in around}
                inner = tuple(r for r in ranges if r.index not in turns)
                found.append(Accumulate(here[factor.value], Reduction.ADD, factor.value, inner))
            found.append(replace(statement, value=_with(statement.value, here)))
        return found

    statements = tuple(parted(own.statements, ()))
    locals = (*own.locals, *made.values())
    changed = replace(own, statements=statements, locals=locals, primal=program.primal)
    names = frozenset(made)
    sums = {name for name, value in sums_of(own).items() if wanted.admits(value, makers)}
    return Apart(changed, names, names | sums)


def _place(
    facts: Facts, factor: Factor, statement: Accumulate, around: Sequence[Range]
) -> tuple[list[Range], tuple[Expression, ...]] | None:
    """The loops and the extents of a tensor for the factor; None where it cannot be computed for all values
    of its indices, under no condition."""
    ranges = {r.index: r for r in (*around, *statement.ranges)}
    turns = [r.index for r in around]
    needed = [i for i in ranges if i in turns or i in indices_of(factor.value)]
    if not factor.conditional and statement.guard is None:
        uppers = [_upper(ranges[i]) for i in needed]
        if all(u is not None for u in uppers):
            return [ranges[i] for i in needed], tuple(u for u in uppers if u is not None)
    axes: dict[str, Expression] = {}
    for read in reads(factor.value):
        for subscript, extent in zip(
            read.subscripts, facts.tensors[read.tensor].extents, strict=True
        ):
            if not isinstance(subscript, Index):
                return None
            axes[subscript.name] = extent
    for i in needed:
        upper = _upper(ranges[i])
        if i in turns and upper is None:
            return None
        if upper is not None:
            axes.setdefault(i, upper)
    if not axes.keys() >= set(needed):
        return None
    whole = [ranges[i] if i in turns else Range(i, ZERO, axes[i]) for i in needed]
    return whole, tuple(axes[i] for i in needed)


def _upper(r: Range) -> Expression | None:
    """Where the range starts at 0, and ends at what no index and no tensor says."""
    assert r.upper is not None
    plain = r.lower == ZERO and not indices_of(r.upper) and not any(reads(r.upper))
    return r.upper if plain else None


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
        if len(makers) != 1 or not is_elementwise(makers[0]):
            continue
        value = with_complements(makers[0].value)
        if makers[0].reduction is Reduction.SUBTRACT:
            value = negated(value)
        maker = replace(makers[0], value=value)
        statements = _without(statements, maker)
        locals = [local for local in locals if local.name != name]
    return list(statements), list(locals)


def _without(statements: Sequence[Statement], maker: Accumulate) -> list[Statement]:
    name = maker.target.tensor
    found: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Accumulate) and statement.target.tensor == name:
            continue
        if isinstance(statement, Block):
            body = tuple(_without(statement.body, maker))
            found.append(replace(statement, body=body))
        elif any(r.tensor == name for r in statement_reads(statement)):
            found.append(map_statement(statement, lambda e: with_value(e, maker)))
        else:
            found.append(statement)
    return found
