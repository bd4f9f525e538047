"""Backwards as authors of kernels write them by hand, and the faults that they are known for.

Each has its forward, a right backward, and faults: what is written in place of which part of it, the
lines and kinds of what is found, and a part of the statement that is right.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`wrong` in place of `right`; found: the lines and kinds, and mend: a part of what is said to be
    right, where one place is to be named; else there is only a mend."""

    right: str
    wrong: str
    found: tuple[tuple[int, str], ...]
    mend: str


@dataclass(frozen=True)
class Handwritten:
    forward: str
    claimed: str
    faults: dict[str, Fault]


LAYER_NORM = Handwritten(
    """\
layer_norm(x[B,J], param w[J], param c[J], eps = 1e-5) batch B -> y[B,J]:
    for b, j:  m[b] += x[b,j] / J
    for b, j:  v[b] += (x[b,j] - m[b])**2 / J
    for b:     r[b] = 1 / sqrt(v[b] + eps)
    for b, j:  y[b,j] = (x[b,j] - m[b]) * r[b] * w[j] + c[j]
""",
    # The shape of Triton's tutorial: x_hat, w * dy, and two means of a row.
    """\
layer_norm.backward(x[B,J], w[J], m[B], r[B], y.grad[B,J]) -> x.grad[B,J], w.grad[J], c.grad[J]:
    for b, j:  xhat[b,j] = (x[b,j] - m[b]) * r[b]
    for b, j:  wdy[b,j] = w[j] * y.grad[b,j]
    for b, j:  c1[b] += xhat[b,j] * wdy[b,j] / J
    for b, j:  c2[b] += wdy[b,j] / J
    for b, j:  x.grad[b,j] = (wdy[b,j] - (xhat[b,j] * c1[b] + c2[b])) * r[b]
    for b, j:  w.grad[j] += y.grad[b,j] * xhat[b,j] / B
    for b, j:  c.grad[j] += y.grad[b,j] / B
""",
    {
        "the term through the mean": Fault(
            "(xhat[b,j] * c1[b] + c2[b])", "xhat[b,j] * c1[b]", (), "c2[b]"
        ),
        "the factor rstd": Fault("+ c2[b])) * r[b]", "+ c2[b]))", (), "* r[b]"),
        "x for x_hat": Fault(
            "y.grad[b,j] * xhat[b,j] / B",
            "y.grad[b,j] * x[b,j] / B",
            ((7, "wrong tensor"),),
            "xhat[b,j]",
        ),
        "a mean that is a sum": Fault(
            "wdy[b,j] / J\n    for b, j:  x.grad",
            "wdy[b,j]\n    for b, j:  x.grad",
            ((5, "missing factor"),),
            "/ J",
        ),
        "the batch's mean": Fault(
            "y.grad[b,j] / B", "y.grad[b,j]", ((8, "missing factor"),), "/ B"
        ),
        "the weight in a gradient": Fault(
            "wdy[b,j] = w[j] * y.grad[b,j]",
            "wdy[b,j] = y.grad[b,j]",
            ((3, "missing factor"),),
            "w[j]",
        ),
        "one element of a sum": Fault(
            "c.grad[j] += y.grad[b,j] / B", "c.grad[j] = y.grad[b,j] / B", (), "c.grad[j] +="
        ),
    },
)

RMS_NORM = Handwritten(
    """\
rms_norm(x[B,J], param w[J], eps = 1e-6) batch B -> y[B,J]:
    for b, j:  v[b] += x[b,j]**2 / J
    for b:     r[b] = rsqrt(v[b] + eps)
    for b, j:  y[b,j] = x[b,j] * r[b] * w[j]
""",
    """\
rms_norm.backward(x[B,J], w[J], r[B], y.grad[B,J]) -> x.grad[B,J], w.grad[J]:
    for b, j:  m[b,j] = y.grad[b,j] * w[j]
    for b, j:  dot[b] += m[b,j] * x[b,j]
    for b, j:  x.grad[b,j] = r[b] * m[b,j]
    for b, j:  x.grad[b,j] += r[b] * (-(1 / J) * r[b] * r[b] * dot[b] * x[b,j])
    for b, j:  w.grad[j] += y.grad[b,j] * x[b,j] * r[b] / B
""",
    {
        "one factor rstd of three": Fault(
            "* r[b] * r[b] * dot[b]", "* r[b] * dot[b]", ((5, "missing factor"),), "r[b]"
        ),
        "1/N": Fault("-(1 / J) * r[b]", "-r[b]", ((5, "missing factor"),), "/ J"),
        "the sign": Fault("(-(1 / J)", "((1 / J)", ((5, "sign"),), "-"),
        "x for x_hat": Fault(
            "y.grad[b,j] * x[b,j] * r[b] / B",
            "y.grad[b,j] * x[b,j] / B",
            ((6, "missing factor"),),
            "r[b]",
        ),
        "the weight": Fault(
            "m[b,j] = y.grad[b,j] * w[j]", "m[b,j] = y.grad[b,j]", ((2, "missing factor"),), "w[j]"
        ),
    },
)

