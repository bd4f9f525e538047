"""`simplify` of programs with blocks: what it makes of recurrences over time, as whole texts."""

from __future__ import annotations

import textwrap

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.searching.cost import cost

PROGRAMS = {
    "softmax at each time": """
        softmax(x[T,B,J], U[J,I]) -> h[T,B,J]:
            for t:
                for b, j, i:  a[t,b,j] += U[j,i] * h[t-1,b,i]   if t > 0
                for b, j:     a[t,b,j] += x[t,b,j]
                for b, j:     Z[t,b]   += exp(a[t,b,j])
                for b, j:     h[t,b,j] = exp(a[t,b,j]) / Z[t,b]
        """,
    "softmax at each time but the first": """
        softmax(x[T,B,J], s[B,J], U[J,I]) -> h[T,B,J]:
            for b, j:  h[0,b,j] = s[b,j]
            for 1 <= t < T:
                for b, j, i:  a[t,b,j] += U[j,i] * h[t-1,b,i]
                for b, j:     a[t,b,j] += x[t,b,j]
                for b, j:     Z[t,b]   += exp(a[t,b,j])
                for b, j:     h[t,b,j] = exp(a[t,b,j]) / Z[t,b]
        """,
    "a CRF's log-partition": """
        crf(s[T,K], A[K,K]) -> L:
            for k:  a[0,k] = s[0,k]
            for 1 <= t < T:
                for k, j:  Z[t,k] += exp(a[t-1,j] + A[j,k])
                for k:     a[t,k] = s[t,k] + log(Z[t,k])
            for k:  E += exp(a[T-1,k])
            L = log(E)
        """,
    "an LSTM": """
        lstm(x[T,B,K], W[J,K], U[J,J], V[J,K], Y[J,J], P[J,K], Q[J,J], R[J,K], S[J,J]) -> h[T,B,J]:
            for t:
                for b, j, k:   ai[t,b,j] += W[j,k] * x[t,b,k]
                for b, j, i:  ai[t,b,j] += U[j,i] * h[t-1,b,i]   if t > 0
                for b, j, k:   af[t,b,j] += V[j,k] * x[t,b,k]
                for b, j, i:  af[t,b,j] += Y[j,i] * h[t-1,b,i]   if t > 0
                for b, j, k:   ao[t,b,j] += P[j,k] * x[t,b,k]
                for b, j, i:  ao[t,b,j] += Q[j,i] * h[t-1,b,i]   if t > 0
                for b, j, k:   ag[t,b,j] += R[j,k] * x[t,b,k]
                for b, j, i:  ag[t,b,j] += S[j,i] * h[t-1,b,i]   if t > 0
                for b, j:      q[t,b,j]  = sigmoid(ai[t,b,j])
                for b, j:      f[t,b,j]  = sigmoid(af[t,b,j])
                for b, j:      o[t,b,j]  = sigmoid(ao[t,b,j])
                for b, j:      g[t,b,j]  = tanh(ag[t,b,j])
                for b, j:      c[t,b,j]  += q[t,b,j] * g[t,b,j]
                for b, j:      c[t,b,j]  += f[t,b,j] * c[t-1,b,j]   if t > 0
                for b, j:      v[t,b,j]  = tanh(c[t,b,j])
                for b, j:      h[t,b,j]  = o[t,b,j] * v[t,b,j]
        """,
    "a GRU": """
        gru(x[T,B,K], W[J,K], U[J,J], V[J,K], Y[J,J], P[J,K], Q[J,J]) -> h[T,B,J]:
            for t:
                for b, j, k:   ar[t,b,j] += W[j,k] * x[t,b,k]
                for b, j, i:  ar[t,b,j] += U[j,i] * h[t-1,b,i]   if t > 0
                for b, j, k:   az[t,b,j] += V[j,k] * x[t,b,k]
                for b, j, i:  az[t,b,j] += Y[j,i] * h[t-1,b,i]   if t > 0
                for b, j:      r[t,b,j]  = sigmoid(ar[t,b,j])
                for b, j:      z[t,b,j]  = sigmoid(az[t,b,j])
                for b, j, k:   an[t,b,j] += P[j,k] * x[t,b,k]
                for b, j, i:  an[t,b,j] += Q[j,i] * r[t,b,i] * h[t-1,b,i]   if t > 0
                for b, j:      n[t,b,j]  = tanh(an[t,b,j])
                for b, j:      h[t,b,j]  += (1 - z[t,b,j]) * n[t,b,j]
                for b, j:      h[t,b,j]  += z[t,b,j] * h[t-1,b,j]   if t > 0
        """,
    "a product of factors, opaque": """
        f(x[B,J], W[J,K]) -> p[B,K], y[B]:
            for b, j:     y[b]   *= 1 - x[b,j]**2
            for b, k, j:  a[b,k] += x[b,j] * W[j,k] * y[b]
            for b, k:     Z[b]   += exp(a[b,k])
            for b, k:     p[b,k] = exp(a[b,k]) / Z[b]
        """,
    "sequences of several lengths": """
        masked(x[T,B,J], W[J,J], int n[B]) -> y[B,J]:
            for t:
                for b, j, i:  a[t,b,j] += W[j,i] * h[t-1,b,i]   if t > 0
                for b, j:     u[t,b,j] = tanh(a[t,b,j] + x[t,b,j])
                for b, j:     h[t,b,j] += u[t,b,j]   if t < n[b]
                for b, j:     h[t,b,j] += h[t-1,b,j]   if t >= n[b] and t > 0
            for b, j:  y[b,j] = h[T-1,b,j]
        """,
    "both directions": """
        both(x[T,B,J], W[J,J], V[J,J]) -> y[T,B,J]:
            for t:
                for b, j, i:  a[t,b,j] += W[j,i] * f[t-1,b,i]   if t > 0
                for b, j:     f[t,b,j] = tanh(a[t,b,j] + x[t,b,j])
            for t descending:
                for b, j, i:  c[t,b,j] += V[j,i] * g[t+1,b,i]   if t < T-1
                for b, j:     g[t,b,j] = tanh(c[t,b,j] + x[t,b,j])
            for t, b, j:  y[t,b,j] = f[t,b,j] * g[t,b,j]
        """,
    "attention at each time": """
        attend(q[T,B,D], k[B,U,D], v[B,U,D], W[D,D]) -> o[T,B,D]:
            for t:
                for b, d, e:  c[t,b,d] += W[d,e] * o[t-1,b,e]   if t > 0
                for b, d:     c[t,b,d] += q[t,b,d]
                for b, u, d:  s[t,b,u] += c[t,b,d] * k[b,u,d]
                for b, u:     m[t,b]   max= s[t,b,u]
                for b, u:     Z[t,b]   += exp(s[t,b,u] - m[t,b])
                for b, u:     p[t,b,u] = exp(s[t,b,u] - m[t,b]) / Z[t,b]
                for b, u, d:  o[t,b,d] += p[t,b,u] * v[b,u,d]
        """,
    "layer norm at each time": """
        normed(x[T,B,J], W[J,J], eps = 1e-5) -> h[T,B,J]:
            for t:
                for b, j, i:  a[t,b,j] += W[j,i] * h[t-1,b,i]   if t > 0
                for b, j:     a[t,b,j] += x[t,b,j]
                for b, j:     m[t,b]   += a[t,b,j] / J
                for b, j:     v[t,b]   += (a[t,b,j] - m[t,b])**2 / J
                for b, j:     y[t,b,j] = (a[t,b,j] - m[t,b]) / sqrt(v[t,b] + eps)
                for b, j:     h[t,b,j] = tanh(y[t,b,j])
        """,
    "what is the same at each turn": """
        same(x[T,B,J], A[J], W[J,K], V[K,J]) -> h[T,B,J]:
            for t:
                for b, j:        h[t,b,j] += exp(A[j]) * x[t,b,j]
                for b, j, i, k:  h[t,b,j] += W[j,k] * V[k,i] * h[t-1,b,i]   if t > 0
        """,
    "a soft minimum over paths": """
        paths(d[N,M], a) -> L:
            for n < N:
                for m < M:
                    u[n,m] = exp(-r[n-1,m] / a) if n > 0 else 0
                    l[n,m] = exp(-r[n,m-1] / a) if m > 0 else 0
                    c[n,m] = exp(-r[n-1,m-1] / a) if n > 0 and m > 0 else 1
                    r[n,m] = d[n,m] - a * log(u[n,m] + l[n,m] + c[n,m])
            L = r[N-1,M-1]
        """,
    "a selective scan": """
        scan(x[B,T,D], d[B,T,D], A[D,N], C[B,T,N], E[B,T,N]) -> y[B,T,D]:
            for t:
                for b, k, n:  h[b,t,k,n] += exp(-d[b,t,k] * exp(A[k,n])) * h[b,t-1,k,n]   if t > 0
                for b, k, n:  h[b,t,k,n] += d[b,t,k] * C[b,t,n] * x[b,t,k]
                for b, k, n:  y[b,t,k]   += E[b,t,n] * h[b,t,k,n]
        """,
}

