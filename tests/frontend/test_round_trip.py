"""`parse(str(program)) == program`, for programs of every construct."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopgrad
from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import Program

CORPUS = Path(__file__).parent.parent / "programs" / "corpus.loops"
LIBRARY = sorted((Path(loopgrad.__file__).parent / "lib").glob("*.loops"))

MORE = """
conv(x[B,C,X], param k[D,C,DX], stride = 2, dilation = 1) -> y[B, D, (X - (DX-1)*dilation - 1) // stride + 1]:
    y[b,d,i] += x[b, c, stride*i + dilation*r] * k[d,c,r]

padded(x[B,I,J], k[3,3]) -> y[B,I,J]:
    y[b,i,j] += k[p,q] * (x[b, i+p-1, j+q-1] if 0 <= i+p-1 < I and 0 <= j+q-1 < J else 0)

causal(q[B,T,D], k[B,U,D], v[B,U,E], scale = 0.5) -> o[B,T,E]:
    local m[B,T]
    s[b,t,u]  = scale * sum[d](q[b,t,d] * k[b,u,d])   if u <= t
    for b, t, u <= t:  m[b,t] max= s[b,t,u]
    for b, t, u <= t:  e[b,t,u] = exp(s[b,t,u] - m[b,t])
    for b, t, u <= t:  Z[b,t] += e[b,t,u]
    for b, t, u <= t, c:  o[b,t,c] += e[b,t,u] / Z[b,t] * v[b,u,c]

crf(int tags[B,T], emit[B,T,K], trans[K,K'], int length[B]) -> loss[B]:
    a[b,0,k] = emit[b,0,k]
    for 1 <= t < T:
        for b, k, k':  m[b,t,k] max= a[b,t-1,k'] + trans[k',k]   if t < length[b]
        for b, k, k':  z[b,t,k] += exp(a[b,t-1,k'] + trans[k',k] - m[b,t,k])   if t < length[b]
        for b, k:      a[b,t,k] = emit[b,t,k] + m[b,t,k] + log(z[b,t,k]) if t < length[b] else 0
    loss[b] = logsumexp[k](a[b, length[b]-1, k])
    for b, t < length[b]:  loss[b] -= emit[b,t,tags[b,t]]

cholesky(A[N,N']) -> L[N,N]:
    for j:
        for i, k < j:  s[i,j] += L[i,k] * L[j,k]   if i >= j
        for j <= i < N:  L[i,j] = A[i,j] - s[i,j]
    L[0,0] = 1
"""

BACKWARDS = """
scan.backward(a[T,N], h.grad[T,N]) -> a.grad[T,N]:
    local h.grad'[T,N], int w[N]
    for t, n:  h.grad'[t,n] = h.grad[t,n]
    for 1 <= t < T descending:
        for n:  a.grad[t,n]      += h.grad'[t,n] * a[t-1,n]
        for n:  h.grad'[t-1,n]   += h.grad'[t,n]   if not (t == 2 or n < w[n])
    for n < N:  w[n] min= n   if a[0,n] == -1e-05 or a[0,n] != 2**-3 - -4
"""
CALLS = """
cell(param W[J,K], x[B,K], h[B,J], eps = 0.001, size M) -> h'[B,J]:
    h'[b,j] = tanh(W[j,K] * x[b,K]) + eps * h[b,j] * M

run(param W[J,K], x[T,B,K], h0[B,J]) batch B -> h[T,B,J]:
    h[0,B,J] = cell(W, x[0,B,K], h0, M=J)
    for t:
        for 1 <= u <= t:
            g[t,u,B,J] = cell(W, x[t,B,K], h0, eps=-1.5, M=2*J)
        for b, j:  h[t+1,b,j] = g[t,1,b,j]
"""

SHAPES = """
odd(x[N], size M, low = -inf, big = 1e300, neg = -3) -> y[M], z:
    for n, m < min(M, N):  y[m] = (x[n] if n == m else low) if big > 0 else -(neg - 2)
    for n:                 z *= x[n] ** (2 if n % 2 else 3) // 1   if (1 if n else 0)
    for n <= N - 1 - 1, 3 <= m <= 5 descending:  z *= floor(x[n] / pi) // (m - n) % 7
    for n:                 z *= 1 - (2 - (3 - n)) / (4 / (5 / n)) ** -n ** 2
"""

LONG = """
attention_of_many_heads(queries[B,HEADS,T,D], keys[B,HEADS,U,D], param projection[D,D'], scale = 0.5) batch B
    -> projected_queries[B,HEADS,T,D'],  # a comment
    projected_keys[B,HEADS,U,D'],

    scores_of_all_pairs[B,HEADS,T,U]:
    projected_queries[b,h,t,d'] += queries[b,h,t,d] * projection[d,d']
    projected_keys[b,h,u,d'] += keys[b,h,u,d] * projection[d,d']
    scores_of_all_pairs[b,h,t,u] += scale * projected_queries[b,h,t,d'] * projected_keys[b,h,u,d']

a_name_of_its_own_that_is_so_long_that_nothing_else_has_a_place_beside_it_on_one_line_of_the_text()
        -> y:
    y = 1
"""


def programs() -> list[object]:
    texts = {path.name: path.read_text(encoding="utf-8") for path in [CORPUS, *LIBRARY]}
    texts |= {"more": MORE, "backwards": BACKWARDS, "calls": CALLS, "shapes": SHAPES}
    texts["long"] = LONG
    return [
        pytest.param(p, id=f"{name}:{p.name}") for name, text in texts.items() for p in parse(text)
    ]


@pytest.mark.parametrize("program", programs())
def test_what_is_printed_reads_back_as_an_equal_program(program: Program) -> None:
    text = str(program)
    *_, again = parse(text)
    assert again == program
    assert hash(again) == hash(program)
    assert str(again) == text


@pytest.mark.parametrize("program", programs())
def test_places_and_comments_take_no_part_in_equality(program: Program) -> None:
    moved = "# above\n\n" + str(program).replace("\n", "  # behind\n")
    assert parse(moved)[-1] == program
