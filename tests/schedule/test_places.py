"""Places that are turned, mirrored, clamped or taken several at a time: tables, and sums at each of them."""

from __future__ import annotations

import random

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.ir.printer import show_expression
from tests.effort import sample
from tests.schedule.test_separating import scheduled

SIZES = [1, 2, 3, 5, 8, 15, 16, 17, 33]

# Of n below N, within an axis of T elements.
PLACES = [
    "n", "T-1-n", "(n+3)%T", "(n-2)%T", "(4-n)%T", "(2*n)%T", "n//2", "n//3", "abs(n-2)", "n%T",
    "min(max(n-2,0),T-1)", "min(n+1,T-1)", "T-1-abs(T-1-abs(n-2))", "(n//2)%T", "n//2+n%2",
    "(N-1-n)//2",
]  # fmt: skip


def test_a_table_is_looked_up_in_every_row() -> None:
    program = lg.program("roll(x[B,T], s = 3) -> y[B,T]:\n    for b, t:  y[b,t] = x[b,(t-s)%T]\n")
    assert scheduled(program).splitlines() == [
        "for t < T in blocks parallel:",
        "    for t.from <= t < t.to vector:  at[t] = (t - s) % T",
        "for b < B parallel:  for t < T vector:  y[b,t] = x[b,at[t]]",
    ]


def test_sizes_of_a_call_say_whether_a_place_is_there() -> None:
    program = lg.program(
        "nearest(x[B,X], size N) -> y[B,N]:\n    for b, n:  y[b,n] = x[b,n*X//N]\n"
    )
    assert "at[n]" in scheduled(program)
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(program(x, N=5), x[:, [0, 0, 1, 1, 2]])
    with pytest.raises(IndexError, match="out of range"):
        program(np.zeros((2, 0)), N=5)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("for b, t:  y[b,T-1-t] += x[b,t]", "y[b,y.1] = x[b, T-y.1-1]"),
        ("for b, t:  y[b,(t+3)%T] += x[b,t]", "y[b,t] = x[b,t-3] if t >= 3 else x[b, t-3+T]"),
        ("for b, t:  y[b,(3*T-t)%T] += x[b,t]", "y[b,y.1] = x[b,at[y.1]]"),
    ],
)
def test_places_that_are_all_there_once_are_stored(statement: str, line: str) -> None:
    program = lg.program(f"moved(x[B,T]) -> y[B,T]:\n    local y[B,T]\n    {statement}\n")
    assert line in scheduled(program)
    assert "+=" not in scheduled(program)


def test_places_that_several_share_are_sums() -> None:
    program = lg.program("up(x[B,X]) -> y[B,3*X]:\n    for b, i < 3*X:  y[b,i] = x[b,i//3]\n")
    text = scheduled(program.backward())
    assert "for i.part < 3:  x.grad[b,x.grad.1] += y.grad[b, 3*x.grad.1+i.part]" in text


@pytest.mark.parametrize("X", [1, 7, 8, 9, 16, 23])
def test_windows_side_by_side_are_put_where_they_belong(X: int) -> None:
    program = lg.program(
        "parts(x[B,X,C]) -> y[B,X//8,8,C]:\n"
        "    for b, n < X//8, p < 8, c:  y[b,n,p,c] = x[b,8*n+p,c]\n"
    )
    assert "x.grad[b,x.grad.1,c] = y.grad[b, x.grad.1//8, x.grad.1%8, c]" in scheduled(
        program.backward()
    )
    x = np.random.default_rng(X).normal(size=(2, X, 5))
    y, pullback = lg.vjp(program, x)
    expected = x.copy()
    expected[:, X // 8 * 8 :] = 0
    np.testing.assert_array_equal(pullback(y)[0], expected)


def test_the_first_of_a_mirrored_window_has_won() -> None:
    program = lg.program(
        "most(x[B,X]) -> y[B,X-2]:\n    for b, n, d < 3:  y[b,n] max= x[b,X-1-n-d]\n"
    )
    x = np.array([[1.0, 2.0, 2.0, 0.0, 2.0, 1.0]])
    seed = np.array([[1.0, 10.0, 100.0, 1000.0]])
    _, pullback = lg.vjp(program, x)
    np.testing.assert_array_equal(pullback(seed)[0], [[0, 0, 1100.0, 0, 11.0, 0]])


def _place(chosen: random.Random, index: str, axis: str, count: str) -> str:
    text = chosen.choice(PLACES)
    return text.replace("N", f"({count})").replace("T", axis).replace("n", index)


def _program(chosen: random.Random) -> str:
    m, n = chosen.choice(["X", "2*X", "3*X", "X+2", "M"]), chosen.choice(["Y", "3*Y", "Y+1", "L"])

    def at() -> str:
        return f"{_place(chosen, 'u', 'X', m)}, {_place(chosen, 'v', 'Y', n)}"

    sizes = "".join(f", size {size}" for size in "ML" if size in (m, n))
    match chosen.randrange(3):
        case 0:
            return (
                f"p(x[B,X,Y]{sizes}) -> y[B,{m},{n}]:\n"
                f"    for b, u < {m}, v < {n}:  y[b,u,v] = x[b, {at()}]\n"
            )
        case 1:
            return (
                f"p(x[X,Y,B]{sizes}) -> y[{m},{n},B]:\n"
                f"    for b, u < {m}, v < {n}:  y[u,v,b] = x[{at()}, b] * x[{at()}, b]\n"
            )
    return (
        f"p(x[B,X,Y], w[{m},{n}]{sizes}) -> y[B,X,Y]:\n"
        f"    local y[B,X,Y]\n"
        f"    for b, u < {m}, v < {n}:  y[b, {at()}] += w[u,v] * x[b, {at()}]\n"
    )


def _accepted(chosen: random.Random) -> tuple[lg.Program, lg.Program]:
    """A program of which it is not known that it reads or writes out of range, and its backward."""
    while True:
        try:
            program = lg.program(_program(chosen))
            return program, program.backward(recompute=True)
        except lg.ProgramError:
            continue


def _called(
    program: lg.Program, arrays: dict[str, np.ndarray], sizes: dict[str, int], backend: str
) -> tuple[np.ndarray, ...] | str:
    kernel = lg.compile(program, backend=backend)
    numbers = {size.name: sizes[size.name] for size in program.sizes}
    try:
        found = kernel(*[arrays[i.name] for i in program.inputs], **numbers)
    except IndexError as error:
        return str(error)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("seed", sample(range(24), 2))
def test_code_gives_what_the_loops_give(seed: int) -> None:
    chosen, rng = random.Random(seed), np.random.default_rng(seed)
    program, backward = _accepted(chosen)
    for _ in range(3):
        sizes = {name: chosen.choice(SIZES) for name in "BXYML"}
        arrays = {}
        for one in {i.name: i for i in (*program.inputs, *backward.inputs)}.values():
            shape = [eval(show_expression(e), {}, dict(sizes)) for e in one.extents]
            arrays[one.name] = rng.normal(size=shape)
        for each in (program, backward):
            expected = _called(each, arrays, sizes, "interpret")
            found = _called(each, arrays, sizes, "llvm")
            if isinstance(expected, str) or isinstance(found, str):
                assert found == expected
                continue
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)
