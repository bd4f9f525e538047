"""A rewriting that would lose digits is not made: `simplify` beside the literal loops, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import localcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import loopgrad as lg
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.walk import computed_tensors
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.evaluate import Tensor
from loopgrad.simplify.numbers.lines import Lines, Numbers, as_decimals
from loopgrad.stable.cases import MEASURED_WORLDS, as_floats, draw
from loopgrad.stable.gate import Gate, error_of
from tests.effort import by_name

NAMES = by_name(list(lg.lib), 6)
ENOUGH = 2e-6  # of the largest value: a few roundings of float32

# How many, where those before say that digits are lost: rounding may be kind to one form; medians are compared.
# Covariances that are those of nothing (`kalman_step`) lose from none to five digits from draw to draw, in
# either form: seven of them tell little.
DRAWS = (7, 25)


@pytest.mark.parametrize("name", NAMES)
def test_simplified_loops_keep_their_digits(name: str) -> None:
    """On six kinds of inputs, large logits and common offsets among them: at most twice the error of the
    literal loops, or of exact arithmetic on what the simplified ones read, rounded to float32."""
    forward = getattr(lg.lib, name)
    literal = forward.backward()
    simplified = literal.simplify()
    # Both read what the forward computes, so the forward has to be asked for all that either reads.
    read = {i.name for i in simplified.inputs} & set(computed_tensors(infer(forward).program))
    wanted = [i.name for i in literal.inputs]
    if simplified is literal or not read <= set(wanted):
        literal = _reading(literal, simplified)
    found = infer(simplified)
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        gate = Gate(infer(literal))
        errors = _errors(gate, found)
        drawn = [errors]
        for draws in DRAWS:
            if not all(_kept(*errors)):
                drawn += [_errors(gate, found) for _ in range(len(drawn), draws)]
                errors = np.median(drawn, axis=0)
    assert all(_kept(*errors)), errors


def _errors(gate: Gate, found: Facts) -> NDArray[np.float64]:
    """Of the literal loops, of the simplified ones, and of these in decimals on rounded inputs."""
    case = draw(gate.literal, gate.rng)
    assert case is not None
    before, after = gate.errors(case, found, [gate.literal, found])
    exact = case.run(found, Lines, MEASURED_WORLDS)
    stored = replace(case, inputs={name: _rounded(t) for name, t in case.inputs.items()})
    read = stored.run(found, Lines, MEASURED_WORLDS)
    conditioning = [
        error_of(one, right)
        for name in gate.results
        for one, right in zip(as_floats(read[name]), as_floats(exact[name]), strict=True)
    ]
    return np.array([before, after, conditioning])


def _rounded(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, Numbers):
        return tensor
    return as_decimals(as_floats(tensor).astype(np.float32))


def _kept(before: Any, after: Any, conditioning: Any) -> Iterator[bool]:
    """Of what is as large as its error in the literal loops (a sum that is 0), there are no digits to lose."""
    for old, new, read in zip(before, after, conditioning, strict=True):
        yield bool(old >= 1 or new <= max(ENOUGH, 2 * old, 2 * read))


def _reading(program: lg.Program, other: lg.Program) -> lg.Program:
    """The program with the other's inputs as well, which it does not use."""
    names = {argument.name for argument in program.arguments}
    more = tuple(i for i in other.inputs if i.name not in names)
    return replace(program, arguments=(*more, *program.arguments))
