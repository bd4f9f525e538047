"""Products of many small images: all of them are in one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.formulas import evaluate as _size
from loopgrad.backends.llvm.calling.images import LARGE_SIDE, SMALL_IMAGE, images
from loopgrad.backends.llvm.calling.shaping import Fitted, Shaping
from loopgrad.backends.llvm.products import weighing
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.backends.canaries import watched
from tests.literal import literally

TEXTS = {
    "windows": """
windows(x[B,C,X,Y], k[O,C,P,Q], c[O]) -> y[B,O,X,Y]:
    for b, o, m, n:  y[b,o,m,n] += c[o]
    for b, o, m, n, i, p, q:  y[b,o,m,n] += k[o,i,p,q] * x[b,i,m+p-1,n+q-1] \
        if 0 <= m+p-1 < X and 0 <= n+q-1 < Y
""",
    "steps": """
steps(x[B,C,X], k[O,C,P]) -> y[B,O,(X-P)//2+1]:
    for b, o, n, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,2*n+p]
""",
    "points": """
points(x[B,C,N], W[O,C]) -> y[B,O,N]:
    for b, o, n, i:  a[b,o,n] += W[o,i] * x[b,i,n]
    for b, o, n:     y[b,o,n] = tanh(a[b,o,n])
""",
    "what follows": """
follows(x[B,C,X], k[O,C,3], c[O]) -> y[B,O,X]:
    for b, o, n < X, i, p:  a[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n+p-1 < X
    for b, o, n < X:        y[b,o,n] = max(a[b,o,n] + c[o], 0)
""",
    "groups": """
groups(x[B,G,C,X], k[G,O,C,P]) -> y[B,G,O,X-P+1]:
    for b, g, o, n, i, p:  y[b,g,o,n] -= k[g,o,i,p] * x[b,g,i,n+p]
""",
}
SIZES = {
    "windows": ("B C X Y O P Q".split(), [(3, 5, 4, 3, 7, 3, 3), (5, 2, 1, 2, 33, 3, 2), (2, 3, 6, 6, 1, 2, 3),
                                      (0, 2, 4, 3, 5, 3, 3), (1, 0, 4, 3, 5, 3, 3)]),
    "steps": ("B C X O P".split(), [(4, 3, 7, 17, 3), (70, 2, 5, 3, 2), (3, 1, 1, 6, 1), (2, 2, 7, 0, 3)]),
    "points": ("B C N O".split(), [(3, 70, 4, 19), (35, 3, 1, 65), (2, 2, 17, 5), (3, 0, 4, 5), (3, 4, 0, 5)]),
    "what follows": ("B C X O".split(), [(3, 5, 4, 33), (9, 17, 3, 5), (0, 2, 4, 3), (2, 3, 0, 4)]),
    "groups": ("B G C X O P".split(), [(3, 2, 5, 6, 7, 3), (9, 1, 2, 3, 18, 2)]),
}  # fmt: skip


def test_images_are_columns() -> None:
    program = lg.program(TEXTS["windows"])
    facts, safety = infer(program), validate(program)
    usual = show(optimized(facts, safety, Choices()))
    whole = show(optimized(facts, safety, Choices(together=("y",))))
    assert "for b < B in blocks parallel as columns" not in usual
    assert "for b < B in blocks parallel as columns" in whole


def test_a_call_s_sizes_decide() -> None:
    for name, text in TEXTS.items():
        (found,) = images(infer(lg.program(text)))
        assert found.target == ("a" if name in ("points", "what follows") else "y")
    (found,) = images(infer(lg.program(TEXTS["points"])))
    sizes = {"B": 2, "C": 1, "N": SMALL_IMAGE, "O": LARGE_SIDE}
    assert found.are_small(sizes)
    for other in ({"B": 1}, {"B": 0}, {"N": SMALL_IMAGE + 1}, {"N": 0}, {"O": LARGE_SIDE - 1}):
        assert not found.are_small({**sizes, **other})
    assert not found.are_small({"B": 2, "N": 3})
    assert not images(infer(lg.program(
        "p(x[B,I], W[J,I]) -> y[B,J]:\n    for b, j, i:  y[b,j] += x[b,i] * W[j,i]"
    )))  # fmt: skip


def test_sums_over_images_have_phases_of_their_own() -> None:
    """The weights' gradient is in the threads' grid; what it is of is made before, image by image."""
    backward = lg.program(TEXTS["what follows"]).backward(recompute=True, batch=False)
    facts, safety = infer(backward), validate(backward)
    text = show(optimized(facts, safety, Choices(together=tuple(facts.tensors))))
    (phase,) = (p for p in text.split("\nfor ") if "product, zeros left out:  k.grad[" in p)
    assert phase.startswith("o < O in blocks parallel as rows:") and "a.grad[b,o,n] =" not in phase


def test_gradients_are_of_images_too() -> None:
    backward = lg.program(TEXTS["windows"]).backward(wrt="x", batch=False)
    (found,) = images(infer(backward))
    assert found.target == "x.grad"


# What turning a sum counts for, that a product's sides are exchanged or are not; and how near results are.
WAYS = {"exchanged": (-(10**6), "float32", 2e-5), "packed": (10**9, "float64", 1e-13)}


def _together(shaping: Shaping, *_: object) -> Fitted:
    return Fitted(together=tuple(one.target for one in shaping.images))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TEXTS)
def test_results(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients: no images, one, around tiles; by either way of one product."""
    turned, dtype, near = WAYS[way]
    monkeypatch.setattr(weighing, "TURNED", turned)
    monkeypatch.setattr(Shaping, "fitted", _together)
    program = replace(lg.program(TEXTS[name]))
    backward = program.backward(recompute=True, batch=False)
    kernels = lg.compile(program), lg.compile(backward)
    literal = [literally(one) for one in (program, backward)]
    axes, cases = SIZES[name]
    before = lg.get_num_threads()
    try:
        with watched():
            for seed, case in enumerate(cases):
                rng, known = np.random.default_rng(seed), dict(zip(axes, case, strict=True))
                lg.set_num_threads(1 + seed % 3)
                given = {
                    one.name: rng.standard_normal([_size(e, known) for e in one.extents])
                    for one in program.inputs
                }
                value = literal[0](**given)
                seeds = {f"{program.results[0].name}.grad": rng.standard_normal(value.shape)}
                wanted = value, *literal[1](**given, **seeds)
                given, seeds = ({n: a.astype(dtype) for n, a in x.items()} for x in (given, seeds))
                found = kernels[0](**given), *kernels[1](**given, **seeds)
                for mine, right in zip(found, wanted, strict=True):
                    bound = near * np.abs(right).max(initial=1e-30)
                    np.testing.assert_allclose(mine, right, rtol=0, atol=bound)
    finally:
        lg.set_num_threads(before)
