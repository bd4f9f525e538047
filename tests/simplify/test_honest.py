"""`lg.equal` never says proved of what is not, however seldom the two differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.simplify.reading.forms import equal_forms

WRITTEN = Path(__file__).parents[1] / "programs"


def elementwise(one: str, other: str) -> tuple[str, str]:
    head = "f(x[N]) -> y[N]:\n    for n:  y[n] = "
    return head + one, head + other


# Equal but at a single value, or beyond what random inputs reach: where one is no number.
SELDOM = {
    "x / x at one place": elementwise("(x[n] - 0.123) / (x[n] - 0.123)", "1 + 0 * x[n]"),
    "0 / x": elementwise("0 * x[n] / (x[n] - 0.123)", "0 * x[n]"),
    "a fraction cancelled": elementwise("x[n] * (x[n] + 77) / (x[n] + 77)", "x[n]"),
    "1 / x to the power 0": elementwise("(1 / (x[n] - 7.7))**0", "1 + 0 * x[n]"),
    "exp of log": elementwise("exp(log(x[n] + 1000))", "x[n] + 1000"),
    "a root squared": elementwise("sqrt(x[n] + 1000)**2", "x[n] + 1000"),
    "root times root": elementwise("sqrt(x[n] + 1000) * sqrt(x[n] + 1000)", "x[n] + 1000"),
    "powers added": elementwise("(x[n] + 900)**1.5 / (x[n] + 900)**0.5", "x[n] + 900"),
    "rsqrt times sqrt": elementwise("rsqrt(x[n] + 900) * sqrt(x[n] + 900)", "1 + 0 * x[n]"),
    "log - log": elementwise("log(x[n] + 500) - log(x[n] + 500) + x[n]", "x[n]"),
    "log1p": elementwise("log1p(x[n] + 500) - log1p(x[n] + 500) + x[n]", "x[n]"),
    "one size": elementwise("x[n] * (N - 9) / (N - 9)", "x[n]"),
    "log of a product": elementwise("log((x[n] + 900) * (x[n] + 900))", "2 * log(x[n] + 900)"),
    "a quotient of one element, and of all": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = (x[n] - 0.3) / (x[n] - 0.3)",
        "f(x[N]) -> y[N]:\n    for n:  q[n] = (x[n] - 0.3) / (x[n] - 0.3)\n"
        "    for n, m:  y[n] += q[m] / N",
    ),
    "a constant that may be negative": (
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = sqrt(a)**2 * x[n]",
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = a * x[n]",
    ),
    "a constant that may be 0": (
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = x[n] * a / a",
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = x[n]",
    ),
    "an element that may not be there": (
        "f(x[N], int w[N], z[N]) -> y[N]:\n    y[n] = z[n] + x[w[n]] - x[w[n]]",
        "f(x[N], int w[N], z[N]) -> y[N]:\n    y[n] = z[n] + 0 * x[0] * w[n]",
    ),
}  # fmt: skip

TEMPORARY = "f(x[N]) -> y[N]:\n    for n:  t[n] = {}\n"
LARGE = "x[n] if x[n] < 1000000 else 0"

# The same statements on a temporary that is not the same.
HIDDEN = {
    "under max=": "    for n:  m max= t[n]\n    for n:  y[n] = m",
    "in a guard": "    for n:  y[n] += x[n]   if t[n] > 0",
    "in a condition": "    for n:  y[n] = 1 if t[n] > 0 else 2",
    "through two": "    for n:  m max= t[n]\n    for n < N:  u[n] = max(m, 0)\n    for n:  y[n] = 2 * u[n]",
}

ONLY_SOME = {
    "square sizes": (
        "f(x[B,J]) -> y[B,J]:\n    for b, j:  y[b,j] = x[b,j] + x[j,b] - x[j,b]",
        "f(x[B,J]) -> y[B,J]:\n    for b, j:  y[b,j] = x[b,j]",
    ),
    "square by its header": (
        "f(x[J,J]) -> y:\n    for i, j:  y += x[i,j]",
        "f(x[B,J]) -> y:\n    for b, j:  y += x[b,j]",
    ),
    "equal lengths": (
        "f(x[B], z[J]) -> y:\n    for b:  y += x[b]\n    for j:  y += z[j]",
        "f(x[B], z[B]) -> y:\n    for b:  y += x[b] + z[b]",
    ),
    "three rows": (
        "f(x[3]) -> y:\n    for i < 3:  y += x[i]",
        "f(x[N]) -> y:\n    for i:  y += x[i]",
    ),
    "a default": (
        "f(x[N], a = 1.0) -> y[N]:\n    y[n] = a * x[n]",
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = a * x[n]",
    ),
    "small sizes, by a guard": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n]",
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n]\n    for n:  y[n] += x[n]   if n >= 7",
    ),
    "small sizes, by a product": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n]",
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n] + x[n] * (N-1) * (N-2) * (N-3) * (N-4) * (N-5) * (N-6)",
    ),
    "small indices": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n]",
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n] + x[n] * n * (n-1) * (n-2) * (n-3) * (n-4) * (n-5)",
    ),
    "small numbers": elementwise("x[n]", "x[n] if x[n] < 1000000 else 2 * x[n]"),
    "small numbers, by abs": elementwise("abs(x[n] + 5000)", "x[n] + 5000"),
    "small numbers, by a root": elementwise("((x[n] + 5000)**4)**0.25", "x[n] + 5000"),
    "small numbers, by max=": (
        "f(x[N]) -> m:\n    for n:  m max= x[n]",
        "f(x[N]) -> m:\n    for n:  m max= x[n] if x[n] > -99999 else 0",
    ),
    "small sizes, in a recurrence": (
        "f(x[N]) -> y[N]:\n    for n:\n        y[n] = x[n] + (y[n-1] if n > 0 else 0)",
        "f(x[N]) -> y[N]:\n    for n:\n        y[n] = x[n] + (y[n-1] if n > 0 and n != 17 else 0)",
    ),
    "small sizes, in a product": (
        "f(x[N]) -> y:\n    for n:  y *= x[n]",
        "f(x[N]) -> y:\n    for n:  y *= x[n] if n < 21 else 1",
    ),
    "small integers": (
        "f(int k[N]) -> y[N]:\n    y[n] = (k[n] % 1000) * 1.0",
        "f(int k[N]) -> y[N]:\n    y[n] = k[n] * 1.0",
    ),
    "positive numbers": elementwise("sqrt(x[n]**2)", "x[n]"),
    "positive constants": (
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = a * x[n]",
        "f(x[N], a = 2.0) -> y[N]:\n    y[n] = abs(a) * x[n]",
    ),
    "rows that are not empty": (
        "f(s[B,J]) -> y[B]:\n    for b, j:  Z[b] += exp(s[b,j])\n"
        "    for b, j:  y[b] += exp(s[b,j]) / Z[b]",
        "f(s[B,J]) -> y[B]:\n    for b:  y[b] = 1",
    ),
    "a mean that is not of nothing": (
        "f(x[B]) -> y:\n    y = sum[b](x[b]) / B",
        "f(x[B]) -> y:\n    y = sum[b](x[b] / B)",
    ),
    "a small term": elementwise("x[n]", "x[n] * (1 + 1e-40)"),
    "the result of another extent": (
        "f(x[N], z[M]) -> y:\n    y = N * x[0] * z[0]",
        "f(x[M], z[N]) -> y:\n    y = N * x[0] * z[0]",
    ),
}  # fmt: skip

CASES = {
    **SELDOM,
    **ONLY_SOME,
    **{
        name: (TEMPORARY.format("x[n]") + rest, TEMPORARY.format(LARGE) + rest)
        for name, rest in HIDDEN.items()
    },
}


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_equal_is_not_proved(name: str) -> None:
    for p, q in (CASES[name], CASES[name][::-1]):
        assert lg.equal(p, q).verdict in ("tested", "refuted")
        if "nothing" not in name:  # normal forms speak of sizes from 1
            assert not equal_forms(lg.program(p), lg.program(q))


@pytest.mark.parametrize(
    "name",
    [
        "square sizes",
        "a default",
        "positive numbers",
        *(n for n in ONLY_SOME if n.startswith("small")),
    ],
)
def test_a_difference_that_trials_can_come_to_is_found(name: str) -> None:
    for p, q in (CASES[name], CASES[name][::-1]):
        answer = lg.equal(p, q)
        assert not answer and answer.verdict == "refuted" and answer.counterexample is not None


@pytest.mark.parametrize("name", ["rows that are not empty", "a mean that is not of nothing"])
def test_a_difference_at_empty_axes_is_told(name: str) -> None:
    for p, q in (CASES[name], CASES[name][::-1]):
        answer = lg.equal(p, q)
        assert answer and answer.verdict == "tested"
        assert "and not with empty axes: at " in answer.reason and " = 0 `y" in answer.reason


def test_a_rewriting_that_is_wrong_for_empty_rows_is_not_applied() -> None:
    """`sum[j](p) = 1` would make `t.grad` the sum of `L.grad`, where it is 0 if there is no j."""
    forward = lg.program(
        "f(s[B,J], t) -> L[B]:\n"
        "    for b, j:  Z[b]   += exp(s[b,j])\n"
        "    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]\n"
        "    for b, j:  L[b]   += p[b,j] * t\n"
    )
    literal = forward.backward("t")
    simplified = literal.simplify()
    given = {"L.grad": np.ones(3), "s": np.zeros((3, 0)), "Z": np.zeros(3), "p": np.zeros((3, 0))}
    assert simplified(**{i.name: given[i.name] for i in simplified.inputs}) == 0


def test_a_difference_of_rounding_alone_is_none() -> None:
    """At 50 digits the third of three vectors in a plane is not quite 0, and is divided by its length."""
    head = "f(A[2,3]) -> y:\n    for i < 2:  a += A[i,0]**2\n"
    rest = (
        "    for i < 2:  c += A[i,0] * A[i,1]\n"
        "    for i < 2:  w[i] = A[i,1] - {} - A[i,2] * (A[i,0] - A[i,0])\n"
        "    for i < 2:  y += w[i] / w[0]\n"
    )
    one, other = (head + rest.format(e) for e in ("A[i,0] * c / a", "c / a * A[i,0]"))
    assert lg.equal(one, other)
    forward = lg.load(WRITTEN / "references.loops").gram_schmidt
    literal = forward.backward()
    assert lg.equal(literal, literal.simplify())
    divided = str(literal).replace("/ (2 * sqrt(n[j]))", "/ 2 / sqrt(n[j])")
    assert divided != str(literal)
    assert lg.check(forward, divided)