GOLDEN = {
    "softmax at each time": """
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for t descending:
            for b, j:     e[t,b]           -= h[t,b,j] * h.grad'[t,b,j]
            for b, j:     x.grad[t,b,j]    += h[t,b,j] * (h.grad'[t,b,j] + e[t,b])
            for b, j, i:  U.grad[j,i]      += h[t-1,b,i] * x.grad[t,b,j]   if t > 0
            for b, j, i:  h.grad'[t-1,b,i] += U[j,i] * x.grad[t,b,j]   if t > 0
        """,
    "softmax at each time but the first": """
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for 1 <= t < T descending:
            for b, j:     e[t,b]           -= h[t,b,j] * h.grad'[t,b,j]
            for b, j:     x.grad[t,b,j]    += h[t,b,j] * (h.grad'[t,b,j] + e[t,b])
            for b, j, i:  U.grad[j,i]      += h[t-1,b,i] * x.grad[t,b,j]
            for b, j, i:  h.grad'[t-1,b,i] += U[j,i] * x.grad[t,b,j]
        for b, j:  s.grad[b,j] += h.grad'[0,b,j]
        """,
    "a CRF's log-partition": """
        local a.grad[max(1, T), K]
        for k:  a.grad[T-1,k] += L.grad / E * exp(a[T-1,k])
        for 1 <= t < T descending:
            for k:     s.grad[t,k]   += a.grad[t,k]
            for k:     Z.grad[t,k]   += a.grad[t,k] / Z[t,k]
            for k, j:  e[t,k,j]      += Z.grad[t,k] * exp(A[j,k] + a[t-1,j])
            for k, j:  a.grad[t-1,j] += e[t,k,j]
            for k, j:  A.grad[j,k]   += e[t,k,j]
        for k:  s.grad[0,k] += a.grad[0,k]
        """,
    "an LSTM": """
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for t descending:
            for b, j:     c.grad[t,b,j]    += o[t,b,j] * h.grad'[t,b,j] * (1 - v[t,b,j]**2)
            for b, j:     c.grad[t-1,b,j]  += f[t,b,j] * c.grad[t,b,j]   if t > 0
            for b, j:     ag.grad[t,b,j]   += q[t,b,j] * c.grad[t,b,j] * (1 - g[t,b,j]**2)
            for b, j:     ao.grad[t,b,j]   += o[t,b,j] * v[t,b,j] * h.grad'[t,b,j] * (1 - o[t,b,j])
            for b, j:     af.grad[t,b,j]   += f[t,b,j] * c[t-1,b,j] * c.grad[t,b,j] * (1 - f[t,b,j])   if t > 0
            for b, j:     ai.grad[t,b,j]   += q[t,b,j] * g[t,b,j] * c.grad[t,b,j] * (1 - q[t,b,j])
            for b, j, i:  S.grad[j,i]      += h[t-1,b,i] * ag.grad[t,b,j]   if t > 0
            for b, j, k:  R.grad[j,k]      += x[t,b,k] * ag.grad[t,b,j]
            for b, j, i:  Q.grad[j,i]      += h[t-1,b,i] * ao.grad[t,b,j]   if t > 0
            for b, j, k:  P.grad[j,k]      += x[t,b,k] * ao.grad[t,b,j]
            for b, j, i:  Y.grad[j,i]      += h[t-1,b,i] * af.grad[t,b,j]   if t > 0
            for b, j, k:  V.grad[j,k]      += x[t,b,k] * af.grad[t,b,j]
            for b, j, i:  U.grad[j,i]      += h[t-1,b,i] * ai.grad[t,b,j]   if t > 0
            for b, j, i:  h.grad'[t-1,b,i] += U[j,i] * ai.grad[t,b,j] + Y[j,i] * af.grad[t,b,j] + Q[j,i] * ao.grad[t,b,j] + S[j,i] * ag.grad[t,b,j]   if t > 0
            for b, j, k:  W.grad[j,k]      += x[t,b,k] * ai.grad[t,b,j]
            for b, j, k:  x.grad[t,b,k]    += W[j,k] * ai.grad[t,b,j] + V[j,k] * af.grad[t,b,j] + P[j,k] * ao.grad[t,b,j] + R[j,k] * ag.grad[t,b,j]
        """,
    "a GRU": """
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for t descending:
            for b, j:     z.grad[t,b,j]    -= n[t,b,j] * h.grad'[t,b,j]
            for b, j:     z.grad[t,b,j]    += h[t-1,b,j] * h.grad'[t,b,j]   if t > 0
            for b, j:     an.grad[t,b,j]   += h.grad'[t,b,j] * (1 - z[t,b,j]) * (1 - n[t,b,j]**2)
            for b, j, i:  Q.grad[j,i]      += r[t,b,i] * h[t-1,b,i] * an.grad[t,b,j]   if t > 0
            for b, j, i:  r.grad[t,b,i]    += Q[j,i] * h[t-1,b,i] * an.grad[t,b,j]   if t > 0
            for b, j, k:  P.grad[j,k]      += x[t,b,k] * an.grad[t,b,j]
            for b, j:     az.grad[t,b,j]   += z[t,b,j] * z.grad[t,b,j] * (1 - z[t,b,j])
            for b, j:     ar.grad[t,b,j]   += r[t,b,j] * r.grad[t,b,j] * (1 - r[t,b,j])
            for b, j, i:  Y.grad[j,i]      += h[t-1,b,i] * az.grad[t,b,j]   if t > 0
            for b, j, k:  V.grad[j,k]      += x[t,b,k] * az.grad[t,b,j]
            for b, j, i:  U.grad[j,i]      += h[t-1,b,i] * ar.grad[t,b,j]   if t > 0
            for b, j:     h.grad'[t-1,b,j] += z[t,b,j] * h.grad'[t,b,j]   if t > 0
            for b, j, i:  h.grad'[t-1,b,j] += U[i,j] * ar.grad[t,b,i] + Y[i,j] * az.grad[t,b,i] + Q[i,j] * r[t,b,j] * an.grad[t,b,i]   if t > 0
            for b, j, k:  W.grad[j,k]      += x[t,b,k] * ar.grad[t,b,j]
            for b, j, k:  x.grad[t,b,k]    += W[j,k] * ar.grad[t,b,j] + V[j,k] * az.grad[t,b,j] + P[j,k] * an.grad[t,b,j]
        """,
    "a product of factors, opaque": """
        for b, k:     e[b]        -= p[b,k] * p.grad[b,k]
        for b, k:     a.grad[b,k] += p[b,k] * (p.grad[b,k] + e[b])
        for b, k, j:  e3[b,j]     += W[j,k] * a.grad[b,k]
        for b, k, j:  W.grad[j,k] += x[b,j] * y[b] * a.grad[b,k]
        for j < J:
            for b:  y.before[b,j] = y.before[b,j-1] * (1 - x[b,j-1]**2) if j > 0 else 1
        for j < J descending:
            for b:  y.after[b,j] = y.after[b,j+1] * (1 - x[b,j+1]**2) if j < J - 1 else 1
        for b, j:  e2[b]       -= 2 * x[b,j] * e3[b,j]
        for b, j:  x.grad[b,j] += y[b] * e3[b,j] + x[b,j] * y.before[b,j] * y.after[b,j] * (e2[b] - 2 * y.grad[b])
        """,
    "sequences of several lengths": """
        for b, j:  h.grad[T-1,b,j] += y.grad[b,j]
        for t descending:
            for b, j:     x.grad[t,b,j]   += h.grad[t,b,j] * (1 - u[t,b,j]**2)   if t < n[b]
            for b, j, i:  W.grad[j,i]     += h[t-1,b,i] * x.grad[t,b,j]   if t > 0
            for b, j, i:  h.grad[t-1,b,j] += W[i,j] * x.grad[t,b,i]   if t > 0
            for b, j:     h.grad[t-1,b,j] += h.grad[t,b,j]   if t > 0 and t >= n[b]
        """,
    "both directions": """
        local g.grad[T,B,J]
        for t, b, j:  f.grad[t,b,j] += g[t,b,j] * y.grad[t,b,j]
        for t, b, j:  g.grad[t,b,j] += f[t,b,j] * y.grad[t,b,j]
        for t:
            for b, j:     c.grad[t,b,j]   += g.grad[t,b,j] * (1 - g[t,b,j]**2)
            for b, j:     x.grad[t,b,j]   += c.grad[t,b,j]
            for b, j, i:  V.grad[j,i]     += g[t+1,b,i] * c.grad[t,b,j]   if t < T - 1
            for b, j, i:  g.grad[t+1,b,i] += V[j,i] * c.grad[t,b,j]   if t < T - 1
        for t descending:
            for b, j:     a.grad[t,b,j]   += f.grad[t,b,j] * (1 - f[t,b,j]**2)
            for b, j:     x.grad[t,b,j]   += a.grad[t,b,j]
            for b, j, i:  W.grad[j,i]     += f[t-1,b,i] * a.grad[t,b,j]   if t > 0
            for b, j, i:  f.grad[t-1,b,i] += W[j,i] * a.grad[t,b,j]   if t > 0
        """,
    "attention at each time": """
        for t, b, d:  o.grad'[t,b,d] = o.grad[t,b,d]
        for t descending:
            for b, u, d:  p.grad[t,b,u]    += v[b,u,d] * o.grad'[t,b,d]
            for b, u, d:  v.grad[b,u,d]    += p[t,b,u] * o.grad'[t,b,d]
            for b, d:     e2[t,b]          -= o[t,b,d] * o.grad'[t,b,d]
            for b, u:     s.grad[t,b,u]    += p[t,b,u] * (p.grad[t,b,u] + e2[t,b])
            for b, u, d:  k.grad[b,u,d]    += c[t,b,d] * s.grad[t,b,u]
            for b, u, d:  q.grad[t,b,d]    += k[b,u,d] * s.grad[t,b,u]
            for b, d, e:  W.grad[d,e]      += o[t-1,b,e] * q.grad[t,b,d]   if t > 0
            for b, d, e:  o.grad'[t-1,b,e] += W[d,e] * q.grad[t,b,d]   if t > 0
        """,
    "layer norm at each time": """
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for t descending:
            for b, j:     y.grad[t,b,j]    += h.grad'[t,b,j] * (1 - h[t,b,j]**2)
            for b, j:     e[t,b]           -= y.grad[t,b,j] / J
            for b, j:     e2[t,b]          -= y[t,b,j] * y.grad[t,b,j] / J
            for b, j:     x.grad[t,b,j]    += (y.grad[t,b,j] + y[t,b,j] * e2[t,b] + e[t,b]) / sqrt(v[t,b] + eps)
            for b, j, i:  W.grad[j,i]      += h[t-1,b,i] * x.grad[t,b,j]   if t > 0
            for b, j, i:  h.grad'[t-1,b,i] += W[j,i] * x.grad[t,b,j]   if t > 0
        """,
    "what is the same at each turn": """
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for j, i, k:  e3[j,i]        += W[j,k] * V[k,i]
        for j:        e4[j]          += exp(A[j])
        for t descending:
            for b, j, k:  e[t,k,b]         += V[k,j] * h[t-1,b,j]   if t > 0
            for b, j, k:  W.grad[j,k]      += h.grad'[t,b,j] * e[t,k,b]   if t > 0
            for b, j, k:  e2[t,k,b]        += W[j,k] * h.grad'[t,b,j]
            for b, i, k:  V.grad[k,i]      += h[t-1,b,i] * e2[t,k,b]   if t > 0
            for b, j, i:  h.grad'[t-1,b,i] += h.grad'[t,b,j] * e3[j,i]   if t > 0
            for b, j:     A.grad[j]        += x[t,b,j] * h.grad'[t,b,j] * e4[j]
            for b, j:     x.grad[t,b,j]    += h.grad'[t,b,j] * e4[j]
        """,
    "a soft minimum over paths": """
        r.grad[N-1,M-1] += L.grad
        e               += a**2
        for n descending:
            for m descending:
                d.grad[n,m]     += r.grad[n,m]
                u.grad[n,m]     -= a * r.grad[n,m] / (u[n,m] + l[n,m] + c[n,m])
                r.grad[n-1,m-1] -= c[n,m] * u.grad[n,m] / a   if m > 0 and n > 0
                r.grad[n,m-1]   -= l[n,m] * u.grad[n,m] / a   if m > 0
                r.grad[n-1,m]   -= u[n,m] * u.grad[n,m] / a   if n > 0
                a.grad          -= r.grad[n,m] * log(u[n,m] + l[n,m] + c[n,m])
                a.grad          += l[n,m] * r[n,m-1] * u.grad[n,m] / e   if m > 0
                a.grad          += u[n,m] * r[n-1,m] * u.grad[n,m] / e   if n > 0
                a.grad          += c[n,m] * r[n-1,m-1] * u.grad[n,m] / e   if m > 0 and n > 0
        """,
    "a selective scan": """
        for k, n:  e3[k,n] += exp(A[k,n])
        for t descending:
            for b, k, n:  E.grad[b,t,n]     += h[b,t,k,n] * y.grad[b,t,k]
            for b, k, n:  h.grad[b,t,k,n]   += E[b,t,n] * y.grad[b,t,k]
            for b, k, n:  C.grad[b,t,n]     += x[b,t,k] * d[b,t,k] * h.grad[b,t,k,n]
            for b, k, n:  e[t,b,k]          += C[b,t,n] * h.grad[b,t,k,n]
            for b, k:     x.grad[b,t,k]     += d[b,t,k] * e[t,b,k]
            for b, k:     d.grad[b,t,k]     += x[b,t,k] * e[t,b,k]
            for b, k, n:  e2[t,b,k,n]       += exp(-(d[b,t,k] * e3[k,n]))   if t > 0
            for b, k, n:  d.grad[b,t,k]     -= h[b,t-1,k,n] * h.grad[b,t,k,n] * e2[t,b,k,n] * e3[k,n]   if t > 0
            for b, k, n:  A.grad[k,n]       -= d[b,t,k] * h[b,t-1,k,n] * h.grad[b,t,k,n] * e2[t,b,k,n] * e3[k,n]   if t > 0
            for b, k, n:  h.grad[b,t-1,k,n] += h.grad[b,t,k,n] * e2[t,b,k,n]   if t > 0
        """,
    "ugrnn": """
        local hp.grad[T,B,J]
        for t, b, j:  h.grad'[t,b,j] = h.grad[t,b,j]
        for t descending:
            for b, j:           hp.grad[t,b,j]   += G[t,b,j] * h.grad'[t,b,j]
            for b, j:           Ga.grad[t,b,j]   += G[t,b,j] * h.grad'[t,b,j] * (hp[t,b,j] - R[t,b,j]) * (1 - G[t,b,j])
            for b, j:           Ra.grad[t,b,j]   += h.grad'[t,b,j] * (1 - R[t,b,j]**2) * (1 - G[t,b,j])
            for b, j:           BG.grad[j]       -= Ga.grad[t,b,j] / B
            for b, j, k:        WxG.grad[j,k]    += x[t,b,k] * Ga.grad[t,b,j] / B
            for b, j, j' < J':  WhG.grad[j,j']   += hp[t,b,j'] * Ga.grad[t,b,j] / B
            for b, j:           BR.grad[j]       -= Ra.grad[t,b,j] / B
            for b, j, k:        WxR.grad[j,k]    += x[t,b,k] * Ra.grad[t,b,j] / B
            for b, j, k:        x.grad[t,b,k]    += WxR[j,k] * Ra.grad[t,b,j] + WxG[j,k] * Ga.grad[t,b,j]
            for b, j, j' < J':  WhR.grad[j,j']   += hp[t,b,j'] * Ra.grad[t,b,j] / B
            for b, j, j' < J':  hp.grad[t,b,j']  += WhR[j,j'] * Ra.grad[t,b,j] + WhG[j,j'] * Ga.grad[t,b,j]
            for b, j < J:       h.grad'[t-1,b,j] += hp.grad[t,b,j]   if t > 0
            for b, j:           h0.grad[b,j]     += hp.grad[t,b,j]   if t <= 0
        """,
}


