"""Values against independent NumPy and SciPy references, derivatives against differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import scipy.special
import scipy.stats
from scipy.spatial.transform import Rotation

import loopgrad as lg
from tests.derivatives import as_tuple, check_backward, check_recompute, differentiable_inputs
from tests.effort import by_name

PROGRAMS = lg.load(Path(__file__).parent / "references.loops")

# Its name -> inputs, by name and in order; constants and sizes; what NumPy computes of both.
Case = tuple[dict[str, Any], dict[str, Any], Callable[..., Any]]


def sigmoid(x: Any) -> Any:
    return scipy.special.expit(x)


def spaced(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers of either sign, none near another: differences across a tie are no derivative."""
    size = int(np.prod(shape))
    return (rng.permutation(size).reshape(shape) - size / 2 + 0.25) / 4


def grouped_conv(x: Any, w: Any, bias: Any, stride: int, pad: int, dil: int) -> Any:
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), (pad, pad)))
    spread = np.zeros((*w.shape[:3], dil * (w.shape[3] - 1) + 1))
    spread[..., ::dil] = w
    y = np.zeros((*x.shape[:2], w.shape[1], x.shape[3] - spread.shape[3] + 1))
    for b, g, o, c in np.ndindex(*x.shape[:2], w.shape[1], w.shape[2]):
        y[b, g, o] += scipy.signal.correlate(x[b, g, c], spread[g, o, c], "valid")
    return y[..., ::stride] + bias[..., None]


def transposed_conv(x: Any, w: Any, stride: int) -> Any:
    spread = np.zeros((*x.shape[:2], (x.shape[2] - 1) * stride + 1))
    spread[..., ::stride] = x
    y = np.zeros((x.shape[0], w.shape[1], spread.shape[2] + w.shape[2] - 1))
    for b, c, o in np.ndindex(*x.shape[:2], w.shape[1]):
        y[b, o] += np.convolve(spread[b, c], w[c, o])
    return y


def pixel_shuffle(x: Any, r: int) -> Any:
    b, c, h, w = x.shape
    y = x.reshape(b, c // r**2, r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(b, c // r**2, h * r, w * r)


def unpool(x: Any, v: Any, K: int) -> Any:
    windows = x.reshape(*v.shape, K)
    winner = windows == windows.max(2, keepdims=True)
    return np.where(winner, windows * v[..., None], 0).reshape(x.shape)


def self_attention(x: Any, Wq: Any, Wk: Any, Wv: Any, Wo: Any, mask: Any) -> Any:
    q, k, v = (np.einsum("hed,btd->bhte", W, x) for W in (Wq, Wk, Wv))
    seen = np.tril(np.ones((x.shape[1],) * 2, bool)) & mask[:, None, None, :]
    s = np.where(seen, q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3]), -np.inf)
    return np.einsum("dhe,bhte->btd", Wo, scipy.special.softmax(s, 3) @ v)


def alibi(q: Any, k: Any, v: Any) -> Any:
    H, T, D = q.shape
    far = np.arange(T)[:, None] - np.arange(T)
    slope = 2.0 ** (-8 * np.arange(1, H + 1) / H)
    s = q @ k.swapaxes(1, 2) / np.sqrt(D) - slope[:, None, None] * far
    return scipy.special.softmax(np.where(far >= 0, s, -np.inf), 2) @ v


def top_expert(x: Any, G: Any, W: Any) -> Any:
    p = scipy.special.softmax(x @ G.T, 1)
    e = p.argmax(1)
    return p.max(1)[:, None] * np.einsum("bfd,bd->bf", W[e], x), e


def paths(e: Any, A: Any) -> dict[tuple[int, ...], float]:
    T, K = e.shape
    return {
        p: sum(e[range(T), p]) + sum(A[p[:-1], p[1:]])
        for p in itertools.product(range(K), repeat=T)
    }


def crf_partition(e: Any, A: Any) -> Any:
    return scipy.special.logsumexp(list(paths(e, A).values()))


def viterbi(e: Any, A: Any) -> Any:
    scores = paths(e, A)
    best = max(scores, key=lambda p: scores[p])
    return scores[best], best


def ctc(lp: Any, z: Any) -> Any:
    """The alignments one by one: runs become one label, and label 0 is nothing."""
    T, C = lp.shape
    fitting = [
        sum(lp[range(T), p])
        for p in itertools.product(range(C), repeat=T)
        if [k for k, _ in itertools.groupby(p) if k] == list(z)
    ]
    return -scipy.special.logsumexp(fitting)


def edit_distance(a: Any, b: Any) -> int:
    if not len(a) or not len(b):
        return len(a) + len(b)
    changed = edit_distance(a[1:], b[1:]) + int(a[0] != b[0])
    return min(changed, edit_distance(a[1:], b) + 1, edit_distance(a, b[1:]) + 1)


