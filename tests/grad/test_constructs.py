"""Every construct of the notation: both modes and second derivatives, against differences."""

from __future__ import annotations

import numpy as np
import pytest

from tests.grad.checking import check

N, M = 4, 3


def real(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def positive(seed, *shape):
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape)


CASES = {
    # ------------------------------------------------------------------------------- functions
    **{
        f"{name}": (
            f"f(x[N], y[N]) -> z[N]:\n    for n:  z[n] += {name}(2 * x[n]) * y[n] / x[n]",
            {"x": positive(1, N), "y": real(2, N)},
        )
        for name in [
            "exp",
            "log",
            "log1p",
            "expm1",
            "sqrt",
            "rsqrt",
            "tanh",
            "sigmoid",
            "relu",
            "softplus",
            "erf",
            "sin",
            "cos",
            "abs",
        ]
    },
    "no gradient": (
        "f(x[N]) -> z[N]:\n    z[n] = x[n] * (sign(x[n]) + floor(x[n]) + (x[n] > 0))",
        {"x": np.array([-1.5, 0.3, 2.7])},
    ),
    "two-argument max and min": (
        "f(x[N], y[N]) -> z[N]:\n    z[n] = max(x[n] * y[n], min(y[n], x[n]**2)) * x[n]",
        {"x": real(3, 9), "y": real(4, 9)},
    ),
    "powers": (
        "f(x[N]) -> z[N]:\n"
        "    for n:  z[n] += 3 * x[n]**3 / x[n]**2 + x[n]**0.5 - x[n]**-1.5 + x[n]**1 + x[n]**0\n"
        "    for n:  z[n] -= x[n]**(1/3) * sqrt(x[n])",
        {"x": positive(5, N)},
    ),
    "powers of tensors": (
        "f(x[N], y[N]) -> z[N]:\n"
        "    for n:  z[n] += x[n]**y[n] + 2**y[n] + x[n]**n + (x[n] + y[n])**(x[n] * y[n])",
        {"x": positive(6, N), "y": positive(7, N)},
    ),
    "quotients": (
        "f(x[N], y[N]) -> z[N]:\n"
        "    z[n] = x[n] / (2 * y[n]**2 * x[n]) / (1 + x[n] / y[n]) - 1 / x[n]",
        {"x": positive(8, N), "y": positive(9, N)},
    ),
    "signs": (
        "f(x[N], y[N]) -> z[N]:\n"
        "    for n:  z[n] -= -(x[n] - y[n]) * -y[n] - (-x[n] / -(y[n] + 3))\n"
        "    for n:  z[n] += 5 - (x[n] - (y[n] - x[n] * y[n]))",
        {"x": real(10, N), "y": positive(11, N)},
    ),
    "constants": (
        "f(x[N], eps = 1e-2, k = 3) -> z[N]:\n    z[n] = k * x[n] / sqrt(x[n]**2 + eps) * pi",
        {"x": real(12, N)},
    ),
    # ------------------------------------------------------------------------------ conditions
    "guards": (
        "f(x[N], y[N]) -> z[N], s:\n"
        "    for n:  z[n] += x[n] * y[n]   if x[n] > 0\n"
        "    for n:  s    += z[n]**2       if n != 1 and y[n] < 1",
        {"x": real(13, 6), "y": real(14, 6)},
    ),
    "conditionals": (
        "f(x[N], y[N]) -> z[N]:\n"
        "    z[n] = y[n] + x[n] * (y[n]*x[n] if x[n] > y[n] else sin(y[n]) if n < 2 else x[n]**2)",
        {"x": real(15, 6), "y": real(16, 6)},
    ),
    "branch out of range": (
        "f(x[N]) -> z[N]:\n"
        "    z[n] = x[n-1] * x[n] if n > 0 and x[n-1] > 0 else (x[n+1] if n + 1 < N else 0)",
        {"x": real(17, 6)},
    ),
    "padding": (
        "f(x[N], k[3]) -> z[N]:\n    for n, d:  z[n] += k[d] * (x[n+d-1] if 0 <= n+d-1 < N else 0)",
        {"x": real(18, 5), "k": real(19, 3)},
    ),
    # ------------------------------------------------------------------------------ subscripts
    "gather and scatter": (
        "f(E[V,K], int w[T], x[T]) -> y[T], u[V]:\n"
        "    for t, k:  y[t] += E[w[t],k]**2 * x[t]\n"
        "    for t:     u[w[t]] += y[t] * x[t]",
        {"E": real(20, 4, 2), "w": np.array([1, 3, 1, 1, 0]), "x": real(21, 5)},
    ),
    "computed subscripts": (
        "f(x[N]) -> z[N]:\n"
        "    local int w[N]\n"
        "    w[n] = (3 * n + 1) % N\n"
        "    for n:  z[w[n] // 2] += x[w[n]] * x[max(n - 1, 0)]",
        {"x": real(22, 5)},
    ),
    "strided convolution": (
        "conv(x[B,C,X], param k[F,C,D], stride = 2) -> y[B, F, (X - D) // stride + 1]:\n"
        "    for b, f, i, c, d:  y[b,f,i] += x[b,c,stride*i+d] * k[f,c,d]",
        {"x": real(23, 2, 2, 7), "k": real(24, 3, 2, 3)},
    ),
    "diagonal": (
        "f(A[N,N]) -> t:\n    for n:  t += A[n,n] * A[n,0]",
        {"A": real(25, 3, 3)},
    ),
    # --------------------------------------------------------------------- statements and blocks
    "= then +=": (
        "f(x[N], y[N]) -> z[N]:\n"
        "    for n:     z[n] = x[n]**2\n"
        "    for n, m < n:  z[n] += x[n] * y[m]",
        {"x": real(26, N), "y": real(27, N)},
    ),
    "regions": (
        "f(x[T,K]) -> h[T,K]:\n"
        "    for k:  h[0,k] = x[0,k]**2\n"
        "    for t:\n"
        "        for k:  h[t,k] = h[t-1,k] * tanh(x[t,k]) + x[t,k]   if t > 0",
        {"x": real(28, 5, 2)},
    ),
    "result read": (
        "f(x[N]) -> y[N], z[N], w:\n"
        "    y[n] = x[n]**3\n"
        "    z[n] = y[n] * x[n]\n"
        "    for n:  w += z[n] * y[n]",
        {"x": real(29, N)},
    ),
    "rnn": (
        "rnn(x[T,B,K], W[J,J'], U[J,K]) -> h[T,B,J]:\n"
        "    for t:\n"
        "        for b, j, j':  a[t,b,j] += W[j,j'] * h[t-1,b,j']   if t > 0\n"
        "        for b, j, k:   a[t,b,j] += U[j,k] * x[t,b,k]\n"
        "        for b, j:      h[t,b,j]  = tanh(a[t,b,j])",
        {"x": real(30, 4, 2, 2), "W": real(31, 3, 3), "U": real(32, 3, 2)},
    ),
    "descending": (
        "f(x[T]) -> h[T]:\n"
        "    h[T-1] = x[T-1]\n"
        "    for 0 <= t < T-1 descending:\n"
        "        h[t] = h[t+1] * x[t] + sin(h[t+1])",
        {"x": real(33, 5)},
    ),
    "nested blocks": (
        "f(x[N,M]) -> D[N,M]:\n"
        "    for n:\n"
        "        for m:\n"
        "            D[n,m] += x[n,m] * (D[n-1,m] if n > 0 else 1)\n"
        "            D[n,m] += D[n,m-1] if m > 0 else x[0,m]",
        {"x": real(34, 3, 4)},
    ),
    "dependent ranges": (
        "cholesky(A[N,N]) -> L[N,N]:\n"
        "    for j:\n"
        "        for k < j:            d[j] += L[j,k]**2\n"
        "        L[j,j] = sqrt(A[j,j] - d[j])\n"
        "        for j+1 <= i < N, k < j:  s[i,j] += L[i,k] * L[j,k]\n"
        "        for j+1 <= i < N:     L[i,j] = (A[i,j] - s[i,j]) / L[j,j]",
        {"A": real(35, 4, 4) / 4 + 3 * np.eye(4)},
    ),
    "bounds from data": (
        "f(x[B,T], int length[B]) -> y[B], p[B]:\n"
        "    for b, t < length[b]:  y[b] += x[b,t]**2 * t\n"
        "    for b, t < length[b]:  p[b] *= x[b,t]",
        {"x": real(36, 3, 4), "length": np.array([0, 4, 2])},
    ),
    # -------------------------------------------------------------------------------- max= min=
    "max": (
        "f(s[B,J,K]) -> m[B]:\n    for b, j, k:  m[b] max= s[b,j,k]",
        {"s": real(37, 3, 2, 4)},
    ),
    "max of values": (
        "f(s[B,J], x[J]) -> m[B]:\n    for b, j:  m[b] max= sin(s[b,j]) * x[j] + x[j]",
        {"s": real(38, 3, 4), "x": real(39, 4)},
    ),
    "min of sums": (
        "f(s[B,J], x[J]) -> m[B]:\n    for b, j:  m[b] min= s[b,j] - 3 * x[j]   if j != b",
        {"s": real(40, 3, 4), "x": real(41, 4)},
    ),
    "pooling": (
        "f(x[N]) -> y[N // 2]:\n    for i, d < 2:  y[i] max= x[2*i+d]**2",
        {"x": real(42, 7)},
    ),
    "max by scatter": (
        "f(x[N], int w[N]) -> y[3]:\n"
        "    local m[3]\n"
        "    for n:  m[w[n]] max= x[n]\n"
        "    for n:  y[w[n]] += m[w[n]] * x[n]",
        {"x": real(43, 6), "w": np.array([0, 2, 0, 1, 2, 0])},
    ),
    "max of several statements": (
        "f(x[N], y[N]) -> m:\n"
        "    m = x[0] * y[1]\n"
        "    for n:  m max= x[n]\n"
        "    for n:  m max= y[n]**2   if n > 1",
        {"x": real(44, 4), "y": real(45, 4)},
    ),
    "max in a block": (
        "f(x[T,K]) -> m, h[T,K]:\n"
        "    for t:\n"
        "        for k:  h[t,k] = x[t,k] * (h[t-1,k] if t > 0 else 2)\n"
        "        for k:  m max= h[t,k]\n"
        "        for k:  m max= x[t,k]",
        {"x": real(46, 4, 2)},
    ),
    "viterbi": (
        "viterbi(x[T,S], A[S,S']) -> v[T,S]:\n"
        "    v[0,s] = x[0,s]\n"
        "    for 1 <= t < T:\n"
        "        for s, s':  v[t,s] max= v[t-1,s'] + A[s,s'] + x[t,s]",
        {"x": real(47, 4, 3), "A": real(48, 3, 3)},
    ),
    "running maximum": (
        "f(x[N]) -> y[N]:\n    for n, m <= n:  y[n] max= x[m] * x[n]",
        {"x": real(49, 5)},
    ),
    # --------------------------------------------------------------------------------------- *=
    "product": (
        "f(x[B,J]) -> p[B]:\n    for b, j:  p[b] *= x[b,j]",
        {"x": np.where(real(50, 3, 4) < -0.3, 0.0, real(51, 3, 4))},
    ),
    "product of values with a guard": (
        "f(x[B,J], y[J]) -> p[B]:\n    for b, j:  p[b] *= sin(x[b,j]) + y[j]**2   if x[b,j] < 1",
        {"x": real(52, 2, 4), "y": real(53, 4)},
    ),
    "product over two indices": (
        "f(x[J,B,K]) -> p[B]:\n    for j, b, k:  p[b] *= x[j,b,k]",
        {"x": real(54, 2, 2, 3)},
    ),
    "product over a range": (
        "f(x[N]) -> p[N]:\n    for n, 1 <= m <= n:  p[n] *= x[m] * x[n]",
        {"x": real(55, 4)},
    ),
    "product of segments": (
        "f(x[N], int first[B], int length[B]) -> p[B]:\n"
        "    for b, t < length[b]:  p[b] *= x[first[b]+t]",
        {"x": real(66, 6), "first": np.array([3, 1]), "length": np.array([3, 2])},
    ),
    "product of none": (
        "f(x[N], k = 5) -> p, s:\n    for n < N - k:  p *= x[n+k]\n    for n:  s += x[n] * p",
        {"x": real(67, 4)},
    ),
    "product by scatter": (
        "f(x[N], int w[N]) -> p[3]:\n    for n:  p[w[n]] *= x[n]",
        {"x": real(56, 6), "w": np.array([0, 2, 0, 1, 2, 0])},
    ),
    "product of diagonals": (
        "f(x[N,M]) -> p[N+M-1]:\n    for n, m:  p[n+m] *= x[n,m]",
        {"x": real(57, 2, 3)},
    ),
    "product with a start": (
        "f(x[N], y) -> p:\n    p = y**2\n    for n:  p *= x[n]\n    for n:  p *= 2 + x[n]**2",
        {"x": real(58, 3), "y": real(59)},
    ),
    "product in a block": (
        "f(x[T,K]) -> p[K], h[T,K]:\n"
        "    for t:\n"
        "        for k:  h[t,k] = sin(x[t,k]) + (h[t-1,k] if t > 0 else 1)\n"
        "        for k:  p[k] *= h[t,k]",
        {"x": real(60, 3, 2)},
    ),
    "running product": (
        "f(x[N]) -> c[N], s:\n"
        "    for n:\n"
        "        c[n] = x[n] * (c[n-1] if n > 0 else 1)\n"
        "    for n:  s += c[n]**2",
        {"x": real(61, 4)},
    ),
    "scalars": ("f(x, y) -> z:\n    z = x * sin(y) - y / x", {"x": real(62), "y": real(63)}),
    "no elements": (
        "f(x[N]) -> m, p:\n    for n:  p *= x[n]\n    for n:  m += x[n] * p",
        {"x": real(64, 0)},
    ),
    "one element": (
        "f(x[N]) -> m, p:\n    for n:  p *= x[n]\n    for n:  m max= x[n]",
        {"x": real(65, 1)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_differences(name):
    text, values, *constants = CASES[name]
    check(text, values, **(constants[0] if constants else {}))
