"""Contractions of any index pattern, compiled to products of matrices, against NumPy and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loopgrad as lg
from loopgrad.frontend.library import read_programs
from tests.effort import EFFORT
from tests.literal import literally

GUARD = 64
CANARY = 12345.0
SIZES = (0, 1, 2, 3, 5, 6, 7, 8, 13, 15, 16, 17, 31, 33, 64, 65, 130)


@dataclass(frozen=True)
class Pattern:
    """`y[target] += a[left] * b[right]`: one letter an index, in the order of the axes."""

    target: str
    left: str
    right: str
    sizes: dict[str, int]
    reduction: str = "+="
    scale: str = ""

    @property
    def text(self) -> str:
        indices = "".join(dict.fromkeys(self.target + self.left + self.right))
        read = lambda name, letters: f"{name}[{','.join(letters)}]"
        shape = lambda name, letters: f"{name}[{','.join(letters.upper())}]"
        return (
            f"f({shape('a', self.left)}, {shape('b', self.right)}) -> {shape('y', self.target)}:\n"
            f"    for {', '.join(indices)}:  {read('y', self.target)} {self.reduction} "
            f"{self.scale}{read('a', self.left)} * {read('b', self.right)}"
        )

    def arrays(self, dtype: type) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(len(self.text))
        shapes = ([self.sizes[i] for i in letters] for letters in (self.left, self.right))
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        return a, b

    def exact(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        equation = f"{self.left},{self.right}->{self.target}"
        value = np.einsum(equation, a.astype(float), b.astype(float))
        factor = {"": 1.0, "2.5 * ": 2.5}[self.scale]
        return factor * value if self.reduction == "+=" else -factor * value


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """One or two indices of each kind (none of a batch, too), each tensor's axes in any order."""
    letters = iter("ijklmnopq")
    batch, m, n, k = (
        "".join(next(letters) for _ in range(draw(st.integers(least, 2)))) for least in (0, 1, 1, 1)
    )
    order = lambda group: "".join(draw(st.permutations(group)))
    left, right = order(batch + m + k), order(batch + n + k)
    last = draw(st.sampled_from(m + n))
    target = order((batch + m + n).replace(last, "")) + last
    few = len(batch + m + n + k) > 4
    size = st.sampled_from(SIZES[:9] if few else SIZES)
    sizes = {i: draw(size) for i in batch + m + n + k}
    reduction = draw(st.sampled_from(["+=", "+=", "-="]))
    return Pattern(target, left, right, sizes, reduction, draw(st.sampled_from(["", "2.5 * "])))


def guarded(shape: tuple[int, ...], dtype: type) -> tuple[np.ndarray, np.ndarray]:
    size = int(np.prod(shape))
    memory = np.full(size + 2 * GUARD, CANARY, dtype)
    return memory[GUARD : GUARD + size].reshape(shape), memory


def uses_products(kernel: lg.Kernel, real: str = "double") -> bool:
    return "@loopgrad_product_" in kernel.runner.text(real)


def results(returned: Any) -> tuple[np.ndarray, ...]:
    return returned if isinstance(returned, tuple) else (returned,)


def check(pattern: Pattern, dtype: type) -> None:
    kernel = lg.compile(lg.program(pattern.text))
    assert uses_products(kernel), pattern.text
    a, b = pattern.arrays(dtype)
    out, memory = guarded(tuple(pattern.sizes[i] for i in pattern.target), dtype)
    kernel(a, b, out=out)
    exact = pattern.exact(a, b)
    size = np.abs(pattern.exact(np.abs(a), np.abs(b)))
    terms = max(
        1, int(np.prod([pattern.sizes[i] for i in set(pattern.left) - set(pattern.target)]))
    )
    bound = 4 * np.finfo(dtype).eps * size * terms**0.5
    assert (np.abs(out - exact) <= bound).all(), pattern.text
    assert (memory[:GUARD] == CANARY).all() and (memory[len(memory) - GUARD :] == CANARY).all()


