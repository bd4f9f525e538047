"""Axes of one element: without them memory lies along the axis before, and rows are rows.

`y[m,0] += A[k,m] * x[k,0]` goes over `y` element by element, though its last subscript says nothing of m;
and what `s[b,0,u]` holds is a row for each b, as `s[b,u]` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Block, Expression, Input, Program, Read, Statement

Extents = Mapping[str, Sequence[Expression]]
Axes = Mapping[str, Sequence[int]]


def without_unit_axes(program: Program, extents: Extents) -> Program:
    """The program without axes that have one element and that all reads and targets subscript by 0.

    extents: of all tensors. An axis stays to each.
    """
    units = {
        name: {axis for axis, extent in enumerate(own) if extent == walk.ONE}
        for name, own in extents.items()
    }
    for statement in walk.all_statements(program.statements):
        for read in _reads(statement):
            if read.tensor in units:
                subscripts = enumerate(read.subscripts)
                units[read.tensor] -= {axis for axis, s in subscripts if s != walk.ZERO}
    kept = {name: _kept(len(extents[name]), units[name]) for name, gone in units.items() if gone}
    kept = {name: axes for name, axes in kept.items() if len(axes) < len(extents[name])}
    if not kept:
        return program

    def cut(one: Any) -> Any:
        return replace(one, extents=_of(one.extents, kept[one.name])) if one.name in kept else one

    return replace(
        program,
        arguments=tuple(cut(a) if isinstance(a, Input) else a for a in program.arguments),
        results=tuple(map(cut, program.results)),
        locals=tuple(map(cut, program.locals)),
        statements=tuple(_with_axes(s, kept) for s in program.statements),
    )


def _kept(rank: int, units: set[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis not in units) or (0,)


def _of(several: Sequence[Any], axes: Sequence[int]) -> tuple[Any, ...]:
    return tuple(several[axis] for axis in axes)


def _reads(statement: Statement) -> Sequence[Read]:
    target = (statement.target,) if isinstance(statement, Accumulate) else ()
    return (*target, *walk.statement_reads(statement))


def _with_axes(statement: Statement, kept: Axes) -> Statement:

    def change(e: Expression) -> Any:
        return _cut(e, kept)

    match statement:
        case Block(ranges=ranges, body=body):
            return replace(
                statement,
                ranges=tuple(walk.rebuild_range(r, change) for r in ranges),
                body=tuple(_with_axes(s, kept) for s in body),
            )
        case Accumulate(target=target):
            return replace(walk.map_statement(statement, change), target=change(target))
    return statement


def _cut(e: Expression, kept: Axes) -> Any:
    e = walk.rebuild(e, lambda inner: _cut(inner, kept))
    match e:
        case Read(tensor, subscripts) if tensor in kept:
            return replace(e, subscripts=_of(subscripts, kept[tensor]))
    return e
