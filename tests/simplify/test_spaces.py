"""Iterations where a mask holds: the same as those of the flattened space, in as few arrays as it allows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from loopgrad.simplify.numbers.spaces import WORLD, Space, spread, worlds

LOOPS = [("i", 0, 4), ("j", 1, 4), ("k", 0, 1)]
AXES = {"world": (2, 1, 1, 1), "i": (1, 4, 1, 1), "i and j": (1, 4, 3, 1), "all": (2, 4, 3, 1)}


def iterations(space: Space) -> list[tuple[int, ...]]:
    """The world and the indices of each, sorted."""
    values = [space.world, *(space.indices[name] for name in "ijk")]
    return sorted(zip(*(spread(v, space.shape).reshape(-1).tolist() for v in values), strict=True))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_where_has_the_iterations_in_which_the_mask_holds(axes: str, share: float) -> None:
    space = worlds(2).looped(LOOPS)
    mask = np.random.default_rng(7).random(AXES[axes]) < share
    chosen = space.where(mask)
    full = spread(mask, space.shape)
    every = product(range(2), range(4), range(1, 4), range(1))
    expected = [(w, i, j, k) for w, i, j, k in every if full[w, i, j - 1, k]]
    assert chosen.count == len(expected)
    assert iterations(chosen) == expected


@pytest.mark.parametrize("axes", AXES)
def test_put_is_the_way_back(axes: str) -> None:
    space = worlds(2).looped(LOOPS)
    mask = np.random.default_rng(11).random(AXES[axes]) < 0.5
    whole = np.zeros((3, *space.shape), np.int64)
    for where, sign in ((mask, 1), (~mask, -1)):
        found = space.where(where)
        number = 100 * found.world + 10 * found.indices["i"] + found.indices["j"] + 1
        space.put(whole, where, sign * np.stack([spread(number, found.shape)] * 3))
    number = 100 * space.world + 10 * space.indices["i"] + space.indices["j"] + 1
    assert np.array_equal(whole[2], np.where(mask, number, -number))


def test_axes_that_a_mask_does_not_hang_on_stay() -> None:
    """So what does not read an index is computed once for all of its values."""
    space = worlds(2).looped(LOOPS)
    chosen = space.where(np.array([True, False, True, True]).reshape(1, 4, 1, 1))
    assert chosen.shape == (2, 3, 1, 3)
    assert chosen.world.shape == (2, 1, 1, 1) and chosen.indices["i"].shape == (1, 1, 1, 3)
    assert chosen.ranges == {WORLD, "j", "k"}


@pytest.mark.parametrize(
    "shape", [(2, 4, 0, 1), (1, 4, 0, 1), (1, 1, 0, 1), (1, 4, 1, 1), (1, 1, 1, 1)]
)
def test_a_loop_over_nothing_leaves_nothing(shape: tuple[int, ...]) -> None:
    space = worlds(2).looped([("i", 0, 4), ("j", 3, 3), ("k", 0, 2)])
    mask = np.ones(shape, bool)
    chosen = space.where(mask)
    assert chosen.count == 0
    assert iterations(chosen) == []
    space.put(np.zeros(space.shape, np.int64), mask, spread(chosen.world, chosen.shape))