@settings(max_examples=40 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))
@given(patterns(), st.sampled_from([np.float32, np.float64]))
def test_any_pattern(pattern: Pattern, dtype: type) -> None:
    check(pattern, dtype)


@pytest.mark.parametrize(
    ("target", "left", "right"),
    [
        ("ij", "ik", "kj"),
        ("ij", "ik", "jk"),
        ("ij", "ki", "kj"),
        ("ji", "ik", "kj"),
        ("gij", "gik", "gkj"),
        ("ghij", "gihk", "gjhk"),
        ("ij", "gti", "gtj"),
        ("gtj", "gti", "ij"),
    ],
)
@pytest.mark.parametrize("size", [1, 47, 48, 49, 200])
def test_usual_patterns(target: str, left: str, right: str, size: int) -> None:
    sizes = dict.fromkeys("ghtijk", size) | {"g": 2, "h": 3}
    if "t" in left:
        sizes |= {"t": 9}
    check(Pattern(target, left, right, sizes), np.float32)


def test_parts_of_what_is_packed() -> None:
    """Deeper and wider than what is packed at a time."""
    check(Pattern("ij", "ik", "kj", {"i": 5, "j": 700, "k": 1100}), np.float32)
    check(Pattern("gij", "gik", "gkj", {"g": 2, "i": 100, "j": 1030, "k": 257}), np.float64)


AFFINE = {
    "correlation": (
        "f(x[B,X,C], w[P,C,O]) -> y[B,X-P+1,O]:\n"
        "    for b, i, o, p, c:  y[b,i,o] += x[b,i+p,c] * w[p,c,o]",
        {"x": (2, 21, 3), "w": (4, 3, 17)},
    ),
    "convolution, channels last": (
        "f(x[B,X,Y,C], w[P,Q,C,O]) -> y[B,X-P+1,Y-Q+1,O]:\n"
        "    for b, i, j, o, p, q, c:  y[b,i,j,o] += w[p,q,c,o] * x[b,i+p,j+q,c]",
        {"x": (2, 6, 9, 3), "w": (2, 3, 3, 9)},
    ),
    "convolution, channels first": (
        "f(x[B,C,X,Y], w[O,C,3,3]) -> y[B,O,X-2,Y-2]:\n"
        "    for b, i, j, o, p, q, c:  y[b,o,i,j] += w[o,c,p,q] * x[b,c,i+p,j+q]",
        {"x": (2, 3, 6, 9), "w": (5, 3, 3, 3)},
    ),
    "with steps": (
        "f(x[B,X,C], w[P,C,O], s = 2) -> y[B,(X-P)//s+1,O]:\n"
        "    for b, i < (X-P)//s+1, o, p, c:  y[b,i,o] += x[b,s*i+p,c] * w[p,c,o]",
        {"x": (2, 20, 3), "w": (3, 3, 9)},
    ),
    "backwards": (
        "f(x[T,I], w[I,J]) -> y[T,J]:\n    for t, j, i:  y[t,j] += x[T-1-t,i] * w[i,j]",
        {"x": (13, 9), "w": (9, 10)},
    ),
    "one row of a stack": (
        "f(x[3,T,I], w[2,I,J]) -> y[T,J]:\n    for t, j, i:  y[t,j] += x[2,t,i] * w[1,i,j]",
        {"x": (3, 13, 9), "w": (2, 9, 10)},
    ),
}


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_affine_subscripts(name: str, dtype: type) -> None:
    text, shapes = AFFINE[name]
    program = lg.program(text)
    rng = np.random.default_rng(3)
    arrays = {n: rng.standard_normal(shape).astype(dtype) for n, shape in shapes.items()}
    kernel = lg.compile(program)
    assert uses_products(kernel)
    wanted = lg.compile(program, backend="interpret")(
        **{n: a.astype(float) for n, a in arrays.items()}
    )
    np.testing.assert_allclose(kernel(**arrays), wanted, rtol=0, atol=200 * np.finfo(dtype).eps)