GROUP_NORM = Handwritten(
    """\
group_norm(x[B,G,K,N], param w[G,K], param c[G,K], eps = 1e-5) batch B -> y[B,G,K,N]:
    for b, g, k, n:  m[b,g] += x[b,g,k,n] / (K * N)
    for b, g, k, n:  v[b,g] += (x[b,g,k,n] - m[b,g])**2 / (K * N)
    for b, g:        r[b,g] = 1 / sqrt(v[b,g] + eps)
    for b, g, k, n:  y[b,g,k,n] = (x[b,g,k,n] - m[b,g]) * r[b,g] * w[g,k] + c[g,k]
""",
    """\
group_norm.backward(x[B,G,K,N], w[G,K], m[B,G], r[B,G], y.grad[B,G,K,N])
        -> x.grad[B,G,K,N], w.grad[G,K], c.grad[G,K]:
    for b, g, k, n:  xhat[b,g,k,n] = (x[b,g,k,n] - m[b,g]) * r[b,g]
    for b, g, k, n:  c1[b,g] += y.grad[b,g,k,n] * w[g,k] * xhat[b,g,k,n]
    for b, g, k, n:  c2[b,g] += y.grad[b,g,k,n] * w[g,k]
    for b, g, k, n:  x.grad[b,g,k,n] += r[b,g] * y.grad[b,g,k,n] * w[g,k]
    for b, g, k, n:  x.grad[b,g,k,n] -= r[b,g] * (c2[b,g] + xhat[b,g,k,n] * c1[b,g]) / (K * N)
    for b, g, k, n:  w.grad[g,k] += y.grad[b,g,k,n] * xhat[b,g,k,n] / B
    for b, g, k, n:  c.grad[g,k] += y.grad[b,g,k,n] / B
""",
    {
        "the size of a channel for that of a group": Fault(
            "c1[b,g]) / (K * N)", "c1[b,g]) / N", ((7, "missing factor"),), "K"
        ),
        "the projection on x_hat": Fault(
            "c2[b,g] + xhat[b,g,k,n] * c1[b,g]", "c2[b,g]", (), "xhat"
        ),
    },
)

CROSS_ENTROPY = Handwritten(
    """\
cross_entropy(s[B,V], int label[B], ignore = -100) -> L:
    for b:     n += 1.0   if label[b] != ignore
    for b, v:  m[b] max= s[b,v]
    for b, v:  Z[b] += exp(s[b,v] - m[b])
    for b:     L += (m[b] + log(Z[b]) - s[b,label[b]]) / n   if label[b] != ignore
""",
    """\
cross_entropy.backward(s[B,V], int label[B], m[B], Z[B], n, L.grad, ignore = -100) -> s.grad[B,V]:
    for b, v:  p[b,v] = exp(s[b,v] - m[b]) / Z[b]
    for b, v:  s.grad[b,v] += L.grad * p[b,v] / n   if label[b] != ignore
    for b:     s.grad[b,label[b]] -= L.grad / n   if label[b] != ignore
""",
    {
        "the rows that are ignored": Fault(
            "L.grad * p[b,v] / n   if label[b] != ignore",
            "L.grad * p[b,v] / n",
            ((3, "wrong condition"),),
            "if label[b] != ignore",
        ),
        "the mean over what counts": Fault(
            "L.grad * p[b,v] / n ", "L.grad * p[b,v] ", ((3, "missing factor"),), "/ n"
        ),
        "the upstream gradient": Fault(
            "-= L.grad / n", "-= 1 / n", ((4, "missing factor"),), "L.grad"
        ),
        "the one at the label": Fault(
            "    for b:     s.grad[b,label[b]] -= L.grad / n   if label[b] != ignore\n",
            "",
            ((3, "missing term"),),
            "label[b]",
        ),
    },
)

