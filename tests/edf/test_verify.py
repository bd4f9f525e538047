"""`verify` finds what is wrong, names it, and says nothing of what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf
from loopgrad.edf.differences import Judge
from loopgrad.edf.verify import of_step
from tests.effort import by_name
from tests.lib.test_library import ROWS, of

Squares = edf.component(lg.lib.squared_error)


def model_of(component: Any, *values: Any, **constants: Any) -> edf.Model:
    inputs = [edf.Parameter(value, f"x{n}") for n, value in enumerate(values)]
    y = component(*inputs, **constants)
    shape = edf.Model(y).forward().shape
    target = np.random.default_rng(3).normal(size=shape).astype(y.value.dtype)
    return edf.Model(Squares(y, edf.Input("t", target)))


def numpy_component(forward: Any, backward: Any) -> Any:
    class Made:
        def forward(self, x: Any) -> Any:
            self.x = x
            return forward(x)

        def backward(self, gradient: Any) -> Any:
            return backward(self.x, gradient)

    return edf.component(Made)


@pytest.mark.parametrize("shape", [(3, 4), (40, 30)])
@pytest.mark.parametrize("wrong", [2.0, 0.0, 1.001])
def test_the_wrong_entry_is_named(shape: tuple[int, int], wrong: float) -> None:
    place = (shape[0] - 1, 2)

    def backward(x: Any, gradient: Any) -> Any:
        right = 2 * x * gradient
        right[place] *= wrong
        return right

    x = np.random.default_rng(0).normal(size=shape)
    report = model_of(numpy_component(lambda x: x**2, backward), x).verify()
    assert not report
    first = report.wrong[0]
    assert (first.component, first.use, first.input) == ("Made", 1, "x")
    assert first.verdict.entry == place
    np.testing.assert_allclose(
        first.verdict.claimed, wrong * first.verdict.numerical, rtol=1e-6, atol=1e-9
    )
    assert f"WRONG: x.grad[{place[0]},2] is " in str(report)
    if wrong != 1.001:  # which is little, in a sum of all
        assert {c.component for c in report.wrong} == {"Made", "the whole"}


@pytest.mark.parametrize(
    "name",
    [
        "softmax",
        "log_softmax",
        "gelu",
        "elu",
        "leaky_relu",
        "relu_layer",
        "gelu_tanh",
        "log_sum_exp",
    ],
)
@pytest.mark.parametrize("size", [1e-4, 1.0, 30.0])
def test_what_is_derived_is_right(name: str, size: float) -> None:
    x = size * np.random.default_rng(0).normal(size=(6, 5))
    inputs = [edf.Input("x", x)]
    component = edf.component(getattr(lg.lib, name))
    Cube = edf.component("cube(y[B,J]) -> L[B]:\n    for b, j:  L[b] += y[b,j]**3")
    Line = edf.component("line(y[B]) -> L[B]:\n    for b:  L[b] += y[b]**3")
    y = component(*inputs)
    loss = Line(y) if name == "log_sum_exp" else Cube(y)
    report = edf.Model(loss).verify()
    assert report, str(report)


def test_kinks_are_no_faults() -> None:
    """Zeros, where relu has no derivative, and ties."""
    x = np.zeros((30, 20))
    x[3] = 1.0
    assert model_of(edf.component(lg.lib.relu_layer), x).verify()
    assert model_of(edf.component(lg.lib.relu_layer), x[:4, :3]).verify()
    Largest = edf.component(
        "largest(x[B,J], y[B,J]) -> z[B,J]:\n    for b, j:  z[b,j] = max(x[b,j], y[b,j])"
    )
    assert model_of(Largest, x[:4, :3], x[:4, :3]).verify()


def test_beside_a_kink_a_claim_has_to_lie_between_both_sides() -> None:
    outside = numpy_component(
        lambda x: np.maximum(x, 0), lambda x, g: g * np.where(x > 0, 1.0, -0.5)
    )
    report = model_of(outside, np.array([[0.0, 1.0]])).verify()
    assert report.wrong[0].verdict.entry == (0, 0)


def test_a_gradient_that_is_left_out_is_missed_where_somebody_needs_it() -> None:
    silent = numpy_component(lambda x: x**2, lambda x, gradient: None)
    x = np.random.default_rng(0).normal(size=(2, 3))
    report = model_of(silent, x).verify()
    assert not report and report.wrong[0].component == "Made"
    data = edf.Model(Squares(silent(edf.Input("x", x)), edf.Input("t", x)))
    assert data.verify()  # of data it is nobody's business


def test_loops_written_by_hand_are_judged_by_check_too() -> None:
    wrong = (
        "softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:\n"
        "    for b, j:  e[b]        += p[b,j] * p.grad[b,j]\n"
        "    for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])"
    )
    report = model_of(
        edf.component(lg.lib.softmax, wrong), np.random.default_rng(0).normal(size=(3, 4))
    ).verify()
    assert not report
    assert report.wrong[0].component == "softmax"
    ((name, judgement),) = report.judgements
    assert name == "softmax" and judgement.findings[0].line in (2, 3)
    assert "lg.check, of the backward of softmax:\nerror: " in str(report)


def test_the_table() -> None:
    """Golden, but for the differences."""
    affine = edf.component(lg.lib.affine)
    random = np.random.default_rng(0)
    Phi = edf.Package(W=random.normal(size=(2, 3)), c=random.normal(size=2))
    x, t = edf.Input("x", random.normal(size=(4, 3))), edf.Input("t", np.zeros((4, 2)))
    report = edf.Model(Squares(affine(Phi, x), t)).verify()
    lines = [line.split("right")[0].rstrip() for line in str(report).splitlines()]
    assert lines == [
        "1. affine         x.grad",
        "1. affine         W.grad",
        "1. affine         c.grad",
        "2. squared_error  x.grad",
        "2. squared_error  y.grad",
        "2. the whole      W.grad",
        "2. the whole      c.grad",
    ]
    assert repr(report) == str(report)


def test_values_and_types_are_as_before() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    model = model_of(edf.component(lg.lib.softmax), x)
    model.forward()
    model.backward()
    before = [(v.value, v.grad) for v in model.values]
    assert model.verify()
    for v, (value, gradient) in zip(model.values, before, strict=True):
        np.testing.assert_array_equal(v.value, value)
        assert v.value.dtype == value.dtype == np.float32
        np.testing.assert_array_equal(v.grad, gradient)


def test_what_is_not_finite_is_not_judged() -> None:
    log = edf.component("ln(x[B,J]) -> y[B,J]:\n    for b, j:  y[b,j] = log(x[b,j])")
    with np.errstate(all="ignore"):
        report = model_of(log, np.array([[0.0, 1.0]])).verify()
    assert report and "not judged: there are values that are not finite" in str(report)


def test_many_uses_of_a_component_are_judged_at_three() -> None:
    y: Any = edf.Input("x", np.random.default_rng(0).normal(size=(2, 3)))
    t = edf.Input("t", np.zeros((2, 3)))
    Tanh = edf.component(lg.lib.tanh_layer)
    for _ in range(50):
        y = Tanh(y)
    report = edf.Model(Squares(y, t)).verify()
    assert [c.use for c in report.comparisons if c.component == "tanh_layer"] == [1, 2, 3]


def test_an_empty_batch() -> None:
    assert model_of(edf.component(lg.lib.softmax), np.zeros((0, 4))).verify()


def test_flat_points_are_right() -> None:
    x = np.array([0.0, 1.0, -1.0])
    for power in (2, 3, 4, 5, 7):
        judge = Judge(
            lambda v, n=power: float(np.sum(v**n)),
            x,
            power * x ** (power - 1),
            2.0,
            np.random.default_rng(1),
        )
        assert judge.verdict().status == "right", power


def test_a_small_part_of_a_large_sum_is_judged() -> None:
    """Rounding excuses what it may do, and no more."""
    x = np.array([1.0, -2.0])
    for claim, status in ((1.0, "right"), (1.01, "wrong"), (0.0, "wrong")):
        judge = Judge(
            lambda v: 1e8 + float(np.sum(v)),
            x,
            np.array([1.0, claim]),
            1e8,
            np.random.default_rng(1),
        )
        assert judge.verdict().status == status, claim


def test_a_steep_function_is_judged_with_the_step_that_suits_it() -> None:
    x = np.random.default_rng(0).normal(size=200)
    judge = Judge(
        lambda v: float(np.sum(np.exp(50 * v))),
        x,
        50 * np.exp(50 * x),
        1.0,
        np.random.default_rng(1),
    )
    assert judge.verdict().status == "right"


# ------------------------------------------------------------------------------------- the library


def step_of(component: Any, row: str) -> Any:
    """One use of the component, on the inputs of a row of the library's tests."""
    program, inputs, constants = of(row, seed=1)
    given = {i.name: inputs[i.name] for i in program.inputs}
    rest = {name: value for name, value in inputs.items() if name not in given}
    objects = {
        name: edf.Parameter(value, name)
        if np.asarray(value).dtype.kind == "f"
        else edf.Input(name, value)
        for name, value in given.items()
    }
    y = component(**objects, **rest, **constants)
    step = (y[0] if isinstance(y, tuple) else y).step
    with np.errstate(all="ignore"):
        step.forward()
    return step


