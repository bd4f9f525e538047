"""What a block computes anew at each turn, though it is the same each time: computed before it.

    for t:
        for b, j:  h[t,b,j] += exp(A[j]) * x[t,b,j]

calls `exp` for every t and b; `e[j] += exp(A[j])` before the block leaves one for every j. A temporary
whose value does not hang on the block's index loses that axis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Index,
    Local,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    bounds,
    fresh_name,
    indices_of,
    map_statement,
    rebuild,
    statement_reads,
    subexpressions,
)
from loopgrad.simplify.searching.cost import cost_of
from loopgrad.simplify.searching.sharing import Sharing, always, costly, of_turns, whole

MOST = 24  # statements that are moved before one block


@dataclass
class _Program:
    """The locals as they are now, and the names that are in use."""

    locals: list[Local]
    taken: set[str]
    readers: Counter[str]  # how often each tensor is read


def before_blocks(
    statements: Sequence[Statement], locals: Sequence[Local], taken: set[str]
) -> Sharing:
    """The statements with what does not hang on a block's turn before the block."""
    readers = Counter(r.tensor for s in all_statements(statements) for r in statement_reads(s))
    program = _Program(list(locals), taken, readers)
    return Sharing(tuple(_lifted(list(statements), (), program)), tuple(program.locals))


def _lifted(body: list[Statement], outer: tuple[Range, ...], program: _Program) -> list[Statement]:
    """The statements of one block, under the ranges of all around it, those inside done first."""
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Block):
            ranges = (*outer, *statement.ranges)
            inside = _lifted(list(statement.body), ranges, program)
            block = replace(statement, body=tuple(inside))
            for _ in range(MOST):
                moved = _first(block, outer, program)
                if moved is None:
                    break
                before, block = moved
                found.append(before)
            statement = block
        found.append(statement)
    return found


def _first(
    block: Block, outer: tuple[Range, ...], program: _Program
) -> tuple[Accumulate, Block] | None:
    """One statement to stand before the block, and the block without it."""
    written = {s.target.tensor for _, s in accumulates(block.body)}
    turns = {r.index for r in block.ranges}
    for at, statement in enumerate(block.body):
        if isinstance(statement, Accumulate):
            moved = _temporary(block, at, statement, written, turns, program)
            if moved is not None:
                return moved
    for statement in block.body:
        if isinstance(statement, Accumulate) and of_turns(statement.guard, (*outer, *block.ranges)):
            for node in always(statement.value):
                if costly(node) and _constant([node], written, turns):
                    moved = _named(block, node, statement, outer, program)
                    if moved is not None:
                        return moved
    return None


def _constant(
    expressions: Iterable[Expression], written: Collection[str], turns: Collection[str]
) -> bool:
    """Is their value, in plain reads of what is complete, the same at each turn?"""
    return not any(
        (isinstance(node, Index) and node.name in turns)
        or (
            isinstance(node, Read)
            and (node.tensor in written or not all(isinstance(s, Index) for s in node.subscripts))
        )
        for expression in expressions
        for node in subexpressions(expression)
    )


# ------------------------------------------------------------------------------- a whole statement


def _temporary(
    block: Block,
    at: int,
    statement: Accumulate,
    written: Collection[str],
    turns: set[str],
    program: _Program,
) -> tuple[Accumulate, Block] | None:
    """The statement of a temporary that has each turn's index and nothing that hangs on it."""
    target = statement.target
    local = next((x for x in program.locals if x.name == target.tensor), None)
    writers = [s for _, s in accumulates(block.body) if s.target.tensor == target.tensor]
    axes = [k for k, s in enumerate(target.subscripts) if _names(s, turns)]
    if local is None or len(writers) > 1 or statement.guard is not None or len(axes) != len(turns):
        return None
    others = [s for k, s in enumerate(target.subscripts) if k not in axes]
    if not _constant([statement.value, *bounds(statement.ranges), *others], written, turns):
        return None
    key = [target.subscripts[k] for k in axes]
    readers = [r for s in all_statements(block.body) for r in statement_reads(s)]
    readers = [r for r in readers if r.tensor == local.name]
    if len(readers) < program.readers[local.name]:
        return None  # it is read elsewhere too
    if any([r.subscripts[k] for k in axes] != key for r in readers):
        return None

    def shorter(read: Read) -> Read:
        return replace(read, subscripts=_without(read.subscripts, axes))

    def change(node: Expression) -> Expression:
        node = rebuild(node, change)
        return shorter(node) if isinstance(node, Read) and node.tensor == local.name else node

    rest = [s for k, s in enumerate(block.body) if k != at]
    body = tuple(map_statement(s, change) for s in rest)
    place = program.locals.index(local)
    program.locals[place] = replace(local, extents=_without(local.extents, axes))
    return replace(statement, target=shorter(target)), replace(block, body=body)


def _names(subscript: Expression, turns: Collection[str]) -> bool:
    return isinstance(subscript, Index) and subscript.name in turns


def _without(parts: Sequence[Expression], axes: Collection[int]) -> tuple[Expression, ...]:
    return tuple(p for k, p in enumerate(parts) if k not in axes)


# ------------------------------------------------------------------------------------ an expression


def _named(
    block: Block,
    node: Expression,
    statement: Accumulate,
    outer: tuple[Range, ...],
    program: _Program,
) -> tuple[Accumulate, Block] | None:
    """The expression in a tensor of its own, where that costs less."""
    inner = tuple(r for r in statement.ranges if r.index in indices_of(node))
    if not all(whole(r, around=False) for r in inner):
        return None
    ranges = (*outer, *inner)
    name = fresh_name("e", program.taken)
    read = Read(name, tuple(Index(r.index) for r in ranges))
    computed = Accumulate(read, Reduction.ADD, node, inner)

    def change(other: Expression) -> Expression:
        return read if other == node else rebuild(other, change)

    body = tuple(
        replace(s, value=change(s.value))
        if isinstance(s, Accumulate) and _same_loops(s.ranges, inner)
        else s
        for s in block.body
    )
    after = replace(block, body=body)
    temporaries = {x.name for x in program.locals}
    cost = cost_of([computed, after], temporaries | {name}, outer).value
    if cost >= cost_of([block], temporaries, outer).value:
        return None
    extents = tuple(r.upper for r in ranges if r.upper is not None)
    program.taken.add(name)
    program.locals.append(Local(name, extents))
    return computed, after


def _same_loops(ranges: Sequence[Range], inner: Sequence[Range]) -> bool:
    """Do the indices mean the same in a statement with these ranges?"""
    known = {r.index: (r.lower, r.upper) for r in ranges}
    return all(known.get(r.index) == (r.lower, r.upper) for r in inner)
