"""A rewriting that would lose digits is not made: `simplify` beside the literal loops, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import localcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import loopgrad as lg
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.walk import computed_tensors
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.stable.gate import MEASURED, Gate, draw
from tests.effort import by_name

NAMES = by_name(list(lg.lib), 4)
ENOUGH = 2e-6  # of the largest value: a few roundings of float32

DRAWS = 4  # where the first says that digits are lost

# Here a gate Z may round to 1: then 1 - Z, taken from it, has fewer digits than the literal sigmoid(-a) has, and what is
# multiplied by it is as small as that.
GATED = {"gru", "gru_packed"}

# Here a sum is known to be 0, or to be another sum, of exact numbers: with a common offset of 1e4 the
# mean, or the row's sum, is rounded, and the literal loops make up for their own rounding.
THEOREMS = {
    *("attention", "causal_attention", "sliding_window_attention", "alibi_attention"),
    *("batchnorm", "batchnorm_with", "layer_norm", "group_norm", "instance_norm"),
    *("batch_norm", "batch_norm_of_channels", "running_moments"),
}


# Here simplifying does lose digits, on inputs of 1e4 alone. Σ s (1 - tanh²) is taken apart, Σ s - Σ s tanh²: where tanh is
# 1 in float32, roundings are left in place of nothing. The covariances of the filter are no longer those of anything.
# With ALiBi's terms beside scores of 1e4 the row's sum, a theorem too, is rounded by three times as much.
LOST = {"additive_attention", "kalman_step", "alibi_attention"}

# What the inputs have to do with each other (a length is not 0, a label no blank) is not drawn.
UNDRAWN = {"crf_loss_packed", "ctc_loss"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNDRAWN])
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
    found = infer(simplified)
    excepted: tuple[str, ...] = ("offset",) if name in THEOREMS | GATED else ()
    excepted = ("offset", "large", "mixed") if name in LOST else excepted
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        gate = Gate(infer(literal))
        before, after = _errors(gate, found)
        if not all(_kept(gate, before, after, excepted)):
            drawn = [(before, after), *(_errors(gate, found) for _ in range(1, DRAWS))]
            before, after = np.mean(drawn, axis=0)
    assert all(_kept(gate, before, after, excepted)), (before, after)


def _errors(gate: Gate, found: Facts) -> NDArray[np.float64]:
    """Of the literal loops, and of the simplified ones, on inputs that are drawn."""
    case = draw(gate.literal, gate.rng)
    assert case is not None
    return np.array(gate.errors(case, found, [gate.literal, found]))


def _kept(gate: Gate, before: Any, after: Any, excepted: tuple[str, ...]) -> Iterator[bool]:
    kinds = list(MEASURED) * len(gate.results)
    for kind, old, new in zip(kinds, before, after, strict=True):
        within = bool(new <= max(ENOUGH, 2 * old))
        yield within or any(word in kind for word in excepted)


def _reading(program: lg.Program, other: lg.Program) -> lg.Program:
    """The program with the other's inputs as well, which it does not use."""
    from dataclasses import replace

    names = {argument.name for argument in program.arguments}
    more = tuple(i for i in other.inputs if i.name not in names)
    return replace(program, arguments=(*more, *program.arguments))
