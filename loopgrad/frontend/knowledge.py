"""What is known of tensors before a program is unfolded: extents, element types, ranges.

`infer` takes plain loops. For a program that still has equations it is asked about a *draft*: the
same loops, with each reduction's indices as further loops of its statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from loopgrad.analysis.infer import Inference
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Expression,
    Extent,
    Index,
    Program,
    Range,
    Read,
    Reduce,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import children, computed_tensors, rebuild, substitute

EINSTEIN = "?"  # the draft's name for the index behind a capital; no text can write it


class Knowledge:
    """Answers about the tensors of a program without calls; found when first asked for."""

    def __init__(self, program: Program):
        self.program = program
        self.declared: dict[str, tuple[Expression, ...]] = {
            **{i.name: i.extents for i in program.inputs},
            **{r.name: r.extents for r in program.results},
            **{local.name: local.extents for local in program.locals},
        }
        self.inputs = {i.name for i in program.inputs}
        self.computed = set(computed_tensors(program))
        self._drafted: dict[int, Range] = {}  # id of a reduction's range -> its loop in the draft

    @cached_property
    def inference(self) -> Inference:
        body = tuple(map(self._draft, self.program.statements))
        return Inference(replace(self.program, statements=body))

    @cached_property
    def _uppers(self) -> dict[int, Expression | None]:
        return {id(scope.given): scope.upper for scope in self.inference.scopes}

    def upper(self, r: Range) -> Expression | None:
        """The upper bound of one of the program's ranges, found if it is not written."""
        if r.upper is not None:
            return r.upper
        uppers = self._uppers  # makes the draft first
        return uppers.get(id(self._drafted.get(id(r), r)))

    def extents(self, tensor: str) -> Sequence[Expression | None] | None:
        """The tensor's extents, None for those that cannot be found."""
        declared = self.declared.get(tensor)
        return declared if declared is not None else self.inference.computed.get(tensor)

    def extent(self, tensor: str, axis: int) -> Expression | None:
        extents = self.extents(tensor)
        return extents[axis] if extents is not None and axis < len(extents) else None

    def element(self, tensor: str) -> ElementType:
        elements: dict[str, ElementType] = getattr(self.inference, "elements", {})
        return elements.get(tensor, ElementType.FLOAT)

    def extents_of(self, index: str, expressions: Sequence[Expression | None]) -> set[Expression]:
        """The declared extents of all axes that the index alone subscripts."""
        found: set[Expression] = set()
        for expression in expressions:
            for read, axis in () if expression is None else lone_uses(index, expression):
                declared = self.declared.get(read.tensor)
                if declared is not None and axis < len(declared):
                    found.add(declared[axis])
        return found

    def range_of(self, index: str, expression: Expression) -> Expression | None:
        """The extent of the axes that the index alone subscripts in the expression."""
        found: Expression | None = None
        for read, axis in lone_uses(index, expression):
            extent = self.extent(read.tensor, axis)
            if extent is not None and (found is None or isinstance(extent, Extent)):
                found = extent
        return found

    def _draft(self, statement: Statement) -> Statement:
        if isinstance(statement, Block):
            return replace(statement, body=tuple(map(self._draft, statement.body)))
        assert isinstance(statement, Accumulate)
        ranges = list(statement.ranges)
        value = self._flat(statement.value, ranges)
        guard = None if statement.guard is None else self._flat(statement.guard, ranges)
        return replace(statement, ranges=tuple(ranges), value=value, guard=guard)

    def _flat(self, expression: Expression, ranges: list[Range]) -> Expression:
        """The expression without reductions, whose indices are renamed and added to the ranges."""
        if not isinstance(expression, Reduce):
            return rebuild(expression, lambda e: self._flat(e, ranges))
        outer = {r.index for r in ranges}
        renaming: dict[str, Expression] = {}
        for r in expression.ranges:
            if expression.name == "softmax" and r.index in outer:
                continue
            name = f"{EINSTEIN}{len(ranges)}{r.index}"
            bounds = [None if b is None else substitute(b, renaming) for b in (r.lower, r.upper)]
            self._drafted[id(r)] = Range(name, bounds[0], bounds[1])
            ranges.append(self._drafted[id(r)])
            renaming[r.index] = Index(name)
        body = self._flat(substitute(expression.body, renaming), ranges)
        real = expression.name in ("mean", "logsumexp", "softmax")
        return Apply("exp", (body,)) if real else body


def lone_uses(index: str, expression: Expression) -> Iterator[tuple[Read, int]]:
    """The axes that the index alone subscripts; reductions with an index of that name left out."""
    if isinstance(expression, Reduce) and any(r.index == index for r in expression.ranges):
        return
    if isinstance(expression, Read):
        for axis, subscript in enumerate(expression.subscripts):
            if isinstance(subscript, Index) and subscript.name == index:
                yield expression, axis
    for child in children(expression):
        yield from lone_uses(index, child)
