"""Programs of shapes that rules of the compiler look for, changed in one place or two.

A rule that matches a shape has to compare ranges, guards and other writers too. So here each range may lose
an end, or hang on an outer index; statements get guards, or a second one that adds to the same tensor; reads move.
A change that makes no program of the notation is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Conditional,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)

SHAPES = {
    "moments of columns": """f(x[R,S]) -> y[R,S]:
        for r, s:  m[s] += x[r,s] / R
        for r, s:  v[s] += (x[r,s] - m[s])**2 / R
        for r, s:  y[r,s] = (x[r,s] - m[s]) / sqrt(v[s] + 0.1)""",
    "a softmax": """f(x[R,S], g[R,S]) -> y[R,S], c[R]:
        for r, s:  m[r] max= x[r,s]
        for r, s:  Z[r] += exp(x[r,s] - m[r])
        for r, s:  y[r,s] = exp(x[r,s] - m[r]) / Z[r]
        for r, s:  c[r] += y[r,s] * g[r,s]""",
    "a product of matrices": """f(A[R,S], B[S,T], c[T]) -> y[R,T], n[R]:
        for r, t, s:  C[r,t] += A[r,s] * B[s,t]
        for r, t:     y[r,t] = tanh(C[r,t] + c[t])
        for r, t:     n[r] += y[r,t]**2""",
    "a sum within a sum": """f(C[T,S], x[R,S], m[S]) -> g[T]:
        for t, s, r:  g[t] += C[t,s] * (x[r,s] - m[s])""",
    "a state by way of another": """f(x[T,S], g[S]) -> h[T,S]:
        for t:
            for s:  p[t,s] = h[t-1,s] if t > 0 else g[s]
            for s:  q[t,s] = x[t,s] * p[t,s]
            for s:  h[t,s] = 0.5 * p[t,s] + q[t,s]""",
    "a state that is given": """f(g[T,S], W[S,S]) -> s[T,S]:
        for t, i:  s[t,i] = g[t,i]
        for 0 <= t < T descending:
            for i, j < S:  d[t,i] += 0.3 * W[j,i] * s[t,j]
            for i:         s[t-1,i] += d[t,i]   if t > 0""",
    "a scan": """f(x[R,T], a[R,T]) -> h[R,T]:
        for t:
            for r:  h[r,t] += x[r,t]
            for r:  h[r,t] += a[r,t] * h[r,t-1]   if t > 0""",
    "one of many": """f(x[R,S], int w[R], e[R]) -> y[R], z[R,S]:
        for r, s:  y[r] += x[r,s]   if s == w[r]
        for r, s:  z[r,s] = 2 * x[r,s]
        for r:     z[r,w[r]] -= e[r]""",
    "rows that data pick": """f(x[N,S], int w[N], y[R,S]) -> z[R,S], c[R]:
        for r, s:  z[r,s] = y[r,s]
        for n, s:  z[w[n],s] max= x[n,s]
        for n:     c[w[n]] += x[n,0] if S > 0 else 1""",
    "a window": """f(x[R,T], k[3]) -> y[R,T], z[R,2*T+3]:
        for r, t, p < 3:  y[r,t] += k[p] * x[r,t+p-1]   if 0 <= t + p - 1 < T
        for r, t, p < 3:  z[r,2*t+p] += x[r,t] * k[p]""",
    "a ring and a stencil": """f(u[R,S]) -> g[R,S]:
        for r, s:    g[(r+1)%R,s] += u[r,s] * u[(r+2)%R,s]
        for r, s < S-2:  g[r,s+1] -= u[r,s+2] if u[r,s] > 0 else 1""",
    "a triangle": """f(x[S,S], g[S,S]) -> y[S,S]:
        local a[S,S]
        for s, r < S, t < s:  a[r,t] += x[r,s] * g[r,t]
        for s, t < S:         y[s,t] = tanh(a[s,t]) + x[t,s]""",
}

SIZES = (0, 1, 2, 3, 4, 5)


def drawn(seed: int) -> tuple[Program, dict[str, Any]]:
    """A program, and inputs for it."""
    rng = Random(seed)
    program = infer(lg.program(SHAPES[rng.choice(list(SHAPES))])).program
    for _ in range(rng.choice((1, 1, 2, 3))):
        program = _changed(program, rng)
    return program, _inputs(program, rng)


def _inputs(program: Program, rng: Random) -> dict[str, Any]:
    sizes = {name: rng.choice(SIZES) for name in "RSTN"}
    numbers = np.random.default_rng(rng.getrandbits(32))
    values: dict[str, Any] = {}
    for i in program.inputs:
        shape = tuple(sizes[e.name] if isinstance(e, Extent) else e.value for e in i.extents)  # type: ignore[union-attr]
        if i.kind == "int":
            values[i.name] = numbers.integers(0, max(1, min(sizes.values())), shape)
        else:
            values[i.name] = numbers.normal(size=shape)
    return values


def _changed(program: Program, rng: Random) -> Program:
    """The program with one change that leaves it one; itself where none of a few tries does."""
    for _ in range(6):
        path = rng.choice(list(_paths(program.statements, ())))
        changed = replace(program, statements=_at(program.statements, path, (), rng))
        try:
            found = infer(lg.program(str(changed)))
            validate(found.program)
        except ProgramError:
            continue
        return found.program
    return program


Path = tuple[int, ...]


def _paths(body: tuple[Statement, ...], above: Path) -> Iterator[Path]:
    for i, statement in enumerate(body):
        if isinstance(statement, Block):
            yield from _paths(statement.body, (*above, i))
        else:
            yield (*above, i)


def _at(
    body: tuple[Statement, ...], path: Path, around: tuple[Range, ...], rng: Random
) -> tuple[Statement, ...]:
    """The statements with that at the path changed, or with those beside it in another order."""
    place, *rest = path
    statement = body[place]
    if isinstance(statement, Block):
        inner = _at(statement.body, tuple(rest), (*around, *statement.ranges), rng)
        new: tuple[Statement, ...] = (replace(statement, body=inner),)
    elif around and rng.random() < 0.2:
        return tuple(rng.sample(body, len(body)))
    else:
        assert isinstance(statement, Accumulate)
        new = rng.choice(CHANGES)(statement, around, rng)
    return (*body[:place], *new, *body[place + 1 :])


Change = Callable[[Accumulate, tuple[Range, ...], Random], tuple[Accumulate, ...]]


def _shorter(statement: Accumulate, around: tuple[Range, ...], rng: Random) -> tuple[Accumulate]:
    """With other bounds of one of its ranges."""
    if not statement.ranges:
        return (statement,)
    number = rng.randrange(len(statement.ranges))
    old = statement.ranges[number]
    assert old.upper is not None
    less = walk.apply("-", old.upper, Number(1))
    ways = [replace(old, lower=Number(1)), replace(old, upper=less)]
    for other in (*around, *statement.ranges[:number]):
        end = walk.apply("min", old.upper, walk.plus_one(Index(other.index)))
        ways += [replace(old, upper=end), replace(old, lower=Index(other.index))]
    ranges = (*statement.ranges[:number], rng.choice(ways), *statement.ranges[number + 1 :])
    return (replace(statement, ranges=ranges),)


def _condition(statement: Accumulate, around: tuple[Range, ...], rng: Random) -> Expression | None:
    ways: list[Expression] = []
    for r in (*around, *statement.ranges):
        ways += [
            walk.compare(">", Index(r.index), Number(0)),
            walk.compare("!=", Index(r.index), Number(2)),
            walk.compare("<", Index(r.index), Number(2.5)),
        ]
    ways += [walk.compare("<", read, Number(0.3)) for read in walk.reads(statement.value)]
    return rng.choice(ways) if ways else None


def _guarded(statement: Accumulate, around: tuple[Range, ...], rng: Random) -> tuple[Accumulate]:
    condition = _condition(statement, around, rng)
    return (replace(statement, guard=walk.conjunction([statement.guard, condition])),)


def _branching(statement: Accumulate, around: tuple[Range, ...], rng: Random) -> tuple[Accumulate]:
    condition = _condition(statement, around, rng)
    if condition is None:
        return (statement,)
    return (replace(statement, value=Conditional(condition, statement.value, walk.number(0.25))),)


def _twice(
    statement: Accumulate, around: tuple[Range, ...], rng: Random
) -> tuple[Accumulate, Accumulate]:
    """And another one that adds to the same elements, or to some of them."""
    how = Reduction.ADD if statement.reduction is Reduction.SET else statement.reduction
    value = walk.apply("*", statement.value, Number(0.5))
    change = rng.choice((_shorter, _guarded))
    return statement, *change(replace(statement, reduction=how, value=value), around, rng)


def _elsewhere(statement: Accumulate, around: tuple[Range, ...], rng: Random) -> tuple[Accumulate]:
    """With one of its reads a place on, where there is one."""
    uppers = {r.index: r.upper for r in (*around, *statement.ranges)}
    found = [
        (read, axis, s)
        for read in walk.reads(statement.value)
        for axis, s in enumerate(read.subscripts)
        if isinstance(s, Index) and uppers.get(s.name) is not None
    ]
    if not found:
        return (statement,)
    read, axis, index = rng.choice(found)
    upper = uppers[index.name]
    assert upper is not None
    place = walk.apply("+", index, Number(1))
    there = walk.compare("<", place, upper)
    moved = Read(
        read.tensor, (*read.subscripts[:axis], place, *read.subscripts[axis + 1 :]), read.span
    )

    def change(e: Expression) -> Expression:
        return new if e == read else walk.rebuild(e, change)

    if rng.random() < 0.5:
        new: Expression = Conditional(there, moved, walk.number(0.5))
        return (replace(statement, value=change(statement.value)),)
    new = moved
    guard = walk.conjunction([there, statement.guard])
    return (replace(statement, value=change(statement.value), guard=guard),)


CHANGES: tuple[Change, ...] = (_shorter, _shorter, _guarded, _branching, _twice, _twice, _elsewhere)
