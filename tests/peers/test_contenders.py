"""Ourselves in every way, numba's loops, and what is said where a library is missing."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.peers import libraries
from loopgrad.peers.ours import WAYS, ours
from loopgrad.peers.problem import NoContender, Outcome, draw

LAYERS = {"softmax": {"B": 3, "J": 5}, "affine": {"B": 3, "I": 4, "J": 2}}
LAYERS |= {"embedding": {"B": 2, "T": 3, "V": 5, "K": 4}, "squared_error": {"B": 3, "J": 4}}


def alike(one: Outcome, other: Outcome) -> None:
    for first, second in ((one.results, other.results), (one.gradients, other.gradients)):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("reuse", [True, False])
def test_all_ways_agree(name: str, reuse: bool) -> None:
    problem = draw(lg.lib[name], LAYERS[name])
    right = ours(problem, "vjp", reuse=False).outcome()
    assert set(right.gradients) == set(problem.wrt)
    for way in WAYS:
        contender = ours(problem, way, reuse)
        for call in contender.calls.values():
            call()
        alike(contender.outcome(), right)
        assert contender.first > 0


def test_an_integer_program_has_a_forward_only() -> None:
    problem = draw(lg.program("f(int w[N]) -> c:\n    c += w[n]"), {"N": 4})
    contender = ours(problem)
    assert list(contender.calls) == ["forward"]
    assert contender.outcome().results["c"] == problem.inputs["w"].sum()


def test_in_float64() -> None:
    problem = draw(lg.lib.softmax, LAYERS["softmax"]).widened()
    assert ours(problem).outcome().results["p"].dtype == np.float64


@pytest.mark.parametrize("library", ["torch", "jax", "numba"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(NoContender, match=f"pip install {library}"):
        libraries.need(library)


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="compares with numba")
def test_numba() -> None:
    problem = draw(lg.lib.softmax, LAYERS["softmax"])
    alike(libraries.numba(problem).outcome(), ours(problem).outcome())


def test_what_is_drawn() -> None:
    problem = draw(lg.lib.rnn_cell, {"B": 2, "J": 3, "K": 4})
    assert {n: a.shape for n, a in problem.inputs.items()} == {
        "h": (2, 3), "x": (2, 4), "Wh": (3, 3), "Wx": (3, 4), "c": (3,)
    }  # fmt: skip
    assert problem.extents["J'"] == 3
    with pytest.raises(KeyError, match="K"):
        draw(lg.lib.rnn_cell, {"B": 2, "J": 3})
