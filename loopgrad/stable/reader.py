"""Expressions read as products and sums in which exponentials, their sums and their logs cancel.

A `Reader` knows what the program's tensors are made of: `products` of those that are one product of
their own indices (`p[b,j] = exp(s[b,j]) / Z[b]`), `scales` of those that are stored without a factor
(`Z = exp(Z.shift) * Z'`), and `tops`, maxima that were taken off (`s - m` is at most 0).

`gains` counts what came of it: a statement in which nothing is gained stays as it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce

from loopgrad.ir.literals import whole_number
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Expression,
    Number,
    Read,
)
from loopgrad.ir.walk import apply, compare, conjunction, indices_of, reads, rebuild, substitute
from loopgrad.stable import logistic
from loopgrad.stable.forms import (
    UNIT,
    ZERO,
    Binding,
    Linear,
    Product,
    exponential,
    factor,
    multiplied,
    names,
    negated,
    plus,
    positive,
    powered,
    times,
    unify,
)
from loopgrad.stable.writer import of_linear, of_product, of_terms

MINUS, HALF = Fraction(-1), Fraction(1, 2)
LARGEST_POWER = 16
LARGEST_PEAK = 4  # exponents whose largest is written out


@dataclass(frozen=True)
class Top:
    """`top max= argument`, over some loops; the `$` indices stand for any subscript.

    whole: over all that there are, so that no element is above it: no guard, no range leaves one out.
    """

    argument: Linear
    top: Read
    whole: bool = False

    @property
    def difference(self) -> Expression:
        return apply("-", of_linear(self.argument), self.top)


@dataclass(frozen=True)
class Scale:
    """`T[$0, $1] = exp(exponent) * stored[$0, $1]`; the scales of `sources` are part of it."""

    stored: str
    exponent: Linear
    sources: frozenset[str] = frozenset()


@dataclass
class Reader:
    """Reads expressions; see the module."""

    products: dict[str, Product] = field(default_factory=dict)  # in $0, $1, ...
    sums: dict[str, Linear] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    tops: list[Top] = field(default_factory=list)
    # For maxima that are 0 where there is no finite one, what they are then: -inf, of nothing.
    unbounded: dict[str, str] = field(default_factory=dict)
    gains: int = 0
    crossings: int = 0  # gains between factors of a product
    opaque: bool = False  # whether tensors are not looked into
    # The loops of the statement, where a tensor is looked into only if that computes none of its elements
    # more than once.
    loops: frozenset[str] = frozenset()
    kept_out: bool = False  # whether one was not looked into for that reason
    differences: set[Expression] = field(default_factory=set)  # as they were met first
    useful: set[str] = field(default_factory=set)  # rescaled tensors whose scale met its inverse

    # ------------------------------------------------------------------------------ rewriting

    def value(self, expression: Expression) -> Expression:
        """The expression as it is best computed; itself where nothing is gained."""
        outer, self.opaque = self.opaque, False
        new = self._value(expression)
        self.opaque = outer
        return new

    def _value(self, expression: Expression) -> Expression:
        before = self.gains
        match expression:
            case Apply("+" | "-", _):
                linear = self.linear(expression)
                if self.gains > before:
                    return of_linear(linear)
                return expression
            case Read(name):
                return of_product(self.product(expression)) if name in self.scales else expression
            case Apply("*" | "/" | "neg" | "exp" | "sigmoid" | "sqrt" | "rsqrt" | "**"):
                product = self.best(expression)
                return of_product(product) if self.gains > before else expression
            case Apply("log" | "log1p"):
                linear = self.linear(expression)
                return of_linear(linear) if self.gains > before else expression
            case Conditional(condition, then, otherwise):
                # Conditions choose: they stay as they are written, but for what is stored otherwise.
                return Conditional(self.stored(condition), self.value(then), self.value(otherwise))
            case Apply(operation, operands):
                new = tuple(map(self.value, operands))
                return expression if self.gains == before else Apply(operation, new)
        return self.stored(expression)

    def stored(self, expression: Expression) -> Expression:
        """The expression with nothing changed but reads of tensors that are stored otherwise."""

        def change(node: Expression) -> Expression:
            match node:
                case Compare((_,), (Read(name, subscripts), Number(0) as zero)):
                    if name in self.scales:  # of the sign the scale says nothing
                        stored = Read(self.scales[name].stored, tuple(map(change, subscripts)))
                        return replace(node, operands=(stored, zero))
                case Read(name) if name in self.scales:
                    return of_product(self.product(node))
            return rebuild(node, change)

        return change(expression)

    # ------------------------------------------------------------------------------ products

    def best(self, expression: Expression) -> Product:
        """The product, with tensors looked into only where something in them cancels, or overflows."""
        start = self.crossings
        through = logistic_settled(self, self.product(expression))
        if not self.bounded(through.exponent) or not self._looks_into(expression):
            return through
        between = self.crossings
        outer, self.opaque = self.opaque, True
        closed = logistic_settled(self, self.product(expression))
        self.opaque = outer
        return through if between - start > self.crossings - between else closed

    def _looks_into(self, expression: Expression) -> bool:
        return any(r.tensor in self.products for r in reads(expression))

    def product(self, expression: Expression) -> Product:
        """The expression as a product; one factor where it is none."""
        match expression:
            case Read(name, subscripts):
                return self._read(expression, name, subscripts)
            case Apply("*", (left, right)):
                return self.multiplied(self.product(left), self.product(right))
            case Apply("/", (left, right)):
                below = self.powered(self.product(right), MINUS)
                if below is not None:
                    return self.multiplied(self.product(left), below)
            case Apply("neg", (operand,)):
                return negated(self.product(operand))
            case Apply("exp", (operand,)):
                return exponential(self.linear(operand))
            case Apply("sigmoid", (operand,)):
                return factor(logistic.sigmoid(self.linear(operand)))
            case Apply("sqrt" | "rsqrt" as root, (operand,)):
                found = self.powered(self.product(operand), HALF if root == "sqrt" else -HALF)
                if found is not None:
                    return found
            case Apply("**", (base, exponent)):
                power = rational(exponent)
                if power is not None and abs(power) <= LARGEST_POWER:
                    found = self.powered(self.product(base), power)
                    if found is not None:
                        return found
            case Apply("+" | "-", _):
                return self._sum(expression)
            case Apply("log" | "log1p"):
                linear = self.linear(expression)
                if len(linear) == 1:
                    ((atom, multiple),) = linear.items()
                    return _multiple(atom, multiple)
                return factor(of_linear(linear))
            case Conditional(condition, then, Number(0)):
                inner = self.product(then)
                return replace(inner, guards=(self.stored(condition), *inner.guards))
            case Number(0):
                return factor(expression)
        rewritten = self._inside(expression)
        return factor(rewritten)

    def _inside(self, expression: Expression) -> Expression:
        """What is no product: its operands rewritten."""
        match expression:
            case Apply("*" | "/" | "neg" | "exp" | "sigmoid" | "sqrt" | "rsqrt" | "**"):
                return rebuild(expression, self.value)
        return self.value(expression)

    def _read(self, read: Expression, name: str, subscripts: tuple[Expression, ...]) -> Product:
        binding = {f"${axis}": subscript for axis, subscript in enumerate(subscripts)}
        if name in self.scales:
            scale = self.scales[name]
            self.gains += 1
            stored = Product({Read(scale.stored, subscripts): Fraction(1)}, scale.exponent)
            return replace(
                stored.map(lambda e: substitute(e, binding)), sources=scale.sources | {name}
            )
        if name in self.products and not self.opaque:
            if self.loops <= set(indices_of(read)):
                return self.products[name].map(lambda e: substitute(e, binding))
            self.kept_out = True
        return factor(read)

    def multiplied(self, a: Product, b: Product) -> Product:
        result = multiplied(a, b)
        if a.exponent and b.exponent:
            exponent = self.joined(result.exponent)
            cancels = exponent is not result.exponent or any(
                abs(result.exponent.get(atom, Fraction(0))) < abs(c)
                for part in (a.exponent, b.exponent)
                for atom, c in part.items()
            )
            if cancels or not (self.bounded(a.exponent) and self.bounded(b.exponent)):
                self._gained(result)
            result = replace(result, exponent=exponent)
        if any(
            self._may_vanish(base) and (power > 0) != (other > 0)
            for base, power in a.factors.items()
            if (other := b.factors.get(base)) is not None
        ):
            self._gained(result)
        return result

    def _may_vanish(self, base: Expression) -> bool:
        """Is it made of exponentials, so that `base / base` is 1 in the reals alone?"""
        if isinstance(base, Read):
            return base.tensor in self.products
        return isinstance(base, Apply) and base.operation == "sigmoid"

    def _gained(self, product: Product) -> None:
        self.gains += 1
        self.crossings += 1
        self.useful |= product.sources

    def powered(self, a: Product, power: Fraction) -> Product | None:
        result = powered(a, power)
        if result is not None and result.soft and power < 0:
            self._gained(result)
            result = replace(result, soft=False)
        return result

    def bounded(self, exponent: Linear, surely: bool = False) -> bool:
        """Is exp(exponent) at most about 1? Where elements are those that a maximum is of, and `surely` where
        they may be others."""
        return all(self._falls(atom, c, surely) for atom, c in exponent.items())

    def _falls(self, atom: Expression, coefficient: Fraction, surely: bool) -> bool:
        match atom:
            case Number():
                return True
            case Apply("softplus" | "log"):
                return coefficient < 0
        return self.is_difference(atom, surely) and coefficient > 0

    def is_difference(self, atom: Expression, surely: bool = False) -> bool:
        match atom:
            case Apply("-", (_, Read(name))):
                return any(
                    unify(t.difference, atom, {}) is not None
                    for t in self._tops_of(name)
                    if t.whole or not surely
                )
            case Apply("-", (one, Conditional(_, Apply("max") as largest, Number(0)) as peak)):
                return peak == finite(largest) and one in _operands(largest)
        return False

    def _tops_of(self, name: str) -> Iterator[Top]:
        return (t for t in self.tops if t.top.tensor == name)

    # ------------------------------------------------------------------------------ sums

    def terms(self, expression: Expression) -> list[Product]:
        """The products that the expression is the sum of."""
        return [
            negated(self.product(term)) if negative else self.product(term)
            for negative, term in _flattened(expression, False)
        ]

    def _sum(self, expression: Expression) -> Product:
        """A sum as one product, where it is the sum of exponentials or sigmoids; else one factor."""
        products = self.terms(expression)
        found = self.summed(products)
        return factor(self.value(expression)) if found is None else found

    def summed(self, products: list[Product], any_exponent: bool = False) -> Product | None:
        """Their sum as a product, or None. Without guards.

        any_exponent: a common exponential is taken out even where it does not overflow.
        """
        if any(p.guards for p in products):
            return None
        if len(products) == 2:
            found = self._of_two(*products)
            if found is not None:
                return found
        return self._with_common_factor(products, any_exponent)

    def _of_two(self, a: Product, b: Product) -> Product | None:
        """`C + C * exp(u)`, `C - C * exp(u)`, `C - C * sigmoid(u)`."""
        if a.exponent or b.exponent:
            if a.factors != b.factors or a.exponent == b.exponent:
                return None
            head = replace(a, soft=True, sources=a.sources | b.sources)
            step = self.joined(plus(b.exponent, a.exponent, MINUS))
            one_and_exp = Product({logistic.sigmoid(times(step, MINUS)): MINUS}, ZERO)
            if a.negative == b.negative:
                return multiplied(head, one_and_exp)
            # 1 - exp(u) = tanh(-u / 2) * (1 + exp(u))
            half = apply("tanh", of_linear(times(step, -HALF)))
            return multiplied(head, multiplied(factor(half), one_and_exp))
        for one, other in ((a, b), (b, a)):
            base = _sigmoid_in(other)
            if base is None or one.negative == other.negative:
                continue
            if plus(other.factors, {base: MINUS}) == one.factors:
                opposite = logistic.sigmoid(times(self.flat(base.operands[0]), MINUS))
                return replace(multiplied(one, factor(opposite)), soft=True)
        return None

    def _with_common_factor(self, products: list[Product], any_exponent: bool) -> Product | None:
        """What would overflow in each term, taken out of all."""
        taken = logistic.common(products, self.flat)
        exponents = [p.exponent for p in products]
        if any(exponents):
            exponent = self.largest(exponents, surely=True)
            if exponent is None:
                return self._with_peak(products)
            if any_exponent or not self.bounded(exponent):
                taken = multiplied(taken, exponential(exponent))
        if not taken.factors and not taken.exponent:
            return None
        inverse = powered(taken, MINUS)
        assert inverse is not None
        rest = [self._less(p, inverse) for p in products]
        if not all(self.bounded(p.exponent) for p in rest):
            return None
        return self._common(taken, rest, products)

    def _less(self, product: Product, inverse: Product) -> Product:
        """A term without what is taken out of all."""
        found = multiplied(product, inverse)
        return logistic_settled(self, replace(found, exponent=self.joined(found.exponent)))

    def largest(self, exponents: list[Linear], surely: bool = False) -> Linear | None:
        """The one among them below which all others stay."""
        for one in exponents:
            others = [self.joined(plus(other, one, MINUS)) for other in exponents]
            if all(self.bounded(other, surely) for other in others):
                return one
        return None

    def _with_peak(self, products: list[Product]) -> Product | None:
        """The largest of several exponents, as an expression, taken out of a sum.

        A sum of nothing has no exponent that could be the largest: its own is -inf then.
        """
        whole = [of_linear(p.exponent) if p.exponent else Number(0) for p in products]
        whole = [self._unbounded(exponent) for exponent in whole]
        if len(set(whole)) > LARGEST_PEAK:
            return None
        largest = reduce(lambda a, b: apply("max", a, b), dict.fromkeys(whole))
        peak = finite(largest)
        rest = [
            replace(p, exponent={apply("-", one, peak): Fraction(1)})
            for p, one in zip(products, whole, strict=True)
        ]
        return self._common(exponential({peak: Fraction(1)}), rest, products)

    def _unbounded(self, exponent: Expression) -> Expression:
        match exponent:
            case Read(name, subscripts) if name in self.unbounded:
                return Read(self.unbounded[name], subscripts)
        return rebuild(exponent, self._unbounded)

    def _common(self, taken: Product, rest: list[Product], whole: list[Product]) -> Product:
        sources = frozenset[str]().union(*(p.sources for p in whole))
        return replace(multiplied(taken, factor(of_terms(rest))), soft=True, sources=sources)

    # ------------------------------------------------------------------------------ linear forms

    def flat(self, expression: Expression) -> Linear:
        """The sum of multiples that an expression is as it is written; differences with a maximum
        stay whole."""
        if self.is_difference(expression):
            return {expression: Fraction(1)}
        match expression:
            case Number(value) if value == value and abs(value) != float("inf"):
                return {UNIT: Fraction(repr(value))} if value else ZERO
            case Apply("+" | "-" as sign, (left, right)):
                return plus(self.flat(left), self.flat(right), Fraction(1 if sign == "+" else -1))
            case Apply("neg", (operand,)):
                return times(self.flat(operand), MINUS)
            case Apply("*", (Number(), operand)) | Apply("*", (operand, Number())):
                number = next(o for o in expression.operands if isinstance(o, Number))
                multiple = rational(number)
                if multiple is not None:
                    return times(self.flat(operand), multiple)
            case Apply("/", (operand, Number() as number)):
                divisor = rational(number)
                if divisor:
                    return times(self.flat(operand), 1 / divisor)
            case Apply("*" | "/" as operation, (left, right)):
                (one, left), (other, right) = self._apart(left), self._apart(right)
                multiple = one / other if operation == "/" else one * other
                if right == UNIT or (left == UNIT and operation == "*"):
                    whole = self.flat(left if right == UNIT else right)
                    return times(whole, multiple) if len(whole) == 1 else {expression: Fraction(1)}
                return {apply(operation, left, right): multiple}
        return {expression: Fraction(1)}

    def _apart(self, factor: Expression) -> tuple[Fraction, Expression]:
        """A factor's sign and number, and the rest: so `-(y - m) * e` and `(m - y) * e` are the same."""
        number = rational(factor)
        if number:
            return number, UNIT
        if not self.is_difference(factor):
            match factor:
                case Apply("neg", (operand,)):
                    multiple, rest = self._apart(operand)
                    return -multiple, rest
                case Apply("-", (left, right)) if apply("-", right, left) in self.differences:
                    return MINUS, apply("-", right, left)
                case Apply("-"):
                    self.differences.add(factor)
                case Apply("*"):
                    found = [*self.flat(factor).items()]
                    if len(found) == 1:
                        ((rest, multiple),) = found
                        return multiple, rest
        return Fraction(1), factor

    def linear(self, expression: Expression) -> Linear:
        """The expression as a sum of multiples, logs of exponentials unfolded."""
        total: Linear = ZERO
        for atom, coefficient in self.flat(expression).items():
            part = self._atom(atom)
            self.gains += any(
                abs(total.get(a, 0) + coefficient * c) < abs(c)
                for a, c in part.items()
                if self._is_top(a)
            )
            total = plus(total, part, coefficient)
        joined = self.joined(total)
        if joined is not total:
            self.gains += 1
        return joined

    def _atom(self, atom: Expression) -> Linear:
        match atom:
            case Number():
                return {atom: Fraction(1)}
            case Read(name, subscripts) if name in self.sums:
                binding = {f"${axis}": s for axis, s in enumerate(subscripts)}
                return {substitute(a, binding): c for a, c in self.sums[name].items()}
            case Apply("log", (operand,)):
                return self._log(atom, self.product(operand))
            case Apply("log1p", (operand,)):
                before = self.gains
                product = self.product(apply("+", UNIT, operand))
                if product.exponent or _has_sigmoid(product):
                    return self._log(atom, product)
                self.gains = before
        if self.is_difference(atom):
            return {atom: Fraction(1)}
        new = self._inside_atom(atom)
        return {new: Fraction(1)}

    def _inside_atom(self, atom: Expression) -> Expression:
        match atom:
            case Apply("+" | "-" | "log"):  # was taken apart as far as it goes
                return rebuild(atom, self.value)
            case Apply("log1p"):
                return rebuild(atom, self.value)
        return self.value(atom)

    def _log(self, whole: Expression, product: Product) -> Linear:
        """log of a product: its exponent, and the logs of the factors."""
        product = logistic_settled(self, product)
        if product.guards or not (product.exponent or _has_sigmoid(product)):
            return {rebuild(whole, self.value): Fraction(1)}
        self._gained(product)
        pair = self._log_of_pair(product)
        if pair is not None:
            return pair
        result = product.exponent
        rest = replace(product, exponent=ZERO, soft=False)
        for base, power in product.factors.items():
            if isinstance(base, Apply) and base.operation == "sigmoid":
                opposite = of_linear(times(self.flat(base.operands[0]), MINUS))
                result = plus(result, {apply("softplus", opposite): -power})
                rest = replace(rest, factors={b: p for b, p in rest.factors.items() if b != base})
        return self.joined(plus(result, _log_of_rest(rest)))

    def _log_of_pair(self, product: Product) -> Linear | None:
        """log of `exp(a) + exp(b)`; not as `a + softplus(b - a)`, where a may be -inf."""
        base = _sigmoid_in(product)
        if base is None or len(product.factors) > 1 or product.factors[base] != MINUS:
            return None
        if not product.exponent or product.negative:
            return None
        first = exponential(product.exponent)
        step = times(self.flat(base.operands[0]), MINUS)
        second = exponential(self.joined(plus(product.exponent, step)))
        found = self._with_peak([first, second])
        assert found is not None
        return plus(found.exponent, _log_of_rest(replace(found, exponent=ZERO)))

    def _is_top(self, atom: Expression) -> bool:
        return isinstance(atom, Read) and any(t.top.tensor == atom.tensor for t in self.tops)

    def joined(self, linear: Linear) -> Linear:
        """The linear form with `s` and `-m` made `s - m`, wherever m is a maximum of s."""
        result = linear
        for top in self.tops:
            for scale, binding in self.matches(top.argument, result):
                # There may be several maxima of one element: each of the elements from some place on.
                for read, met in result.items():
                    whole = unify(top.top, read, binding)
                    if whole is not None and (met > 0) != (scale > 0):
                        result = self._joined_once(result, top, scale, whole)
                        break
        return result

    def split(self, linear: Linear) -> Linear:
        """The linear form with every `s` that has a maximum m made `(s - m) + m`."""
        result = linear
        for top in self.tops:
            for scale, binding in self.matches(top.argument, result):
                if not _is_open(substitute(top.top, binding)):
                    result = self._joined_once(result, top, scale, binding)
        return result

    def _joined_once(self, linear: Linear, top: Top, scale: Fraction, binding: Binding) -> Linear:
        whole = {substitute(a, binding): c for a, c in top.argument.items()}
        without = plus(linear, whole, -scale)
        parts = {substitute(top.difference, binding): scale, substitute(top.top, binding): scale}
        return plus(without, parts)

    def matches(self, pattern: Linear, linear: Linear) -> list[tuple[Fraction, Binding]]:
        """The multiples of the pattern that stand in the linear form, with what `$` stands for."""
        items = list(pattern.items())
        found: list[tuple[Fraction, Binding]] = []
        if not items:
            return found
        (first, unit), rest = items[0], items[1:]
        for atom, coefficient in linear.items():
            binding = unify(first, atom, {})
            if binding is None:
                continue
            scale = coefficient / unit
            complete = self._completed(rest, linear, scale, binding)
            if complete is not None:
                found.append((scale, complete))
        return found

    def _completed(
        self,
        rest: list[tuple[Expression, Fraction]],
        linear: Linear,
        scale: Fraction,
        binding: Binding,
    ) -> Binding | None:
        if not rest:
            return binding
        pattern, unit = rest[0]
        for atom, coefficient in linear.items():
            if coefficient != scale * unit:
                continue
            more = unify(pattern, atom, binding)
            if more is not None:
                complete = self._completed(rest[1:], linear, scale, more)
                if complete is not None:
                    return complete
        return None


