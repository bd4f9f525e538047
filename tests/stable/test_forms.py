"""What the stable forms look like, and what is left as it is."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.stable import gate, stabilize

GOLDEN = {
    "softmax": (
        """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]""",
        """softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z.max[b]   max= s[b,j]
    for b:     Z.shift[b] = Z.max[b] if abs(Z.max[b]) < inf else 0.0
    for b, j:  Z'[b]      += exp(s[b,j] - Z.shift[b])
    for b, j:  p[b,j]     += exp(s[b,j] - Z.shift[b]) / Z'[b]""",
    ),
    "a log of what is stored": (
        """f(s[B,J], int y[B]) -> L[B]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] = exp(s[b,j]) / Z[b]
    for b:     L[b]   = -log(p[b,y[b]])""",
        """f(s[B,J], int y[B]) -> L[B]:
    for b, j:  Z.max[b]   max= s[b,j]
    for b:     Z.shift[b] = Z.max[b] if abs(Z.max[b]) < inf else 0.0
    for b, j:  Z'[b]      += exp(s[b,j] - Z.shift[b])
    for b:     L[b]       = -(s[b,y[b]] - Z.shift[b] - log(Z'[b]))""",
    ),
    "inside a block; what no rule touches stays": (
        """f(s[T,J], w[J]) -> p[T,J], y[T]:
    for t:
        for j:  Z[t]   += exp(s[t,j])
        for j:  p[t,j] = exp(s[t,j]) / Z[t]
    for t, j:  y[t] += w[j] * p[t,j]""",
        """f(s[T,J], w[J]) -> p[T,J], y[T]:
    for t:
        for j:  Z.max[t] max= s[t,j]
        Z.shift[t] = Z.max[t] if abs(Z.max[t]) < inf else 0.0
        for j:  Z'[t]  += exp(s[t,j] - Z.shift[t])
        for j:  p[t,j] = exp(s[t,j] - Z.shift[t]) / Z'[t]
    for t, j:  y[t] += w[j] * p[t,j]""",
    ),
    "a mixture of logistics; signs in products make no difference": (
        """f(y[N], m[N,K], s[N,K]) -> l[N]:
    for n, k:  p[n] += exp(-s[n,k] - (y[n] - m[n,k]) * exp(-s[n,k])) / (1 + exp((m[n,k] - y[n]) * exp(-s[n,k])))**2
    for n:     l[n] = log(p[n])""",
        """f(y[N], m[N,K], s[N,K]) -> l[N]:
    for n, k:  p.max[n]   max= -s[n,k]
    for n:     p.shift[n] = p.max[n] if abs(p.max[n]) < inf else 0.0
    for n, k:  p'[n]      += sigmoid((m[n,k] - y[n]) * exp(-s[n,k])) * sigmoid(-((m[n,k] - y[n]) * exp(-s[n,k]))) * exp(-s[n,k] - p.shift[n])
    for n:     l[n]       = p.shift[n] + log(p'[n])""",
    ),
    "BCE of a sigmoid": (
        """f(x[N], t[N]) -> L:
    for n:  p[n] = 1 / (1 + exp(-x[n]))
    for n:  L    -= t[n] * log(p[n])
    for n:  L    -= (1 - t[n]) * log(1 - p[n])""",
        """f(x[N], t[N]) -> L:
    for n:  L += t[n] * softplus(-x[n])
    for n:  L += (1 - t[n]) * softplus(x[n])""",
    ),
    "groups that are of one size": (
        """f(x[B,C,N], size G) -> y[B,C,N]:
    local μ[B,G]
    for b, c, n:  μ[b, c*G//C] += x[b,c,n] * G / (C * N)
    for b, c, n:  y[b,c,n]     = x[b,c,n] - μ[b, c*G//C]""",
        """f(x[B,C,N], size G) -> y[B,C,N]:
    local μ[B,G], x.max[B,G]
    for b, c, n:   x.max[b, c*G//C] max= x[b,c,n]
    for b, g < G:  x.shift[b,g]     = x.max[b,g] if abs(x.max[b,g]) < inf and C % G == 0 else 0.0
    for b, c, n:   μ[b, c*G//C]     += (x[b,c,n] - x.shift[b, c*G//C]) * G / (C * N)
    for b, c, n:   y[b,c,n]         = x[b,c,n] - x.shift[b, c*G//C] - μ[b, c*G//C]""",
    ),
    "an offset that only the mean takes off": (
        """f(x[B,J]) -> v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  v[j] += x[b,j]**2 / B
    for j:     v[j] -= μ[j]**2""",
        """f(x[B,J]) -> v[J]:
    for b, j:  x.mean[j]  += x[b,j] / B
    for j:     x.shift[j] = x.mean[j] if abs(x.mean[j]) < inf else 0.0
    for b, j:  μ[j]       += (x[b,j] - x.shift[j]) / B
    for b, j:  v[j]       += (x[b,j] - x.shift[j])**2 / B
    for j:     v[j]       -= μ[j]**2""",
    ),
    "distances from 1": (
        """f(x[N], c) -> y[N], L:
    for n:  y[n] = x[n] if x[n] > 0 else exp(x[n]) - 1
    for n:  L    += log((x[n] / c)**2 + 1)""",
        """f(x[N], c) -> y[N], L:
    for n:  y[n] = x[n] if x[n] > 0 else expm1(x[n])
    for n:  L    += log1p((x[n] / c)**2)""",
    ),
    "a result that moves with the input": (
        """f(s[B,J], w[J]) -> L[B], M[B]:
    for b, j:  L[b] += s[b,j] / J
    for b, j:  q[b] += s[b,j]**2 / J
    for b:     M[b] = w[0] * (q[b] - L[b]**2)""",
        """f(s[B,J], w[J]) -> L[B], M[B]:
    for b, j:  s.mean[b]  += s[b,j] / J
    for b:     s.shift[b] = s.mean[b] if abs(s.mean[b]) < inf else 0.0
    for b, j:  L'[b]      += (s[b,j] - s.shift[b]) / J
    for b, j:  q[b]       += (s[b,j] - s.shift[b])**2 / J
    for b:     M[b]       = w[0] * (q[b] - L'[b]**2)
    for b:     L[b]       = L'[b]
    for b:     L[b]       += s.shift[b]""",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    written, stable = GOLDEN[name]
    found = stabilize(lg.program(written))
    assert str(found) == stable
    assert lg.program(str(found)) == found


def test_names_that_are_taken() -> None:
    text = """f(s[B,J], Z.max[B]) -> p[B,J], Z'[B]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] = exp(s[b,j]) / Z[b]
    for b:     Z'[b]  = Z.max[b]"""
    assert (
        str(stabilize(lg.program(text)))
        == """f(s[B,J], Z.max[B]) -> p[B,J], Z'[B]:
    for b, j:  Z.max2[b]  max= s[b,j]
    for b:     Z.shift[b] = Z.max2[b] if abs(Z.max2[b]) < inf else 0.0
    for b, j:  Z''[b]     += exp(s[b,j] - Z.shift[b])
    for b, j:  p[b,j]     = exp(s[b,j] - Z.shift[b]) / Z''[b]
    for b:     Z'[b]      = Z.max[b]"""
    )


LEFT_ALONE = {
    "the maximum is taken off": lg.lib.stable_softmax,
    "a sigmoid": "f(x[N]) -> y[N]:\n    y[n] = x[n] * sigmoid(x[n])",
    "an exponential": "f(x[N]) -> y[N]:\n    y[n] = exp(x[n])",
    "a sum that nothing divides by": "f(x[B,J]) -> y[B]:\n    for b, j:  y[b] += exp(-x[b,j]**2)",
    "bounded": "f(x[N]) -> y[N]:\n    y[n] = 1 / (1 + exp(-abs(x[n])))",
    "a gate": "f(g[N], x[N]) -> y[N]:\n    G[n] = sigmoid(g[n])\n    y[n] = (1 - G[n]) * x[n]",
    "root mean square": lg.lib.rms_norm,
    "affine": "f(x[B,I], param W[J,I]) batch B -> y[B,J]:\n    y[b,j] = W[j,I] * x[b,I]",
    "pooled": "f(x[B,J]) -> y[B]:\n    y[b] = mean[j](x[b,j])",
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_left_as_it_is(name: str) -> None:
    given = LEFT_ALONE[name]
    program = lg.program(given) if isinstance(given, str) else given
    assert stabilize(program) is program


def test_what_cannot_overflow_or_cancel_is_not_even_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(gate.Gate, "__init__", refuse)
    for text in (LEFT_ALONE["affine"], LEFT_ALONE["pooled"]):
        program = lg.program(str(text))
        assert stabilize(program) is program
        assert stabilize(program.backward()) == program.backward()


def test_a_form_that_the_certificate_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    program = lg.program(str(lg.lib.gumbel_softmax))
    asked: list[lg.Program] = []
    is_equal = gate.Gate.is_equal

    def refuse_the_first(self: gate.Gate, form: lg.Program) -> bool:
        asked.append(form)
        return len(asked) > 1 and is_equal(self, form)

    monkeypatch.setattr(gate.Gate, "is_equal", refuse_the_first)
    found = stabilize(program)
    assert len(asked) == len(set(asked)) == 2
    assert found is not program
    assert found != stabilize(lg.lib.gumbel_softmax)


def test_where_the_certificate_refuses_all_forms_what_is_written_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate.Gate, "is_equal", lambda *_: False)
    program = lg.program(GOLDEN["softmax"][0])
    assert stabilize(program) is program


def test_a_form_is_kept_with_the_program() -> None:
    program = lg.program(GOLDEN["softmax"][0])
    assert stabilize(program) == stabilize(program)
    assert str(lg.compile(program).program).count("Z.shift") == 4
    assert "Z.shift" not in str(lg.compile(program, optimize=False).program)
