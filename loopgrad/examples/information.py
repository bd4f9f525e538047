"""A loss as its floor H(P) plus the gap KL(P,Q), and what the counts of a text say beside it.

All numbers are in nats, computed in float64 by programs: `information.loops` and the library's.
docs/training.md defines what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.frontend.library import Module, lib, load

LONGEST = 3  # characters of a context
MOST = 2**23  # elements of a table of contexts by characters

Array = NDArray[Any]


@cache
def programs() -> Module:
    return load(Path(__file__).with_name("information.loops"))


@dataclass(frozen=True)
class Parts:
    """Averages: the cross entropy H(P,Q), its floor H(P), the gap KL(P,Q). Each is computed on its own."""

    loss: float
    floor: float
    gap: float


@dataclass(frozen=True)
class Order:
    """What the last `context` characters say of the one that comes.

    parts: P is the held-out part's own distribution after each context, Q the model's predictions,
    averaged over the places of that context. counted: the loss of counts in the training part.
    """

    context: int
    parts: Parts
    counted: float


@dataclass(frozen=True)
class Judgement:
    """loss: of the model on each character of the held-out part, given all before it."""

    characters: int
    loss: Parts
    orders: tuple[Order, ...]


def parts(P: Array, s: Array) -> Parts:
    """Averages over rows: of distributions P[B,N] and a model's softmax(s[B,N]).

    >>> found = parts(np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, 1.0, 0.0]]))
    >>> bool(np.isclose(found.loss, found.floor + found.gap)), round(found.floor, 4)
    (True, 0.6931)
    """
    return Parts(*(float(part.mean()) for part in _parts(P, s)))


def _parts(P: Array, s: Array) -> tuple[Array, Array, Array]:
    """Of each row, in float64."""
    P, s = P.astype(np.float64), s.astype(np.float64)
    return lib.cross_entropy_from_logits(P, s), lib.entropy(P), lib.kl_from_logits(P, s)


def targets(labels: Array, classes: int) -> Array:
    """The distributions of what is certain: P[B,N], all mass on the label."""
    return np.eye(classes)[labels]


# ------------------------------------------------------------------------------------- of a text


class Contexts:
    """The different contexts of `length` characters before the places from `length` on, numbered."""

    def __init__(self, codes: Array, length: int, characters: int):
        number = np.zeros(len(codes), np.int64)
        for back in range(1, length + 1):  # numbered anew each time: no overflow
            number[back:] = number[back:] * characters + codes[:-back]
            number = np.unique(number, return_inverse=True)[1].reshape(-1)
        self.length, self.of = length, number
        self.count = int(number.max(initial=-1)) + 1


def judged(
    codes: Array, begin: int, characters: int, scores: Iterable[tuple[Array, Array]]
) -> Judgement:
    """The model's loss on the held-out part, from `begin`, beside what contexts say.

    scores: places in the text and the model's scores s[N,V] there, in pieces.
    Contexts get as long as their tables fit into MOST elements, up to LONGEST.
    """
    contexts = _tables(codes, characters)
    predicted = [np.zeros((c.count, characters)) for c in contexts]
    places: list[Array] = []
    total = np.zeros(3)
    for here, s in scores:
        total += [part.sum() for part in _parts(targets(codes[here], characters), s)]
        p = lib.stable_softmax(s.astype(np.float64))
        for context, sums in zip(contexts, predicted, strict=True):
            sums += programs().gathered(context.of[here], p, C=context.count)
        places.append(here)
    where = np.concatenate(places)
    counted = smoothed(codes[:begin], contexts, characters)
    orders = []
    for context, sums, q in zip(contexts, predicted, counted, strict=True):
        n = programs().counts(context.of[where], codes[where], C=context.count, V=characters)
        P, weight = programs().shares(n), n.sum(1) / len(where)
        there = weight > 0
        P, Q, weight = P[there], programs().shares(sums)[there], weight[there]
        of_counts = float(weight @ lib.cross_entropy(P, q[there]))
        orders.append(Order(context.length, _weighted(P, Q, weight), of_counts))
    return Judgement(len(where), Parts(*(total / len(where))), tuple(orders))


def smoothed(codes: Array, contexts: Iterable[Contexts], characters: int) -> list[Array]:
    """For each length of contexts, q[C,V] from counts in the text `codes`: Witten and Bell's mixture.

    Its shortest is mixed with equal shares of all characters.
    """
    shorter, q = None, np.full((1, characters), 1 / characters)
    found = []
    for context in contexts:
        of = context.of[context.length : len(codes)]
        n = programs().counts(of, codes[context.length :], C=context.count, V=characters)
        parent = np.zeros(context.count, np.int64)
        if shorter is not None:
            parent[context.of[context.length :]] = shorter.of[context.length :]
        q = programs().witten_bell(n, parent, q)
        shorter = context
        found.append(q)
    return found


def _tables(codes: Array, characters: int) -> list[Contexts]:
    found: list[Contexts] = []
    for length in range(LONGEST + 1):
        contexts = Contexts(codes, length, characters)
        if found and contexts.count * characters > MOST:
            break
        found.append(contexts)
    return found


def _weighted(P: Array, Q: Array, weight: Array) -> Parts:
    each = lib.cross_entropy(P, Q), lib.entropy(P), lib.kl_divergence(P, Q)
    return Parts(*(float(weight @ part) for part in each))
