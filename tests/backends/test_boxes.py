"""Products without the zeros around what they read: which columns meet which values of k."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.products import weighing
from loopgrad.backends.llvm.products.borders import BOX, BOXES, ROOM, SPARE
from loopgrad.backends.llvm.products.callable import functions
from tests.backends.test_bands import some_threads
from tests.literal import literally

Windows = Mapping[
    int, tuple[int, int, int, int, int]
]  # of n: index of k, first, by_n, by_k, length
NOBODY = -5


def boxes(
    n: Sequence[tuple[int, int, int]],
    k: Sequence[tuple[int, int]],
    windows: Windows,
    at_a_time: int,
) -> Iterator[tuple[list[int], list[int], list[int], list[int], int]]:
    """n: begins, ends and strides; k: counts and strides. Of each box: where its columns lie, and which they are;
    the same of its values of k; and how many of these one value of the first index has."""

    def index(i: int, counts: Sequence[int], begin: int, end: int, stride: int) -> list[int]:
        return [begin, end, stride, prod(counts[i + 1 :])]

    given = [len(n), len(k), at_a_time, NOBODY]
    for i, (begin, end, stride) in enumerate(n):
        given += index(i, [e - b for b, e, _ in n], begin, end, stride)
        given += windows.get(i, (-1, 0, 0, 1, 0))
    for i, (count, stride) in enumerate(k):
        given += [*index(i, [c for c, _ in k], 0, count, stride), -1, 0, 0, 1, 0]
    columns, depth = prod(e - b for b, e, _ in n), prod(c for c, _ in k)
    sizes = ROOM, *[columns + BOXES * SPARE] * 2, *[BOXES * depth + 1] * 2
    told = np.array(given, np.int64)
    found, at_n, to, at_k, rows = tables = [np.full(size, -7, np.int64) for size in sizes]
    functions("float").boxes(told.ctypes.data, *(table.ctypes.data for table in tables))
    for b in range(found[0]):
        count, first, low, unit, all_k = found[1 + BOX * b : 1 + BOX * (b + 1)]
        assert (to[first + count : first + count + SPARE] == NOBODY).all()
        own = slice(first, first + count), slice(low, low + all_k)
        yield *(list(t[own[0]]) for t in (at_n, to)), *(list(t[own[1]]) for t in (at_k, rows)), unit


def check(
    n: Sequence[tuple[int, int, int]],
    k: Sequence[tuple[int, int]],
    windows: Windows,
    at_a_time: int,
) -> int:
    """Each column is in one box, which has all values of k that it needs; how many there are too many."""
    every_n = list(product(*(range(b, e) for b, e, _ in n)))
    every_k = list(product(*(range(c) for c, _ in k)))
    seen: set[int] = set()
    more = 0
    for at_n, to, at_k, rows, unit in boxes(n, k, windows, at_a_time):
        assert not seen & set(to)
        assert len(set(to)) == len(to) and len(set(rows)) == len(rows) and rows == sorted(rows)
        assert unit == 0 or len(rows) % unit == 0
        seen |= set(to)
        assert at_k == [sum(j * s for j, (_, s) in zip(every_k[r], k, strict=True)) for r in rows]
        for place, column in zip(at_n, to, strict=True):
            i = every_n[column]
            assert place == sum(x * s for x, (_, _, s) in zip(i, n, strict=True))
            needed = {
                number
                for number, j in enumerate(every_k)
                if j[0] < at_a_time
                and all(
                    0 <= first + by_n * i[d] + by_k * j[e] < length
                    for d, (e, first, by_n, by_k, length) in windows.items()
                )
            }
            assert needed <= set(rows)
            more += len(rows) - len(needed)
    assert seen == set(range(len(every_n)))
    return more


def test_boxes_of_an_image() -> None:
    """7 x 7 places, 3 x 3 taps, of four channels: what is too much is of the corners alone."""
    n, k = [(0, 7, 9), (0, 7, 1)], [(4, 81), (3, 9), (3, 1)]
    windows = {0: (1, -1, 1, 1, 7), 1: (2, -1, 1, 1, 7)}
    assert check(n, k, windows, 4) == 4 * 4 * 2
    assert [len(to) for _, to, *_ in boxes(n, k, windows, 4)] == [7, 5, 25, 5, 7]


@pytest.mark.parametrize("seed", range(60))
def test_any_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k, windows = [], [], {}
    for d in range(rng.integers(1, 4)):
        begin = int(rng.integers(0, 3)) if d == 0 else 0
        n.append((begin, begin + int(rng.integers(1, 9)), int(rng.integers(1, 50))))
    for _ in range(rng.integers(1, 4)):
        k.append((int(rng.integers(1, 6)), int(rng.integers(1, 50))))
    partners = rng.permutation(len(k))
    for d in range(min(len(n), len(k))):
        if rng.random() < 0.8:
            by_n, by_k = int(rng.integers(-2, 4)), int(rng.choice([-2, -1, 1, 2, 3]))
            first, length = int(rng.integers(-8, 6)), int(rng.integers(0, 12))
            windows[d] = int(partners[d]), first, by_n, by_k, length
    # Where the first index of k has a window, all its values are taken at a time.
    whole = any(e == 0 for e, *_ in windows.values())
    check(n, k, windows, k[0][0] if whole else int(rng.integers(1, k[0][0] + 1)))


@pytest.mark.parametrize("by_n", [2, -2, 3])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_windows_that_pass_over_a_narrow_image(length: int, by_n: int) -> None:
    """The first and the last place meet zeros alone, on either side of the image; those between do not."""
    first = -4 if by_n > 0 else 4
    n, k = [(0, 5, 7), (0, 20, 1)], [(3, 9), (length, 1)]
    assert check(n, k, {0: (1, first, by_n, 1, length)}, 3) >= 0


def test_many_runs_are_not_all_cut() -> None:
    """A window as long as the image has a range of its own for each place."""
    n, k = [(0, 14, 28), (0, 14, 1)], [(2, 784), (14, 28), (14, 1)]
    check(n, k, {0: (1, -7, 1, 1, 14), 1: (2, -7, 1, 1, 14)}, 2)


CASES = [  # program, shapes of x and k, constants
    ("conv1d_padded", (2, 3, 40), (9, 3, 5), {"padding": 4, "dilation": 2}),
    ("conv1d_padded", (2, 300, 37), (9, 300, 3), {"padding": 1}),
    ("conv2d", (2, 9, 4, 4), (8, 9, 3, 3), {"padding": 6, "dilation": 6}),
    ("conv2d", (3, 100, 7, 7), (20, 100, 3, 3), {"padding": 1}),
    ("conv2d", (2, 1, 11, 13), (16, 1, 5, 5), {"padding": 2}),
    ("conv2d", (2, 5, 6, 9), (17, 5, 3, 2), {"padding": 4, "stride": 2}),
    ("conv2d", (1, 2, 30, 40), (6, 2, 3, 3), {"padding": 2, "dilation": 2}),
    ("conv2d", (2, 4, 1, 5), (8, 4, 3, 3), {"padding": 1}),
    ("conv3d", (2, 3, 5, 6, 7), (9, 3, 3, 3, 3), {"padding": 1}),
    ("grouped_conv2d", (2, 3, 4, 8, 8), (3, 5, 4, 3, 3), {"padding": 1}),
    ("conv_transpose2d", (2, 5, 6, 7), (5, 4, 3, 3), {"padding": 1, "stride": 2}),
    ("conv_transpose2d", (2, 5, 6, 7), (5, 18, 3, 3), {}),
]


@pytest.mark.parametrize(("name", "x", "k", "given"), CASES)
def test_convolutions(
    name: str,
    x: tuple[int, ...],
    k: tuple[int, ...],
    given: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values and gradients, with sides exchanged, are those of the literal loops in float64."""
    monkeypatch.setattr(weighing, "TURNED", -(10**6))
    program = replace(lg.lib[name])  # with nothing kept of other tests
    backward = program.backward(batch=False)
    rng = np.random.default_rng(len(x) + sum(k))
    biases = (k[1:2] if "transpose" in name else k[:2] if "grouped" in name else k[:1],)
    values = [rng.normal(size=size) for size in (x, k, *biases)]
    wanted = literally(program)(*values, **given)
    seed = rng.normal(size=wanted.shape)
    inputs = {i.name: v for i, v in zip(program.inputs, values, strict=True)}
    inputs["y.grad"] = seed
    some = [inputs[i.name] for i in backward.inputs]
    gradients = literally(backward)(*some, **given)
    small = [a.astype(np.float32) for a in values], [a.astype(np.float32) for a in some]
    found = lg.compile(program)(*small[0], **given), *lg.compile(backward)(*small[1], **given)
    for mine, right in zip(found, (wanted, *gradients), strict=True):
        bound = 2e-5 * np.abs(right).max(initial=1e-30)
        np.testing.assert_allclose(mine, right, rtol=0, atol=bound)


@pytest.mark.parametrize("extent", [1, 2, 3, 5])
def test_taps_on_both_sides_of_a_narrow_image(extent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighing, "TURNED", -(10**6))
    program = lg.program(
        """taps(u[B,J,K], g[B,J,K]) -> w[J,J,4]:
            for b, j, k, i, p < 4:  w[j,i,p] += g[b,j,k] * u[b,i,k+2*p-2]   if 0 <= k+2*p-2 < K"""
    )
    rng = np.random.default_rng(extent)
    u, g = rng.normal(size=(2, 2, 7, extent))
    wanted = literally(program)(u, g)
    with some_threads(1):  # two would share the taps
        np.testing.assert_allclose(lg.compile(program)(u, g), wanted, atol=1e-12)
