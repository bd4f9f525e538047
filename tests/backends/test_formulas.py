"""Extents' formulas: exact, bounded in time, and an error where they have no value."""

from __future__ import annotations

import pytest

from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.ir.nodes import Apply, Compare, Conditional, Constant, Expression, Extent, Number

X, S, HALF = Extent("X"), Constant("s"), Number(0.5)
VALUES = {"X": 10, "s": 3, "huge": 10**9}


def of(operation: str, *operands: Expression | int) -> Expression:
    return Apply(operation, tuple(Number(o) if isinstance(o, int) else o for o in operands))


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (X, 10),
        (of("+", of("//", of("-", X, 4), S), 1), 3),
        (of("//", of("neg", 7), 2), -4),
        (of("%", of("neg", 7), S), 2),
        (of("**", 2, 200), 2**200),
        (of("max", X, of("*", 4, S)), 12),
        (of("min", X, of("*", 4, S)), 10),
        (of("floor", of("/", X, 4)), 2),
        (of("floor", of("*", X, HALF)), 5),
        (of("floor", of("*", of("/", 2**70 + 1, 2), 2)), 2**70 + 1),
        (of("floor", of("*", X, of("**", 2, of("neg", 1)))), 5),
        (Conditional(Compare(("<=", "<"), (Number(0), X, Number(11))), S, X), 3),
        (Conditional(of("not", of("and", X, of("-", S, 3))), X, S), 10),
    ],
)
def test_values_are_exact(formula: Expression, expected: int) -> None:
    assert evaluate(formula, VALUES) == expected


@pytest.mark.parametrize(
    ("formula", "words", "too_large"),
    [
        (of("//", X, of("-", S, 3)), "X//(s-3)", False),
        (of("%", X, 0), "X%0", False),
        (of("/", X, 0), "X/0", False),
        (of("/", X, 4), "5/2, which is no integer", False),
        (of("**", 2, Constant("huge")), "too large", True),
        (of("**", of("**", 2, 500), 500), "too large", True),
        (of("**", HALF, of("neg", Constant("huge"))), "", True),
        (of("floor", of("*", Number(float("inf")), X)), "", True),
        (of("exp", X), "cannot stand in an extent", False),
    ],
)
def test_what_has_no_value_is_an_error_at_once(
    formula: Expression, words: str, too_large: bool
) -> None:
    with pytest.raises(FormulaError) as caught:
        evaluate(formula, VALUES)
    assert words in str(caught.value)
    assert caught.value.too_large is too_large
