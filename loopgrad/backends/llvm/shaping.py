"""Integer constants and extents for whose values code is made (`schedule/specializing.py`).

Apart from what makes it: a call whose code is known already asks for no more than this, and reads it from
the disk, so that nobody looks at the statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from loopgrad.analysis.facts import Facts
from loopgrad.backends.kernel import Task
from loopgrad.cache.answers import kept
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Constant,
    Expression,
    Extent,
    Read,
    Statement,
)
from loopgrad.ir.operations import ElementType

# The extent of a window, and of the rows of many, up to which code is made for it.
SMALL_WINDOW, SHORT_ROW = 8, 8


@dataclass(frozen=True, slots=True)
class Shaping:
    """For whose values code is made: constants, and the extents of windows and of rows that are small."""

    constants: tuple[str, ...]
    windows: tuple[str, ...]
    rows: frozenset[str]

    def values(self, sizes: Mapping[str, int | float], many: bool) -> tuple[tuple[str, int], ...]:
        """Those of them that are known. many: are there many elements, so that short rows count?"""
        limits = [(name, SMALL_WINDOW) for name in self.windows]
        limits += [(name, SHORT_ROW) for name in sorted(self.rows) if many]
        small = (name for name, most in limits if 0 < sizes.get(name, 0) <= most)
        return tuple((name, int(sizes[name])) for name in (*self.constants, *small))


def shaping_of(task: Task) -> Shaping:
    """From an earlier process, where the program is known by a name and one has found it."""
    facts = task.facts

    def found() -> tuple[tuple[str, ...], ...]:
        return shaping(facts), windows(facts), tuple(sorted(short_rows(facts)))

    # That some results count as temporaries, for which the task may be made, changes nothing here.
    constants, small, rows = kept("shaping", task.origin, found) if task.origin else found()
    return Shaping(constants, small, frozenset(rows))


def known_shapes(facts: Facts, sizes: Mapping[str, int | float]) -> Iterator[list[int]]:
    """Of the tensors all of whose extents are told."""
    from loopgrad.backends.formulas import evaluate

    for tensor in facts.tensors.values():
        with suppress(KeyError, ValueError):
            yield [evaluate(extent, sizes) for extent in tensor.extents]


def shaping(facts: Facts) -> tuple[str, ...]:
    """The integer constants on which it hangs what a statement reads and writes, and when."""
    whole = {name for name, element in facts.constants.items() if element is ElementType.INT}
    found: dict[str, None] = {}
    if whole:
        for statement in walk.all_statements(facts.program.statements):
            for expression in _places(statement):
                for node in walk.subexpressions(expression):
                    if isinstance(node, Constant) and node.name in whole:
                        found.setdefault(node.name)
    return tuple(found)


def windows(facts: Facts) -> tuple[str, ...]:
    """The extents of windows: DX of `y[n] += k[dx] * x[n+dx]`, n being below `X-DX+1`. They seldom change."""
    found: dict[str, None] = {}
    for statement in facts.program.statements:
        if isinstance(statement, Accumulate):
            ranges = {r.index: r for r in statement.ranges}
            for subscript in _subscripts(statement):
                inside = [ranges[i] for i in walk.indices_of(subscript) if i in ranges]
                extents = [r.upper for r in inside if isinstance(r.upper, Extent)]
                if len(extents) > 1 or any(isinstance(r.upper, Apply) for r in inside):
                    found.update((e.name, None) for e in extents)
    given = {axis for t in facts.tensors.values() if t.role == "input" for axis in t.extents}
    return tuple(name for name in sorted(found) if Extent(name) in given)


def short_rows(facts: Facts) -> frozenset[str]:
    """The extents of axes along which memory is contiguous, of tensors with further ones.

    Not those of windows, and not where a contraction runs over them: that has tiles of its own.
    """
    last = (t.extents[-1] for t in facts.tensors.values() if t.rank > 1)
    found = {e.name for e in last if isinstance(e, Extent)}
    for statement in walk.all_statements(facts.program.statements):
        if isinstance(statement, Accumulate) and contracts(statement):
            bounds = (r.upper for r in statement.ranges)
            found -= {e.name for e in bounds if isinstance(e, Extent)}
    return frozenset(found - {*windows(facts)})


def contracts(statement: Accumulate) -> bool:
    """Does it sum over an index, and hold no read that has all of its indices?"""
    indices = {r.index for r in statement.ranges}
    kept = frozenset().union(*map(walk.indices_of, statement.target.subscripts))
    reads = (walk.indices_of(read) for read in walk.statement_reads(statement))
    return not indices <= kept and not any(indices <= having for having in reads)


def _subscripts(statement: Accumulate) -> Iterator[Expression]:
    for read in (statement.target, *walk.statement_reads(statement)):
        yield from (s for s in read.subscripts if not any(True for _ in walk.reads(s)))


def _places(statement: Statement) -> Iterator[Expression]:
    """Bounds, conditions and subscripts."""
    yield from walk.bounds(statement.ranges)
    for expression in walk.statement_expressions(statement):
        for node in walk.subexpressions(expression):
            match node:
                case Read(_, subscripts):
                    yield from subscripts
                case Compare() | Apply("**"):
                    yield node
    for target in (getattr(statement, "target", None),):
        if target is not None:
            yield from target.subscripts
