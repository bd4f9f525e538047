"""A scheduled program -> the text of an LLVM module: one function a phase, and the entry."""

from __future__ import annotations

from collections.abc import Callable

from loopgrad.backends.llvm import functions, integers, places
from loopgrad.backends.llvm.expressions import Expressions
from loopgrad.backends.llvm.function import PhaseFunction, Value
from loopgrad.backends.llvm.layout import CONSTANT_BITS, Layout
from loopgrad.backends.llvm.text import I64, Body, Module
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Reduction,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Loop, Nest, Phase, Scheduled, Sequence, tensors_of

INT, FLOAT = ElementType.INT, ElementType.FLOAT

ENTRY = "loopgrad_run"

_REAL_UPDATE = {Reduction.ADD: "fadd", Reduction.SUBTRACT: "fsub", Reduction.MULTIPLY: "fmul"}
_INTEGER_UPDATE = {Reduction.ADD: "+", Reduction.SUBTRACT: "-", Reduction.MULTIPLY: "*"}
_EXTREMUM = {Reduction.MAXIMUM: "max", Reduction.MINIMUM: "min"}


def emit(scheduled: Scheduled, layout: Layout, module: Module) -> str:
    """The module's text; `layout` is filled with the places that may fail."""
    calls = [_phase(phase, f"phase{i}", layout, module) for i, phase in enumerate(scheduled.phases)]
    started = {
        phase.statement.target.tensor
        for phase in scheduled.phases
        if isinstance(phase, Nest) and phase.starts
    }
    _entry(calls, started, layout, module)
    return module.text()


# ---------------------------------------------------------------------------------------- phases


def _phase(phase: Phase, name: str, layout: Layout, module: Module) -> PhaseFunction:
    tensors = tensors_of(phase)
    ordered = [t for t in layout.task.facts.tensors if t in tensors]
    function = PhaseFunction(module, layout, name, ordered)
    PhaseWriter(function).write(phase)
    function.body.do("ret i32 0")
    function.body.finish()
    return function


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
            self._loop(sequence.loops[depth], lambda: self._sequence(sequence, depth + 1))
        else:
            for phase in sequence.body:
                self.write(phase)

    def _nest(self, nest: Nest, depth: int) -> None:
        loops = nest.loops
        if depth + 1 == len(loops) and self._may_stay_in_register(nest):
            self._register_loop(nest)
        elif depth < len(loops):
            self._loop(loops[depth], lambda: self._nest(nest, depth + 1))
        else:
            self._guarded(nest.statement.guard, lambda: self._update_memory(nest))

    # ----------------------------------------------------------------------------------- loops

    def _loop(self, loop: Loop, body: Callable[[], None]) -> None:
        def once(carried: str | None) -> None:
            body()

        self._counted(loop, None, lambda: None, once, lambda carried: None)

    def _counted(
        self,
        loop: Loop,
        kind: str | None,
        enter: Callable[[], str | None],
        body: Callable[[str | None], str | None],
        leave: Callable[[str | None], None],
    ) -> None:
        """A loop that is tested at its end, inside a test whether it runs at all.

        With a `kind` of LLVM, a value is carried from `enter` through each `body` to `leave`;
        `enter` and `leave` run only if the loop does.
        """
        at, index = self.body, loop.index
        lower = self.expressions.integer(loop.lower)
        upper = self.expressions.integer(loop.upper)
        mark = at.fresh("loop")
        runs = at.value(f"icmp slt i64 {lower.text}, {upper.text}")
        at.branch(runs, f"{mark}.enter", f"{mark}.end")
        at.start(f"{mark}.enter")
        start = lower.text
        if loop.descending:
            start = at.value(f"sub nsw i64 {upper.text}, 1")
        carried = enter()
        before = at.block
        at.jump(mark)
        at.start(mark)
        value, complete = at.phi_later(I64)
        bits = max(lower.bits, upper.bits)
        outer = self.function.indices.get(index)
        self.function.indices[index] = Value(value, INT, bits)
        if kind is not None and carried is not None:
            now, complete_carried = at.phi_later(kind)
            after = body(now)
            assert after is not None
        else:
            after = body(None)
        if descending := loop.descending:
            following = at.value(f"sub nsw i64 {value}, 1")
        else:
            following = at.value(f"add nsw i64 {value}, 1")
        limit = lower.text if descending else upper.text
        more = at.value(f"icmp {'sge' if descending else 'slt'} i64 {following}, {limit}")
        complete((start, before), (following, at.block))
        if kind is not None and carried is not None and after is not None:
            complete_carried((carried, before), (after, at.block))
        at.branch(more, mark, f"{mark}.leave")
        at.start(f"{mark}.leave")
        leave(after)
        at.jump(f"{mark}.end")
        at.start(f"{mark}.end")
        if outer is None:
            del self.function.indices[index]
        else:
            self.function.indices[index] = outer

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
        return statement.guard is None or all(map(_is_affine, target.subscripts))

    def _register_loop(self, nest: Nest) -> None:
        statement = nest.statement
        target, kind = statement.target, self.layout.element(statement.target.tensor)
        address = ""

        def enter() -> str:
            nonlocal address
            address = self._register_address(statement)
            return self.body.load(kind, address)

        def body(sofar: str | None) -> str:
            assert sofar is not None
            if statement.guard is None:
                return self._updated(nest, sofar)
            mark = self.body.fresh("guard")
            holds = self.expressions.condition(statement.guard)
            before = self.body.block
            self.body.branch(holds, f"{mark}.then", f"{mark}.end")
            self.body.start(f"{mark}.then")
            self._check_target(statement)
            after = self._updated(nest, sofar)
            end = self.body.block
            self.body.jump(f"{mark}.end")
            self.body.start(f"{mark}.end")
            return self.body.phi(kind, (sofar, before), (after, end))

        def leave(final: str | None) -> None:
            assert final is not None
            self.body.store(kind, final, address)

        self._counted(nest.loops[-1], kind, enter, body, leave)
        assert target is statement.target

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

    def _check_target(self, statement: Accumulate) -> None:
        self.expressions.place(statement.target)

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

    def _updated(self, nest: Nest, sofar: str) -> str:
        return self._update_value(nest)(sofar)

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


