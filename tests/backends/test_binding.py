"""Calling programs with whatever NumPy takes, and being told what does not fit."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import loopgrad as lg
from loopgrad.backends.binding import MOST_KNOWN
from loopgrad.backends.kernel import _overlaps_itself

SCALE = """scale(x[B,J], w[J], a = 2.0, shift = 1) -> y[B,J]:
    for b, j:  y[b,j] += a * x[b,j] * w[j] + shift"""

COUNT = "count(int w[N], bool m[N], size K) -> c[K]:\n    for n:  c[w[n]] += 1   if m[n]"

VALID = """correlate(x[X], k[DX], g[(X-DX)//stride+1], stride = 1) -> y[(X-DX)//stride+1]:
    for i < (X-DX)//stride+1, d:  y[i] += x[i*stride+d] * k[d]
    for i < (X-DX)//stride+1:     y[i] += g[i]"""


def kernel(text: str) -> Any:
    return lg.compile(text, backend="interpret")


def scaled(x: Any, w: Any, a: float = 2.0, shift: int = 1) -> Any:
    return a * np.asarray(x) * np.asarray(w) + shift


class Subclass(np.ndarray):
    """Of which results are not."""


X, W = np.arange(6.0).reshape(2, 3), np.array([1.0, -2.0, 0.5])


# ------------------------------------------------------------------------------ what NumPy takes


def test_arguments_by_place_by_name_and_mixed() -> None:
    scale = kernel(SCALE)
    for result in (scale(X, W), scale(X, w=W), scale(w=W, x=X), scale(x=X, w=W)):
        assert_array_equal(result, scaled(X, W))
    assert_array_equal(scale(X, W, a=3, shift=-1), scaled(X, W, 3, -1))
    assert_array_equal(scale(X, W, shift=np.int32(5), a=np.float32(0.5)), scaled(X, W, 0.5, 5))


def test_dotted_names_are_given_by_unpacking() -> None:
    text = "back(p[N], p.grad[N]) -> s.grad[N]:\n    s.grad[n] = p[n] * p.grad[n]"
    assert_array_equal(kernel(text)(**{"p": [2.0], "p.grad": [3.0]}), [6])


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.asfortranarray(X), id="fortran"),
        pytest.param(np.repeat(X, 2, 1)[:, ::2], id="strided"),
        pytest.param(X[::-1, ::-1].copy()[::-1, ::-1], id="negative strides"),
        pytest.param(X.astype(">f8"), id="big-endian"),
        pytest.param(np.broadcast_to(X[0], (2, 3)), id="broadcast, read-only"),
        pytest.param(X.tolist(), id="lists"),
        pytest.param(X.astype(np.int32), id="int32"),
        pytest.param(X.astype(np.uint8), id="uint8"),
        pytest.param(X > 2, id="bool"),
        pytest.param(np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view("f8").reshape(2, 3),
                     id="misaligned"),
        pytest.param(X.view(Subclass), id="a subclass"),
        pytest.param(np.empty((0, 3)), id="no rows"),
        pytest.param(np.ones((1, 3)), id="one row"),
    ],
)  # fmt: skip
def test_any_layout_and_real_type(x: Any) -> None:
    before = np.array(x)
    result = kernel(SCALE)(x, W)
    assert_array_equal(result, scaled(np.asarray(x), W))
    assert type(result) is np.ndarray
    assert result.dtype == np.float64
    assert_array_equal(np.array(x), before)


def test_scalars_are_numbers_or_arrays_without_axes() -> None:
    double = kernel("double(x) -> y:\n    y = 2 * x")
    for x in (3, 3.0, True + 2, np.float64(3), np.array(3), np.int8(3)):
        assert double(x) == 6
        assert double(x).shape == ()
        assert double(x).dtype == np.float64


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((np.float32, np.float32), np.float32),
        ((np.float32, np.float64), np.float64),
        ((np.float16, np.float32), np.float32),
        ((np.int8, np.float32), np.float32),
        ((np.int32, np.float32), np.float64),
        ((np.bool_, np.float32), np.float32),
        ((np.int64, np.int64), np.float64),
        ((np.bool_, np.bool_), np.float64),
        ((">f4", "<f4"), np.float32),
    ],
)
def test_floats_promote_as_numpy_says(types: tuple[Any, Any], expected: type) -> None:
    result = kernel(SCALE)(X.astype(types[0]), W.astype(types[1]))
    assert result.dtype == expected
    assert result.dtype.isnative


