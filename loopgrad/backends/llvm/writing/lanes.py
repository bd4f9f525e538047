"""Instructions on floating values, one at a time or several in a vector: the same text for both.

What is written with a `Lanes` gives the same bits in every lane at every width, but for the sign of NaN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from loopgrad.backends.llvm.writing.text import Body, literal, vector

ORDER = {"==": "oeq", "!=": "une", "<": "olt", "<=": "ole", ">": "ogt", ">=": "oge"}
ARITHMETIC = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_SPLAT_VERSION = 20  # of LLVM, from which on `splat (float 1.0)` may be written
_KEEPING_VERSION = 20  # from which on a function that keeps all registers has one for its result
_EIGHT = 8


class Lanes:
    """Instructions at the end of `body`, on `count` values of the module's floating type, or of
    the `element` type.

    `real`, `integer` and `condition` are the types of the values, of integers as wide, and of what
    comparisons give: for one lane `float`, `i32`, `i1`; for 16 `<16 x float>`, `<16 x i32>`,
    `<16 x i1>`. `flags` are what LLVM may do to the arithmetic that a program writes (`operate`);
    the other methods are exact, so that our own functions are.

    >>> from loopgrad.backends.llvm.writing.text import Module
    >>> body = Body(Module("float", 20, opaque_pointers=True, has_fma=True), "f")
    >>> w = Lanes(body, 4)
    >>> w.fused("%a", w.number(2.0), "%b")
    '%v1'
    >>> print(w.add("%v1", "%c"), body.text().splitlines()[3])
    %v2   %v2 = fadd <4 x float> %v1, %c
    """

    def __init__(self, body: Body, count: int = 1, flags: str = "", element: str = ""):
        self.body, self.count, self.flags = body, count, flags
        self.element = element or body.module.real
        self.element_integer = "i64" if self.element == "double" else "i32"
        self.real = vector(self.element, count)
        self.integer = vector(self.element_integer, count)
        self.condition = vector("i1", count)

    def on(self, body: Body) -> Lanes:
        """As many lanes, in another function."""
        return Lanes(body, self.count, self.flags, self.element)

    # ---------------------------------------------------------------------------------- literals

    def number(self, value: float) -> str:
        return self._splat(self.element, literal(self.element, value))

    def whole_number(self, value: int) -> str:
        return self._splat(self.element_integer, str(value))

    def _splat(self, kind: str, text: str) -> str:
        if self.count == 1:
            return text
        if self.body.module.llvm_version >= _SPLAT_VERSION:
            return f"splat ({kind} {text})"
        return "<" + ", ".join([f"{kind} {text}"] * self.count) + ">"

    # -------------------------------------------------------------------------------- arithmetic

    def operate(self, operator: str, a: str, b: str) -> str:
        """`+ - * /` of a program: with the flags."""
        flags = self.flags and " " + self.flags
        return self.body.value(f"{ARITHMETIC[operator]}{flags} {self.real} {a}, {b}")

    def add(self, a: str, b: str) -> str:
        return self.body.value(f"fadd {self.real} {a}, {b}")

    def subtract(self, a: str, b: str) -> str:
        return self.body.value(f"fsub {self.real} {a}, {b}")

    def multiply(self, a: str, b: str) -> str:
        return self.body.value(f"fmul {self.real} {a}, {b}")

    def divide(self, a: str, b: str) -> str:
        return self.body.value(f"fdiv {self.real} {a}, {b}")

    def negative(self, x: str) -> str:
        return self.body.value(f"fneg {self.real} {x}")

    def fused(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", a, b, c)

    def absolute(self, x: str) -> str:
        return self.intrinsic("fabs", x)

    def square_root(self, x: str) -> str:
        return self.intrinsic("sqrt", x)

    def with_sign(self, magnitude: str, sign: str) -> str:
        return self.intrinsic("copysign", magnitude, sign)

    @property
    def scales(self) -> bool:
        """Is there one instruction for `scaled`? AVX-512 has it for whole registers, of 64 bytes."""
        bits = 64 if self.element == "double" else 32
        return self.body.module.vector_bytes * 8 == self.count * bits == 512

    def scaled(self, x: str, n: str, where: str) -> str:
        """x 2**n of a whole n, rounded once: what multiplications by powers of two come to; else 0."""
        name = f"@llvm.x86.avx512.mask.scalef.{'pd' if self.element == 'double' else 'ps'}.512"
        mask, real = f"i{self.count}", self.real
        self.body.module.declare(f"declare {real} {name}({real}, {real}, {real}, {mask}, i32)")
        lanes = self.body.value(f"bitcast {self.condition} {where} to {mask}")
        # 4: the current rounding.
        given = f"{real} {x}, {real} {n}, {real} zeroinitializer, {mask} {lanes}, i32 4"
        return self.body.value(f"call {real} {name}({given})")

    def intrinsic(self, name: str, *operands: str) -> str:
        return self.body.intrinsic(name, self.real, *operands)

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """The constant term first."""
        return self.polynomial_of(x, map(self.number, reversed(coefficients)))

    def polynomial_of(self, x: str, coefficients: Iterable[str]) -> str:
        """Of values, the constant term last; each is asked for where it is used. Horner's rule."""
        given = iter(coefficients)
        result = next(given)
        for c in given:
            result = self.fused(result, x, c)
        return result

    # -------------------------------------------------------------------------------- conditions

    def compare(self, order: str, a: str, b: str) -> str:
        """`order` is LLVM's: `oeq`, `olt`; with `u` in front also true where one is NaN."""
        return self.body.value(f"fcmp {order} {self.real} {a}, {b}")

    def select(self, condition: str, then: str, otherwise: str) -> str:
        return self._select(condition, self.real, then, otherwise)

    def select_whole(self, condition: str, then: str, otherwise: str) -> str:
        return self._select(condition, self.integer, then, otherwise)

    def _select(self, condition: str, kind: str, then: str, otherwise: str) -> str:
        return self.body.value(
            f"select {self.condition} {condition}, {kind} {then}, {kind} {otherwise}"
        )

    def both(self, a: str, b: str) -> str:
        return self.body.value(f"and {self.condition} {a}, {b}")

    def either(self, a: str, b: str) -> str:
        return self.body.value(f"or {self.condition} {a}, {b}")

    def any(self, condition: str) -> str:
        """Whether it holds in a lane."""
        if self.count == 1:
            return condition
        together = self.body.value(f"bitcast {self.condition} {condition} to i{self.count}")
        return self.body.value(f"icmp ne i{self.count} {together}, 0")

    def all(self, condition: str) -> str:
        """Whether it holds in every lane."""
        if self.count == 1:
            return condition
        together = self.body.value(f"bitcast {self.condition} {condition} to i{self.count}")
        return self.body.value(f"icmp eq i{self.count} {together}, -1")

    def clamp(self, x: str, low: float | None, high: float | None) -> str:
        """Of NaN: NaN."""
        for order, limit in (("olt", low), ("ogt", high)):
            if limit is not None:
                bound = self.number(limit)
                x = self.select(self.compare(order, x, bound), bound, x)
        return x

    # ---------------------------------------------------------------------------- integers, bits

    def whole(self, operation: str, a: str, b: str | int) -> str:
        """An operation on integers as wide as the floating type."""
        second = self.whole_number(b) if isinstance(b, int) else b
        return self.body.value(f"{operation} {self.integer} {a}, {second}")

    def compare_whole(self, order: str, a: str, b: str | int) -> str:
        return self.whole(f"icmp {order}", a, b)

    def whole_maximum(self, a: str, b: str) -> str:
        return self.body.intrinsic("smax", self.integer, a, b)

    def bits(self, x: str) -> str:
        return self.body.value(f"bitcast {self.real} {x} to {self.integer}")

    def from_bits(self, bits: str) -> str:
        return self.body.value(f"bitcast {self.integer} {bits} to {self.real}")

    def small_to_real(self, n: str) -> str:
        """Of integers that 32 bits hold."""
        narrow = vector("i32", self.count)
        if self.element_integer == "i64":  # processors convert 32 bits at a time
            n = self.body.value(f"trunc {self.integer} {n} to {narrow}")
        return self.body.value(f"sitofp {narrow} {n} to {self.real}")

    # ------------------------------------------------------------------------------------ tables

    @property
    def looks_up(self) -> bool:
        """Is there an instruction for `looked_up`?"""
        return self.body.module.looks_up and self.element == "float"

    def looked_up(self, table: Sequence[float], numbers: str) -> str:
        """Of eight values the ones with these numbers, of which the three lowest bits count.

        The table is a register whose lanes are put where they are wanted.
        """
        body, count = self.body, self.count
        if count == 1:
            w = Lanes(body, _EIGHT)
            numbers = body.value(f"insertelement {w.integer} undef, i32 {numbers}, i64 0")
            found = w._permuted(table, numbers)
            return body.value(f"extractelement {w.real} {found}, i64 0")
        if count < _EIGHT:
            w = Lanes(body, _EIGHT)
            numbers = self._shuffled(
                self.integer, numbers, numbers, [*range(count)] * (_EIGHT // count)
            )
            found = w._permuted(table, numbers)
            return self._shuffled(w.real, found, found, range(count))
        if count == _EIGHT or 4 * count == body.module.vector_bytes:
            return self._permuted(table, numbers)
        w = Lanes(body, count // 2)
        low, high = (
            w.looked_up(table, self._shuffled(self.integer, numbers, numbers, half))
            for half in (range(w.count), range(w.count, count))
        )
        return self._shuffled(w.real, low, high, range(count))

    def _permuted(self, table: Sequence[float], numbers: str) -> str:
        name = "avx2.permps" if self.count == _EIGHT else "avx512.permvar.sf.512"
        name = f"@llvm.x86.{name}"
        self.body.module.declare(f"declare {self.real} {name}({self.real}, {self.integer})")
        values = (literal("float", table[lane % _EIGHT]) for lane in range(self.count))
        lanes = ", ".join(f"float {value}" for value in values)
        given = f"{self.real} <{lanes}>, {self.integer} {numbers}"
        return self.body.value(f"call {self.real} {name}({given})")

    def _shuffled(self, kind: str, a: str, b: str, lanes: Sequence[int]) -> str:
        order = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.body.value(
            f"shufflevector {kind} {a}, {kind} {b}, <{len(lanes)} x i32> <{order}>"
        )

    # ------------------------------------------------------------------------------ lane by lane

    def call(self, name: str, *operands: str) -> str:
        """A call of a function on as many lanes."""
        given = ", ".join(f"{self.real} {o}" for o in operands)
        return self.body.value(f"call {self.real} @{name}({given})")

    def apart(self, operation: str, formula: Callable[[Lanes, str], str], x: str) -> str:
        """A call of a function of as many lanes that is seldom called.

        It is not inlined, and keeps all registers as they are: no loop has its sums in memory because of it.
        """
        module, name = self.body.module, f"seldom_{operation}_{self.count}"
        keeps = ""
        if module.llvm_version >= _KEEPING_VERSION and os.name == "posix":
            keeps = "preserve_allcc "
        if name not in module.functions:
            head = f"internal {keeps}{self.real} @{name}({self.real} %x)"
            inner = self.on(
                Body(module, name, f"{head} noinline cold nounwind readnone willreturn")
            )
            inner.body.do(f"ret {self.real} {formula(inner, '%x')}")
            inner.body.finish()
        return self.body.value(f"call {keeps}{self.real} @{name}({self.real} {x})")

    def call_each(self, name: str, *operands: str) -> str:
        """Calls of a function on one value, for every lane."""
        if self.count == 1:
            return self.call(name, *operands)
        one, body, result = Lanes(self.body), self.body, "undef"
        for lane in range(self.count):
            parts = [body.value(f"extractelement {self.real} {o}, i64 {lane}") for o in operands]
            value = f"{self.element} {one.call(name, *parts)}"
            result = body.value(f"insertelement {self.real} {result}, {value}, i64 {lane}")
        return result
