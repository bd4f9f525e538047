"""What runs is accurate where the written loops overflow or cancel: in float32, on six kinds of inputs."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.stable.stabilize import stabilize
from tests.effort import sample
from tests.stable.corpus import CASES, FURTHER, Case
from tests.stable.measuring import PARTS, compiled_errors, conditioning, errors

ACCURATE = 1e-6
ROUNDINGS = 2  # of the inputs, that may do as much harm as the arithmetic does


def nearly_vanishes(case: Case, part: str, kind: str) -> bool:
    """KL of nearly equal distributions; a gradient that is a small difference of what it is summed of."""
    return kind == "tiny" or (part in case.cancels and kind == "mixed")


# Tangents are the sums that gradients are, in another order: of a third of the programs they are measured.
MEASURED = [(case, part) for part in PARTS for case in sample(CASES, 6 if part == "tangent" else 3)]


@pytest.mark.parametrize(("case", "part"), MEASURED, ids=lambda x: getattr(x, "name", x))
def test_never_worse_and_accurate(case: Case, part: str) -> None:
    if case.wrt == () and part != "value":
        pytest.skip("it has no gradient that is a number")
    for kind, error in errors(case, part).items():
        assert error.stable_mean <= max(ACCURATE, 2 * error.literal_mean), (kind, error)
        if case in FURTHER or nearly_vanishes(case, part, kind) or error.stable_mean <= ACCURATE:
            continue
        for seed, one in enumerate(error.each):
            if one > ACCURATE:  # then the inputs are not known well enough for more
                assert one <= ROUNDINGS * conditioning(case, part, kind, seed), (kind, seed)


COMPILED = sample([c for c in CASES if c not in FURTHER and c.wrt != ()], 12)


@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_compiled(case: Case) -> None:
    for kind in ("large", "offset"):
        each = [compiled_errors(case, kind, seed) for seed in range(5)]
        for part in PARTS:
            assert np.median([errors[part] for errors in each]) <= ACCURATE, (kind, part)


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")  # of what is not used
@pytest.mark.parametrize(
    ("idle", "w", "error"),
    [
        ("for n:  z += x[w[n]]", [0, 9, 1], IndexError),
        ("for n:  z += 1 % w[n]", [1, 0, 1], ZeroDivisionError),
        ("for n:  z += w[n] * w[n] * w[n]", [2**40] * 3, ValueError),
    ],
)
@pytest.mark.parametrize(
    "used",
    [
        "for n:  y[n] = log(exp(x[n]) + exp(x[0]))",
        "for n:  Z += exp(x[n])\n    for n:  y[n] = exp(x[n]) / Z",
    ],
)
def test_what_no_result_needs_may_fail_in_the_stable_form_too(
    idle: str, w: list[int], error: type[Exception], used: str
) -> None:
    program = lg.program(f"f(x[N], int w[N]) -> y[N]:\n    {idle}\n    {used}\n")
    assert str(stabilize(program)) != str(program)
    for kernel in (lg.compile(program), lg.compile(program, backend="interpret")):
        with pytest.raises(error):
            kernel(np.ones(3), np.array(w))