def test_python_numbers_are_weak_and_numpys_are_not() -> None:
    text = "f(x[N], s) -> y[N]:\n    y[n] = s * x[n]"
    x = np.ones(2, np.float32)
    assert kernel(text)(x, 0.1).dtype == np.float32
    assert kernel(text)(x, 3).dtype == np.float32
    assert kernel(text)(x, np.float64(0.1)).dtype == np.float64
    assert kernel(text)([1, 2], 3).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, ">i4", bool])
def test_index_tensors_take_any_integers_and_booleans(dtype: Any) -> None:
    w = np.array([1, 0, 1]).astype(dtype)
    assert_array_equal(kernel(COUNT)(w, [True, True, False], K=3), [1, 1, 0])
    assert kernel(COUNT)(w, np.ones(3, bool), K=2).dtype == np.int64


def test_empty_lists_are_index_tensors_too() -> None:
    assert_array_equal(kernel(COUNT)([], [], K=2), [0, 0])


def test_inputs_are_never_written() -> None:
    x, w = X.copy(), W.copy()
    x.flags.writeable = w.flags.writeable = False
    kernel(SCALE)(x, w)
    assert_array_equal(x, X)


# ------------------------------------------------------------------------- what is refused, and how

MISUSES = [
    # program, positional, named, error, words that have to be there
    (SCALE, (X,), {}, TypeError, ["scale", "`w[J]`"]),
    (SCALE, (), {}, TypeError, ["`x[B,J]` and `w[J]`"]),
    (SCALE, (X, W, 2.0), {}, TypeError, ["2 arrays", "got 3", "`a` and `shift`", "keyword"]),
    (SCALE, (X, W), {"x": X}, TypeError, ["`x` twice"]),
    (SCALE, (X, W), {"shfit": 2}, TypeError, ["`shfit`", "did you mean `shift`?"]),
    (SCALE, (X, W), {"B": 2}, TypeError, ["`B`", "axis 0 of `x[B,J]`"]),
    (SCALE, (X[0], W), {}, ValueError, ["`x[B,J]`", "2 axes", "got 1 axis", "(3,)"]),
    (SCALE, (X, W[:2]), {}, ValueError,
     ["`J`", "3 in axis 1 of `x[B,J]`", "2 in axis 0 of `w[J]`"]),
    (SCALE, (X + 1j, W), {}, TypeError, ["`x[B,J]`", "real numbers", "complex128"]),
    (SCALE, (X, ["a", "b", "c"]), {}, TypeError, ["`w[J]`", "real numbers", "str"]),
    (SCALE, (X, None), {}, TypeError, ["`w[J]`", "NoneType None"]),
    (SCALE, ([[1], [2, 3]], W), {}, TypeError, ["`x[B,J]`", "array", "list"]),
    (SCALE, (X, np.ma.masked_array(W, [0, 1, 0])), {}, TypeError, ["`w[J]`", "mask"]),
    (SCALE, (X.astype(np.float16), W.astype(np.float16)), {}, TypeError,
     ["`x[B,J]`", "float16", ".astype(np.float32)"]),
    (SCALE, (X.astype(np.longdouble), W), {}, TypeError, ["`x[B,J]`", "real numbers"]),
    (SCALE, (X, W), {"shift": 1.5}, TypeError, ["`shift`", "integer", "float 1.5", "shift = 1.0"]),
    (SCALE, (X, W), {"shift": 2**63}, ValueError, ["`shift`", "int64", "9223372036854775808"]),
    (SCALE, (X, W), {"a": "2"}, TypeError, ["`a`", "number", "str '2'"]),
    (SCALE, (X, W), {"a": 2j}, TypeError, ["`a`", "number"]),
    (COUNT, ([1.0], [True]), {"K": 2}, TypeError, ["`w[N]`", "integers", "float64", ".astype"]),
    (COUNT, ([1], [1]), {"K": 2}, TypeError, ["`m[N]`", "booleans", "int64", ".astype(bool)"]),
    (COUNT, (np.array([2**63], np.uint64), [True]), {"K": 2}, ValueError,
     ["`w[N]`", "int64", str(2**63)]),
    (COUNT, ([2**70], [True]), {"K": 2}, ValueError, ["`w[N]`", "int64"]),
    (COUNT, ([1], [True]), {}, TypeError, ["`size K`", "keyword"]),
    (COUNT, ([1], [True]), {"K": -1}, ValueError, ["`K`", "negative", "-1"]),
    (COUNT, ([1], [True]), {"K": 2.0}, TypeError, ["`K`", "integer", "float 2.0"]),
    (VALID, (X[0], W[:2], W), {}, ValueError,
     ["axis 0", "`g[", "= 2 (X = 3, DX = 2, stride = 1)", "got 3"]),
    (VALID, (X[0], W[:2], W), {"stride": 0}, ValueError,
     ["(X-DX)//stride+1", "zero", "stride = 0"]),
    (VALID, (W[:1], X[0], W[:0]), {}, ValueError, ["= -1 (X = 1, DX = 3, stride = 1)"]),
    ("f(k[C,3]) -> y[C]:\n    for c, d:  y[c] += k[c,d]", (np.ones((2, 4)),), {}, ValueError,
     ["axis 1", "`k[C,3]`", "extent 3", "got 4"]),
    ("f(size N) -> y[N-5]:\n    for n < N-5:  y[n] = n", (), {"N": 3}, ValueError,
     ["result `y`", "N-5 = -2 (N = 3)", "negative"]),
    ("f(size N) -> y:\n    for n < N:  y += n", (3,), {}, TypeError,
     ["0 arrays (none), got 1", "`N`"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arguments", "named", "error", "words"), MISUSES)
def test_misuse_names_the_argument_what_it_got_and_what_it_needs(
    text: str, arguments: Any, named: Any, error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        kernel(text)(*arguments, **named)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


def test_extents_that_the_program_makes_equal_are_checked() -> None:
    square = kernel("f(W[J,K], h[J]) -> y[J]:\n    for j, k:  y[j] += W[j,k] * h[k]")
    assert_array_equal(square(np.eye(2), [1.0, 2.0]), [1, 2])
    with pytest.raises(ValueError, match="have to be equal, got ") as caught:
        square(np.ones((2, 3)), [1.0, 2.0])
    assert "2" in str(caught.value)
    assert "3" in str(caught.value)


def test_extents_computed_from_formulas_and_constants() -> None:
    correlate = kernel(VALID)
    assert_array_equal(correlate([1.0, 2, 3, 4], [1.0, 1], [0.0, 0], stride=2), [3, 7])
    assert_array_equal(correlate([1.0], [2.0], [0.5]), [2.5])
    assert correlate([1.0], [1.0, 1], []).shape == (0,)


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("size", [40, 62, 63, 500, 10**9, 2**62])
def test_what_cannot_fit_is_refused_at_once(size: int) -> None:
    text = "f(size S) -> y:\n    for i < 2**S:  z[i] = i\n    for i < 2**S:  y += z[i]"
    with pytest.raises(MemoryError) as caught:
        kernel(text)(S=size)
    message = str(caught.value)
    if size < 100:
        assert f"`z`, of shape ({2**size},)" in message
        taken = int(message.split("takes ")[1].split(" bytes")[0].replace(",", ""))
        assert taken - 8 in (2**size * 8, 2**size * 16)  # `y` is 8; `z` may be watched
    elif size == 500:
        assert "bytes" in message
        assert "`z`, of shape (about 2**500,)" in message
    else:
        assert "extent `2**S` has no value: it is too large (S = " in message


def test_giant_extents_beside_empty_ones_do_not_overflow() -> None:
    text = "f(x[N], size M) -> y[N,M,M]:\n    for n, i < M, j < M:  y[n,i,j] = x[n]"
    assert kernel(text)(np.ones(0), M=10).shape == (0, 10, 10)
    with pytest.raises(MemoryError, match="`y`"):
        kernel(text)(np.ones(1), M=2**62)


@pytest.mark.parametrize("order", ["b, j", "j, b"])
def test_giant_loops_around_empty_ones_end_at_once(order: str) -> None:
    program = lg.program(f"f(x[B,J]) -> y:\n    for {order}:  y += x[b,j]")
    for shape in ((3, 4), (2**36, 0), (0, 2**36), (2**41, 0)):
        begin = time.process_time()
        assert program(np.ones(shape)) == math.prod(shape)
        assert time.process_time() - begin < 10


def test_a_broadcast_input_too_large_to_copy_is_refused() -> None:
    total = kernel("f(x[A,B]) -> y:\n    for a, b:  y += x[a,b]")
    with pytest.raises(MemoryError, match="argument `x`"):
        total(np.broadcast_to(np.float32(1), (10**7, 10**8)))


# --------------------------------------------------------------------------------------------- out


def test_out_is_written_and_returned() -> None:
    scale = kernel(SCALE)
    for out in (
        np.empty((2, 3)),
        np.empty((3, 2)).T,
        np.empty((4, 6))[::2, ::-2],
        np.empty((2, 3), ">f8"),
    ):
        assert scale(X, W, out=out) is out
        assert_array_equal(out, scaled(X, W))
    one = np.empty((2, 3))
    assert scale(X, W, out=(one,)) is one
    assert_array_equal(scale(X, W, out=None), scaled(X, W))


def test_out_may_overlap_an_input() -> None:
    reverse = kernel("reverse(x[N]) -> y[N]:\n    for n:  y[n] = x[N-1-n]")
    x = np.arange(4.0)
    assert reverse(x, out=x) is x
    assert_array_equal(x, [3, 2, 1, 0])
    x = np.arange(5.0)
    reverse(x[:4], out=x[1:])
    assert_array_equal(x, [0, 3, 2, 1, 0])


TWO = "two(x[N]) -> y[N], s:\n    for n:  y[n] = x[n]\n    for n:  s    += x[n]"


def test_out_for_several_results() -> None:
    two, x = kernel(TWO), np.array([1.0, 2.0])
    y, s = np.empty(2), np.empty(())
    results = two(x, out=(y, s))
    assert results[0] is y
    assert results[1] is s
    assert (y.tolist(), s) == ([1, 2], 3)
    y[:] = 0
    results = two(x, out=[y, None])
    assert results[0] is y
    assert results[1] == 3


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.empty(2), ValueError, ["2 arrays", "`y` and `s`", "got 1"]),
        ((np.empty(2),) * 3, ValueError, ["2 arrays", "got 3"]),
        ((np.empty(3), None), ValueError, ["`y`", "(2,)", "(3,)"]),
        ((np.empty(2, np.float32), None), TypeError, ["`y`", "float64", "float32"]),
        ((np.empty(2, int), None), TypeError, ["`y`", "float64", "int64"]),
        (([0, 0], None), TypeError, ["`y`", "NumPy array", "list"]),
        ((np.broadcast_to(0.0, 2), None), ValueError, ["`y`", "read-only"]),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out: Any, error: type[Exception], words: Any) -> None:
    with pytest.raises(error) as caught:
        kernel(TWO)([1.0, 2.0], out=out)
    for word in words:
        assert word in str(caught.value)


def test_arrays_of_out_must_not_overlap() -> None:
    both = kernel("f(x[N]) -> y[N], z[N]:\n    y[n] = x[n]\n    z[n] = 2 * x[n]")
    shared = np.empty(3)
    with pytest.raises(ValueError, match="overlap"):
        both([1.0, 2.0], out=(shared[:2], shared[1:]))


ROWS = "f(x[N,M]) -> y[N,M]:\n    for n, m:  y[n,m] = 2 * x[n,m]"


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((2, 3), (0, 8)),
        ((2, 3), (8, 8)),
        ((3, 2), (-16, 32)),
        ((2, 3), (8, 4)),
        ((3, 5), (24, 8)),
    ],
)
def test_an_out_whose_elements_share_memory_is_refused(shape: Any, strides: Any) -> None:
    memory = np.zeros(32)
    shared = np.lib.stride_tricks.as_strided(memory[8:], shape, strides)
    rows, x = kernel(ROWS), np.ones(shape)
    for _ in range(3):  # a call that is like others takes a shortcut
        rows(x, out=np.empty(shape))
        with pytest.raises(ValueError, match=r"`out` for `y` has elements that share memory"):
            rows(x, out=shared)
    assert not memory.any()


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((2, 3), (24, 16)), ((3, 2), (-16, 8)), ((1, 3), (0, 8)), ((2, 1), (8, 0)), ((0, 3), (0, 0))],
)
def test_an_out_with_gaps_or_axes_in_another_order_is_written(shape: Any, strides: Any) -> None:
    apart = np.lib.stride_tricks.as_strided(np.zeros(32)[8:], shape, strides)
    x = np.arange(shape[0] * shape[1], dtype=float).reshape(shape)
    assert kernel(ROWS)(x, out=apart) is apart
    assert_array_equal(apart, 2 * x)


