"""The partial derivative of each operation, as a table, and the rule that chains them.

`occurrences` walks a value from the outside in and yields, for each place where a tensor is read,
the product of the partials on the way there and the conditions under which the place counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from loopgrad.grad.products import (
    EXACT_INTEGERS,
    MINUS_ONE,
    WHOLE,
    Factor,
    Product,
    literal_value,
    multiplied,
    parts,
)
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Expression,
    Index,
    Number,
    Read,
)
from loopgrad.ir.walk import children, conjuncts, rebuild, substitute

# ---------------------------------------------------------------------------------------- patterns


@dataclass(frozen=True, eq=False)
class Pattern:
    """An expression in `u` and `v`, the operands, written with Python's own operators."""

    expression: Expression

    def __neg__(self) -> Pattern:
        return Pattern(Apply("neg", (self.expression,)))

    def __sub__(self, other: Pattern | float) -> Pattern:
        return _pattern("-", self, other)

    def __rsub__(self, other: float) -> Pattern:
        return _pattern("-", other, self)

    def __add__(self, other: Pattern | float) -> Pattern:
        return _pattern("+", self, other)

    def __radd__(self, other: float) -> Pattern:
        return _pattern("+", other, self)

    def __mul__(self, other: Pattern | float) -> Pattern:
        return _pattern("*", self, other)

    def __rmul__(self, other: float) -> Pattern:
        return _pattern("*", other, self)

    def __truediv__(self, other: Pattern | float) -> Pattern:
        return _pattern("/", self, other)

    def __rtruediv__(self, other: float) -> Pattern:
        return _pattern("/", other, self)

    def __pow__(self, other: Pattern | float) -> Pattern:
        return _pattern("**", self, other)


def _lift(value: Pattern | float) -> Expression:
    return value.expression if isinstance(value, Pattern) else Number(value)


def _pattern(operation: str, *operands: Pattern | float) -> Pattern:
    return Pattern(Apply(operation, tuple(map(_lift, operands))))


def _compare(left: Pattern, operator: str, right: Pattern | float) -> Expression:
    return Compare((operator,), (_lift(left), _lift(right)))


def _function(name: str) -> Callable[[Pattern], Pattern]:
    return lambda operand: _pattern(name, operand)


exp, log, sqrt, tanh, sigmoid, sin, cos, sign = map(
    _function, ["exp", "log", "sqrt", "tanh", "sigmoid", "sin", "cos", "sign"]
)
u, v = Pattern(Index("u")), Pattern(Index("v"))
one, pi = Pattern(Number(1)), _pattern("pi")


class Partial(NamedTuple):
    """A partial derivative, and the condition outside which it is 0."""

    value: Pattern
    guard: Expression | None = None


# A half to each at a tie; the condition of the row leaves out the loser.
_larger = Pattern(Conditional(_compare(u, ">", v), Number(1), Number(0.5)))
_larger_v = Pattern(Conditional(_compare(v, ">", u), Number(1), Number(0.5)))
_smaller = Pattern(Conditional(_compare(u, "<", v), Number(1), Number(0.5)))
_smaller_v = Pattern(Conditional(_compare(v, "<", u), Number(1), Number(0.5)))

# For u**v: 0 * u**-1 is no number at u = 0, and neither is 0 * log(0).
_has_slope = _compare(v, "!=", 0)
_has_log = Apply("or", (_compare(u, "!=", 0), _compare(v, "<=", 0)))

