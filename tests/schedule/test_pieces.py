"""Threads share pieces of images, where these are fewer than threads or no multiple of them."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.fused import phase as fused
from loopgrad.cache import files
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.specializing import made_for
from loopgrad.schedule.threads import pieces
from loopgrad.schedule.tree import Fused, Over, Product, collapsed, shared_blocks, steps
from tests.literal import literally

# A convolution with what is done to its rows, and products of a batch; a sum of the images, which have no rows.
IMAGES = """
images(x[B,C,X,Y], k[O,C,3,3], c[O]) -> y[B,O,X,Y]:
    for b, o, m < X, n < Y, i < C, p < 3, q < 3:
        a[b,o,m,n] += k[o,i,p,q] * x[b,i,m+p-1,n+q-1]   if 0 <= m+p-1 < X and 0 <= n+q-1 < Y
    for b, o, m < X, n < Y:  a[b,o,m,n] += c[o]
    for b, o, m < X, n < Y:  y[b,o,m,n] = tanh(a[b,o,m,n])
"""
LINES = """
rows(x[B,C,X], k[O,C,P]) -> y[B,O,X-P+1]:
    for b, o, n <= X-P, i < C, p < P:  y[b,o,n] += k[o,i,p] * x[b,i,n+p]
"""
MATRICES = """
matrices(x[B,I,K], w[B,K,J]) -> y[B,I,J]:
    for b, i, j, k:  y[b,i,j] += x[b,i,k] * w[b,k,j]
"""
# Of these sums nobody else knows: threads have a piece of what they write, and of what follows, at a time.
FOLLOWED = """
followed(x[B,C,X,Y], k[O,C,3,3]) -> y[B,O,X,Y]:
    for b, o, m < X, n < Y, i, p, q:  a[b,o,m,n] += k[o,i,p,q] * x[b,i,m+p-1,n+q-1]   \
if 0 <= m+p-1 < X and 0 <= n+q-1 < Y
    for b, o, m < X, n < Y:           y[b,o,m,n] = max(a[b,o,m,n], 0)
"""
CHAIN = """
chain(x[B,C,X,Y], k[C,C,3,3], l[C,C,3,3]) -> y[B,C,X,Y]:
    for b, o < C, m < X, n < Y, i < C, p, q:  a[b,o,m,n] += k[o,i,p,q] * x[b,i,m+p-1,n+q-1]   \
if 0 <= m+p-1 < X and 0 <= n+q-1 < Y
    for b, o < C, m < X, n < Y:               r[b,o,m,n] = max(a[b,o,m,n], 0)
    for b, o < C, m < X, n < Y, i < C, p, q:  z[b,o,m,n] += l[o,i,p,q] * r[b,i,m+p-1,n+q-1]   \
if 0 <= m+p-1 < X and 0 <= n+q-1 < Y
    for b, o < C, m < X, n < Y:               y[b,o,m,n] = tanh(z[b,o,m,n] + x[b,o,m,n])
"""
TEXTS = {"images": IMAGES, "lines": LINES, "matrices": MATRICES}


def shown(text: str) -> str:
    program = lg.program(text)
    return show(optimized(infer(program), validate(program)))


@pytest.mark.parametrize(
    ("text", "piece"),
    [(LINES, "n <= X-P"), (MATRICES, "i < I")],
    ids=["lines", "matrices"],
)
def test_pieces(text: str, piece: str) -> None:
    assert f"    for {piece} in blocks parallel:\n        product:" in shown(text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_piece_is_one_block(text: str) -> None:
    """Its unit says where images are cut, and no more: a product over as many columns each would pack again."""
    program = lg.program(text)
    found = [p for p in optimized(infer(program), validate(program)).phases if isinstance(p, Fused)]
    (phase,) = (p for p in found if any(isinstance(s, Product) for s in steps(p.body)))
    loop = phase.body[0]
    assert isinstance(loop, Over)
    piece = shared_blocks(loop)
    assert collapsed(loop) is None and piece is not None and piece.size is None


def test_what_a_piece_needs() -> None:
    """A copy with zeros around is made of the whole image."""
    text = shown(IMAGES)
    before, _, within = text.partition("    for m < X in blocks parallel:")
    assert "x.padded[b,i,x.padded.2,x.padded.3] = " in before
    assert "product, zeros left out:  a[b,o,m,n]" in within


BIASED = """
biased(x[B,C,X], k[O,C,P], c[O]) -> y[B,O,X-P+1]:
    for b, o, n <= X-P:                y[b,o,n] += c[o]
    for b, o, n <= X-P, i < C, p < P:  y[b,o,n] += k[o,i,p] * x[b,i,n+p]
