"""Recurrences as people write them have products in their turns, whatever says where the first turn begins."""

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
from tests.schedule.test_walking import check

HEAD = "f(W[J,I], x[T,B,J], g[B,J]) -> h[T,B,J]:\n    for t:\n"
FORMS = {
    "a guard": """
        for b, j, i:  a[t,b,j] += W[j,i] * h[t-1,b,i]   if t > 0
        for b, j:     h[t,b,j]  = tanh(a[t,b,j] + x[t,b,j] + g[b,j])
""",
    "taken away": """
        for b, j, i:  a[t,b,j] -= W[j,i] * h[t-1,b,i]   if t > 0
        for b, j:     h[t,b,j]  = tanh(a[t,b,j] + x[t,b,j] + g[b,j])
""",
    "a conditional": """
        for b, j, i:  a[t,b,j] += W[j,i] * h[t-1,b,i] if t > 0 else 0
        for b, j:     h[t,b,j]  = tanh(a[t,b,j] + x[t,b,j] + g[b,j])
""",
    "an equation": """
        for b, j:  h[t,b,j] = tanh(sum[i](W[j,i] * h[t-1,b,i] if t > 0 else 0) + x[t,b,j] + g[b,j])
""",
    "two guards": """
        for b, j, i:  a[t,b,j] += W[j,i] * g[b,i]       if t == 0
        for b, j, i:  a[t,b,j] += W[j,i] * h[t-1,b,i]   if t > 0
        for b, j:     h[t,b,j]  = tanh(a[t,b,j] + x[t,b,j])
""",
    "a state that is a sum": """
        for b, j:     a[t,b,j] += x[t,b,j] + g[b,j]
        for b, j, i:  a[t,b,j] += W[j,i] * tanh(a[t-1,b,i])   if t > 0
        for b, j:     h[t,b,j]  = a[t,b,j]
""",
}


def program_of(form: str) -> lg.Program:
    return lg.program(HEAD + FORMS[form].strip("\n"))


def test_the_first_turn_has_zeros_and_no_product() -> None:
    program = program_of("a guard")
    assert (
        show(optimized(infer(program), validate(program)))
        == """pack parallel, where large:  packed = W[j,i]
for b < B in blocks parallel:
    pack, where small:  packed = W[j,i]
    for t < T:
        for b.from <= b < b.to:  for j < J vector:  a[t,b,j] = 0.0
        product:  a[t,b,j] += h[t-1,b,i] * W[j,i]   if t > 0
        for b.from <= b < b.to:  for j < J vector:  h[t,b,j] = tanh(a[t,b,j] + x[t,b,j] + g[b,j])
  # a[B,J] in a row of each thread"""
    )


@pytest.mark.parametrize("form", FORMS)
def test_turns_are_products(form: str) -> None:
    program = program_of(form)
    assert "product:" in show(optimized(infer(program), validate(program)))
    rng = np.random.default_rng(7)
    for turns, rows, size in ((0, 2, 3), (1, 3, 2), (2, 1, 17), (4, 3, 18), (3, 0, 2), (3, 2, 0)):
        shapes = {"W": (size, size), "x": (turns, rows, size), "g": (rows, size)}
        given = {i.name: rng.normal(size=shapes[i.name]) / 2 for i in program.inputs}
        check(program, given, 2, Choices())
        wanted = lg.compile(program, backend="interpret")(**given)
        np.testing.assert_allclose(lg.compile(program)(**given), wanted, rtol=1e-11, atol=1e-12)


