"""`lg.equal`: proved, refuted by a counterexample, or tested; never proved of what is not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.simplify.reading.canonical import canonical
from tests.simplify.mutations import mutations

CORPUS = lg.load(Path(__file__).parents[1] / "programs" / "corpus.loops")
PROGRAMS = {
    f"{where}.{name}": program
    for where, module in (("lib", lg.lib), ("corpus", CORPUS))
    for name in dir(module)
    if isinstance(program := getattr(module, name), lg.Program)
}

DOT = "dot(x[N], y[N]) -> s:\n    for n:  s += x[n] * y[n]"


@pytest.mark.parametrize("name", random.Random(3).sample(sorted(PROGRAMS), 12))
def test_a_program_equals_itself(name: str) -> None:
    program = PROGRAMS[name]
    answer = lg.equal(program, lg.program(str(program)))
    assert answer and answer.verdict == "proved" and answer.counterexample is None


SAME = [
    (
        "f(s[B,J]) -> p[B,J]:\n    for b, j:  Z[b] += exp(s[b,j])\n    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]",
        "g(s[N,M]) -> p[N,M]:\n    for m, n:  z[n] += exp(s[n,m])\n    for n, m:  p[n,m] += exp(s[n,m]) / z[n]",
    ),
    (
        "f(x[N], y[N]) -> s, t:\n    for n:  s += x[n]\n    for n:  s -= y[n]\n    for n:  t += s * x[n]",
        "f(y[K], x[K]) -> t, s:\n    for i:  s -= y[i]\n    for j:  s += x[j]\n    for k:  t += s * x[k]",
    ),
    (
        "f(x[T]) -> y[T]:\n    for t:\n        a[t] = x[t]**2\n        y[t] = a[t] + (y[t-1] if t > 0 else 0)",
        "f(x[T]) -> y[T]:\n    for u:\n        a[u] = x[u]**2\n        y[u] = a[u] + (y[u-1] if u > 0 else 0)",
    ),
    (
        "f(x[N]) -> y[N]:\n    for n < N+2-2-1, p < 2:  y[n-p+1] += x[n+p]",
        "f(x[N]) -> y[N]:\n    for n < N-1, p < 2:  y[n+1-p] += x[p+n+1-1]",
    ),
]


@pytest.mark.parametrize("p, q", SAME)
def test_names_and_order_are_nothing(p: str, q: str) -> None:
    assert canonical(lg.program(p)) == canonical(lg.program(q))
    assert lg.equal(p, q).verdict == "proved"


OTHER = [
    # One temporary summed twice is not two temporaries.
    (
        "f(x[N]) -> y:\n    for n:  a += x[n]\n    for n:  b += x[n]\n    y = a * b",
        "f(x[N]) -> y:\n    for n:  a += x[n]\n    for n:  a += x[n]\n    y = a * a",
    ),
    ("f(x[J], W[J,J]) -> y[J]:\n    y[j] = W[j,J] * x[J]", "f(x[J], W[J,J]) -> y[J]:\n    y[j] = W[J,j] * x[J]"),
    (
        "f(x[N], y[N]) -> s:\n    for n:  a += x[n]\n    for n:  b += y[n]**2\n    s = a / (1 + b)",
        "f(x[N], y[N]) -> s:\n    for n:  b += x[n]\n    for n:  a += y[n]**2\n    s = a / (1 + b)",
    ),
    (
        "f(x[T]) -> y[T]:\n    for t:\n        y[t] = x[t] + (y[t-1] if t > 0 else 0)",
        "f(x[T]) -> y[T]:\n    for t descending:\n        y[t] = x[t] + (y[t+1] if t < T - 1 else 0)",
    ),
    ("f(x[B], eps = 1e-3) -> y[B]:\n    y[b] = x[b] + eps", "f(x[B], eps = 1e-3) -> y[B]:\n    y[b] = x[b] + 1e-3 * (eps / eps)"),
]  # fmt: skip


@pytest.mark.parametrize("p, q", OTHER)
def test_what_differs_is_refuted_by_a_call(p: str, q: str) -> None:
    first, second = lg.program(p), lg.program(q)
    assert canonical(first) != canonical(second)
    answer = lg.equal(first, second)
    example = answer.counterexample
    assert not answer and answer.verdict == "refuted" and example is not None
    values = [f(**example.inputs, **example.constants) for f in (first, second)]
    assert np.asarray(values[0])[example.element] == pytest.approx(example.before)
    assert np.asarray(values[1])[example.element] == pytest.approx(example.after)
    assert example.before != example.after
    assert str(answer).startswith("refuted: `" + example.result)


def test_tested_says_on_what() -> None:
    answer = lg.equal(
        "f(x[N]) -> y:\n    for n:  y += sin(x[n])**2 + cos(x[n])**2",
        "f(x[N]) -> y:\n    for n:  y += 1 + 0 * x[n]",
    )
    assert answer and answer.verdict == "tested"
    assert "finite fields do not model `cos` and `sin`" in str(answer)


def test_a_backward_and_its_short_form() -> None:
    short = """softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])"""
    literal = lg.lib.softmax.backward()
    assert lg.equal(literal, short)
    assert lg.equal(short, literal)
    assert lg.equal(literal, short.replace("-=", "+=")).verdict == "refuted"
    # Without the forward, Z and p are inputs like any other.
    assert lg.equal(str(literal), short).verdict == "refuted"


@pytest.mark.parametrize("name", random.Random(1).sample(sorted(PROGRAMS), 14))
def test_a_changed_program_is_never_proved_equal_by_its_form(name: str) -> None:
    program = PROGRAMS[name]
    form = canonical(program)
    changed = list(mutations(program.unfold()))
    for _, other in random.Random(name).sample(changed, min(10, len(changed))):
        try:
            assert canonical(other) != form
        except lg.ProgramError:
            continue


def test_hypothesis_of_normal_forms_is_certified() -> None:
    """A proof by normal forms alone is not believed: the runs have to agree as well."""
    answer = lg.equal(DOT, "f(x[N], y[N]) -> s:\n    for n:  s += y[n] * x[n]")
    assert answer and answer.certificate is not None
    assert answer.certificate.kind == "agree" and answer.certificate.lines == "both"


@pytest.mark.parametrize(
    "q, message",
    [
        ("f(x[N], y[N]) -> t:\n    for n:  t += x[n] * y[n]", "returns `s`, and `f` returns `t`"),
        (
            "f(x[N], y[N]) -> s[N]:\n    s[n] = x[n] * y[n]",
            "`s` has no axes in `dot` and 1 axis in `f`",
        ),
        ("f(s[N]) -> x:\n    for n:  x += s[n]", "returns `s`, and `f` returns `x`"),
    ],
)
def test_what_cannot_be_compared(q: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        lg.equal(DOT, q)
    assert message in str(caught.value)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="a program or its text is needed, got int"):
        lg.equal(DOT, 3)  # type: ignore[arg-type]
    with pytest.raises(lg.ProgramError):
        lg.equal(DOT, "f(x[N]) -> y:\n    y = z")