def judged(step: Any) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return {c.input: c.verdict for c in of_step(step, 1, np.random.default_rng(0))}


class OffInOnePlace(edf.Component):
    """The component with the largest entry of one gradient off by a thousandth."""

    def __init__(self, component: edf.Component, place: int) -> None:
        self.right, self.place = component, place
        self.name, self.inputs = component.name, component.inputs
        self.results, self.constants = component.results, component.constants
        self.entry: tuple[int, ...] = ()

    def vjp(self, inputs: Any, constants: Any) -> Any:
        values, pullback = self.right.vjp(inputs, constants)

        def off(seeds: Any) -> Any:
            gradients = [*pullback(seeds)]
            gradient = gradients[self.place]
            if gradient is not None and gradient.size:
                flat = int(np.argmax(np.abs(gradient)))
                self.entry = tuple(int(i) for i in np.unravel_index(flat, gradient.shape))
                gradient[self.entry] *= 1.001
            return gradients

        return values, off


@pytest.mark.parametrize("row", by_name(list(ROWS), 12))
def test_the_library_is_right_and_a_thousandth_is_found(row: str) -> None:
    component = edf.component(lg.lib[row.partition(":")[0]])
    right = judged(step_of(component, row))
    assert {verdict.status for verdict in right.values()} <= {"right"}
    for place, name in enumerate(component.inputs):
        if name not in right:
            continue
        off = OffInOnePlace(component, place)
        step = step_of(off, row)
        gradient = component.vjp([x.value for x in step.inputs], step.constants)[1](
            [np.ones_like(y.value) if y.value.dtype.kind == "f" else None for y in step.results]
        )[place]
        verdict = judged(step)[name]
        if gradient is not None and gradient.any():
            assert (verdict.status, verdict.entry) == ("wrong", off.entry)
