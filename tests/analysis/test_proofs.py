"""Programs that keep every rule: each is proved, so that nothing is left to check when it runs."""

from __future__ import annotations

import pytest

from loopgrad.analysis.accesses import Collector
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.frontend.parser import parse
from loopgrad.ir.printer import show_expression

PROVED = {
    "softmax": """
softmax_(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
""",
    "causal attention": """
attend(q[T,D], k[T,D], v[T,D]) -> o[T,D]:
    for t, u <= t, d:  s[t,u] += q[t,d] * k[u,d]
    for t, u <= t:     m[t] max= s[t,u]
    for t, u <= t:     Z[t] += exp(s[t,u] - m[t])
    for t, u <= t, d:  o[t,d] += exp(s[t,u] - m[t]) / Z[t] * v[u,d]
""",
    "strided, dilated convolution": """
conv(x[B,I,X], param k[O,I,D],
     stride = 2, dilation = 3) -> y[B,O,(X - dilation*(D-1) - 1)//stride + 1]:
    for b, o, i < (X - dilation*(D-1) - 1)//stride + 1, c < I, d < D:
        y[b,o,i] += x[b,c,stride*i + dilation*d] * k[o,c,d]
""",
    "transposed convolution": """
conv(x[B,X], k[D], stride = 2) -> y[B,(X-1)*stride + D]:
    for b, i, d:  y[b,stride*i+d] += x[b,i] * k[d]
""",
    "transposed convolution, gathered": """
conv(x[B,X], k[D], stride = 2) -> y[B,(X-1)*stride + D]:
    for b, n, d:  y[b,n] += (x[b,(n-d)//stride] * k[d]
                             if n >= d and (n-d) % stride == 0 and (n-d)//stride < X else 0)
""",
    "padded convolution": """
conv(x[B,X], k[D], pad = 1) -> y[B,X]:
    for b, i, d:  y[b,i] += (x[b,i+d-pad] if 0 <= i+d-pad < X else 0) * k[d]
""",
    "grouped convolution": """
conv(x[B,C,X], k[C,D], m = 2) -> y[B,m*C,X-D+1]:
    for b, c < m*C, p, d:  y[b,c,p] += x[b,c//m,p+d] * k[c//m,d]
""",
    "pooling": """
pool(x[B,X]) -> y[B,X//2]:
    for b, i, d < 2:  y[b,i] max= x[b,2*i+d]
""",
    "odd elements": """
odd(x[N]) -> y[N//2]:
    for 1 <= j <= N//2:  y[j-1] = x[2*j-1]
""",
    "flattening": """
flat(x[B,T]) -> y[B*T]:
    for b, t:  y[b*T+t] = x[b,t]
""",
    "unflattening": """
unflat(x[B*T], size B, size T) -> y[B,T]:
    for n < B*T:  y[n//T, n%T] = x[n]
""",
    "pixel shuffle": """
shuffle(x[C,H,W], r = 2) -> y[C//(r*r),H*r,W*r]:
    for c, h, w:  y[c,h,w] = x[c*r*r + (h%r)*r + w%r, h//r, w//r]
""",
    "turned round": """
turn(x[T]) -> y[T]:
    for t:  y[t] = x[T-1-t]
""",
    "circular shift, scattered": """
roll(x[N]) -> y[N]:
    for n:  y[(n+1) % N] = x[n]
""",
    "clipped": """
blur(x[X]) -> y[X]:
    for i, d < 3:  y[i] += x[min(max(i+d-1, 0), X-1)]
""",
    "soft-DTW": """
dtw(D[N,M]) -> r:
    local R[N+1,M+1]
    R[0,0] = 0
    for i < N:  R[i+1,0] = 1e9
    for j < M:  R[0,j+1] = 1e9
    for i < N:
        for j < M:
            R[i+1,j+1] = D[i,j] - log(exp(-R[i,j]) + exp(-R[i,j+1]) + exp(-R[i+1,j]))
    r = R[N,M]
""",
    "Cholesky": """
chol(A[N,N]) -> L[N,N]:
    for j < N:
        for k < j:                s[j,j] += L[j,k]**2
        L[j,j] = sqrt(A[j,j] - s[j,j])
        for j+1 <= i < N, k < j:  s[i,j] += L[i,k] * L[j,k]
        for j+1 <= i < N:         L[i,j] = (A[i,j] - s[i,j]) / L[j,j]
""",
    "back substitution": """
solve(U[N,N], b[N]) -> x[N]:
    for i descending:
        for i+1 <= j < N:  s[i] += U[i,j] * x[j]
        x[i] = (b[i] - s[i]) / U[i,i]
""",
    "selective scan": """
scan(x[T,D], A[D,N], P[T,N], C[T,N]) -> y[T,D]:
    for t:
        for d, n:  h[t,d,n] = (h[t-1,d,n] if t > 0 else 0) * A[d,n] + x[t,d] * P[t,n]
        for d, n:  y[t,d] += h[t,d,n] * C[t,n]
""",
    "from the end": """
late(x[T]) -> y[T]:
    for t descending:
        y[t] = x[t] + (y[t+1] if t < T-1 else 0)
""",
    "gathered by a guard": """
pick(int w[B], x[B,V]) -> y[B]:
    for b, j:  y[b] = x[b,j]  if j == w[b]
""",
    "a floating guard and its opposite": """
split(x[N], m[N]) -> y[N]:
    for n:  y[n] = x[n]   if m[n] > 0
    for n:  y[n] = -x[n]  if m[n] <= 0
""",
    "started, then accumulated": """
start(x[N,K], b[N]) -> y[N]:
    for n:     y[n] = b[n]
    for n, k:  y[n] += x[n,k]
""",
}


@pytest.mark.parametrize("name", PROVED)
def test_proved(name: str) -> None:
    [program] = parse(PROVED[name].strip())
    safety = validate(program)
    accesses = Collector(infer(program))
    unproved = [
        f"{a.number}: {show_expression(a.read)}"
        for a in (*accesses.reads, *accesses.writes)
        if (a.number, a.read) not in safety.in_range
    ]
    assert not unproved
    assert not safety.tracked


def test_constants_taken_as_positive_are_named() -> None:
    [program] = parse(PROVED["pixel shuffle"].strip())
    assert validate(program).positive == {"r"}
    [program] = parse(PROVED["turned round"].strip())
    assert validate(program).positive == frozenset()
