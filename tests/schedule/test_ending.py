"""Ranges that data end, `u < len[b]`: looked at once, and products of what each b has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.backends.test_forced_schedules import forced
from tests.literal import literally

ATTENTION = """
f(q[B,T,D], k[B,T,D], v[B,T,E], int len[B]) -> y[B,T,E]:
    local s[B,T,T], m[B,T], Z[B,T]
    for b, {rows}, {range}, d:  s[b,t,u] += q[b,t,d] * k[b,u,d] / sqrt(D)
    for b, {rows}, {range}:     m[b,t]   max= s[b,t,u]
    for b, {rows}, {range}:     Z[b,t]   += exp(s[b,t,u] - m[b,t])
    for b, {rows}, {range}, e:  y[b,t,e] += exp(s[b,t,u] - m[b,t]) / Z[b,t] * v[b,u,e]
"""
RANGES = {
    "keys": ("t", "u < len[b]"),
    "both": ("t < len[b]", "u < len[b]"),
    "causal": ("t", "u < min(len[b], t+1)"),
    "queries, causal": ("t < len[b]", "u <= t"),
    "a window": ("t", "max(0, t-9) <= u < min(len[b], t+3)"),
    "all but one": ("t", "u < len[b] - 1"),
}
LINEAR = """
f(x[B,T,I], W[J,I], int len[B]) -> y[B,T,J]:
    for b, t < len[b], j, i:  y[b,t,j] += W[j,i] * x[b,t,i]
"""
PACKED = """
f(x[N,I], k[N,I], int begin[S], int end[S]) -> y[S,I]:
    local s[N,N]
    for g, begin[g] <= n < end[g], begin[g] <= r < end[g], i:  s[n,r] += x[n,i] * k[r,i]
    for g, begin[g] <= n < end[g], begin[g] <= r < end[g], i:  y[g,i] += s[n,r] * k[r,i]
