"""Statements and their loops -> instructions."""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm.literal import hoisting, places
from loopgrad.backends.llvm.literal.expressions import Expressions
from loopgrad.backends.llvm.literal.function import ALL_BITS, PhaseFunction, Value
from loopgrad.backends.llvm.literal.identities import identity
from loopgrad.backends.llvm.literal.loops import Bounds, Carried, counted, runs, where
from loopgrad.backends.llvm.literal.updates import Updates
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Loop, Nest, Phase, Sequence


class PhaseWriter:
    """Writes loops and statements into one function."""

    def __init__(self, function: PhaseFunction):
        self.function = function
        self.body = function.body
        self.layout = function.layout
        self.expressions = Expressions(function)
        self.updates = Updates(function)

    def write(self, phase: Phase) -> None:
        match phase:
            case Nest():
                self._enter(phase.number)
                self._count_statement()
                self._nest(phase)
                self.function.executed = None
            case Sequence():
                self._sequence(phase, 0)

    def _enter(self, number: int) -> None:
        self.function.number = number
        self.function.statement = self.layout.statements[number]

    def _count_statement(self) -> None:
        """Watching completeness needs the number of the statements that have run."""
        if self.layout.tracked:
            counter = self.body.element(I64, "%record", 1)
            before = self.body.load(I64, counter)
            self.function.executed = self.body.value(f"add i64 {before}, 1")
            self.body.store(I64, self.function.executed, counter)

    def _sequence(self, sequence: Sequence, depth: int) -> None:
        if depth < len(sequence.loops):
            self._enter(sequence.number)
            self._plain_loop(sequence.loops[depth], lambda: self._sequence(sequence, depth + 1))
            return
        for phase in sequence.body:
            if isinstance(phase, Nest) and phase.loops:
                # A function of its own: its like may share it, and LLVM is quicker with short ones.
                around = {name: index.bits for name, index in self.function.indices.items()}
                inner = PhaseFunction(self.function.module, self.layout, around)
                PhaseWriter(inner).write(phase)
                self.function.call(inner)
            else:
                self.write(phase)

    def _nest(self, nest: Nest) -> None:
        """The loops around a statement: with all their bounds first, where they can be had."""
        if not nest.loops:
            self._iteration(nest)
        elif self._is_box(nest):
            bounds = [self._bounds(loop) for loop in nest.loops]
            holds = "true"
            for each in bounds:
                holds = self.body.value(f"and i1 {holds}, {runs(self.function, each)}")
            where(self.function, holds, lambda: self._box(nest, bounds))
        else:
            self._loops(nest, 0)

    def _is_box(self, nest: Nest) -> bool:
        """Are the bounds of all loops known before the first, and cannot fail?"""
        indices = {loop.index for loop in nest.loops}
        bounds = [bound for loop in nest.loops for bound in (loop.lower, loop.upper)]
        return all(
            indices.isdisjoint(walk.indices_of(bound)) and self.expressions.is_free(bound)
            for bound in bounds
        )

    def _box(self, nest: Nest, bounds: list[Bounds], depth: int = 0) -> None:
        """Loops that all run."""
        if depth + 1 == len(nest.loops):
            self._innermost(nest, bounds[depth])
        else:
            self._loop(nest.loops[depth], bounds[depth], lambda: self._box(nest, bounds, depth + 1))

    def _loops(self, nest: Nest, depth: int) -> None:
        """Loops each of which is tested whether it runs."""
        if depth + 1 < len(nest.loops):
            self._plain_loop(nest.loops[depth], lambda: self._loops(nest, depth + 1))
        else:
            bounds = self._bounds(nest.loops[-1])
            where(self.function, runs(self.function, bounds), lambda: self._innermost(nest, bounds))

    # ------------------------------------------------------------------------------------- loops

    def _bounds(self, loop: Loop) -> Bounds:
        return Bounds(self.expressions.integer(loop.lower), self.expressions.integer(loop.upper))

    def _plain_loop(self, loop: Loop, body: Callable[[], None]) -> None:
        bounds = self._bounds(loop)
        where(self.function, runs(self.function, bounds), lambda: self._loop(loop, bounds, body))

    def _loop(
        self, loop: Loop, bounds: Bounds, body: Callable[[], None], rare: bool = False
    ) -> None:
        def once(_: str) -> str:
            body()
            return ""

        counted(self.function, loop, bounds, once, rare=rare)

    def _innermost(self, nest: Nest, bounds: Bounds) -> None:
        """The innermost loop; twice, where range checks can be taken out of one copy."""
        checks = hoisting.hoistable(self.function, nest, bounds)
        if not checks:
            self._innermost_copy(nest, bounds)
            return
        body, mark = self.body, self.body.fresh("copy")
        holds = hoisting.all_in_range(self.function, nest, bounds, checks)
        body.branch(holds, f"{mark}.fast", f"{mark}.checked")
        body.start(f"{mark}.fast")
        with self.function.trusting(checks):
            self._innermost_copy(nest, bounds)
        body.jump(f"{mark}.end")
        body.start(f"{mark}.checked")
        self._innermost_copy(nest, bounds, rare=True)
        body.jump(f"{mark}.end")
        body.start(f"{mark}.end")

    def _innermost_copy(self, nest: Nest, bounds: Bounds, rare: bool = False) -> None:
        if self._may_stay_in_register(nest):
            self._register_loop(nest, bounds, rare)
        else:
            self._loop(nest.loops[-1], bounds, lambda: self._iteration(nest), rare)

    def _iteration(self, nest: Nest) -> None:
        self._guarded(nest.statement.guard, lambda: self._update_memory(nest))

    def _guarded(self, guard: Expression | None, run: Callable[[], None]) -> None:
        if guard is None:
            run()
            return
        where(self.function, self.expressions.condition(guard), run)

    # ------------------------------------------------------------------------------- reductions

    def _may_stay_in_register(self, nest: Nest) -> bool:
        """Is the target one element throughout the innermost loop, so that it is loaded once?

        Not where subscripts have to be computed or watched for each iteration of a guard.
        """
        statement = nest.statement
        if statement.reduction is Reduction.SET:
            return False
        target = statement.target
        if target.tensor in self.layout.tracked:
            return False
        innermost = nest.loops[-1].index
        if any(innermost in walk.indices_of(s) for s in target.subscripts):
            return False
        return statement.guard is None or all(
            self.expressions.is_free(s) for s in target.subscripts
        )

    def _register_loop(self, nest: Nest, bounds: Bounds, rare: bool) -> None:
        statement = nest.statement
        kind = self.layout.element(statement.target.tensor)
        address = ""

        counts = self.updates.is_count(nest)

        def enter() -> str:
            nonlocal address
            address = self._register_address(statement)
            return "0" if counts else self.body.load(kind, address)

        def body(sofar: str) -> str:
            value = self._guarded_value(nest, kind)
            if counts:
                return self.body.value(f"add nsw i64 {sofar}, {value.text}")
            return self.updates.combined(nest, sofar, value)

        def leave(final: str) -> None:
            if counts:
                total = Value(final, ElementType.INT, ALL_BITS)
                final = self.updates.combined(nest, self.body.load(kind, address), total)
            self.body.store(kind, final, address)

        carried = Carried(kind, enter, leave)
        counted(self.function, nest.loops[-1], bounds, body, carried, rare)

    def _guarded_value(self, nest: Nest, kind: str) -> Value:
        """The value that an iteration contributes: where the guard does not hold, a neutral one.

        So the accumulator is updated in each iteration, which LLVM vectorises; an update under
        a branch it would not.
        """
        statement = nest.statement
        if statement.guard is None:
            return self.updates.value(nest)
        mark = self.body.fresh("guard")
        holds = self.expressions.condition(statement.guard)
        before = self.body.block
        self.body.branch(holds, f"{mark}.then", f"{mark}.end")
        self.body.start(f"{mark}.then")
        self.expressions.place(statement.target)  # for its checks
        value = self.updates.value(nest)
        end = self.body.block
        self.body.jump(f"{mark}.end")
        self.body.start(f"{mark}.end")
        neutral = self.updates.neutral(statement.reduction, value.element)
        text = self.body.phi(kind, (neutral, before), (value.text, end))
        return Value(text, value.element, ALL_BITS)

    def _register_address(self, statement: Accumulate) -> str:
        """Where the accumulator is loaded from and stored to.

        Under a guard the element need not exist, if the guard then never holds: a dummy takes
        its place.
        """
        if statement.guard is None:
            return self.expressions.place(statement.target).address
        target = statement.target
        kind = self.layout.element(target.tensor)
        subscripts = self.expressions.subscripts(target)
        inside = places.is_inside(self.function, target, subscripts)
        address = places.unchecked_address(self.function, target, subscripts)
        dummy = self.function.dummy(kind)
        return self.body.select(inside, self.function.module.pointer(kind), address, dummy)

    # ---------------------------------------------------------------------------------- updates

    def _update_memory(self, nest: Nest) -> None:
        statement = nest.statement
        kind = self.layout.element(statement.target.tensor)
        place = self.expressions.place(statement.target)
        value = self.updates.value(nest)
        places.watch_write(self.function, statement.target, statement.reduction, place)
        if statement.reduction is Reduction.SET:
            self.body.store(kind, value.text, place.address)
            return
        if nest.starts:
            before = identity(self.layout, statement.target.tensor, self.function.module)
        else:
            before = self.body.load(kind, place.address)
        self.body.store(kind, self.updates.combined(nest, before, value), place.address)
