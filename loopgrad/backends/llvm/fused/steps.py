"""The steps of a `Fused` phase -> instructions: guards, first writes, what loops accumulate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from loopgrad.backends.llvm.fused.accesses import load
from loopgrad.backends.llvm.fused.accumulators import Accumulator, Accumulators
from loopgrad.backends.llvm.fused.carrying import Carried
from loopgrad.backends.llvm.fused.contributions import Contributions, joining
from loopgrad.backends.llvm.fused.frame import Frame, Value
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.ir import walk
from loopgrad.ir.nodes import Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import Step


class Steps:
    """Emits steps where the frame's body stands."""

    def __init__(self, frame: Frame):
        self.frame, self.body = frame, frame.body
        self.vectors = Vectors(frame)
        self.contributions = Contributions(self.vectors)
        self.accumulators = Accumulators(self.vectors, self.contributions)
        self._carried = Carried()  # of the body at hand
        self._handed: Mapping[
            Read, int
        ] = {}  # elements that the next turn gets, and their axis of turns

    def where(self, condition: str, write: Callable[[], None]) -> None:
        def scoped() -> None:
            with self.vectors.scope():
                write()

        where(self.body, condition, scoped)

    def _step(self, step: Step) -> None:
        statement, vectors = step.statement, self.vectors
        with self.checking(step):
            own = {statement.target, *walk.statement_reads(statement)}
            for read in step.unproved:
                if read not in own:
                    vectors.check(read)
            if statement.guard is None:
                self._contribute(step)
                return
            holds = vectors.condition(statement.guard)
            if holds.text == "true":
                self._contribute(step)
                return
            if id(step) in self._carried.all | self.contributions.weaving.steps:
                # A branch would send what it changes by way of memory.
                holds = vectors.widened(holds, vectors.around.lanes)
            starts = step.first and self.accumulators.of(step) is None
            if holds.lanes > 1 and starts:
                self._contribute_or_start(step, holds)
            elif holds.lanes > 1:
                with vectors.masked(holds):
                    held = self._contribute(step)
                if held is not None:
                    vectors.known[statement.target] = held
            elif statement.target in self._handed and not starts:
                self._contribute_and_hand(step, holds)
            else:
                self.where(holds.text, lambda: _done(self._contribute(step)))
                if starts:
                    start = self.contributions.start(statement)
                    missed = vectors.negated(holds).text
                    self.where(missed, lambda: self._set_inside(step, start))

    @contextmanager
    def checking(self, step: Step) -> Iterator[None]:
        before = self.vectors.unproved
        self.vectors.unproved = frozenset(step.unproved)
        yield
        self.vectors.unproved = before

    def _contribute(self, step: Step) -> Value | None:
        """What a register then holds of the target, if it is carried on."""
        value = self.contributions.value(step.statement)
        accumulator = self.accumulators.of(step)
        if accumulator is None:
            carries, hold = id(step) in self._carried.all, id(step) in self._carried.held
            return self.contributions.update(step.statement, value, step.first, carries, hold)
        self.accumulators.add(accumulator, value)
        return None

    def _contribute_and_hand(self, step: Step, holds: Value) -> None:
        """What the element is then is known, whether or not the guard held."""
        target, vectors = step.statement.target, self.vectors
        axis = self._handed[target]
        before = vectors.known.get(target)

        def changed() -> Value:
            self._contribute(step)
            return vectors.known.get(target) or self._element(target, axis)

        def same() -> Value:
            return self._element(target, axis) if before is None else before

        lanes = vectors.around.lanes
        value = vectors.choose(
            holds,
            lambda: vectors.widened(changed(), lanes),
            lambda: vectors.widened(same(), lanes),
        )
        vectors.wrote(target, value)

    def _element(self, read: Read, axis: int) -> Value:
        """What is there in memory, in all lanes; 0 where the subscript on the axis is out of range."""
        vectors = self.vectors
        extent = self.frame.tensors[read.tensor].extents[axis]
        lanes = vectors.around.lanes

        def there() -> Value:
            place = vectors.place(read)
            text = load(self.body, place, vectors.lanes_of(place), vectors.around.tail)
            return Value(text, ElementType.FLOAT, vectors.lanes_of(place), 63)

        zero = Value(self.frame.module.number(0.0), ElementType.FLOAT)
        return vectors.choose(
            vectors.is_below(read.subscripts[axis], extent),
            lambda: vectors.widened(there(), lanes),
            lambda: vectors.widened(zero, lanes),
        )

    def _contribute_or_start(self, step: Step, holds: Value) -> None:
        """The first to write elements: where the guard does not hold they get what they start from."""
        with self.vectors.masked(holds):
            self.vectors.check(step.statement.target)
            value = self.contributions.value(step.statement)
        start = self.contributions.start(step.statement)
        self._set_inside(step, self.vectors.select(holds, value, start))

    def _set_inside(self, step: Step, value: Value) -> None:
        """Stores the value, if its place is there."""
        self.vectors.unproved -= {step.statement.target}
        self._inside(step, lambda: _done(self.contributions.update(step.statement, value, True)))

    def _inside(self, step: Step, write: Callable[[], None]) -> None:
        """Code for where the step's target exists."""
        vectors, target = self.vectors, step.statement.target
        if self.frame.storage(target.tensor).register or vectors.is_safe(target):
            write()
            return
        inside = vectors.is_inside(target)
        if inside.lanes > 1:
            with vectors.masked(inside):
                write()
        else:
            self.where(inside.text, write)

    def finish(self, accumulator: Accumulator, ran: bool) -> None:
        """Puts what was accumulated into the target; `ran` is whether the loop did for certain."""
        statement = accumulator.step.statement
        value = self.accumulators.total(accumulator, self.vectors.around.lanes)
        how = joining(statement.reduction)
        # What `-=` accumulates is negative already, and what starts is complete.
        first = accumulator.step.first
        total = replace(statement, reduction=Reduction.SET if first else how, guard=None)
        if statement.target in accumulator.step.unproved or (ran and statement.guard is None):
            with self.checking(accumulator.step):
                self.contributions.update(total, value)
        else:  # which need not exist
            self._inside(accumulator.step, lambda: _done(self.contributions.update(total, value)))


def _done(_: object) -> None:
    """Nothing more."""
