"""Equations into loops: what is printed, what is computed, what is refused."""

from __future__ import annotations

import warnings
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp as scipy_logsumexp
from scipy.special import softmax as scipy_softmax

import loopgrad as lg
from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import Program


def program(text: str) -> Program:
    return parse(dedent(text).strip())[-1]


def body(found: Program) -> str:
    """The statements, as printed, without the header."""
    return dedent(str(found).split("\n", 1)[1])


def unfolds(text: str, loops: str) -> None:
    """Asserts what a program unfolds into, and that this prints, parses and unfolds to itself."""
    unfolded = program(text).unfold()
    assert body(unfolded) == dedent(loops).strip("\n").rstrip()
    assert unfolded.unfold() is unfolded
    assert parse(str(unfolded))[-1] == unfolded


def run(text: str, *inputs: Any, **constants: Any) -> Any:
    return lg.compile(program(text), backend="interpret")(*inputs, **constants)


RNG = np.random.default_rng(7)


# ------------------------------------------------------------------------------ what is printed


RESET_LOOPS = """
    for b, j, i:  Ra[b,j] += WhR[j,i] * h[b,i]
    for b, j, k:  Ra[b,j] += WxR[j,k] * x[b,k]
    for b, j:     Ra[b,j] -= BR[j]
"""
RESET = (
    "reset(h[B,I], x[B,K], param WhR[J,I], param WxR[J,K], param BR[J]) batch B -> Ra[B,J]:\n    "
)


@pytest.mark.parametrize(
    "equation",
    [
        "Ra[b,j] = sum[i](WhR[j,i] * h[b,i]) + sum[k](WxR[j,k] * x[b,k]) - BR[j]",
        "Ra[b,j] = WhR[j,I] * h[b,I] + WxR[j,K] * x[b,K] - BR[j]",
    ],
    ids=["sums", "capitals"],
)
def test_problem_4_a(equation: str) -> None:
    unfolds(RESET + equation, RESET_LOOPS)


def test_a_reduction_inside_a_function_gets_a_temporary() -> None:
    unfolds(
        """
        cell(h[B,J], x[B,K], W[J,J'], U[J,K], c[J]) -> h'[B,J]:
            h'[b,j] = tanh(W[j,J'] * h[b,J'] + U[j,K] * x[b,K] - c[j])
        """,
        """
        for b, j, j':  h1'[b,j] += W[j,j'] * h[b,j']
        for b, j, k:   h1'[b,j] += U[j,k] * x[b,k]
        for b, j:      h1'[b,j] -= c[j]
        for b, j:      h'[b,j]  = tanh(h1'[b,j])
        """,
    )


def test_attention() -> None:
    unfolds(
        """
        attention(q[B,T,D], k[B,U,D], v[B,U,E]) -> o[B,T,E]:
            a[b,t,u] = softmax[u](q[b,t,D] * k[b,u,D] / sqrt(D))
            o[b,t,e] = a[b,t,U] * v[b,U,e]
        """,
        """
        for b, t, u, d:  a1[b,t,u] += q[b,t,d] * k[b,u,d] / sqrt(D)
        for b, t, u:     m[b,t]    max= a1[b,t,u]
        for b, t:        c[b,t]    = stop_gradient(m[b,t]) if -inf < m[b,t] < inf else 0
        for b, t, u:     Z[b,t]    += exp(a1[b,t,u] - c[b,t])
        for b, t, u:     a[b,t,u]  = exp(a1[b,t,u] - c[b,t]) / Z[b,t]
        for b, t, e, u:  o[b,t,e]  += a[b,t,u] * v[b,u,e]
        """,
    )


def test_causal_attention_normalises_over_the_loops_own_range() -> None:
    unfolds(
        """
        causal(s[T,T]) -> p[T,T]:
            for t, u <= t:  p[t,u] = softmax[u](s[t,u])
        """,
        """
        for t, u <= t:  m[t]   max= s[t,u]
        for t:          c[t]   = stop_gradient(m[t]) if -inf < m[t] < inf else 0
        for t, u <= t:  Z[t]   += exp(s[t,u] - c[t])
        for t, u <= t:  p[t,u] = exp(s[t,u] - c[t]) / Z[t]
        """,
    )