def forward_of(name: str) -> lg.Program:
    return lg.program(textwrap.dedent(PROGRAMS[name])) if name in PROGRAMS else lg.lib.ugrnn


def body(program: lg.Program) -> str:
    """The statements, without the header."""
    return textwrap.dedent(str(program).partition(":\n")[2]).strip()


@pytest.mark.parametrize("name", GOLDEN)
def test_a_backward_with_blocks(name: str) -> None:
    forward = forward_of(name)
    literal = forward.backward()
    result = literal.simplify()
    assert body(result) == textwrap.dedent(GOLDEN[name]).strip()
    assert lg.program(str(result)) == result
    assert certify(literal, result, forward).kind == "agree"
    assert cost(result).value < cost(literal).value
    assert len(result.derivation) > 0


def test_an_equation_of_a_part_of_the_times_holds_there_only() -> None:
    """`h[t] = exp(a[t]) / Z[t]` is written from the second time on, and read there; not at the first."""
    forward = lg.program("""\
f(a[T,J], s[J]) -> h[T,J]:
    for j:  h[0,j] = s[j]
    for 1 <= t < T:
        for j:  Z[t]   += exp(a[t,j])
        for j:  h[t,j] = exp(a[t,j]) / Z[t]
""")
    claimed = (
        "g(a[T,J], Z[T]) -> y[T,J]:\n    for {}:\n        for j:  y[t,j] += exp(a[t,j]) / Z[t]"
    )
    within = lg.program(claimed.format("1 <= t < T")).simplify(forward)
    assert "h[t,j]" in str(within)
    assert "exp" not in str(within)
    for times in ("t", "t < T", "1 <= t < T-1"):
        outside = lg.program(claimed.format(times)).simplify(forward)
        assert "h[" not in str(outside)