# One row an operation, one partial an operand. `* / sqrt neg` and powers with a literal exponent
# are not here: products are differentiated factor by factor, each a power (`_of_product`). What has
# no row has no gradient: sign, floor, stop_gradient, // and %, comparisons, `and or not`.
PARTIALS: dict[str, tuple[Partial, ...]] = {
    "+": (Partial(one), Partial(one)),
    "-": (Partial(one), Partial(-one)),
    "**": (Partial(v * u ** (v - 1), _has_slope), Partial(u**v * log(u), _has_log)),
    "exp": (Partial(exp(u)),),
    "log": (Partial(1 / u),),
    "log1p": (Partial(1 / (1 + u)),),
    "expm1": (Partial(exp(u)),),
    "rsqrt": (Partial(-(1 / (2 * u**1.5))),),
    "tanh": (Partial(1 - tanh(u) ** 2),),
    # sigmoid(-u), not 1 - sigmoid(u), which loses all digits for large u.
    "sigmoid": (Partial(sigmoid(u) * sigmoid(-u)),),
    "softplus": (Partial(sigmoid(u)),),
    "erf": (Partial(2 * exp(-(u**2)) / sqrt(pi)),),
    "sin": (Partial(cos(u)),),
    "cos": (Partial(-sin(u)),),
    "abs": (Partial(sign(u)),),
    "relu": (Partial(one, _compare(u, ">", 0)),),
    "max": (
        Partial(_larger, _compare(u, ">=", v)),
        Partial(_larger_v, _compare(v, ">=", u)),
    ),
    "min": (
        Partial(_smaller, _compare(u, "<=", v)),
        Partial(_smaller_v, _compare(v, "<=", u)),
    ),
}
# The rows in normal form, before operands are put in: `1 / u` divides by the whole of `a / b`.
_FACTORS = {
    operation: tuple(tuple(parts(row.value.expression, lambda _: False)) for row in rows)
    for operation, rows in PARTIALS.items()
}
_PRODUCTS = frozenset(("*", "/", "neg", "sqrt"))


# ------------------------------------------------------------------------------------- occurrences


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A place where a tensor is read: d value / d read is `partial` where `guards` hold, else 0."""

    read: Read
    partial: Product
    guards: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Walks values. `active` says whose places are wanted, `integer` what is an integer."""

    active: Callable[[str], bool]
    integer: Callable[[Expression], bool]

    def occurrences(self, value: Expression, start: Product) -> Iterator[Occurrence]:
        """Every place of an active tensor, left to right, its partials multiplied onto `start`."""
        return self._walk(value, start, ())

    def _walk(
        self, value: Expression, product: Product, guards: tuple[Expression, ...]
    ) -> Iterator[Occurrence]:
        match value:
            case Read(tensor):
                if self.active(tensor):
                    yield Occurrence(value, product, guards)
            case Conditional(condition, then, otherwise):
                yield from self._walk(then, product, (*guards, condition))
                yield from self._walk(otherwise, product, (*guards, self.negated(condition)))
            case Apply(operation, operands):
                if operation in _PRODUCTS or (
                    operation == "**" and literal_value(operands[1]) is not None
                ):
                    yield from self._of_product(value, product, guards)
                elif operation in PARTIALS:
                    yield from self._of_row(operation, operands, product, guards)

    def _of_row(
        self,
        operation: str,
        operands: tuple[Expression, ...],
        product: Product,
        guards: tuple[Expression, ...],
    ) -> Iterator[Occurrence]:
        named = dict(zip("uv", operands, strict=False))
        for i, (operand, partial) in enumerate(zip(operands, PARTIALS[operation], strict=True)):
            if not self.reads_active(operand):
                continue
            onward, conditions = product, guards
            if partial.value is not one:
                for factor in _FACTORS[operation][i]:
                    onward = multiplied(onward, self._filled(factor, named), self.integer)
            if partial.guard is not None:
                condition = substitute(partial.guard, named)
                if not _is_obvious(condition):
                    conditions = (*guards, condition)
            yield from self._walk(operand, onward, conditions)

    def _filled(self, factor: Factor, operands: dict[str, Expression]) -> Iterator[Factor]:
        """A factor of a row with the operands put in; above the line, their factors one by one."""
        base = _folded(substitute(factor.base, operands))
        if factor.exponent == 1 and factor.side == "above":
            yield from parts(base, self.integer)
        else:
            yield Factor(base, factor.exponent, factor.side)

    def _of_product(
        self, value: Expression, product: Product, guards: tuple[Expression, ...]
    ) -> Iterator[Occurrence]:
        """Each factor in turn: the product of the others, times the derivative of its power."""
        factors = tuple(parts(value, self.integer))
        for i, factor in enumerate(factors):
            if not self.reads_active(factor.base):
                continue
            onward = multiplied(product, iter(factors[:i]), self.integer)
            onward = multiplied(onward, _power_rule(factor), self.integer)
            onward = multiplied(onward, iter(factors[i + 1 :]), self.integer)
            yield from self._walk(factor.base, onward, guards)

    def reads_active(self, value: Expression) -> bool:
        """Whether an active tensor is read where gradients flow."""
        return any(self.active(read.tensor) for read in differentiable_reads(value))

    def negated(self, condition: Expression) -> Expression:
        """`not c`; the opposite comparison where both sides are integers, which are never NaN."""
        match condition:
            case Apply("not", (inner,)):
                return inner
            case Compare((operator,), operands) if all(map(self.integer, operands)):
                return Compare((_OPPOSITE[operator],), operands)
        return Apply("not", (condition,))