"""


def test_what_is_done_to_a_product_is_done_while_a_cache_holds_it() -> None:
    assert "        for n.from <= n < n.to in blocks of " in shown(BIASED)
    assert "n.from" not in shown(LINES)
    within = shown(FOLLOWED).partition("    for m < X in blocks parallel:")[2]
    assert (
        "        for m.from <= m < m.to in blocks of " in within and "c < C in blocks" not in within
    )


def test_of_one_image_threads_share_the_product() -> None:
    """Nobody goes over all of its windows for a few rows of the weights; what follows has loops of its own."""
    program = lg.program(FOLLOWED)
    one = made_for(infer(program), validate(program), {"B": 1}, (), Choices())
    (phase,) = (p for p in show(one).split("\nfor ") if "product, zeros left out:" in p)
    assert phase.startswith("o < O in blocks parallel as rows:") and "max(" not in phase


def test_what_a_second_convolution_reads_is_whole() -> None:
    """Each product has a whole image: what the second reads of a place is of others' neighbours, too."""
    text = shown(CHAIN)
    assert text.count("product, zeros left out:") == 2 and "in blocks" not in text


SHAPES = {
    "images": lambda B: {"x": (B, 2, 5, 4), "k": (3, 2, 3, 3), "c": (3,)},
    "biased": lambda B: {"x": (B, 2, 140), "k": (4, 2, 5), "c": (4,)},
    "followed": lambda B: {"x": (B, 4, 9, 8), "k": (4, 4, 3, 3)},
    "chain": lambda B: {"x": (B, 4, 5, 3), "k": (4, 4, 3, 3), "l": (4, 4, 3, 3)},
    "lines": lambda B: {"x": (B, 2, 140), "k": (4, 2, 5)},
    "matrices": lambda B: {"x": (B, 29, 7), "w": (B, 7, 9)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images than threads, more, none; results and gradients, again and again the same."""
    monkeypatch.setattr(pieces, "CACHED", 60)  # a row or two, fifteen places
    monkeypatch.setattr(pieces, "COLUMNS", 1)
    monkeypatch.setattr(files, "folder", lambda: None)
    monkeypatch.setattr(fused, "SMALL_WORK", 0)
    program = lg.program({**TEXTS, "biased": BIASED, "followed": FOLLOWED, "chain": CHAIN}[name])
    backward = program.backward(recompute=True, batch=False)
    before = lg.get_num_threads()
    rng = np.random.default_rng(0)
    try:
        for each in (program, backward):
            kernel = lg.compile(each)
            for B in (0, 1, 3, 5):
                shapes = SHAPES[name](B)
                given = {n: rng.standard_normal(s) for n, s in shapes.items()}
                result = literally(program)(**given)
                for i in each.inputs:
                    given.setdefault(i.name, rng.standard_normal(np.shape(result)))
                wanted = literally(each)(**given)
                for threads in (1, 2, 3, 5, 16):
                    lg.set_num_threads(threads)
                    found, again = kernel(**given), kernel(**given)
                    many = isinstance(wanted, tuple)
                    for one, two, other in zip(
                        *((found, again, wanted) if many else ((found,), (again,), (wanted,))),
                        strict=True,
                    ):
                        np.testing.assert_array_equal(one, two)
                        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    finally:
        lg.set_num_threads(before)
