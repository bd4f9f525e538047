"""Where the results of two runs differ: on the reals, or as integers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.simplify.numbers.decimals import CONTEXT, ONE, ZERO, elementwise
from loopgrad.simplify.numbers.evaluate import Tensor
from loopgrad.simplify.numbers.lines import Lines, Numbers

# Reals agree when they differ by less: relative to the larger; near 0, to the tensor's largest. Where
# the residues differ, a smaller difference counts, if it is no rounding.
RELATIVE, ABSOLUTE = 1e-20, 1e-30
STRICT = 1e-12  # times these

_FINITE = elementwise(Decimal.is_finite)
_INFINITE = elementwise(Decimal.is_infinite)
_NAN = elementwise(Decimal.is_nan)


def difference(
    before: Tensor,
    after: Tensor,
    symmetric: bool,
    tolerance: float,
    infinities: bool = True,
    rounding: float = 0.0,
) -> tuple[int, ...] | None:
    """The first element at which the reals, or the integers, differ; its world first.

    Where `before` is no number `after` may be any, unless `symmetric`; without `infinities` also
    where it is infinite. rounding: the share of the tensor's largest number that is no difference.
    """
    if not isinstance(before, Numbers) or not isinstance(after, Numbers):
        assert not isinstance(before, Numbers) and not isinstance(after, Numbers)
        if before.shape != after.shape:
            return ()
        return _first(before != after)
    if before.shape != after.shape:
        return ()
    if not before.size or before.reals is None or after.reals is None:
        return None
    old, new = before.reals, after.reals
    finite_old, finite_new = finite(before), finite(after)
    both = finite_old & finite_new
    wrong = finite_old & ~finite_new
    if not both.all():
        licensed = np.asarray(_NAN(old)).astype(np.bool_) & (not symmetric)
        if not infinities:
            licensed |= infinite(before)
        wrong |= ~finite_old & finite_new & ~licensed
        old, new = np.array(old), np.array(new)
        old[~both] = new[~both] = ZERO
    largest = np.maximum(abs(old), abs(new))
    of_worlds = np.maximum.reduce(largest.reshape(len(largest), -1), axis=1)
    scale = of_worlds.reshape(-1, *[1] * (largest.ndim - 1)) + ONE
    relative, absolute = _decimal(RELATIVE * tolerance), _decimal(ABSOLUTE * tolerance)
    far = abs(old - new) > relative * largest + absolute * scale + _decimal(rounding) * (
        scale - ONE
    )
    return _first(wrong | far.astype(np.bool_))


def _first(wrong: NDArray[np.bool_]) -> tuple[int, ...] | None:
    places = np.argwhere(wrong)
    return tuple(map(int, places[0])) if len(places) else None


def _decimal(value: float) -> Any:
    return CONTEXT.create_decimal_from_float(value)


def finite(tensor: Numbers) -> NDArray[np.bool_]:
    """Where the reals are; everywhere, without reals."""
    if tensor.reals is None:
        return np.ones(tensor.shape, np.bool_)
    return np.asarray(_FINITE(tensor.reals)).astype(np.bool_)


def infinite(tensor: Numbers) -> NDArray[np.bool_]:
    """Where the reals are; nowhere, without reals."""
    if tensor.reals is None:
        return np.zeros(tensor.shape, np.bool_)
    return np.asarray(_INFINITE(tensor.reals)).astype(np.bool_)


def real(tensor: Tensor, lines: Lines) -> Numbers:
    """Integers as numbers, where the other program's are."""
    if isinstance(tensor, Numbers):
        return tensor
    return lines.of_integers(tensor)


def elements_at(
    before: Tensor, after: Tensor, at: tuple[int, ...]
) -> tuple[float | int | str, float | int | str]:
    """Both values; in words where floats do not tell them apart, or the shapes differ."""
    old, new = (t.reals if isinstance(t, Numbers) else t for t in (before, after))
    assert old is not None and new is not None
    if old.shape != new.shape:
        return f"of shape {old.shape[1:]}", f"of shape {new.shape[1:]}"
    if not isinstance(before, Numbers) or not isinstance(after, Numbers):
        return int(old[at]), int(new[at])
    if float(old[at]) == float(new[at]):
        return str(old[at]), str(new[at])
    return float(old[at]), float(new[at])
