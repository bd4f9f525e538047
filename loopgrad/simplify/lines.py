"""Numbers on two lines at once: residues in a chain of finite fields, and reals to 50 digits.

The residues decide whether formulas are equal by algebra, exactly; the reals know every function, and
order. Where a program compares numbers (a guard, `relu`, `max=`), the reals decide for both lines, so
that all runs take the same way, and every axiom of order holds.

What the fields do not know is noted in `Lines.beyond`: roots (that of x**2 is x or -x, whichever is a
square), `erf`, `sin`, `cos`. There residues that differ prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify import decimals
from loopgrad.simplify.decimals import NAN, ONE, ZERO, Reals, elementwise
from loopgrad.simplify.fields import UNKNOWN, Fields, Residues

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Numbers:
    """n numbers, or one for all n: `residues` of shape (rows, n or 1), `reals` (n or 1,)."""

    residues: Residues
    reals: Reals


_DIVIDE = elementwise(decimals.divide, 2)
_POWER = elementwise(decimals.power, 2)
_ORDER = elementwise(decimals.order, 2)
_FLOOR = elementwise(decimals.floor)
_HOLDS = {"<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}  # of orders
_INFINITE = elementwise(Decimal.is_infinite)
_NAN = elementwise(Decimal.is_nan)
_DECIMAL = elementwise(lambda value: Decimal(int(value)))
_SIGN = elementwise(lambda a: NAN if a.is_nan() else Decimal(decimals.order(a, ZERO)))

# name -> (the reals' function, whether it is opaque to the fields)
_REALS: dict[str, Callable[..., Any]] = {
    name: elementwise(function)
    for name, function in {
        "exp": decimals.exp,
        "expm1": lambda a: decimals.exp(a) - 1,
        "log": decimals.log,
        "log1p": lambda a: decimals.log(1 + a),
        "sqrt": decimals.root,
        "rsqrt": lambda a: decimals.divide(ONE, decimals.root(a)),
        "tanh": decimals.tanh,
        "sigmoid": decimals.sigmoid,
        "softplus": decimals.softplus,
        "erf": decimals.erf,
        "sin": decimals.sin,
        "cos": decimals.cos,
    }.items()
}


class Lines:
    """The arithmetic of `Numbers`. Runs inside `decimal.localcontext(decimals.CONTEXT)`.

    beyond: what was met that the fields' algebra does not model, in words. tied: two equal numbers
    were put in order (a maximum of equals, `relu(0)`), or a whole number was rounded down.
    """

    def __init__(self, field: Fields):
        self.field = field
        self.beyond: set[str] = set()
        self.tied = False

    # ------------------------------------------------------------------------------- making

    def number(self, value: int | float | Fraction) -> Numbers:
        """A literal, taken as the decimal number that is written; of length 1."""
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return Numbers(self.field.unknown(1), _array(Decimal(value)))
        exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
        return Numbers(self.field.number(exact), _array(decimals.decimal(exact)))

    def of_integers(self, values: Integers) -> Numbers:
        return Numbers(self.field.integers(values), _objects(_DECIMAL(values)))

    def pi(self) -> Numbers:
        return Numbers(self.field.constant("pi"), _array(+decimals.pi()))

    # ------------------------------------------------------------------------------- operations

    def add(self, a: Numbers, b: Numbers) -> Numbers:
        return Numbers(self.field.add(a.residues, b.residues), a.reals + b.reals)

    def subtract(self, a: Numbers, b: Numbers) -> Numbers:
        return Numbers(self.field.subtract(a.residues, b.residues), a.reals - b.reals)

    def multiply(self, a: Numbers, b: Numbers) -> Numbers:
        return Numbers(self.field.multiply(a.residues, b.residues), a.reals * b.reals)

    def divide(self, a: Numbers, b: Numbers) -> Numbers:
        quotient = Numbers(self.field.divide(a.residues, b.residues), _DIVIDE(a.reals, b.reals))
        return self._settled(quotient, a, b)

    def negate(self, a: Numbers) -> Numbers:
        return Numbers(self.field.negate(a.residues), -a.reals)

    def integer_power(self, a: Numbers, exponents: Integers) -> Numbers:
        raised = self.field.integer_power(a.residues, exponents)
        return self._settled(Numbers(raised, _POWER(a.reals, _DECIMAL(exponents))), a)

    def rational_power(self, a: Numbers, exponent: Fraction) -> Numbers:
        if exponent.denominator == 1:
            return self.integer_power(a, np.array([exponent.numerator], np.int64))
        self.beyond.add("roots")
        raised = self.field.rational_power(a.residues, exponent)
        reals = _POWER(a.reals, _array(decimals.decimal(exponent)))
        return self._settled(Numbers(raised, reals), a)

    def power(self, a: Numbers, b: Numbers) -> Numbers:
        """a**b for any b: exp(b * log(a))."""
        self.beyond.add("roots")
        raised = self.field.power(a.residues, self.field.shifted(b.residues))
        return self._settled(Numbers(raised, _POWER(a.reals, b.reals)), a, b)

    def function(self, name: str, a: Numbers) -> Numbers:
        """A function of one operand, of the names in `operations.FUNCTIONS`."""
        match name:
            case "stop_gradient":
                return a
            case "abs":
                return self.choose(self.compare("<", a, self.number(0)), self.negate(a), a)
            case "relu":
                return self.largest(a, self.number(0))
            case "sign":
                return self._sign(a)
        return self._settled(Numbers(self._residues(name, a.residues), _REALS[name](a.reals)), a)

    def _residues(self, name: str, a: Residues) -> Residues:
        field = self.field
        one = field.number(1)
        match name:
            case "exp":
                return field.exp(a)
            case "expm1":
                return field.subtract(field.exp(a), one)
            case "log":
                return field.log(a)
            case "log1p":
                return field.log(field.add(a, one))
            case "sqrt" | "rsqrt":
                self.beyond.add("roots")
                root = field.root(a)
                return root if name == "sqrt" else field.inverse(root)
            case "tanh":
                square = field.exp(field.add(a, a))
                return field.divide(field.subtract(square, one), field.add(square, one))
            case "sigmoid":
                raised = field.exp(a)
                return field.divide(raised, field.add(raised, one))
            case "softplus":
                return field.log(field.add(field.exp(a), one))
            case "erf" | "sin" | "cos":
                self.beyond.add(name)
                return field.opaque(name, a)
        raise AssertionError(name)

    # ------------------------------------------------------------------------------- order

    def order(self, a: Numbers, b: Numbers) -> Integers:
        """-1, 0, 1, or 2 where one is NaN; of shape (n,)."""
        order = self._order(a, b)
        if not self.tied and (equal := order == 0).any():
            finite = ~np.asarray(_INFINITE(a.reals)).astype(np.bool_)  # -inf marks what is left out
            self.tied = bool((equal & finite).any())
        return order

    def _order(self, a: Numbers, b: Numbers) -> Integers:
        self.beyond.add("order")
        return np.asarray(_ORDER(a.reals, b.reals)).astype(np.int64)

    def compare(self, operator: str, a: Numbers, b: Numbers) -> Mask:
        if operator in ("==", "!="):  # `s == m` asks who won: no tie
            equal = np.asarray(self._order(a, b) == 0, bool)
            return equal if operator == "==" else ~equal  # true of NaN, too
        return np.isin(self.order(a, b), _HOLDS[operator])

    def largest(self, a: Numbers, b: Numbers) -> Numbers:
        """The larger of two, NaN where one is NaN."""
        return self.choose((self.order(a, b) >= 0) & ~self._nan(b), a, b)

    def smallest(self, a: Numbers, b: Numbers) -> Numbers:
        return self.choose((np.abs(self.order(a, b) - 0.5) != 0.5) & ~self._nan(b), a, b)

    def floor(self, a: Numbers) -> Integers | None:
        """None where one is not finite."""
        self.beyond.add("order")
        found = _FLOOR(a.reals)
        if any(value is None for value in found.flat):
            return None
        whole: Integers = found.astype(np.int64)
        self.tied |= bool((whole == a.reals).any())
        return whole

    def choose(self, mask: Mask, a: Numbers, b: Numbers) -> Numbers:
        """a where the mask holds, else b."""
        return Numbers(
            np.where(mask[None], a.residues, b.residues), np.where(mask, a.reals, b.reals)
        )

    def _sign(self, a: Numbers) -> Numbers:
        self.beyond.add("order")
        reals = _SIGN(a.reals)
        self.tied |= bool((reals == 0).any())
        signs = np.array([0 if r.is_nan() else int(r) for r in reals.flat], np.int64)
        return Numbers(self.field.integers(signs), reals)

    @staticmethod
    def _nan(a: Numbers) -> Mask:
        return np.asarray(_NAN(a.reals)).astype(np.bool_)

    def _settled(self, result: Numbers, *operands: Numbers) -> Numbers:
        """With the residues that limits at infinity have: exp(-inf) is 0, tanh(inf) 1.

        No function here has a finite limit that is no integer.
        """
        for operand in operands:
            infinite = np.asarray(_INFINITE(operand.reals)).astype(np.bool_)
            if infinite.any():
                at = np.broadcast_to(infinite, result.reals.shape)
                values = [int(r) if r.is_finite() else None for r in result.reals[at]]
                result.residues[:, at] = np.stack(
                    [
                        np.full(self.field.rows, UNKNOWN)
                        if value is None
                        else value % self.field.modulus[:, 0]
                        for value in values
                    ],
                    axis=1,
                )
        return result


def _array(value: Decimal) -> Reals:
    result = np.empty(1, object)
    result[0] = value
    return result


def _objects(values: Any) -> Reals:
    return np.asarray(values, object)
