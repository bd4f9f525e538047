"""Integer arithmetic: exact or an error (docs/decisions/0002)."""

from __future__ import annotations

from loopgrad.backends import errors
from loopgrad.backends.llvm.literal.function import ALL_BITS, PhaseFunction, Value
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir.operations import ElementType

LEAST, GREATEST = -(2**63), 2**63 - 1
INT = ElementType.INT

_INSTRUCTION = {"+": "add", "-": "sub", "*": "mul"}


def integer(value: int) -> Value:
    return Value(str(value), INT, max(value.bit_length(), (-value).bit_length()))


def arithmetic(function: PhaseFunction, operation: str, a: Value, b: Value) -> Value:
    """`a + b`, `a - b` or `a * b`, checked unless their bits show that it fits."""
    bits = a.bits + b.bits if operation == "*" else max(a.bits, b.bits) + 1
    name = _INSTRUCTION[operation]
    if bits < ALL_BITS:
        return Value(function.body.value(f"{name} nsw i64 {a.text}, {b.text}"), INT, bits)
    module, body, statement = function.module, function.body, function.running()
    module.declare(f"declare {{i64, i1}} @llvm.s{name}.with.overflow.i64(i64, i64)")
    pair = body.value(
        f"call {{i64, i1}} @llvm.s{name}.with.overflow.i64(i64 {a.text}, i64 {b.text})"
    )
    result = body.value(f"extractvalue {{i64, i1}} {pair}, 0")
    overflow = body.value(f"extractvalue {{i64, i1}} {pair}, 1")
    fits = body.value(f"xor i1 {overflow}, true")
    function.require(fits, lambda _: errors.integer_overflow(statement))
    return Value(result, INT, ALL_BITS)


def negative(function: PhaseFunction, a: Value) -> Value:
    result = arithmetic(function, "-", integer(0), a)
    return Value(result.text, INT, min(result.bits, a.bits)) if a.bits < ALL_BITS else result


def absolute(function: PhaseFunction, a: Value) -> Value:
    minus = negative(function, a)
    body = function.body
    is_negative = body.value(f"icmp slt i64 {a.text}, 0")
    return Value(body.select(is_negative, I64, minus.text, a.text), INT, a.bits)


def sign(function: PhaseFunction, a: Value) -> Value:
    body = function.body
    above = body.value(f"icmp sgt i64 {a.text}, 0")
    below = body.value(f"icmp slt i64 {a.text}, 0")
    up = body.value(f"zext i1 {above} to i64")
    return Value(body.select(below, I64, "-1", up), INT, 1)


def extremum(function: PhaseFunction, operation: str, a: Value, b: Value) -> Value:
    body = function.body
    order = "sgt" if operation == "max" else "slt"
    first = body.value(f"icmp {order} i64 {a.text}, {b.text}")
    return Value(body.select(first, I64, a.text, b.text), INT, max(a.bits, b.bits))


def floor_division(function: PhaseFunction, operation: str, a: Value, b: Value) -> Value:
    """`a // b` or `a % b`, rounded downwards as Python does."""
    body, statement = function.body, function.running()
    literal = int(b.text) if b.text.lstrip("-").isdigit() else None
    if not literal:
        nonzero = body.value(f"icmp ne i64 {b.text}, 0")
        function.require(nonzero, lambda _: errors.division_by_zero(operation, statement))
    if literal is None and operation == "%":
        # The processor traps on the least integer % -1; a % 1 is 0 all the same.
        minus_one = body.value(f"icmp eq i64 {b.text}, -1")
        b = Value(body.select(minus_one, I64, "1", b.text), INT, b.bits)
    elif a.bits >= ALL_BITS and (literal is None or literal == -1):
        _refuse_least_over_minus_one(function, a, b)
    remainder = body.value(f"srem i64 {a.text}, {b.text}")
    # The hardware's remainder has the sign of a; Python's that of b.
    unlike = body.value(f"xor i64 {remainder}, {b.text}")
    opposite = body.value(f"icmp slt i64 {unlike}, 0")
    inexact = body.value(f"icmp ne i64 {remainder}, 0")
    mend = body.value(f"and i1 {opposite}, {inexact}")
    if operation == "%":
        addend = body.select(mend, I64, b.text, "0")
        return Value(body.value(f"add i64 {remainder}, {addend}"), INT, b.bits)
    quotient = body.value(f"sdiv i64 {a.text}, {b.text}")
    down = body.value(f"sext i1 {mend} to i64")
    return Value(body.value(f"add i64 {quotient}, {down}"), INT, min(a.bits + 1, ALL_BITS))


