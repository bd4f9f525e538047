"""Losses as papers write them, at logits of any size: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg

SIZES = {"N": 7, "B": 4, "C": 5, "K": 3, "D": 4, "E": 5}
# What `SCALED` of the inputs are multiplied by; the others are ordinary, positive ones in (0, 1).
SCALED = ("x", "s", "w", "l", "y", "m")
POSITIVE = ("t", "e", "g")

LOSSES = {
    "focal": """f(x[N], t[N]) -> L:
    for n:  p[n] = 1 / (1 + exp(-x[n]))
    for n:  L -= t[n] * (1 - p[n])**2 * log(p[n]) + (1 - t[n]) * p[n]**2 * log(1 - p[n])""",
    "direct preferences": """f(w[N], l[N], a[N], b[N]) -> L:
    for n:  L -= log(1 / (1 + exp(-0.1 * (w[n] - a[n] - l[n] + b[n])))) / N""",
    "Plackett-Luce": """f(s[B,N]) -> L:
    for b, i < N, i <= j < N:  Z[b,i] += exp(s[b,j])
    for b, i < N:  L += log(Z[b,i]) - s[b,i]""",
    "Cox": """f(s[N], e[N]) -> L:
    for i < N, j < N:  Z[i] += exp(s[j])   if j >= i
    for i < N:  L += e[i] * (log(Z[i]) - s[i])""",
    "mixture of Gaussians": """f(y[N], m[N,K], v[N,K], a[N,K]) -> L:
    for n, k:  Z[n] += exp(a[n,k])
    for n, k:  p[n] += exp(a[n,k]) / Z[n] * exp(-((y[n] - m[n,k]) / exp(v[n,k]))**2 / 2) / exp(v[n,k])
    for n:  L -= log(p[n]) / N""",
    "label smoothing": """f(s[B,C], int k[B]) -> L:
    for b, c:  Z[b] += exp(s[b,c])
    for b, c:  L -= ((0.9 if c == k[b] else 0) + 0.1 / C) * log(exp(s[b,c]) / Z[b]) / B""",
    "both ways": """f(s[B,B]) -> L:
    for i < B, j < B:  R[i] += exp(s[i,j])
    for i < B, j < B:  S[j] += exp(s[i,j])
    for i < B:  L += (log(R[i]) + log(S[i]) - 2 * s[i,i]) / (2 * B)""",
    "mish": """f(x[N]) -> L:
    for n:  L += x[n] * tanh(log(1 + exp(x[n])))""",
    "a router": """f(x[B,E], V[B,E,D]) -> L:
    for b, e:  Z[b] += exp(x[b,e])
    for b, e:  p[b,e] = exp(x[b,e]) / Z[b]
    for b, e, d:  y[b,d] += p[b,e] * V[b,e,d]
    for b, d:  L += y[b,d]**2
    for b, e:  L += E * p[b,e] * p[b,e] / B
    for b:  L += 0.001 * log(Z[b])**2""",
    "a variational autoencoder": """f(x[N], t[N], h[K], v[K]) -> L:
    for n:  L += log(1 + exp(x[n])) - t[n] * x[n]
    for k:  L -= (1 + v[k] - h[k]**2 - exp(v[k])) / 2""",
}


def inputs(program: lg.Program, scale: float) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    found = []
    for i in program.inputs:
        shape = [SIZES[e.name] for e in i.extents]  # type: ignore[union-attr]
        if i.kind == "int":
            found.append(rng.integers(0, SIZES["C"], shape))
        elif i.name in POSITIVE:
            found.append(rng.uniform(0.05, 0.95, shape).astype(np.float32))
        else:
            values = rng.normal(size=shape) * (scale if i.name in SCALED else 1)
            found.append(values.astype(np.float32))
    return found


def derived(program: lg.Program, given: list[np.ndarray], real: type) -> list[np.ndarray]:
    own = [a.astype(real) if a.dtype.kind == "f" else a for a in given]
    loss, pullback = lg.vjp(program, *own)
    return [loss, *(g for g in pullback(real(-1.25)) if g is not None)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [10, 60, 500])
def test_numbers_in_float32_wherever_there_are_some(name: str, scale: float) -> None:
    program = lg.program(LOSSES[name])
    given = inputs(program, scale)
    pairs = zip(
        derived(program, given, np.float32), derived(program, given, np.float64), strict=True
    )
    for found, exact in pairs:
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("name", LOSSES)
def test_they_are_what_is_written(name: str) -> None:
    program = lg.program(LOSSES[name])
    given = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs(program, 1.0)]
    found = derived(program, given, np.float64)
    np.testing.assert_allclose(found[0], lg.compile(program, "interpret")(*given), rtol=1e-10)
    backward = lg.compile(program.backward(recompute=True), "interpret")(*given, np.float64(-1.25))
    backward = backward if isinstance(backward, tuple) else (backward,)
    for one, other in zip(found[1:], backward, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
