"""A program for the values that its integer constants, and some of its extents, have in a call.

`x[b, stride*n+dx]` goes over memory with gaps of any width, and is a product's side only where it is
packed; with `stride = 1` it is `x[b, n+dx]`, of which much more is known. Constants are few and
seldom change, unlike most extents, so code for their values pays; so do the extents of windows, and
those of rows of a few elements, which fill no register: lanes go over several rows then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Statement,
)
from loopgrad.schedule import Phase, Scheduled, default
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.loops.singles import has_no_lanes
from loopgrad.schedule.tree import Fused, Mark, Step, loops, steps
from loopgrad.schedule.unit_axes import without_unit_axes

EXACT = 2**31


def made_for(
    facts: Facts,
    safety: Safety,
    values: Mapping[str, int],
    rows: Collection[str],
    choices: Choices,
) -> Scheduled:
    """The schedule for these values; the usual one where loops would have to run as they are written,
    as those name places that may fail, which have to be the program's own.

    rows: those of the values that are lengths of short rows. Without lanes along these it is LLVM that
    finds vectors across them, and it finds none where subscripts are checked: then rows stay as they were.
    """
    for known in (values, {name: v for name, v in values.items() if name not in rows}):
        if known:
            own, safe = specialized(facts, safety, known, keeps_axes=False)
            special = default.optimized(own, safe, choices)
            slow = len(known) == len(values) and rows and any(map(_checks_singly, special.phases))
            if not slow and all(isinstance(phase, Fused) for phase in special.phases):
                return special
    return default.optimized(facts, safety, choices)


def _checks_singly(phase: Phase) -> bool:
    if not isinstance(phase, Fused) or not has_no_lanes(phase.body):
        return False
    if any(loop.mark is Mark.PICKED for loop in loops(phase.body)):
        return False
    return any(isinstance(node, Step) and node.unproved for node in steps(phase.body))


def specialized(
    facts: Facts, safety: Safety, constants: Mapping[str, int], keeps_axes: bool = True
) -> tuple[Facts, Safety]:
    """What is known of the program where the constants, and extents, have these values.

    keeps_axes: also last ones of one element, which say nothing of where elements lie.

    What was known before, where the values break a rule at every size that is tried: which sizes a
    call has is not known here, and the general code says what is wrong. Reals are computed from the
    constants themselves, so that no bit of a result hangs on this.
    """
    program = facts.program
    statements = tuple(_statement(s, constants) for s in program.statements)
    # Of a batch's extent only derivatives ask; here it may be a number.
    special = walk.map_declared(
        replace(program, statements=statements, batch=None), lambda e: _integer(e, constants)
    )
    if not keeps_axes:
        tensors = facts.tensors.items()
        extents = {name: tuple(_integer(e, constants) for e in t.extents) for name, t in tensors}
        special = without_unit_axes(special, extents)
    try:
        found, proved = infer(special), validate(special)
    except ProgramError:
        return facts, safety
    known = {
        name: replace(tensor, role=facts.tensors[name].role)
        for name, tensor in found.tensors.items()
    }
    return replace(found, tensors=known), proved


def _statement(statement: Statement, constants: Mapping[str, int]) -> Statement:
    ranges = tuple(
        walk.rebuild_range(r, lambda e: _integer(e, constants)) for r in statement.ranges
    )
    match statement:
        case Block(body=body):
            return replace(
                statement, ranges=ranges, body=tuple(_statement(s, constants) for s in body)
            )
        case Accumulate(target=target, value=value, guard=guard):
            return _without_single(
                replace(
                    statement,
                    ranges=ranges,
                    target=_value(target, constants),
                    value=_value(value, constants),
                    guard=None if guard is None else _value(guard, constants),
                )
            )
    raise AssertionError("calls are unfolded before a program is scheduled")


def _without_single(statement: Accumulate) -> Accumulate:
    """Without the indices that take one value: what has no rows besides is no product of matrices."""
    found: set[str] = set()
    ranges = []
    for one in statement.ranges:
        own = walk.rebuild_range(one, lambda e: _at_zero(e, found))
        if (own.lower, own.upper) == (walk.ZERO, walk.ONE):
            found.add(one.index)
        else:
            ranges.append(own)
    if not found:
        return statement
    return replace(
        statement,
        ranges=tuple(ranges),
        target=_with_zero(statement.target, found),
        value=_with_zero(statement.value, found),
        guard=None if statement.guard is None else _with_zero(statement.guard, found),
    )


def _with_zero(e: Expression, indices: Collection[str]) -> Any:
    """With 0 for these indices."""
    match e:
        case Index(name) if name in indices:
            return walk.ZERO
        case Read(tensor, subscripts, span):
            return Read(tensor, tuple(_at_zero(s, indices) for s in subscripts), span)
        case Compare() if not any(True for _ in walk.reads(e)):
            return _at_zero(e, indices)
    return walk.rebuild(e, lambda inner: _with_zero(inner, indices))


def _at_zero(e: Expression, indices: Collection[str]) -> Expression:
    """The same, of integers."""
    if isinstance(e, Index) and e.name in indices:
        return walk.ZERO
    return walk.without_neutral(walk.rebuild(e, lambda inner: _at_zero(inner, indices)))


def _value(e: Expression, constants: Mapping[str, int]) -> Any:
    """With the constants' values in subscripts and conditions."""
    match e:
        case Read(tensor, subscripts, span):
            return Read(tensor, tuple(_integer(s, constants) for s in subscripts), span)
        case Compare() if not any(True for _ in walk.reads(e)):
            return _integer(e, constants)
        case Apply("**", (Constant(name), Number(int(power)))) if name in constants:
            value = constants[name] ** power  # exact, as where it is computed
            return walk.number(value) if power >= 0 and abs(value) < EXACT else e
    return walk.rebuild(e, lambda inner: _value(inner, constants))


def _integer(e: Expression, constants: Mapping[str, int]) -> Expression:
    """With the constants' values, of integers: what adds 0 or multiplies by 1 is left out."""
    if isinstance(e, Constant | Extent) and e.name in constants:
        return walk.number(constants[e.name])
    return walk.without_neutral(walk.rebuild(e, lambda inner: _integer(inner, constants)))
