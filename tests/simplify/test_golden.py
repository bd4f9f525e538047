"""What `simplify` makes of the literal backward of programs written as plain loops: whole texts."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.searching.cost import cost


def simplified(text: str) -> lg.Program:
    """The simplified backward: certified once more, and cheaper than the literal one."""
    forward = lg.program(textwrap.dedent(text))
    literal = forward.backward()
    result = literal.simplify()
    assert certify(literal, result, forward, trials=6).kind == "agree"
    assert cost(result).value < cost(literal).value
    assert len(result.derivation) > 0
    return result


def lines(program: lg.Program) -> str:
    """The statements, without the header."""
    shown = str(program).splitlines()
    first = next(n for n, line in enumerate(shown) if line.startswith("    for"))
    return textwrap.dedent("\n".join(shown[first:]))


GOLDEN = {
    # The exponential is what its result says it is, and a sum is computed under its result's name.
    "a logistic function written out": (
        """
        f(x[B,I], W[J,I], c[B,J]) -> y[B,J]:
            for b, j, i:  a[b,j] += W[j,i] * x[b,i]
            for b, j:     a[b,j] += c[b,j]
            for b, j:     y[b,j] = 1 / (1 + exp(-a[b,j]))
        """,
        """
        for b, j:     c.grad[b,j] += y[b,j] * y.grad[b,j] * (1 - y[b,j])
        for b, j, i:  W.grad[j,i] += x[b,i] * c.grad[b,j]
        for b, j, i:  x.grad[b,i] += W[j,i] * c.grad[b,j]
        """,
    ),
    # Problem 1's loops to problem 2's, reading p only.
    "softmax": (
        """
        softmax(s[B,J]) -> p[B,J]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
        """,
        """
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])
        """,
    ),
    "softmax, other names": (
        """
        soft(a[T,U,V]) -> q[T,U,V]:
            for t, u, v:  N[t,u]   += exp(a[t,u,v])
            for t, u, v:  q[t,u,v] += exp(a[t,u,v]) / N[t,u]
        """,
        """
        for t, u, v:  e[t,u]        -= q[t,u,v] * q.grad[t,u,v]
        for t, u, v:  a.grad[t,u,v] += q[t,u,v] * (q.grad[t,u,v] + e[t,u])
        """,
    ),
    "softmax over the first axis": (
        """
        columns(s[B,J]) -> p[B,J]:
            for b, j:  Z[j]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[j]
        """,
        """
        for b, j:  e[j]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[j])
        """,
    ),
    # The path through the maximum adds nothing, and m.j goes with it.
    "softmax with its maximum": (
        """
        softmax(s[B,J]) -> p[B,J]:
            for b, j:  m[b] max= s[b,j]
            for b, j:  Z[b] += exp(s[b,j] - m[b])
            for b, j:  p[b,j] += exp(s[b,j] - m[b]) / Z[b]
        """,
        """
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])
        """,
    ),
    "softmax through its numerators": (
        """
        softmax(s[B,J]) -> p[B,J]:
            for b, j:  E[b,j] += exp(s[b,j])
            for b, j:  Z[b]   += E[b,j]
            for b, j:  p[b,j] += E[b,j] / Z[b]
        """,
        """
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])
        """,
    ),
    # The literal Z.grad, which every reader multiplies by Z, becomes e.
    "softmax with a temperature": (
        """
        softmax(s[B,J], t) -> p[B,J]:
            for b, j:  Z[b]   += exp(s[b,j] / t)
            for b, j:  p[b,j] += exp(s[b,j] / t) / Z[b]
        """,
        """
        for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
        for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b]) / t
        for b, j:  t.grad      -= s[b,j] * p[b,j] * (p.grad[b,j] + e[b]) / t**2
        """,
    ),
    "logsumexp is softmax": (
        """
        total(s[B,J]) -> L[B]:
            for b, j:  Z[b] += exp(s[b,j])
            for b:     L[b] += log(Z[b])
        """,
        "for b, j:  s.grad[b,j] += L.grad[b] / Z[b] * exp(s[b,j])",
    ),
    "cross entropy of softmax with a class": (
        """
        loss(s[B,J], int y[B]) -> L[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
            for b:     L[b]   -= log(p[b,y[b]])
        """,
        """
        for b, j:  s.grad[b,j]    += p[b,j] * L.grad[b]
        for b:     s.grad[b,y[b]] -= L.grad[b]
        """,
    ),
    "the same, a mean over the batch": (
        """
        loss(s[B,J], int y[B]) -> L:
            for b, j:  m[b]   max= s[b,j]
            for b, j:  Z[b]   += exp(s[b,j] - m[b])
            for b, j:  p[b,j] += exp(s[b,j] - m[b]) / Z[b]
            for b:     L      -= log(p[b,y[b]]) / B
        """,
        """
        for b, j:  s.grad[b,j]    += L.grad / B * p[b,j]
        for b:     s.grad[b,y[b]] -= L.grad / B
        """,
    ),
    "cross entropy of softmax with a distribution": (
        """
        loss(s[B,J], P[B,J]) -> L[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
            for b, j:  L[b]   -= P[b,j] * log(p[b,j])
        """,
        """
        for b, j:  P.grad[b,j] -= L.grad[b] * log(p[b,j])
        for b, j:  e[b]        += P[b,j]
        for b, j:  s.grad[b,j] += L.grad[b] * (p[b,j] * e[b] - P[b,j])
        """,
    ),
    "label smoothing": (
        """
        loss(s[B,J], int y[B], a = 0.1) -> L[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  q[b,j] += s[b,j] - log(Z[b])
            for b:     L[b]   -= (1 - a) * q[b,y[b]]
            for b, j:  L[b]   -= a * q[b,j] / J
        """,
        """
        for b, j:  s.grad[b,j]    += L.grad[b] * (exp(q[b,j]) - a / J)
        for b:     s.grad[b,y[b]] -= L.grad[b] * (1 - a)
        """,
    ),
    "entropy of softmax": (
        """
        entropy(s[B,J]) -> H[B]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
            for b, j:  H[b]   -= p[b,j] * log(p[b,j])
        """,
        "for b, j:  s.grad[b,j] -= p[b,j] * H.grad[b] * (log(p[b,j]) + H[b])",
    ),
    "binary cross entropy of a sigmoid": (
        """
        loss(s[B,J], t[B,J]) -> L[B]:
            for b, j:  G[b,j] += sigmoid(s[b,j])
            for b, j:  L[b]   -= t[b,j] * log(G[b,j]) + (1 - t[b,j]) * log(1 - G[b,j])
        """,
        """
        for b, j:  t.grad[b,j] += L.grad[b] * (log(1 - G[b,j]) - log(G[b,j]))
        for b, j:  s.grad[b,j] += L.grad[b] * (G[b,j] - t[b,j])
        """,
    ),
    "tanh": (
        """
        layer(x[B,J]) -> y[B,J]:
            for b, j:  y[b,j] += tanh(x[b,j])
        """,
        "for b, j:  x.grad[b,j] += y.grad[b,j] * (1 - y[b,j]**2)",
    ),
    "sigmoid": (
        """
        layer(x[B,J]) -> y[B,J]:
            for b, j:  y[b,j] += sigmoid(x[b,j])
        """,
        "for b, j:  x.grad[b,j] += y[b,j] * y.grad[b,j] * (1 - y[b,j])",
    ),
    "exp": (
        """
        layer(x[B,J]) -> y[B,J]:
            for b, j:  y[b,j] += exp(2 * x[b,j])
        """,
        "for b, j:  x.grad[b,j] += 2 * y[b,j] * y.grad[b,j]",
    ),
    # Problem 3: the fifth statement is zero, two reductions are left.
    "batch norm": (
        """
        batchnorm(x[B,J]) -> x'[B,J]:
            for b, j:  μ[j]    += x[b,j] / B
            for b, j:  s[j]    += (x[b,j] - μ[j])**2 / (B - 1)
            for b, j:  x'[b,j] += (x[b,j] - μ[j]) / sqrt(s[j])
        """,
        """
        for b, j:  e[j]        -= x'[b,j] * x'.grad[b,j] / (B - 1)
        for b, j:  e2[j]       -= x'.grad[b,j] / B
        for b, j:  x.grad[b,j] += (x'.grad[b,j] + x'[b,j] * e[j] + e2[j]) / sqrt(s[j])
        """,
    ),
    # The parameters' gradients are the two reductions.
    "batch norm with parameters": (
        """
        batchnorm(x[B,J], g[J], h[J], eps = 1e-5) -> y[B,J]:
            for b, j:  m[j]   += x[b,j] / B
            for b, j:  v[j]   += (x[b,j] - m[j])**2 / B
            for b, j:  n[b,j] += (x[b,j] - m[j]) / sqrt(v[j] + eps)
            for b, j:  y[b,j] += g[j] * n[b,j] + h[j]
        """,
        """
        for b, j:  g.grad[j]   += n[b,j] * y.grad[b,j]
        for b, j:  h.grad[j]   += y.grad[b,j]
        for b, j:  x.grad[b,j] += g[j] / sqrt(v[j] + eps) * (y.grad[b,j] - (n[b,j] * g.grad[j] + h.grad[j]) / B)
        """,
    ),
    # The product of o and y.grad is formed once; what is in one statement alone stays there.
    "a gated linear unit": (
        """
        glu(a[B,J], c[B,J], o[J,K]) -> y[B,K]:
            for b, j, k:  y[b,k] += a[b,j] * c[b,j] * o[j,k]
        """,
        """
        for b, j, k:  e[b,j]      += o[j,k] * y.grad[b,k]
        for b, j:     a.grad[b,j] += c[b,j] * e[b,j]
        for b, j:     c.grad[b,j] += a[b,j] * e[b,j]
        for b, j, k:  o.grad[j,k] += a[b,j] * c[b,j] * y.grad[b,k]
        """,
    ),
    # Of three gradients by x and y.grad one product is left. The sum of v * e2 stays where it is: without
    # an i, n is 0, and so is g.grad.
    "weight norm": (
        """
        weight_norm(v[O,I], g[O], x[B,I]) -> y[B,O]:
            for o, i:     n[o]   += v[o,i]**2
            for b, o, i:  y[b,o] += g[o] * v[o,i] / sqrt(n[o]) * x[b,i]
        """,
        """
        for o, i, b:  e2[o,i]     += x[b,i] * y.grad[b,o]
        for o, i:     g.grad[o]   += v[o,i] * e2[o,i] / sqrt(n[o])
        for o, i, b:  x.grad[b,i] += v[o,i] * g[o] * y.grad[b,o] / sqrt(n[o])
        for o, i:     e[o]        -= v[o,i] * e2[o,i]
        for o, i:     v.grad[o,i] += g[o] * e[o] / n[o]**1.5 * v[o,i] + g[o] * e2[o,i] / sqrt(n[o])
        """,
    ),
    "a sum that is shared at each turn": (
        """
        f(a[T,N], c[T,N], o[N,M]) -> h[T,M]:
            for t:
                for n, m:  h[t,m] += a[t,n] * c[t,n] * o[n,m]
                for m:     h[t,m] += h[t-1,m]**2 if t > 0
        """,
        """
        for t, m:  h.grad'[t,m] = h.grad[t,m]
        for t descending:
            for m:     h.grad'[t-1,m] += 2 * h[t-1,m] * h.grad'[t,m]   if t > 0
            for n, m:  e[t,n]         += o[n,m] * h.grad'[t,m]
            for n:     a.grad[t,n]    += c[t,n] * e[t,n]
            for n:     c.grad[t,n]    += a[t,n] * e[t,n]
            for n, m:  o.grad[n,m]    += a[t,n] * c[t,n] * h.grad'[t,m]
        """,
    ),
    # The parts over j and i dwarf what is won in the softmax, in whatever order their factors stand.
    "a mixture of experts": (
        """
        f(x[B,I], G[E,I], W[E,J,I]) -> y[B,J]:
            for b, e, i:     s[b,e] += G[e,i] * x[b,i]
            for b, e:        Z[b]   += exp(s[b,e])
            for b, e:        p[b,e] += exp(s[b,e]) / Z[b]
            for b, e, j, i:  y[b,j] += p[b,e] * W[e,j,i] * x[b,i]
        """,
        """
        for b, e, j, i:  p.grad[b,e]   += x[b,i] * y.grad[b,j] * W[e,j,i]
        for b, e, j, i:  W.grad[e,j,i] += x[b,i] * p[b,e] * y.grad[b,j]
        for b, j:        e2[b]         -= y[b,j] * y.grad[b,j]
        for b, e:        s.grad[b,e]   += p[b,e] * (p.grad[b,e] + e2[b])
        for b, e, i:     G.grad[e,i]   += x[b,i] * s.grad[b,e]
        for b, e, i:     x.grad[b,i]   += G[e,i] * s.grad[b,e]
        for b, e, j, i:  x.grad[b,i]   += p[b,e] * y.grad[b,j] * W[e,j,i]
        """,
    ),
    # Read where a table says, and at sums of indices, in the same iterations as before.
    "a sum over what is gathered": (
        """
        f(W[V,D], a[B,D], c[B], k[B], int t[B]) -> y[B]:
            for b, d:  y[b] += W[t[b],d] * a[b,d] * c[b] * k[b]
        """,
        """
        for b, d:  W.grad[t[b],d] += a[b,d] * c[b] * k[b] * y.grad[b]
        for b, d:  a.grad[b,d]    += W[t[b],d] * c[b] * k[b] * y.grad[b]
        for b, d:  e[b]           += W[t[b],d] * a[b,d]
        for b:     c.grad[b]      += k[b] * y.grad[b] * e[b]
        for b:     k.grad[b]      += c[b] * y.grad[b] * e[b]
        """,
    ),
    "a scaled convolution": (
        """
        f(x[B,N], w[C,K], g[C]) -> y[B,C,N-K+1]:
            for b, c, i < N-K+1, k:  y[b,c,i] += g[c] * w[c,k] * x[b,i+k]
        """,
        """
        for b, c, i, k < K:  e2[c,k]        += x[b, i+k] * y.grad[b,c,i]
        for c, k:            g.grad[c]      += w[c,k] * e2[c,k]
        for c, k:            w.grad[c,k]    += g[c] * e2[c,k]
        for b, c, i, k:      e[k,b,i]       += w[c,k] * g[c] * y.grad[b,c,i]
        for b, i, k:         x.grad[b, i+k] += e[k,b,i]
        """,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_simplified_backward_is(name: str) -> None:
    text, expected = GOLDEN[name]
    assert lines(simplified(text)) == textwrap.dedent(expected).strip()


def test_softmax_reads_its_result_only() -> None:
    result = simplified(GOLDEN["softmax"][0])
    assert [i.name for i in result.inputs] == ["p", "p.grad"]


LIBRARY = {
    "log_softmax": """
        for b, j:  L.grad[b]   -= q.grad[b,j]
        for b, j:  s.grad[b,j] += q.grad[b,j] + L.grad[b] * exp(q[b,j])
        """,
    # Not exp(s - L): L is as long as s, and the digits of log(Z) are lost in it.
    "log_sum_exp": "for b, j:  s.grad[b,j] += L.grad[b] / Z[b] * exp(s[b,j] - m[b])",
    "softmax_cross_entropy": """
        for b, j:  s.grad[b,j]        += L.grad[b] / Z[b] * exp(s[b,j] - m[b])
        for b:     s.grad[b,label[b]] -= L.grad[b]
        """,
    "binary_cross_entropy_with_logits": """
        for b, j:  y.grad[b,j] -= s[b,j] * L.grad[b]
        for b, j:  s.grad[b,j] += L.grad[b] * (sigmoid(s[b,j]) - y[b,j])
        """,
    "layer_norm": """
        for b, j:  γ.grad[j]   += y.grad[b,j] * (x[b,j] - μ[b]) / (B * sqrt(v[b] + eps))
        for b, j:  β.grad[j]   += y.grad[b,j] / B
        for b, j:  e[b]        -= γ[j] / J * y.grad[b,j]
        for b, j:  e2[b]       -= γ[j] / J * y.grad[b,j] * (x[b,j] - μ[b])
        for b, j:  x.grad[b,j] += (γ[j] * y.grad[b,j] + e2[b] / (v[b] + eps) * (x[b,j] - μ[b]) + e[b]) / sqrt(v[b] + eps)
        """,
    # The row sum goes over the features of the result: no array over t and u is read for it.
    "attention": """
        for b, h, t, u, e:  p.grad[b,h,t,u] += v[b,h,u,e] * y.grad[b,h,t,e]
        for b, h, t, u, e:  v.grad[b,h,u,e] += p[b,h,t,u] * y.grad[b,h,t,e]
        for b, h, t, e:     e2[b,h,t]       -= y[b,h,t,e] * y.grad[b,h,t,e]
        for b, h, t, u:     s.grad[b,h,t,u] += p[b,h,t,u] * (p.grad[b,h,t,u] + e2[b,h,t])
        for b, h, t, u, d:  q.grad[b,h,t,d] += k[b,h,u,d] * s.grad[b,h,t,u] / sqrt(D)
        for b, h, t, u, d:  k.grad[b,h,u,d] += q[b,h,t,d] * s.grad[b,h,t,u] / sqrt(D)
        """,
    "rms_norm": """
        for b, j:  γ.grad[j]   += x[b,j] * y.grad[b,j] / (B * sqrt(v[b] + eps))
        for b, j:  e[b]        -= y[b,j] * y.grad[b,j] / (J * (v[b] + eps))
        for b, j:  x.grad[b,j] += x[b,j] * e[b] + γ[j] / sqrt(v[b] + eps) * y.grad[b,j]
        """,
    "rnn_cell": """
        for b, j:      h1'.grad[b,j] += h'.grad[b,j] * (1 - h'[b,j]**2)
        for b, j:      c.grad[j]     -= h1'.grad[b,j] / B
        for b, j, k:   Wx.grad[j,k]  += x[b,k] * h1'.grad[b,j] / B
        for b, j, k:   x.grad[b,k]   += Wx[j,k] * h1'.grad[b,j]
        for b, j, j':  Wh.grad[j,j'] += h[b,j'] * h1'.grad[b,j] / B
        for b, j, j':  h.grad[b,j']  += Wh[j,j'] * h1'.grad[b,j]
        """,
    "ugrnn_cell": """
        for b, j:      G1.grad[b,j]   += G[b,j] * h'.grad[b,j] * (h[b,j] - R[b,j]) * (1 - G[b,j])
        for b, j:      BG.grad[j]     -= G1.grad[b,j] / B
        for b, j, k:   WxG.grad[j,k]  += x[b,k] * G1.grad[b,j] / B
        for b, j, j':  WhG.grad[j,j'] += h[b,j'] * G1.grad[b,j] / B
        for b, j:      R1.grad[b,j]   += h'.grad[b,j] * (1 - R[b,j]**2) * (1 - G[b,j])
        for b, j:      BR.grad[j]     -= R1.grad[b,j] / B
        for b, j, k:   WxR.grad[j,k]  += x[b,k] * R1.grad[b,j] / B
        for b, j, k:   x.grad[b,k]    += WxR[j,k] * R1.grad[b,j] + WxG[j,k] * G1.grad[b,j]
        for b, j, j':  WhR.grad[j,j'] += h[b,j'] * R1.grad[b,j] / B
        for b, j:      h.grad[b,j]    += G[b,j] * h'.grad[b,j]
        for b, j, j':  h.grad[b,j]    += WhR[j',j] * R1.grad[b,j'] + WhG[j',j] * G1.grad[b,j']
        """,
}


@pytest.mark.parametrize("name", LIBRARY)
def test_the_simplified_backward_of_the_library_is(name: str) -> None:
    forward = getattr(lg.lib, name)
    result = forward.backward().simplify()
    assert certify(forward.backward(), result, forward).kind == "agree"
    assert lines(result) == textwrap.dedent(LIBRARY[name]).strip()


def test_the_derivation_of_softmax_answers_problem_2() -> None:
    result = simplified(GOLDEN["softmax"][0])
    assert str(result.derivation) == textwrap.dedent("""\
        s.grad[b,j] = p.grad[b,j] * exp(s[b,j]) / Z[b] + Z.grad[b] * exp(s[b,j])
                        (put in Z.grad)
                    = p.grad[b,j] * exp(s[b,j]) / Z[b] - exp(s[b,j]) * sum[j'](p.grad[b,j'] * exp(s[b,j'])) / Z[b]**2
                        (exp(s[b,j]) = Z[b] * p[b,j], by the definition of p)
                    = p[b,j] * p.grad[b,j] - p[b,j] * sum[j'](p[b,j'] * p.grad[b,j'])
                        (name e; factor)
                    = p[b,j] * (p.grad[b,j] + e[b])
            for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
            for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])""")
