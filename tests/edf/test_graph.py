"""The heart: values, gradients, averages over the batch, and what is refused."""

from __future__ import annotations

import gc
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf

Affine = edf.component(lg.lib.affine)
Relu = edf.component(lg.lib.relu_layer)
Tanh = edf.component(lg.lib.tanh_layer)
Loss = edf.component(lg.lib.softmax_cross_entropy)
Squares = edf.component(lg.lib.squared_error)
Times = edf.component("times(x[B,J], y[B,J]) -> z[B,J]:\n    for b, j:  z[b,j] = x[b,j] * y[b,j]")
Mean = edf.component("average(L[B]) -> m:\n    for b:  m += L[b] / B")

WHOLE = """
whole(x[B,I], int label[B],
      param W1[H,I], param c1[H], param W2[J,H], param c2[J]) batch B -> L[B]:
    s = mlp(x, W1, c1, W2, c2)
    L = softmax_cross_entropy(s, label)
"""


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


class Network:
    """affine, relu, affine, cross entropy: 4 to 5 to 3."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.x, self.label = edf.Input("x"), edf.Input("label")
        self.Phi = edf.Package(
            one=edf.initial(lg.lib.affine, 1, I=4, J=5, dtype=dtype),
            two=edf.initial(lg.lib.affine, 2, I=5, J=3, dtype=dtype),
        )
        self.s = Affine(self.Phi.two, Relu(Affine(self.Phi.one, self.x)))
        self.loss = Loss(self.s, self.label)
        self.model = edf.Model(self.loss)

    def feed(self, examples: int) -> None:
        random = np.random.default_rng(examples)
        dtype = self.Phi.one.W.value.dtype
        self.x.value = random.normal(size=(examples, 4)).astype(dtype)
        self.label.value = random.integers(0, 3, examples)

    @property
    def learnt(self) -> list[edf.Parameter]:
        return list(self.Phi.parameters().values())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_and_gradients_are_those_of_one_program_for_all_batch_sizes(dtype: Any) -> None:
    network = Network(dtype)
    whole = lg.value_and_grad(WHOLE, wrt=["x", "W1", "c1", "W2", "c2"])
    tolerance = (
        {"rtol": 1e-12, "atol": 1e-14} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-6}
    )
    for examples in (7, 1, 0, 12, 7):
        network.feed(examples)
        loss = network.model.forward()
        network.model.backward()
        arrays = [p.value for p in network.learnt]
        value, gradients = whole(network.x.value, network.label.value, *arrays)
        assert loss.shape == (examples,) and loss.dtype == dtype
        np.testing.assert_allclose(loss, value, **tolerance)
        for object_, gradient in zip([network.x, *network.learnt], gradients, strict=True):
            assert object_.grad.shape == object_.value.shape
            assert object_.grad.dtype == object_.value.dtype == dtype
            np.testing.assert_allclose(object_.grad, gradient, **tolerance)
        assert network.label.grad is None


def test_the_mean_as_a_component_gives_parameters_the_same_gradients() -> None:
    network = Network()
    network.feed(6)
    network.model.forward()
    network.model.backward()
    averaged = [p.grad for p in network.learnt]
    own = network.x.grad
    model = edf.Model(Mean(network.loss))
    assert model.forward().shape == ()
    model.backward()
    for p, gradient in zip(network.learnt, averaged, strict=True):
        np.testing.assert_allclose(p.grad, gradient, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(network.x.grad, own / 6, rtol=1e-13, atol=1e-16)


def test_objects_read_several_times_collect_their_gradients() -> None:
    random = rng()
    x, target = (
        edf.Input("x", random.normal(size=(4, 3))),
        edf.Input("t", random.normal(size=(4, 3))),
    )
    y = Tanh(x)
    z = Times(y, y)  # twice by one component
    total = edf.Add(edf.Add(z, y), x)  # and again
    model = edf.Model(Squares(total, target))
    model.forward()
    for _ in range(2):  # a second time does not add to the first
        model.backward()
        v = np.tanh(x.value)
        off = 2 * (v * v + v + x.value - target.value) / 3
        np.testing.assert_allclose(y.grad, off * (2 * v + 1), rtol=1e-12)
        np.testing.assert_allclose(x.grad, off * ((2 * v + 1) * (1 - v * v) + 1), rtol=1e-12)


def test_a_parameter_may_stand_for_a_value_and_a_value_for_a_parameter() -> None:
    random = rng()
    w, x = (
        edf.Parameter(random.normal(size=(4, 3)), "w"),
        edf.Input("x", random.normal(size=(4, 3))),
    )
    V = edf.Input("V", random.normal(size=(2, 3)))
    c, target = edf.Input("c", random.normal(size=2)), edf.Input("t", random.normal(size=(4, 2)))
    model = edf.Model(Squares(Affine(Times(w, x), W=V, c=c), target))
    model.forward()
    model.backward()
    hidden = w.value * x.value
    off = hidden @ V.value.T + c.value - target.value
    np.testing.assert_allclose(V.grad, off.T @ hidden, rtol=1e-12)
    np.testing.assert_allclose(w.grad, off @ V.value * x.value / 4, rtol=1e-12)


def test_several_results_one_of_which_nobody_reads() -> None:
    random = rng()
    Both = edf.component(
        "both(x[B,J]) -> y[B,J], z[B,J], w[B]:\n"
        "    local int w[B]\n"
        "    for b, j:  y[b,j] = x[b,j]**2\n"
        "    for b, j:  z[b,j] = x[b,j]**3\n"
        "    for b:     w[b] = b"
    )
    x, target = edf.Input("x", random.normal(size=(3, 2))), edf.Input("t", np.zeros((3, 2)))
    y, z, w = Both(x)
    model = edf.Model(Squares(z, target))
    model.forward()
    model.backward()
    np.testing.assert_allclose(x.grad, 3 * x.value**5, rtol=1e-12)
    assert (y.grad == 0).all() and y.grad.shape == (3, 2)
    assert w.value.tolist() == [0, 1, 2] and w.grad is None


def test_what_the_loss_does_not_depend_on_has_zeros() -> None:
    first = edf.component(
        "first(x[B,J], y[B,J]) -> z[B,J]:\n    for b, j:  z[b,j] = x[b,j] + 0 * floor(y[b,j])"
    )
    x, y = edf.Input("x", rng().normal(size=(3, 2))), edf.Parameter(np.ones((3, 2)), "y")
    model = edf.Model(Squares(first(x, y), edf.Input("t", np.zeros((3, 2)))))
    model.forward()
    model.backward()
    assert y.grad.tolist() == [[0, 0]] * 3 and (x.grad != 0).all()


def test_whole_numbers_as_values_have_real_gradients() -> None:
    x = edf.Input("x", [[1, 2], [3, 5]])
    model = edf.Model(Squares(x, edf.Input("t", [[0, 0], [0, 1]])))
    model.forward()
    model.backward()
    assert x.grad.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_constants_and_sizes_are_given_by_name() -> None:
    Huber = edf.component(lg.lib.huber)
    x, y = edf.Input("x", [[3.0, 0.5]]), edf.Input("y", [[0.0, 0.0]])
    narrow, wide = edf.Model(Huber(x, y, delta=1.0)), edf.Model(Huber(x, y=y, delta=10.0))
    narrow.forward()
    narrow.backward()
    assert x.grad.tolist() == [[1.0, 0.5]]
    wide.forward()
    wide.backward()
    assert x.grad.tolist() == [[3.0, 0.5]]


def test_learning_against_the_gradient() -> None:
    network = Network()
    network.feed(9)
    network.model.forward()
    network.model.backward()
    expected = [p.value - 0.25 * p.grad for p in network.learnt]
    before = [p.value for p in network.learnt]
    network.model.update(0.25)
    for p, new, old in zip(network.learnt, expected, before, strict=True):
        np.testing.assert_array_equal(p.value, new)
        assert p.value is not old
    network.model.update(lambda p: 0 * p.value)  # any rule
    assert not any(p.value.any() for p in network.learnt)


def test_single_precision_stays() -> None:
    network = Network(np.float32)
    network.feed(3)
    for rate in (0.1, np.float64(0.1), 1):
        network.model.forward()
        network.model.backward()
        network.model.update(rate)
    assert {p.value.dtype for p in network.learnt} == {np.dtype(np.float32)}


def test_a_gradient_has_the_type_of_its_value() -> None:
    random = rng()
    x = edf.Input("x", random.normal(size=(3, 2)).astype(np.float32))
    W, c = (
        edf.Parameter(random.normal(size=(2, 2)), "W"),
        edf.Parameter(np.zeros(2, np.float32), "c"),
    )
    model = edf.Model(Squares(Affine(x, W, c), edf.Input("t", np.zeros((3, 2)))))
    assert model.forward().dtype == np.float64
    model.backward()
    assert (x.grad.dtype, W.grad.dtype, c.grad.dtype) == (np.float32, np.float64, np.float32)
    model.update(0.1)
    assert c.value.dtype == np.float32


def test_infinities_and_nan_go_through() -> None:
    x = edf.Input("x", [[np.inf, 1.0], [np.nan, 2.0]])
    model = edf.Model(Squares(x, edf.Input("t", np.zeros((2, 2)))))
    loss = model.forward()
    model.backward()
    assert loss[0] == np.inf and np.isnan(loss[1]) and np.isnan(x.grad[1, 0]) and x.grad[0, 1] == 1


# ----------------------------------------------------------------------------------------- order


def test_steps_come_in_the_order_in_which_they_were_built() -> None:
    x = edf.Input("x", rng().normal(size=(2, 3)))
    a, b = Tanh(x), Relu(x)
    unused = Tanh(a)
    d = edf.Add(b, a)
    e = edf.Add(a, Times(b, d))
    model = edf.Model(e)
    assert [s.component.name for s in model.steps] == [
        "tanh_layer",
        "relu_layer",
        "add",
        "times",
        "add",
    ]
    assert unused.step not in model.steps


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    """Every object is made of any before it; a whole derivative says whether all is added up."""
    random = np.random.default_rng(seed)
    objects: list[Any] = [edf.Input(f"x{n}", random.normal(size=(3, 2))) for n in range(2)]
    objects += [edf.Parameter(random.normal(size=(3, 2)), f"w{n}") for n in range(2)]
    weights = edf.initial(lg.lib.affine, seed, I=2, J=2)
    for _ in range(10):
        one, other = random.choice(len(objects), 2)
        match random.integers(4):
            case 0:
                objects.append(edf.Add(objects[one], objects[other]))
            case 1:
                objects.append(Times(objects[one], Tanh(objects[other])))
            case 2:
                objects.append(Tanh(objects[one]))
            case _:
                objects.append(Affine(weights, objects[one]))
    target = edf.Input("t", random.normal(size=(3, 2)))
    model = edf.Model(Squares(objects[-1], target))
    assert model.verify(seed)


def test_thousands_of_steps_in_a_row() -> None:
    x = edf.Input("x", [[0.5, -0.25]])
    y: Any = x
    Half = edf.component("half(x[B,J]) -> y[B,J]:\n    for b, j:  y[b,j] = x[b,j] / 2 + 1")
    for _ in range(20_000):
        y = Half(y)
    model = edf.Model(Squares(y, edf.Input("t", [[1.0, 3.0]])))
    np.testing.assert_allclose(model.forward(), 1.0)
    model.backward()
    assert len(model.steps) == 20_001 and np.all(x.grad == 0)  # 2**-20000
    repr(model)
    del model, y
    gc.collect()


def test_memory_does_not_grow() -> None:
    network = Network()
    network.feed(64)

    def steps(number: int) -> int:
        for _ in range(number):
            network.model.forward()
            network.model.backward()
            network.model.update(0.01)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = steps(20)
        assert steps(300) - before < 4096
    finally:
        tracemalloc.stop()


def test_earlier_values_are_not_written_over() -> None:
    network = Network()
    network.feed(3)
    first = network.model.forward()
    copy = first.copy()
    network.feed(5)
    network.model.forward()
    np.testing.assert_array_equal(first, copy)


# --------------------------------------------------------------------------------------- mistakes


def test_an_input_without_a_value_is_named() -> None:
    network = Network()
    network.label.value = [0, 1]
    with pytest.raises(
        ValueError, match=r"^Input `x` \(`x` of affine\) has no value: set it before"
    ):
        network.model.forward()
    nameless = edf.Input()
    with pytest.raises(
        ValueError, match=r"an Input without a name \(`x` of relu_layer\) has no value"
    ):
        edf.Model(Relu(nameless)).forward()


def test_shapes_that_do_not_fit_are_explained_with_the_place() -> None:
    network = Network()
    network.feed(3)
    network.x.value = np.zeros((3, 6))
    with pytest.raises(ValueError, match="affine: extent `I` is 6 in axis 1 of `x") as caught:
        network.model.forward()
    (note,) = caught.value.__notes__
    assert "at affine(x=<Input x: float64(3, 6)>, W=<Parameter one.W: float64(5, 4)>" in note
    network.x.value = np.zeros((3, 4))
    network.label.value = [0, 1, 3]
    with pytest.raises(IndexError, match="needs element 3 along axis 1"):
        network.model.forward()


def test_a_backward_needs_a_whole_forward_of_the_same_model() -> None:
    network = Network()
    with pytest.raises(RuntimeError, match="`backward` needs a `forward` of this model"):
        network.model.backward()
    with pytest.raises(RuntimeError, match="`update` needs a `backward` of this model"):
        network.model.update(0.1)
    network.feed(4)
    network.model.forward()
    network.label.value = [0, 1, 2, 9]
    with pytest.raises(IndexError):
        network.model.forward()
    with pytest.raises(RuntimeError, match="needs a `forward`"):
        network.model.backward()
    network.feed(4)
    network.model.forward()
    edf.Model(network.s).forward()  # computes the same objects again
    with pytest.raises(RuntimeError, match="needs a `forward`"):
        network.model.backward()


def test_a_backward_that_fails_leaves_no_half_of_a_gradient() -> None:
    class Breaks:
        def forward(self, x: Any) -> Any:
            return x

        def backward(self, gradient: Any) -> Any:
            raise KeyError("broken")

    x, w = edf.Input("x", np.ones((2, 3))), edf.Parameter(np.ones((2, 3)), "w")
    model = edf.Model(Squares(Times(edf.component(Breaks)(Times(x, w)), w), x))
    model.forward()
    with pytest.raises(KeyError):
        model.backward()
    assert w.grad is None
    with pytest.raises(RuntimeError, match="`update` needs a `backward`"):
        model.update(0.1)


def test_a_change_between_the_passes_does_not_mix_them() -> None:
    network = Network()
    network.feed(4)
    network.model.forward()
    network.model.backward()
    gradients = [p.grad.copy() for p in network.learnt]
    network.model.forward()
    for p in network.learnt:
        p.value = np.zeros_like(p.value)
    network.feed(9)
    network.model.backward()
    for p, gradient in zip(network.learnt, gradients, strict=True):
        np.testing.assert_array_equal(p.grad, gradient)


def test_what_is_no_loss() -> None:
    network = Network()
    network.feed(4)
    model = edf.Model(network.s)
    assert model.forward().shape == (4, 3)
    with pytest.raises(ValueError, match=re.escape("not <Computed y: float64(4, 3)>")):
        model.backward()
    number = edf.component(
        "rank(x[B,J]) -> n[B]:\n    local int n[B]\n    for b:  n[b] = b + floor(x[b,0])"
    )
    model = edf.Model(number(network.x))
    model.forward()
    with pytest.raises(ValueError, match="a loss is a real number"):
        model.backward()


def test_what_is_no_object_and_no_rule() -> None:
    with pytest.raises(
        TypeError, match="a Model needs an object of a graph, its loss, got ndarray"
    ):
        edf.Model(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match="a Model needs one of 2 objects of a graph, its loss, got tuple"
    ):
        edf.Model((edf.Input("x"), edf.Input("y")))  # type: ignore[arg-type]
    model = edf.Model(edf.Parameter(3.0, "x"))
    model.forward()
    model.backward()
    for rule in ("0.1", None):
        with pytest.raises(
            TypeError, match="`update` needs a rate, or a function of a parameter, got"
        ):
            model.update(rule)  # type: ignore[arg-type]
    model.update(0.5)
    assert model.parameters[0].value == 2.5


def test_a_parameter_does_not_share_the_array_that_it_started_from() -> None:
    start = np.ones(2)
    p = edf.Parameter(start)
    start[0] = 7.0
    assert p.value.tolist() == [1.0, 1.0]


def test_ways_to_write_an_input() -> None:
    for x in (edf.Input("x", [1.0]), edf.Input([1.0], "x"), edf.Input(name="x", value=[1.0])):
        assert x.name == "x" and x.value.tolist() == [1.0]
    assert edf.Input([1.0]).name == "" and edf.Input("x").value is None
    assert edf.Input(np.zeros(0)).value.shape == (0,)


def test_what_is_no_array_of_numbers() -> None:
    with pytest.raises(TypeError, match="the value of Input `x` has to hold real numbers, got <U1"):
        edf.Input("x", ["a"])
    with pytest.raises(
        TypeError, match="the value of Parameter `W` has to hold real numbers, got complex128"
    ):
        edf.Parameter([1j], "W")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: Affine(x), "affine needs `W` and `c`, which it did not get"),
        (lambda x: Affine(x, x, x, x), "affine takes `x`, `W` and `c`: 4 arguments are given by place, where 3 are left"),
        (lambda x: Affine(x, x=x), "affine needs `c`, which it did not get"),
        (lambda x: Affine(x, x, x, w=x), "affine has no argument `w`; did you mean `W`?"),
        (lambda x: Relu(x, slope=1.0), "relu_layer has no argument `slope`; it takes `x`"),
        (lambda x: Relu(np.zeros((2, 3))), "relu_layer: `x` has to be an Input, a Parameter or what a component returned, got ndarray"),
        (lambda x: Affine(x, x, 3), "affine: `c` has to be an Input, a Parameter or what a component returned, got int"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call(edf.Input("x"))
