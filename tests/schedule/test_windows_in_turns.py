"""Windows over a state: within the turns of a block, too, their guard is zeros around a copy."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.backends.canaries import watched
from tests.literal import literally
from tests.schedule.test_walking import check

FORMS = {
    "an image": """f(x[T,B,C,X,Y], W[C,C,3,3]) -> h[T,B,C,X,Y]:
    for t:
        for b, o < C, m < X, n < Y, i < C, p, q:  a[t,b,o,m,n] += W[o,i,p,q] * h[t-1,b,i,m+p-1,n+q-1]   if t > 0 and 0 <= m+p-1 < X and 0 <= n+q-1 < Y
        for b, o < C, m < X, n < Y:  h[t,b,o,m,n] = tanh(a[t,b,o,m,n] + x[t,b,o,m,n])
""",
    "a start, and two sums over it": """f(x[B,C,X], W[C,C,P], V[C,C,P], g[T]) -> h[T,B,C,X]:
    for t:
        for b, i < C, n < X:            s[t,b,i,n] = h[t-1,b,i,n] if t > 0 else x[b,i,n]
        for b, o < C, n < X, i < C, p:  a[t,b,o,n] += W[o,i,p] * s[t,b,i,n+p-1]   if 0 <= n+p-1 < X
        for b, o < C, n < X, i < C, p:  c[t,b,o,n] -= V[o,i,p] * s[t,b,i,n+p-1]   if 0 <= n+p-1 < X
        for b, o < C, n < X:            h[t,b,o,n] = s[t,b,o,n] + g[t] * tanh(a[t,b,o,n]) * sigmoid(c[t,b,o,n])
""",
    "steps from the end": """f(x[T,B,C,X], W[C,C,P]) -> h[T,B,C,X]:
    for t descending:
        for b, o < C, n < X, i < C, p:  a[t,b,o,n] += W[o,i,p] * h[t+1,b,i,n+2*p-2]   if t < T - 1 and 0 <= n+2*p-2 < X
        for b, o < C, n < X:            h[t,b,o,n] = tanh(a[t,b,o,n] + x[t,b,o,n])
""",
}  # fmt: skip
CASES = [(3, 2, 8, 5, 3), (1, 1, 1, 1, 1), (4, 3, 5, 17, 2), (0, 2, 4, 3, 3), (3, 0, 4, 3, 3)]
CASES += [(2, 2, 0, 4, 3), (2, 2, 4, 0, 3)]


def inputs(
    program: lg.Program, case: tuple[int, ...], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    turns, batch, channels, places, width = case
    extents = {"T": turns, "B": batch, "C": channels, "X": places, "Y": places + 1, "P": width}
    known = infer(program).tensors
    return {
        i.name: rng.normal(
            size=[int(eval(show_expression(e), {}, extents)) for e in known[i.name].extents]
        )
        / 2
        for i in program.inputs
    }


@pytest.mark.parametrize("form", FORMS)
def test_turns_have_products(form: str) -> None:
    program = lg.program(FORMS[form])
    text = show(optimized(infer(program), validate(program)))
    assert text.count("product, zeros left out:") == (2 if form.startswith("a start") else 1)
    assert text.count(".padded[t,b,i,") > 0


@pytest.mark.parametrize("way", ["values", "gradients"])
@pytest.mark.parametrize("form", FORMS)
def test_results(form: str, way: str) -> None:
    program = lg.program(FORMS[form])
    if way == "gradients":
        program = program.backward(recompute=True, batch=False)
    literal, kernel = literally(program), lg.compile(program)
    before = lg.get_num_threads()
    try:
        with watched():
            for seed, case in enumerate(CASES):
                lg.set_num_threads(1 + seed % 3)
                given = inputs(program, case, np.random.default_rng(seed))
                wanted, found = literal(**given), kernel(**given)
                pairs = ((wanted, found),) if way == "values" else zip(wanted, found, strict=True)
                for right, mine in pairs:
                    np.testing.assert_allclose(mine, right, rtol=1e-10, atol=1e-11)
    finally:
        lg.set_num_threads(before)
    if way == "values":
        check(program, inputs(program, (2, 2, 4, 2, 2), np.random.default_rng(1)), 2, Choices())


@pytest.mark.parametrize("where", [np.inf, np.nan])
def test_weights_that_are_not_finite_meet_no_zeros(where: float) -> None:
    """At a border the loops leave them out, where a product would have `inf * 0`."""
    program = lg.program(FORMS["an image"])
    given = inputs(program, (3, 1, 4, 3, 3), np.random.default_rng(3))
    given["W"][0, 1, 0, 2] = where
    found = lg.compile(program)(**given)
    wanted = literally(program)(**given)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
    assert np.isfinite(found[:, :, :, 0]).any()
