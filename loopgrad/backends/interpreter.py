"""The reference: runs the loops as they stand, one by one, and checks everything.

Slow, short and plainly right; every other backend is compared with it. What the operations compute
is written in docs/decisions/0002; completeness is watched as docs/decisions/0001 says, here on
every computed tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.types import BOOL, FLOAT, INT, element_type, join
from loopgrad.backends import errors
from loopgrad.backends.arithmetic import (
    GREATEST,
    IDENTITIES,
    INTEGER,
    INTEGER_UPDATES,
    LEAST,
    REAL,
    REAL_UPDATES,
)
from loopgrad.backends.binding import element_dtype
from loopgrad.backends.kernel import BoundCall, Runner, Task
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import COMPARE, ElementType


@dataclass
class Frame:
    """The state of one run: where the loops are, and what was read and written so far."""

    call: BoundCall
    real: Callable[[Any], Any]  # np.float32 or np.float64
    states: dict[str, NDArray[np.int64]]
    indices: dict[str, int] = field(default_factory=dict)
    step: int = 0  # counts the accumulates executed; decision 0001 calls it n


Code: TypeAlias = Callable[[Frame], Any]  # an expression's value, or a statement's effect


def prepare(task: Task) -> Runner:
    """The literal loops of the program, whatever `task.optimize` and `task.safety` say."""
    return Interpreter(task.facts)


class Interpreter:
    """A program as closures over a Frame. Holds no state of a run, so threads may share it."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.identities = _identities(facts)
        self.returned = {r.name for r in facts.program.results}
        self.statements = [_statement(s, facts) for s in facts.program.statements]

    def run(self, call: BoundCall) -> None:
        arrays = dict(call.arrays)
        for name, identity in self.identities.items():
            if name not in self.returned:
                dtype = element_dtype(self.facts.tensors[name].element, call.dtype)
                arrays[name] = np.empty(call.shapes[name], dtype)
            arrays[name].fill(identity)
        call = replace(call, arrays=arrays)
        states = {name: np.zeros(call.shapes[name], np.int64) for name in self.identities}
        frame = Frame(call, call.dtype.type, states)
        with np.errstate(all="ignore"):
            for statement in self.statements:
                statement(frame)

    def scratch(self, call: BoundCall) -> None:
        """Every temporary is kept whole."""

    def begin(self, call: BoundCall) -> None:
        """There is nothing to wait for."""

    def shortcut(self) -> None:
        """Speed is not its business."""


def _identities(facts: Facts) -> dict[str, float | int]:
    """What each computed tensor starts with: the identity of its operation beside `=`."""
    from loopgrad.ir.walk import accumulates

    found: dict[str, float | int] = {}
    for _, statement in accumulates(facts.program.statements):
        name = statement.target.tensor
        if name not in found or statement.reduction is not Reduction.SET:
            real, integer = IDENTITIES[statement.reduction]
            found[name] = real if facts.tensors[name].element is FLOAT else integer
    return found


# -------------------------------------------------------------------------------------- statements


def _statement(statement: Statement, facts: Facts) -> Code:
    compiler = Compiler(statement, facts)
    match statement:
        case Accumulate():
            nest = compiler.nest(statement.ranges, compiler.update(statement), begin_step=False)

            def accumulate(frame: Frame) -> None:
                frame.step += 1
                nest(frame)

            return accumulate
        case Block():
            body = [_statement(s, facts) for s in statement.body]

            def once(frame: Frame) -> None:
                for inner in body:
                    inner(frame)

            return compiler.nest(statement.ranges, once, begin_step=True)
    raise AssertionError("calls were unfolded")