def test_elements_that_share_memory_are_not_all_looked_at_where_they_are_many() -> None:
    """A terabyte of them in one place."""
    assert _overlaps_itself(
        np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 20, 1 << 17), (0, 0))
    )


def test_an_argument_named_out_is_an_argument() -> None:
    assert_array_equal(kernel("f(out[N]) -> y[N]:\n    y[n] = 2 * out[n]")(out=[1.0]), [2])


# ------------------------------------------------------------------------------------- the kernel


def test_results_are_new_arrays_each_call() -> None:
    scale = kernel(SCALE)
    first, second = scale(X, W), scale(X, W)
    assert not np.shares_memory(first, second)
    identity = kernel("f(x[N]) -> y[N]:\n    y[n] = x[n]")
    assert not np.shares_memory(identity(W), W)


def test_a_kernel_is_kept_with_its_program() -> None:
    program = lg.program(SCALE)
    assert lg.compile(program, "interpret") is lg.compile(program, "interpret")
    assert lg.compile(program, "interpret") is not lg.compile(program, "interpret", optimize=False)
    assert "scale" in repr(lg.compile(program, "interpret"))


def test_unknown_backends_and_things_that_are_no_programs() -> None:
    with pytest.raises(ValueError, match="did you mean 'interpret'"):
        lg.compile(SCALE, backend="interpreter")
    with pytest.raises(TypeError, match="program or its text"):
        lg.compile(3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- calls like earlier ones


def test_a_call_like_an_earlier_one_still_sees_what_differs() -> None:
    kernel = lg.compile("f(x[N], y[N], a = 2.0, k = 1) -> r[N]:\n    r[n] = a * x[n] + k * y[n]")
    x, y = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    for _ in range(2):
        assert_array_equal(kernel(x, y), 2 * x + y)
        assert_array_equal(kernel(y, x), 2 * y + x)
        assert_array_equal(kernel(y=y, x=x), 2 * x + y)
        assert_array_equal(kernel(x=y, y=x), 2 * y + x)
        assert_array_equal(kernel(x, y, a=3.0), 3 * x + y)
        assert_array_equal(kernel(x, y, a=3.0, k=2), 3 * x + 2 * y)
        assert_array_equal(kernel(x, y, k=3, a=2.0), 2 * x + 3 * y)
        assert_array_equal(kernel(x[:1], y[:1]), [12.0])
        assert kernel(np.float32(x), np.float32(y)).dtype == np.float32
        assert_array_equal(kernel(x[::-1], y), 2 * x[::-1] + y)
        assert_array_equal(kernel(x.astype(">f8"), y), 2 * x + y)
        with pytest.raises(ValueError, match="extent `N`"):
            kernel(x, y[:1])
        with pytest.raises(TypeError, match="twice"):
            kernel(x, y, x=x)
        with pytest.raises(TypeError, match="constant `k`"):
            kernel(x, y, k=1.0)


def test_zero_and_minus_zero_are_different_constants() -> None:
    kernel = lg.compile("f(x, a = 1.0) -> y:\n    y = a * x")
    x = np.array(1.0)
    assert [np.signbit(kernel(x, a=a)) for a in (0.0, -0.0, 0.0)] == [False, True, False]


def test_many_different_calls_do_not_pile_up() -> None:
    kernel = lg.compile("f(x[N], a = 1.0) -> y[N]:\n    y[n] = a * x[n]")
    x = np.ones(2)
    for i in range(500):
        assert_array_equal(kernel(x, a=float(i)), i * x)
    assert len(kernel._binder._known) <= MOST_KNOWN


def test_an_array_of_objects_is_told_for_what_it_is() -> None:
    with pytest.raises(TypeError, match="dtype object"):
        kernel(SCALE)(X.astype(int).astype(object), W)
    with pytest.raises(ValueError, match="do not fit int64"):
        kernel(COUNT)(np.array([2**70], object), [True], K=2)
