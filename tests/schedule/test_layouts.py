"""Temporaries lie as their products want them, where nobody else sees them."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

HEADS_LAST = """\
heads_last(q[B,T,H,D], k[B,U,H,D], v[B,U,H,E], bias[T,U,H]) -> y[B,T,H,E]:
    for b, t, u, h, d:  s[b,t,u,h] += q[b,t,h,d] * k[b,u,h,d] / sqrt(D)
    for b, t, u, h:     s[b,t,u,h] += bias[t,u,h]
    for b, t, u, h:     Z[b,t,h]   += exp(s[b,t,u,h])
    for b, t, u, h, e:  y[b,t,h,e] += exp(s[b,t,u,h]) / Z[b,t,h] * v[b,u,h,e]
"""
TRIANGLE = """\
triangle(z[N,N,C], W[D,C], V[D,C], U[C,D]) -> y[N,N,C]:
    for i < N, j < N, d, c:      a[i,j,d] += W[d,c] * z[i,j,c]
    for i < N, j < N, d, c:      b[i,j,d] += V[d,c] * z[i,j,c]
    for i < N, j < N, k < N, d:  t[i,j,d] += a[i,k,d] * tanh(b[j,k,d])
    for i < N, j < N, c, d:      y[i,j,c] += U[c,d] * t[i,j,d]
"""
CAUSAL = """\
causal(q[T,H,D], k[T,H,D], v[T,H,D]) -> y[T,H,D]:
    for t, u <= t, h, d:  s[t,u,h] += q[t,h,d] * k[u,h,d]
    for t, u <= t, h, d:  y[t,h,d] += sigmoid(s[t,u,h]) * v[u,h,d]
"""
CENSUS = """\
census(x[B,X,Y], y[B,X,Y]) -> L[B]:
    for b, i < X-2, j < Y-2, p < 3, q < 3:  a[b,i,j,p,q] = tanh(x[b,i+p,j+q] - x[b,i+1,j+1])
    for b, i < X-2, j < Y-2, p < 3, q < 3:  c[b,i,j,p,q] = tanh(y[b,i+p,j+q] - y[b,i+1,j+1])
    for b, i < X-2, j < Y-2, p < 3, q < 3:  d[b,i,j] += (a[b,i,j,p,q] - c[b,i,j,p,q])**2
    for b, i < X-2, j < Y-2:                L[b] += sqrt(d[b,i,j] + 1)
"""
SHAPES = {
    CENSUS: "BXY BXY", HEADS_LAST: "BTHD BUHD BUHE TUH", TRIANGLE: "NNC DC DC CD", CAUSAL: "THD THD THD",
}  # fmt: skip


def scheduled(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


@pytest.mark.parametrize("text", SHAPES, ids=lambda text: text.split("(")[0])
@pytest.mark.parametrize("sizes", [(2, 5, 4, 3, 6, 7), (1, 19, 18, 2, 17, 9), (1, 1, 1, 1, 1, 1)])
def test_values_and_gradients_are_the_literal_loops(text: str, sizes: tuple[int, ...]):
    program, rng = lg.program(text), np.random.default_rng(sum(sizes))
    extents = dict(zip("BTUHDE", sizes, strict=True)) | dict(zip("_NCD", sizes, strict=False))
    extents |= {"X": sizes[1] + 2, "Y": sizes[2] + 3}
    inputs = [rng.standard_normal([extents[e] for e in shape]) for shape in SHAPES[text].split()]
    want = literally(program)(*inputs)
    got, pull = lg.vjp(program, *inputs)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    seed = rng.standard_normal(want.shape)
    pulled = literally(program.backward(recompute=True))(*inputs, seed)
    for one, other in zip(pull(seed), pulled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-11)
    whole = lg.compile(program.backward(recompute=True))(*inputs, seed)
    for one, other in zip(whole, pulled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-11)


def test_what_tells_matrices_apart_stands_before_their_own_indices():
    found = scheduled(HEADS_LAST)
    assert "product:  s[b,h,t,u]" in found
    assert "for u < U vector" in found and "h vector" not in found
    assert "product:  t[d,i,j]" in scheduled(TRIANGLE)


def test_sums_that_end_at_a_row_are_products():
    assert "product:  s[h,t,u]" in scheduled(CAUSAL)


def test_axes_of_few_values_stand_before_the_one_that_lanes_run_over():
    found = scheduled(CENSUS)
    assert "a[b,i,p,q,j] = tanh(" in found
    assert "for j < Y-2 vector" in found
    # Vectors in space lie as their source does.
    beside = """\
lengths(r[E,3], w[E,3]) -> n[E]:
    for e, c < 3:  u[e,c] = tanh(r[e,c])
    for e, c < 3:  n[e] += u[e,c] * w[e,c]
"""
    assert "u[e,c]" in scheduled(beside)


def test_what_a_caller_sees_lies_as_it_is_written():
    program = lg.program(HEADS_LAST).returning("y", "s")
    assert "s[b,t,u,h]" in show(optimized(infer(program), validate(program)))


def test_a_recurrence_keeps_its_tensors_as_they_are():
    text = """\
steps(x[T,N,H,D], W[N,H,D]) -> y[T,N,H]:
    for t:
        for n, m < N, h, d:  s[t,n,m,h] += x[t,n,h,d] * W[m,h,d] * (y[t-1,n,h] if t > 0 else 1)
        for n, m < N, h:     y[t,n,h] += tanh(s[t,n,m,h])
"""
    program, rng = lg.program(text), np.random.default_rng(4)
    x, W = rng.standard_normal((3, 5, 4, 9)), rng.standard_normal((5, 4, 9))
    want = literally(program)(x, W)
    np.testing.assert_allclose(program(x, W), want, rtol=1e-9)
