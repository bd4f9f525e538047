"""A rewriting that would lose digits is not made: `simplify` beside the literal loops, in float32."""

from __future__ import annotations

from decimal import localcontext

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.walk import computed_tensors
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.stable.gate import MEASURED, Gate, draw

NAMES = [name for name, _ in lg.lib.items()]
ENOUGH = 2e-6  # of the largest value: a few roundings of float32

# Here a sum is known to be 0, or to be another sum, of exact numbers: with a common offset of 1e4 the
# mean, or the row's sum, is rounded, and the literal loops make up for their own rounding.
THEOREMS = {
    *("attention", "causal_attention"),
    *("batchnorm", "batchnorm_with", "layer_norm", "group_norm", "instance_norm"),
}


@pytest.mark.parametrize("name", NAMES)
def test_simplified_loops_keep_their_digits(name: str) -> None:
    """On six kinds of inputs, large logits and common offsets among them: at most twice the error."""
    forward = getattr(lg.lib, name)
    literal = forward.backward()
    simplified = literal.simplify()
    # Both read what the forward computes, so the forward has to be asked for all that either reads.
    read = {i.name for i in simplified.inputs} & set(computed_tensors(infer(forward).program))
    wanted = [i.name for i in literal.inputs]
    if simplified is literal or not read <= set(wanted):
        literal = _reading(literal, simplified)
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        gate = Gate(infer(literal))
        case = draw(gate.literal, gate.rng)
        assert case is not None
        found = infer(simplified)
        before, after = gate.errors(case, found, [gate.literal, found])
    kinds = list(MEASURED) * len(gate.results)
    for kind, old, new in zip(kinds, before, after, strict=True):
        if not (name in THEOREMS and "offset" in kind):
            assert new <= max(ENOUGH, 2 * old), kind


def _reading(program: lg.Program, other: lg.Program) -> lg.Program:
    """The program with the other's inputs as well, which it does not use."""
    from dataclasses import replace

    names = {argument.name for argument in program.arguments}
    more = tuple(i for i in other.inputs if i.name not in names)
    return replace(program, arguments=(*more, *program.arguments))
