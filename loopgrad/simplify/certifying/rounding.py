"""Does a program lose digits, in float64, that another of the same results keeps?

The certificate's arithmetic has 50 digits: a form in which all digits of a float cancel is equal there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.certifying.sampling import World
from loopgrad.simplify.certifying.trials import AFTER, BEFORE, Draw, Pairing, Trial
from loopgrad.simplify.numbers.evaluate import Prepared, Setting, Tensor, TooLarge, computed
from loopgrad.simplify.numbers.floats import Floats, array, numbers
from loopgrad.simplify.numbers.integer_arithmetic import Undefined
from loopgrad.simplify.numbers.lines import Lines, Numbers, as_decimals

ACCURATE = 1e-8  # relative to the largest element of the result, or to 1
WORSE = 100.0  # times the error of the first program
# Inputs at which tanh, sigmoid and softmax are all that they can be: what is left of a result there is what
# a form keeps in place of 0, and its own size is what errors are relative to.
SATURATED = Draw(8000, (World("far"), World("far apart")), "reals")
NOTHING = 1e-60  # of no size at all


def keeps_digits(pairing: Pairing, trial: Trial) -> bool:
    """Is the second program, on the inputs of a trial, about as accurate as the first?

    At saturating inputs, also if exact arithmetic is as far off on tensors of the forward that are rounded
    to a float, as they are when they are stored: `1 - y` where y is nearly 1.
    """
    saturated = trial.draw == SATURATED
    least = NOTHING if saturated else 1.0

    def close(others: Sequence[Mapping[str, Tensor]]) -> bool:
        return all(
            _close(
                array(trial.results[name]),
                [array(other[name]) for other in others],
                array(after[name]),
                least,
                saturated,
            )
            for name in pairing.results
        )

    with np.errstate(all="ignore"):
        try:
            before, after = (_in_floats(pairing, trial, n) for n in (BEFORE, AFTER))
            return close([before]) or (saturated and close([before, _of_rounded(pairing, trial)]))
        except (Undefined, TooLarge):
            return False


def _of_rounded(pairing: Pairing, trial: Trial) -> Mapping[str, Tensor]:
    """What the second program makes in decimals of inputs that are rounded to floats."""
    program: Prepared = pairing.programs[AFTER]
    given = {}
    for i in program.facts.program.inputs:
        rounded = _rounded(trial.inputs[i.name])
        given[i.name] = as_decimals(array(rounded)) if isinstance(rounded, Numbers) else rounded
    setting = Setting(trial.extents[AFTER], trial.constants, given)
    return computed(program, setting, Lines(None), trial.space)


def _in_floats(pairing: Pairing, trial: Trial, number: int) -> Mapping[str, Tensor]:
    program: Prepared = pairing.programs[number]
    given = {i.name: _rounded(trial.inputs[i.name]) for i in program.facts.program.inputs}
    setting = Setting(trial.extents[number], trial.constants, given)
    return computed(program, setting, Floats(), trial.space)


def _rounded(tensor: Tensor) -> Tensor:
    return numbers(array(tensor)) if isinstance(tensor, Numbers) else tensor


def _close(
    exact: NDArray[np.float64],
    others: Sequence[NDArray[np.float64]],
    after: NDArray[np.float64],
    least: float,
    whole: bool,
) -> bool:
    """Of the elements that are numbers for the first of the others, in each world.

    others: of which the worst is taken. least: what the largest element is taken for where it is less.
    whole: only worlds in which all elements are numbers.
    """
    known = np.isfinite(exact) & np.isfinite(others[0])
    worlds = len(exact)
    if whole:
        known &= known.reshape(worlds, -1).all(axis=1).reshape(-1, *[1] * (known.ndim - 1))
    if not known.any():
        return True

    def largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.max(
            np.where(known, np.abs(values), 0).reshape(worlds, -1), axis=1, initial=0
        )
        return found

    scale = np.maximum(largest(exact), least)
    wrong = np.where(np.isfinite(after), after, np.inf) - exact
    allowed = np.max([largest(other - exact) for other in others], axis=0)
    return bool(np.all(largest(wrong) <= np.maximum(ACCURATE * scale, WORSE * allowed)))
