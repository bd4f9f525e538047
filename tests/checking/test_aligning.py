"""Faults of blocks, of orders and of programs that few inputs suit: each has its place and a mend."""

from __future__ import annotations

import pytest

import loopgrad as lg
from tests.checking.test_mutations import PROGRAMS

# A line of the derived backward, what stands in its place (nothing: it is left out), and the findings.
FAULTS = {
    "a factor lost, where only positive definite matrices have roots": (
        "corpus.cholesky",
        "L.grad'[i,k] += r.grad[j,i] * L[j,k]",
        "L.grad'[i,k] += L[j,k]",
        [(7, "missing factor")],
    ),
    "subscripts of a square exchanged, likewise": (
        "corpus.cholesky",
        "(A[i,j] - (r[j,i] if",
        "(A[i,j] - (r[i,j] if",
        [(6, "transposed")],
    ),
    "a seed lost, without which a gradient is made of itself": (
        "references.viterbi",
        "    for k < K:             δ.grad[T-1,k] += best.grad   if k == best.k\n",
        "",
        [(6, "missing term")],
    ),
    "another index of the winner": (
        "references.viterbi",
        "m.j[t,k]      min= j   if",
        "m.j[t,k]      min= j + 1   if",
        [(6, "superfluous term")],
    ),
    "a block, and with it the extent of what the next one reads": (
        "references.thomas",
        "    for i:\n        d'.grad[i]   += x.grad'[i]\n        c'.grad[i]   -= x.grad'[i] * x[i+1]   if i < N - 1\n"
        "        x.grad'[i+1] -= x.grad'[i] * c'[i]   if i < N - 1\n",
        "",
        [(4, "missing term")],
    ),
    "the last line of a block": (
        "references.thomas",
        "        c'.grad[i-1] -= den.grad[i] * a[i]   if i > 0",
        "",
        [(17, "missing term")],
    ),
    "a copy of a seed": (
        "references.gram_schmidt",
        "    for m, n':    Q.grad'[m,n']   = Q.grad[m,n']\n",
        "",
        [(3, "missing term")],
    ),
    "the line of a block that gives its range": (
        "references.horner",
        "        for n:  c.grad[k]       += acc.grad[k,n]",
        "",
        [(1, "missing term")],
    ),
    "a factor that gives a range": (
        "references.midpoint",
        "k'.grad[n,d]   += y.grad'[n+1,d] * h",
        "k'.grad[n,d]   += h",
        [(6, "wrong range")],
    ),
    "a whole block": (
        "corpus.sinkhorn",
        "    for 1 <= l <= L descending:\n"
        "        for j:     r.grad[l,j]   -= v.grad[l,j] / (M * r[l,j]**2)\n"
        "        for i, j:  K.grad[i,j]   += r.grad[l,j] * u[l,i]\n"
        "        for i, j:  u.grad[l,i]   += r.grad[l,j] * K[i,j]\n"
        "        for i:     s.grad[l,i]   -= u.grad[l,i] / (N * s[l,i]**2)\n"
        "        for i, j:  K.grad[i,j]   += s.grad[l,i] * v[l-1,j]\n"
        "        for i, j:  v.grad[l-1,j] += s.grad[l,i] * K[i,j]\n",
        "",
        [(5, "missing term")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_place_is_found_and_mended(name: str) -> None:
    program, right, wrong, findings = FAULTS[name]
    forward = PROGRAMS[program]
    text = str(forward.backward())
    assert right in text, text
    answer = lg.check(forward, text.replace(right, wrong, 1))
    assert [(f.line, f.kind) for f in answer.findings] == findings, str(answer)
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_a_line_goes_into_its_block() -> None:
    forward = PROGRAMS["references.thomas"]
    line = "        c'.grad[i-1] -= den.grad[i] * a[i]   if i > 0"
    text = str(forward.backward())
    assert lg.check(forward, text.replace(line, "")).mended == text.replace(line, line + "\n")


def test_constants_may_be_rounded() -> None:
    gelu = "gelu(x[N]) -> y[N]:\n    y[n] = x[n] * tanh(sqrt(2/pi) * x[n])"
    claimed = (
        "g(x[N], y.grad[N]) -> x.grad[N]:\n    for n:  t[n] = tanh(0.7978845608028654 * x[n])\n"
        "    for n:  x.grad[n] = y.grad[n] * (t[n] + 0.7978845608028654 * x[n] * (1 - t[n]**2))"
    )
    answer = lg.check(gelu, claimed)
    assert str(answer) == (
        "right, tested (they agree to 12 digits, and differ in exact arithmetic): `x.grad`"
    )
    assert not lg.check(gelu, claimed.replace("0.7978845608028654", "0.7978845608"))
