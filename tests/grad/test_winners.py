"""`max=` and `min=` among many ties: the first winner, found again by loops in Python."""

from __future__ import annotations

import numpy as np
import pytest

from tests.grad.checking import gradient, read, run

# Each program with its updates in the order in which they run: (element of m, input, its element).
PROGRAMS = {
    "one loop": (
        "f(x[T,K], y[T,K]) -> m[2]:\n    for t, k:  m[t%2] {op} x[t,k]",
        lambda t, k: [((i % 2,), "x", (i, j)) for i in range(t) for j in range(k)],
    ),
    "downwards": (
        "f(x[T,K], y[T,K]) -> m[K]:\n    for k, 0 <= t < T descending:  m[k] {op} x[t,k]",
        lambda t, k: [((j,), "x", (i, j)) for j in range(k) for i in reversed(range(t))],
    ),
    "two statements": (
        "f(x[T,K], y[T,K]) -> m[K]:\n"
        "    for t, k:  m[k] {op} y[t,k]\n"
        "    for t, k:  m[k] {op} x[t,k]   if t != k",
        lambda t, k: [
            *(((j,), "y", (i, j)) for i in range(t) for j in range(k)),
            *(((j,), "x", (i, j)) for i in range(t) for j in range(k) if i != j),
        ],
    ),
    "a start value": (
        "f(x[T,K], y[T,K]) -> m[K]:\n"
        "    for k:  m[k] = y[0,k]   if k > 0\n"
        "    for t, k:  m[k] {op} x[t,k]",
        lambda t, k: [
            *(((j,), "y", (0, j)) for j in range(1, k)),
            *(((j,), "x", (i, j)) for i in range(t) for j in range(k)),
        ],
    ),
    "a block": (
        "f(x[T,K], y[T,K]) -> m[2]:\n"
        "    for t descending:\n"
        "        for k:  m[k%2] {op} x[t,k]\n"
        "        for 0 <= k < K descending:  m[t%2] {op} y[t,k]",
        lambda t, k: [
            each
            for i in reversed(range(t))
            for each in [
                *(((j % 2,), "x", (i, j)) for j in range(k)),
                *(((i % 2,), "y", (i, j)) for j in reversed(range(k))),
            ]
        ],
    ),
    "blocks beside and inside each other": (
        "f(x[T,K], y[T,K]) -> m:\n"
        "    m {op} y[0,0]\n"
        "    for t:\n"
        "        for k < t + 1 descending:\n"
        "            m {op} x[t,k]   if k < K\n"
        "            m {op} y[t,0]\n"
        "    for t, k:  m {op} y[t,k]",
        lambda t, k: [
            ((), "y", (0, 0)),
            *(
                each
                for i in range(t)
                for j in reversed(range(i + 1))
                for each in [
                    *([((), "x", (i, j))] if j < k else []),
                    ((), "y", (i, 0)),
                ]
            ),
            *(((), "y", (i, j)) for i in range(t) for j in range(k)),
        ],
    ),
}


def first_winners(updates, values, op, seed):
    """The gradients by the rule, update after update."""
    better = np.greater if op == "max=" else np.less
    best, winner = {}, {}
    for element, name, place in updates:
        value = values[name][place]
        if element not in best or better(value, best[element]):
            best[element], winner[element] = value, (name, place)
    found = {name: np.zeros(np.shape(value)) for name, value in values.items()}
    for element, (name, place) in winner.items():
        found[name][place] += seed[element]
    return found


@pytest.mark.parametrize("op", ["max=", "min="])
@pytest.mark.parametrize("form", ["{}", "3 * {} + 2", "exp({})", "-abs({})"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_first_winner_takes_all(name, op, form):
    text, order = PROGRAMS[name]
    text = text.format(op=op)
    for each in ("x[t,k]", "y[t,k]", "y[0,k]", "y[0,0]", "y[t,0]"):
        text = text.replace(f"{op} {each}", f"{op} {form.format(each)}")
        text = text.replace(f" = {each}", f" = {form.format(each)}")
    program = read(text)
    rng = np.random.default_rng(len(text))
    signs = -1 if form.startswith("-") else 1
    derivative = {"{}": np.ones_like, "exp({})": np.exp}.get(form)
    for t, k in [(4, 3), (3, 3), (1, 2)]:
        values = {n: rng.integers(1, 3, (t, k)).astype(float) for n in "xy"}
        seed = {"m": np.asarray(rng.standard_normal(np.shape(run(program, values)["m"])))}
        reversed_op = {"max=": "min=", "min=": "max="}[op] if signs < 0 else op
        wanted = first_winners(order(t, k), values, reversed_op, seed["m"])
        slope = {
            n: derivative(v) if derivative else 3.0 if "3" in form else -1.0
            for n, v in values.items()
        }
        for recompute in (False, True):
            found = gradient(program, values, seed, recompute)
            for n in "xy":
                np.testing.assert_allclose(found[n], wanted[n] * slope[n], rtol=1e-14)
