"""Programs that other tools differentiate wrongly without a word."""

from __future__ import annotations

import numpy as np
import pytest

from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from tests.grad.checking import check, gradient, read, run

RNG = np.random.default_rng(7)


def test_running_product_in_a_loop():
    x = RNG.standard_normal(5)
    x[1] = x[3] = 0
    program = check(
        "f(x[N]) -> c[N]:\n    for n:\n        for m < 1:  c[n] = x[n] * (c[n-1] if n > 0 else 1)",
        {"x": x},
    )
    assert gradient(program, {"x": x}, {"c": np.eye(5)[1]})["x"][1] == x[0]


def test_square_of_a_sum():
    program = check(
        "f(x[N]) -> out:\n    for n:  acc += x[n]\n    out = acc * acc",
        {"x": RNG.standard_normal(4)},
    )
    x = np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(gradient(program, {"x": x}, {"out": 1.5})["x"], 21 * np.ones(3))


def test_value_from_before_a_loop_times_the_sum_of_the_loop():
    check(
        "f(x[N], y) -> out:\n"
        "    before = sin(y)\n"
        "    for n:  total += x[n] * before\n"
        "    out = before * total",
        {"x": RNG.standard_normal(4), "y": RNG.standard_normal()},
    )


SOFTMAX = """
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""


def test_softmax_as_two_loops():
    s, g = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
    program = check(SOFTMAX, {"s": s})
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    wanted = p * (g - (p * g).sum(1, keepdims=True))
    np.testing.assert_allclose(gradient(program, {"s": s}, {"p": g})["s"], wanted, rtol=1e-12)


def test_sum_of_a_softmax_has_no_gradient():
    program = read(SOFTMAX + "\nf(s[B,J]) -> t:\n    p = softmax(s)\n    for b, j:  t += p[b,j]")
    s = RNG.standard_normal((2, 5))
    found = gradient(program, {"s": s}, {"t": RNG.standard_normal()})["s"]
    np.testing.assert_allclose(found, 0, atol=1e-15)


def test_rnn_step():
    check(
        "f(x[T,J]) -> h[T+1,J]:\n    for t < T:\n        for j:  h[t+1,j] = tanh(h[t,j]) + x[t,j]",
        {"x": RNG.standard_normal((4, 2))},
    )


@pytest.mark.parametrize(
    "text",
    [
        "f(x[N]) -> y[N]:\n    y[n] = x[n]\n    for n:  y[n] = y[n] * y[n]",
        "f(x[N]) -> y:\n    for n:  y += y * x[n]",
        "f(x[N]) -> x[N]:\n    for n:  x[n] = 2 * x[n]",
    ],
)
def test_self_overwrite_is_refused(text):
    with pytest.raises(ProgramError):
        program = read(text)
        validate(program)
        program.backward()


def test_no_nan_from_the_branch_not_taken():
    text = "f(x[N]) -> y[N]:\n    y[n] = sqrt(x[n]) * x[n] if x[n] > 0 else 3 * x[n]"
    x = np.array([4.0, -1.0, 0.0])
    program = check(text, {"x": np.array([4.0, -1.0, -0.5])})
    found = gradient(program, {"x": x}, {"y": np.array([2.0, 3.0, 5.0])})["x"]
    np.testing.assert_array_equal(found, [6.0, 9.0, 15.0])


def test_no_nan_through_a_guard():
    program = read("f(x[N]) -> y[N]:\n    for n:  y[n] += sqrt(x[n])   if x[n] > 0")
    x = np.array([4.0, -1.0, 0.0, np.nan])
    found = gradient(program, {"x": x}, {"y": np.array([2.0, 3.0, 5.0, 7.0])})["x"]
    np.testing.assert_array_equal(found, [0.5, 0.0, 0.0, 0.0])


class TestTies:
    def test_the_first_winner_takes_all(self):
        program = read("f(x[B,J,K]) -> m[B]:\n    for b, j, k:  m[b] max= x[b,j,k]")
        x = np.array([[[0, 2, 1], [2, 2, 2]], [[1, 1, 3], [3, 0, 3]]], float)
        found = gradient(program, {"x": x}, {"m": np.array([5.0, 7.0])})["x"]
        wanted = np.zeros_like(x)
        wanted[0, 0, 1], wanted[1, 0, 2] = 5, 7
        np.testing.assert_array_equal(found, wanted)

    def test_first_in_the_order_of_a_descending_loop(self):
        program = read("f(x[J,K]) -> m:\n    for j, 0 <= k < K descending:  m min= x[j,k]")
        x = np.array([[4.0, 1, 1, 3], [1, 1, 1, 1]])
        found = gradient(program, {"x": x}, {"m": 3.0})["x"]
        np.testing.assert_array_equal(found, [[0, 0, 3, 0], [0, 0, 0, 0]])

    def test_first_of_several_statements_and_turns_of_a_block(self):
        program = read(
            "f(x[T], y[T]) -> m:\n"
            "    for 0 <= t < T descending:\n"
            "        m max= y[t]\n"
            "        m max= x[t]"
        )
        tie = {"x": np.array([2.0, 2, 0]), "y": np.array([2.0, 0, 0])}
        found = gradient(program, tie, {"m": 3.0})
        np.testing.assert_array_equal(found["x"], [0, 3, 0])
        np.testing.assert_array_equal(found["y"], [0, 0, 0])
        tie["y"][1] = 2
        found = gradient(program, tie, {"m": 3.0})
        np.testing.assert_array_equal(found["x"], [0, 0, 0])
        np.testing.assert_array_equal(found["y"], [0, 3, 0])

    def test_the_start_value_comes_first(self):
        program = read("f(x[N], y) -> m:\n    m = y\n    for n:  m max= x[n]")
        found = gradient(program, {"x": np.array([1.0, 2.0]), "y": 2.0}, {"m": 3.0})
        np.testing.assert_array_equal(found["x"], [0, 0])
        assert found["y"] == 3

    def test_equal_values_that_are_computed(self):
        program = read("f(x[N]) -> m:\n    for n:  m max= exp(x[n]) * 3 + 1")
        found = gradient(program, {"x": np.log([2.0, 4.0, 4.0])}, {"m": 1.0})["x"]
        np.testing.assert_allclose(found, [0, 12, 0])

    def test_half_to_each_of_two(self):
        program = read("f(x, y) -> m, n:\n    m = max(x, y)\n    n = min(x, y)")
        found = gradient(program, {"x": 2.0, "y": 2.0}, {"m": 3.0, "n": 8.0})
        assert found == {"x": 5.5, "y": 5.5}

    def test_kinks(self):
        program = read("f(x) -> a, b, c:\n    a = relu(x)\n    b = abs(x)\n    c = sign(x)")
        assert gradient(program, {"x": 0.0}, {"a": 2.0, "b": 3.0, "c": 5.0}) == {"x": 0}


def test_max_over_nothing_has_no_gradient():
    program = read(
        "f(x[B,J], y[B]) -> m[B]:\n    for b, j:  m[b] max= x[b,j] * y[b]   if x[b,j] > 0"
    )
    values = {"x": np.array([[-1.0, -2.0], [-1.0, 4.0]]), "y": np.array([2.0, 3.0])}
    assert run(program, values)["m"][0] == -np.inf
    found = gradient(program, values, {"m": np.array([5.0, 7.0])})
    np.testing.assert_array_equal(found["x"], [[0, 0], [0, 21]])
    np.testing.assert_array_equal(found["y"], [0, 28])


@pytest.mark.parametrize(
    ("x", "wanted"),
    [
        ([2.0, 3.0, 5.0], [15, 10, 6]),
        ([2.0, 0.0, 5.0], [0, 10, 0]),
        ([0.0, 3.0, 0.0], [0, 0, 0]),
    ],
)
def test_product_with_zeros(x, wanted):
    program = check("f(x[N]) -> p:\n    for n:  p *= x[n]", {"x": np.array(x)})
    np.testing.assert_array_equal(gradient(program, {"x": np.array(x)}, {"p": 1.0})["x"], wanted)


def test_a_product_whose_factors_cannot_be_counted_is_refused():
    program = read(
        "f(x[B,T], int length[B]) -> p[B]:\n    for b, t < length[b]:  p[b] *= x[b,t**2]"
    )
    with pytest.raises(ProgramError, match="do not say how many there can be") as caught:
        program.backward()
    assert (caught.value.line, caught.value.column) == (2, 28)
    assert "as a guard" in str(caught.value)
    mended = (
        "f(x[B,T], int length[B]) -> p[B]:\n    for b, t < T:  p[b] *= x[b,t**2]   if t < length[b]"
    )
    check(mended, {"x": RNG.standard_normal((2, 5)), "length": np.array([3, 2])})


def test_second_derivative_of_a_product_with_two_zeros():
    """d2 (x0 x1 x2) / dx0 dx2 is x1, where x0 = x2 = 0 and every first derivative is 0."""
    program = read("f(x[N]) -> p:\n    for n:  p *= x[n]").backward(recompute=True)
    values = {"x": np.array([0.0, 3.0, 0.0]), "p.grad": 1.0}
    found = gradient(program, values, {"x.grad": np.array([1.0, 0.0, 0.0])}, recompute=True)
    np.testing.assert_array_equal(found["x"], [0, 0, 3])


def test_repeated_gather_index():
    program = check(
        "f(E[V,K], int w[T]) -> y[T,K]:\n    y[t,k] = E[w[t],k]**2",
        {"E": RNG.standard_normal((3, 2)), "w": np.array([2, 2, 0, 2])},
    )
    values = {"E": np.ones((3, 1)), "w": np.array([2, 2, 0, 2])}
    seeds = {"y": np.array([[1.0], [2.0], [4.0], [8.0]])}
    np.testing.assert_array_equal(gradient(program, values, seeds)["E"], [[8], [0], [22]])


def test_accumulator_that_does_not_start_at_zero():
    check(
        "f(x[N], y[N]) -> z[N], p[N]:\n"
        "    z[n] = y[n]**2\n"
        "    for n:  z[n] += x[n] * y[n]\n"
        "    p[n] = 2 * x[n]\n"
        "    for n, m:  p[n] *= y[m]",
        {"x": RNG.standard_normal(3), "y": RNG.standard_normal(3)},
    )


@pytest.mark.parametrize("x", [-800.0, -40.0, 40.0, 800.0])
def test_sigmoid_in_its_tails(x):
    program = read("f(x) -> y, z:\n    y = sigmoid(x)\n    z = softplus(x)")
    found = gradient(program, {"x": x}, {"y": 1.0, "z": 0.0})["x"]
    np.testing.assert_allclose(found, np.exp(-abs(x)) / (1 + np.exp(-abs(x))) ** 2, rtol=1e-14)


class TestPowersAtZero:
    @pytest.mark.parametrize(("exponent", "wanted"), [(0, 0), (1, 1), (2, 0), (3, 0)])
    def test_literal_exponents(self, exponent, wanted):
        program = read(f"f(x) -> y:\n    y = x**{exponent} + 0 * x")
        assert gradient(program, {"x": 0.0}, {"y": 1.0})["x"] == wanted

    @pytest.mark.parametrize(("exponent", "wanted"), [(0.0, 0), (1.0, 1), (2.0, 0)])
    def test_exponents_from_data(self, exponent, wanted):
        program = read("f(x, y) -> z:\n    z = x**y")
        found = gradient(program, {"x": 0.0, "y": exponent}, {"z": 1.0}, wrt="x")["x"]
        assert found == wanted

    def test_the_exponents_own_gradient(self):
        program = read("f(x[N], y[N]) -> z[N]:\n    z[n] = x[n]**y[n]")
        values = {"x": np.array([0.0, 0.0, 2.0]), "y": np.array([2.0, 0.5, 3.0])}
        found = gradient(program, values, {"z": np.ones(3)}, wrt="y")["y"]
        np.testing.assert_allclose(found, [0, 0, 8 * np.log(2)])


def test_polynomials_by_index():
    """0**0 is 1 and its derivative 0, so that a polynomial can be evaluated at 0."""
    program = check(
        "f(c[K], x) -> y:\n    for k:  y += c[k] * x**k", {"c": RNG.standard_normal(4), "x": 0.7}
    )
    found = gradient(program, {"c": np.array([3.0, 5.0, 7.0]), "x": 0.0}, {"y": 2.0})
    assert found["x"] == 10
    np.testing.assert_array_equal(found["c"], [2, 0, 0])