CAUSAL_ATTENTION = Handwritten(
    """\
causal(q[B,T,D], k[B,T,D], v[B,T,E]) -> o[B,T,E]:
    for b, t, u <= t, d:  s[b,t,u] += q[b,t,d] * k[b,u,d] / sqrt(D)
    for b, t, u <= t:     m[b,t] max= s[b,t,u]
    for b, t, u <= t:     Z[b,t] += exp(s[b,t,u] - m[b,t])
    for b, t, u <= t:     p[b,t,u] = exp(s[b,t,u] - m[b,t]) / Z[b,t]
    for b, t, u <= t, e:  o[b,t,e] += p[b,t,u] * v[b,u,e]
""",
    # flash-attention's: the row sum of the softmax's backward is that of o * o.grad.
    """\
causal.backward(q[B,T,D], k[B,T,D], v[B,T,E], p[B,T,T], o[B,T,E], o.grad[B,T,E])
        -> q.grad[B,T,D], k.grad[B,T,D], v.grad[B,T,E]:
    for b, t, e:          delta[b,t] += o[b,t,e] * o.grad[b,t,e]
    for b, t, u <= t, e:  v.grad[b,u,e] += p[b,t,u] * o.grad[b,t,e]
    for b, t, u <= t, e:  dp[b,t,u] += o.grad[b,t,e] * v[b,u,e]
    for b, t, u <= t:     ds[b,t,u] = p[b,t,u] * (dp[b,t,u] - delta[b,t]) / sqrt(D)
    for b, t, u <= t, d:  q.grad[b,t,d] += ds[b,t,u] * k[b,u,d]
    for b, t, u <= t, d:  k.grad[b,u,d] += ds[b,t,u] * q[b,t,d]
""",
    {
        "the scale": Fault(" / sqrt(D)", "", (), "/ sqrt(D)"),
        "the row sum": Fault("(dp[b,t,u] - delta[b,t])", "dp[b,t,u]", (), "delta[b,t]"),
        "rows of p for columns": Fault(
            "v.grad[b,u,e] += p[b,t,u] * o.grad[b,t,e]",
            "v.grad[b,t,e] += p[b,t,u] * o.grad[b,u,e]",
            (),
            "v.grad[b,u,e]",
        ),
        "the mask": Fault(
            "for b, t, u <= t, e:  dp[b,t,u] +=", "for b, t, u < t, e:  dp[b,t,u] +=", (), "u <= t"
        ),
        "k's gradient from k": Fault(
            "k.grad[b,u,d] += ds[b,t,u] * q[b,t,d]",
            "k.grad[b,u,d] += ds[b,t,u] * k[b,t,d]",
            ((8, "wrong tensor"),),
            "q[b,t,d]",
        ),
    },
)

GELU = Handwritten(
    """\
gelu(x[B,J]) -> y[B,J]:
    for b, j:  y[b,j] = 0.5 * x[b,j] * (1 + tanh(sqrt(2 / pi) * (x[b,j] + 0.044715 * x[b,j]**3)))
""",
    """\
gelu.backward(x[B,J], y.grad[B,J]) -> x.grad[B,J]:
    for b, j:  t[b,j] = tanh(sqrt(2 / pi) * (x[b,j] + 0.044715 * x[b,j] * x[b,j] * x[b,j]))
    for b, j:  du[b,j] = sqrt(2 / pi) * (1 + 3 * 0.044715 * x[b,j] * x[b,j])
    for b, j:  x.grad[b,j] = y.grad[b,j] * (0.5 * (1 + t[b,j]) + 0.5 * x[b,j] * (1 - t[b,j] * t[b,j]) * du[b,j])
""",
    {
        "the three of the cube": Fault("3 * 0.044715", "0.044715", (), "3"),
        "the inner derivative": Fault("sqrt(2 / pi) * (1 + 3", "(1 + 3", (), "sqrt(2 / pi)"),
        "a square outside": Fault(
            "(1 - t[b,j] * t[b,j])", "(1 - t[b,j])**2", ((4, "wrong power"),), "1 - t[b,j]**2"
        ),
        "a half": Fault("+ 0.5 * x[b,j]", "+ x[b,j]", (), "0.5"),
        "a digit of a constant": Fault("0.044715", "0.44715", (), "0.044715"),
    },
)

