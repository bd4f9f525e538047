"""What is made of products: folded into what they were stored as, summed in a good order, computed once."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.searching.cost import cost

BACKWARD = {
    # exp carries a factor that may be 0: it is not solved for, but the whole product is read as q.
    "a mixture's likelihood": (
        """
        gmm(x[N,D], mu[K,D], v[K], w[K]) -> L:
            for n, k, d:  d2[n,k] += (x[n,d] - mu[k,d])**2
            for n, k:     q[n,k] = w[k] * exp(-d2[n,k] / (2 * v[k]))
            for n, k:     z[n] += q[n,k]
            for n:        L += log(z[n])
        """,
        """
        for n:        z.grad[n]    += L.grad / z[n]
        for n, k:     w.grad[k]    += z.grad[n] * exp(-(d2[n,k] / (2 * v[k])))
        for n, k:     v.grad[k]    += z.grad[n] / (2 * v[k]**2) * d2[n,k] * q[n,k]
        for n, k, d:  x.grad[n,d]  -= q[n,k] * z.grad[n] / v[k] * (x[n,d] - mu[k,d])
        for n, k, d:  mu.grad[k,d] += q[n,k] * z.grad[n] / v[k] * (x[n,d] - mu[k,d])
        """,
    ),
    # (xx yy)**-1.5 yy = (xx yy)**-0.5 / xx; and the cosine itself is read.
    "a cosine": (
        """
        cosine(x[N], y[N]) -> c:
            for n:  xy += x[n] * y[n]
            for n:  xx += x[n]**2
            for n:  yy += y[n]**2
            c = xy / sqrt(xx * yy)
        """,
        """
        e  -= c * c.grad / xx
        e2 -= c * c.grad / yy
        for n:  x.grad[n] += e * x[n] + c.grad / sqrt(xx * yy) * y[n]
        for n:  y.grad[n] += e2 * y[n] + c.grad / sqrt(xx * yy) * x[n]
        """,
    ),
    # x sigmoid(x) within x sigmoid(x)**2; not sigmoid(x) * (1 - y) + y, which cancels where y is large.
    "swish": (
        """
        swish(x[N]) -> y[N]:
            y[n] = x[n] * sigmoid(x[n])
        """,
        """
        for n:  e[n]      += sigmoid(x[n])
        for n:  x.grad[n] += y.grad[n] * (y[n] * (1 - e[n]) + e[n])
        """,
    ),
    "swish, its sigmoid written out": (
        """
        swish(x[N]) -> y[N]:
            y[n] = x[n] / (1 + exp(-x[n]))
        """,
        """
        for n:  e[n]      += 1 / (1 + exp(-x[n]))
        for n:  x.grad[n] += y.grad[n] * (y[n] * (1 - e[n]) + e[n])
        """,
    ),
    "gelu, by tanh, which is called once": (
        """
        gelu(x[N]) -> y[N]:
            y[n] = x[n] / 2 * (1 + tanh(0.8 * (x[n] + 0.044715 * x[n]**3)))
        """,
        """
        for n:  e[n]      += tanh(x[n] * (0.8 + 0.035772 * x[n]**2))
        for n:  x.grad[n] += y.grad[n] * (1 / 2 + x[n] * (0.4 + 0.053658 * x[n]**2) * (1 - e[n])) * (1 + e[n])
        """,
    ),
    # sum p log(p / m) = 2 L - sum q log(q / m), and p + q = 2 m.
    "the Jensen-Shannon divergence": (
        """
        js(s[B,J], t[B,J]) -> L[B]:
            for b, j:  Zs[b] += exp(s[b,j])
            for b, j:  Zt[b] += exp(t[b,j])
            for b, j:  p[b,j] = exp(s[b,j]) / Zs[b]
            for b, j:  q[b,j] = exp(t[b,j]) / Zt[b]
            for b, j:  m[b,j] = (p[b,j] + q[b,j]) / 2
            for b, j:  L[b] += p[b,j] * log(p[b,j] / m[b,j]) / 2
            for b, j:  L[b] += q[b,j] * log(q[b,j] / m[b,j]) / 2
        """,
        """
        for b, j:  e2[b,j]     += log(q[b,j] / m[b,j])
        for b, j:  e[b]        -= q[b,j] * e2[b,j] / 2
        for b, j:  t.grad[b,j] += L.grad[b] / 2 * q[b,j] * (e2[b,j] + 2 * e[b])
        for b, j:  s.grad[b,j] += L.grad[b] / 2 * p[b,j] * (log(p[b,j] / m[b,j]) - 2 * L[b] - 2 * e[b])
        """,
    ),
    "the divergence of two softmaxes, which is read": (
        """
        kl(s[B,J], t[B,J]) -> L[B]:
            p[b,j] = softmax[j](s[b,j])
            q[b,j] = softmax[j](t[b,j])
            L[b] = sum[j](p[b,j] * (log(p[b,j]) - log(q[b,j])))
        """,
        """
        for b, j:  t.grad[b,j] += L.grad[b] * (q[b,j] - p[b,j])
        for b, j:  s.grad[b,j] += p[b,j] * L.grad[b] * (log(p[b,j]) - log(q[b,j]) - L[b])
        """,
    ),
    # (B - B p)**-1 = B**-1 (1 - p)**-1, which cancels against the sigmoid's p (1 - p).
    "binary cross entropy, written out": (
        """
        bce(s[B], y[B]) -> L:
            p[b] = sigmoid(s[b])
            for b:  L -= (y[b] * log(p[b]) + (1 - y[b]) * log(1 - p[b])) / B
        """,
        """
        for b:  y.grad[b] += L.grad / B * (log(1 - p[b]) - log(p[b]))
        for b:  s.grad[b] += L.grad / B * (p[b] - y[b])
        """,
    ),
    "a triplet's loss, where the anchor cancels": (
        """
        triplet(a[B,D], p[B,D], n[B,D], margin=1.0) -> L[B]:
            for b, d:  dp[b] += (a[b,d] - p[b,d])**2
            for b, d:  dn[b] += (a[b,d] - n[b,d])**2
            for b:     L[b] = relu(dp[b] - dn[b] + margin)
        """,
        """
        for b, d:  n.grad[b,d] += 2 * L.grad[b] * (a[b,d] - n[b,d])   if dp[b] - dn[b] + margin > 0
        for b, d:  a.grad[b,d] += 2 * L.grad[b] * (n[b,d] - p[b,d])   if dp[b] - dn[b] + margin > 0
        for b, d:  p.grad[b,d] -= 2 * L.grad[b] * (a[b,d] - p[b,d])   if dp[b] - dn[b] + margin > 0
        """,
    ),
    # sqrt(s**2) = s, which is a root.
    "a standard deviation": (
        """
        std(x[B,J]) -> s[J]:
            m[j] = mean[b](x[b,j])
            s[j] = sqrt(sum[b]((x[b,j] - m[j])**2) / (B - 1))
        """,
        """
        for j, b:  x.grad[b,j] += s.grad[j] / ((B - 1) * s[j]) * (x[b,j] - m[j])
        """,
    ),
    "a product of three matrices": (
        """
        chain(A[I,J], B[J,K], C[K,L]) -> D[I,L]:
            for i, j, k, l:  D[i,l] += A[i,j] * B[j,k] * C[k,l]
        """,
        """
        for j, k, l:  e[j,l]      += B[j,k] * C[k,l]
        for i, j, l:  A.grad[i,j] += D.grad[i,l] * e[j,l]
        for i, j, l:  e2[j,l]     += A[i,j] * D.grad[i,l]
        for j, k, l:  B.grad[j,k] += C[k,l] * e2[j,l]
        for i, j, k:  e3[i,k]     += A[i,j] * B[j,k]
        for i, k, l:  C.grad[k,l] += D.grad[i,l] * e3[i,k]
        """,
    ),
}

FORWARD = {
    "softmax: each exponential once": (
        """
        softmax(s[B,J]) -> p[B,J]:
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
        """,
        """
        for b, j:  e[b,j] += exp(s[b,j])
        for b, j:  Z[b]   += e[b,j]
        for b, j:  p[b,j] += e[b,j] / Z[b]
        """,
    ),
    "a separable convolution": (
        """
        separable(x[B,C,I], d[C,K], p[O,C]) -> y[B,O,I-K+1]:
            for b, o, i < I-K+1, c, k:  y[b,o,i] += x[b,c,i+k] * d[c,k] * p[o,c]
        """,
        """
        for b, i <= I-K, c, k:  e[b,c,i] += x[b, c, i+k] * d[c,k]
        for b, o, i, c:         y[b,o,i] += p[o,c] * e[b,c,i]
        """,
    ),
    "what is computed anyway is read": (
        """
        twice(x[N], c[N]) -> y[N], z[N]:
            y[n] = tanh(2 * x[n])
            z[n] = c[n] * tanh(2 * x[n])
        """,
        """
        for n:  y[n] = tanh(2 * x[n])
        for n:  z[n] = c[n] * y[n]
        """,
    ),
}

# These are as good as it gets.
LEFT = {
    "a bilinear form": """
        quad(x[B,J], W[J,K], y[B,K]) -> q[B]:
            for b, j, k:  q[b] += x[b,j] * W[j,k] * y[b,k]
        """,
    "a guarded function": """
        logs(x[N]) -> y[N], z[N]:
            for n:  y[n] += log(x[n])   if x[n] > 0
            for n:  z[n] += 2 * log(x[n])   if x[n] > 1
        """,
}


def body(program: lg.Program) -> str:
    """The statements, without the header."""
    return textwrap.dedent(str(program).partition(":\n")[2])


@pytest.mark.parametrize("name", BACKWARD)
def test_of_a_backward(name: str) -> None:
    text, expected = BACKWARD[name]
    forward = lg.program(textwrap.dedent(text))
    literal = forward.backward()
    result = literal.simplify()
    assert body(result) == textwrap.dedent(expected).strip()
    assert certify(literal, result, forward, trials=6).kind == "agree"
    assert cost(result).value < cost(literal).value


@pytest.mark.parametrize("name", FORWARD)
def test_of_a_forward(name: str) -> None:
    text, expected = FORWARD[name]
    program = lg.program(textwrap.dedent(text))
    result = program.simplify()
    assert body(result) == textwrap.dedent(expected).strip()
    assert certify(program, result, trials=6).kind == "agree"
    assert cost(result).value < cost(program).value


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_as_it_is(name: str) -> None:
    program = lg.program(textwrap.dedent(LEFT[name]))
    assert program.simplify() == program