"""


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def tupled(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,)


def agree(program: lg.Program, *arrays: Any) -> None:
    """As written, and as compiled, whatever the number of threads."""
    kernel, literal = lg.compile(program), literally(program)
    before, wanted = lg.get_num_threads(), tupled(literal(*arrays))
    for threads in (1, 3):
        lg.set_num_threads(threads)
        for one, other in zip(tupled(kernel(*arrays)), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)
    lg.set_num_threads(before)


def arrays_of(batch: int, rows: int, lengths: Any) -> list[Any]:
    rng = np.random.default_rng(rows)
    shapes = (batch, rows, 5), (batch, rows, 5), (batch, rows, 17)
    return [*(rng.standard_normal(shape) for shape in shapes), np.asarray(lengths, np.int64)]


@pytest.mark.parametrize("name", RANGES)
def test_attention_within_lengths_is_products(name: str) -> None:
    rows, keys = RANGES[name]
    program = lg.program(ATTENTION.format(rows=rows, range=keys))
    loops = scheduled(program)
    assert "product:  s[b,t,u] = " in loops
    assert loops.count("product:  ") >= 2
    for batch, size, lengths in (
        (4, 61, [0, 1, 61, 30]),
        (1, 50, [49]),
        (2, 1, [1, 0]),
        (3, 13, [-5, 12, 13]),
        (0, 4, []),
    ):
        agree(program, *arrays_of(batch, size, lengths))


@pytest.mark.parametrize("name", ["keys", "both", "causal"])
def test_so_are_its_gradients(name: str) -> None:
    rows, keys = RANGES[name]
    backward = lg.program(ATTENTION.format(rows=rows, range=keys)).backward(recompute=True)
    assert scheduled(backward).count("product:  ") >= 5
    for batch, size, lengths in ((3, 53, [53, 0, 20]), (1, 9, [7])):
        seed = np.random.default_rng(1).standard_normal((batch, size, 17))
        agree(backward, *arrays_of(batch, size, lengths), seed)


def test_sums_over_the_lengths_too() -> None:
    """Of no batch at all they are 0, and each of several adds to what there is."""
    backward = lg.program(LINEAR).backward()
    assert "product:  W.grad[j,i] += " in scheduled(backward)
    rng = np.random.default_rng(2)
    for lengths in ([], [9], [30, 0, 1, 17]):
        x, seed = (rng.standard_normal((len(lengths), 30, n)) for n in (9, 33))
        arrays = {"x": x, "W": rng.standard_normal((33, 9)), "len": np.array(lengths, int)}
        given = [arrays.get(one.name, seed) for one in backward.inputs]
        agree(backward, *given)


@pytest.mark.parametrize(
    "columns",
    ["m < min(len[b], n+1)", "max(max(n-2, len[b]-9), 0) <= m <= n", "min(n, len[b]) <= m < N"],
)
def test_sums_over_lengths_that_end_the_columns_of_a_row(columns: str) -> None:
    """Such a row has other columns for each batch: no zeros are written before all of them."""
    program = lg.program(f"""f(x[B,N,C], int len[B], g[B,N,C]) -> w[N,N]:
    for b, n, {columns}, c:  w[n,m] += g[b,n,c] * x[b,m,c]""")
    rng = np.random.default_rng(4)
    for batch, rows, lengths in ((3, 61, [0, 61, 30]), (1, 50, [17]), (2, 1, [1, 0]), (0, 4, [])):
        x, g = rng.standard_normal((2, batch, rows, 9))
        agree(program, x, np.array(lengths, int), g)


@pytest.mark.parametrize("end", ["len[t]", "min(len[t], t+1)"])
def test_columns_that_end_a_sum_by_themselves(end: str) -> None:
    """There is a product for each of them, and none has two columns side by side."""
    program = lg.program(f"""f(x[B,T,T], y[D,T], int len[T]) -> w[D,B,T]:
    for b, t, u < {end}, d:  w[d,b,t] += x[b,t,u] * y[d,u]""")
    rng = np.random.default_rng(5)
    for batch, rows, columns in ((2, 33, 17), (1, 5, 3), (3, 1, 2)):
        x, y = rng.standard_normal((batch, rows, rows)), rng.standard_normal((columns, rows))
        agree(program, x, y, rng.integers(0, rows + 1, rows))


def test_rows_that_begin_where_data_say_of_a_side_that_is_no_matrix() -> None:
    """There is no saying how many of them to make memory for: blocks of the rows themselves."""
    program = lg.program("""f(q[H,D,T,B], k[T,D,B], int lo[B]) -> s[B,H,T,T]:
    for b, h, lo[b] <= t, max(t-4, 0) <= u <= t, d:  s[b,h,t,u] += q[h,d,t,b] * k[u,d,b]""")
    assert "product:  " in scheduled(program)
    rng = np.random.default_rng(6)
    for heads, depth, rows, begins in (
        *((3, 16, 53, [0, 50, 53]), (2, 4, 9, [2, 0]), (1, 1, 1, [0]), (2, 8, 64, [])),
    ):
        q = rng.standard_normal((heads, depth, rows, len(begins)))
        agree(program, q, rng.standard_normal(q.shape[1:]).swapaxes(0, 1), np.array(begins, int))


def test_ends_that_no_index_tells() -> None:
    """An element of data at a place that is a number: known before any loop, but not to the entry."""
    program = lg.program("""f(x[D], y[T,T], int e[4]) -> w[D,T]:
    for e[0] <= t < e[1], u < e[2], d < e[3]:  w[d,u] -= x[d] * y[t,u]""")
    backward = program.backward()
    rng = np.random.default_rng(7)
    for rows, columns, ends in (
        (33, 17, [3, 30, 21, 9]),
        (5, 4, [1, 5, 4, 3]),
        (1, 1, [0, 0, 0, 0]),
    ):
        x, y, seed = (rng.standard_normal(n) for n in (columns, (rows, rows), (columns, rows)))
        agree(program, x, y, np.array(ends))
        agree(backward, x, y, np.array(ends), seed)


@pytest.mark.parametrize(
    "text",
    [
        # u, which is on both sides, selects a product, of which each t has those up to it alone
        """f(w[T,D,E], x[T,B,T,D]) -> y[T,E,B]:
    for b, t, u <= t, d, e:  y[u,e,b] += w[t,d,e] * x[u,b,t,d]""",
        # rows that end where another index of the sum says, with columns of their own
        """f(w[T,D], x[T,D], int len[B]) -> y[T,T]:
    for b, t < len[b], u <= t, d:  y[t,u] += w[u,d] * x[t,d]""",
    ],
)
def test_ranges_that_sums_and_rows_have_in_common(text: str) -> None:
    program = lg.program(text)
    rng = np.random.default_rng(8)
    for sizes in ({"B": 3, "T": 17, "D": 9, "E": 10}, {"B": 2, "T": 61, "D": 5, "E": 4}):
        arrays = [
            rng.standard_normal([sizes[show_expression(e)] for e in i.extents])
            if i.differentiable
            else rng.integers(0, sizes["T"] + 1, sizes["B"])
            for i in program.inputs
        ]
        agree(program, *arrays)


def test_segments_begin_anywhere() -> None:
    program = lg.program(PACKED)
    assert "product:  s[n,r] += " in scheduled(program)
    rng = np.random.default_rng(3)
    ends = np.array([7, 7, 40, 41])
    x, k = rng.standard_normal((2, 50, 9))
    agree(program, x, k, np.array([0, 7, 7, 40]), ends)


@pytest.mark.parametrize("lengths", [[51, 3], [3, 2**40], [2**63 - 1, 0]])
def test_a_length_beyond_the_axis_is_refused_as_it_is_by_the_loops(lengths: list[int]) -> None:
    program = lg.program(ATTENTION.format(rows="t", range="u < len[b]"))
    messages = []
    for optimize in (True, False):
        with pytest.raises(IndexError) as refused:
            lg.compile(program, optimize=optimize)(*arrays_of(2, 50, lengths))
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


# Ranges of statements and of blocks, with steps that would find what is out of range, and without.
PICKED = {
    "a product": "W[d,e] * x[b,t,d]   if m[b,t,e] > 0",
    "rows": "x[b,t,0] + W[0,e] + m[b,t,e]",
}


@pytest.mark.parametrize("name", PICKED)
@pytest.mark.parametrize("threads", [1, 5])
def test_a_length_that_data_pick(name: str, threads: int) -> None:
    """And where there is none, that is said, whatever stands in memory there."""
    more = ", d" if name == "a product" else ""
    program = lg.program(
        "f(x[B,T,D], W[D,E], m[B,T,E], int len[C], int w[B]) -> y[B,T,E]:\n"
        f"    for b, t < len[w[b]], e{more}:  y[b,t,e] += {PICKED[name]}\n"
    )
    rng = np.random.default_rng(4)
    x, W, m = rng.normal(size=(2, 30, 9)), rng.normal(size=(9, 8)), rng.normal(size=(2, 30, 8))
    with forced(threads):
        agree(program, x, W, m, np.array([3, 30, 0]), np.array([1, 0]))
        for w in (-1, 3, 40, 1000):
            with pytest.raises(IndexError, match="out of range"):
                program(x, W, m, np.zeros(4, dtype=int)[:3], np.array([1, w]))


def test_a_length_of_a_block_that_data_pick() -> None:
    program = lg.program(
        "f(x[T,E], int len[C], int w[B]) -> h[T,E]:\n"
        "    for t < len[w[0]]:\n"
        "        for e:  h[t,e] = x[t,e] + (h[t-1,e] if t > 0 else 0)\n"
    )
    x = np.random.default_rng(4).normal(size=(20, 9))
    agree(program, x, np.array([3, 20, 0]), np.array([1]))
    for w in (-1, 3, 40, 1000):
        with pytest.raises(IndexError, match="out of range"):
            program(x, np.zeros(4, dtype=int)[:3], np.array([w]))


def test_what_nobody_reads_may_be_beyond() -> None:
    """No row has columns, so no length is too large."""
    program = lg.program(LINEAR)
    x, W = np.ones((2, 5, 0)), np.ones((4, 0))
    assert not program(x, W, np.array([9, 9])).any()


@pytest.mark.parametrize("bound", ["u <= t", "t <= u < T"])
@pytest.mark.parametrize(
    "rest",
    [
        "w[t,u,e] += y[u,e,b] * x[u,b,t]\n    for t, {0}, e:  s[t,e] += z[u,t] * tanh(w[t,u,e])",
        "s[t,e] += y[u,e,b] * x[u,b,t] * z[u,t]",
    ],
)
def test_what_selects_a_product_hangs_on_no_row(bound: str, rest: str) -> None:
    program = lg.program(
        "f(x[T,B,T], y[T,E,B], z[T,T]) -> s[T,E]:\n    for b, t, "
        + f"{bound}, e:  {rest.format(bound)}"
    )
    rng = np.random.default_rng(0)
    for t, b, e in ((3, 1, 2), (5, 3, 3), (9, 4, 17)):
        given = rng.normal(size=(t, b, t)), rng.normal(size=(t, e, b)), rng.normal(size=(t, t))
        wanted = lg.compile(program, backend="interpret")(*given)
        np.testing.assert_allclose(program(*given), wanted, rtol=1e-10, atol=1e-12)
