"""`to("latex")`: what stands on a whiteboard, for documents that load amsmath."""

from __future__ import annotations

import re

import pytest

import loopgrad as lg
from loopgrad.frontend.parser import parse
from loopgrad.printers.latex_names import tensor_name, upright
from tests.programs.test_corpus import CORPUS, NAMES


def rows(text: str) -> list[str]:
    """The rows of the inner `aligned`, of the program with that text."""
    (program,) = parse(text)
    shown = program.to("latex")
    inner = shown.split("\\quad \\begin{aligned}\n")[1].split("\n\\end{aligned}")[0]
    return inner.split(" \\\\\n")


def value(expression: str, header: str = "x[N], W[N,N], int w[N], eps = 1e-5") -> str:
    """The LaTeX of an expression in n."""
    (row,) = rows(f"f({header}) -> y[N]:\n    for n:  y[n] += {expression}")
    return row.split("&\\mathrel{+}= ")[1]


def test_a_program() -> None:
    softmax = lg.program(
        "softmax(s[B,J]) -> p[B,J]:\n"
        "    for b, j:  Z[b]   += exp(s[b,j])\n"
        "    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]"
    )
    assert (
        softmax.to("latex")
        == r"""\[
\begin{aligned}
& \operatorname{softmax}\left(s_{B,J}\right) \to p_{B,J}\colon \\
& \quad \begin{aligned}
& \text{for } b, j\colon & Z_{b} &\mathrel{+}= \exp\left(s_{b,j}\right) \\
& \text{for } b, j\colon & p_{b,j} &\mathrel{+}= \frac{\exp\left(s_{b,j}\right)}{Z_{b}}
\end{aligned}
\end{aligned}
\]"""
    )


def test_a_notebook_shows_the_same_formula() -> None:
    double = lg.program("double(x[N]) -> y[N]:\n    for n:  y[n] += 2 * x[n]")
    shown = double._repr_latex_()
    assert shown.startswith("$\\displaystyle\n\\begin{aligned}") and shown.endswith("$")
    assert shown.strip("$").removeprefix("\\displaystyle").strip() in double.to("latex")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x", "x"),
        ("μ", r"\mu"),
        ("ε", r"\varepsilon"),
        ("Σ", r"\Sigma"),
        ("x'", "x'"),
        ("s.grad", r"s^{\mathrm{grad}}"),
        ("x'.grad", r"{x'}^{\mathrm{grad}}"),
        ("h.grad'", r"{h^{\mathrm{grad}}}'"),
        ("x.grad2", r"x^{\mathrm{grad2}}"),
        ("x.dot", r"\dot{x}"),
        ("WhR", r"\mathit{WhR}"),
        ("h0", r"\mathit{h0}"),
        ("a_b", r"\mathit{a\_b}"),
        ("R̃", r"\tilde{R}"),
        ("x̂'", r"\hat{x}'"),
        ("Жук", r"\text{Жук}"),
    ],
)
def test_names(name: str, shown: str) -> None:
    assert tensor_name(name)[0] == shown


def test_program_names() -> None:
    assert upright("softmax.backward") == r"\operatorname{softmax.backward}"
    assert upright("log_softmax") == r"\operatorname{log\_softmax}"


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("2 * x[n]", r"2 \, x_{n}"),
        ("x[n] * 2", r"x_{n} \cdot 2"),
        ("(x[n] - 1) / (N - 1)", r"\frac{x_{n} - 1}{N - 1}"),
        ("(x[n] - 1)**2", r"\left(x_{n} - 1\right)^{2}"),
        ("x[n]**2", r"x_{n}^{2}"),
        ("sqrt(x[n] + eps)", r"\sqrt{x_{n} + \mathit{eps}}"),
        ("rsqrt(x[n])", r"\frac{1}{\sqrt{x_{n}}}"),
        ("abs(x[n])", r"\left|x_{n}\right|"),
        ("sigmoid(x[n])", r"\operatorname{sigmoid}\left(x_{n}\right)"),
        ("max(x[n], 0)", r"\max\left(x_{n}, 0\right)"),
        ("floor(x[n]) % 2", r"\left\lfloor x_{n} \right\rfloor \bmod 2"),
        ("w[n] // 2", r"\left\lfloor \frac{w_{n}}{2} \right\rfloor"),
        ("-(x[n] + 1)", r"-\left(x_{n} + 1\right)"),
        ("x[n] - (x[n] - 1)", r"x_{n} - \left(x_{n} - 1\right)"),
        ("1e-5 + 2.5e12", r"10^{-5} + 2500000000000.0"),
        ("pi * inf", r"\pi \, \infty"),
        ("sum[k](W[n,k] * x[k])", r"\sum_{k} W_{n,k} \, x_{k}"),
        ("sum[k <= n](x[k] + 1)", r"\sum_{k \le n} \left(x_{k} + 1\right)"),
        ("mean[k](x[k])", r"\operatorname*{mean}_{k} \left(x_{k}\right)"),
        ("max[k](x[k])", r"\max_{k} \left(x_{k}\right)"),
        (
            "x[n] if n > 0 else 1 if x[n] != 0 else 2",
            r"\begin{cases} x_{n} & \text{if } n > 0 \\ 1 & \text{if } x_{n} \ne 0 \\ "
            r"2 & \text{otherwise} \end{cases}",
        ),
        ("x[w[n]]", r"x_{w_{n}}"),
    ],
)
def test_expressions(expression: str, shown: str) -> None:
    assert value(expression) == shown


