"""Components: programs, loops written by hand, and classes in NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf

SOFTMAX = """\
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]

# Its backward:
softmax.backward(s[B,J], Z[B], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]
    for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2
    for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])

# The same, simplified:
softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
    for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])"""

Squares = edf.component(lg.lib.squared_error)


def gradients_of(component: Any, *values: Any, **constants: Any) -> list[Any]:
    """Of squares of what the component returns, in the values."""
    inputs = [edf.Input(f"x{n}", value) for n, value in enumerate(values)]
    y = component(*inputs, **constants)
    model = edf.Model(y)
    shape = model.forward().shape
    target = edf.Input("t", np.random.default_rng(1).normal(size=shape))
    model = edf.Model(Squares(y, target))
    model.forward()
    model.backward()
    return [x.grad for x in inputs]


def test_a_component_shows_its_loops_and_their_backward() -> None:
    Softmax = edf.component(lg.lib.softmax)
    assert str(Softmax) == repr(Softmax) == Softmax.__doc__ == SOFTMAX
    assert type(Softmax).__doc__ == (
        "A program as a component, with the backward that is derived from it."
    )
    affine = str(edf.component(lg.lib.affine))
    assert str(lg.lib.affine.backward()) in affine and "/ B" in affine


def test_a_component_without_a_backward_says_why() -> None:
    first = "first(x[B,J]) -> y[B]:\n    local int y[B]\n    for b, j:  y[b] min= j   if x[b,j] > 0"
    assert str(edf.component(first)) == (
        f"{lg.program(first)}\n\n"
        "# It has no backward: `first` has no floating result, so there is nothing to differentiate: "
        "`y` holds integers"
    )
    x = edf.Input("x", [[-1.0, 2.0], [3.0, 0.0]])
    assert edf.Model(edf.component(first)(x)).forward().tolist() == [1, 0]


def test_a_batch_that_the_result_does_not_have() -> None:
    """The program itself has no averages; in a graph they are the model's affair."""
    text = "total(x[B], param w) batch B -> y:\n    for b:  y += w * x[b]"
    Total = edf.component(text)
    assert "# It has no backward of averages" in str(Total)
    assert "for b:  w.grad    += y.grad * x[b]" in str(Total)
    x, w = edf.Input("x", [1.0, 2.0, 4.0]), edf.Parameter(3.0, "w")
    model = edf.Model(Total(x, w))
    assert model.forward() == 21
    model.backward()
    assert w.grad == 7 and x.grad.tolist() == [3, 3, 3]


def test_from_text_with_a_name() -> None:
    Double = edf.component(
        "double(x[B,J]) -> y[B,J]:\n    for b, j:  y[b,j] = 2 * x[b,j]", name="Twice"
    )
    assert Double.name == "Twice" and Double.inputs == ["x"] and Double.results == ["y"]
    with pytest.raises(lg.ProgramError, match="there is no tensor `z`"):
        edf.component("double(x[B,J]) -> y[B,J]:\n    for b, j:  y[b,j] = 2 * z[b,j]")


# ----------------------------------------------------------------------------------- hand-written

BACKWARDS = {
    "right": (
        "softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:\n"
        "    for b, j:  e[b]        -= p[b,j] * p.grad[b,j]\n"
        "    for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])"
    ),
    "reads a temporary": str(lg.lib.softmax.backward()),
}


@pytest.mark.parametrize("kind", BACKWARDS)
def test_loops_written_by_hand_run(kind: str) -> None:
    s = np.random.default_rng(0).normal(size=(3, 4))
    mine = edf.component(lg.lib.softmax, BACKWARDS[kind])
    assert mine.check()
    (found,) = gradients_of(mine, s)
    (expected,) = gradients_of(edf.component(lg.lib.softmax), s)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert "written by hand" in str(mine)


