"""Integer constants for whose values code is made (`schedule/specializing.py`).

Apart from what makes it: a call whose code is known already asks for no more than this.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.analysis.facts import Facts
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Constant, Expression, Read, Statement
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
