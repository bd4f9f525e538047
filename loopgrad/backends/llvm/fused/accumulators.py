"""What a loop accumulates into one element: in registers, one for each lane and copy of its body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from loopgrad.backends.llvm.fused.contributions import COUNT_BITS, Contributions, joining
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.text import vector
from loopgrad.ir import walk
from loopgrad.ir.nodes import Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Mark, Node, Over, Step, steps

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT

MOST_AROUND = 16  # steps whose sums stay in registers around several loops

_SUMS = (Reduction.ADD, Reduction.SUBTRACT)
_ORDER = {Reduction.MAXIMUM: "ogt", Reduction.MINIMUM: "olt"}


@dataclass(frozen=True, slots=True)
class Accumulator:
    """A variable for each copy of the loop's body.

    The greatest or least of floats is taken by one instruction, to which NaNs are nothing. Whether
    there have been any is kept beside, in `unordered`: integers that are not 0 then. One comparison looks
    at two vectors, so every other copy's is in `waiting` until the next one's is there.
    """

    step: Step
    element: ElementType
    kind: str
    lanes: int
    variables: list[str]
    unordered: list[str]
    waiting: list[str] = field(default_factory=list)

    @property
    def full(self) -> str:
        return vector(self.kind, self.lanes)


class Accumulators:
    """Emits them where the body of `vectors` stands."""

    def __init__(self, vectors: Vectors, contributions: Contributions):
        self.vectors, self.contributions, self.body = vectors, contributions, vectors.body
        self._of_steps: dict[int, Accumulator] = {}  # by the identity of steps

    def of(self, step: Step) -> Accumulator | None:
        """That of a step in a loop that is being emitted."""
        return self._of_steps.get(id(step))

    @contextmanager
    def within(self, loop: Over, lanes: int, copies: int) -> Iterator[list[Accumulator]]:
        """Those of a loop, with what they start from, while its body is emitted."""
        new = (step for step in _accumulating(loop) if id(step) not in self._of_steps)
        found = [self._made(step, lanes, copies) for step in new]
        before = self._of_steps
        self._of_steps = {**before, **{id(a.step): a for a in found}}
        yield found
        self._of_steps = before

    @contextmanager
    def around(
        self, loop: Over, lanes: int, copies: Callable[[Over], int]
    ) -> Iterator[list[Accumulator]]:
        """Those of vector loops inside of the loop that add to the same element in all its iterations."""
        found = [
            self._made(step, lanes, copies(inner))
            for inner, step in _throughout(loop)
            if id(step) not in self._of_steps
        ]
        before = self._of_steps
        self._of_steps = {**before, **{id(a.step): a for a in found}}
        yield found
        self._of_steps = before

    def _made(self, step: Step, lanes: int, copies: int) -> Accumulator:
        statement = step.statement
        store = self.vectors.frame.storage(statement.target.tensor)
        give = self.contributions.start if step.first else self.contributions.neutral
        value = self.vectors.widened(give(statement), lanes).text
        variables = [self._variable(vector(store.kind, lanes), value) for _ in range(copies)]
        unordered = []
        if statement.reduction in _ORDER and store.facts.element is FLOAT:
            w = Lanes(self.body, lanes)
            zero = w.whole_number(0)
            unordered = [self._variable(w.integer, zero) for _ in range(copies)]
        return Accumulator(step, store.facts.element, store.kind, lanes, variables, unordered)

    def _variable(self, kind: str, value: str) -> str:
        variable = self.body.alloca(kind)
        self.body.store(kind, value, variable)
        return variable

    def add(self, accumulator: Accumulator, value: Value) -> None:
        """Takes in a value of each lane."""
        vectors, statement = self.vectors, accumulator.step.statement
        around = vectors.around
        copy = around.copy % len(accumulator.variables)
        if accumulator.element is INT and statement.reduction in _SUMS:
            value = vectors.whole.limited(value, COUNT_BITS)
        before = self._value(accumulator, copy)
        if accumulator.unordered:
            after = self._extremum(statement.reduction, before, value)
            self._watch(accumulator, copy, value)
        else:
            flags = self.contributions.flags(statement)
            after = self.contributions.combined(statement.reduction, before, value, flags)
        if around.mask is not None:
            after = vectors.select(Value(around.mask, BOOL, around.lanes), after, before)
        self.body.store(accumulator.full, after.text, accumulator.variables[copy])

    def _value(self, accumulator: Accumulator, copy: int) -> Value:
        text = self.body.load(accumulator.full, accumulator.variables[copy])
        return Value(text, accumulator.element, accumulator.lanes, 61)

    def _extremum(self, reduction: Reduction, before: Value, value: Value) -> Value:
        lanes, (a, b) = self.vectors.even(before, value)
        w = Lanes(self.body, lanes)
        return Value(w.select(w.compare(_ORDER[reduction], b, a), b, a), FLOAT, lanes)

    def _watch(self, accumulator: Accumulator, copy: int, value: Value) -> None:
        """Remembers NaNs in the lanes that run."""
        around, variable = self.vectors.around, accumulator.unordered[copy]
        w = Lanes(self.body, accumulator.lanes)
        text = self.vectors.widened(value, accumulator.lanes).text
        whole = around.mask is None and accumulator.step.statement.guard is None
        if whole and copy % 2 == 0 and copy + 1 < len(accumulator.variables):
            accumulator.waiting.append(text)
            return
        other = accumulator.waiting.pop() if accumulator.waiting else text
        nan = w.compare("uno", other, text)
        if around.mask is not None:
            nan = w.both(nan, around.mask)
        wide = self.body.value(f"sext {w.condition} {nan} to {w.integer}")
        self.body.store(
            w.integer, w.whole("or", self.body.load(w.integer, variable), wide), variable
        )

    def total(self, accumulator: Accumulator, lanes: int) -> Value:
        """All copies together, and all lanes too, where `lanes` is 1."""
        reduction = accumulator.step.statement.reduction
        values = [self._value(accumulator, copy) for copy in range(len(accumulator.variables))]

        def join(a: Value, b: Value) -> Value:
            if accumulator.unordered:
                return self._extremum(reduction, a, b)
            return self.contributions.combined(joining(reduction), a, b)

        while len(values) > 1:  # by pairs
            values = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        value = values[0]
        if accumulator.lanes > lanes:
            value = self.contributions.across(join, value)
        return self._or_nan(accumulator, value)

    def _or_nan(self, accumulator: Accumulator, value: Value) -> Value:
        if not accumulator.unordered:
            return value
        w = Lanes(self.body, accumulator.lanes)
        first, *rest = (self.body.load(w.integer, v) for v in accumulator.unordered)
        for other in rest:
            first = w.whole("or", first, other)
        seen = Value(w.compare_whole("ne", first, 0), BOOL, accumulator.lanes)
        if accumulator.lanes > value.lanes:
            seen = Value(self.vectors.any_of(seen), BOOL)
        nan = Value(self.body.module.number(float("nan")), FLOAT)
        return self.vectors.select(seen, self.vectors.widened(nan, value.lanes), value)


def _throughout(loop: Over) -> list[tuple[Over, Step]]:
    """Steps of vector loops inside of the loop whose target is one element throughout; with their loops."""
    found = [
        (inner, step)
        for inner, indices in _vector_loops(loop, frozenset({loop.index}))
        for step in _accumulating(inner)
        if not step.first and indices.isdisjoint(_indices(step))
    ]
    everything = list(_all_steps(loop.body))
    if len(everything) != sum(1 for _ in steps(loop.body)):
        return []  # among products
    read = {r.tensor for s in everything for r in walk.statement_reads(s.statement)}
    own = {id(step) for _, step in found}
    others = {s.statement.target.tensor for s in everything if id(s) not in own}
    kept = [(v, s) for v, s in found if s.statement.target.tensor not in read | others]
    return kept if len(kept) <= MOST_AROUND else []


def _indices(step: Step) -> frozenset[str]:
    return frozenset().union(*map(walk.indices_of, step.statement.target.subscripts))


def _vector_loops(loop: Over, indices: frozenset[str]) -> Iterator[tuple[Over, frozenset[str]]]:
    """Those inside, through loops that run one by one; with the indices of all loops down to them."""
    for node in loop.body:
        if isinstance(node, Over):
            inner = indices | {node.index}
            if node.mark is Mark.VECTOR:
                yield node, inner
            elif node.mark is Mark.SEQUENTIAL:
                yield from _vector_loops(node, inner)


def _all_steps(nodes: tuple[Node, ...]) -> Iterator[Step]:
    return (node for node in steps(nodes) if isinstance(node, Step))


def _accumulating(loop: Over) -> Iterator[Step]:
    """The steps directly in the loop whose target is one element throughout."""
    written = {s.statement.target.tensor for s in steps(loop.body) if isinstance(s, Step)}
    for node in loop.body:
        if isinstance(node, Step):
            statement, target = node.statement, node.statement.target
            varies = any(loop.index in walk.indices_of(s) for s in target.subscripts)
            reads = {r.tensor for s in target.subscripts for r in walk.reads(s)}
            # Whether the target is there may hang on the guard.
            unknown = statement.guard is not None and (reads or target in node.unproved)
            sets = statement.reduction is Reduction.SET
            if not sets and not varies and not unknown and reads.isdisjoint(written):
                yield node