def test_logsumexp() -> None:
    unfolds(
        """
        f(s[B,J]) -> L[B]:
            L[b] = logsumexp[j](s[b,j])
        """,
        """
        for b, j:  m[b] max= s[b,j]
        for b:     c[b] = stop_gradient(m[b]) if -inf < m[b] < inf else 0
        for b, j:  Z[b] += exp(s[b,j] - c[b])
        for b:     L[b] = c[b] + log(Z[b])
        """,
    )


def test_max_min_and_prod_go_into_a_target_that_they_cover() -> None:
    unfolds(
        """
        f(s[B,J]) -> a[B], b'[B], c[B]:
            a[b] = max[j](s[b,j])
            b'[b] = min[j](s[b,j])
            c[b] = prod[j](s[b,j])
        """,
        """
        for b, j:  a[b]  max= s[b,j]
        for b, j:  b'[b] min= s[b,j]
        for b, j:  c[b]  *= s[b,j]
        """,
    )


def test_max_into_a_part_of_a_target_leaves_the_rest_at_zero() -> None:
    text = """
        f(s[B,J]) -> a[B]:
            for 1 <= b < B:  a[b] = max[j](s[b,j])
        """
    unfolds(
        text,
        """
        for 1 <= b < B, j:  a1[b] max= s[b,j]
        for 1 <= b < B:     a[b]  = a1[b]
        """,
    )
    s = -1 - RNG.random((3, 4))
    assert np.array_equal(run(text, s), [0, *s[1:].max(axis=1)])


def test_update_operators_take_reductions_of_their_kind() -> None:
    unfolds(
        """
        f(x[I,J], a[I]) -> T[I], S[I], U[I], V[I]:
            T[i] -= a[i] - sum[j](x[i,j])
            S[i] max= max[j](x[i,j])
            U[i] *= prod[j](x[i,j])
            V[i] *= sum[j](x[i,j])
        """,
        """
        for i:     T[i]  -= a[i]
        for i, j:  T[i]  += x[i,j]
        for i, j:  S[i]  max= x[i,j]
        for i, j:  U[i]  *= x[i,j]
        for i, j:  V1[i] += x[i,j]
        for i:     V[i]  *= V1[i]
        """,
    )


def test_sums_of_sums_and_means_are_taken_apart() -> None:
    unfolds(
        """
        f(x[I,J], a[I], n) -> y:
            y = mean[i](a[i] - sum[j](x[i,j])) - n
        """,
        """
        for i:     y += a[i] / I
        for i, j:  y -= x[i,j] / I
        y -= n
        """,
    )


def test_a_factor_that_is_a_sum_gets_a_temporary_once() -> None:
    unfolds(
        """
        f(x[B,J]) -> z[B]:
            z[b] = sum[j](x[b,j]) * sum[j](x[b,j]) * (1 - sum[k](x[b,k]**2))
        """,
        """
        for b, j:  z1[b] += x[b,j]
        for b:     z2[b] += 1
        for b, k:  z2[b] -= x[b,k]**2
        for b:     z[b]  = z1[b] * z1[b] * z2[b]
        """,
    )


def test_temporaries_are_computed_where_the_value_is_and_nowhere_else() -> None:
    text = """
        f(x[T,J], W[J,J]) -> h[T,J]:
            for t:
                h[t,j] = tanh(x[t,j] + (sum[k](W[j,k] * h[t-1,k]) if t > 0 else 0))
        """
    unfolds(
        text,
        """
        for t:
            for j, k:  h1[t,j] += W[j,k] * h[t-1,k]   if t > 0
            for j:     h[t,j]  = tanh(x[t,j] + (h1[t,j] if t > 0 else 0))
        """,
    )
    x, w = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3))
    h = np.zeros((4, 3))
    for t in range(4):
        h[t] = np.tanh(x[t] + (w @ h[t - 1] if t else 0))
    assert np.allclose(run(text, x, w), h)