PADDED = """
first(x[B,C,X,Y], w[O,C,3,3]) -> y[B,O,X,Y]:
    for b, i, j, o, p, q, c:
        y[b,o,i,j] += w[o,c,p,q] * (x[b,c,i+p-1,j+q-1] if 0 <= i+p-1 < X and 0 <= j+q-1 < Y else 0.0)

last(x[B,X,Y,C], w[P,Q,C,O]) -> y[B,X,Y,O]:
    for b, i, j, o, p, q, c:
        y[b,i,j,o] += w[p,q,c,o] * (x[b,i+p-1,j+q-1,c] if 0 <= i+p-1 < X and 0 <= j+q-1 < Y else 0.0)

steps(x[B,X,C], w[4,C,O]) -> y[B,(X-4)//2+1,O]:
    for b, i < (X-4)//2+1, o, p, c:  y[b,i,o] += x[b,2*i+p,c] * w[p,c,o]
"""


@pytest.mark.parametrize(
    ("name", "x", "w"),
    [
        ("first", (1, 2, 17, 9), (3, 2, 3, 3)),
        ("first", (1, 9, 1, 2), (50, 9, 3, 3)),
        ("last", (1, 17, 9, 2), (3, 3, 2, 3)),
        ("last", (2, 1, 30, 3), (2, 3, 3, 1)),
        ("steps", (2, 21, 3), (4, 3, 9)),
    ],
)
def test_convolutions_and_their_gradients(
    name: str, x: tuple[int, ...], w: tuple[int, ...]
) -> None:
    """Padding is computed first; of the gradient in x, the kernel's indices select what is added to."""
    forward = read_programs(PADDED, "<text>")[["first", "last", "steps"].index(name)]
    rng = np.random.default_rng(8)
    arrays = {"x": rng.standard_normal(x), "w": rng.standard_normal(w)}
    y = lg.compile(forward, backend="interpret")(**arrays)
    arrays["y.grad"] = rng.standard_normal(y.shape)
    for program in (forward, forward.backward()):
        kernel, given = lg.compile(program), {i.name: arrays[i.name] for i in program.inputs}
        assert name == "steps" or uses_products(kernel)
        got, wanted = kernel(**given), lg.compile(program, backend="interpret")(**given)
        for one, other in zip(results(got), results(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


COMPUTED = {
    "a gather": (
        "f(E[V,K], int w[B,T], W[J,K]) -> y[B,T,J]:\n"
        "    for b, t, j, k:  y[b,t,j] += E[w[b,t],k] * W[j,k]",
        {"E": (9, 21), "w": (2, 30), "W": (9, 21)},
    ),
    "a gather on the right": (
        "f(E[V,K], int w[B,T], W[J,K]) -> y[J,B,T]:\n"
        "    for b, t, j, k:  y[j,b,t] += E[w[b,t],k] * W[j,k]",
        {"E": (9, 21), "w": (2, 30), "W": (9, 21)},
    ),
    "factors on the left": (
        "f(g[B,J], s[B,J], x[B,I]) -> y[J,I]:\n"
        "    for b, j, i:  y[j,i] -= g[b,j] * s[b,j] * x[b,i]",
        {"g": (6, 53), "s": (6, 53), "x": (6, 15)},
    ),
    "factors on both sides": (
        "f(g[B,J], s[B,J], x[B,I], z[I]) -> y[J,I]:\n"
        "    for b, j, i:  y[j,i] += g[b,j] * s[b,j] * x[b,i] * z[i]",
        {"g": (6, 7), "s": (6, 7), "x": (6, 300), "z": (300,)},
    ),
    "a diagonal": (
        "f(a[N,N,K], b[K,J]) -> y[N,J]:\n    for n, j, k:  y[n,j] += a[n,n,k] * b[k,j]",
        {"a": (8, 8, 5), "b": (5, 9)},
    ),
    "what depends on two indices": (
        "f(a[I,N], b[K,J]) -> y[I,J]:\n    for i, j, k:  y[i,j] += a[i,(i*k) % N] * b[k,j]",
        {"a": (7, 6), "b": (9, 10)},
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sides_that_are_computed(name: str, dtype: type) -> None:
    text, shapes = COMPUTED[name]
    program, rng = lg.program(text), np.random.default_rng(4)
    arrays = {n: rng.standard_normal(shape).astype(dtype) for n, shape in shapes.items()}
    if "w" in arrays:
        arrays["w"] = rng.integers(0, 9, shapes["w"])
    wanted = lg.compile(program, backend="interpret")(**arrays)
    got = lg.compile(program)(**arrays)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=400 * np.finfo(dtype).eps)


def test_rows_after_a_product_run_on_blocks() -> None:
    """The right side is packed before the blocks; what follows sees the block's rows."""
    program = lg.program(
        "f(W[J,I], x[B,I], c[J]) -> p[B,J]:\n"
        "    for b, j, i:  s[b,j] += W[j,i] * x[b,i]\n"
        "    for b, j:     e[b,j] = exp(s[b,j] + c[j])\n"
        "    for b, j:     Z[b]   += e[b,j]\n"
        "    for b, j:     p[b,j] = e[b,j] / Z[b]"
    )
    kernel, rng = lg.compile(program), np.random.default_rng(5)
    assert uses_products(kernel)
    for b, j, i in ((0, 3, 3), (1, 1, 1), (47, 65, 13), (48, 64, 16), (145, 17, 300)):
        W, x, c = rng.standard_normal((j, i)), rng.standard_normal((b, i)), rng.standard_normal(j)
        e = np.exp(0.1 * (x @ W.T) + c)
        got = kernel(0.1 * W, x, c)
        np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=1e-10)


BETWEEN = {
    "what the left side is made of": """f(x[B,I], W[J,I], V[K,J]) -> y[B,K]:
        for b, j, i:  z[b,j] += x[b,i] * W[j,i]
        for b, k, j:  y[b,k] += tanh(z[b,j]) * V[k,j]""",
    "a number of each row": """f(x[B,I], W[J,I], V[K,J]) -> y[B,K]:
        for b, j, i:  z[b,j] += x[b,i] * W[j,i]
        for b, j:     m[b] max= z[b,j]
        for b, k, j:  y[b,k] += (z[b,j] - m[b]) * V[k,j]""",
    "several indices of rows": """f(x[B,I], W[J,I], V[2,K,J]) -> y[B,K]:
        for b, j, i:     z[b,j] += x[b,i] * W[j,i]
        for b, k, c, j:  y[b,k] += sigmoid(z[b,j]) * z[b,j] * V[c,k,j]""",
}


@pytest.mark.parametrize("rows", [48, 49, 96, 100, 193])
@pytest.mark.parametrize("name", BETWEEN)
def test_a_left_side_made_of_rows_that_a_block_keeps(name: str, rows: int) -> None:
    """It is made for some of the block's rows at a time, and reads those, not the block's first ones."""
    program, rng = lg.program(BETWEEN[name]), np.random.default_rng(rows)
    shapes = {"x": (rows, 5), "W": (11, 5), "V": (2, 7, 11) if "V[2" in BETWEEN[name] else (7, 11)}
    arrays = {n: rng.standard_normal(shape) for n, shape in shapes.items()}
    wanted = literally(program)(**arrays)
    before = lg.get_num_threads()
    try:
        for threads in (1, 2):
            lg.set_num_threads(threads)
            for words in ("", "rows 200", "rows 5"):
                found = lg.compile(program, schedule=words)(**arrays)
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)
    finally:
        lg.set_num_threads(before)


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    program = lg.program(
        "f(a[I,K], b[K,J]) -> y[I,J]:\n    for i, j, k:  y[i,j] += a[i,k] * b[k,j]"
    )
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((9, 21)), rng.standard_normal((21, 37))
    a[2, 3], a[5, 20], b[7, 30] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        wanted = a @ b
    got = lg.compile(program)(a, b)
    assert (np.isnan(got) == np.isnan(wanted)).all()
    assert (np.isfinite(got) == np.isfinite(wanted)).all()


def test_under_a_guard_nothing_is_read_where_it_does_not_hold() -> None:
    """At t = 0 there is no h before; the product of W and V is computed under the guard, too."""
    program = lg.program(
        "f(x[T,B,J], W[J,J], V[J,J]) -> h[T,B,J]:\n"
        "    for t:\n"
        "        for b, j:     s[t,b,j] += x[t,b,j]\n"
        "        for b, j, i:  s[t,b,j] += W[j,i] * V[j,i] * h[t-1,b,i]   if t > 0\n"
        "        for b, j:     h[t,b,j] = tanh(s[t,b,j])"
    )
    rng = np.random.default_rng(6)
    x, W, V = (rng.standard_normal(s) for s in ((4, 5, 19), (19, 19), (19, 19)))
    kernel = lg.compile(program)
    assert uses_products(kernel)
    wanted = lg.compile(program, backend="interpret")(x, 0.2 * W, V)
    np.testing.assert_allclose(kernel(x, 0.2 * W, V), wanted, rtol=1e-10)


@pytest.mark.parametrize(
    "sizes",
    [{}, {"padding": 1}, {"stride": 2}, {"padding": 2, "dilation": 2}, {"padding": 1, "stride": 2}],
)
def test_convolutions_of_the_library(sizes: dict[str, int]) -> None:
    """Code is made for a stride and a dilation of 1; with others the literal loops run."""
    rng, forward = np.random.default_rng(9), lg.lib.conv2d
    shapes = {"x": (2, 3, 7, 8), "k": (5, 3, 3, 2), "c": (5,)}
    arrays = {n: rng.standard_normal(shape) for n, shape in shapes.items()}
    y = lg.compile(forward, backend="interpret")(**arrays, **sizes)
    arrays["y.grad"] = rng.standard_normal(y.shape)
    for program in (forward, forward.backward()):
        kernel, given = lg.compile(program), {i.name: arrays[i.name] for i in program.inputs}
        assert uses_products(kernel)
        constants = {c.name: sizes[c.name] for c in program.constants if c.name in sizes}
        wanted = lg.compile(program, backend="interpret")(**given, **constants)
        for one, other in zip(results(kernel(**given, **constants)), results(wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_lines_whose_guards_narrow_one_index_in_two_ways() -> None:
    """Forward and backward in one program: ranges that are narrowed have indices of their own."""
    program = lg.program(
        "f(x[B,C,X], w[O,C,D], pad = 0) -> y[B, O, X+2*pad-D+1]:\n"
        "    for b, o, i, c, d:  y[b,o,i] += w[o,c,d] * x[b,c,i+d-pad]   if 0 <= i+d-pad < X"
    )
    rng = np.random.default_rng(13)
    given = {"x": rng.standard_normal((2, 3, 9)), "w": rng.standard_normal((4, 3, 3))}
    for wanted in ("x", "w", None):
        backward = program.backward(wanted, recompute=True)
        given["y.grad"] = rng.standard_normal((2, 4, 9))
        arrays = {i.name: given[i.name] for i in backward.inputs}
        slow = lg.compile(backward, backend="interpret")(**arrays, pad=1)
        for one, other in zip(
            results(lg.compile(backward)(**arrays, pad=1)), results(slow), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 3])
def test_steps_of_a_gradient(stride: int) -> None:
    rng, forward = np.random.default_rng(10), lg.lib.conv1d
    backward = forward.backward()
    arrays = {"x": rng.standard_normal((2, 3, 20)), "k": rng.standard_normal((4, 3, 5))}
    arrays["y.grad"] = rng.standard_normal((2, 4, (20 - 5) // stride + 1))
    given = {i.name: arrays[i.name] for i in backward.inputs}
    wanted = lg.compile(backward, backend="interpret")(**given, stride=stride)
    for one, other in zip(lg.compile(backward)(**given, stride=stride), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_where_the_guard_fails_nothing_is_added_not_zero_times_infinity() -> None:
    """A kernel's infinity must not reach places that the window's guard keeps it from."""
    rng = np.random.default_rng(11)
    x, k = rng.standard_normal((1, 8, 3, 3)), rng.standard_normal((4, 8, 3, 3))
    k[1, 2, 0, 0] = np.inf
    given = {"x": x, "k": k, "c": np.zeros(4)}
    wanted = lg.compile(lg.lib.conv2d, backend="interpret")(**given, padding=1)
    got = lg.compile(lg.lib.conv2d)(**given, padding=1)
    assert np.isfinite(wanted[0, 1, 0, 0])
    assert (np.isfinite(got) == np.isfinite(wanted)).all()


@pytest.mark.parametrize("reduction", ["+=", "-="])
def test_a_guard_that_couples_the_target_with_the_sum(reduction: str) -> None:
    """The sum for each place of the window goes by way of a temporary."""
    program = lg.program(
        "f(x[B,C,X], g[B,O,X], s[O,C,3]) -> w[O,C,3]:\n"
        f"    for o, c, p:        w[o,c,p] += s[o,c,p]\n"
        f"    for o, c, p, b, n:  w[o,c,p] {reduction} g[b,o,n] * x[b,c,n+p-1]   if 0 <= n+p-1 < X"
    )
    kernel, rng = lg.compile(program), np.random.default_rng(12)
    assert uses_products(kernel)
    for b, c, x, o in ((2, 9, 7, 5), (3, 17, 1, 50), (1, 1, 2, 1), (0, 3, 3, 3), (2, 3, 0, 3)):
        arrays = [rng.standard_normal(s) for s in ((b, c, x), (b, o, x), (o, c, 3))]
        wanted = lg.compile(program, backend="interpret")(*arrays)
        np.testing.assert_allclose(kernel(*arrays), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("axes", ["D", "D,E"])
def test_a_sum_of_nothing_is_zero_whatever_its_factor(axes: str) -> None:
    """`/ sqrt(D)` is taken out of the sum: where D is 0, that is inf times 0."""
    indices, zeros = axes.lower(), (0, 2)[: len(axes) // 2 + 1]
    program = lg.program(
        f"f(q[T,{axes}], k[U,{axes}]) -> s[T,U]:\n"
        f"    for t, u, {indices}:  s[t,u] -= q[t,{indices}] * k[u,{indices}] / sqrt(D)"
    )
    np.testing.assert_array_equal(program(np.zeros((3, *zeros)), np.zeros((2, *zeros))), 0)


@pytest.mark.parametrize("few", [1, 2, 5, 15, 16])
def test_sums_over_two_axes_of_which_one_is_short(few: int):
    """As the gradient of weights that times of a known number share: two indices stay two."""
    text = f"f(g[B,{few},H], x[B,{few},D]) -> W[H,D]:\n    for b, t, h, d:  W[h,d] += g[b,t,h] * x[b,t,d]\n"
    rng = np.random.default_rng(few)
    g, x = rng.standard_normal((3, few, 9)), rng.standard_normal((3, few, 11))
    got, pull = lg.vjp(lg.program(text), g, x)
    np.testing.assert_allclose(got, np.einsum("bth,btd->hd", g, x), rtol=1e-9)
    seed = rng.standard_normal(got.shape)
    np.testing.assert_allclose(pull(seed)[0], np.einsum("hd,btd->bth", seed, x), rtol=1e-9)