def test_a_forward_with_blocks() -> None:
    program = lg.program("""\
f(x[T,B], a) -> h[T,B]:
    for t:
        for b:  u[t,b] = a * x[t,b] + a * tanh(x[t,b])
        for b:  v[t,b] = h[t-1,b] if t > 0 else 0
        for b:  h[t,b] = u[t,b] + v[t,b] * tanh(x[t,b]) + u[t,b] - a * x[t,b]
""")
    result = program.simplify()
    assert str(result).count("tanh") == 1
    assert lg.equal(program, result)


def test_what_is_the_same_at_each_turn_is_computed_before() -> None:
    program = lg.program("""\
f(x[T,U,B], A[B], c[U], v[J], w[J]) -> h[T,U,B]:
    for t:
        for u:
            for b:     a[t,u,b] = exp(A[b]) * tanh(c[u])
            for j, k:  s[t,u] += v[j] * w[k]
            for b:     h[t,u,b] += a[t,u,b] * x[t,u,b] + s[t,u]
            for b:     h[t,u,b] += h[t,u-1,b]   if u > 0
""")
    result = program.simplify()
    before, _, blocks = body(result).partition("for t:\n")
    assert "exp" in before
    assert "exp" not in blocks
    assert "for j" not in blocks
    assert lg.equal(program, result)


