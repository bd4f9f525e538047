"""What calls take beside NumPy's arrays: whatever has memory that NumPy can see."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

import loopgrad as lg

SUM = lg.program("f(x[N,M]) -> s[N]:\n    for n, m:  s[n] += x[n,m]")
LOOKUP = lg.program("f(int w[N], x[V]) -> y[N]:\n    for n:  y[n] = x[w[n]]")
X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


class Lent:
    """What has `__dlpack__` and nothing else, as other libraries' arrays may."""

    def __init__(self, of: np.ndarray):
        self._of = of

    def __dlpack__(self, **options: Any) -> Any:
        return self._of.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._of.__dlpack_device__()


class Framed:
    """What has `to_numpy` and nothing else."""

    def to_numpy(self) -> Any:
        return X


@pytest.mark.parametrize(
    "x",
    [X.tolist(), memoryview(X), Lent(X), Lent(X.T.copy().T), Framed(), X.astype(np.float32)],
    ids=lambda x: type(x).__name__,
)
def test_what_has_memory(x: Any) -> None:
    np.testing.assert_array_equal(SUM(x), [6, 15])
    np.testing.assert_array_equal(lg.vjp(SUM, x)[1]([1.0, 2.0])[0], [[1, 1, 1], [2, 2, 2]])


@pytest.mark.parametrize("seed", [Lent(np.array([1.0, 2.0])), array.array("f", [1.0, 2.0])])
def test_seeds_and_tangents_are_what_inputs_are(seed: Any) -> None:
    double = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = 2 * x[n]")
    np.testing.assert_array_equal(lg.vjp(double, [0.0, 0.0])[1](seed)[0], [2, 4])
    np.testing.assert_array_equal(lg.jvp(double, ([0.0, 0.0],), (seed,))[1], [2, 4])


def test_what_is_not_there_is_refused_of_seeds_and_tangents_too() -> None:
    masked = np.ma.masked_array([1.0, 5e8], [False, True])
    with pytest.raises(TypeError, match="the seed of `s` is a masked array, whose mask would be"):
        lg.vjp(SUM, X)[1](masked)
    with pytest.raises(TypeError, match="the tangent of `x` is a masked array"):
        lg.jvp(SUM, (X,), (np.ma.masked_array(X, X > 3),))


@pytest.mark.parametrize("kind", "bBhHiIlLqQ")
def test_arrays_of_pythons_own(kind: str) -> None:
    w, x = array.array(kind, [2, 0]), array.array("f", [1.5, 2.5, 3.5])
    y = LOOKUP(w, x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [3.5, 1.5])
    np.testing.assert_array_equal(LOOKUP(memoryview(w), memoryview(x)), y)


def test_nothing_is_copied_or_written() -> None:
    x = array.array("d", [1.0, 2.0])
    double = lg.program("f(x[N]) -> y[N]:\n    for n:  y[n] = 2 * x[n]")
    locked = memoryview(bytes(x)).cast("d")
    np.testing.assert_array_equal(double(locked), [2, 4])
    with memoryview(x) as seen:  # memory that is lent cannot be moved
        np.testing.assert_array_equal(double(seen), [2, 4])
    assert x.tolist() == [1.0, 2.0]


class Elsewhere(Lent):
    """On a device that NumPy cannot reach."""

    def __dlpack_device__(self) -> Any:
        return (2, 0)

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("the array is on a GPU")


def test_what_numpy_cannot_reach_is_a_type_error_that_names_the_argument() -> None:
    with pytest.raises(
        TypeError, match=r"f: argument `x\[N,M\]` has to be an array, got Elsewhere"
    ):
        SUM(Elsewhere(X))
    with pytest.raises(TypeError, match=r"argument `x\[N,M\]` needs real numbers"):
        SUM(memoryview(b"ab").cast("c"))


def test_apache_arrow() -> None:
    pa = pytest.importorskip("pyarrow")
    np.testing.assert_array_equal(SUM(pa.Tensor.from_numpy(X)), [6, 15])
    fixed = pa.FixedShapeTensorArray.from_numpy_ndarray(X).to_tensor()
    np.testing.assert_array_equal(SUM(fixed), [6, 15])
    w, x = pa.array([2, 0]), pa.array([1.5, 2.5, 3.5])
    np.testing.assert_array_equal(LOOKUP(w, x), [3.5, 1.5])
    np.testing.assert_array_equal(LOOKUP(pa.chunked_array([[2], [0]]), x), [3.5, 1.5])
    with pytest.raises(TypeError, match=r"argument `x\[V\]` has missing values"):
        LOOKUP(w, pa.array([1.5, None, 3.5]))
    with pytest.raises(TypeError, match="the seed of `s` has missing values"):
        lg.vjp(SUM, X)[1](pa.array([1.5, None]))


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abc"))
    np.testing.assert_array_equal(SUM(frame), [6, 15])
    np.testing.assert_array_equal(SUM(frame.to_numpy()), [6, 15])
    np.testing.assert_array_equal(LOOKUP(pd.Series([2, 0]), frame.a.reindex([0, 1, 0])), [1, 1])
    with pytest.raises(TypeError, match=r"`w\[N\]` is an `int` tensor and needs integers"):
        LOOKUP(pd.Series([1, None], dtype="Int64"), frame.a)


def test_xarray() -> None:
    xr = pytest.importorskip("xarray")
    x = xr.DataArray(X, dims=("row", "column"))
    np.testing.assert_array_equal(SUM(x), [6, 15])
    np.testing.assert_array_equal(SUM(x.to_numpy()), [6, 15])