SWIGLU = Handwritten(
    """\
swiglu(a[B,J], b[B,J]) -> y[B,J]:
    for n, j:  y[n,j] = a[n,j] * sigmoid(a[n,j]) * b[n,j]
""",
    """\
swiglu.backward(a[B,J], b[B,J], y.grad[B,J]) -> a.grad[B,J], b.grad[B,J]:
    for n, j:  sig[n,j] = sigmoid(a[n,j])
    for n, j:  silu[n,j] = a[n,j] * sig[n,j]
    for n, j:  b.grad[n,j] = y.grad[n,j] * silu[n,j]
    for n, j:  a.grad[n,j] = y.grad[n,j] * b[n,j] * (silu[n,j] * (1 - sig[n,j]) + sig[n,j])
""",
    {
        "a for silu": Fault(
            "y.grad[n,j] * silu[n,j]", "y.grad[n,j] * a[n,j]", ((4, "wrong tensor"),), "silu[n,j]"
        ),
        "a term": Fault(" + sig[n,j])", ")", ((5, "missing term"),), "sig[n,j]"),
        "sigmoid for silu": Fault(
            "(silu[n,j] * (1", "(sig[n,j] * (1", ((5, "wrong tensor"),), "silu[n,j]"
        ),
        "the gate": Fault(
            "y.grad[n,j] * b[n,j] * (", "y.grad[n,j] * (", ((5, "missing factor"),), "b[n,j]"
        ),
    },
)

ROTARY = Handwritten(
    """\
rotary(x[T,2,H], co[T,H], si[T,H]) -> y[T,2,H]:
    for t, h:  y[t,0,h] = x[t,0,h] * co[t,h] - x[t,1,h] * si[t,h]
    for t, h:  y[t,1,h] = x[t,1,h] * co[t,h] + x[t,0,h] * si[t,h]
""",
    """\
rotary.backward(co[T,H], si[T,H], y.grad[T,2,H]) -> x.grad[T,2,H]:
    for t, h:  x.grad[t,0,h] = y.grad[t,0,h] * co[t,h] + y.grad[t,1,h] * si[t,h]
    for t, h:  x.grad[t,1,h] = y.grad[t,1,h] * co[t,h] - y.grad[t,0,h] * si[t,h]
""",
    {
        "the rotation is not turned back": Fault(
            "co[t,h] + y.grad[t,1,h]", "co[t,h] - y.grad[t,1,h]", ((2, "sign"),), "+ y.grad[t,1,h]"
        ),
        "the other half": Fault(
            "- y.grad[t,0,h] * si", "- y.grad[t,1,h] * si", (), "y.grad[t,0,h] * si"
        ),
    },
)

EMBEDDING_BAG = Handwritten(
    """\
bag(E[V,K], int w[B,T], int length[B]) -> y[B,K]:
    for b, t < length[b], k:  y[b,k] += E[w[b,t],k] / length[b]
""",
    """\
bag.backward(int w[B,T], int length[B], y.grad[B,K], size V) -> E.grad[V,K]:
    for b, t < length[b], k:  E.grad[w[b,t],k] += y.grad[b,k] / length[b]
""",
    {
        "the mean": Fault(" / length[b]", "", ((2, "missing factor"),), "/ length[b]"),
        "overwritten": Fault("E.grad[w[b,t],k] +=", "E.grad[w[b,t],k] =", (), "+="),
        "the padding": Fault("t < length[b], k", "t, k", (), "t < length[b]"),
    },
)

FOCAL = Handwritten(
    """\
focal(s[N], y[N], gamma = 2.0) -> L:
    for n:  p[n] = sigmoid(s[n])
    for n:  L -= y[n] * (1 - p[n])**gamma * log(p[n]) / N
    for n:  L -= (1 - y[n]) * p[n]**gamma * log(1 - p[n]) / N
""",
    """\
focal.backward(y[N], p[N], L.grad, gamma = 2.0) -> s.grad[N]:
    for n:  pos[n] = (1 - p[n])**gamma * (gamma * p[n] * log(p[n]) - (1 - p[n]))
    for n:  neg[n] = p[n]**gamma * (p[n] - gamma * (1 - p[n]) * log(1 - p[n]))
    for n:  s.grad[n] = L.grad * (y[n] * pos[n] + (1 - y[n]) * neg[n]) / N
""",
    {
        "gamma": Fault(
            "(gamma * p[n] * log(p[n])", "(p[n] * log(p[n])", ((2, "missing factor"),), "gamma"
        ),
        "a sign": Fault("(p[n] - gamma", "(p[n] + gamma", ((3, "sign"),), "p[n] - gamma"),
        "the mean": Fault(" / N", "", ((4, "missing factor"),), "/ N"),
    },
)

