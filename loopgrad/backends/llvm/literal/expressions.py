"""Expressions -> instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from loopgrad.analysis.types import element_type, join
from loopgrad.backends.llvm.literal import integers, places
from loopgrad.backends.llvm.literal.function import ALL_BITS, PhaseFunction, Value
from loopgrad.backends.llvm.writing import functions
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.text import I64, as_float
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
from loopgrad.ir.operations import OPERATIONS, ElementType, Typing

BOOL, INT, FLOAT = ElementType.BOOL, ElementType.INT, ElementType.FLOAT

_INTEGER_ORDER = {"==": "eq", "!=": "ne", "<": "slt", "<=": "sle", ">": "sgt", ">=": "sge"}
# Safe to evaluate in vain, on floats always, on integers where they cannot overflow.
_CHEAP = frozenset(
    ["+", "-", "*", "/", "neg", "abs", "max", "min", "relu", "not", "and", "or", "pi"]
)


class Expressions:
    """Lowers expressions into one function, at the place where its body stands."""

    def __init__(self, function: PhaseFunction):
        self.function = function
        self.body = function.body
        self.reals = Lanes(function.body)
        self.layout = function.layout

    def type_of(self, expression: Expression) -> ElementType:
        facts = self.layout.task.facts
        return element_type(expression, self.layout.tensor_types, facts.constants)

    # ------------------------------------------------------------------------------- conversions

    def llvm_type(self, element: ElementType) -> str:
        return {BOOL: "i1", INT: I64, FLOAT: self.function.module.real}[element]

    def convert(self, value: Value, wanted: ElementType) -> Value:
        """bool -> int -> float; anything -> bool is whether it is not 0."""
        match value.element, wanted:
            case (a, b) if a is b:
                return value
            case ElementType.INT, ElementType.BOOL:
                return Value(self.body.value(f"icmp ne i64 {value.text}, 0"), BOOL)
            case ElementType.BOOL, ElementType.INT:
                return Value(self.body.value(f"zext i1 {value.text} to i64"), INT, 1)
            case ElementType.BOOL, ElementType.FLOAT:
                real = self.function.module.real
                return Value(self.body.value(f"uitofp i1 {value.text} to {real}"), FLOAT)
            case ElementType.INT, ElementType.FLOAT:
                real = self.function.module.real
                return Value(self.body.value(f"sitofp i64 {value.text} to {real}"), FLOAT)
        raise TypeError(f"a {value.element.value} where a {wanted.value} is needed")

    def real(self, expression: Expression) -> str:
        """The expression as a floating value."""
        match expression:
            case Number(value):
                return self.function.module.number(as_float(value))
            case Apply("neg", (Number(value),)):
                return self.function.module.number(-as_float(value))
        return self.convert(self.lower(expression), FLOAT).text

    def integer(self, expression: Expression) -> Value:
        return self.convert(self.lower(expression), INT)

    def condition(self, expression: Expression) -> str:
        return self.convert(self.lower(expression), BOOL).text

    def lower_as(self, expression: Expression, element: ElementType) -> Value:
        match element:
            case ElementType.FLOAT:
                return Value(self.real(expression), FLOAT)
            case ElementType.INT:
                return self.integer(expression)
            case ElementType.BOOL:
                return Value(self.condition(expression), BOOL)
        assert_never(element)

    # ---------------------------------------------------------------------------------- lowering

    def lower(self, expression: Expression) -> Value:
        match expression:
            case Number(int(value)):
                return self._integer_literal(value)
            case Number(value):
                return Value(self.function.module.number(value), FLOAT)
            case Index(name):
                return self.function.indices[name]
            case Extent(name):
                return self.function.extent_value(name)
            case Constant(name):
                return self.function.constant_value(name)
            case Read():
                return self._read(expression)
            case Compare(operators, operands):
                return Value(self._compare(operators, operands), BOOL)
            case Conditional():
                return self._conditional(expression)
            case Apply():
                return self._apply(expression)
            case Reduce(name):
                raise TypeError(f"{name}[...] has to be unfolded before it is compiled")
        assert_never(expression)

    def _integer_literal(self, value: int) -> Value:
        if value <= integers.GREATEST:
            return integers.integer(value)
        return integers.arithmetic(  # an overflow, reported where it is reached
            self.function, "+", Value(str(integers.GREATEST), INT, 63), Value("1", INT, 63)
        )

    def _read(self, read: Read) -> Value:
        place = self.place(read)
        places.watch_read(self.function, read, place)
        value = self.body.load(self.layout.element(read.tensor), place.address)
        match self.layout.tensor_types[read.tensor]:
            case ElementType.BOOL:
                return Value(self.body.value(f"icmp ne i8 {value}, 0"), BOOL)
            case ElementType.INT:
                return Value(value, INT, 63)
            case ElementType.FLOAT:
                return Value(value, FLOAT)

    def subscripts(self, read: Read) -> list[Value]:
        return [self.integer(s) for s in read.subscripts]

    def place(self, read: Read) -> places.Place:
        return places.locate(self.function, read, self.subscripts(read))

    # --------------------------------------------------------------------------------- branching

    def _compare(self, operators: tuple[str, ...], operands: tuple[Expression, ...]) -> str:
        """A chain; each operand is evaluated once, and only while all before it held."""
        left = self.lower(operands[0])

        def link(i: int, left: Value) -> str:
            right = self.lower(operands[i + 1])
            holds = self._compare_values(operators[i], left, right)
            if i + 1 == len(operators):
                return holds
            rest = all(self._is_cheap(o) for o in operands[i + 2 :])
            return self._both(holds, lambda: link(i + 1, right), rest)

        return link(0, left)

    def _compare_values(self, operator: str, left: Value, right: Value) -> str:
        common = join(INT, left.element, right.element)
        a, b = self.convert(left, common).text, self.convert(right, common).text
        if common is FLOAT:
            return functions.compare(self.reals, operator, a, b)
        return self.body.value(f"icmp {_INTEGER_ORDER[operator]} i64 {a}, {b}")

    def _both(self, first: str, second: Callable[[], str], cheap: bool) -> str:
        if cheap:
            return self.body.value(f"and i1 {first}, {second()}")
        return self._choose(first, "i1", second, lambda: "false")

    def _either(self, first: str, second: Callable[[], str], cheap: bool) -> str:
        if cheap:
            return self.body.value(f"or i1 {first}, {second()}")
        return self._choose(first, "i1", lambda: "true", second)

    def _conditional(self, expression: Conditional) -> Value:
        element = self.type_of(expression)
        condition = self.condition(expression.condition)
        bits = 0

        def side(branch: Expression) -> str:
            nonlocal bits
            value = self.lower_as(branch, element)
            bits = max(bits, value.bits)
            return value.text

        then, otherwise, kind = expression.then, expression.otherwise, self.llvm_type(element)
        if self._is_cheap(then) and self._is_cheap(otherwise):
            text = self.body.select(condition, kind, side(then), side(otherwise))
        else:
            text = self._choose(condition, kind, lambda: side(then), lambda: side(otherwise))
        return Value(text, element, bits)

    def _choose(
        self, condition: str, kind: str, then: Callable[[], str], otherwise: Callable[[], str]
    ) -> str:
        """Evaluates one of two, in blocks of their own."""
        body, mark = self.body, self.body.fresh("if")
        body.branch(condition, f"{mark}.then", f"{mark}.else")
        body.start(f"{mark}.then")
        first, first_end = then(), body.block
        body.jump(f"{mark}.end")
        body.start(f"{mark}.else")
        second, second_end = otherwise(), body.block
        body.jump(f"{mark}.end")
        body.start(f"{mark}.end")
        return body.phi(kind, (first, first_end), (second, second_end))

    def _is_cheap(self, expression: Expression) -> bool:
        """May it be evaluated where it need not be? It reads nothing, cannot fail, costs little."""
        match expression:
            case Number(int(value)):
                return value <= integers.GREATEST
            case Number() | Index() | Extent() | Constant():
                return True
            case Compare(_, operands):
                return all(map(self._is_cheap, operands))
            case Apply(operation, operands):
                if operation not in _CHEAP or not all(map(self._is_cheap, operands)):
                    return False
                if OPERATIONS[operation].typing is Typing.BOOL:
                    return True
                return self.type_of(expression) is FLOAT or self.is_free(expression)
            case Conditional(condition, then, otherwise):
                return all(map(self._is_cheap, (condition, then, otherwise)))
        return False

    def is_free(self, expression: Expression) -> bool:
        """Is it an integer that costs little and cannot fail?"""
        return isinstance(expression, Index | Extent) or self.free_bits(expression) is not None

    def free_bits(self, expression: Expression) -> int | None:
        """The bits of such an integer, where arithmetic on it cannot overflow; else None."""
        match expression:
            case Number(int(value)):
                bits = integers.integer(value).bits
            case Index(name):
                bits = self.function.indices[name].bits
            case Extent() | Constant():
                if self.type_of(expression) is not INT:
                    return None
                bits = self.lower(expression).bits
            case Apply("+" | "-" | "*" | "neg" as operation, operands):
                inside = [b for b in map(self.free_bits, operands) if b is not None]
                if len(inside) < len(operands):
                    return None
                bits = sum(inside) if operation == "*" else max(inside) + 1
            case _:
                return None
        return bits if bits < ALL_BITS else None

    # -------------------------------------------------------------------------------- operations

    def _apply(self, expression: Apply) -> Value:
        operation, operands = expression.operation, expression.operands
        match operation:
            case "and" | "or":
                combine = self._both if operation == "and" else self._either
                right = operands[1]
                cheap = self._is_cheap(right)
                first = self.condition(operands[0])
                return Value(combine(first, lambda: self.condition(right), cheap), BOOL)
            case "not":
                holds = self.condition(operands[0])
                return Value(self.body.value(f"xor i1 {holds}, true"), BOOL)
            case "floor":
                if self.type_of(operands[0]) is not FLOAT:
                    return self.integer(operands[0])
                return integers.to_integer(self.function, self.real(operands[0]))
            case "//" | "%":
                a, b = self.integer(operands[0]), self.integer(operands[1])
                return integers.floor_division(self.function, operation, a, b)
        if self.type_of(expression) is FLOAT:
            return Value(self._real_operation(operation, operands), FLOAT)
        return self._integer_operation(operation, [self.integer(o) for o in operands])

    def _real_operation(self, operation: str, operands: tuple[Expression, ...]) -> str:
        if operation == "**":
            return self._power(*operands)
        return functions.call(self.reals, operation, *[self.real(o) for o in operands])

    def _power(self, base: Expression, exponent: Expression) -> str:
        x = self.real(base)
        match exponent:
            case Number(value):
                literal: float | None = value
            case Apply("neg", (Number(value),)):
                literal = -value
            case _:
                literal = None
        if literal is not None:
            short = functions.literal_power(self.reals, x, literal)
            if short is not None:
                return short
        return functions.call(self.reals, "**", x, self.real(exponent))

    def _integer_operation(self, operation: str, values: list[Value]) -> Value:
        function = self.function
        match operation:
            case "+" | "-" | "*":
                return integers.arithmetic(function, operation, *values)
            case "neg":
                return integers.negative(function, *values)
            case "**":
                return integers.power(function, *values)
            case "abs":
                return integers.absolute(function, *values)
            case "sign":
                return integers.sign(function, *values)
            case "max" | "min":
                return integers.extremum(function, operation, *values)
            case "relu":
                return integers.extremum(function, "max", values[0], integers.integer(0))
            case "stop_gradient":
                return values[0]
        raise TypeError(f"no integer operation {operation}")