def _multiple(atom: Expression, multiple: Fraction) -> Product:
    found = factor(atom)
    if abs(multiple) != 1:
        found = multiplied(factor(whole_number(abs(multiple).numerator)), found)
        if multiple.denominator > 1:
            found = multiplied(found, factor(whole_number(multiple.denominator), MINUS))
    return negated(found) if multiple < 0 else found


def finite(value: Expression, where: Expression | None = None) -> Expression:
    """The value, or 0 where it is no finite number: what is taken off and put back cancels then.

    where: a further condition on it.
    """
    condition = conjunction((compare("<", apply("abs", value), Number(float("inf"))), where))
    assert condition is not None
    return Conditional(condition, value, Number(0.0))


def _operands(largest: Expression) -> list[Expression]:
    match largest:
        case Apply("max", (left, right)):
            return [*_operands(left), *_operands(right)]
    return [largest]


def logistic_settled(reader: Reader, product: Product) -> Product:
    """With sigmoids and exponentials of one argument put together; a gain where they cancel."""
    result = logistic.settled(product, reader.flat)
    if (dict(result.factors), dict(result.exponent)) != (
        dict(product.factors),
        dict(product.exponent),
    ):
        reader._gained(product)
    return result


def _is_open(expression: Expression) -> bool:
    """Does an index in it stand for any subscript?"""
    return any(name.startswith("$") for name in names(expression))