TRIPLET = Handwritten(
    """\
triplet(a[B,D], p[B,D], n[B,D], margin = 1.0) -> L:
    for b, d:  near[b] += (a[b,d] - p[b,d])**2
    for b, d:  far[b] += (a[b,d] - n[b,d])**2
    for b:     L += max(near[b] - far[b] + margin, 0) / B
""",
    """\
triplet.backward(a[B,D], p[B,D], n[B,D], near[B], far[B], L.grad, margin = 1.0)
        -> a.grad[B,D], p.grad[B,D], n.grad[B,D]:
    for b:     g[b] = L.grad / B   if near[b] - far[b] + margin > 0
    for b, d:  a.grad[b,d] = 2 * g[b] * (n[b,d] - p[b,d])
    for b, d:  p.grad[b,d] = 2 * g[b] * (p[b,d] - a[b,d])
    for b, d:  n.grad[b,d] = 2 * g[b] * (a[b,d] - n[b,d])
""",
    {
        "a sign": Fault(
            "(p[b,d] - a[b,d])", "(a[b,d] - p[b,d])", ((5, "sign"),), "p[b,d] - a[b,d]"
        ),
        "a two": Fault("2 * g[b] * (n", "g[b] * (n", ((4, "too small by a factor"),), "2"),
        "the hinge": Fault(
            "   if near[b] - far[b] + margin > 0", "", (), "if near[b] - far[b] + margin > 0"
        ),
        "the margin": Fault("far[b] + margin > 0", "far[b] > 0", (), "+ margin > 0"),
    },
)

DISTILLATION = Handwritten(
    """\
distil(s[B,V], q[B,V], T = 2.0) -> L:
    for b, v:  m[b] max= s[b,v] / T
    for b, v:  Z[b] += exp(s[b,v] / T - m[b])
    for b, v:  p[b,v] = exp(s[b,v] / T - m[b]) / Z[b]
    for b, v:  L += T**2 * q[b,v] * (log(q[b,v]) - log(p[b,v])) / B
""",
    """\
distil.backward(q[B,V], p[B,V], L.grad, T = 2.0) -> s.grad[B,V]:
    for b, v:  mass[b] += q[b,v]
    for b, v:  s.grad[b,v] = L.grad * T * (mass[b] * p[b,v] - q[b,v]) / B
""",
    {
        "the temperature": Fault("L.grad * T *", "L.grad *", ((3, "missing factor"),), "T"),
        "q taken for a distribution": Fault(
            "(mass[b] * p[b,v]", "(p[b,v]", ((3, "missing factor"),), "mass[b]"
        ),
        "the sign": Fault(
            "(mass[b] * p[b,v] - q[b,v])",
            "(q[b,v] - mass[b] * p[b,v])",
            ((3, "sign"),),
            "mass[b] * p[b,v] - q[b,v]",
        ),
    },
)

CONV = Handwritten(
    """\
conv(x[B,C,T], param k[O,C,W], param c[O]) batch B -> y[B,O,T-W+1]:
    for b, o, t, i, w:  y[b,o,t] += k[o,i,w] * x[b,i,t+w]
    for b, o, t:        y[b,o,t] += c[o]
""",
    # The gradient of the input gathered: at each place the outputs that it went into.
    """\
conv.backward(x[B,C,T], k[O,C,W], y.grad[B,O,T-W+1]) -> x.grad[B,C,T], k.grad[O,C,W], c.grad[O]:
    for b, i, t, o, w:  x.grad[b,i,t] += k[o,i,w] * y.grad[b,o,t-w]   if 0 <= t - w < T - W + 1
    for b, o, i, w, t < T-W+1:  k.grad[o,i,w] += y.grad[b,o,t] * x[b,i,t+w] / B
    for b, o, t:        c.grad[o] += y.grad[b,o,t] / B
""",
    {
        "the kernel is not turned": Fault(
            "k[o,i,w] * y.grad", "k[o,i,W-1-w] * y.grad", (), "k[o,i,w]"
        ),
        "the edge": Fault("<= t - w < T - W + 1", "<= t - w < T - W", (), "T - W + 1"),
        "the offset": Fault("x[b,i,t+w] / B", "x[b,i,t] / B", (), "x[b,i,t+w]"),
        "the batch's mean": Fault(
            "y.grad[b,o,t] / B", "y.grad[b,o,t]", ((4, "missing factor"),), "/ B"
        ),
    },
)

