"""Problem 2: from the loops of problem 1 to the efficient ones, by algebra."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loopgrad.ir.nodes import Program
from loopgrad.problems.answers import Evidence, Part, Worked
from loopgrad.simplify.equality import equal
from loopgrad.simplify.searching.cost import cost

SIZES = ((5, 4), (64, 1000), (1, 1), (0, 3), (3, 0))
TOLERANCE = 1e-12
REMARK = (
    "The literal loops cost more than those written by hand, as the problem remarks; those found",
    "from them cost the same, and the program stays the two lines of softmax that it was.",
)


def solve(programs: Mapping[str, Program]) -> Worked:
    softmax, given = programs["softmax"], programs["optimised"]
    literal = softmax.backward()
    simplified = literal.simplify()
    return Worked(
        "Problem 2. Optimised backpropagation through softmax",
        (softmax,),
        (
            Part("The loops of problem 1, as they are derived", literal),
            Part("Show that they compute the same as two loops", simplified.derivation),
            Part("So s.grad is computed by", simplified),
            certified(simplified),
            same_as_given(simplified, given),
            same_numbers(softmax, literal, simplified),
            trade_off(literal, simplified, given),
        ),
    )


def certified(simplified: Program) -> Evidence:
    """Each step as the certificate judged it."""
    steps = simplified.derivation.steps
    lines = [f"{step.rule}: {step.certified or 'not certified'}" for step in steps]
    passed = bool(steps) and simplified.derivation.certified
    return Evidence("Each step, on random inputs of random sizes, agrees in", tuple(lines), passed)


def same_as_given(simplified: Program, given: Program) -> Evidence:
    """The loops found against those that the problem states."""
    answer = equal(simplified, given)
    lines = (f"{answer.verdict}", *(str(given).splitlines()))
    return Evidence("They are the loops that the problem asks for", lines, bool(answer))


def same_numbers(softmax: Program, literal: Program, simplified: Program) -> Evidence:
    """Both run compiled, on random numbers."""
    lines, passed = [], True
    rng = np.random.default_rng(0)
    both = softmax.returning("p", "Z")
    for rows, columns in SIZES:
        s, gradient = rng.normal(size=(2, rows, columns))
        p, Z = both(s)
        one = literal(s, Z, gradient)
        other = simplified(p, gradient)
        largest = float(np.max(np.abs(one - other), initial=0.0))
        # Where one score is all there is, its gradient is 0, and what is left is rounding.
        scale = float(np.max(np.abs(gradient), initial=0.0)) or 1.0
        passed &= largest <= TOLERANCE * scale
        lines.append(f"B = {rows}, J = {columns}: {largest / scale:.0e}")
    claim = "Both run on random numbers: the largest difference, relative to p.grad"
    return Evidence(claim, tuple(lines), passed)


def trade_off(literal: Program, simplified: Program, given: Program) -> Evidence:
    """The problem's remark: is what a compiler writes less efficient than what people write?"""
    costs = {
        "the loops of problem 1": cost(literal),
        "derived from them": cost(simplified),
        "written by hand": cost(given),
    }
    lines = [f"{name:22}  {found}" for name, found in costs.items()]
    passed = str(cost(simplified)) == str(cost(given))
    if passed:
        lines += REMARK
    return Evidence(
        "The trade-off between abstraction and efficiency, counted", tuple(lines), passed
    )
