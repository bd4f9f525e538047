"""Python functions into programs: each spelling beside the text that it equals."""

# ruff: noqa: B008, F722, F821, UP037 (annotations hold declarations of the notation)
from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.frontend.parser import parse
from tests.frontend.test_unfold import program

HERE = Path(__file__).name
RNG = np.random.default_rng(5)


def test_softmax() -> None:
    @lg.program
    def softmax(s: "B J"):
        b, j = lg.indices("b j")
        Z, p = lg.tensor("B"), lg.tensor("B J")
        Z[b] += np.exp(s[b, j])
        p[b, j] += np.exp(s[b, j]) / Z[b]
        return p

    text = """
        softmax(s[B,J]) -> p[B,J]:
            local Z[B]
            for b, j:  Z[b]   += exp(s[b,j])
            for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
    """
    assert softmax == program(text)
    s = RNG.normal(size=(2, 3))
    assert np.allclose(softmax(s), np.exp(s) / np.exp(s).sum(1, keepdims=True))


def test_extents_that_are_not_given_are_inferred() -> None:
    @lg.program
    def blur(x: "N", w: "3"):
        n, i = lg.indices("n i")
        y, z = lg.tensor(), lg.tensor()
        N = lg.extents("N")
        with lg.over(lg.index("n", N - 2), i):
            y[n, 0] += x[n + i] * w[i]
        z[n] = y[n, 0] ** 2
        return z, y

    assert str(blur).startswith("blur(x[N], w[3]) -> z[N-2], y[N-2,1]:")


def test_every_kind_of_argument() -> None:
    X, DX = lg.extents("X DX")

    @lg.program(name="conv.grad", batch="B")
    def conv(
        x: "B X",
        k: "param DX",
        g: lg.tensor("B", X - DX + 1, name="g'"),
        h: "B, (X-DX)//stride + 1",
        n: "int B",
        m: "bool [B]",
        K: "size",
        scale: lg.tensor(),
        w=lg.tensor("J'", 3, kind="param"),
        eps=1e-5,
        stride=2,
    ):
        b, i, j = lg.indices("b i j")
        y = lg.tensor("B")
        y[b] += g[b, i] * scale
        y[b] += h[b, i] * eps
        y[b] += x[b, i] * n[b] * m[b]
        y[b] += k[i] * w[j, 0] + K
        return y

    text = """
        conv.grad(x[B,X], param k[DX], g'[B,X-DX+1], h[B, (X-DX)//stride + 1], int n[B], bool m[B],
                  size K, scale, param w[J',3], eps = 1e-5, stride = 2) batch B -> y[B]:
            y[b] += g'[b,i] * scale
            y[b] += h[b,i] * eps
            y[b] += x[b,i] * n[b] * m[b]
            y[b] += k[i] * w[j,0] + K
    """
    assert conv == program(text)


def test_statements_blocks_and_guards() -> None:
    @lg.program
    def f(x: "T B", n: "int B"):
        T, _ = x.shape
        t, b = lg.indices("t b")
        u = lg.index("u", 0, t + 1)
        h, p, q, r = (lg.tensor("T B") for _ in range(4))
        L = lg.tensor()
        with lg.over(b, t):
            p[t, b] *= x[t, b]
        q.at[t, b].max(x[u, b])
        r.at[t, b].min(x[u, b])
        with lg.loop(reversed(t)), lg.loop(b):
            with lg.when(t > 0):
                h[t, b] -= x[t - 1, b] * 2
            h[t, b] += lg.where((t < T - 1) & ~(n[b] == 0), h[t + 1, b], 1.5)
        L += x[t, b] + p[t, b]
        L -= h[t, b]
        return h, q, r, L

    text = """
        f(x[T,B], int n[B]) -> h[T,B], q[T,B], r[T,B], L:
            local p[T,B]
            for b, t:          p[t,b] *= x[t,b]
            for t, b, u <= t:  q[t,b] max= x[u,b]
            for t, b, u <= t:  r[t,b] min= x[u,b]
            for t descending:
                for b:
                    h[t,b] -= x[t-1,b] * 2   if t > 0
                    h[t,b] += h[t+1,b] if t < T - 1 and not n[b] == 0 else 1.5
            L += x[t,b] + p[t,b]
            L -= h[t,b]
    """
    assert f == program(text)


