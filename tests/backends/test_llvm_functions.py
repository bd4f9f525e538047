"""Our own exp, expm1, log, log1p, tanh and what is made of them, over their whole range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from loopgrad.frontend.library import program
from loopgrad.pipeline import compile

Wide = np.longdouble
Exact = Callable[[Any], Any]

pytestmark = pytest.mark.skipif(
    np.finfo(Wide).eps >= np.finfo(float).eps, reason="nothing more precise to compare with"
)


def sigmoid(x: Any) -> Any:
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


# The largest error in units in the last place, and what is right.
FUNCTIONS: dict[str, tuple[float, Exact]] = {
    "exp": (1.0, np.exp),
    "expm1": (2.5, np.expm1),
    "log": (1.0, np.log),
    "log1p": (1.6, np.log1p),
    "tanh": (3.0, np.tanh),
    "sigmoid": (2.5, sigmoid),
    "softplus": (2.5, softplus),
    "sqrt": (0.5, np.sqrt),
    "rsqrt": (1.5, lambda x: 1 / np.sqrt(x)),
}

DTYPES = [np.float32, np.float64]


def run(name: str, x: Any) -> Any:
    return compile(program(f"f(x[N]) -> y[N]:\n    for n:  y[n] = {name}(x[n])"))(x)


def samples(dtype: Any) -> Iterator[Any]:
    """Numbers near and far from 0 and 1, of both signs, up to what overflows, down to denormals."""
    rng, limits, count = np.random.default_rng(0), np.finfo(dtype), 20_000
    largest = 1.02 * np.log(float(limits.max))
    low, high = np.log(float(limits.smallest_subnormal)), np.log(float(limits.max))
    everywhere = np.exp(rng.uniform(low, high, count))
    for x in (
        rng.uniform(-1, 1, count),
        rng.uniform(-30, 30, count),
        rng.uniform(-1.1 * largest, largest, count),
        1 + rng.uniform(-0.4, 0.6, count),
        1 + rng.normal(size=count) * 1e-5,
        everywhere,
        -everywhere,
    ):
        yield x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_units_in_the_last_place(name: str, dtype: Any) -> None:
    allowed, exact = FUNCTIONS[name]
    limits = np.finfo(dtype)
    for x in samples(dtype):
        y = run(name, x)
        with np.errstate(all="ignore"):
            wanted = exact(x.astype(Wide))
            rounded = wanted.astype(dtype)
            normal = np.isfinite(rounded) & (abs(wanted) >= limits.tiny)
            small = abs(wanted) < limits.tiny  # denormals, and what rounds to zero
        error = abs(y[normal] - wanted[normal])
        assert (error / np.spacing(abs(rounded[normal]))).max(initial=0) <= allowed
        assert (abs(y[small] - wanted[small]) <= 2 * limits.smallest_subnormal).all()
        others = ~normal & ~small
        np.testing.assert_array_equal(y[others], rounded[others])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name: str, dtype: Any) -> None:
    limits = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, limits.max, -limits.max], dtype)
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[name][1](x.astype(Wide)).astype(dtype)
    found = run(name, x)
    np.testing.assert_allclose(found, wanted, rtol=4 * limits.eps)
    np.testing.assert_array_equal(np.signbit(found[:2]), np.signbit(wanted[:2]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vector_and_scalar_code_give_the_same_bits(name: str, dtype: Any) -> None:
    """Else a maximum found by one loop would not be found again by `==` in another."""
    x = np.abs(np.random.default_rng(1).normal(size=103)).astype(dtype)
    together = run(name, x)
    one_by_one = np.concatenate([run(name, x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(together, one_by_one)


def test_a_power_of_a_half_at_the_edges_is_as_pow_says() -> None:
    kernel = compile(program("f(x[N]) -> y[N], z[N]:\n    y[n] = x[n]**0.5\n    z[n] = x[n]**-0.5"))
    roots, inverses = kernel(np.array([-np.inf, -0.0, 0.0, np.inf, -1.0, 4.0]))
    np.testing.assert_array_equal(roots, [np.inf, 0, 0, np.inf, np.nan, 2])
    np.testing.assert_array_equal(inverses, [0, np.inf, np.inf, 0, np.nan, 0.5])
    assert not np.signbit(roots[1])