def _sigmoid_in(product: Product) -> Apply | None:
    """The first sigmoid among the factors."""
    found = (b for b in product.factors if isinstance(b, Apply) and b.operation == "sigmoid")
    return next(found, None)


def _has_sigmoid(product: Product) -> bool:
    return _sigmoid_in(product) is not None


def _log_of_rest(rest: Product) -> Linear:
    if not rest.factors and not rest.negative:
        return ZERO
    if len(rest.factors) == 1 and not rest.negative:
        ((base, power),) = rest.factors.items()
        if abs(power) == 1 or positive(base):
            return {apply("log", base): power}
    return {apply("log", of_product(rest)): Fraction(1)}


def _flattened(expression: Expression, negative: bool) -> Iterator[tuple[bool, Expression]]:
    match expression:
        case Apply("+" | "-" as sign, (left, right)):
            yield from _flattened(left, negative)
            yield from _flattened(right, negative != (sign == "-"))
        case Apply("neg", (Apply("+" | "-" | "neg") as operand,)):
            yield from _flattened(operand, not negative)
        case _:
            yield negative, expression


def rational(expression: Expression) -> Fraction | None:
    """The value of a literal, or a quotient of two."""
    match expression:
        case Number(value) if abs(value) != float("inf"):
            return Fraction(repr(value))
        case Apply("neg", (operand,)):
            inner = rational(operand)
            return None if inner is None else -inner
        case Apply("/", (left, right)):
            one, other = rational(left), rational(right)
            return one / other if one is not None and other else None
    return None