def test_a_guard_and_what_and_or_skip_guard_the_temporaries_too() -> None:
    unfolds(
        """
        f(x[B,J], bool m[B]) -> y[B], z[B]:
            for b:  y[b] = tanh(sum[j](x[b,j]))   if m[b]
            z[b] = 1 if m[b] and sum[j](x[b,j]) > 0 else 0
        """,
        """
        for b, j:  y1[b] += x[b,j]   if m[b]
        for b:     y[b]  = tanh(y1[b])   if m[b]
        for b, j:  z1[b] += x[b,j]   if m[b]
        for b:     z[b]  = 1 if m[b] and z1[b] > 0 else 0
        """,
    )


def test_temporaries_over_indices_that_start_below_zero() -> None:
    text = """
        f(x[J], w[I]) -> y[I,3]:
            for i, -1 <= d <= 1:  y[i,d+1] = tanh(sum[j](x[j] * d)) * w[i]
        """
    unfolds(
        text,
        """
        for -1 <= d < 2, j:  y1[d+1]  += x[j] * d
        for i, -1 <= d < 2:  y[i,d+1] = tanh(y1[d+1]) * w[i]
        """,
    )
    x, w = RNG.normal(size=4), RNG.normal(size=2)
    assert np.allclose(run(text, x, w), w[:, None] * np.tanh(x.sum() * np.array([-1, 0, 1])))


def test_a_temporary_bounded_by_data_is_declared() -> None:
    unfolds(
        """
        f(x[N,M], int w[N]) -> y[N]:
            y[n] = sum[m < w[n]](exp(x[n,m] * sum[k](x[n,k])))
        """,
        """
        for n, k:         y1[n] += x[n,k]
        for n, m < w[n]:  y[n]  += exp(x[n,m] * y1[n])
        """,
    )
    unfolds(
        """
        f(x[N,M], int w[N]) -> y[N]:
            y[n] = sum[m < w[n]](exp(sum[k](x[n,k] * x[n,m])))
        """,
        """
        local y1[N,M]
        for n, m < w[n], k:  y1[n,m] += x[n,k] * x[n,m]
        for n, m < w[n]:     y[n]    += exp(y1[n,m])
        """,
    )


def test_softmax_along_a_blocks_index_keeps_the_blocks_value() -> None:
    text = """
        f(x[T,B]) -> y[T,B]:
            for t:
                for b:  y[t,b] = softmax[t](x[t,b])
        """
    unfolds(
        text,
        """
        for t:
            for b, t':  m[t,b] max= x[t',b]
            for b:      c[t,b] = stop_gradient(m[t,b]) if -inf < m[t,b] < inf else 0
            for b, t':  Z[t,b] += exp(x[t',b] - c[t,b])
            for b:      y[t,b] = exp(x[t,b] - c[t,b]) / Z[t,b]
        """,
    )
    x = RNG.normal(size=(3, 2))
    assert np.allclose(run(text, x), scipy_softmax(x, axis=0))


def test_fresh_names_clash_with_nothing() -> None:
    unfolds(
        """
        f(x[N,K], m[N], k[N,K]) -> y[N]:
            y1[n] = m[n] + k[n,K]
            y[n] = exp(logsumexp[q](x[n,q]) + x[n,K]) + y1[n]
        """,
        """
        for n:      y1[n] += m[n]
        for n, k':  y1[n] += k[n,k']
        for n, q:   m2[n] max= x[n,q]
        for n:      c[n]  = stop_gradient(m2[n]) if -inf < m2[n] < inf else 0
        for n, q:   Z[n]  += exp(x[n,q] - c[n])
        for n:      y2[n] += c[n] + log(Z[n])
        for n, k':  y2[n] += x[n,k']
        for n:      y[n]  = exp(y2[n]) + y1[n]
        """,
    )


