"""Our own functions over their whole range. docs/mathematics.md states what is tested here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.frontend.library import program
from loopgrad.pipeline import compile
from tests.backends.elementwise import apply
from tests.backends.exact import FUNCTIONS, deviation

Wide = np.longdouble

pytestmark = pytest.mark.skipif(
    np.finfo(Wide).eps >= np.finfo(float).eps, reason="nothing more precise to compare with"
)

# The largest errors in units in the last place, of float32 and of float64.
ERRORS: dict[str, tuple[float, float]] = {
    "exp": (1.0, 1.0),
    "expm1": (2.0, 2.3),
    "log": (1.0, 1.0),
    "log1p": (1.6, 1.4),
    "tanh": (2.6, 2.6),
    "sigmoid": (2.5, 2.5),
    "softplus": (1.9, 1.8),
    "erf": (1.2, 1.2),
    "sin": (1.8, 1.8),
    "cos": (1.9, 1.9),
    "sqrt": (0.5, 0.5),
    "rsqrt": (1.5, 1.5),
    "**": (0.6, 1.0),
}

DTYPES = [np.float32, np.float64]
UNARY = list(FUNCTIONS)


def run(name: str, x: Any) -> Any:
    return compile(program(f"f(x[N]) -> y[N]:\n    for n:  y[n] = {name}(x[n])"))(x)


def allowed(name: str, dtype: Any) -> float:
    # Without fused multiply-adds the functions are the C library's: glibc gives powf 0.82.
    more = 0.22 if name == "**" and dtype is np.float32 and not this_machine().has_fma else 0
    return ERRORS[name][dtype is np.float64] + more


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
        rng.integers(-10_000, 10_000, count) * (np.pi / 2),
        everywhere,
        -everywhere,
    ):
        yield x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_error_in_units_in_the_last_place(name: str, dtype: Any) -> None:
    for x in samples(dtype):
        found = run(name, x)
        with np.errstate(all="ignore"):
            errors, wrong = deviation(found, FUNCTIONS[name](x.astype(Wide)))
        assert not wrong.any(), (x[wrong][:3], found[wrong][:3])
        assert errors.max() <= allowed(name, dtype), x[errors.argmax()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: Any) -> None:
    limits = np.finfo(dtype)
    tiny = limits.smallest_subnormal
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1.0, limits.max, -limits.max, tiny, -tiny]
    x = np.array(special, dtype)
    found = run(name, x)
    with np.errstate(all="ignore"):
        errors, wrong = deviation(found, FUNCTIONS[name](x.astype(Wide)))
    assert not wrong.any(), (x[wrong], found[wrong])
    assert errors.max() <= allowed(name, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_vector_and_scalar_code_give_the_same_bits(name: str, dtype: Any) -> None:
    """Else a maximum found by one loop would not be found again by `==` in another."""
    x = np.abs(np.random.default_rng(1).normal(size=103)).astype(dtype)
    together = run(name, x)
    one_by_one = np.concatenate([run(name, x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("name", UNARY)
def test_every_width_gives_the_same_bits(name: str, lanes: int) -> None:
    """A register of eight numbers is what `erf` looks up, of fewer lanes and of more."""
    x = np.random.default_rng(1).normal(size=256).astype(np.float32)
    x = np.abs(x) if name in ("log", "sqrt", "rsqrt") else x
    np.testing.assert_array_equal(apply(name, x, lanes=lanes), apply(name, x))


def test_erf_where_nothing_is_looked_up() -> None:
    """Literal loops, of which LLVM makes vectors itself, and processors without AVX2."""
    literal = compile(program("f(x[N]) -> y[N]:\n    for n:  y[n] = erf(x[n])"), optimize=False)
    assert "permps" not in literal.runner.text("float")
    for x in samples(np.float32):
        errors, wrong = deviation(literal(x), FUNCTIONS["erf"](x.astype(Wide)))
        assert not wrong.any() and errors.max() <= ERRORS["erf"][0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_certain_values_are_exact(dtype: Any) -> None:
    def of(name: str, x: float) -> float:
        return float(run(name, np.array([x], dtype))[0])

    assert of("exp", 0) == of("cos", 0) == 1
    assert of("log", 1) == of("tanh", 0) == of("erf", 0) == 0
    assert of("erf", 6) == of("tanh", 30) == of("sigmoid", 50) == 1
    assert of("sigmoid", 0) == 0.5


# ---------------------------------------------------------------------------------------- powers

EDGES = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, -2, 3, -3, 0.5, -0.5, 1.5, 1e-45, -1e-45]
EDGES += [1e300, -1e300, 1e-310, 2.0**24, 2.0**24 + 2, 2.0**53, 2.0**53 - 1]


def check_power(x: Any, y: Any) -> None:
    found = apply("**", x, y, lanes=8)
    with np.errstate(all="ignore"):
        errors, wrong = deviation(found, np.power(x.astype(Wide), y.astype(Wide)))
    assert not wrong.any(), (x[wrong][:3], y[wrong][:3], found[wrong][:3])
    assert errors.max() <= allowed("**", x.dtype.type), (x[errors.argmax()], y[errors.argmax()])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_power_is_right_wherever_it_neither_overflows_nor_vanishes(dtype: Any) -> None:
    rng, count = np.random.default_rng(0), 20_000
    highest = np.log(float(np.finfo(dtype).max))
    for x, y in (
        (np.exp(rng.normal(size=count)), 5 * rng.normal(size=count)),
        (np.exp(rng.uniform(-1.04 * highest, highest, count)), rng.uniform(-1, 1, count)),
        (1 + 0.01 * rng.normal(size=count), 3000 * rng.normal(size=count)),
        (-rng.uniform(0, 10, count), rng.integers(-20, 20, count)),
        (rng.uniform(0.5, 2, count), rng.uniform(-1100, 1100, count)),
    ):
        check_power(x.astype(dtype), y.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_at_the_edges(dtype: Any) -> None:
    with np.errstate(over="ignore"):
        pairs = np.array(list(itertools.product(EDGES, EDGES))).astype(dtype)
    check_power(pairs[:, 0].copy(), pairs[:, 1].copy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_whole_numbers_are_exact(dtype: Any) -> None:
    x, y = np.indices((20, 5)).reshape(2, -1).astype(dtype)
    np.testing.assert_array_equal(apply("**", x, y), x**y)


def test_a_power_of_a_half_at_the_edges_is_as_pow_says() -> None:
    kernel = compile(program("f(x[N]) -> y[N], z[N]:\n    y[n] = x[n]**0.5\n    z[n] = x[n]**-0.5"))
    roots, inverses = kernel(np.array([-np.inf, -0.0, 0.0, np.inf, -1.0, 4.0]))
    np.testing.assert_array_equal(roots, [np.inf, 0, 0, np.inf, np.nan, 2])
    np.testing.assert_array_equal(inverses, [0, np.inf, np.inf, 0, np.nan, 0.5])
    assert not np.signbit(roots[1])
