"""Windows with padding, steps and gaps are products: what comes out, and that they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule import Scheduled
from loopgrad.schedule.choices import Choices
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.tree import Fused, Product, steps
from tests.effort import EFFORT
from tests.schedule.test_walking import SLOW, check, interpreted

few = settings(max_examples=10 * EFFORT, deadline=None, suppress_health_check=SLOW)


@dataclass(frozen=True)
class Window:
    """One axis: its extent and the kernel's, and how the kernel goes over it."""

    extent: int
    taps: int
    stride: int
    padding: int
    dilation: int

    @property
    def positions(self) -> int:
        reach = self.dilation * (self.taps - 1) + 1
        return (self.extent + 2 * self.padding - reach) // self.stride + 1


WINDOWS = st.builds(
    Window, st.integers(0, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3)
)  # fmt: skip


def convolution(windows: list[Window], grouped: bool) -> lg.Program:
    """`y[b,o,m,n] += k[o,i,p,q] * x[b,i,2*m+p-1,...]`, as far as it goes."""
    axes = range(len(windows))
    group = "g," if grouped else ""
    extents = ",".join(f"X{a}" for a in axes)
    taps = ",".join(f"P{a}" for a in axes)
    places, conditions, lengths = [], [], []
    for a, w in zip(axes, windows, strict=True):
        place = f"{w.stride}*n{a}+{w.dilation}*p{a}-{w.padding}"
        places.append(place)
        conditions.append(f"0 <= {place} < X{a}")
        lengths.append(f"(X{a} + {2 * w.padding} - {w.dilation}*(P{a}-1) - 1) // {w.stride} + 1")
    n, p = ",".join(f"n{a}" for a in axes), ",".join(f"p{a}" for a in axes)
    G = group.upper()
    return lg.program(
        f"conv(x[B,{G}C,{extents}], k[{G}O,C,{taps}]) -> y[B,{G}O,{', '.join(lengths)}]:\n"
        f"    for b, {group} o, {n}, i, {p}:  y[b,{group}o,{n}] += "
        f"k[{group}o,i,{p}] * x[b,{group}i,{','.join(places)}]   if {' and '.join(conditions)}"
    )


def inputs_of(program: lg.Program, sizes: dict[str, int], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    names = {i.name: [sizes[e.name] for e in i.extents] for i in program.inputs}  # type: ignore
    return {name: rng.normal(size=shape) for name, shape in names.items()}


def scheduled(program: lg.Program) -> Scheduled:
    return optimized(infer(program), validate(program))


def products(program: lg.Program) -> int:
    phases = scheduled(program).phases
    trees = [phase.body for phase in phases if isinstance(phase, Fused)]
    return sum(isinstance(node, Product) for body in trees for node in steps(body))


def given_to(backward: lg.Program, values: dict[str, Any]) -> dict[str, Any]:
    return {i.name: values[i.name] for i in backward.inputs}


@given(
    st.lists(WINDOWS, min_size=1, max_size=2),
    st.booleans(),
    st.tuples(*[st.integers(1, 5)] * 4),
    st.integers(1, 2),
    st.integers(0, 2**16),
)
@few
def test_convolutions_and_their_gradients(
    windows: list[Window], grouped: bool, counts: tuple[int, ...], threads: int, seed: int
) -> None:
    assume(all(w.positions >= 0 for w in windows))
    program = convolution(windows, grouped)
    sizes = dict(zip("BGCO", counts, strict=True))
    for a, w in enumerate(windows):
        sizes |= {f"X{a}": w.extent, f"P{a}": w.taps}
    values = inputs_of(program, sizes, seed)
    assert products(program) == 1
    check(program, values, threads, Choices())
    y = lg.compile(program)(**values)
    np.testing.assert_allclose(y, interpreted(program, values).arrays["y"], rtol=1e-9, atol=1e-10)
    backward = program.backward()
    values["y.grad"] = np.random.default_rng(seed + 1).normal(size=y.shape)
    named = {s.name: sizes[s.name] for s in backward.sizes}
    assert products(backward) == 2
    given_values = given_to(backward, values)
    slow = lg.compile(backward, backend="interpret")(**given_values, **named)
    fast = lg.compile(backward)(**given_values, **named)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)
    if not named:
        check(backward, given_values, threads, Choices())


ONE = [Window(6, 3, 1, 1, 1)]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_zeros_around_are_not_multiplied_by_what_is_not_finite(bad: float) -> None:
    program = convolution(ONE, grouped=False)
    values = inputs_of(program, {"B": 2, "C": 3, "O": 4, "X0": 6, "P0": 3}, 0)
    values["k"][1, 2, 0] = bad  # never meets what is before the first element
    y = lg.compile(program)(**values)
    np.testing.assert_allclose(y, interpreted(program, values).arrays["y"], rtol=1e-9)
    assert np.isfinite(y[:, 1, 0]).all() and not np.isfinite(y[:, 1, 1:]).any()


