"""What a statement does to an element: its value, and its operation."""

from __future__ import annotations

from loopgrad.backends.llvm.literal import integers
from loopgrad.backends.llvm.literal.expressions import Expressions
from loopgrad.backends.llvm.literal.function import ALL_BITS, PhaseFunction, Value
from loopgrad.backends.llvm.writing import functions
from loopgrad.ir import walk
from loopgrad.ir.nodes import Apply, Conditional, Expression, Number, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Nest

INT, FLOAT = ElementType.INT, ElementType.FLOAT

_REAL = {Reduction.ADD: "fadd", Reduction.SUBTRACT: "fsub", Reduction.MULTIPLY: "fmul"}
_INTEGER = {Reduction.ADD: "+", Reduction.SUBTRACT: "-", Reduction.MULTIPLY: "*"}
_EXTREMUM = {Reduction.MAXIMUM: "max", Reduction.MINIMUM: "min"}

# x + -0.0 and x - 0.0 are x for every x; x + 0.0 is not, for -0.0.
_NEUTRAL = {
    Reduction.ADD: (-0.0, 0),
    Reduction.SUBTRACT: (0.0, 0),
    Reduction.MULTIPLY: (1.0, 1),
    Reduction.MAXIMUM: (float("-inf"), integers.LEAST),
    Reduction.MINIMUM: (float("inf"), integers.GREATEST),
}


class Updates:
    """Emits the values of statements and their operations into one function."""

    def __init__(self, function: PhaseFunction):
        self.function = function
        self.body = function.body
        self.expressions = Expressions(function)

    def value(self, nest: Nest) -> Value:
        """The statement's value, as an element of its target."""
        statement = nest.statement
        element = self.function.layout.tensor_types[statement.target.tensor]
        sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
        match statement.value:
            case Apply("*", (left, right)) as product if (
                sums and self._flags(nest) and self.expressions.type_of(product) is FLOAT
            ):
                a, b = self.expressions.real(left), self.expressions.real(right)
                real = self.function.module.real
                return Value(self.body.value(f"fmul contract {real} {a}, {b}"), FLOAT)
        return self.expressions.lower_as(statement.value, element)

    def combined(self, nest: Nest, before: str, value: Value) -> str:
        """The element's new value: `before += value` and its like."""
        reduction = nest.statement.reduction
        if value.element is INT:
            old = Value(before, INT, ALL_BITS)
            if reduction in _EXTREMUM:
                return integers.extremum(self.function, _EXTREMUM[reduction], old, value).text
            return integers.arithmetic(self.function, _INTEGER[reduction], old, value).text
        if reduction in _EXTREMUM:
            return functions.extremum(
                self.expressions.reals, _EXTREMUM[reduction], before, value.text
            )
        instruction = f"{_REAL[reduction]}{self._flags(nest)} {self.function.module.real}"
        return self.body.value(f"{instruction} {before}, {value.text}")

    def neutral(self, reduction: Reduction, element: ElementType) -> str:
        """A value that changes no element."""
        real, integer = _NEUTRAL[reduction]
        return str(integer) if element is INT else self.function.module.number(real)

    def is_count(self, nest: Nest) -> bool:
        """Does it add up 0s, 1s or other small numbers, none negative, into an integer?

        Then a loop's sum is taken without checks and added once: it overflows in the end if it
        does on the way.
        """
        statement = nest.statement
        element = self.function.layout.tensor_types[statement.target.tensor]
        sums = statement.reduction in (Reduction.ADD, Reduction.SUBTRACT)
        return element is INT and sums and self._is_small_count(statement.value)

    def _is_small_count(self, value: Expression) -> bool:
        match value:
            case Number(int(number)):
                return number < 2**10
            case Conditional(_, then, otherwise):
                return self._is_small_count(then) and self._is_small_count(otherwise)
        return self.expressions.type_of(value) is ElementType.BOOL

    def _flags(self, nest: Nest) -> str:
        """Sums may be reordered, and their products fused into them; nothing else may.

        What is not a sum has to give the same bits wherever it is computed again: a backward
        finds the winner of a maximum by comparing with `==`.
        """
        kept = set().union(*map(walk.indices_of, nest.statement.target.subscripts))
        reduces = any(loop.index not in kept for loop in nest.loops)
        return " reassoc contract" if reduces and self.function.layout.task.optimize else ""
