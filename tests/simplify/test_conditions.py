"""Partial ranges, guards and conditionals: what `simplify` makes of them, as whole texts."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.reading.forms import equal_forms
from loopgrad.simplify.searching.cost import cost
from tests.simplify.test_golden import lines, simplified

CAUSAL = """
    for b, h, t, u <= t, e:  p.grad[b,h,t,u] += v[b,h,u,e] * y.grad[b,h,t,e]
    for b, h, t, u <= t, e:  v.grad[b,h,u,e] += p[b,h,t,u] * y.grad[b,h,t,e]
    for b, h, t, e:          e2[b,h,t]       -= y[b,h,t,e] * y.grad[b,h,t,e]
    for b, h, t, u <= t:     s.grad[b,h,t,u] += p[b,h,t,u] * (p.grad[b,h,t,u] + e2[b,h,t])
    for b, h, t, u <= t, d:  q.grad[b,h,t,d] += k[b,h,u,d] * s.grad[b,h,t,u] / sqrt(D)
    for b, h, t, u <= t, d:  k.grad[b,h,u,d] += q[b,h,t,d] * s.grad[b,h,t,u] / sqrt(D)
    """

GOLDEN = {
    # The row sum goes over the features, the path through the maximum is gone, loops stay triangular.
    "causal attention with its maximum": (str(lg.lib.causal_attention), CAUSAL),
    "causal attention": (
        """
        causal(q[B,H,T,D], k[B,H,T,D], v[B,H,T,E]) -> y[B,H,T,E]:
            for b, h, t, u <= t, d:  s[b,h,t,u] += q[b,h,t,d] * k[b,h,u,d] / sqrt(D)
            for b, h, t, u <= t:     Z[b,h,t]   += exp(s[b,h,t,u])
            for b, h, t, u <= t:     p[b,h,t,u] += exp(s[b,h,t,u]) / Z[b,h,t]
            for b, h, t, u <= t, e:  y[b,h,t,e] += p[b,h,t,u] * v[b,h,u,e]
        """,
        CAUSAL,
    ),
    "attention in a window": (
        """
        window(q[T,D], k[T,D], v[T,E], size W) -> y[T,E]:
            for t, max(0, t-W+1) <= u <= t, d:  s[t,u] += q[t,d] * k[u,d]
            for t, max(0, t-W+1) <= u <= t:     Z[t]   += exp(s[t,u])
            for t, max(0, t-W+1) <= u <= t:     p[t,u] += exp(s[t,u]) / Z[t]
            for t, max(0, t-W+1) <= u <= t, e:  y[t,e] += p[t,u] * v[u,e]
        """,
        """
        for t, max(0, t-W+1) <= u <= t, e:  p.grad[t,u] += v[u,e] * y.grad[t,e]
        for t, max(0, t-W+1) <= u <= t, e:  v.grad[u,e] += p[t,u] * y.grad[t,e]
        for t, e:                           e2[t]       -= y[t,e] * y.grad[t,e]
        for t, max(0, t-W+1) <= u <= t:     s.grad[t,u] += p[t,u] * (p.grad[t,u] + e2[t])
        for t, max(0, t-W+1) <= u <= t, d:  q.grad[t,d] += k[u,d] * s.grad[t,u]
        for t, max(0, t-W+1) <= u <= t, d:  k.grad[u,d] += q[t,d] * s.grad[t,u]
        """,
    ),
    "attention in a window, by a guard": (
        """
        window(q[T,D], k[T,D], v[T,E], W = 4) -> y[T,E]:
            for t, u <= t, d:  s[t,u]   += q[t,d] * k[u,d]   if t - u < W
            for t, u <= t:     m[t]   max= s[t,u]   if t - u < W
            for t, u <= t:     Z[t]     += exp(s[t,u] - m[t])   if t - u < W
            for t, u <= t:     p[t,u]   += exp(s[t,u] - m[t]) / Z[t]   if t - u < W
            for t, u <= t, e:  y[t,e]   += p[t,u] * v[u,e]   if t - u < W
        """,
        """
        for t, u <= t, e:  p.grad[t,u] += v[u,e] * y.grad[t,e]   if t - u < W
        for t, u <= t, e:  v.grad[u,e] += p[t,u] * y.grad[t,e]   if t - u < W
        for t, e:          e2[t]       -= y[t,e] * y.grad[t,e]
        for t, u <= t:     s.grad[t,u] += p[t,u] * (p.grad[t,u] + e2[t])   if t - u < W
        for t, u <= t, d:  q.grad[t,d] += k[u,d] * s.grad[t,u]   if t - u < W
        for t, u <= t, d:  k.grad[u,d] += q[t,d] * s.grad[t,u]   if t - u < W
        """,
    ),
    # A guard that cuts a range short becomes one: half the work.
    "a triangular softmax by conditionals": (
        """
        softmax(s[T,T]) -> p[T,T]:
            for t, u:  Z[t]   += exp(s[t,u]) if u <= t else 0
            for t, u:  p[t,u] += exp(s[t,u]) / Z[t] if u <= t else 0
        """,
        """
        for t, u <= t:  e[t]        -= p[t,u] * p.grad[t,u]
        for t, u <= t:  s.grad[t,u] += p[t,u] * (p.grad[t,u] + e[t])
        """,
    ),
    "masked softmax": (
        """
        masked(s[B,J], bool m[B,J]) -> p[B,J]:
            for b, j:  Z[b]   += exp(s[b,j])   if m[b,j]
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]   if m[b,j]
        """,
        """
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]   if m[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])   if m[b,j]
        """,
    ),
    "masked softmax with its maximum": (
        """
        masked(s[B,J], bool m[B,J]) -> p[B,J]:
            for b, j:  M[b] max= s[b,j]   if m[b,j]
            for b, j:  Z[b]   += exp(s[b,j] - M[b])   if m[b,j]
            for b, j:  p[b,j] += exp(s[b,j] - M[b]) / Z[b]   if m[b,j]
        """,
        """
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]   if m[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])   if m[b,j]
        """,
    ),
    "softmax over lengths": (
        """
        ragged(s[B,T], int n[B]) -> p[B,T]:
            for b, t < n[b]:  m[b] max= s[b,t]
            for b, t < n[b]:  Z[b]   += exp(s[b,t] - m[b])
            for b, t < n[b]:  p[b,t] += exp(s[b,t] - m[b]) / Z[b]
        """,
        """
        for b, t < n[b]:  e[b]        -= p[b,t] * p.grad[b,t]
        for b, t < n[b]:  s.grad[b,t] += p[b,t] * (p.grad[b,t] + e[b])
        """,
    ),
    # A row has n[b] elements, where it has any: so its offsets add up to 0.
    "layer norm over lengths": (
        """
        ragged(x[B,T], int n[B], eps = 1e-5) -> y[B,T]:
            for b, t < n[b]:  m[b]   += x[b,t] / n[b]
            for b, t < n[b]:  v[b]   += (x[b,t] - m[b])**2 / n[b]
            for b, t < n[b]:  y[b,t] += (x[b,t] - m[b]) / sqrt(v[b] + eps)
        """,
        """
        for b, t < n[b]:  e[b]        -= y.grad[b,t]
        for b, t < n[b]:  e2[b]       -= y[b,t] * y.grad[b,t]
        for b, t < n[b]:  x.grad[b,t] += (y.grad[b,t] + (y[b,t] * e2[b] + e[b]) / n[b]) / sqrt(v[b] + eps)
        """,
    ),
    "cross entropy where there is a class": (
        """
        loss(s[B,J], int y[B]) -> L[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
            for b:     L[b]   -= log(p[b,y[b]])   if y[b] >= 0
        """,
        """
        for b, j:  s.grad[b,j]    += p[b,j] * L.grad[b]   if y[b] >= 0
        for b:     s.grad[b,y[b]] -= L.grad[b]   if y[b] >= 0
        """,
    ),
    "cross entropy of a distribution with zeros": (
        """
        loss(s[B,J], P[B,J]) -> L[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
            for b, j:  L[b]   -= P[b,j] * log(p[b,j])   if P[b,j] > 0
        """,
        """
        for b, j:  P.grad[b,j] -= L.grad[b] * log(p[b,j])   if P[b,j] > 0
        for b, j:  e[b,j]      -= P[b,j] * L.grad[b]   if P[b,j] > 0
        for b, j:  e2[b]       -= e[b,j]
        for b, j:  s.grad[b,j] += e[b,j] + p[b,j] * e2[b]
        """,
    ),
    "entropy": (
        "f(P[B,N]) -> H[B]:\n    for b, n:  H[b] -= P[b,n] * log(P[b,n])   if P[b,n] > 0",
        "for b, n:  P.grad[b,n] -= H.grad[b] * (1 + log(P[b,n]))   if P[b,n] > 0",
    ),
    "kl divergence": (
        "f(P[B,N], Q[B,N]) -> D[B]:\n    for b, n:  D[b] += P[b,n] * log(P[b,n] / Q[b,n])   if P[b,n] > 0",
        """
        for b, n:  P.grad[b,n] += D.grad[b] * (1 + log(P[b,n] / Q[b,n]))   if P[b,n] > 0
        for b, n:  Q.grad[b,n] -= P[b,n] * D.grad[b] / Q[b,n]   if P[b,n] > 0
        """,
    ),
    "leaky relu": (
        str(lg.lib.leaky_relu),
        "for b, j:  x.grad[b,j] += y.grad[b,j] * (1 if x[b,j] > 0 else slope)",
    ),
    "elu": (
        str(lg.lib.elu),
        "for b, j:  x.grad[b,j] += y.grad[b,j] * (1 if x[b,j] > 0 else alpha * exp(x[b,j]))",
    ),
    "huber": (
        str(lg.lib.huber),
        """
        for b, j:  d.grad[b,j] += L.grad[b] * (d[b,j] if d[b,j] <= delta else delta)
        for b, j:  x.grad[b,j] += d.grad[b,j] * sign(x[b,j] - y[b,j])
        for b, j:  y.grad[b,j] -= d.grad[b,j] * sign(x[b,j] - y[b,j])
        """,
    ),
    "both branches of a conditional, with common factors": (
        """
        f(x[B,J], a) -> y[B,J]:
            for b, j:  y[b,j] += a * x[b,j] * exp(x[b,j]) if x[b,j] < 0 else a * x[b,j] * tanh(x[b,j])
        """,
        """
        for b, j:  a.grad      += x[b,j] * y.grad[b,j] * (exp(x[b,j]) if x[b,j] < 0 else tanh(x[b,j]))
        for b, j:  x.grad[b,j] += y.grad[b,j] * (y[b,j] + a * exp(x[b,j]) if x[b,j] < 0 else a * x[b,j] + tanh(x[b,j]) * (a - y[b,j]))
        """,
    ),
    # What is not about the padding is simplified.
    "a convolution with padding": (
        """
        conv(x[B,I], w[K], c[I]) -> y[B,I]:
            for b, i < I, d < K:  a[b,i] += w[d] * (x[b,i+d-1] if 0 <= i+d-1 < I else 0)
            for b, i:             y[b,i] += tanh(a[b,i] + c[i])
        """,
        """
        for b, i:     a.grad[b,i]      += y.grad[b,i] * (1 - y[b,i]**2)
        for b, i:     c.grad[i]        += a.grad[b,i]
        for b, i, d:  w.grad[d]        += x[b, i+d-1] * a.grad[b,i]   if 0 <= i + d - 1 < I
        for b, i, d:  x.grad[b, i+d-1] += w[d] * a.grad[b,i]   if 0 <= i + d - 1 < I
        """,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_simplified_backward_is(name: str) -> None:
    text, expected = GOLDEN[name]
    assert lines(simplified(text)) == textwrap.dedent(expected).strip()


FORWARD = {
    "the same sum under one condition and its opposite": (
        """
        f(x[N], w[N]) -> y[N]:
            for n:  y[n] += tanh(x[n])   if w[n] > 0
            for n:  y[n] += tanh(x[n])   if not w[n] > 0
        """,
        "for n:  y[n] += tanh(x[n])",
    ),
    "equal conditions": (
        """
        f(x[N], w[N]) -> y[N]:
            for n:  y[n] += x[n]**2   if 0 < w[n]
            for n:  y[n] -= x[n] * w[n]   if w[n] > 0
        """,
        "for n:  y[n] += x[n] * (x[n] - w[n])   if w[n] > 0",
    ),
    "a part of an axis, counted from another place": (
        """
        f(x[N]) -> y:
            for i < N-1:     y += exp(x[i+1])
            for 1 <= i < N:  y += exp(x[i])
        """,
        "for 1 <= i < N:  y += 2 * exp(x[i])",
    ),
    "conditions that exclude one another": (
        """
        f(x[T,T]) -> y[T]:
            for t, u <= t:     c[t,u] += exp(x[t,u])
            for t, t < u < T:  y[t] += tanh(c[t,u]) + x[t,u]
            for t, u:          y[t] += c[t,u]   if u > t
        """,
        None,
    ),
}


@pytest.mark.parametrize("name", FORWARD)
def test_the_simplified_program_is(name: str) -> None:
    text, expected = FORWARD[name]
    program = lg.program(textwrap.dedent(text))
    result = program.simplify()
    assert result is program or certify(program, result, trials=6).kind == "agree"
    assert cost(result).value <= cost(program).value
    if expected is not None:
        assert lines(result) == textwrap.dedent(expected).strip()


def test_nothing_of_the_branch_that_is_not_taken_is_evaluated() -> None:
    text = """\
f(x[N], w[N]) -> y[N]:
    for n:  y[n] += w[n] * (x[n+1] if n + 1 < N else 0) + w[n] * (log(x[n]) if x[n] > 0 else 1)
"""
    forward = lg.program(text)
    literal = forward.backward()
    result = literal.simplify()
    assert result is not literal
    x, w, g = np.array([2.0, -1.0, 0.0, 3.0]), np.ones(4), np.arange(4.0)
    for got, want in zip(result(x, w, g), literal(x, w, g), strict=True):
        assert np.all(np.isfinite(got))
        np.testing.assert_allclose(got, want)


@pytest.mark.parametrize("lengths", [(0, 0), (3, 0), (1, 3)])
def test_empty_ranges(lengths: tuple[int, int]) -> None:
    forward = lg.program(textwrap.dedent(GOLDEN["softmax over lengths"][0]))
    literal = forward.backward()
    rng = np.random.default_rng(3)
    s, g = rng.normal(size=(2, 2, 3))
    n = np.array(lengths)
    needed = forward.returning("m", "Z", "p")
    m, Z, p = needed(s, n)
    with np.errstate(all="ignore"):
        want = literal(s, n, m, Z, g)
    np.testing.assert_allclose(literal.simplify()(n, p, g), want, atol=1e-12)


def test_a_length_is_not_taken_for_positive() -> None:
    """`for i < N-1` does nothing where N is 0: its sum of ones is no `N - 1`."""
    program = lg.program("f(x[N], a) -> y:\n    for i < N-1:  y += a\n    for i < N-1:  y += a")
    for size in (0, 1, 4):
        assert program.simplify()(np.zeros(size), 1.0) == program(np.zeros(size), 1.0)


EQUAL = {
    "a cross entropy is an entropy and a divergence": (
        "f(P[N], Q[N]) -> H:\n    for n:  H -= P[n] * log(Q[n])   if P[n] > 0",
        "f(P[N], Q[N]) -> H:\n    for n:  H -= P[n] * log(P[n])   if P[n] > 0\n"
        "    for n:  H += P[n] * log(P[n] / Q[n])   if P[n] > 0",
    ),
    "a guard and a range": (
        "f(x[T,T]) -> y[T]:\n    for t, u <= t:  y[t] += x[t,u]",
        "f(x[T,T]) -> y[T]:\n    for t, u:  y[t] += x[t,u]   if u < t + 1",
    ),
    "a conditional and a range": (
        "f(x[T,T]) -> y[T]:\n    for t, u <= t:  y[t] += x[t,u]",
        "f(x[T,T]) -> y[T]:\n    for t, u:  y[t] += x[t,u] if not u > t else 0",
    ),
    "two triangles are a square": (
        "f(x[T,T]) -> y[T]:\n    for t, u <= t:  y[t] += x[t,u]\n    for t, t < u < T:  y[t] += x[t,u]",
        "f(x[T,T]) -> y[T]:\n    for t, u:  y[t] += x[t,u]",
    ),
    "a square less a triangle": (
        "f(x[T,T]) -> y[T]:\n    for t, u:  y[t] += x[t,u]\n    for t, t < u < T:  y[t] -= x[t,u]",
        "f(x[T,T]) -> y[T]:\n    for t, u <= t:  y[t] += x[t,u]",
    ),
    "all but the diagonal": (
        "f(x[N,N]) -> y:\n    for i, j:  y += x[i,j] if i != j else 0",
        "f(x[N,N]) -> y:\n    for i, j:  y += x[i,j] if i < j else 0\n    for i, j:  y += x[i,j]   if j < i",
    ),
    "counted from 0 and from 1": (
        "f(x[N]) -> y:\n    for i < N-1:  y += x[i+1]",
        "f(x[N]) -> y:\n    for 1 <= i < N:  y += x[i]",
    ),
    "a target counted from 1": (
        "f(x[N]) -> y[N]:\n    for i < N-1:  y[i+1] += x[i]",
        "f(x[N]) -> y[N]:\n    for 1 <= i < N:  y[i] += x[i-1]",
    ),
    "counted backwards": (
        "f(x[N]) -> y:\n    for i < N:  y += x[N-1-i]**2",
        "f(x[N]) -> y:\n    for i:  y += x[i]**2",
    ),
    "a piece and the whole": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n] if x[n] > 0 else 0.1 * x[n]",
        "f(x[N]) -> y[N]:\n    for n:  y[n] += 0.1 * x[n]\n    for n:  y[n] += 0.9 * x[n]   if x[n] > 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_is_proved_to_be_equal(name: str) -> None:
    one, other = map(lg.program, EQUAL[name])
    assert equal_forms(one, other)
    assert lg.equal(one, other).verdict == "proved"


DIFFERENT = {
    "a length that may be below 0": (
        "f(x[N], a) -> y:\n    for i < N-1:  y += a",
        "f(x[N], a) -> y:\n    y += a * (N - 1)",
    ),
    "more taps than samples": (
        "f(x[I], w[K]) -> y:\n    for i < I-K+1, k:  y += w[k]",
        "f(x[I], w[K]) -> y:\n    for k:  y += w[k] * (I - K + 1)",
    ),
    "with and without the diagonal": (
        "f(x[T,T]) -> y[T]:\n    for t, u <= t:  y[t] += x[t,u]",
        "f(x[T,T]) -> y[T]:\n    for t, u < t:  y[t] += x[t,u]",
    ),
    "a row that may be masked whole": (
        "f(s[B,J], bool m[B,J]) -> y[B]:\n    for b, j:  Z[b] += exp(s[b,j])   if m[b,j]\n"
        "    for b, j:  y[b] += exp(s[b,j]) / Z[b]   if m[b,j]",
        "f(s[B,J], bool m[B,J]) -> y[B]:\n    for b, j:  y[b] += (1 + 0 * s[b,j]) / J   if m[b,j] or not m[b,j]",
    ),
    "a condition that hides a division": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n] / x[n]   if x[n] > 0",
        "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n] / x[n]   if x[n] >= 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_is_never_proved_to_be_equal(name: str) -> None:
    one, other = map(lg.program, DIFFERENT[name])
    assert not equal_forms(one, other)
    assert lg.equal(one, other).verdict != "proved"


def test_the_theorem_of_a_masked_softmax_needs_its_mask() -> None:
    """`sum[j](p[b,j]) = 1` where one is not masked: a backward that reads the sum keeps it."""
    forward = lg.program("""\
f(s[B,J], bool m[B,J], a[B]) -> y[B]:
    for b, j:  Z[b]   += exp(s[b,j])   if m[b,j]
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]   if m[b,j]
    for b, j:  y[b]   += a[b] * p[b,j]
""")
    literal = forward.backward(wrt="a")
    result = literal.simplify()
    g, p = np.ones(2), np.array([[0.25, 0.75], [0.0, 0.0]])
    given = {
        "y.grad": g,
        "p": p,
        "m": p > 0,
        "s": np.zeros((2, 2)),
        "a": g,
        "Z": np.array([1, 0.0]),
    }
    for program in (literal, result):
        np.testing.assert_allclose(program(*[given[i.name] for i in program.inputs]), [1, 0])
