"""Threads share blocks of rows within the values of one index, or pairs: few heads of an attention keep many
threads busy."""

from __future__ import annotations

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.fused import phase as fused
from loopgrad.cache import files
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.show import show

CAUSAL = """
causal(q[B,T,D], k[B,T,D], v[B,T,E]) -> y[B,T,E]:
    for b, t, u <= t, d:  s[b,t,u] += q[b,t,d] * k[b,u,d]
    for b, t, u <= t:     m[b,t] max= s[b,t,u]
    for b, t, u <= t:     Z[b,t]   += exp(s[b,t,u] - m[b,t])
    for b, t, u <= t, e:  y[b,t,e] += exp(s[b,t,u] - m[b,t]) / Z[b,t] * v[b,u,e]
"""
HEADS = CAUSAL.replace("[b,", "[b,h,").replace("b, t", "b, h, t").replace("[B,", "[B,H,")
WHOLE = CAUSAL.replace("u <= t", "u < T")


def lines(program: lg.Program) -> list[str]:
    return show(optimized(infer(program), validate(program))).splitlines()


@pytest.mark.parametrize(
    ("text", "shares"),
    [(CAUSAL, " by growing work"), (HEADS, " by growing work"), (WHOLE, "")],
    ids=["causal", "heads", "whole"],
)
def test_rows_of_a_head(text: str, shares: str) -> None:
    assert any(
        line.endswith(f"for t < T in blocks of 48 parallel{shares}:")
        for line in lines(lg.program(text))
    )


def test_not_of_what_rows_add_to() -> None:
    """The gradients of keys and values are sums over the rows."""
    backward = lg.program(CAUSAL).backward(batch=False)
    shown = [line.strip() for line in lines(backward) if "in blocks" in line]
    assert "for t < T in blocks of 48:" in shown


def softmax(s: np.ndarray) -> np.ndarray:
    e = np.exp(s - s.max(-1, keepdims=True, initial=-np.inf))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("text", [CAUSAL, HEADS, WHOLE])
def test_results(text: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fewer heads than threads and more, of no head, of no row, of an odd and an even number of blocks."""
    monkeypatch.setattr(files, "folder", lambda: None)
    monkeypatch.setattr(fused, "SMALL_WORK", 0)
    before = lg.get_num_threads()
    lg.set_num_threads(threads)
    rng = np.random.default_rng(0)
    try:
        kernel = lg.compile(lg.program(text))
        for heads in (
            ((1,), (2,), (7,), (0,)) if text is not HEADS else ((1, 2), (3, 1), (2, 5), (0, 3))
        ):
            for T in (0, 1, 47, 48, 49, 145, 193):
                q, k, v = (rng.standard_normal((*heads, T, n)) for n in (5, 5, 3))
                s = np.einsum("...td,...ud->...tu", q, k)
                if text is not WHOLE:
                    s = np.where(np.tri(T, dtype=bool), s, -np.inf)
                wanted = softmax(s) @ v if T else v
                np.testing.assert_allclose(kernel(q, k, v), wanted, rtol=0, atol=1e-13)
    finally:
        lg.set_num_threads(before)
