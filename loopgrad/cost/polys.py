"""Formulas of sizes: polynomials in extents, integer constants, and numbers of rounds of sums.

A formula is a polynomial of `analysis.polynomial` whose atoms are expressions and `Log`s. Extents count
as 1 or more, as do integer constants whose default is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from loopgrad.analysis.extents import polynomial
from loopgrad.analysis.polynomial import add, constant, constant_value, multiply, subtract
from loopgrad.ir.nodes import Constant, Expression, Extent, Index, Number
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import subexpressions

Atom: TypeAlias = "Expression | Log"
Formula: TypeAlias = dict[tuple[Any, ...], Any]

ONE: Formula = constant(1)
NOTHING: Formula = {}


@dataclass(frozen=True)
class Log:
    """`ceil(log2(count))`: how many rounds a balanced tree takes to add up as many values; 0 for none."""

    count: tuple[tuple[tuple[Any, ...], Any], ...]

    @property
    def formula(self) -> Formula:
        return dict(self.count)


def text(atom: Atom) -> str:
    if isinstance(atom, Log):
        terms = ("*".join([str(c), *map(text, m)]) for m, c in atom.count)
        return f"~log({' + '.join(terms)})"
    return show_expression(atom, compact=True)


def times(left: Formula, right: Formula) -> Formula:
    return multiply(left, right, text)


def formula(expression: Expression) -> Formula:
    return dict(polynomial(expression))


def log(count: Formula) -> Formula:
    """The formula of `ceil(log2(count))`."""
    value = constant_value(count)
    if value is not None:
        return constant(max(0, int(value) - 1).bit_length())
    ordered = tuple(sorted(count.items(), key=lambda t: (tuple(map(text, t[0])), t[1])))
    return {(Log(ordered),): 1}


def indices_in(f: Formula) -> set[str]:
    """The indices that occur, within other atoms too."""
    found: set[str] = set()
    for monomial in f:
        for atom in monomial:
            if isinstance(atom, Log):
                found |= indices_in(atom.formula)
            else:
                found |= {n.name for n in subexpressions(atom) if isinstance(n, Index)}
    return found


def linear_in(f: Formula, index: str) -> tuple[Formula, Formula] | None:
    """`(c, rest)` with `f == c * index + rest`, both free of the index; None where there are none."""
    slope: Formula = {}
    rest: Formula = {}
    own = Index(index)
    for monomial, coefficient in f.items():
        if own in monomial:
            at = monomial.index(own)
            slope = add(slope, {monomial[:at] + monomial[at + 1 :]: coefficient})
        else:
            rest[monomial] = coefficient
    if index in indices_in(slope) or index in indices_in(rest):
        return None
    return slope, rest


def put(f: Formula, index: str, value: Formula) -> Formula | None:
    """The formula with the index replaced; None where it is not linear in it."""
    if index not in indices_in(f):
        return f
    parts = linear_in(f, index)
    if parts is None:
        return None
    return add(times(parts[0], value), parts[1])


def is_never_negative(f: Formula, positive: frozenset[str]) -> bool:
    """`_is_never_negative`, remembered."""
    key = (frozenset(f.items()), positive)
    if key not in _KNOWN:
        if len(_KNOWN) > MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = _is_never_negative(f, positive)
    return _KNOWN[key]


_KNOWN: dict[tuple[frozenset[Any], frozenset[str]], bool] = {}
MOST_KNOWN = 50_000


def _is_never_negative(f: Formula, positive: frozenset[str]) -> bool:
    """Whether that is evident, for all sizes; `positive`: the integer constants that are 1 or more.

    Every extent is written as 1 and a number that is 0 or more: what has no negative coefficient then, is
    never negative.
    """
    if all(c >= 0 for c in f.values()):
        return all(_is_natural(a, positive) for m in f for a in m)
    if not all(_is_natural(a, positive) for m in f for a in m):
        return False
    total: Formula = {}
    for monomial, coefficient in f.items():
        product: Formula = {(): coefficient}
        for atom in monomial:
            more = {(atom,): 1, (): 1} if _is_positive(atom, positive) else {(atom,): 1}
            product = times(product, more)
        total = add(total, product)
    return all(c >= 0 for c in total.values())


def assuming(f: Formula, needs: tuple[Formula, ...]) -> Formula:
    """The formula in sizes less what is needed of them: with `T + 1` for T where T is 2 or more."""
    for need in needs:
        if len(need) == 2 and () in need:
            [(monomial, coefficient)] = [t for t in need.items() if t[0]]
            least = -need[()]
            if (
                coefficient == 1
                and len(monomial) == 1
                and isinstance(monomial[0], Extent)
                and least > 1
            ):
                total: Formula = {}
                for m, c in f.items():
                    product: Formula = {(): c}
                    for a in m:
                        product = times(
                            product, {(a,): 1, (): least - 1} if a == monomial[0] else {(a,): 1}
                        )
                    total = add(total, product)
                f = total
    return f


def is_less(left: Formula, right: Formula, positive: frozenset[str]) -> bool:
    """Whether `left <= right` is evident."""
    return is_never_negative(subtract(right, left), positive)


def _is_natural(atom: Atom, positive: frozenset[str]) -> bool:
    match atom:
        case Log() | Extent() | Index():
            return True
        case Number(value):
            return value >= 0
        case Constant(name):
            return name in positive
    operands = getattr(atom, "operands", ())
    return getattr(atom, "operation", "") in ("//", "max", "min", "%", "*", "+") and all(
        is_never_negative(formula(o), positive) for o in operands
    )


def _is_positive(atom: Atom, positive: frozenset[str]) -> bool:
    match atom:
        case Extent():
            return True
        case Constant(name):
            return name in positive
    return False


def value_at(f: Formula, sizes: Mapping[str, int]) -> int:
    """What the formula comes to."""
    from loopgrad.backends.formulas import evaluate

    total = 0
    for monomial, coefficient in f.items():
        product = coefficient
        for atom in monomial:
            if isinstance(atom, Log):
                product *= max(0, value_at(atom.formula, sizes) - 1).bit_length()
            else:
                product *= evaluate(atom, sizes)
        total += product
    return total
