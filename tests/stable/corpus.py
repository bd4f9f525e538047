"""Programs as people write them, of which real arithmetic allows a form that neither overflows nor cancels.

`text` is the naive one. `exact` is a program of the same results whose loops, in decimals of 50 digits,
lose nothing at any input that is drawn: mostly the text itself; where it forms `1 + exp(a)`, one that
does not. Inputs called s, r, x, q, k, v are logits or data and are varied; P is a distribution, t is in
0 .. 1, y a class, m a mask; w is in 0 .. 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import loopgrad as lg
from loopgrad.ir.nodes import Program


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    exact: str | None = None
    wrt: tuple[str, ...] | None = None
    # Derivatives that are small beside what they are sums of, where inputs are mixed: these are compared with
    # the written loops, and not held to 1e-6.
    cancels: tuple[str, ...] = ()

    @cached_property
    def program(self) -> Program:
        return lg.program(self.text)

    @cached_property
    def reference(self) -> Program:
        return lg.program(self.exact or self.text)


def loops(header: str, *lines: str) -> str:
    return "\n".join([f"{header}:", *(f"    {line}" for line in lines)])


Z = "for b, j:  Z[b] += exp(s[b,j])"
E = "for b, j:  E[b,j] = exp(s[b,j])"
P = "for b, j:  p[b,j] = exp(s[b,j]) / Z[b]"
R = "for b, j:  Y[b] += exp(r[b,j])"
Q = "for b, j:  q[b,j] = exp(r[b,j]) / Y[b]"
MAX = "for b, j:  m[b] max= s[b,j]"
ZM = "for b, j:  Z[b] += exp(s[b,j] - m[b])"

SOFTMAX = [
    Case("softmax", loops("f(s[B,J]) -> p[B,J]", Z, P)),
    Case(
        "softmax, exponentials stored",
        loops(
            "f(s[B,J]) -> p[B,J]",
            E,
            "for b, j:  Z[b] += E[b,j]",
            "for b, j:  p[b,j] = E[b,j] / Z[b]",
        ),
    ),
    Case(
        "softmax, inverse stored",
        loops(
            "f(s[B,J]) -> p[B,J]",
            Z,
            "for b:  R[b] = 1 / Z[b]",
            "for b, j:  p[b,j] = exp(s[b,j]) * R[b]",
        ),
    ),
    Case(
        "softmax, maximum taken off",
        loops("f(s[B,J]) -> p[B,J]", MAX, ZM, "for b, j:  p[b,j] = exp(s[b,j] - m[b]) / Z[b]"),
    ),
    Case(
        "softmax, of a vector",
        loops("f(s[J]) -> p[J]", "for j:  Z += exp(s[j])", "for j:  p[j] = exp(s[j]) / Z"),
    ),
    Case("softmax, by equation", loops("f(s[B,J]) -> p[B,J]", "p[b,j] = softmax[j](s[b,j])")),
    Case(
        "softmax, through its log",
        loops(
            "f(s[B,J]) -> p[B,J]",
            Z,
            "for b:  L[b] = log(Z[b])",
            "for b, j:  p[b,j] = exp(s[b,j] - L[b])",
        ),
    ),
    Case(
        "softmax with temperature",
        loops(
            "f(s[B,J], tau = 0.5) -> p[B,J]",
            "for b, j:  Z[b] += exp(s[b,j] / tau)",
            "for b, j:  p[b,j] = exp(s[b,j] / tau) / Z[b]",
        ),
    ),
    Case(
        "softmax, scores in a temporary",
        loops(
            "f(s[B,J], w[J]) -> p[B,J]",
            "for b, j:  a[b,j] = s[b,j] + w[j]",
            "for b, j:  Z[b] += exp(a[b,j])",
            "for b, j:  p[b,j] = exp(a[b,j]) / Z[b]",
        ),
    ),
    Case(
        "softmax, biased",
        loops(
            "f(s[B,J], w[J]) -> p[B,J]",
            "for b, j:  Z[b] += exp(s[b,j] + w[j])",
            "for b, j:  p[b,j] = exp(s[b,j] + w[j]) / Z[b]",
        ),
    ),
    Case("softmax and its sum", loops("f(s[B,J]) -> p[B,J], Z[B]", Z, P)),
    Case(
        "softmax over time",
        loops(
            "f(s[T,B,J]) -> p[T,B,J]",
            "for t:",
            "    for b, j:  Z[t,b] += exp(s[t,b,j])",
            "    for b, j:  p[t,b,j] = exp(s[t,b,j]) / Z[t,b]",
        ),
    ),
    Case(
        "softmax, of what came before",
        loops(
            "f(s[T,J]) -> p[T,J]",
            "for t:",
            "    for j:  a[t,j] = s[t,j] + (p[t-1,j] if t > 0 else 0)",
            "    for j:  Z[t] += exp(a[t,j])",
            "    for j:  p[t,j] = exp(a[t,j]) / Z[t]",
        ),
        cancels=("gradient", "tangent"),
    ),
    Case(
        "softmax, masked",
        loops(
            "f(s[B,J], bool m[B,J]) -> p[B,J]",
            "for b, j:  Z[b] += exp(s[b,j])   if m[b,j]",
            "for b, j:  p[b,j] = exp(s[b,j]) / Z[b] if m[b,j] else 0",
        ),
    ),
    Case(
        "attention row",
        loops(
            "f(s[U], v[U,E]) -> o[E]",
            "for u:  Z += exp(s[u])",
            "for u, e:  o[e] += exp(s[u]) / Z * v[u,e]",
        ),
    ),
    Case(
        "attention, divided at last",
        loops(
            "f(s[T,U], v[U,E]) -> o[T,E]",
            "for t, u:  Z[t] += exp(s[t,u])",
            "for t, u, e:  n[t,e] += exp(s[t,u]) * v[u,e]",
            "for t, e:  o[t,e] = n[t,e] / Z[t]",
        ),
    ),
    Case(
        "causal attention",
        loops(
            "f(s[T,T], v[T,E]) -> o[T,E]",
            "for t, u <= t:  Z[t] += exp(s[t,u])",
            "for t, u <= t, e:  o[t,e] += exp(s[t,u]) / Z[t] * v[u,e]",
        ),
        cancels=("gradient", "tangent"),
    ),
]

LOGS = [
    Case("logsumexp", loops("f(s[B,J]) -> L[B]", Z, "for b:  L[b] = log(Z[b])")),
    Case("logsumexp, by equation", loops("f(s[B,J]) -> L[B]", "L[b] = logsumexp[j](s[b,j])")),
    Case("log-softmax", loops("f(s[B,J]) -> q[B,J]", Z, "for b, j:  q[b,j] = s[b,j] - log(Z[b])")),
    Case("log of softmax", loops("f(s[B,J]) -> q[B,J]", Z, P, "for b, j:  q[b,j] = log(p[b,j])")),
    Case(
        "log-softmax, L stored",
        loops(
            "f(s[B,J]) -> q[B,J]",
            Z,
            "for b:  L[b] = log(Z[b])",
            "for b, j:  q[b,j] = s[b,j] - L[b]",
        ),
    ),
    Case(
        "log-softmax, maximum taken off",
        loops(
            "f(s[B,J]) -> q[B,J]",
            MAX,
            ZM,
            "for b:  L[b] = m[b] + log(Z[b])",
            "for b, j:  q[b,j] = s[b,j] - L[b]",
        ),
    ),
    Case(
        "log-softmax, in two updates",
        loops(
            "f(s[B,J]) -> q[B,J]",
            Z,
            "for b, j:  q[b,j] += s[b,j]",
            "for b, j:  q[b,j] -= log(Z[b])",
        ),
    ),
    Case(
        "cross entropy, log of p",
        loops("f(s[B,J], int y[B]) -> L[B]", Z, P, "for b:  L[b] = -log(p[b,y[b]])"),
    ),
    Case(
        "cross entropy, one expression",
        loops("f(s[B,J], int y[B]) -> L[B]", Z, "for b:  L[b] = log(Z[b]) - s[b,y[b]]"),
    ),
    Case(
        "cross entropy, two updates",
        loops(
            "f(s[B,J], int y[B]) -> L[B]",
            Z,
            "for b:  L[b] += log(Z[b])",
            "for b:  L[b] -= s[b,y[b]]",
        ),
    ),
    Case(
        "cross entropy, maximum taken off",
        loops(
            "f(s[B,J], int y[B]) -> L[B]",
            MAX,
            ZM,
            "for b:  L[b] += log(Z[b]) + m[b]",
            "for b:  L[b] -= s[b,y[b]]",
        ),
    ),
    Case(
        "cross entropy, summed",
        loops("f(s[B,J], int y[B]) -> L", Z, "for b:  L -= log(exp(s[b,y[b]]) / Z[b]) / B"),
    ),
    Case(
        "cross entropy, by equation",
        loops("f(s[B,J], int y[B]) -> L[B]", "L[b] = logsumexp[j](s[b,j]) - s[b,y[b]]"),
    ),
    Case(
        "cross entropy with a distribution",
        loops("f(s[B,J], P[B,J]) -> L[B]", Z, P, "for b, j:  L[b] -= P[b,j] * log(p[b,j])"),
    ),
    Case(
        "cross entropy with a distribution, one expression",
        loops("f(s[B,J], P[B,J]) -> L[B]", Z, "for b, j:  L[b] -= P[b,j] * (s[b,j] - log(Z[b]))"),
    ),
    Case(
        "cross entropy, labels smoothed",
        loops(
            "f(s[B,J], int y[B], eps = 0.1) -> L[B]",
            Z,
            P,
            "for b, j:  L[b] -= ((1 - eps) * (1 if j == y[b] else 0) + eps / J) * log(p[b,j])",
        ),
    ),
    Case(
        "cross entropy with temperature",
        loops(
            "f(s[B,J], int y[B], tau = 2.0) -> L[B]",
            "for b, j:  Z[b] += exp(s[b,j] / tau)",
            "for b:  L[b] = log(Z[b]) - s[b,y[b]] / tau",
        ),
    ),
    Case("entropy", loops("f(s[B,J]) -> H[B]", Z, P, "for b, j:  H[b] -= p[b,j] * log(p[b,j])")),
    Case(
        "entropy, guarded",
        loops("f(s[B,J]) -> H[B]", Z, P, "for b, j:  H[b] -= p[b,j] * log(p[b,j])   if p[b,j] > 0"),
    ),
    Case(
        "KL divergence",
        loops(
            "f(s[B,J], r[B,J]) -> D[B]",
            Z,
            P,
            R,
            Q,
            "for b, j:  D[b] += p[b,j] * log(p[b,j] / q[b,j])",
        ),
        cancels=("tangent",),
    ),
    Case(
        "cross entropy with a distribution, of all rows",
        loops(
            "f(s[B,J], y[B,J]) -> L",
            Z,
            "for b, j:  L -= y[b,j] * log(exp(s[b,j]) / Z[b]) / B",
        ),
    ),
    Case(
        "KL divergence, of all rows",
        loops(
            "f(s[B,J], r[B,J]) -> D",
            Z,
            P,
            R,
            Q,
            "for b, j:  D += p[b,j] * log(p[b,j] / q[b,j])",
        ),
        cancels=("tangent",),
    ),
    Case(
        "KL divergence, difference of logs",
        loops(
            "f(s[B,J], r[B,J]) -> D[B]",
            Z,
            P,
            R,
            Q,
            "for b, j:  D[b] += p[b,j] * (log(p[b,j]) - log(q[b,j]))",
        ),
        cancels=("tangent",),
    ),
    Case(
        "KL divergence, in two updates",
        loops(
            "f(s[B,J], r[B,J]) -> D[B]",
            Z,
            P,
            R,
            Q,
            "for b, j:  D[b] += p[b,j] * log(p[b,j])",
            "for b, j:  D[b] -= p[b,j] * log(q[b,j])",
        ),
        cancels=("tangent",),
    ),
    Case(
        "KL divergence from a distribution",
        loops(
            "f(P[B,J], r[B,J]) -> D[B]", R, Q, "for b, j:  D[b] += P[b,j] * log(P[b,j] / q[b,j])"
        ),
        wrt=("r",),
    ),
    Case(
        "perplexity",
        loops(
            "f(s[B,J], int y[B]) -> L",
            Z,
            "for b:  l -= log(exp(s[b,y[b]]) / Z[b]) / B",
            "L = exp(l)",
        ),
        wrt=(),
    ),
]

SIGMOIDS = [
    Case("sigmoid", loops("f(x[N]) -> y[N]", "for n:  y[n] = sigmoid(x[n])")),
    Case(
        "sigmoid spelled",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = 1 / (1 + exp(-x[n]))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = sigmoid(x[n])"),
    ),
    Case(
        "sigmoid spelled the other way",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = exp(x[n]) / (exp(x[n]) + 1)"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = sigmoid(x[n])"),
    ),
    Case(
        "sigmoid spelled in steps",
        loops(
            "f(x[N]) -> y[N]",
            "for n:  e[n] = exp(-x[n])",
            "for n:  d[n] = 1 + e[n]",
            "for n:  y[n] = 1 / d[n]",
        ),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = sigmoid(x[n])"),
    ),
    Case(
        "swish spelled",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = x[n] / (1 + exp(-x[n]))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = x[n] * sigmoid(x[n])"),
    ),
    Case(
        "tanh spelled",
        loops(
            "f(x[N]) -> y[N]", "for n:  y[n] = (exp(x[n]) - exp(-x[n])) / (exp(x[n]) + exp(-x[n]))"
        ),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = tanh(x[n])"),
    ),
    Case("softplus", loops("f(x[N]) -> y[N]", "for n:  y[n] = softplus(x[n])")),
    Case(
        "log(1 + exp)",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = log(1 + exp(x[n]))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = softplus(x[n])"),
    ),
    Case(
        "log1p(exp)",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = log1p(exp(x[n]))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = softplus(x[n])"),
    ),
    Case(
        "log(sigmoid)",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = log(sigmoid(x[n]))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = -softplus(-x[n])"),
    ),
    Case(
        "log(1 - sigmoid)",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = log(1 - sigmoid(x[n]))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = -softplus(x[n])"),
    ),
    Case(
        "log of sigmoid spelled",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = log(1 / (1 + exp(-x[n])))"),
        loops("f(x[N]) -> y[N]", "for n:  y[n] = -softplus(-x[n])"),
    ),
    Case(
        "log of two exponentials",
        loops("f(x[N], s[N]) -> y[N]", "for n:  y[n] = log(exp(x[n]) + exp(s[n]))"),
        loops("f(x[N], s[N]) -> y[N]", "for n:  y[n] = s[n] + softplus(x[n] - s[n])"),
    ),
    Case(
        "BCE with logits",
        loops("f(x[N], t[N]) -> L", "for n:  L += softplus(x[n]) - t[n] * x[n]"),
        loops(
            "f(x[N], t[N]) -> L",
            "for n:  L += t[n] * softplus(-x[n]) + (1 - t[n]) * softplus(x[n])",
        ),
    ),
    Case(
        "BCE with logits, log(1 + exp)",
        loops("f(x[N], t[N]) -> L", "for n:  L += log(1 + exp(x[n])) - t[n] * x[n]"),
        loops(
            "f(x[N], t[N]) -> L",
            "for n:  L += t[n] * softplus(-x[n]) + (1 - t[n]) * softplus(x[n])",
        ),
    ),
    Case(
        "BCE of a sigmoid",
        loops(
            "f(x[N], t[N]) -> L[N]",
            "for n:  p[n] = sigmoid(x[n])",
            "for n:  L[n] -= t[n] * log(p[n]) + (1 - t[n]) * log(1 - p[n])",
        ),
        loops(
            "f(x[N], t[N]) -> L[N]",
            "for n:  L[n] += t[n] * softplus(-x[n]) + (1 - t[n]) * softplus(x[n])",
        ),
    ),
    Case(
        "BCE of a sigmoid spelled",
        loops(
            "f(x[N], t[N]) -> L",
            "for n:  p[n] = 1 / (1 + exp(-x[n]))",
            "for n:  L -= t[n] * log(p[n])",
            "for n:  L -= (1 - t[n]) * log(1 - p[n])",
        ),
        loops(
            "f(x[N], t[N]) -> L",
            "for n:  L += t[n] * softplus(-x[n])",
            "for n:  L += (1 - t[n]) * softplus(x[n])",
        ),
    ),
]

MOMENTS = [
    Case(
        "variance",
        loops(
            "f(x[B,J]) -> v[J]",
            "for b, j:  μ[j] += x[b,j] / B",
            "for b, j:  v[j] += (x[b,j] - μ[j])**2 / B",
        ),
    ),
    Case(
        "variance, one pass",
        loops(
            "f(x[B,J]) -> v[J]",
            "for b, j:  μ[j] += x[b,j] / B",
            "for b, j:  q[j] += x[b,j]**2 / B",
            "for j:  v[j] = q[j] - μ[j]**2",
        ),
    ),
    Case(
        "variance, one pass in two updates",
        loops(
            "f(x[B,J]) -> v[J]",
            "for b, j:  μ[j] += x[b,j] / B",
            "for b, j:  v[j] += x[b,j]**2 / B",
            "for j:  v[j] -= μ[j]**2",
        ),
    ),
    Case(
        "variance of a vector",
        loops("f(x[N]) -> v", "for n:  μ += x[n] / N", "for n:  v += x[n]**2 / N", "v -= μ**2"),
    ),
    Case(
        "standard deviation, of sums",
        loops(
            "f(x[B,J]) -> d[J]",
            "for b, j:  S[j] += x[b,j]",
            "for b, j:  Q[j] += x[b,j] * x[b,j]",
            "for j:  d[j] = sqrt((Q[j] - S[j]**2 / B) / (B - 1))",
        ),
    ),
    Case(
        "covariance, one pass",
        loops(
            "f(x[B,J]) -> C[J,J]",
            "for b, j:  μ[j] += x[b,j] / B",
            "for b, j, k < J:  C[j,k] += x[b,j] * x[b,k] / B",
            "for j, k < J:  C[j,k] -= μ[j] * μ[k]",
        ),
    ),
    Case(
        "norm",
        loops("f(x[B,J]) -> n[B]", "for b, j:  q[b] += x[b,j]**2", "for b:  n[b] = sqrt(q[b])"),
    ),
    Case(
        "normalised",
        loops(
            "f(x[B,J]) -> y[B,J]",
            "for b, j:  q[b] += x[b,j]**2",
            "for b, j:  y[b,j] = x[b,j] / sqrt(q[b])",
        ),
    ),
    Case(
        "batch norm",
        loops(
            "f(x[B,J]) -> y[B,J]",
            "for b, j:  μ[j] += x[b,j] / B",
            "for b, j:  v[j] += (x[b,j] - μ[j])**2 / B",
            "for b, j:  y[b,j] = (x[b,j] - μ[j]) / sqrt(v[j] + 1e-5)",
        ),
    ),
    Case(
        "batch norm, one pass",
        loops(
            "f(x[B,J]) -> y[B,J]",
            "for b, j:  μ[j] += x[b,j] / B",
            "for b, j:  q[j] += x[b,j]**2 / B",
            "for b, j:  y[b,j] = (x[b,j] - μ[j]) / sqrt(q[j] - μ[j]**2 + 1e-5)",
        ),
    ),
    Case(
        "layer norm",
        loops(
            "f(x[B,J], param w[J], eps = 1e-5) -> y[B,J]",
            "for b, j:  μ[b] += x[b,j] / J",
            "for b, j:  v[b] += (x[b,j] - μ[b])**2 / J",
            "for b, j:  y[b,j] = w[j] * (x[b,j] - μ[b]) * rsqrt(v[b] + eps)",
        ),
    ),
    Case(
        "group norm",
        loops(
            "f(x[B,C,N], param w[C], size G, eps = 1e-5) -> y[B,C,N]",
            "local μ[B,G], v[B,G]",
            "for b, c, n:  μ[b, c*G//C] += x[b,c,n] * G / (C * N)",
            "for b, c, n:  v[b, c*G//C] += (x[b,c,n] - μ[b, c*G//C])**2 * G / (C * N)",
            "for b, c, n:  y[b,c,n] = w[c] * (x[b,c,n] - μ[b, c*G//C]) * rsqrt(v[b, c*G//C] + eps)",
        ),
    ),
    Case(
        "group norm, groups of S",
        loops(
            "f(x[B,C,N], size S) -> y[B,C,N]",
            "local μ[B,(C+S-1)//S], v[B,(C+S-1)//S]",
            "for b, c, n:  μ[b, c//S] += x[b,c,n] / (S * N)",
            "for b, c, n:  v[b, c//S] += (x[b,c,n] - μ[b, c//S])**2 / (S * N)",
            "for b, c, n:  y[b,c,n] = (x[b,c,n] - μ[b, c//S]) / sqrt(v[b, c//S] + 1e-5)",
        ),
    ),
    Case(
        "group norm, groups as rows",
        loops(
            "f(x[B,G*K], size G, size K) -> y[B,G*K]",
            "local μ[B,G], v[B,G]",
            "for b, g, k < K:  μ[b,g] += x[b,g*K+k] / K",
            "for b, g, k < K:  v[b,g] += (x[b,g*K+k] - μ[b,g])**2 / K",
            "for b, g, k < K:  y[b,g*K+k] = (x[b,g*K+k] - μ[b,g]) / sqrt(v[b,g] + 1e-5)",
        ),
    ),
    Case(
        "RMS norm",
        loops(
            "f(x[B,J], param w[J], eps = 1e-5) -> y[B,J]",
            "for b, j:  v[b] += x[b,j]**2 / J",
            "for b, j:  y[b,j] = w[j] * x[b,j] * rsqrt(v[b] + eps)",
        ),
    ),
]

LEARNT = [
    Case(
        "softmax with a temperature that is learnt",
        loops(
            "f(s[B,J], w) -> p[B,J]",
            "for b, j:  Z[b] += exp(s[b,j] / w)",
            "for b, j:  p[b,j] = exp(s[b,j] / w) / Z[b]",
        ),
    ),
    Case(
        "softmax with a temperature for each row",
        loops(
            "f(s[B,J], w[B]) -> p[B,J]",
            "for b, j:  a[b,j] = s[b,j] / w[b]",
            "for b, j:  Z[b] += exp(a[b,j])",
            "for b, j:  p[b,j] = exp(a[b,j]) / Z[b]",
        ),
        cancels=("gradient",),
    ),
    Case(
        "softmax with an inverse temperature that is learnt",
        loops(
            "f(s[B,J], w) -> p[B,J]",
            "for b, j:  Z[b] += exp(s[b,j] * w)",
            "for b, j:  p[b,j] = exp(s[b,j] * w) / Z[b]",
        ),
    ),
    Case(
        "logsumexp with a temperature that is learnt",
        loops(
            "f(s[B,J], w) -> L[B]",
            "for b, j:  Z[b] += exp(s[b,j] / w)",
            "for b:  L[b] = w * log(Z[b])",
        ),
    ),
    Case(
        "cross entropy with a temperature that is learnt",
        loops(
            "f(s[B,J], w, int y[B]) -> L[B]",
            "for b, j:  Z[b] += exp(s[b,j] / w)",
            "for b:  L[b] = log(Z[b]) - s[b,y[b]] / w",
        ),
    ),
    Case(
        "log-partition of a chain",
        loops(
            "f(s[T,J], r[J,J]) -> L",
            "for t:",
            "    for j:  a[t,j] = s[t,j]   if t == 0",
            "    for j, i:  Z[t,j] += exp(a[t-1,i] + r[i,j])   if t > 0",
            "    for j:  a[t,j] += log(Z[t,j]) + s[t,j]   if t > 0",
            "for j:  Y += exp(a[T-1,j])   if T > 0",
            "L = log(Y)",
        ),
    ),
]

FURTHER = [
    Case(
        "mixture of two",
        loops(
            "f(x[N], w) -> L",
            "for n:  L -= log(w * exp(-(x[n] - 1)**2) + (1 - w) * exp(-(x[n] + 1)**2))",
        ),
    ),
    Case(
        "mixture of Gaussians",
        loops(
            "f(x[N], s[K], r[K]) -> L",
            "for n, k:  Z[n] += exp(s[k] - (x[n] - r[k])**2 / 2)",
            "for n:  L -= log(Z[n])",
        ),
    ),
    Case(
        "focal loss",
        loops(
            "f(s[B,J], int y[B]) -> L[B]",
            Z,
            P,
            "for b:  L[b] = -(1 - p[b,y[b]])**2 * log(p[b,y[b]])",
        ),
    ),
    Case(
        "contrastive loss",
        loops(
            "f(s[B,B]) -> L",
            "for b, c:  Z[b] += exp(s[b,c])",
            "for b:  L -= log(exp(s[b,b]) / Z[b]) / B",
        ),
    ),
    Case(
        "policy ratio",
        loops(
            "f(s[B,J], r[B,J], int y[B]) -> ρ[B]",
            Z,
            P,
            R,
            Q,
            "for b:  ρ[b] = p[b,y[b]] / q[b,y[b]]",
        ),
    ),
    Case("hinge of exponentials", loops("f(x[N]) -> y[N]", "for n:  y[n] = exp(-relu(x[n]))")),
]

NEAR_ONE = [
    Case("exp less 1", loops("f(x[N]) -> y[N]", "for n:  y[n] = exp(x[n]) - 1")),
    Case("1 less exp", loops("f(x[N]) -> y[N]", "for n:  y[n] = 1 - exp(-x[n]**2)")),
    Case(
        "ELU",
        loops("f(x[N]) -> y[N]", "for n:  y[n] = x[n] if x[n] > 0 else 0.5 * (exp(x[n]) - 1)"),
    ),
    Case(
        "Cauchy loss",
        loops("f(x[N], t[N]) -> L", "for n:  L += t[n] * log(1 + x[n]**2)"),
    ),
    Case(
        "log of 1 and a sum",
        loops(
            "f(x[B,J]) -> y[B]",
            "for b, j:  q[b] += x[b,j]**2",
            "for b:  y[b] = log(1 + q[b] / J)",
        ),
    ),
]

CASES = [*SOFTMAX, *LOGS, *SIGMOIDS, *MOMENTS, *LEARNT, *FURTHER, *NEAR_ONE]
