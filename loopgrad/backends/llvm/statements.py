"""Statements and their loops -> instructions."""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm import functions, hoisting, integers, places
from loopgrad.backends.llvm.expressions import Expressions
from loopgrad.backends.llvm.function import PhaseFunction, Value
from loopgrad.backends.llvm.identities import identity
from loopgrad.backends.llvm.loops import Bounds, Carried, counted
from loopgrad.backends.llvm.text import I64
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Loop, Nest, Phase, Sequence

INT, FLOAT = ElementType.INT, ElementType.FLOAT

_REAL_UPDATE = {Reduction.ADD: "fadd", Reduction.SUBTRACT: "fsub", Reduction.MULTIPLY: "fmul"}
_INTEGER_UPDATE = {Reduction.ADD: "+", Reduction.SUBTRACT: "-", Reduction.MULTIPLY: "*"}
_EXTREMUM = {Reduction.MAXIMUM: "max", Reduction.MINIMUM: "min"}


class PhaseWriter:
    """Writes loops and statements into one function."""

    def __init__(self, function: PhaseFunction):
        self.function = function
        self.body = function.body
        self.layout = function.layout
        self.expressions = Expressions(function)
        program = function.layout.task.facts.program
        self.statements = list(walk.all_statements(program.statements))

    def write(self, phase: Phase) -> None:
        match phase:
            case Nest():
                self._enter(phase.number)
                self._count_statement()
                self._nest(phase, 0)
                self.function.executed = None
            case Sequence():
                self._sequence(phase, 0)

    def _enter(self, number: int) -> None:
        self.function.number = number
        self.function.statement = self.statements[number]

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
        else:
            for phase in sequence.body:
                self.write(phase)

    def _nest(self, nest: Nest, depth: int) -> None:
        if depth + 1 < len(nest.loops):
            self._plain_loop(nest.loops[depth], lambda: self._nest(nest, depth + 1))
        elif depth < len(nest.loops):
            self._innermost(nest)
        else:
            self._iteration(nest)

    # ------------------------------------------------------------------------------------- loops

    def _bounds(self, loop: Loop) -> Bounds:
        return Bounds(self.expressions.integer(loop.lower), self.expressions.integer(loop.upper))

    def _plain_loop(
        self, loop: Loop, body: Callable[[], None], bounds: Bounds | None = None
    ) -> None:
        def once(_: str) -> str:
            body()
            return ""

        counted(self.function, loop, bounds or self._bounds(loop), once)

    def _innermost(self, nest: Nest) -> None:
        """The innermost loop; twice, where range checks can be taken out of one copy."""
        bounds = self._bounds(nest.loops[-1])
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
        self._innermost_copy(nest, bounds)
        body.jump(f"{mark}.end")
        body.start(f"{mark}.end")

    def _innermost_copy(self, nest: Nest, bounds: Bounds) -> None:
        if self._may_stay_in_register(nest):
            self._register_loop(nest, bounds)
        else:
            self._plain_loop(nest.loops[-1], lambda: self._iteration(nest), bounds)

    def _iteration(self, nest: Nest) -> None:
        self._guarded(nest.statement.guard, lambda: self._update_memory(nest))

    def _guarded(self, guard: Expression | None, run: Callable[[], None]) -> None:
        if guard is None:
            run()
            return
        mark = self.body.fresh("guard")
        holds = self.expressions.condition(guard)
        self.body.branch(holds, f"{mark}.then", f"{mark}.end")
        self.body.start(f"{mark}.then")
        run()
        self.body.jump(f"{mark}.end")
        self.body.start(f"{mark}.end")

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
            self.expressions.free_bits(s) is not None for s in target.subscripts
        )

    def _register_loop(self, nest: Nest, bounds: Bounds) -> None:
        statement = nest.statement
        kind = self.layout.element(statement.target.tensor)
        address = ""

        def enter() -> str:
            nonlocal address
            address = self._register_address(statement)
            return self.body.load(kind, address)

        def body(sofar: str) -> str:
            return self._guarded_value(nest, kind, sofar)

        def leave(final: str) -> None:
            self.body.store(kind, final, address)

        counted(self.function, nest.loops[-1], bounds, body, Carried(kind, enter, leave))

    def _guarded_value(self, nest: Nest, kind: str, sofar: str) -> str:
        """What the accumulator holds after an iteration."""
        statement = nest.statement
        if statement.guard is None:
            return self._update_value(nest)(sofar)
        mark = self.body.fresh("guard")
        holds = self.expressions.condition(statement.guard)
        before = self.body.block
        self.body.branch(holds, f"{mark}.then", f"{mark}.end")
        self.body.start(f"{mark}.then")
        self.expressions.place(statement.target)  # for its checks
        after = self._update_value(nest)(sofar)
        end = self.body.block
        self.body.jump(f"{mark}.end")
        self.body.start(f"{mark}.end")
        return self.body.phi(kind, (sofar, before), (after, end))

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
        if statement.reduction is Reduction.SET:
            element = self.layout.tensor_types[statement.target.tensor]
            value = self.expressions.lower_as(statement.value, element).text
            places.watch_write(self.function, statement.target, statement.reduction, place)
        else:
            updated = self._update_value(nest)
            places.watch_write(self.function, statement.target, statement.reduction, place)
            if nest.starts:
                before = identity(self.layout, statement.target.tensor, self.function.module)
            else:
                before = self.body.load(kind, place.address)
            value = updated(before)
        self.body.store(kind, value, place.address)

    def _update_value(self, nest: Nest) -> Callable[[str], str]:
        """Evaluates the statement's value; the function returned combines it with an element."""
        statement = nest.statement
        reduction = statement.reduction
        element = self.layout.tensor_types[statement.target.tensor]
        if element is INT:
            return self._integer_update(reduction, self.expressions.integer(statement.value))
        flags = self._flags(nest)
        value = self._addend(statement.value, flags, reduction)
        if reduction in _EXTREMUM:
            name = _EXTREMUM[reduction]
            return lambda sofar: functions.extremum(self.body, name, sofar, value)
        instruction = f"{_REAL_UPDATE[reduction]}{flags} {self.function.module.real}"
        return lambda sofar: self.body.value(f"{instruction} {sofar}, {value}")

    def _integer_update(self, reduction: Reduction, value: Value) -> Callable[[str], str]:
        def combine(sofar: str) -> str:
            old = Value(sofar, INT, 63)
            if reduction in _EXTREMUM:
                return integers.extremum(self.function, _EXTREMUM[reduction], old, value).text
            operation = _INTEGER_UPDATE[reduction]
            return integers.arithmetic(self.function, operation, old, value).text

        return combine

    def _flags(self, nest: Nest) -> str:
        """Sums may be reordered, and their products fused into them; nothing else may.

        What is not a sum has to give the same bits wherever it is computed again: a backward
        finds the winner of a maximum by comparing with `==`.
        """
        target = nest.statement.target
        kept = set().union(*map(walk.indices_of, target.subscripts))
        reduces = any(loop.index not in kept for loop in nest.loops)
        return " reassoc contract" if reduces and self.layout.task.optimize else ""

    def _addend(self, value: Expression, flags: str, reduction: Reduction) -> str:
        match value:
            case Apply("*", (left, right)) if (
                flags
                and reduction in (Reduction.ADD, Reduction.SUBTRACT)
                and self.expressions.type_of(value) is FLOAT
            ):
                real = self.function.module.real
                a, b = self.expressions.real(left), self.expressions.real(right)
                return self.body.value(f"fmul contract {real} {a}, {b}")
        return self.expressions.real(value)