def _refuse_least_over_minus_one(function: PhaseFunction, a: Value, b: Value) -> None:
    """The one quotient that does not fit."""
    body, statement = function.body, function.running()
    least = body.value(f"icmp eq i64 {a.text}, {LEAST}")
    minus_one = body.value(f"icmp eq i64 {b.text}, -1")
    both = body.value(f"and i1 {least}, {minus_one}")
    fits = body.value(f"xor i1 {both}, true")
    function.require(fits, lambda _: errors.integer_overflow(statement))


def power(function: PhaseFunction, a: Value, b: Value) -> Value:
    """`a ** b` by repeated multiplication, small literal exponents unrolled."""
    if b.text.isdigit() and int(b.text) <= 4:
        if b.text == "0":
            return integer(1)
        result = a
        for _ in range(int(b.text) - 1):
            result = arithmetic(function, "*", result, a)
        return result
    body, statement = function.body, function.running()
    valid = body.value(f"icmp sge i64 {b.text}, 0")
    function.require(valid, lambda d: errors.negative_exponent(int(d[0]), statement), [b.text])
    _define_power(function)
    pair = body.value(f"call {{i64, i1}} @integer_power(i64 {a.text}, i64 {b.text})")
    result_text = body.value(f"extractvalue {{i64, i1}} {pair}, 0")
    fits = body.value(f"extractvalue {{i64, i1}} {pair}, 1")
    function.require(fits, lambda _: errors.integer_overflow(statement))
    return Value(result_text, INT, ALL_BITS)


def _define_power(function: PhaseFunction) -> None:
    """Squaring; a square is only taken, and may only overflow, where it is needed."""
    module = function.module
    module.declare("declare {i64, i1} @llvm.smul.with.overflow.i64(i64, i64)")
    module.functions["integer_power"] = """\
define internal {i64, i1} @integer_power(i64 %a, i64 %b) nounwind {
entry:
  br label %loop
loop:
  %base = phi i64 [ %a, %entry ], [ %square, %again ]
  %left = phi i64 [ %b, %entry ], [ %half, %again ]
  %sofar = phi i64 [ 1, %entry ], [ %taken, %again ]
  %fits = phi i1 [ true, %entry ], [ %fits.2, %again ]
  %bit = and i64 %left, 1
  %odd = icmp ne i64 %bit, 0
  %p = call {i64, i1} @llvm.smul.with.overflow.i64(i64 %sofar, i64 %base)
  %product = extractvalue {i64, i1} %p, 0
  %over = extractvalue {i64, i1} %p, 1
  %bad = and i1 %odd, %over
  %taken = select i1 %odd, i64 %product, i64 %sofar
  %good = xor i1 %bad, true
  %fits.1 = and i1 %fits, %good
  %half = lshr i64 %left, 1
  %more = icmp ne i64 %half, 0
  br i1 %more, label %again, label %done
again:
  %q = call {i64, i1} @llvm.smul.with.overflow.i64(i64 %base, i64 %base)
  %square = extractvalue {i64, i1} %q, 0
  %over.2 = extractvalue {i64, i1} %q, 1
  %good.2 = xor i1 %over.2, true
  %fits.2 = and i1 %fits.1, %good.2
  br label %loop
done:
  %r = insertvalue {i64, i1} undef, i64 %taken, 0
  %r.2 = insertvalue {i64, i1} %r, i1 %fits.1, 1
  ret {i64, i1} %r.2
}
"""


def to_integer(function: PhaseFunction, real: str) -> Value:
    """`floor(real)`; an error of NaN and of what does not fit."""
    body, module, statement = function.body, function.module, function.running()
    kind = module.real
    low = body.value(f"fcmp oge {kind} {real}, {module.number(-(2.0**63))}")
    high = body.value(f"fcmp olt {kind} {real}, {module.number(2.0**63)}")
    fits = body.value(f"and i1 {low}, {high}")
    wide = real if kind == "double" else body.value(f"fpext float {real} to double")
    bits = body.value(f"bitcast double {wide} to i64")
    function.require(fits, lambda d: errors.floor_of(float(d.view("f8")[0]), statement), [bits])
    down = body.intrinsic("floor", kind, real)
    return Value(body.value(f"fptosi {kind} {down} to i64"), INT, ALL_BITS)
