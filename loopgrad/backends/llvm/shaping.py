"""Integer constants and extents for whose values code is made (`schedule/specializing.py`).

Apart from what makes it: a call whose code is known already asks for no more than this.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.analysis.facts import Facts
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
                if any(isinstance(r.upper, Apply) for r in inside):
                    extents = (r.upper for r in inside)
                    found.update((e.name, None) for e in extents if isinstance(e, Extent))
    given = {axis for t in facts.tensors.values() if t.role == "input" for axis in t.extents}
    return tuple(name for name in sorted(found) if Extent(name) in given)


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