def lu(A: Any) -> Any:
    """Without pivots, so by Schur complements."""
    L, U, rest = np.eye(len(A)), np.zeros_like(A), A.copy()
    for i in range(len(A)):
        U[i], L[i + 1 :, i] = rest[i], rest[i + 1 :, i] / rest[i, i]
        rest = rest - np.outer(rest[:, i] / rest[i, i], rest[i])
    return L, np.triu(U)


def gram_schmidt(A: Any) -> Any:
    Q, R = np.linalg.qr(A)
    sign = np.sign(np.diag(R))
    return Q * sign, R * sign[:, None]


def thomas(a: Any, b: Any, c: Any, d: Any) -> Any:
    return scipy.linalg.solve_banded((1, 1), [np.r_[0, c[:-1]], b, np.r_[a[1:], 0]], d)


def gru(x: Any, h0: Any, W: Any, U: Any, c: Any) -> Any:
    hs = [h0]
    for step in x:
        (wr, wz, wn), (ur, uz, un) = np.split(step @ W.T + c, 3, 1), np.split(hs[-1] @ U.T, 3, 1)
        z = sigmoid(wz + uz)
        hs.append((1 - z) * np.tanh(wn + sigmoid(wr + ur) * un) + z * hs[-1])
    return np.array(hs[1:])


def rnn(x: Any, W: Any, U: Any) -> Any:
    hs = [np.zeros(len(U))]
    for step in x:
        hs.append(np.tanh(W @ step + U @ hs[-1]))
    return np.array(hs[1:])


def stacked(x: Any, W: Any, U: Any) -> Any:
    for one, other in zip(W, U, strict=True):
        x = rnn(x, one, other)
    return x


def bidirectional(x: Any, W: Any, U: Any, V: Any) -> Any:
    return np.concatenate([rnn(x, W, U), rnn(x[::-1], W, V)[::-1]], 1)


def midpoint(y0: Any, A: Any, N: int, h: float) -> Any:
    ys = [y0]
    for _ in range(N):
        ys.append(ys[-1] + h * np.tanh(A @ (ys[-1] + h / 2 * np.tanh(A @ ys[-1]))))
    return np.array(ys)