# ------------------------------------------------------------------------------------- capitals


def test_the_smallest_term_that_holds_all_uses_is_summed() -> None:
    text = """
        f(a[B,J], c[B,J]) -> u[B], v[B], w[B], s:
            u[b] = a[b,J] + c[b,J]
            v[b] = a[b,J] + c[b,B]
            w[b] = exp(a[b,J]) * c[b,0]
            s = a[B,J] * 2
        """
    unfolds(
        text,
        """
        for b, j:       u[b]  += a[b,j] + c[b,j]
        for b, j:       v[b]  += a[b,j]
        for b, b' < B:  v[b]  += c[b,b']
        for b, j:       w1[b] += a[b,j]
        for b:          w[b]  = exp(w1[b]) * c[b,0]
        for b, j:       s     += a[b,j] * 2
        """,
    )


def test_on_an_axis_whose_extent_is_a_formula_a_capital_is_a_position() -> None:
    text = """
        f(x[N,M], S = 1) -> y, R[N+1,M+1]:
            for i <= N, j <= M:  R[i,j] = i * j
            y = R[N,M] + x[N,M] + x[S,0]
        """
    unfolds(
        text,
        """
        for i <= N, j <= M:  R[i,j] = i * j
        y += R[N,M]
        for n, m:  y += x[n,m]
        y += x[S,0]
        """,
    )
    x = RNG.normal(size=(2, 3))
    assert np.isclose(run(text, x)[0], 6 + x.sum() + x[1, 0])
    plain = program("f(x[N]) -> R[N+1]:\n    for n <= N:  R[n] = 1 if n < N else x[N-1]")
    assert plain.unfold() is plain


def test_capitals_of_computed_tensors_follow_from_what_is_written() -> None:
    unfolds(
        """
        f(x[N]) -> y, z:
            for n:  a[n] = exp(x[n])
            for 1 <= n <= N:  c[n] = x[n-1]
            y = a[N]
            z = c[N]
        """,
        """
        for n:            a[n] = exp(x[n])
        for 1 <= n <= N:  c[n] = x[n-1]
        for n:            y    += a[n]
        z = c[N]
        """,
    )


def test_capitals_for_one_extent_are_unified() -> None:
    text = "f(W[J,J'], h[B,J]) -> y[B,J]:\n    y[b,j] = W[j,J'] * h[b,J']"
    w, h = RNG.normal(size=(3, 3)), RNG.normal(size=(2, 3))
    assert np.allclose(run(text, w, h), h @ w.T)
    with pytest.raises(ValueError, match="J"):
        run(text, RNG.normal(size=(3, 4)), h)


# ----------------------------------------------------------------------------- what is computed


def test_logsumexp_and_softmax_are_right_for_every_logit() -> None:
    s = np.array(
        [
            [0.0, 1.0, -2.0],
            [1e308, 1e308, 1e307],
            [-np.inf, -np.inf, -np.inf],
            [np.inf, 0.0, 1.0],
            [-np.inf, 3.0, -1e3],
            [1e4, 9.99e3, -np.inf],
        ]
    )
    text = """
        f(s[B,J]) -> L[B], p[B,J]:
            L[b] = logsumexp[j](s[b,j])
            p[b,j] = softmax[j](s[b,j])
        """
    found_lse, found_p = run(text, s)
    assert np.allclose(found_lse, scipy_logsumexp(s, axis=1), equal_nan=True)
    finite = [0, 1, 4, 5]
    assert np.allclose(found_p[finite], scipy_softmax(s[finite], axis=1))