class Compiler:
    """Makes closures of the expressions of one statement, which its errors show."""

    def __init__(self, statement: Statement, facts: Facts):
        self.statement = statement
        self.elements = {name: tensor.element for name, tensor in facts.tensors.items()}
        self.constants = facts.constants

    def type_of(self, expression: Expression) -> ElementType:
        return element_type(expression, self.elements, self.constants)

    def nest(self, ranges: Sequence[Range], body: Code, begin_step: bool) -> Code:
        """The loops around `body`. A block's bounds are read in a step of their own: what the
        body wrote before is finished by then."""
        for r in reversed(ranges):
            body = self._loop(r, body, begin_step)
        return body

    def _loop(self, r: Range, body: Code, begin_step: bool) -> Code:
        assert r.lower is not None and r.upper is not None, "infer spells out both bounds"
        index, descending = r.index, r.descending
        lower, upper = self.integer(r.lower), self.integer(r.upper)

        def loop(frame: Frame) -> None:
            frame.step += begin_step
            values = range(lower(frame), upper(frame))
            for value in reversed(values) if descending else values:
                frame.indices[index] = value
                body(frame)

        return loop

    def update(self, statement: Accumulate) -> Code:
        """One iteration: where the guard holds, the target's element combined with the value."""
        target, reduction = statement.target, statement.reduction
        name, element = target.tensor, self.elements[target.tensor]
        guard = self.truth(statement.guard) if statement.guard is not None else None
        place = self.place(target)
        value = self.converted(statement.value, element)
        combine = self.combination(reduction, element)

        def update(frame: Frame) -> None:
            if guard is not None and not guard(frame):
                return
            at = place(frame)
            new = value(frame)
            self.mark_written(frame, target, at, reduction)
            array = frame.call.arrays[name]
            array[at] = combine(array[at], new)

        return update

    def combination(self, reduction: Reduction, element: ElementType) -> Callable[[Any, Any], Any]:
        if reduction is Reduction.SET:
            return lambda old, new: new
        if element is FLOAT:
            return REAL_UPDATES[reduction]
        exact = INTEGER_UPDATES[reduction]
        return lambda old, new: self.fitting(exact(int(old), new))

    def mark_written(
        self, frame: Frame, target: Read, at: tuple[int, ...], reduction: Reduction
    ) -> None:
        states = frame.states[target.tensor]
        state = states[at]
        if state == -1:
            raise errors.changed_after_read(target, at, self.statement)
        if reduction is Reduction.SET and state != 0:
            raise errors.written_twice(target, at, self.statement)
        states[at] = frame.step

    def mark_read(self, frame: Frame, read: Read, at: tuple[int, ...]) -> None:
        states = frame.states.get(read.tensor)
        if states is None:  # an input
            return
        if states[at] == frame.step:
            raise errors.read_while_written(read, at, self.statement)
        states[at] = -1

    # --------------------------------------------------------------------------------- expressions

    def place(self, place: Read) -> Callable[[Frame], tuple[int, ...]]:
        """The subscripts of a read or target, checked."""
        name = place.tensor
        subscripts = [self.integer(s) for s in place.subscripts]

        def checked(at: tuple[int, ...], frame: Frame) -> tuple[int, ...]:
            for axis, (value, extent) in enumerate(zip(at, frame.call.shapes[name], strict=True)):
                if not 0 <= value < extent:
                    raise errors.out_of_range(place, axis, value, extent, self.statement)
            return at

        match subscripts:  # most have one or two, and most of the time goes here
            case [one]:
                return lambda frame: checked((one(frame),), frame)
            case [one, other]:

                def pair(frame: Frame) -> tuple[int, ...]:
                    row, column = at = one(frame), other(frame)
                    rows, columns = frame.call.shapes[name]
                    inside = 0 <= row < rows and 0 <= column < columns
                    return at if inside else checked(at, frame)

                return pair
        return lambda frame: checked(tuple([s(frame) for s in subscripts]), frame)

    def truth(self, condition: Expression) -> Code:
        code = self.value(condition)
        return lambda frame: bool(code(frame))

    def integer(self, expression: Expression) -> Code:
        code = self.value(expression)
        return code if self.type_of(expression) is INT else lambda frame: int(code(frame))

    def converted(self, expression: Expression, to: ElementType) -> Code:
        """The value as an element of type `to`, which holds those of the expression's type."""
        code = self.value(expression)
        if self.type_of(expression) is to:
            return code
        return (lambda frame: frame.real(code(frame))) if to is FLOAT else self.integer(expression)

    def value(self, expression: Expression) -> Code:
        """A bool, an int, or a scalar of the call's floating type, as `type_of` says."""
        match expression:
            case Number(int(number)):
                return lambda frame: number
            case Number(number):
                return lambda frame: frame.real(number)
            case Index(name):
                return lambda frame: frame.indices[name]
            case Extent(name):
                return lambda frame: frame.call.extents[name]
            case Constant(name):
                if self.constants[name] is FLOAT:
                    return lambda frame: frame.real(frame.call.constants[name])
                return lambda frame: frame.call.constants[name]
            case Read():
                return self.read(expression)
            case Compare():
                return self.comparison(expression)
            case Conditional(condition, then, otherwise):
                kind = self.type_of(expression)
                test = self.truth(condition)
                yes, no = self.converted(then, kind), self.converted(otherwise, kind)
                return lambda frame: yes(frame) if test(frame) else no(frame)
            case Apply("and", (left, right)):
                first, second = self.truth(left), self.truth(right)
                return lambda frame: first(frame) and second(frame)
            case Apply("or", (left, right)):
                first, second = self.truth(left), self.truth(right)
                return lambda frame: first(frame) or second(frame)
            case Apply("not", (operand,)):
                test = self.truth(operand)
                return lambda frame: not test(frame)
            case Apply():
                return self.arithmetic(expression)
        raise AssertionError("reductions were unfolded")

    def read(self, read: Read) -> Code:
        name, place = read.tensor, self.place(read)
        as_python = AS_PYTHON[self.elements[name]]

        def element(frame: Frame) -> Any:
            at = place(frame)
            self.mark_read(frame, read, at)
            return as_python(frame.call.arrays[name][at])

        return element

    def comparison(self, compare: Compare) -> Code:
        pairs = list(zip(compare.operands, compare.operands[1:], strict=False))
        links: list[Code] = []
        for operator, (left, right) in zip(compare.operators, pairs, strict=True):
            kind = join(self.type_of(left), self.type_of(right))
            links.append(
                _link(COMPARE[operator], self.converted(left, kind), self.converted(right, kind))
            )
        return links[0] if len(links) == 1 else lambda frame: all(link(frame) for link in links)

    def arithmetic(self, expression: Apply) -> Code:
        operation, operands = expression.operation, expression.operands
        if operation == "floor":
            return self.floor(operands[0])
        kind = self.type_of(expression)
        codes = [self.converted(operand, kind) for operand in operands]
        if kind is FLOAT:
            real = REAL[operation]
            if operation == "pi":
                return lambda frame: frame.real(math.pi)
            return _applied(real, codes)
        match operation:
            case "//" | "%":
                return self.division(operation, codes[0], codes[1])
            case "**":
                return self.power(codes[0], codes[1])
        exact = INTEGER[operation]
        number = _applied(exact, codes)
        return lambda frame: self.fitting(number(frame))

    def floor(self, operand: Expression) -> Code:
        if self.type_of(operand) is not FLOAT:
            return self.integer(operand)
        code = self.value(operand)

        def floor(frame: Frame) -> int:
            value = float(code(frame))
            if not LEAST <= value < -LEAST:  # NaN is in no interval
                raise errors.floor_of(value, self.statement)
            return math.floor(value)

        return floor

    def division(self, operation: str, left: Code, right: Code) -> Code:
        exact = INTEGER[operation]

        def divide(frame: Frame) -> int:
            dividend, divisor = left(frame), right(frame)
            if divisor == 0:
                raise errors.division_by_zero(operation, self.statement)
            return self.fitting(exact(dividend, divisor))

        return divide

    def power(self, left: Code, right: Code) -> Code:
        def power(frame: Frame) -> int:
            base, exponent = left(frame), right(frame)
            if exponent < 0:
                raise errors.negative_exponent(exponent, self.statement)
            if abs(base) > 1 and exponent > 63:  # 2**64 and its like: do not even compute it
                raise errors.integer_overflow(self.statement)
            return self.fitting(base**exponent)

        return power

    def fitting(self, value: int) -> int:
        if not LEAST <= value <= GREATEST:
            raise errors.integer_overflow(self.statement)
        return value


# What an array's element is turned into: integers become exact, floats stay of their type.
AS_PYTHON: dict[ElementType, Callable[[Any], Any]] = {
    BOOL: bool,
    INT: int,
    FLOAT: lambda value: value,
}


def _applied(function: Callable[..., Any], codes: Sequence[Code]) -> Code:
    match codes:
        case [one]:
            return lambda frame: function(one(frame))
        case [one, other]:
            return lambda frame: function(one(frame), other(frame))
    return lambda frame: function(*[code(frame) for code in codes])


def _link(compare: Callable[[Any, Any], Any], left: Code, right: Code) -> Code:
    return lambda frame: bool(compare(left(frame), right(frame)))