def test_what_is_padded_may_be_anything() -> None:
    program = convolution(ONE, grouped=False)
    values = inputs_of(program, {"B": 2, "C": 3, "O": 4, "X0": 6, "P0": 3}, 0)
    values["x"][0, 1, 2] = np.inf
    np.testing.assert_array_equal(
        np.isfinite(lg.compile(program)(**values)),
        np.isfinite(interpreted(program, values).arrays["y"]),
    )


def test_what_is_looked_at_and_copied_once_serves_two_products() -> None:
    both = lg.program(
        "conv(x[B,C,X], k[O,C,P], l[O,C,P]) -> y[B,O,X], z[B,O,X]:\n"
        "    for b, o, n, i, p:  y[b,o,n] += k[o,i,p] * x[b,i,n+p-1]   if 0 <= n + p - 1 < X\n"
        "    for b, o, n, i, p:  z[b,o,n] += l[o,i,p] * x[b,i,n+p-1]   if 0 <= n + p - 1 < X"
    )
    text = show(scheduled(both))
    assert text.count("else 0.0") == 1 and text.count("* 0.0") == 2
    values = inputs_of(both, {"B": 2, "C": 3, "O": 4, "X": 6, "P": 3}, 0)
    check(both, values, 2, Choices())


def test_conditions_that_always_hold_are_left_out() -> None:
    for stride in (1, 2, 3):
        text = show(scheduled(convolution([Window(9, 3, stride, 0, 1)], grouped=False)))
        assert "padded" not in text and " if " not in text
        assert "product:" in text


def test_a_convolution_without_a_batch() -> None:
    program = lg.program(
        "conv(x[C,X], k[O,C,P]) -> y[O,X]:\n"
        "    for o, n, i, p:  y[o,n] += k[o,i,p] * x[i,n+p-1]   if 0 <= n + p - 1 < X"
    )
    values = inputs_of(program, {"C": 3, "X": 7, "O": 5, "P": 3}, 1)
    assert products(program) == 1
    check(program, values, 2, Choices())


def test_the_last_axis_may_hold_channels() -> None:
    program = lg.program(
        "conv(x[B,X,C], k[P,C,O]) -> y[B,X,O]:\n"
        "    for b, n, o, p, i:  y[b,n,o] += x[b,n+p-1,i] * k[p,i,o]   if 0 <= n + p - 1 < X"
    )
    values = inputs_of(program, {"B": 2, "C": 3, "X": 7, "O": 5, "P": 3}, 1)
    assert products(program) == 1
    check(program, values, 2, Choices())
    backward = program.backward()
    assert products(backward) == 2
    values["y.grad"] = np.random.default_rng(2).normal(size=(2, 7, 5))
    check(backward, given_to(backward, values), 2, Choices())


MASKED = """scores(q[B,T,D], k[B,U,D], bool seen[B,U]) -> s[B,T,U]:
    for b, t, u, d:  s[b,t,u] += q[b,t,d] * k[b,u,d]   if seen[b,u]"""
RELU = """layer(x[B,I], W[J,I], a[B,J]) -> y[B,J]:
    for b, j:     y[b,j] += 1
    for b, j, i:  y[b,j] -= W[j,i] * x[b,i]   if a[b,j] > 0"""
CHOSEN = """chosen(x[B,I], W[J,I], int w[B]) -> y[B,J]:
    for b, j, i:  y[b,j] += W[j,i] * x[b,i]   if j == w[b]"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("text", [MASKED, RELU])
def test_sums_that_are_not_wanted_everywhere_are_products(text: str, threads: int) -> None:
    program = lg.program(text)
    assert products(program) == 1
    sizes = {"B": 3, "T": 5, "U": 7, "D": 4, "I": 4, "J": 6}
    values = inputs_of(program, sizes, 3)
    if "seen" in values:
        values["seen"] = values["seen"] > 0
    check(program, values, threads, Choices())
    for name in values:
        if values[name].dtype == float:
            values[name].flat[0] = np.inf  # what a mask leaves out is nowhere
    y = lg.compile(program)(**values)
    slow = lg.compile(program, backend="interpret")(**values)
    np.testing.assert_allclose(y, slow, rtol=1e-9)


def test_sums_that_are_wanted_at_one_place_are_loops() -> None:
    assert products(lg.program(CHOSEN)) == 0


@pytest.mark.parametrize("operation", ["max=", "min=", "*=", "+=", "-="])
@pytest.mark.parametrize("guard", ["n+p < X", "0 <= n+2*p-1 and n+2*p-1 < X"])
def test_only_sums_over_windows_are_products(operation: str, guard: str) -> None:
    place = "n+p" if "2" not in guard else "n+2*p-1"
    program = lg.program(f"""f(x[B,X], w[O,3]) -> y[B,O,X]:
    for o, b, n < X, p < 3:  y[b,o,n] {operation} w[o,p] * x[b,{place}]   if {guard}""")
    rng = np.random.default_rng(1)
    for b, x, o in ((1, 4, 2), (3, 17, 9)):
        given = rng.normal(size=(b, x)), rng.normal(size=(o, 3))
        wanted = lg.compile(program, backend="interpret")(*given)
        np.testing.assert_allclose(program(*given), wanted, rtol=1e-12, atol=1e-14)
