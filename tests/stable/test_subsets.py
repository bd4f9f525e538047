"""Sums of exponentials over some of the elements: each has a largest exponent of its own, or none is taken off.

The largest of all is no help to a sum of others that are far below it: their exponentials underflow, where as
written nothing does. A sum of nothing has no largest one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.stable import stabilize

SEGMENTS = """\
attention(s[E], int dst[E], size V) -> p[E]:
    local Z[V]
    for e:  Z[dst[e]] += exp(s[e])
    for e:  p[e] = exp(s[e]) / Z[dst[e]]
"""
HEAD = "f(x[N]) -> p[N]:\n"
BEFORE = HEAD + "    for i < N, j < i:  Z[i] += exp(x[j])\n"
SEGMENT = np.array([0, 0, 1, 1])
PROGRAMS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "segments": (SEGMENTS, (SEGMENT,), {"V": 2}),
    "a segment's log": (
        "f(x[N], int s[N], size G) -> p[G]:\n    local Z[G]\n"
        "    for n:  Z[s[n]] += exp(-x[n])\n    for g:  p[g] = log(Z[g])",
        (SEGMENT,),
        {"G": 2},
    ),
    "share of the newest": (
        BEFORE + "    for i:  p[i] = exp(x[i]) / (Z[i] + exp(x[i]))",
        (),
        {},
    ),
    "all so far": (BEFORE + "    for i:  p[i] = log(Z[i] + exp(x[i]))", (), {}),
    "share of all and itself": (
        HEAD + "    for i:  Z += exp(-x[i])\n    for i:  p[i] = exp(-x[i]) / (Z + exp(-x[i]))",
        (),
        {},
    ),
    "all but the last, and itself": (
        HEAD + "    for j < N-1:  Z += exp(x[j])\n    for i:  p[i] = exp(x[i]) / (Z + exp(x[i]))",
        (),
        {},
    ),
    "lengths": (
        "f(x[N], int s[N]) -> p[N]:\n"
        "    for i < N, j < s[i]:  Z[i] += exp(x[j])\n"
        "    for i:  p[i] = log(Z[i] + exp(x[i]))",
        (np.array([0, 0, 2, 1]),),
        {},
    ),
    "labels": (
        "f(x[N], int y[N]) -> p[N]:\n"
        "    for i < N, j:  Z[i] += exp(x[j])   if y[i] == y[j] and i != j\n"
        "    for i:  p[i] = exp(x[i]) / Z[i]",
        (SEGMENT,),
        {},
    ),
    "a mean so far": (
        "f(x[N], v[N]) -> p[N]:\n"
        "    for i < N, i < j < N:  Y[i] += v[j] * exp(-x[j])\n"
        "    for i < N, i < j < N:  Z[i] += exp(-x[j])\n"
        "    for i:  p[i] = (Y[i] + v[i] * exp(-x[i])) / (Z[i] + exp(-x[i]))",
        (np.array([1.0, 2, 3, 4]),),
        {},
    ),
}
FAR = [
    [-20, -19, 80, 81],
    [-30, -29, 84, 85],
    [50, -60, 3, 2],
    [30, -62, 31, -61],
    [-60, -61, 60, 61],
    [20, -25, 19, -24],
    [-50, -51, -52, 45],
]


def run(name: str, x: Any, dtype: type[np.floating[Any]]) -> list[Any]:
    """The results, and the gradients along a fixed seed."""
    text, others, named = PROGRAMS[name]
    given = [np.asarray(o, dtype) if o.dtype.kind == "f" else o for o in others]
    results, pull = lg.vjp(lg.program(text), np.asarray(x, dtype), *given, **named)
    seed = np.array([0.7, -1.3, 0.4, 1.1][: len(results)], dtype)
    return [results, *(g for g in pull(seed) if g is not None)]


@pytest.mark.parametrize("x", FAR, ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_floats_are_what_doubles_are(name: str, x: Any) -> None:
    for found, wanted in zip(run(name, x, np.float32), run(name, x, np.float64), strict=True):
        assert np.isfinite(wanted).all()
        within = np.abs(wanted) < 1e38
        np.testing.assert_allclose(
            found[within],
            wanted[within],
            rtol=2e-4,
            atol=1e-5 * np.abs(wanted[within]).max(initial=0),
        )


@pytest.mark.parametrize("x", [np.multiply(FAR[0], 5), np.multiply(FAR[2], 6)], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_doubles_that_are_as_far_apart(name: str, x: Any) -> None:
    text, others, named = PROGRAMS[name]
    literal = lg.compile(lg.program(text), optimize=False)(np.asarray(x, float), *others, **named)
    np.testing.assert_allclose(run(name, x, np.float64)[0], literal, rtol=1e-9)


def test_each_segment_has_its_largest() -> None:
    assert str(stabilize(lg.program(SEGMENTS))).splitlines()[2:] == [
        "    for e:      Z.max[dst[e]] max= s[e]",
        "    for v < V:  Z.shift[v]    = Z.max[v] if abs(Z.max[v]) < inf else 0.0",
        "    for e:      Z'[dst[e]]    += exp(s[e] - Z.shift[dst[e]])",
        "    for e:      p[e]          = exp(s[e] - Z.shift[dst[e]]) / Z'[dst[e]]",
    ]


def test_segments_with_large_logits() -> None:
    s = np.float32([1e4, 1e4 + 1, -1e4, -1e4 + 2])
    p = lg.program(SEGMENTS)(s, SEGMENT, V=2)
    np.testing.assert_allclose(p, [0.26894142, 0.73105858, 0.11920292, 0.88079708], rtol=1e-6)
