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


def test_what_rows_add_to() -> None:
    """The gradients of keys and values are sums over the rows: copies of a head's."""
    shown = lines(lg.program(CAUSAL).backward(batch=False))
    assert "    for t < T in blocks of 48 parallel by growing work:" in shown
    copies = [line for line in shown if line.endswith("that goes on with a row")]
    assert copies == [
        "  # k.grad[T,D] a copy for each thread that goes on with a row",
        "  # v.grad[T,E] a copy for each thread that goes on with a row",
    ]


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


def gradients(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, causal: bool
) -> tuple[np.ndarray, ...]:
    """Of heads outside of times."""
    s = q @ k.swapaxes(-1, -2)
    p = softmax(np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf) if causal else s)
    of_p = g @ v.swapaxes(-1, -2)
    of_s = p * (of_p - (of_p * p).sum(-1, keepdims=True))
    return of_s @ k, of_s.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


BESIDE = HEADS.replace("[b,h,t,d]", "[b,t,h,d]").replace("[b,h,u,d]", "[b,u,h,d]").replace(
    "[b,h,u,e]", "[b,u,h,e]"
).replace("[b,h,t,e]", "[b,t,h,e]").replace("[B,H,T,D]", "[B,T,H,D]").replace(
    "[B,H,T,E]", "[B,T,H,E]"
)  # fmt: skip


@pytest.mark.parametrize("text", [CAUSAL, WHOLE, BESIDE], ids=["causal", "whole", "beside"])
def test_gradients(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads outside of times and inside; one of them that several threads share, and some; no row at all."""
    monkeypatch.setattr(files, "folder", lambda: None)
    monkeypatch.setattr(fused, "SMALL_WORK", 0)
    before = lg.get_num_threads()
    rng = np.random.default_rng(1)
    program = lg.program(text).simplify()
    kernel = lg.compile(program.backward(recompute=True))

    def turned(a: np.ndarray) -> np.ndarray:
        return a.swapaxes(1, 2) if text is BESIDE else a

    try:
        for heads in ((1,), (2,), (7,)) if "h" not in text else ((1, 2), (3, 1), (2, 5)):
            for T in (0, 1, 49, 145, 193):
                q, k, v, g = (rng.standard_normal((*heads, T, n)) for n in (5, 5, 3, 3))
                given = [np.ascontiguousarray(turned(a)) for a in (q, k, v, g)]
                wanted = gradients(q, k, v, g, text is not WHOLE) if T else (q, k, v)
                for threads in (1, 2, 3, 5, 16):
                    lg.set_num_threads(threads)
                    found, again = kernel(*given), kernel(*given)
                    for one, two, other in zip(found, again, wanted, strict=True):
                        np.testing.assert_array_equal(one, two)
                        np.testing.assert_allclose(turned(one), other, rtol=0, atol=1e-12)
    finally:
        lg.set_num_threads(before)
