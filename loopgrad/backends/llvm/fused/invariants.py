"""What is the same throughout a vector loop, computed before it: values, rows, checks of subscripts.

LLVM could move most of it, but the passes that would take longer than all others together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from loopgrad.backends.llvm.fused.accesses import behind
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.strides import coefficient
from loopgrad.backends.llvm.fused.surroundings import FLOAT, Around, Position
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Compare, Conditional, Expression, Read
from loopgrad.schedule.tree import Node, Over, Pack, Step, steps


def written_in(nodes: Iterable[Node]) -> frozenset[str]:
    """The tensors of which elements are written in the trees."""
    found = (node for node in steps(tuple(nodes)) if not isinstance(node, Pack))
    return frozenset(
        n.statement.target.tensor if isinstance(n, Step) else n.target.tensor for n in found
    )


@contextmanager
def hoisted(vectors: Vectors, loop: Over, lower: Value, upper: Value) -> Iterator[None]:
    """Emits what the loop's own steps have in common; the loop, which runs, is emitted inside."""
    before = vectors.rows, vectors.checked, vectors.own_offsets
    with vectors.scope(written_in(loop.body), (loop.index,)):
        hoisting = _Hoisting(vectors, loop, lower, upper)
        for step in loop.body:
            if isinstance(step, Step):
                hoisting.step(step)
        yield
    vectors.rows, vectors.checked, vectors.own_offsets = before


def spread(vectors: Vectors, loop: Over, lanes: int) -> None:
    """Emits in all lanes what is known before the loop and used in its steps.

    LLVM does so where whole vectors are a loop of their own, but not out of two loops.
    """

    def visit(expression: Expression) -> None:
        known = vectors.known.get(expression)
        if known is None:
            for part in walk.children(expression):
                visit(part)
        elif known.lanes == 1 and known.element is FLOAT:
            vectors.widened(known, lanes)  # which is there then: see `numbering.py`

    for step in loop.body:
        if isinstance(step, Step):
            visit(step.statement.value)


class _Hoisting:
    def __init__(self, vectors: Vectors, loop: Over, lower: Value, upper: Value):
        self.vectors, self.index = vectors, loop.index
        self.written = written_in(loop.body)
        position = Position(lower.text, loop.lower, loop.upper)
        self.inside = {**vectors.indices, loop.index: position}
        one = vectors.whole.literal(1)
        self.ends = lower.text, vectors.whole.arithmetic("-", upper, one).text
        self.in_lanes = vectors.around.lanes > 1

    def step(self, step: Step) -> None:
        statement = step.statement
        certain = statement.guard is None
        self.vectors.unproved = frozenset(step.unproved)
        if statement.guard is not None:
            self._expression(statement.guard, True, step)
        self._expression(statement.value, certain, step)
        self._place(statement.target, certain, step)
        self.vectors.unproved = frozenset()

    def _expression(self, expression: Expression, certain: bool, step: Step) -> None:
        """`certain`: it is evaluated in each iteration."""
        if not self._varies(expression):
            self._value(expression, certain, step)
            return
        match expression:
            case Read():
                self._place(expression, certain, step)
            case Conditional(condition, then, otherwise):
                self._expression(condition, certain, step)
                self._expression(then, False, step)
                self._expression(otherwise, False, step)
            case Apply("and" | "or", (first, second)):
                self._expression(first, certain, step)
                self._expression(second, False, step)
            case Compare(_, operands):
                for i, operand in enumerate(operands):
                    self._expression(operand, certain and i < 2, step)
            case _:
                for operand in walk.children(expression):
                    self._expression(operand, certain, step)

    def _varies(self, expression: Expression) -> bool:
        """May it change from one iteration to the next?"""
        if self.index in walk.indices_of(expression):
            return True
        return not self.written.isdisjoint(walk.tensors_in(expression))

    def _value(self, expression: Expression, certain: bool, step: Step) -> None:
        vectors = self.vectors
        if not isinstance(expression, Read | Apply | Compare | Conditional):
            return
        if certain or vectors.is_cheap(expression):
            vectors.known[expression] = vectors.lower(expression)

    def _place(self, read: Read, certain: bool, step: Step) -> None:
        """The row of an access, and checks of its subscripts, if it is made in each iteration."""
        for subscript in read.subscripts:
            self._expression(subscript, certain, step)
        if self.vectors.frame.storage(read.tensor).register:
            return
        factors = [coefficient(s, self.index, self._varies) for s in read.subscripts]
        if certain and read in step.unproved:
            self._check(read, factors)
        data = any(True for s in read.subscripts for _ in walk.reads(s))
        if self.in_lanes:
            if data:
                self._own_offset(read)
        elif (certain or not data) and read not in self.vectors.rows:
            self._row(read, factors)

    def _own_offset(self, read: Read) -> None:
        """What is each lane's own of the access's place, where that is no other in the next iteration."""
        vectors = self.vectors
        own = vectors.own_place(read)
        if own in vectors.own_offsets or any(map(self._varies, own.subscripts)):
            return
        if all(map(vectors.is_cheap, own.subscripts)):
            vectors.own_offsets = {**vectors.own_offsets, own: vectors.narrow_offset(read)}

    def _check(self, read: Read, factors: Collection[int | Expression | None]) -> None:
        """A subscript that is linear in the index is in range if it is at both ends of the loop."""
        vectors = self.vectors
        extents = vectors.frame.tensors[read.tensor].extents
        parts = enumerate(zip(read.subscripts, extents, factors, strict=True))
        for axis, (subscript, extent, factor) in parts:
            reads = {r.tensor for r in walk.reads(subscript)}
            if factor is None or reads & self.written or (read, axis) in vectors.checked:
                continue
            if self.in_lanes:
                if factor != 0:
                    continue
                vectors.require(vectors.is_below(subscript, extent))
            else:
                for end in self.ends if factor != 0 else self.ends[:1]:
                    with self._at(end):
                        vectors.require(vectors.is_below(subscript, extent))
            vectors.checked |= {(read, axis)}

    def _row(self, read: Read, factors: Collection[int | Expression | None]) -> None:
        vectors = self.vectors
        store = vectors.frame.storage(read.tensor)
        kept = [list(factors)[axis.position] for axis in store.axes]
        if not kept or not isinstance(kept[-1], int) or any(f != 0 for f in kept[:-1]):
            return
        if kept[-1] == 0:
            return
        with self._at("0"):
            offset = vectors.offset(read)
        row = behind(vectors.body, store.kind, vectors.frame.pointer(read.tensor), offset)
        vectors.rows = {**vectors.rows, read: (row, kept[-1])}

    @contextmanager
    def _at(self, number: str) -> Iterator[None]:
        """The loop's index is a number."""
        indices, around = self.vectors.indices, self.vectors.around
        position = replace(self.inside[self.index], text=number)
        self.vectors.indices = {**self.inside, self.index: position}
        self.vectors.around = Around()
        with self.vectors.scope((), (self.index,)):
            yield
        self.vectors.indices, self.vectors.around = indices, around