_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _power_rule(factor: Factor) -> Iterator[Factor]:
    """The derivative of `u**n` or `1 / u**n` in u, as factors."""
    base, exponent, side = factor
    if side == "below":
        yield MINUS_ONE
        yield from _number(exponent)
        yield Factor(base, exponent + 1, "below")
    elif exponent != 1:
        yield from _number(exponent)
        rest = exponent - 1
        yield Factor(base, abs(rest), "above" if rest > 0 else "below")


def _number(value: Fraction) -> Iterator[Factor]:
    if max(value.numerator, value.denominator) > EXACT_INTEGERS:
        yield Factor(Number(float(value)), WHOLE, "above")
    else:
        yield Factor(Number(value.numerator), WHOLE, "above")
        yield Factor(Number(value.denominator), WHOLE, "below")


def differentiable_reads(value: Expression) -> Iterator[Read]:
    """The reads that a gradient can reach: none in subscripts, conditions, `floor` and the like."""
    match value:
        case Read():
            yield value
        case Conditional(_, then, otherwise):
            yield from differentiable_reads(then)
            yield from differentiable_reads(otherwise)
        case Apply("**", (base, exponent)) if literal_value(exponent) is not None:
            if literal_value(exponent) != 0:
                yield from differentiable_reads(base)
        case Apply(operation, operands) if operation in _PRODUCTS or operation in PARTIALS:
            for operand in operands:
                yield from differentiable_reads(operand)


# --------------------------------------------------------------------------------- small rewritings


def assuming(expression: Expression, guards: tuple[Expression, ...]) -> Expression:
    """The expression where the guards hold: conditionals that they decide give way to a branch."""
    if not guards:
        return expression
    known: dict[Expression, bool] = {}
    for guard in guards:
        known[guard] = True
        for each in conjuncts(guard):
            known[each] = True
            match each:
                case Apply("not", (inner,)):
                    known[inner] = False
                case Compare((operator,), operands):
                    # Only sound where the comparison was decided: then its opposite is false.
                    known[Compare((_OPPOSITE[operator],), operands)] = False

    def change(node: Expression) -> Expression:
        while isinstance(node, Conditional) and node.condition in known:
            node = node.then if known[node.condition] else node.otherwise
        return rebuild(node, change) if children(node) else node

    return change(expression)


def _folded(expression: Expression) -> Expression:
    """`-(-u)` as `u`, `-(a - b)` as `b - a`, `n + 1 - 1` as `n`: what substitution leaves."""
    match expression:
        case Apply("neg", (Apply("neg", (operand,)),)):
            return operand
        case Apply("neg", (Apply("-", (left, right)),)):
            return Apply("-", (right, left))
        case Apply(operation, operands):
            new = Apply(operation, tuple(map(_folded, operands)))
            match new:
                case Apply("-", (Apply("+", (base, Number(1))), Number(1))):
                    return base
                case Apply("-", (Apply("-", (base, Number(int(n)))), Number(int(m)))):
                    return Apply("-", (base, Number(n + m)))
            return new
    return expression


def _is_obvious(condition: Expression) -> bool:
    """Whether the condition holds by the numbers that stand in it."""
    match condition:
        case Apply("or", (left, right)):
            return _is_obvious(left) or _is_obvious(right)
        case Compare(("!=",), (left, right)):
            a, b = literal_value(left), literal_value(right)
            return a is not None and b is not None and a != b
    return False