LSTM = Handwritten(
    """\
lstm(x[B,K], h[B,J], c[B,J], param W[4,J,K], param U[4,J,J]) batch B -> h'[B,J], c'[B,J]:
    for b, q < 4, j, k:   a[b,q,j] += W[q,j,k] * x[b,k]
    for b, q < 4, j, j':  a[b,q,j] += U[q,j,j'] * h[b,j']
    for b, j:  i[b,j] = sigmoid(a[b,0,j])
    for b, j:  f[b,j] = sigmoid(a[b,1,j])
    for b, j:  g[b,j] = tanh(a[b,2,j])
    for b, j:  o[b,j] = sigmoid(a[b,3,j])
    for b, j:  c'[b,j] = f[b,j] * c[b,j] + i[b,j] * g[b,j]
    for b, j:  h'[b,j] = o[b,j] * tanh(c'[b,j])
""",
    """\
lstm.backward(x[B,K], h[B,J], c[B,J], W[4,J,K], U[4,J,J], i[B,J], f[B,J], g[B,J], o[B,J], c'[B,J],
              h'.grad[B,J], c'.grad[B,J])
        -> x.grad[B,K], h.grad[B,J], c.grad[B,J], W.grad[4,J,K], U.grad[4,J,J]:
    local da[B,4,J]
    for b, j:  tc[b,j] = tanh(c'[b,j])
    for b, j:  dc[b,j] = c'.grad[b,j] + h'.grad[b,j] * o[b,j] * (1 - tc[b,j]**2)
    for b, j:  da[b,0,j] = dc[b,j] * g[b,j] * i[b,j] * (1 - i[b,j])
    for b, j:  da[b,1,j] = dc[b,j] * c[b,j] * f[b,j] * (1 - f[b,j])
    for b, j:  da[b,2,j] = dc[b,j] * i[b,j] * (1 - g[b,j]**2)
    for b, j:  da[b,3,j] = h'.grad[b,j] * tc[b,j] * o[b,j] * (1 - o[b,j])
    for b, j:  c.grad[b,j] = dc[b,j] * f[b,j]
    for b, q < 4, j, k:   W.grad[q,j,k] += da[b,q,j] * x[b,k] / B
    for b, q < 4, j, k:   x.grad[b,k] += da[b,q,j] * W[q,j,k]
    for b, q < 4, j, j':  U.grad[q,j,j'] += da[b,q,j] * h[b,j'] / B
    for b, q < 4, j, j':  h.grad[b,j'] += da[b,q,j] * U[q,j,j']
""",
    {
        "the path through h": Fault(
            " + h'.grad[b,j] * o[b,j] * (1 - tc[b,j]**2)", "", (), "h'.grad[b,j] * o[b,j]"
        ),
        "the new state for the old": Fault(
            "dc[b,j] * c[b,j] * f[b,j]",
            "dc[b,j] * c'[b,j] * f[b,j]",
            ((8, "wrong tensor"),),
            "c[b,j]",
        ),
        "a transposed weight": Fault(
            "U[q,j,j']\n", "U[q,j',j]\n", ((15, "transposed"),), "U[q,j,j']"
        ),
        "a gate's derivative": Fault(
            "* i[b,j] * (1 - i[b,j])", "* (1 - i[b,j])", ((7, "missing factor"),), "i[b,j]"
        ),
        "tanh's derivative as sigmoid's": Fault(
            "* (1 - g[b,j]**2)", "* g[b,j] * (1 - g[b,j])", (), "1 - g[b,j]**2"
        ),
    },
)

LINEAR_ATTENTION = Handwritten(
    """\
linear(q[T,D], k[T,D], v[T,E]) -> y[T,E]:
    for t:
        for d, e:  S[t,d,e] = k[t,d] * v[t,e] + (S[t-1,d,e] if t > 0 else 0)
        for d, e:  y[t,e] += q[t,d] * S[t,d,e]
""",
    """\
linear.backward(q[T,D], k[T,D], v[T,E], S[T,D,E], y.grad[T,E]) -> q.grad[T,D], k.grad[T,D], v.grad[T,E]:
    for t, d, e:  q.grad[t,d] += y.grad[t,e] * S[t,d,e]
    for t descending:
        for d, e:  R[t,d,e] = q[t,d] * y.grad[t,e] + (R[t+1,d,e] if t < T-1 else 0)
        for d, e:  k.grad[t,d] += R[t,d,e] * v[t,e]
        for d, e:  v.grad[t,e] += R[t,d,e] * k[t,d]
""",
    {
        "the carry": Fault(" + (R[t+1,d,e] if t < T-1 else 0)", "", (), "R[t+1,d,e]"),
        "forwards in time": Fault(
            "for t descending:", "for t:", ((4, "read before complete"),), "for t descending"
        ),
        "q's state": Fault(
            "v.grad[t,e] += R[t,d,e] * k[t,d]", "v.grad[t,e] += S[t,d,e] * k[t,d]", (), "R[t,d,e]"
        ),
    },
)

