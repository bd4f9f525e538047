"""Sums whose ranges hang on data, on other indices and on both, over operands and targets of any axes.

Of such a range a schedule makes products of what each row, batch or column has, zeros before sums, rows with
columns of their own: which of these it may make hangs on where each index stands in what is written.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from tests.backends import guarded
from tests.backends.test_forced_schedules import forced
from tests.effort import EFFORT
from tests.literal import literally

pytestmark = pytest.mark.skipif(not guarded.POSSIBLE, reason="no mprotect")

EXTENTS = {"b": "B", "t": "T", "u": "T", "d": "D", "e": "E"}
LOOPS = [*map("".join, ("btu", "btud", "btud", "btude", "tud", "btde", "bud"))]
DATA = "int len[B], int lo[B], int h[T], int c[B,T], int k[B], int kt[T], int ke[B], int g[T], int n[4], bool m[B,T]"
RANGES = {
    "b": ["b", "b", "b", "b < n[3]"],
    "t": [
        "t",
        "t",
        "t < n[0]",
        "t < len[b]",
        "lo[b] <= t",
        "lo[b] <= t < len[b]",
        "t < min(len[b], T-1)",
    ],
    "u": [
        *("u", "u <= t", "u < len[b]", "u < min(len[b], t+1)", "u < h[t]", "lo[b] <= u < len[b]"),
        *("lo[b] <= u <= t", "max(t-3, lo[b]) <= u < min(t+1, len[b])", "u < c[b,t]", "t <= u"),
        *(
            "u < n[1]",
            "u < min(n[1], t+1)",
            "u < T-t",
            "u < min(h[t], len[b])",
            "max(t-3, 0) <= u <= t",
        ),
    ],
    "d": ["d", "d", "d", "d < k[b]", "d < kt[t]", "d < n[2]"],
    "e": ["e", "e < ke[b]"],
}
VALUES = ["{} * {}"] * 4 + ["exp({}) * {}", "{} + {}", "{} * {} / 3", "max({}, {})"]
GUARDS = ["", "", "", "m[b,u]", "u != t", "u <= t", "t < len[b]"]


@dataclass(frozen=True)
class Case:
    text: str
    shapes: tuple[tuple[str, ...], ...]  # of x and y


@st.composite
def cases(draw: st.DrawFn) -> Case:
    loops = draw(st.sampled_from(LOOPS))
    order = draw(st.permutations(loops)) if draw(st.booleans()) else list(loops)
    ranges = [draw(st.sampled_from(RANGES[i])) for i in order]

    def subscripts(least: int) -> list[str]:
        chosen = draw(st.permutations(loops))[: draw(st.integers(least, 3))]
        turned = {"u": draw(st.sampled_from(["u", "u", "u", "u", "g[u]", "T-1-u"]))}
        return [turned.get(i, i) for i in chosen]

    def axes(subscripts: list[str]) -> tuple[str, ...]:
        return tuple(EXTENTS.get(s, "T") for s in subscripts)

    def of(name: str, inside: list[str] | tuple[str, ...]) -> str:
        return f"{name}[{','.join(inside)}]" if inside else name

    def product() -> tuple[list[str], list[str], list[str]]:
        """Sides that both have what is summed, and some of what is not."""
        shuffled = draw(st.permutations(loops))
        summed, kept = shuffled[: draw(st.integers(1, 2))], shuffled[2:]
        sides = [draw(st.sampled_from([(1, 0), (0, 1), (1, 0), (0, 1), (1, 1)])) for _ in kept]
        one, other = (
            [*summed, *(i for i, side in zip(kept, sides, strict=True) if side[n])] for n in (0, 1)
        )
        return *(draw(st.permutations(each)) for each in (one, other)), kept  # type: ignore[return-value]

    if draw(st.integers(0, 2)):
        x, y, w = product()
    else:
        x, y, w = subscripts(1), subscripts(1), subscripts(0)
    value = draw(st.sampled_from(VALUES)).format(of("x", x), of("y", y))
    guard = draw(st.sampled_from(GUARDS))
    operation = draw(st.sampled_from(["+=", "+=", "+=", "-=", "max="]))
    head = f"{of('x', axes(x))}, {of('y', axes(y))}, {DATA}, size B, size T, size D, size E"
    line = f"for {', '.join(ranges)}:  {of('w', w)} {operation} {value}"
    text = f"f({head}) -> {of('w', axes(w))}:\n    {line}{'  if ' + guard if guard else ''}"
    return Case(text, (axes(x), axes(y)))


def arrays_of(case: Case, sizes: dict[str, int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    batch, rows, depth, width = sizes.values()
    numbers = [np.asarray(rng.standard_normal([sizes[e] for e in shape])) for shape in case.shapes]
    return [
        *numbers,
        *(rng.integers(0, rows + 1, batch), rng.integers(0, rows, batch)),
        *(rng.integers(0, rows + 1, rows), rng.integers(0, rows + 1, (batch, rows))),
        *(rng.integers(0, depth + 1, n) for n in (batch, rows)),
        *(rng.integers(0, width + 1, batch), rng.permutation(rows)),
        rng.integers(0, np.array([rows, rows, depth, batch]) + 1),
        rng.random((batch, rows)) < 0.6,
    ]


SIZES = [(2, 5, 3, 4), (3, 17, 9, 10), (1, 1, 1, 1), (2, 34, 16, 17)]


@settings(
    max_examples=15 * EFFORT,
    deadline=None,
    derandomize=EFFORT == 1,
    suppress_health_check=list(HealthCheck),
)
@given(cases(), st.integers(0, 9999))
def test_sums_over_ranges_that_hang_on_data(case: Case, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inputs that are not used
        try:
            program = lg.program(case.text)
            backward = program.backward(recompute=True)
        except lg.ProgramError:
            assume(False)  # an index before the one that its range hangs on
    for number, extents in enumerate(SIZES):
        sizes = dict(zip("BTDE", extents, strict=True))
        arrays = arrays_of(case, sizes, seed + number)
        wanted = literally(program)(*arrays, **sizes)
        seeds = np.random.default_rng(seed).standard_normal(wanted.shape)
        given_ = {i.name: a for i, a in zip(program.inputs, arrays, strict=True)}
        given_["w.grad"] = seeds
        inputs = [given_[i.name] for i in backward.inputs]
        own = {size.name: sizes[size.name] for size in backward.sizes}
        gradients = literally(backward)(*inputs, **own)
        for threads in (1, 2):
            with forced(threads):
                found = lg.compile(program)(*arrays, **sizes)
                np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
                if number < 2:
                    for one, other in zip(
                        lg.compile(backward)(*inputs, **own), gradients, strict=True
                    ):
                        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
