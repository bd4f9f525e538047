"""Programs run on 50-digit reals give what the reference interpreter gives in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.trials import pairing
from tests.effort import by_name
from tests.simplify.running import array, interpreted, trial

CORPUS = lg.load(Path(__file__).parent.parent / "programs" / "corpus.loops")
PROGRAMS = {
    **{f"lib.{name}": lg.lib[name] for name in by_name(list(lg.lib), 2)},
    **{name: getattr(CORPUS, name) for name in dir(CORPUS)},
}
PROGRAMS = {name: p for name, p in PROGRAMS.items() if isinstance(p, lg.Program)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_the_interpreter(name: str) -> None:
    program = PROGRAMS[name]
    ran = [trial(pairing(program, program), len(name), kind) for kind in ("unit", "signed")]
    assert any(ran), "no inputs were found on which it runs"
    for found in filter(None, ran):
        expected = interpreted(program, 0, found)
        for result, value in expected.items():
            np.testing.assert_allclose(
                array(found.results[result]), value, rtol=1e-7, atol=1e-9, equal_nan=True
            )


@pytest.mark.parametrize(
    "text",
    [
        "f(x[N]) -> y[N]:\n    for n descending:\n        y[n] = x[n] + (y[n+1] if n + 1 < N else 0)",
        "f(x[N]) -> y[N]:\n    for n, m <= n:  y[n] *= x[m]",
        "f(x[N]) -> y[N]:\n    for n, m <= n:  y[n] min= x[m]   if x[m] > 0.2 or m == 0",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = 0.5 if not 0.3 < x[n] < 0.7 else x[n]**-2",
        "f(x[N], int k[N]) -> y[4]:\n    local c[4]\n    for n:  c[k[n]] += x[n]\n    for i < 4:  y[i] = c[i]**2",
        "f(x[N], bool m[N]) -> y[N]:\n    for n:  y[n] = x[n] if m[n] and n > 0 else -1",
        "f(x[N]) -> i:\n    for n:  b max= x[n]\n    for n:  i min= n   if x[n] == b",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = floor(7 * x[n]) % 3 + n // 2 - max(n, 2) ** 2",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]**(1/N) + x[n]**x[n] + rsqrt(x[n]) + sign(x[n] - 0.5)",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = exp(x[n] if n % 2 == 0 else -inf) + tanh(inf) + stop_gradient(x[n])",
    ],
)
def test_constructs(text: str) -> None:
    program = lg.program(text)
    for seed in range(3):
        found = trial(pairing(program, program), seed)
        assert found is not None
        for result, value in interpreted(program, 0, found).items():
            np.testing.assert_allclose(array(found.results[result]), value, rtol=1e-9, atol=1e-12)
