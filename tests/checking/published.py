"""Wrong backwards that were really published, as programs of the notation: each with its forward, the
gradients or results at fault, a line with a fault, and the kinds that name it.

What is known of each is what its issue or pull request says; the rest of the program is ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    forward: str
    claimed: str
    lines: tuple[int, ...]
    kinds: tuple[str, ...]
    right: str  # a part of the statement that is right


TANH = Published(
    # loopy's table of derivatives had `(1 - tanh(x))**2` for `1 - tanh(x)**2`.
    "f(x[N]) -> y[N]:\n    for n:  y[n] = tanh(x[n])",
    """\
f.backward(x[N], y.grad[N]) -> x.grad[N]:
    for n:  x.grad[n] += y.grad[n] * (1 - tanh(x[n]))**2
""",
    (2,),
    ("wrong power",),
    "y.grad[n] * (1 - tanh(x[n])**2)",
)

# A linear layer and its cross entropy, one loss a row ("reduction none"), with its label.
LINEAR_CROSS_ENTROPY = """\
linear_cross_entropy(x[B,I], W[V,I], c[V], int label[B]) -> L[B]:
    for b, v:     s[b,v] += c[v]
    for b, v, i:  s[b,v] += W[v,i] * x[b,i]
    for b, v:     Z[b]   += exp(s[b,v])
    for b, v:     p[b,v] += exp(s[b,v]) / Z[b]
    for b:        L[b]   += log(Z[b])
    for b:        L[b]   -= s[b,label[b]]
"""

FIRST_ROW_FOR_ALL = Published(
    # Liger-Kernel issue 968: with reduction none, all gradients are multiplied by one element of the
    # upstream gradient, its first: where the first label is ignored all come out as 0, and where
    # tokens have weights they are wrong.
    LINEAR_CROSS_ENTROPY,
    """\
linear_cross_entropy.backward(p[B,V], x[B,I], W[V,I], int label[B], L.grad[B]) -> x.grad[B,I]:
    local d[B,V]
    for b, v:     d[b,v]        += p[b,v]
    for b:        d[b,label[b]] -= 1
    for b, v, i:  x.grad[b,i]   += L.grad[0] * d[b,v] * W[v,i]
""",
    (5,),
    ("wrong subscript",),
    "L.grad[b] * d[b,v] * W[v,i]",
)

SUMMED_BEFORE_WEIGHTED = Published(
    # Liger-Kernel pull request 1298: the gradients of the weight and of the bias are summed over the
    # tokens first, and multiplied by one element of the upstream gradient then.
    LINEAR_CROSS_ENTROPY,
    """\
linear_cross_entropy.backward(p[B,V], x[B,I], int label[B], L.grad[B]) -> W.grad[V,I], c.grad[V]:
    local d[B,V]
    for b, v:     d[b,v]        += p[b,v]
    for b:        d[b,label[b]] -= 1
    for b, v, i:  w[v,i]        += d[b,v] * x[b,i]
    for b, v:     u[v]          += d[b,v]
    for v, i:     W.grad[v,i]   += L.grad[0] * w[v,i]
    for v:        c.grad[v]     += L.grad[0] * u[v]
""",
    (5, 6, 7, 8),
    (),
    "L.grad[b]",
)

SOFTCAP = Published(
    # flash-attention pull request 2402: scores were capped by `scores * tanh(scores)`, and
    # `cap * tanh(scores)` was meant. A rewriting of a forward. (What issue 2424 of that project is we
    # do not know.)
    """\
capped(s[T,U], cap = 15.0) -> y[T,U]:
    for t, u:  a[t,u] = s[t,u] / cap
    for t, u:  y[t,u] = cap * tanh(a[t,u])
""",
    """\
capped(s[T,U], cap = 15.0) -> y[T,U]:
    for t, u:  a[t,u] = s[t,u] / cap
    for t, u:  y[t,u] = a[t,u] * tanh(a[t,u])
""",
    (3,),
    (),
    "cap * tanh(a[t,u])",
)

SWIGLU = Published(
    # unsloth issue 3314: its kernel's backward stores `df` where `de` belongs, and `de` where `dg`
    # belongs; here with the gate `e`, its activation `f`, and the factor `g`.
    """\
swiglu(e[N], g[N]) -> h[N]:
    for n:  f[n] += e[n] * sigmoid(e[n])
    for n:  h[n] += f[n] * g[n]
""",
    """\
swiglu.backward(e[N], f[N], g[N], h.grad[N]) -> e.grad[N], g.grad[N]:
    for n:  df[n]     += h.grad[n] * f[n]
    for n:  dg[n]     += h.grad[n] * g[n]
    for n:  de[n]     += dg[n] * sigmoid(e[n]) * (1 + e[n] * (1 - sigmoid(e[n])))
    for n:  e.grad[n] += df[n]
    for n:  g.grad[n] += de[n]
""",
    (5, 6),
    ("wrong tensor",),
    "",
)

NORMALIZE = Published(
    # chainer pull request 4190: the backward of an L2 normalisation is wrong where eps is not
    # negligible. Here it takes the norm without eps for the divisor.
    """\
normalize(x[B,J], eps = 1e-5) -> y[B,J]:
    for b, j:  q[b]   += x[b,j]**2
    for b:     n[b]   = sqrt(q[b])
    for b:     d[b]   = n[b] + eps
    for b, j:  y[b,j] = x[b,j] / d[b]
""",
    """\
normalize.backward(x[B,J], n[B], d[B], y.grad[B,J], eps = 1e-5) -> x.grad[B,J]:
    for b, j:  e[b]        += y.grad[b,j] * x[b,j]
    for b, j:  x.grad[b,j] += y.grad[b,j] / d[b]
    for b, j:  x.grad[b,j] -= e[b] * x[b,j] / d[b]**3
""",
    (4,),
    (),
    "",
)

GROUP_NORM = Published(
    # A group norm normalised by the wrong extent in its backward: by the channels of the whole, not
    # of the group, as was reported of Liger-Kernel's.
    """\
grouped(x[B,G,C], eps = 1e-5) -> y[B,G,C]:
    for b, g, c:  m[b,g]   += x[b,g,c] / C
    for b, g, c:  y[b,g,c] += x[b,g,c] - m[b,g]
""",
    """\
grouped.backward(y.grad[B,G,C]) -> x.grad[B,G,C]:
    for b, g, c:  e[b,g]        += y.grad[b,g,c]
    for b, g, c:  x.grad[b,g,c] += y.grad[b,g,c] - e[b,g] / (G * C)
""",
    (3,),
    (),
    "",
)

PUBLISHED = {
    "loopy: tanh": TANH,
    "Liger-Kernel 968": FIRST_ROW_FOR_ALL,
    "Liger-Kernel 1298": SUMMED_BEFORE_WEIGHTED,
    "flash-attention 2402": SOFTCAP,
    "unsloth 3314": SWIGLU,
    "chainer 4190": NORMALIZE,
    "group norm by the wrong extent": GROUP_NORM,
}