def test_statements() -> None:
    shown = rows(
        "f(x[T,N], bool m[N]) -> h[T,N], t, p:\n"
        "    for n:  t -= x[0,n]   if m[n] and 0 <= n < N\n"
        "    for 1 <= n < N descending:  p *= x[0,n]\n"
        "    for t' descending:\n"
        "        for n, u <= t':  h[t',n] max= x[u,n]"
    )
    assert shown == [
        r"& \text{for } n\colon & t &\mathrel{-}= x_{0,n} "
        r"\quad\text{if } m_{n} \text{ and } 0 \le n < N",
        r"& \text{for } 1 \le n < N\text{ descending}\colon & p &\mathrel{\times}= x_{0,n}",
        r"& \text{for } t'\text{ descending}\colon",
        r"& \quad \text{for } n, u \le t'\colon & h_{t',n} &\mathrel{\max}= x_{u,n}",
    ]


def test_headers() -> None:
    shown = lg.program(
        "f(param W[J,3], int w[B], size K, a, eps = 1e-5, c = -2) batch B -> y[B], z[B,J+K]:\n"
        "    local int v[B]\n"
        "    for b:        v[b]   += w[b]\n"
        "    for b, j:     y[b]   += W[j,v[b]] * a * eps * c\n"
        "    for b, k < K: z[b,k] += y[b]"
    ).to("latex")
    assert (
        r"\operatorname{f}\left(\text{param } W_{J,3}, \text{int } w_{B}, \text{size } K, a, "
        r"\mathit{eps} = 10^{-5}, c = -2\right) \text{ batch } B \to y_{B}, z_{B,J + K}\colon"
    ) in shown
    assert r"\text{local } \text{int } v_{B}" in shown


def test_calls_show_the_programs_above() -> None:
    shown = lg.program(
        "twice(x[N]) -> y[N]:\n    for n:  y[n] += 2 * x[n]\n"
        "four(x[N]) -> z[N]:\n    y = twice(x)\n    z = twice(y)\n"
    ).to("latex")
    assert shown.index(r"\operatorname{twice}") < shown.index(r"\operatorname{four}")
    assert r"& & z &= \operatorname{twice}\left(y\right)" in shown


@pytest.mark.parametrize("name", NAMES)
def test_brackets_and_environments_match_in_every_program(name: str) -> None:
    for program in (CORPUS[name], CORPUS[name].backward(recompute=True)):
        shown = program.to("latex")
        depth = 0
        for brace in re.findall(r"(?<!\\)[{}]", shown):
            depth += 1 if brace == "{" else -1
            assert depth >= 0
        assert depth == 0
        assert shown.count(r"\left") - shown.count(r"\leftarrow") == shown.count(r"\right")
        opened: list[str] = []
        for kind, environment in re.findall(r"\\(begin|end)\{(\w+)\}", shown):
            if kind == "begin":
                opened.append(environment)
            else:
                assert opened.pop() == environment
        assert not opened
        outside_text = re.sub(r"\\text\{[^}]*\}", "", shown)
        assert outside_text.isascii()
        assert not re.search(r"\^\{[^{}]*\}\^", outside_text)  # a double superscript is an error