def test_what_is_written_in_a_block_is_not_computed_before_it() -> None:
    program = lg.program("""\
f(x[T,B]) -> h[T,B], s[T]:
    for t:
        for b:  h[t,b] = exp(x[0,b]) * x[t,b] + (exp(h[0,b]) if t > 0 else 0)
        for b:  s[t] += exp(h[t,b])
""")
    blocks = body(program.simplify()).partition("for t:\n")[2]
    assert "exp(h[t,b])" in blocks


def test_what_does_not_hang_together_is_dropped_from_a_block() -> None:
    program = lg.program("""\
f(x[T,B]) -> y[T,B]:
    for t:
        for b:  u[t,b] = x[t,b] - x[t,b]
        for b:  w[t,b] = tanh(x[t,b])
        for b:  y[t,b] = x[t,b] + w[t,b] * u[t,b]
""")
    assert body(program.simplify()) == "for t:\n    for b:  y[t,b] = x[t,b]"


def test_a_statement_that_is_too_large_stays_and_the_rest_is_simplified() -> None:
    terms = " + ".join(f"x[{n},b] * y[{n},t]" for n in range(8))
    program = lg.program(f"""\
f(x[8,B], y[8,T], s[T,B]) -> p[T,B], z[T,B]:
    for t:
        for b:  z[t,b] = ({terms})**12
        for b:  Z[t] += exp(s[t,b])
        for b:  p[t,b] = exp(s[t,b]) / Z[t]
""")
    result = program.simplify()
    assert ")**12" in str(result)
    assert str(result).count("exp") == 1
    assert lg.equal(program, result)


@pytest.mark.parametrize("name", ["a CRF's log-partition", "softmax at each time"])
def test_the_second_derivative(name: str) -> None:
    whole = forward_of(name).backward(recompute=True)
    second = whole.backward()
    result = second.simplify()
    assert result is second or certify(second, result, whole).kind == "agree"
