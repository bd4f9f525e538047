"""Does a program lose digits, in float64, that another of the same results keeps?

The certificate's arithmetic has 50 digits: a form in which all digits of a float cancel is equal there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.evaluate import Prepared, Setting, Tensor, TooLarge, computed
from loopgrad.simplify.floats import Floats, array, numbers
from loopgrad.simplify.integer_arithmetic import Undefined
from loopgrad.simplify.lines import Numbers
from loopgrad.simplify.trials import AFTER, BEFORE, Pairing, Trial

ACCURATE = 1e-8  # relative to the largest element of the result, or to 1
WORSE = 100.0  # times the error of the first program


def keeps_digits(pairing: Pairing, trial: Trial) -> bool:
    """Is the second program, on the inputs of a trial, about as accurate as the first?"""
    with np.errstate(all="ignore"):
        try:
            before, after = (_in_floats(pairing, trial, n) for n in (BEFORE, AFTER))
        except (Undefined, TooLarge):
            return False
        return all(
            _close(array(trial.results[name]), array(before[name]), array(after[name]))
            for name in pairing.results
        )


def _in_floats(pairing: Pairing, trial: Trial, number: int) -> Mapping[str, Tensor]:
    program: Prepared = pairing.programs[number]
    given = {i.name: _rounded(trial.inputs[i.name]) for i in program.facts.program.inputs}
    setting = Setting(trial.extents[number], trial.constants, given)
    return computed(program, setting, Floats(), trial.space)


def _rounded(tensor: Tensor) -> Tensor:
    return numbers(array(tensor)) if isinstance(tensor, Numbers) else tensor


def _close(
    exact: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> bool:
    """Of the elements that are numbers for the first program, in each world."""
    known = np.isfinite(exact) & np.isfinite(before)
    if not known.any():
        return True
    worlds = len(exact)

    def largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.max(
            np.where(known, np.abs(values), 0).reshape(worlds, -1), axis=1, initial=0
        )
        return found

    scale = np.maximum(largest(exact), 1)
    wrong = np.where(np.isfinite(after), after, np.inf) - exact
    return bool(
        np.all(largest(wrong) <= np.maximum(ACCURATE * scale, WORSE * largest(before - exact)))
    )