BATCH_NORM = Handwritten(
    """\
batch_norm(x[B,J], param w[J], param c[J], eps = 1e-5) batch B -> y[B,J]:
    for b, j:  m[j] += x[b,j] / B
    for b, j:  v[j] += (x[b,j] - m[j])**2 / B
    for b, j:  xhat[b,j] = (x[b,j] - m[j]) / sqrt(v[j] + eps)
    for b, j:  y[b,j] = w[j] * xhat[b,j] + c[j]
""",
    """\
batch_norm.backward(w[J], v[J], xhat[B,J], y.grad[B,J], eps = 1e-5) -> x.grad[B,J], w.grad[J], c.grad[J]:
    for b, j:  dbeta[j] += y.grad[b,j]
    for b, j:  dgamma[j] += y.grad[b,j] * xhat[b,j]
    for b, j:  x.grad[b,j] = w[j] / sqrt(v[j] + eps) * (y.grad[b,j] - dbeta[j] / B - xhat[b,j] * dgamma[j] / B)
    for j:     w.grad[j] = dgamma[j] / B
    for j:     c.grad[j] = dbeta[j] / B
""",
    {
        "the batch's mean": Fault(
            "w.grad[j] = dgamma[j] / B", "w.grad[j] = dgamma[j]", ((5, "missing factor"),), "/ B"
        ),
        "the term through the mean": Fault(
            "y.grad[b,j] - dbeta[j] / B", "y.grad[b,j]", ((4, "missing term"),), "dbeta[j] / B"
        ),
        "the variance for its root": Fault(
            "w[j] / sqrt(v[j] + eps)",
            "w[j] / (v[j] + eps)",
            ((4, "wrong function"),),
            "sqrt(v[j] + eps)",
        ),
        "eps": Fault("sqrt(v[j] + eps)", "sqrt(v[j])", (), "v[j] + eps"),
        "a sum for a mean": Fault(
            "- xhat[b,j] * dgamma[j] / B)",
            "- xhat[b,j] * dgamma[j])",
            ((4, "missing factor"),),
            "/ B",
        ),
    },
)

INFO_NCE = Handwritten(
    """\
infonce(q[B,D], k[B,D], tau = 0.07) -> loss:
    for i < B, j < B, d:  s[i,j] += q[i,d] * k[j,d] / tau
    for i, j:  Z[i] += exp(s[i,j])
    for i:     loss += (log(Z[i]) - s[i,i]) / B
""",
    """\
infonce.backward(q[B,D], k[B,D], s[B,B], Z[B], loss.grad, tau = 0.07) -> q.grad[B,D], k.grad[B,D]:
    for i, j:  ds[i,j] = (exp(s[i,j]) / Z[i] - (1 if i == j else 0)) * loss.grad / B
    for i, j, d:  q.grad[i,d] += ds[i,j] * k[j,d] / tau
    for i, j, d:  k.grad[j,d] += ds[i,j] * q[i,d] / tau
""",
    {
        "the batch's mean, which both gradients lack": Fault(
            "* loss.grad / B", "* loss.grad", ((2, "missing factor"),), "/ B"
        ),
        "transposed": Fault(
            "ds[i,j] * q[i,d]", "ds[j,i] * q[i,d]", ((4, "transposed"),), "ds[i,j]"
        ),
    },
)

PRELU = Handwritten(
    """\
prelu(x[B,C,N], param a[C]) batch B -> y[B,C,N]:
    for b, c, n:  y[b,c,n] = x[b,c,n] if x[b,c,n] > 0 else a[c] * x[b,c,n]
""",
    # By partial sums, in names of its own.
    """\
prelu.backward(x[N,C,HW], a[C], y.grad[N,C,HW]) -> x.grad[N,C,HW], a.grad[C]:
    for n, c, i:  x.grad[n,c,i] += y.grad[n,c,i]   if x[n,c,i] > 0
    for n, c, i:  x.grad[n,c,i] += a[c] * y.grad[n,c,i]   if x[n,c,i] <= 0
    for n, c, i:  part[n,c] += x[n,c,i] * y.grad[n,c,i]   if x[n,c,i] <= 0
    for n, c:     a.grad[c] += part[n,c] / N
""",
    {
        "the mask of a partial sum": Fault(
            "part[n,c] += x[n,c,i] * y.grad[n,c,i]   if x[n,c,i] <= 0",
            "part[n,c] += x[n,c,i] * y.grad[n,c,i]",
            ((4, "wrong condition"),),
            "if not x[n,c,i] > 0",
        ),
    },
)