def test_averages_written_by_hand_are_as_the_derived_ones() -> None:
    """Under a `batch`, both the derived loops and a claim return averages."""
    random = np.random.default_rng(0)
    given = [random.normal(size=shape) for shape in ((6, 3), (2, 3), (2,))]
    mine = edf.component(lg.lib.affine, str(lg.lib.affine.backward()))
    assert mine.check()
    for one, other in zip(
        gradients_of(mine, *given), gradients_of(edf.component(lg.lib.affine), *given), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_constants_and_sizes_reach_the_loops_written_by_hand() -> None:
    backward = (
        "b(x[B,J], y.grad[B,J], slope = 0.01) -> x.grad[B,J]:\n"
        "    for b, j:  x.grad[b,j] += y.grad[b,j] * (1 if x[b,j] > 0 else slope)"
    )
    mine = edf.component(lg.lib.leaky_relu, backward)
    x = np.random.default_rng(0).normal(size=(5, 4))
    (found,) = gradients_of(mine, x, slope=0.5)
    (expected,) = gradients_of(edf.component(lg.lib.leaky_relu), x, slope=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_loops_of_another_program_are_refused() -> None:
    with pytest.raises(ValueError, match="b reads `q`, which softmax neither takes nor computes"):
        edf.component(
            lg.lib.softmax, "b(q[B,J]) -> s.grad[B,J]:\n    for b, j:  s.grad[b,j] += q[b,j]"
        )
    with pytest.raises(ValueError, match=r"b does not return `W\.grad` and `c\.grad`"):
        edf.component(
            lg.lib.affine,
            "b(W[J,I], y.grad[B,J]) -> x.grad[B,I]:\n    x.grad[b,i] = W[J,i] * y.grad[b,J]",
        )


# ------------------------------------------------------------------------------------------ NumPy


class Sigmoid:
    """The logistic function."""

    def forward(self, x: Any) -> Any:
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, gradient: Any) -> Any:
        return gradient * self.y * (1 - self.y)


def test_a_class_in_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    (found,) = gradients_of(edf.component(Sigmoid), x)
    (expected,) = gradients_of(edf.component(lg.lib.sigmoid_layer), x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert "The logistic function." in str(edf.component(Sigmoid).__doc__)


def test_each_use_has_an_object_of_its_own() -> None:
    S = edf.component(Sigmoid)
    x = np.random.default_rng(0).normal(size=(3, 4))
    (found,) = gradients_of(lambda x: S(S(x)), x)
    L = edf.component(lg.lib.sigmoid_layer)
    np.testing.assert_allclose(found, gradients_of(lambda x: L(L(x)), x)[0], rtol=1e-12)


def test_the_same_array_for_two_inputs_is_not_added_to_twice() -> None:
    class Both:
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

        def backward(self, gradient: Any) -> Any:
            return gradient, gradient

    Plus = edf.component(Both)
    Tanh = edf.component(lg.lib.tanh_layer)

    def graph(add: Any) -> Any:
        def build(x: Any, y: Any) -> Any:
            before = Tanh(x)  # whose backward adds to x.grad when that of x + y is done
            return add(before, add(x, y))

        return build

    x, y = np.random.default_rng(0).normal(size=(2, 3, 4))
    found = gradients_of(graph(Plus), x, y)
    expected = gradients_of(graph(edf.Add), x, y)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_a_class_cannot_change_what_others_read() -> None:
    class Greedy:
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, gradient: Any) -> Any:
            gradient *= 2
            return gradient

    class Writes(Greedy):
        def forward(self, x: Any) -> Any:
            x *= 2
            return x

    x = edf.Input("x", [[1.0, 2.0]])
    y = edf.component(Greedy)(x)
    model = edf.Model(Squares(y, edf.Input("t", [[0.0, 0.0]])))
    model.forward()
    assert not np.shares_memory(y.value, x.value)
    model.backward()
    assert y.grad.tolist() == [[1.0, 2.0]] and x.grad.tolist() == [[2.0, 4.0]]
    with pytest.raises(ValueError, match="read-only"):
        edf.Model(edf.component(Writes)(x)).forward()
    assert x.value.tolist() == [[1.0, 2.0]]


def test_several_results_and_constants_in_numpy() -> None:
    @edf.component
    class Powers:
        results = ("y", "z")

        def forward(self, x: Any, scale: float = 1.0) -> Any:
            self.x, self.scale = x, scale
            return scale * x**2, x**3

        def backward(self, square: Any, cube: Any) -> Any:
            return 2 * self.scale * self.x * square + 3 * self.x**2 * cube

    x = edf.Input("x", np.random.default_rng(0).normal(size=(3, 4)))
    y, z = Powers(x, scale=5.0)
    model = edf.Model(Squares(edf.Add(y, z), edf.Input("t", np.zeros((3, 4)))))
    assert model.verify()
    np.testing.assert_allclose(y.value, 5 * x.value**2)


@pytest.mark.parametrize(
    ("forward", "backward", "error", "message"),
    [
        (lambda self, x: x, lambda self, g: (g, g), ValueError, "Wrong.backward has to return 1 arrays, for x, and returned 2"),
        (lambda self, x: (x, x), lambda self, g: g, ValueError, "Wrong.forward has to return 1 arrays, for y, and returned 2"),
        (lambda self, x: x, lambda self, g: g[0], ValueError, "Wrong.backward returned a gradient of shape (4,) for `x`, whose shape is (3, 4)"),
    ],
)  # fmt: skip
def test_what_a_class_returns_is_checked(
    forward: Any, backward: Any, error: Any, message: str
) -> None:
    Wrong = edf.component(type("Wrong", (), {"forward": forward, "backward": backward}))
    with pytest.raises(error, match=re.escape(message)):
        gradients_of(Wrong, np.ones((3, 4)))


def test_what_is_no_component() -> None:
    with pytest.raises(TypeError, match="the component Half needs a method `backward`"):
        edf.component(type("Half", (), {"forward": lambda self, x: x}))
    with pytest.raises(
        TypeError, match="Sigmoid has a method `backward`, so that none can be given"
    ):
        edf.component(Sigmoid, "f(x[N]) -> y[N]:\n    y[n] = x[n]")
    with pytest.raises(TypeError, match="a loopgrad program or its text is needed, got int"):
        edf.component(3)


def test_the_parts() -> None:
    random = np.random.default_rng(0)
    x, y = edf.Input("x", random.normal(size=(3, 2))), edf.Input("y", random.normal(size=(3, 4)))
    z = edf.Zeros(x, size=1)
    joined = edf.Concat(edf.Concat(x, z), y)
    loss = edf.Sum(Squares(joined, edf.Input("t", np.zeros((3, 7)))), Squares(x, x))
    model = edf.Model(loss)
    assert model.verify()
    np.testing.assert_array_equal(
        joined.value, np.concatenate([x.value, np.zeros((3, 1)), y.value], axis=1)
    )
    with pytest.raises(
        ValueError, match=r"Sum needs objects of one shape, got \[\(3, 2\), \(3, 4\)\]"
    ):
        edf.Model(edf.Sum(x, y)).forward()
