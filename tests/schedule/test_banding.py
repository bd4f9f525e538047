"""Guards on how two indices lie to each other are ranges where products gain by that."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show
from tests.literal import literally

ATTENTION = """
f(q[T,D], k[T,D], v[T,E], w = 9) -> y[T,E]:
    for t, {u}, d:  s[t,u] += q[t,d] * k[u,d] / sqrt(D)  {if}
    for t, {u}:     m[t]   max= s[t,u]  {if}
    for t, {u}:     Z[t]   += exp(s[t,u] - m[t])  {if}
    for t, {u}, e:  y[t,e] += exp(s[t,u] - m[t]) / Z[t] * v[u,e]  {if}
"""


def scheduled(program: lg.Program) -> str:
    return show(optimized(infer(program), validate(program)))


def loops(text: str) -> list[str]:
    """Without what is said of memory."""
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def attention(**words: str) -> lg.Program:
    text = (
        ATTENTION
        if any("w" in word for word in words.values())
        else ATTENTION.replace(", w = 9", "")
    )
    return lg.program(text.format(**words))


@pytest.mark.parametrize(
    ("condition", "band"),
    [
        ("u <= t", "u <= t"),
        ("t >= u", "u <= t"),
        ("u < t + 1", "u < t + 1"),
        ("0 <= t - u < w", "max(t - w + 1, 0) <= u <= t"),
        ("t - w < u and u <= t", "max(t - w + 1, 0) <= u <= t"),
        ("u >= t", "t <= u < T"),
        ("u - t <= w and t - u <= w", "max(t - w, 0) <= u < min(T, t + w + 1)"),
    ],
)
def test_a_mask_in_a_guard_runs_as_that_in_a_range(condition: str, band: str) -> None:
    guarded = attention(u="u < T", **{"if": f"if {condition}"})
    ranged = attention(u=band, **{"if": ""})
    assert loops(scheduled(guarded)) == loops(scheduled(ranged))
    assert "product" in scheduled(guarded)


PAIRS = {
    "another extent": (
        "f(q[T,D], k[U,D], v[U,E]) -> y[T,E]:\n"
        "    for t, u, d:  s[t,u] += q[t,d] * k[u,d]           if u <= t + 2\n"
        "    for t, u, e:  y[t,e] += tanh(s[t,u]) * v[u,e]     if u <= t + 2\n",
        {"q": "TD", "k": "UD", "v": "UE"},
    ),
    "whole rows are read, too": (
        "f(q[T,D], k[U,D], v[U,E]) -> y[T,E]:\n"
        "    for t, u, d:  s[t,u] += q[t,d] * k[u,d]           if u <= t\n"
        "    for t, u, e:  y[t,e] += cos(s[t,u]) * v[u,e]\n",
        {"q": "TD", "k": "UD", "v": "UE"},
    ),
    "another condition beside": (
        "f(q[T,D], k[U,D], v[U,E]) -> y[T,E]:\n"
        "    for t, u, d:  s[t,u] += q[t,d] * k[u,d]           if u <= t and v[u,0] > 0\n"
        "    for t, u, e:  y[t,e] += tanh(s[t,u]) * v[u,e]     if u <= t and v[u,0] > 0\n",
        {"q": "TD", "k": "UD", "v": "UE"},
    ),
    "three indices": (
        "f(q[T,D], k[U,D], v[U,E]) -> y[T,E]:\n"
        "    for t, u, d:  s[t,u] += q[t,d] * k[u,d]           if t <= u + d\n"
        "    for t, u, e:  y[t,e] += tanh(s[t,u]) * v[u,e]     if t <= u\n",
        {"q": "TD", "k": "UD", "v": "UE"},
    ),
    "a window": (
        "f(q[T,D], k[U,D,E]) -> y[T,E]:\n    for t, u, d, e:  y[t,e] += q[t-u,d] * k[u,d,e]   if u <= t\n",
        {"q": "TD", "k": "UDE"},
    ),
    "none but the row itself": (
        "f(q[T,D], k[U,D], v[U,E]) -> y[T,E]:\n"
        "    for t, u, d:  s[t,u] += q[t,d] * k[u,d]           if t <= u and u <= t\n"
        "    for t, u, e:  y[t,e] += tanh(s[t,u]) * v[u,e]     if t <= u and u <= t\n",
        {"q": "TD", "k": "UD", "v": "UE"},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_results_are_those_of_the_literal_loops(name: str) -> None:
    text, shapes = PAIRS[name]
    program, rng = lg.program(text), np.random.default_rng(3)
    kernel, literal = lg.compile(program), literally(program)
    for rows, columns in ((1, 1), (50, 99), (99, 50), (150, 150)):
        extents = {"T": rows, "U": columns, "D": 9, "E": 17}
        arrays = [rng.standard_normal([extents[a] for a in axes]) for axes in shapes.values()]
        found, wanted = kernel(*arrays), literal(*arrays)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


def test_a_map_keeps_its_guard() -> None:
    program = lg.program("f(x[T,T]) -> y[T,T]:\n    for t, u:  y[t,u] = x[t,u]   if u <= t\n")
    assert "if u <= t" in scheduled(program)


def test_a_band_without_any_place_is_no_product() -> None:
    program = lg.program(
        "f(q[T,D], k[T,D], v[T,E]) -> y[T,E]:\n"
        "    for t, t + 5 <= u < t + 3, d:  s[t,u] += q[t,d] * k[u,d]\n"
        "    for t, t + 5 <= u < t + 3, e:  y[t,e] += tanh(s[t,u]) * v[u,e]\n"
    )
    assert "product" not in scheduled(program)
