"""Expressions -> instructions in a `Fused` phase: one value, or one in each lane of the loop around.

What does not vary from lane to lane is computed once. Where something would be an error, the phase
gives up (`Frame.go_on_where`): the literal code then finds and raises it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

from loopgrad.analysis.types import join
from loopgrad.backends.llvm.fused.accesses import literal_vector, positions, splat
from loopgrad.backends.llvm.fused.elements import Elements
from loopgrad.backends.llvm.fused.frame import Frame, Value
from loopgrad.backends.llvm.fused.sizes import SLOW
from loopgrad.backends.llvm.fused.strides import coefficient
from loopgrad.backends.llvm.fused.surroundings import BOOL, FLOAT, INDEX_BITS, INT
from loopgrad.backends.llvm.fused.whole import Whole
from loopgrad.backends.llvm.writing import functions
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.layout import CONSTANT_BITS, EXTENT_BITS
from loopgrad.backends.llvm.writing.text import I64, as_float, vector
from loopgrad.ir import walk
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduce,
)
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.sums.reciprocals import TAKEN

_INTEGER_ORDER = {"==": "eq", "!=": "ne", "<": "slt", "<=": "sle", ">": "sgt", ">=": "sge"}
# Evaluated where it need not be, if its operands may be.
_CHEAP = frozenset(["+", "-", "*", "neg", "abs", "max", "min", "relu", "not", "and", "or", "pi"])
_FAR = 2**16  # from one lane to the next: 64 lanes of them fit into 32 bits
# Not computed twice.
_DEAR = frozenset(["/", "**", "sqrt", "rsqrt"]) | SLOW


class Vectors(Elements):
    """Lowers expressions at the place where the body of the frame stands."""

    def __init__(self, frame: Frame):
        super().__init__(frame)
        self.whole = Whole(self)

    def convert(self, value: Value, wanted: ElementType) -> Value:
        """bool -> int -> float; anything -> bool is whether it is not 0."""
        if value.element is wanted:
            return value
        if wanted is FLOAT and value.text.lstrip("-").isdigit():
            return self._real_literal(int(value.text))
        old, new = self.kind(value.element, value.lanes), self.kind(wanted, value.lanes)
        match value.element, wanted:
            case ElementType.INT, ElementType.BOOL:
                zero = splat(self.body, I64, "0", value.lanes)
                text = self.body.value(f"icmp ne {old} {value.text}, {zero}")
                return Value(text, BOOL, value.lanes)
            case ElementType.BOOL, ElementType.INT:
                text = self.body.value(f"zext {old} {value.text} to {new}")
                return Value(text, INT, value.lanes, 1)
            case ((ElementType.BOOL | ElementType.INT), ElementType.FLOAT):
                name = "uitofp" if value.element is BOOL else "sitofp"
                text = self.body.value(f"{name} {old} {value.text} to {new}")
                return Value(text, FLOAT, value.lanes)
        raise TypeError(f"a {value.element.value} where a {wanted.value} is needed")

    def real(self, expression: Expression) -> Value:
        match expression:
            case Number(value):
                return self._real_literal(value)
            case Apply("neg", (Number(value),)):
                return self._real_literal(-value)
        return self.convert(self.lower(expression), FLOAT)

    def _real_literal(self, value: int | float) -> Value:
        return Value(self.frame.module.number(as_float(value)), FLOAT)

    def integer(self, expression: Expression) -> Value:
        return self.convert(self.lower(expression), INT)

    def condition(self, expression: Expression) -> Value:
        return self.convert(self.lower(expression), BOOL)

    def lower_as(self, expression: Expression, element: ElementType) -> Value:
        if element is FLOAT:
            return self.real(expression)
        return self.convert(self.lower(expression), element)

    def lower(self, expression: Expression) -> Value:
        if isinstance(expression, Read | Apply | Compare | Conditional):
            found = self.known.get(expression)
            if found is not None and not (self._first_lane and found.lanes > 1):
                return found
        match expression:
            case Number(int(value)):
                return self.whole.literal(value)
            case Number(value):
                return self._real_literal(value)
            case Index(name):
                return self._index(name)
            case Extent() | Constant():
                return self._argument(expression)
            case Read():
                return self._read(expression)
            case Compare():
                return self._compare(expression)
            case Conditional():
                return self._conditional(expression)
            case Apply(operation):
                found = self._apply(expression)
                if not self._first_lane and (operation in _DEAR or found.element is INT):
                    self.known[expression] = found
                return found
            case Reduce(name):
                raise TypeError(f"{name}[...] has to be unfolded before it is compiled")
        assert_never(expression)

    def _index(self, name: str) -> Value:
        if name != self.around.index:
            return Value(self.indices[name].text, INT, 1, INDEX_BITS)
        if self._first_lane:
            return Value(self.around.first, INT, 1, INDEX_BITS)
        wide = vector(I64, self.around.lanes)
        first = splat(self.body, I64, self.around.first, self.around.lanes)
        each = self.body.value(f"add nsw {wide} {first}, {positions(self.around.lanes)}")
        return Value(each, INT, self.around.lanes, INDEX_BITS)

    def _argument(self, argument: Extent | Constant) -> Value:
        frame, layout = self.frame, self.layout
        if isinstance(argument, Extent):
            slot = layout.slots["extent", argument.name]
            return Value(frame.integer(slot), INT, 1, EXTENT_BITS)
        if argument.name in layout.real_constants:
            return Value(frame.real(layout.real_constants.index(argument.name)), FLOAT)
        slot = layout.slots["constant", argument.name]
        return Value(frame.integer(slot), INT, 1, CONSTANT_BITS)

    def _compare(self, chain: Compare) -> Value:
        """A chain; each operand is evaluated only where all before it held."""

        if len(chain.operators) == 1:
            found = self._compare_positions(chain.operators[0], *chain.operands)
            if found is not None:
                return found

        def link(i: int, left: Value) -> Value:
            right = self.lower(chain.operands[i + 1])
            holds = self._compare_values(chain.operators[i], left, right)
            if i + 1 == len(chain.operators):
                return holds
            rest = chain.operands[i + 2 :]
            return self._lazily("and", holds, lambda: link(i + 1, right), *rest)

        return link(0, self.lower(chain.operands[0]))

    def _compare_positions(
        self, operator: str, left: Expression, right: Expression
    ) -> Value | None:
        """Of integers that grow evenly from lane to lane: by what each lane is away from the first.

        None for others. So no lane computes with 64 bits.
        """
        around = self.around
        if self._first_lane or not (self.varies(left) or self.varies(right)):
            return None
        if any(self.type_of(side) is not INT for side in (left, right)):
            return None
        steps = [
            coefficient(side, around.index, self.varies) if self.varies(side) else 0
            for side in (left, right)
        ]
        more, fewer = steps
        if not isinstance(more, int) or not isinstance(fewer, int):
            return None
        step = more - fewer
        if abs(step) > _FAR:
            return None
        with self.at_first_lane():
            missing = self.whole.arithmetic("-", self.integer(right), self.integer(left))
        far = self.whole.literal(_FAR * around.lanes + 1)
        near = self.whole.extremum("min", missing, far)
        near = self.whole.extremum("max", near, self.whole.literal(-_FAR * around.lanes - 1))
        least = self.body.value(f"trunc i64 {near.text} to i32")
        lanes, kind = around.lanes, vector("i32", around.lanes)
        away = literal_vector("i32", [str(step * lane) for lane in range(lanes)])
        order = f"icmp {_INTEGER_ORDER[operator]} {kind}"
        return Value(
            self.body.value(f"{order} {away}, {splat(self.body, 'i32', least, lanes)}"), BOOL, lanes
        )

    def _compare_values(self, operator: str, left: Value, right: Value) -> Value:
        common = join(INT, left.element, right.element)
        lanes, (a, b) = self.even(self.convert(left, common), self.convert(right, common))
        if common is FLOAT:
            return Value(functions.compare(Lanes(self.body, lanes), operator, a, b), BOOL, lanes)
        order = f"icmp {_INTEGER_ORDER[operator]} {vector(I64, lanes)}"
        return Value(self.body.value(f"{order} {a}, {b}"), BOOL, lanes)

    def _lazily(
        self, operation: str, first: Value, second: Callable[[], Value], *parts: Expression
    ) -> Value:
        """`first and second`, or `or`; `second` is made of the parts, and may not be evaluated."""
        if first.text == ("true" if operation == "and" else "false"):
            return second()
        if all(map(self.is_cheap, parts)):
            return self.both(first, second(), operation)
        if any(map(self.varies, parts)) and all(map(self._is_light, parts)):
            first = self.widened(first, self.around.lanes)
        reached = first if operation == "and" else self.negated(first)
        if first.lanes > 1:
            with self.masked(reached):
                return self.both(first, second(), operation)
        lanes = self.around.lanes if any(map(self.varies, parts)) else 1
        done = self.widened(Value("false" if operation == "and" else "true", BOOL), lanes)
        return self.choose(reached, lambda: self.widened(second(), lanes), lambda: done)

    def _conditional(self, expression: Conditional) -> Value:
        element = self.type_of(expression)
        condition = self.condition(expression.condition)
        then, otherwise = expression.then, expression.otherwise
        if condition.text == "true":
            return self.lower_as(then, element)
        varies = self.varies(then) or self.varies(otherwise)
        if varies and self._is_light(then) and self._is_light(otherwise):
            condition = self.widened(condition, self.around.lanes)
        if condition.lanes > 1:
            with self.masked(condition):
                first = self.lower_as(then, element)
            with self.masked(self.negated(condition)):
                second = self.lower_as(otherwise, element)
            return self.select(condition, first, second)
        if self.is_cheap(then) and self.is_cheap(otherwise):
            first = self.lower_as(then, element)
            return self.select(condition, first, self.lower_as(otherwise, element))
        lanes = self.around.lanes if varies else 1
        return self.choose(
            condition,
            lambda: self.widened(self.lower_as(then, element), lanes),
            lambda: self.widened(self.lower_as(otherwise, element), lanes),
        )

    def choose(
        self, condition: Value, then: Callable[[], Value], otherwise: Callable[[], Value]
    ) -> Value:
        """Evaluates one of two, in blocks of their own."""
        body, mark = self.body, self.body.fresh("if")
        body.branch(condition.text, f"{mark}.then", f"{mark}.else")
        body.start(f"{mark}.then")
        with self.scope():
            a, first_end = then(), body.block
        body.jump(f"{mark}.end")
        body.start(f"{mark}.else")
        with self.scope():
            b, second_end = otherwise(), body.block
        body.jump(f"{mark}.end")
        body.start(f"{mark}.end")
        text = body.phi(self.kind(a.element, a.lanes), (a.text, first_end), (b.text, second_end))
        return Value(text, a.element, a.lanes, max(a.bits, b.bits))

    def is_cheap(self, expression: Expression) -> bool:
        """May it be evaluated where it need not be? It cannot fail, and costs little."""
        return self._is_made_of(expression, lambda read: read_is_cheap(self, read, read.tensor))

    def _is_light(self, expression: Expression) -> bool:
        """Does it take a few instructions under a mask? A branch, which masks have to pass, takes more."""
        return self._is_made_of(expression, self._is_read_lightly)

    def _is_read_lightly(self, read: Read) -> bool:
        gathers = any(True for s in read.subscripts for _ in walk.reads(s))
        return (
            read not in self.unproved and not gathers and all(map(self.is_cheap, read.subscripts))
        )

    def _is_made_of(self, expression: Expression, fits: Callable[[Read], bool]) -> bool:
        """Of such reads and of cheap operations, and of nothing else?"""
        match expression:
            case Number() | Index() | Extent() | Constant():
                return True
            case Read():
                return fits(expression)
            case Apply(operation, operands):
                return operation in _CHEAP and all(self._is_made_of(o, fits) for o in operands)
            case Compare(_, operands):
                return all(self._is_made_of(o, fits) for o in operands)
            case Conditional(condition, then, otherwise):
                return all(self._is_made_of(o, fits) for o in (condition, then, otherwise))
        return False

    def _apply(self, expression: Apply) -> Value:
        operation, operands = expression.operation, expression.operands
        match operation:
            case "and" | "or":
                right = operands[1]
                first = self.condition(operands[0])
                return self._lazily(operation, first, lambda: self.condition(right), right)
            case "not":
                return self.negated(self.condition(operands[0]))
            case "floor" if self.type_of(operands[0]) is FLOAT:
                return self.whole.floor(self.real(operands[0]))
        if self.type_of(expression) is FLOAT:
            return self._real_operation(operation, operands)
        return self.whole.apply(operation, [self.integer(o) for o in operands])

    def _real_operation(self, operation: str, operands: tuple[Expression, ...]) -> Value:
        if operation == "pi":
            return Value(functions.call(Lanes(self.body), "pi"), FLOAT)
        if operation == "**":
            exponent = _literal(operands[1])
            base = self.real(operands[0])
            if exponent is not None:
                w = Lanes(self.body, base.lanes)
                short = functions.literal_power(w, base.text, exponent)
                if short is not None:
                    return Value(short, FLOAT, base.lanes)
        if operands[0] is TAKEN:
            return self._reciprocal(self.real(operands[1]))
        values = [self.real(operand) for operand in operands]
        mask, w = self.around.mask, Lanes(self.body, values[0].lanes)
        if mask is not None and w.count > 1 and functions.looks(w, operation):
            # What lies in lanes that nothing reaches need not be anything usual.
            reached = Value(mask, BOOL, w.count)
            zero = Value(Lanes(self.body).number(0.0), FLOAT)
            values = [self.select(reached, values[0], zero)]
        return self.operate(operation, *values)

    def _reciprocal(self, divisor: Value) -> Value:
        """Gives up where it is infinite, and the divisor is not 0."""
        w = Lanes(self.body, divisor.lanes)
        found = w.divide(w.number(1.0), divisor.text)
        # About 1; no number where the divisor is 0 or infinite.
        whole = w.multiply(found, divisor.text)
        holds = w.compare("une", whole, w.number(math.inf))
        self.require(Value(holds, BOOL, divisor.lanes))
        return Value(found, FLOAT, divisor.lanes)

    def operate(self, operation: str, *values: Value, flags: str = "") -> Value:
        """An operation on reals."""
        lanes, texts = self.even(*values)
        return Value(
            functions.call(Lanes(self.body, lanes, flags), operation, *texts), FLOAT, lanes
        )


def read_is_cheap(vectors: Vectors, read: Read, tensor: str) -> bool:
    """Is it there for certain? And so are its subscripts, which then are indices."""
    if read in vectors.unproved:
        return False
    if read in vectors.known:
        return True
    return vectors.frame.storage(tensor).register or vectors.is_safe(read)


def _literal(exponent: Expression) -> float | None:
    match exponent:
        case Number(value):
            return value
        case Apply("neg", (Number(value),)):
            return -value
    return None
