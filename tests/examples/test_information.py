"""Loss = floor + gap, and the entropies of a text against counts made another way."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from loopgrad.examples import information
from loopgrad.examples.information import Contexts, judged, parts, smoothed, targets

RNG = np.random.default_rng(2)
EPS = np.finfo(np.float64).eps


def log_softmax(s: np.ndarray) -> np.ndarray:
    top = s.max(-1, keepdims=True)
    return s - top - np.log(np.exp(s - top).sum(-1, keepdims=True))


@pytest.mark.parametrize("size", [1.0, 50.0, 1e4])
def test_a_loss_is_its_floor_and_its_gap(size: float) -> None:
    P = RNG.dirichlet(np.full(7, 0.3), 40)
    P[RNG.random(P.shape) < 0.3] = 0
    P[:, 0] += 1e-3
    P /= P.sum(1, keepdims=True)
    s = RNG.normal(size=P.shape) * size
    found = parts(P, s)
    there = P > 0
    H = -np.sum(P[there] * np.log(P[there])) / len(P)
    L = -np.sum(P * log_softmax(s)) / len(P)
    # Each of the sums adds a handful of terms no larger than `size`.
    most = 32 * EPS * (1 + L)
    assert abs(found.loss - (found.floor + found.gap)) <= most
    assert abs(found.floor - H) <= most
    assert abs(found.loss - L) <= most
    assert found.gap >= -most


def test_the_gap_vanishes_where_the_model_is_right() -> None:
    P = RNG.dirichlet(np.ones(5), 9)
    found = parts(P, np.log(P) + RNG.normal(size=(9, 1)))
    assert abs(found.gap) <= 32 * EPS
    assert found.loss == pytest.approx(found.floor)


def test_what_is_certain_has_floor_zero() -> None:
    labels = np.array([0, 2, 2])
    s = RNG.normal(size=(3, 4)).astype(np.float32)
    found = parts(targets(labels, 4), s)
    assert found.floor == 0
    assert found.gap == pytest.approx(-log_softmax(s.astype(float))[range(3), labels].mean())


def by_hand(codes: list[int], begin: int, k: int) -> float:
    """The entropy of the next character given the last k, in the part from `begin`."""
    after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for i in range(begin, len(codes)):
        after[tuple(codes[i - k : i])][codes[i]] += 1
    total = sum(c.total() for c in after.values())
    return -sum(n / total * np.log(n / c.total()) for c in after.values() for n in c.values())


def witten_bell(codes: list[int], V: int, context: tuple[int, ...]) -> np.ndarray:
    """Method C, by its definition."""
    k = len(context)
    lower = witten_bell(codes, V, context[1:]) if k else np.full(V, 1 / V)
    n = np.zeros(V)
    for i in range(k, len(codes)):
        if tuple(codes[i - k : i]) == context:
            n[codes[i]] += 1
    kinds = np.count_nonzero(n)
    return (n + kinds * lower) / (n.sum() + kinds) if kinds else lower


def text(length: int, V: int) -> np.ndarray:
    """A text in which a character hangs on the one before."""
    step = RNG.choice([1, 1, 1, 2, 0], length)
    return np.cumsum(step) % V


def test_floors_gaps_and_counts_of_a_text() -> None:
    V, begin = 4, 150
    codes = text(220, V)
    scores = RNG.normal(size=(len(codes), V))
    places = np.arange(begin + 1, len(codes))
    pieces = [(places[:30], scores[places[:30]]), (places[30:], scores[places[30:]])]
    found = judged(codes, begin, V, pieces)
    assert found.characters == len(places)
    logs = log_softmax(scores)
    assert found.loss.loss == pytest.approx(-logs[places, codes[places]].mean())
    assert [order.context for order in found.orders] == [0, 1, 2, 3]
    listed = codes.tolist()
    for order in found.orders:
        k = order.context
        assert order.parts.floor == pytest.approx(by_hand(listed, begin + 1, k))
        assert order.parts.loss == pytest.approx(order.parts.floor + order.parts.gap, rel=1e-14)
        assert order.parts.gap > 0
        predicted = defaultdict(list)
        for i in places:
            predicted[tuple(listed[i - k : i])].append(np.exp(logs[i]))
        mean = {c: np.mean(q, 0) for c, q in predicted.items()}
        expected = np.mean([-np.log(mean[tuple(listed[i - k : i])][codes[i]]) for i in places])
        assert order.parts.loss == pytest.approx(expected)
        counted = [
            -np.log(witten_bell(listed[:begin], V, tuple(listed[i - k : i]))[codes[i]])
            for i in places
        ]
        assert order.counted == pytest.approx(np.mean(counted))


def test_a_model_of_the_last_character_reaches_the_floor() -> None:
    """One that knows the held-out part's own counts has no gap, and no model of k can do better."""
    V, begin = 3, 40
    codes = text(300, V)
    places = np.arange(begin + 1, len(codes))
    n = np.zeros((V, V))
    np.add.at(n, (codes[places - 1], codes[places]), 1)
    with np.errstate(divide="ignore"):
        s = np.log(n / n.sum(1, keepdims=True))[codes[places - 1]]
    s = np.maximum(s, -700.0)
    found = judged(codes, begin, V, [(places, s)])
    order = found.orders[1]
    assert order.parts.gap == pytest.approx(0, abs=1e-14)
    assert found.loss.loss == pytest.approx(order.parts.floor)


def test_smoothed_counts_are_distributions() -> None:
    codes = text(100, 5)
    contexts = [Contexts(codes, k, 5) for k in range(4)]
    for context, q in zip(contexts, smoothed(codes[:60], contexts, 5), strict=True):
        assert q.shape == (context.count, 5)
        assert np.allclose(q.sum(1), 1)
        assert np.all(q > 0)


def test_tables_that_are_too_large_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = text(400, 5)
    monkeypatch.setattr(information, "MOST", 60)
    places = np.arange(200, 400)
    found = judged(codes, 199, 5, [(places, np.zeros((200, 5)))])
    assert [order.context for order in found.orders] == [0, 1]
