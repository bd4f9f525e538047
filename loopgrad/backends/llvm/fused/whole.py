"""Integer arithmetic of a `Fused` phase, one value or several: exact, or the phase gives up.

Every operation is done with 64 bits. Operands too large for it to be exact are rare: they are
looked for where their bits do not rule them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopgrad.backends.llvm.fused.accesses import splat
from loopgrad.backends.llvm.fused.frame import Value
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.text import I64, vector
from loopgrad.ir.operations import ElementType

if TYPE_CHECKING:
    from loopgrad.backends.llvm.fused.vectors import Vectors

BOOL, INT = ElementType.BOOL, ElementType.INT

EXACT = 62  # bits that a result may have
_SUM, _FACTOR = EXACT - 1, EXACT // 2  # bits that operands may have
_INSTRUCTION = {"+": "add", "-": "sub", "*": "mul"}


class Whole:
    """Instructions where the body of `vectors` stands."""

    def __init__(self, vectors: Vectors):
        self.vectors, self.body = vectors, vectors.body

    def literal(self, value: int) -> Value:
        return Value(str(value), INT, 1, max(value.bit_length(), (-value).bit_length()))

    def apply(self, operation: str, values: list[Value]) -> Value:
        match operation:
            case "+" | "-" | "*":
                return self.arithmetic(operation, *values)
            case "neg":
                return self._negative(values[0])
            case "//" | "%":
                return self._division(operation, *values)
            case "**":
                return self._power(*values)
            case "abs":
                return self.extremum("max", values[0], self._negative(values[0]))
            case "sign":
                least = self.extremum("max", values[0], self.literal(-1))
                return self.extremum("min", least, self.literal(1))
            case "max" | "min":
                return self.extremum(operation, *values)
            case "relu":
                return self.extremum("max", values[0], self.literal(0))
            case "stop_gradient" | "floor":
                return values[0]
        raise TypeError(f"no integer operation {operation}")

    def limited(self, value: Value, bits: int) -> Value:
        """The value, which then has at most so many bits; gives up where it has more."""
        if value.bits <= bits:
            return value
        if not self.vectors.frame.looks:
            return Value(value.text, INT, value.lanes, bits)
        shifted = self._instruction("add", value, self.literal(2**bits))
        limit = splat(self.body, I64, str(2 ** (bits + 1)), value.lanes)
        kind = vector(I64, value.lanes)
        fits = self.body.value(f"icmp ule {kind} {shifted.text}, {limit}")
        self.vectors.require(Value(fits, BOOL, value.lanes))
        return Value(value.text, INT, value.lanes, bits)

    def _instruction(self, name: str, a: Value, b: Value, bits: int = 63) -> Value:
        lanes, (x, y) = self.vectors.even(a, b)
        text = self.body.value(f"{name} {vector(I64, lanes)} {x}, {y}")
        return Value(text, INT, lanes, bits)

    def arithmetic(self, operation: str, a: Value, b: Value) -> Value:
        product = operation == "*"
        bits = a.bits + b.bits if product else max(a.bits, b.bits) + 1
        if bits > EXACT:
            allowed = _FACTOR if product else _SUM
            a, b = self.limited(a, allowed), self.limited(b, allowed)
            bits = a.bits + b.bits if product else max(a.bits, b.bits) + 1
        return self._instruction(_INSTRUCTION[operation], a, b, bits)

    def _negative(self, a: Value) -> Value:
        a = self.limited(a, EXACT)
        return self._instruction("sub", self.literal(0), a, a.bits)

    def extremum(self, operation: str, a: Value, b: Value) -> Value:
        lanes, (x, y) = self.vectors.even(a, b)
        order = "sgt" if operation == "max" else "slt"
        first = self.body.value(f"icmp {order} {vector(I64, lanes)} {x}, {y}")
        condition = Value(first, BOOL, lanes)
        return self.vectors.select(
            condition, Value(x, INT, lanes, a.bits), Value(y, INT, lanes, b.bits)
        )

    def _division(self, operation: str, a: Value, b: Value) -> Value:
        """Rounded downwards as Python does."""
        a = self.limited(a, EXACT)  # so that no quotient overflows
        if b.text.isdecimal() and int(b.text):
            return self._divided(operation, a, int(b.text))
        lanes, (x, y) = self.vectors.even(a, b)
        kind, zero = vector(I64, lanes), splat(self.body, I64, "0", lanes)
        if not b.text.lstrip("-").isdigit() or int(b.text) == 0:
            nonzero = Value(self.body.value(f"icmp ne {kind} {y}, {zero}"), BOOL, lanes)
            self.vectors.require(nonzero)
            # Lanes that do not reach the code may have any divisor.
            one = self.vectors.widened(self.literal(1), lanes)
            y = self.vectors.select(nonzero, Value(y, INT, lanes), one).text
        remainder = self.body.value(f"srem {kind} {x}, {y}")
        # The hardware's remainder has the sign of a; Python's that of b.
        unlike = self.body.value(f"xor {kind} {remainder}, {y}")
        opposite = self.body.value(f"icmp slt {kind} {unlike}, {zero}")
        inexact = self.body.value(f"icmp ne {kind} {remainder}, {zero}")
        flags = vector("i1", lanes)
        mend = self.body.value(f"and {flags} {opposite}, {inexact}")
        if operation == "%":
            addend = self.body.value(f"select {flags} {mend}, {kind} {y}, {kind} {zero}")
            text = self.body.value(f"add {kind} {remainder}, {addend}")
            return Value(text, INT, lanes, b.bits)
        quotient = self.body.value(f"sdiv {kind} {x}, {y}")
        down = self.body.value(f"sext {flags} {mend} to {kind}")
        return Value(self.body.value(f"add {kind} {quotient}, {down}"), INT, lanes, a.bits + 1)

    def _divided(self, operation: str, a: Value, divisor: int) -> Value:
        """The same by a number above 0."""
        kind = vector(I64, a.lanes)

        def constant(value: int) -> str:
            return splat(self.body, I64, str(value), a.lanes)

        bits = a.bits if operation == "//" else divisor.bit_length()
        if not divisor & divisor - 1:
            each = (divisor - 1).bit_length()
            instruction = f"ashr {kind}" if operation == "//" else f"and {kind}"
            other = constant(each if operation == "//" else divisor - 1)
            return Value(self.body.value(f"{instruction} {a.text}, {other}"), INT, a.lanes, bits)
        by = constant(divisor)
        remainder = self.body.value(f"srem {kind} {a.text}, {by}")
        below = self.body.value(f"ashr {kind} {remainder}, {constant(63)}")  # -1 or 0
        if operation == "%":
            more = self.body.value(f"and {kind} {below}, {by}")
            text = self.body.value(f"add {kind} {remainder}, {more}")
        else:
            quotient = self.body.value(f"sdiv {kind} {a.text}, {by}")
            text = self.body.value(f"add {kind} {quotient}, {below}")
        return Value(text, INT, a.lanes, bits)

    def _power(self, a: Value, b: Value) -> Value:
        """Small literal exponents alone (`schedule.supported`)."""
        result = self.literal(1)
        for i in range(int(b.text)):
            result = self.arithmetic("*", result, a) if i else a
        return result

    def floor(self, x: Value) -> Value:
        w = Lanes(self.body, x.lanes)
        limit = w.number(2.0**EXACT)
        self.vectors.require(Value(w.compare("olt", w.absolute(x.text), limit), BOOL, x.lanes))
        down = w.intrinsic("floor", x.text)
        text = self.body.value(f"fptosi {w.real} {down} to {vector(I64, x.lanes)}")
        return Value(text, INT, x.lanes, EXACT)
