"""What is computed in integers stays exact, and is refused where int64 does not hold it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

# Each a sum that passes would take apart: sides of a product, factors and terms that leave a sum.
PROGRAMS = {
    "a product": """f(int a[I,K], int b[K,J], c[J]) -> y[I,J]:
        for i, j:     y[i,j] = c[j]
        for i, j, k:  y[i,j] += a[i,k] * b[k,j]""",
    "terms": """f(int a[I,K], int b[K,J], c[J]) -> y[I,J]:
        for i, j, k:  y[i,j] += a[i,k] * b[k,j] - a[i,k] * b[k,j] + c[j]""",
    "beside a real": """f(int a[I,K], int b[K,J], c[J]) -> y[I,J]:
        for i, j, k:  y[i,j] += a[i,k] * b[k,j] * c[j]""",
    "factors": """f(int a[I,K], int b[K,J], c[J]) -> y[I]:
        for i < I:  q[i] = c[0] * i
        for i, k:  y[i] += a[i,k] * b[0,0] * q[i]""",
    "a maximum": """f(int a[I,K], int b[K,J], c[J]) -> y[I]:
        for i:     y[i] = c[0]
        for i, k:  y[i] max= a[i,k] - b[0,0]""",
    "a branch": """f(int a[I,K], int b[K,J], c[J]) -> y[I,J]:
        for i, j, k:  y[i,j] += a[i,k] * b[k,j] if i >= 0 else c[j]""",
    "in a block": """f(int a[I,K], int b[K,J], c[J]) -> y[I,J]:
        for i:
            for j, k:  y[i,j] += a[i,k] * b[k,j] * c[j]
            for j:     y[i,j] += y[i-1,j] if i > 0 else 0.5""",
}


def outcome(kernel: Any, *arrays: Any) -> Any:
    try:
        return kernel(*arrays)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("largest", [5, 2**27, 2**31, 2**40, 2**63 - 1])
@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_interpreter_has_it(name: str, largest: int) -> None:
    program = lg.program(PROGRAMS[name])
    rng = np.random.default_rng(largest)
    a, b = (rng.integers(-largest, largest, size) for size in ((5, 9), (9, 17)))
    c = rng.normal(size=17)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lg.ProgramWarning)
        wanted = outcome(lg.compile(program, backend="interpret"), a, b, c)
        found = outcome(program, a, b, c)
    if isinstance(wanted, str):
        assert found == wanted
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14 * np.abs(wanted).max())


def test_what_cannot_overflow_is_a_product() -> None:
    text = """f({} a[I,K], {} b[K,J], c[J]) -> y[I,J]:
        for i, j:     y[i,j] = c[j]
        for i, j, k:  y[i,j] += 2 * a[i,k] * b[k,j]"""

    def shown(element: str) -> str:
        program = lg.program(text.format(element, element))
        return show(optimized(infer(program), validate(program)))

    assert "product:  y[i,j] += a[i,k] * (b[k,j] * 2)" in shown("bool")
    assert "product" not in shown("int")
    assert "y[i,j] += 2 * a[i,k] * b[k,j]" in shown("int")


REALS = {
    "a number": "for j:  y[j] += half * x[j]   if j < 2.5 and 0.5 < j",
    "a constant": "for j:  y[j] = x[j] if j <= half else 2 * x[j]",
    "a sum": "for j, p < 3:  y[(j+p) % J] += x[j]   if 0.1 * (j + p) <= 0.3 and j + p > half",
    "in a block": """for j:
        y[j] += x[j]
        y[j] += 0.5 * y[j-1]   if j > half""",
    "of one element": "for j, i < J:  y[j] += x[i]   if i == half + 0.5",
}


@pytest.mark.parametrize("name", REALS)
def test_indices_that_are_compared_with_reals(name: str) -> None:
    program = lg.program(f"f(x[J], half = 1.5) -> y[J]:\n    {REALS[name]}")
    x = np.random.default_rng(1).normal(size=21)
    wanted = lg.compile(program, backend="interpret")(x)
    np.testing.assert_allclose(program(x), wanted, rtol=1e-13, atol=1e-14)