def test_expressions() -> None:
    @lg.program
    def f(x: "N", w: "int N", a: ""):
        n = lg.indices("n")
        y = lg.tensor("N")
        y[n] = 2 - x[n] + 3 / x[n] - 2 ** x[n] + (-x[n]) ** 2 + abs(x[n]) * math.pi
        y[n] += lg.max(x[n], 0) + np.minimum(x[n], a) + lg.inf * 0 + lg.sigmoid(x[n])
        y[n] += x[(w[n] // 2 + 1) % 3] + math.floor(x[n]) + np.float64(0.5) * x[n]
        y[n] += lg.where(lg.compare(0, "<=", w[n], "<", 3) | (x[n] != 1), 1, 0)
        return y

    text = """
        f(x[N], int w[N], a) -> y[N]:
            y[n] = 2 - x[n] + 3 / x[n] - 2**x[n] + (-x[n])**2 + abs(x[n]) * pi
            y[n] += max(x[n], 0) + min(x[n], a) + inf * 0 + sigmoid(x[n])
            y[n] += x[(w[n]//2+1)%3] + floor(x[n]) + 0.5 * x[n]
            y[n] += 1 if 0 <= w[n] < 3 or x[n] != 1 else 0
    """
    assert f == program(text)


def test_equations_capitals_and_reductions() -> None:
    @lg.program
    def f(W: "J I", x: "B I", c: "J"):
        J, I = W.shape
        b, j, k, q = lg.indices("b j k q")
        y, z, p = lg.tensor("B J"), lg.tensor("B"), lg.tensor("B J")
        y[b, j] = W[j, I] * x[b, I] - c[j]
        z[b] = lg.logsumexp[j](y[b, j]) + lg.sum[lg.index("t", 1, J)](c[lg.index("t", 1, J)])
        p[b, j] = lg.softmax[j](y[b, j]) * lg.mean[k, q](W[k, q]) + lg.max[k](c[k])
        return z, p

    text = """
        f(W[J,I], x[B,I], c[J]) -> z[B], p[B,J]:
            local y[B,J]
            y[b,j] = W[j,I] * x[b,I] - c[j]
            z[b] = logsumexp[j](y[b,j]) + sum[1 <= t < J](c[t])
            p[b,j] = softmax[j](y[b,j]) * mean[k,q](W[k,q]) + max[k](c[k])
    """
    assert f == program(text)


CALLEES = """
    moments(x[N], eps = 0.5) -> m, v:
        m = mean[n](x[n])
        v = mean[n]((x[n] - m)**2) + eps
    cell(W[J,J], x[B,J], h[B,J]) -> h'[B,J]:
        h'[b,j] = tanh(W[j,J] * h[b,J] + x[b,j])
    twice(x[N]) -> y[N]:
        y[n] = 2 * x[n]
"""


def test_calls_of_other_programs() -> None:
    moments, cell, twice = parse(dedent(CALLEES).strip())

    @lg.program
    def f(W: "J J", x: "T B J", h0: "B J"):
        T, B, J = x.shape
        t, b, j = lg.indices("t b j")
        h, m, v = lg.tensor(lg.extents("T") + 1, B, J), lg.tensor("B"), lg.tensor("B")
        h[0, b, j] = h0[b, j]
        with lg.loop(lg.index("t", T)):
            h[t + 1, B, J] = cell(W, x[t, B, J], h[t, B, J])
        m[b], v[b] = moments(h0[b, J], eps=2)
        c = twice(m)
        r = twice(x=v)
        return h, c, r

    text = (
        CALLEES
        + """
    f(W[J,J], x[T,B,J], h0[B,J]) -> h[T+1,B,J], c[B], r[B]:
        local m[B], v[B]
        for b, j:  h[0,b,j] = h0[b,j]
        for t < T:
            h[t+1,B,J] = cell(W, x[t,B,J], h[t,B,J])
        for b:  m[b], v[b] = moments(h0[b,J], eps=2)
        c = twice(m)
        r = twice(v)
    """
    )
    assert f == program(text)
    w, x, h = RNG.normal(size=(2, 2)), RNG.normal(size=(3, 4, 2)), RNG.normal(size=(4, 2))
    assert np.allclose(f(w, x, h)[1], 2 * h.mean(1))


def test_layers_generated_by_code() -> None:
    def stack(depth: int) -> lg.Program:
        @lg.program(name=f"mlp{depth}")
        def mlp(x: "B K", W: "param K K'"):
            b, j, K = *lg.indices("b j"), lg.extents("K")
            h = x
            for _ in range(depth):
                a = lg.tensor()
                a[b, j] = lg.tanh(W[j, K] * h[b, K])
                h = a
            return h

        return mlp

    x, w = RNG.normal(size=(2, 3)), RNG.normal(size=(3, 3))
    expected = x
    for _ in range(3):
        expected = np.tanh(expected @ w.T)
    assert np.allclose(stack(3)(x, w), expected)
    assert str(stack(2)).splitlines()[1:] == [
        "    for b, j:  a[b,j]  = tanh(W[j,K] * x[b,K])",
        "    for b, j:  a2[b,j] = tanh(W[j,K] * a[b,K])",
    ]


def test_names_that_python_has_not() -> None:
    @lg.program(name="softmax.backward")
    def backward(p: "B J", g: lg.tensor("B J", name="p.grad")):
        b, j = lg.indices("b j")
        s = lg.tensor("B J", name="s.grad")
        s[b, j] += p[b, j] * g[b, j]
        return s

    assert str(backward).startswith("softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:")


# ------------------------------------------------------------------------------- what is refused


def _if(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    if x[n] > 0:
        y[n] = 1
    return y


def _and(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = lg.where(x[n] > 0 and x[n] < 1, 1, 0)
    return y


def _chain(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = lg.where(0 < n < 3, 1, 0)
    return y


def _iterate(x: "N"):
    y = lg.tensor()
    for e in x:
        y += e
    return y


def _no_return(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = x[n]


def _in_place(x: "N"):
    n = lg.index("n")
    x[n] += 1
    return x


def _expression(x: "N"):
    n = lg.index("n")
    return lg.exp(x[n])


def _whole(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = x * 2
    return y


def _rank(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = x[n, n]
    return y


def _slice(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = x[:]
    return y


def _float(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = math.exp(x[n])
    return y


def _array(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = x[n] * "two"
    return y


def _ufunc(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    y[n] = np.arctan(x[n])
    return y


def _undeclared(x):
    y = lg.tensor()
    y += x
    return y


def _reduce(x: "N"):
    n, y = lg.index("n"), lg.tensor()
    y += lg.sum(x[n])
    return y


def _empty(x: "N"):
    n, y = lg.index("n"), lg.tensor("N")
    with lg.loop(n):
        pass
    y[n] = x[n]
    return y


@pytest.mark.parametrize(
    ("function", "words", "mend"),
    [
        (_if, "the truth of", "lg.where"),
        (_and, "the truth of", "`&`"),
        (_chain, "the truth of", "lg.compare"),
        (_iterate, "cannot be iterated", "lg.loop"),
        (_no_return, "returns no tensor", "return y"),
        (_in_place, "is an input", "lg.tensor"),
        (_expression, "no computed tensor", "lg.tensor"),
        (_whole, "without subscripts", "subscript it"),
        (_rank, "1 axis, and is given 2", "1 subscript"),
        (_slice, "names no index", "name an index"),
        (_float, "no number", "lg.exp"),
        (_array, "cannot stand", "number"),
        (_ufunc, "`np.arctan`", "notation's functions"),
        (_undeclared, "nothing tells what `x`", "x: 'B J'"),
        (_reduce, "no index to reduce over", "lg.sum\\[i\\]"),
        (_empty, "no statements", "with"),
    ],
)
def test_misuse_says_what_to_write(function: Callable[..., Any], words: str, mend: str) -> None:
    with pytest.raises(lg.ProgramError, match=words) as error:
        lg.program(function)
    found = error.value.diagnostics[0]
    assert found.help is not None
    assert mend.replace("\\", "") in found.help
    assert found.span is not None
    assert found.span.source.name.endswith(HERE)


def test_errors_point_at_the_line_of_python() -> None:
    with pytest.raises(lg.ProgramError) as error:
        lg.program(_if)
    assert error.value.line == _if.__code__.co_firstlineno + 2
    assert "if x[n] > 0:" in str(error.value)


def test_later_errors_point_at_the_line_of_python() -> None:
    def f(x: "N"):
        n, y = lg.index("n"), lg.tensor("N")
        y[n] = x[n]
        y[n] = 2 * x[n]
        return y

    with pytest.raises(lg.ProgramError) as error:
        lg.program(f)
    assert error.value.line == f.__code__.co_firstlineno + 3


def test_names_have_to_be_names_of_the_notation() -> None:
    with pytest.raises(lg.ProgramError, match="is no name"):
        lg.program(lambda x: x)
    with pytest.raises(lg.ProgramError, match="word of the notation"):
        lg.index("size")


def test_symbols_outside_a_function() -> None:
    n = lg.index("n")
    with pytest.raises(lg.ProgramError, match="outside"):
        lg.tensor("N")[n] += 1
    with pytest.raises(lg.ProgramError, match="outside"), lg.loop(n):
        pass
