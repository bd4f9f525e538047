"""Divisions that become multiplications come to what the literal loops divide, next to nothing too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir import walk
from loopgrad.schedule import Fused, Scheduled
from loopgrad.schedule.default import optimized
from loopgrad.schedule.sums.reciprocals import TAKEN
from loopgrad.schedule.tree import Step, steps
from tests.literal import literally

# Each divides by what changes less often than what is divided: once a row, in lanes, in a product, in a block.
PROGRAMS = {
    "rows": """f(s[B,J]) -> p[B,J]:
        for b, j:  Z[b] += s[b,j]
        for b, j:  p[b,j] = s[b,j] / Z[b]""",
    "columns": """f(s[B,J], z[J]) -> p[B,J]:
        for b, j:  p[b,j] = s[b,j] / z[j]""",
    "a square": """f(s[B,J], z[J]) -> p[B,J]:
        for b, j:  p[b,j] = s[b,j] * s[b,j] / z[b]**2""",
    "left of a product": """f(s[B,J], v[J,K]) -> y[B,K]:
        for b, j:     Z[b] += s[b,j]
        for b, j, k:  y[b,k] += s[b,j] / Z[b] * v[j,k]""",
    "right of a product": """f(s[B,J], z[J], v[J,K]) -> y[B,K]:
        for b, j, k:  y[b,k] += s[b,j] / z[j] * v[j,k]""",
    "both sides": """f(s[B,J], z[J], v[J,K]) -> y[B,K]:
        for b, j, k:  y[b,k] += s[b,j] * v[j,k] / z[b]""",
    "a scan": """f(s[B,J], z[J]) -> y[B,J]:
        for j:
            for b:  y[b,j] = s[b,j] + (y[b,j-1] / z[j] if j > 0 else 0)""",
    "a block": """f(s[B,J], z[J], W[J,J]) -> h[B,J]:
        for b:
            for j, k:  a[b,j] += W[j,k] * h[b-1,k] / z[j]   if b > 0
            for j:     h[b,j] = s[b,j] + a[b,j]""",
}


@pytest.mark.parametrize("size", [5, 33])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_quotients_of_next_to_nothing(name: str, dtype: Any, size: int) -> None:
    program = lg.program(PROGRAMS[name])
    rng, tiny = np.random.default_rng(size), np.finfo(dtype).tiny / 16
    shapes = {"s": (size, size), "z": (size,), "v": (size, size), "W": (size, size)}
    values = {n: rng.uniform(0.5, 1.5, shape) for n, shape in shapes.items()}
    values["s"] /= size
    for one, scale in ((tiny, tiny / 2), (0.0, 0.0), (np.inf, np.inf), (np.nan, 1.0)):
        least = tiny if one == tiny else 1
        given = {n: a.astype(dtype) for n, a in values.items()}
        given["z"][1], given["s"][1] = one, given["s"][1] * np.asarray(scale, dtype)
        given["s"][:, 1] *= np.asarray(scale, dtype)
        arrays = [given[i.name] for i in program.inputs]
        with np.errstate(all="ignore"):
            wanted = literally(program)(*arrays)
        found = program(*arrays)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(found, wanted, rtol=64 * eps, atol=64 * eps * least)


def scheduled(text: str) -> Scheduled:
    program = lg.program(text)
    return optimized(infer(program), validate(program))


def looked_at(text: str) -> bool:
    """Are there reciprocals that code looks at?"""
    phases = [p for p in scheduled(text).phases if isinstance(p, Fused)]
    values = [s.statement.value for p in phases for s in steps(p.body) if isinstance(s, Step)]
    return any(part is TAKEN for value in values for part in walk.subexpressions(value))


SUMS = """f(s[B,J], g[B]) -> p[B,J]:
    for b, j:  m[b]   max= s[b,j]
    for b:     h[b]   = m[b] if abs(m[b]) < inf else 0.0
    for b, j:  Z[b]   += exp(s[b,j] - {most})
    for b, j:  p[b,j] = s[b,j] / {divisor} + g[b] * h[b] * Z[b]"""


@pytest.mark.parametrize(
    ("most", "divisor", "looked"),
    [
        ("m[b]", "Z[b]", False),  # the largest term is 1
        ("h[b]", "Z[b]", False),
        ("h[b]", "Z[b]**2", False),
        ("h[b]", "(2 * Z[b])", False),
        ("g[b]", "Z[b]", True),
        ("m[b]", "g[b]", True),
        ("m[b]", "sqrt(g[b])", False),  # of the least number there is
        ("m[b]", "(Z[b] - g[b])", True),
        ("m[b]", "sqrt(J * 2 + 1)", False),
    ],
)
def test_what_is_proved_is_not_looked_at(most: str, divisor: str, looked: bool) -> None:
    assert looked_at(SUMS.format(most=most, divisor=divisor)) == looked


def test_a_sum_over_fewer_than_its_maximum_may_be_next_to_nothing() -> None:
    assert looked_at(
        """f(s[B,J,K]) -> p[B,J,K]:
            for b, j, k:  m[b]     max= s[b,j,k]
            for b, j, k:  Z[b,j]   += exp(s[b,j,k] - m[b])
            for b, j, k:  p[b,j,k] = s[b,j,k] / Z[b,j]"""
    )


def test_a_maximum_that_is_of_more_than_the_sum_proves_nothing() -> None:
    assert looked_at(
        """f(s[B,J], t[B,J]) -> p[B,J], h[B,J]:
            for b, j:  m[b]   max= t[b,j]
            for j:
                for b:  h[b,j] = tanh(t[b,j] + (h[b,j-1] if j > 0 else 0))
            for b, j:  m[b]   max= s[b,j]
            for b, j:  Z[b]   += exp(s[b,j] - m[b])
            for b, j:  p[b,j] = s[b,j] / Z[b]"""
    )