def _is_affine(subscript: Expression) -> bool:
    """Sums of indices, extents and modest numbers: it never fails and costs nothing."""
    match subscript:
        case Apply("+" | "-" | "neg", operands):
            return all(map(_is_affine, operands))
        case Number(value):
            return abs(value) < 2**CONSTANT_BITS
    return isinstance(subscript, Index | Extent | Constant)


# ----------------------------------------------------------------------------------------- entry


def _entry(phases: list[PhaseFunction], started: set[str], layout: Layout, module: Module) -> None:
    """`i32 (pointers, integers, reals, record)`: fills the computed tensors, runs the phases."""
    facts, pointer = layout.task.facts, module.pointer
    byte = pointer("i8")
    head = (
        f"i32 @{ENTRY}({pointer(byte)} %pointers, {pointer(I64)} %integers, "
        f"{pointer('double')} %reals, {pointer(I64)} %record) nounwind"
    )
    body = Body(module, ENTRY, head)
    arguments: dict[tuple[str, str], str] = {}
    kinds = [("tensor", t, layout.element(t)) for t in facts.tensors]
    kinds += [("state", t, I64) for t in layout.tracked]
    for i, (role, tensor, kind) in enumerate(kinds):
        raw = body.load(byte, body.element(byte, "%pointers", i))
        typed = body.value(f"bitcast {byte} {raw} to {pointer(kind)}")
        arguments[role, tensor] = f"{pointer(kind)} {typed}"
    for tensor_facts in facts.tensors.values():
        if tensor_facts.role != "input" and tensor_facts.name not in started:
            count = "1"
            for extent in tensor_facts.extents:
                count = body.value(f"mul i64 {count}, {_entry_extent(body, layout, extent)}")
            _fill(body, layout, tensor_facts.name, arguments["tensor", tensor_facts.name], count)
    common = f"{pointer(I64)} %record, {pointer(I64)} %integers, {pointer('double')} %reals"
    for function in phases:
        given = [common]
        given += [arguments["tensor", t] for t in function.tensors]
        given += [arguments["state", t] for t in function.states]
        failed = body.value(f"call i32 @{function.name}({', '.join(given)})")
        fine = body.value(f"icmp eq i32 {failed}, 0")
        label = body.fresh("phase")
        body.branch(fine, label, "failed")
        body.start(label)
    body.do("ret i32 0")
    body.at_end("failed", ["ret i32 1"])
    body.finish()


def _entry_extent(body: Body, layout: Layout, extent: Expression) -> str:
    if isinstance(extent, Number):
        return str(extent.value)
    slot = layout.slots[layout.axis_key(extent)]
    return body.load(I64, body.element(I64, "%integers", slot))


def _fill(body: Body, layout: Layout, tensor: str, pointer: str, count: str) -> None:
    """A computed tensor starts at the identity of its operation."""
    module, element = body.module, layout.element(tensor)
    start = identity(layout, tensor, module)
    name = f"fill_{element}"
    if name not in module.functions:
        inner = Body(
            module,
            name,
            f"internal void @{name}({module.pointer(element)} %p, i64 %n, "
            f"{element} %value) noinline nounwind",
        )
        some = inner.value("icmp sgt i64 %n, 0")
        inner.branch(some, "loop", "end")
        inner.start("loop")
        i, complete = inner.phi_later(I64)
        inner.store(element, "%value", inner.element(element, "%p", i))
        following = inner.value(f"add nsw i64 {i}, 1")
        more = inner.value(f"icmp slt i64 {following}, %n")
        complete(("0", "entry"), (following, "loop"))
        inner.branch(more, "loop", "end")
        inner.start("end")
        inner.do("ret void")
        inner.finish()
    body.do(f"call void @{name}({pointer}, i64 {count}, {element} {start})")


def identity(layout: Layout, tensor: str, module: Module) -> str:
    reduction = next(
        (
            s.reduction
            for _, s in walk.accumulates(layout.task.facts.program.statements)
            if s.target.tensor == tensor and s.reduction is not Reduction.SET
        ),
        Reduction.SET,
    )
    is_int = layout.tensor_types[tensor] is INT
    match reduction:
        case Reduction.MULTIPLY:
            return "1" if is_int else module.number(1.0)
        case Reduction.MAXIMUM:
            return str(integers.LEAST) if is_int else module.number(float("-inf"))
        case Reduction.MINIMUM:
            return str(integers.GREATEST) if is_int else module.number(float("inf"))
    return "0" if is_int else module.number(0.0)