LRU = Handwritten(
    """\
lru(x[T,H], ar[H], ai[H]) -> hr[T,H], hi[T,H]:
    for t:
        for h:  hr[t,h] = x[t,h] + (ar[h] * hr[t-1,h] - ai[h] * hi[t-1,h] if t > 0 else 0)
        for h:  hi[t,h] = ar[h] * hi[t-1,h] + ai[h] * hr[t-1,h] if t > 0 else 0
""",
    # A recurrence of its own: the state's gradient times the conjugate.
    """\
lru.backward(ar[H], ai[H], hr[T,H], hi[T,H], hr.grad[T,H], hi.grad[T,H]) -> x.grad[T,H], ar.grad[H], ai.grad[H]:
    for t descending:
        for h:  gr[t,h] = hr.grad[t,h] + (ar[h] * gr[t+1,h] + ai[h] * gi[t+1,h] if t + 1 < T else 0)
        for h:  gi[t,h] = hi.grad[t,h] + (ar[h] * gi[t+1,h] - ai[h] * gr[t+1,h] if t + 1 < T else 0)
        for h:  x.grad[t,h] = gr[t,h]
        for h:  ar.grad[h] += gr[t,h] * hr[t-1,h] + gi[t,h] * hi[t-1,h]   if t > 0
        for h:  ai.grad[h] += gi[t,h] * hr[t-1,h] - gr[t,h] * hi[t-1,h]   if t > 0
""",
    {
        "the conjugate": Fault(
            "+ ai[h] * gi[t+1,h]", "- ai[h] * gi[t+1,h]", ((3, "sign"),), "+ ai[h] * gi[t+1,h]"
        ),
        "a stale state": Fault(
            "gr[t,h] * hr[t-1,h] + gi",
            "gr[t,h] * hr[t,h] + gi",
            ((6, "wrong subscript"),),
            "hr[t-1,h]",
        ),
    },
)

CHUNKED_SOFTMAX = Handwritten(
    """\
softmax(x[B,G,K]) -> y[B,G,K]:
    for b, g, k:  m[b] max= x[b,g,k]
    for b, g, k:  Z[b] += exp(x[b,g,k] - m[b])
    for b, g, k:  y[b,g,k] = exp(x[b,g,k] - m[b]) / Z[b]
""",
    """\
softmax.backward(y[B,G,K], y.grad[B,G,K]) -> x.grad[B,G,K]:
    for g:
        for b, k:  part[g,b] += y[b,g,k] * y.grad[b,g,k]
        for b:     dot[b] += part[g,b]
    for b, g, k:  x.grad[b,g,k] = y[b,g,k] * y.grad[b,g,k]
    for b, g, k:  x.grad[b,g,k] -= y[b,g,k] * dot[b]
""",
    {
        "added twice": Fault(
            "        for b:     dot[b] += part[g,b]\n",
            "        for b:     dot[b] += part[g,b]\n        for b:     dot[b] += part[g,b]\n",
            ((4, "superfluous term"),),
            "",
        ),
    },
)


HANDWRITTEN = {
    "layer norm": LAYER_NORM,
    "RMS norm": RMS_NORM,
    "group norm": GROUP_NORM,
    "cross entropy that ignores": CROSS_ENTROPY,
    "causal attention": CAUSAL_ATTENTION,
    "GELU by tanh": GELU,
    "SwiGLU": SWIGLU,
    "rotary embedding": ROTARY,
    "embedding bag": EMBEDDING_BAG,
    "focal loss": FOCAL,
    "triplet loss": TRIPLET,
    "distillation": DISTILLATION,
    "convolution": CONV,
    "LSTM step": LSTM,
    "linear attention": LINEAR_ATTENTION,
    "batch norm": BATCH_NORM,
    "InfoNCE": INFO_NCE,
    "PReLU": PRELU,
    "linear recurrent unit": LRU,
    "softmax by chunks": CHUNKED_SOFTMAX,
}
