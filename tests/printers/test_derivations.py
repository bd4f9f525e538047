"""Derivations in LaTeX."""

from __future__ import annotations

import loopgrad as lg


def test_a_chain_of_equalities() -> None:
    derivation = lg.lib.tanh_layer.backward().simplify().derivation
    assert derivation.to("latex").splitlines() == [
        r"\[",
        r"\begin{aligned}",
        r"x^{\mathrm{grad}}_{b,j} &= y^{\mathrm{grad}}_{b,j} \, \left(1 - \left(\tanh\left(x_{b,j}\right)\right)^{2}\right) \\",
        r"& \qquad (\tanh\left(x_{b,j}\right) = y_{b,j}\text{, by the definition of }y) \\",
        r"&= y^{\mathrm{grad}}_{b,j} - y_{b,j}^{2} \, y^{\mathrm{grad}}_{b,j} \\",
        r"& \qquad (\text{factor}) \\",
        r"&= y^{\mathrm{grad}}_{b,j} \, \left(1 - y_{b,j}^{2}\right) \\",
        r"& \quad \begin{aligned}",
        r"& \text{for } b, j\colon & x^{\mathrm{grad}}_{b,j} &\mathrel{+}= y^{\mathrm{grad}}_{b,j} \, \left(1 - y_{b,j}^{2}\right)",
        r"\end{aligned}",
        r"\end{aligned}",
        r"\]",
    ]
    inside = derivation.to("latex").removeprefix("\\[").removesuffix("\\]")
    assert derivation._repr_latex_() == f"$\\displaystyle{inside}$"


def test_words_are_words_and_formulas_are_formulas() -> None:
    shown = lg.lib.stable_softmax.backward().simplify().derivation.to("latex")
    assert r"(\sum_{j} p_{b,j} = 1\text{, by the definition of }Z)" in shown
    assert r"(\text{put in }m^{\mathrm{grad}})" in shown
    assert shown.count(r"\begin{aligned}") == shown.count(r"\end{aligned}")


def test_several_tensors_are_several_displays() -> None:
    derivation = lg.lib.ugrnn_cell.backward().simplify().derivation
    assert derivation.to("latex").count("\\[") == len(derivation.chains)
    assert derivation._repr_latex_().count("\\displaystyle") == len(derivation.chains)


def test_a_long_sum_has_a_row_for_each_term() -> None:
    derivation = lg.lib.batchnorm.backward().simplify().derivation
    rows = derivation.to("latex").splitlines()
    assert r"& \quad - \frac{\sum_{b'} {x'}^{\mathrm{grad}}_{b',j}}{B \, \sqrt{s_{j}}} \\" in rows
    assert derivation.to("latex").count(r"\left") == derivation.to("latex").count(r"\right")
