"""Numbers on two lines at once: residues in a chain of finite fields, and reals to 50 digits.

The residues decide whether formulas are equal by algebra, exactly; the reals know every function, and
order. Where a program compares numbers (a guard, `relu`, `max=`), the reals decide for both lines, so
that all runs take the same way, and every axiom of order holds.

What the fields do not know is noted in `Lines.beyond`: roots (that of x**2 is x or -x, whichever is a
square), `erf`, `sin`, `cos`. There residues that differ prove nothing.

A run may have one line alone. Residues alone cannot say which of two numbers is larger, nor hold an
infinity: that is `NeedsReals`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.numbers import decimals
from loopgrad.simplify.numbers.decimals import NAN, ONE, ZERO, Reals, elementwise
from loopgrad.simplify.numbers.fields import UNKNOWN, Fields, Residues

Integers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Shape: TypeAlias = tuple[int, ...]


NO_FIELD = Fields(1)  # of runs on the reals alone, which do not ask it


class NeedsReals(Exception):
    """A question that residues do not answer, in a run without reals."""


@dataclass(frozen=True, eq=False, slots=True)
class Numbers:
    """Numbers of some shape: `residues` (rows, *shape), `reals` (*shape,). None for a line left out."""

    residues: Residues | None
    reals: Reals | None

    @property
    def shape(self) -> Shape:
        if self.reals is not None:
            return self.reals.shape
        assert self.residues is not None
        return self.residues.shape[1:]

    @property
    def size(self) -> int:
        return prod(self.shape)

    def each(
        self, residues: Callable[[Residues], Residues], reals: Callable[[Reals], Reals]
    ) -> Numbers:
        return Numbers(
            None if self.residues is None else residues(self.residues),
            None if self.reals is None else reals(self.reals),
        )

    def __getitem__(self, places: Any) -> Numbers:
        """By the leading axes; a place may be an array of places."""
        return Numbers(
            None if self.residues is None else self.residues[:, places],
            None if self.reals is None else self.reals[places],
        )

    def __setitem__(self, places: Any, values: Numbers) -> None:
        if self.residues is not None and values.residues is not None:
            self.residues[:, places] = values.residues
        if self.reals is not None and values.reals is not None:
            self.reals[places] = values.reals

    def reshaped(self, shape: Shape) -> Numbers:
        return self.each(lambda a: a.reshape(len(a), *shape), lambda a: a.reshape(shape))

    def spread(self, shape: Shape) -> Numbers:
        """Broadcast to the shape."""
        if self.shape == shape:
            return self
        return self.each(
            lambda a: np.broadcast_to(a, (len(a), *shape)), lambda a: np.broadcast_to(a, shape)
        )


_POWER = elementwise(decimals.power, 2)
_ORDER = elementwise(decimals.order, 2)
_FLOOR = elementwise(decimals.floor)
# Whether a comparison holds, for the orders -1, 0, 1 and 2.
_HOLDS = {
    "<": np.array([True, False, False, False]),
    "<=": np.array([True, True, False, False]),
    ">": np.array([False, False, True, False]),
    ">=": np.array([False, True, True, False]),
}
_INFINITE = elementwise(Decimal.is_infinite)
_NAN = elementwise(Decimal.is_nan)
_DECIMAL = elementwise(lambda value: Decimal(int(value)))
_SIGN = elementwise(lambda a: NAN if a.is_nan() else Decimal(decimals.order(a, ZERO)))

_REALS: dict[str, Callable[[Decimal], Decimal]] = {
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
}


class _Remembered(dict[Decimal, Decimal]):
    """The values of a function; many statements ask for the same."""

    def __init__(self, function: Callable[[Decimal], Decimal]):
        super().__init__()
        self.function = function

    def __missing__(self, a: Decimal) -> Decimal:
        value = self[a] = self.function(a)
        return value


class Lines:
    """The arithmetic of `Numbers`. Runs inside `decimal.localcontext(decimals.CONTEXT)`.

    field: None for a run on the reals alone: `exact` is false. real: false for one on residues alone.
    beyond: what was met that the fields' algebra does not model, in words.
    infinite: whether an infinity was met, of which residues know nothing. tied: two equal numbers
    were put in order (a maximum of equals, `relu(0)`), or a whole number was rounded down.
    repeats: whether an operation has the same result each time.
    """

    repeats = True

    def __init__(self, field: Fields | None, real: bool = True):
        assert field is not None or real
        self.exact = field is not None and field.rows > 0
        self.field = field or NO_FIELD
        self.real = real
        self.beyond: set[str] = set()
        self.infinite = False
        self.tied = False
        self._numbers: dict[Hashable, Numbers] = {}
        self._functions: dict[Hashable, Callable[..., Any]] = {}

    # ------------------------------------------------------------------------------- making

    def number(self, value: int | float | Fraction) -> Numbers:
        """A literal, taken as the decimal number that is written; of shape (1,)."""
        key = (type(value), value)
        if key not in self._numbers:
            self._numbers[key] = self._number(value)
        return self._numbers[key]

    def _number(self, value: int | float | Fraction) -> Numbers:
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            if not self.real:
                raise NeedsReals
            self.infinite = True
            unknown = self.field.unknown(1) if self.exact else None
            return Numbers(unknown, _array(Decimal(value)))
        exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
        return Numbers(
            self.field.number(exact) if self.exact else None,
            _array(decimals.decimal(exact)) if self.real else None,
        )

    def filled(self, value: float, shape: Shape) -> Numbers:
        """A tensor of that number everywhere."""
        one = self.number(value)
        residues: Residues | None = None
        reals: Reals | None = None
        if one.residues is not None:
            residues = np.empty((len(one.residues), *shape), np.int64)
            residues[...] = one.residues.reshape(-1, *[1] * len(shape))
        if one.reals is not None:
            reals = np.empty(shape, one.reals.dtype)
            reals[...] = one.reals[0]
        return Numbers(residues, reals)

    def of_integers(self, values: Integers) -> Numbers:
        return Numbers(
            self.field.integers(values) if self.exact else None,
            np.asarray(_DECIMAL(values), object) if self.real else None,
        )

    def pi(self) -> Numbers:
        return Numbers(
            self.field.constant("pi") if self.exact else None,
            _array(+decimals.pi()) if self.real else None,
        )

    # ------------------------------------------------------------------------------- operations

    def _both(
        self, residues: Callable[..., Residues], reals: Callable[..., Reals], *operands: Numbers
    ) -> Numbers:
        return Numbers(
            residues(*(a.residues for a in operands)) if self.exact else None,
            reals(*(a.reals for a in operands)) if self.real else None,
        )

    def add(self, a: Numbers, b: Numbers) -> Numbers:
        return self._both(self.field.add, operator.add, a, b)

    def subtract(self, a: Numbers, b: Numbers) -> Numbers:
        return self._both(self.field.subtract, operator.sub, a, b)

    def multiply(self, a: Numbers, b: Numbers) -> Numbers:
        return self._both(self.field.multiply, operator.mul, a, b)

    def divide(self, a: Numbers, b: Numbers) -> Numbers:
        return self._settled(self._both(self.field.divide, operator.truediv, a, b), a, b)

    def negate(self, a: Numbers) -> Numbers:
        return self._both(self.field.negate, operator.neg, a)

    def total(self, a: Numbers, axes: Shape) -> Numbers:
        """The sums along these axes, which stay, with extent 1."""
        return Numbers(
            None if a.residues is None else self.field.total(a.residues, axes),
            None if a.reals is None else np.add.reduce(a.reals, axis=axes, keepdims=True),
        )

    def grouped(self, a: Numbers, starts: Integers) -> Numbers:
        """The sums of the elements from each of the starts to the next."""
        sums: Residues | None = None
        if a.residues is not None:
            sums = np.add.reduceat(a.residues, starts, axis=1) % self.field.modulus
            sums[np.minimum.reduceat(a.residues, starts, axis=1) < 0] = UNKNOWN
        return Numbers(sums, None if a.reals is None else np.add.reduceat(a.reals, starts))

    def integer_power(self, a: Numbers, exponents: Integers) -> Numbers:
        def raised(residues: Residues) -> Residues:
            return self.field.integer_power(residues, exponents)

        def real(reals: Reals) -> Reals:
            return np.asarray(_POWER(reals, _DECIMAL(exponents)), object)

        return self._settled(self._both(raised, real, a), a)

    def rational_power(self, a: Numbers, exponent: Fraction) -> Numbers:
        if exponent.denominator == 1:
            return self.integer_power(a, np.full((1,) * len(a.shape), exponent.numerator, np.int64))
        self.beyond.add("roots")

        def raised(residues: Residues) -> Residues:
            return self.field.rational_power(residues, exponent)

        reals = self._remembered(exponent, lambda x: decimals.rational_power(x, exponent))
        return self._settled(self._both(raised, reals, a), a)

    def power(self, a: Numbers, b: Numbers) -> Numbers:
        """a**b for any b: exp(b * log(a))."""
        self.beyond.add("roots")

        def raised(base: Residues, exponent: Residues) -> Residues:
            return self.field.power(base, self.field.shifted(exponent))

        return self._settled(self._both(raised, _POWER, a, b), a, b)

    def function(self, name: str, a: Numbers) -> Numbers:
        """A function of one operand, of the names in `operations.FUNCTIONS`."""
        match name:
            case "stop_gradient":
                return a
            case "abs":
                return self.choose(self.compare("<", a, self._zero(a)), self.negate(a), a)
            case "relu":
                return self.largest(a, self._zero(a))
            case "sign":
                return self._sign(a)
        reals = self._remembered(name, _REALS[name])
        return self._settled(self._both(lambda r: self._residues(name, r), reals, a), a)

    def _remembered(
        self, name: Hashable, function: Callable[[Decimal], Decimal]
    ) -> Callable[[Reals], Reals]:
        if name not in self._functions:
            self._functions[name] = elementwise(_Remembered(function).__getitem__)
        made = self._functions[name]
        return lambda reals: np.asarray(made(reals), object)

    def _zero(self, a: Numbers) -> Numbers:
        return self.number(0).reshaped((1,) * len(a.shape))

    def _residues(self, name: str, a: Residues) -> Residues:
        field = self.field
        one = field.number(1).reshape(-1, *[1] * (a.ndim - 1))
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
        """-1, 0, 1, or 2 where one is NaN."""
        order = self._order(a, b)
        if not self.tied and (equal := order == 0).any():
            finite = ~np.asarray(_INFINITE(a.reals)).astype(np.bool_)  # -inf marks what is left out
            self.tied = bool((equal & finite).any())
        return order

    def _order(self, a: Numbers, b: Numbers) -> Integers:
        if not self.real:
            raise NeedsReals
        self.beyond.add("order")
        return np.asarray(_ORDER(a.reals, b.reals)).astype(np.int64)

    def compare(self, operator: str, a: Numbers, b: Numbers) -> Mask:
        if operator in ("==", "!="):  # `s == m` asks who won: no tie
            equal = np.asarray(self._order(a, b) == 0, np.bool_)
            return equal if operator == "==" else ~equal  # true of NaN, too
        return np.asarray(_HOLDS[operator][self.order(a, b) + 1])

    def largest(self, a: Numbers, b: Numbers) -> Numbers:
        """The larger of two, NaN where one is NaN."""
        return self.choose((self.order(a, b) >= 0) & ~self._nan(b), a, b)

    def smallest(self, a: Numbers, b: Numbers) -> Numbers:
        return self.choose((np.abs(self.order(a, b) - 0.5) != 0.5) & ~self._nan(b), a, b)

    def floor(self, a: Numbers) -> Integers | None:
        """None where one is not finite."""
        if a.reals is None:
            raise NeedsReals
        self.beyond.add("order")
        found = np.asarray(_FLOOR(a.reals), object)
        if any(value is None for value in found.flat):
            return None
        whole: Integers = found.astype(np.int64)
        self.tied |= bool((whole == a.reals).any())
        return whole

    def choose(self, mask: Mask, a: Numbers, b: Numbers) -> Numbers:
        """a where the mask holds, else b."""

        def exact(x: Residues, y: Residues) -> Residues:
            return np.where(mask[None], x, y)

        def real(x: Reals, y: Reals) -> Reals:
            return np.where(mask, x, y)

        return self._both(exact, real, a, b)

    def _sign(self, a: Numbers) -> Numbers:
        if a.reals is None:
            raise NeedsReals
        self.beyond.add("order")
        reals = np.asarray(_SIGN(a.reals), object)
        self.tied |= bool((reals == 0).any())
        signs = [0 if r.is_nan() else int(r) for r in reals.flat]
        whole = np.array(signs, np.int64).reshape(reals.shape)
        return Numbers(self.field.integers(whole) if self.exact else None, reals)

    @staticmethod
    def _nan(a: Numbers) -> Mask:
        return np.asarray(_NAN(a.reals)).astype(np.bool_)

    def _settled(self, result: Numbers, *operands: Numbers) -> Numbers:
        """With the residues that limits at infinity have: exp(-inf) is 0, tanh(inf) 1.

        No function here has a finite limit that is no integer.
        """
        if result.residues is None or result.reals is None:
            return result
        for operand in operands:
            infinite = np.asarray(_INFINITE(operand.reals)).astype(np.bool_)
            if infinite.any():
                self.infinite = True
                at = np.broadcast_to(infinite, result.shape)
                values = [int(r) if r.is_finite() else None for r in result.reals[at]]
                limits = [_limit(value, self.field) for value in values]
                result.residues[:, at] = np.stack(limits, axis=1)
        return result


def _limit(value: int | None, field: Fields) -> Residues:
    if value is None:
        return np.full(field.rows, UNKNOWN)
    return np.asarray(value % field.modulus[:, 0])


def as_decimals(values: NDArray[Any]) -> Numbers:
    """Floats as they are, on the reals alone."""
    reals = np.empty(values.shape, object)
    reals.reshape(-1)[:] = [Decimal(float(v)) for v in values.flat]
    return Numbers(None, reals)


def _array(value: Decimal) -> Reals:
    result = np.empty(1, object)
    result[0] = value
    return result