def test_the_gradient_of_logsumexp_is_the_softmax() -> None:
    text = "f(s[B,J]) -> L[B]:\n    L[b] = logsumexp[j](s[b,j])"
    s, seed = RNG.normal(size=(3, 4)) * 100, RNG.normal(size=3)
    _, pullback = lg.vjp(program(text), s)
    assert np.allclose(pullback(seed)[0], seed[:, None] * scipy_softmax(s, axis=1))


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (2, 0), (0, 3)])
def test_reductions_equal_numpys(shape: tuple[int, int]) -> None:
    text = """
        f(x[B,J]) -> s[B], p[B], v[B], a:
            s[b] = 2 * sum[j](x[b,j]) - sum[j](x[b,j]**2)
            p[b] = prod[j](x[b,j]) + 1
            v[b] = mean[j]((x[b,j] - mean[k](x[b,k]))**2)
            a = sum[b](x[b,J] * x[b,J])
        """
    x = RNG.normal(size=shape)
    s, p, v, a = run(text, x)
    assert np.allclose(s, 2 * x.sum(1) - (x**2).sum(1))
    assert np.allclose(p, x.prod(1) + 1)
    assert np.allclose(v, x.var(1) if shape[1] else 0)
    assert np.allclose(a, (x * x).sum())


def test_a_mean_counts_the_values_of_its_ranges() -> None:
    text = """
        f(x[T]) -> y[T], z, w:
            y[t] = mean[u <= t](x[u])
            z = mean[1 <= t < T](x[t])
            w = mean[t < T, u < t](x[t] * x[u])
        """
    x = RNG.normal(size=5)
    y, z, w = run(text, x)
    pairs = [x[t] * x[u] for t in range(5) for u in range(t)]
    assert np.allclose(y, np.cumsum(x) / np.arange(1, 6))
    assert np.isclose(z, x[1:].mean())
    assert np.isclose(w, np.mean(pairs))


def test_reductions_in_subscripts_and_bounds() -> None:
    text = """
        f(x[N,M], int w[N,J]) -> y[N], z[N]:
            y[n] = x[n, sum[j](w[n,j])]
            for n, k < sum[j](w[n,j]):  z[n] += x[n,k]
        """
    x, w = RNG.normal(size=(2, 5)), np.array([[1, 2], [0, 1]])
    y, z = run(text, x, w)
    assert np.allclose(y, [x[0, 3], x[1, 1]])
    assert np.allclose(z, [x[0, :3].sum(), x[1, :1].sum()])


# --------------------------------------------------------------------------- single assignment


def test_an_equation_may_set_the_start_of_an_accumulation() -> None:
    unfolds(
        """
        f(a[I], x[I,J]) -> T[I]:
            T[i] = sum[j](x[i,j])
            T[i] += a[i]
        """,
        """
        for i, j:  T[i] += x[i,j]
        for i:     T[i] += a[i]
        """,
    )


def test_equations_may_write_disjoint_regions() -> None:
    """Where `T` is 0, `y[T]` is `y[0]`: not evidently another element, so its `=` stays."""
    unfolds(
        """
        f(x[T,J]) -> y[T+1]:
            y[0] = 1
            for 1 <= t < T:  y[t] = sum[j](x[t,j])
            y[T] = sum[j](x[0,j])
        """,
        """
        y[0] = 1
        for 1 <= t < T, j:  y[t] += x[t,j]
        for j:              y1   += x[0,j]
        y[T] = y1
        """,
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("T[i] = a[i]\n    T[i] = sum[j](x[i,j])", (3, 2)),
        ("T[i] = sum[j](x[i,j])\n    T[i] = a[i]", (3, 2)),
        ("T[i] += a[i]\n    T[i] = sum[j](x[i,j])", (3, 2)),
        ("T[i] = sum[j](x[i,j])\n    T[i] = sum[j](x[i,j]**2)", (3, 2)),
        ("for i, k:  T[i] = c[i,k] + sum[j](x[i,j])", (2,)),
        ("for k:\n        for i:  T[i] = sum[j](x[i,j]) * c[i,k]", (3,)),
        ("for k:\n        for i:  T[i] = c[i,k] + sum[j](x[i,j])", (3,)),
    ],
)
def test_an_element_is_set_once(text: str, lines: tuple[int, ...]) -> None:
    """`=` of a sum stays an `=`, though its loops accumulate: both places are shown."""
    with pytest.raises(lg.ProgramError) as error:
        lg.program("f(a[I], x[I,J], c[I,K]) -> T[I]:\n    " + text)
    found = error.value.diagnostics[0]
    assert (found.line, *(span.line for span, _ in found.notes if span)) == lines


