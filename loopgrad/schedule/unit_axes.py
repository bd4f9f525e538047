"""Last axes of one element: without them, memory lies along the axis before.

`y[m,0] += A[k,m] * x[k,0]` goes over `y` element by element, though its last subscript says nothing of m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Block, Expression, Input, Program, Read, Statement

Extents = Mapping[str, Sequence[Expression]]


def without_unit_axes(program: Program, extents: Extents) -> Program:
    """The program without last axes that have one element and that all reads and targets subscript by 0.

    extents: of all tensors. An axis stays to each.
    """
    ranks = {name: _rank(own) for name, own in extents.items()}
    for statement in walk.all_statements(program.statements):
        for read in _reads(statement):
            if read.tensor in ranks:
                used = len(read.subscripts) - _zeros(read.subscripts)
                ranks[read.tensor] = max(ranks[read.tensor], used)
    ranks = {name: rank for name, rank in ranks.items() if rank < len(extents[name])}
    if not ranks:
        return program

    def cut(one: Any) -> Any:
        return replace(one, extents=one.extents[: ranks.get(one.name, len(one.extents))])

    return replace(
        program,
        arguments=tuple(cut(a) if isinstance(a, Input) else a for a in program.arguments),
        results=tuple(map(cut, program.results)),
        locals=tuple(map(cut, program.locals)),
        statements=tuple(_with_ranks(s, ranks) for s in program.statements),
    )


def _rank(extents: Sequence[Expression]) -> int:
    rank = len(extents)
    while rank > 1 and extents[rank - 1] == walk.ONE:
        rank -= 1
    return rank


def _zeros(subscripts: Sequence[Expression]) -> int:
    """How many of the last ones are 0."""
    return next((i for i, s in enumerate(reversed(subscripts)) if s != walk.ZERO), len(subscripts))


def _reads(statement: Statement) -> Sequence[Read]:
    target = (statement.target,) if isinstance(statement, Accumulate) else ()
    return (*target, *walk.statement_reads(statement))


def _with_ranks(statement: Statement, ranks: Mapping[str, int]) -> Statement:

    def change(e: Expression) -> Any:
        return _cut(e, ranks)

    match statement:
        case Block(ranges=ranges, body=body):
            return replace(
                statement,
                ranges=tuple(walk.rebuild_range(r, change) for r in ranges),
                body=tuple(_with_ranks(s, ranks) for s in body),
            )
        case Accumulate(target=target):
            return replace(walk.map_statement(statement, change), target=change(target))
    return statement


def _cut(e: Expression, ranks: Mapping[str, int]) -> Any:
    e = walk.rebuild(e, lambda inner: _cut(inner, ranks))
    match e:
        case Read(tensor, subscripts) if tensor in ranks:
            return replace(e, subscripts=subscripts[: ranks[tensor]])
    return e