def roi_pool(x: Any, box: Any, P: int) -> Any:
    def mean(r: int, p: int, q: int) -> Any:
        top, left, bottom, right = box[r]
        h, w = bottom - top, right - left
        rows = slice(top + h * p // P, top + int(np.ceil(h * (p + 1) / P)))
        columns = slice(left + w * q // P, left + int(np.ceil(w * (q + 1) / P)))
        return x[:, rows, columns].mean((1, 2))

    found = [[[mean(r, p, q) for q in range(P)] for p in range(P)] for r in range(len(box))]
    return np.array(found).transpose(0, 3, 1, 2)


def rotate(q: Any, v: Any) -> Any:
    return Rotation.from_quat(np.roll(q, -1, 1)).apply(v)


def march(σ: Any, c: Any, δ: Any) -> Any:
    depth = np.cumsum(np.maximum(σ, 0) * δ, 1)
    before = np.exp(-np.c_[np.zeros(len(σ)), depth])
    w = before[:, :-1] - before[:, 1:]
    return np.einsum("rs,rsk->rk", w, c), w @ np.arange(σ.shape[1])


def cumulative(x: Any) -> Any:
    return np.cumsum(x, 1), np.cumprod(x, 1), np.maximum.accumulate(x, 1)


def segment_softmax(x: Any, seg: Any, G: int) -> Any:
    sums = np.zeros(G)
    products = np.ones(G)
    np.add.at(sums, seg, np.exp(x))
    np.multiply.at(products, seg, x)
    return np.exp(x) / sums[seg], products


def masked_entropy(s: Any, m: Any) -> Any:
    p = scipy.special.softmax(np.where(m, s, -np.inf), 1)
    return p, scipy.special.entr(p).sum(1)


def nested(x: Any) -> Any:
    inner = (x**2).mean(2) * x.prod(2)
    sums = x.sum(2)
    z = np.ptp(sums, axis=1) + 3 * scipy.special.softmax(x[:, 0, 0])
    return scipy.special.logsumexp(inner, 1).mean(), z


def cases() -> dict[str, Case]:
    rng = np.random.default_rng(5)
    n = lambda *shape: rng.normal(size=shape)
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 1]], bool)
    return {
        "grouped_conv": (
            {"x": n(2, 2, 3, 9), "w": n(2, 2, 3, 3), "bias": n(2, 2)},
            {"stride": 3, "pad": 2, "dil": 2},
            grouped_conv,
        ),
        "transposed_conv": ({"x": n(2, 3, 4), "w": n(3, 2, 5)}, {"stride": 3}, transposed_conv),
        "pixel_shuffle": ({"x": n(2, 8, 3, 2)}, {"r": 2}, pixel_shuffle),
        "unpool": ({"x": spaced(rng, 2, 9), "v": n(2, 3)}, {"K": 3}, unpool),
        "self_attention": (
            {"x": n(2, 4, 3), "Wq": n(2, 5, 3), "Wk": n(2, 5, 3), "Wv": n(2, 5, 3)}
            | {"Wo": n(3, 2, 5), "mask": mask},
            {},
            self_attention,
        ),
        "alibi": ({"q": n(2, 4, 3), "k": n(2, 4, 3), "v": n(2, 4, 3)}, {}, alibi),
        "top_expert": ({"x": n(4, 3), "G": n(3, 3), "W": n(3, 2, 3)}, {}, top_expert),
        "crf_partition": ({"e": n(4, 3), "A": n(3, 3)}, {}, crf_partition),
        "viterbi": ({"e": n(5, 3), "A": n(3, 3)}, {}, viterbi),
        "ctc": ({"lp": n(5, 3) - 1, "z": np.array([1, 1, 2])}, {}, ctc),
        "edit_distance": (
            {"a": np.array([0, 1, 2, 1, 1]), "b": np.array([1, 1, 0, 2])},
            {},
            edit_distance,
        ),
        "lu": ({"A": n(4, 4) + 4 * np.eye(4)}, {}, lu),
        "gram_schmidt": ({"A": n(5, 3)}, {}, gram_schmidt),
        "thomas": ({"a": n(5), "b": n(5) + 5, "c": n(5), "d": n(5)}, {}, thomas),
        "gru": ({"x": n(3, 2, 4), "h0": n(2, 2), "W": n(6, 4), "U": n(6, 2), "c": n(6)}, {}, gru),
        "stacked": ({"x": n(4, 2), "W": n(3, 2, 2), "U": n(3, 2, 2)}, {}, stacked),
        "bidirectional": (
            {"x": n(4, 3), "W": n(2, 3), "U": n(2, 2), "V": n(2, 2)},
            {},
            bidirectional,
        ),
        "midpoint": ({"y0": n(3), "A": n(3, 3)}, {"N": 4, "h": 0.2}, midpoint),
        "roi_pool": (
            {"x": n(2, 5, 6), "box": np.array([[0, 1, 5, 6], [1, 2, 4, 4], [2, 0, 3, 5]])},
            {"P": 2},
            roi_pool,
        ),
        "rotate": ({"q": n(3, 4), "v": n(3, 3)}, {}, rotate),
        "march": ({"σ": spaced(rng, 2, 4), "c": n(2, 4, 3), "δ": abs(n(2, 4))}, {}, march),
        "cumulative": ({"x": spaced(rng, 2, 5)}, {}, cumulative),
        "spearman": (
            {"x": spaced(rng, 7), "y": spaced(rng, 7)},
            {},
            lambda x, y: scipy.stats.spearmanr(x, y).statistic,
        ),
        "segment_softmax": (
            {"x": n(6), "seg": np.array([0, 2, 2, 0, 3, 2])},
            {"G": 5},
            segment_softmax,
        ),
        "horner": ({"c": n(4), "x": n(3)}, {}, lambda c, x: np.polyval(c[::-1], x)),
        "masked_entropy": ({"s": n(2, 4), "m": mask}, {}, masked_entropy),
        "nested": ({"x": n(2, 3, 4)}, {}, nested),
    }


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    inputs, constants, reference = CASES[name]
    program = PROGRAMS[name]
    wanted = as_tuple(reference(*inputs.values(), **constants))
    kernels = [
        lg.compile(program),
        lg.compile(program, optimize=False),
        lg.compile(program, backend="interpret"),
        lg.compile(lg.program(str(program.unfold()))),
    ]
    for kernel in kernels:
        got = as_tuple(kernel(**inputs, **constants))
        for w, g in zip(wanted, got, strict=True):
            assert np.shape(w) == g.shape
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-11)


DIFFERENTIABLE = [n for n in CASES if differentiable_inputs(PROGRAMS[n])]


@pytest.mark.parametrize("name", by_name(DIFFERENTIABLE, 2))
def test_derivatives(name: str) -> None:
    inputs, constants, _ = CASES[name]
    check_backward(PROGRAMS[name], inputs, constants, seed=3)


# To compile a second derivative takes seconds: with LOOPGRAD_EFFORT=2, all.
@pytest.mark.parametrize("name", by_name(DIFFERENTIABLE, 9))
def test_second_derivatives(name: str) -> None:
    inputs, constants, _ = CASES[name]
    check_recompute(PROGRAMS[name], inputs, constants, seed=4)


@pytest.mark.parametrize("name", CASES)
def test_batched(name: str) -> None:
    """A batch of two calls is the two calls."""
    inputs, constants, _ = CASES[name]
    program = PROGRAMS[name]
    shared = {i.name for i in program.inputs if i.kind == "param"}
    other = {
        k: v[..., ::-1].copy() if v.dtype.kind == "f" and k not in shared else v
        for k, v in inputs.items()
    }
    stacked = {k: v if k in shared else np.stack([v, other[k]]) for k, v in inputs.items()}
    one, two = (as_tuple(program(**given, **constants)) for given in (inputs, other))
    together = as_tuple(program.batched("Both")(**stacked, **constants))
    for a, b, both in zip(one, two, together, strict=True):
        np.testing.assert_allclose(both, np.stack([a, b]), rtol=1e-9, atol=1e-10)