def test_what_is_required_of_a_read_under_a_guard() -> None:
    program = program_of("a state that is a sum")
    found = [show_expression(e) for e in optimized(infer(program), validate(program)).requires]
    assert found == ["T - 1 - 1 < T", "I - 1 < J"]
    W, x, g = np.ones((2, 3)), np.ones((2, 1, 2)), np.ones((1, 2))
    with pytest.raises(IndexError, match="I"):
        lg.compile(program)(W, x, g)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form: str) -> None:
    program = program_of(form).backward(batch=False)
    known = infer(program).tensors
    rng = np.random.default_rng(11)
    for turns, rows, size in ((0, 2, 3), (1, 3, 2), (2, 1, 17), (4, 3, 18), (3, 0, 2), (3, 2, 0)):
        extents = {"T": turns, "B": rows, "J": size, "I": size}
        given = {
            i.name: rng.normal(size=[extents[show_expression(e)] for e in known[i.name].extents])
            for i in program.inputs
        }
        sizes = {s.name: extents[s.name] for s in program.sizes}
        check(program, {**given, **sizes}, 2, Choices())
        wanted = lg.compile(program, backend="interpret")(**given, **sizes)
        for one, other in zip(lg.compile(program)(**given, **sizes), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


def test_a_factor_that_the_sum_does_not_need_leaves_the_product() -> None:
    program = program_of("a state that is a sum").backward(wrt="x", batch=False)
    text = show(optimized(infer(program), validate(program)))
    assert (
        """        for b.from <= b < b.to:  for i < I vector:  sum[t,b,i] = 0.0
        product:  sum[t,b,i] += a.grad[t,b,j] * W[j,i]   if t > 0
        for b.from <= b < b.to:  for i < I vector:  a.grad[t-1,b,i] += ((1 - tanh(a[t-1,b,i])**2) * sum[t,b,i] if 0 < J else 0.0)   if t > 0
  # sum[B,I] in a row of each thread"""
        in text
    )


@pytest.mark.parametrize(
    ("reduction", "guard"), [("+=", ""), ("-=", ""), ("+=", "   if t > 0 and t < T - 1")]
)
def test_factors_of_sums_in_turns(reduction: str, guard: str) -> None:
    program = lg.program(
        "f(W[J,I], x[T,B,J], g[B,J]) -> h[T,B,J]:\n    for t:\n"
        "        for b, i:     p[t,b,i]  = h[t-1,b,i] if t > 0 else 1\n"
        f"        for b, j, i:  a[t,b,j] {reduction} W[j,i] * g[b,j] * x[t,b,j] * p[t,b,i]{guard}\n"
        "        for b, j:     h[t,b,j]  = tanh(a[t,b,j] + x[t,b,j])\n"
    )
    text = show(optimized(infer(program), validate(program)))
    assert "product:  sum[" in text
    rng = np.random.default_rng(13)
    for turns, rows, size in ((0, 2, 3), (1, 3, 2), (4, 3, 18), (3, 2, 0)):
        shapes = {"W": (size, size), "x": (turns, rows, size), "g": (rows, size)}
        given = {i.name: rng.normal(size=shapes[i.name]) / 2 for i in program.inputs}
        check(program, given, 2, Choices())
        wanted = lg.compile(program, backend="interpret")(**given)
        np.testing.assert_allclose(lg.compile(program)(**given), wanted, rtol=1e-11, atol=1e-12)


GRID = lg.program(
    "grid(c[B,N,M]) -> R[B,N+1,M+1]:\n"
    "    for b, i <= N, j <= M:  R[b,i,j] = (0 if i == 0 and j == 0 else 1e30)   if i == 0 or j == 0\n"
    "    for 1 <= i <= N:\n"
    "        for 1 <= j <= M:\n"
    "            for b:  R[b,i,j] = c[b,i-1,j-1] + min(min(R[b,i-1,j], R[b,i,j-1]), R[b,i-1,j-1])\n"
)
TRIANGLE = lg.program(
    "triangle(x[B,N]) -> y[B,N,N]:\n"
    "    for i:\n"
    "        for j <= i:\n"
    "            for b:  y[b,i,j] += x[b,i] + (y[b,i,j-1] if j > 0 else 0) * (y[b,i-1,j] if 0 < i and j < i else 1)\n"
)


def test_threads_share_the_batch_outside_of_blocks_within_blocks() -> None:
    text = show(optimized(infer(GRID), validate(GRID)))
    assert text.splitlines()[1:4] == [
        "for b < B in blocks parallel:",
        "    for 1 <= i <= N:  for 1 <= j <= M:  for b.from <= b < b.to:  R[b,i,j] = c[b,i-1,j-1] + "
        "min(min(R[b,i-1,j], R[b,i,j-1]), R[b,i-1,j-1])",
    ]


@pytest.mark.parametrize("program", [GRID, TRIANGLE], ids=["grid", "triangle"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 4, 7), (3, 0, 2), (0, 2, 3), (2, 6, 0)])
def test_blocks_within_blocks(program: lg.Program, sizes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    x = rng.integers(0, 3, sizes if program is GRID else sizes[:2]).astype(float)
    y = lg.compile(program, backend="interpret")(x)
    np.testing.assert_allclose(program(x), y, rtol=1e-12)
    given = {program.inputs[0].name: x, program.results[0].name: y}
    given[f"{program.results[0].name}.grad"] = rng.normal(size=y.shape)
    backward = program.backward()
    known = {i.name: given[i.name] for i in backward.inputs}
    extents = dict(zip("BNM", sizes, strict=True))
    known |= {name: extent for name, extent in extents.items() if f"size {name}" in str(backward)}
    expected = lg.compile(backward, backend="interpret")(**known)
    np.testing.assert_allclose(lg.compile(backward)(**known), expected, rtol=1e-12, atol=1e-12)


INSIDE = "t > 0 and 0 <= i+p-1 < X and 0 <= j+q-1 < Y"
CONVOLVED = f"""\
convolved(x[T,B,H,X,Y], W[H,H',3,3]) -> h[T,B,H,X,Y]:
    for t:
        for b, o < H, i < X, j < Y, c < H, p < 3, q < 3:
            a[t,b,o,i,j] += W[o,c,p,q] * h[t-1,b,c,i+p-1,j+q-1]   if {INSIDE}
        for b, o < H, i < X, j < Y:  h[t,b,o,i,j] = tanh(a[t,b,o,i,j] + x[t,b,o,i,j])
"""
CONVOLVED = CONVOLVED.replace(":\n            a[", ":  a[")


def test_what_windows_of_a_state_spread_is_taken_at_each_place():
    """Within time as outside of it; the weights' gradient is a product, though it begins with the second turn."""
    program = lg.program(CONVOLVED)
    backward = program.backward(recompute=True)
    found = show(optimized(infer(backward), validate(backward)))
    assert not [line for line in found.splitlines() if "h.grad'[t-1" in line and "+p-1" in line]
    assert "W.grad[o,c,p,q] += " in found.replace("h'", "o") and "product, zeros left out:" in found
    rng = np.random.default_rng(8)
    for T, B, H, X, Y in [(3, 2, 4, 5, 7), (1, 1, 1, 1, 1), (2, 1, 2, 9, 17), (0, 2, 2, 3, 3)]:
        x, W = rng.normal(size=(T, B, H, X, Y)), rng.normal(size=(H, H, 3, 3))
        seed = rng.normal(size=(T, B, H, X, Y))
        want = lg.compile(backward, backend="interpret")(x, W, seed)
        for one, other in zip(lg.compile(backward)(x, W, seed), want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


# A tensor by way of which a state hangs on itself, not all of which is written: the rest is 0.
PARTS = {
    "a row less": "for b < B-1:  p[t,b] = h[t-1,b] if t > 0 else g[b]",
    "but for the first": "for 1 <= b < B:  p[t,b] -= h[t-1,b] if t > 0 else g[b]",
    "a triangle": "for b < min(B, t+1):  p[t,b] += h[t-1,b] if t > 0 else g[b]",
    "all": "for b < B:  p[t,b] = h[t-1,b] if t > 0 else g[b]",
}


@pytest.mark.parametrize("name", PARTS)
def test_a_state_by_way_of_parts_of_another_tensor(name: str) -> None:
    program = lg.program(
        f"""f(a[T,B], g[B]) -> h[T,B]:
            local p[T,B]
            for t:
                {PARTS[name]}
                for b:  h[t,b] = 0.5 * p[t,b] + a[t,b]"""
    )
    rng = np.random.default_rng(0)
    for sizes in ((4, 3), (3, 17)):
        inputs = {"a": rng.normal(size=sizes), "g": rng.normal(size=sizes[1])}
        wanted = lg.compile(program, backend="interpret")(**inputs)
        np.testing.assert_allclose(program(**inputs), wanted, rtol=1e-13, atol=1e-14)


# What a turn writes behind what reads it in the next one: no cycle, but an order.
LATE = {
    "a sum": ("t < T", "y[t,b] = 2 * c[t,b]", "c[t+1,b] += x[t,b]"),
    "by way of another": (
        "t < T",
        "y[t,b] = 2 * c[t,b]",
        "d[t,b] = x[t,b] + 1",
        "c[t+1,b] = d[t,b]",
    ),
    "a chain": ("t < T", "y[t,b] = e[t,b]", "e[t+1,b] = c[t,b]", "c[t+1,b] = x[t,b]"),
    "downwards": (
        "0 <= t < T descending",
        "y[t,b] = c[t+1,b] if t + 1 < T else 0",
        "c[t,b] = x[t,b]",
    ),
    "behind a state": (
        "t < T",
        "y[t,b] = 2 * c[t,b]",
        "s[t,b] = 0.5 * s[t-1,b] + x[t,b] if t > 0 else x[t,b]",
        "c[t+1,b] = s[t,b]**2",
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_what_reads_the_turn_before_stands_behind_what_wrote_it(name: str) -> None:
    turns, *statements = LATE[name]
    lines = "".join(f"\n        for b < B:  {statement}" for statement in statements)
    program = lg.program(f"f(x[T,B]) -> y[T,B]:\n    for {turns}:{lines}")
    x = np.random.default_rng(0).normal(size=(4, 3))
    wanted = lg.compile(program, backend="interpret")(x)
    np.testing.assert_array_equal(program(x), wanted)
    check(program, {"x": x}, 2, Choices())


@pytest.mark.parametrize(
    "text",
    [
        # `t` is an index of all times, then of the block's; over `u` it went before.
        """f(x[T]) -> q[T], h[T]:
    for t:  q[t] = tanh(x[t])
    h[0] = x[0]
    for 1 <= t < T:
        for u < T:  c[t] += x[u] * h[t-1]
        h[t] = tanh(c[t]) + q[t]""",
        """f(x[T]) -> q[T], h[T]:
    for t:  q[t] = tanh(x[t])
    h[0] = x[0]
    for 1 <= t < T:
        for u < T:  m[t] max= x[u] * h[t-1]
        for u < T:  c[t] += exp(x[u] * h[t-1] - m[t])
        h[t] = tanh(c[t]) + q[t]""",
        """f(x[T]) -> a[T,T], h[T,T]:
    for t, m:  a[t,m] = x[t] * x[m]
    for n:     h[0,n] = 1
    for 1 <= t < T:
        for n:  h[t,n] = x[n] * h[t-1,n]""",
    ],
)
def test_an_index_keeps_its_own_values_where_the_blocks_had_its_name_before(text: str) -> None:
    program = lg.program(text)
    x = np.random.default_rng(0).normal(size=7)
    wanted = lg.compile(program, backend="interpret")(x)
    seeds = [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(wanted, 1)]
    for found, result in zip(program(x), wanted, strict=True):
        np.testing.assert_allclose(found, result, rtol=1e-12)
    (gradient,) = lg.vjp(program, x)[1](*seeds)
    backward = lg.compile(program.backward(recompute=True), backend="interpret")
    np.testing.assert_allclose(gradient, backward(x, *seeds), rtol=1e-10)


@pytest.mark.parametrize("band", ["max(j-1, 0) <= i < J", "i < min(j+2, J)", "i <= j"])
@pytest.mark.parametrize(
    "sum_of", ["a[t,b,j] += W[j,i] * h[t-1,b,i]", "a[t,b,i] += W[i,j] * h[t-1,b,j]"]
)
@pytest.mark.parametrize("sizes", [(3, 2, 4), (2, 9, 17)])
def test_matrices_that_are_bands(band: str, sum_of: str, sizes: tuple[int, int, int]) -> None:
    """A band is no matrix that is packed once for all times: where its columns end its rows say."""
    program = lg.program(f"""f(x[T,B,J], W[J,J]) -> h[T,B,J]:
    local a[T,B,J]
    for t:
        for b, j, {band}:  {sum_of}   if t > 0
        for b, j:  h[t,b,j] = tanh(a[t,b,j] / 2 + x[t,b,j])""")
    t, b, j = sizes
    rng = np.random.default_rng(3)
    given = rng.normal(size=(t, b, j)), rng.normal(size=(j, j))
    seed = rng.normal(size=(t, b, j))
    h, pullback = lg.vjp(program, *given)
    np.testing.assert_allclose(h, lg.compile(program, backend="interpret")(*given), rtol=1e-9)
    backward = lg.compile(program.backward(recompute=True), backend="interpret")
    for found, wanted in zip(pullback(seed), backward(*given, seed), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