def test_one_index_has_one_extent_though_its_statement_is_taken_apart() -> None:
    text = """
        f(W[J',I], a[J], h[B,I]) -> z[B]:
            y[b,j] = sum[i](W[j,i] * h[b,i]) + a[j]
            z[b] = sum[j](y[b,j])
        """
    unfolds(
        text,
        """
        local y[B,J']
        for b, j, i:  y[b,j] += W[j,i] * h[b,i]
        for b, j:     y[b,j] += a[j]
        for b, j:     z[b]   += y[b,j]
        """,
    )
    w, h = RNG.normal(size=(3, 2)), RNG.normal(size=(4, 2))
    with pytest.raises(ValueError, match="J"):
        run(text, w, RNG.normal(size=4), h)
    a = RNG.normal(size=3)
    assert np.allclose(run(text, w, a, h), (h @ w.T + a).sum(1))


def test_a_part_that_does_not_show_a_range_has_it_written() -> None:
    text = """
        f(a[B,K]) -> z[B]:
            for b, k:  z[b] += a[b,k] + sum[q](a[b,q])
        """
    unfolds(
        text,
        """
        for b, k:         z[b] += a[b,k]
        for b, k < K, q:  z[b] += a[b,q]
        """,
    )
    a = RNG.normal(size=(2, 3))
    assert np.allclose(run(text, a), 4 * a.sum(1))


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("f(a[B,J]) -> y[B]:\n    y[b] = a[b,0]   if a[b,J] > 0", (2, 28), "in a guard"),
        ("f(a[B,J]) -> y[B,J]:\n    y[b,J] = a[b,J]", (2, 9), "in a target"),
        ("f(x[N,M]) -> y[N]:\n    y[n] = mean[j](x[n,j+1])", (2, 17), "how many values"),
        ("f(x[N]) -> y:\n    y = sum[n](softmax[m](x[n]))", (2, 24), "no index of a loop"),
        (
            "f(a[B',K], c[B,K']) -> z:\n    for b, k:  z += a[b,k] + sum[q](c[b,q]) + c[b,k]",
            (2, 9),
            "has the extents",
        ),
    ],
)
def test_refused(text: str, place: tuple[int, int], words: str) -> None:
    with pytest.raises(lg.ProgramError, match=words) as error:
        program(text).unfold()
    assert (error.value.line, error.value.column) == place
    assert error.value.diagnostics[0].help


def test_all_errors_are_reported_at_once() -> None:
    text = """
        f(x[N,M]) -> y[N], z[N]:
            y[n] = mean[j](x[n,j+1])
            z[n] = mean[j](x[n,2*j])
        """
    with pytest.raises(lg.ProgramError) as error:
        program(text).unfold()
    assert [d.line for d in error.value.diagnostics] == [2, 3]


def test_statements_point_at_their_equation() -> None:
    unfolded = program("f(x[N]) -> y:\n    # why\n    y = exp(sum[n](x[n]))").unfold()
    assert [s.span.line for s in unfolded.statements if s.span] == [3, 3]


def test_a_summand_without_the_capital_inside_its_sum_is_warned_of() -> None:
    """`I` is used in two summands, so that the smallest term with both is the whole side."""
    text = "f(W[K,I], U[K,I], x[I], c[K]) -> z[K]:\n    z[k] = {}\n"
    with pytest.warns(lg.ProgramWarning, match=r"`c\[k\]` stands inside the sum over `I`"):
        lg.program(text.format("c[k] + W[k,I] * x[I] + U[k,I] * x[I]"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lg.program(text.format("W[k,I] * x[I] + U[k,I] * x[I] - c[k]"))
        lg.program(text.format("c[k] + (W[k,I] + U[k,I]) * x[I]"))
