"""Floating operations give the same bits at every width, on both kinds of floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.text import Body, Module
from loopgrad.ir.operations import OPERATIONS, Typing
from tests.backends.elementwise import apply

FLOATING = [
    row.name
    for row in OPERATIONS.values()
    if row.arity and row.typing not in (Typing.BOOL, Typing.INTEGERS)
]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 1e38, -1e38, 0.5, 89.0]


def operands(dtype: Any, arity: int) -> list[Any]:
    rng = np.random.default_rng(0)
    x = np.concatenate([SPECIAL, rng.normal(size=90), 20 * rng.normal(size=100)]).astype(dtype)
    return [x, rng.permutation(x)][:arity]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", FLOATING)
def test_every_width_gives_the_same_bits(operation: str, dtype: Any) -> None:
    """Else a maximum found by one loop would not be found again by `==` in another.

    Of NaN the sign may differ: it is that of the operand which an instruction happens to take first.
    """
    given = operands(dtype, OPERATIONS[operation].arity)
    single = apply(operation, *given)
    wide = apply(operation, *given, lanes=512 // (8 * np.dtype(dtype).itemsize))
    for found in (single, wide):
        found[found != found] = np.nan
    assert np.array_equal(single.view(np.uint8), wide.view(np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", ["exp", "sigmoid", "softplus", "tanh", "expm1"])
@pytest.mark.parametrize("sort", [True, False])
def test_lanes_of_all_kinds_beside_each_other(operation: str, dtype: Any, sort: bool) -> None:
    """Results that are normal, denormal, 0 and infinite: in a vector all of one kind, or of several."""
    limits = np.finfo(dtype)
    least, most = np.log(float(limits.smallest_subnormal)), np.log(float(limits.max))
    rng = np.random.default_rng(1)
    inside = rng.uniform(least - 2, most + 2, 3000)
    edges = [
        e + d
        for e in (least, np.log(float(limits.tiny)), most)
        for d in (-0.5, -1e-3, 0, 1e-3, 0.5)
    ]
    masks = [-1e9, -np.inf, np.inf, np.nan, -limits.max] * 40
    x = np.concatenate([inside, edges, masks]).astype(dtype)
    x = np.sort(x) if sort else rng.permutation(x)
    single = apply(operation, x)
    single[single != single] = np.nan
    for size in (16, 32, 64):
        wide = apply(operation, x, lanes=size // np.dtype(dtype).itemsize)
        wide[wide != wide] = np.nan
        assert np.array_equal(single.view(np.uint8), wide.view(np.uint8))


@pytest.mark.parametrize(
    ("version", "literal"),
    [(14, "<float 0x4000000000000000, float 0x4000000000000000>"), (20, "splat")],
)
def test_a_literal_of_all_lanes_suits_every_llvm(version: int, literal: str) -> None:
    body = Body(Module("float", version, opaque_pointers=True, has_fma=True), "f")
    assert literal in Lanes(body, 2).number(2.0)
    assert Lanes(body).number(2.0) == "0x4000000000000000"
