"""`loopgrad problems`: every answer is computed; here stand those that have to come out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from loopgrad import edf
from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import Program
from loopgrad.problems import differences, worked
from tests.cli.conftest import Run

ANSWERS = {
    "0": [
        "KL(P,Q)  inf",
        "H = h + d",
        "(put in d)",
        "= h + sum[n](P[n] * log(P[n] / Q[n]) if P[n] > 0 else 0)",
        "(put in h)",
        "(log(P[n] / Q[n]) = log(P[n]) - log(Q[n]), where P[n] > 0)",
        "= -sum[n](P[n] * log(Q[n]) if P[n] > 0 else 0)",
        "x.grad += y.grad * (1 - 1 / x)",
        "= sum[n](Q[n] if P[n] > 0 else 0) - sum[n](P[n] if P[n] > 0 else 0)",
        "(sum[n](P[n]) = 1, by the definition of W)",
        "= H.grad * (Q[n] - P[n])",
        "for n:  s.grad[n] += H.grad * (Q[n] - P[n])",
        "Q = P                3,000 pairs, smallest gap 0.0e+00",
        "Q misses mass of P   2,400 pairs, smallest gap inf",
    ],
    "1": [
        "for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]",
        "for b, j:  Z.grad[b] -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2",
        "for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])",
    ],
    "2": [
        "s.grad[b,j] = p.grad[b,j] * exp(s[b,j]) / Z[b] + Z.grad[b] * exp(s[b,j])",
        "(put in Z.grad)",
        "(exp(s[b,j]) = Z[b] * p[b,j], by the definition of p)",
        "= p[b,j] * p.grad[b,j] - p[b,j] * sum[j'](p[b,j'] * p.grad[b,j'])",
        "= p[b,j] * (p.grad[b,j] + e[b])",
        "for b, j:  e[b]        -= p[b,j] * p.grad[b,j]",
        "for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])",
        "proved",
        "written by hand         operations 5*B*J, transcendental 0, bytes 20*B*J + 8*B",
        "derived from them       operations 5*B*J, transcendental 0, bytes 20*B*J + 8*B",
        "the loops of problem 1  operations 11*B*J + 1*B, transcendental 3*B*J, bytes 28*B*J + 16*B",
    ],
    "3": [
        "for b, j:  x.grad[b,j] += x'.grad[b,j] / sqrt(s[j])",
        "for b, j:  μ.grad[j]   -= x'.grad[b,j] / sqrt(s[j])",
        "for b, j:  s.grad[j]   -= x'.grad[b,j] * (x[b,j] - μ[j]) / (2 * s[j]**1.5)",
        "for b, j:  x.grad[b,j] += 2 * s.grad[j] * (x[b,j] - μ[j]) / (B - 1)",
        "for b, j:  μ.grad[j]   -= 2 * s.grad[j] * (x[b,j] - μ[j]) / (B - 1)",
        "for b, j:  x.grad[b,j] += μ.grad[j] / B",
        "for b, j:  μ.grad[j] -= 2 * s.grad[j] * (x[b,j] - μ[j]) / (B - 1)",
        "equal without it: proved",
        "(sum[b](x'[b,j]) = 0, by the definition of μ)",
        "for b, j:  x.grad[b,j] += (x'.grad[b,j] + x'[b,j] * e[j] + e2[j]) / sqrt(s[j])",
    ],
    "4": [
        "for b, j, i:  Ra[b,j] += WhR[j,i] * h[b,i]",
        "for b, j, k:  Ra[b,j] += WxR[j,k] * x[b,k]",
        "for b, j:     Ra[b,j] -= BR[j]",
        "for b, j:     BR.grad[j]    -= Ra.grad[b,j] / B",
        "for b, j, k:  WxR.grad[j,k] += Ra.grad[b,j] * x[b,k] / B",
        "for b, j, k:  x.grad[b,k]   += Ra.grad[b,j] * WxR[j,k]",
        "for b, j, i:  WhR.grad[j,i] += Ra.grad[b,j] * h[b,i] / B",
        "for b, j, i:  h.grad[b,i]   += Ra.grad[b,j] * WhR[j,i]",
        "for b, j:  Ra[b,j] = WhR[j,I] * h[b,I] + WxR[j,K] * x[b,K] - BR[j]",
    ],
    "5": [
        "for x in X:",
        "h = CELL(Phi, x, h)",
        "H.append(h)",
        "h_0 = CELL(Phi, X[0], ZERO)",
        "h_1 = CELL(Phi, X[1], h_0)",
        "lstm_cell    66 gradients, 0 wrong",
        "a function   40 gradients, 0 wrong",
        "time                    Max(T*ceil(log2(J')) + 8*T, T*ceil(log2(J')) + 8*T - ceil(log2(J')) + ceil(log2(K)) - 1)",
        "h[t,b,j] reads G[t,b,j] reads Ga[t,b,j] reads hp[t,b,j'] reads h[t-1,b,j']",
        "operations that a step adds to the longest chain: 13, 13",
        "T = 16: work 1,081,344 and 1,081,344, time 208 and 208",
        "time at most 2*ceil(log2(T)) + 1, without a scan T",
        "65536         851,968              45              46              33",
        "1,000,000           833    5,192.5",
    ],
}


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("number", ANSWERS)
def test_the_answers(run: Run, number: str) -> None:
    said = run("problems", number)
    assert (said.err, said.status) == ("", 0)
    lines = [line.strip() for line in said.out.splitlines()]
    places = [lines.index(answer) for answer in ANSWERS[number][:5]]
    assert places == sorted(places)
    assert set(ANSWERS[number]) <= set(lines)
    agreements = re.findall(
        r"(?:relative difference|J = \d+:|\.grad ) +(\S+e-\d+)$", said.out, re.M
    )
    assert agreements and all(float(a) < 1e-6 for a in agreements)
    assert "FAILS" not in said.out


@pytest.mark.usefixtures("once")
def test_all_of_them(run: Run) -> None:
    said = run("problems")
    assert [line for line in said.out.splitlines() if line.startswith("Problem ")] == [
        "Problem 0. Information theory",
        "Problem 1. Backpropagation through softmax",
        "Problem 2. Optimised backpropagation through softmax",
        "Problem 3. Backpropagation through batch normalisation",
        "Problem 4. Backpropagation through a UGRNN",
        "Problem 5. Writing framework code",
    ]


@pytest.mark.parametrize("number", ["6", "7", "-1"])
def test_those_that_there_are_not(run: Run, number: str) -> None:
    said = run("problems", "--", number)
    assert said == (
        "",
        f"error: no answer to problem {number}: there are `0`, `1`, `2`, `3`, `4` and `5`\n",
        2,
    )


def test_no_number(run: Run) -> None:
    assert run("problems", "one").status == 2


def test_a_wrong_gradient_is_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares two computations: it fails where one of them is off."""
    right = differences._gradients

    def wrong(*arguments: object) -> differences.Arrays:
        return {name: 1.001 * value for name, value in right(*arguments).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(differences, "_gradients", wrong)
    said = run("problems", "1")
    assert said.status == 1
    assert "DISAGREES" in said.out


@pytest.mark.usefixtures("once")
def test_the_checks_cover_every_input() -> None:
    for number in worked.SOLUTIONS:
        solved = worked.solve(number)
        assert solved.passed
        assert solved.checks or any(solved.evidence)
        programs = worked.programs()
        for name, checks in solved.checks.items():
            assert [c.input for c in checks] == [i.name for i in programs[name].inputs]
            assert all(c.derived != 0 for c in checks)


@pytest.mark.usefixtures("once")
def test_the_gaps_of_problem_0(run: Run) -> None:
    """The smallest of each kind: positive where Q is not P, and small where it is near."""
    said = run("problems", "0").out
    found = dict(re.findall(r"^ *(random|Q near P) +2,400 pairs, smallest gap (\S+)$", said, re.M))
    assert 0 < float(found["Q near P"]) < float(found["random"]) < 0.1
    assert said.count("proved") == 4 and "FAILS" not in said


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("H -= P[n] * log(Q[n])   if P[n] > 0", "H -= P[n] * log(Q[n])   if Q[n] > 0"),
        ("D += P[n] * log(P[n] / Q[n])", "D += P[n] * log(Q[n] / P[n])"),
        ("y = x - 1 - log(x)", "y = x - 2 - log(x)"),
        ("P[n] += w[n] / W", "P[n] += w[n]"),
        ("D += Q[n]   if P[n] > 0", "D += Q[n]"),
    ],
)
def test_a_wrong_program_of_problem_0_is_seen(
    run: Run, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    text = worked.PROGRAMS.read_text(encoding="utf-8")
    assert right in text
    changed = {p.name: p for p in parse(text.replace(right, wrong), "wrong")}
    monkeypatch.setattr(worked, "programs", lambda: changed)
    said = run("problems", "0")
    assert said.status == 1 and "THIS FAILS" in said.out


def test_a_wrong_derivation_is_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loops that are not those of problem 1 are not said to be."""
    text = worked.PROGRAMS.read_text(encoding="utf-8").replace(
        "e[b]        -= p", "e[b]        += p"
    )
    monkeypatch.setattr(worked, "programs", lambda: {p.name: p for p in parse(text, "wrong")})
    said = run("problems", "2")
    assert said.status == 1
    assert "refuted" in said.out and "THIS FAILS" in said.out


def test_a_wrong_recurrent_network_is_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that forgets."""

    def forgets(CELL: Any, Phi: Any, X: Any, ZERO: Any) -> list[Any]:
        CELL = edf.cell(CELL) if isinstance(CELL, Program) else CELL
        return [CELL(Phi, x, ZERO) for x in X]

    monkeypatch.setattr(edf, "RNN", forgets)
    said = run("problems", "5")
    assert said.status == 1 and said.out.count("THIS FAILS") == 2


@pytest.mark.usefixtures("once")
def test_code_in_latex(run: Run) -> None:
    said = run("problems", "5", "--to", "latex").out
    assert "\\begin{verbatim}\ndef RNN(CELL" in said and "\n    return H\n\\end{verbatim}" in said


@pytest.mark.usefixtures("once")
def test_in_latex(run: Run) -> None:
    said = run("problems", "2", "--to", "latex")
    assert said.status == 0
    assert r"s^{\mathrm{grad}}_{b,j} &= \frac{p^{\mathrm{grad}}_{b,j} \, \exp" in said.out
    assert said.out.count(r"\begin{aligned}") == said.out.count(r"\end{aligned}")
