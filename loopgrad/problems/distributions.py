"""Random and extreme pairs of discrete distributions, many rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Program
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.evaluate import Setting, evaluate
from loopgrad.simplify.numbers.lines import Lines, Numbers

Rows = NDArray[np.float64]
LENGTHS = (1, 2, 3, 10, 100)
ROWS = 600  # of each kind and length
SPREADS = (
    0.02,
    0.2,
    1.0,
    20.0,
)  # of Dirichlet distributions: from nearly all in one to nearly even


def pairs(seed: int = 0) -> Iterator[tuple[str, Rows, Rows]]:
    """What the pairs are, P and Q: each row a distribution."""
    rng = np.random.default_rng(seed)
    for length in LENGTHS:
        P, Q = _random(rng, length), _random(rng, length)
        yield "Q = P", P, P
        if length == 1:
            continue  # there is one distribution
        yield "random", P, Q
        near = P * np.exp(1e-3 * rng.normal(size=P.shape))
        yield "Q near P", P, near / near.sum(axis=1, keepdims=True)
        yield "extreme", _extreme(rng, length), _powers(rng, length)
        yield "Q misses mass of P", *_missing(rng, length)


def _random(rng: np.random.Generator, length: int) -> Rows:
    parts = [rng.dirichlet([a] * length, ROWS // len(SPREADS)) for a in SPREADS]
    drawn = np.concatenate(parts)
    # Draws of a small parameter underflow to zeros: a thousandth of an even kind of draw is added.
    return np.asarray(0.999 * drawn + 0.001 * rng.dirichlet([1.0] * length, ROWS))


def _extreme(rng: np.random.Generator, length: int) -> Rows:
    """All mass in one place, even ones, and some with zeros."""
    rows = np.eye(length)[rng.integers(0, length, ROWS)]
    rows[: ROWS // 3] = 1 / length
    some = rng.integers(0, 2, (ROWS // 3, length)) + np.eye(length)[0]
    rows[-(ROWS // 3) :] = some / some.sum(axis=1, keepdims=True)
    return rows


def _powers(rng: np.random.Generator, length: int) -> Rows:
    """Probabilities from 1 down to 1e-300."""
    rows = 10.0 ** rng.uniform(-300, 0, (ROWS, length))
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def _missing(rng: np.random.Generator, length: int) -> tuple[Rows, Rows]:
    P, Q = _random(rng, length), _random(rng, length)
    Q[np.arange(ROWS), rng.integers(0, length, ROWS)] = 0
    return P, np.asarray(Q / Q.sum(axis=1, keepdims=True))


def to_digits(program: Program, P: Rows, Q: Rows) -> Decimal:
    """The program's one result for one pair, to about 50 digits, with masses of exactly 1."""
    with localcontext(CONTEXT):
        inputs = {"P": _digits(P), "Q": _digits(Q)}
        setting = Setting({"N": len(P)}, {}, inputs)
        found = evaluate(infer(program), setting, Lines(None))[program.results[0].name]
    assert isinstance(found, Numbers) and found.reals is not None
    value: Decimal = found.reals.reshape(-1)[0]
    return value


def _digits(row: Rows) -> Numbers:
    values = np.empty(len(row), object)
    exact = [Decimal(float(v)) for v in row]
    values[:] = [v / sum(exact) for v in exact]
    return Numbers(None, values)
