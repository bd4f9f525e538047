"""Guards that data decide, within ranges that hang on the row: products, and what a mask rules out is nowhere.

And heads that share what they read: subscripts that divide an index, and are proved in range by a call's sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.calling.shaping import batches
from loopgrad.peers.ours import joined
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

ATTENTION = """
f(q[T,D], k[T,D], v[T,E], {data}) -> y[T,E]:
    for t, {range}, d:  s[t,u] += q[t,d] * k[u,d] / sqrt(D)   if {guard}
    for t, {range}:     m[t]   max= s[t,u]                    if {guard}
    for t, {range}:     Z[t]   += exp(s[t,u] - m[t])          if {guard}
    for t, {range}, e:  y[t,e] += exp(s[t,u] - m[t]) / Z[t] * v[u,e]   if {guard}
"""
DATA = ("seen[T]", "int doc[T]", "keep[T,T]")
HEADS = """
f(q[B,H,T,D], k[B,G,T,D], v[B,G,T,E]) -> y[B,H,T,E]:
    for b, h, t, u <= t, d:  s[b,h,t,u] += q[b,h,t,d] * k[b,h//(H//G),u,d]
    for b, h, t, u <= t:     Z[b,h,t]   += exp(s[b,h,t,u])
    for b, h, t, u <= t, e:  y[b,h,t,e] += exp(s[b,h,t,u]) / Z[b,h,t] * v[b,h//(H//G),u,e]
"""
# What is masked: the pairs of which data say it, and how.
MASKS = {
    "columns": ("u <= t", "seen[u] > 0"),
    "both": ("u <= t", "doc[t] == doc[u]"),
    "pairs": ("max(0, t-7) <= u <= t", "keep[t,u] > 0"),
    "columns, ahead": ("t <= u < T", "seen[u] > 0"),
    "a range in the guard": ("u < T", "u <= t and seen[u] > 0"),
    "rows": ("u < t", "seen[t] > 0"),
    "up to a length": ("u <= t", "u < 9 + doc[0]"),
}


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def attention(band: str, guard: str) -> lg.Program:
    data = next(one for one in DATA if one.split("[")[0].split()[-1] in guard)
    return lg.program(ATTENTION.format(range=band, guard=guard, data=data))


def arrays_of(program: lg.Program, rows: int, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    shapes = {
        "q": (rows, 5),
        "k": (rows, 5),
        "v": (rows, 17),
        "seen": (rows,),
        "keep": (rows, rows),
    }
    return [
        rng.integers(0, 3, rows) if one.name == "doc" else rng.standard_normal(shapes[one.name])
        for one in program.inputs
    ]


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_data_within_a_range_is_taken_from_products(name: str) -> None:
    band, guard = MASKS[name]
    program = attention(band, guard)
    loops = scheduled(program)
    assert "product:  whole[t,u] = " in loops
    assert loops.count("product:  ") >= 2
    assert "t.step" in loops  # no more pairs than the range has
    kernel, literal = lg.compile(program), literally(program)
    for rows in (1, 12, 50, 97):
        arrays = arrays_of(program, rows, rows)
        wanted = literal(*arrays)
        np.testing.assert_allclose(kernel(*arrays), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["both", "pairs", "columns, ahead", "a range in the guard"])
def test_so_are_its_gradients(name: str) -> None:
    band, guard = MASKS[name]
    program = attention(band, guard)
    backward = program.backward(recompute=True)
    kernel, literal = lg.compile(backward), literally(backward)
    assert scheduled(backward).count("product:  ") >= 5
    for rows in (11, 61):
        seed = np.random.default_rng(9).standard_normal((rows, 17))
        arrays = [*arrays_of(program, rows, rows), seed]
        for one, other in zip(kernel(*arrays), literal(*arrays), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_what_a_mask_rules_out_is_nowhere(what: float) -> None:
    """0 times it would be no number."""
    program = attention("u <= t", "seen[u] > 0")
    q, k, v, seen = arrays_of(program, 60, 1)
    seen[:], seen[20:30] = 1, 0
    k[20:30], v[20:30] = what, what
    y = lg.compile(program)(q, k, v, seen)
    assert np.isfinite(y).all()
    wanted = literally(program)(q, k, v, seen)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-12)


def test_of_one_value_of_many_no_product_is_made() -> None:
    """Nor of a winner."""
    for guard in ("u == doc[t]", "q[t,0] == seen[u]"):
        assert "product" not in scheduled(attention("u <= t", guard))


def test_a_guard_that_alone_keeps_data_in_range_stays() -> None:
    """`len` bounds a range, and the guard `len`."""
    program = lg.program(
        "f(q[T,D], k[U,D], v[U,E], int len[T]) -> y[T,E]:\n"
        "    local s[T,U]\n"
        "    for t, u < len[t], d:  s[t,u] += q[t,d] * k[u,d]        if len[t] <= U\n"
        "    for t, u < len[t], e:  y[t,e] += tanh(s[t,u]) * v[u,e]  if len[t] <= U\n"
    )
    rng = np.random.default_rng(4)
    arrays = [rng.standard_normal(shape) for shape in ((40, 5), (30, 5), (30, 9))]
    lengths = rng.integers(0, 31, 40)
    lengths[::7] = 1_000_000
    wanted = literally(program)(*arrays, lengths)
    np.testing.assert_allclose(lg.compile(program)(*arrays, lengths), wanted, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------ shared heads


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = lg.get_num_threads()
    yield lg.set_num_threads
    lg.set_num_threads(before)


@pytest.mark.parametrize("heads", [(4, 2), (2, 2), (7, 3), (5, 2)])
def test_heads_that_share_keys_are_products(
    heads: tuple[int, int], threads: Callable[[int], None]
) -> None:
    program = lg.program(HEADS)
    backward = program.backward(recompute=True)
    assert scheduled(program).count("product:  ") >= 2
    assert "product:  k.grad[b, h//(H//G), u, d] += " in scheduled(backward)
    (h, g), rng = heads, np.random.default_rng(5)
    for batch, rows in ((2, 1), (1, 50), (3, 49)):
        shapes = (h, rows, 5), (g, rows, 5), (g, rows, 9), (h, rows, 9)
        arrays = [rng.standard_normal((batch, *shape)) for shape in shapes]
        for some, given in ((program, arrays[:3]), (backward, arrays)):
            kernel, literal = lg.compile(some), literally(some)
            if (h - 1) // (h // g) >= g:
                for one in (literal, kernel):
                    with pytest.raises(IndexError, match="out of range"):
                        one(*given)
                continue
            wanted = tupled(literal(*given))
            for count in (1, 2, 3):
                threads(count)
                for one, other in zip(tupled(kernel(*given)), wanted, strict=True):
                    np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


def test_threads_share_heads_of_one_sequence() -> None:
    """Each with keys' gradients of its own, and one head's scores at a time."""
    one = HEADS.replace("[B,", "[").replace("[b,", "[").replace("for b, ", "for ")
    loops = scheduled(lg.program(one).backward(recompute=True))
    assert "k.grad[G,T,D] a copy for each thread" in loops
    assert "s.grad[48,T] in a row of each thread" in loops


def test_so_they_do_in_forward_and_backward_as_one_program(threads: Callable[[int], None]) -> None:
    program = lg.program(HEADS)
    joint = joined(program.unfold(), program.backward(batch=False).simplify())
    assert batches(infer(joint)) == batches(infer(program.backward())) == ("B",)
    rng = np.random.default_rng(8)
    arrays = [rng.standard_normal((1, h, 53, d)) for h, d in ((6, 5), (3, 5), (3, 9), (6, 9))]
    kernel, wanted = lg.compile(joint), tupled(lg.compile(joint, optimize=False)(*arrays))
    for count in (1, 2, 3):
        threads(count)
        for one, other in zip(tupled(kernel(*arrays)), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


def test_more_heads_that_are_read_than_heads_is_refused() -> None:
    """A division by zero."""
    shapes = (1, 2, 4, 5), (1, 3, 4, 5), (1, 3, 4, 9)
    with pytest.raises(ZeroDivisionError, match="by zero"):
        lg.program(HEADS)(*map(np.ones, shapes))


def test_a_difference_is_in_range_where_it_is_and_not_where_its_parts_are() -> None:
    """`t - u` with `u <= t`, beside a subscript that the sizes of a call prove: no loop runs as written."""
    program = lg.program(
        "f(q[H,T], r[G,T]) -> y[H,T]:\n    for h, t, u <= t:  y[h,t] += q[h,u] * r[h//(H//G),t-u]\n"
    )
    conditions = optimized(infer(program), validate(program)).requires
    assert len(conditions) == 1
    rng = np.random.default_rng(6)
    q, r = rng.standard_normal((4, 9)), rng.standard_normal((2, 9))
    wanted = literally(program)(q, r)
    np.testing.assert_allclose(program(q, r), wanted, rtol=0, atol=1e-13)


def tupled(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,)
