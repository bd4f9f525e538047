"""A batched program gives, for each element of the batch, what the program gives."""

from __future__ import annotations

import numpy as np
import pytest

from tests.grad.checking import check, read, run

RNG = np.random.default_rng(3)
B = 3

PROGRAMS = {
    "scalars": ("f(x, y) -> z:\n    z = x * sin(y)", {"x": (), "y": ()}),
    "softmax": (
        "f(s[J], param t[J]) -> p[J], norm:\n"
        "    for j:  Z    += exp(s[j] * t[j])\n"
        "    for j:  p[j] += exp(s[j] * t[j]) / Z\n"
        "    for j:  norm += t[j]**2",
        {"s": (4,), "t": (4,)},
    ),
    "gather and winner": (
        "f(E[V,K], int w[T]) -> y[K], m:\n"
        "    for t, k:  y[k] += E[w[t],k]\n"
        "    for t, k:  m max= E[w[t],k] * y[k]",
        {"E": (3, 2), "w": (4,)},
    ),
    "bound from data": (
        "f(x[T,K], int n) -> h[T,K], s:\n"
        "    for t < n:\n"
        "        for k:  h[t,k] = x[t,k] + (h[t-1,k] * x[t,k] if t > 0 else 0)\n"
        "        s += h[t,0]",
        {"x": (4, 2), "n": ()},
    ),
    "recurrence": (
        "f(x[T]) -> h[T]:\n    for t:\n        h[t] = x[t] * (h[t-1] if t > 0 else 1)",
        {"x": (5,)},
    ),
}


def values_for(program, shapes, batched):
    values = {}
    for i in program.inputs:
        shape = (B, *shapes[i.name]) if i.name in batched else shapes[i.name]
        integers = RNG.integers(0, 3, shape)
        values[i.name] = integers if i.kind == "int" else RNG.standard_normal(shape)
    return values


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_element_is_computed_by_the_program(name):
    text, shapes = PROGRAMS[name]
    program = read(text)
    names = [i.name for i in program.inputs if i.kind != "param"]
    batched = program.batched("B")
    assert read(str(batched)) == batched
    values = values_for(program, shapes, names)
    together = run(batched, values)
    for b in range(B):
        alone = run(program, {n: v[b] if n in names else v for n, v in values.items()})
        for result, wanted in alone.items():
            found = together[result]
            found = found[b] if np.ndim(found) > np.ndim(wanted) else found
            np.testing.assert_allclose(found, wanted, rtol=1e-12)
    if name != "gather and winner":
        check(batched, values, order=1)


def test_named_inputs_and_results_that_do_not_depend_on_them():
    program = read("f(x[N], param w[N]) -> y, c:\n    for n:  y += x[n]\n    for n:  c += w[n]")
    assert str(program.batched("B")) == (
        "f(x[B,N], param w[N]) -> y[B], c:\n"
        "    for b, n:  y[b] += x[b,n]\n"
        "    for n:     c    += w[n]"
    )
    assert str(program.batched("M", ["w"])) == (
        "f(x[N], w[M,N]) -> y, c[M]:\n    for n:     y    += x[n]\n    for m, n:  c[m] += w[m,n]"
    )


def test_a_block_with_a_bound_from_the_batch_runs_inside_a_loop_over_it():
    text, _ = PROGRAMS["bound from data"]
    assert "for b, t < n[b]:" in str(read(text).batched("B"))


def test_an_index_that_is_taken():
    program = read("f(x[N]) -> y[N]:\n    for b < N:  y[b] = 2 * x[b]")
    assert "for b', b" in str(program.batched("B"))


@pytest.mark.parametrize(
    ("extent", "inputs", "message"),
    [
        ("N", None, "already uses the name `N`"),
        ("B", ["w"], "no input `w`"),
        ("B", [], "no input to add"),
        ("2B", None, "needs a name"),
    ],
)
def test_wrong_arguments(extent, inputs, message):
    program = read("f(x[N]) -> y:\n    for n:  y += x[n]")
    with pytest.raises(ValueError, match=message):
        program.batched(extent, inputs)


def test_a_backward_for_many_runs():
    """It does not take the forward of one for its own."""
    backward = read("f(x[N]) -> y[N]:\n    for n:  y[n] = exp(x[n])").backward()
    assert backward.primal is not None
    batched = backward.batched("B")
    assert batched.primal is None
    x, seed = np.arange(6.0).reshape(2, 3), np.array([[1.0, 2, 3], [5, 7, 11]])
    given = {"x": x, "y": np.exp(x), "y.grad": seed}
    got = batched(**{i.name: given[i.name] for i in batched.inputs})
    np.testing.assert_allclose(got, seed * np.exp(x))
